/* Who answers at the socket: versions, what cannot be an engine, and one line for each failure. */
#include "fake_engine.h"

#include "base/mem.h"

#include <grp.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#define VERSION(body) "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" body
#define INFO	      VERSION("{\"SecurityOptions\":[\"name=seccomp,profile=default\"]}")

static void agrees(const char *version, const char *info, const char *api, bool is_rootless,
		   bool is_remapped)
{
	const char *answers[] = {version, info};
	struct fake f = {0};
	struct err e = ERR_INIT;
	char path[64];

	fake_script(&f, answers, 2);
	f.en.is_rootless = f.en.is_remapped = true; /* of an earlier engine */
	if (engine_connect(&f.en, ENGINE_PING_MS, &e) < 0)
		fail_msg("%s", e.text);
	assert_string_equal(f.en.api, api);
	assert_int_equal(f.en.is_rootless, is_rootless);
	assert_int_equal(f.en.is_remapped, is_remapped);
	assert_true(fake_saw(&f, "GET /version HTTP/1.1\r\nHost: docker\r\n"));
	(void)snprintf(path, sizeof(path), "GET /v%s/info HTTP/1.1\r\n", api);
	assert_true(fake_saw(&f, path));
	fake_stop(&f);
}

static void test_agrees(void **state)
{
	(void)state;
	agrees(VERSION("{\"Version\":\"20.10.24\",\"ApiVersion\":\"1.41\","
		       "\"MinAPIVersion\":\"1.12\"}"),
	       INFO, "1.41", false, false);
	agrees(VERSION("{\"ApiVersion\":\"1.40\"}"), INFO, "1.40", false, false);
	agrees(VERSION("{\"ApiVersion\":\"1.52\",\"MinAPIVersion\":\"1.44\"}"), INFO, "1.47", false,
	       false);
	agrees(VERSION("{\"ApiVersion\":\"2.0\",\"MinAPIVersion\":\"1.47\"}"), INFO, "1.47", false,
	       false);
	agrees(VERSION("{\"ApiVersion\":\"1.41\"}"),
	       VERSION("{\"SecurityOptions\":[7,null,\"name=rootless\"]}"), "1.41", true, false);
	agrees(VERSION("{\"ApiVersion\":\"1.41\"}"),
	       VERSION("{\"SecurityOptions\":[\"name=userns\",\"name=rootlessness\"]}"), "1.41",
	       false, true);
	agrees(VERSION("{\"ApiVersion\":\"1.41\"}"), VERSION("{\"SecurityOptions\":{}}"), "1.41",
	       false, false);
}

static void test_desktop(void **state)
{
	static const struct {
		const char *info;
		bool is_desktop;
	} table[] = {{VERSION("{\"OperatingSystem\":\"Docker Desktop\"}"), true},
		     {VERSION("{\"OperatingSystem\":\"Debian GNU/Linux 12 (bookworm)\"}"), false},
		     {VERSION("{\"OperatingSystem\":7}"), false}};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		const char *answers[] = {VERSION("{\"ApiVersion\":\"1.41\"}"), table[i].info};
		struct fake f = {0};
		struct err e = ERR_INIT;

		fake_script(&f, answers, 2);
		f.en.is_desktop = !table[i].is_desktop;
		assert_int_equal(engine_connect(&f.en, ENGINE_PING_MS, &e), 0);
		assert_int_equal(f.en.is_desktop, table[i].is_desktop);
		fake_stop(&f);
	}
}

static void test_version_shown(void **state)
{
	struct fake f = {0};
	struct err e = ERR_INIT;

	(void)state;
	fake_one(&f, VERSION("{\"Version\":\"20\\u001b[31m.10.0123456789012345678901234567890123456"
			     "789\",\"ApiVersion\":\"1.41\"}"));
	assert_int_equal(engine_connect(&f.en, ENGINE_PING_MS, &e), 0);
	assert_memory_equal(f.en.version, "20\\x1b[31m.10.0", 15);
	assert_true(strlen(f.en.version) < sizeof(f.en.version));
	fake_stop(&f);
}

static void refuses(const char *answer, int code, const char *a, const char *b)
{
	struct fake f = {0};
	struct err e = ERR_INIT;
	int ret;

	fake_one(&f, answer);
	ret = engine_connect(&f.en, ENGINE_PING_MS, &e);
	CHECK_ERROR(&e, ret, code, "the Docker engine: ", a, b);
	assert_string_equal(f.en.api, "");
	fake_stop(&f);
}

static void test_versions_refused(void **state)
{
	(void)state;
	refuses(VERSION("{\"Version\":\"18.09.1\",\"ApiVersion\":\"1.39\"}"), -EPROTONOSUPPORT,
		"18.09.1", "is too old: at least API 1.40 (Docker 19.03)");
	refuses(VERSION("{\"Version\":\"40.1\",\"ApiVersion\":\"1.60\",\"MinAPIVersion\":"
			"\"1.48\"}"),
		-EPROTONOSUPPORT, "40.1", "is too new: it has no API up to 1.47");
	refuses(VERSION("{\"ApiVersion\":141}"), -EPROTO, "(DOCKER_HOST)",
		"does not name an API version");
	refuses(VERSION("{\"ApiVersion\":\"1.41.1\"}"), -EPROTO, "(DOCKER_HOST)",
		"does not name an API version");
	refuses(VERSION("{\"ApiVersion\":\"-1.41\"}"), -EPROTO, "(DOCKER_HOST)",
		"does not name an API version");
	refuses(VERSION("{\"ApiVersion\":\"1.1000\"}"), -EPROTO, "(DOCKER_HOST)",
		"does not name an API version");
	refuses(VERSION("[]"), -EPROTO, "(DOCKER_HOST)", "does not name an API version");
	refuses("HTTP/1.1 204 No Content\r\n\r\n", -EPROTO, "(DOCKER_HOST)",
		"does not name an API version");
}

static void test_no_engine(void **state)
{
	(void)state;
	refuses("SSH-2.0-OpenSSH_9.2\r\n", -EPROTO, "ask for its version", "not HTTP");
	refuses("\x15\x03\x01", -EPROTO, "ask for its version", "not HTTP");
	refuses(VERSION("<html>no</html>"), -EPROTO, "ask for its version",
		"its answer is not JSON");
	refuses(VERSION("{\"ApiVersion\":\"1.41\",\"ApiVersion\":\"1.42\"}"), -EPROTO,
		"ask for its version", "its answer is not JSON");
	refuses("", -EPIPE, "ask for its version", "it hung up");
	refuses("HTTP/1.1 200 OK\r\nContent-Len", -EPIPE, "ask for its version", "it hung up");
	refuses("HTTP/1.1 500 Internal Server Error\r\n\r\nboom\033[2J", -EIO,
		"ask for its version", "boom\\x1b[2J");
	refuses("HTTP/1.1 301 Moved\r\nContent-Length: 0\r\nLocation: /x\r\n\r\n", -EIO,
		"ask for its version", "status 301");
}

static void serve_huge(struct fake *f, int fd, unsigned n)
{
	static char part[65536];
	char head[4096];

	(void)n;
	fake_read_request(f, fd, head, sizeof(head));
	fake_say(fd, "HTTP/1.1 200 OK\r\n\r\n");
	memset(part, ' ', sizeof(part));
	for (size_t sent = 0; sent < 2 * (size_t)ENGINE_JSON_MAX; sent += sizeof(part))
		fake_send(fd, str_slice(part, sizeof(part)));
	fake_wait_end(fd);
}

static void serve_head_for_ever(struct fake *f, int fd, unsigned n)
{
	char head[4096];

	(void)n;
	fake_read_request(f, fd, head, sizeof(head));
	fake_say(fd, "HTTP/1.1 200 OK\r\n");
	for (;;)
		fake_say(fd, "X-Filler: 0123456789012345678901234567890123456789\r\n");
}

static void test_huge(void **state)
{
	struct err e = ERR_INIT;
	struct fake f = {0};
	int ret;

	(void)state;
	fake_start(&f, serve_huge);
	ret = engine_connect(&f.en, 20000, &e);
	CHECK_ERROR(&e, ret, -EFBIG, "ask for its version", "larger than 8388608 bytes");
	fake_stop(&f);
	f = (struct fake){0};
	fake_start(&f, serve_head_for_ever);
	ret = engine_connect(&f.en, 20000, &e);
	CHECK_ERROR(&e, ret, -EPROTO, "ask for its version", "not HTTP");
	fake_stop(&f);
}

/* The second question fails. */
static void test_info_fails(void **state)
{
	const char *answers[] = {VERSION("{\"ApiVersion\":\"1.41\"}"),
				 "HTTP/1.1 500 Oh\r\n\r\n{\"message\":\"half started\"}"};
	struct err e = ERR_INIT;
	struct fake f = {0};
	int ret;

	(void)state;
	fake_script(&f, answers, 2);
	ret = engine_connect(&f.en, ENGINE_PING_MS, &e);
	CHECK_ERROR(&e, ret, -EIO, "ask for its state", "half started");
	fake_stop(&f);
}

/* --- no answer --- */

static void test_no_socket(void **state)
{
	struct engine en = {.socket = "/tmp/no-such-folder/docker.sock", .from = "the default"};
	struct err e = ERR_INIT;
	int ret = engine_connect(&en, ENGINE_PING_MS, &e);

	(void)state;
	CHECK_ERROR(&e, ret, -ECONNREFUSED, "there is no socket at /tmp/no-such-folder/docker.sock",
		    "(the default)", "installed and running?");
	(void)snprintf(en.socket, sizeof(en.socket), "/etc/passwd/docker.sock");
	ret = engine_connect(&en, ENGINE_PING_MS, &e);
	CHECK_ERROR(&e, ret, -ECONNREFUSED, "there is no socket at /etc/passwd/docker.sock");
	(void)snprintf(en.socket, sizeof(en.socket), "/etc/passwd");
	ret = engine_connect(&en, ENGINE_PING_MS, &e);
	CHECK_ERROR(&e, ret, -ECONNREFUSED, "nobody listens at /etc/passwd");
}

static void test_stale_socket(void **state)
{
	struct err e = ERR_INIT;
	struct fake f = {0};
	int ret;

	(void)state;
	fake_one(&f, "");
	fake_kill(&f);
	ret = engine_connect(&f.en, ENGINE_PING_MS, &e);
	CHECK_ERROR(&e, ret, -ECONNREFUSED, "nobody listens at ", f.en.socket, "is it running?");
	fake_stop(&f);
}

/* In a process of its own, which is not root. */
static void test_permission(void **state)
{
	struct fake f = {0};
	int status;
	pid_t pid;

	(void)state;
	fake_one(&f, "");
	assert_int_equal(chmod(f.dir, 0755), 0);
	assert_int_equal(chmod(f.en.socket, 0), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct err e = ERR_INIT;

		if (geteuid() == 0 &&
		    (setgroups(0, NULL) < 0 || setgid(65534) < 0 || setuid(65534) < 0))
			_exit(2);
		if (engine_connect(&f.en, ENGINE_PING_MS, &e) != -EACCES ||
		    !strstr(e.text, "permission denied on ") || !strstr(e.text, f.en.socket) ||
		    !strstr(e.text, "\"docker\""))
			_exit(1);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	fake_stop(&f);
}

static void serve_nothing(struct fake *f, int fd, unsigned n)
{
	(void)f;
	(void)n;
	fake_wait_end(fd);
}

static void serve_half(struct fake *f, int fd, unsigned n)
{
	char head[4096];

	(void)n;
	fake_read_request(f, fd, head, sizeof(head));
	fake_say(fd, "HTTP/1.1 200 OK\r\n\r\n{\"ApiVersion\"");
	fake_wait_end(fd);
}

static void serve_refusal_half(struct fake *f, int fd, unsigned n)
{
	char head[4096];

	(void)n;
	fake_read_request(f, fd, head, sizeof(head));
	fake_say(fd, "HTTP/1.1 503 No\r\nContent-Length: 100\r\n\r\nwait a bit");
	fake_wait_end(fd);
}

static void serve_other(struct fake *f, int fd, unsigned n)
{
	(void)f;
	(void)n;
	fake_say(fd, "SSH-2.0-OpenSSH_9.2\r\n");
	fake_wait_end(fd);
}

static void times_out(fake_serve_fn fn, int code, const char *text)
{
	uint64_t before_ns = time_monotonic_ns();
	struct err e = ERR_INIT;
	struct fake f = {0};
	int ret;

	fake_start(&f, fn);
	ret = engine_connect(&f.en, 300, &e);
	CHECK_ERROR(&e, ret, code, text);
	assert_true(time_monotonic_ns() - before_ns >= 290 * TIME_NS_PER_MS);
	assert_true(time_monotonic_ns() - before_ns < 10000 * TIME_NS_PER_MS);
	fake_stop(&f);
}

static void test_no_answer(void **state)
{
	(void)state;
	times_out(serve_nothing, -ETIMEDOUT, "(DOCKER_HOST) within 300 ms");
	/* An answer that begins has no longer. */
	times_out(serve_half, -ETIMEDOUT, "(DOCKER_HOST) within 300 ms");
	times_out(serve_refusal_half, -EIO, "wait a bit");
}

/* Another protocol's greeting is enough, though its speaker waits. */
static void test_other_protocol(void **state)
{
	struct err e = ERR_INIT;
	struct fake f = {0};
	int ret;

	(void)state;
	fake_start(&f, serve_other);
	ret = engine_connect(&f.en, 20000, &e);
	CHECK_ERROR(&e, ret, -EPROTO, "its answer is not HTTP as it should be (bad-status-line)");
	fake_stop(&f);
}

/* It listens, and accepts nobody. */
static void test_full_queue(void **state)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	struct engine en = {.from = "DOCKER_HOST"};
	char dir[] = "/tmp/fake-engine-XXXXXX";
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), first, ret;
	struct err e = ERR_INIT;

	(void)state;
	assert_non_null(mkdtemp(dir));
	(void)snprintf(en.socket, sizeof(en.socket), "%s/sock", dir);
	memcpy(sa.sun_path, en.socket, sizeof(en.socket));
	assert_int_equal(bind(fd, (const struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(listen(fd, 0), 0);
	first = engine_dial(&en, engine_deadline(1000), &e);
	assert_true(first >= 0);
	ret = engine_connect(&en, 200, &e);
	CHECK_ERROR(&e, ret, -ETIMEDOUT, "does not accept connections at ", en.socket);
	close(first);
	close(fd);
	(void)unlink(en.socket);
	(void)rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_agrees),	       cmocka_unit_test(test_desktop),
		cmocka_unit_test(test_version_shown),  cmocka_unit_test(test_versions_refused),
		cmocka_unit_test(test_no_engine),      cmocka_unit_test(test_huge),
		cmocka_unit_test(test_info_fails),     cmocka_unit_test(test_no_socket),
		cmocka_unit_test(test_stale_socket),   cmocka_unit_test(test_permission),
		cmocka_unit_test(test_no_answer),      cmocka_unit_test(test_full_queue),
		cmocka_unit_test(test_other_protocol),
	};

	return cmocka_run_group_tests_name("engine-connect", tests, NULL, NULL);
}
