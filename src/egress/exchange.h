/* The decisions on one exchange: the relay's owner functions. */
#pragma once

#include "egress/dialer.h"
#include "egress/egress.h"
#include "record/record.h"

struct egress {
	struct loop *loop;
	const struct policy *policy;
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
	bool is_bound;			  /* the route's credential is in the request */
	bool is_recorded;
	struct scrub_stream scrub;
	uint64_t n_masked; /* in the response's head */
	struct dialer dialer;
};

extern const struct relay_ops egress_exchange_ops;
