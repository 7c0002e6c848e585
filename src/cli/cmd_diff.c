/*
 * diff: what a bottle did to the host's repository, before any of it is used. All of it passes
 * through shown.h; what the host would obey comes first.
 */
#include "cli/branches.h"
#include "cli/shown.h"
#include "cli/table.h"
#include "cli/verbs.h"
#include "workspace/report.h"
#include "workspace/workspace.h"

#include "base/mem.h"
#include "base/text.h"

#include <errno.h>
#include <stdio.h>

#define DIFF_RISKY_SHOWN 50
#define DIFF_FILTERS_MAX 32
#define DIFF_JSON_MAX	 (128u << 20)

enum { OPT_STAT, OPT_BRANCH, OPT_JSON };
static const struct cli_option options[] = {
	[OPT_STAT] = {"stat", 0, NULL, "only which files, and how much of each", 0},
	[OPT_BRANCH] = {"branch", 'b', "BRANCH", "only this one of the bottle's", 0},
	[OPT_JSON] = {"json", 0, NULL, "branches and their files as a JSON object", 0},
};

struct diff {
	const struct cli_args *args;
	struct branches b;
	struct shown out;
	char *report; /* JSON; NULL: none */
	size_t n_report;
};

static int stream(struct diff *d, bool is_diff, const char *const *args, struct err *e)
{
	int status, r;

	shown_mode(&d->out, is_diff);
	r = user_git_stream(&d->b.git, args, shown_put, &d->out, &status, e);
	shown_mode(&d->out, false);
	return r;
}

#define STREAM(d, is_diff, e, ...)                                                                 \
	stream((d), (is_diff), (const char *const[]){__VA_ARGS__, NULL}, (e))

/* --- a branch --- */

static void warn_risky(struct diff *d, const struct branches_change *c)
{
	size_t n = 0;

	if (c->n_risky == 0)
		return;
	shown_note(&d->out, TABLE_RED,
		   "%zu file%s that this host, or its upstream, executes or obeys without being "
		   "asked:",
		   c->n_risky, c->n_risky == 1 ? "" : "s");
	for (size_t i = 0; i < c->n && n < DIFF_RISKY_SHOWN; i++) {
		_cleanup_(buf_free) struct buf line = BUF_INIT(65536);

		if (!c->files[i].is_risky)
			continue;
		if (branches_file_line(&c->files[i], &line) == 0)
			shown_note(&d->out, TABLE_YELLOW, STR_FMT, STR_ARG(buf_str(&line)));
		n++;
	}
	if (c->n_risky > n)
		shown_note(&d->out, TABLE_YELLOW, "  … and %zu more", c->n_risky - n);
}

static int show_branch(struct diff *d, const struct branches_change *c, struct err *e)
{
	_cleanup_free_ char *range =
		c->base ? mem_printf("%s..%s", c->base, c->commit) : mem_strdup(c->commit);
	int r;

	shown_note(&d->out, TABLE_BOLD, "branch bottle/%s/%s: %zu commit%s, %zu file%s%s",
		   d->b.slug, c->name, c->n_commits, c->n_commits == 1 ? "" : "s", c->n,
		   c->n == 1 ? "" : "s", c->base ? "" : ", no history in common with HEAD");
	warn_risky(d, c);
	r = STREAM(d, false, e, "log", "--no-color", "--no-decorate", "--no-show-signature",
		   "--no-notes", "--no-mailmap", "--format=  %h %an <%ae>  %s", "--max-count=100",
		   range);
	if (r == 0)
		r = STREAM(d, false, e, "diff", "--no-color", "--no-ext-diff", "--no-textconv",
			   "--stat=100", "--summary", "--no-renames", c->from, c->commit);
	if (r == 0 && !cli_has(d->args, OPT_STAT))
		r = STREAM(d, true, e, "diff", "--no-color", "--no-ext-diff", "--no-textconv",
			   "--submodule=short", "--no-renames", c->from, c->commit);
	return r;
}

/* --- a workspace that is mounted --- */

/* The user's own filters read what the agent wrote, and may be programs of the work tree: not for a
 * look. */
static size_t put_filters(struct diff *d, char **list, size_t max)
{
	_cleanup_(buf_free) struct buf out;
	struct str rest, key;
	bool found = true;
	int status;
	size_t n = 0;

	buf_init(&out, 65536);
	if (USER_GIT(&d->b.git, &out, &status, NULL, "config", "-z", "--name-only", "--get-regexp",
		     "^filter\\..*\\.(clean|smudge|process|required)$") < 0)
		return 0;
	rest = buf_str(&out);
	while (found && rest.n && n + 2 <= max) {
		rest = str_cut(rest, '\0', &key, &found);
		if (key.n == 0)
			continue;
		list[n++] = mem_strdup("-c");
		list[n++] = str_ends(key, STR_LIT(".required"))
				    ? mem_printf(STR_FMT "=false", STR_ARG(key))
				    : mem_printf(STR_FMT "=", STR_ARG(key));
	}
	return n;
}

static int show_tree(struct diff *d, struct err *e)
{
	static const char *const whole[] = {
		"diff", "--no-color", "--no-ext-diff", "--no-textconv", "--no-renames",
		"HEAD", "--"};
	static const char *const stat[] = {
		"diff", "--no-color", "--no-ext-diff", "--no-textconv", "--stat=100", "HEAD", "--"};
	const char *args[2 * DIFF_FILTERS_MAX + ARRAY_LEN(whole) + 1];
	char *filters[2 * DIFF_FILTERS_MAX];
	bool is_stat = cli_has(d->args, OPT_STAT);
	const char *const *rest = is_stat ? stat : whole;
	size_t n_filters = put_filters(d, filters, ARRAY_LEN(filters)), n = 0;
	int r;

	for (; n < n_filters; n++)
		args[n] = filters[n];
	for (size_t i = 0; i < (is_stat ? ARRAY_LEN(stat) : ARRAY_LEN(whole)); i++)
		args[n++] = rest[i];
	args[n] = NULL;
	shown_note(&d->out, TABLE_BOLD, "work tree against HEAD:");
	r = stream(d, !is_stat, args, e);
	for (size_t i = 0; i < n_filters; i++)
		free(filters[i]);
	if (r < 0)
		return r;
	shown_note(&d->out, TABLE_BOLD, "files that git does not know:");
	return STREAM(d, false, e, "ls-files", "--others", "--exclude-standard");
}

static int load_report(struct diff *d, struct err *e)
{
	struct str json = STR_NULL;
	int r;

	if (d->b.state_fd < 0)
		return 0;
	r = report_load(d->b.state_fd, &json, e);
	/* It runs, or was killed. */
	if (r == -ENOENT && !e->code)
		r = workspace_look(d->b.state_fd, &json, e);
	if (r == -ENOENT && !e->code)
		return 0;
	d->report = (char *)(uintptr_t)json.p;
	d->n_report = json.n;
	return r;
}

static int show_report(struct diff *d, struct err *e)
{
	_cleanup_(buf_free) struct buf out = BUF_INIT(16u << 20);
	size_t n;
	int r;

	if (!d->report)
		return 0;
	r = report_print(str_slice(d->report, d->n_report), NULL, 0, &n, &out, e);
	if (r == 0)
		(void)shown_put(&d->out, buf_str(&out));
	return r;
}

/* --- all --- */

static bool is_wanted(const struct diff *d, const char *name)
{
	const char *only = d->args->values[OPT_BRANCH];

	return !only || strcmp(only, name) == 0;
}

static int show(struct diff *d, struct err *e)
{
	int r = 0;

	if (d->b.is_mount && !cli_has(d->args, OPT_BRANCH)) {
		_cleanup_free_ char *top =
			USER_GIT_LINE(&d->b.git, "rev-parse", "-q", "--verify", "HEAD^{commit}");

		r = show_report(d, e);
		if (r == 0 && top)
			r = show_tree(d, e);
	}
	for (size_t i = 0; r == 0 && i < d->b.n; i++) {
		struct branches_change c = {0};

		if (!is_wanted(d, d->b.names[i]))
			continue;
		r = branches_look(&d->b, d->b.names[i], &c, e);
		if (r == 0)
			r = show_branch(d, &c, e);
		branches_change_free(&c);
	}
	/* Nobody reads on: the human has left the pager. */
	return r == -EPIPE ? 0 : r;
}

static int print_json(struct diff *d, struct err *e)
{
	_cleanup_(buf_free) struct buf out;
	bool is_first = true;
	int r;

	buf_init(&out, DIFF_JSON_MAX);
	r = buf_printf(&out, "{\"slug\":\"%s\",\"repository\":", d->b.slug);
	if (r == 0)
		r = text_json(&out, str_of(d->b.folder));
	if (r == 0)
		r = buf_printf(&out, ",\"workspace\":");
	if (r == 0)
		r = d->report ? buf_append(&out, d->report, d->n_report)
			      : buf_append_str(&out, STR_LIT("null"));
	if (r == 0)
		r = buf_printf(&out, ",\"branches\":[");
	for (size_t i = 0; r == 0 && i < d->b.n; i++) {
		struct branches_change c = {0};

		if (!is_wanted(d, d->b.names[i]))
			continue;
		r = branches_look(&d->b, d->b.names[i], &c, e);
		if (r == 0)
			r = buf_append_str(&out, is_first ? STR_LIT("\n") : STR_LIT(",\n"));
		is_first = false;
		if (r == 0)
			r = branches_change_json(&c, &out);
		branches_change_free(&c);
	}
	if (r == 0)
		r = buf_append_str(&out, STR_LIT("]}\n"));
	if (r < 0)
		return e->code ? r : err_set(e, r, "there is too much to print");
	return cli_print(&out) == CLI_OK ? 0 : err_set(e, -EPIPE, "standard output");
}

static int run(const struct cli_args *args)
{
	struct diff d = {.args = args, .b = BRANCHES_INIT};
	struct err e = ERR_INIT;
	const char *name;
	int r = branches_find(&d.b, args->positionals[0], &e);

	if (r == 0 && cli_has(args, OPT_BRANCH))
		r = branches_pick(&d.b, args->values[OPT_BRANCH], &name, &e);
	if (r == 0)
		r = load_report(&d, &e);
	if (r == 0 && cli_has(args, OPT_JSON)) {
		r = print_json(&d, &e);
	} else if (r == 0) {
		if (d.b.n == 0 && !d.b.is_mount)
			cli_note("%s has pushed nothing into %s", d.b.slug, d.b.folder);
		shown_open(&d.out, true);
		r = show(&d, &e);
		shown_close(&d.out);
	}
	branches_free(&d.b);
	free(d.report);
	return r < 0 ? cli_fail(&e) : CLI_OK;
}

const struct cli_verb cmd_diff = {
	.name = "diff",
	.fn = run,
	.summary = "show what a bottle did to the repository",
	.synopsis = "SLUG",
	.description =
		"The branches that it pushed (bottle/SLUG/…) against where they left HEAD's\n"
		"history; with workspace: mount also what changed in the folder. What this host\n"
		"would execute or obey comes first. Works also when the bottle has ended.\n",
	.options = options,
	.n_options = ARRAY_LEN(options),
	.min_positionals = 1,
	.max_positionals = 1,
	.complete = CLI_COMPLETE_SLUG_ANY,
};
