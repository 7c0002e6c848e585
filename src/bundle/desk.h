/*
 * A role's side of its desk: what it asks and tells the keeper (ask.h), on the role's loop.
 *
 * A desk that is closed, by the keeper or because the channel was never there, answers nothing:
 * what waits gets ASK_UNKNOWN with is_final, what is asked from then on fails with -EPIPE. Callers
 * treat both as a refusal.
 */
#pragma once

#include "base/err.h"
#include "bundle/ask.h"
#include "net/loop.h"

struct desk;

#define DESK_WAITING_MAX 256

/* a lives as long as the call. The last one for an id has is_final. It may ask again from inside.
 */
typedef void desk_answer_fn(const struct ask_answer *a, void *ctx);

/* fd is borrowed; -1 makes a desk that is closed. life is the role's (bundle_role_env). */
int desk_open(struct desk **out, struct loop *l, int fd, uint32_t life, struct err *e) _fallible_;
void desk_close(struct desk *d); /* without a call for what waits */
bool desk_is_open(const struct desk *d);
/* Sets a's id and life and sends it. *id (may be NULL) is for desk_forget(). -EPIPE, -ENOSPC past
 * DESK_WAITING_MAX, -EAGAIN while the keeper does not read. */
int desk_ask(struct desk *d, struct ask *a, desk_answer_fn *fn, void *ctx, uint64_t *id) _fallible_;
/* fn will not be called for id any more. */
void desk_forget(struct desk *d, uint64_t id);
/* What needs no answer; a's id is set but that of ASK_GONE, which is about one. -EPIPE or -EAGAIN:
 * it was not said. */
int desk_say(struct desk *d, struct ask *a) _fallible_;
