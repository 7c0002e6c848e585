/* The relay with a terminal: raw bytes, sizes, and a holder that lets go. */
#include "relay_world.h"

#include <signal.h>
#include <sys/ioctl.h>

/* Says each input again, until "q". */
static void process_echo(struct fake *f, int fd)
{
	char c = 0;

	fake_say(fd, "$ ");
	while (c != 'q' && read(fd, &c, 1) == 1)
		fake_send(fd, str_slice(&c, 1));
	world_exit(f, 6);
}

static void check_bytes(struct world *w)
{
	/* What a terminal would act on passes as it is, both ways, and nothing is said twice. */
	static const char bytes[] = "\x03\x04\x10\x11\x13\x1a\x1c\x7f\r\n\xff";

	world_expect(w->master, "$ ");
	assert_int_equal(write(w->master, bytes, sizeof(bytes) - 1), sizeof(bytes) - 1);
	world_expect(w->master, bytes);
}

static void set_size(struct world *w, unsigned short rows, unsigned short columns)
{
	struct winsize size = {.ws_row = rows, .ws_col = columns};

	assert_int_equal(ioctl(w->master, TIOCSWINSZ, &size), 0);
}

static void test_container(void **state)
{
	struct world w = {.process = process_echo, .has_tty = true};

	(void)state;
	world_start(&w);
	check_bytes(&w);
	world_expect_seen(&w, "POST /v1.41/containers/c0ffee/resize?h=24&w=80 HTTP/1.1\r\n");
	set_size(&w, 50, 132);
	world_expect_seen(&w, "POST /v1.41/containers/c0ffee/resize?h=50&w=132 HTTP/1.1\r\n");
	/* A terminal without a size has none to tell. */
	set_size(&w, 0, 0);
	set_size(&w, 1, 65535);
	world_expect_seen(&w, "/resize?h=1&w=65535 HTTP/1.1\r\n");
	assert_false(fake_saw(&w.f, "h=0"));
	assert_int_equal(write(w.master, "q", 1), 1);
	world_expect(w.master, "q");
	assert_int_equal(world_finish(&w), 6);
	assert_string_equal(w.line, "");
	world_stop(&w);
}

static void test_exec(void **state)
{
	struct world w = {.process = process_echo, .has_tty = true, .has_exec = true};

	(void)state;
	world_start(&w);
	check_bytes(&w);
	assert_true(fake_saw(&w.f, "{\"Detach\":false,\"Tty\":true}"));
	world_expect_seen(&w, "POST /v1.41/exec/e4ec/resize?h=24&w=80 HTTP/1.1\r\n");
	assert_int_equal(write(w.master, "q", 1), 1);
	assert_int_equal(world_finish(&w), 6);
	world_stop(&w);
}

/* Silent until it is told to begin. */
static void process_held(struct fake *f, int fd)
{
	world_wait_flag(f, WORLD_GO);
	process_echo(f, fd);
}

/* Before the process runs the engine refuses; it is asked again, and in the end once more. */
static void test_resize_refused(void **state)
{
	struct world w = {.process = process_held, .has_tty = true, .n_resize_refused = 4};
	unsigned n = 0;

	(void)state;
	world_start(&w);
	while (atomic_load(&w.f.shared->sum_body) < 5)
		(void)poll(NULL, 0, 2);
	set_size(&w, 30, 90);
	world_expect_seen(&w, "/resize?h=30&w=90 HTTP/1.1\r\n");
	(void)poll(NULL, 0, 200);
	n = atomic_load(&w.f.shared->sum_body);
	atomic_fetch_or(&w.f.shared->flags, WORLD_GO);
	check_bytes(&w);
	(void)poll(NULL, 0, 100);
	assert_int_equal(atomic_load(&w.f.shared->sum_body), n); /* it was told */
	assert_int_equal(write(w.master, "q", 1), 1);
	assert_int_equal(world_finish(&w), 6);
	world_stop(&w);
}

/* Says of each input whether the second size was there when it came. */
static void process_measures(struct fake *f, int fd)
{
	char c = 0;

	fake_say(fd, "$ ");
	while (c != 'q' && read(fd, &c, 1) == 1)
		fake_say(fd, atomic_load(&f->shared->n_body) >= 2 ? "new " : "old ");
	world_exit(f, 6);
}

static void type_after_resize(int resize_ms, const char *expected)
{
	struct world w = {.process = process_measures, .has_tty = true, .resize_ms = resize_ms};

	world_start(&w);
	world_expect(w.master, "$ ");
	while (atomic_load(&w.f.shared->n_body) < 1)
		(void)poll(NULL, 0, 2);
	(void)poll(NULL, 0, 20);
	set_size(&w, 50, 132);
	assert_int_equal(write(w.master, "a", 1), 1);
	world_expect(w.master, expected);
	assert_int_equal(write(w.master, "q", 1), 1);
	assert_int_equal(world_finish(&w), 6);
	world_stop(&w);
}

/* Input that comes after a change of the size is not before it; but it does not wait for ever. */
static void test_resize_then_input(void **state)
{
	(void)state;
	type_after_resize(100, "new ");
	type_after_resize(1500, "old ");
}

static void process_chatty(struct fake *f, int fd)
{
	for (unsigned i = 0; i < 400; i++) {
		fake_say(fd, "x");
		(void)poll(NULL, 0, 1);
	}
	world_exit(f, 0);
}

/* An engine that always refuses is not asked with every byte. */
static void test_resize_never(void **state)
{
	struct world w = {.process = process_chatty, .has_tty = true, .n_resize_refused = ~0u};

	(void)state;
	world_start(&w);
	for (unsigned i = 0; i < 400; i++)
		world_expect(w.master, "x");
	assert_true(atomic_load(&w.f.shared->sum_body) < 16);
	assert_int_equal(world_finish(&w), 0);
	world_stop(&w);
}

static void process_outlives(struct fake *f, int fd)
{
	world_wait_flag(f, WORLD_GO);
	for (unsigned i = 0; i < 100; i++)
		fake_say(fd, "nobody reads this\r\n");
	world_exit(f, 8);
}

static void test_holder_gone(void **state)
{
	struct world w = {.process = process_outlives, .has_tty = true};

	(void)state;
	world_start(&w);
	close_fd(&w.master);
	atomic_fetch_or(&w.f.shared->flags, WORLD_GO);
	assert_int_equal(world_finish(&w), 8);
	assert_string_equal(w.line, "");
	world_stop(&w);
}

static void process_floods(struct fake *f, int fd)
{
	static char part[8192];

	memset(part, 'z', sizeof(part));
	for (unsigned i = 0; i < 128; i++) {
		fake_send(fd, str_slice(part, sizeof(part)));
		atomic_fetch_add(&f->shared->n_body, sizeof(part));
	}
	world_exit(f, 2);
}

/* A holder that does not read holds up the process, and loses nothing. */
static void test_holder_waits(void **state)
{
	struct world w = {.process = process_floods, .has_tty = true};
	unsigned long long before = 1, n = 0;
	static char part[8192];
	size_t total = 0;

	(void)state;
	world_start(&w);
	while (n != before) {
		before = n;
		(void)poll(NULL, 0, 150);
		n = atomic_load(&w.f.shared->n_body);
	}
	assert_true(n > 0 && n < (1u << 20));
	while (total < 128 * sizeof(part)) {
		ssize_t got;

		assert_true(io_wait(w.master, POLLIN, 20000) > 0);
		got = read(w.master, part, sizeof(part));
		assert_true(got > 0);
		total += (size_t)got;
	}
	assert_int_equal(world_finish(&w), 2);
	world_stop(&w);
}

static void process_idle(struct fake *f, int fd)
{
	(void)f;
	fake_say(fd, "up");
	fake_wait_end(fd);
	(void)poll(NULL, 0, 60000);
}

static void test_engine_dies(void **state)
{
	struct world w = {.process = process_idle, .has_tty = true};

	(void)state;
	world_start(&w);
	world_expect(w.master, "up");
	fake_kill(&w.f);
	assert_int_equal(world_finish(&w), ENGINE_RELAY_LOST);
	assert_non_null(strstr(w.line, "it hung up: was it stopped?\n"));
	world_stop(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_container),      cmocka_unit_test(test_exec),
		cmocka_unit_test(test_resize_refused), cmocka_unit_test(test_resize_then_input),
		cmocka_unit_test(test_resize_never),   cmocka_unit_test(test_holder_gone),
		cmocka_unit_test(test_holder_waits),   cmocka_unit_test(test_engine_dies),
	};

	(void)signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests_name("engine-tty", tests, NULL, NULL);
}
