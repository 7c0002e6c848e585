/*
 * Heads and bodies. Beside memory safety: what was accepted, written anew and parsed again must be
 * the same message, or the next hop would read another one than was judged; and how a body is cut
 * into reads must not matter.
 */
#include "fuzz.h"

#include "net/http1.h"

#include <stdlib.h>

#define REQUIRE(condition)                                                                         \
	do {                                                                                       \
		if (!(condition))                                                                  \
			abort();                                                                   \
	} while (0)

static void require_same(const struct http1_head *a, const struct http1_head *b)
{
	REQUIRE(a->n_fields == b->n_fields && a->framing == b->framing);
	REQUIRE(a->framing != HTTP1_BODY_LENGTH || a->content_length == b->content_length);
	for (size_t i = 0; i < a->n_fields; i++)
		REQUIRE(str_eq(a->fields[i].name, b->fields[i].name) &&
			str_eq(a->fields[i].value, b->fields[i].value));
}

static void again_request(const struct http1_head *h)
{
	struct http1_out_framing f = {h->framing, h->content_length, h->has_length};
	static struct http1_head second;
	enum http1_reason r;
	struct buf out;

	buf_init(&out, 1u << 20);
	REQUIRE(http1_write_request(&out, h, f, h->form == HTTP1_FORM_ABSOLUTE, false) == 0);
	REQUIRE(buf_len(&out) <= http1_write_bound(h));
	/* At the limits the lines that are written anew may make it too much; it is refused then.
	 */
	r = http1_parse_request(&second, buf_str(&out), h->scheme);
	REQUIRE(r == HTTP1_OK || r == HTTP1_HEAD_TOO_LARGE || r == HTTP1_TOO_MANY_FIELDS ||
		r == HTTP1_TARGET_TOO_LONG);
	if (r == HTTP1_OK) {
		require_same(h, &second);
		REQUIRE(h->method == second.method && h->port == second.port);
		REQUIRE(str_ieq(h->host, second.host) && str_eq(h->path, second.path) &&
			str_eq(h->query, second.query) && h->has_query == second.has_query);
	}
	buf_free(&out);
}

static void again_response(const struct http1_head *h)
{
	struct http1_out_framing f = {h->framing, h->content_length, h->has_length};
	static struct http1_head second;
	enum http1_reason r;
	struct buf out;

	buf_init(&out, 1u << 20);
	REQUIRE(http1_write_response(&out, h, f, false) == 0);
	REQUIRE(buf_len(&out) <= http1_write_bound(h));
	r = http1_parse_response(&second, buf_str(&out), h->method);
	REQUIRE(r == HTTP1_OK || r == HTTP1_HEAD_TOO_LARGE || r == HTTP1_TOO_MANY_FIELDS);
	if (r == HTTP1_OK) {
		require_same(h, &second);
		REQUIRE(h->status == second.status);
	}
	buf_free(&out);
}

/* Decodes in reads of `cut` bytes; gives the reason, and the content in out. */
static enum http1_reason decode(const struct http1_head *h, struct str raw, size_t cut,
				struct buf *out, size_t *taken)
{
	enum http1_reason r = HTTP1_OK;
	struct http1_body b;

	http1_body_init(&b, h);
	*taken = 0;
	while (r == HTTP1_OK && *taken < raw.n && !b.is_done) {
		struct str piece = str_sub(raw, *taken, *taken + cut), data;
		char *copy = str_dup(piece);
		size_t used = 0;

		r = http1_body_decode(&b, copy, piece.n, &used, &data);
		if (r == HTTP1_OK) {
			REQUIRE(used <= piece.n && (used == piece.n || b.is_done));
			REQUIRE(buf_append_str(out, data) == 0);
			*taken += used;
		}
		free(copy);
	}
	return r;
}

static void bodies(const struct http1_head *h, struct str rest)
{
	struct buf whole, cut;
	size_t n_whole, n_cut;
	enum http1_reason r;

	buf_init(&whole, 1u << 20);
	buf_init(&cut, 1u << 20);
	r = decode(h, rest, SIZE_MAX / 2, &whole, &n_whole);
	REQUIRE(r == decode(h, rest, 1, &cut, &n_cut));
	/* After a refusal nobody looks at the content. */
	REQUIRE(r != HTTP1_OK || (n_whole == n_cut && str_eq(buf_str(&whole), buf_str(&cut))));
	buf_free(&whole);
	buf_free(&cut);
}

static void message(struct str in, bool is_request, enum http1_method method)
{
	static struct http1_head h;
	enum http1_reason reason, byte_reason;
	size_t n = http1_head_length(in, 0, is_request, &reason), at, seen = 0;
	struct str raw;
	char *copy;

	REQUIRE(n <= in.n && (n == 0 || reason == HTTP1_OK));
	/* Found in one look or byte by byte: the same end. */
	for (at = 1; at <= in.n && at < 2048; at++) {
		size_t end = http1_head_length(str_sub(in, 0, at), seen, is_request, &byte_reason);

		seen = at;
		if (end > 0 || byte_reason != HTTP1_OK) {
			REQUIRE(end == 0 || end == n);
			break;
		}
	}
	if (n == 0)
		return;
	copy = str_dup(str_sub(in, 0, n));
	raw = str_slice(copy, n);
	if (is_request && http1_parse_request(&h, raw, HTTP1_SCHEME_HTTPS) == HTTP1_OK) {
		if (h.method != HTTP1_CONNECT)
			again_request(&h);
		bodies(&h, str_sub(in, n, in.n));
	} else if (!is_request && http1_parse_response(&h, raw, method) == HTTP1_OK) {
		again_response(&h);
		bodies(&h, str_sub(in, n, in.n));
	}
	free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str in = str_slice(data, size);
	struct str host;
	uint16_t port;

	message(in, true, HTTP1_GET);
	message(in, false, HTTP1_GET);
	message(in, false, HTTP1_HEAD);
	(void)!http1_parse_authority(in, 443, &host, &port);
	return 0;
}
