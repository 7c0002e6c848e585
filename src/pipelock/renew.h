/*
 * A new policy takes the place of the one in force, while the relay runs. What the new one allows
 * goes on undisturbed; what it does not is over when renew() returns: an exchange is refused (or
 * broken off, where its answer has begun), a tunnel closed.
 *
 * The one exception is an exchange for which a grant for once was used up: it has been paid for,
 * and the policy without that grant is what follows. That policy may even be here before the
 * keeper's answer is: an exchange that waits for it, and of which nothing has left yet, is decided
 * by the answer alone. A pause ends it like all others.
 */
#pragma once

#include "pipelock/exchange.h"

#define RENEW_PAUSED "network-paused"

/* p becomes a user of policy. */
void renew(struct pipelock *p, struct policy_shared *policy, bool is_paused);
