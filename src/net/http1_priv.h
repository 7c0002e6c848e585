/* Between the files of the HTTP/1 parser. */
#pragma once

#include "net/http1.h"

/* Byte classes (RFC 9110 section 5.6.2, RFC 9112 section 3.2). */
#define HTTP1_CLASS_TOKEN  0x01u
#define HTTP1_CLASS_VALUE  0x02u /* HTAB, SP, VCHAR, obs-text */
#define HTTP1_CLASS_TARGET 0x04u /* VCHAR without "#" */
#define HTTP1_CLASS_HOST   0x08u
extern const uint8_t http1_class[256];

static inline bool http1_all(struct str s, unsigned class_bit)
{
	unsigned char all = (unsigned char)class_bit;

	for (size_t i = 0; i < s.n; i++)
		all &= http1_class[(unsigned char)s.p[i]];
	return all != 0;
}

static inline bool http1_is_token(struct str s)
{
	return s.n > 0 && http1_all(s, HTTP1_CLASS_TOKEN);
}

/* The first line of a request without its CRLF. Sets method, minor, and *target. */
enum http1_reason http1_request_line(struct http1_head *h, struct str line, struct str *target);
/* From *target into form, scheme, host, port, path and query. */
enum http1_reason http1_target(struct http1_head *h, struct str target);

/* A second, independent parser (llhttp) must accept the head, too, and see the same framing. */
bool http1_second_opinion(const struct http1_head *h, struct str raw, size_t n_fields_raw);
