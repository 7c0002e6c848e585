#include "backend/git_folder.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#ifndef GIT_FOLDER_TOP /* the tests have another one */
#define GIT_FOLDER_TOP "/var/lib/claude-bottle"
#endif
#define GIT_FOLDER_ROOT	    GIT_FOLDER_TOP "/git"
#define GIT_FOLDER_NOTE	    ".of"
#define GIT_FOLDER_IN_STATE "git"

/* A folder of ours that the roles walk through, whatever the umask says. */
static int open_way(const char *path, struct err *e)
{
	_cleanup_close_ int fd = -1;
	struct stat st;
	int ret = io_mkdir_p(path, 0711, e);

	if (ret < 0)
		return ret;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(e, "open \"%s\"", path);
	if ((st.st_mode & 0111) != 0111 && fchmod(fd, (st.st_mode | 0111) & 0777) < 0)
		return err_errno(e, "open \"%s\" to the roles", path);
	return 0;
}

/* The folder of all bottles', which no other user may change. -ENOENT without an error when it is
 * not there and not to be made. */
static int open_root(bool may_make, struct err *e)
{
	_cleanup_close_ int fd = -1;
	struct stat st;
	int ret = may_make ? open_way(GIT_FOLDER_TOP, e) : 0;

	if (ret == 0 && may_make)
		ret = open_way(GIT_FOLDER_ROOT, e);
	if (ret < 0)
		return ret;
	fd = open(GIT_FOLDER_ROOT, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return -ENOENT;
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(e, "open \"" GIT_FOLDER_ROOT "\"");
	if (st.st_uid != geteuid() || (st.st_mode & 0022))
		return err_set(e, -EPERM,
			       "\"" GIT_FOLDER_ROOT
			       "\" can be changed by others (uid %u, mode %03o)",
			       (unsigned)st.st_uid, (unsigned)(st.st_mode & 0777));
	return take_fd(&fd);
}

/* The state folder that a note names; NULL: no such note, or not one of ours. */
static char *read_note(int root, const char *name)
{
	_cleanup_free_ char *text = NULL;
	struct str line, s;
	bool found;

	if (io_read_file(root, name, BACKEND_PATH_MAX, &s, NULL) < 0)
		return NULL;
	text = (char *)(uintptr_t)s.p;
	(void)str_cut(s, '\n', &line, &found);
	return found && line.n > 0 && line.p[0] == '/' ? str_dup(line) : NULL;
}

static bool is_gone(const char *path)
{
	struct stat st;

	return lstat(path, &st) < 0 && errno == ENOENT;
}

/* Before there is anything that it tells of. */
static int write_note(int root, const char *slug, const char *state_dir, struct err *e)
{
	_cleanup_free_ char *name = mem_printf("%s" GIT_FOLDER_NOTE, slug);
	_cleanup_free_ char *text = mem_printf("%s\n", state_dir);
	_cleanup_free_ char *was = read_note(root, name);

	if (was && strcmp(was, state_dir) != 0 && !is_gone(was))
		return err_set(e, -EEXIST,
			       "\"" GIT_FOLDER_ROOT "/%s\" belongs to the bottle in \"%s\"", slug,
			       was);
	return io_write_file_atomic(root, name, str_of(text), 0600, e);
}

static int make_apart(const char *slug, const char *state_dir, unsigned uid, char *out,
		      struct err *e)
{
	_cleanup_close_ int root = open_root(true, e);
	int ret = root < 0 ? root : write_note(root, slug, state_dir, e);

	if (ret == 0)
		ret = io_remove_tree(root, slug, e);
	if (ret < 0)
		return ret;
	if (mkdirat(root, slug, 0700) < 0 ||
	    fchownat(root, slug, uid, uid, AT_SYMLINK_NOFOLLOW) < 0)
		return err_errno(e, "make \"" GIT_FOLDER_ROOT "/%s\"", slug);
	(void)snprintf(out, BACKEND_PATH_MAX, GIT_FOLDER_ROOT "/%s", slug);
	return 0;
}

int git_folder_make(const char *slug, const char *state_dir, unsigned uid,
		    char out[BACKEND_PATH_MAX], struct err *e)
{
	int n, ret;

	out[0] = '\0';
	if (uid != 0)
		return make_apart(slug, state_dir, uid, out, e);
	n = snprintf(out, BACKEND_PATH_MAX, "%s/" GIT_FOLDER_IN_STATE, state_dir);
	if (n < 0 || n >= BACKEND_PATH_MAX)
		return err_set(e, -ENAMETOOLONG, "the state folder's path is too long");
	ret = io_remove_tree(AT_FDCWD, out, e);
	if (ret == 0 && mkdir(out, 0700) < 0)
		ret = err_errno(e, "make \"%s\"", out);
	return ret;
}

/* The note goes last: as long as it is there, somebody will come for the folder. */
static int remove_noted(int root, const char *slug, const char *note, struct err *e)
{
	int ret = io_remove_tree(root, slug, e);

	if (ret == 0 && unlinkat(root, note, 0) < 0 && errno != ENOENT)
		ret = err_errno(e, "remove \"" GIT_FOLDER_ROOT "/%s\"", note);
	return ret;
}

int git_folder_remove(const char *slug, const char *state_dir, struct err *e)
{
	_cleanup_free_ char *own = mem_printf("%s/" GIT_FOLDER_IN_STATE, state_dir);
	_cleanup_free_ char *note = mem_printf("%s" GIT_FOLDER_NOTE, slug), *of = NULL;
	_cleanup_close_ int root = -1;
	int ret = io_remove_tree(AT_FDCWD, own, e);

	if (ret < 0 || geteuid() != 0)
		return ret;
	root = open_root(false, e);
	if (root < 0)
		return root == -ENOENT ? 0 : root;
	of = read_note(root, note);
	return of && strcmp(of, state_dir) == 0 ? remove_noted(root, slug, note, e) : 0;
}

int git_folder_sweep(const char *state_root, bool is_dry, size_t *n, struct err *e)
{
	_cleanup_free_ char *below = mem_printf("%s/", state_root);
	_cleanup_closedir_ DIR *dir = NULL;
	struct dirent *entry;
	int root, first = 0;

	*n = 0;
	if (geteuid() != 0)
		return 0;
	root = open_root(false, e);
	if (root < 0)
		return root == -ENOENT ? 0 : root;
	dir = fdopendir(root);
	if (!dir) {
		(void)close(root);
		return err_errno(e, "read \"" GIT_FOLDER_ROOT "\"");
	}
	while ((entry = readdir(dir))) {
		struct str name = str_of(entry->d_name);
		_cleanup_free_ char *of = NULL, *slug = NULL;
		int ret;

		if (!str_ends(name, STR_LIT(GIT_FOLDER_NOTE)))
			continue;
		of = read_note(root, entry->d_name);
		if (!of || !str_starts(str_of(of), str_of(below)) || !is_gone(of))
			continue;
		(*n)++;
		slug = str_dup(str_sub(name, 0, name.n - strlen(GIT_FOLDER_NOTE)));
		ret = is_dry ? 0 : remove_noted(root, slug, entry->d_name, first == 0 ? e : NULL);
		first = first == 0 ? ret : first;
	}
	return first;
}
