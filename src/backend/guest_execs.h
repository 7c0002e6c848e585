/* The processes beside an agent that guest init (guest.h) can signal: each is stood for by a relay,
 * a child of the keeper's, and known to guest init by a number. */
#pragma once

#include "base/err.h"

#include <sys/types.h>

#define GUEST_EXECS 64

struct guest_execs {
	struct {
		pid_t relay;
		unsigned number;
	} list[GUEST_EXECS];
	unsigned n; /* ever */
};

/* The number of the next one. */
unsigned guest_execs_next(const struct guest_execs *x);
/* That it is stood for by relay. */
void guest_execs_add(struct guest_execs *x, pid_t relay);
/* How guest init knows whom pid stands for: 0, the agent, or a number; -ESRCH: it is nobody's. */
int64_t guest_execs_number(const struct guest_execs *x, pid_t agent, pid_t pid);
/* The `signal` of struct backend: agent is the relay of the agent. */
int guest_execs_signal(const struct guest_execs *x, int conn_fd, pid_t agent, pid_t pid, int signo);
