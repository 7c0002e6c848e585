/*
 * Errors as values. A fallible function returns 0 or a negative errno and takes a struct err * as
 * its last argument; whoever detects the error fills it, once. Callers add context with
 * err_prefix(). A NULL e is allowed: then only the code is reported.
 */
#pragma once

#include "base/str.h"

#define ERR_TEXT_MAX 768
#define ERR_FILE_MAX 256

#define _fallible_ __attribute__((warn_unused_result))

struct err {
	int code;		 /* negative errno, 0 when nothing failed */
	char file[ERR_FILE_MAX]; /* of a config error, else empty */
	unsigned line, column;	 /* 1-based, 0 when unknown */
	char text[ERR_TEXT_MAX]; /* one line, no trailing newline */
};

#define ERR_INIT ((struct err){0})

/* Each fills e and returns the negative code, so that a caller writes `return err_set(e, ...)`. */
int err_set(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* With errno as code and its description appended. */
int err_errno(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A config error at a place in a file. */
int err_at(struct err *e, const char *file, unsigned line, unsigned column, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));
/* Puts "prefix: " before the text. Returns e->code. */
int err_prefix(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* "file:line:column: text", or the text alone. The whole in out, cut to size. */
void err_format(const struct err *e, char *out, size_t size);
