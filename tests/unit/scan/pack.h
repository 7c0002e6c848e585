/* Encoders that several tests need: each writes to out and returns how much that is. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* What deflateInit2() takes for these. */
#define PACK_ZLIB 15
#define PACK_GZIP 31
#define PACK_BARE (-15)

/* Fails the test if out is too small. */
size_t pack_zlib(void *out, size_t size, const void *p, size_t n, int window_bits);
/* digits: the 64, in order. */
size_t pack_base64_with(char *out, const char *p, size_t n, const char *digits, bool is_padded);
size_t pack_base64(char *out, const char *p, size_t n);

#define PACK_DIGITS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
