/* One descriptor: reading, writing, waiting, time. */
#include "net/relay_priv.h"

#include "base/clean.h"
#include "base/timeutil.h"

#include <errno.h>
#include <sys/socket.h>

void conn_init(struct conn *c, struct relay *r, int fd)
{
	*c = (struct conn){.relay = r, .fd = fd};
	c->watch.fd = -1;
	buf_init(&c->in, RELAY_IN_MAX_BYTES);
}

int conn_read(struct conn *c, size_t n)
{
	ssize_t got;
	char *at;

	if (n > buf_room(&c->in))
		n = buf_room(&c->in);
	if (n == 0)
		return -ENOBUFS;
	if (c->is_dry && !(c->tls && tls_has_pending(c->tls))) {
		c->wants_in = true;
		return -EAGAIN;
	}
	at = buf_reserve(&c->in, n);
	if (!at)
		return -ENOBUFS;
	c->is_trimmed = false;
	if (c->tls) {
		got = tls_read(c->tls, at, n);
	} else {
		got = recv(c->fd, at, n, 0);
		if (got < 0)
			got = errno == EINTR ? -EAGAIN : -errno;
	}
	if (got == -EAGAIN) {
		c->is_dry = c->wants_in = true;
		if (c->tls && tls_wants_write(c->tls))
			c->wants_out = true;
		return -EAGAIN;
	}
	if (got <= 0)
		return got == 0 ? 0 : -EPIPE;
	/* A short read has emptied the socket; epoll is level-triggered, so nothing is missed. */
	c->is_dry = (size_t)got < n;
	buf_commit(&c->in, (size_t)got);
	return 1;
}

ssize_t conn_write(struct conn *c, const void *p, size_t n)
{
	ssize_t sent;

	if (c->tls) {
		sent = tls_write(c->tls, p, n);
		if (sent >= 0 && tls_has_unsent(c->tls))
			c->wants_out = true;
	} else {
		sent = send(c->fd, p, n, MSG_NOSIGNAL);
		if (sent < 0)
			sent = errno == EAGAIN || errno == EINTR ? -EAGAIN : -EPIPE;
	}
	if (sent == -EAGAIN || (sent >= 0 && (size_t)sent < n))
		c->wants_out = true;
	return sent;
}

int conn_flush(struct conn *c, struct buf *b, size_t *offset)
{
	c->wants_out = false;
	while (*offset < buf_len(b)) {
		struct str s = str_sub(buf_str(b), *offset, buf_len(b));
		ssize_t sent = conn_write(c, s.p, s.n);

		if (sent < 0)
			return (int)sent;
		*offset += (size_t)sent;
		/* Took less than it was given: full. Only TLS takes at most a gather's worth. */
		if (c->wants_out && !(c->tls && !tls_has_unsent(c->tls)))
			return -EAGAIN;
		c->wants_out = false;
	}
	if (c->tls && tls_has_unsent(c->tls)) {
		int ret = tls_flush(c->tls);

		c->wants_out = ret == -EAGAIN;
		return ret;
	}
	return 0;
}

void conn_arm(struct conn *c)
{
	uint32_t events = c->watch.events & EPOLLIN;

	if (c->is_detached && (c->wants_in || c->wants_out)) {
		c->is_detached = false;
		if (loop_add(c->relay->loop, &c->watch, c->fd, EPOLLIN | EPOLLOUT, NULL) < 0)
			c->is_broken = true;
	}
	if (c->watch.fd < 0)
		return;
	if (c->wants_in)
		events |= EPOLLIN;
	if (c->wants_out)
		events |= EPOLLOUT;
	if (!c->is_hung_up)
		events |= EPOLLRDHUP;
	(void)loop_set(c->relay->loop, &c->watch, events);
}

bool conn_events(struct conn *c, uint32_t events)
{
	bool is_wanted = false;

	if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
		is_wanted = !c->is_hung_up || c->wants_in || c->wants_out;
		c->is_hung_up = true;
	}
	if (events & (EPOLLHUP | EPOLLERR)) {
		is_wanted |= !c->is_broken;
		c->is_broken = true;
		if (!is_wanted) {
			/* These two cannot be masked. What is still to be read waits in the socket.
			 */
			loop_del(c->relay->loop, &c->watch);
			c->is_detached = true;
			return false;
		}
	}
	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		c->is_dry = false;
	if (events & EPOLLIN) {
		is_wanted |= c->wants_in;
		/* Nobody reads now, e.g. a request that was sent early: ask again when somebody
		 * does. */
		if (!c->wants_in)
			(void)loop_set(c->relay->loop, &c->watch,
				       c->watch.events & ~(uint32_t)EPOLLIN);
		c->wants_in = false;
	}
	if (events & EPOLLOUT) {
		c->wants_out = false;
		is_wanted = true;
	}
	return is_wanted;
}

void conn_deadline(struct conn *c, uint64_t ms)
{
	if (ms == 0) {
		c->deadline_ns = 0;
		return;
	}
	c->deadline_ns = loop_now_ns(c->relay->loop) + ms * TIME_NS_PER_MS;
	if (c->timer.due_ns == 0 || c->timer.due_ns > c->deadline_ns + TIME_NS_PER_SEC)
		loop_timer_set(c->relay->loop, &c->timer, ms);
}

bool conn_is_due(struct conn *c)
{
	uint64_t now_ns = loop_now_ns(c->relay->loop);

	if (c->deadline_ns == 0)
		return false;
	if (now_ns >= c->deadline_ns)
		return true;
	loop_timer_set(c->relay->loop, &c->timer, (c->deadline_ns - now_ns) / TIME_NS_PER_MS + 1);
	return false;
}

bool conn_trim(struct conn *c)
{
	if (c->is_trimmed)
		return false;
	c->is_trimmed = true;
	buf_trim(&c->in);
	if (c->tls)
		tls_trim(c->tls);
	return true;
}

void conn_close(struct conn *c)
{
	loop_del(c->relay->loop, &c->watch);
	loop_timer_del(c->relay->loop, &c->timer);
	tls_free(c->tls);
	c->tls = NULL;
	buf_free(&c->in);
	close_fd(&c->fd);
}
