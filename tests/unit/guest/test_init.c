/* guest init as a real process 1, with the keeper's half at the other end; and guest exec. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "container.h"

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

static struct scene scene;
static struct container c;
static const char *missing;

static int close_here(void *ctx)
{
	struct err e = ERR_INIT;

	(void)ctx;
	return close_run(SCENE_PINNED, &e) < 0;
}

static int set_up_group(void **state)
{
	(void)state;
	/* What a caller may ignore and the C library does not let one ask for. */
	(void)syscall(SYS_rt_sigaction, 32, (unsigned long[4]){1}, NULL, 8);
	missing = scene_prepare();
	if (missing)
		return 0;
	scene_make(&scene);
	scene_listen(&scene, scene.bundle_ns, SCENE_PINNED, 8888, "HTTP/1.1 403 Forbidden\r\n\r\n",
		     0);
	return scene_run(scene.agent_ns, close_here, NULL);
}

static int tear_down_group(void **state)
{
	(void)state;
	if (!missing)
		scene_free(&scene);
	return 0;
}

static int set_up(void **state)
{
	(void)state;
	c.top[0] = '\0';
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	if (c.top[0])
		container_free(&c);
	return 0;
}

static void need(void)
{
	if (missing) {
		print_message("skipped: %s is missing\n", missing);
		skip();
	}
}

static unsigned agent_uid(void)
{
	return scene_is_root() ? 65534 : 0;
}

static void run(const char *script)
{
	need();
	container_run(&c, &scene, script);
}

static void start(void)
{
	need();
	container_start(&c, &scene, agent_uid(), false);
}

static void expect_end(int status)
{
	int got = container_wait(&c);

	if (got != status)
		fail_msg("status %d instead of %d: %s", got, status, c.said);
}

static void expect_said(const char *text)
{
	if (!container_says(&c, text))
		fail_msg("\"%s\" does not have \"%s\"", c.said, text);
}

/* --- before the agent --- */

static void test_no_keeper(void **state)
{
	(void)state;
	start();
	close_fd(&c.listener);
	assert_int_equal(io_remove_tree(AT_FDCWD, c.dir, NULL), 0);
	expect_end(GUEST_NOT_RUN);
	expect_said("the bottle's keeper is not there: the agent is not started");
}

static void test_keeper_goes_first(void **state)
{
	struct err e = ERR_INIT;

	(void)state;
	start();
	assert_int_equal(guest_accept(c.dir, &c.listener, 10000, -1, &c.conn, &e), 0);
	close_fd(&c.conn);
	expect_end(GUEST_NOT_RUN);
	expect_said("keeper went away: the agent is not started");
	container_free(&c);
	start();
	container_open(&c);
	close_fd(&c.conn);
	expect_end(GUEST_NOT_RUN);
	expect_said("keeper went away: the agent is not started");
}

static void test_ended_first(void **state)
{
	static const int signals[] = {SIGTERM, SIGINT, SIGQUIT, SIGHUP};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(signals); i++) {
		start();
		container_open(&c);
		assert_int_equal(kill(c.init, SIGUSR1), 0);
		assert_int_equal(kill(c.init, signals[i]), 0);
		expect_end(128 + signals[i]);
		container_free(&c);
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
	start();
	assert_int_equal(guest_accept(c.dir, &c.listener, 10000, -1, &c.conn, &e), 0);
	assert_int_equal(container_go(&c, "echo ran", &e), -ENOTUNIQ);
	assert_string_equal(e.text, "nobody has looked at the wall: the agent is not started");
	expect_end(GUEST_NOT_RUN);
	assert_null(strstr(c.said, "ran"));
	container_free(&c);

	/* One bad look is not made good by another. */
	start();
	container_open(&c);
	assert_int_equal(guest_canary(c.conn, &bad, 10000, -1, &e), -ENOTUNIQ);
	assert_string_equal(e.text, "the bundle itself (" SCENE_PINNED ":8888) can be reached");
	assert_int_equal(guest_canary(c.conn, &good, 10000, -1, &e), 0);
	assert_int_equal(container_go(&c, "echo ran", &e), -ENOTUNIQ);
	assert_string_equal(e.text, "the wall does not hold: the agent is not started");
	expect_end(GUEST_NOT_RUN);
	assert_null(strstr(c.said, "ran"));
}

static void test_nonsense(void **state)
{
	struct err e = ERR_INIT;
	struct guest_canary bad = {.pinned = "nowhere"};

	(void)state;
	start();
	container_open(&c);
	assert_int_equal(guest_canary(c.conn, &bad, 10000, -1, &e), -ENOTUNIQ);
	assert_string_equal(e.text, "the keeper's order makes no sense: pinned");
	expect_end(GUEST_NOT_RUN);
	container_free(&c);
	/* A signal for an agent that there is not. */
	start();
	container_open(&c);
	assert_int_equal(guest_signal(c.conn, 0, SIGTERM, &e), 0);
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
		run(script);
		expect_end(status);
		container_free(&c);
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
		run(script);
		expect_end(128 + signals[i]);
		container_free(&c);
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

		start();
		container_open(&c);
		if (guest_go(c.conn, &go, 10000, -1, &e) != 0)
			fail_msg("%s", e.text);
		expect_end(table[i].status);
		expect_said(table[i].said);
		container_free(&c);
	}
}

static void test_orphans(void **state)
{
	(void)state;
	run("for i in 1 2 3 4 5; do (sleep 0.0$i &); done; sleep 0.4\n"
	    "grep -h '^State' /proc/[0-9]*/status | grep -c Z; echo end; exec 1>&- 2>&-; sleep 9");
	/* Its output ends when the agent closes it, though process 1 lives on. */
	assert_false(container_says(&c, "\1 never"));
	assert_string_equal(c.said, "0\nend\n");
	assert_int_equal(waitpid(c.init, NULL, WNOHANG), 0);
}

/* What the agent leaves behind ends with it. */
static void test_leftovers(void **state)
{
	(void)state;
	run("setsid sleep 1000 & trap '' HUP; exit 5");
	expect_end(5);
	assert_false(container_says(&c, "\1 never"));
}

/* --- the keeper's end --- */

static void expect_dead_soon(int status)
{
	uint64_t begin_ns = time_monotonic_ns();

	expect_end(status);
	assert_in_range((time_monotonic_ns() - begin_ns) / TIME_NS_PER_MS, 0, 2000);
	/* Nobody is left who holds its output. */
	assert_false(container_says(&c, "\1 never"));
}

static void test_keeper_goes(void **state)
{
	(void)state;
	run("trap '' TERM HUP INT; setsid sleep 1000 & echo here; sleep 1000");
	expect_said("here");
	close_fd(&c.conn);
	expect_dead_soon(GUEST_HUNG_UP);
}

static void test_keeper_is_killed(void **state)
{
	pid_t keeper;

	(void)state;
	run("echo here; sleep 1000");
	expect_said("here");
	keeper = fork();
	if (keeper == 0) {
		for (;;)
			(void)pause();
	}
	close_fd(&c.conn);
	(void)poll(NULL, 0, 100);
	assert_int_equal(waitpid(c.init, NULL, WNOHANG), 0);
	(void)kill(keeper, SIGKILL);
	assert_int_equal(waitpid(keeper, NULL, 0), keeper);
	expect_dead_soon(GUEST_HUNG_UP);
}

/* A fork bomb, and signals to process 1 without pause, do not keep it from its end. */
static void test_keeper_goes_busy(void **state)
{
	(void)state;
	run("(while :; do kill -CHLD 1; kill -URG 1; done) &\n"
	    "(while :; do (:) & done) 2>/dev/null &\n"
	    "trap '' URG; echo here; sleep 1000");
	expect_said("here");
	close_fd(&c.conn);
	expect_dead_soon(GUEST_HUNG_UP);
}

static void test_nonsense_later(void **state)
{
	(void)state;
	run("echo here; sleep 1000");
	assert_int_equal(io_send_fds(c.conn, "g", 1, NULL, 0, 0), 1);
	expect_dead_soon(GUEST_HUNG_UP);
}

/* --- what the agent has, and has not --- */

static void attack(unsigned uid)
{
	char *argv[] = {TEXT("bundle"), TEXT("attack"), TEXT("1"), NULL}, victim[16];
	struct err e = ERR_INIT;
	int status;
	pid_t pid;

	container_start(&c, &scene, uid, false);
	container_open(&c);
	assert_int_equal(container_go(&c, "sleep 1000 & echo =$!=; wait", &e), 0);
	expect_said("=\n");
	(void)snprintf(victim, sizeof(victim), "%ld", strtol(strchr(c.said, '=') + 1, NULL, 10));
	/* Without the filter, so that the kernel alone answers. A control first: a process of the
	 * agent's, whose ways in are open. */
	argv[2] = victim;
	pid = container_exec(&c, argv);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	expect_said("mem environ exe root ns/net ");
	expect_said("readlink pidfd_getfd");
	expect_said("process_vm_readv ptrace ");
	c.said[0] = '\0';
	argv[2] = TEXT("1");
	pid = container_exec(&c, argv);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	close_fd(&c.conn);
	expect_end(GUEST_HUNG_UP);
	assert_string_equal(c.said, "");
}

static void test_init_is_closed(void **state)
{
	(void)state;
	need();
	if (scene_is_root()) {
		attack(65534);
		container_free(&c);
	}
	attack(0);
}

static const char look_around[] =
	"ls -l /proc/self/fd | grep -c ' -> '\n" /* 0, 1, 2, and the folder itself */
	"grep -E '^(CapInh|CapPrm|CapEff|CapAmb|NoNewPrivs|Seccomp|SigBlk|SigIgn):' "
	"/proc/self/status | tr '\\n' ' '; umask; pwd; cat /proc/self/limits | "
	"grep -E '(core file|open files|Max file|Max processes) ' | tr -s ' ' | cut -d' ' -f 2-5\n"
	"unshare -U true 2>&1 | grep -o 'Operation not permitted'\n"
	"for s in KILL STOP SEGV BUS FPE ILL TRAP SYS ABRT; do kill -$s 1; done; echo still\n";

static void expect_isolated(void)
{
	expect_said("4\nSigBlk:\t0000000000000000 SigIgn:\t0000000000000000 "
		    "CapInh:\t0000000000000000 CapPrm:\t0000000000000000 "
		    "CapEff:\t0000000000000000 CapAmb:\t0000000000000000 NoNewPrivs:\t1 "
		    "Seccomp:\t2 ");
	expect_said("0022\n");
	expect_said(c.home);
	expect_said("core file size 0\n");
	expect_said("Operation not permitted\nstill\n");
}

static void test_isolated(void **state)
{
	(void)state;
	run(look_around);
	expect_end(0);
	expect_isolated();
	if (!scene_is_root())
		return;
	container_free(&c);
	container_start(&c, &scene, 0, false);
	container_open(&c);
	assert_int_equal(container_go(&c, look_around, &(struct err){0}), 0);
	expect_end(0);
	expect_isolated();
}

static void go_with(const struct guest_limits *limits, const struct guest_file *files, size_t n)
{
	char *argv[] = {TEXT("sh"), TEXT("-c"), TEXT(look_around), NULL};
	struct guest_go go = {.argv = argv, .files = files, .n_files = n, .limits = *limits};
	struct err e = ERR_INIT;

	start();
	container_open(&c);
	if (guest_go(c.conn, &go, 10000, -1, &e) < 0)
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
	container_free(&c);
	/* Never more than the container has. */
	limits = (struct guest_limits){.files = INT64_MAX};
	go_with(&limits, NULL, 0);
	assert_null(strstr(c.said, "open files 9223372036854775807"));
	assert_null(strstr(c.said, "open files unlimited"));
	container_free(&c);
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
	start();
	container_open(&c);
	if (guest_go(c.conn, &go, 10000, -1, &e) < 0)
		fail_msg("%s", e.text);
	expect_end(0);
	(void)snprintf(home, sizeof(home), "[/bin:/usr/bin:/odd] [a=b c] [%s]", c.home);
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
	(void)snprintf(path, sizeof(path), "%s/a/b", c.home);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	assert_int_equal(st.st_uid, agent_uid());
	assert_int_equal(st.st_size, 4);
}

static void test_not_started(void **state)
{
	static const struct guest_file file = {.path = "a/b", .text = {"x", 1}};
	char *argv[] = {TEXT("true"), NULL}, path[128];
	struct guest_go go = {.argv = argv, .has_tty = true};
	struct err e = ERR_INIT;

	(void)state;
	start();
	container_open(&c);
	assert_int_equal(guest_go(c.conn, &go, 10000, -1, &e), -ENOTUNIQ);
	assert_non_null(strstr(e.text, "take the terminal"));
	expect_end(GUEST_NOT_RUN);
	expect_said("claude-bottle: take the terminal");
	container_free(&c);

	start();
	(void)snprintf(path, sizeof(path), "%s/a", c.home);
	assert_int_equal(symlink("/tmp", path), 0);
	container_open(&c);
	go = (struct guest_go){.argv = argv, .files = &file, .n_files = 1};
	assert_int_equal(guest_go(c.conn, &go, 10000, -1, &e), -ENOTUNIQ);
	assert_non_null(strstr(e.text, "\"a/b\": open the folder \"a\""));
	expect_end(GUEST_NOT_RUN);
}

static void test_terminal(void **state)
{
	struct err e = ERR_INIT;

	(void)state;
	need();
	container_start(&c, &scene, agent_uid(), true);
	container_open(&c);
	assert_int_equal(container_go(&c,
				      "test -t 0 && test -t 2 && : >/dev/tty && echo tty-ok\n"
				      "trap 'echo interrupted; exit 9' INT\n"
				      "echo ready; while :; do sleep 0.05; done",
				      &e),
			 0);
	expect_said("tty-ok");
	expect_said("ready");
	assert_int_equal(write(c.master, "\3", 1), 1);
	expect_said("interrupted");
	expect_end(9);
}

/* --- signals --- */

static void test_signals(void **state)
{
	struct err e = ERR_INIT;

	(void)state;
	run("trap 'echo usr1' USR1; trap 'echo usr2' USR2; trap 'echo term; exit 7' TERM\n"
	    "kill -USR1 1; sleep 0.1; echo ready; while :; do sleep 0.05; done");
	/* From the agent, which gets it back; from the engine; from the keeper. */
	expect_said("usr1\nready\n");
	assert_int_equal(kill(c.init, SIGUSR2), 0);
	expect_said("usr2\n");
	c.said[0] = '\0';
	assert_int_equal(guest_signal(c.conn, 0, SIGUSR1, &e), 0);
	expect_said("usr1\n");
	/* Nobody has this number. */
	assert_int_equal(guest_signal(c.conn, 12345, SIGTERM, &e), 0);
	assert_int_equal(guest_signal(c.conn, 1, SIGKILL, &e), 0);
	assert_int_equal(guest_signal(c.conn, 0, SIGTERM, &e), 0);
	expect_end(7);
	expect_said("term\n");
	assert_int_equal(guest_signal(c.conn, 0, SIGTERM, &e), -EPIPE);
}

static void test_signal_group(void **state)
{
	struct err e = ERR_INIT;

	(void)state;
	run("sh -c 'trap \"echo child; exit\" TERM; echo ready; while :; do sleep 0.05; done' &\n"
	    "trap 'wait; echo parent; exit 3' TERM; while :; do sleep 0.05; done");
	expect_said("ready\n");
	assert_int_equal(guest_signal(c.conn, 0, SIGTERM, &e), 0);
	expect_end(3);
	expect_said("child\n");
	expect_said("parent\n");
}

/* --- guest exec --- */

static pid_t exec_start(const char *id, const char *command)
{
	char *argv[] = {TEXT("bundle"), TEXT("guest"), TEXT("exec"),  TEXT(id), TEXT("--"),
			TEXT("sh"),	TEXT("-c"),    TEXT(command), NULL};
	char *anonymous[] = {TEXT("bundle"), TEXT("guest"), TEXT("exec"),  TEXT("--"),
			     TEXT("sh"),     TEXT("-c"),    TEXT(command), NULL};

	return container_exec(&c, id[0] ? argv : anonymous);
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
	run("ulimit -n; echo; sleep 1000");
	expect_said("\n");
	c.said[0] = '\0';
	assert_int_equal(exec_status(exec_start("", look_around)), 0);
	expect_isolated();
	c.said[0] = '\0';
	assert_int_equal(exec_status(exec_start("id=42", "tr '\\0' ' ' </proc/self/environ; "
							 "ps -o sid= -p $$ | tr -d ' \\n'; "
							 "echo =$$; exit 33")),
			 33);
	expect_said(GUEST_EXEC_MARK "=42 ");
	for (size_t i = 0; i < ARRAY_LEN(table); i++)
		assert_int_equal(exec_status(container_exec(&c, table[i].argv)), table[i].status);
}

static void test_exec_limits(void **state)
{
	char *argv[] = {TEXT("sleep"), TEXT("1000"), NULL};
	struct guest_go go = {.argv = argv, .limits = {.files = 66, .file_size_bytes = 8192}};
	struct err e = ERR_INIT;

	(void)state;
	start();
	container_open(&c);
	assert_int_equal(guest_go(c.conn, &go, 10000, -1, &e), 0);
	assert_int_equal(exec_status(exec_start("", look_around)), 0);
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
	run(script);
	expect_said("decoy");
	(void)snprintf(first, sizeof(first), "X=1; export X; %s", loop);
	(void)snprintf(second, sizeof(second), "X=2; export X; %s", loop);
	one = exec_start("id=1", first);
	two = exec_start("id=2", second);
	expect_said("ready-1");
	expect_said("ready-2");
	(void)poll(NULL, 0, 100);
	assert_int_equal(guest_signal(c.conn, 1, SIGTERM, &e), 0);
	assert_int_equal(exec_status(one), 4);
	expect_said("child-1");
	expect_said("end-1");
	assert_int_equal(waitpid(two, NULL, WNOHANG), 0);
	assert_int_equal(guest_signal(c.conn, 2, SIGKILL, &e), 0);
	assert_int_equal(exec_status(two), 128 + SIGKILL);
	/* Its number is nobody's any more. */
	assert_int_equal(guest_signal(c.conn, 1, SIGKILL, &e), 0);
	(void)poll(NULL, 0, 100);
	assert_null(strstr(c.said, "fooled"));
	assert_null(strstr(c.said, "agent"));
	/* All of them end with the keeper. */
	two = exec_start("id=3", "echo ready-3; sleep 1000");
	expect_said("ready-3");
	close_fd(&c.conn);
	expect_dead_soon(GUEST_HUNG_UP);
	assert_int_equal(exec_status(two), 128 + SIGKILL);
}

/* The look is bounded, and finds nobody where there is nothing of the kind. */
static void test_exec_find(void **state)
{
	(void)state;
	assert_int_equal(exec_find(1, EXEC_LOOK_MAX), 0);
	assert_int_equal(exec_find(1, 0), 0);
	assert_int_equal(exec_find(GUEST_EXEC_MAX, 3), 0);
}

#define TEST_(name) cmocka_unit_test_setup_teardown(test_##name, set_up, tear_down)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST_(no_keeper),
		TEST_(keeper_goes_first),
		TEST_(ended_first),
		TEST_(go_needs_canary),
		TEST_(nonsense),
		TEST_(statuses),
		TEST_(killed),
		TEST_(not_executable),
		TEST_(orphans),
		TEST_(leftovers),
		TEST_(keeper_goes),
		TEST_(keeper_is_killed),
		TEST_(keeper_goes_busy),
		TEST_(nonsense_later),
		TEST_(init_is_closed),
		TEST_(isolated),
		TEST_(limits),
		TEST_(env),
		TEST_(home),
		TEST_(not_started),
		TEST_(terminal),
		TEST_(signals),
		TEST_(signal_group),
		TEST_(exec),
		TEST_(exec_limits),
		TEST_(exec_signal),
		TEST_(exec_find),
	};

	if (argc < 2)
		return 2;
	container_program = realpath(argv[1], NULL);
	return cmocka_run_group_tests(tests, set_up_group, tear_down_group);
}
