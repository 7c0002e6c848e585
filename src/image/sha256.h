/* SHA-256 by libcrypto, in lower-case hexadecimal. */
#pragma once

#include "base/err.h"

#define SHA256_HEX_SIZE 65

int image_sha256(struct str data, char hex[SHA256_HEX_SIZE], struct err *e) _fallible_;
/* Of a file from its beginning to its end, whatever its size; *n (may be NULL): how long it was. */
int image_sha256_file(int fd, char hex[SHA256_HEX_SIZE], uint64_t *n, struct err *e) _fallible_;
