/* The bundle's executable as it goes into its image. */
#include "image/image_int.h"

#include "base/mem.h"
#include "bundle/program.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

/* Debian's strip may not be there, and half of what it takes away is at the end of the file. */
size_t image_program_trim(char *data, size_t n)
{
	Elf64_Ehdr head;
	uint64_t end = 0;

	if (n < sizeof(head))
		return n;
	memcpy(&head, data, sizeof(head));
	if (memcmp(head.e_ident, ELFMAG, SELFMAG) != 0 || head.e_ident[EI_CLASS] != ELFCLASS64 ||
	    head.e_phentsize != sizeof(Elf64_Phdr) || head.e_phoff > n ||
	    head.e_phnum > (n - head.e_phoff) / sizeof(Elf64_Phdr))
		return n;
	for (size_t i = 0; i < head.e_phnum; i++) {
		Elf64_Phdr p;

		memcpy(&p, data + head.e_phoff + i * sizeof(p), sizeof(p));
		if (p.p_filesz > n || p.p_offset > n - p.p_filesz)
			return n;
		if (p.p_offset + p.p_filesz > end)
			end = p.p_offset + p.p_filesz;
	}
	if (end < head.e_phoff + head.e_phnum * sizeof(Elf64_Phdr) || head.e_shoff < end)
		return n;
	head.e_shoff = 0;
	head.e_shnum = head.e_shstrndx = 0;
	memcpy(data, &head, sizeof(head));
	return end;
}

static int read_whole(int fd, char *to, size_t size, size_t *n, struct err *e)
{
	*n = 0;
	while (*n < size) {
		ssize_t got = read(fd, to + *n, size - *n);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return err_errno(e, "read " BUNDLE_PROGRAM);
		if (got == 0)
			break;
		*n += (size_t)got;
	}
	return 0;
}

/* At once and not growing, and hashed at each start: this is in the way of every bottle. */
int image_program_load(struct image_program *out, struct err *e)
{
	_cleanup_close_ int found = -1, fd = -1;
	char path[48];
	struct stat st;
	int ret;

	*out = (struct image_program){0};
	found = bundle_find(e);
	if (found < 0)
		return found;
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", found);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(e, "open " BUNDLE_PROGRAM);
	if (st.st_size <= 0 || st.st_size > IMAGE_PROGRAM_MAX)
		return err_set(e, -EFBIG, BUNDLE_PROGRAM " is empty or larger than %u bytes",
			       IMAGE_PROGRAM_MAX);
	out->data = mem_zalloc((size_t)st.st_size);
	ret = read_whole(fd, out->data, (size_t)st.st_size, &out->n, e);
	if (ret == 0) {
		out->n = image_program_trim(out->data, out->n);
		ret = image_sha256(str_slice(out->data, out->n), out->hash, e);
	}
	if (ret < 0)
		image_program_free(out);
	return ret;
}

void image_program_free(struct image_program *p)
{
	free(p->data);
	*p = (struct image_program){0};
}
