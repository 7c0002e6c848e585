/*
 * Fronts: reading heads, and what follows an exchange. front_run() is the only driver: it goes
 * round between the front's own states and its exchange until neither can move, so that pipelined
 * requests are a loop and not a recursion.
 */
#include "net/relay_priv.h"

#include "base/clean.h"
#include "base/mem.h"
#include "base/timeutil.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

static void front_idle_end(struct relay_front *f)
{
	if (f->c.tls && f->state == FRONT_HTTP)
		tls_close_notify(f->c.tls);
	front_destroy(f);
}

static void on_timer(struct loop_timer *t)
{
	struct relay_front *f = LIST_OF(t, struct relay_front, c.timer);

	if (!conn_is_due(&f->c))
		return;
	f->c.deadline_ns = 0;
	if (f->state != FRONT_HTTP || !f->x) {
		if (f->x)
			(void)exchange_end(f->x, RELAY_TIMED_OUT, "tls-timeout");
		else
			front_idle_end(f);
		return;
	}
	exchange_refuse(f->x, RELAY_TIMED_OUT, 408,
			f->x->phase == PHASE_HEAD ? "head-timeout" : "body-timeout");
	front_run(f);
}

/* Makes room by closing the front that has been idle for the longest, if it was so for a while:
 * whoever opens all that there may be and leaves them keeps nobody else out. */
static bool front_evict(struct relay *r)
{
	uint64_t now_ns = loop_now_ns(r->loop);
	struct relay_front *oldest = NULL;

	for (struct list *l = r->fronts.next; l != &r->fronts; l = l->next) {
		struct relay_front *f = LIST_OF(l, struct relay_front, link);

		if (!f->x && !f->is_running && f->state == FRONT_HTTP &&
		    (!oldest || f->active_ns < oldest->active_ns))
			oldest = f;
	}
	if (!oldest || now_ns - oldest->active_ns < RELAY_EVICT_MS * TIME_NS_PER_MS)
		return false;
	front_idle_end(oldest);
	return true;
}

struct relay_front *relay_front_add(struct relay *r, int fd)
{
	struct relay_front *f;
	int one = 1;

	if (r->is_closing || (r->n_fronts >= r->config.fronts_max && !front_evict(r))) {
		(void)close(fd);
		return NULL;
	}
	f = mem_zalloc(sizeof(*f) + r->config.front_owner_bytes);
	conn_init(&f->c, r, fd);
	buf_init(&f->hello, RELAY_IN_MAX_BYTES);
	f->c.watch.fn = front_on_event;
	f->c.timer.fn = on_timer;
	f->c.wants_in = true;
	f->active_ns = loop_now_ns(r->loop);
	list_init(&f->ready_link);
	if (loop_add(r->loop, &f->c.watch, fd, EPOLLIN | EPOLLRDHUP, NULL) < 0) {
		(void)close(fd);
		free(f);
		return NULL;
	}
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)); /* unix sockets say no */
	list_add(&r->fronts, &f->link);
	r->n_fronts++;
	if (r->trim_timer.due_ns == 0)
		loop_timer_set(r->loop, &r->trim_timer, RELAY_TRIM_MS);
	conn_deadline(&f->c, r->config.idle_ms);
	return f;
}

void front_destroy(struct relay_front *f)
{
	struct relay *r = f->c.relay;

	list_del(&f->link);
	list_del(&f->ready_link);
	r->n_fronts--;
	if (r->ops->on_front_closed)
		r->ops->on_front_closed(f);
	conn_close(&f->c);
	buf_free(&f->hello);
	free(f);
}

void relay_front_close(struct relay_front *f)
{
	f->is_doomed = true;
	if (f->is_running)
		return; /* front_run() is below us on the stack and will see it */
	front_run(f);
}

/* --- lingering: the answer to an unread body must not be lost to a reset (RFC 9112 section 9.6)
 * --- */

void front_linger(struct relay_front *f)
{
	if (f->c.tls)
		tls_close_notify(f->c.tls);
	(void)shutdown(f->c.fd, SHUT_WR);
	f->state = FRONT_LINGER;
	f->lingered = 0;
	f->c.is_dry = false;
	conn_deadline(&f->c, RELAY_LINGER_MS);
}

static enum run linger_step(struct relay_front *f)
{
	char sink[4096];

	for (;;) {
		ssize_t n = recv(f->c.fd, sink, sizeof(sink), 0);

		if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
			f->c.wants_in = true;
			return RUN_WAIT;
		}
		f->lingered += n > 0 ? (size_t)n : 0;
		if (n <= 0 || f->lingered > RELAY_LINGER_BYTES) {
			front_destroy(f);
			return RUN_GONE;
		}
	}
}

/* --- heads --- */

static enum run head_closed(struct relay_front *f)
{
	if (f->x)
		return exchange_end(f->x, RELAY_FRONT_CLOSED, "incomplete-head");
	front_destroy(f);
	return RUN_GONE;
}

static enum run head_bad(struct relay_front *f, enum http1_reason reason)
{
	exchange_refuse(f->x, RELAY_BAD_REQUEST, http1_reason_status(reason),
			http1_reason_name(reason));
	return RUN_AGAIN;
}

/* One look at what has been read, else one read. */
static enum run head_step(struct relay_front *f)
{
	struct relay *r = f->c.relay;
	enum http1_reason reason;
	size_t n;
	int ret;

	if (buf_len(&f->c.in) > f->head_seen) {
		if (!f->x) {
			f->x = exchange_new(f);
			conn_deadline(&f->c, r->config.head_ms);
		}
		n = http1_head_length(buf_str(&f->c.in), f->head_seen, true, &reason);
		if (reason != HTTP1_OK)
			return head_bad(f, reason);
		if (n > 0) {
			struct exchange *x = f->x;

			f->head_seen = 0;
			if (buf_append(&x->req_raw, buf_str(&f->c.in).p, n) != 0)
				return head_bad(f, HTTP1_HEAD_TOO_LARGE);
			buf_consume(&f->c.in, n);
			conn_deadline(&f->c, 0);
			exchange_begin(x);
			return RUN_AGAIN;
		}
		f->head_seen = buf_len(&f->c.in);
	}
	ret = conn_read(&f->c, RELAY_HEAD_READ_BYTES);
	if (ret == 1)
		return RUN_AGAIN;
	if (ret == -EAGAIN)
		return RUN_WAIT;
	return head_closed(f);
}

static enum run front_step(struct relay_front *f)
{
	if (f->is_doomed) {
		if (f->x)
			return exchange_end(f->x, RELAY_SHUTDOWN, "closed");
		front_destroy(f);
		return RUN_GONE;
	}
	if (f->state == FRONT_LINGER)
		return linger_step(f);
	if (f->state != FRONT_HTTP)
		return tunnel_step(f);
	if (f->x && f->x->phase != PHASE_HEAD)
		return exchange_pump(f->x);
	return head_step(f);
}

void front_run(struct relay_front *f)
{
	enum run run = RUN_AGAIN;

	if (f->is_running)
		return;
	f->is_running = true;
	for (unsigned steps = 0; run == RUN_AGAIN; steps++) {
		if (steps == RELAY_STEPS_MAX) {
			front_later(f);
			break;
		}
		run = front_step(f);
	}
	if (run == RUN_GONE)
		return;
	f->is_running = false;
	f->active_ns = loop_now_ns(f->c.relay->loop);
	conn_arm(&f->c);
	if (f->x && f->x->back)
		conn_arm(&f->x->back->c);
}

void front_later(struct relay_front *f)
{
	struct relay *r = f->c.relay;

	list_del(&f->ready_link);
	list_add(r->ready.prev, &f->ready_link);
	if (r->ready_timer.due_ns == 0)
		loop_timer_set(r->loop, &r->ready_timer, 0);
}

void front_on_event(struct loop_watch *w, uint32_t events)
{
	struct relay_front *f = (struct relay_front *)(void *)w;

	if (conn_events(&f->c, events))
		front_run(f);
}
