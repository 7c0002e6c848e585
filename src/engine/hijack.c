/*
 * Attach and exec-start. The request asks for no upgrade: the engine then answers 200 with a type
 * of its own and no length, and hands over the connection all the same. It has done so since before
 * "101 UPGRADED" existed (API 1.20) and does so today; the upgrade is for intermediaries, of which
 * a unix socket has none. So the one strict parser, which refuses upgrades, reads this head too.
 */
#include "engine/engine_int.h"

#include "base/clean.h"

#include <errno.h>

static bool is_stream(const struct engine_answer *a)
{
	return a->status == 200 && a->body.framing == HTTP1_BODY_CLOSE &&
	       (strcmp(a->type, "application/vnd.docker.raw-stream") == 0 ||
		strcmp(a->type, "application/vnd.docker.multiplexed-stream") == 0);
}

int engine_hijack(const struct engine *en, const char *path, const json_t *body, const char *what,
		  int *fd, struct buf *early, struct err *e)
{
	struct engine_request r = {.method = "POST", .path = path};
	uint64_t deadline_ns = engine_deadline(ENGINE_TIMEOUT_MS);
	_cleanup_free_ char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
	_cleanup_close_ int conn = -1;
	_cleanup_(buf_free) struct buf in;
	struct engine_answer a;
	int ret;

	*fd = -1;
	buf_init(early, ENGINE_IN_MAX);
	buf_init(&in, ENGINE_IN_MAX);
	if (body && !text)
		return engine_fail(e, -EINVAL, what, "the request is not JSON");
	if (text) {
		r.type = "application/json";
		r.body = ENGINE_BODY_LENGTH;
		r.length = strlen(text);
	}
	conn = engine_request(en, &r, str_slice(text, r.length), what, deadline_ns, e);
	if (conn < 0)
		return conn;
	engine_answer_init(&a, HTTP1_POST);
	ret = engine_answer_head(&a, conn, &in, what, deadline_ns, e);
	if (ret < 0)
		return ret;
	if (!engine_answer_is_good(&a))
		return engine_answer_refused(&a, conn, &in, what, deadline_ns, e);
	if (!is_stream(&a))
		return engine_fail(e, -EPROTO, what, "it does not hand over a stream");
	*early = in;
	in = (struct buf){0};
	*fd = take_fd(&conn);
	return 0;
}
