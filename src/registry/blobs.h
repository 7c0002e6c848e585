/*
 * What the registry has: one image, its blobs open. And what is asked of it: a path, a range of
 * bytes. Nothing here does anything.
 */
#pragma once

#include "base/err.h"

#define REGISTRY_LAYERS_MAX  16
#define REGISTRY_BLOBS_MAX   (REGISTRY_LAYERS_MAX + 2)
#define REGISTRY_DIGEST_SIZE 72		/* "sha256:", 64 digits, NUL */
#define REGISTRY_TEXT_MAX    (4u << 20) /* a manifest or a configuration; the specification's cap */

enum blobs_kind { BLOBS_MANIFEST, BLOBS_CONFIG, BLOBS_LAYER, BLOBS_KIND_COUNT };

struct blobs_one {
	enum blobs_kind kind;
	int fd;
	char digest[REGISTRY_DIGEST_SIZE];
	uint64_t size;
};

struct blobs {
	const char *name, *tag; /* borrowed */
	size_t n;
	struct blobs_one blobs[REGISTRY_BLOBS_MAX];
};

/* NAME TAG BLOB… as registry.h has them. Each blob must be a regular file of exactly its size;
 * there must be one manifest, one configuration and a layer. The descriptors stay the caller's. */
int blobs_parse(struct blobs *s, int argc, char *const *argv, struct err *e) _fallible_;

enum blobs_answer {
	BLOBS_BASE,	      /* /v2/ */
	BLOBS_FOUND,	      /* *blob */
	BLOBS_NOTHING,	      /* no such path */
	BLOBS_NAME_UNKNOWN,   /* of another image */
	BLOBS_DIGEST_INVALID, /* a digest that is none */
	BLOBS_MANIFEST_UNKNOWN,
	BLOBS_BLOB_UNKNOWN,
	BLOBS_ANSWER_COUNT
};

/* path: as in the request, without its query; nothing in it is decoded, so that it has one meaning.
 * A manifest is found as such, by the tag or its digest, and never as a blob. */
enum blobs_answer blobs_find(const struct blobs *s, struct str path, const struct blobs_one **blob);

enum blobs_range {
	BLOBS_WHOLE,   /* none was asked for, or one that need not be understood (RFC 9110, 14.2) */
	BLOBS_PART,    /* [*from, *to) */
	BLOBS_OUTSIDE, /* none of it is there */
};
/* The value of Range, of a blob of this size; empty: there is none. */
enum blobs_range blobs_range(struct str value, uint64_t size, uint64_t *from, uint64_t *to);
