#include "egress/deny.h"

#include "base/clean.h"
#include "base/text.h"

#define HINT_HUMAN "Ask the person who runs this bottle to "
#define HINT_RETRY "Try again later; the request itself was allowed."
#define HINT_ROUTE HINT_HUMAN "change egress.routes; no other way out of the bottle exists."

static const struct deny denials[] = {
	{"inside-address", 403, RECORD_BLOCK,
	 "The name leads to an address inside, which is never dialled. If that is meant to "
	 "be, " HINT_HUMAN "name the address in egress.resolve."},
	{"placeholder-missing", 403, RECORD_BLOCK,
	 "Send the credential that the bottle's environment holds for this host, unchanged, in the "
	 "header where it belongs; no other key is let through."},
	{"placeholder-misplaced", 403, RECORD_BLOCK,
	 "A placeholder stands for a credential that is bound to another place; send it there "
	 "only. "
	 "This was reported."},
	{"foreign-credential", 403, RECORD_BLOCK,
	 "This host has a credential of its own here; remove the one in the query."},
	{"plain-http-credential", 403, RECORD_BLOCK,
	 "Use https for a host that a credential is bound to."},
	{"credential-denied", 403, RECORD_BLOCK,
	 HINT_HUMAN "look at the bottle's log: the credential of this route cannot be used."},
	{"upstream-certificate", 502, RECORD_BLOCK,
	 "The server's certificate is not valid for this name. If it is a private one, ask the "
	 "person who runs this bottle to "
	 "add its authority to egress.ca."},
	{"coded-response", 502, RECORD_BLOCK,
	 "The server coded its answer although it was asked not to, so that echoed credentials "
	 "could not be found in it."},
	{"partial-response", 502, RECORD_BLOCK,
	 "The server sent a part although the whole was asked for, so that echoed credentials "
	 "could not be found in it."},
	{"keyd-unavailable", 503, RECORD_BLOCK,
	 "A part of the bottle's firewall does not answer. Try again in a second."},
	{"egress-busy", 503, RECORD_NOTE, HINT_RETRY},
	{"dns-no-address", 502, RECORD_NOTE, "The name has no address; check its spelling."},
	{"dns-failed", 502, RECORD_NOTE, HINT_RETRY},
	{"dns-timeout", 504, RECORD_NOTE, HINT_RETRY},
	{"dns-malformed", 502, RECORD_BLOCK, "The name server's answer could not be trusted."},
	{"connect-failed", 502, RECORD_NOTE, HINT_RETRY},
	{"reach-failed", 502, RECORD_NOTE,
	 "The host has stopped connecting this bottle to what it named for it. " HINT_HUMAN
	 "look at the bottle's log and start it anew."},
	{"connect-timeout", 504, RECORD_NOTE, HINT_RETRY},
	{"dial-timeout", 504, RECORD_NOTE, HINT_RETRY},
	{"tls-handshake", 502, RECORD_NOTE, HINT_RETRY},
	{"tls-timeout", 504, RECORD_NOTE, HINT_RETRY},
	{"response-timeout", 504, RECORD_NOTE, HINT_RETRY},
	{"stream-timeout", 504, RECORD_NOTE, HINT_RETRY},
	{"upstream-closed", 502, RECORD_NOTE, HINT_RETRY},
	{"upstream-closed-early", 502, RECORD_NOTE, HINT_RETRY},
	{"network-paused", 403, RECORD_BLOCK,
	 "The person who runs this bottle has paused its network. Wait until they resume it."},
	{"host-not-allowed", 403, RECORD_BLOCK, HINT_ROUTE},
	{"host-syntax", 403, RECORD_BLOCK, "Use the plain lower-case host name."},
	{"ip-literal", 403, RECORD_BLOCK, "Use a host name; addresses can never be allowed."},
	{"port-not-allowed", 403, RECORD_BLOCK, HINT_ROUTE},
	{"method-not-allowed", 403, RECORD_BLOCK, HINT_ROUTE},
	{"path-not-allowed", 403, RECORD_BLOCK, HINT_ROUTE},
	{"path-syntax", 403, RECORD_BLOCK, "Send the path in its canonical form."},
};

static const struct deny unknown = {"", 0, RECORD_NOTE, HINT_RETRY};

const struct deny *deny_find(const char *reason)
{
	for (size_t i = 0; i < ARRAY_LEN(denials); i++) {
		if (strcmp(denials[i].reason, reason) == 0)
			return &denials[i];
	}
	return &unknown;
}

int deny_body(struct buf *out, const char *reason, const uint8_t record_id[8])
{
	char id[17];
	int ret = buf_append_str(out, STR_LIT("{\"blocked\":true,\"reason\":"));

	text_hex(id, record_id, 8);
	if (ret == 0)
		ret = text_json(out, str_of(reason));
	if (ret == 0)
		ret = buf_append_str(out,
				     STR_LIT(",\"rule\":\"\",\"scanner\":\"egress\",\"hint\":"));
	if (ret == 0)
		ret = text_json(out, str_of(deny_find(reason)->hint));
	return ret < 0 ? ret : buf_printf(out, ",\"record\":\"%s\"}\n", id);
}
