/*
 * The bundle in a container of its own. What it has in the engine:
 *
 *   network    claude-bottle-SLUG-outer    an ordinary bridge with nobody else on it: its way out
 *   container  claude-bottle-SLUG-bundle
 *   volume     (no name)                   git-gate's folder; with git
 *
 * and in the state folder docker/bundle/, with the socket over which its init is given its
 * descriptors. Of docker's backend it is on the agent's wall besides, and its services listen at
 * its address there; behind a wall that is not the engine's (bundle_apart.h) their listening
 * sockets are among the descriptors, and nothing of it listens on a network of the engine's.
 *
 * Init goes on to wait for its descriptors while the keeper does something else: start keeps them,
 * and they are given when somebody awaits its arrival.
 */
#pragma once

#include "backend/backend.h"
#include "backend/docker/objects.h"
#include "image/image.h"

#define BUNDLE_BOX_GIT_FOLDER "/var/lib/git-gate" /* of its image, anybody's to write */

struct bundle_box_fd {
	char name[16];
	int fd;
};

struct bundle_box {
	const struct docker_owner *owner;
	const struct plan *plan;
	struct docker_net outer;
	const struct docker_net *wall; /* where its services listen, at `bundle` of it; or NULL */
	struct image_info image;
	char id[DOCKER_ID_SIZE];
	struct engine_call make, start; /* under way */
	int listen_fd;
	struct bundle_box_fd kept[BACKEND_FDS_MAX]; /* until init has come for them */
	size_t n_kept;
	bool is_started;
	char how[96];
};

/* owner, plan and wall outlive it. wall: the agent's network, made by somebody else; NULL: it is
 * given its listening sockets. Nothing is made yet; bundle_box_settle() and _close() are safe from
 * here on. */
void bundle_box_init(struct bundle_box *box, const struct docker_owner *o, const struct plan *p,
		     struct docker_net *wall);
/* Its image must be there (image_ensure_bundle). */
int bundle_box_find_image(struct bundle_box *box, struct err *e) _fallible_;
/* The folder and its socket. */
int bundle_box_place(struct bundle_box *box, struct err *e) _fallible_;
/* Asks for the container; the wall, or without one the outer network, must have been made. */
int bundle_box_begin(struct bundle_box *box, struct err *e) _fallible_;
/* When the outer network has been begun too: waits for both and has the container started. */
int bundle_box_run(struct bundle_box *box, struct err *e) _fallible_;
/* The `start_bundle` of struct backend: keeps the descriptors. */
int bundle_box_start(struct bundle_box *box, const struct backend_fd *fds, size_t n,
		     struct err *e) _fallible_;
struct docker_arrival bundle_box_arrival(struct bundle_box *box);
/* The `reap_bundle` of struct backend. */
void bundle_box_reap(struct bundle_box *box, bool must_die, char *how, size_t how_size);
/* What is being made is known afterwards, so that it can be removed. */
void bundle_box_settle(struct bundle_box *box);
void bundle_box_close(struct bundle_box *box); /* every descriptor */
/* What the keeper is to know of it: uids, git-gate's folder, and with a wall the pinned address. */
int bundle_box_fill(const struct bundle_box *box, struct backend_place *place,
		    struct err *e) _fallible_;
