#pragma once

#include "base/err.h"
#include "base/progress.h"

/* $XDG_CACHE_HOME/claude-bottle, else ~/.cache/claude-bottle, made when it is not there, as an open
 * folder that is ours and that nobody else may write to. -1 when there is none to be had: what is
 * in a cache can be had without it. */
int cache_open(void);
/* The same for whoever cannot do without: e says which folder it would be, and what is wrong. */
int cache_need(struct err *e) _fallible_;
/* Whether an open folder or file is this user's, and nobody else may write to it. */
bool cache_is_own(int fd);
/* Takes the lock of this name in a folder of the cache's, waiting for who has it, which what names
 * for people. To be closed. -EBUSY: not within timeout_ms, and what is the reason; else there is no
 * lock to be had, and why. */
int cache_lock(int folder, const char *name, int timeout_ms, const char *what,
	       const struct progress *p, struct err *e) _fallible_;
