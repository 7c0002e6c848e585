#include "cli/branches.h"

#include "base/io.h"
#include "base/mem.h"
#include "base/text.h"
#include "bottles/bottles.h"
#include "conf/risky_path.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>

#define PREFIX		"refs/heads/bottle/"
#define RAW_BYTES_MAX	(64u << 20)
#define LINKS_MAX	200 /* whose targets are looked at */
#define TARGET_MAX	4096
#define FILE_PATH_SHOWN 300
#define PLAN_MAX	(16u << 20)

/* --- which repository --- */

static void read_plan(struct branches *b)
{
	_cleanup_free_ char *text = NULL;
	const char *mode, *path;
	struct str s;
	json_t *root;

	if (io_read_file(b->state_fd, "plan.json", PLAN_MAX, &s, NULL) < 0)
		return;
	text = (char *)(uintptr_t)s.p;
	root = json_loadb(s.p, s.n, JSON_REJECT_DUPLICATES, NULL);
	mode = json_string_value(json_object_get(root, "workspace"));
	path = json_string_value(json_object_get(root, "workspace_path"));
	b->is_mount = mode && strcmp(mode, "mount") == 0;
	b->folder = path ? mem_strdup(path) : NULL;
	json_decref(root);
}

static int find_folder(struct branches *b, struct err *e)
{
	char cwd[PLACES_PATH_MAX];

	if (b->folder)
		return 0;
	if (!getcwd(cwd, sizeof(cwd)))
		return err_errno(e, "the current directory");
	b->git = (struct user_git){.folder = cwd};
	b->folder = USER_GIT_LINE(&b->git, "rev-parse", "--show-toplevel");
	if (!b->folder)
		return err_set(e, -ENOENT,
			       "%s has no workspace of its own, and the current directory is in no "
			       "git repository",
			       b->slug);
	return 0;
}

static int list(struct branches *b, struct err *e)
{
	_cleanup_free_ char *prefix = mem_printf(PREFIX "%s/", b->slug);
	_cleanup_(buf_free) struct buf out;
	struct str rest, line;
	bool found = true;
	int status = 0, r;

	buf_init(&out, 1u << 20);
	r = USER_GIT(&b->git, &out, &status, e, "for-each-ref", "--format=%(refname)", prefix);
	/* Not a repository: then there are none. */
	if (r < 0 || status != 0)
		return r;
	b->names = mem_zalloc_array(BRANCHES_MAX, sizeof(*b->names));
	rest = buf_str(&out);
	while (found && b->n < BRANCHES_MAX) {
		rest = str_cut(rest, '\n', &line, &found);
		if (str_starts(line, str_of(prefix)))
			b->names[b->n++] = str_dup(str_sub(line, strlen(prefix), line.n));
	}
	return 0;
}

int branches_find(struct branches *out, const char *word, struct err *e)
{
	struct bottles_entry bottle;
	struct err not_there = ERR_INIT;
	bool is_known;
	int r = bottles_find(word, &bottle, &out->state_fd, &not_there);

	is_known = r == 0;
	/* More than one is meant, or a state folder that cannot be read. */
	if (r < 0 && r != -ENOENT) {
		*e = not_there;
		return r;
	}
	if (!is_known && !places_slug_is_valid(word)) {
		*e = not_there;
		return r;
	}
	(void)snprintf(out->slug, sizeof(out->slug), "%s", is_known ? bottle.slug : word);
	if (is_known)
		read_plan(out);
	r = find_folder(out, e);
	if (r < 0)
		return r;
	out->git = (struct user_git){.folder = out->folder};
	r = list(out, e);
	if (r == 0 && !is_known && out->n == 0) {
		*e = not_there;
		return -ENOENT;
	}
	return r;
}

void branches_free(struct branches *b)
{
	for (size_t i = 0; i < b->n; i++)
		free(b->names[i]);
	free(b->names);
	free(b->folder);
	close_fd(&b->state_fd);
	*b = BRANCHES_INIT;
}

int branches_pick(const struct branches *b, const char *wanted, const char **name, struct err *e)
{
	char shown[128];

	*name = NULL;
	if (b->n == 0)
		return err_set(e, -ENOENT, "%s has pushed nothing into %s", b->slug, b->folder);
	if (!wanted && b->n == 1) {
		*name = b->names[0];
		return 0;
	}
	for (size_t i = 0; wanted && i < b->n; i++) {
		if (strcmp(b->names[i], wanted) == 0) {
			*name = b->names[i];
			return 0;
		}
	}
	text_visible_cstr(shown, sizeof(shown), str_of(wanted ? wanted : b->names[0]));
	if (wanted)
		return err_set(e, -ENOENT, "%s has pushed no branch \"%s\"", b->slug, shown);
	return err_set(e, -EINVAL, "%s has pushed %zu branches: name one, --branch %s for one",
		       b->slug, b->n, shown);
}

/* --- what is in them --- */

/* By its text alone: up more often than down from where it lies, or from the root. */
static bool target_leaves(struct str target, struct str path)
{
	struct str segment;
	bool more = true;
	long depth = 0;

	if (target.n == 0 || target.p[0] == '/')
		return true;
	for (size_t i = 0; i < path.n; i++)
		depth += path.p[i] == '/';
	while (more && depth >= 0) {
		target = str_cut(target, '/', &segment, &more);
		if (str_eq(segment, STR_LIT("..")))
			depth--;
		else if (segment.n && !str_eq(segment, STR_LIT(".")))
			depth++;
	}
	return depth < 0;
}

static bool link_leaves(const struct branches *b, const char *object, const char *path)
{
	_cleanup_(buf_free) struct buf target;
	int status = 0;

	buf_init(&target, TARGET_MAX);
	return USER_GIT(&b->git, &target, &status, NULL, "cat-file", "blob", object) < 0 ||
	       status != 0 || target_leaves(buf_str(&target), str_of(path));
}

static void judge(const struct branches *b, struct branches_file *f, const char *object,
		  size_t *n_links)
{
	const char *what = NULL;
	unsigned risk = risky_path_find(str_of(f->path), &what);

	f->is_risky = (risk & (RISKY_HOST | RISKY_CI)) != 0;
	if (f->mode == 0160000)
		what = "a submodule";
	else if (f->mode == 0120000 && (++*n_links > LINKS_MAX || link_leaves(b, object, f->path)))
		what = "a symbolic link that leads out of the tree";
	else if (text_has_deceptive(str_of(f->path)))
		what = "its name does not show what it is";
	else
		goto named;
	f->is_risky = true;
named:
	if (what)
		f->why = mem_printf("%s%s", what, f->mode == 0100755 && risk ? ", executable" : "");
}

/* ":100644 100755 OLD NEW M" and the path, each ending with a NUL. */
static int read_file(const struct branches *b, struct str head, struct str path,
		     struct branches_change *c, size_t *n_links, struct err *e)
{
	struct branches_file *f;
	unsigned old_mode, mode;
	char line[256], object[80], status;

	if (!str_to_cstr(line, sizeof(line), head) ||
	    sscanf(line, ":%o %o %*79s %79s %c", &old_mode, &mode, object, &status) != 4 ||
	    path.n == 0)
		return err_set(e, -EBADMSG, "git's answer makes no sense");
	if (c->n == BRANCHES_FILES_MAX) {
		c->was_cut = true;
		return 0;
	}
	c->files = mem_grow_array(c->files, &c->cap, c->n + 1, sizeof(*c->files));
	f = &c->files[c->n++];
	*f = (struct branches_file){.path = str_dup(path), .status = status, .mode = mode};
	judge(b, f, object, n_links);
	c->n_risky += f->is_risky;
	return 0;
}

static int look_files(const struct branches *b, struct branches_change *c, struct err *e)
{
	_cleanup_(buf_free) struct buf out;
	struct str rest, head, path;
	size_t n_links = 0;
	bool found = true;
	int r;

	buf_init(&out, RAW_BYTES_MAX);
	r = USER_GIT(&b->git, &out, NULL, e, "diff-tree", "-r", "-z", "--raw", "--no-abbrev",
		     "--no-renames", "--ignore-submodules=none", c->from, c->commit);
	rest = buf_str(&out);
	while (r == 0 && rest.n) {
		rest = str_cut(rest, '\0', &head, &found);
		rest = str_cut(rest, '\0', &path, &found);
		r = read_file(b, head, path, c, &n_links, e);
	}
	return r;
}

int branches_look(const struct branches *b, const char *name, struct branches_change *out,
		  struct err *e)
{
	_cleanup_free_ char *peeled = mem_printf(PREFIX "%s/%s^{commit}", b->slug, name);
	_cleanup_free_ char *range = NULL, *count = NULL;
	uint64_t n = 0;

	*out = (struct branches_change){.name = mem_strdup(name),
					.ref = mem_printf(PREFIX "%s/%s", b->slug, name)};
	/* Once: what is shown is what is merged, whatever the bottle pushes meanwhile. */
	out->commit = USER_GIT_LINE(&b->git, "rev-parse", "--verify", "-q", peeled);
	if (!out->commit)
		return err_set(e, -ENOENT, "%s is no commit that git can read", out->ref);
	out->base = USER_GIT_LINE(&b->git, "merge-base", "HEAD", out->commit);
	out->from = out->base ? mem_strdup(out->base)
			      : USER_GIT_LINE(&b->git, "hash-object", "-t", "tree", "/dev/null");
	if (!out->from)
		return err_set(e, -EIO, "git does not know the empty tree");
	range = out->base ? mem_printf("%s..%s", out->base, out->commit) : mem_strdup(out->commit);
	count = USER_GIT_LINE(&b->git, "rev-list", "--count", range);
	if (count && str_to_u64(str_of(count), UINT32_MAX, &n) == 0)
		out->n_commits = (size_t)n;
	return look_files(b, out, e);
}

void branches_change_free(struct branches_change *c)
{
	for (size_t i = 0; i < c->n; i++) {
		free(c->files[i].path);
		free(c->files[i].why);
	}
	free(c->files);
	free(c->name);
	free(c->ref);
	free(c->commit);
	free(c->base);
	free(c->from);
	*c = (struct branches_change){0};
}

int branches_file_line(const struct branches_file *f, struct buf *out)
{
	int r = buf_printf(out, "  %c %s", f->status, f->is_risky ? "! " : "  ");

	if (r == 0)
		r = text_visible(out, str_of(f->path), FILE_PATH_SHOWN);
	return r == 0 && f->why ? buf_printf(out, "  %s", f->why) : r;
}

static int json_text(struct buf *out, const char *key, const char *value)
{
	int r = buf_printf(out, "\"%s\":", key);

	if (r == 0)
		r = value ? text_json(out, str_of(value)) : buf_append_str(out, STR_LIT("null"));
	return r == 0 ? buf_append(out, ",", 1) : r;
}

int branches_change_json(const struct branches_change *c, struct buf *out)
{
	int r = buf_append(out, "{", 1);

	if (r == 0)
		r = json_text(out, "branch", c->name);
	if (r == 0)
		r = json_text(out, "ref", c->ref);
	if (r == 0)
		r = json_text(out, "commit", c->commit);
	if (r == 0)
		r = json_text(out, "base", c->base);
	if (r == 0)
		r = buf_printf(out, "\"commits\":%zu,\"risky\":%zu,\"cut\":%s,\"files\":[",
			       c->n_commits, c->n_risky, c->was_cut ? "true" : "false");
	for (size_t i = 0; r == 0 && i < c->n; i++) {
		const struct branches_file *f = &c->files[i];

		r = buf_append_str(out, i ? STR_LIT(",\n{") : STR_LIT("\n{"));
		if (r == 0)
			r = json_text(out, "path", f->path);
		if (r == 0)
			r = json_text(out, "why", f->why);
		if (r == 0)
			r = buf_printf(out, "\"status\":\"%c\",\"mode\":\"%06o\",\"risky\":%s}",
				       f->status, f->mode, f->is_risky ? "true" : "false");
	}
	return r == 0 ? buf_append_str(out, STR_LIT("]}")) : r;
}
