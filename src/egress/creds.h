/*
 * Credentials on their way out. A route with auth is "bound": its requests must carry the bottle's
 * own placeholder, in the one header where the credential belongs, and nothing else that could be a
 * credential; the placeholder is then replaced by what keyd gives for this host, port and path. An
 * attacker's own key thus never reaches a bound host. A placeholder anywhere else is refused.
 *
 * Values are asked for once per route and kept, with all forms in which they may be echoed, in
 * memory that is locked where the kernel allows it and never dumped.
 */
#pragma once

#include "conf/policy.h"
#include "egress/scrub.h"
#include "keyd/keyd_proto.h"
#include "net/http1.h"

/* X(constant, name). The names are used in refusals and records. */
#define CREDS_REASONS(X)                                                                           \
	X(OK, "ok")                                                                                \
	X(PLAIN_HTTP, "plain-http-credential") /* a bound route over http */                       \
	X(MISSING, "placeholder-missing")      /* absent, repeated, or another value than ours */  \
	X(MISPLACED, "placeholder-misplaced")                                                      \
	X(FOREIGN, "foreign-credential") /* a credential in the query of a bound route */          \
	X(DENIED, "credential-denied")	 /* by keyd */                                             \
	X(UNAVAILABLE, "keyd-unavailable")

enum creds_reason {
#define X(constant, name) CREDS_##constant,
	CREDS_REASONS(X)
#undef X
		CREDS_REASON_COUNT
};

const char *creds_reason_name(enum creds_reason r);

struct creds;

/* As keyd_ask(); replaced in tests. */
typedef int (*creds_ask_fn)(void *ctx, struct keyd_request *q, struct keyd_reply *r, struct err *e);

/* policy is borrowed. All memory is made here. */
int creds_new(struct creds **out, const struct policy *policy, creds_ask_fn ask, void *ctx,
	      struct err *e) _fallible_;
void creds_free(struct creds *c);

/* The request's head as parsed, its host canonical, and the route that allows it; one with auth is
 * of the policy that c was made for. On CREDS_OK of a
 * bound route the header holds the credential (memory of c), and every other field that could
 * carry one is gone. On any other reason h is not to be sent. May wait for keyd once per route.
 * *e says more about DENIED and UNAVAILABLE. */
enum creds_reason creds_apply(struct creds *c, struct http1_head *h,
			      const struct policy_route *route, struct err *e)
	__attribute__((warn_unused_result));

/* Every credential that was ever fetched, to be masked in answers. */
const struct scrub_set *creds_secrets(const struct creds *c);

/* Masks placeholders and fetched credentials in a text that is going to be recorded. */
void creds_mask(const struct creds *c, char *p, size_t n);

/* True for the name of a header that may carry a credential: one whose words say so. */
bool creds_is_auth_header(struct str name);
/* True if the query has a parameter that is a credential by its name. */
bool creds_query_has_credential(struct str query);
