/* The decisions on one exchange: the relay's owner functions. */
#pragma once

#include "egress/dialer.h"
#include "egress/egress.h"
#include "record/record.h"

#define EGRESS_PAUSED	 "network-paused"
#define EGRESS_SPENT_MS	 5000 /* see renew.h */
#define EGRESS_SPENT_MAX 8

/* A policy that was replaced by one without its grants for once. */
struct egress_spent {
	struct policy_shared *policy; /* NULL: none */
	uint64_t until_ns;
};

struct egress {
	struct loop *loop;
	struct policy_shared *first; /* credentials are kept by its routes */
	struct policy_shared *policy;
	struct egress_spent spent[EGRESS_SPENT_MAX];
	unsigned next_spent;
	bool is_paused;
	struct relay *relay;
	struct resolver *resolver;
	struct address_own own;
	struct creds *creds;
	struct tls_client *tls; /* NULL: no roots, so no https */
	bool has_bound_routes;
	int record_fd;
	const char *rule; /* of its records; NULL: none */
};

/* Owner memory of each exchange. */
struct exchange_state {
	struct relay_exchange *x;
	const struct policy_route *route; /* NULL until decided */
	struct policy_shared *policy;	  /* route points into it */
	bool is_bound;			  /* the route's credential is in the request */
	bool is_recorded;
	struct scrub_stream scrub;
	uint64_t n_masked; /* in the response's head */
	struct dialer dialer;
};

/* Records why and answers so. At any time but in on_done(). */
void egress_refuse(struct relay_exchange *x, const char *reason, const char *detail);

extern const struct relay_ops egress_exchange_ops;
