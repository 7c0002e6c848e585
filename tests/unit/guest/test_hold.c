/* An agent that is held in a machine: guest hold, what tells it things, and commands beside. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"
#include "guest/guest_int.h"
#include "net/sock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define ASK_MS	20000
#define AGENT	65534 /* where we are root */
#define WALL_OK "{\"pinned\":\"127.0.0.1\",\"answers\":[],\"closed\":[]}"

struct machine {
	char folder[64], run[80], home[80];
	pid_t hold;
	int out; /* the agent's output */
};

static const struct hold_agent agent = {.uid = AGENT, .gid = AGENT};

static int setup(void **state)
{
	struct machine *m = mem_zalloc(sizeof(*m));
	int ends[2];

	(void)snprintf(m->folder, sizeof(m->folder), "/tmp/cb-hold-XXXXXX");
	assert_non_null(mkdtemp(m->folder));
	assert_int_equal(chmod(m->folder, 0711), 0);
	(void)snprintf(m->run, sizeof(m->run), "%s/run", m->folder);
	(void)snprintf(m->home, sizeof(m->home), "%s/home", m->folder);
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	m->hold = fork();
	if (m->hold == 0) {
		(void)dup2(open("/dev/null", O_RDONLY), 0);
		(void)dup2(ends[1], 1);
		(void)dup2(ends[1], 2);
		_exit(hold_main(m->run, &agent, m->home));
	}
	(void)close(ends[1]);
	m->out = ends[0];
	*state = m;
	return 0;
}

static int teardown(void **state)
{
	struct machine *m = *state;
	int at = open("/tmp", O_RDONLY | O_DIRECTORY);

	if (m->hold > 0) {
		(void)kill(m->hold, SIGKILL);
		(void)waitpid(m->hold, NULL, 0);
	}
	(void)close(m->out);
	assert_int_equal(io_remove_tree(at, m->folder + strlen("/tmp/"), NULL), 0);
	(void)close(at);
	free(m);
	return 0;
}

/* The answer's letter; its text in *said. */
static char ask(const struct machine *m, char letter, const char *order, uint32_t number,
		uint32_t a, struct handle_message *said)
{
	struct err e = ERR_INIT;
	int ret = -1;

	/* It may still be on its way. */
	for (int i = 0; i < 200 && ret < 0; i++) {
		*said = HANDLE_MESSAGE_INIT;
		said->letter = letter;
		said->number = number;
		said->a = a;
		if (order) {
			said->fds[0] = io_memfd_sealed("order", str_of(order), &e);
			said->n_fds = 1;
		}
		ret = handle_ask(m->run, said, ASK_MS, &e);
		handle_message_free(said);
		if (ret < 0)
			(void)poll(NULL, 0, 20);
	}
	assert_int_equal(ret, 0);
	return said->letter;
}

static char *go(const char *script)
{
	return mem_printf(
		"{\"argv\":[\"/bin/sh\",\"-c\",\"%s\"],\"tty\":false,\"env\":[\"PATH=/usr/bin:/"
		"bin\","
		"\"MARK=set\"],\"files\":[{\"path\":\"a/b\",\"mode\":384,\"text\":\"t\"}],"
		"\"limits\":{\"files\":64,\"file_size_bytes\":0,\"processes\":0}}",
		script);
}

static void begin(const struct machine *m, const char *script)
{
	_cleanup_free_ char *order = go(script);
	struct handle_message said;

	assert_int_equal(ask(m, 'c', WALL_OK, 0, 0, &said), 'k');
	assert_int_equal(ask(m, 'g', order, 0, 0, &said), 's');
}

static int ended(struct machine *m)
{
	int how = 0;

	assert_int_equal(waitpid(m->hold, &how, 0), m->hold);
	m->hold = 0;
	return WIFEXITED(how) ? WEXITSTATUS(how) : 128 + WTERMSIG(how);
}

static void read_until(int fd, const char *wanted)
{
	char text[512] = "";
	size_t n = 0;

	while (!strstr(text, wanted)) {
		ssize_t got;

		assert_int_equal(io_wait(fd, POLLIN, ASK_MS), 1);
		got = read(fd, text + n, sizeof(text) - 1 - n);
		assert_true(got > 0);
		n += (size_t)got;
		text[n] = '\0';
	}
}

static void test_an_agent(void **state)
{
	struct machine *m = *state;
	_cleanup_free_ char *path = mem_printf("%s/status", m->run);
	struct handle_message said;
	struct stat st;
	struct str text;

	assert_int_equal(ask(m, 'h', NULL, 0, 0, &said), 'h');
	assert_int_equal(stat(m->run, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	begin(m, "echo $MARK $(id -u) $(cat ~/a/b) $(ulimit -n); exit 5");
	read_until(m->out, geteuid() == 0 ? "set 65534 t 64" : " t 64");
	assert_int_equal(ended(m), 5);
	/* Its output has ended with it. */
	assert_int_equal(read(m->out, &(char){0}, 1), 0);
	assert_int_equal(io_read_file(AT_FDCWD, path, 16, &text, NULL), 0);
	assert_string_equal(text.p, "5\n");
	free((void *)(uintptr_t)text.p);
}

static void test_no_agent_behind_a_wall_that_nobody_has_seen(void **state)
{
	struct machine *m = *state;
	_cleanup_free_ char *order = go("echo never");
	struct handle_message said;

	assert_int_equal(ask(m, 'g', order, 0, 0, &said), 'n');
	assert_non_null(strstr(said.text, "nobody has looked at the wall"));
	assert_int_equal(ended(m), GUEST_NOT_RUN);
}

static void test_no_agent_behind_an_open_wall(void **state)
{
	struct machine *m = *state;
	uint16_t port = 0;
	_cleanup_close_ int hole = sock_listen(htonl(INADDR_LOOPBACK), &port, NULL);
	_cleanup_free_ char *order = go("echo never");
	_cleanup_free_ char *open_wall =
		mem_printf("{\"pinned\":\"127.0.0.1\",\"answers\":[],\"closed\":[{\"address\":"
			   "\"127.0.0.1\",\"port\":%u,\"what\":\"a hole\"}]}",
			   port);
	struct handle_message said;

	assert_true(hole >= 0);
	assert_int_equal(ask(m, 'c', open_wall, 0, 0, &said), 'n');
	assert_non_null(strstr(said.text, "a hole"));
	assert_int_equal(ask(m, 'c', WALL_OK, 0, 0, &said), 'k');
	assert_int_equal(ask(m, 'g', order, 0, 0, &said), 'n');
	assert_non_null(strstr(said.text, "the wall does not hold"));
	assert_int_equal(ended(m), GUEST_NOT_RUN);
}

static void test_signals(void **state)
{
	struct machine *m = *state;
	struct handle_message said;

	begin(m, "trap 'exit 9' USR1; echo ready; while :; do sleep 0.05; done");
	read_until(m->out, "ready");
	assert_int_equal(ask(m, 'p', NULL, 7, SIGUSR1, &said), 'n');
	assert_int_equal(ask(m, 'p', NULL, 0, SIGUSR1, &said), 'y');
	assert_int_equal(ended(m), 9);
}

/* guest beside, as a process; its output is what is read from *out. */
static pid_t beside(const struct machine *m, unsigned number, const char *script, int *out)
{
	char *argv[] = {(char *)(uintptr_t) "/bin/sh", (char *)(uintptr_t) "-c",
			(char *)(uintptr_t)script, NULL};
	int ends[2];
	pid_t pid;

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		(void)dup2(ends[1], 1);
		(void)dup2(ends[1], 2);
		_exit(beside_main(m->run, number, argv));
	}
	(void)close(ends[1]);
	*out = ends[0];
	return pid;
}

static int beside_ended(pid_t pid)
{
	int how = 0;

	assert_int_equal(waitpid(pid, &how, 0), pid);
	return WIFEXITED(how) ? WEXITSTATUS(how) : 128 + WTERMSIG(how);
}

static void test_beside(void **state)
{
	struct machine *m = *state;
	struct handle_message said;
	int out[2];
	pid_t first, second;

	assert_int_equal(ask(m, 'h', NULL, 0, 0, &said), 'h');
	first = beside(m, 1, "echo never", &out[0]);
	read_until(out[0], "the agent has not begun");
	assert_int_equal(beside_ended(first), GUEST_NOT_RUN);
	(void)close(out[0]);
	begin(m, "while :; do sleep 0.05; done");
	first = beside(m, 2,
		       "trap 'exit 4' USR1; echo $MARK $CLAUDE_BOTTLE_EXEC $(ulimit -n); "
		       "while :; do sleep 0.05; done",
		       &out[0]);
	read_until(out[0], "set 2 64");
	/* One number, one command. */
	second = beside(m, 2, "echo never", &out[1]);
	read_until(out[1], "not started");
	assert_int_equal(beside_ended(second), GUEST_NOT_RUN);
	(void)close(out[1]);
	assert_int_equal(ask(m, 'w', NULL, 2, 10, &said), 'n'); /* it has no terminal */
	assert_int_equal(ask(m, 'p', NULL, 2, SIGUSR1, &said), 'y');
	assert_int_equal(beside_ended(first), 4);
	(void)close(out[0]);
	/* Whoever stands for it is killed, and the command with it. */
	first = beside(m, 3, "echo ready; exec sleep 1000", &out[0]);
	read_until(out[0], "ready");
	(void)kill(first, SIGKILL);
	assert_int_equal(beside_ended(first), 128 + SIGKILL);
	assert_int_equal(read(out[0], &(char){0}, 1), 0);
	(void)close(out[0]);
	assert_int_equal(ask(m, 'p', NULL, 0, SIGKILL, &said), 'y');
	assert_int_equal(ended(m), 128 + SIGKILL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_an_agent, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_agent_behind_a_wall_that_nobody_has_seen,
						setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_agent_behind_an_open_wall, setup, teardown),
		cmocka_unit_test_setup_teardown(test_signals, setup, teardown),
		cmocka_unit_test_setup_teardown(test_beside, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
