/*
 * What every backend has whose wall is a network namespace of this host and whose bundle runs
 * beside it, outside: the wall, the groups that count, the bundle as a child of the keeper, and
 * git-gate's folder. The native compartment and the microVMs' monitors stand in it.
 */
#pragma once

#include "backend/backend.h"
#include "backend/bundle_process.h"
#include "backend/walled/cgroup.h"
#include "backend/walled/wall.h"

struct walled {
	const struct plan *plan; /* outlives this */
	char *state_dir;
	struct wall wall;
	struct cgroup cgroup;
	struct bundle_process bundle;
};

/* Empty, for walled_release() after any failure. */
void walled_init(struct walled *w, const struct plan *p, const char *state_dir);
/* The wall, the groups, git-gate's folder; fills place. home: wall_make()'s. limits: of all that is
 * joined to the groups. extra: WALL_… beyond what the plan asks for. */
int walled_prepare(struct walled *w, const char *home, const struct plan_limits *limits,
		   unsigned extra, struct backend_place *place, struct err *e) _fallible_;
/* The `start_bundle` of struct backend. The wall's sockets are closed here afterwards (but the
 * registry's), so that a dead bundle's ports are closed too. */
int walled_start_bundle(struct walled *w, const struct backend_fd *fds, size_t n,
			struct err *e) _fallible_;
/* Everything in the wall must have ended. False as in struct backend. */
bool walled_release(struct walled *w);
/* What a dead bottle left of the above: the groups and git-gate's folder. */
int walled_cleanup(const char *slug, const char *state_dir, struct err *e);
