/* Long exchanges: bodies that go up while events come down, and bodies that are bytes. */
#include "fake_engine.h"

#include "base/mem.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>

#define EVENTS_HEAD FAKE_CHUNKED
#define BODY_BYTES  (3u << 20)

struct told {
	unsigned n;
	char text[4096]; /* of "s", each with a "|" */
	int ret;	 /* what to return */
	unsigned at;	 /* from this event on */
};

static int tell(void *ctx, const json_t *event)
{
	struct told *t = ctx;
	const char *s = json_string_value(json_object_get(event, "s"));
	size_t n = strlen(t->text);

	if (s && n < sizeof(t->text))
		(void)snprintf(t->text + n, sizeof(t->text) - n, "%s|", s);
	return ++t->n > t->at ? t->ret : 0;
}

/* --- events alone --- */

static int take(struct str in, size_t cut, size_t step, struct told *t, struct err *e)
{
	struct engine_events ev;
	int ret = 0;

	*e = ERR_INIT;
	engine_events_init(&ev);
	for (size_t at = 0; at < in.n && ret == 0; at += cut, cut = step)
		ret = engine_events_take(&ev, str_sub(in, at, at + cut), "build", tell, t, e);
	if (ret == 0)
		ret = engine_events_end(&ev, "build", e);
	engine_events_free(&ev);
	return ret;
}

/* Whole, cut in two anywhere, and byte by byte. */
static void check_events(const char *in, int code, const char *said)
{
	for (size_t cut = 0; cut <= strlen(in); cut++) {
		struct told t = {0};
		struct err e;
		int ret = take(str_of(in), cut ? cut : 1, cut ? SIZE_MAX / 4 : 1, &t, &e);

		if (ret != code || strcmp(t.text, said) != 0)
			fail_msg("cut at %zu: %d, \"%s\", \"%s\"", cut, ret, t.text, e.text);
	}
}

static void test_events(void **state)
{
	(void)state;
	check_events("", 0, "");
	check_events(" \r\n\t", 0, "");
	check_events("{\"s\":\"a\"}{\"s\":\"b\"}\r\n {\"s\":\"c\"}\n", 0, "a|b|c|");
	check_events("{\"s\":\"}{]\\\"[\\\\\"}{\"x\":[{\"y\":[]}],\"s\":\"d\"}", 0, "}{]\"[\\|d|");
	check_events("{\"stream\":\"nul \\u0000\",\"s\":\"e\"}", 0, "e|");
	check_events("{\"s\":\"a\"}{\"s\":", -EPIPE, "a|");
	check_events("{\"s\":\"a\"}x", -EPROTO, "a|");
	check_events("[1]", -EPROTO, "");
	check_events("7", -EPROTO, "");
	check_events("{\"s\":\"a\"},{\"s\":\"b\"}", -EPROTO, "a|");
	check_events("{]", -EPROTO, "");
	check_events("{\"s\":\"a\",\"s\":\"b\"}", -EPROTO, "");
	check_events("{\"s\":\"a\"}{\"error\":\"no\"}{\"s\":\"b\"}", -EIO, "a|");
	check_events("{\"error\":\"x: no space left on device\"}", -ENOSPC, "");
	check_events("{\"error\":null}", -EIO, "");
	check_events("{\"x\":{\"error\":\"inner\"},\"s\":\"a\"}", 0, "a|");
}

static void test_events_said(void **state)
{
	struct told t = {0};
	struct err e;
	int ret;

	(void)state;
	ret = take(
		STR_LIT("{\"errorDetail\":{\"code\":1},\"error\":\"step 2:\\n\\u001b[1mno\\n\"}"),
		99, 99, &t, &e);
	CHECK_ERROR(&e, ret, -EIO, "the Docker engine: build: step 2:\\n\\x1b[1mno");
	ret = take(STR_LIT("{\"error\":{}}"), 99, 99, &t, &e);
	CHECK_ERROR(&e, ret, -EIO, "build: it failed and did not say why");
	t = (struct told){.ret = -ECANCELED, .at = 1};
	ret = take(STR_LIT("{\"s\":\"a\"}{\"s\":\"b\"}{\"s\":\"c\"}"), 99, 99, &t, &e);
	CHECK_ERROR(&e, ret, -ECANCELED, "build: given up");
	assert_string_equal(t.text, "a|b|");
	t = (struct told){.ret = 5};
	assert_int_equal(take(STR_LIT("{}{}"), 99, 99, &t, &e), 0);
}

static void test_events_bounds(void **state)
{
	char *in = mem_zalloc(ENGINE_EVENT_MAX + 2);
	struct told t = {0};
	struct err e;
	int ret;

	(void)state;
	memset(in, 'x', ENGINE_EVENT_MAX + 1);
	memcpy(in, "{\"a\":\"", 6);
	memcpy(in + ENGINE_EVENT_MAX - 2, "\"}{", 3);
	ret = take(str_slice(in, ENGINE_EVENT_MAX), 1000, 1000, &t, &e);
	assert_int_equal(ret, 0);
	assert_int_equal(t.n, 1);
	memcpy(in + ENGINE_EVENT_MAX - 2, "x\"}", 3);
	ret = take(str_slice(in, ENGINE_EVENT_MAX + 1), 1000, 1000, &t, &e);
	CHECK_ERROR(&e, ret, -EFBIG, "a part of its answer is larger than 1048576 bytes");
	assert_int_equal(t.n, 1);
	for (unsigned depth = 64; depth <= 65; depth++) {
		size_t n = 0;

		n += (size_t)snprintf(in, 16, "{\"a\":");
		memset(in + n, '[', depth - 1);
		n += depth - 1;
		memset(in + n, ']', depth - 1);
		n += depth - 1;
		in[n++] = '}';
		ret = take(str_slice(in, n), 7, 7, &t, &e);
		if (depth == 64)
			assert_int_equal(ret, 0);
		else
			CHECK_ERROR(&e, ret, -EPROTO, "its answer is nested too deep");
	}
	free(in);
}

/* --- up and down at once --- */

/* A file of BODY_BYTES with the sum of its bytes. */
static int make_body(unsigned *sum)
{
	int fd = memfd_create("body", MFD_CLOEXEC);
	char *p = mem_zalloc(BODY_BYTES);

	assert_true(fd >= 0);
	*sum = 0;
	for (unsigned i = 0; i < BODY_BYTES; i++) {
		p[i] = (char)(i * 7 + (i >> 11));
		*sum += (unsigned char)p[i];
	}
	assert_int_equal(io_write_all(fd, p, BODY_BYTES), 0);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	free(p);
	return fd;
}

static int build(struct fake *f, int body_fd, struct told *t, struct err *e)
{
	static const char *const headers[] = {"X-Registry-Auth: c2VjcmV0", NULL};

	return engine_stream(&f->en, "POST", "/build?q=1", body_fd, "application/x-tar", headers,
			     "build", tell, t, e);
}

static void say_event(int fd, const char *s)
{
	char chunk[128];
	int n = snprintf(chunk, sizeof(chunk), "{\"s\":\"%s\"}\r\n", s);
	char whole[160];

	(void)snprintf(whole, sizeof(whole), "%x\r\n%s\r\n", (unsigned)n, chunk);
	fake_say(fd, whole);
}

/* More events than lie in a socket, and nothing of the body is read before. */
static void serve_build(struct fake *f, int fd, unsigned n)
{
	char head[4096];

	(void)n;
	fake_say(fd, EVENTS_HEAD);
	say_event(fd, "begin");
	for (unsigned i = 0; i < 50000; i++)
		fake_say(fd, "f\r\n{\"progress\": 1}\r\n");
	fake_read_request(f, fd, head, sizeof(head));
	say_event(fd, "end");
	fake_say(fd, "0\r\n\r\n");
	fake_wait_end(fd);
}

static void test_both_ways(void **state)
{
	struct told t = {0};
	struct err e = ERR_INIT;
	struct fake f = {0};
	unsigned sum;
	int body = make_body(&sum);

	(void)state;
	fake_start(&f, serve_build);
	if (build(&f, body, &t, &e) < 0)
		fail_msg("%s", e.text);
	assert_string_equal(t.text, "begin|end|");
	assert_int_equal(t.n, 50002);
	assert_int_equal(atomic_load(&f.shared->n_body), BODY_BYTES);
	assert_int_equal(atomic_load(&f.shared->sum_body), sum);
	assert_true(fake_saw(&f, "POST /v1.41/build?q=1 HTTP/1.1\r\n"));
	assert_true(fake_saw(&f, "\r\nX-Registry-Auth: c2VjcmV0\r\nContent-Type: application/x-tar"
				 "\r\nTransfer-Encoding: chunked\r\n\r\n"));
	assert_true(fcntl(body, F_GETFD) >= 0); /* the caller's, still */
	close(body);
	fake_stop(&f);
}

/* An empty body, and none; the answer in single bytes. */
static void test_small(void **state)
{
	int empty = memfd_create("empty", MFD_CLOEXEC);
	struct err e = ERR_INIT;
	struct fake f = {.holds_open = true};

	(void)state;
	fake_receive_max = 1;
	fake_one(&f, EVENTS_HEAD "8\r\n{\"s\":\"a\"\r\n1\r\n}\r\n0\r\n\r\n");
	for (int with_body = 0; with_body < 2; with_body++) {
		struct told t = {0};

		assert_int_equal(build(&f, with_body ? empty : -1, &t, &e), 0);
		assert_string_equal(t.text, "a|");
	}
	assert_true(fake_saw(&f, "c2VjcmV0\r\nContent-Length: 0\r\n\r\n"));
	fake_again(&f, "HTTP/1.1 204 No Content\r\n\r\n");
	assert_int_equal(engine_stream(&f.en, "POST", "/x", -1, NULL, NULL, "x", NULL, NULL, NULL),
			 0);
	fake_receive_max = 0;
	close(empty);
	fake_stop(&f);
}

static void fails(const char *answer, int code, const char *text)
{
	struct told t = {.ret = -ECANCELED, .at = 2};
	struct err e = ERR_INIT;
	struct fake f = {0};
	int ret;

	fake_one(&f, answer);
	ret = build(&f, -1, &t, &e);
	CHECK_ERROR(&e, ret, code, "the Docker engine: build: ", text);
	fake_stop(&f);
}

static void test_failures(void **state)
{
	(void)state;
	fails(EVENTS_HEAD "e\r\n{\"error\":\"no\"}\r\n0\r\n\r\n", -EIO, "no");
	fails(EVENTS_HEAD "6\r\n{}{}{}\r\n0\r\n\r\n", -ECANCELED, "given up");
	fails(EVENTS_HEAD "4\r\n{}{}\r\n", -EPIPE, "it hung up");
	fails(EVENTS_HEAD "3\r\n{}{\r\n0\r\n\r\n", -EPIPE, "in the middle of its answer");
	fails(EVENTS_HEAD "2\r\nno\r\n0\r\n\r\n", -EPROTO, "not JSON");
	fails(EVENTS_HEAD "2\r\n{}\r\nno\r\n", -EPROTO, "not HTTP");
	fails("HTTP/1.1 404 No\r\n\r\n{\"message\":\"none such\"}", -ENOENT, "none such");
	fails("HTTP/1.1 500 No\r\nContent-Length: 99\r\n\r\n{\"message\":\"cut", -EIO, "cut");
	fails("", -EPIPE, "it hung up");
}

/* Refuses with the body unread, so that what is behind its words is a reset. */
static void serve_refusal(struct fake *f, int fd, unsigned n)
{
	static char text[60000];
	char head[256];

	(void)f;
	if (read(fd, head, sizeof(head)) < 0)
		_exit(1);
	fake_say(fd, n == 0 ? "HTTP/1.1 500 No\r\nContent-Length: 60000\r\n\r\n"
			    : "HTTP/1.1 500 No\r\n\r\n");
	memset(text, ' ', sizeof(text));
	memcpy(text, "Dockerfile: no", 14);
	fake_send(fd, str_slice(text, sizeof(text)));
	(void)poll(NULL, 0, 100); /* the client fills the socket meanwhile */
}

static void test_early_refusal(void **state)
{
	struct fake f = {0};
	unsigned sum;

	(void)state;
	fake_start(&f, serve_refusal);
	for (unsigned n = 0; n < 2; n++) {
		struct told t = {0};
		struct err e = ERR_INIT;
		int body = make_body(&sum), ret = build(&f, body, &t, &e);

		CHECK_ERROR(&e, ret, -EIO, "build: Dockerfile: no");
		close(body);
	}
	fake_stop(&f);
}

static void serve_death(struct fake *f, int fd, unsigned n)
{
	char part[100000];

	(void)f;
	(void)n;
	if (read(fd, part, sizeof(part)) < 0)
		_exit(1);
	fake_say(fd, EVENTS_HEAD);
	say_event(fd, "begin");
}

static void test_death(void **state)
{
	struct told t = {0};
	struct err e = ERR_INIT;
	struct fake f = {0};
	unsigned sum;
	int body = make_body(&sum), ret;

	(void)state;
	fake_start(&f, serve_death);
	ret = build(&f, body, &t, &e);
	CHECK_ERROR(&e, ret, -EPIPE, "build: it hung up: was it stopped?");
	close(body);
	fake_kill(&f);
	ret = build(&f, -1, &t, &e);
	CHECK_ERROR(&e, ret, -ECONNREFUSED, "nobody listens at ");
	fake_stop(&f);
}

static void serve_silence(struct fake *f, int fd, unsigned n)
{
	(void)f;
	(void)n;
	fake_wait_end(fd);
}

static void test_time(void **state)
{
	uint64_t before_ns = time_monotonic_ns();
	struct told t = {0};
	struct err e = ERR_INIT;
	struct fake f = {0};
	int pipe_fds[2], folder = open("/", O_RDONLY | O_CLOEXEC), ret;

	(void)state;
	fake_start(&f, serve_silence);
	assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
	fake_hurry(true);
	/* A body that does not come, and an answer that does not. */
	ret = build(&f, pipe_fds[0], &t, &e);
	CHECK_ERROR(&e, ret, -ETIMEDOUT, "build: no answer in time");
	ret = build(&f, -1, &t, &e);
	CHECK_ERROR(&e, ret, -ETIMEDOUT, "build: no answer in time");
	ret = engine_fetch(&f.en, "/a", pipe_fds[1], 10, "fetch", &e);
	CHECK_ERROR(&e, ret, -ETIMEDOUT, "fetch: no answer in time");
	ret = engine_put(&f.en, "/a", STR_NULL, "text/plain", "put", &e);
	CHECK_ERROR(&e, ret, -ETIMEDOUT, "put: no answer in time");
	fake_hurry(false);
	assert_true(time_monotonic_ns() - before_ns >= 4ull * ENGINE_SLOW_MS * TIME_NS_PER_MS);
	ret = build(&f, folder, &t, &e);
	CHECK_ERROR(&e, ret, -EISDIR, "build: read what is sent: ");
	close(folder);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	fake_stop(&f);
}

/* --- bytes --- */

static void test_fetch(void **state)
{
	char got[16] = "";
	struct err e = ERR_INIT;
	struct fake f = {.holds_open = true};
	int out = memfd_create("out", MFD_CLOEXEC), full = open("/dev/full", O_WRONLY), ret;

	(void)state;
	fake_bytes(&f, STR_LIT(FAKE_CHUNKED "4\r\n\0\1\2\3\r\n6\r\n456789\r\n0\r\n\r\n"));
	ret = engine_fetch(&f.en, "/a", out, 10, "fetch", &e);
	assert_int_equal(ret, 0);
	assert_int_equal(pread(out, got, sizeof(got), 0), 10);
	assert_memory_equal(got, "\0\1\2\003456789", 10);
	ret = engine_fetch(&f.en, "/a", out, 9, "fetch", &e);
	CHECK_ERROR(&e, ret, -EFBIG, "fetch: its answer is larger than 9 bytes");
	ret = engine_fetch(&f.en, "/a", out, 0, "fetch", &e);
	CHECK_ERROR(&e, ret, -EFBIG, "larger than 0 bytes");
	ret = engine_fetch(&f.en, "/a", full, 10, "fetch", &e);
	CHECK_ERROR(&e, ret, -ENOSPC, "write what the Docker engine sends (fetch)");
	f.holds_open = false;
	fake_again(&f, "HTTP/1.1 404 No\r\n\r\nno such file");
	ret = engine_fetch(&f.en, "/a", out, 10, "fetch", &e);
	CHECK_ERROR(&e, ret, -ENOENT, "fetch: no such file");
	fake_again(&f, FAKE_OK_JSON("5") "1234");
	ret = engine_fetch(&f.en, "/a", out, 10, "fetch", &e);
	CHECK_ERROR(&e, ret, -EPIPE, "in the middle of its answer");
	fake_again(&f, "HTTP/1.1 200 OK\r\n\r\n1234");
	assert_int_equal(engine_fetch(&f.en, "/a", out, 4, "fetch", &e), 0);
	close(out);
	close(full);
	fake_stop(&f);
}

static void test_put(void **state)
{
	struct err e = ERR_INIT;
	struct fake f = {0};
	int ret;

	(void)state;
	fake_one(&f, FAKE_OK_JSON("0"));
	assert_int_equal(engine_put(&f.en, "/archive?path=%2F", STR_LIT("a\0b"),
				    "application/x-tar", "put", &e),
			 0);
	assert_true(fake_saw(&f, "PUT /v1.41/archive?path=%2F HTTP/1.1\r\n"));
	assert_int_equal(atomic_load(&f.shared->n_body), 3);
	fake_again(&f, "HTTP/1.1 403 No\r\n\r\n{\"message\":\"read-only\"}");
	ret = engine_put(&f.en, "/a", STR_LIT("x"), "text/plain", "put", &e);
	CHECK_ERROR(&e, ret, -EACCES, "put: read-only");
	fake_stop(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_events),	      cmocka_unit_test(test_events_said),
		cmocka_unit_test(test_events_bounds), cmocka_unit_test(test_both_ways),
		cmocka_unit_test(test_small),	      cmocka_unit_test(test_failures),
		cmocka_unit_test(test_early_refusal), cmocka_unit_test(test_death),
		cmocka_unit_test(test_time),	      cmocka_unit_test(test_fetch),
		cmocka_unit_test(test_put),
	};

	(void)signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests_name("engine-stream", tests, NULL, NULL);
}
