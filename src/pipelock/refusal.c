#include "pipelock/refusal.h"

#include "base/clean.h"
#include "base/text.h"

struct refusal_text {
	const char *reason;
	unsigned status;
	const char *hint;
};

#define HINT_HUMAN "Ask the person who runs this bottle to add "
#define HINT_SECRET                                                                                \
	"Remove the credential from the request; this host is not where it belongs. If it is no "  \
	"credential, change the text or ask the person who runs this bottle."
#define HINT_RETRY     "A part of the bottle's firewall does not answer. Try again in a second."
#define HINT_AUTHORITY "CONNECT, the TLS server name and Host must all name the same host and port."
#define HINT_HTTP      "Send a well-formed HTTP/1.1 message."

/* What is not listed is refused with 403 and the last hint. */
static const struct refusal_text refusal_texts[] = {
	{"host-not-allowed", 403,
	 HINT_HUMAN "this host to egress.routes; no other way out of the bottle exists."},
	{"network-paused", 403,
	 "The person who runs this bottle has paused its network. Nothing can be reached until "
	 "they resume it; wait for that."},
	{"host-syntax", 403, "Use the plain lower-case host name."},
	{"ip-literal", 403, "Use a host name; addresses can never be allowed."},
	{"port-not-allowed", 403, HINT_HUMAN "this port to the host's route."},
	{"method-not-allowed", 403, HINT_HUMAN "this method to the host's route."},
	{"path-not-allowed", 403, HINT_HUMAN "this path to the host's route."},
	{"path-syntax", 403,
	 "Send the path in its canonical form: no dot segments, no encoded slash, dot or NUL."},
	{"secret-in-host", 403, HINT_SECRET},
	{"secret-in-path", 403, HINT_SECRET},
	{"secret-in-query", 403, HINT_SECRET},
	{"secret-in-header", 403, HINT_SECRET},
	{"secret-in-body", 403, HINT_SECRET},
	{"canary-leaving", 403, "Planted data must not leave the bottle. This was reported."},
	{"placeholder-misplaced", 403,
	 "A placeholder stands for a credential that is bound to another host, port or path; send "
	 "it there only. This was reported."},
	{"scan-limit", 403,
	 "Send a smaller or simpler message: it could not be scanned within limits."},
	{"body-too-large", 413, "Send the data in smaller requests."},
	{"body-coding-unsupported", 403,
	 "Use Content-Encoding gzip, deflate, br or zstd, or none at all."},
	{"body-coding-corrupt", 403, "Send a body that is what its Content-Encoding says."},
	{"secret-in-response", 502,
	 "The answer held a credential of this bottle and was withheld."},
	{"response-coding-unsupported", 502, "Ask for the answer with Accept-Encoding: identity."},
	{"response-coding-corrupt", 502, "Ask for the answer with Accept-Encoding: identity."},
	{"host-mismatch", 421, HINT_AUTHORITY},
	{"sni-mismatch", 421, HINT_AUTHORITY},
	{"no-sni", 421, HINT_AUTHORITY},
	{"not-tls", 403, "Only TLS may follow a CONNECT."},
	{"not-a-proxy-request", 400,
	 "This is a forward proxy: use CONNECT for https, or the absolute form for http."},
	{"connect-in-tunnel", 403, "A tunnel inside a tunnel is never allowed."},
	{"upgrade-refused", 400, "Send the request without Upgrade."},
	{"plain-http", 403, "Use https on this port."},
	{"plain-http-credential", 403, "Use https for a host that a credential is bound to."},
	{"git-push", 403,
	 "Push to the remote as git knows it: git-gate forwards it after its scan. A remote must "
	 "be "
	 "declared under git.remotes."},
	{"keyd-unavailable", 503, HINT_RETRY},
	{"egress-unavailable", 503, HINT_RETRY},
	{"record-unavailable", 503, HINT_RETRY},
};

#define REFUSAL_DEFAULT_HINT "Do not repeat the request as it is; " HINT_HTTP

static const struct refusal_text *refusal_find(const char *reason)
{
	for (size_t i = 0; i < ARRAY_LEN(refusal_texts); i++) {
		if (strcmp(refusal_texts[i].reason, reason) == 0)
			return &refusal_texts[i];
	}
	return NULL;
}

unsigned refusal_status(const char *reason)
{
	const struct refusal_text *t = refusal_find(reason);

	return t ? t->status : 403;
}

const char *refusal_hint(const char *reason)
{
	const struct refusal_text *t = refusal_find(reason);

	return t ? t->hint : REFUSAL_DEFAULT_HINT;
}

static int refusal_member(struct buf *out, const char *name, const char *value)
{
	int ret = buf_printf(out, ",\"%s\":", name);

	return ret < 0 ? ret : text_json(out, str_of(value ? value : ""));
}

int refusal_body(struct buf *out, const struct refusal *r)
{
	char id[2 * sizeof(r->record) + 1];
	int ret = buf_append_str(out, STR_LIT("{\"blocked\":true"));

	text_hex(id, r->record, sizeof(r->record));
	if (ret == 0)
		ret = refusal_member(out, "reason", r->reason);
	if (ret == 0)
		ret = refusal_member(out, "rule", r->rule);
	if (ret == 0)
		ret = refusal_member(out, "scanner", r->scanner);
	if (ret == 0)
		ret = refusal_member(out, "hint", r->hint ? r->hint : refusal_hint(r->reason));
	if (ret == 0)
		ret = refusal_member(out, "record", id);
	return ret < 0 ? ret : buf_append_str(out, STR_LIT("}\n"));
}
