/*
 * What a container engine makes, made by hand: a network namespace for the agent with an address on
 * a network, a default route that leads nowhere and a resolver on 127.0.0.11, and at the other end
 * of the wire one for the bundle. As root, or in a user namespace whose uid 0 this process becomes.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#define SCENE_PINNED "10.210.0.2"
#define SCENE_OWN    "10.210.0.3"

struct scene {
	int agent_ns, bundle_ns;
	pid_t listeners[8];
	size_t n_listeners;
};

/* What this machine lacks for any of it, NULL if nothing. To be asked first: it may make the user
 * namespace. */
const char *scene_prepare(void);
/* Root of the machine, so that other users can be played. */
bool scene_is_root(void);

void scene_make(struct scene *s);
void scene_free(struct scene *s);
/* "link set lo up" and the like in a namespace; false if ip(8) refuses. */
bool scene_ip(int ns, const char *arguments);
/* Runs fn in the namespace, in a child of its own. Its status. */
int scene_run(int ns, int (*fn)(void *ctx), void *ctx);
/* In a child: there for good, or it ends. */
void scene_enter(int ns);

/* Somebody who answers every connection to address:port with that text ("": hangs up at once; NULL:
 * accepts nothing, and has a full queue), from delay_ms on. */
void scene_listen(struct scene *s, int ns, const char *address, unsigned port, const char *answer,
		  unsigned delay_ms);
/* Who answers datagrams. */
void scene_answer_udp(struct scene *s, int ns, const char *address, unsigned port);
void scene_silence(struct scene *s);
