/*
 * What pipelock tells the keeper about what it refused (bundle/ask.h): by which tool the agent may
 * ask for exactly that, and that the canary was seen. Nothing is told, and nothing offered, where
 * the bottle is not supervised.
 */
#pragma once

#include "bundle/desk.h"
#include "pipelock/exchange.h"
#include "pipelock/refusal.h"

struct asks_offer {
	struct refusal_ask ask; /* kind 0: there is nothing to ask for */
	char path[ASK_PATH_SIZE];
};

/* For a refusal by v that was recorded as x's id: fills out and says ASK_SEEN. Only what is in
 * canonical form and what the scan has nothing against is offered. */
void asks_offer(struct pipelock *p, struct relay_exchange *x, const struct gate_verdict *v,
		struct asks_offer *out);
/* Host, port, method and path of x into a; false when they cannot be said or shown. */
bool asks_destination(struct pipelock *p, struct relay_exchange *x, struct ask *a);
#define ASKS_CANARY_MS	     1000
#define ASKS_CANARY_RETRY_MS 50
/* Of refusals that can be asked for. An unread message takes 8 KiB of the channel's 208: a keeper
 * that has read nothing for half a second leaves room for what waits for an answer. */
#define ASKS_SEEN_BURST	     8
#define ASKS_SEEN_PER_SECOND 20

void asks_start(struct pipelock *p);
void asks_stop(struct pipelock *p);
/* Says ASK_CANARY of what was recorded as r, at most once in ASKS_CANARY_MS; again and again while
 * the keeper does not listen. */
void asks_canary(struct pipelock *p, const struct record *r);
