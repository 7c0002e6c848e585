#include "image/tar.h"

#include "base/io.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>

static const char tar_zeros[2 * TAR_BLOCK];

struct tar_block {
	char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type;
	char link[100], magic[6], version[2], user[32], group[32], major[8], minor[8];
	char prefix[155], pad[12];
};
_Static_assert(sizeof(struct tar_block) == TAR_BLOCK, "ustar's header");

static bool name_is_plain(struct str name)
{
	bool found = true;

	if (name.n == 0 || name.n > TAR_NAME_MAX)
		return false;
	while (found) {
		struct str part;

		name = str_cut(name, '/', &part, &found);
		if (part.n == 0 || str_eq(part, STR_LIT(".")) || str_eq(part, STR_LIT("..")))
			return false;
	}
	return true;
}

/* Octal digits and a NUL. */
static void put_octal(char *to, size_t size, uint64_t value)
{
	to[--size] = '\0';
	while (size > 0) {
		to[--size] = (char)('0' + (value & 7));
		value >>= 3;
	}
}

int tar_header(unsigned char out[TAR_BLOCK], const char *name, mode_t mode, uint64_t size,
	       struct err *e)
{
	struct tar_block b = {.type = '0', .magic = "ustar", .version = {'0', '0'}};
	uint64_t sum = 0;

	if (!name_is_plain(str_of(name)))
		return err_set(e, -EINVAL,
			       "the archive's name \"%.120s\" must be relative, plain and at most "
			       "%d bytes long",
			       name, TAR_NAME_MAX);
	if (size > TAR_SIZE_MAX)
		return err_set(e, -EFBIG, "\"%s\" is too large for the archive", name);
	memcpy(b.name, name, strlen(name));
	put_octal(b.mode, sizeof(b.mode), mode & 07777);
	put_octal(b.uid, sizeof(b.uid), 0);
	put_octal(b.gid, sizeof(b.gid), 0);
	put_octal(b.size, sizeof(b.size), size);
	put_octal(b.mtime, sizeof(b.mtime), 0);
	memset(b.checksum, ' ', sizeof(b.checksum));
	memcpy(out, &b, TAR_BLOCK);
	for (size_t i = 0; i < TAR_BLOCK; i++)
		sum += out[i];
	put_octal(b.checksum, sizeof(b.checksum) - 1, sum);
	memcpy(out, &b, TAR_BLOCK);
	return 0;
}

static int put(int fd, const void *data, size_t n, struct err *e)
{
	int ret = io_write_all(fd, data, n);

	return ret < 0 ? err_set(e, ret, "write an archive: %s", strerror(-ret)) : 0;
}

int tar_file(int fd, const char *name, mode_t mode, struct str data, struct err *e)
{
	unsigned char header[TAR_BLOCK];
	size_t odd = data.n % TAR_BLOCK;
	int ret = tar_header(header, name, mode, data.n, e);

	if (ret == 0)
		ret = put(fd, header, sizeof(header), e);
	if (ret == 0 && data.n > 0)
		ret = put(fd, data.p, data.n, e);
	if (ret == 0 && odd > 0)
		ret = put(fd, tar_zeros, TAR_BLOCK - odd, e);
	return ret;
}

int tar_end(int fd, struct err *e)
{
	return put(fd, tar_zeros, sizeof(tar_zeros), e);
}
