/*
 * Theory of operation of a request's body. It starts held: nothing of it is released, and so
 * nothing is dialled, until it has ended or has outgrown GATE_WHOLE_MAX. A body that ended is
 * scanned as one text and released at once. One that outgrew the cap is turned into a stream: from
 * then on all but the last SCAN_HOLDBACK_BYTES flow, and a finding ends the exchange; masking is
 * not possible there, since its result could not be scanned again, nor is waiting for a human. What
 * is held over all exchanges is bounded as well.
 *
 * A body whose request uses up a grant for once never becomes a stream: the grant is spent when all
 * of it was found clean, and that is known only at its end.
 */
#include "pipelock/exchange.h"

#include "base/mem.h"
#include "pipelock/hold.h"
#include "pipelock/spend.h"

static struct pipelock_held *held_take(struct pipelock *p)
{
	struct pipelock_held *h = p->held_idle;

	if (h) {
		p->held_idle = h->next;
		p->n_held_idle--;
		return h;
	}
	h = mem_zalloc(sizeof(*h));
	buf_init(&h->buf, GATE_CODED_MAX + RELAY_PIECE_BYTES);
	return h;
}

void exchange_body_drop(struct pipelock *p, struct exchange *ex)
{
	struct pipelock_held *h = ex->held;

	gate_stream_close(&ex->up);
	gate_stream_close(&ex->down);
	ex->held = NULL;
	if (!h)
		return;
	p->held_bytes -= buf_len(&h->buf);
	buf_reset(&h->buf);
	/* Large ones give their memory back, so that a burst of uploads does not stay resident. */
	if (h->buf.size > 2 * RELAY_PIECE_BYTES)
		buf_trim(&h->buf);
	if (p->n_held_idle == PIPELOCK_HELD_IDLE_MAX) {
		buf_free(&h->buf);
		free(h);
		return;
	}
	h->next = p->held_idle;
	p->held_idle = h;
	p->n_held_idle++;
}

void exchange_bodies_free(struct pipelock *p)
{
	while (p->held_idle) {
		struct pipelock_held *h = p->held_idle;

		p->held_idle = h->next;
		buf_free(&h->buf);
		free(h);
	}
	p->n_held_idle = 0;
}

static enum relay_data body_refuse(struct pipelock *p, struct relay_exchange *x,
				   const struct gate_verdict *v)
{
	report_refuse(p, x, v);
	return RELAY_DATA_REFUSE;
}

static enum relay_data body_block(struct pipelock *p, struct relay_exchange *x,
				  enum gate_reason reason)
{
	struct exchange *ex = relay_owner(x);

	ex->v.verdict = RECORD_BLOCK;
	ex->v.reason = gate_reason_name(reason);
	ex->v.scanner = "body";
	return body_refuse(p, x, &ex->v);
}

/* What would be held, but cannot be: as found. */
static enum relay_data body_final(struct pipelock *p, struct relay_exchange *x)
{
	struct exchange *ex = relay_owner(x);

	ex->v.verdict = RECORD_BLOCK;
	return body_refuse(p, x, &ex->v);
}

static bool body_coding(struct relay_exchange *x, struct str *coding)
{
	const struct http1_field *f = http1_find(&x->req, STR_LIT("content-encoding"));

	*coding = f ? f->value : STR_NULL;
	return http1_count(&x->req, STR_LIT("content-encoding")) <= 1;
}

static bool body_is_coded(struct str coding)
{
	return coding.n > 0 && !str_ieq(coding, STR_LIT("identity"));
}

static bool body_hold(struct pipelock *p, struct exchange *ex, struct str in)
{
	if (!ex->held)
		ex->held = held_take(p);
	if (p->held_bytes + in.n > PIPELOCK_HELD_MAX || buf_append_str(&ex->held->buf, in) < 0)
		return false;
	p->held_bytes += in.n;
	return true;
}

/* Moves the first n held bytes on. */
static enum relay_data body_release(struct pipelock *p, struct relay_exchange *x, size_t n,
				    struct buf *out)
{
	struct exchange *ex = relay_owner(x);
	struct buf *held = &ex->held->buf;

	if (n == 0)
		return RELAY_DATA_OK;
	if (!exchange_is_recorded(p, x))
		return RELAY_DATA_REFUSE;
	if (buf_append_str(out, str_sub(buf_str(held), 0, n)) < 0)
		return body_block(p, x, GATE_SCAN_LIMIT);
	buf_consume(held, n);
	p->held_bytes -= n;
	return RELAY_DATA_OK;
}

static enum relay_data body_stream(struct pipelock *p, struct relay_exchange *x, struct str piece,
				   bool is_last, struct buf *out)
{
	struct exchange *ex = relay_owner(x);
	size_t held;

	if (!gate_stream_feed(&ex->up, piece, is_last, &ex->v))
		return body_refuse(p, x, &ex->v);
	held = buf_len(&ex->held->buf);
	if (!is_last)
		held -= held < SCAN_HOLDBACK_BYTES ? held : SCAN_HOLDBACK_BYTES;
	return body_release(p, x, held, out);
}

/* All of it was looked at; it is in ex->held when it has to wait. */
static enum relay_data body_wait(struct pipelock *p, struct relay_exchange *x, struct str body)
{
	struct exchange *ex = relay_owner(x);

	if (!ex->held && !body_hold(p, ex, body))
		return body_final(p, x);
	return hold_begin(p, x) == HOLD_WAIT ? RELAY_DATA_LATER : RELAY_DATA_REFUSE;
}

static enum relay_data body_whole(struct pipelock *p, struct relay_exchange *x, struct str body,
				  struct str coding)
{
	struct exchange *ex = relay_owner(x);

	if (!gate_body(&p->gate, body, coding, &ex->v))
		return body_refuse(p, x, &ex->v);
	exchange_mark(p, ex);
	if (ex->v.verdict == RECORD_HOLD)
		return body_is_coded(coding) ? body_final(p, x) : body_wait(p, x, body);
	switch (spend_before(p, x)) {
	case SPEND_WAITS:
		return RELAY_DATA_LATER;
	case SPEND_FREE:
		return exchange_is_recorded(p, x) ? RELAY_DATA_OK : RELAY_DATA_REFUSE;
	case SPEND_REFUSED:
	default:
		return RELAY_DATA_REFUSE;
	}
}

enum relay_data exchange_on_request_data(struct relay_exchange *x, struct str in, bool is_last,
					 struct buf *out)
{
	struct pipelock *p = exchange_pipelock(x);
	struct exchange *ex = relay_owner(x);
	enum relay_data did;
	struct str coding;
	size_t max;

	/* It was judged and has waited. */
	if (ex->is_spent || ex->is_released)
		return ex->held ? body_release(p, x, buf_len(&ex->held->buf), out) : RELAY_DATA_OK;
	if (!body_coding(x, &coding))
		return body_block(p, x, GATE_BODY_CODING_UNSUPPORTED);
	/* The common case: all of it came in one piece, and nothing has to be copied. */
	if (is_last && !ex->held && !ex->v.route->is_once) {
		did = body_whole(p, x, in, coding);
		return did == RELAY_DATA_OK ? RELAY_DATA_PASS : did;
	}
	if (!body_hold(p, ex, in))
		return body_block(p, x,
				  body_is_coded(coding) ? GATE_BODY_TOO_LARGE : GATE_SCAN_LIMIT);
	if (ex->is_streaming)
		return body_stream(p, x, in, is_last, out);
	max = body_is_coded(coding) ? GATE_CODED_MAX : GATE_WHOLE_MAX;
	if (buf_len(&ex->held->buf) > max) {
		if (body_is_coded(coding) || ex->v.route->is_once)
			return body_block(p, x, GATE_BODY_TOO_LARGE);
		if (ex->v.verdict == RECORD_HOLD)
			return body_final(p, x);
		if (!gate_stream_open(&p->gate, &ex->up, SCAN_PLACE_BODY, STR_NULL, &ex->v))
			return body_refuse(p, x, &ex->v);
		ex->is_streaming = true;
		return body_stream(p, x, buf_str(&ex->held->buf), is_last, out);
	}
	if (!is_last)
		return RELAY_DATA_OK;
	did = body_whole(p, x, buf_str(&ex->held->buf), coding);
	return did == RELAY_DATA_OK ? body_release(p, x, buf_len(&ex->held->buf), out) : did;
}

enum relay_data exchange_on_response_data(struct relay_exchange *x, struct str in, bool is_last,
					  struct buf *out)
{
	struct pipelock *p = exchange_pipelock(x);
	struct exchange *ex = relay_owner(x);
	struct gate_verdict v = ex->v;

	(void)out;
	/* Nothing is held back: a piece is scanned, then it flows. egress, which knows the values,
	 * has masked what was echoed; this is the second look. */
	if (gate_stream_feed(&ex->down, in, is_last, &v))
		return RELAY_DATA_PASS;
	return body_refuse(p, x, &v);
}
