/*
 * The answers to build, load and pull: JSON objects one after the other, with white space between
 * them. Each is cut out by its braces and only then parsed, so that no cut of the connection's
 * matters and nothing but one object is held.
 */
#include "engine/engine_int.h"

#include "base/clean.h"
#include "base/json.h"

#include <errno.h>

#define EVENT_DEPTH_MAX 64

void engine_events_init(struct engine_events *ev)
{
	*ev = (struct engine_events){0};
	buf_init(&ev->held, ENGINE_EVENT_MAX);
}

void engine_events_free(struct engine_events *ev)
{
	buf_free(&ev->held);
}

/* How much of data belongs to the object that has begun; *is_whole when it ends there. 0 if the
 * nesting is too deep. */
static size_t object_run(struct engine_events *ev, struct str data, bool *is_whole)
{
	*is_whole = false;
	for (size_t i = 0; i < data.n; i++) {
		char c = data.p[i];

		if (ev->is_escaped) {
			ev->is_escaped = false;
		} else if (ev->is_in_string) {
			ev->is_escaped = c == '\\';
			ev->is_in_string = c != '"';
		} else if (c == '"') {
			ev->is_in_string = true;
		} else if (c == '{' || c == '[') {
			if (++ev->depth > EVENT_DEPTH_MAX)
				return 0;
		} else if ((c == '}' || c == ']') && --ev->depth == 0) {
			*is_whole = true;
			return i + 1;
		}
	}
	return data.n;
}

static int object_tell(struct engine_events *ev, const char *what, engine_event_fn fn, void *ctx,
		       struct err *e)
{
	struct str text = buf_str(&ev->held);
	/* Output of a build may hold any byte, a NUL too. */
	_cleanup_json_ json_t *event =
		json_loadb(text.p, text.n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
	const json_t *error;
	int ret;

	buf_reset(&ev->held);
	if (!event)
		return engine_fail(e, -EPROTO, what, "its answer is not JSON (malformed)");
	error = json_object_get(event, "error");
	if (error)
		return engine_fail_said(e, -EIO, what,
					json_is_string(error) ? str_slice(json_string_value(error),
									  json_string_length(error))
							      : STR_NULL);
	ret = fn ? fn(ctx, event) : 0;
	if (ret < 0 && (!e || e->code != ret))
		return engine_fail(e, ret, what, "given up");
	return ret < 0 ? ret : 0;
}

int engine_events_take(struct engine_events *ev, struct str data, const char *what,
		       engine_event_fn fn, void *ctx, struct err *e)
{
	while (data.n > 0) {
		bool is_whole;
		size_t run;
		int ret;

		if (ev->depth == 0 && (data.p[0] == ' ' || data.p[0] == '\t' || data.p[0] == '\r' ||
				       data.p[0] == '\n')) {
			data = str_sub(data, 1, data.n);
			continue;
		}
		if (ev->depth == 0 && data.p[0] != '{')
			return engine_fail(e, -EPROTO, what, "its answer is not JSON (no object)");
		run = object_run(ev, data, &is_whole);
		if (run == 0)
			return engine_fail(e, -EPROTO, what, "its answer is nested too deep");
		if (buf_append(&ev->held, data.p, run) < 0)
			return engine_fail(e, -EFBIG, what,
					   "a part of its answer is larger than %u bytes",
					   ENGINE_EVENT_MAX);
		data = str_sub(data, run, data.n);
		ret = is_whole ? object_tell(ev, what, fn, ctx, e) : 0;
		if (ret < 0)
			return ret;
	}
	return 0;
}

int engine_events_end(const struct engine_events *ev, const char *what, struct err *e)
{
	return ev->depth == 0
		       ? 0
		       : engine_fail(e, -EPIPE, what,
				     "it hung up in the middle of its answer: was it stopped?");
}
