/*
 * merge: a branch that a bottle pushed, into the branch that is checked out. What comes is shown
 * first, and it is that commit which is merged, whatever the bottle pushes meanwhile.
 */
#include "cli/branches.h"
#include "cli/shown.h"
#include "cli/table.h"
#include "cli/verbs.h"

#include "base/mem.h"
#include "base/text.h"

#include <errno.h>
#include <stdio.h>

#define MERGE_FILES_SHOWN 60

enum { OPT_BRANCH, OPT_YES, OPT_RISKY, OPT_JSON };
static const struct cli_option options[] = {
	[OPT_BRANCH] = {"branch", 'b', "BRANCH", "this one of the bottle's", 0},
	[OPT_YES] = {"yes", 'y', NULL, "do not ask", 0},
	[OPT_RISKY] = {"allow-risky", 0, NULL,
		       "with --yes: also files that this host executes or obeys", 0},
	[OPT_JSON] = {"json", 0, NULL, "what was done as a JSON object; goes with --yes", 0},
};

struct merge {
	const struct cli_args *args;
	struct branches b;
	struct branches_change c;
	char *into; /* the branch that is checked out */
	char *was;  /* its commit */
	bool is_json;
};

static int check_tree(struct merge *m, struct err *e)
{
	_cleanup_(buf_free) struct buf out = BUF_INIT(16u << 20);
	_cleanup_free_ char *busy = NULL;
	int r;

	m->into = USER_GIT_LINE(&m->b.git, "symbolic-ref", "-q", "--short", "HEAD");
	if (!m->into)
		return err_set(e, -EINVAL, "%s has no branch checked out", m->b.folder);
	m->was = USER_GIT_LINE(&m->b.git, "rev-parse", "--verify", "-q", "HEAD^{commit}");
	if (!m->was)
		return err_set(e, -EINVAL, "%s has no commit to merge into", m->b.folder);
	if (str_starts(str_of(m->into), STR_LIT("bottle/")))
		return err_set(e, -EINVAL, "%s has a bottle's branch checked out", m->b.folder);
	busy = USER_GIT_LINE(&m->b.git, "rev-parse", "--verify", "-q", "MERGE_HEAD");
	if (busy)
		return err_set(e, -EBUSY,
			       "%s is in the middle of a merge: git merge --abort, or "
			       "git commit",
			       m->b.folder);
	/* Files that git does not know are kept by git itself. */
	r = USER_GIT(&m->b.git, &out, NULL, e, "status", "--porcelain", "--untracked-files=no",
		     "--ignore-submodules=all");
	if (r == 0 && buf_len(&out))
		return err_set(e, -EBUSY,
			       "%s has changes that are not committed: commit or stash them first",
			       m->b.folder);
	return r;
}

static bool is_merged(const struct merge *m)
{
	int status = 1;

	return USER_GIT(&m->b.git, NULL, &status, NULL, "merge-base", "--is-ancestor", m->c.commit,
			"HEAD") == 0 &&
	       status == 0;
}

/* Risky ones first, then the others. */
static void show_files(struct shown *out, const struct branches_change *c, bool is_risky,
		       size_t *n_shown)
{
	for (size_t i = 0; i < c->n && *n_shown < MERGE_FILES_SHOWN; i++) {
		_cleanup_(buf_free) struct buf line = BUF_INIT(65536);

		if (c->files[i].is_risky != is_risky)
			continue;
		if (branches_file_line(&c->files[i], &line) == 0)
			shown_note(out, is_risky ? TABLE_YELLOW : 0, STR_FMT,
				   STR_ARG(buf_str(&line)));
		++*n_shown;
	}
}

static void open_err(struct shown *out)
{
	shown_open(out, false);
	out->fd = STDERR_FILENO;
	out->has_colour = table_may_colour(STDERR_FILENO);
}

static void show(const struct merge *m)
{
	const struct branches_change *c = &m->c;
	struct shown out;
	size_t n = 0;

	open_err(&out);
	shown_note(&out, TABLE_BOLD, "bottle/%s/%s into %s: %zu commit%s, %zu file%s", m->b.slug,
		   c->name, m->into, c->n_commits, c->n_commits == 1 ? "" : "s", c->n,
		   c->n == 1 ? "" : "s");
	show_files(&out, c, true, &n);
	show_files(&out, c, false, &n);
	if (c->n > n)
		shown_note(&out, 0, "  … and %zu more (claude-bottle diff %s)", c->n - n,
			   m->b.slug);
	if (c->n_risky)
		shown_note(&out, TABLE_RED,
			   "%zu of them (!) this host, or its upstream, executes or obeys without "
			   "being asked",
			   c->n_risky);
	shown_close(&out);
}

static int check_wanted(const struct merge *m, struct err *e)
{
	char line[16] = "";

	if (cli_has(m->args, OPT_YES)) {
		if (m->c.n_risky && !cli_has(m->args, OPT_RISKY))
			return err_set(e, -EPERM,
				       "%zu file%s that this host or its upstream executes or "
				       "obeys: look (claude-bottle diff %s), then add "
				       "--allow-risky",
				       m->c.n_risky, m->c.n_risky == 1 ? "" : "s", m->b.slug);
		return 0;
	}
	(void)fputs("Merge it? [y/N] ", stderr);
	if (!fgets(line, sizeof(line), stdin))
		(void)fputs("\n", stderr);
	line[strcspn(line, "\r\n")] = '\0';
	if (str_ieq(str_of(line), STR_LIT("y")) || str_ieq(str_of(line), STR_LIT("yes")))
		return 0;
	return err_set(e, -ECANCELED, "not merged");
}

static int print_json(const struct merge *m, bool is_done, const char *commit)
{
	_cleanup_(buf_free) struct buf out;
	int r;

	buf_init(&out, 65536);
	r = buf_printf(&out, "{\"slug\":\"%s\",\"branch\":", m->b.slug);
	if (r == 0)
		r = text_json(&out, str_of(m->c.name));
	if (r == 0)
		r = buf_printf(&out, ",\"into\":");
	if (r == 0)
		r = text_json(&out, str_of(m->into));
	if (r == 0)
		r = buf_printf(
			&out, ",\"merged\":%s,\"was\":\"%s\",\"commit\":\"%s\",\"risky\":%zu}\n",
			is_done ? "true" : "false", m->was, commit ? commit : m->was, m->c.n_risky);
	return r == 0 ? cli_print(&out) : CLI_FAILED;
}

/* "CONFLICT (content): …", with names of the bottle's in it. */
static void show_said(struct str said)
{
	struct shown out;

	open_err(&out);
	(void)shown_put(&out, said);
	shown_close(&out);
}

static int merge_it(struct merge *m, struct err *e)
{
	_cleanup_free_ char *message =
		mem_printf("Merge branch 'bottle/%s/%s' into %s", m->b.slug, m->c.name, m->into);
	_cleanup_free_ char *busy = NULL, *commit = NULL;
	_cleanup_(buf_free) struct buf out;
	struct user_git git = m->b.git;
	int status = 0, r;

	buf_init(&out, 16u << 20);
	git.is_terminal = true;
	r = USER_GIT(&git, &out, &status, e, "merge", "--no-ff", "--no-edit", "--no-verify",
		     "--no-stat", "--no-autostash", "--no-squash", "--commit", "-m", message,
		     m->c.commit);
	if (r < 0)
		return r;
	if (status != 0) {
		busy = USER_GIT_LINE(&m->b.git, "rev-parse", "--verify", "-q", "MERGE_HEAD");
		show_said(buf_str(&out));
		if (m->is_json)
			(void)print_json(m, false, NULL);
		return busy ? err_set(e, -EEXIST,
				      "conflicts: resolve them and \"git commit\", or \"git merge "
				      "--abort\" (git status says where)")
			    : err_set(e, -EIO, "git did not merge it");
	}
	commit = USER_GIT_LINE(&m->b.git, "rev-parse", "HEAD");
	cli_note("merged; to undo it: git reset --merge %.12s", m->was);
	if (m->is_json && print_json(m, true, commit) != CLI_OK)
		return err_set(e, -EPIPE, "standard output");
	return 0;
}

static int merge(struct merge *m, struct err *e)
{
	const char *name;
	int r = branches_find(&m->b, m->args->positionals[0], e);

	if (r == 0)
		r = branches_pick(&m->b, m->args->values[OPT_BRANCH], &name, e);
	if (r == 0)
		r = check_tree(m, e);
	if (r == 0)
		r = branches_look(&m->b, name, &m->c, e);
	if (r < 0)
		return r;
	if (is_merged(m)) {
		cli_note("%s has all of it", m->into);
		if (m->is_json && print_json(m, false, NULL) != CLI_OK)
			return err_set(e, -EPIPE, "standard output");
		return 0;
	}
	/* More files than were looked at: any of them may be anything. */
	m->c.n_risky += m->c.was_cut;
	if (!m->is_json)
		show(m);
	r = check_wanted(m, e);
	return r == 0 ? merge_it(m, e) : r;
}

static int run(const struct cli_args *args)
{
	struct merge m = {.args = args, .b = BRANCHES_INIT, .is_json = cli_has(args, OPT_JSON)};
	struct err e = ERR_INIT;
	int r;

	if (!cli_has(args, OPT_YES) && !(isatty(STDIN_FILENO) && isatty(STDERR_FILENO)))
		return cli_misuse(args, "there is no terminal to ask on: --yes");
	if (m.is_json && !cli_has(args, OPT_YES))
		return cli_misuse(args, "--json goes with --yes");
	if (cli_has(args, OPT_RISKY) && !cli_has(args, OPT_YES))
		return cli_misuse(args, "--allow-risky goes with --yes");
	r = merge(&m, &e);
	branches_change_free(&m.c);
	branches_free(&m.b);
	free(m.into);
	free(m.was);
	return r < 0 ? cli_fail(&e) : CLI_OK;
}

const struct cli_verb cmd_merge = {
	.name = "merge",
	.fn = run,
	.summary = "merge what a bottle pushed into the current branch",
	.synopsis = "SLUG",
	.description =
		"Shows what comes, asks, and merges bottle/SLUG/BRANCH with a merge commit and\n"
		"without running hooks. Refused while there are changes that are not committed.\n"
		"Conflicts are left to git. Works also when the bottle has ended.\n",
	.options = options,
	.n_options = ARRAY_LEN(options),
	.min_positionals = 1,
	.max_positionals = 1,
	.complete = CLI_COMPLETE_SLUG_ANY,
};
