/* How `policy` shows a decision, and where it finds a policy. */
#pragma once

#include "cli/cli.h"

struct policy_question {
	struct str host; /* as asked */
	uint16_t port;
	const char *method;
	struct str path; /* without its query: a query may hold what nobody should see */
	struct policy_decision decision;
};

/* What the human could do about a refusal, or NULL. */
const char *policy_show_hint(enum policy_reason reason);
int policy_show_text(struct buf *out, const struct policy *p, const struct plan *plan,
		     const struct policy_question *q) _fallible_;
/* "allowed":…,"reason":… and so on, without the braces. */
int policy_show_json(struct buf *out, const struct plan *plan,
		     const struct policy_question *q) _fallible_;
/* The policy of a bottle, living or dead, from its state folder. -ENOENT without an error when
 * there is no such bottle. */
int policy_load_slug(int bottles_dir, const char *slug, struct policy *out,
		     struct err *e) _fallible_;
/* The same of its git policy; an empty one where it has none. */
int policy_load_git(int bottles_dir, const char *slug, struct git_policy *out,
		    struct err *e) _fallible_;
/* The policy, and the git policy as its member "git" when there are remotes. */
int policy_show_both(struct buf *out, const struct policy *p, const struct git_policy *g,
		     struct err *e) _fallible_;
