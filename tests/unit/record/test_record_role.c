/* The record role as a process, with a test at each of its channels: what supervise is told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clean.h"
#include "base/io.h"
#include "bundle/bundle.h"
#include "record/record.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

struct world {
	pid_t pid;
	int send_fd, refused_fd, file_fd;
};

static void pair_make(int *ours, int *theirs)
{
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	*ours = pair[0];
	*theirs = pair[1];
}

static int setup(void **state)
{
	static struct world w;
	struct bundle_role_env env;
	int keyd_fd, ready_fd;
	char byte;

	memset(&env, 0xff, sizeof(env));
	env.role = BUNDLE_ROLE_RECORD;
	env.uid = 0;
	pair_make(&w.send_fd, &env.record_in_fds[BUNDLE_ROLE_PIPELOCK]);
	pair_make(&w.refused_fd, &env.refused_fd);
	pair_make(&keyd_fd, &env.keyd_fd);
	pair_make(&ready_fd, &env.ready_fd);
	close_fd(&keyd_fd); /* nothing is signed here */
	w.file_fd = memfd_create("records", MFD_CLOEXEC);
	env.records_file_fd = w.file_fd;
	w.pid = fork();
	if (w.pid == 0) {
		close_fd(&w.send_fd);
		close_fd(&w.refused_fd);
		_exit(record_role_main(&env));
	}
	close_fd(&env.record_in_fds[BUNDLE_ROLE_PIPELOCK]);
	close_fd(&env.refused_fd);
	close_fd(&env.keyd_fd);
	close_fd(&env.ready_fd);
	assert_int_equal(read(ready_fd, &byte, 1), 1);
	close_fd(&ready_fd);
	*state = &w;
	return 0;
}

/* The role writes what it has and ends. */
static void end(struct world *w)
{
	int status;

	close_fd(&w->send_fd);
	assert_int_equal(waitpid(w->pid, &status, 0), w->pid);
	assert_true(WIFEXITED(status));
	w->pid = 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	if (w->pid > 0) {
		(void)kill(w->pid, SIGKILL);
		(void)waitpid(w->pid, NULL, 0);
	}
	close_fd(&w->send_fd);
	close_fd(&w->refused_fd);
	close_fd(&w->file_fd);
	return 0;
}

static void send_record(struct world *w, enum record_verdict v, const char *reason)
{
	struct record r;

	record_init(&r, "egress", v, reason); /* its channel says otherwise */
	assert_int_equal(record_send(w->send_fd, &r), 0);
}

static bool take(struct world *w, struct record *r)
{
	return io_wait(w->refused_fd, POLLIN, 1000) == 1 &&
	       recv(w->refused_fd, r, sizeof(*r), MSG_DONTWAIT) == (ssize_t)sizeof(*r);
}

static void test_copies(void **state)
{
	struct world *w = *state;
	struct record r;

	send_record(w, RECORD_ALLOW, "ok");
	send_record(w, RECORD_BLOCK, "first");
	send_record(w, RECORD_NOTE, "note");
	send_record(w, RECORD_REDACT, "redacted");
	send_record(w, RECORD_HOLD, "second");
	assert_true(take(w, &r));
	assert_int_equal(r.verdict, RECORD_BLOCK);
	assert_string_equal(r.reason, "first");
	assert_string_equal(r.role, "pipelock");
	assert_true(take(w, &r));
	assert_int_equal(r.verdict, RECORD_HOLD);
	assert_string_equal(r.reason, "second");
	end(w);
	assert_int_equal(recv(w->refused_fd, &r, sizeof(r), 0), 0);
}

static size_t lines(int fd)
{
	static char text[1 << 20];
	ssize_t n = pread(fd, text, sizeof(text), 0);
	size_t count = 0;

	for (ssize_t i = 0; i < n; i++)
		count += text[i] == '\n';
	return count;
}

/* Nobody reads them: what is not taken is dropped, and the file has every one. */
static void test_nobody_reads(void **state)
{
	struct world *w = *state;
	struct record r;
	unsigned taken = 0;

	for (int i = 0; i < 1000; i++)
		send_record(w, RECORD_BLOCK, "many");
	end(w);
	assert_int_equal(lines(w->file_fd), 1000);
	while (recv(w->refused_fd, &r, sizeof(r), MSG_DONTWAIT) == (ssize_t)sizeof(r))
		taken++;
	assert_in_range(taken, 1, 999);
}

/* supervise is gone. */
static void test_reader_gone(void **state)
{
	struct world *w = *state;

	close_fd(&w->refused_fd);
	send_record(w, RECORD_BLOCK, "first");
	send_record(w, RECORD_BLOCK, "second");
	end(w);
	assert_int_equal(lines(w->file_fd), 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_copies, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nobody_reads, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reader_gone, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
