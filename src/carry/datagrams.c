#include "carry/carrier_int.h"

#include "base/clean.h"
#include "base/mem.h"
#include "base/timeutil.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#define DATAGRAMS_TURN 32

/* A sender, and the socket that stands for it on the other side. */
struct flow {
	struct loop_watch watch;
	struct datagrams *datagrams;
	int fd; /* -1: the place is free */
	struct sockaddr_in from;
	uint64_t used_ns;
};

struct datagrams {
	struct carrier *carrier;
	struct loop_watch watch;
	struct loop_timer timer; /* the next look for silent ones */
	int fd;
	uint16_t port;
	struct flow flows[CARRIER_FLOWS_MAX];
};

static void flow_end(struct flow *f)
{
	if (f->fd < 0)
		return;
	if (f->watch.fd >= 0)
		loop_del(f->datagrams->carrier->loop, &f->watch);
	close_fd(&f->fd);
}

/* Of at most CARRIER_DATAGRAM_MAX bytes; -errno, -EAGAIN for nothing more. */
static ssize_t receive(int fd, char *data, struct sockaddr_in *from)
{
	socklen_t size = sizeof(*from);

	for (;;) {
		ssize_t got = recvfrom(fd, data, CARRIER_DATAGRAM_MAX, MSG_DONTWAIT | MSG_TRUNC,
				       (struct sockaddr *)from, &size);

		if (got < 0)
			return -errno;
		if (got <= CARRIER_DATAGRAM_MAX)
			return got;
	}
}

/* Answers. An error is of one that nobody took over there: the sender will ask again, or not. */
static void flow_on_answer(struct loop_watch *w, uint32_t events)
{
	struct flow *f = (struct flow *)(void *)((char *)w - offsetof(struct flow, watch));
	struct datagrams *d = f->datagrams;
	char *data = d->carrier->chunk;

	(void)events;
	for (int i = 0; i < DATAGRAMS_TURN; i++) {
		ssize_t got = receive(f->fd, data, &(struct sockaddr_in){0});

		if (got == -EAGAIN || got == -EINTR)
			return;
		if (got < 0) {
			flow_end(f);
			return;
		}
		f->used_ns = loop_now_ns(d->carrier->loop);
		(void)sendto(d->fd, data, (size_t)got, MSG_DONTWAIT | MSG_NOSIGNAL,
			     (const struct sockaddr *)&f->from, sizeof(f->from));
	}
}

/* The sender's, or the one that it is given. NULL: nobody is there to dial. */
static struct flow *flow_of(struct datagrams *d, const struct sockaddr_in *from)
{
	struct flow *f = &d->flows[0];

	for (size_t i = 0; i < CARRIER_FLOWS_MAX; i++) {
		struct flow *here = &d->flows[i];

		if (here->fd >= 0 && here->from.sin_port == from->sin_port &&
		    here->from.sin_addr.s_addr == from->sin_addr.s_addr)
			return here;
		/* A free place is one that was used at no time. */
		if ((here->fd < 0 ? 0 : here->used_ns) < (f->fd < 0 ? 0 : f->used_ns))
			f = here;
	}
	flow_end(f);
	f->fd = carrier_dial(d->carrier, SOCK_DGRAM, d->port);
	if (f->fd < 0)
		return NULL;
	f->from = *from;
	if (loop_add(d->carrier->loop, &f->watch, f->fd, EPOLLIN, NULL) < 0) {
		flow_end(f);
		return NULL;
	}
	return f;
}

static void datagrams_on_question(struct loop_watch *w, uint32_t events)
{
	struct datagrams *d =
		(struct datagrams *)(void *)((char *)w - offsetof(struct datagrams, watch));
	char *data = d->carrier->chunk;

	(void)events;
	for (int i = 0; i < DATAGRAMS_TURN; i++) {
		struct sockaddr_in from = {0};
		ssize_t got = receive(d->fd, data, &from);
		struct flow *f;

		if (got < 0)
			return;
		f = flow_of(d, &from);
		if (!f)
			continue;
		f->used_ns = loop_now_ns(d->carrier->loop);
		(void)send(f->fd, data, (size_t)got, MSG_DONTWAIT | MSG_NOSIGNAL);
	}
}

static void datagrams_on_timer(struct loop_timer *t)
{
	struct datagrams *d =
		(struct datagrams *)(void *)((char *)t - offsetof(struct datagrams, timer));
	const struct carrier *c = d->carrier;
	uint64_t silent_ns = c->limits.flow_ms * TIME_NS_PER_MS, now = loop_now_ns(c->loop);

	for (size_t i = 0; i < CARRIER_FLOWS_MAX; i++) {
		if (d->flows[i].fd >= 0 && now - d->flows[i].used_ns >= silent_ns)
			flow_end(&d->flows[i]);
	}
	loop_timer_set(c->loop, t, c->limits.flow_ms);
}

struct datagrams *datagrams_new(struct carrier *c, int fd, uint16_t port, struct err *e)
{
	struct datagrams *d = mem_zalloc(sizeof(*d));

	d->carrier = c;
	d->watch = (struct loop_watch){.fd = -1, .fn = datagrams_on_question};
	d->timer.fn = datagrams_on_timer;
	d->fd = fd;
	d->port = port;
	for (size_t i = 0; i < CARRIER_FLOWS_MAX; i++) {
		d->flows[i].watch = (struct loop_watch){.fd = -1, .fn = flow_on_answer};
		d->flows[i].datagrams = d;
		d->flows[i].fd = -1;
	}
	if (loop_add(c->loop, &d->watch, fd, EPOLLIN, e) < 0) {
		free(d);
		return NULL;
	}
	loop_timer_set(c->loop, &d->timer, c->limits.flow_ms);
	return d;
}

void datagrams_free(struct datagrams *d)
{
	if (d->watch.fd >= 0)
		loop_del(d->carrier->loop, &d->watch);
	loop_timer_del(d->carrier->loop, &d->timer);
	for (size_t i = 0; i < CARRIER_FLOWS_MAX; i++)
		flow_end(&d->flows[i]);
	free(d);
}
