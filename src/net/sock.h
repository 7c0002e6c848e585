/*
 * Plain sockets to numeric addresses: what canaries and probes dial with. Nothing is looked up.
 *
 * A socket that asks for its own port on its own loopback meets itself: the kernel answers, and
 * nobody's service; with ports of the ephemeral range that happens once in some 28,000 times, and
 * looks like a hole in the wall. The sockets made here are given another port first.
 */
#pragma once

#include "base/err.h"
#include "base/str.h"

#include <netinet/in.h>
#include <sys/socket.h>

/* The size of what was filled in; 0 if it is no address of either family. */
socklen_t sock_address(struct sockaddr_storage *out, const char *address, uint16_t port);
/* A non-blocking socket of to's family, or -errno. Where it cannot be given a port it has none yet:
 * rather a false alarm than nothing. */
int sock_open(const struct sockaddr_storage *to, int type);
/* A connected TCP socket, non-blocking, within timeout_ms, or -errno: -EINVAL for what is no
 * address, -ETIMEDOUT for silence. */
int sock_dial(const char *address, uint16_t port, int timeout_ms);
/* Sends a text that fits the socket's buffer, then the end, and waits until the other side has read
 * it: until it answers, hangs up, or timeout_ms are over. */
void sock_say(int fd, struct str text, int timeout_ms);
/* A non-blocking TCP listener on a port of the kernel's choice; address in network byte order. */
int sock_listen(in_addr_t address, uint16_t *port, struct err *e) _fallible_;
/* 0 if HTTP of some kind is answered there by until_ns (CLOCK_MONOTONIC); whoever answers byte by
 * byte gets no more time than others. -ECONNREFUSED if nobody listens (yet). *e speaks of "the
 * bundle", seen from the bottle. */
int sock_ask_http(const char *address, uint16_t port, uint64_t until_ns, struct err *e) _fallible_;
/* The same, and it must be git-gate: "/" is refused with 404, and the JSON that says so is git's.
 */
int sock_ask_gitgate(const char *address, uint16_t port, uint64_t until_ns,
		     struct err *e) _fallible_;
