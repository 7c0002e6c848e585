/*
 * The request's way up: body pieces go past the owner into `up`, and from there to the back. The
 * back is asked for only when there is something in `up`, i.e. when the owner has released the
 * first byte or all of it: nothing is dialled for a request that is still being judged.
 */
#include "net/relay_priv.h"

#include <errno.h>

#define UP_HIGH_BYTES RELAY_PIECE_BYTES /* no more is read while so much waits for the back */

static void front_gone(struct exchange *x)
{
	x->is_aborted = true;
	x->result.outcome = RELAY_FRONT_CLOSED;
	x->result.reason = "incomplete-body";
}

/* Hands one piece on. False when the exchange took another turn. */
static bool piece_up(struct exchange *x, struct str piece, bool is_last)
{
	switch (frame_release(x, true, piece, is_last, false)) {
	case RELAY_DATA_OK:
	case RELAY_DATA_PASS:
		x->is_req_released = is_last;
		return true;
	case RELAY_DATA_LATER:
		x->is_req_waiting = is_last;
		if (!is_last)
			exchange_refuse(x, RELAY_REFUSED, 500, "internal");
		else
			exchange_deadline(x, x->pub.relay->config.later_ms, 503, "owner-timeout");
		return false;
	case RELAY_DATA_REFUSE:
		if (!x->is_refused)
			exchange_refuse(x, RELAY_REFUSED, 500, "internal");
		return false;
	}
	return false;
}

/* One piece of body from the front. False when there is none now. */
static bool body_step(struct exchange *x)
{
	struct conn *c = &x->pub.front->c;
	enum http1_reason reason;
	struct str piece;
	size_t used;
	int ret;

	if (buf_len(&c->in) == 0) {
		ret = conn_read(c, RELAY_PIECE_BYTES);
		if (ret == -EAGAIN)
			return false;
		if (ret != 1) {
			front_gone(x);
			return true;
		}
		conn_deadline(c, c->relay->config.body_ms);
	}
	reason = http1_body_decode(&x->req_body, c->in.p + c->in.from, buf_len(&c->in), &used,
				   &piece);
	if (reason != HTTP1_OK) {
		exchange_refuse(x, RELAY_BAD_REQUEST, http1_reason_status(reason),
				http1_reason_name(reason));
		return true;
	}
	if (x->req_body.is_done) {
		x->is_req_read = true;
		conn_deadline(c, 0);
	}
	if (piece.n > 0 || x->is_req_read)
		(void)piece_up(x, piece, x->is_req_read);
	/* The piece lies in c->in: gone only now. */
	buf_consume(&c->in, used);
	return true;
}

static bool body_pump(struct exchange *x)
{
	bool moved = false;

	while (x->phase == PHASE_FLOW && !x->is_aborted && !x->is_res_done && !x->is_req_released &&
	       !x->is_req_waiting && !x->is_up_broken &&
	       buf_len(&x->up.out) - x->up_sent < UP_HIGH_BYTES) {
		if (x->is_req_read) {
			moved = true; /* after RELAY_DATA_LATER */
			(void)piece_up(x, STR_NULL, true);
		} else if (body_step(x)) {
			moved = true;
		} else {
			break;
		}
	}
	return moved;
}

static bool send_up(struct exchange *x)
{
	size_t before = x->up_sent;
	int ret;

	ret = conn_flush(&x->back->c, &x->up.out, &x->up_sent);
	if (ret < 0 && ret != -EAGAIN) {
		/* It may have answered before it stopped to read: response_pump() finds out. */
		x->is_up_broken = true;
		x->back->c.is_dry = false;
		return true;
	}
	if (x->up_sent != before && !x->pub.has_res)
		exchange_deadline(x, x->pub.relay->config.response_ms, 504, "response-timeout");
	if (x->up_sent == buf_len(&x->up.out) && !x->is_req_released) {
		/* More is to come: what is gone cannot be sent again. */
		x->is_replayable = false;
		buf_reset(&x->up.out);
		x->up_sent = 0;
	}
	return x->up_sent != before || ret == 0;
}

bool request_pump(struct exchange *x)
{
	bool moved = body_pump(x);

	if (x->phase != PHASE_FLOW || x->is_aborted || x->is_res_done || !x->up.is_begun)
		return moved;
	if (!x->back && !x->is_dialling) {
		back_get(x);
		moved = true;
	}
	if (x->back && x->back->state != BACK_BUSY)
		moved |= back_step(x->back);
	if (x->phase == PHASE_FLOW && x->back && x->back->state == BACK_BUSY && !x->is_up_broken &&
	    (x->up_sent < buf_len(&x->up.out) ||
	     (x->back->c.tls && tls_has_unsent(x->back->c.tls))))
		moved |= send_up(x);
	return moved;
}
