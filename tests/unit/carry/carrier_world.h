/* A carrier in a process of its own, between two addresses of the loopback: what listens at FRONT
 * is carried to BACK, the same port. */
#pragma once

#include "carry/carrier.h"

#include <cmocka.h>
#include <sys/types.h>

#define WORLD_FRONT   0x7f000a01u /* 127.0.10.1 */
#define WORLD_BACK    0x7f000a02u
#define WORLD_WAIT_MS 5000
#define WORLD_PORTS   2

struct world {
	pid_t pid;
	uint16_t ports[WORLD_PORTS]; /* streams; the first one takes datagrams too */
};

/* limits: {0} for its own. */
void world_start(struct world *w, const struct carrier_limits *limits);
void world_end(struct world *w);
/* Its open descriptors. */
size_t world_files(const struct world *w);
/* So many, before long. */
void world_expect_files(const struct world *w, size_t n);

struct sockaddr_in world_address(uint32_t host, uint16_t port);
/* What listens at the back; backlog -1: as many as there may be. For datagrams: bound. */
int world_listen(const struct world *w, size_t which, int type, int backlog);
/* A client's, connected to the front; blocking, but never longer than WORLD_WAIT_MS. */
int world_connect(const struct world *w, size_t which, int type);
/* At the back, likewise; -1 if nobody comes within that many ms. */
int world_accept(int listener, int timeout_ms);

/* Both ends of one carried connection. */
void world_pair(const struct world *w, int listener, int *client, int *server);
/* All of it, or the test fails. */
void world_send(int fd, const char *text);
void world_expect(int fd, const char *text);
void world_expect_end(int fd);
/* The connection was reset: errno of a read that waits. */
void world_expect_reset(int fd);
/* close() that resets. */
void world_reset(int fd);
