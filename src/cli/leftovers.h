/* What a dead bottle left on this host, and taking it away. */
#pragma once

#include "cli/bottles.h"

/* Ends every process that was started with CLAUDE_BOTTLE_SLUG=slug, ourselves excepted; returns how
 * many there were. Call with the bottle's lock held. When is_dry nothing is ended. */
size_t leftovers_kill(const char *slug, bool is_dry);
/* Processes, then what its backend knows of, then the state folder. -EWOULDBLOCK when the bottle
 * lives after all. */
int leftovers_remove(int bottles_dir, const struct bottles_entry *b, size_t *n_processes,
		     struct err *e) _fallible_;
