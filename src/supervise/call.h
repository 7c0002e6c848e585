/*
 * Tool calls that the keeper was asked about. A call ends with the desk's final answer, or when its
 * own time is over: then with the last one, which says "pending". The request itself lives on.
 */
#pragma once

#include "bundle/desk.h"

#include <jansson.h>

#define CALL_WAITING_MAX 32    /* that wait for a human; further ones answer "pending" at once */
#define CALL_FIRST_MS	 10000 /* the keeper's first answer; not a human's */
#define CALL_POLL_MS	 1000  /* between two looks at a request that somebody waits for */

struct calls {
	struct loop *loop;
	struct desk *desk; /* borrowed */
	unsigned first_ms, poll_ms;
	size_t n_waiting;
};

struct call;
/* Once, from the loop; content is the receiver's. */
typedef void call_done_fn(json_t *content, bool is_error, void *ctx);

/* NULL when nothing could be asked: *content then says why, and is an error. */
struct call *call_start(struct calls *c, struct ask *a, unsigned wait_ms, call_done_fn *fn,
			void *ctx, json_t **content) _fallible_;
/* Without a call of fn. */
void call_forget(struct call *k);
