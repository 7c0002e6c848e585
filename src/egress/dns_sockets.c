#include "egress/dns_sockets.h"

#include "base/clean.h"
#include "base/log.h"
#include "base/mem.h"
#include "egress/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/uio.h>

#define FIRST_NUMBER 0x10000 /* no descriptor: c-ares must never be right by chance */
#define DNS_PORT     53

struct dns_socket {
	struct dns_sockets *all;
	struct loop_watch watch;
	bool is_used, is_stream;
	uint64_t asked; /* of the keeper; 0: answered, or not yet */
	int fd;		/* -1: not there yet, or failed */
	int error;	/* why it failed; 0 else */
	uint32_t events;
	struct buf held; /* datagrams, each behind its length */
};

struct dns_sockets {
	struct loop *loop;
	struct reacher *reacher;
	const struct policy *policy;
	dns_sockets_fn fn;
	void *ctx;
	struct dns_socket list[DNS_SOCKETS_MAX];
};

static struct dns_socket *find(struct dns_sockets *s, ares_socket_t which)
{
	size_t i = (size_t)which - FIRST_NUMBER;

	return which >= FIRST_NUMBER && i < DNS_SOCKETS_MAX && s->list[i].is_used ? &s->list[i]
										  : NULL;
}

static ares_socket_t number_of(const struct dns_socket *d)
{
	return FIRST_NUMBER + (ares_socket_t)(d - d->all->list);
}

/* --- what the keeper answers --- */

static void on_event(struct loop_watch *w, uint32_t events)
{
	struct dns_socket *d =
		(struct dns_socket *)((char *)w - offsetof(struct dns_socket, watch));

	d->all->fn(d->all->ctx, number_of(d), events);
}

/* A failure shows when the answer is read. */
static void send_held(struct dns_socket *d)
{
	uint16_t n;

	while (buf_len(&d->held) >= sizeof(n)) {
		struct str all = buf_str(&d->held);

		memcpy(&n, all.p, sizeof(n));
		(void)!send(d->fd, all.p + sizeof(n), n, MSG_NOSIGNAL);
		buf_consume(&d->held, sizeof(n) + n);
	}
	buf_free(&d->held);
}

static void on_reached(void *ctx, int fd, int error)
{
	struct dns_socket *d = ctx;

	d->asked = 0;
	d->fd = fd;
	d->error = error;
	if (fd >= 0) {
		send_held(d);
		if (d->events == 0 || loop_add(d->all->loop, &d->watch, fd, d->events, NULL) == 0)
			return;
		close_fd(&d->fd);
		d->error = EIO;
	}
	/* c-ares finds the error when it reads, and goes on to the next server. */
	d->all->fn(d->all->ctx, number_of(d), EPOLLIN);
}

/* --- c-ares' side: as the system calls, with errno --- */

static int failed(int error)
{
	errno = error;
	return -1;
}

static ares_socket_t open_socket(int family, int type, int protocol, void *ctx)
{
	struct dns_sockets *s = ctx;

	(void)family;
	(void)protocol;
	for (size_t i = 0; i < DNS_SOCKETS_MAX; i++) {
		struct dns_socket *d = &s->list[i];

		if (d->is_used)
			continue;
		*d = (struct dns_socket){.all = s,
					 .watch = {.fd = -1, .fn = on_event},
					 .is_used = true,
					 .is_stream = type == SOCK_STREAM,
					 .fd = -1};
		buf_init(&d->held, DNS_SOCKETS_HELD_BYTES);
		return number_of(d);
	}
	return failed(EMFILE);
}

static int close_socket(ares_socket_t which, void *ctx)
{
	struct dns_sockets *s = ctx;
	struct dns_socket *d = find(s, which);

	if (!d)
		return failed(EBADF);
	reacher_cancel(s->reacher, d->asked);
	loop_del(s->loop, &d->watch);
	close_fd(&d->fd);
	buf_free(&d->held);
	d->is_used = false;
	return 0;
}

static in_port_t port_of(const struct sockaddr *sa)
{
	return ((const struct sockaddr_in *)(const void *)sa)->sin_port; /* the same place in v6 */
}

static bool is_server(const struct sockaddr_storage *named, const struct sockaddr *sa)
{
	const struct sockaddr *n = (const struct sockaddr *)named;
	in_port_t port = port_of(n) ? port_of(n) : htons(DNS_PORT);

	if (n->sa_family != sa->sa_family || port != port_of(sa))
		return false;
	if (sa->sa_family == AF_INET)
		return memcmp(&((const struct sockaddr_in *)(const void *)n)->sin_addr,
			      &((const struct sockaddr_in *)(const void *)sa)->sin_addr, 4) == 0;
	return memcmp(&((const struct sockaddr_in6 *)(const void *)n)->sin6_addr,
		      &((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr, 16) == 0;
}

static int connect_socket(ares_socket_t which, const struct sockaddr *sa, ares_socklen_t n,
			  void *ctx)
{
	struct dns_sockets *s = ctx;
	struct dns_socket *d = find(s, which);
	struct reacher_question q = {.list = REACH_DNS};
	int error;

	if (!d || d->asked != 0 || n < address_size(sa))
		return failed(EBADF);
	q.kind = d->is_stream ? REACH_STREAM : REACH_DATAGRAM;
	q.port = ntohs(port_of(sa));
	while (q.number < s->policy->n_dns && !is_server(&s->policy->dns[q.number], sa))
		q.number++;
	if (q.number == s->policy->n_dns)
		return failed(EACCES);
	d->asked = reacher_ask(s->reacher, &q, on_reached, d, &error);
	/* To c-ares it is there: nothing but an error tells it otherwise. */
	return d->asked != 0 ? 0 : failed(error);
}

static ares_ssize_t receive(ares_socket_t which, void *data, size_t n, int flags,
			    struct sockaddr *from, ares_socklen_t *from_n, void *ctx)
{
	const struct dns_socket *d = find(ctx, which);

	if (!d)
		return failed(EBADF);
	if (d->fd < 0)
		return failed(d->error ? d->error : EAGAIN);
	return recvfrom(d->fd, data, n, flags, from, from_n);
}

/* The length, also of what was not kept. */
static ares_ssize_t hold(struct dns_socket *d, const struct iovec *v, int n)
{
	size_t size = 0;
	uint16_t length;
	char *at;

	for (int i = 0; i < n; i++)
		size += v[i].iov_len;
	if (size > UINT16_MAX)
		return failed(EMSGSIZE);
	length = (uint16_t)size;
	at = buf_room(&d->held) < size + sizeof(length)
		     ? NULL
		     : buf_reserve(&d->held, size + sizeof(length));
	if (at) {
		memcpy(at, &length, sizeof(length));
		at += sizeof(length);
		for (int i = 0; i < n; at += v[i].iov_len, i++)
			memcpy(at, v[i].iov_base, v[i].iov_len);
		buf_commit(&d->held, size + sizeof(length));
	}
	return (ares_ssize_t)size;
}

static ares_ssize_t send_all(ares_socket_t which, const struct iovec *v, int n, void *ctx)
{
	struct dns_socket *d = find(ctx, which);

	if (!d)
		return failed(EBADF);
	if (d->fd >= 0)
		return writev(d->fd, v, n);
	if (d->error)
		return failed(d->error);
	return d->is_stream ? failed(EAGAIN) : hold(d, v, n);
}

static const struct ares_socket_functions functions = {
	open_socket, close_socket, connect_socket, receive, send_all,
};

/* --- making it --- */

struct dns_sockets *dns_sockets_new(struct loop *l, ares_channel channel, struct reacher *reacher,
				    const struct policy *policy, dns_sockets_fn fn, void *ctx)
{
	struct dns_sockets *s = mem_zalloc(sizeof(*s));

	*s = (struct dns_sockets){
		.loop = l, .reacher = reacher, .policy = policy, .fn = fn, .ctx = ctx};
	ares_set_socket_functions(channel, &functions, s);
	return s;
}

void dns_sockets_free(struct dns_sockets *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < DNS_SOCKETS_MAX; i++) {
		if (s->list[i].is_used)
			(void)close_socket(number_of(&s->list[i]), s);
	}
	free(s);
}

void dns_sockets_watch(struct dns_sockets *s, ares_socket_t which, uint32_t events)
{
	struct dns_socket *d = find(s, which);

	if (!d)
		return;
	d->events = events;
	if (d->fd < 0)
		return;
	if (events == 0)
		loop_del(s->loop, &d->watch);
	else if (d->watch.fd >= 0)
		(void)loop_set(s->loop, &d->watch, events);
	else if (loop_add(s->loop, &d->watch, d->fd, events, NULL) < 0)
		log_warn("a DNS socket cannot be watched; its question will time out");
}
