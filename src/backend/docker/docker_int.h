/*
 * Between the files of the docker backend. What one bottle has in the engine:
 *
 *   network    claude-bottle-SLUG          the wall: internal, no address of the host's on it
 *   network    claude-bottle-SLUG-outer    the bundle's way out
 *   container  claude-bottle-SLUG-bundle   on both; at the pinned address of the wall
 *   container  claude-bottle-SLUG          the agent, on the wall alone
 *   volume     (no name)                   git-gate's folder in the bundle; with git
 *
 * and in its state folder a folder `docker`, which is there as long as any of these may be:
 *
 *   engine     path of the engine's socket, for cleanup
 *   etc/       files of the agent's /etc, mounted read-only one by one
 *   agent/     the socket between the keeper and process 1 of the agent's container
 *   bundle/    the socket over which the bundle's init is given its descriptors
 */
#pragma once

#include "backend/docker/bundle_box.h"
#include "backend/guest_execs.h"
#include "workspace/workspace.h"

#include <sys/types.h>

#define DOCKER_CA_FILE "ca.pem"

/* --- a bottle --- */

struct bottle {
	const struct plan *plan;
	struct docker_owner owner;
	char *home;
	struct workspace workspace;
	struct image_info agent_image;
	char *bundle_path; /* of the executable, which the agent's container finds at GUEST_BUNDLE
			    */
	struct docker_net wall;
	struct bundle_box box;
	char agent_id[DOCKER_ID_SIZE];
	uid_t uid; /* of the agent, in the container and on the host */
	gid_t gid;
	char **env;
	struct engine_call agent_start; /* under way from prepare to launch */
	/* the agent */
	int guest_listen_fd;
	int guest_fd;	 /* to process 1; its close ends the container */
	int fail_fds[2]; /* where relays write why they lost the engine; ours, theirs */
	pid_t relay_pid; /* child: stands for the agent */
	bool has_tty;
	struct guest_execs execs;
	bool has_gone;	  /* the agent was let go: nothing is being made any more */
	char reason[512]; /* what broke */
};

/* --- spec.c: what containers are asked for, with spec.h --- */

json_t *docker_spec_agent(const struct bottle *b);
json_t *docker_spec_closer(const struct bottle *b);

/* --- place.c: the state folder --- */

/* All but the mark in it, and the agent's home; picks the agent's ids. */
int docker_make_place(struct bottle *b, struct err *e) _fallible_;
int docker_write_files(struct bottle *b, struct err *e) _fallible_;
int docker_write_ca(const struct bottle *b, struct str ca_pem, struct err *e) _fallible_;

/* --- start.c: both containers, from nothing to their first processes --- */

/* Both containers, started, as far as that can be without waiting. */
int docker_begin(struct bottle *b, struct err *e) _fallible_;
int docker_start_bundle(struct bottle *b, const struct backend_fd *fds, size_t n,
			struct err *e) _fallible_;
/* Until both first processes have come: init has its descriptors, guest init is held in a network
 * that is closed. */
int docker_await(struct bottle *b, struct err *e) _fallible_;

/* --- run.c: the containers' lives --- */

void docker_reap_bundle(struct bottle *b, bool must_die, char *how, size_t how_size);
int docker_launch(struct bottle *b, struct backend_stdio *io, pid_t *pid, struct err *e) _fallible_;
int docker_go(struct bottle *b, struct str ca_pem, struct err *e) _fallible_;
int docker_exec(struct bottle *b, char *const *argv, struct backend_stdio *io, pid_t *pid,
		struct err *e) _fallible_;
int docker_signal(struct bottle *b, pid_t pid, int signo);
void docker_kill(struct bottle *b);
const char *docker_reason(struct bottle *b, int status);

/* --- wall.c: closing the agent's network, and the proof --- */

int docker_close_network(struct bottle *b, struct err *e) _fallible_;
int docker_canary(struct bottle *b, struct err *e) _fallible_;

/* --- commit.c --- */

int docker_commit(const char *slug, const char *state_dir, const char *name,
		  char reference[BACKEND_REFERENCE_MAX], struct err *e) _fallible_;

/* --- probe.c --- */

int docker_probe(struct backend_check checks[BACKEND_CHECKS_MAX], size_t *n,
		 struct err *e) _fallible_;
