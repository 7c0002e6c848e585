/*
 * A new policy, or a pause, while egress runs (egress_renew() and egress_pause() of egress.h), and
 * the decision on a request under what is in force.
 *
 * A grant for once is used up by pipelock, before it sends the request here, and the policy without
 * that grant may arrive before the request does. So an exchange by such a grant is never ended here
 * (pipelock ends its own side of one that was not paid for, and with it this one), and for
 * EGRESS_SPENT_MS after a policy has gone, its grants for once still let in what pipelock sends. A
 * pause knows no such thing.
 */
#pragma once

#include "egress/exchange.h"

/* Fills the exchange's route and its policy. POLICY_OK, or why not. */
enum policy_reason renew_decide(struct egress *g, struct relay_exchange *x);
void renew_free(struct egress *g);
