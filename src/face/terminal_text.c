/* What the terminal face says about a request, and its help. */
#include "face/terminal_ui.h"

#include "base/clean.h"
#include "base/text.h"

#include <stdio.h>

const char *ui_kind_name(enum ask_kind k)
{
	switch (k) {
	case ASK_EGRESS:
		return "egress";
	case ASK_RELEASE:
		return "held";
	case ASK_PUSH:
		return "push";
	case ASK_CAPABILITY:
		return "words";
	}
	return "?";
}

void ui_span(char out[16], uint64_t seconds)
{
	static const struct {
		uint64_t seconds;
		char unit;
	} units[] = {{86400, 'd'}, {3600, 'h'}, {60, 'm'}, {1, 's'}};
	size_t i = 0;

	while (i + 1 < ARRAY_LEN(units) && seconds < units[i].seconds)
		i++;
	if (seconds / units[i].seconds > 9999)
		(void)snprintf(out, 16, "long");
	else
		(void)snprintf(out, 16, "%u%c", (unsigned)(seconds / units[i].seconds),
			       units[i].unit);
}

#define FIELD_INDENT 10
static void add_field(const struct face_field *f, void *ctx)
{
	doc_addf(ctx, f->is_warning ? GRID_WARN : GRID_PLAIN, FIELD_INDENT, "%-*s%s", FIELD_INDENT,
		 f->name, f->value);
}

static void add_words(struct doc *d, const char *words)
{
	doc_add(d, GRID_AGENT, 2, STR_LIT("The agent says:"));
	doc_add_quote(d, GRID_AGENT, words[0] ? str_of(words) : STR_LIT("(nothing)"));
	doc_add(d, GRID_AGENT, 2, STR_LIT("(end of what the agent says)"));
}

/* What the keys do, while they do anything. */
static void add_ways(struct doc *d, const struct request *r)
{
	static const struct {
		const char *name;
		enum ask_scope scope;
	} ways[] = {{"once", ASK_ONCE}, {"bottle", ASK_BOTTLE}, {"always", ASK_ALWAYS}};

	if (r->state != REQUEST_PENDING || danger_forbids(&r->danger))
		return;
	for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
		const char *means = face_scope_means(r->change.kind, ways[i].scope);

		if (means[0])
			doc_addf(d, GRID_DIM, FIELD_INDENT, "%-*s%s", FIELD_INDENT, ways[i].name,
				 means);
	}
}

static void add_findings(struct doc *d, const struct danger *danger)
{
	static const enum grid_style styles[] = {
		[DANGER_NOTE] = GRID_NOTE, [DANGER_WARN] = GRID_WARN, [DANGER_NEVER] = GRID_NEVER};
	static const char *const words[] = {
		[DANGER_NOTE] = "note", [DANGER_WARN] = "WARNING", [DANGER_NEVER] = "NEVER"};

	for (size_t i = 0; i < danger->n; i++) {
		const struct danger_finding *f = &danger->findings[i];

		doc_addf(d, styles[f->level], 2, "%s %s: %s", words[f->level],
			 danger_rule_name(f->rule), f->text);
	}
	if (danger_forbids(danger))
		doc_add(d, GRID_NEVER, 2,
			STR_LIT("It cannot be granted here; only the manifest, by hand, can."));
}

static void add_state(struct doc *d, const struct request *r, uint64_t now)
{
	char span[16];

	switch (r->state) {
	case REQUEST_PENDING:
		ui_span(span, r->expires > now ? r->expires - now : 0);
		doc_addf(d, GRID_BOLD, 0, "pending; a refusal in %s unless somebody decides", span);
		break;
	case REQUEST_GRANTED:
		doc_addf(d, GRID_GOOD, 0, "granted%s%s", r->who[0] ? " by " : "", r->who);
		break;
	case REQUEST_REFUSED:
		doc_addf(d, GRID_WARN, 0, "refused%s%s", r->who[0] ? " by " : "", r->who);
		break;
	case REQUEST_EXPIRED:
		doc_add(d, GRID_DIM, 0, STR_LIT("expired: nobody decided in time"));
		break;
	case REQUEST_NEVER:
		doc_add(d, GRID_NEVER, 0, STR_LIT("refused by a rule of danger"));
		break;
	}
	if (r->answer[0])
		doc_addf(d, GRID_PLAIN, 2, "the agent was told: %s", r->answer);
}

void ui_describe(struct doc *d, const char *slug, const struct request *r, uint64_t now)
{
	char hex[CHANGE_HASH_HEX], age[16];

	doc_addf(d, GRID_TITLE, 2, "Request %llu of %s: %s", (unsigned long long)r->id, slug,
		 ui_kind_name(r->change.kind));
	add_findings(d, &r->danger);
	/* A request that is nothing but words: they are the agent's. */
	if (r->change.kind == ASK_CAPABILITY)
		add_words(d, r->change.words);
	else
		face_each_field(&r->change, add_field, d);
	doc_must_see(d);
	doc_add(d, GRID_PLAIN, 0, STR_NULL);
	if (r->change.kind != ASK_CAPABILITY || strcmp(r->reason, r->change.words) != 0) {
		add_words(d, r->reason);
		doc_add(d, GRID_PLAIN, 0, STR_NULL);
	}
	add_ways(d, r);
	add_state(d, r, now);
	ui_span(age, now > r->created ? now - r->created : 0);
	doc_addf(d, GRID_PLAIN, 0, "asked %llu time%s, first %s ago", (unsigned long long)r->asked,
		 r->asked == 1 ? "" : "s", age);
	text_hex(hex, r->hash, sizeof(r->hash));
	hex[UI_HASH_SHOWN] = '\0';
	doc_addf(d, GRID_DIM, 0, "hash %s%s", hex, grid_cut_mark());
}

void ui_help_text(struct doc *d)
{
	static const char *const lines[] = {
		"Lists",
		"  arrows, j k      move; PgUp PgDn, Home End",
		"  Tab              bottles or requests",
		"  Enter            open the request",
		"  h                show decided requests too",
		"  v                grants of the bottle; x revokes one",
		"  P                pause the bottle's network, or give it back",
		"  K                stop the bottle now",
		"  q                leave",
		"",
		"A request, once it has been read",
		"  o                approve once",
		"  b                approve for this bottle",
		"  t                approve for some minutes",
		"  a                approve always: shows what changes in the manifest",
		"  r                refuse, with a reason",
		"  x                refuse",
		"  Esc, q           back",
		"",
		"A request that is held because of its content",
		"  p                let it pass",
		"  m                let it pass with the value masked",
		"  x                stop it",
		"",
		"A request can be approved when all of its change has been on the screen, half a",
		"second after it came there, and with a second key where a warning stands beside "
		"it.",
		"What is sent is the hash of what was shown: if it is anything else by now, "
		"nothing",
		"is decided.",
	};

	for (size_t i = 0; i < ARRAY_LEN(lines); i++)
		doc_add(d, lines[i][0] == ' ' || !lines[i][0] ? GRID_PLAIN : GRID_BOLD, 19,
			str_of(lines[i]));
}
