#include "gitgate/connect_http.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/text.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#define IN_MAX	     (HTTP1_HEAD_MAX_BYTES + (256u << 10))
#define PIECE	     65536
#define INTERIM_MAX  8 /* answers of 1xx */
#define SAID_MAX     4096
#define USER_AGENT   "git/2.39.5 (claude-bottle)"
#define DEFAULT_USER "git"

static const char *service_name(enum git_service s)
{
	return s == GIT_UPLOAD_PACK ? "git-upload-pack" : "git-receive-pack";
}

void connect_http_init(struct connect_http *h, const struct upstream_place *p,
		       const struct git_remote *r, enum git_service service,
		       const struct wire_clock *clock)
{
	memset(h, 0, sizeof(*h));
	h->place = p;
	h->remote = r;
	h->service = service;
	h->clock = *clock;
	h->fd = -1;
	buf_init(&h->in, IN_MAX);
}

void connect_http_free(struct connect_http *h)
{
	close_fd(&h->fd);
	free(take_ptr(&h->head_text));
	buf_free(&h->in);
}

/* --- the request --- */

static int http_open(struct connect_http *h, struct err *e)
{
	int pair[2];
	ssize_t n;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return err_errno(e, "socketpair");
	h->fd = pair[0];
	for (;;) {
		n = io_send_fds(h->place->egress_fd, "c", 1, &pair[1], 1,
				MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n != -EAGAIN || io_wait(h->place->egress_fd, POLLOUT, UPSTREAM_CONNECT_MS) != 1)
			break;
	}
	(void)close(pair[1]);
	return n == 1 ? 0 : err_set(e, -ENOTCONN, "egress does not take a connection");
}

/* RFC 4648; out holds 4 * ((n + 2) / 3) + 1. */
static void base64(char *out, const unsigned char *p, size_t n)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	for (size_t i = 0; i < n; i += 3) {
		uint32_t word = (uint32_t)p[i] << 16;

		word |= i + 1 < n ? (uint32_t)p[i + 1] << 8 : 0;
		word |= i + 2 < n ? p[i + 2] : 0;
		*out++ = digits[word >> 18];
		*out++ = digits[word >> 12 & 63];
		*out++ = digits[word >> 6 & 63];
		*out++ = digits[word & 63];
		if (i + 2 >= n)
			out[-1] = '=';
		if (i + 1 >= n)
			out[-2] = '=';
	}
	*out = 0;
}

/* "Basic …" with the placeholder, which egress exchanges; "" without a credential. */
static int authorization(const struct git_remote *r, char *out, size_t size, struct err *e)
{
	char plain[512];
	int n;

	out[0] = 0;
	if (!r->has_credential)
		return 0;
	n = snprintf(plain, sizeof(plain), "%s:%s", r->user ? r->user : DEFAULT_USER,
		     r->placeholder ? r->placeholder : "");
	if (n < 0 || (size_t)n >= sizeof(plain) || 6 + 4 * (((size_t)n + 2) / 3) + 1 > size)
		return err_set(e, -EINVAL, "the user's name is too long");
	memcpy(out, "Basic ", 6);
	base64(out + 6, (const unsigned char *)plain, (size_t)n);
	return 0;
}

static int add(struct http1_head *h, const char *name, const char *value)
{
	return http1_add(h, str_of(name), str_of(value));
}

static int add_fields(const struct connect_http *h, struct http1_head *q, const char *auth,
		      char type[2][64], struct err *e)
{
	int ret = add(q, "User-Agent", USER_AGENT);

	if (ret == 0 && auth[0])
		ret = add(q, "Authorization", auth);
	if (ret == 0 && h->is_post) {
		(void)snprintf(type[0], 64, "application/x-%s-request", service_name(h->service));
		(void)snprintf(type[1], 64, "application/x-%s-result", service_name(h->service));
		ret = add(q, "Content-Type", type[0]);
		if (ret == 0)
			ret = add(q, "Accept", type[1]);
	} else if (ret == 0) {
		ret = add(q, "Accept", "*/*");
		if (ret == 0)
			ret = add(q, "Pragma", "no-cache");
	}
	if (ret == 0)
		ret = add(q, "Accept-Encoding", "identity");
	if (ret == 0 && h->service == GIT_UPLOAD_PACK)
		ret = add(q, "Git-Protocol", "version=2");
	return ret < 0 ? err_set(e, ret, "the request cannot be written") : 0;
}

static int http_head(struct connect_http *h, struct http1_out_framing f, struct err *e)
{
	_cleanup_free_ struct http1_head *q = mem_zalloc(sizeof(*q));
	const struct git_remote *r = h->remote;
	char path[GIT_PATH_MAX + 32], query[32], auth[768], type[2][64];
	struct buf out;
	int n, ret = authorization(r, auth, sizeof(auth), e);

	if (ret < 0)
		return ret;
	n = snprintf(path, sizeof(path), "%s%s/%s", r->path[0] == '/' ? "" : "/", r->path,
		     h->is_post ? service_name(h->service) : "info/refs");
	if (n < 0 || (size_t)n >= sizeof(path))
		return err_set(e, -EINVAL, "the path is too long");
	(void)snprintf(query, sizeof(query), "service=%s", service_name(h->service));
	*q = (struct http1_head){
		.is_request = true,
		.method = h->is_post ? HTTP1_POST : HTTP1_GET,
		.form = HTTP1_FORM_ABSOLUTE,
		.scheme = HTTP1_SCHEME_HTTPS,
		.host = str_of(r->host),
		.port = r->port,
		.path = str_of(path),
		.has_query = !h->is_post,
		.query = h->is_post ? STR_NULL : str_of(query),
	};
	ret = add_fields(h, q, auth, type, e);
	if (ret < 0)
		return ret;
	buf_init(&out, HTTP1_HEAD_MAX_BYTES);
	if (http1_write_request(&out, q, f, true, false) < 0)
		ret = err_set(e, -ENOBUFS, "the request is too long");
	else
		ret = wire_write(&h->clock, h->fd, buf_str(&out), e);
	buf_free(&out);
	return ret == -EPIPE ? err_set(e, -EPIPE, "egress ended the connection") : ret;
}

int connect_http_get(struct connect_http *h, struct err *e)
{
	int ret = http_open(h, e);

	h->is_certain = true;
	connect_clock_refs(&h->clock);
	return ret < 0 ? ret
		       : http_head(h, (struct http1_out_framing){.framing = HTTP1_BODY_NONE}, e);
}

int connect_http_post(struct connect_http *h, uint64_t length, struct err *e)
{
	struct http1_out_framing f = {.framing = HTTP1_BODY_LENGTH, .content_length = length};
	int ret = http_open(h, e);

	h->is_post = true;
	h->is_chunked = length == CONNECT_HTTP_CHUNKED;
	if (h->is_chunked)
		f = (struct http1_out_framing){.framing = HTTP1_BODY_CHUNKED};
	return ret < 0 ? ret : http_head(h, f, e);
}

/* --- the answer's head --- */

/* What is there now: 1 something, 0 nothing, -ENODATA at the end. */
static int http_fill(struct connect_http *h, struct err *e)
{
	char *at = buf_reserve(&h->in, PIECE);
	ssize_t n;

	if (!at)
		return err_set(e, -EPROTO, "the head of its answer is too long");
	n = read(h->fd, at, PIECE);
	if (n > 0) {
		buf_commit(&h->in, (size_t)n);
		return 1;
	}
	if (n == 0 || errno == ECONNRESET)
		return -ENODATA;
	return errno == EAGAIN || errno == EINTR ? 0 : err_errno(e, "read");
}

static int http_bad(enum http1_reason reason, struct err *e)
{
	return err_set(e, -EPROTO, "its answer is not acceptable HTTP: %s",
		       http1_reason_name(reason));
}

/* 1 when a head is complete in what has come so far. */
static int http_parse(struct connect_http *h, struct err *e)
{
	enum http1_reason reason = HTTP1_OK;
	struct str in = buf_str(&h->in);
	size_t n = http1_head_length(in, h->seen, false, &reason);

	h->seen = in.n;
	if (n == 0)
		return reason == HTTP1_OK || reason == HTTP1_INCOMPLETE ? 0 : http_bad(reason, e);
	h->seen = 0;
	free(take_ptr(&h->head_text));
	h->head_text = str_dup(str_sub(in, 0, n));
	buf_consume(&h->in, n);
	reason = http1_parse_response(&h->head, str_slice(h->head_text, n),
				      h->is_post ? HTTP1_POST : HTTP1_GET);
	if (reason != HTTP1_OK)
		return http_bad(reason, e);
	http1_body_init(&h->body, &h->head);
	h->has_head = h->head.status >= 200;
	return 1;
}

/* An answer that need not have waited for the whole request: 1 if that is so. */
static int http_is_answered(struct connect_http *h, struct err *e)
{
	int ret = h->has_head ? 0 : http_fill(h, e);

	if (ret == 1)
		ret = http_parse(h, e);
	if (ret == -ENODATA)
		return 1;
	return ret < 0 ? ret : h->has_head && h->head.status >= 300;
}

static int http_send(struct connect_http *h, struct str data, struct err *e)
{
	while (data.n > 0) {
		ssize_t n = write(h->fd, data.p, data.n);
		int ret;

		if (n > 0) {
			data = str_sub(data, (size_t)n, data.n);
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EPIPE || errno == ECONNRESET))
			return 1; /* the answer, if there is one, says why */
		if (n < 0 && errno != EAGAIN)
			return err_errno(e, "write");
		ret = wire_wait(&h->clock, h->fd, (short)(POLLOUT | (h->has_head ? 0 : POLLIN)), e);
		if (ret >= 0)
			ret = http_is_answered(h, e);
		if (ret != 0)
			return ret;
	}
	return 0;
}

int connect_http_send(struct connect_http *h, struct str piece, struct err *e)
{
	char size[24];
	int n, ret;

	if (piece.n == 0)
		return 0;
	if (!h->is_chunked)
		return http_send(h, piece, e);
	n = snprintf(size, sizeof(size), "%zx\r\n", piece.n);
	ret = http_send(h, str_slice(size, (size_t)n), e);
	if (ret == 0)
		ret = http_send(h, piece, e);
	return ret == 0 ? http_send(h, STR_LIT("\r\n"), e) : ret;
}

int connect_http_send_end(struct connect_http *h, struct err *e)
{
	return h->is_chunked ? http_send(h, STR_LIT("0\r\n\r\n"), e) : 0;
}

/* --- what an answer says that is not the one --- */

/* egress refused or failed, and says so in JSON of its own. Such words might be the upstream's just
 * as well: they are shown, and decide at most whether a failure counts as certain. */
static bool egress_said(struct connect_http *h, struct str body, struct err *e)
{
	static const char *const nothing_sent[] = {
		"dns-no-address", "dns-failed",	      "dns-malformed",
		"connect-failed", "reach-failed",     "upstream-certificate",
		"tls-handshake",  "keyd-unavailable", "egress-busy"};
	_cleanup_json_ json_t *j =
		json_loadb(body.p ? body.p : "", body.n, JSON_REJECT_DUPLICATES, NULL);
	const char *scanner = json_string_value(json_object_get(j, "scanner")),
		   *reason = json_string_value(json_object_get(j, "reason")),
		   *hint = json_string_value(json_object_get(j, "hint"));
	char shown[2][300];

	if (!scanner || strcmp(scanner, "egress") != 0 || !reason)
		return false;
	for (size_t i = 0; i < ARRAY_LEN(nothing_sent); i++)
		h->is_certain |= strcmp(reason, nothing_sent[i]) == 0;
	text_visible_cstr(shown[0], sizeof(shown[0]), str_of(reason));
	text_visible_cstr(shown[1], sizeof(shown[1]), str_of(hint));
	err_set(e, h->head.status == 403 ? -EACCES : -EHOSTUNREACH, "egress: %s%s%s", shown[0],
		shown[1][0] ? ": " : "", shown[1]);
	return true;
}

static void read_said(struct connect_http *h, struct buf *out)
{
	struct str piece;

	h->clock.silence_ms = CONNECT_LINGER_MS;
	while (connect_http_read(h, &piece, NULL) == 1) {
		size_t room = buf_room(out);

		if (buf_append_str(out, str_sub(piece, 0, room)) < 0 || buf_room(out) == 0)
			return;
	}
}

/* git's servers explain themselves in a line of plain text. */
static void plain_text(struct connect_http *h, struct str body, char *out, size_t size)
{
	struct http1_field *type = http1_find(&h->head, STR_LIT("content-type"));
	struct str line = str_trim(body);

	out[0] = 0;
	if (!type || !str_istarts(type->value, STR_LIT("text/plain")) || line.n == 0)
		return;
	line = str_sub(line, 0, str_chr(line, '\n'));
	out[0] = ':';
	out[1] = ' ';
	text_visible_cstr(out + 2, size - 2, line);
}

static int status_error(struct connect_http *h, struct err *e)
{
	struct http1_field *to = http1_find(&h->head, STR_LIT("location"));
	bool has_credential = h->remote->has_credential;
	char shown[256] = "", said[300];
	unsigned status = h->head.status;
	struct buf body;

	h->is_certain |= status < 500;
	if (to)
		text_visible_cstr(shown, sizeof(shown), to->value);
	buf_init(&body, SAID_MAX);
	read_said(h, &body);
	if (egress_said(h, buf_str(&body), e)) {
		buf_free(&body);
		return e ? e->code : -EHOSTUNREACH;
	}
	plain_text(h, buf_str(&body), said, sizeof(said));
	buf_free(&body);
	if (status >= 300 && status < 400)
		return err_set(e, -EREMCHG,
			       "it redirects to \"%s\", which is not followed: let the upstream be "
			       "named there",
			       shown);
	switch (status) {
	case 401:
		return err_set(e, -EACCES,
			       has_credential ? "it does not accept the credential (401)%s"
					      : "it asks for a credential, and none is set (401)%s",
			       said);
	case 403:
		return err_set(e, -EACCES, "it does not allow that (403)%s", said);
	case 404:
		return err_set(e, -ENOENT,
			       "there is no such repository, or none that may be seen%s (404)%s",
			       has_credential ? " with this credential" : "", said);
	case 413:
		return err_set(e, -EFBIG, "it does not take that much at once (413)%s", said);
	default:
		return err_set(e, -EREMOTEIO, "it answers with status %u%s", status, said);
	}
}

static int check_type(struct connect_http *h, struct err *e)
{
	struct http1_field *type = http1_find(&h->head, STR_LIT("content-type"));
	char wanted[80], shown[80];

	if (http1_find(&h->head, STR_LIT("content-encoding")))
		return err_set(e, -EPROTO, "its answer is coded, which was not asked for");
	(void)snprintf(wanted, sizeof(wanted), "application/x-%s-%s", service_name(h->service),
		       h->is_post ? "result" : "advertisement");
	if (type && str_ieq(type->value, str_of(wanted)))
		return 0;
	text_visible_cstr(shown, sizeof(shown), type ? type->value : STR_NULL);
	return err_set(e, -EPROTO,
		       "there is no git repository that speaks smart HTTP (the answer is \"%s\")",
		       shown);
}

int connect_http_answer(struct connect_http *h, struct err *e)
{
	int ret = 0;

	for (int i = 0; !h->has_head; i += ret == 1) {
		ret = buf_len(&h->in) > h->seen ? http_parse(h, e) : 0;
		if (ret < 0 || i > INTERIM_MAX)
			return ret < 0 ? ret : err_set(e, -EPROTO, "it never answers");
		if (ret == 1)
			continue;
		ret = wire_wait(&h->clock, h->fd, POLLIN, e);
		if (ret == 1)
			ret = http_fill(h, e);
		if (ret == -ENODATA)
			return err_set(e, -ECONNRESET, "the connection ended without an answer");
		if (ret < 0)
			return ret;
		ret = 0;
	}
	if (h->head.status != 200)
		return status_error(h, e);
	return check_type(h, e);
}

/* --- the body --- */

int connect_http_read(struct connect_http *h, struct str *data, struct err *e)
{
	for (;;) {
		enum http1_reason reason;
		size_t used = 0;
		int ret;

		buf_consume(&h->in, h->used);
		h->used = 0;
		if (h->body.is_done)
			return 0;
		*data = STR_NULL;
		if (buf_len(&h->in) > 0) {
			reason = http1_body_decode(&h->body, h->in.p + h->in.from, buf_len(&h->in),
						   &used, data);
			h->used = used;
			if (reason != HTTP1_OK && reason != HTTP1_INCOMPLETE)
				return http_bad(reason, e);
			if (data->n > 0)
				return 1;
			if (used > 0)
				continue;
		}
		ret = wire_wait(&h->clock, h->fd, POLLIN, e);
		if (ret == 1)
			ret = http_fill(h, e);
		if (ret == -ENODATA && h->body.framing == HTTP1_BODY_CLOSE)
			h->body.is_done = true;
		else if (ret == -ENODATA)
			return err_set(e, -ECONNRESET, "its answer was cut off");
		else if (ret < 0)
			return ret;
	}
}

int connect_http_lines(struct connect_http *h, uint64_t max_bytes, connect_http_line_fn fn,
		       void *ctx, struct err *e)
{
	uint64_t n_bytes = 0;
	struct str data;
	struct buf lines;
	int ret = 0;

	buf_init(&lines, WIRE_LINE_MAX + IN_MAX);
	while (ret == 0 && (ret = connect_http_read(h, &data, e)) == 1) {
		n_bytes += data.n;
		ret = n_bytes > max_bytes ? err_set(e, -EFBIG, "it says too much")
					  : buf_append_str(&lines, data);
		while (ret == 0) {
			enum wire_kind kind;
			struct str payload;
			ssize_t n = wire_next(buf_str(&lines), &kind, &payload);

			if (n < 0)
				ret = err_set(e, -EPROTO, "what it says is not git's protocol");
			if (n <= 0)
				break;
			ret = fn(ctx, kind, payload, e);
			buf_consume(&lines, (size_t)n);
		}
	}
	if (ret == 0 && buf_len(&lines) > 0)
		ret = err_set(e, -ECONNRESET, "its answer was cut off");
	buf_free(&lines);
	return ret;
}

int connect_http_post_whole(struct connect_http *h, struct str body, struct err *e)
{
	int ret = connect_http_post(h, body.n, e);

	if (ret == 0)
		ret = connect_http_send(h, body, e);
	return ret < 0 ? ret : connect_http_answer(h, e);
}
