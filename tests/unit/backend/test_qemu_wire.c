/* The wire against a machine that the test plays: the way to a bottle that runs, and everything
 * that a hostile machine may say on it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "qemu_fixture.h"

#include "base/clean.h"
#include "base/io.h"
#include "guest/guest_host.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct fixture {
	struct port control, monitor, console;
	struct qemu_machine machine;
	json_t *order;
	int said, fail_fds[2], conn;
	pid_t pid;
};

static void begin(struct fixture *f, int boot_ms)
{
	struct err e = ERR_INIT;
	struct qemu_wire w = {.machine = &f->machine, .state_fd = -1, .boot_ms = boot_ms};
	int said[2];

	*f = (struct fixture){.order = json_pack("{s:s}", "hostname", "bottle")};
	qemu_machine_init(&f->machine);
	port_open(&f->control);
	port_open(&f->monitor);
	port_open(&f->console);
	assert_int_equal(pipe(said), 0);
	assert_int_equal(pipe(f->fail_fds), 0);
	f->said = said[1];
	f->machine.control_fd = f->control.theirs;
	f->machine.monitor_fd = f->monitor.theirs;
	f->machine.console_fd = f->console.theirs;
	f->machine.said_fd = said[0];
	w.order = f->order;
	assert_int_equal(qemu_wire_start(&w, f->fail_fds[1], &f->conn, &f->pid, &e), 0);
	close_fd(&f->control.theirs);
	close_fd(&f->monitor.theirs);
	close_fd(&f->console.theirs);
	(void)close(said[0]);
}

/* In line: what it says has broken. */
static void end(struct fixture *f, char line[512], int *status)
{
	ssize_t n;

	close_fd(&f->said);
	port_close(&f->console);
	close_fd(&f->fail_fds[1]);
	*status = wait_status(f->pid);
	n = read(f->fail_fds[0], line, 511);
	line[n > 0 ? n : 0] = '\0';
	close_fd(&f->fail_fds[0]);
	close_fd(&f->conn);
	port_close(&f->control);
	port_close(&f->monitor);
	json_decref(f->order);
}

static void boot(struct fixture *f)
{
	_cleanup_free_ char *order = NULL;
	json_t *j;
	size_t n;

	port_say(&f->control, 'H', STR_NULL);
	order = port_hear(&f->control, 'm', &n);
	j = json_loads(order, JSON_REJECT_DUPLICATES, NULL);
	assert_string_equal(json_string_value(json_object_get(j, "hostname")), "bottle");
	assert_int_equal(json_string_length(json_object_get(j, "seed")), 2 * MACHINE_SEED_BYTES);
	assert_true(json_integer_value(json_object_get(j, "time_ns")) > 0);
	json_decref(j);
}

static void run(struct fixture *f)
{
	struct err e = ERR_INIT;

	boot(f);
	port_say(&f->control, 'M', STR_NULL);
	port_say(&f->control, 'h', STR_NULL);
	assert_int_equal(guest_greet(f->conn, 3000, -1, &e), 0);
}

static void test_speaks_for_a_machine(void **state)
{
	const struct guest_go go = {.argv = (char *[]){(char *)"true", NULL}};
	_cleanup_free_ char *went = NULL, *passed = NULL, *file = NULL, *quit = NULL;
	struct fixture f;
	char line[512];
	size_t n;
	int status;

	(void)state;
	begin(&f, 5000);
	run(&f);
	port_say(&f.control, 's', STR_NULL); /* it waits there for the one who asks */
	assert_int_equal(qemu_send_ca(f.conn, STR_LIT("-----BEGIN"), NULL), 0);
	file = port_hear(&f.control, 'f', &n);
	assert_non_null(strstr(file, "-----BEGIN"));
	assert_int_equal(guest_go(f.conn, &go, 3000, -1, NULL), 0);
	went = port_hear(&f.control, 'g', &n);
	assert_non_null(strstr(went, "\"argv\":[\"true\"]"));
	assert_int_equal(guest_signal(f.conn, 258, SIGTERM, NULL), 0);
	passed = port_hear(&f.control, 'p', &n);
	assert_int_equal(n, GUEST_PASS_BYTES - 1);
	assert_memory_equal(passed, "\17\0\0\1\2", 5);
	close_fd(&f.conn);
	quit = port_hear(&f.control, 'q', &n);
	assert_int_equal(n, 0);
	/* What it still says meanwhile is nobody's; its end is the end. */
	port_say(&f.control, 'x', (struct str){"\0\0\0\0", 4});
	close_fd(&f.control.ours);
	end(&f, line, &status);
	assert_int_equal(status, 0);
	assert_string_equal(line, "");
}

static void test_ends_when_nobody_wants_it_any_more(void **state)
{
	struct fixture f;
	char line[512];
	int status;

	(void)state;
	begin(&f, 5000);
	close_fd(&f.conn);
	end(&f, line, &status);
	assert_int_equal(status, 0);
	assert_string_equal(line, "");
}

static void test_waits_no_longer_than_it_is_told(void **state)
{
	struct fixture f;
	char line[512];
	int status;

	(void)state;
	begin(&f, 50);
	port_send(&f.console, "Kernel panic\33[2J\r\n \n", 20);
	end(&f, line, &status);
	assert_string_equal(line, "the virtual machine does not boot: Kernel panic\\x1b[2J\n");
	assert_int_equal(status, QEMU_WIRE_MUTE);
}

enum when { BOOTS, ORDERED, RUNS };

static void test_ends_a_machine_that_makes_no_sense(void **state)
{
	static const char no_sense[] = "the virtual machine says what makes no sense\n";
	static char text[GUEST_TEXT_MAX + 1 + MACHINE_HEAD] = "n\0\2\201";
	static const struct {
		const char *name;
		enum when when;
		struct str bytes;
		const char *line;
	} cases[] = {
		{"ready before it has booted", BOOTS, {"M\0\0\0", 4}, no_sense},
		{"a boot with a payload", BOOTS, {"H\0\0\1!", 5}, no_sense},
		{"a frame past every limit",
		 BOOTS,
		 {"H\377\377\377", 4},
		 "a frame that is longer than its port allows\n"},
		{"greeting before it is ready", ORDERED, {"h\0\0\0", 4}, no_sense},
		{"booting twice", ORDERED, {"H\0\0\0", 4}, no_sense},
		{"no order",
		 ORDERED,
		 {"n\0\0\3no\n", 7},
		 "the virtual machine cannot be set up: no\\n\n"},
		{"an end before it has begun", ORDERED, {"x\0\0\4\0\0\0\0", 8}, no_sense},
		{"an unknown letter", RUNS, {"z\0\0\0", 4}, no_sense},
		{"a verdict with a payload", RUNS, {"k\0\0\1!", 5}, no_sense},
		{"too long a text", RUNS, {text, sizeof(text)}, no_sense},
		{"an end of three bytes", RUNS, {"x\0\0\3\0\0\0", 7}, no_sense},
		{"its end", RUNS, {"", 0}, "the virtual machine ended\n"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct fixture f;
		char line[512];
		int status;

		begin(&f, 5000);
		if (cases[i].when == ORDERED)
			boot(&f);
		if (cases[i].when == RUNS)
			run(&f);
		port_send(&f.control, cases[i].bytes.p, cases[i].bytes.n);
		if (cases[i].bytes.n == 0)
			close_fd(&f.control.ours);
		end(&f, line, &status);
		if (strcmp(line, cases[i].line) != 0 || status != 1)
			fail_msg("%s: \"%s\"", cases[i].name, line);
	}
}

/* Each is what may be said once; nobody asked. */
static void test_ends_a_machine_that_floods_the_keeper(void **state)
{
	struct fixture f;
	char line[512];
	int status;

	(void)state;
	begin(&f, 5000);
	run(&f);
	for (unsigned i = 0; i < 100; i++) {
		if (send(f.control.ours, "k\0\0\0", 4, MSG_NOSIGNAL) < 0)
			break;
	}
	end(&f, line, &status);
	assert_string_equal(line, "the virtual machine says what makes no sense\n");
	assert_int_equal(status, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_speaks_for_a_machine),
		cmocka_unit_test(test_ends_when_nobody_wants_it_any_more),
		cmocka_unit_test(test_waits_no_longer_than_it_is_told),
		cmocka_unit_test(test_ends_a_machine_that_makes_no_sense),
		cmocka_unit_test(test_ends_a_machine_that_floods_the_keeper),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
