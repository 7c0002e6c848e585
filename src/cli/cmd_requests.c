/*
 * requests: the face for scripts, and for people without a screen. What is approved is named by the
 * hash of what `show` has shown: nothing is ever approved by its number alone.
 */
#include "cli/requests_show.h"
#include "cli/table.h"
#include "cli/verbs.h"

#include "base/text.h"

#include <errno.h>
#include <stdio.h>

#define LIST_MAX       1000 /* of the decided ones */
#define AUDIT_MAX      10000
#define TOLD_MAX       1000
#define OUT_MAX_BYTES  (64u << 20)
#define MINUTES_MAX    (366u * 24 * 60)
#define PENDING_STATES (1u << REQUEST_PENDING)
#define ALL_STATES     (~0u)

enum {
	OPT_ALL,
	OPT_HASH,
	OPT_ONCE,
	OPT_BOTTLE,
	OPT_ALWAYS,
	OPT_MANIFEST,
	OPT_MINUTES,
	OPT_REDACT,
	OPT_REASON,
	OPT_JSON
};
static const struct cli_option options[] = {
	[OPT_ALL] = {"all", 'a', NULL, "list: also what is decided; grants: also what was", 0},
	[OPT_HASH] = {"hash", 0, "HEX", "approve, refuse: of what show has shown", 0},
	[OPT_ONCE] = {"once", 0, NULL, "approve: one request (the default)", 0},
	[OPT_BOTTLE] = {"for-bottle", 0, NULL, "approve: as long as the bottle", 0},
	[OPT_ALWAYS] = {"always", 0, NULL, "approve: in the manifest too; show: its difference", 0},
	[OPT_MANIFEST] = {"manifest", 0, "HEX", "approve --always: of the shown difference", 0},
	[OPT_MINUTES] = {"minutes", 0, "N", "approve: for so long", 0},
	[OPT_REDACT] = {"redact", 0, NULL, "approve: a held request, without the value", 0},
	[OPT_REASON] = {"reason", 0, "TEXT", "approve, refuse: for the agent", 0},
	[OPT_JSON] = {"json", 0, NULL, "as JSON", 0},
};

struct requests {
	const struct cli_args *args;
	struct face *f;
	const char *slug; /* NULL: all bottles */
	uint64_t id;
	char found[PLACES_SLUG_MAX];
	bool is_supervised; /* slug's bottle */
	struct buf out;
	int bad;
	size_t n;
};

static void requests_free(struct requests *q)
{
	face_close(q->f);
	buf_free(&q->out);
}

/* Where there is nothing to show; of a bottle that cannot ask, why. */
static void say_nothing(const struct requests *q, const char *what)
{
	if (q->slug && !q->is_supervised)
		cli_note("%s is not supervised: its agent cannot ask (\"supervise: true\" in the "
			 "bottle's manifest)",
			 q->slug);
	else
		cli_note("%s", what);
}

/* --- list --- */

static bool list_json(const char *slug, const struct request *r, void *ctx)
{
	struct requests *q = ctx;

	q->bad |= buf_append_str(&q->out, q->n++ ? STR_LIT(",\n") : STR_LIT("\n"));
	q->bad |= face_request_json(&q->out, slug, r);
	return q->bad == 0;
}

struct listing {
	struct requests *q;
	struct table t;
};

static bool list_row(const char *slug, const struct request *r, void *ctx)
{
	struct listing *l = ctx;
	char id[24], summary[256];

	(void)snprintf(id, sizeof(id), "%llu", (unsigned long long)r->id);
	change_summary(&r->change, summary, sizeof(summary));
	table_add_visible(
		&l->t,
		r->danger.n > 0 && r->danger.findings[0].level >= DANGER_WARN ? TABLE_YELLOW
									      : TABLE_PLAIN,
		(const char *const[]){
			slug, id, face_state_name(r->state), face_kind_name(r->change.kind),
			r->danger.n > 0 ? danger_rule_name(r->danger.findings[0].rule) : "",
			summary});
	l->q->n++;
	return true;
}

static int requests_list(struct requests *q, struct err *e)
{
	static const char *const heads[] = {"SLUG", "ID", "STATE", "KIND", "DANGER", "CHANGE"};
	unsigned states = cli_has(q->args, OPT_ALL) ? ALL_STATES : PENDING_STATES;
	size_t limit = states == PENDING_STATES ? FACE_SHOWN_MAX : LIST_MAX;
	struct listing l = {.q = q};
	int r;

	if (cli_has(q->args, OPT_JSON)) {
		q->bad |= buf_append(&q->out, "[", 1);
		r = face_each(q->f, q->slug, states, limit, list_json, q, e);
		q->bad |= buf_append_str(&q->out, q->n ? STR_LIT("\n]\n") : STR_LIT("]\n"));
		return r;
	}
	table_init(&l.t, ARRAY_LEN(heads));
	table_add(&l.t, TABLE_BOLD, heads);
	r = face_each(q->f, q->slug, states, limit, list_row, &l, e);
	if (r == 0 && q->n > 0)
		q->bad |= table_print(&l.t, table_may_colour(STDOUT_FILENO), &q->out);
	else if (r == 0)
		say_nothing(q, states == PENDING_STATES ? "no request is pending"
							: "no request was made");
	table_free(&l.t);
	return r;
}

/* --- show --- */

static const struct face_bottle *find_bottle(const struct requests *q)
{
	size_t n;
	const struct face_bottle *b = face_bottles(q->f, &n);

	for (size_t i = 0; i < n; i++) {
		if (strcmp(b[i].entry.slug, q->slug) == 0)
			return &b[i];
	}
	return NULL;
}

static int requests_show(struct requests *q, struct err *e)
{
	const struct face_bottle *b = find_bottle(q);
	struct manifest_edit edit = {0};
	bool has_edit = false;
	struct request r;
	int ret = face_get(q->f, q->slug, q->id, &r, e);

	if (ret < 0)
		return ret;
	if (cli_has(q->args, OPT_ALWAYS)) {
		if (!b || !b->manifest[0] || r.change.kind != ASK_EGRESS)
			ret = err_set(e, -EINVAL,
				      "only a route of a bottle with a manifest can be "
				      "granted for always");
		else
			ret = manifest_edit_make(&edit, b->manifest, &r.change, e);
		has_edit = ret == 0;
	}
	if (ret == 0 && cli_has(q->args, OPT_JSON)) {
		q->bad |= requests_show_json(&q->out, q->slug, &r, has_edit ? &edit : NULL,
					     has_edit ? b->manifest : "");
		q->bad |= buf_append(&q->out, "\n", 1);
	} else if (ret == 0) {
		q->bad |= requests_show_text(&q->out, q->slug, &r, has_edit ? &edit : NULL,
					     has_edit ? b->manifest : "");
	}
	manifest_edit_free(&edit);
	request_free(&r);
	return ret;
}

/* --- decisions --- */

static int say(struct requests *q, const struct buf *said, bool is_done)
{
	if (!cli_has(q->args, OPT_JSON)) {
		cli_note(STR_FMT, STR_ARG(buf_str(said)));
		return is_done ? CLI_OK : CLI_FAILED;
	}
	q->bad |= buf_printf(&q->out, "{\"done\":%s,\"text\":", is_done ? "true" : "false");
	q->bad |= text_json(&q->out, buf_str(said));
	q->bad |= buf_append_str(&q->out, STR_LIT("}\n"));
	return q->bad || cli_print(&q->out) != CLI_OK || !is_done ? CLI_FAILED : CLI_OK;
}

static int missing_hash(const struct requests *q, const char *verb)
{
	return cli_misuse(q->args,
			  "name what you have seen: \"claude-bottle requests show %s %llu\" shows "
			  "it with its hash, and \"claude-bottle requests %s %s %llu --hash HEX\" "
			  "decides",
			  q->slug, (unsigned long long)q->id, verb, q->slug,
			  (unsigned long long)q->id);
}

static int take_hash(const struct requests *q, size_t option, uint8_t out[CHANGE_HASH_BYTES])
{
	return text_unhex(out, CHANGE_HASH_BYTES, str_of(q->args->values[option]))
		       ? CLI_OK
		       : cli_misuse(q->args, "--%s wants %d hex digits", options[option].name,
				    2 * CHANGE_HASH_BYTES);
}

static int take_scope(const struct requests *q, struct face_decision *d)
{
	const struct cli_args *a = q->args;
	uint64_t minutes = 0;

	if (cli_has(a, OPT_ONCE) + cli_has(a, OPT_BOTTLE) + cli_has(a, OPT_ALWAYS) > 1)
		return cli_misuse(a, "one of --once, --for-bottle and --always");
	d->scope = cli_has(a, OPT_ALWAYS)   ? ASK_ALWAYS
		   : cli_has(a, OPT_BOTTLE) ? ASK_BOTTLE
					    : ASK_ONCE;
	d->release = cli_has(a, OPT_REDACT) ? ASK_REDACT : ASK_PASS;
	if (cli_has(a, OPT_MINUTES) &&
	    (str_to_u64(str_of(a->values[OPT_MINUTES]), MINUTES_MAX, &minutes) < 0 || minutes == 0))
		return cli_misuse(a, "--minutes wants a number from 1 to %u", MINUTES_MAX);
	d->seconds = minutes * 60;
	if (d->scope == ASK_ALWAYS && !cli_has(a, OPT_MANIFEST))
		return cli_misuse(a,
				  "--always writes the manifest: \"claude-bottle requests show %s "
				  "%llu --always\" shows how, with the hash for --manifest",
				  q->slug, (unsigned long long)q->id);
	return d->scope == ASK_ALWAYS ? take_hash(q, OPT_MANIFEST, d->manifest) : CLI_OK;
}

static int requests_decide(struct requests *q, bool is_granted)
{
	struct face_decision d = {.slug = q->slug,
				  .id = q->id,
				  .is_granted = is_granted,
				  .scope = ASK_ONCE,
				  .release = ASK_PASS,
				  .answer = q->args->values[OPT_REASON],
				  .face = "command"};
	_cleanup_(buf_free) struct buf said = BUF_INIT(4096);
	enum store_verdict verdict;
	struct err e = ERR_INIT;
	int status;

	if (!cli_has(q->args, OPT_HASH))
		return missing_hash(q, is_granted ? "approve" : "refuse");
	status = take_hash(q, OPT_HASH, d.hash);
	if (status == CLI_OK && is_granted)
		status = take_scope(q, &d);
	if (status != CLI_OK)
		return status;
	if (face_decide(&d, &verdict, &said, &e) < 0)
		return cli_fail(&e);
	return say(q, &said, verdict == STORE_DECIDED);
}

static int requests_revoke(struct requests *q)
{
	_cleanup_(buf_free) struct buf said = BUF_INIT(4096);
	struct err e = ERR_INIT;

	if (face_revoke(q->slug, q->id, "command", &said, &e) < 0)
		return cli_fail(&e);
	return say(q, &said, true);
}

/* --- grants and the audit --- */

struct grants {
	struct requests *q;
	struct table t;
};

static bool grant_row(const char *slug, const struct grant *g, void *ctx)
{
	struct grants *gs = ctx;
	char id[24], summary[256];

	(void)slug;
	if (g->state != GRANT_ACTIVE && !cli_has(gs->q->args, OPT_ALL))
		return true;
	(void)snprintf(id, sizeof(id), "%llu", (unsigned long long)g->id);
	change_summary(&g->change, summary, sizeof(summary));
	table_add_visible(&gs->t, TABLE_PLAIN,
			  (const char *const[]){id, face_grant_state_name(g->state),
						face_scope_name(g->scope), summary});
	gs->q->n++;
	return true;
}

static bool grant_json(const char *slug, const struct grant *g, void *ctx)
{
	struct requests *q = ctx;

	if (g->state != GRANT_ACTIVE && !cli_has(q->args, OPT_ALL))
		return true;
	q->bad |= buf_append_str(&q->out, q->n++ ? STR_LIT(",\n") : STR_LIT("\n"));
	q->bad |= face_grant_json(&q->out, slug, g);
	return q->bad == 0;
}

static int requests_grants(struct requests *q, struct err *e)
{
	static const char *const heads[] = {"ID", "STATE", "SCOPE", "CHANGE"};
	struct grants gs = {.q = q};
	int r;

	if (cli_has(q->args, OPT_JSON)) {
		q->bad |= buf_append(&q->out, "[", 1);
		r = face_each_grant(q->f, q->slug, grant_json, q, e);
		q->bad |= buf_append_str(&q->out, q->n ? STR_LIT("\n]\n") : STR_LIT("]\n"));
		return r;
	}
	table_init(&gs.t, ARRAY_LEN(heads));
	table_add(&gs.t, TABLE_BOLD, heads);
	r = face_each_grant(q->f, q->slug, grant_row, &gs, e);
	if (r == 0 && q->n > 0)
		q->bad |= table_print(&gs.t, table_may_colour(STDOUT_FILENO), &q->out);
	else if (r == 0)
		say_nothing(q, "nothing is granted");
	table_free(&gs.t);
	return r;
}

static bool audit_text(const struct audit_line *l, void *ctx)
{
	struct requests *q = ctx;

	q->n++;
	q->bad |= requests_show_audit(&q->out, l);
	return q->bad == 0;
}

static bool audit_json(const struct audit_line *l, void *ctx)
{
	struct requests *q = ctx;

	q->bad |= buf_append_str(&q->out, q->n++ ? STR_LIT(",\n") : STR_LIT("\n"));
	q->bad |= face_audit_json(&q->out, l);
	return q->bad == 0;
}

static int list_audit(struct requests *q, struct err *e)
{
	int r;

	if (!cli_has(q->args, OPT_JSON)) {
		r = face_each_audit(q->f, q->slug, AUDIT_MAX, audit_text, q, e);
		if (r == 0 && q->n == 0)
			say_nothing(q, "nothing was decided");
		return r;
	}
	q->bad |= buf_append(&q->out, "[", 1);
	r = face_each_audit(q->f, q->slug, AUDIT_MAX, audit_json, q, e);
	q->bad |= buf_append_str(&q->out, q->n ? STR_LIT("\n]\n") : STR_LIT("]\n"));
	return r;
}

/* One that was changed is shown, and then said to be. */
static int requests_audit(struct requests *q, struct err *e)
{
	int r = list_audit(q, e);

	if (r < 0)
		return r;
	r = face_verify_audit(q->f, q->slug, e);
	if (r < 0)
		(void)cli_print(&q->out);
	return r;
}

/* --- what the agent has told --- */

static bool told_text(const char *line, void *ctx)
{
	struct requests *q = ctx;

	q->n++;
	q->bad |= requests_show_told(&q->out, line);
	return q->bad == 0;
}

static bool told_json(const char *line, void *ctx)
{
	struct requests *q = ctx;

	q->bad |= buf_append_str(&q->out, q->n++ ? STR_LIT(",\n") : STR_LIT("\n"));
	q->bad |= text_json(&q->out, str_of(line));
	return q->bad == 0;
}

static int requests_told(struct requests *q, struct err *e)
{
	int r;

	if (!cli_has(q->args, OPT_JSON)) {
		r = face_each_told(q->f, q->slug, TOLD_MAX, told_text, q, e);
		if (r == 0 && q->n == 0)
			say_nothing(q, "the agent has told nothing");
		return r;
	}
	q->bad |= buf_append(&q->out, "[", 1);
	r = face_each_told(q->f, q->slug, TOLD_MAX, told_json, q, e);
	q->bad |= buf_append_str(&q->out, q->n ? STR_LIT("\n]\n") : STR_LIT("]\n"));
	return r;
}

/* --- which --- */

enum {
	WORD_LIST,
	WORD_SHOW,
	WORD_APPROVE,
	WORD_REFUSE,
	WORD_REVOKE,
	WORD_GRANTS,
	WORD_TOLD,
	WORD_AUDIT
};
static const char *const words[] = {"list",   "show",	"approve", "refuse",
				    "revoke", "grants", "told",	   "audit"};

/* What follows the word. */
static int take_arguments(struct requests *q, int word)
{
	const struct cli_args *a = q->args;
	bool wants_id = word >= WORD_SHOW && word <= WORD_REVOKE;
	size_t n = a->n_positionals;
	struct bottles_entry b;
	struct err e = ERR_INIT;
	int dir = -1;

	if (wants_id ? n != 3 : word == WORD_LIST ? n > 2 : n != 2)
		return cli_misuse(a, "%s wants %s", words[word],
				  wants_id	      ? "a bottle and a number"
				  : word == WORD_LIST ? "one bottle, or none"
						      : "one bottle");
	if (wants_id &&
	    (str_to_u64(str_of(a->positionals[2]), INT64_MAX, &q->id) < 0 || q->id == 0))
		return cli_misuse(a, "not a request's number");
	if (n < 2)
		return CLI_OK;
	if (bottles_find(a->positionals[1], &b, &dir, &e) < 0)
		return cli_fail(&e);
	close_fd(&dir);
	memcpy(q->found, b.slug, sizeof(q->found));
	q->is_supervised = b.is_supervised;
	q->slug = q->found;
	return CLI_OK;
}

static int look(struct requests *q, int word)
{
	struct err e = ERR_INIT;
	int r = face_open(&q->f, &e);

	if (r == 0 && word == WORD_LIST)
		r = requests_list(q, &e);
	else if (r == 0 && word == WORD_SHOW)
		r = requests_show(q, &e);
	else if (r == 0 && word == WORD_GRANTS)
		r = requests_grants(q, &e);
	else if (r == 0 && word == WORD_TOLD)
		r = requests_told(q, &e);
	else if (r == 0)
		r = requests_audit(q, &e);
	if (r == 0 && q->f && face_trouble(q->f)[0])
		cli_note("%s", face_trouble(q->f));
	if (r < 0)
		return cli_fail(&e);
	return q->bad ? CLI_FAILED : cli_print(&q->out);
}

static int run(const struct cli_args *args)
{
	_cleanup_(requests_free) struct requests q = {.args = args, .out = BUF_INIT(OUT_MAX_BYTES)};
	int word = cli_pick(args, words, ARRAY_LEN(words));
	int status = word < 0 ? CLI_USAGE : take_arguments(&q, word);

	if (status != CLI_OK)
		return status;
	if (word == WORD_APPROVE || word == WORD_REFUSE)
		status = requests_decide(&q, word == WORD_APPROVE);
	else if (word == WORD_REVOKE)
		status = requests_revoke(&q);
	else
		status = look(&q, word);
	return status;
}

const struct cli_verb cmd_requests = {
	.name = "requests",
	.fn = run,
	.summary = "show and decide what agents ask for",
	.synopsis = "list [SLUG] | show SLUG ID | approve SLUG ID | refuse SLUG ID |\n"
		    "       revoke SLUG ID | grants SLUG | told SLUG | audit SLUG",
	.description = "approve and refuse name what they decide about: --hash of what show has\n"
		       "shown. What has changed since is not decided (exit status 1).\n",
	.options = options,
	.n_options = ARRAY_LEN(options),
	.min_positionals = 1,
	.max_positionals = 3,
	.complete = CLI_COMPLETE_WORDS,
	.words = "list show approve refuse revoke grants told audit",
	.complete_second = CLI_COMPLETE_SLUG_ANY,
};
