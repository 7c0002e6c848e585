/*
 * Body framing: Content-Length, chunked (RFC 9112 section 7.1) without extensions, until close.
 * Chunked content is gathered in place: the first chunk stays where it was read, the content of
 * further chunks is moved up against it, so that the caller sees one run of content for each read.
 */
#include "net/http1_priv.h"

#define TRAILER_MAX_BYTES 8192
#define CHUNK_SIZE_MAX	  (UINT64_C(1) << 60)

enum state {
	STATE_SIZE,
	STATE_SIZE_LF,
	STATE_DATA,
	STATE_DATA_CR,
	STATE_DATA_LF,
	STATE_TRAILER,	    /* at the start of a line */
	STATE_TRAILER_LINE, /* within one */
	STATE_TRAILER_LF,
	STATE_END_LF
};

void http1_body_init(struct http1_body *b, const struct http1_head *h)
{
	*b = (struct http1_body){.framing = h->framing,
				 .is_done = h->framing == HTTP1_BODY_NONE,
				 .may_have_trailers = !h->is_request,
				 .state = STATE_SIZE};
	if (h->framing == HTTP1_BODY_LENGTH)
		b->left = h->content_length;
}

uint64_t http1_body_left(const struct http1_body *b)
{
	if (b->is_done)
		return 0;
	return b->framing == HTTP1_BODY_LENGTH ? b->left : UINT64_MAX;
}

static enum http1_reason size_byte(struct http1_body *b, char c)
{
	int digit = ascii_hex_value(c);

	if (digit >= 0) {
		if (++b->digits > HTTP1_CHUNK_DIGITS_MAX || b->left > CHUNK_SIZE_MAX >> 4)
			return HTTP1_CHUNK_TOO_LARGE;
		b->left = b->left << 4 | (uint64_t)digit;
		return HTTP1_OK;
	}
	if (c == ';' && b->digits > 0)
		return HTTP1_CHUNK_EXTENSION;
	if (c == '\n')
		return HTTP1_BARE_LF;
	if (c != '\r' || b->digits == 0)
		return HTTP1_CHUNK_SIZE;
	b->state = STATE_SIZE_LF;
	return HTTP1_OK;
}

static enum http1_reason trailer_byte(struct http1_body *b, char c)
{
	if (b->state == STATE_TRAILER && c == '\r') {
		b->state = STATE_END_LF;
		return HTTP1_OK;
	}
	if (!b->may_have_trailers)
		return HTTP1_TRAILER;
	if (++b->trailer_bytes > TRAILER_MAX_BYTES)
		return HTTP1_HEAD_TOO_LARGE;
	if (c == '\r') {
		b->state = STATE_TRAILER_LF;
		return HTTP1_OK;
	}
	if (c == '\n')
		return HTTP1_BARE_LF;
	if (!(http1_class[(unsigned char)c] & HTTP1_CLASS_VALUE))
		return c == '\0' ? HTTP1_NUL : HTTP1_CONTROL;
	if (b->state == STATE_TRAILER && !(http1_class[(unsigned char)c] & HTTP1_CLASS_TOKEN))
		return HTTP1_TRAILER;
	b->state = STATE_TRAILER_LINE;
	return HTTP1_OK;
}

/* One byte of framing, i.e. in every state but STATE_DATA. */
static enum http1_reason framing_byte(struct http1_body *b, char c)
{
	switch ((enum state)b->state) {
	case STATE_SIZE:
		return size_byte(b, c);
	case STATE_SIZE_LF:
		if (c != '\n')
			return HTTP1_BARE_CR;
		b->state = b->left > 0 ? STATE_DATA : STATE_TRAILER;
		return HTTP1_OK;
	case STATE_DATA_CR:
		b->state = STATE_DATA_LF;
		return c == '\r' ? HTTP1_OK : HTTP1_CHUNK_END;
	case STATE_DATA_LF:
		b->state = STATE_SIZE;
		b->digits = 0;
		return c == '\n' ? HTTP1_OK : HTTP1_CHUNK_END;
	case STATE_TRAILER:
	case STATE_TRAILER_LINE:
		return trailer_byte(b, c);
	case STATE_TRAILER_LF:
		b->state = STATE_TRAILER;
		return c == '\n' ? HTTP1_OK : HTTP1_BARE_CR;
	case STATE_END_LF:
		b->is_done = true;
		return c == '\n' ? HTTP1_OK : HTTP1_BARE_CR;
	case STATE_DATA:
		break;
	}
	return HTTP1_CHUNK_END;
}

static enum http1_reason chunked_decode(struct http1_body *b, char *p, size_t n, size_t *used,
					struct str *data)
{
	char *to = p;
	size_t at = 0;

	while (at < n && !b->is_done) {
		enum http1_reason r;

		if (b->state == STATE_DATA) {
			size_t run = b->left < n - at ? (size_t)b->left : n - at;

			if (data->n == 0)
				data->p = to = p + at;
			else if (to != p + at)
				memmove(to, p + at, run);
			to += run;
			data->n += run;
			at += run;
			b->left -= run;
			if (b->left == 0)
				b->state = STATE_DATA_CR;
			continue;
		}
		r = framing_byte(b, p[at]);
		if (r != HTTP1_OK)
			return r;
		at++;
	}
	*used = at;
	return HTTP1_OK;
}

enum http1_reason http1_body_decode(struct http1_body *b, char *p, size_t n, size_t *used,
				    struct str *data)
{
	*used = 0;
	*data = (struct str){p, 0};
	if (b->is_done)
		return HTTP1_OK;
	if (b->framing == HTTP1_BODY_CHUNKED)
		return chunked_decode(b, p, n, used, data);
	if (b->framing == HTTP1_BODY_LENGTH && n > b->left)
		n = (size_t)b->left;
	data->n = *used = n;
	if (b->framing == HTTP1_BODY_LENGTH) {
		b->left -= n;
		b->is_done = b->left == 0;
	}
	return HTTP1_OK;
}
