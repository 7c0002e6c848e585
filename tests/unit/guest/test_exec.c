/* guest exec: what an engine starts in a container beside its agent. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "fixture.h"

#include "base/clean.h"
#include "guest/guest_int.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

#define TEXT(literal) ((char *)(uintptr_t)(literal))

static pid_t exec_start(const char *id, const char *command)
{
	char *argv[] = {TEXT("bundle"), TEXT("guest"), TEXT("exec"),  TEXT(id), TEXT("--"),
			TEXT("sh"),	TEXT("-c"),    TEXT(command), NULL};
	char *anonymous[] = {TEXT("bundle"), TEXT("guest"), TEXT("exec"),  TEXT("--"),
			     TEXT("sh"),     TEXT("-c"),    TEXT(command), NULL};

	return container_exec(&container, id[0] ? argv : anonymous);
}

static int exec_status(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WEXITSTATUS(status);
}

static void test_exec(void **state)
{
	static const struct {
		char *argv[7];
		int status;
	} table[] = {
		{{TEXT("bundle"), TEXT("guest"), TEXT("exec"), TEXT("--"), TEXT("no-such"), NULL},
		 127},
		{{TEXT("bundle"), TEXT("guest"), TEXT("exec"), TEXT("--"), TEXT("/etc"), NULL},
		 126},
		{{TEXT("bundle"), TEXT("guest"), TEXT("exec"), TEXT("--"), NULL}, 1},
		{{TEXT("bundle"), TEXT("guest"), TEXT("exec"), TEXT("true"), NULL}, 1},
		{{TEXT("bundle"), TEXT("guest"), TEXT("exec"), TEXT("id=0"), TEXT("--"),
		  TEXT("true"), NULL},
		 1},
		{{TEXT("bundle"), TEXT("guest"), TEXT("exec"), TEXT("id=7x"), TEXT("--"),
		  TEXT("true"), NULL},
		 1},
	};

	(void)state;
	fixture_run("ulimit -n; echo; sleep 1000");
	expect_said("\n");
	container.said[0] = '\0';
	assert_int_equal(exec_status(exec_start("", fixture_look_around)), 0);
	expect_isolated();
	container.said[0] = '\0';
	assert_int_equal(exec_status(exec_start("id=42", "tr '\\0' ' ' </proc/self/environ; "
							 "ps -o sid= -p $$ | tr -d ' \\n'; "
							 "echo =$$; exit 33")),
			 33);
	expect_said(GUEST_EXEC_MARK "=42 ");
	for (size_t i = 0; i < ARRAY_LEN(table); i++)
		assert_int_equal(exec_status(container_exec(&container, table[i].argv)),
				 table[i].status);
}

static void test_exec_limits(void **state)
{
	char *argv[] = {TEXT("sleep"), TEXT("1000"), NULL};
	struct guest_go go = {.argv = argv, .limits = {.files = 66, .file_size_bytes = 8192}};
	struct err e = ERR_INIT;

	(void)state;
	fixture_start();
	container_open(&container);
	assert_int_equal(guest_go(container.conn, &go, 10000, -1, &e), 0);
	assert_int_equal(exec_status(exec_start("", fixture_look_around)), 0);
	expect_said("open files 66 66");
	expect_said("file size 8192 8192");
}

static void test_exec_signal(void **state)
{
	static const char loop[] =
		"sh -c 'trap \"echo child-$X; exit\" TERM; while :; do sleep 0.05; done' &\n"
		"trap 'wait; echo end-$X; exit 4' TERM; echo ready-$X; while :; do sleep 0.05; "
		"done";
	char script[512], first[512], second[512];
	struct err e = ERR_INIT;
	pid_t one, two;

	(void)state;
	/* The agent does its best to be taken for one of them. */
	(void)snprintf(script, sizeof(script),
		       "trap 'echo agent' TERM; env -i " GUEST_EXEC_MARK "=1 PATH=$PATH setsid sh "
		       "-c 'trap \"echo fooled\" TERM; echo decoy; while :; do sleep 0.05; done' & "
		       "while :; do sleep 0.05; done");
	fixture_run(script);
	expect_said("decoy");
	(void)snprintf(first, sizeof(first), "X=1; export X; %s", loop);
	(void)snprintf(second, sizeof(second), "X=2; export X; %s", loop);
	one = exec_start("id=1", first);
	two = exec_start("id=2", second);
	expect_said("ready-1");
	expect_said("ready-2");
	(void)poll(NULL, 0, 100);
	assert_int_equal(guest_signal(container.conn, 1, SIGTERM, &e), 0);
	assert_int_equal(exec_status(one), 4);
	expect_said("child-1");
	expect_said("end-1");
	assert_int_equal(waitpid(two, NULL, WNOHANG), 0);
	assert_int_equal(guest_signal(container.conn, 2, SIGKILL, &e), 0);
	assert_int_equal(exec_status(two), 128 + SIGKILL);
	/* Its number is nobody's any more. */
	assert_int_equal(guest_signal(container.conn, 1, SIGKILL, &e), 0);
	(void)poll(NULL, 0, 100);
	assert_null(strstr(container.said, "fooled"));
	assert_null(strstr(container.said, "agent"));
	/* All of them end with the keeper. */
	two = exec_start("id=3", "echo ready-3; sleep 1000");
	expect_said("ready-3");
	close_fd(&container.conn);
	expect_dead_soon(GUEST_HUNG_UP);
	assert_int_equal(exec_status(two), 128 + SIGKILL);
}

/* Whoever asked for a command may be gone before the command is there. */
static void test_exec_signal_that_is_early(void **state)
{
	struct err e = ERR_INIT;
	pid_t pid;

	(void)state;
	fixture_run("echo agent; sleep 1000");
	expect_said("agent");
	/* More than are remembered: the first ones are, and nothing breaks. */
	for (unsigned i = 4; i < 24; i++)
		assert_int_equal(guest_signal(container.conn, i, SIGTERM, &e), 0);
	(void)poll(NULL, 0, 200);
	pid = exec_start("id=4", "sleep 1000");
	assert_int_equal(exec_status(pid), 128 + SIGTERM);
	/* Once. */
	pid = exec_start("id=4", "sleep 0.3; echo whole");
	assert_int_equal(exec_status(pid), 0);
	expect_said("whole");
}

/* The look is bounded, and finds nobody where there is nothing of the kind. */
static void test_exec_find(void **state)
{
	(void)state;
	assert_int_equal(exec_find(1, EXEC_LOOK_MAX), 0);
	assert_int_equal(exec_find(1, 0), 0);
	assert_int_equal(exec_find(GUEST_EXEC_MAX, 3), 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		FIXTURE_TEST(exec),	   FIXTURE_TEST(exec_limits),
		FIXTURE_TEST(exec_signal), FIXTURE_TEST(exec_signal_that_is_early),
		FIXTURE_TEST(exec_find),
	};

	if (argc < 2)
		return 2;
	container_program = realpath(argv[1], NULL);
	return cmocka_run_group_tests(tests, fixture_group, fixture_group_end);
}
