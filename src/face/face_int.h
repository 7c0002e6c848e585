/* Between the face's files. */
#pragma once

#include "face/face.h"

#include "base/clean.h"

/* Kept open from one look to the next: three descriptors each. */
#define FACE_STORES_MAX 128
#define FACE_LIST_MS	500 /* how often the folders are looked through */
#define FACE_DEAD_LOOKED                                                                           \
	64 /* of the bottles that have ended, the last ones, when none is named                    \
	    */
#define FACE_KEPT_PENDING 10000 /* of one bottle */

/* A request as far as its place among others needs it. */
struct face_key {
	uint64_t time, id;
	size_t bottle;
	bool is_pending;
};

/* What is kept of one bottle, beside its face_bottle of the same index. */
struct face_kept {
	struct store *store; /* NULL: opened when it is needed */
	uint64_t version;
	struct face_key *pending; /* as of version; the newest first */
	size_t n_pending;
	bool is_current; /* version and pending are */
};

struct face {
	struct face_bottle *bottles; /* those that live first, each part the newest first */
	struct face_kept *kept;
	size_t n;
	uint64_t listed_ns;
	char trouble[ERR_TEXT_MAX];
};

/* The store of bottle i: the kept one, or one that face_store_done() closes. -ENOENT without e:
 * this bottle never had one. */
int face_store(struct face *f, size_t i, struct store **out, struct err *e) _fallible_;
/* The same by the bottle's exact name, with its index. */
int face_store_of(struct face *f, const char *slug, size_t *i, struct store **out,
		  struct err *e) _fallible_;
/* s may be NULL. */
void face_store_done(const struct face *f, size_t i, struct store *s);
/* By its exact name. -ENOENT. */
int face_find(const struct face *f, const char *slug, size_t *i, struct err *e) _fallible_;

/* --- face_dead.c --- */

/* -EWOULDBLOCK: it lives, and its keeper is to be asked. */
int face_revoke_dead(const char *slug, uint64_t id, const char *face, struct buf *said,
		     struct err *e) _fallible_;
