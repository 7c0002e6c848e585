/*
 * Which refs a push may change, and how: a pure function over the remote's policy, the refs that
 * are there and what git says about the objects. No ref of a push is moved unless all may be.
 */
#pragma once

#include "gitgate/check.h"

#define REFS_EXISTING_MAX 200000

/* Those that the policy alone gives, then those of what is there and what comes. */
#define REFS_REASONS(X)                                                                            \
	GIT_REF_REASONS(X)                                                                         \
	X(TAG_MOVE, "tag-exists", "a tag is created once and never moved")                         \
	X(TAG_DELETE, "tag-delete", "tags are never deleted")                                      \
	X(DELETE, "branch-delete", "branches cannot be deleted")                                   \
	X(FORCE, "force-push", "the new commit does not follow the old one; history is kept")      \
	X(TYPE, "ref-object-type", "a branch is a commit; a tag is a commit or a tag")             \
	X(STALE, "ref-stale", "the ref has moved since you fetched; fetch and try again")          \
	X(DUPLICATE, "ref-duplicate", "the push names a ref twice")                                \
	X(CASE, "ref-case", "it differs from another ref in letter case only")                     \
	X(CONFLICT, "ref-conflict", "one ref's name is the folder of another's")

enum refs_reason {
#define X(constant, name, text) REFS_##constant,
	REFS_REASONS(X)
#undef X
		REFS_REASON_COUNT
};
const char *refs_reason_name(enum refs_reason r);
const char *refs_reason_text(enum refs_reason r);

struct refs_existing {
	char *ref; /* whole name */
	char oid[GIT_OID_SIZE];
};

struct refs_facts {
	struct refs_existing *list; /* sorted by name, bytewise */
	size_t n;
	char head[GIT_REF_MAX + 1]; /* what HEAD points to; "": not known */
};

/* Output of `git for-each-ref --format=%(objectname) %(refname)`, which sorts. */
int refs_facts_parse(struct refs_facts *out, struct str text, struct err *e) _fallible_;
void refs_facts_free(struct refs_facts *f);

enum refs_type { REFS_TYPE_NONE, REFS_TYPE_COMMIT, REFS_TYPE_TAG, REFS_TYPE_OTHER };

struct refs_input {
	const struct git_remote *remote;
	const struct refs_facts *facts;
	const struct check_update *updates;
	const enum refs_type *types; /* of each update's new object */
	size_t n;
	/* Is old an ancestor of new? Asked for existing branches that move. */
	bool (*is_ancestor)(const char *old_oid, const char *new_oid, void *ctx);
	void *ctx;
};

/* REFS_OK, or the first update (its index in *which) that may not be, and why. */
enum refs_reason refs_decide(const struct refs_input *in, size_t *which);
