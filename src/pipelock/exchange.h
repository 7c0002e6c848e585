/* One exchange inside pipelock; shared by exchange.c, exchange_body.c and report.c. */
#pragma once

#include "pipelock/pipelock.h"

struct exchange {
	struct gate_verdict v;
	bool is_recorded; /* the decision is in the chain; id is its record's */
	bool is_streaming;
	bool is_response_open;
	bool is_released; /* a human let go what was held */
	bool is_spent;	  /* a grant for once was used up for it */
	/* What it was judged by: v.route points into it. NULL until then. */
	struct policy_shared *policy;
	uint64_t spend_id; /* of the question at the desk; 0: none waits */
	uint8_t id[8];
	char host[POLICY_HOST_MAX + 1]; /* of plain HTTP, canonical */
	struct pipelock_held *held;
	struct gate_mark *mark; /* of the verdict HOLD, else NULL */
	struct hold *hold;	/* NULL: never held */
	struct gate_stream up, down;
};

/* --- report.c --- */

/* The record of v for this exchange. False when it could not be written: then the exchange must not
 * go on. */
bool report_verdict(struct pipelock *p, struct relay_exchange *x, const struct gate_verdict *v,
		    unsigned status);
/* A note about the exchange's answer. */
void report_note(struct pipelock *p, struct relay_exchange *x, const char *reason,
		 const char *rule);
/* Records a block and refuses the exchange with its JSON body; when even the record cannot be
 * written, refuses with 503. */
void report_refuse(struct pipelock *p, struct relay_exchange *x, const struct gate_verdict *v);
/* After report_verdict() has failed for what would have been allowed. */
void report_refuse_unrecorded(struct relay_exchange *x);
/* Why the relay itself ended the exchange; writes the refusal's body if asked. */
void report_relay_refusal(struct pipelock *p, struct relay_exchange *x, unsigned status,
			  const char *reason, struct buf *body);
void report_dns_attempt(const struct dns_sink_attempt *a, void *pipelock);

/* --- exchange_body.c --- */
enum relay_data exchange_on_request_data(struct relay_exchange *x, struct str in, bool is_last,
					 struct buf *out);
enum relay_data exchange_on_response_data(struct relay_exchange *x, struct str in, bool is_last,
					  struct buf *out);
void exchange_body_drop(struct pipelock *p, struct exchange *ex);
void exchange_bodies_free(struct pipelock *p);

/* --- exchange.c --- */

/* After a call of the gate: what a verdict of HOLD was found by outlives the gate's next one. */
void exchange_mark(struct pipelock *p, struct exchange *ex);
/* Refuses for a reason of ours, with its record. */
enum relay_step exchange_block(struct pipelock *p, struct relay_exchange *x, const char *reason,
			       const char *scanner);
/* Records that the exchange is allowed, once, before its first byte leaves. False: that could not
 * be written, and the exchange was refused. */
bool exchange_is_recorded(struct pipelock *p, struct relay_exchange *x);
extern const struct relay_ops pipelock_ops;

static inline struct pipelock *exchange_pipelock(const struct relay_exchange *x)
{
	return relay_ctx(x->relay);
}
