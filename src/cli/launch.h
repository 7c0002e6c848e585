/* From a plan to a running bottle and its session: what `start` and `resume` share. */
#pragma once

#include "cli/preflight.h"

struct launch {
	const struct plan *plan; /* its backend is chosen */
	const char *state_path;	 /* absolute; the folder is locked by lock_fd */
	int lock_fd;
	bool has_tty, is_detached, is_json;
};

/* Whether the agent has a terminal: ours, or one for whoever attaches to a detached bottle. */
bool launch_has_tty(bool is_headless, bool is_detached);
/* On a terminal asks whether to begin: when must_ask, or when a repository brought the agent. */
bool launch_is_wanted(const struct plan *p, bool is_headless, bool must_ask);
/* Whatever the backend makes once for many bottles, shown while it is made. Before there is a
 * keeper: it may take minutes. */
int launch_ensure(const struct plan *p, struct err *e) _fallible_;
/* Forks the keeper and waits until the agent runs; *dir is then the open state folder. *has_begun:
 * there was a keeper, so that the folder says what became of it. The caller closes its copy of the
 * lock. */
int launch_keeper(const struct launch *l, int *dir, bool *has_begun, struct err *e) _fallible_;
/* Attaches to it, or prints its slug when it is detached; the verb's exit status. */
int launch_session(const struct launch *l, int dir);
