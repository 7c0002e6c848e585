#include "engine/engine_int.h"

#include "base/clean.h"
#include "base/mem.h"
#include "base/text.h"

#include <errno.h>
#include <stdio.h>

/* --- one exchange --- */

int engine_begin(struct engine_call *c, const struct engine *en, const char *method,
		 const char *path, const json_t *body, const char *what, struct err *e)
{
	struct engine_request r = {.method = method, .path = path};
	_cleanup_free_ char *text = NULL;
	int fd;

	*c = (struct engine_call){.fd = -1, .timeout_ms = ENGINE_TIMEOUT_MS};
	(void)snprintf(c->what, sizeof(c->what), "%s", what);
	c->method = (int)engine_method(method);
	if (body) {
		text = json_dumps(body, JSON_COMPACT | JSON_ENCODE_ANY);
		if (!text)
			return engine_fail(e, -EINVAL, what, "the request is not JSON");
		r.type = "application/json";
		r.body = ENGINE_BODY_LENGTH;
		r.length = strlen(text);
		if (r.length > ENGINE_JSON_MAX)
			return engine_fail(e, -E2BIG, what, "the request is too large");
	}
	fd = engine_request(en, &r, str_slice(text, r.length), what,
			    engine_deadline(ENGINE_TIMEOUT_MS), e);
	if (fd < 0)
		return fd;
	c->fd = fd;
	buf_init(&c->in, ENGINE_IN_MAX);
	return 0;
}

static uint64_t call_deadline(const struct engine_call *c, int timeout_ms)
{
	uint64_t at_ns = engine_deadline(timeout_ms);

	return c->until_ns > 0 && c->until_ns < at_ns ? c->until_ns : at_ns;
}

static int call_read(struct engine_call *c, struct buf *body, struct err *e)
{
	/* From here on it has as long again: an answer to "wait" begins at once and ends late. */
	int body_ms = c->timeout_ms >= 0 && c->timeout_ms < ENGINE_TIMEOUT_MS ? ENGINE_TIMEOUT_MS
									      : c->timeout_ms;
	struct engine_answer a;
	uint64_t deadline_ns;
	int ret;

	engine_answer_init(&a, (enum http1_method)c->method);
	ret = engine_answer_head(&a, c->fd, &c->in, c->what, call_deadline(c, c->timeout_ms), e);
	if (ret < 0)
		return ret;
	c->status = a.status;
	if (!engine_answer_is_good(&a))
		return engine_answer_refused(&a, c->fd, &c->in, c->what,
					     call_deadline(c, ENGINE_TIMEOUT_MS), e);
	deadline_ns = call_deadline(c, body_ms);
	for (;;) {
		struct str data;

		ret = engine_answer_body(&a, c->fd, &c->in, &data, c->what, deadline_ns, e);
		if (ret <= 0)
			return ret;
		if (buf_append_str(body, data) < 0)
			return engine_fail(e, -EFBIG, c->what, "its answer is larger than %u bytes",
					   ENGINE_JSON_MAX);
	}
}

int engine_end(struct engine_call *c, json_t **out, struct err *e)
{
	_cleanup_(buf_free) struct buf body;
	int ret;

	if (out)
		*out = NULL;
	buf_init(&body, ENGINE_JSON_MAX);
	if (c->fd < 0)
		return err_set(e, -EINVAL, "the Docker engine: no call is under way");
	ret = call_read(c, &body, e);
	if (ret == 0 && out)
		ret = engine_parse_json(buf_str(&body), c->what, out, e);
	engine_cancel(c);
	return ret;
}

void engine_cancel(struct engine_call *c)
{
	if (c->fd >= 0)
		buf_free(&c->in);
	close_fd(&c->fd);
}

int engine_do(const struct engine *en, const char *method, const char *path, const json_t *body,
	      const char *what, json_t **out, struct err *e)
{
	struct engine_call c;
	int ret;

	if (out)
		*out = NULL;
	ret = engine_begin(&c, en, method, path, body, what, e);
	return ret < 0 ? ret : engine_end(&c, out, e);
}

int engine_put(const struct engine *en, const char *path, struct str body, const char *type,
	       const char *what, struct err *e)
{
	struct engine_request r = {.method = "PUT",
				   .path = path,
				   .type = type,
				   .body = ENGINE_BODY_LENGTH,
				   .length = body.n};
	struct engine_call c = {.fd = -1, .timeout_ms = ENGINE_SLOW_MS, .method = HTTP1_PUT};

	(void)snprintf(c.what, sizeof(c.what), "%s", what);
	c.fd = engine_request(en, &r, body, what, engine_deadline(ENGINE_SLOW_MS), e);
	if (c.fd < 0)
		return c.fd;
	buf_init(&c.in, ENGINE_IN_MAX);
	return engine_end(&c, NULL, e);
}

int engine_escape(struct buf *out, struct str s)
{
	static const char digits[] = "0123456789ABCDEF";

	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];
		char hex[3] = {'%', digits[c >> 4], digits[c & 15]};
		bool is_plain =
			ascii_is_alnum((char)c) || c == '-' || c == '.' || c == '_' || c == '~';
		int ret = buf_append(out, is_plain ? (const char *)&s.p[i] : hex,
				     is_plain ? 1 : sizeof(hex));

		if (ret < 0)
			return ret;
	}
	return 0;
}

/* --- who is there --- */

/* "1.41" as 1041; 0 if it is none. */
static unsigned api_number(const char *s)
{
	uint64_t major, minor;
	struct str head, rest;
	bool found;

	rest = str_cut(str_of(s ? s : ""), '.', &head, &found);
	if (!found || str_to_u64(head, 99, &major) < 0 || str_to_u64(rest, 999, &minor) < 0)
		return 0;
	return (unsigned)(major * 1000 + minor);
}

static int connect_agree(struct engine *en, const json_t *answer, struct err *e)
{
	const char *theirs = json_string_value(json_object_get(answer, "ApiVersion"));
	const char *oldest = json_string_value(json_object_get(answer, "MinAPIVersion"));
	const char *version = json_string_value(json_object_get(answer, "Version"));
	unsigned newest_both = api_number(theirs);

	text_visible_cstr(en->version, sizeof(en->version), str_of(version ? version : "?"));
	if (newest_both == 0)
		return err_set(e, -EPROTO,
			       "the Docker engine: what answers at %s (%s) does not name an API "
			       "version",
			       en->socket, en->from);
	if (newest_both > api_number(ENGINE_API_NEWEST))
		newest_both = api_number(ENGINE_API_NEWEST);
	if (newest_both < api_number(ENGINE_API_OLDEST))
		return err_set(
			e, -EPROTONOSUPPORT,
			"the Docker engine: %s at %s is too old: at least API " ENGINE_API_OLDEST
			" (Docker 19.03) is needed",
			en->version, en->socket);
	if (oldest && api_number(oldest) > newest_both)
		return err_set(e, -EPROTONOSUPPORT,
			       "the Docker engine: %s at %s is too new: it has no API up "
			       "to " ENGINE_API_NEWEST,
			       en->version, en->socket);
	(void)snprintf(en->api, sizeof(en->api), "%u.%u", newest_both / 1000, newest_both % 1000);
	return 0;
}

/* SecurityOptions: ["name=seccomp,profile=default", "name=rootless", "name=userns"] */
static void connect_options(struct engine *en, const json_t *info)
{
	const json_t *options = json_object_get(info, "SecurityOptions");
	const char *os = json_string_value(json_object_get(info, "OperatingSystem"));

	en->is_desktop = os && strcmp(os, "Docker Desktop") == 0;
	for (size_t i = 0; i < json_array_size(options); i++) {
		struct str s = str_of(json_string_value(json_array_get(options, i))), name;
		bool found;

		(void)str_cut(s, ',', &name, &found);
		if (str_eq(name, STR_LIT("name=rootless")))
			en->is_rootless = true;
		if (str_eq(name, STR_LIT("name=userns")))
			en->is_remapped = true;
	}
}

static int connect_ask(const struct engine *en, const char *path, const char *what, int timeout_ms,
		       json_t **out, struct err *e)
{
	struct engine_request r = {.method = "GET", .path = path};
	struct engine_call c = {.fd = -1, .timeout_ms = timeout_ms, .method = HTTP1_GET};
	int ret;

	*out = NULL;
	(void)snprintf(c.what, sizeof(c.what), "%s", what);
	/* One limit for all of it: an answer that begins and does not end is none. */
	c.until_ns = engine_deadline(timeout_ms);
	c.fd = engine_request(en, &r, STR_NULL, what, c.until_ns, e);
	if (c.fd < 0)
		return c.fd;
	buf_init(&c.in, ENGINE_IN_MAX);
	ret = engine_end(&c, out, e);
	if (ret == -ETIMEDOUT)
		return err_set(e, ret, "the Docker engine: no answer at %s (%s) within %d ms",
			       en->socket, en->from, timeout_ms);
	return ret;
}

int engine_connect(struct engine *en, int timeout_ms, struct err *e)
{
	json_t *answer = NULL;
	int ret;

	en->api[0] = en->version[0] = '\0';
	en->is_rootless = en->is_remapped = en->is_desktop = false;
	ret = connect_ask(en, "/version", "ask for its version", timeout_ms, &answer, e);
	if (ret == 0)
		ret = connect_agree(en, answer, e);
	json_decref(answer);
	if (ret < 0)
		return ret;
	ret = connect_ask(en, "/info", "ask for its state", timeout_ms, &answer, e);
	if (ret == 0)
		connect_options(en, answer);
	json_decref(answer);
	return ret;
}
