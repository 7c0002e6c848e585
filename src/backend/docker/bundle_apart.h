/*
 * A bundle in a container behind a wall that is not the engine's: for a backend whose wall is a
 * network namespace of this host (backend/walled). It is what docker's bottle has of the bundle
 * (bundle_box.h), without a wall and without an agent: one ordinary bridge that nobody else is on,
 * which is its way out and at whose address its services listen. That address is the pinned one:
 * the wall's loopback has it too, so that the agent dials what the bundle listens on, and nothing
 * of the bundle's configuration differs. Between the two is a carrier (carry/carry.h).
 *
 * Who reaches the services: the agent, through the carrier; and whatever runs on this host in the
 * host's own network, as the host is on every bridge of its engine. So a process of another user of
 * this host may use the bundle as the agent does, with its routes and credentials, and is recorded
 * as the agent; a bundle that is a child of the keeper has no such door. Other containers do not
 * reach it (the engine isolates its bridges from each other), no other machine does (no port is
 * published), and no bottle does: its wall has no way there, and its bundle dials private addresses
 * only where the operator has named them.
 */
#pragma once

#include "backend/backend.h"

struct bundle_apart;

/* 0: an engine answers that can have it (asked once in this process); why says which. */
int bundle_apart_offer(char why[BACKEND_WHY_MAX], struct err *e) _fallible_;
/* In the foreground: its image. */
int bundle_apart_ensure(const struct progress *progress, struct err *e) _fallible_;
/* The bridge, and the container on its start; fills place. *out also after a failure, for
 * bundle_apart_release(). p outlives it. */
int bundle_apart_make(struct bundle_apart **out, const struct plan *p, const char *state_dir,
		      struct backend_place *place, struct err *e) _fallible_;
/* As `start_bundle` of struct backend; waits until init has come for its descriptors. */
int bundle_apart_start(struct bundle_apart *a, const struct backend_fd *fds, size_t n,
		       struct err *e) _fallible_;
void bundle_apart_reap(struct bundle_apart *a, bool must_die, char *how, size_t how_size);
/* As `release` of struct backend; NULL is all right. docker_cleanup() and the docker backend's
 * sweep find what is left. */
bool bundle_apart_release(struct bundle_apart *a);
