/* The list of agents that `start` offers on a terminal. */
#pragma once

#include "cli/cli.h"

/* A numbered list; descriptions come from files that a repository may have brought. */
int picker_print(const struct plan_agent_info *agents, size_t n, struct buf *out) _fallible_;
/* What was typed: a number of the list, a name, or a prefix that only one has. The index, or
 * -EINVAL with *e. */
int picker_choose(const struct plan_agent_info *agents, size_t n, struct str answer,
		  struct err *e) _fallible_;
/* Lists on standard error, asks, reads standard input; three tries. *name is on the heap. */
int picker_run(const char *home, const char *cwd, char **name, struct err *e) _fallible_;
