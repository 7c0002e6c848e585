#include "image/tar.h"

#include "base/buf.h"
#include "base/clean.h"
#include "base/io.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>

#define TAR_PAX_MAX (2 * PATH_MAX + 64)

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

	if (name.n == 0)
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

struct tar_entry {
	char type;
	const char *name, *link; /* what does not fit is cut */
	mode_t mode;
	uint64_t size;
};

static void fill(unsigned char out[TAR_BLOCK], const struct tar_entry *t)
{
	struct tar_block b = {.type = t->type, .magic = "ustar", .version = {'0', '0'}};
	uint64_t sum = 0;

	memcpy(b.name, t->name, strnlen(t->name, sizeof(b.name)));
	if (t->link)
		memcpy(b.link, t->link, strnlen(t->link, sizeof(b.link)));
	put_octal(b.mode, sizeof(b.mode), t->mode & 07777);
	put_octal(b.uid, sizeof(b.uid), 0);
	put_octal(b.gid, sizeof(b.gid), 0);
	put_octal(b.size, sizeof(b.size), t->size);
	put_octal(b.mtime, sizeof(b.mtime), 0);
	memset(b.checksum, ' ', sizeof(b.checksum));
	memcpy(out, &b, TAR_BLOCK);
	for (size_t i = 0; i < TAR_BLOCK; i++)
		sum += out[i];
	put_octal(b.checksum, sizeof(b.checksum) - 1, sum);
	memcpy(out, &b, TAR_BLOCK);
}

int tar_header(unsigned char out[TAR_BLOCK], const char *name, mode_t mode, uint64_t size,
	       struct err *e)
{
	if (!name_is_plain(str_of(name)) || strlen(name) > TAR_NAME_MAX)
		return err_set(e, -EINVAL,
			       "the archive's name \"%.120s\" must be relative, plain and at most "
			       "%d bytes long",
			       name, TAR_NAME_MAX);
	if (size > TAR_SIZE_MAX)
		return err_set(e, -EFBIG, "\"%s\" is too large for the archive", name);
	fill(out, &(struct tar_entry){'0', name, NULL, mode, size});
	return 0;
}

static int put(int fd, const void *data, size_t n, struct err *e)
{
	int ret = n > 0 ? io_write_all(fd, data, n) : 0;

	return ret < 0 ? err_set(e, ret, "write an archive: %s", strerror(-ret)) : 0;
}

int tar_pad(int fd, uint64_t size, struct err *e)
{
	size_t odd = size % TAR_BLOCK;

	return put(fd, tar_zeros, odd > 0 ? TAR_BLOCK - odd : 0, e);
}

int tar_file(int fd, const char *name, mode_t mode, struct str data, struct err *e)
{
	unsigned char header[TAR_BLOCK];
	int ret = tar_header(header, name, mode, data.n, e);

	if (ret == 0)
		ret = put(fd, header, sizeof(header), e);
	if (ret == 0)
		ret = put(fd, data.p, data.n, e);
	return ret == 0 ? tar_pad(fd, data.n, e) : ret;
}

/* "LENGTH key=value\n", where the length counts its own digits. */
static int add_record(struct buf *b, const char *key, const char *value)
{
	size_t n = strlen(key) + strlen(value) + 3, digits = 1, limit = 10;

	while (n + digits >= limit) {
		digits++;
		limit *= 10;
	}
	return buf_printf(b, "%zu %s=%s\n", n + digits, key, value);
}

static int put_entry(int fd, const struct tar_entry *t, struct err *e)
{
	_cleanup_(buf_free) struct buf pax = BUF_INIT(TAR_PAX_MAX);
	unsigned char header[TAR_BLOCK];
	int ret = 0;

	if (!name_is_plain(str_of(t->name)))
		return err_set(e, -EINVAL,
			       "the archive's name \"%.120s\" must be relative and plain", t->name);
	if (t->size > TAR_SIZE_MAX)
		return err_set(e, -EFBIG, "\"%.512s\" is too large for the archive", t->name);
	if ((strlen(t->name) > TAR_NAME_MAX && add_record(&pax, "path", t->name) < 0) ||
	    (t->link && strlen(t->link) > TAR_NAME_MAX &&
	     add_record(&pax, "linkpath", t->link) < 0))
		return err_set(e, -ENAMETOOLONG, "\"%.512s\" is too long for the archive", t->name);
	if (buf_len(&pax) > 0) {
		fill(header, &(struct tar_entry){'x', "pax", NULL, 0644, buf_len(&pax)});
		ret = put(fd, header, sizeof(header), e);
		if (ret == 0)
			ret = put(fd, buf_str(&pax).p, buf_len(&pax), e);
		if (ret == 0)
			ret = tar_pad(fd, buf_len(&pax), e);
	}
	fill(header, t);
	return ret == 0 ? put(fd, header, sizeof(header), e) : ret;
}

int tar_file_head(int fd, const char *name, mode_t mode, uint64_t size, struct err *e)
{
	return put_entry(fd, &(struct tar_entry){'0', name, NULL, mode, size}, e);
}

int tar_folder(int fd, const char *name, mode_t mode, struct err *e)
{
	return put_entry(fd, &(struct tar_entry){'5', name, NULL, mode, 0}, e);
}

int tar_link(int fd, const char *name, const char *target, struct err *e)
{
	return put_entry(fd, &(struct tar_entry){'2', name, target, 0777, 0}, e);
}

int tar_end(int fd, struct err *e)
{
	return put(fd, tar_zeros, sizeof(tar_zeros), e);
}
