/*
 * A bundle in a container behind a wall that is not the engine's: for a backend whose wall is a
 * network namespace of this host (backend/walled). It is what docker's bottle has of the bundle
 * (bundle_box.h), without a wall and without an agent: one ordinary bridge that nobody else is on
 * and that is its way out.
 *
 * Its services' listening sockets are the wall's, and are handed to its init with its other
 * descriptors. A socket stays in the network that it was made in, so the bundle accepts from the
 * wall itself, at the pinned address, and nothing listens in the container's own network: neither
 * this host nor another container finds a port there. The keeper keeps no copy of them, so a dead
 * bundle's ports are closed.
 */
#pragma once

#include "backend/backend.h"

struct bundle_apart;

/* 0: an engine answers that can have it (asked once in this process); why says which. */
int bundle_apart_offer(char why[BACKEND_WHY_MAX], struct err *e) _fallible_;
/* In the foreground: its image. */
int bundle_apart_ensure(const struct progress *progress, struct err *e) _fallible_;
/* The bridge, and the container on its start; fills place but for the pinned address. *out also
 * after a failure, for bundle_apart_release(). p outlives it. */
int bundle_apart_make(struct bundle_apart **out, const struct plan *p, const char *state_dir,
		      struct backend_place *place, struct err *e) _fallible_;
/* As `start_bundle` of struct backend, with the listening sockets among fds; waits until init has
 * come for them. */
int bundle_apart_start(struct bundle_apart *a, const struct backend_fd *fds, size_t n,
		       struct err *e) _fallible_;
void bundle_apart_reap(struct bundle_apart *a, bool must_die, char *how, size_t how_size);
/* As `release` of struct backend; NULL is all right. docker_cleanup() and the docker backend's
 * sweep find what is left. */
bool bundle_apart_release(struct bundle_apart *a);
