/*
 * The repository that the bottle finds in `.git`'s place: HEAD, index and refs as the host's were
 * at the start, a configuration of a few harmless keys, and no object but those that the agent
 * makes; the rest it borrows from the host's, which are mounted read-only.
 *
 * Why not the host's own with its dangerous files read-only: whoever may write a part of `.git` can
 * plant a commondir, a rebase that waits with "exec" lines, replaced objects, remotes of the old
 * form; a file that is mounted over loses its mount when the host's git renames a new one into its
 * place, as each `git config` does; and a configuration may hold the human's credentials. So the
 * agent has all of git, and the host's git nothing of the agent's. Its commits leave by git-gate.
 */
#include "workspace/workspace_int.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"
#include "workspace/user_git.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#define GITDIR_REFS_MAX	 (64u << 20)
#define GITDIR_INDEX_MAX (512u << 20)

static int put_file(int dir, const char *name, struct str text, struct err *e)
{
	_cleanup_close_ int fd =
		openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	int ret;

	if (fd < 0)
		return err_errno(e, "make \"%s\" of the bottle's repository", name);
	ret = io_write_all(fd, text.p, text.n);
	return ret < 0 ? err_set(e, ret, "write \"%s\" of the bottle's repository", name) : 0;
}

/* A file of the host's repository, where there is one. */
static int copy_file(const struct user_git *g, int dir, const char *from, const char *to,
		     struct err *e)
{
	_cleanup_free_ char *path = USER_GIT_LINE(g, "rev-parse", "--git-path", from);
	_cleanup_close_ int at = open(g->folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	_cleanup_close_ int fd = -1;
	_cleanup_free_ char *text = NULL;
	struct str s;
	int ret;

	if (!path || at < 0)
		return 0;
	fd = openat(at, path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return 0;
	ret = io_read_all(fd, GITDIR_INDEX_MAX, &s, e);
	if (ret < 0)
		return err_prefix(e, "%s of the repository", from);
	text = (char *)(uintptr_t)s.p;
	return put_file(dir, to, s, e);
}

/* A split index names a second file. */
static int copy_index(const struct user_git *g, int dir, struct err *e)
{
	_cleanup_free_ char *shared = USER_GIT_LINE(g, "rev-parse", "--shared-index-path");
	const char *name = shared ? strrchr(shared, '/') : NULL;
	int ret = copy_file(g, dir, "index", "index", e);

	if (ret == 0 && shared)
		ret = copy_file(g, dir, name ? name + 1 : shared, name ? name + 1 : shared, e);
	return ret;
}

static int put_head(const struct user_git *g, int dir, struct err *e)
{
	_cleanup_free_ char *symbolic = USER_GIT_LINE(g, "symbolic-ref", "-q", "HEAD");
	_cleanup_free_ char *commit =
		symbolic ? NULL : USER_GIT_LINE(g, "rev-parse", "--verify", "-q", "HEAD");
	_cleanup_free_ char *text = symbolic ? mem_printf("ref: %s\n", symbolic)
				    : commit ? mem_printf("%s\n", commit)
					     : mem_strdup("ref: refs/heads/main\n");

	return put_file(dir, "HEAD", str_of(text), e);
}

static int put_refs(const struct user_git *g, int dir, struct err *e)
{
	_cleanup_(buf_free) struct buf refs;
	int ret;

	buf_init(&refs, GITDIR_REFS_MAX);
	/* What packed-refs wants, sorted by name. */
	ret = USER_GIT(g, &refs, NULL, e, "for-each-ref", "--sort=refname",
		       "--format=%(objectname) %(refname)", "refs/heads", "refs/tags",
		       "refs/remotes");
	return ret < 0 ? ret : put_file(dir, "packed-refs", buf_str(&refs), e);
}

/* Of the host's configuration: what says how the work tree's files look. Words only. */
static int put_config_keys(const struct user_git *g, struct buf *out)
{
	static const char *const keys[] = {
		"filemode", "ignorecase", "symlinks",	    "autocrlf",
		"eol",	    "safecrlf",	  "sparsecheckout", "sparsecheckoutcone"};
	int ret = 0;

	for (size_t i = 0; ret == 0 && i < ARRAY_LEN(keys); i++) {
		_cleanup_free_ char *key = mem_printf("core.%s", keys[i]);
		_cleanup_free_ char *value = USER_GIT_LINE(g, "config", "--get", key);

		if (value && strspn(value, "abcdefghijklmnopqrstuvwxyz") == strlen(value))
			ret = buf_printf(out, "\t%s = %s\n", keys[i], value);
	}
	return ret;
}

static int put_config(const struct user_git *g, int dir, struct err *e)
{
	_cleanup_free_ char *format = USER_GIT_LINE(g, "rev-parse", "--show-object-format");
	bool is_other = format && strcmp(format, "sha256") == 0;
	_cleanup_(buf_free) struct buf out;
	int ret;

	buf_init(&out, 65536);
	ret = buf_printf(&out,
			 "[core]\n\trepositoryformatversion = %d\n\tbare = false\n"
			 "\tlogallrefupdates = true\n",
			 is_other ? 1 : 0);
	if (ret == 0)
		ret = put_config_keys(g, &out);
	/* What is borrowed cannot be packed away. */
	if (ret == 0)
		ret = buf_printf(&out, "[gc]\n\tauto = 0\n");
	if (ret == 0 && is_other)
		ret = buf_printf(&out, "[extensions]\n\tobjectFormat = sha256\n");
	return ret < 0 ? err_set(e, ret, "the bottle's repository")
		       : put_file(dir, "config", buf_str(&out), e);
}

static int make_folders(int dir, struct err *e)
{
	static const char *const folders[] = {"objects", "objects/info", "objects/pack",
					      "refs",	 "refs/heads",	 "refs/tags",
					      "info",	 "hooks"};

	for (size_t i = 0; i < ARRAY_LEN(folders); i++)
		if (mkdirat(dir, folders[i], 0700) < 0)
			return err_errno(e, "make the bottle's repository");
	return 0;
}

static int fill(const struct user_git *g, int dir, struct err *e)
{
	int ret = make_folders(dir, e);

	if (ret == 0)
		ret = put_config(g, dir, e);
	if (ret == 0)
		ret = put_head(g, dir, e);
	if (ret == 0)
		ret = put_refs(g, dir, e);
	if (ret == 0)
		ret = copy_index(g, dir, e);
	if (ret == 0)
		ret = copy_file(g, dir, "shallow", "shallow", e);
	if (ret == 0)
		ret = copy_file(g, dir, "info/exclude", "info/exclude", e);
	if (ret == 0)
		ret = copy_file(g, dir, "info/sparse-checkout", "info/sparse-checkout", e);
	if (ret == 0)
		ret = put_file(dir, "objects/info/alternates", STR_LIT(WORKSPACE_OBJECTS "\n"), e);
	return ret;
}

/* What the host's objects borrow from themselves, however many steps away. */
static int find_alternates(struct workspace *w, const struct user_git *g, struct err *e)
{
	_cleanup_(buf_free) struct buf said;
	struct str rest, line;
	bool found = true;
	size_t cap = 0;
	int ret;

	buf_init(&said, 1u << 20);
	ret = USER_GIT(g, &said, NULL, e, "count-objects", "-v");
	if (ret < 0)
		return ret;
	rest = buf_str(&said);
	while (found && rest.n) {
		rest = str_cut(rest, '\n', &line, &found);
		if (!str_starts(line, STR_LIT("alternate: /")))
			continue;
		w->alternates = mem_grow_array(w->alternates, &cap, w->n_alternates + 1,
					       sizeof(*w->alternates));
		w->alternates[w->n_alternates++] = str_dup(str_sub(line, 11, line.n));
	}
	return 0;
}

/* NULL: the folder is no repository's top. */
static char *find_objects(const struct workspace *w, const struct user_git *g)
{
	_cleanup_free_ char *top = USER_GIT_LINE(g, "rev-parse", "--show-toplevel");
	_cleanup_free_ char *path = USER_GIT_LINE(g, "rev-parse", "--git-path", "objects");
	_cleanup_free_ char *whole = NULL;

	if (!top || !path || strcmp(top, w->path) != 0)
		return NULL;
	whole = path[0] == '/' ? mem_strdup(path) : mem_printf("%s/%s", w->path, path);
	return realpath(whole, NULL);
}

int gitdir_make(struct workspace *w, const char *dir_path, bool is_file, struct err *e)
{
	struct user_git g = {.folder = w->path, .uid = w->uid, .gid = w->gid};
	_cleanup_close_ int dir = -1;
	int ret = 0;

	w->git_dir = mem_printf("%s/git", dir_path);
	if (is_file)
		w->git_file = mem_printf("%s/gitfile", dir_path);
	w->objects = find_objects(w, &g);
	if (is_file && !w->objects)
		return err_set(e, -EINVAL,
			       "the workspace's \".git\" is a file that git does not "
			       "understand");
	if (w->objects)
		ret = find_alternates(w, &g, e);
	if (ret < 0)
		return ret;
	/* In a bottle that is resumed it is the agent's by now, and stays as it was left. */
	if (mkdir(w->git_dir, 0700) < 0)
		return errno == EEXIST ? 0 : err_errno(e, "make the bottle's repository");
	dir = open(w->git_dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0)
		return err_errno(e, "open the bottle's repository");
	if (w->objects)
		ret = fill(&g, dir, e);
	return ret < 0 ? err_prefix(e, "the workspace's repository") : 0;
}
