/*
 * A name server of the tests' own, on loopback, in threads. What it answers is chosen by the first
 * label of the name that is asked for; see dns_stub.c.
 */
#pragma once

#include <stdatomic.h>
#include <netinet/in.h>
#include <pthread.h>

struct dns_stub {
	int fd, tcp_fd;
	pthread_t thread, tcp_thread;
	struct sockaddr_storage address;
	atomic_uint n_asked; /* questions of any kind */
	atomic_uint n_tcp;   /* connections */
};

void dns_stub_start(struct dns_stub *s);
void dns_stub_stop(struct dns_stub *s);

/* Packets, also for the parser's own tests. Each returns the new length; p holds 1024 bytes. */
size_t dns_put_head(uint8_t *p, uint16_t id, uint16_t flags, uint16_t n_answers);
size_t dns_put_name(uint8_t *p, size_t n, const char *name);
size_t dns_put_question(uint8_t *p, size_t n, const char *name, uint16_t type);
size_t dns_put_rr(uint8_t *p, size_t n, const char *owner, uint16_t type, uint32_t ttl,
		  const void *data, size_t size);
size_t dns_put_address(uint8_t *p, size_t n, const char *owner, uint32_t ttl, const char *address);
size_t dns_put_alias(uint8_t *p, size_t n, const char *owner, const char *target);
