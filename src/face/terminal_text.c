/* What the terminal face says about a request, and its help. */
#include "face/terminal_ui.h"

#include "base/clean.h"
#include "base/text.h"

#include <idn2.h>
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
static void add_field(struct doc *d, const char *name, const char *value)
{
	if (value[0])
		doc_addf(d, GRID_PLAIN, FIELD_INDENT, "%-*s%s", FIELD_INDENT, name, value);
}

/* The canonical form is what counts; what a reader might take it for stands beneath. */
static void add_host(struct doc *d, const char *host)
{
	char *unicode = NULL;
	char shown[1024];

	add_field(d, "host", host);
	if (strstr(host, "xn--") && idn2_to_unicode_8z8z(host, &unicode, 0) == IDN2_OK) {
		text_visible_once_cstr(shown, sizeof(shown), str_of(unicode));
		doc_addf(d, GRID_WARN, FIELD_INDENT,
			 "%-*swritten \"%s\", with letters that are not ASCII", FIELD_INDENT, "",
			 shown);
	}
	if (unicode)
		idn2_free(unicode);
}

static void add_route(struct doc *d, const struct policy_route *r)
{
	char text[256];
	size_t used = 0;

	add_host(d, r->host ? r->host : "");
	for (size_t i = 0; i < r->n_ports && used < sizeof(text) - 8; i++)
		used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%u", i ? ", " : "",
					 r->ports[i]);
	add_field(d, "ports", used ? text : "none");
	used = 0;
	for (unsigned m = 0; m < POLICY_METHOD_COUNT; m++) {
		if (r->methods & 1u << m)
			used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%s",
						 used ? ", " : "",
						 policy_method_name((enum policy_method)m));
	}
	add_field(d, "methods", used ? text : "none");
	for (size_t i = 0; i < r->n_paths; i++)
		add_field(d, i ? "" : "paths", r->paths[i]);
	if (r->n_paths == 0)
		add_field(d, "paths", "every one");
	if (r->may_websocket)
		add_field(d, "upgrade", "websocket");
}

static void add_change(struct doc *d, const struct change *c)
{
	char hex[CHANGE_HASH_HEX];

	switch (c->kind) {
	case ASK_EGRESS:
		add_route(d, &c->route);
		break;
	case ASK_RELEASE:
		add_route(d, &c->route);
		add_field(d, "rule", c->rule);
		add_field(d, "where", c->where);
		add_field(d, "text", c->shown);
		text_hex(hex, c->record, sizeof(c->record));
		add_field(d, "record", hex);
		break;
	case ASK_PUSH:
		if (c->route.host)
			add_host(d, c->route.host);
		add_field(d, "remote", c->remote);
		add_field(d, "ref", c->ref);
		add_field(d, "from", c->old_oid);
		add_field(d, "to", c->new_oid);
		add_field(d, "paths", c->shown);
		break;
	case ASK_CAPABILITY:
		/* The request is nothing but words, so they are the agent's, and fenced below. */
		doc_add(d, GRID_AGENT, 2, STR_LIT("The agent says:"));
		doc_add_quote(d, GRID_AGENT, str_of(c->words));
		doc_add(d, GRID_AGENT, 2, STR_LIT("(end of what the agent says)"));
		doc_add(d, GRID_PLAIN, 0, STR_LIT("Granting it changes nothing by itself."));
		break;
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
	add_change(d, &r->change);
	doc_must_see(d);
	doc_add(d, GRID_PLAIN, 0, STR_NULL);
	if (r->change.kind != ASK_CAPABILITY || strcmp(r->reason, r->change.words) != 0) {
		doc_add(d, GRID_AGENT, 2, STR_LIT("The agent says:"));
		doc_add_quote(d, GRID_AGENT,
			      r->reason[0] ? str_of(r->reason) : STR_LIT("(nothing)"));
		doc_add(d, GRID_AGENT, 2, STR_LIT("(end of what the agent says)"));
		doc_add(d, GRID_PLAIN, 0, STR_NULL);
	}
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
