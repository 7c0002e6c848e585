/*
 * Theory of operation: a connection is one request and one answer. It reads until head and body are
 * there, within a time that begins with the connection and no byte prolongs; writes; says that
 * nothing follows; and takes what still comes for a moment, so that the answer is not lost to a
 * reset. Or it becomes a stream of events, which lives until either side ends it.
 *
 * There are few places. Whoever has not shown that they belong to a session (any program of the
 * user's can connect) loses theirs to the next that comes, the oldest first; so nobody can keep the
 * human out by holding connections.
 */
#include "base/clean.h"
#include "base/log.h"
#include "base/timeutil.h"
#include "face/web_int.h"

#include <errno.h>
#include <sys/socket.h>

#define DRAIN_MAX_BYTES (256u << 10)

static void drop(struct web *w, struct loop_watch *watch)
{
	int fd = watch->fd;

	if (fd < 0)
		return;
	loop_del(w->loop, watch);
	(void)close(fd);
}

void conn_close(struct web_conn *c)
{
	struct web *w = c->web;

	if (c->state == WEB_CONN_FREE)
		return;
	loop_timer_del(w->loop, &c->timer);
	drop(w, &c->watch);
	drop(w, &c->work);
	buf_free(&c->in);
	buf_free(&c->out);
	buf_free(&c->result);
	*c = (struct web_conn){.watch.fd = -1, .work.fd = -1};
}

void conn_close_all(struct web *w)
{
	for (size_t i = 0; i < WEB_CONNS_MAX; i++)
		conn_close(&w->conns[i]);
}

void conn_close_session(struct web *w, uint64_t session)
{
	for (size_t i = 0; i < WEB_CONNS_MAX; i++)
		if (w->conns[i].state == WEB_CONN_EVENTS && w->conns[i].session == session)
			conn_close(&w->conns[i]);
}

static void drain_begin(struct web_conn *c)
{
	c->state = WEB_CONN_DRAIN;
	(void)shutdown(c->watch.fd, SHUT_WR);
	loop_timer_set(c->web->loop, &c->timer, WEB_DRAIN_MS);
	(void)loop_set(c->web->loop, &c->watch, EPOLLIN);
}

/* Closes c on failure; c is then not to be touched. */
static bool flush(struct web_conn *c)
{
	while (buf_len(&c->out) > 0) {
		struct str s = buf_str(&c->out);
		ssize_t n = send(c->watch.fd, s.p, s.n, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			(void)loop_set(c->web->loop, &c->watch,
				       c->state == WEB_CONN_EVENTS ? EPOLLIN | EPOLLOUT : EPOLLOUT);
			return true;
		}
		if (n < 0) {
			conn_close(c);
			return false;
		}
		buf_consume(&c->out, (size_t)n);
	}
	if (c->state == WEB_CONN_EVENTS)
		(void)loop_set(c->web->loop, &c->watch, EPOLLIN);
	else
		drain_begin(c);
	return true;
}

void conn_answer(struct web_conn *c, const struct web_answer *a)
{
	drop(c->web, &c->work);
	buf_init(&c->out, WEB_ANSWER_MAX_BYTES + WEB_HEAD_MAX_BYTES);
	if (answer_write(a, &c->out) < 0) {
		conn_close(c);
		return;
	}
	if (a->is_stream) {
		c->state = WEB_CONN_EVENTS;
		loop_timer_del(c->web->loop, &c->timer);
	} else {
		c->state = WEB_CONN_WRITE;
		loop_timer_set(c->web->loop, &c->timer, WEB_WRITE_MS);
	}
	(void)flush(c);
}

static void answer_bare(struct web_conn *c, unsigned status)
{
	conn_answer(c, &(struct web_answer){.status = status, .is_bare = true});
}

/* True once the head is there and the request goes on. */
static bool take_head(struct web_conn *c)
{
	struct web_answer a = {.text = BUF_INIT(WEB_ANSWER_MAX_BYTES)};
	enum http1_reason reason = HTTP1_OK;
	struct str in = buf_str(&c->in);

	if (c->head_bytes > 0)
		return true;
	c->head_bytes = http1_head_length(in, c->seen, true, &reason);
	c->seen = in.n;
	if (c->head_bytes > WEB_HEAD_MAX_BYTES || (c->head_bytes == 0 && in.n > WEB_HEAD_MAX_BYTES))
		reason = HTTP1_HEAD_TOO_LARGE;
	else if (c->head_bytes > 0)
		reason = http1_parse_request(&c->head, str_sub(in, 0, c->head_bytes),
					     HTTP1_SCHEME_HTTP);
	if (http1_reason_status(reason) != 0) {
		answer_bare(c, http1_reason_status(reason));
		return false;
	}
	if (c->head_bytes == 0)
		return false;
	c->route = route_find(c, &a);
	if (!c->route)
		conn_answer(c, &a);
	buf_free(&a.text);
	return c->route != NULL;
}

static void take_request(struct web_conn *c)
{
	struct web_answer a = {.text = BUF_INIT(WEB_ANSWER_MAX_BYTES)};
	struct web_call call = {.web = c->web, .conn = c, .head = &c->head};
	size_t end;

	if (!take_head(c))
		return;
	end = c->head_bytes + (size_t)c->head.content_length;
	if (buf_len(&c->in) < end)
		return;
	call.body = str_sub(buf_str(&c->in), c->head_bytes, end);
	call.rest = str_sub(c->head.path, c->route->path.n, c->head.path.n);
	/* It may have lost its place while the body came. */
	call.session = gate_session_of(c->web, c->session);
	if (c->session != 0 && !call.session)
		answer_error(&a, 401, "this session is over");
	else
		c->route->fn(&call, &a);
	if (c->state == WEB_CONN_READ)
		conn_answer(c, &a);
	buf_free(&a.text);
}

static void on_readable(struct web_conn *c)
{
	char dropped[4096];
	bool is_kept = c->state == WEB_CONN_READ;
	size_t room = is_kept ? buf_room(&c->in) : sizeof(dropped);
	char *p = is_kept ? buf_reserve(&c->in, room) : dropped;
	ssize_t n = recv(c->watch.fd, p, room, 0);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0 && is_kept) {
		buf_commit(&c->in, (size_t)n);
		take_request(c);
		return;
	}
	c->drained += n > 0 ? (size_t)n : 0;
	/* Who listens, or waits, has nothing more to say. */
	if (n <= 0 || c->state != WEB_CONN_DRAIN || c->drained > DRAIN_MAX_BYTES)
		conn_close(c);
}

static void on_event(struct loop_watch *watch, uint32_t events)
{
	struct web_conn *c = (struct web_conn *)((char *)watch - offsetof(struct web_conn, watch));

	if ((events & EPOLLOUT) && !flush(c))
		return;
	if (events & (EPOLLERR | EPOLLHUP))
		conn_close(c);
	else if (events & EPOLLIN)
		on_readable(c);
}

static void on_late(struct loop_timer *t)
{
	struct web_conn *c = (struct web_conn *)((char *)t - offsetof(struct web_conn, timer));

	struct web_answer a = {.text = BUF_INIT(1024)};

	if (c->state == WEB_CONN_READ && buf_len(&c->in) > 0) {
		answer_bare(c, 408);
	} else if (c->state == WEB_CONN_WORK) {
		answer_error(&a, 503, "the keeper does not answer: look again");
		conn_answer(c, &a);
		buf_free(&a.text);
	} else {
		conn_close(c);
	}
}

static struct web_conn *take_place(struct web *w)
{
	struct web_conn *oldest = NULL;

	for (size_t i = 0; i < WEB_CONNS_MAX; i++) {
		struct web_conn *c = &w->conns[i];

		if (c->state == WEB_CONN_FREE)
			return c;
		if ((c->session == 0 || c->state == WEB_CONN_DRAIN) &&
		    (!oldest || c->order < oldest->order))
			oldest = c;
	}
	if (oldest)
		conn_close(oldest);
	return oldest;
}

static bool is_welcome(struct web *w, int fd)
{
	int r = peer_check(fd);

	if (r < 0 && r != -EPERM && !w->has_warned) {
		w->has_warned = true;
		log_warn("a connection was refused, as the kernel does not say whose it is: %s",
			 strerror(-r));
	}
	return r == 0;
}

void conn_accept(struct web *w)
{
	_cleanup_close_ int fd = accept4(w->listener.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	struct web_conn *c;

	if (fd < 0 || !is_welcome(w, fd))
		return;
	c = take_place(w);
	if (!c)
		return;
	*c = (struct web_conn){.watch = {.fd = -1, .fn = on_event},
			       .work.fd = -1,
			       .timer.fn = on_late,
			       .web = w,
			       .order = ++w->n_accepted};
	buf_init(&c->in, WEB_HEAD_MAX_BYTES + WEB_BODY_MAX_BYTES);
	/* All of it at once: the head's slices stay good while the body comes. */
	if (!buf_reserve(&c->in, c->in.cap) ||
	    loop_add(w->loop, &c->watch, fd, EPOLLIN, NULL) < 0) {
		buf_free(&c->in);
		return;
	}
	(void)take_fd(&fd);
	c->state = WEB_CONN_READ;
	loop_timer_set(w->loop, &c->timer, WEB_READ_MS);
}

void conn_tell(struct web *w, bool is_heartbeat)
{
	for (size_t i = 0; i < WEB_CONNS_MAX; i++) {
		struct web_conn *c = &w->conns[i];
		struct web_session *s;

		if (c->state != WEB_CONN_EVENTS)
			continue;
		s = gate_session_of(w, c->session);
		if (s)
			s->used_ns = loop_now_ns(w->loop);
		/* What was said last has not been read: the next will do for both; and after a
		 * whole heartbeat nobody is there. */
		if (buf_len(&c->out) > 0) {
			if (is_heartbeat)
				conn_close(c);
			continue;
		}
		if (buf_printf(&c->out, "event: version\ndata: %llu\n\n",
			       (unsigned long long)w->version) < 0)
			conn_close(c);
		else
			(void)flush(c);
	}
}
