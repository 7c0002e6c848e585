/* The bundle's executable as it goes into its image. */
#include "image/image_int.h"

#include "base/io.h"
#include "base/mem.h"
#include "bundle/program.h"
#include "image/digest.h"

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

static int program_open(struct err *e)
{
	_cleanup_close_ int found = bundle_find(e), fd = -1;
	char path[48];

	if (found < 0)
		return found;
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", found);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? err_errno(e, "open " BUNDLE_PROGRAM) : take_fd(&fd);
}

static int program_read(struct image_program *out, int fd, struct err *e)
{
	struct str text;
	struct stat st;
	int ret;

	if (fstat(fd, &st) < 0)
		return err_errno(e, "stat " BUNDLE_PROGRAM);
	if (st.st_size > IMAGE_PROGRAM_MAX)
		return err_set(e, -EFBIG, BUNDLE_PROGRAM " is larger than %u bytes",
			       IMAGE_PROGRAM_MAX);
	ret = io_read_all(fd, IMAGE_PROGRAM_MAX, &text, e);
	if (ret < 0)
		return err_prefix(e, BUNDLE_PROGRAM), ret;
	out->data = (char *)text.p;
	out->n = image_program_trim(out->data, text.n);
	ret = image_sha256(str_slice(out->data, out->n), out->hash, e);
	if (ret < 0)
		image_program_free(out);
	return ret;
}

int image_program_load(struct image_program *out, struct err *e)
{
	_cleanup_close_ int fd = program_open(e);

	*out = (struct image_program){0};
	return fd < 0 ? fd : program_read(out, fd, e);
}

int image_program_digest(char hex[65], struct err *e)
{
	_cleanup_(image_program_free) struct image_program program = {0};
	_cleanup_close_ int fd = program_open(e);
	struct stat before, after;
	int ret;

	if (fd < 0)
		return fd;
	if (fstat(fd, &before) < 0)
		return err_errno(e, "stat " BUNDLE_PROGRAM);
	if (digest_find(&before, hex))
		return 0;
	ret = program_read(&program, fd, e);
	if (ret < 0)
		return ret;
	(void)snprintf(hex, DIGEST_SIZE, "%s", program.hash);
	if (fstat(fd, &after) == 0)
		digest_keep(&before, &after, hex);
	return 0;
}

void image_program_free(struct image_program *p)
{
	free(p->data);
	*p = (struct image_program){0};
}
