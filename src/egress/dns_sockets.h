/*
 * c-ares' sockets where the name servers are the operator's and stand in the host's network: each
 * is asked of the keeper. c-ares wants a socket at once, so it gets a number of ours, behind which
 * the real one comes a moment later; a question that it sends meanwhile over UDP is kept, as many
 * as DNS_SOCKETS_HELD_BYTES hold, and the others are lost as UDP may lose them (c-ares asks again).
 */
#pragma once

#include "conf/policy.h"
#include "egress/reacher.h"
#include "net/loop.h"

#include <ares.h>

#define DNS_SOCKETS_MAX	       (4 * POLICY_DNS_MAX) /* at most two of each server are in use */
#define DNS_SOCKETS_HELD_BYTES 16384		    /* of each */

struct dns_sockets;

/* Something came, or something may be sent: the caller tells c-ares. */
typedef void (*dns_sockets_fn)(void *ctx, ares_socket_t s, uint32_t events);

/* Gives channel these sockets and no others; before its first question. policy (for dns) and
 * reacher are borrowed. Freed after the channel. */
struct dns_sockets *dns_sockets_new(struct loop *l, ares_channel channel, struct reacher *reacher,
				    const struct policy *policy, dns_sockets_fn fn, void *ctx);
void dns_sockets_free(struct dns_sockets *s);
/* What c-ares waits for (ARES_OPT_SOCK_STATE_CB): EPOLLIN, EPOLLOUT, or 0. */
void dns_sockets_watch(struct dns_sockets *s, ares_socket_t which, uint32_t events);
