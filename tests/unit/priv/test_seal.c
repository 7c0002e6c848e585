/* What a child that has sealed itself could try against its host, each tried first where it is not
 * sealed: there it works. */
#include "priv_fixture.h"

#include "priv/priv.h"

#include "base/child.h"
#include "base/clean.h"
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#define FAILED	1
#define UNTRIED 99
#define BRIDGE                                                                                     \
	(PRIV_SECCOMP_BASE | PRIV_SECCOMP_PASS_FD | PRIV_SECCOMP_OPEN | PRIV_SECCOMP_FILE |        \
	 PRIV_SECCOMP_FORK | PRIV_SECCOMP_MAKE)

/* Made before: what a child has open. */
static int pair[2], terminal, inet_fd;
static struct sockaddr_un listener = {.sun_family = AF_UNIX};

/* --- attempts: 0 if it works --- */

static int opens(void)
{
	return open("/etc/passwd", O_RDONLY) >= 0 ? 0 : FAILED;
}

static int opens_null(void)
{
	return open("/dev/null", O_RDWR) >= 0 ? 0 : FAILED;
}

static int looks_at_files(void)
{
	struct stat st;

	return stat("/etc/passwd", &st) == 0 ? 0 : FAILED;
}

static int makes_socket(void)
{
	return socket(AF_UNIX, SOCK_STREAM, 0) >= 0 ? 0 : FAILED;
}

static int makes_inet_socket(void)
{
	return socket(AF_INET, SOCK_STREAM, 0) >= 0 ? 0 : FAILED;
}

static int dials_with_open_socket(void)
{
	const struct sockaddr_in a = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

	return connect(inet_fd, (const struct sockaddr *)&a, sizeof(a)) == 0 ||
			       errno == ECONNREFUSED
		       ? 0
		       : FAILED;
}

static int dials_locally(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	return connect(fd, (struct sockaddr *)&listener, sizeof(listener)) == 0 ? 0 : FAILED;
}

static int forks(void)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	return pid > 0 && waitpid(pid, NULL, 0) == pid ? 0 : FAILED;
}

static int executes(void)
{
	(void)execl("/bin/true", "true", (char *)NULL);
	return FAILED;
}

static int is_traced(void)
{
	return ptrace(PTRACE_TRACEME, 0, 0, 0) == 0 ? 0 : FAILED;
}

static int kills(void)
{
	return kill(getppid(), 0) == 0 ? 0 : FAILED;
}

static int kills_a_thread(void)
{
	return syscall(SYS_tgkill, getppid(), getppid(), 0) == 0 ? 0 : FAILED;
}

static int holds_a_process(void)
{
	return syscall(SYS_pidfd_open, getppid(), 0) >= 0 ? 0 : FAILED;
}

static int copies_descriptor(void)
{
	return dup(pair[0]) >= 0 ? 0 : FAILED;
}

static int makes_memory_file(void)
{
	return memfd_create("x", 0) >= 0 ? 0 : FAILED;
}

static int maps_code(void)
{
	return mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		    0) == MAP_FAILED
		       ? FAILED
		       : 0;
}

static int takes_descriptor(void)
{
	char byte;
	int fd = -1;
	size_t n = 1;

	return io_send_fds(pair[0], "x", 1, &pair[0], 1, 0) == 1 &&
			       io_recv_fds(pair[1], &byte, 1, &fd, &n, 0) == 1 && n == 1
		       ? 0
		       : FAILED;
}

static int asks_for_size(void)
{
	struct winsize size;

	return ioctl(terminal, TIOCGWINSZ, &size) == 0 ? 0 : FAILED;
}

static int sets_size(void)
{
	const struct winsize size = {.ws_row = 1, .ws_col = 1};

	return ioctl(terminal, TIOCSWINSZ, &size) == 0 ? 0 : FAILED;
}

static int raises(void)
{
	(void)signal(SIGUSR1, SIG_IGN);
	return raise(SIGUSR1) == 0 ? 0 : FAILED;
}

/* What all of them live on. */
static int moves_bytes(void)
{
	struct pollfd p = {.fd = pair[1], .events = POLLIN};
	struct timespec now;
	char byte = 'x', *memory = malloc(1 << 20);
	int ret = FAILED;

	if (memory && write(pair[0], &byte, 1) == 1 && poll(&p, 1, 1000) == 1 &&
	    recv(pair[1], &byte, 1, MSG_DONTWAIT) == 1 && send(pair[1], &byte, 1, 0) == 1 &&
	    read(pair[0], &byte, 1) == 1 && clock_gettime(CLOCK_MONOTONIC, &now) == 0)
		ret = 0;
	free(memory);
	return ret;
}

/* --- what is sealed how --- */

static const struct priv_path null = {"/dev/null", PRIV_READ | PRIV_WRITE};
static const struct priv_seal bare = {0}, passing = {.sets = PRIV_SECCOMP_PASS_FD},
			      at_terminal = {.sets = PRIV_SECCOMP_TERMINAL},
			      dialling = {.sets = PRIV_SECCOMP_DIAL_LOCAL},
			      forking = {.sets = BRIDGE, .paths = &null, .n_paths = 1};

enum outcome { WORKS, REFUSED, KILLED };

static const struct {
	const char *name;
	int (*attempt)(void);
	const struct priv_seal *seal;
	enum outcome outcome;
} cases[] = {
	{"bytes", moves_bytes, &bare, WORKS},
	{"a signal to itself", raises, &bare, WORKS},
	{"a file", opens, &bare, REFUSED},
	{"a file's name", looks_at_files, &bare, KILLED},
	{"a socket", makes_socket, &bare, KILLED},
	{"a connection", dials_with_open_socket, &bare, KILLED},
	{"a child", forks, &bare, KILLED},
	{"a program", executes, &bare, KILLED},
	{"a tracer", is_traced, &bare, KILLED},
	{"a signal", kills, &bare, KILLED},
	{"a signal to a thread", kills_a_thread, &bare, KILLED},
	{"a pidfd", holds_a_process, &bare, KILLED},
	{"a copy", copies_descriptor, &bare, KILLED},
	{"a memory file", makes_memory_file, &bare, KILLED},
	{"code", maps_code, &bare, KILLED},
	{"a descriptor that is passed", takes_descriptor, &bare, KILLED},
	{"the same where it is wanted", takes_descriptor, &passing, WORKS},
	{"a terminal's size", asks_for_size, &bare, KILLED},
	{"the same where it is wanted", asks_for_size, &at_terminal, WORKS},
	{"a terminal's size, set", sets_size, &at_terminal, KILLED},
	{"the engine", dials_locally, &dialling, WORKS},
	{"a network behind the engine's back", makes_inet_socket, &dialling, KILLED},
	{"a file behind the engine's back", opens, &dialling, REFUSED},
	{"a child where it is wanted", forks, &forking, WORKS},
	{"a path where it is wanted", opens_null, &forking, WORKS},
	{"a memory file where it is wanted", makes_memory_file, &forking, WORKS},
	{"another path", opens, &forking, REFUSED},
	{"a child's program", executes, &forking, KILLED},
	{"a signal to no child", kills, &forking, KILLED},
	{"a thread's of no child", kills_a_thread, &forking, KILLED},
	{"a child's socket", makes_socket, &forking, KILLED},
};

static size_t at;

static int try_free(void)
{
	return cases[at].attempt();
}

static int try_sealed(void)
{
	struct err e = ERR_INIT;

	if (priv_seal(cases[at].seal, &e) == 0)
		return cases[at].attempt();
	(void)fprintf(stderr, "%s\n", e.text);
	return UNTRIED;
}

static void test_leaves_what_is_named(void **state)
{
	(void)state;
	if (priv_is_instrumented())
		skip_because(NO_FILTERS);
	for (at = 0; at < ARRAY_LEN(cases); at++) {
		int free = in_child(try_free), sealed = in_child(try_sealed);
		bool is_right = cases[at].outcome == KILLED
					? is_killed_by_filter(sealed)
					: sealed == (cases[at].outcome == WORKS ? 0 : FAILED << 8);

		if (free != 0 || !is_right)
			fail_msg("%s: free %#x, sealed %#x", cases[at].name, free, sealed);
	}
}

static int makes_socket_sealed(void)
{
	return priv_seal(&bare, NULL) < 0 ? UNTRIED : makes_socket();
}

static int is_killed(void)
{
	return kill(getpid(), SIGKILL);
}

static void test_tells_its_filters_kills(void **state)
{
	(void)state;
	assert_string_equal(priv_seal_why(in_child(is_killed)), "");
	assert_string_equal(priv_seal_why(in_child(makes_socket)), "");
	if (!priv_is_instrumented())
		assert_non_null(strstr(priv_seal_why(in_child(makes_socket_sealed)), "never does"));
}

/* As others see it. */
static void test_shows_in_its_status(void **state)
{
	static const char *const lines[] = {"NoNewPrivs:\t1\n", "CapEff:\t0000000000000000\n",
					    "CapPrm:\t0000000000000000\n", "Seccomp:\t2\n"};
	const size_t n = ARRAY_LEN(lines) - priv_is_instrumented();
	char path[64], text[4096] = "", byte;
	int fd, status;
	pid_t pid = fork();

	(void)state;
	if (pid == 0) {
		if (priv_seal(&bare, NULL) < 0 || write(pair[0], "x", 1) != 1)
			_exit(UNTRIED);
		(void)!read(pair[0], &byte, 1);
		_exit(0);
	}
	assert_int_equal(read(pair[1], &byte, 1), 1);
	(void)snprintf(path, sizeof(path), "/proc/%d/status", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(read(fd, text, sizeof(text) - 1) > 0);
	(void)close(fd);
	for (size_t i = 0; i < n; i++) {
		if (!strstr(text, lines[i]))
			fail_msg("no %s in %s", lines[i], text);
	}
	/* Not dumpable: what is in there is no longer this user's to read. */
	if (geteuid() != 0) {
		(void)snprintf(path, sizeof(path), "/proc/%d/mem", pid);
		assert_true(open(path, O_RDONLY) < 0);
	}
	assert_int_equal(write(pair[1], "x", 1), 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* The parent of a sealed child, until somebody ends it. */
static _Noreturn void be_parent(int says)
{
	pid_t pid = -1;

	if (child_fork("cb-seal", UNTRIED, &says, 1, &pid, NULL) < 0)
		_exit(UNTRIED);
	if (pid == 0 && (priv_seal(&bare, NULL) < 0 || write(says, "x", 1) != 1))
		_exit(UNTRIED);
	(void)close(says);
	(void)poll(NULL, 0, -1);
	_exit(UNTRIED);
}

static void test_dies_with_its_parent(void **state)
{
	int ends[2], status;
	pid_t parent;
	char byte;

	(void)state;
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	parent = fork();
	if (parent == 0)
		be_parent(ends[1]);
	(void)close(ends[1]);
	assert_int_equal(io_wait(ends[0], POLLIN, 3000), 1);
	assert_int_equal(read(ends[0], &byte, 1), 1);
	assert_int_equal(kill(parent, SIGKILL), 0);
	assert_int_equal(waitpid(parent, &status, 0), parent);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(io_wait(ends[0], POLLIN, 3000), 1);
	assert_int_equal(read(ends[0], &byte, 1), 0);
	(void)close(ends[0]);
}

/* Landlock keeps a process from abstract names of others: the engine's has a path. */
static int open_all(void **state)
{
	int slave, fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)state;
	(void)snprintf(listener.sun_path, sizeof(listener.sun_path), "/tmp/cb-seal-%d", getpid());
	inet_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	return fd < 0 || bind(fd, (struct sockaddr *)&listener, sizeof(listener)) < 0 ||
			       listen(fd, 4) < 0 || inet_fd < 0 ||
			       openpty(&terminal, &slave, NULL, NULL, NULL) < 0 ||
			       socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0
		       ? -1
		       : 0;
}

static int remove_listener(void **state)
{
	(void)state;
	return unlink(listener.sun_path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_leaves_what_is_named),
		cmocka_unit_test(test_tells_its_filters_kills),
		cmocka_unit_test(test_shows_in_its_status),
		cmocka_unit_test(test_dies_with_its_parent),
	};

	return cmocka_run_group_tests(tests, open_all, remove_listener);
}
