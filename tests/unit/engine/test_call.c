/* One exchange: what is asked, what becomes of the answer, time, and several side by side. */
#include "fake_engine.h"

#include "base/mem.h"

#include <signal.h>

static const char empty_object[] = FAKE_OK_JSON("2") "{}";

/* --- the request --- */

static void test_request(void **state)
{
	json_t *body = json_pack("{s:s}", "Image", "x"), *answer;
	struct err e = ERR_INIT;
	struct fake f = {0};

	(void)state;
	fake_one(&f, empty_object);
	assert_int_equal(
		engine_do(&f.en, "POST", "/containers/create?name=a", body, "create", &answer, &e),
		0);
	assert_true(json_is_object(answer));
	json_decref(answer);
	assert_true(fake_saw(&f, "POST /v1.41/containers/create?name=a HTTP/1.1\r\nHost: docker\r\n"
				 "User-Agent: claude-bottle/"));
	assert_true(fake_saw(&f, "Content-Type: application/json\r\nContent-Length: 13\r\n\r\n"
				 "{\"Image\":\"x\"}"));
	assert_int_equal(engine_do(&f.en, "POST", "/a", NULL, "a", NULL, &e), 0);
	assert_true(fake_saw(&f, "POST /v1.41/a HTTP/1.1\r\n"));
	assert_true(fake_saw(&f, "Content-Length: 0\r\n\r\n"));
	assert_int_equal(engine_do(&f.en, "DELETE", "/b", NULL, "b", NULL, &e), 0);
	assert_int_equal(engine_do(&f.en, "GET", "/c", NULL, "c", NULL, &e), 0);
	json_decref(body);
	fake_stop(&f);
}

/* Nothing may become more than one request. */
static void test_request_refused(void **state)
{
	static const struct {
		const char *method, *path;
	} requests[] = {
		{"GET", "/a HTTP/1.1\r\nX: y"},
		{"GET", "/a b"},
		{"GET", "a"},
		{"GET", ""},
		{"GET", "/\x80"},
		{"GET", "/a\x7f"},
		{"GET\r\nX: y", "/a"},
		{"get", "/a"},
		{"", "/a"},
		{"CONNECT", "/a"},
		{"BREW", "/a"},
	};
	struct fake f = {0};
	char path[ENGINE_TARGET_MAX + 2];

	(void)state;
	fake_one(&f, empty_object);
	for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
		struct err e = ERR_INIT;
		int ret = engine_do(&f.en, requests[i].method, requests[i].path, NULL, "ask", NULL,
				    &e);

		CHECK_ERROR(&e, ret, -EINVAL, "ask: not a request that can be made");
	}
	memset(path, '/', sizeof(path));
	path[sizeof(path) - 1] = '\0';
	assert_int_equal(engine_do(&f.en, "GET", path, NULL, "ask", NULL, NULL), -EINVAL);
	assert_int_equal(atomic_load(&f.shared->n_connections), 0);
	path[sizeof(path) - 2] = '\0';
	assert_int_equal(engine_do(&f.en, "GET", path, NULL, "ask", NULL, NULL), 0);
	fake_stop(&f);
}

static void test_request_headers(void **state)
{
	static const char *const bad[] = {"", "no colon", "A: b\r\nC: d", "A: b\n", "A: \x01"};
	struct engine en = {.api = "1.41"};
	struct buf out;

	(void)state;
	buf_init(&out, 4096);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		const char *headers[] = {"X-Good: yes", bad[i], NULL};
		struct engine_request r = {.method = "POST", .path = "/build", .headers = headers};

		assert_int_equal(engine_write_head(&out, &en, &r, "build", NULL), -EINVAL);
	}
	{
		struct engine_request r = {.method = "POST", .path = "/", .type = "a\r\nB: c"};

		assert_int_equal(engine_write_head(&out, &en, &r, "build", NULL), -EINVAL);
	}
	buf_free(&out);
	buf_init(&out, 100);
	{
		struct engine_request r = {.method = "GET",
					   .path = "/0123456789012345678901234567"
						   "89"};

		assert_int_equal(engine_write_head(&out, &en, &r, "build", NULL), -E2BIG);
	}
	buf_free(&out);
}

static void test_request_too_large(void **state)
{
	char *text = mem_zalloc(ENGINE_JSON_MAX + 1);
	struct err e = ERR_INIT;
	struct fake f = {0};
	json_t *body;
	int ret;

	(void)state;
	fake_one(&f, empty_object);
	memset(text, 'x', ENGINE_JSON_MAX);
	body = json_string(text);
	ret = engine_do(&f.en, "POST", "/a", body, "ask", NULL, &e);
	CHECK_ERROR(&e, ret, -E2BIG, "ask: the request is too large");
	json_decref(body);
	text[ENGINE_JSON_MAX - 2] = '\0';
	body = json_string(text);
	assert_int_equal(engine_do(&f.en, "POST", "/a", body, "ask", NULL, &e), 0);
	assert_int_equal(atomic_load(&f.shared->n_body), ENGINE_JSON_MAX);
	json_decref(body);
	fake_stop(&f);
	free(text);
}

static void test_escape(void **state)
{
	struct buf out;

	(void)state;
	buf_init(&out, 64);
	assert_int_equal(engine_escape(&out, STR_LIT("aZ09-._~/ %&=?#\r\n\0\xc3\xa9")), 0);
	assert_true(str_eq(buf_str(&out), STR_LIT("aZ09-._~%2F%20%25%26%3D%3F%23%0D%0A%00%C3%A9")));
	buf_reset(&out);
	assert_int_equal(engine_escape(&out, STR_NULL), 0);
	assert_int_equal(buf_len(&out), 0);
	assert_int_equal(engine_escape(&out, STR_LIT("//////////////////////")), -ENOBUFS);
	buf_free(&out);
}

/* --- the answer --- */

static void test_bytewise(void **state)
{
	static const char *const answers[] = {
		FAKE_OK_JSON("13") "{\"Id\":\"abcd\"}",
		FAKE_CHUNKED "4\r\n{\"Id\r\n9\r\n\":\"abcd\"}\r\n0\r\n\r\n",
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\n\r\n{\"Id\":\"abcd\"}",
	};
	struct err e = ERR_INIT;

	(void)state;
	fake_receive_max = 1;
	for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
		struct fake f = {.holds_open = i < 2};
		json_t *answer;

		fake_one(&f, answers[i]);
		if (engine_do(&f.en, "GET", "/a", NULL, "ask", &answer, &e) < 0)
			fail_msg("%s", e.text);
		assert_string_equal(json_string_value(json_object_get(answer, "Id")), "abcd");
		json_decref(answer);
		fake_stop(&f);
	}
	fake_receive_max = 0;
}

static void test_no_body(void **state)
{
	json_t *answer = NULL;
	struct fake f = {.holds_open = true};

	(void)state;
	fake_one(&f, "HTTP/1.1 204 No Content\r\n\r\n");
	assert_int_equal(engine_do(&f.en, "POST", "/a", NULL, "start", &answer, NULL), 0);
	assert_null(answer);
	fake_again(&f, "HTTP/1.1 304 Not Modified\r\n\r\n");
	assert_int_equal(engine_do(&f.en, "POST", "/a", NULL, "start", &answer, NULL), 0);
	assert_null(answer);
	fake_again(&f, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
	assert_int_equal(engine_do(&f.en, "POST", "/a", NULL, "start", &answer, NULL), 0);
	assert_null(answer);
	fake_stop(&f);
}

static void fails(const char *answer, int code, const char *text)
{
	json_t *out = (json_t *)(uintptr_t)1;
	struct err e = ERR_INIT;
	struct fake f = {0};
	int ret;

	fake_one(&f, answer);
	ret = engine_do(&f.en, "POST", "/a", NULL, "start", &out, &e);
	CHECK_ERROR(&e, ret, code, "the Docker engine: start: ", text);
	assert_null(out);
	fake_stop(&f);
}

static void test_failures(void **state)
{
	(void)state;
	fails("HTTP/1.1 404 Not Found\r\nContent-Length: 17\r\n\r\n{\"message\":\"gone\"", -ENOENT,
	      "gone");
	fails("HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n"
	      "13\r\n{\"message\":\"gone2\"}\r\n0\r\n\r\n",
	      -ENOENT, "gone2");
	/* An error's text need not be whole, nor its framing right, to be one. */
	fails("HTTP/1.1 409 Conflict\r\nContent-Length: 100\r\n\r\nin use", -EEXIST, "in use");
	fails("HTTP/1.1 400 Bad\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nbad\r\nzz\r\n", -EINVAL,
	      "status 400");
	fails("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n", -EIO, "status 500 without a word");
	fails(FAKE_OK_JSON("2") "{", -EPIPE, "in the middle of its answer");
	fails(FAKE_CHUNKED "2\r\n{}\r\n", -EPIPE, "in the middle of its answer");
	fails(FAKE_CHUNKED "2\r\n{}\r\nx", -EPROTO, "not HTTP as it should be (bad-chunk-size)");
	fails(FAKE_OK_JSON("2") "[{", -EPROTO, "its answer is not JSON");
	fails("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}", -EPROTO,
	      "duplicate-content-length");
	fails("HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n", -EPROTO,
	      "upgrade-refused");
}

/* A body of n bytes with a head that names its length. */
static char *large(const char *head, size_t n, size_t *total)
{
	char line[160];
	int n_head = snprintf(line, sizeof(line), "%sContent-Length: %zu\r\n\r\n", head, n);
	char *p = mem_zalloc((size_t)n_head + n + 1);

	memcpy(p, line, (size_t)n_head);
	memset(p + n_head, 'x', n);
	p[n_head] = p[(size_t)n_head + n - 1] = '"';
	*total = (size_t)n_head + n;
	return p;
}

static void test_answer_cap(void **state)
{
	struct err e = ERR_INIT;
	struct fake f = {0};
	json_t *answer;
	size_t n;
	char *p;
	int ret;

	(void)state;
	p = large("HTTP/1.1 200 OK\r\n", ENGINE_JSON_MAX, &n);
	fake_bytes(&f, str_slice(p, n));
	assert_int_equal(engine_do(&f.en, "GET", "/a", NULL, "list", &answer, &e), 0);
	assert_int_equal(json_string_length(answer), ENGINE_JSON_MAX - 2);
	json_decref(answer);
	fake_stop(&f);
	free(p);

	p = large("HTTP/1.1 200 OK\r\n", ENGINE_JSON_MAX + 1, &n);
	f = (struct fake){0};
	fake_bytes(&f, str_slice(p, n));
	ret = engine_do(&f.en, "GET", "/a", NULL, "list", &answer, &e);
	CHECK_ERROR(&e, ret, -EFBIG, "list: its answer is larger than 8388608 bytes");
	fake_stop(&f);
	free(p);

	/* An error of any length is one line. */
	p = large("HTTP/1.1 500 Oh\r\n", ENGINE_JSON_MAX, &n);
	f = (struct fake){0};
	fake_bytes(&f, str_slice(p, n));
	ret = engine_do(&f.en, "GET", "/a", NULL, "list", &answer, &e);
	CHECK_ERROR(&e, ret, -EIO, "list: \"xxxx", "…");
	fake_stop(&f);
	free(p);
}

/* --- an engine that refuses before it has read all --- */

static void serve_early_refusal(struct fake *f, int fd, unsigned n)
{
	char head[600];

	(void)f;
	(void)n;
	/* Of the head and the beginning of the body. */
	if (read(fd, head, sizeof(head)) < 0)
		_exit(1);
	fake_say(fd, "HTTP/1.1 400 Bad\r\nContent-Length: 100\r\n\r\nread only");
}

static void test_early_refusal(void **state)
{
	char *body = mem_zalloc(ENGINE_JSON_MAX);
	struct err e = ERR_INIT;
	struct fake f = {0};
	int ret;

	(void)state;
	fake_start(&f, serve_early_refusal);
	ret = engine_put(&f.en, "/archive", str_slice(body, ENGINE_JSON_MAX), "application/x-tar",
			 "put files", &e);
	CHECK_ERROR(&e, ret, -EINVAL, "put files: read only");
	fake_stop(&f);
	free(body);
}

/* --- time --- */

static void serve_silence(struct fake *f, int fd, unsigned n)
{
	char head[4096];

	fake_read_request(f, fd, head, sizeof(head));
	if (n == 1)
		fake_say(fd, FAKE_OK_JSON("2") "{");
	fake_wait_end(fd);
}

static void test_time(void **state)
{
	uint64_t before_ns = time_monotonic_ns();
	struct err e = ERR_INIT;
	struct engine_call c;
	struct fake f = {0};
	int ret;

	(void)state;
	fake_start(&f, serve_silence);
	assert_int_equal(engine_begin(&c, &f.en, "GET", "/a", NULL, "ask", &e), 0);
	assert_int_equal(c.timeout_ms, ENGINE_TIMEOUT_MS);
	c.timeout_ms = 100;
	ret = engine_end(&c, NULL, &e);
	CHECK_ERROR(&e, ret, -ETIMEDOUT, "ask: no answer in time");
	assert_true(time_monotonic_ns() - before_ns >= 100 * TIME_NS_PER_MS);
	/* The body has at least the usual time. */
	before_ns = time_monotonic_ns();
	assert_int_equal(engine_begin(&c, &f.en, "GET", "/a", NULL, "ask", &e), 0);
	assert_int_equal(engine_await(c.fd, engine_deadline(20000)), 0);
	c.timeout_ms = 1000;
	fake_hurry(true);
	ret = engine_end(&c, NULL, &e);
	CHECK_ERROR(&e, ret, -ETIMEDOUT, "ask: no answer in time");
	assert_true(time_monotonic_ns() - before_ns >= ENGINE_TIMEOUT_MS * TIME_NS_PER_MS);
	before_ns = time_monotonic_ns();
	ret = engine_do(&f.en, "GET", "/a", NULL, "ask", NULL, &e);
	CHECK_ERROR(&e, ret, -ETIMEDOUT, "ask: no answer in time");
	assert_true(time_monotonic_ns() - before_ns >= ENGINE_TIMEOUT_MS * TIME_NS_PER_MS);
	fake_hurry(false);
	fake_stop(&f);
}

static void serve_late(struct fake *f, int fd, unsigned n)
{
	char head[4096];

	(void)n;
	fake_read_request(f, fd, head, sizeof(head));
	fake_say(fd, FAKE_OK_JSON("2"));
	(void)poll(NULL, 0, 3 * FAKE_TICK_MS);
	fake_say(fd, "{}");
}

/* As for "wait": no limit at all. */
static void test_no_limit(void **state)
{
	struct err e = ERR_INIT;
	struct engine_call c;
	struct fake f = {0};

	(void)state;
	fake_start(&f, serve_late);
	fake_hurry(true);
	assert_int_equal(engine_begin(&c, &f.en, "POST", "/a", NULL, "wait", &e), 0);
	c.timeout_ms = -1;
	if (engine_end(&c, NULL, &e) < 0)
		fail_msg("%s", e.text);
	fake_hurry(false);
	fake_stop(&f);
}

/* --- side by side --- */

/* Nobody is answered before both have asked; the first, after the second. */
static void serve_pair(struct fake *f, int fd, unsigned n)
{
	char head[4096];

	fake_read_request(f, fd, head, sizeof(head));
	atomic_fetch_add(&f->shared->flags, 1);
	while (atomic_load(&f->shared->flags) < (strstr(head, "/first") ? 3 : 2))
		(void)poll(NULL, 0, 5);
	(void)n;
	fake_say(fd, strstr(head, "/first") ? FAKE_OK_JSON("1") "1" : FAKE_OK_JSON("1") "2");
	atomic_fetch_add(&f->shared->flags, 1);
}

static void test_side_by_side(void **state)
{
	struct engine_call first, second;
	struct err e = ERR_INIT;
	struct fake f = {0};
	json_t *answer;

	(void)state;
	fake_start(&f, serve_pair);
	assert_int_equal(engine_begin(&first, &f.en, "POST", "/first", NULL, "one", &e), 0);
	assert_int_equal(engine_begin(&second, &f.en, "POST", "/second", NULL, "two", &e), 0);
	assert_int_equal(engine_end(&first, &answer, &e), 0);
	assert_int_equal(json_integer_value(answer), 1);
	json_decref(answer);
	assert_int_equal(engine_end(&second, &answer, &e), 0);
	assert_int_equal(json_integer_value(answer), 2);
	json_decref(answer);
	assert_int_equal(first.fd, -1);
	fake_stop(&f);
}

static void test_end_of_none(void **state)
{
	struct engine_call c = {.fd = -1};
	struct err e = ERR_INIT;
	struct fake f = {.holds_open = true};
	json_t *answer = NULL;
	int ret;

	(void)state;
	ret = engine_end(&c, &answer, &e);
	CHECK_ERROR(&e, ret, -EINVAL, "no call is under way");
	engine_cancel(&c);
	fake_one(&f, empty_object);
	assert_int_equal(engine_begin(&c, &f.en, "GET", "/a", NULL, "ask", &e), 0);
	engine_cancel(&c);
	assert_int_equal(c.fd, -1);
	assert_int_equal(engine_end(&c, NULL, &e), -EINVAL);
	fake_kill(&f);
	ret = engine_do(&f.en, "GET", "/a", NULL, "ask", &answer, &e);
	CHECK_ERROR(&e, ret, -ECONNREFUSED, "nobody listens at ");
	fake_stop(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_request),
		cmocka_unit_test(test_request_refused),
		cmocka_unit_test(test_request_headers),
		cmocka_unit_test(test_request_too_large),
		cmocka_unit_test(test_escape),
		cmocka_unit_test(test_bytewise),
		cmocka_unit_test(test_no_body),
		cmocka_unit_test(test_failures),
		cmocka_unit_test(test_answer_cap),
		cmocka_unit_test(test_early_refusal),
		cmocka_unit_test(test_time),
		cmocka_unit_test(test_no_limit),
		cmocka_unit_test(test_side_by_side),
		cmocka_unit_test(test_end_of_none),
	};

	(void)signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests_name("engine-call", tests, NULL, NULL);
}
