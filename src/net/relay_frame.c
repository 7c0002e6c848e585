/*
 * Framing on the way out. The owner's function appends body bytes straight to the buffer that goes
 * out; head and chunk size, which depend on how many it releases, are put into a gap that was left
 * before them. What is left over of the gap is taken away: for nothing when it is at the buffer's
 * front, which is the usual case.
 */
#include "net/relay_priv.h"

#define CHUNK_GAP 18u /* 16 digits, CR, LF */

static size_t gap_open(struct buf *b, size_t gap)
{
	size_t at = buf_len(b);

	if (!buf_reserve(b, gap))
		return SIZE_MAX;
	buf_commit(b, gap);
	return at;
}

static void gap_fill(struct buf *b, size_t at, size_t gap, struct str prefix)
{
	size_t slack = gap - prefix.n;
	char *p = b->p + b->from + at;

	if (at == 0) {
		if (prefix.n > 0)
			memcpy(p + slack, prefix.p, prefix.n);
		buf_consume(b, slack);
		return;
	}
	if (prefix.n > 0)
		memcpy(p, prefix.p, prefix.n);
	memmove(p + prefix.n, p + gap, buf_len(b) - at - gap);
	b->to -= slack;
}

static void truncate_to(struct buf *b, size_t n)
{
	b->to = b->from + n;
	if (n == 0)
		buf_reset(b);
}

static struct str chunk_size(char out[CHUNK_GAP], uint64_t n)
{
	size_t at = CHUNK_GAP;

	out[--at] = '\n';
	out[--at] = '\r';
	do {
		out[--at] = "0123456789abcdef"[n & 15];
		n >>= 4;
	} while (n > 0);
	return str_slice(out + at, CHUNK_GAP - at);
}

static const struct http1_head *head_of(const struct exchange *x, bool is_up)
{
	return is_up ? &x->pub.req : &x->pub.res;
}

static int head_write(struct exchange *x, bool is_up, struct buf *out, struct http1_out_framing f)
{
	struct relay *r = x->pub.relay;

	if (is_up)
		return http1_write_request(out, &x->pub.req, f, r->config.back_is_absolute,
					   x->pub.is_unpooled && !r->config.back_is_absolute);
	if (!x->pub.req.may_keep_alive)
		x->must_close_front = true;
	if (!x->is_req_read)
		x->must_close_front = true;
	x->result.status = x->pub.res.status;
	return http1_write_response(out, &x->pub.res, f, x->must_close_front);
}

bool frame_head_alone(struct exchange *x, bool is_up)
{
	const struct http1_head *h = head_of(x, is_up);
	struct flow *flow = is_up ? &x->up : &x->down;
	struct http1_out_framing f = {.framing = HTTP1_BODY_NONE,
				      .content_length = h->content_length,
				      .writes_length = h->has_length};

	flow->is_begun = true;
	flow->framing = HTTP1_BODY_NONE;
	return head_write(x, is_up, &flow->out, f) == 0;
}

static bool has_hook(const struct exchange *x, bool is_up)
{
	const struct relay_ops *ops = x->pub.relay->ops;

	return is_up ? ops->on_request_data && !x->pub.req_skips_data
		     : ops->on_response_data && !x->pub.res_skips_data;
}

/* Whether the message's own length is the one that goes out. */
static bool keeps_length(const struct exchange *x, bool is_up)
{
	return !has_hook(x, is_up) || (is_up ? x->pub.req_keeps_length : x->pub.res_keeps_length);
}

static void framing_choose(struct exchange *x, bool is_up, size_t released, bool is_last)
{
	const struct http1_head *h = head_of(x, is_up);
	struct flow *flow = is_up ? &x->up : &x->down;

	if (h->framing == HTTP1_BODY_LENGTH && keeps_length(x, is_up)) {
		flow->framing = HTTP1_BODY_LENGTH;
		flow->left = h->content_length;
	} else if (is_last && !(h->framing == HTTP1_BODY_CHUNKED && keeps_length(x, is_up))) {
		flow->framing = HTTP1_BODY_LENGTH;
		flow->left = released;
	} else {
		flow->framing = HTTP1_BODY_CHUNKED;
	}
}

static enum relay_data hook_call(struct exchange *x, bool is_up, struct str in, bool is_last,
				 struct buf *out)
{
	const struct relay_ops *ops = x->pub.relay->ops;

	if (!has_hook(x, is_up))
		return RELAY_DATA_PASS;
	return is_up ? ops->on_request_data(&x->pub, in, is_last, out)
		     : ops->on_response_data(&x->pub, in, is_last, out);
}

/* Fills the gap at `at` and closes the chunk. False if there is no room or a promise was broken. */
static bool piece_finish(struct exchange *x, bool is_up, size_t at, size_t gap, size_t released,
			 bool is_last)
{
	struct flow *flow = is_up ? &x->up : &x->down;
	struct buf *head = &x->pub.relay->head;
	char digits[CHUNK_GAP];
	bool is_ok = true, begins = !flow->is_begun;

	buf_reset(head);
	if (!flow->is_begun) {
		framing_choose(x, is_up, released, is_last);
		is_ok = head_write(x, is_up, head,
				   (struct http1_out_framing){.framing = flow->framing,
							      .content_length = flow->left}) == 0;
		flow->is_begun = true;
	}
	if (flow->framing == HTTP1_BODY_CHUNKED) {
		if (released > 0)
			is_ok = is_ok && buf_append_str(head, chunk_size(digits, released)) == 0 &&
				buf_append_str(&flow->out, STR_LIT("\r\n")) == 0;
		if (is_last)
			is_ok = is_ok && buf_append_str(&flow->out, STR_LIT("0\r\n\r\n")) == 0;
	} else {
		is_ok = is_ok && released <= flow->left;
		flow->left -= is_ok ? released : 0;
		is_ok = is_ok && (!is_last || flow->left == 0);
	}
	if (is_ok) {
		gap_fill(&flow->out, at, gap, buf_str(head));
		return true;
	}
	/* Nothing of this piece goes, nor the head that was for it: there is still room for a
	 * status. */
	truncate_to(&flow->out, at);
	flow->is_begun = !begins;
	return false;
}

void frame_take_back(struct exchange *x)
{
	if (x->down.is_in_hook)
		truncate_to(&x->down.out, x->down.hook_at);
}

enum relay_data frame_release(struct exchange *x, bool is_up, struct str in, bool is_last,
			      bool must_begin)
{
	struct flow *flow = is_up ? &x->up : &x->down;
	size_t gap = CHUNK_GAP + (flow->is_begun ? 0 : http1_write_bound(head_of(x, is_up)));
	size_t at = gap_open(&flow->out, gap), before = buf_len(&flow->out), released;
	enum relay_data got = RELAY_DATA_OK;

	if (at == SIZE_MAX)
		return RELAY_DATA_REFUSE;
	flow->hook_at = at;
	flow->is_in_hook = true;
	if (in.n > 0 || is_last)
		got = hook_call(x, is_up, in, is_last, &flow->out);
	flow->is_in_hook = false;
	if (got == RELAY_DATA_PASS && buf_append_str(&flow->out, in) != 0)
		got = RELAY_DATA_REFUSE;
	released = buf_len(&flow->out) - before;
	if (got == RELAY_DATA_REFUSE || got == RELAY_DATA_LATER || x->is_refused) {
		/* Downwards the refusal itself stands there by now: see frame_take_back(). */
		if (is_up || !x->is_refused || x->is_aborted)
			truncate_to(&flow->out, at);
		return x->is_refused ? RELAY_DATA_REFUSE : got;
	}
	if (released == 0 && !is_last && (flow->is_begun || !must_begin)) {
		truncate_to(&flow->out, at);
		return RELAY_DATA_OK;
	}
	if (is_up)
		x->result.bytes_up += released;
	else
		x->result.bytes_down += released;
	return piece_finish(x, is_up, at, gap, released, is_last) ? RELAY_DATA_OK
								  : RELAY_DATA_REFUSE;
}
