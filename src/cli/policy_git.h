/* `policy` about git: which remote a URL is, and what of a push its policy alone decides. */
#pragma once

#include "cli/cli.h"

#include <jansson.h>

struct policy_git_question {
	const struct git_remote *remote; /* NULL: no declared one */
	const char *method;		 /* "fetch", "push" */
	struct str asked;		 /* the URL or the remote's name, as given */
	char ref[GIT_REF_MAX + 1];	 /* whole name; "": not asked */
	struct str file;		 /* that the push changes; empty: not asked */
	const char *reason;		 /* "ok", or as in records */
	const char *hint;		 /* what the human could do, or NULL */
};

/* "fetch" and "push" stand where a request has its method. */
bool policy_git_is_method(const char *name);
/* An address that only git has: "ssh://…", "USER@HOST:PATH". */
bool policy_git_is_address(struct str text);
/* Fills all of q. asked: a URL in any of git's spellings, one of git-gate's, or the name of a
 * remote. ref: NULL, a branch, or a whole name. file: NULL or a path. -EINVAL for a ref that is too
 * long. */
int policy_git_decide(const struct git_policy *g, const char *method, struct str asked,
		      const char *ref, const char *file, struct policy_git_question *q,
		      struct err *e) _fallible_;
/* The question of a record of git-gate's. False where the record is about no declared remote. */
bool policy_git_of_record(const struct git_policy *g, const json_t *record,
			  struct policy_git_question *q);
bool policy_git_is_ok(const struct policy_git_question *q);
/* What could be done about a reason of git-gate's, or NULL. */
const char *policy_git_hint(const char *reason);
int policy_git_text(struct buf *out, const struct plan *plan,
		    const struct policy_git_question *q) _fallible_;
/* "allowed":…,"reason":… and so on, without the braces. */
int policy_git_json(struct buf *out, const struct plan *plan,
		    const struct policy_git_question *q) _fallible_;
