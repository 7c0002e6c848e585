/* Source: the kernel's Documentation/driver-api/early-userspace/buffer-format.rst. */
#include "vm/vm_int.h"

#include "base/io.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#define CPIO_HEAD  110
#define CPIO_ALIGN 4
#define CPIO_END   "TRAILER!!!"

static int put(int fd, const void *data, size_t n, struct err *e)
{
	int ret = n > 0 ? io_write_all(fd, data, n) : 0;

	return ret < 0 ? err_set(e, ret, "write an initramfs: %s", strerror(-ret)) : 0;
}

static int pad(int fd, size_t n, struct err *e)
{
	static const char zeros[CPIO_ALIGN];

	return put(fd, zeros, (CPIO_ALIGN - n % CPIO_ALIGN) % CPIO_ALIGN, e);
}

int vm_cpio_put(int fd, unsigned number, const char *name, unsigned mode, struct str data,
		struct err *e)
{
	size_t n_name = strlen(name) + 1;
	char head[CPIO_HEAD + 1];
	int ret;

	if (data.n > UINT32_MAX || n_name > UINT32_MAX)
		return err_set(e, -EFBIG, "\"%s\" is too large for an initramfs", name);
	/* Inode, mode, uid, gid, links, time, size, four halves of devices, name, checksum. */
	(void)snprintf(head, sizeof(head),
		       "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X", number, mode,
		       0u, 0u, S_ISDIR(mode) ? 2u : 1u, 0u, (unsigned)data.n, 0u, 0u, 0u, 0u,
		       (unsigned)n_name, 0u);
	ret = put(fd, head, CPIO_HEAD, e);
	if (ret == 0)
		ret = put(fd, name, n_name, e);
	if (ret == 0)
		ret = pad(fd, CPIO_HEAD + n_name, e);
	if (ret == 0)
		ret = put(fd, data.p, data.n, e);
	return ret == 0 ? pad(fd, data.n, e) : ret;
}

int vm_cpio_end(int fd, struct err *e)
{
	return vm_cpio_put(fd, 0, CPIO_END, 0, STR_NULL, e);
}
