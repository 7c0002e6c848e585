/*
 * Writes POSIX.1-1988 ustar archives (pax(1), "ustar Interchange Format"): what a build's context
 * is sent as, and what file systems are made of. Deterministic: no time, no owner. Names that ustar
 * has no room for are in pax headers (POSIX.1-2001).
 */
#pragma once

#include "base/err.h"

#include <sys/types.h>

#define TAR_BLOCK    512
#define TAR_NAME_MAX 100
#define TAR_SIZE_MAX ((UINT64_C(1) << 33) - 1) /* eleven octal digits */

/* One header of a file. -EINVAL for a name that is empty, longer than TAR_NAME_MAX, absolute or
 * with a "." or ".." in it; -EFBIG past TAR_SIZE_MAX. */
int tar_header(unsigned char out[TAR_BLOCK], const char *name, mode_t mode, uint64_t size,
	       struct err *e) _fallible_;
/* A file with its padding. */
int tar_file(int fd, const char *name, mode_t mode, struct str data, struct err *e) _fallible_;
/* The head of a file whose name may be up to PATH_MAX long; size bytes are to follow, and then
 * tar_pad(). */
int tar_file_head(int fd, const char *name, mode_t mode, uint64_t size, struct err *e) _fallible_;
int tar_pad(int fd, uint64_t size, struct err *e) _fallible_;
int tar_folder(int fd, const char *name, mode_t mode, struct err *e) _fallible_;
int tar_link(int fd, const char *name, const char *target, struct err *e) _fallible_;
/* The two blocks that end an archive. */
int tar_end(int fd, struct err *e) _fallible_;
