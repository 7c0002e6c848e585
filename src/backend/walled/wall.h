/*
 * The wall of the native backend: a user and a network namespace with nothing in it but `lo`, the
 * pinned address on it, and the bundle's listening sockets, which are opened inside and passed out.
 * Whoever is started in there can reach those sockets and nothing else: there is no route to
 * refuse.
 */
#pragma once

#include "base/err.h"

#include <sys/types.h>

#define WALL_PINNED_DEFAULT "10.209.0.2"

/* The one id that the wall's user namespace maps. Not 0: whoever is that user in the network
 * namespace's owner may write /proc/sys/net without a capability (net_ctl_permissions). */
#define WALL_INSIDE_ID 1

/* The bundle's services that not every bottle has. REGISTRY: while a microVM fetches its image; its
 * port is closed before the canary looks. */
enum { WALL_GIT = 1, WALL_SUPERVISE = 2, WALL_REGISTRY = 4 };

struct wall {
	int userns_fd, netns_fd;
	/* Listening; whoever takes one sets it to -1. The last three: with their service only. */
	int pipelock_fd, dns_udp_fd, dns_tcp_fd, gitgate_fd, supervise_fd, registry_fd;
	unsigned services; /* WALL_… */
	uid_t uid;	   /* on the host: what the agent runs as; nobody else's when we are root */
	gid_t gid;
	char pinned[46];
};

#define WALL_INIT ((struct wall){-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, ""})

/* Picks the uid, makes the namespaces, verifies them from inside. About 2 ms. pinned is an IPv4
 * address. home: the agent's home, whose owner the agent is again when it is there already; or
 * NULL. services: WALL_…, whose ports are there too; the others' are closed. On failure nothing is
 * left behind and *e says what the host lacks. */
int wall_make(struct wall *w, const char *pinned, const char *home, unsigned services,
	      struct err *e) _fallible_;
/* Of the listening ones that are still here, but the registry's: what nobody serves is closed. */
void wall_close_sockets(struct wall *w);
/* Closes every descriptor that is still here; the namespaces go with their last user. */
void wall_free(struct wall *w);
/* setns() into the wall and takes its uid: for a child that is about to become the agent. The
 * process then holds every capability of the wall's user namespace until it execs. */
int wall_enter(const struct wall *w, struct err *e) _fallible_;
/* From a child in the wall's namespaces: the pinned pipelock port answers a request, and git-gate's
 * and supervise's, which are closed where the bottle has them not; a live listener of the host's,
 * 1.1.1.1, and egress's port do not. */
int wall_canary(const struct wall *w, int timeout_ms, struct err *e) _fallible_;
