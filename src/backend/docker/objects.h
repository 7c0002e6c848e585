/*
 * What a bottle has in the engine, whichever backend's it is (the list is in docker_int.h): names,
 * labels, networks, containers; how they come to be and how they go. Names are for people; what
 * belongs to whom is said by labels.
 */
#pragma once

#include "backend/backend.h"
#include "base/json.h"
#include "engine/engine.h"

#include <netinet/in.h>

#define DOCKER_LABEL_SLUG  "claude-bottle.slug"
#define DOCKER_LABEL_STATE "claude-bottle.state" /* the bottle's state folder */
#define DOCKER_LABEL_ROLE  "claude-bottle.role"	 /* agent, bundle, wall, outer, closer, git */
#define DOCKER_PREFIX	   "claude-bottle-"
#define DOCKER_ID_SIZE	   80
#define DOCKER_STATE	   "docker" /* below the state folder */

/* --- owner.c: whose all that is --- */

struct docker_owner {
	struct engine engine;  /* api empty: none yet */
	const char *slug;      /* the plan's, which outlives this */
	char *state_dir, *dir; /* dir: DOCKER_STATE in it */
};

void docker_owner_init(struct docker_owner *o, const char *slug, const char *state_dir);
/* Finds the engine, removes what a run of this bottle's that was killed has left (perhaps in
 * another engine), and notes the engine in dir, before there is anything in it. */
int docker_owner_begin(struct docker_owner *o, struct err *e) _fallible_;
/* dir goes: nothing is in the engine any more. Both are docker_owner_release()'s. */
void docker_owner_end(const struct docker_owner *o);
void docker_owner_free(struct docker_owner *o);
/* The engine that made what state_dir's bottle has. -ENOENT: nothing can be there. */
int docker_engine_of(struct engine *out, const char *state_dir, struct err *e) _fallible_;
/* The `cleanup` of struct backend; 0 also where a bottle never had anything in an engine. */
int docker_cleanup(const char *slug, const char *state_dir, struct err *e) _fallible_;
/* For the eyes of a container's user whatever the umask says; who else is on this host does not
 * come past the state folder. Not synced: it is of no use to another run. */
int docker_write_file(const char *path, struct str text, struct err *e) _fallible_;

/* {"claude-bottle.slug": …, …} */
json_t *docker_labels(const struct docker_owner *o, const char *role);
/* PREFIX SLUG [-suffix] */
char *docker_name(const char *slug, const char *suffix);

/* --- range.c: addresses --- */

/* One network. On the wall nobody has the gateway's address; on the outer network there is no
 * agent. */
struct docker_net {
	const char *role;		 /* DOCKER_NET_… */
	const struct docker_net *beside; /* the bottle's other one, or NULL */
	char id[DOCKER_ID_SIZE];	 /* empty: not made */
	struct engine_call call;	 /* under way while it is being made */
	char subnet[20], gateway[16], bundle[16], agent[16];
};
#define DOCKER_NET_WALL	 "wall"
#define DOCKER_NET_OUTER "outer"

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
 * not ask for the same; the addresses alone. -EADDRNOTAVAIL when all are taken. */
int docker_range_pick(struct docker_net *out, const struct docker_taken *t, uint32_t seed,
		      struct err *e) _fallible_;

/* --- networks.c --- */

/* Picks addresses for all of them and has them made; each is there when docker_end_network() says
 * so. */
int docker_begin_networks(const struct docker_owner *o, struct docker_net *const *nets, size_t n,
			  struct err *e) _fallible_;
/* Addresses that somebody else was given meanwhile are picked anew. */
int docker_end_network(const struct docker_owner *o, struct docker_net *net,
		       struct err *e) _fallible_;
/* The container onto net, with the bundle's address there. */
int docker_connect_bundle(const struct docker_owner *o, const struct docker_net *net,
			  const char *container, struct err *e) _fallible_;

/* --- objects.c: making and removing --- */

/* Puts what to do behind the engine's own words. */
void docker_advise(struct err *e, const char *advice);
/* The "Id" of an answer. */
int docker_take_id(const json_t *answer, const char *what, char id[DOCKER_ID_SIZE],
		   struct err *e) _fallible_;
/* Takes spec. */
int docker_begin_container(const struct docker_owner *o, struct engine_call *c, json_t *spec,
			   const char *suffix, const char *what, struct err *e) _fallible_;
int docker_end_container(struct engine_call *c, char id[DOCKER_ID_SIZE], struct err *e) _fallible_;
int docker_begin_start(const struct docker_owner *o, struct engine_call *c, const char *id,
		       const char *what, struct err *e) _fallible_;
/* Which objects: all of slug, or with slug NULL those whose state folder lies below `below` and is
 * gone. state: only those of this state folder. */
struct docker_which {
	const char *slug, *state, *below;
	bool is_dry;
};
/* *n counts what was removed, or would be. Goes on after a failure and returns the first. */
int docker_remove(const struct engine *en, const struct docker_which *w, size_t *n,
		  struct err *e) _fallible_;
/* Ids of what a bottle knows that it has, each emptied when it is removed; NULL or empty: none. */
struct docker_known {
	char *containers[2], *networks[2];
};
/* Removes it: is_all: nothing can be there besides; else, and after a failure, by label too. Then
 * dir goes, unless something is left, which is logged: false, and cleanup looks there. Frees what
 * init made. */
bool docker_owner_release(struct docker_owner *o, const struct docker_known *known, bool is_all);

/* --- arrive.c --- */

/* A container that is being started, until its first process has come to its socket. */
struct docker_arrival {
	const char *who;
	int *listen_fd; /* -1 afterwards */
	struct engine_call *start;
	int (*take)(void *ctx, struct err *e);
	void *ctx;
	uint64_t until_ns; /* docker_await_all()'s own */
};
#define DOCKER_ARRIVALS_MAX 2
/* All of them, whichever is first. An answer of the engine that says that a start failed ends the
 * wait. */
int docker_await_all(struct docker_arrival *list, size_t n, struct err *e) _fallible_;

/* --- probe.c --- */

/* The engine, asked once in this process. */
int docker_engine(struct engine *out, struct err *e) _fallible_;
/* The `offer` of struct backend: an engine answers, and which. */
int docker_offer(char why[BACKEND_WHY_MAX], struct err *e) _fallible_;
