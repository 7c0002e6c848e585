/* guest init as a real process 1, with the keeper's half at the other end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "fixture.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/timeutil.h"
#include "guest/guest_int.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define TEXT(literal) ((char *)(uintptr_t)(literal))

/* --- before the agent --- */

static void test_no_keeper(void **state)
{
	(void)state;
	fixture_start();
	close_fd(&container.listener);
	assert_int_equal(io_remove_tree(AT_FDCWD, container.dir, NULL), 0);
	expect_end(GUEST_NOT_RUN);
	expect_said("the bottle's keeper is not there: the agent is not started");
}

static void test_keeper_goes_first(void **state)
{
	struct err e = ERR_INIT;

	(void)state;
	fixture_start();
	assert_int_equal(
		guest_accept(container.dir, &container.listener, 10000, -1, &container.conn, &e),
		0);
	close_fd(&container.conn);
	expect_end(GUEST_NOT_RUN);
	expect_said("keeper went away: the agent is not started");
	container_free(&container);
	fixture_start();
	container_open(&container);
	close_fd(&container.conn);
	expect_end(GUEST_NOT_RUN);
	expect_said("keeper went away: the agent is not started");
}

static void test_ended_first(void **state)
{
	static const int signals[] = {SIGTERM, SIGINT, SIGQUIT, SIGHUP};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(signals); i++) {
		fixture_start();
		container_open(&container);
		assert_int_equal(kill(container.init, SIGUSR1), 0);
		assert_int_equal(kill(container.init, signals[i]), 0);
		expect_end(128 + signals[i]);
		container_free(&container);
	}
}

static void test_go_needs_canary(void **state)
{
	static const struct guest_target open[] = {{SCENE_PINNED, 8888, "the bundle itself"}};
	static const struct guest_canary bad = {
		.pinned = SCENE_PINNED, .closed = open, .n_closed = 1};
	static const struct guest_canary good = {.pinned = SCENE_PINNED};
	struct err e = ERR_INIT;

	(void)state;
	fixture_start();
	assert_int_equal(
		guest_accept(container.dir, &container.listener, 10000, -1, &container.conn, &e),
		0);
	assert_int_equal(container_go(&container, "echo ran", &e), -ENOTUNIQ);
	assert_string_equal(e.text, "nobody has looked at the wall: the agent is not started");
	expect_end(GUEST_NOT_RUN);
	assert_null(strstr(container.said, "ran"));
	container_free(&container);

	/* One bad look is not made good by another. */
	fixture_start();
	container_open(&container);
	assert_int_equal(guest_canary(container.conn, &bad, 10000, -1, &e), -ENOTUNIQ);
	assert_string_equal(e.text, "the bundle itself (" SCENE_PINNED ":8888) can be reached");
	assert_int_equal(guest_canary(container.conn, &good, 10000, -1, &e), 0);
	assert_int_equal(container_go(&container, "echo ran", &e), -ENOTUNIQ);
	assert_string_equal(e.text, "the wall does not hold: the agent is not started");
	expect_end(GUEST_NOT_RUN);
	assert_null(strstr(container.said, "ran"));
}

static void test_nonsense(void **state)
{
	struct err e = ERR_INIT;
	struct guest_canary bad = {.pinned = "nowhere"};

	(void)state;
	fixture_start();
	container_open(&container);
	assert_int_equal(guest_canary(container.conn, &bad, 10000, -1, &e), -ENOTUNIQ);
	assert_string_equal(e.text, "the keeper's order makes no sense: pinned");
	expect_end(GUEST_NOT_RUN);
	container_free(&container);
	/* A signal for an agent that there is not. */
	fixture_start();
	container_open(&container);
	assert_int_equal(guest_signal(container.conn, 0, SIGTERM, &e), 0);
	expect_end(GUEST_NOT_RUN);
}

/* --- the agent's end --- */

static void test_statuses(void **state)
{
	uint64_t begin_ns = time_monotonic_ns();

	(void)state;
	for (int status = 0; status < 256; status++) {
		char script[32];

		(void)snprintf(script, sizeof(script), "exit %d", status);
		fixture_run(script);
		expect_end(status);
		container_free(&container);
	}
	print_message("a container: %llu us\n",
		      (unsigned long long)((time_monotonic_ns() - begin_ns) / 1000 / 256));
}

static void test_killed(void **state)
{
	static const int signals[] = {SIGTERM, SIGKILL, SIGSEGV, SIGHUP, SIGPIPE, SIGUSR1};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(signals); i++) {
		char script[32];

		(void)snprintf(script, sizeof(script), "kill -%d $$", signals[i]);
		fixture_run(script);
		expect_end(128 + signals[i]);
		container_free(&container);
	}
}

static void test_not_executable(void **state)
{
	static const struct {
		char *argv[2];
		int status;
		const char *said;
	} table[] = {
		{{TEXT("no-such-command"), NULL}, 127, "cannot run \"no-such-command\": No such"},
		{{TEXT("/no/such/command"), NULL}, 127, "cannot run \"/no/such/command\": No such"},
		{{TEXT("/etc/passwd"), NULL}, 126, "cannot run \"/etc/passwd\": Permission denied"},
		{{TEXT("/usr"), NULL}, 126, "cannot run \"/usr\": Permission denied"},
		{{TEXT("/etc/passwd/x"), NULL}, 126, "cannot run \"/etc/passwd/x\": Not a"},
	};
	struct err e = ERR_INIT;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		struct guest_go go = {.argv = table[i].argv};

		fixture_start();
		container_open(&container);
		if (guest_go(container.conn, &go, 10000, -1, &e) != 0)
			fail_msg("%s", e.text);
		expect_end(table[i].status);
		expect_said(table[i].said);
		container_free(&container);
	}
}

static void test_orphans(void **state)
{
	(void)state;
	fixture_run("for i in 1 2 3 4 5; do (sleep 0.0$i &); done; sleep 0.4\n"
		    "grep -h '^State' /proc/[0-9]*/status | grep -c Z; echo end; exec 1>&- 2>&-; "
		    "sleep 9");
	/* Its output ends when the agent closes it, though process 1 lives on. */
	assert_false(container_says(&container, "\1 never"));
	assert_string_equal(container.said, "0\nend\n");
	assert_int_equal(waitpid(container.init, NULL, WNOHANG), 0);
}

/* What the agent leaves behind ends with it. */
static void test_leftovers(void **state)
{
	(void)state;
	fixture_run("setsid sleep 1000 & trap '' HUP; exit 5");
	expect_end(5);
	assert_false(container_says(&container, "\1 never"));
}

/* --- the keeper's end --- */

static void test_keeper_goes(void **state)
{
	(void)state;
	fixture_run("trap '' TERM HUP INT; setsid sleep 1000 & echo here; sleep 1000");
	expect_said("here");
	close_fd(&container.conn);
	expect_dead_soon(GUEST_HUNG_UP);
}

static void test_keeper_is_killed(void **state)
{
	pid_t keeper;

	(void)state;
	fixture_run("echo here; sleep 1000");
	expect_said("here");
	keeper = fork();
	if (keeper == 0) {
		for (;;)
			(void)pause();
	}
	close_fd(&container.conn);
	(void)poll(NULL, 0, 100);
	assert_int_equal(waitpid(container.init, NULL, WNOHANG), 0);
	(void)kill(keeper, SIGKILL);
	assert_int_equal(waitpid(keeper, NULL, 0), keeper);
	expect_dead_soon(GUEST_HUNG_UP);
}

/* A fork bomb, and signals to process 1 without pause, do not keep it from its end. */
static void test_keeper_goes_busy(void **state)
{
	(void)state;
	fixture_run("(while :; do kill -CHLD 1; kill -URG 1; done) &\n"
		    "(while :; do (:) & done) 2>/dev/null &\n"
		    "trap '' URG; echo here; sleep 1000");
	expect_said("here");
	close_fd(&container.conn);
	expect_dead_soon(GUEST_HUNG_UP);
}

static void test_nonsense_later(void **state)
{
	(void)state;
	fixture_run("echo here; sleep 1000");
	assert_int_equal(io_send_fds(container.conn, "g", 1, NULL, 0, 0), 1);
	expect_dead_soon(GUEST_HUNG_UP);
}

/* --- what the agent has, and has not --- */

static void attack(unsigned uid)
{
	char *argv[] = {TEXT("bundle"), TEXT("attack"), TEXT("1"), NULL}, victim[16];
	struct err e = ERR_INIT;
	int status;
	pid_t pid;

	container_start(&container, &scene, uid, false);
	container_open(&container);
	assert_int_equal(container_go(&container, "sleep 1000 & echo =$!=; wait", &e), 0);
	expect_said("=\n");
	(void)snprintf(victim, sizeof(victim), "%ld",
		       strtol(strchr(container.said, '=') + 1, NULL, 10));
	/* Without the filter, so that the kernel alone answers. A control first: a process of the
	 * agent's, whose ways in are open. */
	argv[2] = victim;
	pid = container_exec(&container, argv);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	expect_said("mem environ exe root ns/net ");
	expect_said("readlink pidfd_getfd");
	expect_said("process_vm_readv ptrace ");
	container.said[0] = '\0';
	argv[2] = TEXT("1");
	pid = container_exec(&container, argv);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	close_fd(&container.conn);
	expect_end(GUEST_HUNG_UP);
	assert_string_equal(container.said, "");
}

static void test_init_is_closed(void **state)
{
	(void)state;
	fixture_need();
	if (scene_is_root()) {
		attack(65534);
		container_free(&container);
	}
	attack(0);
}

static void test_isolated(void **state)
{
	(void)state;
	fixture_run(fixture_look_around);
	expect_end(0);
	expect_isolated();
	if (!scene_is_root())
		return;
	container_free(&container);
	container_start(&container, &scene, 0, false);
	container_open(&container);
	assert_int_equal(container_go(&container, fixture_look_around, &(struct err){0}), 0);
	expect_end(0);
	expect_isolated();
}

static void go_with(const struct guest_limits *limits, const struct guest_file *files, size_t n)
{
	char *argv[] = {TEXT("sh"), TEXT("-c"), TEXT(fixture_look_around), NULL};
	struct guest_go go = {.argv = argv, .files = files, .n_files = n, .limits = *limits};
	struct err e = ERR_INIT;

	fixture_start();
	container_open(&container);
	if (guest_go(container.conn, &go, 10000, -1, &e) < 0)
		fail_msg("%s", e.text);
	expect_end(0);
}

static void test_limits(void **state)
{
	struct guest_limits limits = {.files = 77, .file_size_bytes = 4096, .processes = 4321};

	(void)state;
	go_with(&limits, NULL, 0);
	expect_said("open files 77 77");
	expect_said("file size 4096 4096");
	expect_said("processes 4321 4321");
	container_free(&container);
	/* Never more than the container has. */
	limits = (struct guest_limits){.files = INT64_MAX};
	go_with(&limits, NULL, 0);
	assert_null(strstr(container.said, "open files 9223372036854775807"));
	assert_null(strstr(container.said, "open files unlimited"));
	container_free(&container);
	limits = (struct guest_limits){.files = 0};
	go_with(&limits, NULL, 0);
	expect_said("file size unlimited unlimited");
}

/* Over what the container was started with; what is not named stays. */
static void test_env(void **state)
{
	char *argv[] = {TEXT("sh"), TEXT("-c"), TEXT("echo \"[$PATH] [$NEW] [$HOME]\""), NULL};
	char *env[] = {TEXT("NEW=a=b c"), TEXT("PATH=/bin:/usr/bin:/odd"), NULL};
	struct guest_go go = {.argv = argv, .env = env};
	struct err e = ERR_INIT;
	char home[128];

	(void)state;
	fixture_start();
	container_open(&container);
	if (guest_go(container.conn, &go, 10000, -1, &e) < 0)
		fail_msg("%s", e.text);
	expect_end(0);
	(void)snprintf(home, sizeof(home), "[/bin:/usr/bin:/odd] [a=b c] [%s]", container.home);
	expect_said(home);
}

static void test_home(void **state)
{
	static const struct guest_file files[] = {
		{.path = "a/b", .mode = 0640, .text = {"text", 4}},
	};
	const struct guest_limits none = {.files = 0};
	char path[128];
	struct stat st;

	(void)state;
	go_with(&none, files, 1);
	(void)snprintf(path, sizeof(path), "%s/a/b", container.home);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	assert_int_equal(st.st_uid, fixture_uid());
	assert_int_equal(st.st_size, 4);
}

static void test_not_started(void **state)
{
	static const struct guest_file file = {.path = "a/b", .text = {"x", 1}};
	char *argv[] = {TEXT("true"), NULL}, path[128];
	struct guest_go go = {.argv = argv, .has_tty = true};
	struct err e = ERR_INIT;

	(void)state;
	fixture_start();
	container_open(&container);
	assert_int_equal(guest_go(container.conn, &go, 10000, -1, &e), -ENOTUNIQ);
	assert_non_null(strstr(e.text, "take the terminal"));
	expect_end(GUEST_NOT_RUN);
	expect_said("claude-bottle: take the terminal");
	container_free(&container);

	fixture_start();
	(void)snprintf(path, sizeof(path), "%s/a", container.home);
	assert_int_equal(symlink("/tmp", path), 0);
	container_open(&container);
	go = (struct guest_go){.argv = argv, .files = &file, .n_files = 1};
	assert_int_equal(guest_go(container.conn, &go, 10000, -1, &e), -ENOTUNIQ);
	assert_non_null(strstr(e.text, "\"a/b\": open the folder \"a\""));
	expect_end(GUEST_NOT_RUN);
}

static void test_terminal(void **state)
{
	struct err e = ERR_INIT;

	(void)state;
	fixture_need();
	container_start(&container, &scene, fixture_uid(), true);
	container_open(&container);
	assert_int_equal(container_go(&container,
				      "test -t 0 && test -t 2 && : >/dev/tty && echo tty-ok\n"
				      "trap 'echo interrupted; exit 9' INT\n"
				      "echo ready; while :; do sleep 0.05; done",
				      &e),
			 0);
	expect_said("tty-ok");
	expect_said("ready");
	assert_int_equal(write(container.master, "\3", 1), 1);
	expect_said("interrupted");
	expect_end(9);
}

/* --- signals --- */

static void test_signals(void **state)
{
	struct err e = ERR_INIT;

	(void)state;
	fixture_run("trap 'echo usr1' USR1; trap 'echo usr2' USR2; trap 'echo term; exit 7' TERM\n"
		    "kill -USR1 1; sleep 0.1; echo ready; while :; do sleep 0.05; done");
	/* From the agent, which gets it back; from the engine; from the keeper. */
	expect_said("usr1\nready\n");
	assert_int_equal(kill(container.init, SIGUSR2), 0);
	expect_said("usr2\n");
	container.said[0] = '\0';
	assert_int_equal(guest_signal(container.conn, 0, SIGUSR1, &e), 0);
	expect_said("usr1\n");
	/* Nobody has this number. */
	assert_int_equal(guest_signal(container.conn, 12345, SIGTERM, &e), 0);
	assert_int_equal(guest_signal(container.conn, 1, SIGKILL, &e), 0);
	assert_int_equal(guest_signal(container.conn, 0, SIGTERM, &e), 0);
	expect_end(7);
	expect_said("term\n");
	assert_int_equal(guest_signal(container.conn, 0, SIGTERM, &e), -EPIPE);
}

static void test_signal_group(void **state)
{
	struct err e = ERR_INIT;

	(void)state;
	fixture_run("sh -c 'trap \"echo child; exit\" TERM; echo ready; while :; do sleep 0.05; "
		    "done' &\n"
		    "trap 'wait; echo parent; exit 3' TERM; while :; do sleep 0.05; done");
	expect_said("ready\n");
	assert_int_equal(guest_signal(container.conn, 0, SIGTERM, &e), 0);
	expect_end(3);
	expect_said("child\n");
	expect_said("parent\n");
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		FIXTURE_TEST(no_keeper),
		FIXTURE_TEST(keeper_goes_first),
		FIXTURE_TEST(ended_first),
		FIXTURE_TEST(go_needs_canary),
		FIXTURE_TEST(nonsense),
		FIXTURE_TEST(statuses),
		FIXTURE_TEST(killed),
		FIXTURE_TEST(not_executable),
		FIXTURE_TEST(orphans),
		FIXTURE_TEST(leftovers),
		FIXTURE_TEST(keeper_goes),
		FIXTURE_TEST(keeper_is_killed),
		FIXTURE_TEST(keeper_goes_busy),
		FIXTURE_TEST(nonsense_later),
		FIXTURE_TEST(init_is_closed),
		FIXTURE_TEST(isolated),
		FIXTURE_TEST(limits),
		FIXTURE_TEST(env),
		FIXTURE_TEST(home),
		FIXTURE_TEST(not_started),
		FIXTURE_TEST(terminal),
		FIXTURE_TEST(signals),
		FIXTURE_TEST(signal_group),
	};

	if (argc < 2)
		return 2;
	container_program = realpath(argv[1], NULL);
	return cmocka_run_group_tests(tests, fixture_group, fixture_group_end);
}
