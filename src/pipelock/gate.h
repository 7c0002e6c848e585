/*
 * The verdict on one exchange: policy first, then the scan of everything that the agent chose
 * (host, path, query, headers, body) before anything is dialled, then the scan of what comes back.
 *
 * Order and meaning:
 *  - a push of git's is refused whatever a route says (git_push.h);
 *  - policy_decide() comes next, so that text for a host that is refused anyway costs no scan;
 *  - a canary, one of the bottle's own secrets or a credential's shape blocks, whatever the host;
 *  - a placeholder is at home in any request that its own route allows (in its header, where egress
 *    swaps it, and in bodies, where a chat history repeats it); anywhere else it is an alert;
 *  - a text that cannot be scanned within its limits blocks;
 *  - where a route says so, credential shapes are masked (redact), or the request is held for a
 *    human once all of it was looked at and nothing worse found (supervise).
 *
 * A verdict holds names of our own tables only, never a piece of the text.
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "conf/policy.h"
#include "net/http1.h"
#include "pipelock/known.h"
#include "record/record.h"
#include "scan/content.h"
#include "scan/scan.h"

/* A request body up to this size is held whole, scanned and then sent on with its exact length. A
 * longer one streams behind SCAN_HOLDBACK_BYTES, unless it is coded: what a piece of a coded body
 * holds is known only once all of it was decoded, so that one is held up to GATE_CODED_MAX. */
#define GATE_WHOLE_MAX	  (256u << 10)
#define GATE_CODED_MAX	  (1u << 20)
#define GATE_HEAD_MAX	  (96u << 10) /* of one text of all headers */
#define GATE_FINDINGS_MAX 8
/* An answer in very small pieces (events, one token each) costs the scan its look-back window at
 * each of them, and so a stream's budget in the long run. Budgets are for texts that are slow, so
 * one that lasted for this many pieces is given anew. */
#define GATE_RENEW_PIECES 64
#define GATE_MASK_ROUNDS  8 /* of masking and scanning again, before a text is blocked after all */

enum gate_reason {
	GATE_OK,
	GATE_SECRET_IN_HOST,
	GATE_SECRET_IN_PATH,
	GATE_SECRET_IN_QUERY,
	GATE_SECRET_IN_HEADER,
	GATE_SECRET_IN_BODY,
	GATE_SECRET_IN_RESPONSE,
	GATE_CANARY_LEAVING,
	GATE_PLACEHOLDER_MISPLACED,
	GATE_SCAN_LIMIT,
	GATE_BODY_TOO_LARGE,
	GATE_BODY_CODING_UNSUPPORTED,
	GATE_BODY_CODING_CORRUPT,
	GATE_RESPONSE_CODING_UNSUPPORTED,
	GATE_RESPONSE_CODING_CORRUPT,
	GATE_PLAIN_HTTP,
	GATE_PLAIN_HTTP_CREDENTIAL,
	GATE_GIT_PUSH,
	GATE_REASON_COUNT
};
const char *gate_reason_name(enum gate_reason r); /* "secret-in-path", … */

/* What was found in a request that may be held for a human: credential shapes and nothing else. */
#define GATE_WHERE_MAX 64
#define GATE_SHOWN_MAX 1024
struct gate_mark {
	char rule[SCAN_RULE_NAME_MAX];
	char where[GATE_WHERE_MAX]; /* "body, byte 120 of 800" */
	char shown[GATE_SHOWN_MAX]; /* the text around it, every finding masked; visible */
};

struct gate_verdict {
	enum record_verdict verdict; /* ALLOW, BLOCK, REDACT or HOLD */
	const char *reason;	     /* static; "ok" */
	const char *scanner; /* static; "policy", "host", "url", "header", "body", "response" */
	char rule[SCAN_RULE_NAME_MAX];
	char decoders[32];
	bool is_alert; /* a canary or a placeholder: somebody is trying, or is confused */
	const struct policy_route *route; /* as of policy_decide() */
	enum policy_on_match on_match;
};

/* A request's head as parsed and its destination as agreed upon by CONNECT, SNI and Host. Redaction
 * writes asterisks into the head's bytes, so they must be in memory of the caller's own. */
struct gate_request {
	struct str host; /* canonical */
	uint16_t port;
	bool is_tls;
	bool redacts; /* what would be held is masked: a human has said so */
	const struct http1_head *head;
};

/* The findings of one text that matter; lists are valid up to their count. */
struct gate_findings {
	const struct policy_route *route;
	unsigned n, n_home;
	bool is_full;
	struct scan_finding list[GATE_FINDINGS_MAX];
	struct gate_range {
		uint64_t from, to;
	} home[GATE_FINDINGS_MAX]; /* placeholders that may stand where they stand */
};

/* policy and engine are borrowed. One gate per process; not reentrant. */
struct gate {
	const struct policy *policy;
	struct scan_engine *engine;
	struct buf text; /* scratch: the headers as one text */
	struct buf decoded;
	struct known known; /* clean heads of earlier requests */
	struct gate_findings findings;
	struct gate_mark mark; /* of the last call that made a verdict HOLD */
	bool has_seen_canary;  /* gate_may_show() has; whoever reports it clears it */
};
void gate_init(struct gate *g, const struct policy *policy, struct scan_engine *engine);
void gate_close(struct gate *g);

/* For CONNECT: may anything to this host and port be allowed, and is the name itself clean? True
 * when so. The name needs a scan only below a wildcard: elsewhere the operator wrote it. */
bool gate_authority(struct gate *g, struct str host, uint16_t port, struct gate_verdict *v);
/* For a request's head. True when it may go on (ALLOW or REDACT), or might, if a human lets it
 * (HOLD): then the rest of the request has yet to be looked at. */
bool gate_head(struct gate *g, const struct gate_request *q, struct gate_verdict *v);
/* For the fields of an answer, which may echo what was sent: only the bottle's own secrets block.
 */
bool gate_response_head(struct gate *g, const struct http1_head *head, struct gate_verdict *v);
/* True if text may be written into a record: not so when anything at all was found in it. */
bool gate_may_show(struct gate *g, enum scan_place place, struct str text);
/* For a whole body as sent, in memory that redaction may write to. content_encoding may be empty.
 * v comes from gate_head() and is overwritten only by a block, a redaction or a first hold. */
bool gate_body(struct gate *g, struct str body, struct str content_encoding,
	       struct gate_verdict *v);

/* --- bodies that flow, in either direction --- */
struct gate_stream {
	struct gate *gate;
	struct scan_stream *scan; /* NULL: not open, or scanning has ended */
	struct content_decoder *decoder;
	enum scan_place place;
	bool is_strict;	 /* any doubt blocks */
	bool has_note;	 /* in a response: something to record that is no reason to stop it */
	bool is_blocked; /* for good */
	unsigned fed;	 /* pieces since the scan stream was opened */
	char note_rule[SCAN_RULE_NAME_MAX];
	struct gate_findings findings;
};

/* place is SCAN_PLACE_BODY (identity coding only) or SCAN_PLACE_RESPONSE. False with *v filled when
 * the text cannot be scanned. */
bool gate_stream_open(struct gate *g, struct gate_stream *s, enum scan_place place,
		      struct str content_encoding, struct gate_verdict *v);
/* The next piece as it came. False with *v filled: nothing more of this message may pass. */
bool gate_stream_feed(struct gate_stream *s, struct str piece, bool is_last,
		      struct gate_verdict *v);
void gate_stream_close(struct gate_stream *s);
