/*
 * References to container images, in the grammar of the distribution project as Docker accepts it,
 * but with hosts in lower case only: [HOST[:PORT]/]NAME[/NAME…][:TAG][@ALGORITHM:HEX].
 */
#pragma once

#include "base/err.h"

#define REFERENCE_MAX	  255
#define REFERENCE_TAG_MAX 128

/* Slices of what was parsed. */
struct reference {
	struct str name;   /* host included */
	struct str tag;	   /* empty: none was given */
	struct str digest; /* "sha256:…"; empty: none was given */
};

/* -EINVAL with what is wrong and what was expected. */
int reference_parse(struct str text, struct reference *out, struct err *e) _fallible_;
/* What it means in requests to an engine: the digest, the tag, or "latest". */
struct str reference_version(const struct reference *r);
/* For an image that is to be made: also without a digest, which only an image that is there has,
 * and not of a form that an engine reads as an image's id. */
int reference_check_new(struct str text, struct err *e) _fallible_;
