/* What a dead bottle left on this host, and taking it away. */
#pragma once

#include "bottles/bottles.h"
#include "cli/cli.h"

struct backend;

/* Ends every process that was started with CLAUDE_BOTTLE_SLUG=slug, ourselves excepted; returns how
 * many there were. Call with the bottle's lock held. When is_dry nothing is ended. */
size_t leftovers_kill(const char *slug, bool is_dry);
/* Processes, then what its backend knows of (every backend, when its folder does not say which),
 * then the state folder; that stays when the backend failed, so that a later call finds it again.
 * -EWOULDBLOCK when the bottle lives after all. */
int leftovers_remove(int bottles_dir, const struct bottles_entry *b, size_t *n_processes,
		     struct err *e) _fallible_;
/* Removes (is_dry: counts) what bottles left to this backend whose folders are gone. A backend that
 * this host does not offer has nothing to be asked, and no failure is made of that. */
int leftovers_sweep(const struct backend *b, bool is_dry, size_t *n, struct err *e) _fallible_;
