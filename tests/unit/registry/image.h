/* An image of four blobs in memory files, and the arguments that name them. */
#pragma once

#include "registry/blobs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define IMAGE_NAME     "claude-bottle/agent"
#define IMAGE_TAG      "bottle"
#define IMAGE_MANIFEST "{\"schemaVersion\":2}"
#define IMAGE_CONFIG   "{}"
#define IMAGE_LARGE    (9u << 20) /* more than sockets hold */
/* No digests of these bytes: whoever hands out does not compare. */
#define DIGEST_OF(letter)                                                                          \
	"sha256:" letter letter letter letter letter letter letter letter letter letter letter     \
		letter letter letter letter letter
#define MANIFEST_DIGEST DIGEST_OF("aaa1")
#define CONFIG_DIGEST	DIGEST_OF("bbb2")
#define SMALL_DIGEST	DIGEST_OF("ccc3")
#define LARGE_DIGEST	DIGEST_OF("ddd4")
#define NO_DIGEST	DIGEST_OF("eee5")
#define SMALL_LAYER	"0123456789"

struct image {
	int fds[4];
	char *argv[6];
};

void image_make(struct image *i);
void image_free(struct image *i);
/* What the large layer has at this place. */
char image_byte(size_t at);
