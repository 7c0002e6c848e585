/*
 * The home may be one that an earlier agent has furnished (resume): a link or a FIFO where a file
 * or a folder is wanted must lead nowhere. Folders are opened one by one without following; a file
 * is made beside its place and renamed over whatever is there.
 */
#include "guest/guest_int.h"

#include "base/clean.h"
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#define FILES_PART ".claude-bottle.part"

static int files_open_folder(int parent, const char *name, mode_t mode, struct err *e)
{
	int fd;

	if (mkdirat(parent, name, mode) < 0 && errno != EEXIST)
		return err_errno(e, "make the folder \"%s\"", name);
	fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? err_errno(e, "open the folder \"%s\"", name) : fd;
}

/* Somebody has mounted a file at the name: it is changed as it is. */
static int files_write_mounted(int folder, const char *name, const struct guest_file *f)
{
	_cleanup_close_ int fd = openat(folder, name, O_WRONLY | O_TRUNC | O_NOFOLLOW | O_CLOEXEC);
	int ret = fd < 0 ? -errno : io_write_all(fd, f->text.p, f->text.n);

	return ret < 0 ? ret : fchmod(fd, f->mode) < 0 ? -errno : 0;
}

static int files_write_at(int folder, const char *name, const struct guest_file *f, struct err *e)
{
	_cleanup_close_ int fd = -1;
	int ret;

	if (unlinkat(folder, FILES_PART, 0) < 0 && errno != ENOENT)
		return err_errno(e, "remove \"%s\"", FILES_PART);
	fd = openat(folder, FILES_PART, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_errno(e, "make \"%s\"", f->path);
	ret = io_write_all(fd, f->text.p, f->text.n);
	if (ret == 0 && (fchmod(fd, f->mode) < 0 || renameat(folder, FILES_PART, folder, name) < 0))
		ret = -errno;
	if (ret < 0)
		(void)unlinkat(folder, FILES_PART, 0);
	if (ret == -EBUSY)
		ret = files_write_mounted(folder, name, f);
	if (ret < 0) {
		errno = -ret;
		return err_errno(e, "write \"%s\"", f->path);
	}
	return 0;
}

static int files_write_one(int root, mode_t folder_mode, const struct guest_file *f, struct err *e)
{
	_cleanup_close_ int folder = fcntl(root, F_DUPFD_CLOEXEC, 3);
	struct str rest = str_of(f->path), part;
	char name[256];
	bool more;

	if (folder < 0)
		return err_errno(e, "dup");
	for (;;) {
		int next;

		rest = str_cut(rest, '/', &part, &more);
		if (!str_to_cstr(name, sizeof(name), part))
			return err_set(e, -ENAMETOOLONG, "\"%s\": a name is too long", f->path);
		if (!more)
			return files_write_at(folder, name, f, e);
		next = files_open_folder(folder, name, folder_mode, e);
		if (next < 0)
			return err_prefix(e, "\"%s\"", f->path);
		close_fd(&folder);
		folder = next;
	}
}

int files_write(const char *root, mode_t folder_mode, const struct guest_file *files, size_t n,
		struct err *e)
{
	_cleanup_close_ int fd = -1;

	if (n == 0)
		return 0;
	if (!root || root[0] != '/')
		return err_set(e, -EINVAL, "the container has no $HOME for the agent's files");
	fd = open(root, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return err_errno(e, "open \"%s\"", root);
	for (size_t i = 0; i < n; i++) {
		int ret = files_write_one(fd, folder_mode, &files[i], e);

		if (ret < 0)
			return ret;
	}
	return 0;
}
