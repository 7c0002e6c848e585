/* What git-gate writes down, and what a refused client reads. Nothing that the agent sent is
 * echoed; the remote's own host and path are the operator's words. */
#include "gitgate/gitgate_int.h"

#include "base/clean.h"
#include "base/log.h"
#include "base/text.h"

#include <stdio.h>

static const struct {
	const char *reason;
	unsigned status;
	const char *hint;
} refusals[] = {
	{"git-not-declared", 404,
	 "this repository is not a declared git remote; the person who runs this bottle can add it "
	 "to git.remotes"},
	{"git-endpoint", 404,
	 "only git's smart HTTP protocol is spoken here: git clone, fetch and push"},
	{"git-method", 405,
	 "only git's smart HTTP protocol is spoken here: git clone, fetch and push"},
	{"git-query", 400, "the request's query is not one that git sends"},
	{"git-content-type", 415, "the request's Content-Type is not one that git sends"},
	{"git-content-encoding", 415, "the request's Content-Encoding is not accepted"},
	{"git-expect", 417, "send the request without Expect"},
	{"git-read-only", 403,
	 "this remote can be fetched from only; the person who runs this bottle can add `branches` "
	 "to it"},
	{"git-body-too-large", 413, "the request is too large"},
	{"git-busy", 503, "too many git requests at a time; try again in a moment"},
	{"git-stale", 503,
	 "the upstream cannot be fetched from, and nothing is pushed by what it was before; try "
	 "again"},
	{"git-failed", 500, "git-gate has failed; nothing was forwarded"},
	{"record-unavailable", 503, "a part of the bottle's firewall does not answer; try again"},
	{"bad-pkt-line", 400, "this is not the git protocol"},
	{"push-options-refused", 403, "push without options"},
	{"signed-push-refused", 403, "push without --signed"},
	{"object-format-refused", 403, "only SHA-1 repositories are accepted"},
	{"too-many-refs", 403, "push fewer refs at a time"},
	{"too-many-objects", 403, "push fewer objects at a time"},
	{"pack-too-large", 413, "push fewer commits at a time; this remote has a limit"},
	{"bad-ref-name", 403,
	 "use plain names: ASCII or UTF-8 without control or invisible characters"},
};

#define REFUSAL_DEFAULT "do not repeat the request as it is"

unsigned gitgate_refusal_status(const char *reason)
{
	for (size_t i = 0; i < ARRAY_LEN(refusals); i++) {
		if (strcmp(refusals[i].reason, reason) == 0)
			return refusals[i].status;
	}
	return 400;
}

const char *gitgate_refusal_hint(const char *reason)
{
	for (size_t i = 0; i < ARRAY_LEN(refusals); i++) {
		if (strcmp(refusals[i].reason, reason) == 0)
			return refusals[i].hint;
	}
	return REFUSAL_DEFAULT;
}

bool gitgate_record_rule(const struct gitgate_job *job, enum record_verdict v, const char *reason,
			 const char *rule, const char *method, unsigned status, const char *detail,
			 uint8_t id[8])
{
	const struct git_remote *remote = job->remote;
	struct record r;

	record_init(&r, "gitgate", v, reason);
	r.status = status;
	(void)snprintf(r.scanner, sizeof(r.scanner), "git-gate");
	(void)snprintf(r.rule, sizeof(r.rule), "%s", rule);
	(void)snprintf(r.method, sizeof(r.method), "%s", method);
	if (remote) {
		(void)snprintf(r.host, sizeof(r.host), "%s", remote->host ? remote->host : "");
		r.port = remote->port;
		text_visible_cstr(r.path, sizeof(r.path), str_of(remote->path ? remote->path : ""));
	}
	/* Made visible by whoever made it. */
	(void)snprintf(r.detail, sizeof(r.detail), "%s", detail);
	memcpy(id, r.id, sizeof(r.id));
	if (record_send(job->g->config.record_fd, &r) == 0)
		return true;
	log_error("a verdict could not be recorded");
	return false;
}

bool gitgate_record(const struct gitgate_job *job, enum record_verdict v, const char *reason,
		    const char *method, unsigned status, const char *detail, uint8_t id[8])
{
	return gitgate_record_rule(job, v, reason, "", method, status, detail, id);
}

static int refusal_json(struct buf *body, const char *reason, const char *id)
{
	int ret = buf_append_str(body, STR_LIT("{\"blocked\":true,\"reason\":"));

	if (ret == 0)
		ret = text_json(body, str_of(reason));
	if (ret == 0)
		ret = buf_append_str(body,
				     STR_LIT(",\"rule\":\"\",\"scanner\":\"git-gate\",\"hint\":"));
	if (ret == 0)
		ret = text_json(body, str_of(gitgate_refusal_hint(reason)));
	return ret < 0 ? ret : buf_printf(body, ",\"record\":\"%s\"}\n", id);
}

struct str gitgate_refusal(struct buf *body, const char *reason, bool is_git_client,
			   const uint8_t id[8])
{
	char hex[17];
	int ret;

	text_hex(hex, id, 8);
	ret = is_git_client ? buf_printf(body, "git-gate: refused: %s (%s, record %s)\n",
					 gitgate_refusal_hint(reason), reason, hex)
			    : refusal_json(body, reason, hex);
	if (ret < 0)
		buf_reset(body);
	return is_git_client ? STR_LIT("Content-Type: text/plain; charset=utf-8\r\n")
			     : STR_LIT("Content-Type: application/json\r\n");
}
