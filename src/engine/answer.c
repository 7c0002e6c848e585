/*
 * An answer of the engine's, taken as it comes: interim heads, the head, the body. The strict
 * parser of net/http1.h reads it, so what is ambiguous is refused. What it said of a failure is
 * shown to a human: one line, made visible, bounded.
 */
#include "engine/engine_int.h"

#include "base/clean.h"
#include "base/text.h"
#include "base/json.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

/* --- errors --- */

int engine_fail(struct err *e, int code, const char *what, const char *fmt, ...)
{
	char text[ERR_TEXT_MAX - 128];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return err_set(e, code, "the Docker engine: %.64s: %s", what, text);
}

int engine_fail_io(struct err *e, int code, const char *what)
{
	switch (code) {
	case -ETIMEDOUT:
		return engine_fail(e, code, what, "no answer in time");
	case -EPIPE:
	case -ECONNRESET:
		return engine_fail(e, -EPIPE, what, "it hung up: was it stopped?");
	default:
		return engine_fail(e, code, what, "%s", strerror(-code));
	}
}

/* Without letter case; needle is lower-case. */
static bool says(struct str text, const char *needle)
{
	size_t n = strlen(needle);

	for (size_t i = 0; i + n <= text.n; i++) {
		if (str_ieq(str_sub(text, i, i + n), str_slice(needle, n)))
			return true;
	}
	return false;
}

int engine_fail_said(struct err *e, int code, const char *what, struct str said)
{
	char line[ENGINE_SAID_MAX];

	/* It ends many of its texts with a line feed. */
	while (said.n > 0 && (said.p[said.n - 1] == '\n' || said.p[said.n - 1] == '\r' ||
			      said.p[said.n - 1] == ' '))
		said.n--;
	if (says(said, "no space left on device") || says(said, "disk quota exceeded"))
		code = -ENOSPC;
	text_visible_cstr(line, sizeof(line), said);
	return engine_fail(e, code, what, "%s", said.n ? line : "it failed and did not say why");
}

static int status_code(unsigned status)
{
	switch (status) {
	case 400:
		return -EINVAL;
	case 401:
	case 403:
		return -EACCES;
	case 404:
		return -ENOENT;
	case 409:
		return -EEXIST;
	default:
		return -EIO;
	}
}

int engine_fail_status(struct err *e, unsigned status, const char *what, struct str body)
{
	_cleanup_json_ json_t *j = json_loadb(body.p ? body.p : "", body.n, JSON_ALLOW_NUL, NULL);
	json_t *message = json_object_get(j, "message");
	char line[48];

	if (json_is_string(message) && json_string_length(message) > 0)
		body = str_slice(json_string_value(message), json_string_length(message));
	if (body.n > 0)
		return engine_fail_said(e, status_code(status), what, body);
	(void)snprintf(line, sizeof(line), "status %u without a word", status);
	return engine_fail_said(e, status_code(status), what, str_of(line));
}

int engine_parse_json(struct str body, const char *what, json_t **out, struct err *e)
{
	json_error_t why;

	*out = NULL;
	if (str_trim(body).n == 0)
		return 0;
	*out = json_loadb(body.p, body.n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &why);
	if (*out)
		return 0;
	return engine_fail(e, -EPROTO, what, "its answer is not JSON (%s)",
			   why.line > 0 ? "malformed" : "unreadable");
}

/* --- the parser --- */

void engine_answer_init(struct engine_answer *a, enum http1_method method)
{
	*a = (struct engine_answer){.method = method};
}

static void take_type(struct engine_answer *a, struct http1_head *h)
{
	struct http1_field *type = http1_find(h, STR_LIT("content-type"));
	struct str value = STR_NULL;
	bool found;

	if (type)
		(void)str_cut(type->value, ';', &value, &found);
	value = str_trim(value);
	if (!str_to_cstr(a->type, sizeof(a->type), value))
		return;
	str_lower_into(a->type, value);
}

/* As far as it is there. What speaks another protocol may never send a blank line. */
static bool is_http(struct str in)
{
	static const struct str begin = STR_LIT("HTTP/");

	return str_starts(in, begin) || str_starts(begin, in);
}

static int take_head(struct engine_answer *a, struct buf *in)
{
	struct http1_head h;
	size_t n = http1_head_length(buf_str(in), a->seen, false, &a->reason);

	if (a->reason == HTTP1_OK && !is_http(buf_str(in)))
		a->reason = HTTP1_STATUS;
	if (a->reason != HTTP1_OK)
		return -EPROTO;
	if (n == 0) {
		/* The blank line may be cut anywhere. */
		a->seen = buf_len(in) > 3 ? buf_len(in) - 3 : 0;
		return 0;
	}
	a->seen = 0;
	a->reason = http1_parse_response(&h, str_sub(buf_str(in), 0, n), a->method);
	if (a->reason != HTTP1_OK)
		return -EPROTO;
	if (h.status < 200) {
		a->reason = HTTP1_STATUS;
		buf_consume(in, n);
		return ++a->n_interim > ENGINE_INTERIM_MAX ? -EPROTO : 1;
	}
	a->has_head = true;
	a->status = h.status;
	take_type(a, &h);
	http1_body_init(&a->body, &h);
	a->is_done = a->body.is_done;
	buf_consume(in, n);
	return 1;
}

int engine_answer_next(struct engine_answer *a, struct buf *in, struct str *data)
{
	size_t used;

	*data = STR_NULL;
	if (a->is_done || buf_len(in) == 0)
		return 0;
	if (!a->has_head)
		return take_head(a, in);
	a->reason = http1_body_decode(&a->body, in->p + in->from, buf_len(in), &used, data);
	if (a->reason != HTTP1_OK)
		return -EPROTO;
	buf_consume(in, used);
	a->is_done = a->body.is_done;
	return 1;
}

int engine_answer_eof(struct engine_answer *a)
{
	if (a->has_head && a->body.framing == HTTP1_BODY_CLOSE)
		a->is_done = true;
	return a->is_done ? 0 : -EPIPE;
}

/* --- waiting for it --- */

int engine_fail_parse(const struct engine_answer *a, const char *what, struct err *e)
{
	return engine_fail(e, -EPROTO, what, "its answer is not HTTP as it should be (%s)",
			   http1_reason_name(a->reason));
}

/* More bytes into in: 1, 0 at the end of file, -errno. */
static int answer_fill(int fd, struct buf *in, const char *what, uint64_t deadline_ns,
		       struct err *e)
{
	for (;;) {
		int ret = engine_await(fd, deadline_ns);
		ssize_t got;

		if (ret < 0)
			return engine_fail_io(e, ret, what);
		got = engine_receive(fd, in);
		if (got == -EAGAIN)
			continue;
		if (got < 0)
			return engine_fail_io(e, (int)got, what);
		return got > 0;
	}
}

int engine_answer_head(struct engine_answer *a, int fd, struct buf *in, const char *what,
		       uint64_t deadline_ns, struct err *e)
{
	struct str data;

	while (!a->has_head) {
		int ret = engine_answer_next(a, in, &data);

		if (ret < 0)
			return engine_fail_parse(a, what, e);
		if (ret > 0)
			continue;
		ret = answer_fill(fd, in, what, deadline_ns, e);
		if (ret < 0)
			return ret;
		if (ret == 0)
			return engine_fail_io(e, -EPIPE, what);
	}
	return 0;
}

int engine_answer_body(struct engine_answer *a, int fd, struct buf *in, struct str *data,
		       const char *what, uint64_t deadline_ns, struct err *e)
{
	for (;;) {
		int ret = engine_answer_next(a, in, data);

		if (ret < 0)
			return engine_fail_parse(a, what, e);
		if (data->n > 0)
			return 1;
		if (ret > 0)
			continue;
		if (a->is_done)
			return 0;
		ret = answer_fill(fd, in, what, deadline_ns, e);
		if (ret < 0)
			return ret;
		if (ret == 0) {
			ret = engine_answer_eof(a);
			return ret < 0 ? engine_fail(e, -EPIPE, what,
						     "it hung up in the middle of its answer: was "
						     "it stopped?")
				       : 0;
		}
	}
}

int engine_answer_refused(struct engine_answer *a, int fd, struct buf *in, const char *what,
			  uint64_t deadline_ns, struct err *e)
{
	_cleanup_(buf_free) struct buf body;
	int ret = 1;

	/* What does not arrive of an error's text changes nothing of its being one. */
	buf_init(&body, ENGINE_ERROR_BODY_MAX);
	while (ret > 0) {
		struct str data;

		ret = engine_answer_body(a, fd, in, &data, what, deadline_ns, NULL);
		if (ret > 0 && buf_append_str(&body, data) < 0)
			break;
	}
	return engine_fail_status(e, a->status, what, buf_str(&body));
}
