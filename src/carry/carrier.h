/*
 * Carries what comes to listening sockets of one network to one address of another, the same port
 * to the same port, byte by byte. Nothing is parsed, nothing is kept.
 *
 * A connection is accepted, and then dialled on; where nobody answers it is reset at once. An end
 * of input goes through as one (half-close), a reset as a reset. A side that does not read holds up
 * the other, and nothing else. Past a listener's limit its connections wait in its backlog, so that
 * a flood at one service leaves the others alone.
 *
 * A datagram's sender has a socket of its own on the other side, until it has been silent for a
 * while or others need the place: the table is bounded, and the one that has been silent longest
 * goes first.
 */
#pragma once

#include "base/err.h"
#include "net/loop.h"

#include <netinet/in.h>

#define CARRIER_CONNECTIONS_MAX 480 /* of one listener */
#define CARRIER_DIAL_MS		3000
#define CARRIER_FLOWS_MAX	64 /* senders of datagrams at once */
#define CARRIER_FLOW_MS		5000
#define CARRIER_DATAGRAM_MAX	4096 /* a longer one is dropped */
#define CARRIER_LISTENERS_MAX	8

struct carrier_limits {
	size_t connections; /* all: 0 is the one above */
	unsigned dial_ms, flow_ms;
};

struct carrier;

/* The loop outlives it. */
struct carrier *carrier_new(struct loop *l, struct in_addr to, const struct carrier_limits *limits);
/* fd: non-blocking and borrowed, a listening stream socket or a bound datagram socket. */
int carrier_add(struct carrier *c, int fd, uint16_t port, struct err *e) _fallible_;
void carrier_free(struct carrier *c); /* ends everything that is under way */
