#include "backend/host_repo.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#define REPO_LINE_MAX	     PATH_MAX
#define REPO_PACKED_MAX	     (256u << 20)
#define REPO_CONFIG_MAX	     (1u << 20)
#define REPO_ALTERNATES_DEEP 5 /* as git */

static bool is_folder(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static bool is_below(const char *folder, const char *name)
{
	_cleanup_free_ char *path = mem_printf("%s/%s", folder, name);

	return access(path, F_OK) == 0;
}

static bool is_git_dir(const char *folder)
{
	return is_below(folder, "HEAD") &&
	       (is_below(folder, "commondir") ||
		(is_below(folder, "objects") && is_below(folder, "refs")));
}

/* The first line of a small file, without its end; NULL when there is none. The caller frees. */
static char *read_line(const char *path)
{
	_cleanup_free_ char *text = NULL;
	struct str line, s;
	bool found;

	if (io_read_file(AT_FDCWD, path, REPO_LINE_MAX, &s, NULL) < 0)
		return NULL;
	text = (char *)(uintptr_t)s.p;
	(void)str_cut(s, '\n', &line, &found);
	while (line.n > 0 && (line.p[line.n - 1] == '\r' || line.p[line.n - 1] == ' '))
		line.n--;
	return line.n > 0 && !memchr(line.p, '\0', line.n) ? str_dup(line) : NULL;
}

/* name as seen from folder, without links; NULL when it is not there. */
static char *resolve(const char *folder, const char *name)
{
	_cleanup_free_ char *path =
		name[0] == '/' ? mem_strdup(name) : mem_printf("%s/%s", folder, name);

	return realpath(path, NULL);
}

/* --- where it is --- */

/* A ".git" is a folder, or a file that names one (work trees, submodules). */
static int take_dot_git(struct host_repo *r, const char *top, const char *dot_git, struct err *e)
{
	_cleanup_free_ char *line = NULL;

	if (is_folder(dot_git)) {
		r->git_dir = realpath(dot_git, NULL);
	} else {
		line = read_line(dot_git);
		if (line && str_starts(str_of(line), STR_LIT("gitdir: ")))
			r->git_dir = resolve(top, line + strlen("gitdir: "));
	}
	if (!r->git_dir || !is_git_dir(r->git_dir))
		return err_set(e, -ENOENT, "\"%s\" is not a git repository", dot_git);
	r->top = mem_strdup(top);
	return 0;
}

static int find_git_dir(struct host_repo *r, const char *path, struct err *e)
{
	_cleanup_free_ char *at = realpath(path, NULL);

	if (!at)
		return err_errno(e, "the workspace \"%s\"", path);
	for (;;) {
		_cleanup_free_ char *dot_git = mem_printf("%s/.git", at);
		char *slash = strrchr(at, '/');

		if (access(dot_git, F_OK) == 0)
			return take_dot_git(r, at, dot_git, e);
		if (is_git_dir(at)) {
			r->git_dir = mem_strdup(at);
			r->top = mem_strdup(at);
			return 0;
		}
		if (!slash || slash == at)
			break;
		*slash = '\0';
	}
	return err_set(
		e, -ENOENT,
		"\"%s\" is in no git repository, which workspace: clone needs: git init, and "
		"commit what the agent is to have",
		path);
}

/* --- what belongs to it --- */

static int add_alternates(struct host_repo *r, const char *objects, unsigned depth, struct err *e)
{
	_cleanup_free_ char *path = mem_printf("%s/info/alternates", objects), *text = NULL;
	struct str rest = STR_NULL, line;
	bool found = true;
	int ret = 0;

	if (io_read_file(AT_FDCWD, path, REPO_LINE_MAX * HOST_REPO_ALTERNATES_MAX, &rest, NULL) < 0)
		return 0;
	text = (char *)(uintptr_t)rest.p;
	while (ret == 0 && found) {
		_cleanup_free_ char *name = NULL, *folder = NULL;
		bool is_known = false;

		rest = str_cut(rest, '\n', &line, &found);
		if (line.n == 0 || line.p[0] == '#' || line.p[0] == '"')
			continue;
		name = str_dup(line);
		folder = resolve(objects, name);
		for (size_t i = 0; folder && i < r->n_alternates; i++)
			is_known |= strcmp(r->alternates[i], folder) == 0;
		if (!folder || is_known || !is_folder(folder))
			continue;
		if (r->n_alternates == HOST_REPO_ALTERNATES_MAX || depth == REPO_ALTERNATES_DEEP)
			return err_set(e, -E2BIG,
				       "\"%s\": the repository borrows from too many others", path);
		r->alternates[r->n_alternates++] = mem_strdup(folder);
		ret = add_alternates(r, folder, depth + 1, e);
	}
	return ret;
}

/* extensions.objectFormat, in whatever case, without its section: nothing else has that name. */
static bool is_sha256(const struct host_repo *r)
{
	_cleanup_free_ char *path = mem_printf("%s/config", r->common_dir), *text = NULL;
	struct str rest = STR_NULL, line;
	bool found = true;

	if (io_read_file(AT_FDCWD, path, REPO_CONFIG_MAX, &rest, NULL) < 0)
		return false;
	text = (char *)(uintptr_t)rest.p;
	str_lower_into(text, rest);
	while (found) {
		rest = str_cut(rest, '\n', &line, &found);
		if (str_starts(str_trim(line), STR_LIT("objectformat")) &&
		    str_find(line, STR_LIT("sha256")) < line.n)
			return true;
	}
	return false;
}

static int fill(struct host_repo *r, struct err *e)
{
	_cleanup_free_ char *link = mem_printf("%s/commondir", r->git_dir);
	_cleanup_free_ char *line = read_line(link);
	struct stat st;

	r->common_dir = line ? resolve(r->git_dir, line) : mem_strdup(r->git_dir);
	r->objects = r->common_dir ? resolve(r->common_dir, "objects") : NULL;
	if (!r->objects)
		return err_set(e, -ENOENT, "\"%s\" is not a whole git repository", r->git_dir);
	if (stat(r->objects, &st) < 0)
		return err_errno(e, "stat \"%s\"", r->objects);
	/* What it is told to write would become ours in somebody else's repository; and what its
	 * configuration says, that somebody says. */
	if (st.st_uid != geteuid())
		return err_set(e, -EPERM,
			       "the repository \"%s\" belongs to uid %u, not to us (uid %u)",
			       r->top, (unsigned)st.st_uid, (unsigned)geteuid());
	r->mask = ~st.st_mode & 077;
	if (is_below(r->common_dir, "reftable"))
		return err_set(
			e, -ENOTSUP,
			"the repository \"%s\" keeps its refs in reftables, which workspace: "
			"clone does not know",
			r->top);
	if (is_sha256(r))
		return err_set(
			e, -ENOTSUP,
			"the repository \"%s\" has SHA-256 objects, which git-gate does not know",
			r->top);
	return add_alternates(r, r->objects, 0, e);
}

int host_repo_find(struct host_repo *out, const char *path, struct err *e)
{
	int ret;

	*out = (struct host_repo){0};
	ret = find_git_dir(out, path, e);
	if (ret == 0)
		ret = fill(out, e);
	if (ret < 0)
		host_repo_free(out);
	return ret;
}

void host_repo_free(struct host_repo *r)
{
	for (size_t i = 0; i < r->n_alternates; i++)
		free(r->alternates[i]);
	free(r->top);
	free(r->git_dir);
	free(r->common_dir);
	free(r->objects);
	*r = (struct host_repo){0};
}

/* --- the branch's name --- */

static bool is_packed(struct str packed, const char *ref)
{
	_cleanup_free_ char *tail = mem_printf(" %s\n", ref);

	return str_find(packed, str_of(tail)) < packed.n;
}

/* -EEXIST: a branch of that very name. */
static int check_name(const struct host_repo *r, struct str packed, const char *name,
		      const char *slug, struct err *e)
{
	_cleanup_free_ char *ref = mem_printf("refs/heads/%s", name);
	_cleanup_free_ char *path = mem_printf("%s/%s", r->common_dir, ref);
	struct stat st;

	if ((lstat(path, &st) < 0 || S_ISDIR(st.st_mode)) && !is_packed(packed, ref))
		return 0;
	return err_set(
		e, -EEXIST,
		"the repository \"%s\" has a branch named \"%s\", which stands in the way of "
		"\"bottle/%s/…\": rename it",
		r->top, name, slug);
}

int host_repo_check_branch(const struct host_repo *r, const char *slug, struct err *e)
{
	_cleanup_free_ char *path = mem_printf("%s/packed-refs", r->common_dir);
	_cleanup_free_ char *own = mem_printf("bottle/%s", slug), *text = NULL;
	struct str packed = STR_NULL;
	struct err failed = ERR_INIT;
	int ret = io_read_file(AT_FDCWD, path, REPO_PACKED_MAX, &packed, &failed);

	if (ret < 0 && ret != -ENOENT)
		return err_set(e, ret, "%s", failed.text);
	text = (char *)(uintptr_t)packed.p;
	ret = check_name(r, packed, "bottle", slug, e);
	return ret == 0 ? check_name(r, packed, own, slug, e) : ret;
}
