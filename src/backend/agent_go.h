/* Letting the agent go where guest init (guest.h) holds it. */
#pragma once

#include "conf/plan.h"

/* guest_go() over conn_fd with the plan's command, env, limits and the canary's file. */
int agent_go(int conn_fd, const struct plan *p, const char *pinned, char *const *env, bool has_tty,
	     struct err *e) _fallible_;
