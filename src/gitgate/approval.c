#include "gitgate/approval.h"

#include "base/clean.h"
#include "base/log.h"
#include "base/text.h"
#include "gitgate/worker_desk.h"

#include <openssl/evp.h>
#include <stdio.h>

bool approval_is_enough(const struct push_input *in, const struct check_report *report)
{
	if (in->n != 1 || report->n_findings == 0 || report->n_findings > CHECK_FINDINGS_MAX ||
	    report->n_more > 0)
		return false;
	for (size_t i = 0; i < report->n_findings; i++) {
		if (report->findings[i].kind != CHECK_SENSITIVE)
			return false;
	}
	return true;
}

/* SHA-256 of the remote's name, the ref, and the old and the new commit, a NUL between each two. */
static bool approval_hash(const struct ask *a, uint8_t out[ASK_HASH_BYTES])
{
	char text[ASK_NAME_SIZE + ASK_REF_SIZE + 2 * ASK_OID_SIZE];
	const char *const parts[] = {a->remote, a->ref, a->old_oid, a->new_oid};
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
		size_t with_nul = strlen(parts[i]) + 1;

		memcpy(text + n, parts[i], with_nul);
		n += with_nul;
	}
	return EVP_Digest(text, n - 1, out, NULL, EVP_sha256(), NULL) == 1;
}

/* What the push is; false when it does not fit. */
static bool approval_fill(const struct push_input *in, enum ask_op op, struct ask *a)
{
	const struct check_update *u = &in->updates[0];

	*a = (struct ask){.op = op, .kind = ASK_PUSH};
	return str_to_cstr(a->remote, sizeof(a->remote), str_of(in->job->remote->name)) &&
	       str_to_cstr(a->ref, sizeof(a->ref), str_of(u->ref)) &&
	       str_to_cstr(a->old_oid, sizeof(a->old_oid), str_of(u->old_oid)) &&
	       str_to_cstr(a->new_oid, sizeof(a->new_oid), str_of(u->new_oid)) &&
	       approval_hash(a, a->hash);
}

bool approval_spend(const struct push_input *in)
{
	struct ask_answer answer;
	struct ask a;

	return approval_fill(in, ASK_SPEND, &a) && worker_desk_ask(in->job->desk_fd, &a, &answer) &&
	       answer.state == ASK_GRANTED && memcmp(answer.hash, a.hash, sizeof(a.hash)) == 0;
}

static bool is_shown_before(const struct check_report *report, size_t i)
{
	for (size_t k = 0; k < i; k++) {
		if (strcmp(report->findings[k].path, report->findings[i].path) == 0)
			return true;
	}
	return false;
}

/* The paths, a line each; what does not fit is said to be missing. */
static void approval_paths(const struct check_report *report, char *out, size_t size)
{
	static const char more[] = "\u2026";
	size_t at = 0;

	for (size_t i = 0; i < report->n_findings; i++) {
		char path[sizeof(report->findings[i].path)];
		size_t n;

		text_visible_once_cstr(path, sizeof(path), str_of(report->findings[i].path));
		n = strlen(path);
		if (is_shown_before(report, i))
			continue;
		if (at + n + 1 + sizeof(more) > size) {
			memcpy(out + at, more, sizeof(more));
			return;
		}
		memcpy(out + at, path, n);
		at += n;
		out[at++] = '\n';
	}
	out[at > 0 ? at - 1 : 0] = '\0';
}

bool approval_offer(const struct push_input *in, const struct check_report *report,
		    const uint8_t record[8])
{
	struct ask_answer answer;
	struct ask a;

	if (!approval_is_enough(in, report) || !approval_fill(in, ASK_SEEN, &a))
		return false;
	memcpy(a.record, record, sizeof(a.record));
	approval_paths(report, a.shown, sizeof(a.shown));
	return worker_desk_ask(in->job->desk_fd, &a, &answer) && answer.state == ASK_TAKEN;
}

void approval_canary(const struct push_input *in, const struct check_report *report,
		     const uint8_t record[8])
{
	bool is_there = false;
	struct ask_answer answer;
	struct ask a = {.op = ASK_CANARY};

	for (size_t i = 0; i < report->n_findings && i < CHECK_FINDINGS_MAX; i++)
		is_there |= strcmp(report->findings[i].rule, CHECK_CANARY_RULE) == 0;
	if (!is_there || in->job->desk_fd < 0)
		return;
	memcpy(a.record, record, sizeof(a.record));
	(void)snprintf(a.remote, sizeof(a.remote), "%s", in->job->remote->name);
	if (!worker_desk_ask(in->job->desk_fd, &a, &answer))
		log_warn("the keeper was not told of a canary");
}
