/* The relay without a terminal: bytes both ways, the exit, and every way in which it may be lost.
 */
#include "relay_world.h"

#include "base/mem.h"

#include <dirent.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define LARGE_BYTES (10u << 20)

/* Says each input again, "eof" on its standard error at the end, and exits with 7. */
static void process_echo(struct fake *f, int fd)
{
	char part[30000];
	ssize_t got;

	while ((got = read(fd, part, sizeof(part))) > 0)
		world_frame(fd, ENGINE_STDOUT, str_slice(part, (size_t)got));
	world_frame(fd, ENGINE_STDERR, STR_LIT("eof"));
	world_exit(f, 7);
}

static void test_echo(void **state)
{
	struct world w = {.process = process_echo};
	char text[64];

	(void)state;
	world_start(&w);
	assert_int_equal(write(w.in, "hello\n", 6), 6);
	world_expect(w.out, "hello\n");
	close_fd(&w.in);
	assert_int_equal(world_read(w.out, text, sizeof(text)), 0);
	(void)world_read(w.err, text, sizeof(text));
	assert_string_equal(text, "eof");
	assert_int_equal(world_finish(&w), 7);
	assert_string_equal(w.line, "");
	assert_true(fake_saw(&w.f, "POST /v1.41/containers/c0ffee/attach?stream=1&stdin=1&stdout=1"
				   "&stderr=1&detachKeys=%FF,"));
	assert_true(fake_saw(&w.f, "POST /v1.41/containers/c0ffee/wait?condition=next-exit "));
	world_stop(&w);
}

/* It is taken apart in any cuts. */
static void test_echo_bytewise(void **state)
{
	struct world w = {.process = process_echo};
	char text[64];

	(void)state;
	fake_receive_max = 1;
	world_start(&w);
	assert_int_equal(write(w.in, "hello\n", 6), 6);
	world_expect(w.out, "hello\n");
	close_fd(&w.in);
	(void)world_read(w.err, text, sizeof(text));
	assert_string_equal(text, "eof");
	assert_int_equal(world_finish(&w), 7);
	fake_receive_max = 0;
	world_stop(&w);
}

static unsigned char nth(size_t i)
{
	return (unsigned char)(i * 31 + (i >> 13));
}

/* One step of writing and reading; false at the end of what comes. */
static bool exchange(struct world *w, size_t *n_put, size_t *n_got)
{
	static unsigned char part[65536];
	struct pollfd p[2] = {{.fd = w->out, .events = POLLIN}, {.fd = w->in, .events = POLLOUT}};

	assert_true(poll(p, 2, 20000) > 0);
	if (p[1].revents) {
		size_t n =
			LARGE_BYTES - *n_put < sizeof(part) ? LARGE_BYTES - *n_put : sizeof(part);
		ssize_t put;

		for (size_t i = 0; i < n; i++)
			part[i] = nth(*n_put + i);
		put = write(w->in, part, n);
		assert_true(put > 0);
		*n_put += (size_t)put;
		if (*n_put == LARGE_BYTES)
			close_fd(&w->in);
	}
	if (p[0].revents) {
		ssize_t got = read(w->out, part, sizeof(part));

		assert_true(got >= 0);
		for (ssize_t i = 0; i < got; i++) {
			if (part[i] != nth(*n_got + (size_t)i))
				fail_msg("byte %zu", *n_got + (size_t)i);
		}
		*n_got += (size_t)got;
		return got > 0;
	}
	return true;
}

static void test_large(void **state)
{
	struct world w = {.process = process_echo};
	size_t n_put = 0, n_got = 0;

	(void)state;
	world_start(&w);
	assert_int_equal(io_set_nonblock(w.in, true), 0);
	while (exchange(&w, &n_put, &n_got))
		;
	assert_int_equal(n_got, LARGE_BYTES);
	assert_int_equal(world_finish(&w), 7);
	world_stop(&w);
}

/* --- sides that do not read --- */

/* Talks without listening; n_body is what was taken of it. */
static void process_talk(struct fake *f, int fd)
{
	char part[8192];

	memset(part, 'x', sizeof(part));
	for (unsigned i = 0; i < LARGE_BYTES / sizeof(part); i++) {
		world_frame(fd, ENGINE_STDOUT, str_slice(part, sizeof(part)));
		atomic_fetch_add(&f->shared->n_body, sizeof(part));
	}
	world_exit(f, 0);
}

static size_t drain(int fd)
{
	static char part[65536];
	size_t n = 0;
	ssize_t got;

	while (io_wait(fd, POLLIN, 20000) > 0 && (got = read(fd, part, sizeof(part))) > 0)
		n += (size_t)got;
	return n;
}

static void test_reader_waits(void **state)
{
	struct world w = {.process = process_talk};
	unsigned long long before = 1, n = 0;

	(void)state;
	world_start(&w);
	while (n != before) {
		before = n;
		(void)poll(NULL, 0, 150);
		n = atomic_load(&w.f.shared->n_body);
	}
	/* A pipe, a buffer and a socket. */
	assert_true(n > 0 && n < (1u << 20));
	assert_int_equal(waitpid(w.pid, NULL, WNOHANG), 0);
	assert_int_equal(drain(w.out), LARGE_BYTES);
	assert_int_equal(world_finish(&w), 0);
	world_stop(&w);
}

static void process_deaf(struct fake *f, int fd)
{
	world_frame(fd, ENGINE_STDOUT, STR_LIT("begin"));
	world_wait_flag(f, WORLD_GO);
	world_frame(fd, ENGINE_STDOUT, STR_LIT("end"));
	world_exit(f, 3);
}

/* A process that takes no input holds up its output as little. */
static void test_process_deaf(void **state)
{
	struct world w = {.process = process_deaf};
	char part[65536] = {0};
	int idle = 0;

	(void)state;
	world_start(&w);
	assert_int_equal(io_set_nonblock(w.in, true), 0);
	while (idle < 10) {
		idle = write(w.in, part, sizeof(part)) > 0 ? 0 : idle + 1;
		(void)poll(NULL, 0, 10);
	}
	world_expect(w.out, "begin");
	atomic_fetch_or(&w.f.shared->flags, WORLD_GO);
	world_expect(w.out, "end");
	assert_int_equal(world_finish(&w), 3);
	world_stop(&w);
}

static void process_short(struct fake *f, int fd)
{
	static char part[100000];

	memset(part, 'y', sizeof(part));
	world_frame(fd, ENGINE_STDOUT, str_slice(part, sizeof(part)));
	world_frame(fd, ENGINE_STDERR, STR_LIT("last"));
	world_exit(f, 5);
}

/* Its exit is known long before its output was read. */
static void test_reader_late(void **state)
{
	struct world w = {.process = process_short};
	char text[16];

	(void)state;
	world_start(&w);
	(void)poll(NULL, 0, 2400);
	assert_int_equal(waitpid(w.pid, NULL, WNOHANG), 0);
	assert_int_equal(drain(w.out), 100000);
	(void)world_read(w.err, text, sizeof(text));
	assert_string_equal(text, "last");
	assert_int_equal(world_finish(&w), 5);
	world_stop(&w);
}

static void test_reader_gone(void **state)
{
	struct world w = {.process = process_short};
	char text[16];

	(void)state;
	world_play(&w);
	{
		struct err e = ERR_INIT;

		assert_int_equal(world_attach(&w, &e), 0);
	}
	close_fd(&w.out);
	(void)world_read(w.err, text, sizeof(text));
	assert_string_equal(text, "last");
	assert_int_equal(world_finish(&w), 5);
	assert_string_equal(w.line, "");
	world_stop(&w);
}

/* --- the exit --- */

static void process_lingers(struct fake *f, int fd)
{
	world_exit(f, 125);
	fake_wait_end(fd);
	(void)poll(NULL, 0, 60000); /* holds the stream */
}

/* A stream that does not end, and a status that is not to be confused with a loss. */
static void test_stream_lingers(void **state)
{
	struct world w = {.process = process_lingers};

	(void)state;
	world_start(&w);
	fake_hurry(true);
	assert_int_equal(world_finish(&w), ENGINE_RELAY_LOST);
	assert_string_equal(w.line, "");
	world_stop(&w);
}

static void process_ends_early(struct fake *f, int fd)
{
	world_frame(fd, ENGINE_STDOUT, STR_LIT("bye"));
	(void)shutdown(fd, SHUT_RDWR);
	(void)close(fd);
	(void)poll(NULL, 0, 300);
	world_exit(f, 9);
}

static void test_stream_ends_first(void **state)
{
	struct world w = {.process = process_ends_early};

	(void)state;
	world_start(&w);
	assert_int_equal(world_finish(&w), 9);
	world_stop(&w);
	/* An exec is asked until it has ended. */
	w = (struct world){.process = process_ends_early, .has_exec = true};
	world_start(&w);
	world_expect(w.out, "bye");
	assert_int_equal(world_finish(&w), 9);
	assert_true(fake_saw(&w.f, "GET /v1.41/exec/e4ec/json "));
	assert_true(fake_saw(&w.f, "{\"Detach\":false,\"Tty\":false}"));
	world_stop(&w);
}

static void test_exec(void **state)
{
	struct world w = {.process = process_echo, .has_exec = true};
	size_t n_put = 0, n_got = 0;

	(void)state;
	world_start(&w);
	assert_int_equal(io_set_nonblock(w.in, true), 0);
	while (exchange(&w, &n_put, &n_got))
		;
	assert_int_equal(n_got, LARGE_BYTES);
	assert_int_equal(world_finish(&w), 7);
	assert_false(fake_saw(&w.f, "/wait?"));
	world_stop(&w);
}

/* --- losses --- */

static void process_idle(struct fake *f, int fd)
{
	(void)f;
	world_frame(fd, ENGINE_STDOUT, STR_LIT("up"));
	fake_wait_end(fd);
	(void)poll(NULL, 0, 60000);
}

static void check_lost(struct world *w, const char *text)
{
	assert_int_equal(world_finish(w), ENGINE_RELAY_LOST);
	if (!strstr(w->line, text) || !strchr(w->line, '\n') || strchr(w->line, '\n')[1] != '\0')
		fail_msg("\"%s\" is no line with \"%s\"", w->line, text);
	world_stop(w);
}

static void test_engine_dies(void **state)
{
	struct world w = {.process = process_idle};

	(void)state;
	world_start(&w);
	world_expect(w.out, "up");
	fake_kill(&w.f);
	check_lost(&w, "the Docker engine: wait for the container: it hung up: was it stopped?");
	w = (struct world){.process = process_idle, .has_exec = true};
	world_start(&w);
	world_expect(w.out, "up");
	fake_kill(&w.f);
	/* Nobody listens, or nobody answers any more. */
	check_lost(&w, "the Docker engine: ");
}

static void lost_by(const char *wait_answer, const char *text)
{
	struct world w = {.process = process_idle, .wait_answer = wait_answer};

	world_start(&w);
	fake_hurry(true);
	check_lost(&w, text);
}

static void test_wait_answers(void **state)
{
	struct world w = {.process = process_idle,
			  .wait_answer = FAKE_OK_JSON("16") "{\"StatusCode\":4}"};

	(void)state;
	/* All of it came with its head. */
	world_start(&w);
	fake_hurry(true);
	assert_int_equal(world_finish(&w), 4);
	assert_string_equal(w.line, "");
	world_stop(&w);
	lost_by(FAKE_OK_JSON(
			"55") "{\"StatusCode\":0,\"Error\":{\"Message\":\"went\\n\\u001baway\"}}",
		"wait for the container: went\\n\\x1baway");
	lost_by(FAKE_OK_JSON("2") "{}", "its answer names no status");
	lost_by("HTTP/1.1 204 No Content\r\n\r\n", "its answer names no status");
	lost_by(FAKE_OK_JSON("18") "{\"StatusCode\":\"0\"}", "its answer names no status");
	lost_by(FAKE_OK_JSON("3") "{]}", "its answer is not JSON");
	lost_by(FAKE_CHUNKED "x", "wait for the container: ");
}

static void process_large_wait(struct fake *f, int fd)
{
	(void)f;
	fake_wait_end(fd);
}

static void test_wait_too_large(void **state)
{
	char *answer = mem_zalloc(200000);
	struct world w = {.process = process_large_wait, .wait_answer = answer};

	(void)state;
	(void)snprintf(answer, 200, "HTTP/1.1 200 OK\r\nContent-Length: 150000\r\n\r\n");
	memset(answer + strlen(answer), ' ', 150000);
	world_start(&w);
	fake_hurry(true);
	check_lost(&w, "wait for the container: ");
	free(answer);
}

static void test_exec_answers(void **state)
{
	static const struct {
		const char *answer, *text;
	} cases[] = {
		{"HTTP/1.1 404 No\r\n\r\n{\"message\":\"No such exec\"}", "No such exec"},
		{FAKE_OK_JSON("2") "{}", "names no status"},
		{FAKE_OK_JSON("33") "{\"Running\":false,\"ExitCode\":null}", "names no status"},
		{FAKE_OK_JSON("1") "{", "not JSON"},
		{"nonsense", "not HTTP"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct world w = {.process = process_ends_early,
				  .has_exec = true,
				  .exec_answer = cases[i].answer};

		world_start(&w);
		check_lost(&w, cases[i].text);
	}
}

static void process_bogus(struct fake *f, int fd)
{
	(void)f;
	world_frame(fd, ENGINE_STDOUT, STR_LIT("good"));
	world_frame(fd, 9, STR_LIT("bad"));
	fake_wait_end(fd);
	(void)poll(NULL, 0, 60000);
}

static void test_bogus_frame(void **state)
{
	struct world w = {.process = process_bogus};

	(void)state;
	world_start(&w);
	world_expect(w.out, "good");
	check_lost(&w, "the container's stream is not what it should be");
}

/* --- the start --- */

static void refused_with(const char *const *answers, int code, const char *text)
{
	struct engine_relay r = {
		.container = "x", .in_fd = -1, .out_fd = -1, .err_fd = -1, .fail_fd = -1};
	struct err e = ERR_INIT;
	struct fake f = {0};
	int master = 99, ret;
	pid_t pid = 99;

	fake_script(&f, answers, 2);
	r.engine = &f.en;
	ret = engine_relay_start(&r, &pid, &master, &e);
	CHECK_ERROR(&e, ret, code, text);
	assert_int_equal(pid, -1);
	assert_int_equal(master, -1);
	fake_stop(&f);
}

static void test_start_refused(void **state)
{
	const char *no_attach[] = {"HTTP/1.1 404 No\r\n\r\nno such container", ""};
	const char *no_wait[] = {FAKE_STREAM, "HTTP/1.1 400 No\r\n\r\nbad condition"};
	const char *wait_dies[] = {FAKE_STREAM, ""};
	struct engine_relay r = {.in_fd = -1, .out_fd = -1, .err_fd = -1, .fail_fd = -1};
	struct engine en = {.socket = "/nonexistent"};
	struct err e = ERR_INIT;
	char id[300];
	int master;
	pid_t pid;

	(void)state;
	refused_with(no_attach, -ENOENT, "attach: no such container");
	refused_with(no_wait, -EINVAL, "wait for the container: bad condition");
	refused_with(wait_dies, -EPIPE, "wait for the container: it hung up");
	memset(id, 'a', sizeof(id));
	id[sizeof(id) - 1] = '\0';
	r.engine = &en;
	r.container = id;
	CHECK_ERROR(&e, engine_relay_start(&r, &pid, &master, &e), -EINVAL, "id is too long");
	r.exec = id;
	CHECK_ERROR(&e, engine_relay_start(&r, &pid, &master, &e), -EINVAL, "id is too long");
	r.exec = "a b";
	CHECK_ERROR(&e, engine_relay_start(&r, &pid, &master, &e), -EINVAL, "not a request");
}

/* What else the caller has open is not the relay's. */
static void test_descriptors(void **state)
{
	struct world w = {.process = process_idle};
	char path[64], link[128], name[16] = "";
	unsigned n = 0;
	struct dirent *d;
	ssize_t got;
	DIR *dir;
	int fd;

	(void)state;
	world_start(&w);
	world_expect(w.out, "up");
	(void)snprintf(path, sizeof(path), "/proc/%d/fd", w.pid);
	dir = opendir(path);
	assert_non_null(dir);
	while ((d = readdir(dir))) {
		if (d->d_name[0] == '.')
			continue;
		got = readlinkat(dirfd(dir), d->d_name, link, sizeof(link) - 1);
		assert_true(got > 0);
		link[got] = '\0';
		if (strcmp(link, "/dev/null") != 0)
			n++;
	}
	(void)closedir(dir);
	/* Two connections and four pipes. */
	assert_int_equal(n, 6);
	(void)snprintf(path, sizeof(path), "/proc/%d/comm", w.pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(read(fd, name, sizeof(name) - 1) > 0);
	close(fd);
	assert_string_equal(name, "cb-relay\n");
	assert_int_equal(getsid(w.pid), w.pid);
	world_stop(&w);
}

/* Its parent is killed: so is it. */
static void test_parent_dies(void **state)
{
	struct world w = {.process = process_idle};
	pid_t parent, relay;
	int status;

	(void)state;
	world_play(&w);
	assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
	parent = fork();
	assert_true(parent >= 0);
	if (parent == 0) {
		if (world_attach(&w, NULL) < 0)
			_exit(1);
		world_expect(w.out, "up");
		atomic_store(&w.f.shared->n_body, (unsigned long long)w.pid);
		(void)pause();
	}
	while ((relay = (pid_t)atomic_load(&w.f.shared->n_body)) == 0)
		(void)poll(NULL, 0, 2);
	assert_int_equal(kill(parent, SIGKILL), 0);
	assert_int_equal(waitpid(parent, NULL, 0), parent);
	assert_int_equal(waitpid(relay, &status, 0), relay);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 0), 0);
	world_stop(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_echo),
		cmocka_unit_test(test_echo_bytewise),
		cmocka_unit_test(test_large),
		cmocka_unit_test(test_reader_waits),
		cmocka_unit_test(test_process_deaf),
		cmocka_unit_test(test_reader_late),
		cmocka_unit_test(test_reader_gone),
		cmocka_unit_test(test_stream_lingers),
		cmocka_unit_test(test_stream_ends_first),
		cmocka_unit_test(test_exec),
		cmocka_unit_test(test_engine_dies),
		cmocka_unit_test(test_wait_answers),
		cmocka_unit_test(test_wait_too_large),
		cmocka_unit_test(test_exec_answers),
		cmocka_unit_test(test_bogus_frame),
		cmocka_unit_test(test_start_refused),
		cmocka_unit_test(test_descriptors),
		cmocka_unit_test(test_parent_dies),
	};

	(void)signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests_name("engine-relay", tests, NULL, NULL);
}
