/* What `start` says before a bottle begins: which backend and why, and what the bottle may do. */
#pragma once

#include "cli/cli.h"

struct preflight_choice {
	enum plan_backend backend;
	char why[128];
};

/* --backend, then CLAUDE_BOTTLE_BACKEND, then the manifest; else what this build prefers. Never
 * falls back from one that was named. */
int preflight_choose(struct preflight_choice *out, const char *flag, enum plan_backend manifest,
		     struct err *e) _fallible_;
/* The summary, appended as text. */
int preflight_print(const struct plan *p, bool has_colour, struct buf *out) _fallible_;
/* The same on standard error. */
void preflight_show(const struct plan *p);
/* True if some manifest file lies outside ~/.claude-bottle: a repository brought it. */
bool preflight_is_foreign(const struct plan *p);
/* Asks on standard error, reads standard input; anything but y or yes is a no. */
bool preflight_ask(const struct plan *p);
