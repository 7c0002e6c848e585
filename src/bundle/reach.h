/*
 * What egress may ask of the keeper where the bundle's network is not the host's (reach= of
 * bundle.h): a socket of the host's network, on its way to an address that the operator named in
 * egress.resolve or egress.dns. Such an address may lie on the host's loopback, which no other
 * network reaches. Fixed-size messages over one SOCK_SEQPACKET channel; no byte of a connection
 * passes through the keeper.
 *
 * A request names a place in a list of the policy, never an address: the keeper dials what its own
 * copy of the policy says there. Whatever egress, which has the same policy but for grants that
 * come or go, would not ask (a number out of range, another port than the address has, another
 * size, a descriptor) ends the channel, and it stays ended for as long as the bottle lives.
 */
#pragma once

#include <stdint.h>

enum reach_list {
	REACH_RESOLVE = 1, /* policy.resolve; streams only */
	REACH_DNS	   /* policy.dns */
};

enum reach_kind { REACH_STREAM = 1, REACH_DATAGRAM };

struct reach_request {
	uint64_t id;   /* comes back with the answer */
	uint32_t life; /* the same; which egress asks, as init counts them */
	uint16_t list; /* enum reach_list */
	uint16_t kind; /* enum reach_kind */
	uint16_t number;
	/* The address's own; where it has none, 53 in REACH_DNS and in REACH_RESOLVE one that a
	 * route allows for the name: another one is answered with EACCES. */
	uint16_t port;
	uint32_t zero;
};
_Static_assert(sizeof(struct reach_request) == 24, "no padding");

/* In the order of the requests. */
struct reach_reply {
	uint64_t id;
	uint32_t life;
	/* 0, and the message brings the socket: not blocking, connect() done or under way
	 * (EPOLLOUT and SO_ERROR tell). Else the errno why not, and there is none. */
	uint32_t status;
};
_Static_assert(sizeof(struct reach_reply) == 16, "no padding");

/* Answers that egress may be waiting for. The channel holds more than twice as many, since those to
 * an egress that died are still in it when the next one asks. */
#define REACH_PENDING_MAX 128
