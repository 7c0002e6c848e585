/*
 * Limits on the whole of a bottle, where the host gives them: version 1 controllers as root under
 * <controller>/claude-bottle/SLUG, or a version 2 subtree that is root's or delegated to us. A host
 * without either is no error: the rlimits remain, and `doctor` and the bottle's state say so.
 */
#pragma once

#include "base/err.h"
#include "conf/plan.h"

#define CGROUP_PATHS_MAX 4

struct cgroup {
	char *paths[CGROUP_PATHS_MAX]; /* directories made for this bottle */
	size_t n;
	char note[128]; /* what is limited, or why nothing is; for people */
};

/* Makes the groups and writes the limits. Never fails: see note. */
void cgroup_make(struct cgroup *c, const char *slug, const struct plan_limits *l);
/* Puts the calling process into them; before it gives up its ids. */
int cgroup_join(const struct cgroup *c, struct err *e) _fallible_;
/* Kills what is left inside and removes the directories. */
void cgroup_remove(struct cgroup *c);
/* The same for a bottle of which only the name is left. */
void cgroup_remove_slug(const char *slug);
/* True if some limit could be set; note says which, or what is missing. */
bool cgroup_probe(char *note, size_t size);
