/*
 * The refs that an upstream says it has: taken in line by line, and given to git anew. Only what
 * git-gate mirrors is kept, heads and tags whose names are valid; the rest is read and forgotten.
 * Since git asks for objects and never for names, what stands for a name may be chosen here: that
 * is how a bottle sees its own branches of the host's repository.
 */
#pragma once

#include "conf/git_policy.h"

#define ADVERT_REFS_MAX	   100000      /* heads and tags */
#define ADVERT_LINES_MAX   4000000     /* pull requests and the like, which are skipped */
#define ADVERT_NAMES_MAX   (32u << 20) /* bytes of the names that are kept */
#define ADVERT_CAPS_MAX	   1024
#define ADVERT_OUT_MAX	   (64u << 20) /* of what is given to git */
#define ADVERT_SLUG_PREFIX "refs/heads/bottle/"

struct advert_ref {
	char oid[GIT_OID_SIZE];
	bool is_overlay, is_gone;
	uint16_t length;
	uint32_t at; /* in names */
};

struct advert {
	struct advert_ref *refs;
	size_t n_refs, refs_cap, n_lines;
	char *names;
	size_t n_names, names_cap;
	char caps[ADVERT_CAPS_MAX]; /* version 0: words, between spaces */
	char head_oid[GIT_OID_SIZE];
	char head[GIT_REF_MAX + 1]; /* what HEAD is a symbolic ref to; "" when nothing valid */
	bool is_sorted;
};

void advert_free(struct advert *a);
/* A line of upload-pack's or receive-pack's first answer in version 0, without its line feed; the
 * first one brings the capabilities. -EPROTO, -EFBIG, -ENOTSUP (SHA-256, shallow, another version),
 * -EREMOTEIO with what an "ERR" line says. */
int advert_take_v0(struct advert *a, struct str line, struct err *e) _fallible_;
/* A line of the answer to ls-refs in version 2. */
int advert_take_v2(struct advert *a, struct str line, struct err *e) _fallible_;
/* Of version 0: "side-band-64k", or "agent" with a value. */
bool advert_has_cap(const struct advert *a, const char *name);
/* Version 0: that what it will send can be told apart (side-band-64k). */
int advert_check_v0(const struct advert *a, struct err *e) _fallible_;
/* After the last line: sorts; a name that was said twice is an error. */
int advert_settle(struct advert *a, struct err *e) _fallible_;
/* The host's repository as one bottle sees it: its own branches (below bottle/<slug>/) over the
 * host's of the same name, and nobody else's. Of an overlay's and another's name that cannot stand
 * beside each other ("a", "a/b") the latter goes. Sorts anew. */
int advert_overlay(struct advert *a, const char *slug, struct err *e) _fallible_;
/* NULL: not there. After advert_settle(). */
const struct advert_ref *advert_find(const struct advert *a, struct str name);
struct str advert_name(const struct advert *a, const struct advert_ref *r);
/* A branch for the mirror's HEAD: what HEAD says, else one with its object, else main, master, the
 * first one. "" when there is none. */
void advert_head(const struct advert *a, char out[GIT_REF_MAX + 1]);
/* All of it for git, with the flush at the end. is_simple: without the richer ways of finding out
 * what both sides have. */
int advert_put_v0(const struct advert *a, bool is_simple, struct buf *out,
		  struct err *e) _fallible_;
int advert_put_v2(const struct advert *a, struct buf *out, struct err *e) _fallible_;
