/* A session's relay against a port that a hostile machine speaks on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "qemu_fixture.h"

#include "base/clean.h"
#include "base/io.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define FLOOD_MAX (4u << 20)

struct fixture {
	struct port port;
	struct qemu_ports *ports;
	struct backend_stdio io;
	int in, out, err; /* our ends of the three pipes */
	int wire;	  /* its end is the wire's */
	pid_t pid;
};

static void make_pipe(int *ours, int *theirs, bool is_input)
{
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	*ours = fds[is_input ? 1 : 0];
	*theirs = fds[is_input ? 0 : 1];
}

static void begin(struct fixture *f, bool has_tty, const char *order)
{
	struct err e = ERR_INIT;
	int wire_fd;

	*f = (struct fixture){.in = -1, .out = -1, .err = -1};
	f->io = (struct backend_stdio){.has_tty = has_tty,
				       .rows = 24,
				       .columns = 80,
				       .in_fd = -1,
				       .out_fd = -1,
				       .err_fd = -1,
				       .master_fd = -1};
	port_open(&f->port);
	f->ports = qemu_ports_make(&e);
	assert_non_null(f->ports);
	if (!has_tty) {
		make_pipe(&f->in, &f->io.in_fd, true);
		make_pipe(&f->out, &f->io.out_fd, false);
		make_pipe(&f->err, &f->io.err_fd, false);
	}
	make_pipe(&wire_fd, &f->wire, false);
	assert_int_equal(qemu_session_start(f->ports, 3, f->port.theirs, wire_fd, order, &f->io,
					    &f->pid, &e),
			 0);
	close_fd(&wire_fd);
	assert_int_equal(f->ports->state[3], QEMU_PORT_BUSY);
	close_fd(&f->port.theirs);
	close_fd(&f->io.in_fd);
	close_fd(&f->io.out_fd);
	close_fd(&f->io.err_fd);
}

/* The status that it ends with; is_clean: the port may be used again. */
static int end(struct fixture *f, bool *is_clean)
{
	int status = wait_status(f->pid);

	*is_clean = f->ports->state[3] == QEMU_PORT_FREE;
	close_fd(&f->in);
	close_fd(&f->out);
	close_fd(&f->err);
	close_fd(&f->io.master_fd);
	close_fd(&f->wire);
	port_close(&f->port);
	qemu_ports_free(f->ports);
	return status;
}

static void expect_text(int fd, const char *text)
{
	char got[64] = "";
	size_t n = 0;

	while (n < strlen(text)) {
		ssize_t more;

		assert_int_equal(io_wait(fd, POLLIN, 3000), 1);
		more = read(fd, got + n, sizeof(got) - 1 - n);
		assert_true(more > 0);
		n += (size_t)more;
	}
	assert_string_equal(got, text);
}

static const struct str exit_7 = {"\0\0\0\7", 4};

static void test_moves_bytes_and_tells_the_status(void **state)
{
	_cleanup_free_ char *order = NULL, *input = NULL, *last = NULL;
	struct fixture f;
	bool is_clean;
	size_t n;

	(void)state;
	begin(&f, false, "{\"argv\":[]}");
	order = port_hear(&f.port, 'S', &n);
	assert_string_equal(order, "{\"argv\":[]}");
	assert_int_equal(io_write_all(f.in, "question", 8), 0);
	input = port_hear(&f.port, 'i', &n);
	assert_string_equal(input, "question");
	close_fd(&f.in);
	last = port_hear(&f.port, 'i', &n);
	assert_int_equal(n, 0);
	port_say(&f.port, 'o', STR_LIT("answer"));
	port_say(&f.port, 'e', STR_LIT("complaint"));
	port_say(&f.port, 'x', exit_7);
	expect_text(f.out, "answer");
	expect_text(f.err, "complaint");
	assert_int_equal(end(&f, &is_clean), 7);
	assert_true(is_clean);
}

/* What the wire says meanwhile is not for this one. */
static void test_ends_with_the_wire(void **state)
{
	static const struct {
		struct str last;
		int status;
	} cases[] = {{STR_NULL, QEMU_SESSION_LOST}, {{"x\0\0\4\0\0\0\7", 8}, 7}};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct fixture f;
		bool is_clean;

		begin(&f, false, NULL);
		assert_int_equal(io_write_all(f.wire, "it broke\n", 9), 0);
		port_say(&f.port, 'o', STR_LIT("answer"));
		expect_text(f.out, "answer");
		port_send(&f.port, cases[i].last.p, cases[i].last.n);
		close_fd(&f.wire);
		assert_int_equal(end(&f, &is_clean), cases[i].status);
		assert_int_equal(is_clean, cases[i].status == 7);
	}
}

static void test_tells_the_terminals_size(void **state)
{
	struct winsize size = {.ws_row = 50, .ws_col = 300};
	_cleanup_free_ char *first = NULL, *second = NULL, *typed = NULL;
	struct fixture f;
	bool is_clean;
	size_t n;

	(void)state;
	begin(&f, true, NULL);
	first = port_hear(&f.port, 'w', &n);
	assert_int_equal(n, 4);
	assert_memory_equal(first, "\0\30\0\120", 4);
	assert_int_equal(ioctl(f.io.master_fd, TIOCSWINSZ, &size), 0);
	second = port_hear(&f.port, 'w', &n);
	assert_memory_equal(second, "\0\62\1\54", 4);
	/* As it is typed: the machine has the terminal that knows what ^C is. */
	assert_int_equal(io_write_all(f.io.master_fd, "\3x\n", 3), 0);
	typed = port_hear(&f.port, 'i', &n);
	assert_string_equal(typed, "\3x\n");
	port_say(&f.port, 'o', STR_LIT("a\nb"));
	expect_text(f.io.master_fd, "a\nb");
	port_say(&f.port, 'x', exit_7);
	assert_int_equal(end(&f, &is_clean), 7);
	assert_true(is_clean);
}

/* Whatever makes no sense ends the session, and the port is nobody's any more. */
static void test_ends_at_nonsense(void **state)
{
	static const struct {
		const char *name;
		bool has_tty;
		struct str bytes;
	} cases[] = {
		{"unknown letter", false, {"z\0\0\0", 4}},
		{"empty output", false, {"o\0\0\0", 4}},
		{"errors of a terminal", true, {"e\0\0\1!", 5}},
		{"a status of three bytes", false, {"x\0\0\3\0\0\0", 7}},
		{"a status past 255", false, {"x\0\0\4\0\0\1\0", 8}},
		{"something after the status", false, {"x\0\0\4\0\0\0\0o\0\0\1!", 13}},
		{"longer than the port allows", false, {"o\0\200\1", 4}},
		{"the machine's end", false, {"o\0\1", 3}},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct fixture f;
		bool is_clean;
		int status;

		begin(&f, cases[i].has_tty, NULL);
		port_send(&f.port, cases[i].bytes.p, cases[i].bytes.n);
		if (cases[i].bytes.n == 3)
			close_fd(&f.port.ours);
		status = end(&f, &is_clean);
		if (status != QEMU_SESSION_LOST || is_clean)
			fail_msg("%s: status %d", cases[i].name, status);
	}
}

/* A flood is held up where it is made, as long as nobody reads, and nothing of it is lost. */
static void test_holds_up_a_flood(void **state)
{
	static char chunk[MACHINE_SESSION_MAX];
	unsigned char head[MACHINE_HEAD];
	size_t sent = 0, got = 0, frames = 0, at = 0;
	struct fixture f;
	bool is_clean;

	(void)state;
	begin(&f, false, NULL);
	frames_head(head, 'o', sizeof(chunk));
	while (sent < FLOOD_MAX && io_wait(f.port.ours, POLLOUT, 200) == 1) {
		const char *p = at < sizeof(head) ? (const char *)head + at : chunk;
		size_t n =
			at < sizeof(head) ? sizeof(head) - at : sizeof(chunk) + sizeof(head) - at;
		ssize_t put = send(f.port.ours, p, n, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (put < 0)
			continue;
		sent += (size_t)put;
		at += (size_t)put;
		if (at == sizeof(head) + sizeof(chunk)) {
			at = 0;
			frames++;
		}
	}
	assert_true(sent < FLOOD_MAX);
	while (got < frames * sizeof(chunk)) {
		ssize_t more;

		assert_int_equal(io_wait(f.out, POLLIN, 3000), 1);
		more = read(f.out, chunk, sizeof(chunk));
		assert_true(more > 0);
		got += (size_t)more;
	}
	close_fd(&f.port.ours);
	assert_int_equal(end(&f, &is_clean), QEMU_SESSION_LOST);
	assert_false(is_clean);
}

/* A reader that has gone is no reason for the process's end. */
static void test_outlives_its_reader(void **state)
{
	struct fixture f;
	bool is_clean;

	(void)state;
	begin(&f, false, NULL);
	close_fd(&f.out);
	port_say(&f.port, 'o', STR_LIT("nobody"));
	port_say(&f.port, 'x', exit_7);
	assert_int_equal(end(&f, &is_clean), 7);
	assert_true(is_clean);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_moves_bytes_and_tells_the_status),
		cmocka_unit_test(test_ends_with_the_wire),
		cmocka_unit_test(test_tells_the_terminals_size),
		cmocka_unit_test(test_ends_at_nonsense),
		cmocka_unit_test(test_holds_up_a_flood),
		cmocka_unit_test(test_outlives_its_reader),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
