/*
 * The response's way down. The next piece is read only when the last one has left: back-pressure is
 * the front's own socket buffer. A response that ends early never looks complete: chunked framing
 * is not closed, a Content-Length is not reached, and the front is closed.
 */
#include "net/relay_priv.h"

#include "base/timeutil.h"

#include <errno.h>

static void bad(struct exchange *x, enum relay_outcome outcome, const char *reason)
{
	exchange_refuse(x, outcome, 502, reason);
}

/* The back ended before the response did. */
static void back_ended(struct exchange *x)
{
	bool is_stale = x->back->is_reused && !x->pub.has_res && buf_len(&x->back->c.in) == 0 &&
			x->n_interim == 0;

	/* A kept-alive back may be closed by its peer just when it is used again (RFC 9112 section
	 * 9.3.1). It has answered nothing, and all that was sent is still here. */
	if (is_stale && x->is_replayable && x->is_req_released && !x->is_retried) {
		back_destroy(x->back);
		x->is_retried = x->was_refused_pool = true;
		x->is_up_broken = x->result.is_back_reused = false;
		x->up_sent = 0;
		return;
	}
	bad(x, RELAY_BACK_CLOSED, "upstream-closed");
}

static void response_done(struct exchange *x)
{
	bool may_reuse = x->pub.res.may_keep_alive && x->is_req_released && !x->is_up_broken &&
			 x->up_sent == buf_len(&x->up.out);

	x->is_res_done = true;
	back_release(x, may_reuse);
	exchange_deadline(x, x->pub.relay->config.stream_ms, 504, "front-timeout");
}

/* After on_response said FORWARD. */
void response_begin(struct exchange *x)
{
	x->is_res_begun = true;
	http1_body_init(&x->res_body, &x->pub.res);
	exchange_deadline(x, x->pub.relay->config.stream_ms, 504, "stream-timeout");
	if (x->pub.res.framing != HTTP1_BODY_NONE)
		return;
	if (frame_head_alone(x, false))
		response_done(x);
	else
		bad(x, RELAY_BAD_RESPONSE, "head-too-large");
}

static void head_judge(struct exchange *x)
{
	const struct relay_ops *ops = x->pub.relay->ops;
	enum relay_step step = RELAY_FORWARD;

	x->pub.has_res = true;
	x->result.first_byte_us = (time_monotonic_ns() - x->pub.start_ns) / 1000;
	x->is_res_waiting = true;
	if (ops->on_response)
		step = ops->on_response(&x->pub);
	if (x->is_refused || x->is_res_begun)
		return;
	if (step == RELAY_LATER) {
		exchange_deadline(x, x->pub.relay->config.later_ms, 503, "owner-timeout");
		return;
	}
	x->is_res_waiting = false;
	if (step == RELAY_REFUSE)
		bad(x, RELAY_REFUSED, "internal");
	else
		response_begin(x);
}

/* True if something moved. */
static bool head_step(struct exchange *x)
{
	struct conn *c = &x->back->c;
	enum http1_reason reason;
	size_t n;
	int ret;

	if (buf_len(&c->in) > x->res_head_seen) {
		n = http1_head_length(buf_str(&c->in), x->res_head_seen, false, &reason);
		x->res_head_seen = buf_len(&c->in);
		if (n > 0) {
			x->res_head_seen = 0;
			buf_reset(&x->res_raw);
			if (buf_append(&x->res_raw, buf_str(&c->in).p, n) != 0)
				reason = HTTP1_HEAD_TOO_LARGE;
			buf_consume(&c->in, n);
		}
		if (n > 0 && reason == HTTP1_OK)
			reason = http1_parse_response(&x->pub.res, buf_str(&x->res_raw),
						      x->pub.req.method);
		if (reason != HTTP1_OK || (n > 0 && x->n_interim == RELAY_INTERIM_MAX))
			bad(x, RELAY_BAD_RESPONSE,
			    reason != HTTP1_OK ? http1_reason_name(reason) : "too-many-interim");
		else if (n > 0 && x->pub.res.status < 200)
			x->n_interim++;
		else if (n > 0)
			head_judge(x);
		return true;
	}
	ret = conn_read(c, RELAY_PIECE_BYTES);
	if (ret == 1)
		return true;
	if (ret == -EAGAIN)
		return false;
	back_ended(x);
	return true;
}

static bool piece_down(struct exchange *x, struct str piece, bool is_last)
{
	if (frame_release(x, false, piece, is_last, false) == RELAY_DATA_OK)
		return true;
	if (!x->is_refused)
		bad(x, RELAY_REFUSED, "internal");
	return false;
}

/* Nothing more is there now: a client that waits for an event stream wants to see its head. */
static bool head_early(struct exchange *x)
{
	if (x->down.is_begun || x->pub.res_holds_head)
		return false;
	if (frame_release(x, false, STR_NULL, false, true) != RELAY_DATA_OK)
		bad(x, RELAY_BAD_RESPONSE, "internal");
	return true;
}

static bool body_step(struct exchange *x)
{
	struct conn *c = &x->back->c;
	enum http1_reason reason;
	struct str piece;
	size_t used;
	int ret = 1;

	if (buf_len(&c->in) == 0)
		ret = conn_read(c, RELAY_PIECE_BYTES);
	if (ret == -EAGAIN)
		return head_early(x);
	if (ret == 0 && x->res_body.framing == HTTP1_BODY_CLOSE) {
		x->res_body.is_done = true;
		if (piece_down(x, STR_NULL, true))
			response_done(x);
		return true;
	}
	if (ret != 1) {
		bad(x, RELAY_BACK_CLOSED, "upstream-closed-early");
		return true;
	}
	exchange_deadline(x, x->pub.relay->config.stream_ms, 504, "stream-timeout");
	reason = http1_body_decode(&x->res_body, c->in.p + c->in.from, buf_len(&c->in), &used,
				   &piece);
	if (reason != HTTP1_OK) {
		bad(x, RELAY_BAD_RESPONSE, http1_reason_name(reason));
		return true;
	}
	if (piece.n == 0 && !x->res_body.is_done) {
		buf_consume(&c->in, used);
		return true;
	}
	if (!piece_down(x, piece, x->res_body.is_done))
		return true;
	/* Only now, since the piece lies in c->in. What is left would be a message that nobody
	 * asked for: back_release() does not keep such a back. */
	buf_consume(&c->in, used);
	if (x->res_body.is_done)
		response_done(x);
	return true;
}

bool response_pump(struct exchange *x)
{
	bool moved = false;

	if (x->is_res_waiting || x->is_res_done || x->is_aborted || !x->back ||
	    x->back->state != BACK_BUSY)
		return false;
	if ((x->up_sent == 0 && x->is_replayable && !x->is_up_broken) ||
	    buf_len(&x->down.out) > 0 ||
	    (x->pub.front->c.tls && tls_has_unsent(x->pub.front->c.tls)))
		return false;
	if (!x->is_res_begun)
		moved = head_step(x);
	if (x->phase == PHASE_FLOW && x->is_res_begun && !x->is_res_done && x->back)
		moved |= body_step(x);
	return moved;
}
