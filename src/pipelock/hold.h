/*
 * Requests that wait for a human. One is held when all of it was looked at and nothing but the
 * shape of a credential was found, on a route that says `supervise`: nothing of it has left then,
 * and nothing was dialled for it. What goes on is what was asked for, byte for byte, or with what
 * was found masked; it is judged again by the policy that is in force by then.
 *
 * No decision in time, a desk that is closed, or any doubt: it is refused. A hold lives in this
 * process only.
 */
#pragma once

#include "bundle/ask.h"
#include "pipelock/exchange.h"

#define HOLD_MAX      8
#define HOLD_MS	      120000
#define HOLD_SPEND_MS 2000 /* for the keeper to look for a grant, and to use it up */

enum hold_step { HOLD_WAIT, HOLD_REFUSED };

/* For an exchange whose verdict is HOLD and whose body (identity coded; NULL: none) is in ex->held
 * whole. Afterwards ex->is_released says that it may go. WAIT: relay_continue() or relay_refuse()
 * will be called. */
enum hold_step hold_begin(struct pipelock *p, struct relay_exchange *x);
/* Fills a with what would let exactly x through when it is sent again; false if nothing would. */
bool hold_describe(struct relay_exchange *x, struct ask *a);
/* What the human has said; NULL: nothing. Lives as long as the exchange. */
const char *hold_answer(const struct exchange *ex);
/* The exchange is over: the keeper is told if it still waited. */
void hold_drop(struct exchange *ex);
