/*
 * HTTP/1.1 messages (RFC 9110, RFC 9112), strictly: a head is accepted only if every reader of it
 * would understand the same thing. Whatever is forwarded is written from the parsed form, never
 * copied through. The body decoder is here too; it knows framing, not content.
 *
 * Not accepted, each with a reason of its own: bare CR or LF, NUL and other control bytes,
 * obs-fold, space before the colon, several or ambiguous lengths, transfer codings other than one
 * "chunked", chunk extensions, request trailers, HTTP/0.9, HTTP/2 and Upgrade. HTTP/1.0 requests
 * are refused (505) except CONNECT, which Python's http.client still sends in that version.
 */
#pragma once

#include "base/buf.h"

#define HTTP1_HEAD_MAX_BYTES   65536
#define HTTP1_TARGET_MAX_BYTES 8192
#define HTTP1_FIELDS_MAX       100
#define HTTP1_HOST_MAX_BYTES   255
#define HTTP1_CHUNK_DIGITS_MAX 16

/* X(constant, name, status of the answer to a request that has it; responses always become 502) */
#define HTTP1_REASONS(X)                                                                           \
	X(OK, "ok", 0)                                                                             \
	X(INCOMPLETE, "incomplete", 0) /* needs more bytes */                                      \
	X(SYNTAX, "malformed-message", 400)                                                        \
	X(BARE_CR, "bare-cr", 400)                                                                 \
	X(BARE_LF, "bare-lf", 400)                                                                 \
	X(NUL, "nul-byte", 400)                                                                    \
	X(CONTROL, "control-byte", 400)                                                            \
	X(OBS_FOLD, "obs-fold", 400)                                                               \
	X(FIELD_NAME, "bad-field-name", 400)                                                       \
	X(SPACE_BEFORE_COLON, "space-before-colon", 400)                                           \
	X(HEAD_TOO_LARGE, "head-too-large", 431)                                                   \
	X(TOO_MANY_FIELDS, "too-many-fields", 431)                                                 \
	X(TARGET_TOO_LONG, "target-too-long", 414)                                                 \
	X(METHOD, "unknown-method", 501)                                                           \
	X(VERSION, "http-version", 505)                                                            \
	X(H2_PREFACE, "http2-preface", 505)                                                        \
	X(TARGET, "bad-target", 400)                                                               \
	X(USERINFO, "userinfo-in-target", 400)                                                     \
	X(FRAGMENT, "fragment-in-target", 400)                                                     \
	X(ASTERISK, "asterisk-form", 400)                                                          \
	X(SCHEME, "bad-scheme", 400)                                                               \
	X(PORT, "bad-port", 400)                                                                   \
	X(HOST_MISSING, "missing-host", 400)                                                       \
	X(HOST_DUPLICATE, "duplicate-host", 400)                                                   \
	X(HOST_SYNTAX, "bad-host", 400)                                                            \
	X(HOST_MISMATCH, "host-mismatch", 421)                                                     \
	X(LENGTH_DUPLICATE, "duplicate-content-length", 400)                                       \
	X(LENGTH_SYNTAX, "bad-content-length", 400)                                                \
	X(LENGTH_AND_CODING, "content-length-with-transfer-encoding", 400)                         \
	X(LENGTH_FORBIDDEN, "body-not-allowed", 400) /* CONNECT; 1xx and 204 */                    \
	X(CODING, "bad-transfer-encoding", 400)                                                    \
	X(CODING_DUPLICATE, "duplicate-transfer-encoding", 400)                                    \
	X(CODING_HTTP10, "transfer-encoding-in-http10", 400)                                       \
	X(CONNECTION, "bad-connection-field", 400)                                                 \
	X(UPGRADE, "upgrade-refused", 400)                                                         \
	X(EXPECT, "unknown-expectation", 417)                                                      \
	X(TRAILER, "trailers-refused", 400)                                                        \
	X(CHUNK_SIZE, "bad-chunk-size", 400)                                                       \
	X(CHUNK_TOO_LARGE, "chunk-size-overflow", 400)                                             \
	X(CHUNK_EXTENSION, "chunk-extension", 400)                                                 \
	X(CHUNK_END, "bad-chunk-end", 400)                                                         \
	X(STATUS, "bad-status-line", 400)

enum http1_reason {
#define X(constant, name, status) HTTP1_##constant,
	HTTP1_REASONS(X)
#undef X
		HTTP1_REASON_COUNT
};

const char *http1_reason_name(enum http1_reason r);
unsigned http1_reason_status(enum http1_reason r); /* 0 for OK and INCOMPLETE */

/* The first seven are in the order of enum policy_method; CONNECT stands alone. */
enum http1_method {
	HTTP1_GET,
	HTTP1_HEAD,
	HTTP1_POST,
	HTTP1_PUT,
	HTTP1_PATCH,
	HTTP1_DELETE,
	HTTP1_OPTIONS,
	HTTP1_CONNECT,
	HTTP1_METHOD_COUNT
};

struct str http1_method_name(enum http1_method m);
/* RFC 9110 section 9.2.2; CONNECT is not. */
bool http1_method_is_idempotent(enum http1_method m);

enum http1_form { HTTP1_FORM_ORIGIN, HTTP1_FORM_ABSOLUTE, HTTP1_FORM_AUTHORITY };
enum http1_scheme { HTTP1_SCHEME_HTTP, HTTP1_SCHEME_HTTPS };

enum http1_framing {
	HTTP1_BODY_NONE,   /* nothing follows the head */
	HTTP1_BODY_LENGTH, /* content_length bytes, at least one */
	HTTP1_BODY_CHUNKED,
	HTTP1_BODY_CLOSE /* responses only: until the connection ends */
};

struct http1_field {
	struct str name;  /* a token, letter case as received */
	struct str value; /* trimmed; no CR, LF, NUL or other control byte but HTAB */
};

/*
 * A parsed head. All slices point into the bytes that were parsed, or to what the owner put there.
 * fields[] has the end-to-end fields only: hop-by-hop ones (RFC 9110 section 7.6.1, those that
 * Connection names included), Host, Content-Length, Transfer-Encoding and Expect are taken out and
 * live in the members below; the serialiser writes them anew.
 */
struct http1_head {
	bool is_request;
	bool has_query;
	bool has_length; /* a Content-Length was given (0 too; also in answers to HEAD, and 304) */
	bool may_keep_alive; /* what the peer's version and Connection field say */
	bool expects_continue;
	bool has_trailer; /* response: Trailer or trailers announced; they are dropped */
	uint8_t minor;	  /* HTTP/1.minor: 0 or 1 */
	/* request */
	enum http1_method method;
	enum http1_form form;
	enum http1_scheme scheme; /* absolute-form: as written; else the caller's (see parse) */
	uint16_t port;		  /* explicit, else the scheme's own */
	struct str host;	  /* without port and brackets kept as written; never empty */
	struct str path;	  /* begins with "/"; empty for CONNECT. No query */
	struct str query;	  /* without "?" */
	/* response */
	unsigned status;
	struct str phrase;
	/* both */
	enum http1_framing framing;
	uint64_t content_length;
	size_t n_fields;
	struct http1_field fields[HTTP1_FIELDS_MAX];
};

/* Length of the head at the start of in, its blank line included; 0 while it is not complete.
 * `from` is how many bytes a former call has seen without finding the end. *reason is set to
 * HEAD_TOO_LARGE, TARGET_TOO_LONG or what is wrong already (a bare LF, a NUL), so that a peer that
 * will never send a good head is not waited for. */
size_t http1_head_length(struct str in, size_t from, bool is_request, enum http1_reason *reason);
/* raw is one complete head, blank line included. default_scheme is what a request in origin-form
 * came over (TLS or not). HTTP1_OK or why not; *h is then not to be used. */
enum http1_reason http1_parse_request(struct http1_head *h, struct str raw,
				      enum http1_scheme default_scheme)
	__attribute__((warn_unused_result));
/* request: the method of the request that it answers decides on the body (RFC 9112 section 6.3). */
enum http1_reason http1_parse_response(struct http1_head *h, struct str raw,
				       enum http1_method request)
	__attribute__((warn_unused_result));
/* "host", "host:port", "[v6]:port"; for CONNECT the port is required (default_port 0). */
enum http1_reason http1_parse_authority(struct str s, uint16_t default_port, struct str *host,
					uint16_t *port) __attribute__((warn_unused_result));

/* Names are compared without letter case. The first such field, or NULL. */
struct http1_field *http1_find(struct http1_head *h, struct str name);
size_t http1_count(const struct http1_head *h, struct str name);
/* How many were removed. */
size_t http1_remove(struct http1_head *h, struct str name);
/* Appends. Slices must live as long as the head (relay_keep()). -ENOBUFS past HTTP1_FIELDS_MAX;
 * -EINVAL if the name is no token or the value holds a control byte. */
int http1_add(struct http1_head *h, struct str name, struct str value)
	__attribute__((warn_unused_result));
/* Replaces all of that name by one. */
int http1_set(struct http1_head *h, struct str name, struct str value)
	__attribute__((warn_unused_result));

/* How the body of the message that is written will be framed. */
struct http1_out_framing {
	enum http1_framing framing;
	uint64_t content_length; /* of HTTP1_BODY_LENGTH; 0 is allowed and writes "Content-Length:
				    0" */
	bool writes_length;	 /* with HTTP1_BODY_NONE: Content-Length anyway (HEAD, 304) */
};

/* Appends the head. Host is written from host and port (the port when it is not the scheme's own);
 * as_absolute writes "https://host:port/path". Connection is written only as "close", if is_close.
 * 0, or -ENOBUFS with out unchanged. */
int http1_write_request(struct buf *out, const struct http1_head *h, struct http1_out_framing f,
			bool as_absolute, bool is_close) __attribute__((warn_unused_result));
int http1_write_response(struct buf *out, const struct http1_head *h, struct http1_out_framing f,
			 bool is_close) __attribute__((warn_unused_result));
/* No less than what either of them would append. */
size_t http1_write_bound(const struct http1_head *h);
/* The usual phrase of a status, or "Status". */
struct str http1_status_phrase(unsigned status);

/* --- bodies --- */

/* Decoder of one body; plain data, no clean-up. */
struct http1_body {
	enum http1_framing framing;
	bool is_done;
	bool may_have_trailers; /* responses: read and dropped; requests: refused */
	uint8_t state, digits;
	uint16_t trailer_bytes;
	uint64_t left; /* of the body (LENGTH) or of the chunk */
};

void http1_body_init(struct http1_body *b, const struct http1_head *h);
/*
 * Takes as much of p[0..n) as belongs to the body, in place: the content found is gathered at
 * data (which points into p; later chunks are moved up against the first one). *used says how many
 * raw bytes were taken; after b->is_done the rest belongs to the next message. With BODY_CLOSE all
 * is content and the caller sets is_done at the end of file.
 */
enum http1_reason http1_body_decode(struct http1_body *b, char *p, size_t n, size_t *used,
				    struct str *data) __attribute__((warn_unused_result));
/* Bytes that are still to come if known (LENGTH), else UINT64_MAX. */
uint64_t http1_body_left(const struct http1_body *b);
