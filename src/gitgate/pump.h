/* Two ways between two peers, each with an end of its own: what ssh does for git. */
#pragma once

#include "gitgate/wire.h"

#define PUMP_BYTES 65536

/* Descriptors that do not block; `to` is a socket, or a pipe. Zeroed, then set. */
struct pump_way {
	int from, to;
	/* Sees everything before it flows; a negative answer ends the pump. May be NULL. */
	int (*look)(void *ctx, struct str piece, struct err *e);
	void *ctx;
	bool is_from_done, is_to_done; /* the end was seen; it was passed on, or nobody is there */
	size_t at, n;
	char bytes[PUMP_BYTES];
};

/* Until all that came back, and its end, is passed on (or nobody takes it): 0. What goes there may
 * end earlier, and is forgotten when nobody takes it. When it has ended, the other side has
 * linger_ms for each further sign of life (0: the clock's silence). Descriptors stay open; sockets
 * are shut down for writing, of a pipe the owner closes the end. */
int pump_run(struct pump_way *there, struct pump_way *back, const struct wire_clock *clock,
	     unsigned linger_ms, struct err *e) _fallible_;
