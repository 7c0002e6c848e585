/* Heads, written from the parsed form. */
#include "net/http1_priv.h"

#include <errno.h>
#include <stdio.h>

/* Everything that is not a slice of the head: framing and Connection lines, version, port. */
#define FIXED_BYTES_MAX 256

struct writer {
	char *p;
};

static void put(struct writer *w, struct str s)
{
	if (s.n > 0)
		memcpy(w->p, s.p, s.n);
	w->p += s.n;
}

static void put_u64(struct writer *w, uint64_t value)
{
	char digits[20];
	size_t n = 0;

	do {
		digits[n++] = (char)('0' + value % 10);
		value /= 10;
	} while (value > 0);
	while (n > 0)
		*w->p++ = digits[--n];
}

static void put_authority(struct writer *w, const struct http1_head *h)
{
	put(w, h->host);
	if (h->method == HTTP1_CONNECT || h->port != (h->scheme == HTTP1_SCHEME_HTTPS ? 443 : 80)) {
		put(w, STR_LIT(":"));
		put_u64(w, h->port);
	}
}

static void put_tail(struct writer *w, const struct http1_head *h, struct http1_out_framing f,
		     bool is_close)
{
	for (size_t i = 0; i < h->n_fields; i++) {
		put(w, h->fields[i].name);
		put(w, STR_LIT(": "));
		put(w, h->fields[i].value);
		put(w, STR_LIT("\r\n"));
	}
	if (f.framing == HTTP1_BODY_LENGTH || (f.framing == HTTP1_BODY_NONE && f.writes_length)) {
		put(w, STR_LIT("Content-Length: "));
		put_u64(w, f.content_length);
		put(w, STR_LIT("\r\n"));
	} else if (f.framing == HTTP1_BODY_CHUNKED) {
		put(w, STR_LIT("Transfer-Encoding: chunked\r\n"));
	}
	if (is_close || f.framing == HTTP1_BODY_CLOSE)
		put(w, STR_LIT("Connection: close\r\n"));
	put(w, STR_LIT("\r\n"));
}

static size_t fields_bytes(const struct http1_head *h)
{
	size_t n = 0;

	for (size_t i = 0; i < h->n_fields; i++)
		n += h->fields[i].name.n + h->fields[i].value.n + 4;
	return n;
}

size_t http1_write_bound(const struct http1_head *h)
{
	return FIXED_BYTES_MAX + 2 * h->host.n + h->path.n + h->query.n + h->phrase.n +
	       fields_bytes(h);
}

static int done(struct buf *out, char *start, const struct writer *w)
{
	buf_commit(out, (size_t)(w->p - start));
	return 0;
}

int http1_write_request(struct buf *out, const struct http1_head *h, struct http1_out_framing f,
			bool as_absolute, bool is_close)
{
	char *start = buf_reserve(out, http1_write_bound(h));
	struct writer w = {start};

	if (!start)
		return -ENOBUFS;
	put(&w, http1_method_name(h->method));
	put(&w, STR_LIT(" "));
	if (h->method == HTTP1_CONNECT) {
		put_authority(&w, h);
	} else {
		if (as_absolute) {
			put(&w, h->scheme == HTTP1_SCHEME_HTTPS ? STR_LIT("https://")
								: STR_LIT("http://"));
			put_authority(&w, h);
		}
		put(&w, h->path);
		if (h->has_query) {
			put(&w, STR_LIT("?"));
			put(&w, h->query);
		}
	}
	put(&w, STR_LIT(" HTTP/1.1\r\nHost: "));
	put_authority(&w, h);
	put(&w, STR_LIT("\r\n"));
	put_tail(&w, h, f, is_close);
	return done(out, start, &w);
}

int http1_write_response(struct buf *out, const struct http1_head *h, struct http1_out_framing f,
			 bool is_close)
{
	struct str phrase = h->phrase.n > 0 ? h->phrase : http1_status_phrase(h->status);
	char *start = buf_reserve(out, http1_write_bound(h));
	struct writer w = {start};

	if (!start)
		return -ENOBUFS;
	put(&w, STR_LIT("HTTP/1.1 "));
	put_u64(&w, h->status);
	put(&w, STR_LIT(" "));
	put(&w, phrase);
	put(&w, STR_LIT("\r\n"));
	put_tail(&w, h, f, is_close);
	return done(out, start, &w);
}

struct str http1_status_phrase(unsigned status)
{
	static const struct {
		unsigned status;
		struct str phrase;
	} phrases[] = {
		{200, STR_LIT("OK")},
		{202, STR_LIT("Accepted")},
		{204, STR_LIT("No Content")},
		{206, STR_LIT("Partial Content")},
		{304, STR_LIT("Not Modified")},
		{400, STR_LIT("Bad Request")},
		{401, STR_LIT("Unauthorized")},
		{403, STR_LIT("Forbidden")},
		{404, STR_LIT("Not Found")},
		{405, STR_LIT("Method Not Allowed")},
		{406, STR_LIT("Not Acceptable")},
		{408, STR_LIT("Request Timeout")},
		{413, STR_LIT("Content Too Large")},
		{414, STR_LIT("URI Too Long")},
		{415, STR_LIT("Unsupported Media Type")},
		{416, STR_LIT("Range Not Satisfiable")},
		{417, STR_LIT("Expectation Failed")},
		{421, STR_LIT("Misdirected Request")},
		{429, STR_LIT("Too Many Requests")},
		{431, STR_LIT("Request Header Fields Too Large")},
		{500, STR_LIT("Internal Server Error")},
		{501, STR_LIT("Not Implemented")},
		{502, STR_LIT("Bad Gateway")},
		{503, STR_LIT("Service Unavailable")},
		{504, STR_LIT("Gateway Timeout")},
		{505, STR_LIT("HTTP Version Not Supported")},
	};

	for (size_t i = 0; i < sizeof(phrases) / sizeof(phrases[0]); i++) {
		if (phrases[i].status == status)
			return phrases[i].phrase;
	}
	return STR_LIT("Status");
}
