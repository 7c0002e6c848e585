/* The second pass: every path that a commit brings, and what stands there. */
#include "gitgate/check_int.h"
#include "base/clean.h"
#include "base/mem.h"
#include "base/text.h"
#include "base/timeutil.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define TOKEN_MAX     (1u << 20)
#define META_BYTES    98 /* ":100644 100644 <oid> <oid> M" */
#define PARENTS_MAX   32
#define RISKY_MAX     1024 /* of one merge */
#define LINKS_MAX     (64u << 10)
#define EMPTY_TREE    "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
#define LS_TREE_BYTES 65536

struct path_pass {
	struct check *c;
	char commit[GIT_OID_SIZE];
	unsigned parent; /* the diff that is read is against this one; from 0 */
	struct {
		char *path;
		uint32_t parents; /* that have it otherwise */
	} risky[RISKY_MAX];
	size_t n_risky;
	struct buf links; /* the ids of submodules' commits, which anybody may choose */
	uint64_t n_entries;
};

struct path_entry {
	unsigned old_mode, mode;
	uint8_t oid[CHECK_OID_BYTES];
	struct str path;
	const char *cpath;
};

static int odd(struct check *c)
{
	return err_set(c->e, -EPROTO, "git said something unexpected of a commit's paths");
}

/* --- sensitive paths --- */

/* "mode type oid" of a path in a commit; "" where it is not there. */
static int path_value(struct check *c, const char *commit, const char *path, char *out, size_t size)
{
	const char *argv[] = {
		"--literal-pathspecs", "ls-tree", "-z", "--full-tree", commit, "--", path, NULL};
	_cleanup_(buf_free) struct buf b;
	struct str value;
	int r;

	buf_init(&b, LS_TREE_BYTES);
	r = git_run(c->in->git, argv, STR_NULL, &b, NULL, c->in->deadline_ns, c->e);
	if (r != 0)
		return r < 0 ? r : err_set(c->e, -EIO, "git ls-tree failed (%d)", r);
	value = str_sub(buf_str(&b), 0, str_chr(buf_str(&b), '\t'));
	if (!str_to_cstr(out, size, value))
		return odd(c);
	return 0;
}

#define VALUE_SIZE 96

/* Whether a merge took a path from one side, where the other side has left it as it was at their
 * fork: what any merge does by itself. Attack: merging in something old to bring back its
 * workflows.
 */
static int merge_is_plain(struct check *c, const char *commit, const char *path, bool *is)
{
	char spec[PARENTS_MAX + 1][GIT_OID_SIZE + 8], value[PARENTS_MAX][VALUE_SIZE];
	char result[VALUE_SIZE], at_base[VALUE_SIZE];
	unsigned n;
	int r;

	*is = false;
	if ((r = path_value(c, commit, path, result, sizeof(result))) < 0)
		return r;
	for (n = 0; n < 2; n++) {
		if (snprintf(spec[n], sizeof(spec[n]), "%s^%u", commit, n + 1) < 0)
			return odd(c);
		if ((r = path_value(c, spec[n], path, value[n], VALUE_SIZE)) < 0)
			return r;
	}
	for (n = 0; n < 2; n++) {
		const char *argv[] = {"merge-base", "--all", spec[0], spec[1], NULL};
		_cleanup_(buf_free) struct buf b;
		struct str rest, base;
		bool more = true, same = true;

		buf_init(&b, LS_TREE_BYTES);
		if (strcmp(value[n], result) != 0 || strcmp(value[1 - n], result) == 0)
			continue;
		r = git_run(c->in->git, argv, STR_NULL, &b, NULL, c->in->deadline_ns, c->e);
		if (r < 0)
			return r;
		for (rest = buf_str(&b); r == 0 && more && rest.n > 0;) {
			char hex[GIT_OID_SIZE];

			rest = str_cut(rest, '\n', &base, &more);
			if (!str_to_cstr(hex, sizeof(hex), base))
				return odd(c);
			if ((r = path_value(c, hex, path, at_base, sizeof(at_base))) < 0)
				return r;
			same &= strcmp(at_base, value[1 - n]) == 0;
		}
		*is = r == 0 && same && buf_len(&b) > 0;
		return 0;
	}
	return 0;
}

/* A commit is complete: its risky paths are told. */
static int commit_end(struct path_pass *ps)
{
	struct check *c = ps->c;
	unsigned n = ps->parent + 1;
	uint32_t all = n >= 32 ? UINT32_MAX : (UINT32_C(1) << n) - 1;
	int r = 0;

	memcpy(c->commit, ps->commit, sizeof(c->commit));
	for (size_t i = 0; i < ps->n_risky && r == 0; i++) {
		bool is_plain = false;

		if (ps->risky[i].parents != all && n == 2 && c->n_merges < CHECK_MERGES_MAX) {
			c->n_merges++;
			r = merge_is_plain(c, ps->commit, ps->risky[i].path, &is_plain);
		}
		if (r == 0 && !is_plain) {
			c->path = ps->risky[i].path;
			(void)check_found(c, CHECK_SENSITIVE, "sensitive", "path");
		}
	}
	c->path = NULL;
	while (ps->n_risky)
		free(ps->risky[--ps->n_risky].path);
	if (r == 0 && buf_len(&ps->links))
		r = check_scan(c, SCAN_PLACE_BODY, "submodule commit", buf_str(&ps->links));
	buf_reset(&ps->links);
	c->commit[0] = '\0';
	return r;
}

static void risky_note(struct path_pass *ps, const struct path_entry *x)
{
	uint32_t bit = ps->parent < 32 ? UINT32_C(1) << ps->parent : 0;

	for (size_t i = 0; i < ps->n_risky && ps->parent > 0; i++)
		if (strcmp(ps->risky[i].path, x->cpath) == 0) {
			ps->risky[i].parents |= bit;
			return;
		}
	if (ps->n_risky == RISKY_MAX) {
		(void)check_found(ps->c, CHECK_LIMIT, "limit-sensitive", "path");
		return;
	}
	ps->risky[ps->n_risky].path = mem_strdup(x->cpath);
	ps->risky[ps->n_risky++].parents = bit;
}

/* --- one entry --- */

static void modules_note(struct check *c, const struct path_entry *x)
{
	struct check_place *m;

	if (x->mode == OBJECT_MODE_SYMLINK) {
		(void)check_found(c, CHECK_SUBMODULE, "gitmodules-symlink", "path");
		return;
	}
	if (x->mode == OBJECT_MODE_TREE || x->mode == OBJECT_MODE_GITLINK) {
		(void)check_found(c, CHECK_SUBMODULE, "gitmodules-no-file", "path");
		return;
	}
	for (size_t i = 0; i < c->n_modules; i++)
		if (memcmp(c->modules[i].oid, x->oid, sizeof(x->oid)) == 0)
			return;
	if (c->n_modules == CHECK_MODULES_MAX) {
		(void)check_found(c, CHECK_LIMIT, "limit-gitmodules", "path");
		return;
	}
	c->modules =
		mem_grow_array(c->modules, &c->modules_size, c->n_modules + 1, sizeof(*c->modules));
	m = &c->modules[c->n_modules++];
	memcpy(m->oid, x->oid, sizeof(m->oid));
	memcpy(m->commit, c->commit, sizeof(m->commit));
	m->path = mem_strdup(c->path);
}

static int name_look(struct check *c, struct str path)
{
	size_t slash = path.n, depth = 0;
	const char *wrong;

	for (size_t i = 0; i < path.n; i++)
		if (path.p[i] == '/') {
			slash = i;
			depth++;
		}
	wrong = object_name_wrong(slash < path.n ? str_sub(path, slash + 1, path.n) : path);
	if (wrong)
		(void)check_found(c, CHECK_TREE, wrong, "path");
	if (depth >= CHECK_TREE_DEPTH_MAX)
		(void)check_found(c, CHECK_LIMIT, "limit-tree-depth", "path");
	if (path.n > CHECK_PATH_MAX)
		(void)check_found(c, CHECK_LIMIT, "limit-path", "path");
	return 0;
}

/* The place decides on rules: names of parameters and their values count as such in a path, too. */
static int path_scan(struct check *c, const char *what, struct str path)
{
	int r = check_scan(c, SCAN_PLACE_PATH, what, path);

	return r < 0 ? r : check_scan(c, SCAN_PLACE_BODY, what, path);
}

static int entry_look(struct path_pass *ps, const struct path_entry *x)
{
	struct check *c = ps->c;
	size_t slash = x->path.n;
	const char *what;
	int r = 0;

	if (x->mode != OBJECT_MODE_TREE && x->old_mode != OBJECT_MODE_TREE &&
	    git_path_needs_approval(c->in->remote, x->path, &what))
		risky_note(ps, x);
	if (x->mode == 0) /* gone */
		return 0;
	check_find_place(c, x->oid, ps->commit, x->path);
	memcpy(c->commit, ps->commit, sizeof(c->commit));
	c->path = x->cpath;
	while (slash > 0 && x->path.p[slash - 1] != '/')
		slash--;
	if (x->mode != OBJECT_MODE_TREE && x->mode != OBJECT_MODE_GITLINK &&
	    check_is_other(c, x->oid))
		(void)check_found(c, CHECK_MALFORMED, "type", "path");
	if (object_name_is_gitmodules(str_sub(x->path, slash, x->path.n)))
		modules_note(c, x);
	if (!check_is_seen(c, x->path)) {
		r = name_look(c, x->path);
		if (r == 0)
			r = path_scan(c, "path", x->path);
	}
	c->path = NULL;
	c->commit[0] = '\0';
	if (r == 0 && x->mode == OBJECT_MODE_GITLINK)
		if (buf_append(&ps->links, x->oid, sizeof(x->oid)) < 0)
			(void)check_found(c, CHECK_LIMIT, "limit-submodules", "path");
	return r;
}

/* --- git diff-tree's output --- */

static bool mode_parse(struct str s, unsigned *mode)
{
	*mode = 0;
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] < '0' || s.p[i] > '7')
			return false;
		*mode = *mode << 3 | (unsigned)(s.p[i] - '0');
	}
	return s.n == 6;
}

static int meta_parse(struct path_pass *ps, struct str t, struct path_entry *x)
{
	if (t.n < META_BYTES || t.p[7] != ' ' || t.p[14] != ' ' || t.p[55] != ' ' ||
	    t.p[96] != ' ' || !mode_parse(str_sub(t, 1, 7), &x->old_mode) ||
	    !mode_parse(str_sub(t, 8, 14), &x->mode) ||
	    !text_unhex(x->oid, sizeof(x->oid), str_sub(t, 56, 96)))
		return odd(ps->c);
	return 0;
}

/* The commit's id (for each of its parents once), or the two trees that were asked for. */
static int header_read(struct path_pass *ps, struct str t)
{
	char hex[GIT_OID_SIZE];
	int r;

	if ((t.n != 40 && t.n != 81) || !str_to_cstr(hex, sizeof(hex), str_sub(t, 0, 40)))
		return odd(ps->c);
	if (t.n == 40 && strcmp(hex, ps->commit) == 0) {
		ps->parent++;
		return 0;
	}
	if ((r = commit_end(ps)) < 0)
		return r;
	ps->parent = 0;
	memcpy(ps->commit, hex, sizeof(ps->commit));
	if (t.n == 81)
		ps->commit[0] = '\0'; /* a tree of no commit */
	return 0;
}

static int token_read(struct path_pass *ps, struct check_flow *f, struct str t)
{
	struct path_entry x;
	size_t nl;
	int r;

	/* The line of a commit may end in a newline even where all else ends in NUL. */
	if (t.n && t.p[0] != ':') {
		nl = str_chr(t, '\n');
		if ((r = header_read(ps, str_sub(t, 0, nl))) < 0)
			return r;
		t = str_sub(t, nl + 1, t.n);
	}
	if (t.n == 0)
		return 0;
	if ((r = meta_parse(ps, t, &x)) < 0)
		return r;
	r = check_flow_line(f, ps->c, '\0', TOKEN_MAX, &x.path);
	if (r < 0)
		return r == -ETIMEDOUT || r == -ENOMEM ? r : odd(ps->c);
	x.cpath = x.path.p; /* the NUL is still there */
	if ((++ps->n_entries & 63) == 0 && time_monotonic_ns() > ps->c->in->deadline_ns)
		return err_set(ps->c->e, -ETIMEDOUT, "looking at the push took too long");
	return entry_look(ps, &x);
}

static int paths_read(struct check *c, const char *const *first, const char *const *second,
		      struct str in)
{
	_cleanup_free_ struct path_pass *ps = mem_zalloc(sizeof(*ps));
	struct check_flow f;
	struct str t;
	int r = check_flow_open(&f, c, "paths", first, second, in), q;

	if (r < 0)
		return r;
	ps->c = c;
	buf_init(&ps->links, LINKS_MAX);
	while (r == 0 && (r = check_flow_line(&f, c, '\0', TOKEN_MAX, &t)) == 0)
		r = token_read(ps, &f, t);
	if (r == -ENODATA)
		r = 0;
	else if (r == -EMSGSIZE)
		r = odd(c);
	if (r == 0)
		r = commit_end(ps);
	while (ps->n_risky)
		free(ps->risky[--ps->n_risky].path);
	buf_free(&ps->links);
	c->path = NULL;
	c->commit[0] = '\0';
	q = check_flow_close(&f, c);
	if (r == -EPROTO && c->has_failed)
		r = 0;
	return r < 0 ? r : q;
}

int check_paths(struct check *c, struct str tips)
{
	static const char *const list[] = {"rev-list", "--topo-order", "--reverse", "--stdin",
					   "--not",    "--all",	       NULL};
	static const char *const diff[] = {"diff-tree", "--stdin",	"-m",
					   "--root",	"-r",		"-t",
					   "-z",	"--no-renames", "--raw",
					   "--always",	"--no-abbrev",	"--ignore-submodules=none",
					   NULL};
	_cleanup_(buf_free) struct buf trees;
	int r;

	buf_init(&trees, (size_t)c->n_trees * 96);
	check_find_index(c);
	check_others_sort(c);
	r = paths_read(c, list, diff, tips);
	if (r < 0 || c->n_trees == 0)
		return r;
	for (size_t i = 0; i < c->n_trees && r == 0; i++)
		r = buf_printf(&trees, EMPTY_TREE " %s\n", c->trees[i]);
	return r < 0 ? r : paths_read(c, diff, NULL, buf_str(&trees));
}
