#include "gitgate/push.h"

#include "base/clean.h"
#include "base/text.h"
#include "bundle/askable.h"

#include <stdio.h>

#define WORDS_LINE_MAX	 1400
#define WORDS_ABBREV	 10
#define WORDS_SHOWN_PATH 600

/* In the order of their weight. */
static const struct {
	enum check_kind kind;
	const char *reason, *hint;
} words_kinds[] = {
	{CHECK_SECRET, "push-secret",
	 "Take the credential out of every commit that has it (git commit --amend, git rebase -i); "
	 "a "
	 "later commit that removes it is not enough. If it is none, the person who runs this "
	 "bottle "
	 "can add the fingerprint to the remote's `allow`."},
	{CHECK_TREE, "push-tree-entry",
	 "No tree may hold such a name; take it out of every commit."},
	{CHECK_SUBMODULE, "push-submodule", "Use a plain https or ssh URL for the submodule."},
	{CHECK_MALFORMED, "push-malformed", "Make the commit again with an unmodified git."},
	{CHECK_IDENTITY, "push-identity",
	 "Commit with the user.name and user.email that git's configuration has already; rewrite "
	 "the "
	 "commits with git rebase --exec 'git commit --amend --no-edit --reset-author', and make "
	 "annotated tags again."},
	{CHECK_SENSITIVE, "push-needs-approval",
	 "The change would run code where this repository is checked out or built: it needs the "
	 "approval of the person who runs this bottle."},
	{CHECK_OVERSIZE, "push-oversize",
	 "Leave the large file out of every commit, or ask the person who runs this bottle to "
	 "raise "
	 "the remote's limit."},
	{CHECK_LIMIT, "push-limit", "Push less at a time."},
};
_Static_assert(ARRAY_LEN(words_kinds) == CHECK_KIND_COUNT, "a text per kind");

void words_finding(const struct check_finding *f, char *out, size_t size)
{
	char path[WORDS_SHOWN_PATH] = "", line[32] = "", commit[64] = "", print[80] = "";
	char decoders[64] = "";

	/* It is visible already; what stands in a terminal must not depend on another file's care.
	 */
	text_visible_once_cstr(path, sizeof(path), str_of(f->path));
	if (f->line > 0)
		(void)snprintf(line, sizeof(line), ":%llu", (unsigned long long)f->line);
	if (f->commit[0])
		(void)snprintf(commit, sizeof(commit), " of commit %.*s", WORDS_ABBREV, f->commit);
	if (f->fingerprint[0])
		(void)snprintf(print, sizeof(print), ", fingerprint %s", f->fingerprint);
	if (f->decoders[0])
		(void)snprintf(decoders, sizeof(decoders), ", under %s", f->decoders);
	(void)snprintf(out, size, "git-gate: refused: %s%s%s%s%s (%s%s)%s",
		       f->rule[0] ? f->rule : check_kind_name(f->kind), path[0] ? " in " : "", path,
		       line, commit, f->what[0] ? f->what : check_kind_name(f->kind), decoders,
		       print);
}

void words_findings(int hook_fd, const struct git_policy *policy, const struct check_report *report)
{
	char line[WORDS_LINE_MAX];
	bool has[CHECK_KIND_COUNT] = {false};

	for (size_t i = 0; i < report->n_findings && i < CHECK_FINDINGS_MAX; i++) {
		words_finding(&report->findings[i], line, sizeof(line));
		hook_say(hook_fd, "%s", line);
		if (report->findings[i].kind < CHECK_KIND_COUNT)
			has[report->findings[i].kind] = true;
	}
	if (report->n_more > 0)
		hook_say(hook_fd, "git-gate: and %zu more", report->n_more);
	for (size_t i = 0; i < ARRAY_LEN(words_kinds); i++) {
		if (has[words_kinds[i].kind])
			hook_say(hook_fd, "git-gate: %s", words_kinds[i].hint);
	}
	if (has[CHECK_IDENTITY] && policy->user_name && policy->user_email)
		hook_say(hook_fd, "git-gate: The bottle's user is %s <%s>.", policy->user_name,
			 policy->user_email);
	hook_say(hook_fd, "git-gate: nothing was forwarded.");
}

void words_approval(int hook_fd, const uint8_t *record)
{
	char hex[17];

	if (!record) {
		hook_say(hook_fd, "git-gate: Leave it out of the push. It can be asked for only "
				  "in a supervised bottle, by a push of one ref that has nothing "
				  "else against it.");
		return;
	}
	text_hex(hex, record, 8);
	hook_say(hook_fd,
		 "git-gate: Ask for it with this tool of supervise; once it is granted, push "
		 "exactly the same again.");
	hook_say(hook_fd,
		 "git-gate: ask: {\"tool\":\"" TOOL_REQUEST_PUSH
		 "\",\"arguments\":{\"record\":\"%s\"}}",
		 hex);
}

const char *words_reason(const struct check_report *report)
{
	for (size_t k = 0; k < ARRAY_LEN(words_kinds); k++) {
		for (size_t i = 0; i < report->n_findings && i < CHECK_FINDINGS_MAX; i++) {
			if (report->findings[i].kind == words_kinds[k].kind)
				return words_kinds[k].reason;
		}
	}
	return "push-refused";
}

void words_summary(const struct check_report *report, char *out, size_t size)
{
	const struct check_finding *f = &report->findings[0];
	char path[80];

	text_visible_once_cstr(path, sizeof(path), str_of(f->path));
	(void)snprintf(out, size, "%zu finding%s; first: %s %.*s%s%s",
		       report->n_findings + report->n_more,
		       report->n_findings + report->n_more == 1 ? "" : "s", f->what, WORDS_ABBREV,
		       f->commit, path[0] ? " " : "", path);
}
