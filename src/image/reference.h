/*
 * Names of images as the Docker engine takes them (distribution/reference: the grammar of its
 * documentation), checked before a byte of one goes into a request's path.
 */
#pragma once

#include "base/err.h"

#define REFERENCE_NAME_MAX 255 /* of the repository, as the engine has it */
#define REFERENCE_TAG_MAX  128

struct reference {
	struct str name;   /* "debian", "ghcr.io:443/a/b"; points into what was parsed */
	struct str tag;	   /* "" when it has none */
	struct str digest; /* "sha256:…", or "" */
};

/* What a parsed reference means in requests: the digest, the tag, or "latest". */
struct str reference_version(const struct reference *r);
/* -EINVAL with a line that says what is expected. A name of 64 hexadecimal digits is refused as it
 * would be taken for an image's id. */
int reference_parse(struct reference *out, struct str text, struct err *e) _fallible_;
