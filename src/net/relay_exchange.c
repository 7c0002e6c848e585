/*
 * Exchanges: from the first byte of a request to on_done(). exchange_pump() moves whatever can move
 * in either direction until nothing can; every event on either connection ends up there.
 */
#include "net/relay_priv.h"

#include "base/clean.h"
#include "base/mem.h"
#include "base/text.h"
#include "base/timeutil.h"

#include <assert.h>
#include <errno.h>

static const char *const outcome_names[] = {
	[RELAY_DONE] = "done",
	[RELAY_TUNNEL] = "tunnel",
	[RELAY_REFUSED] = "refused",
	[RELAY_BAD_REQUEST] = "bad-request",
	[RELAY_BAD_RESPONSE] = "bad-response",
	[RELAY_DIAL_FAILED] = "dial-failed",
	[RELAY_BACK_CLOSED] = "upstream-closed",
	[RELAY_FRONT_CLOSED] = "client-closed",
	[RELAY_TIMED_OUT] = "timed-out",
	[RELAY_SHUTDOWN] = "shutdown",
};
static_assert(ARRAY_LEN(outcome_names) == RELAY_OUTCOME_COUNT, "an outcome without a name");

const char *relay_outcome_name(enum relay_outcome o)
{
	return (size_t)o < ARRAY_LEN(outcome_names) ? outcome_names[o] : "unknown";
}

/* --- time --- */

void exchange_deadline(struct exchange *x, uint64_t ms, unsigned status, const char *reason)
{
	struct loop *l = x->pub.relay->loop;

	x->deadline_ns = ms ? loop_now_ns(l) + ms * TIME_NS_PER_MS : 0;
	x->deadline_status = status;
	x->deadline_reason = reason;
	if (ms && (x->timer.due_ns == 0 || x->timer.due_ns > x->deadline_ns + TIME_NS_PER_SEC))
		loop_timer_set(l, &x->timer, ms);
}

static void on_timer(struct loop_timer *t)
{
	struct exchange *x = LIST_OF(t, struct exchange, timer);
	uint64_t now_ns = loop_now_ns(x->pub.relay->loop);

	if (x->deadline_ns == 0)
		return;
	if (now_ns < x->deadline_ns) {
		loop_timer_set(x->pub.relay->loop, t,
			       (x->deadline_ns - now_ns) / TIME_NS_PER_MS + 1);
		return;
	}
	x->deadline_ns = 0;
	if (x->phase == PHASE_OVER || x->is_res_done)
		x->is_aborted = true; /* the front does not read its answer */
	exchange_refuse(x, RELAY_TIMED_OUT, x->deadline_status, x->deadline_reason);
	exchange_kick(x);
}

/* --- pool --- */

struct exchange *exchange_new(struct relay_front *f)
{
	struct relay *r = f->c.relay;
	struct exchange *x;

	if (!list_is_empty(&r->spares)) {
		x = LIST_OF(r->spares.next, struct exchange, link);
		list_del(&x->link);
		r->n_spares--;
		memset(x->owner, 0, r->config.owner_bytes);
	} else {
		x = mem_zalloc(sizeof(*x) + r->config.owner_bytes);
		buf_init(&x->up.out, r->config.out_max_bytes);
		buf_init(&x->down.out, r->config.out_max_bytes);
		buf_init(&x->req_raw, HTTP1_HEAD_MAX_BYTES);
		buf_init(&x->res_raw, HTTP1_HEAD_MAX_BYTES);
		list_init(&x->link);
		x->timer.fn = on_timer;
	}
	x->pub.front = f;
	x->pub.relay = r;
	x->pub.start_ns = time_monotonic_ns();
	x->pub.is_in_tunnel = f->is_tunnel;
	x->is_replayable = true;
	r->n_exchanges++;
	return x;
}

static void keeps_clear(struct exchange *x)
{
	while (x->keeps && x->keeps->next) {
		struct keep *k = x->keeps;

		x->keeps = k->next;
		free(k);
	}
	if (x->keeps)
		x->keeps->used = 0;
	x->kept_bytes = 0;
}

static void buf_recycle(struct buf *b)
{
	buf_reset(b);
	if (b->size > RELAY_SPARE_BUF_BYTES)
		buf_free(b);
}

void exchange_free(struct exchange *x)
{
	keeps_clear(x);
	free(x->keeps);
	buf_free(&x->up.out);
	buf_free(&x->down.out);
	buf_free(&x->req_raw);
	buf_free(&x->res_raw);
	free(x);
}

static void head_clear(struct http1_head *h)
{
	memset(h, 0, offsetof(struct http1_head, fields));
}

/* Everything is cleared but what is worth keeping: buffers, the first keep block. The heads' field
 * arrays are behind n_fields and need no clearing. */
static void exchange_clear(struct exchange *x)
{
	struct buf up = x->up.out, down = x->down.out, req = x->req_raw, res = x->res_raw;
	struct keep *keeps = x->keeps;
	size_t from = offsetof(struct exchange, pub.has_req);

	head_clear(&x->pub.req);
	head_clear(&x->pub.res);
	memset((char *)x + from, 0, sizeof(*x) - from);
	x->up.out = up;
	x->down.out = down;
	x->req_raw = req;
	x->res_raw = res;
	x->keeps = keeps;
	x->timer.fn = on_timer;
}

static void exchange_recycle(struct exchange *x)
{
	struct relay *r = x->pub.relay;

	if (r->n_spares >= RELAY_SPARE_EXCHANGES || r->is_closing) {
		exchange_free(x);
		return;
	}
	keeps_clear(x);
	buf_recycle(&x->up.out);
	buf_recycle(&x->down.out);
	buf_recycle(&x->req_raw);
	buf_recycle(&x->res_raw);
	exchange_clear(x);
	list_add(&r->spares, &x->link);
	r->n_spares++;
}

/* --- refusals --- */

static void refusal_write(struct exchange *x, unsigned status, struct str fields, struct str body)
{
	struct str type = fields.n > 0 ? fields
				       : STR_LIT("Content-Type: application/json\r\n"
						 "Cache-Control: no-store\r\n");
	struct str phrase = http1_status_phrase(status);
	struct buf *out = &x->down.out;
	int ret;

	/* What is still unread of the request would be taken for the next one. After a refused
	 * CONNECT the client may have begun its TLS handshake already. */
	if (!x->is_req_read || x->pub.is_connect || !x->pub.req.may_keep_alive)
		x->must_close_front = true;
	frame_take_back(x);
	ret = buf_printf(out, "HTTP/1.1 %u " STR_FMT "\r\n" STR_FMT "Content-Length: %zu\r\n%s\r\n",
			 status, STR_ARG(phrase), STR_ARG(type), body.n,
			 x->must_close_front ? "Connection: close\r\n" : "");
	if (ret == 0 && !(x->pub.has_req && x->pub.req.method == HTTP1_HEAD))
		ret = buf_append_str(out, body);
	if (ret != 0)
		x->is_aborted = true;
	x->result.status = status;
}

static void refuse(struct exchange *x, enum relay_outcome outcome, unsigned status,
		   const char *reason, struct str fields, struct str body)
{
	if (x->is_refused)
		return;
	x->is_refused = x->is_dirty = true;
	x->is_dialling = false;
	x->result.outcome = outcome;
	x->result.reason = reason;
	x->phase = PHASE_OVER;
	if (x->down.is_begun || x->is_res_done)
		x->is_aborted = true;
	else
		refusal_write(x, status, fields, body);
	conn_deadline(&x->pub.front->c, 0);
	exchange_deadline(x, x->pub.relay->config.body_ms, 408, "front-timeout");
}

void exchange_refuse(struct exchange *x, enum relay_outcome outcome, unsigned status,
		     const char *reason)
{
	struct relay *r = x->pub.relay;

	if (x->is_refused)
		return;
	buf_reset(&r->body);
	if (r->ops->refusal_body && !x->down.is_begun)
		r->ops->refusal_body(&x->pub, status, reason, &r->body);
	if (buf_len(&r->body) == 0 &&
	    buf_printf(&r->body, "{\"blocked\":true,\"reason\":\"%s\"}\n", reason) != 0)
		x->is_aborted = true;
	refuse(x, outcome, status, reason, STR_NULL, buf_str(&r->body));
}

void relay_refuse_fields(struct relay_exchange *pub, unsigned status, const char *reason,
			 struct str fields, struct str body)
{
	struct exchange *x = (struct exchange *)(void *)pub;

	if (body.n > 0 || fields.n > 0)
		refuse(x, RELAY_REFUSED, status, reason, fields, body);
	else
		exchange_refuse(x, RELAY_REFUSED, status, reason);
	exchange_kick(x);
}

void relay_refuse(struct relay_exchange *pub, unsigned status, const char *reason, struct str body)
{
	relay_refuse_fields(pub, status, reason, STR_NULL, body);
}

/* --- the beginning --- */

static void flow_begin(struct exchange *x)
{
	struct conn *c = &x->pub.front->c;

	x->phase = PHASE_FLOW;
	x->is_dirty = true;
	exchange_deadline(x, 0, 0, NULL);
	if (x->is_req_read) {
		x->is_req_released = true;
		if (!frame_head_alone(x, true))
			exchange_refuse(x, RELAY_BAD_REQUEST, 431, "head-too-large");
		return;
	}
	conn_deadline(c, c->relay->config.body_ms);
	/* RFC 9110 section 10.1.1: the body is judged here, so it is asked for here. */
	if (x->pub.req.expects_continue && buf_len(&c->in) == 0 &&
	    buf_append_str(&x->down.out, STR_LIT("HTTP/1.1 100 Continue\r\n\r\n")) != 0)
		exchange_refuse(x, RELAY_BAD_REQUEST, 500, "out-of-memory");
}

static void step_take(struct exchange *x, enum relay_step step)
{
	if (x->is_refused || x->phase != PHASE_OWNER)
		return; /* refused, or continued from within */
	switch (step) {
	case RELAY_FORWARD:
		if (x->pub.is_connect)
			tunnel_begin(x);
		else
			flow_begin(x);
		return;
	case RELAY_LATER:
		exchange_deadline(x, x->pub.relay->config.later_ms, 503, "owner-timeout");
		return;
	case RELAY_REFUSE:
		exchange_refuse(x, RELAY_REFUSED, 403, "refused");
		return;
	}
}

/* Is it a form that this front may send, and does it name whom the tunnel was opened to? */
static const char *form_check(struct exchange *x, unsigned *status)
{
	struct relay_front *f = x->pub.front;
	struct http1_head *h = &x->pub.req;
	unsigned accept = x->pub.relay->config.accept;

	*status = 400;
	if (f->is_tunnel) {
		if (h->form == HTTP1_FORM_AUTHORITY) {
			*status = 403;
			return "connect-in-tunnel";
		}
		*status = 421;
		if (h->scheme != HTTP1_SCHEME_HTTPS || h->port != f->port ||
		    !str_ieq(h->host, str_of(f->host)))
			return "host-mismatch";
		h->host = str_of(f->host);
		return NULL;
	}
	if (h->form == HTTP1_FORM_AUTHORITY) {
		*status = 405;
		return accept & RELAY_ACCEPT_CONNECT ? NULL : "connect-not-accepted";
	}
	if (h->form == HTTP1_FORM_ORIGIN)
		return accept & RELAY_ACCEPT_ORIGIN ? NULL : "not-a-proxy-request";
	if (h->scheme == HTTP1_SCHEME_HTTPS)
		return accept & RELAY_ACCEPT_ABSOLUTE_HTTPS ? NULL : "https-without-connect";
	return accept & RELAY_ACCEPT_ABSOLUTE_HTTP ? NULL : "http-not-accepted";
}

void exchange_begin(struct exchange *x)
{
	const struct relay_ops *ops = x->pub.relay->ops;
	struct http1_head *h = &x->pub.req;
	enum http1_reason reason;
	const char *why;
	unsigned status;

	reason = http1_parse_request(h, buf_str(&x->req_raw),
				     x->pub.is_in_tunnel ? HTTP1_SCHEME_HTTPS : HTTP1_SCHEME_HTTP);
	if (reason != HTTP1_OK) {
		exchange_refuse(x, RELAY_BAD_REQUEST, http1_reason_status(reason),
				http1_reason_name(reason));
		return;
	}
	x->pub.has_req = true;
	x->pub.is_connect = h->method == HTTP1_CONNECT;
	http1_body_init(&x->req_body, h);
	x->is_req_read = x->req_body.is_done;
	why = form_check(x, &status);
	if (why) {
		exchange_refuse(x, RELAY_BAD_REQUEST, status, why);
		return;
	}
	x->phase = PHASE_OWNER;
	if (!x->pub.is_connect)
		step_take(x, ops->on_request(&x->pub));
	else if (ops->on_connect)
		step_take(x, ops->on_connect(&x->pub));
	else
		exchange_refuse(x, RELAY_BAD_REQUEST, 405, "connect-not-accepted");
}

/* --- the middle --- */

void exchange_kick(struct exchange *x)
{
	x->is_dirty = true;
	front_run(x->pub.front); /* nothing, if that is below us on the stack: it sees is_dirty */
}

void relay_continue(struct relay_exchange *pub)
{
	struct exchange *x = (struct exchange *)(void *)pub;

	if (x->is_refused)
		return;
	if (x->phase == PHASE_OWNER) {
		step_take(x, RELAY_FORWARD);
	} else if (x->is_req_waiting) {
		x->is_req_waiting = false;
		exchange_deadline(x, 0, 0, NULL);
	} else if (x->is_res_waiting) {
		x->is_res_waiting = false;
		response_begin(x);
	}
	exchange_kick(x);
}

void relay_dial_done(struct relay_exchange *pub, const struct relay_back_spec *spec,
		     const char *reason)
{
	struct exchange *x = (struct exchange *)(void *)pub;

	if (!x->is_dialling || x->is_refused || x->back) {
		if (spec && spec->fd >= 0)
			(void)close(spec->fd);
		return;
	}
	x->is_dialling = false;
	if (spec && spec->fd >= 0)
		back_start(x, spec);
	else
		exchange_refuse(x, RELAY_DIAL_FAILED, 502, reason ? reason : "dial-failed");
	exchange_kick(x);
}

static bool is_flushed(const struct exchange *x)
{
	const struct conn *c = &x->pub.front->c;

	return buf_len(&x->down.out) == 0 && !(c->tls && tls_has_unsent(c->tls));
}

/* Sends what is in `down`. True if something left; *is_gone if nobody takes it any more. */
static bool flush_down(struct exchange *x, bool *is_gone)
{
	struct conn *c = &x->pub.front->c;
	bool moved;
	size_t sent = 0;
	int ret;

	*is_gone = false;
	if (is_flushed(x))
		return false;
	ret = conn_flush(c, &x->down.out, &sent);
	buf_consume(&x->down.out, sent);
	*is_gone = ret < 0 && ret != -EAGAIN;
	/* The last bytes may have been in the TLS stream's own buffer: then only that has moved. */
	moved = sent > 0 || is_flushed(x);
	if (moved && x->down.is_begun)
		exchange_deadline(x, x->pub.relay->config.stream_ms, 504, "stream-timeout");
	return moved;
}

enum run exchange_pump(struct exchange *x)
{
	struct conn *c = &x->pub.front->c;

	for (unsigned rounds = 0; rounds < RELAY_ROUNDS_MAX; rounds++) {
		bool moved = false, is_gone;

		x->is_dirty = false;
		/* A client that has sent its whole request and now sends its end has given up. */
		if (c->is_broken || (c->is_hung_up && x->is_req_read && x->phase != PHASE_OVER))
			return exchange_end(x, RELAY_FRONT_CLOSED, "client-closed");
		if (x->phase == PHASE_FLOW)
			moved |= request_pump(x);
		if (x->phase == PHASE_FLOW)
			moved |= response_pump(x);
		if (x->phase == PHASE_OVER && x->back)
			back_release(x, false);
		if (x->is_aborted)
			return exchange_end(x, x->result.outcome, x->result.reason);
		moved |= flush_down(x, &is_gone);
		if (is_gone)
			return exchange_end(x, RELAY_FRONT_CLOSED, "client-closed");
		if (is_flushed(x) && x->phase == PHASE_OVER)
			return exchange_end(x, x->result.outcome, x->result.reason);
		if (is_flushed(x) && x->is_res_done)
			return exchange_end(x, RELAY_DONE, "ok");
		if (!moved && !x->is_dirty)
			return RUN_WAIT;
	}
	return RUN_AGAIN;
}

/* --- the end --- */

enum run exchange_end(struct exchange *x, enum relay_outcome outcome, const char *reason)
{
	struct relay_front *f = x->pub.front;
	struct relay *r = x->pub.relay;
	bool is_answered = !x->is_aborted && is_flushed(x) &&
			   (outcome == RELAY_DONE || outcome == RELAY_TUNNEL || x->is_refused);
	bool may_go_on = is_answered && x->is_req_read && !x->must_close_front && !f->is_doomed &&
			 !r->is_closing;
	bool may_linger = is_answered && f->state == FRONT_HTTP && !r->is_closing &&
			  outcome != RELAY_SHUTDOWN;

	back_release(x, false);
	loop_timer_del(r->loop, &x->timer);
	x->result.outcome = outcome;
	x->result.reason = reason;
	x->result.duration_us = (time_monotonic_ns() - x->pub.start_ns) / 1000;
	r->ops->on_done(&x->pub, &x->result);
	r->n_exchanges--;
	f->x = NULL;
	exchange_recycle(x);
	if (may_go_on) {
		f->head_seen = 0;
		conn_deadline(&f->c, r->config.idle_ms);
		return RUN_AGAIN;
	}
	if (may_linger) {
		front_linger(f);
		return RUN_AGAIN;
	}
	front_destroy(f);
	return RUN_GONE;
}

/* --- for owners --- */

void *relay_owner(struct relay_exchange *pub)
{
	return ((struct exchange *)(void *)pub)->owner;
}

struct str relay_keep(struct relay_exchange *pub, struct str s)
{
	struct exchange *x = (struct exchange *)(void *)pub;
	struct keep *k = x->keeps;
	char *at;

	if (s.n > RELAY_KEEP_MAX_BYTES - x->kept_bytes)
		return STR_NULL;
	if (!k || k->size - k->used < s.n) {
		size_t size = s.n > 8192 ? s.n : 8192;

		k = malloc(sizeof(*k) + size);
		if (!k)
			return STR_NULL;
		*k = (struct keep){.next = x->keeps, .size = size};
		x->keeps = k;
	}
	at = k->data + k->used;
	if (s.n > 0)
		memcpy(at, s.p, s.n);
	k->used += s.n;
	x->kept_bytes += s.n;
	return str_slice(at, s.n);
}
