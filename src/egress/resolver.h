/*
 * Names to addresses that may be dialled. One lookup (A and AAAA, once each) for a dial; all of its
 * addresses are checked, and one inside address makes the whole answer unusable, since a mixed
 * answer is how a name is rebound to the inside. Whoever dials uses the addresses of the answer and
 * asks nobody again.
 *
 * Only the host's name servers are asked: no search domains, no hosts file, no name service
 * switch. The operator's own answers (policy.resolve) come before them and may lie inside.
 */
#pragma once

#include "conf/policy.h"
#include "egress/address.h"
#include "egress/dns_answer.h"
#include "egress/reacher.h"
#include "net/loop.h"

#define RESOLVER_SERVERS_MAX	   8
#define RESOLVER_LOOKUPS_MAX	   256
#define RESOLVER_ADDRESSES_MAX	   16 /* that are handed on to be dialled */
#define RESOLVER_CACHE_MAX	   64
#define RESOLVER_CACHE_MAX_SECONDS 60
#define RESOLVER_TOTAL_MS	   5000
#define RESOLVER_SECOND_MS	   500 /* how long the other family is waited for */

/* X(constant, name). The names are used in refusals and records. */
#define RESOLVER_STATUSES(X)                                                                       \
	X(OK, "ok")                                                                                \
	X(NO_ADDRESS, "dns-no-address")                                                            \
	X(FAILED, "dns-failed")                                                                    \
	X(TIMEOUT, "dns-timeout")                                                                  \
	X(MALFORMED, "dns-malformed")                                                              \
	X(INSIDE, "inside-address")

enum resolver_status {
#define X(constant, name) RESOLVER_##constant,
	RESOLVER_STATUSES(X)
#undef X
		RESOLVER_STATUS_COUNT
};

const char *resolver_status_name(enum resolver_status s);

struct resolver_answer {
	enum resolver_status status;
	bool is_operators; /* the operator's own answer: not checked against the inside */
	/* Not NULL: the operator's addresses are of the host's network, which is not ours. Each is
	 * asked of the keeper by its number in the policy, and never dialled. */
	struct reacher *reacher;
	uint16_t numbers[RESOLVER_ADDRESSES_MAX];
	size_t n;
	struct sockaddr_storage
		addresses[RESOLVER_ADDRESSES_MAX]; /* with port; in dialling order */
	char detail[120]; /* for a human: which address was refused, and why */
};

struct resolver_config {
	const struct sockaddr_storage *servers; /* with port; copied */
	size_t n_servers;
	const struct policy *policy; /* borrowed, for resolve; may be NULL */
	struct address_own *own;     /* borrowed */
	/* Borrowed; NULL where the host's network is ours. With policy.dns the servers are those,
	 * and are asked through it. */
	struct reacher *reacher;
	unsigned total_ms; /* 0: RESOLVER_TOTAL_MS */
};

struct resolver;
struct resolver_lookup;

/* The "nameserver" lines of a resolv.conf (port 53 is set); returns how many. Lines with a scope
 * are not understood and left out. */
size_t resolver_servers_parse(struct str resolv_conf,
			      struct sockaddr_storage out[RESOLVER_SERVERS_MAX]);

/* Opens all that it needs of the file system here; afterwards only sockets. */
int resolver_new(struct resolver **out, struct loop *l, const struct resolver_config *config,
		 struct err *e) _fallible_;
/* Pending lookups end without a call. */
void resolver_free(struct resolver *r);

/* a is valid during the call. */
typedef void (*resolver_fn)(void *ctx, const struct resolver_answer *a);

/* host is canonical. fn is called once, never before this returns. NULL past
 * RESOLVER_LOOKUPS_MAX. */
struct resolver_lookup *resolver_ask(struct resolver *r, struct str host, uint16_t port,
				     resolver_fn fn, void *ctx);
/* fn will not be called. Not after it was. */
void resolver_cancel(struct resolver_lookup *l);
size_t resolver_pending(const struct resolver *r);
