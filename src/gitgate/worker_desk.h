/*
 * A worker's way to the keeper's desk (bundle/desk.h). The desk's channel is the role's process's
 * alone; a worker, which looks at what the agent has pushed, has a channel of its own to that. What
 * comes from it is built anew there, and is one of three things: a push was refused that could be
 * asked for (ASK_SEEN), the one it was approved for is here (ASK_SPEND, by hash), the canary was in
 * it (ASK_CANARY). Each is answered, so that a worker knows that the keeper knows.
 */
#pragma once

#include "bundle/ask.h"
#include "gitgate/gitgate_int.h"

/* --- the role's side --- */

/* Nothing may be asked of a job but a push. The worker's end, or -1 where nobody can be asked. */
int worker_desk_open(struct gitgate_worker *w, const struct gitgate_job *job);
/* The worker is gone, or could not be started. */
void worker_desk_close(struct gitgate_worker *w);

/* --- the worker's side --- */

#define WORKER_DESK_MS 5000
/* Blocks for at most WORKER_DESK_MS. False: nobody answered. */
bool worker_desk_ask(int desk_fd, const struct ask *a, struct ask_answer *answer);
