/*
 * What a human should know before granting a change, found by rules, never by the agent's words.
 * Findings stand beside the request in every face; one of DANGER_NEVER means that no prompt can
 * grant it: the operator may still write it into the manifest, by hand.
 */
#pragma once

#include "conf/git_policy.h"
#include "requests/change.h"

enum danger_level { DANGER_NOTE = 1, DANGER_WARN, DANGER_NEVER };

/* X(constant, name, level) */
#define DANGER_RULES(X)                                                                            \
	X(INSIDE, "inside", NEVER) /* localhost, *.internal, metadata names, the bundle */         \
	X(PUBLIC_SUFFIX, "public-suffix", NEVER) /* "*.com", "*.co.uk", "*.github.io" */           \
	X(CREDENTIAL_REACH, "credential-reach",                                                    \
	  NEVER)				    /* would carry a bound credential further */   \
	X(CREDENTIAL_NEAR, "credential-near", WARN) /* this bottle holds a credential; what it     \
						     * reads with it could be sent there */        \
	X(UPLOAD, "upload-host", WARN)		    /* anybody can fetch what is put there */      \
	X(WRITES, "writes", NOTE)		    /* methods that carry a body */                \
	X(LOOKALIKE, "look-alike", WARN) /* of a host that the bottle knows, or of a known one */  \
	X(PUNYCODE, "punycode", WARN)	 /* letters past ASCII */                                  \
	X(WILDCARD, "wildcard", WARN)                                                              \
	X(PLAIN_HTTP, "plain-http", WARN)                                                          \
	X(ODD_PORT, "odd-port", WARN)                                                              \
	X(CANARY, "canary", WARN)	      /* this bottle's canary has tried to leave before */ \
	X(RUNS_ON_HOST, "runs-on-host", WARN) /* PUSH: paths that CI or the host executes */       \
	X(DLP, "dlp", WARN)		      /* RELEASE: the scanner found something */

enum danger_rule {
#define X(constant, name, level) DANGER_##constant##_RULE,
	DANGER_RULES(X)
#undef X
		DANGER_RULE_COUNT
};

#define DANGER_FINDINGS_MAX 12
#define DANGER_TEXT_MAX	    256

struct danger_finding {
	enum danger_rule rule;
	enum danger_level level;
	char text[DANGER_TEXT_MAX]; /* one sentence, visible */
};
struct danger {
	struct danger_finding findings[DANGER_FINDINGS_MAX]; /* the worst first */
	size_t n;
};

struct danger_context {
	const struct policy *policy;  /* in force */
	const struct git_policy *git; /* may be NULL */
	bool canary_seen;
};

const char *danger_rule_name(enum danger_rule r);
const char *danger_level_name(enum danger_level l); /* "note", "warning", "never" */
void danger_judge(struct danger *out, const struct change *c, const struct danger_context *ctx);
/* The first finding that forbids it, or NULL. */
const struct danger_finding *danger_forbids(const struct danger *d);
int danger_to_json(const struct danger *d, struct buf *out) _fallible_; /* canonical */
int danger_from_json(struct danger *out, struct str json, struct err *e) _fallible_;
