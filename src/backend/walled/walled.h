/*
 * What every backend has whose wall is a network namespace of this host and whose bundle runs
 * beside it, outside: the wall, the groups that count, the bundle, and git-gate's folder. The
 * native compartment and the microVMs' monitors stand in it.
 *
 * The bundle is a child of the keeper; or, for whom asks for it (walled_use_docker), where an
 * engine answers it is in a container of docker's (docker/bundle_apart.h). Either is given the
 * wall's listening sockets, and nothing else differs.
 */
#pragma once

#include "backend/backend.h"
#include "backend/bundle_process.h"
#include "backend/docker/bundle_apart.h"
#include "backend/walled/cgroup.h"
#include "backend/walled/wall.h"
#include "guest/guest.h"

struct walled {
	const struct plan *plan; /* outlives this */
	char *state_dir;
	struct wall wall;
	struct cgroup cgroup;
	struct bundle_process bundle; /* the keeper's child, or */
	struct bundle_apart *apart;   /* docker's */
	bool has_docker;	      /* it was asked for, and an engine answers */
};

/* The `probe` of struct backend, for all that stands in such a wall. has_monitor: Landlock must be
 * there, as a cell has it. */
int walled_probe(struct backend_check checks[BACKEND_CHECKS_MAX], size_t *n, bool has_monitor,
		 struct err *e) _fallible_;
/* Empty, for walled_release() after any failure. */
void walled_init(struct walled *w, const struct plan *p, const char *state_dir);
/* Between init and prepare: docker's bundle where an engine answers, else the keeper's child. There
 * is nothing to choose: the note says which it is. */
void walled_use_docker(struct walled *w);
/* For the `ensure` of whom asks for it: the image of docker's bundle where an engine answers. */
int walled_ensure_docker(const struct progress *progress, struct err *e) _fallible_;
/* For the `probe` of whom asks for it: which it would be, and why. */
void walled_probe_docker(struct backend_check *check);
/* Which bundle it is, for people; short. */
const char *walled_note(const struct walled *w);
/* The wall, the groups, git-gate's folder; fills place. home: wall_make()'s. limits: of all that is
 * joined to the groups. extra: WALL_… beyond what the plan asks for. */
int walled_prepare(struct walled *w, const char *home, const struct plan_limits *limits,
		   unsigned extra, struct backend_place *place, struct err *e) _fallible_;
/* The `start_bundle` of struct backend. The wall's sockets are closed here afterwards (but the
 * registry's), so that a dead bundle's ports are closed too. */
int walled_start_bundle(struct walled *w, const struct backend_fd *fds, size_t n,
			struct err *e) _fallible_;
/* The `reap_bundle` of struct backend. */
void walled_reap_bundle(struct walled *w, bool must_die, char *how, size_t how_size);
/* The `canary` of a backend with a monitor: a look from the wall, where that stands, then through
 * conn_fd from the agent's place (canary_targets_make(), the registry's port, and more; a port of 0
 * is that of the live listener on this host). */
int walled_canary_machine(const struct walled *w, int conn_fd, const struct guest_target *more,
			  size_t n, struct err *e) _fallible_;
/* Everything in the wall must have ended. False as in struct backend. */
bool walled_release(struct walled *w);
/* What a dead bottle left of the above: the groups, git-gate's folder, docker's bundle. */
int walled_cleanup(const char *slug, const char *state_dir, struct err *e);
