/*
 * A request that only a grant for once allows: before anything of it leaves, the keeper is asked to
 * use the grant up (ASK_SPEND), and the exchange waits for the answer. Whatever the answer is but
 * ASK_GRANTED, the exchange is refused as if there were no such route.
 */
#pragma once

#include "pipelock/exchange.h"

enum spend {
	SPEND_FREE,    /* by a route that costs nothing, or used up already for this exchange */
	SPEND_WAITS,   /* the caller returns its LATER; relay_continue() or a refusal follows */
	SPEND_REFUSED, /* the exchange was refused: the caller returns its REFUSE */
};
/* At the moment when the exchange would be allowed: nothing stands against it any more. */
enum spend spend_before(struct pipelock *p, struct relay_exchange *x);
/* The exchange is over: an answer is not waited for any more. */
void spend_drop(struct pipelock *p, struct relay_exchange *x);
