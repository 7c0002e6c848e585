/*
 * An upstream of the test's own on loopback: TLS with a certificate made on the spot (or plain),
 * one thread per connection. What it answers is chosen by the path; see upstream.c.
 */
#pragma once

#include <netinet/in.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdatomic.h>

#define UPSTREAM_CREDENTIAL "sk-real-4f9a8b7c6d5e4f3a2b1c"

struct upstream {
	int fd;
	uint16_t port;
	SSL_CTX *ctx; /* NULL: plain */
	pthread_t thread;
	char *ca_pem; /* what to trust */
	atomic_uint n_connections, n_requests;
	atomic_int go;	       /* /sse waits for it before its second event */
	atomic_uint n_waiting; /* for that */
};

/* name: of the certificate; NULL for plain HTTP. */
void upstream_start(struct upstream *u, const char *name);
void upstream_stop(struct upstream *u);
