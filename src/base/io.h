/* Descriptors: whole reads and writes, sealed memory files, passing descriptors, directories. */
#pragma once

#include "base/err.h"

#include <dirent.h>
#include <sys/types.h>

/* Reads until end of file, at most max bytes (-EFBIG past it). *out is NUL-terminated one past
 * out->n, on the heap; the caller frees out->p. */
int io_read_all(int fd, size_t max, struct str *out, struct err *e) _fallible_;
int io_read_file(int dirfd, const char *path, size_t max, struct str *out,
		 struct err *e) _fallible_;
int io_write_all(int fd, const void *data, size_t n) _fallible_;
/* Writes beside the file, fsyncs, renames over it: the file is the old one or the new one. */
int io_write_file_atomic(int dirfd, const char *path, struct str data, mode_t mode,
			 struct err *e) _fallible_;
/* An anonymous file holding data, sealed against any change, offset 0. The fd, or -errno. */
int io_memfd_sealed(const char *name, struct str data, struct err *e) _fallible_;
/* Like mkdir -p with this mode for what is made; existing parts are accepted if directories. */
int io_mkdir_p(const char *path, mode_t mode, struct err *e) _fallible_;
/* Removes a tree without following links or crossing into other mounts. 0 also if absent. */
int io_remove_tree(int dirfd, const char *name, struct err *e) _fallible_;

/* One message with up to IO_FDS_MAX descriptors over a unix socket. */
#define IO_FDS_MAX 64
ssize_t io_send_fds(int sock, const void *data, size_t n, const int *fds, size_t n_fds, int flags);
/* Bytes received, 0 at the end, -errno. Descriptors arrive close-on-exec in fds; *n_fds says how
 * many (in: how many may come; surplus ones are closed and give -EPROTO). A cut message is
 * -EMSGSIZE. */
ssize_t io_recv_fds(int sock, void *data, size_t n, int *fds, size_t *n_fds, int flags);

int io_set_nonblock(int fd, bool on);
int io_set_cloexec(int fd, bool on);
/* What lies in an open folder, from its beginning and with a descriptor of its own; for
 * _cleanup_closedir_. NULL: errno. */
DIR *io_walk(int folder);
/* poll() for one event with a monotonic deadline. 1 ready, 0 timed out, -errno. */
int io_wait(int fd, short events, int timeout_ms);
