/*
 * Which folder the agent gets to work on, found with plain looks at files: nothing of a repository
 * is run or believed here that could lead somewhere else.
 *
 * The folder may hold a stranger's files. A ".git" that is a link, or a file that names a folder
 * which does not name it back, could make another repository of the user's stand for it, so neither
 * is taken. The home and what lies above it are never a workspace: a repository there is the user's
 * settings.
 */
#include "conf/plan_build.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/text.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#define SMALL_FILE_MAX	8192
#define PACKED_REFS_MAX (64u << 20)
#define OID_HEX		40

static const char *const workspace_names[] = {
	[PLAN_WORKSPACE_NONE] = "none",
	[PLAN_WORKSPACE_CLONE] = "clone",
	[PLAN_WORKSPACE_MOUNT] = "mount",
};
static_assert(ARRAY_LEN(workspace_names) == PLAN_WORKSPACE_COUNT, "one name for each");

const char *plan_workspace_name(enum plan_workspace w)
{
	return w < PLAN_WORKSPACE_COUNT ? workspace_names[w] : "unknown";
}

bool plan_workspace_parse(struct str name, enum plan_workspace *out)
{
	for (unsigned i = 0; i < PLAN_WORKSPACE_COUNT; i++) {
		if (!str_eq(name, str_of(workspace_names[i])))
			continue;
		*out = (enum plan_workspace)i;
		return true;
	}
	return false;
}

/* --- where --- */

/* "/", the home, or a folder that the home lies in. */
static bool is_too_high(const char *path, const char *home)
{
	size_t n = strlen(path);

	return strcmp(path, "/") == 0 ||
	       (home && strncmp(home, path, n) == 0 && (home[n] == '\0' || home[n] == '/'));
}

static bool has_git(const char *folder)
{
	_cleanup_free_ char *path = mem_printf("%s/.git", folder);
	struct stat st;

	return lstat(path, &st) == 0;
}

/* folder, or the nearest one above it with a ".git" below the home; else NULL. The caller frees. */
static char *find_top(const char *folder, const char *home)
{
	char *path = mem_strdup(folder);

	while (!is_too_high(path, home)) {
		char *slash = strrchr(path, '/');

		if (has_git(path))
			return path;
		if (!slash || slash == path)
			break;
		*slash = '\0';
	}
	free(path);
	return NULL;
}

/* --- is it a repository with a commit --- */

/* One line, without its newline; false for anything else. */
static bool read_line(const char *folder, const char *name, char *out, size_t size)
{
	_cleanup_free_ char *path = mem_printf("%s/%s", folder, name);
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	_cleanup_free_ char *text = NULL;
	struct stat st;
	struct str s;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) ||
	    io_read_all(fd, SMALL_FILE_MAX, &s, NULL) < 0)
		return false;
	text = (char *)(uintptr_t)s.p;
	while (s.n > 0 && (s.p[s.n - 1] == '\n' || s.p[s.n - 1] == '\r'))
		s.n--;
	return s.n > 0 && str_chr(s, '\n') == s.n && str_to_cstr(out, size, s);
}

/* Resolved, below base when it is relative; false when it is not there. */
static bool resolve(const char *base, const char *path, char out[PATH_MAX])
{
	_cleanup_free_ char *full =
		path[0] == '/' ? mem_strdup(path) : mem_printf("%s/%s", base, path);

	return realpath(full, out) != NULL;
}

/* A worktree's folder names the worktree's ".git" in its turn. */
static bool names_back(const char *git_dir, const char *top)
{
	_cleanup_free_ char *own = mem_printf("%s/.git", top);
	char line[PATH_MAX], back[PATH_MAX];

	return read_line(git_dir, "gitdir", line, sizeof(line)) && resolve(git_dir, line, back) &&
	       strcmp(back, own) == 0;
}

/* A submodule's folder lies in the ".git/modules" of a repository that the submodule lies in. */
static bool is_submodule(const char *git_dir, const char *top)
{
	const char *at = strstr(git_dir, "/.git/modules/");
	size_t n = at ? (size_t)(at - git_dir) : 0;

	return at && strncmp(top, git_dir, n) == 0 && top[n] == '/';
}

/* The folder that ".git" of top is or names. */
static bool find_git_dir(const char *top, char out[PATH_MAX], const char **why)
{
	_cleanup_free_ char *path = mem_printf("%s/.git", top);
	char line[PATH_MAX];
	struct stat st;

	*why = "has a \".git\" that belongs to another user";
	if (lstat(path, &st) < 0 || st.st_uid != geteuid())
		return false;
	if (S_ISDIR(st.st_mode)) {
		(void)snprintf(out, PATH_MAX, "%s", path);
		return strlen(path) < PATH_MAX;
	}
	*why = "has a \".git\" that is neither a folder nor the file of a worktree or submodule";
	if (!S_ISREG(st.st_mode) || !read_line(top, ".git", line, sizeof(line)) ||
	    strncmp(line, "gitdir: ", 8) != 0 || !resolve(top, line + 8, out))
		return false;
	*why = "has a \".git\" that names a folder that does not name it back";
	return names_back(out, top) || is_submodule(out, top);
}

static bool is_oid(const char *text)
{
	return strspn(text, "0123456789abcdef") == OID_HEX && text[OID_HEX] == '\0';
}

/* A line "OID REF". */
static bool is_packed(const char *common, const char *ref)
{
	_cleanup_free_ char *path = mem_printf("%s/packed-refs", common);
	_cleanup_free_ char *text = NULL, *tail = mem_printf(" %s", ref);
	struct str rest, line;
	bool more = true;

	if (io_read_file(AT_FDCWD, path, PACKED_REFS_MAX, &rest, NULL) < 0)
		return false;
	text = (char *)(uintptr_t)rest.p;
	while (more) {
		rest = str_cut(rest, '\n', &line, &more);
		if (line.n == OID_HEX + strlen(tail) && str_ends(line, str_of(tail)))
			return true;
	}
	return false;
}

static bool has_commit(const char *git_dir)
{
	char head[PATH_MAX], common[PATH_MAX], line[PATH_MAX];

	if (!read_line(git_dir, "HEAD", head, sizeof(head)))
		return false;
	if (is_oid(head))
		return true;
	if (strncmp(head, "ref: ", 5) != 0 || !git_ref_is_valid(str_of(head + 5)))
		return false;
	/* Of a worktree, the branches are the main folder's. */
	if (!read_line(git_dir, "commondir", line, sizeof(line)))
		(void)snprintf(common, sizeof(common), "%s", git_dir);
	else if (!resolve(git_dir, line, common))
		return false;
	if (read_line(common, head + 5, line, sizeof(line)))
		return is_oid(line);
	return is_packed(common, head + 5);
}

/* NULL: it can be cloned; else why not. */
static const char *why_not(const char *top)
{
	char git_dir[PATH_MAX];
	const char *why;

	if (!find_git_dir(top, git_dir, &why))
		return why;
	return has_commit(git_dir) ? NULL
				   : "has no commit yet (or keeps its refs in a form that is "
				     "not read here: SHA-256, reftable)";
}

/* --- the answer --- */

static int refuse(const char *folder, const char *why, struct err *e)
{
	char shown[512];

	text_visible_cstr(shown, sizeof(shown), str_of(folder));
	return err_set(e, -EINVAL,
		       "the workspace cannot be cloned: \"%s\" %s; go to a repository, or give "
		       "\"--workspace none\"",
		       shown, why);
}

static int set_clone(struct plan *p, const char *folder, const char *home, bool is_asked_for,
		     struct err *e)
{
	_cleanup_free_ char *top = find_top(folder, home);
	const char *why = top ? why_not(top)
			      : "is no git repository, nor is a folder above it (the "
				"home and what lies above it are never one)";

	if (top && !why) {
		p->workspace = PLAN_WORKSPACE_CLONE;
		p->workspace_path = take_ptr(&top);
		return 0;
	}
	return is_asked_for ? refuse(top ? top : folder, why, e) : 0;
}

static int set_mount(struct plan *p, const char *folder, const char *home, struct err *e)
{
	char *top = find_top(folder, home);

	if (!top && is_too_high(folder, home))
		return err_set(e, -EINVAL,
			       "the workspace cannot be mounted: \"%s\" is the home or lies above "
			       "it; go to the folder of one project",
			       folder);
	p->workspace = PLAN_WORKSPACE_MOUNT;
	p->workspace_path = top ? top : mem_strdup(folder);
	return 0;
}

/* The option, the manifest, what a former run had; *is_asked_for is false for what is only tried.
 */
static int choose(const struct manifest_bottle *b, const struct plan_options *opt,
		  enum plan_workspace *out, bool *is_asked_for, struct err *e)
{
	const char *name = opt->workspace;

	*out = PLAN_WORKSPACE_CLONE;
	*is_asked_for = true;
	if (!name && b->says_workspace) {
		*out = b->workspace;
		return 0;
	}
	if (!name)
		name = opt->workspace_default;
	if (name && !plan_workspace_parse(str_of(name), out)) {
		char shown[64];

		text_visible_cstr(shown, sizeof(shown), str_of(name));
		return err_set(e, -EINVAL, "unknown workspace \"%s\"; known are clone, mount, none",
			       shown);
	}
	*is_asked_for = name != NULL;
	return 0;
}

int plan_fill_workspace(struct plan *p, const struct manifest_bottle *b,
			const struct plan_options *opt, struct err *e)
{
	const char *given = opt->workspace_folder ? opt->workspace_folder : opt->cwd;
	_cleanup_free_ char *folder = given ? realpath(given, NULL) : NULL;
	_cleanup_free_ char *home = opt->home ? realpath(opt->home, NULL) : NULL;
	enum plan_workspace wanted;
	bool is_asked_for;
	int ret = choose(b, opt, &wanted, &is_asked_for, e);

	p->workspace = PLAN_WORKSPACE_NONE;
	if (ret < 0 || wanted == PLAN_WORKSPACE_NONE || (!folder && !is_asked_for))
		return ret;
	if (!folder)
		return err_set(e, -ENOENT, "the folder of the workspace is not there: %s",
			       given ? given : "none is known");
	if (wanted == PLAN_WORKSPACE_MOUNT)
		return set_mount(p, folder, home, e);
	return set_clone(p, folder, home, is_asked_for, e);
}
