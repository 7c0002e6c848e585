/* What the canary of a compartment with a network of its own is told to try: this host's addresses,
 * with a listener behind them that is known to answer, and the outside. */
#pragma once

#include "conf/plan.h"
#include "guest/guest.h"

#include <stdint.h>

#define CANARY_TARGET_SIZE    48
#define CANARY_TARGETS_BESIDE 20 /* places that this host's addresses leave to others */

struct canary_targets {
	struct guest_target list[GUEST_CLOSED_MAX];
	char text[GUEST_CLOSED_MAX][CANARY_TARGET_SIZE];
	size_t n;
	int listen_fd; /* on every address of this host */
	uint16_t port; /* its port */
};

/* Listens, and adds each IPv4 address of this host that is up, the loopback, 1.1.1.1 and the
 * clouds' metadata service. *out is on the heap; canary_targets_free(), also after a failure. */
int canary_targets_make(struct canary_targets **out, struct err *e) _fallible_;
void canary_targets_free(struct canary_targets *t); /* may be NULL */
/* what lives as long as t. Past GUEST_CLOSED_MAX nothing is added. */
void canary_targets_add(struct canary_targets *t, const char *address, unsigned port,
			const char *what);
/* guest_canary() with these and what the plan's bundle must answer; and nobody has reached the
 * listener meanwhile. */
int canary_targets_prove(const struct canary_targets *t, int conn_fd, const struct plan *p,
			 const char *pinned, struct err *e) _fallible_;
