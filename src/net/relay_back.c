/*
 * Backs: dialling, TLS towards the upstream, the pool. An idle back that becomes readable has been
 * closed by its peer, or sends what nobody asked for: in both cases it is not used again.
 */
#include "net/relay_priv.h"

#include "base/clean.h"
#include "base/mem.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>

#define ATTEMPTS_MAX 8

static struct list *bucket_of(struct relay *r, struct str key)
{
	uint64_t h = UINT64_C(14695981039346656037);

	for (size_t i = 0; i < key.n; i++)
		h = (h ^ (unsigned char)key.p[i]) * UINT64_C(1099511628211);
	return &r->idle[(h ^ h >> 32) & (RELAY_BUCKETS - 1)];
}

static struct str key_of(const struct relay_back *b)
{
	return str_slice(b->key, b->key_n);
}

void back_destroy(struct relay_back *b)
{
	list_del(&b->link);
	list_del(&b->idle_link);
	if (b->x)
		b->x->back = NULL;
	b->c.relay->n_backs--;
	if (b->c.tls && b->state == BACK_IDLE)
		tls_close_notify(b->c.tls);
	conn_close(&b->c);
	free(b);
}

static void back_on_event(struct loop_watch *w, uint32_t events)
{
	struct relay_back *b = (struct relay_back *)(void *)w;

	if (b->state == BACK_IDLE) {
		/* TLS: the session tickets of the upstream may come late; they are no reason. */
		if (b->c.tls && !(events & (EPOLLHUP | EPOLLERR | EPOLLRDHUP))) {
			char byte;

			if (tls_read(b->c.tls, &byte, 1) == -EAGAIN)
				return;
		}
		back_destroy(b);
		return;
	}
	if (conn_events(&b->c, events) && b->x)
		front_run(b->x->pub.front);
}

static void back_on_timer(struct loop_timer *t)
{
	struct relay_back *b = LIST_OF(t, struct relay_back, c.timer);

	if (conn_is_due(&b->c) && b->state == BACK_IDLE)
		back_destroy(b);
}

static void key_make(struct exchange *x)
{
	const struct http1_head *h = &x->pub.req;
	int n;

	if (x->pub.pool_key.n > 0) {
		/* Cut keys could make two owners' keys one: such an exchange is not pooled. */
		if (x->pub.pool_key.n >= sizeof(x->key))
			x->pub.is_unpooled = true;
		return;
	}
	n = snprintf(x->key, sizeof(x->key), "%s://" STR_FMT ":%u",
		     h->scheme == HTTP1_SCHEME_HTTPS ? "https" : "http", STR_ARG(h->host),
		     (unsigned)h->port);
	x->pub.pool_key = str_slice(x->key, (size_t)n);
}

static struct relay_back *pool_take(struct exchange *x)
{
	struct list *bucket = bucket_of(x->pub.relay, x->pub.pool_key);

	for (struct list *l = bucket->next; l != bucket; l = l->next) {
		struct relay_back *b = LIST_OF(l, struct relay_back, idle_link);

		if (!str_eq(key_of(b), x->pub.pool_key))
			continue;
		list_del(&b->idle_link);
		return b;
	}
	return NULL;
}

static bool pool_evict(struct relay *r)
{
	for (size_t i = 0; i < RELAY_BUCKETS; i++) {
		if (!list_is_empty(&r->idle[i])) {
			back_destroy(LIST_OF(r->idle[i].prev, struct relay_back, idle_link));
			return true;
		}
	}
	return false;
}

static void dial(struct exchange *x)
{
	struct relay_back_spec spec = {.fd = -1};
	struct relay *r = x->pub.relay;

	if (r->n_backs >= r->config.backs_max && !pool_evict(r)) {
		exchange_refuse(x, RELAY_DIAL_FAILED, 503, "too-many-upstream-connections");
		return;
	}
	x->is_dialling = true;
	exchange_deadline(x, r->config.dial_ms, 504, "dial-timeout");
	switch (r->ops->dial(&x->pub, x->attempt, &spec)) {
	case RELAY_DIAL_NOW:
		if (x->is_refused) {
			close_fd(&spec.fd);
			return;
		}
		x->is_dialling = false;
		back_start(x, &spec);
		return;
	case RELAY_DIAL_LATER:
		return;
	case RELAY_DIAL_NONE:
		x->is_dialling = false;
		if (!x->is_refused)
			exchange_refuse(x, RELAY_DIAL_FAILED, 502,
					x->result.reason ? x->result.reason : "dial-refused");
		return;
	}
}

void back_get(struct exchange *x)
{
	struct relay_back *b = NULL;

	key_make(x);
	if (!x->was_refused_pool && !x->pub.is_unpooled)
		b = pool_take(x);
	if (!b) {
		dial(x);
		return;
	}
	b->state = BACK_BUSY;
	b->is_reused = x->result.is_back_reused = true;
	b->x = x;
	x->back = b;
	conn_deadline(&b->c, 0);
}

void back_start(struct exchange *x, const struct relay_back_spec *spec)
{
	struct relay *r = x->pub.relay;
	struct relay_back *b = mem_zalloc(sizeof(*b));
	int one = 1, fd = spec->fd;

	conn_init(&b->c, r, fd);
	b->c.watch.fn = back_on_event;
	b->c.timer.fn = back_on_timer;
	list_init(&b->idle_link);
	list_add(&r->backs, &b->link);
	r->n_backs++;
	b->x = x;
	x->back = b;
	b->key_n = x->pub.pool_key.n < sizeof(b->key) ? x->pub.pool_key.n : 0;
	if (b->key_n > 0)
		memcpy(b->key, x->pub.pool_key.p, b->key_n);
	b->state = BACK_CONNECTING;
	b->c.wants_out = spec->is_connecting;
	b->c.is_dry = true;
	if (fd < 0 || loop_add(r->loop, &b->c.watch, fd, spec->is_connecting ? EPOLLOUT : EPOLLIN,
			       NULL) < 0) {
		back_destroy(b);
		back_failed(x, "dial-failed");
		return;
	}
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (spec->tls) {
		b->c.tls =
			tls_client_stream(spec->tls, fd, str_of(spec->tls_host), x->pub.req.port);
		if (!b->c.tls) {
			back_destroy(b);
			back_failed(x, "tls-handshake");
			return;
		}
	}
	if (!spec->is_connecting)
		(void)back_step(b);
}

void back_failed(struct exchange *x, const char *reason)
{
	x->is_dialling = false;
	x->result.reason = reason; /* in case that no other address is left */
	if (++x->attempt < ATTEMPTS_MAX)
		dial(x);
	else
		exchange_refuse(x, RELAY_DIAL_FAILED, 502, reason);
}

static bool connect_step(struct relay_back *b)
{
	struct exchange *x = b->x;
	socklen_t n = sizeof(int);
	int error = 0;

	if (b->c.wants_out && !b->c.is_broken)
		return false;
	if (getsockopt(b->c.fd, SOL_SOCKET, SO_ERROR, &error, &n) < 0)
		error = errno;
	if (error != 0) {
		back_destroy(b);
		back_failed(x, error == ECONNREFUSED ? "connection-refused" : "connect-failed");
		return true;
	}
	b->c.is_hung_up = b->c.is_broken = false;
	if (!b->c.tls) {
		b->state = BACK_BUSY;
		exchange_deadline(x, b->c.relay->config.response_ms, 504, "response-timeout");
		return true;
	}
	b->state = BACK_TLS;
	exchange_deadline(x, b->c.relay->config.tls_ms, 504, "tls-timeout");
	return true;
}

static bool tls_step(struct relay_back *b)
{
	struct exchange *x = b->x;
	enum tls_reason reason;
	int ret = tls_handshake(b->c.tls);

	if (ret == 0) {
		b->state = BACK_BUSY;
		exchange_deadline(x, b->c.relay->config.response_ms, 504, "response-timeout");
		return true;
	}
	if (ret == -EAGAIN || ret == -EINPROGRESS) {
		b->c.wants_in = true;
		b->c.wants_out = tls_wants_write(b->c.tls);
		return false;
	}
	reason = tls_reason(b->c.tls);
	back_destroy(b);
	/* Another address of the same name has no better right to a wrong certificate. */
	if (reason == TLS_VERIFY)
		exchange_refuse(x, RELAY_DIAL_FAILED, 502, tls_reason_name(reason));
	else
		back_failed(x, tls_reason_name(reason));
	return true;
}

bool back_step(struct relay_back *b)
{
	bool moved = false;

	if (b->state == BACK_CONNECTING) {
		struct exchange *x = b->x;

		if (!connect_step(b))
			return false;
		moved = true;
		if (x->back != b)
			return true;
	}
	if (b->state == BACK_TLS)
		moved |= tls_step(b);
	return moved;
}

static size_t idle_count(struct list *bucket, struct str key)
{
	size_t n = 0;

	for (struct list *l = bucket->next; l != bucket; l = l->next)
		n += str_eq(key_of(LIST_OF(l, struct relay_back, idle_link)), key);
	return n;
}

void back_release(struct exchange *x, bool may_reuse)
{
	struct relay_back *b = x->back;
	struct list *bucket;
	struct relay *r;

	if (!b)
		return;
	r = b->c.relay;
	bucket = bucket_of(r, key_of(b));
	if (!may_reuse || b->key_n == 0 || x->pub.is_unpooled || b->c.is_hung_up ||
	    b->c.is_broken || buf_len(&b->c.in) > 0 || (b->c.tls && tls_has_unsent(b->c.tls)) ||
	    idle_count(bucket, key_of(b)) >= r->config.idle_backs_max || r->is_closing) {
		back_destroy(b);
		return;
	}
	x->back = NULL;
	b->x = NULL;
	b->state = BACK_IDLE;
	b->c.wants_in = true;
	b->c.wants_out = false;
	list_add(bucket, &b->idle_link);
	conn_arm(&b->c);
	conn_deadline(&b->c, r->config.back_idle_ms);
}
