#include "egress/dialer.h"

#include "base/clean.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <unistd.h>

static void dialer_try(struct dialer *d);

static void dialer_end(struct dialer *d, int fd, const char *reason)
{
	loop_timer_del(d->loop, &d->timer);
	d->is_active = false;
	d->fn(d, fd, reason, d->answer.detail);
}

static void dialer_drop_socket(struct dialer *d)
{
	if (d->asked != 0)
		reacher_cancel(d->answer.reacher, d->asked);
	d->asked = 0;
	if (d->fd < 0)
		return;
	loop_del(d->loop, &d->watch);
	close_fd(&d->fd);
}

static void dialer_on_connected(struct loop_watch *w, uint32_t events)
{
	struct dialer *d = (struct dialer *)((char *)w - offsetof(struct dialer, watch));
	socklen_t n = sizeof(d->last_errno);
	int fd;

	(void)events;
	if (getsockopt(d->fd, SOL_SOCKET, SO_ERROR, &d->last_errno, &n) < 0)
		d->last_errno = errno;
	if (d->last_errno != 0) {
		dialer_drop_socket(d);
		dialer_try(d);
		return;
	}
	loop_del(d->loop, &d->watch);
	fd = take_fd(&d->fd);
	dialer_end(d, fd, "ok");
}

static void dialer_on_timer(struct loop_timer *t)
{
	struct dialer *d = (struct dialer *)((char *)t - offsetof(struct dialer, timer));

	if (d->fd >= 0 || d->asked != 0) {
		d->last_errno = ETIMEDOUT;
		dialer_drop_socket(d);
	}
	dialer_try(d);
}

/* -1 and d->last_errno, or a socket on its way. */
static int dialer_open(struct dialer *d, const struct sockaddr_storage *to)
{
	const struct sockaddr *sa = (const struct sockaddr *)to;
	_cleanup_close_ int fd = -1;

	fd = socket(sa->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0) {
		d->last_errno = errno;
		return -1;
	}
	if (connect(fd, sa, address_size(sa)) < 0 && errno != EINPROGRESS) {
		d->last_errno = errno;
		return -1;
	}
	return take_fd(&fd);
}

/* Owns fd, which is on its way. */
static bool dialer_await(struct dialer *d, int fd)
{
	int on = 1;

	d->fd = fd;
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (loop_add(d->loop, &d->watch, fd, EPOLLOUT, NULL) == 0)
		return true;
	d->last_errno = EIO;
	close_fd(&d->fd);
	return false;
}

static void dialer_on_reached(void *ctx, int fd, int error)
{
	struct dialer *d = ctx;

	d->asked = 0;
	d->last_errno = error;
	if (fd < 0 || !dialer_await(d, fd))
		dialer_try(d);
}

/* False, and d->last_errno: on to the next one. */
static bool dialer_begin(struct dialer *d, size_t i)
{
	const struct sockaddr_storage *to = &d->answer.addresses[i];
	int fd;

	if (d->answer.reacher) {
		struct reacher_question q = {
			.list = REACH_RESOLVE,
			.kind = REACH_STREAM,
			.number = d->answer.numbers[i],
			/* the same place in v6 */
			.port = ntohs(((const struct sockaddr_in *)(const void *)to)->sin_port)};

		d->asked = reacher_ask(d->answer.reacher, &q, dialer_on_reached, d, &d->last_errno);
		return d->asked != 0;
	}
	fd = dialer_open(d, to);
	return fd >= 0 && dialer_await(d, fd);
}

static const char *dialer_reason(const struct dialer *d)
{
	switch (d->last_errno) {
	case ETIMEDOUT:
		return "connect-timeout";
	case REACHER_GONE:
		return d->answer.reacher ? "reach-failed" : "connect-failed";
	case REACHER_BUSY:
		return d->answer.reacher ? "egress-busy" : "connect-failed";
	default:
		return "connect-failed";
	}
}

/* Skips what cannot be reached at once; otherwise waits for one address. */
static void dialer_try(struct dialer *d)
{
	while (d->next < d->answer.n) {
		size_t i = d->next++;
		const struct sockaddr_storage *to = &d->answer.addresses[i];
		bool no_route = false;
		char text[POLICY_ADDRESS_SIZE];

		if (!d->answer.is_operators &&
		    address_is_delivered_here((const struct sockaddr *)to, &no_route)) {
			policy_address_format(to, text);
			(void)snprintf(d->answer.detail, sizeof(d->answer.detail),
				       "%s is delivered to this host", text);
			dialer_end(d, -1, resolver_status_name(RESOLVER_INSIDE));
			return;
		}
		if (no_route)
			d->last_errno = ENETUNREACH;
		if (no_route || !dialer_begin(d, i))
			continue;
		loop_timer_set(d->loop, &d->timer,
			       d->next < d->answer.n ? DIALER_LATE_MS : DIALER_CONNECT_MS);
		return;
	}
	(void)snprintf(d->answer.detail, sizeof(d->answer.detail), "last of %zu addresses: %s",
		       d->answer.n, strerror(d->last_errno));
	dialer_end(d, -1, dialer_reason(d));
}

static void dialer_on_answer(void *ctx, const struct resolver_answer *a)
{
	struct dialer *d = ctx;

	d->lookup = NULL;
	d->answer = *a;
	if (a->status != RESOLVER_OK)
		dialer_end(d, -1, resolver_status_name(a->status));
	else
		dialer_try(d);
}

bool dialer_start(struct dialer *d, struct loop *l, struct resolver *r, struct str host,
		  uint16_t port, dialer_fn fn)
{
	*d = (struct dialer){.loop = l, .fn = fn, .fd = -1, .is_active = true};
	d->watch = (struct loop_watch){.fd = -1, .fn = dialer_on_connected};
	d->timer.fn = dialer_on_timer;
	d->lookup = resolver_ask(r, host, port, dialer_on_answer, d);
	d->is_active = d->lookup != NULL;
	return d->is_active;
}

bool dialer_next(struct dialer *d)
{
	if (d->next >= d->answer.n)
		return false;
	d->is_active = true;
	/* From the loop, as for the first one. */
	loop_timer_set(d->loop, &d->timer, 0);
	return true;
}

void dialer_cancel(struct dialer *d)
{
	if (!d->is_active)
		return;
	d->is_active = false;
	if (d->lookup)
		resolver_cancel(d->lookup);
	d->lookup = NULL;
	dialer_drop_socket(d);
	loop_timer_del(d->loop, &d->timer);
}
