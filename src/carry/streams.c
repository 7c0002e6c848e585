/*
 * Theory of operation. A pair is two ends; what one reads goes to the other at once, and what that
 * does not take waits in `out` there. While anything waits nothing more is read for it, so out
 * never holds more than one chunk. An end that nothing is wanted of is not watched at all: epoll
 * would tell of its hang-up for ever. What is missed so is found when it is read or written next.
 */
#include "carry/carrier_int.h"

#include "base/buf.h"
#include "base/clean.h"
#include "base/mem.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>

#define STREAMS_ACCEPT_TURN 16
#define STREAMS_READ_TURN   4	/* chunks, before others have their turn */
#define STREAMS_PAUSE_MS    100 /* when this process or the host has no descriptors left */

struct end {
	struct loop_watch watch;
	struct pair *pair;
	int fd;
	struct buf out; /* what it has not taken yet */
	bool is_ended;	/* nothing more comes from it */
	bool is_told;	/* that nothing more comes to it */
};

enum { FRONT, BACK };

struct pair {
	struct streams *streams;
	struct pair *prev, *next;
	struct end ends[2];
	struct loop_timer timer; /* of dialling */
	bool is_dialling;
};

struct streams {
	struct carrier *carrier;
	struct loop_watch watch;
	struct loop_timer pause;
	int fd;
	uint16_t port;
	struct pair *pairs;
	size_t n;
};

/* --- a pair's end --- */

static void streams_listen(struct streams *s);

static void end_close(struct end *end, bool is_reset)
{
	const struct linger none = {.l_onoff = 1};

	if (end->watch.fd >= 0)
		loop_del(end->pair->streams->carrier->loop, &end->watch);
	if (is_reset)
		(void)setsockopt(end->fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
	close_fd(&end->fd);
	buf_free(&end->out);
}

static void pair_free(struct pair *p, bool is_reset)
{
	struct streams *s = p->streams;

	loop_timer_del(s->carrier->loop, &p->timer);
	end_close(&p->ends[FRONT], is_reset);
	end_close(&p->ends[BACK], is_reset);
	if (p->next)
		p->next->prev = p->prev;
	if (p->prev)
		p->prev->next = p->next;
	else
		s->pairs = p->next;
	s->n--;
	free(p);
}

/* It is over, and the next one in the backlog has its place. */
static void pair_end(struct pair *p, bool is_reset)
{
	struct streams *s = p->streams;

	pair_free(p, is_reset);
	streams_listen(s);
}

/* --- moving bytes --- */

/* What was taken, or -errno. */
static ssize_t end_send(const struct end *end, const char *data, size_t n)
{
	ssize_t put = send(end->fd, data, n, MSG_NOSIGNAL | MSG_DONTWAIT);

	if (put >= 0)
		return put;
	return errno == EAGAIN || errno == EINTR ? 0 : -errno;
}

static int end_flush(struct end *end)
{
	while (buf_len(&end->out) > 0) {
		ssize_t put = end_send(end, buf_str(&end->out).p, buf_len(&end->out));

		if (put <= 0)
			return (int)put;
		buf_consume(&end->out, (size_t)put);
	}
	buf_trim(&end->out);
	return 0;
}

/* One chunk. 1: there may be more. */
static int pair_move(struct end *from, struct end *to)
{
	char *chunk = from->pair->streams->carrier->chunk;
	ssize_t got = recv(from->fd, chunk, CARRIER_CHUNK_BYTES, MSG_DONTWAIT), put;

	if (got < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if (got == 0) {
		from->is_ended = true;
		return 0;
	}
	put = end_send(to, chunk, (size_t)got);
	if (put < 0)
		return (int)put;
	if (put < got)
		return buf_append(&to->out, chunk + put, (size_t)(got - put));
	return got == CARRIER_CHUNK_BYTES;
}

/* What from has for to; -errno: the pair is broken. */
static int pair_direction(struct end *from, struct end *to)
{
	int ret = end_flush(to);

	for (int i = 0; ret >= 0 && i < STREAMS_READ_TURN; i++) {
		if (from->is_ended || buf_len(&to->out) > 0)
			break;
		ret = pair_move(from, to);
		if (ret == 0)
			break;
	}
	if (ret < 0)
		return ret;
	if (from->is_ended && !to->is_told && buf_len(&to->out) == 0) {
		to->is_told = true;
		if (shutdown(to->fd, SHUT_WR) < 0)
			return -errno;
	}
	return 0;
}

static int end_watch(struct end *end, uint32_t events)
{
	struct loop *l = end->pair->streams->carrier->loop;

	if (events == 0 && end->watch.fd >= 0)
		loop_del(l, &end->watch);
	if (events == 0)
		return 0;
	return end->watch.fd >= 0 ? loop_set(l, &end->watch, events)
				  : loop_add(l, &end->watch, end->fd, events, NULL);
}

static int pair_watch(struct pair *p)
{
	int ret = 0;

	for (size_t i = 0; ret == 0 && i < 2; i++) {
		const struct end *end = &p->ends[i], *other = &p->ends[!i];
		uint32_t events = 0;

		if (!end->is_ended && buf_len(&other->out) == 0)
			events |= EPOLLIN;
		if (buf_len(&end->out) > 0)
			events |= EPOLLOUT;
		ret = end_watch(&p->ends[i], events);
	}
	return ret;
}

static void pair_run(struct pair *p)
{
	int ret = pair_direction(&p->ends[FRONT], &p->ends[BACK]);

	if (ret == 0)
		ret = pair_direction(&p->ends[BACK], &p->ends[FRONT]);
	if (ret == 0 && p->ends[FRONT].is_told && p->ends[BACK].is_told)
		pair_end(p, false);
	else if (ret < 0 || pair_watch(p) < 0)
		pair_end(p, true);
}

/* --- dialling --- */

static void pair_dialled(struct pair *p)
{
	int error = 0;
	socklen_t size = sizeof(error);

	if (getsockopt(p->ends[BACK].fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0 || error != 0) {
		pair_end(p, true);
		return;
	}
	p->is_dialling = false;
	loop_timer_del(p->streams->carrier->loop, &p->timer);
	pair_run(p);
}

static void pair_on_late(struct loop_timer *t)
{
	pair_end((struct pair *)(void *)((char *)t - offsetof(struct pair, timer)), true);
}

static void end_on_event(struct loop_watch *w, uint32_t events)
{
	struct pair *p = ((struct end *)(void *)((char *)w - offsetof(struct end, watch)))->pair;

	if (p->is_dialling)
		pair_dialled(p);
	else if (events & EPOLLERR)
		pair_end(p, true);
	else
		pair_run(p);
}

static void end_init(struct pair *p, size_t which, int fd)
{
	const int on = 1;

	p->ends[which] = (struct end){.watch = {.fd = -1, .fn = end_on_event},
				      .pair = p,
				      .fd = fd,
				      .out = BUF_INIT(CARRIER_CHUNK_BYTES)};
	/* Whoever has sent it has thought about that. */
	if (fd >= 0)
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

/* Takes fd. */
static void pair_begin(struct streams *s, int fd)
{
	struct pair *p = mem_zalloc(sizeof(*p));

	p->streams = s;
	p->next = s->pairs;
	if (p->next)
		p->next->prev = p;
	s->pairs = p;
	s->n++;
	p->timer.fn = pair_on_late;
	p->is_dialling = true;
	end_init(p, FRONT, fd);
	end_init(p, BACK, carrier_dial(s->carrier, SOCK_STREAM, s->port));
	if (p->ends[BACK].fd < 0 || end_watch(&p->ends[BACK], EPOLLOUT) < 0)
		pair_free(p, true);
	else
		loop_timer_set(s->carrier->loop, &p->timer, s->carrier->limits.dial_ms);
}

/* --- accepting --- */

static void streams_on_pause(struct loop_timer *t)
{
	streams_listen((struct streams *)(void *)((char *)t - offsetof(struct streams, pause)));
}

static void streams_pause(struct streams *s)
{
	if (s->watch.fd >= 0)
		loop_del(s->carrier->loop, &s->watch);
	loop_timer_set(s->carrier->loop, &s->pause, STREAMS_PAUSE_MS);
}

static void streams_on_connection(struct loop_watch *w, uint32_t events)
{
	struct streams *s = (struct streams *)(void *)((char *)w - offsetof(struct streams, watch));

	(void)events;
	for (int i = 0; i < STREAMS_ACCEPT_TURN && s->n < s->carrier->limits.connections; i++) {
		int fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd < 0 &&
		    (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)) {
			streams_pause(s);
			return;
		}
		if (fd < 0)
			return;
		pair_begin(s, fd);
	}
	if (s->n >= s->carrier->limits.connections && s->watch.fd >= 0)
		loop_del(s->carrier->loop, &s->watch);
}

/* Where there is room. */
static void streams_listen(struct streams *s)
{
	if (s->watch.fd >= 0 || s->pause.due_ns != 0 || s->n >= s->carrier->limits.connections)
		return;
	if (loop_add(s->carrier->loop, &s->watch, s->fd, EPOLLIN, NULL) < 0)
		streams_pause(s);
}

struct streams *streams_new(struct carrier *c, int fd, uint16_t port, struct err *e)
{
	struct streams *s = mem_zalloc(sizeof(*s));

	*s = (struct streams){.carrier = c,
			      .watch = {.fd = -1, .fn = streams_on_connection},
			      .pause = {.fn = streams_on_pause},
			      .fd = fd,
			      .port = port};
	if (loop_add(c->loop, &s->watch, fd, EPOLLIN, e) == 0)
		return s;
	free(s);
	return NULL;
}

void streams_free(struct streams *s)
{
	if (s->watch.fd >= 0)
		loop_del(s->carrier->loop, &s->watch);
	loop_timer_del(s->carrier->loop, &s->pause);
	while (s->pairs)
		pair_free(s->pairs, true);
	free(s);
}
