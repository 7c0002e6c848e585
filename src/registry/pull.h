/* The registry as a server on a loop: connections, requests, answers. */
#pragma once

#include "net/loop.h"
#include "registry/registry.h"
#include "registry/blobs.h"

/* Time-outs; 0 takes the default in brackets. */
struct pull_limits {
	unsigned head_ms; /* from the first byte of a request to its last header byte [10000] */
	unsigned idle_ms; /* without a request [30000] */
	unsigned send_ms; /* in which a reader must take something of its answer [30000] */
};

struct pull;

/* blobs, and the descriptors in it, are borrowed and must outlive the server. */
struct pull *pull_new(struct loop *l, const struct blobs *blobs, const struct pull_limits *limits);
/* fd: a listening socket, non-blocking from now on; borrowed. */
int pull_listen(struct pull *p, int fd, struct err *e) _fallible_;
void pull_free(struct pull *p);
