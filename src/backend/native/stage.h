/*
 * As root only. The agent's user cannot walk into root's folders, and must not be able to; so the
 * child that becomes the agent binds what the plan names into a folder that it can walk, in a mount
 * namespace of its own, while it is still root.
 */
#pragma once

#include "base/err.h"

struct stage {
	char *home, *ca;
	char **expose;
	size_t n;
};

/* The paths that stage_make() will make; known before, since the command line names them. */
void stage_plan(struct stage *s, size_t n_expose);
/* In the child: a new mount namespace with the binds in it. */
int stage_make(const struct stage *s, const char *home, const char *ca, char *const *expose,
	       struct err *e) _fallible_;
void stage_free(struct stage *s);
