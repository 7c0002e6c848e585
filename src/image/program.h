/* The bundle's executable as it goes into an image or onto a disk. */
#pragma once

#include "base/err.h"
#include "image/sha256.h"

struct image_program {
	char *data; /* owned */
	size_t n;
	char hash[SHA256_HEX_SIZE];
};
int image_program_load(struct image_program *out, struct err *e) _fallible_;
/* Its hash alone, which is remembered (digest.h). */
int image_program_digest(char hex[SHA256_HEX_SIZE], struct err *e) _fallible_;
void image_program_free(struct image_program *p);
/* Cuts off what no loader reads: sections, symbols, what debuggers want. Leaves alone what is no
 * ELF file of 64 bits with sections behind its segments. The new length. */
size_t image_program_trim(char *data, size_t n);
