/*
 * What is exposed, as a disk: its files are copied into an archive, and that is turned into a
 * squashfs. Only what can be read is in it; a file that changes meanwhile is refused, since half
 * of the one and half of the other is neither.
 */
#include "vm/vm_int.h"

#include "image/tar.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

#define EXPOSE_DEPTH_MAX 128
#define EXPOSE_ENTRY	 1024 /* what an entry costs beside its content */

struct expose {
	int tar_fd;
	uint64_t left, max_bytes;
	char path[PATH_MAX]; /* of what is being added, absolute */
	unsigned depth;
	struct err *e;
};

/* Of the archive: without the slash in front. */
static const char *name_of(const struct expose *x)
{
	return x->path + 1;
}

static int failed(const struct expose *x, const char *what)
{
	return err_errno(x->e, "%s \"%.512s\", which is exposed", what, x->path);
}

static int spend(struct expose *x, uint64_t n)
{
	if (n > x->left)
		return err_set(x->e, -EFBIG,
			       "what is exposed is larger than %" PRIu64 " MB, at \"%.400s\"",
			       x->max_bytes >> 20, x->path);
	x->left -= n;
	return 0;
}

static int add_file(struct expose *x, int fd, const struct stat *st)
{
	uint64_t left = (uint64_t)st->st_size;
	int ret = spend(x, left);

	if (ret == 0)
		ret = tar_file_head(x->tar_fd, name_of(x), st->st_mode & 0777, left, x->e);
	while (ret == 0 && left > 0) {
		ssize_t n = sendfile(x->tar_fd, fd, NULL, left > SSIZE_MAX ? SSIZE_MAX : left);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return failed(x, "copy");
		if (n == 0)
			return err_set(x->e, -EAGAIN,
				       "\"%.512s\", which is exposed, became shorter while it was "
				       "read",
				       x->path);
		left -= (uint64_t)n;
	}
	return ret == 0 ? tar_pad(x->tar_fd, (uint64_t)st->st_size, x->e) : ret;
}

static int add_link(struct expose *x, int dir, const char *name)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(dir, name, target, sizeof(target) - 1);

	if (n < 0)
		return failed(x, "read");
	target[n] = '\0';
	return tar_link(x->tar_fd, name_of(x), target, x->e);
}

static int add_at(struct expose *x, int dir, const char *name);

static int add_folder(struct expose *x, int fd, const struct stat *st)
{
	_cleanup_closedir_ DIR *d = NULL;
	size_t n = strlen(x->path);
	const struct dirent *entry;
	int own, ret = 0;

	/* The root needs no entry: all of it would be too much anyhow. */
	if (n > 1)
		ret = tar_folder(x->tar_fd, name_of(x), st->st_mode & 0777, x->e);
	if (ret < 0)
		return ret;
	own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	d = own >= 0 ? fdopendir(own) : NULL;
	if (!d) {
		close_fd(&own);
		return failed(x, "list");
	}
	if (++x->depth > EXPOSE_DEPTH_MAX)
		return err_set(x->e, -ELOOP, "\"%.512s\", which is exposed, is too deep", x->path);
	while (ret == 0 && (errno = 0, entry = readdir(d)) != NULL) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		if (n + 1 + strlen(entry->d_name) >= sizeof(x->path))
			return err_set(x->e, -ENAMETOOLONG, "a path in \"%.512s\" is too long",
				       x->path);
		(void)snprintf(x->path + n, sizeof(x->path) - n, "%s%s", n > 1 ? "/" : "",
			       entry->d_name);
		ret = add_at(x, fd, entry->d_name);
		x->path[n] = '\0';
	}
	x->depth--;
	return ret == 0 && errno != 0 ? failed(x, "list") : ret;
}

/* A file or a folder as it is found now, without waiting for a FIFO's other end. */
static int add_open(struct expose *x, int dir, const char *name, int flags)
{
	_cleanup_close_ int fd =
		openat(dir, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | flags);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return failed(x, "read");
	if (S_ISDIR(st.st_mode))
		return add_folder(x, fd, &st);
	return S_ISREG(st.st_mode) ? add_file(x, fd, &st) : 0;
}

/* Never through a link. */
static int add_at(struct expose *x, int dir, const char *name)
{
	struct stat st;
	int ret = spend(x, EXPOSE_ENTRY);

	if (ret < 0)
		return ret;
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return failed(x, "read");
	if (S_ISLNK(st.st_mode))
		return add_link(x, dir, name);
	return S_ISREG(st.st_mode) || S_ISDIR(st.st_mode) ? add_open(x, dir, name, O_NOFOLLOW) : 0;
}

/* Without the slashes behind it. */
static struct str path_of(const char *path)
{
	struct str s = str_of(path);

	while (s.n > 1 && s.p[s.n - 1] == '/')
		s.n--;
	return s;
}

/* It is in the archive with another one: with a folder that it lies in, or as the same again. */
static bool is_covered(char *const *paths, size_t n, size_t which)
{
	struct str path = path_of(paths[which]);

	for (size_t i = 0; i < n; i++) {
		struct str other = path_of(paths[i]);

		if (i == which || !str_starts(path, other))
			continue;
		if (path.n == other.n ? i < which : other.n == 1 || path.p[other.n] == '/')
			return true;
	}
	return false;
}

/* What is named is followed, if it is a link: it is shown as if it were what it leads to. */
static int add_named(struct expose *x, struct str path)
{
	if (path.n == 0 || path.p[0] != '/' || !str_to_cstr(x->path, sizeof(x->path), path))
		return err_set(x->e, -EINVAL,
			       "\"" STR_FMT "\", which is exposed, is no absolute path",
			       STR_ARG(str_sub(path, 0, 512)));
	return add_open(x, AT_FDCWD, x->path, 0);
}

int vm_tar_expose(char *const *paths, size_t n, uint64_t max_bytes, int *fd, struct err *e)
{
	_cleanup_close_ int tar = vm_scratch("expose.tar", e);
	struct expose x = {.tar_fd = tar, .left = max_bytes, .max_bytes = max_bytes, .e = e};
	int ret = tar < 0 ? tar : 0;

	*fd = -1;
	for (size_t i = 0; ret == 0 && i < n; i++) {
		if (!is_covered(paths, n, i))
			ret = add_named(&x, path_of(paths[i]));
	}
	if (ret == 0)
		ret = tar_end(tar, e);
	if (ret == 0)
		*fd = take_fd(&tar);
	return ret;
}

int vm_disk_expose(char *const *paths, size_t n, uint64_t max_bytes, int *fd, struct err *e)
{
	_cleanup_close_ int tar = -1, disk = -1;
	int ret = vm_tar_expose(paths, n, max_bytes, &tar, e);

	*fd = -1;
	if (ret < 0)
		return ret;
	disk = vm_scratch("expose", e);
	if (disk < 0)
		return disk;
	ret = vm_squash(tar, disk, e);
	if (ret < 0)
		return ret;
	if (ftruncate(disk, (off_t)VM_DISK_BYTES) < 0)
		return err_errno(e, "make the disk of what is exposed as long as it is to be");
	*fd = vm_reopen(disk, e);
	return *fd < 0 ? *fd : 0;
}
