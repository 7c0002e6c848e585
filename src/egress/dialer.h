/*
 * From a name to a connected socket: resolves once, then tries the addresses of that answer one
 * after the other, each with a time limit of its own. Exactly what was checked is dialled; nothing
 * is looked up again. What the operator named in a network that is not ours is asked of the keeper;
 * the time limits hold for that as well.
 */
#pragma once

#include "egress/resolver.h"

#define DIALER_CONNECT_MS 4000 /* for one address */
#define DIALER_LATE_MS	  1000 /* the same, while there are others to try */

struct dialer;

/* fd >= 0: connected, non-blocking, the callee's. Else -1 and why. detail is for a human and valid
 * during the call. */
typedef void (*dialer_fn)(struct dialer *d, int fd, const char *reason, const char *detail);

/* Embedded in its owner; all zeroes at first. */
struct dialer {
	struct loop *loop;
	struct loop_watch watch;
	struct loop_timer timer;
	struct resolver_lookup *lookup;
	dialer_fn fn;
	size_t next; /* address to try */
	struct resolver_answer answer;
	int last_errno;
	int fd;		/* connecting */
	uint64_t asked; /* of the keeper, which has not answered yet; 0: nothing */
	bool is_active;
};

/* fn is called once for this and once for each dialer_next(), never before they return. False, and
 * fn is not called, when too many lookups are under way. */
bool dialer_start(struct dialer *d, struct loop *l, struct resolver *r, struct str host,
		  uint16_t port, dialer_fn fn);
/* After a connection that turned out to be of no use: the next address. False when there is none:
 * fn is not called. */
bool dialer_next(struct dialer *d);
/* Any time, also of one that was never started. fn is not called any more. */
void dialer_cancel(struct dialer *d);
