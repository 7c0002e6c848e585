#include "base/io.h"

#include "base/clean.h"
#include "base/mem.h"
#include "base/text.h"
#include "base/timeutil.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>

int io_read_all(int fd, size_t max, struct str *out, struct err *e)
{
	_cleanup_free_ char *data = NULL;
	size_t size = 0, n = 0;

	*out = STR_NULL;
	for (;;) {
		ssize_t got;

		if (n + 1 >= size) {
			data = mem_grow_array(data, &size, size ? size * 2 : 4096, 1);
		}
		got = read(fd, data + n, size - n - 1);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return err_errno(e, "read");
		if (got == 0)
			break;
		n += (size_t)got;
		if (n > max)
			return err_set(e, -EFBIG, "larger than %zu bytes", max);
	}
	data[n] = '\0';
	*out = str_slice(take_ptr(&data), n);
	return 0;
}

int io_read_file(int dirfd, const char *path, size_t max, struct str *out, struct err *e)
{
	_cleanup_close_ int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	int ret;

	*out = STR_NULL;
	if (fd < 0)
		return err_errno(e, "open \"%s\"", path);
	ret = io_read_all(fd, max, out, e);
	return ret < 0 ? err_prefix(e, "\"%s\"", path), ret : 0;
}

int io_write_all(int fd, const void *data, size_t n)
{
	const char *p = data;

	while (n > 0) {
		ssize_t put = write(fd, p, n);

		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return -errno;
		p += put;
		n -= (size_t)put;
	}
	return 0;
}

int io_write_file_atomic(int dirfd, const char *path, struct str data, mode_t mode, struct err *e)
{
	_cleanup_free_ char *tmp = mem_printf("%s.%d.tmp", path, (int)getpid());
	_cleanup_close_ int fd =
		openat(dirfd, tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);
	int ret;

	if (fd < 0)
		return err_errno(e, "create \"%s\"", tmp);
	ret = io_write_all(fd, data.p, data.n);
	if (ret == 0 && fsync(fd) < 0)
		ret = -errno;
	if (ret == 0 && renameat(dirfd, tmp, dirfd, path) < 0)
		ret = -errno;
	if (ret < 0) {
		(void)unlinkat(dirfd, tmp, 0);
		errno = -ret;
		return err_errno(e, "write \"%s\"", path);
	}
	return 0;
}

int io_memfd_sealed(const char *name, struct str data, struct err *e)
{
	_cleanup_close_ int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int ret;

	if (fd < 0)
		return err_errno(e, "memfd_create");
	ret = io_write_all(fd, data.p, data.n);
	if (ret < 0)
		return err_set(e, ret, "write to memory file");
	if (lseek(fd, 0, SEEK_SET) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0)
		return err_errno(e, "seal memory file");
	return take_fd(&fd);
}

int io_mkdir_p(const char *path, mode_t mode, struct err *e)
{
	_cleanup_free_ char *copy = mem_strdup(path);
	struct stat st;

	for (char *p = copy + 1; *copy; p++) {
		bool is_end = *p == '\0';

		if (*p != '/' && !is_end)
			continue;
		*p = '\0';
		if (mkdir(copy, mode) < 0 && errno != EEXIST)
			return err_errno(e, "make directory \"%s\"", copy);
		if (is_end)
			break;
		*p = '/';
	}
	if (stat(path, &st) < 0)
		return err_errno(e, "stat \"%s\"", path);
	if (!S_ISDIR(st.st_mode))
		return err_set(e, -ENOTDIR, "\"%s\" is not a directory", path);
	return 0;
}

/* Depth is bounded, since a hostile agent may nest folders far past the stack and the descriptors:
 * what lies deeper is moved up to the tree's root and removed from there. */
#define REMOVE_DEPTH_MAX 64
#define REMOVE_TRIES_MAX 64

struct io_removal {
	int root;
	dev_t dev;
	size_t n_moved;
};

static int io_remove_move_up(struct io_removal *r, int at, const char *name)
{
	char up[48];

	for (unsigned i = 0; i < REMOVE_TRIES_MAX; i++) {
		unsigned char random[16];

		/* A name that the agent cannot have foreseen. */
		if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
			return -EIO;
		text_hex(up, random, sizeof(random));
		if (renameat2(at, name, r->root, up, RENAME_NOREPLACE) == 0) {
			r->n_moved++;
			return 0;
		}
		if (errno != EEXIST)
			return -errno;
	}
	return -EEXIST;
}

static int io_remove_children(struct io_removal *r, int fd, unsigned depth);

static int io_remove_at(struct io_removal *r, int at, const char *name, unsigned depth)
{
	struct stat st;
	int fd, ret;

	if (fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISDIR(st.st_mode))
		return unlinkat(at, name, 0) < 0 && errno != ENOENT ? -errno : 0;
	if (depth == 0)
		r->dev = st.st_dev;
	if (st.st_dev != r->dev)
		return -EXDEV;
	/* An agent may leave folders that even their owner cannot enter. */
	if ((st.st_mode & 0700) != 0700 && fchmodat(at, name, 0700, 0) < 0)
		return -errno;
	if (depth > REMOVE_DEPTH_MAX)
		return io_remove_move_up(r, at, name);
	fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (depth == 0)
		r->root = fd;
	ret = io_remove_children(r, fd, depth);
	if (unlinkat(at, name, AT_REMOVEDIR) < 0 && errno != ENOENT && ret == 0)
		ret = -errno;
	return ret;
}

/* Closes fd. */
static int io_remove_children(struct io_removal *r, int fd, unsigned depth)
{
	_cleanup_closedir_ DIR *dir = fdopendir(fd);
	struct dirent *entry;
	size_t n_before;
	int ret = 0;

	if (!dir) {
		ret = -errno;
		(void)close(fd);
		return ret;
	}
	do {
		n_before = r->n_moved;
		while ((entry = readdir(dir))) {
			int one;

			if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
				continue;
			one = io_remove_at(r, fd, entry->d_name, depth + 1);
			if (one < 0)
				ret = one;
		}
		rewinddir(dir);
	} while (depth == 0 && r->n_moved > n_before);
	return ret;
}

int io_remove_tree(int dirfd, const char *name, struct err *e)
{
	struct io_removal r = {.root = -1};
	int ret = io_remove_at(&r, dirfd, name, 0);

	if (ret < 0) {
		errno = -ret;
		return err_errno(e, "remove \"%s\"", name);
	}
	return 0;
}

ssize_t io_send_fds(int sock, const void *data, size_t n, const int *fds, size_t n_fds, int flags)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * IO_FDS_MAX)];
	} control;
	struct iovec iov = {(void *)(uintptr_t)data, n};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t put;

	if (n_fds > IO_FDS_MAX)
		return -EINVAL;
	if (n_fds > 0) {
		struct cmsghdr *c;

		memset(&control, 0, sizeof(control));
		msg.msg_control = control.bytes;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * n_fds);
	}
	do {
		put = sendmsg(sock, &msg, flags | MSG_NOSIGNAL);
	} while (put < 0 && errno == EINTR);
	return put < 0 ? -errno : put;
}

ssize_t io_recv_fds(int sock, void *data, size_t n, int *fds, size_t *n_fds, int flags)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * IO_FDS_MAX)];
	} control;
	struct iovec iov = {data, n};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control.bytes,
			     .msg_controllen = sizeof(control.bytes)};
	size_t room = n_fds ? *n_fds : 0;
	bool is_surplus = false;
	ssize_t got;

	if (n_fds)
		*n_fds = 0;
	do {
		got = recvmsg(sock, &msg, flags | MSG_CMSG_CLOEXEC);
	} while (got < 0 && errno == EINTR);
	if (got < 0)
		return -errno;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
		size_t count;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (n_fds && *n_fds < room) {
				fds[(*n_fds)++] = fd;
			} else {
				(void)close(fd);
				is_surplus = true;
			}
		}
	}
	if (is_surplus || (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC))) {
		for (size_t i = 0; n_fds && i < *n_fds; i++)
			(void)close(fds[i]);
		if (n_fds)
			*n_fds = 0;
		return is_surplus || (msg.msg_flags & MSG_CTRUNC) ? -EPROTO : -EMSGSIZE;
	}
	return got;
}

int io_set_nonblock(int fd, bool on)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0)
		return -errno;
	flags = on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
	return fcntl(fd, F_SETFL, flags) < 0 ? -errno : 0;
}

int io_set_cloexec(int fd, bool on)
{
	return fcntl(fd, F_SETFD, on ? FD_CLOEXEC : 0) < 0 ? -errno : 0;
}

DIR *io_walk(int folder)
{
	_cleanup_close_ int own = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = own >= 0 ? fdopendir(own) : NULL;

	if (d)
		(void)take_fd(&own);
	return d;
}

int io_wait(int fd, short events, int timeout_ms)
{
	uint64_t deadline_ns = time_monotonic_ns() + (uint64_t)timeout_ms * TIME_NS_PER_MS;
	struct pollfd p = {.fd = fd, .events = events};

	for (;;) {
		uint64_t now_ns = time_monotonic_ns();
		int left_ms = now_ns >= deadline_ns
				      ? 0
				      : (int)((deadline_ns - now_ns + TIME_NS_PER_MS - 1) /
					      TIME_NS_PER_MS);
		int ret = poll(&p, 1, left_ms);

		if (ret < 0 && errno == EINTR)
			continue;
		return ret < 0 ? -errno : ret;
	}
}
