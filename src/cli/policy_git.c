/*
 * git-gate decides on a push by the remote's policy, by what the upstream has, and by what comes.
 * Here is the first alone, by the same functions. An answer "allowed" therefore says what it leaves
 * open: the scan, the upstream's default branch, whether the branch moves forward.
 */
#include "cli/policy_git.h"

#include "base/clean.h"
#include "base/text.h"
#include "conf/plan.h"

#include <errno.h>

#define SHOWN_MAX 300

static const struct {
	const char *reason, *hint;
} hints[] = {
	{"git-not-declared",
	 "no remote is this repository: add it to git.remotes; what is no remote "
	 "is decided as requests, by egress.routes"},
	{"git-read-only", "add \"branches\" to the remote"},
	{"remote-read-only", "add \"branches\" to the remote"},
	{"branch-not-allowed", "add the branch to the remote's \"branches\""},
	{"branch-protected", "the remote's \"protected\" names it, whatever \"branches\" says"},
	{"branch-is-head", "the upstream's default branch is protected: see \"protect_head\""},
	{"tag-not-allowed", "add the tag to the remote's \"tags\""},
	{"force-push", "the remote's \"force\" would allow it"},
	{"branch-delete", "the remote's \"delete\" would allow it"},
	{"push-secret",
	 "the credential must leave every commit that has it; a finding that is none can "
	 "be put into the remote's \"allow\" by its fingerprint"},
	{"push-needs-approval", "the upstream obeys or runs this file: in a supervised bottle the "
				"agent can ask you for that push, else push the change yourself"},
	{"push-oversize", "raise the remote's \"max_object\", or see \"oversize\""},
	{"push-identity", "commits must be by git.user: see \"enforce\""},
};

bool policy_git_is_method(const char *name)
{
	return strcmp(name, "fetch") == 0 || strcmp(name, "push") == 0;
}

bool policy_git_is_address(struct str text)
{
	struct str head = str_sub(text, 0, str_chr(text, '/'));

	return str_starts(text, STR_LIT("ssh://")) ||
	       (str_find(text, STR_LIT("://")) == text.n &&
		str_chr(head, '@') < str_chr(head, ':') && str_chr(head, ':') < head.n);
}

bool policy_git_is_ok(const struct policy_git_question *q)
{
	return strcmp(q->reason, "ok") == 0;
}

const char *policy_git_hint(const char *reason)
{
	for (size_t i = 0; i < ARRAY_LEN(hints); i++)
		if (strcmp(reason, hints[i].reason) == 0)
			return hints[i].hint;
	for (unsigned r = GIT_REF_OK + 1; r < GIT_REF_REASON_COUNT; r++)
		if (strcmp(reason, git_ref_reason_name((enum git_ref_reason)r)) == 0)
			return git_ref_reason_text((enum git_ref_reason)r);
	return NULL;
}

/* In the order in which git-gate would come to it. */
static const char *decide(const struct policy_git_question *q)
{
	enum git_ref_reason r = GIT_REF_OK;

	if (!q->remote)
		return "git-not-declared";
	if (strcmp(q->method, "push") != 0)
		return "ok";
	if (!git_remote_may_push(q->remote))
		return "git-read-only";
	if (q->ref[0])
		r = git_ref_decide(q->remote, str_of(q->ref), false, NULL);
	if (r != GIT_REF_OK)
		return git_ref_reason_name(r);
	return q->file.n > 0 && git_path_needs_approval(q->remote, q->file, NULL)
		       ? "push-needs-approval"
		       : "ok";
}

static const struct git_remote *find(const struct git_policy *g, struct str asked)
{
	const struct git_remote *r = git_remote_named(g, asked);

	return r ? r : git_agent_remote(g, asked);
}

int policy_git_decide(const struct git_policy *g, const char *method, struct str asked,
		      const char *ref, const char *file, struct policy_git_question *q,
		      struct err *e)
{
	bool is_whole = ref && str_starts(str_of(ref), STR_LIT("refs/"));

	*q = (struct policy_git_question){
		.remote = find(g, asked),
		.method = method,
		.asked = asked,
		.file = str_of(file ? file : ""),
	};
	if (ref && (size_t)snprintf(q->ref, sizeof(q->ref), "%s%s", is_whole ? "" : "refs/heads/",
				    ref) >= sizeof(q->ref))
		return err_set(e, -EINVAL, "the ref is longer than %d bytes", GIT_REF_MAX);
	q->reason = decide(q);
	q->hint = policy_git_hint(q->reason);
	return 0;
}

/* --- of a record --- */

static const char *text_of(const json_t *record, const char *key)
{
	const char *s = json_string_value(json_object_get(record, key));

	return s ? s : "";
}

bool policy_git_of_record(const struct git_policy *g, const json_t *record,
			  struct policy_git_question *q)
{
	const char *detail = text_of(record, "detail");
	bool is_push = strcmp(text_of(record, "method"), "push") == 0 ||
		       str_starts(str_of(detail), STR_LIT("push"));
	bool has_ref = git_ref_is_valid(str_of(detail));

	*q = (struct policy_git_question){.method = is_push ? "push" : "fetch"};
	for (size_t i = 0; i < g->n_remotes && !q->remote; i++) {
		const struct git_remote *r = &g->remotes[i];

		if (strcmp(r->host, text_of(record, "host")) == 0 &&
		    strcmp(r->path, text_of(record, "path")) == 0 &&
		    r->port == json_integer_value(json_object_get(record, "port")))
			q->remote = r;
	}
	if (!q->remote)
		return false;
	q->asked = str_of(q->remote->name);
	if (is_push && has_ref)
		(void)!str_to_cstr(q->ref, sizeof(q->ref), str_of(detail));
	q->reason = decide(q);
	q->hint = policy_git_hint(q->reason);
	return true;
}

/* --- shown --- */

int policy_git_text(struct buf *out, const struct plan *plan, const struct policy_git_question *q)
{
	bool is_ok = policy_git_is_ok(q), is_push = strcmp(q->method, "push") == 0;
	int bad = buf_printf(out, "%s: %s ", is_ok ? "allowed" : "refused", q->method);

	if (q->ref[0]) {
		bad |= text_visible(out, str_of(q->ref), SHOWN_MAX);
		bad |= buf_printf(out, " to ");
	}
	bad |= text_visible(out, q->asked, SHOWN_MAX);
	if (q->file.n > 0) {
		bad |= buf_printf(out, " with a change of ");
		bad |= text_visible(out, q->file, SHOWN_MAX);
	}
	bad |= buf_printf(out, "\n");
	if (!is_ok)
		bad |= buf_printf(out, "  reason %s\n", q->reason);
	if (q->hint)
		bad |= buf_printf(out, "  %s\n", q->hint);
	if (is_ok && is_push)
		bad |= buf_printf(out, "  if the scan finds nothing%s\n",
				  q->remote->is_head_protected
					  ? ", and it is not the upstream's default branch"
					  : "");
	if (q->remote)
		bad |= plan_print_remote(plan, q->remote, out);
	return bad ? -ENOBUFS : 0;
}

static int member(struct buf *out, const char *key, const char *value)
{
	int bad = buf_printf(out, ",\"%s\":", key);

	return bad | text_json(out, str_of(value));
}

static int remote_json(struct buf *out, const struct plan *plan, const struct git_remote *r)
{
	int bad = buf_printf(out, ",\"remote\":{\"line\":%u", r->origin_line);

	bad |= member(out, "file", r->origin_file ? r->origin_file : "");
	bad |= member(out, "name", r->name);
	bad |= member(out, "transport", git_transport_name(r->transport));
	bad |= member(out, "host", r->host);
	bad |= buf_printf(out, ",\"port\":%u", (unsigned)r->port);
	bad |= member(out, "path", r->path);
	if (r->has_credential && plan && r->credential < plan->n_secrets) {
		_cleanup_free_ char *ref = plan_secret_describe(&plan->secrets[r->credential]);

		bad |= member(out, "token_ref", ref);
	}
	return bad | buf_append(out, "}", 1);
}

int policy_git_json(struct buf *out, const struct plan *plan, const struct policy_git_question *q)
{
	int bad = buf_printf(out, "\"allowed\":%s,\"reason\":\"%s\",\"method\":\"%s\",\"url\":",
			     policy_git_is_ok(q) ? "true" : "false", q->reason, q->method);

	bad |= text_json(out, q->asked);
	if (q->ref[0])
		bad |= member(out, "ref", q->ref);
	if (q->file.n > 0) {
		bad |= buf_printf(out, ",\"file\":");
		bad |= text_json(out, q->file);
	}
	if (q->hint)
		bad |= member(out, "hint", q->hint);
	bad |= q->remote ? remote_json(out, plan, q->remote) : buf_printf(out, ",\"remote\":null");
	return bad ? -ENOBUFS : 0;
}
