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

#include "backend/backend.h"
#include "backend/guest_execs.h"
#include "base/buf.h"
#include "base/json.h"
#include "engine/engine.h"
#include "image/image.h"
#include "workspace/workspace.h"

#include <netinet/in.h>
#include <sys/types.h>

#define DOCKER_LABEL_SLUG  "claude-bottle.slug"
#define DOCKER_LABEL_STATE "claude-bottle.state" /* the bottle's state folder */
#define DOCKER_LABEL_ROLE  "claude-bottle.role"	 /* agent, bundle, wall, outer, closer, git */
#define DOCKER_PREFIX	   "claude-bottle-"
#define DOCKER_ID_SIZE	   80
#define DOCKER_FDS_MAX	   12
#define DOCKER_CA_FILE	   "ca.pem"
#define DOCKER_STATE	   "docker"	       /* below the state folder */
#define DOCKER_GIT_FOLDER  "/var/lib/git-gate" /* of the bundle's image, anybody's to write */

/* --- range.c: addresses --- */

/* One network. On the wall nobody has the gateway's address; on the outer network there is no
 * agent. */
struct docker_net {
	char id[DOCKER_ID_SIZE]; /* empty: not made */
	struct engine_call call; /* under way while it is being made */
	char subnet[20], gateway[16], bundle[16], agent[16];
};

#define DOCKER_TAKEN_MAX 4096
struct docker_taken {
	struct {
		uint32_t first, last; /* host byte order */
	} list[DOCKER_TAKEN_MAX];
	size_t n;
};

/* What the host's routes (but the default one) and the engine's networks (the answer to GET
 * /networks) cover. Past DOCKER_TAKEN_MAX an error: nothing is known to be free then. */
int docker_taken_read(struct docker_taken *t, const json_t *networks, struct err *e) _fallible_;
/* "10.1.2.0/24"; what is not IPv4 is passed over. */
int docker_taken_add_text(struct docker_taken *t, const char *text, struct err *e) _fallible_;
/* The first free block from a place that depends on seed, so that bottles that start together do
 * not ask for the same; all but id. -EADDRNOTAVAIL when all are taken. */
int docker_range_pick(struct docker_net *out, const struct docker_taken *t, uint32_t seed,
		      struct err *e) _fallible_;

/* --- networks.c --- */

/* Picks addresses for both and has both made; each is there when docker_end_network() says so. */
int docker_begin_networks(struct bottle *b, struct err *e) _fallible_;
/* net: one of the bottle's two. Addresses that somebody else was given meanwhile are picked anew.
 */
int docker_end_network(struct bottle *b, struct docker_net *net, struct err *e) _fallible_;
/* The bundle's container onto the outer network. */
int docker_connect_outer(struct bottle *b, struct err *e) _fallible_;

/* --- a bottle --- */

struct docker_kept_fd {
	char name[16];
	int fd;
};

struct bottle {
	const struct plan *plan;
	struct engine engine;
	char *state_dir, *dir, *home;
	struct workspace workspace;
	struct image_info agent_image, bundle_image;
	char *bundle_path; /* of the executable, which the agent's container finds at GUEST_BUNDLE
			    */
	struct docker_net wall, outer;
	char bundle_id[DOCKER_ID_SIZE], agent_id[DOCKER_ID_SIZE];
	uid_t uid; /* of the agent, in the container and on the host */
	gid_t gid;
	char **env;
	/* the bundle */
	struct engine_call bundle_start, agent_start; /* under way from prepare to launch */
	int bundle_listen_fd;
	struct docker_kept_fd kept[DOCKER_FDS_MAX]; /* until init has come for them */
	size_t n_kept;
	bool is_bundle_started;
	char how[96];
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

/* --- objects.c: making and removing --- */

/* {"claude-bottle.slug": …, …} */
json_t *docker_labels(const struct bottle *b, const char *role);
/* PREFIX SLUG [-suffix] */
char *docker_name(const char *slug, const char *suffix);
/* Puts what to do behind the engine's own words. */
void docker_advise(struct err *e, const char *advice);
/* The "Id" of an answer. */
int docker_take_id(const json_t *answer, const char *what, char id[DOCKER_ID_SIZE],
		   struct err *e) _fallible_;
/* Takes spec. */
int docker_begin_container(struct bottle *b, struct engine_call *c, json_t *spec,
			   const char *suffix, const char *what, struct err *e) _fallible_;
int docker_end_container(struct engine_call *c, char id[DOCKER_ID_SIZE], struct err *e) _fallible_;
/* Which objects: all of slug, or with slug NULL those whose state folder lies below `below` and is
 * gone. state: only those of this state folder. */
struct docker_which {
	const char *slug, *state, *below;
	bool is_dry;
};
/* *n counts what was removed, or would be. Goes on after a failure and returns the first. */
int docker_remove(const struct engine *en, const struct docker_which *w, size_t *n,
		  struct err *e) _fallible_;
/* What this bottle knows that it has. */
int docker_remove_own(struct bottle *b, struct err *e) _fallible_;

/* --- spec.c: what containers are asked for; new references, NULL without memory --- */

json_t *docker_strings(char *const *list);
json_t *docker_spec_bundle(const struct bottle *b);
json_t *docker_spec_agent(const struct bottle *b);
json_t *docker_spec_closer(const struct bottle *b);

/* --- place.c: the state folder --- */

/* Makes `docker` and notes the engine in it, before there is anything in that engine. */
int docker_mark_place(const struct bottle *b, struct err *e) _fallible_;
/* The rest of it, and the agent's home; picks the agent's ids. */
int docker_make_place(struct bottle *b, struct err *e) _fallible_;
int docker_write_files(struct bottle *b, struct err *e) _fallible_;
int docker_write_ca(const struct bottle *b, struct str ca_pem, struct err *e) _fallible_;
void docker_remove_place(const struct bottle *b);
/* The engine that made what state_dir's bottle has. -ENOENT: nothing can be there. */
int docker_engine_of(struct engine *out, const char *state_dir, struct err *e) _fallible_;

/* --- start.c: both containers, from nothing to their first processes --- */

/* Both containers, started, as far as that can be without waiting. */
int docker_begin(struct bottle *b, struct err *e) _fallible_;
int docker_start_bundle(struct bottle *b, const struct backend_fd *fds, size_t n,
			struct err *e) _fallible_;
/* What init has not come for. */
void docker_close_kept(struct bottle *b);
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

/* The engine, asked once in this process. */
int docker_engine(struct engine *out, struct err *e) _fallible_;
int docker_probe(struct backend_check checks[BACKEND_CHECKS_MAX], size_t *n,
		 struct err *e) _fallible_;
