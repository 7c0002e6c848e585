/*
 * Writes POSIX.1-1988 ustar archives (pax(1), "ustar Interchange Format"): what a build's context
 * is sent as. Deterministic: no time, no owner, only plain files.
 */
#pragma once

#include "base/err.h"

#include <sys/types.h>

#define TAR_BLOCK    512
#define TAR_NAME_MAX 100
#define TAR_SIZE_MAX ((UINT64_C(1) << 33) - 1) /* eleven octal digits */

/* One header. -EINVAL for a name that is empty, longer than TAR_NAME_MAX, absolute or with a "."
 * or ".." in it; -EFBIG past TAR_SIZE_MAX. */
int tar_header(unsigned char out[TAR_BLOCK], const char *name, mode_t mode, uint64_t size,
	       struct err *e) _fallible_;
/* A file with its padding. */
int tar_file(int fd, const char *name, mode_t mode, struct str data, struct err *e) _fallible_;
/* The two blocks that end an archive. */
int tar_end(int fd, struct err *e) _fallible_;
