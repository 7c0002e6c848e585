/* Between carrier.c, streams.c and datagrams.c. */
#pragma once

#include "carry/carrier.h"

#define CARRIER_CHUNK_BYTES 32768 /* read at once; the most that waits for one side */

struct carrier {
	struct loop *loop;
	struct in_addr to;
	struct carrier_limits limits;
	struct streams *streams[CARRIER_LISTENERS_MAX];
	struct datagrams *datagrams[CARRIER_LISTENERS_MAX];
	size_t n_streams, n_datagrams;
	char chunk[CARRIER_CHUNK_BYTES]; /* of whoever reads now */
};

/* A non-blocking socket that is being connected to port of the other side, or -errno. */
int carrier_dial(const struct carrier *c, int type, uint16_t port);

/* One listener's connections. */
struct streams *streams_new(struct carrier *c, int fd, uint16_t port, struct err *e);
void streams_free(struct streams *s);
/* One socket's senders. */
struct datagrams *datagrams_new(struct carrier *c, int fd, uint16_t port, struct err *e);
void datagrams_free(struct datagrams *d);
