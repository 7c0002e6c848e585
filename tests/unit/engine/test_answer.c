/* The answer's parser alone: any cut of the bytes gives the same, and doubtful shapes give nothing.
 */
#include "fake_engine.h"

#include "base/mem.h"

#define ANSWER_MAX 65536

struct outcome {
	int ret; /* of the last step: 0, or -EPROTO */
	bool is_done;
	unsigned status;
	char type[64];
	struct buf body;
};

static void take_all(struct engine_answer *a, struct buf *in, struct outcome *o)
{
	struct str data;

	while ((o->ret = engine_answer_next(a, in, &data)) > 0)
		assert_int_equal(buf_append_str(&o->body, data), 0);
}

/* The first `cut` bytes at once, then `step` at a time. */
static struct outcome parse(struct str raw, enum http1_method method, size_t cut, size_t step)
{
	struct outcome o = {0};
	struct engine_answer a;
	struct buf in;

	buf_init(&o.body, ANSWER_MAX);
	buf_init(&in, ENGINE_IN_MAX);
	engine_answer_init(&a, method);
	for (size_t at = 0; at < raw.n && o.ret == 0; at += cut, cut = step) {
		assert_int_equal(buf_append_str(&in, str_sub(raw, at, at + cut)), 0);
		take_all(&a, &in, &o);
	}
	if (o.ret == 0 && engine_answer_eof(&a) < 0)
		o.ret = -EPIPE;
	o.is_done = a.is_done;
	o.status = a.status;
	memcpy(o.type, a.type, sizeof(o.type));
	buf_free(&in);
	return o;
}

static void check_same(const struct outcome *a, const struct outcome *b)
{
	assert_int_equal(a->ret, b->ret);
	assert_int_equal(a->is_done, b->is_done);
	assert_int_equal(a->status, b->status);
	assert_string_equal(a->type, b->type);
	if (a->ret == 0)
		assert_true(str_eq(buf_str(&a->body), buf_str(&b->body)));
}

static struct outcome parse_all_ways(const char *answer, enum http1_method method)
{
	struct str raw = str_of(answer);
	struct outcome whole = parse(raw, method, SIZE_MAX / 4, 1);

	for (size_t cut = 0; cut <= raw.n; cut++) {
		struct outcome o = parse(raw, method, cut ? cut : 1, cut ? SIZE_MAX / 4 : 1);

		check_same(&whole, &o);
		buf_free(&o.body);
	}
	return whole;
}

static void gives(const char *answer, enum http1_method method, unsigned status, const char *type,
		  const char *body)
{
	struct outcome o = parse_all_ways(answer, method);

	assert_int_equal(o.ret, 0);
	assert_true(o.is_done);
	assert_int_equal(o.status, status);
	assert_string_equal(o.type, type);
	assert_true(str_eq(buf_str(&o.body), str_of(body)));
	buf_free(&o.body);
}

static void test_good(void **state)
{
	(void)state;
	gives("HTTP/1.1 200 OK\r\nContent-Type: Application/JSON; charset=utf-8\r\n"
	      "Content-Length: 11\r\n\r\n{\"a\":\r\n\r\n1}",
	      HTTP1_GET, 200, "application/json", "{\"a\":\r\n\r\n1}");
	gives("HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n"
	      "3\r\nabc\r\n0A\r\n0123456789\r\n0\r\n\r\n",
	      HTTP1_POST, 201, "", "abc0123456789");
	gives("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
	      "1\r\na\r\n0\r\nX-Sum: 1\r\n\r\n",
	      HTTP1_GET, 200, "", "a");
	gives("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil the end", HTTP1_GET, 200,
	      "text/plain", "until the end");
	gives("HTTP/1.1 204 No Content\r\n\r\n", HTTP1_POST, 204, "", "");
	gives("HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", HTTP1_POST, 304, "", "");
	gives("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", HTTP1_HEAD, 200, "", "");
	gives("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
	      "HTTP/1.1 409 Conflict\r\nContent-Length: 2\r\n\r\n{}",
	      HTTP1_POST, 409, "", "{}");
	/* What follows belongs to nobody: one exchange a connection. */
	gives("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 500 No\r\n\r\n", HTTP1_GET,
	      200, "", "{}");
	/* A type that does not fit is none. */
	gives("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Type: "
	      "a/0123456789012345678901234567890123456789012345678901234567890123\r\n\r\n",
	      HTTP1_GET, 200, "", "");
}

static void is_cut(const char *answer)
{
	struct outcome o = parse_all_ways(answer, HTTP1_GET);

	assert_int_equal(o.ret, -EPIPE);
	assert_false(o.is_done);
	buf_free(&o.body);
}

static void test_truncated(void **state)
{
	(void)state;
	is_cut("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n");
	is_cut("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab");
	is_cut("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n");
	is_cut("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n");
	is_cut("HTTP/1.1 100 Continue\r\n\r\n");
	is_cut("HT");
	is_cut("");
}

static void test_refused(void **state)
{
	static const char *const answers[] = {
		"SSH-2.0-x\r\n",
		"hello",
		"HTTP/2 200 OK\r\n\r\n",
		"HTTP/1.1 99 Low\r\n\r\n",
		"HTTP/1.1 OK\r\n\r\n",
		"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
		"HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nA : b\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}x",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0",
		"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n{}",
		"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\n{}",
		"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\n{}",
		"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n{}",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x2\r\nab\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nab\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
		"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
		struct outcome o = parse_all_ways(answers[i], HTTP1_GET);

		if (o.ret != -EPROTO)
			fail_msg("%d for \"%s\"", o.ret, answers[i]);
		buf_free(&o.body);
	}
}

/* n interim answers before the real one. */
static int with_interim(unsigned n)
{
	struct outcome o;
	struct buf raw;

	buf_init(&raw, ANSWER_MAX);
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(buf_printf(&raw, "HTTP/1.1 102 Processing\r\n\r\n"), 0);
	assert_int_equal(buf_printf(&raw, "HTTP/1.1 204 No Content\r\n\r\n"), 0);
	o = parse(buf_str(&raw), HTTP1_POST, SIZE_MAX / 4, 1);
	buf_free(&o.body);
	o = parse(buf_str(&raw), HTTP1_POST, 1, 1);
	buf_free(&o.body);
	buf_free(&raw);
	return o.ret;
}

static void test_interim(void **state)
{
	(void)state;
	assert_int_equal(with_interim(ENGINE_INTERIM_MAX), 0);
	assert_int_equal(with_interim(ENGINE_INTERIM_MAX + 1), -EPROTO);
}

static void test_large_head(void **state)
{
	char *raw = mem_zalloc(HTTP1_HEAD_MAX_BYTES + 16);
	struct outcome o;

	(void)state;
	memset(raw, 'a', HTTP1_HEAD_MAX_BYTES + 8);
	memcpy(raw, "HTTP/1.1 200 OK\r\nX: ", 20);
	o = parse(str_slice(raw, HTTP1_HEAD_MAX_BYTES - 1), HTTP1_GET, 16384, 16384);
	assert_int_equal(o.ret, -EPIPE);
	buf_free(&o.body);
	o = parse(str_slice(raw, HTTP1_HEAD_MAX_BYTES + 8), HTTP1_GET, 16384, 16384);
	assert_int_equal(o.ret, -EPROTO);
	buf_free(&o.body);
	free(raw);
}

/* --- what is said of a failure --- */

static void says(unsigned status, const char *body, int code, const char *text)
{
	struct err e = ERR_INIT;
	int ret = engine_fail_status(&e, status, "create container", str_of(body));

	CHECK_ERROR(&e, ret, code, "the Docker engine: create container: ", text);
}

static void test_said(void **state)
{
	(void)state;
	says(404, "{\"message\":\"No such image: x:latest\"}\n", -ENOENT,
	     "No such image: x:latest");
	says(409, "{\"message\":\"name is in use\\n\"}", -EEXIST, "name is in use");
	says(400, "{\"message\":\"invalid\"}", -EINVAL, "invalid");
	says(403, "{\"message\":\"no\"}", -EACCES, "no");
	says(401, "{\"message\":\"no\"}", -EACCES, "no");
	says(500, "plain text\r\n", -EIO, "plain text");
	says(500, "<b>\x1b[2J\xff\xc2\x9b</b>", -EIO, "<b>\\x1b[2J\\xff");
	says(500, "{\"message\":\"two\\nlines\\u0000\\u202e\"}", -EIO, "two\\nlines");
	says(500, "{\"message\":7}", -EIO, "{\"message\":7}");
	says(500, "{\"message\":\"\"}", -EIO, "{\"message\":\"\"}");
	says(500, "{\"message\":", -EIO, "{\"message\":");
	says(500, "", -EIO, "status 500 without a word");
	says(500, " \r\n", -EIO, "it failed and did not say why");
	says(500, "{\"message\":\"write /x: No Space left on device\"}", -ENOSPC, "No Space left");
	says(404, "disk quota exceeded", -ENOSPC, "disk quota exceeded");
}

static void test_said_bounds(void **state)
{
	static char body[ENGINE_ERROR_BODY_MAX];
	struct err e = ERR_INIT;
	int ret;

	(void)state;
	memset(body, 'x', sizeof(body));
	ret = engine_fail_status(&e, 500, "a", str_slice(body, sizeof(body)));
	CHECK_ERROR(&e, ret, -EIO, "the Docker engine: a: xxx", "…");
	assert_true(strlen(e.text) < ENGINE_SAID_MAX + 32);
	memset(body, 1, sizeof(body));
	ret = engine_fail_status(&e, 500, "a", str_slice(body, sizeof(body)));
	CHECK_ERROR(&e, ret, -EIO, "\\x01\\x01", "…");
	assert_true(strlen(e.text) < ENGINE_SAID_MAX + 32);
	/* What is asked for is bounded too. */
	memset(body, 'w', 500);
	body[500] = '\0';
	ret = engine_fail(&e, -EIO, body, "why");
	CHECK_ERROR(&e, ret, -EIO, "wwww: why");
	assert_true(strlen(e.text) < 120);
}

static void test_json(void **state)
{
	struct err e = ERR_INIT;
	json_t *j;
	int ret;

	(void)state;
	assert_int_equal(engine_parse_json(STR_LIT(" \t"), "a", &j, &e), 0);
	assert_null(j);
	assert_int_equal(engine_parse_json(STR_NULL, "a", &j, &e), 0);
	assert_null(j);
	assert_int_equal(engine_parse_json(STR_LIT("[1]"), "a", &j, &e), 0);
	json_decref(j);
	ret = engine_parse_json(STR_LIT("{\"a\":1,\"a\":2}"), "a", &j, &e);
	CHECK_ERROR(&e, ret, -EPROTO, "not JSON");
	assert_null(j);
	ret = engine_parse_json(STR_LIT("{\"a\":\"\\u0000\"}"), "a", &j, &e);
	CHECK_ERROR(&e, ret, -EPROTO, "not JSON");
	ret = engine_parse_json(STR_LIT("{} {}"), "a", &j, &e);
	CHECK_ERROR(&e, ret, -EPROTO, "not JSON");
	ret = engine_parse_json(STR_LIT("{\"a\":\"\xff\"}"), "a", &j, &e);
	CHECK_ERROR(&e, ret, -EPROTO, "not JSON");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),	    cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_refused),	    cmocka_unit_test(test_interim),
		cmocka_unit_test(test_large_head),  cmocka_unit_test(test_said),
		cmocka_unit_test(test_said_bounds), cmocka_unit_test(test_json),
	};

	return cmocka_run_group_tests_name("engine-answer", tests, NULL, NULL);
}
