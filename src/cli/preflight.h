/* What `start` says before a bottle begins: which backend and why, and what the bottle may do. */
#pragma once

#include "cli/cli.h"

#define PREFLIGHT_WHY_MAX 768

struct preflight_choice {
	enum plan_backend backend;
	bool is_named; /* by --backend, the variable or the manifest */
	char why[PREFLIGHT_WHY_MAX];
};

/* --backend, then CLAUDE_BOTTLE_BACKEND, then the manifest; else the first of backend_preference[]
 * that this host offers, and why holds also what kept from the better ones. Nothing is asked about
 * one that was named: that one or none is taken (preflight_check). */
int preflight_choose(struct preflight_choice *out, const char *flag, enum plan_backend manifest,
		     struct err *e) _fallible_;
/* A named backend must be in this build, and offered by this host. Never falls back. */
int preflight_check(const struct preflight_choice *c, struct err *e) _fallible_;
/* "GET,POST", or "any method". */
int preflight_methods(const struct policy_route *r, struct buf *out) _fallible_;
/* The summary, appended as text. */
int preflight_print(const struct plan *p, bool has_colour, struct buf *out) _fallible_;
/* The same on standard error. */
void preflight_show(const struct plan *p);
/* True if some manifest file lies outside ~/.claude-bottle: a repository brought it. */
bool preflight_is_foreign(const struct plan *p);
/* Asks on standard error, reads standard input; anything but y or yes is a no. */
bool preflight_ask(const struct plan *p);
