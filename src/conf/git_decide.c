/*
 * What a remote takes by its policy alone: the name of a ref, the path of a file. git-gate adds to
 * it what is there and what comes; `policy check` has nothing else.
 */
#include "conf/git_policy.h"

#include "base/clean.h"
#include "conf/risky_path.h"

#include <assert.h>

#define OID_HEX (GIT_OID_SIZE - 1)

static const struct {
	const char *name, *text;
} reasons[] = {
#define X(constant, name, text) [GIT_REF_##constant] = {name, text},
	GIT_REF_REASONS(X)
#undef X
};
static_assert(ARRAY_LEN(reasons) == GIT_REF_REASON_COUNT, "a name and a text per reason");

const char *git_ref_reason_name(enum git_ref_reason r)
{
	return r < GIT_REF_REASON_COUNT ? reasons[r].name : "?";
}

const char *git_ref_reason_text(enum git_ref_reason r)
{
	return r < GIT_REF_REASON_COUNT ? reasons[r].text : "?";
}

/* A short name that git looks up as another thing first: "HEAD" and its like (gitrevisions(7)), an
 * object's name, a whole ref name. */
static bool name_is_ambiguous(struct str name)
{
	size_t n_hex = 0;

	while (n_hex < name.n && ascii_hex_value(name.p[n_hex]) >= 0)
		n_hex++;
	return (n_hex == name.n && name.n >= OID_HEX) || str_istarts(name, STR_LIT("refs/")) ||
	       str_istarts(name, STR_LIT("heads/")) || str_istarts(name, STR_LIT("tags/")) ||
	       str_istarts(name, STR_LIT("remotes/")) || str_ieq(name, STR_LIT("HEAD")) ||
	       str_eq(name, STR_LIT("@")) || str_ends(name, STR_LIT("_HEAD"));
}

static enum git_ref_reason decide_branch(const struct git_remote *r, struct str ref,
					 struct str name, const char *head)
{
	if (r->n_branches == 0)
		return GIT_REF_READ_ONLY;
	if (git_ref_matches(name, r->protected_branches, r->n_protected_branches))
		return GIT_REF_PROTECTED;
	if (r->is_head_protected && head && !head[0])
		return GIT_REF_UNKNOWN;
	/* Not by its letters alone: "Main" is the same branch to some. */
	if (r->is_head_protected && head && str_ieq(str_of(head), ref))
		return GIT_REF_HEAD;
	return git_ref_matches(name, r->branches, r->n_branches) ? GIT_REF_OK : GIT_REF_BRANCH;
}

enum git_ref_reason git_ref_decide(const struct git_remote *r, struct str ref, bool is_deletion,
				   const char *head)
{
	bool is_branch = str_starts(ref, STR_LIT("refs/heads/"));
	struct str name = str_sub(ref, is_branch ? 11 : 10, ref.n);

	if (!git_ref_is_valid(ref))
		return GIT_REF_NAME;
	if (!git_remote_may_push(r))
		return GIT_REF_READ_ONLY;
	if (!is_branch && !str_starts(ref, STR_LIT("refs/tags/")))
		return GIT_REF_NAMESPACE;
	/* One that is there may be removed. */
	if (name_is_ambiguous(name) && !is_deletion)
		return GIT_REF_AMBIGUOUS;
	if (is_branch)
		return decide_branch(r, ref, name, head);
	return git_ref_matches(name, r->tags, r->n_tags) ? GIT_REF_OK : GIT_REF_TAG;
}

/* Nothing runs in the host's own repository before a human has looked at the branch. */
bool git_path_needs_approval(const struct git_remote *r, struct str path, const char **what)
{
	return r->transport != GIT_TRANSPORT_WORKSPACE && risky_path_find(path, what) & RISKY_CI;
}
