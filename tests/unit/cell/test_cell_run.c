/* Commands in a cell: what they are given, what comes back, and how they end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "cell_fixture.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/timeutil.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define OUT_MAX	     8192
#define RUNS_MAX     64
#define STATUS_NEVER 125

static void open_pipe(int *ours, int *theirs)
{
	int ends[2];

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	*ours = ends[0];
	*theirs = ends[1];
}

/* All that comes until everybody has closed it. */
static void read_all(int fd, char *out, size_t size)
{
	size_t n = 1;

	out[0] = '\n';
	while (n < size - 1 && io_wait(fd, POLLIN, 10000) == 1) {
		ssize_t got = read(fd, out + n, size - 1 - n);

		if (got <= 0)
			break;
		n += (size_t)got;
	}
	out[n] = '\0';
}

/* Waits for one byte from a script that has come so far. */
static void await_byte(int fd)
{
	char byte;

	assert_int_equal(io_wait(fd, POLLIN, 10000), 1);
	assert_int_equal(read(fd, &byte, 1), 1);
}

static int memory(const char *text)
{
	int fd = io_memfd_sealed("text", str_of(text), NULL);

	assert_true(fd >= 0);
	return fd;
}

static void test_descriptors(void **state)
{
	_cleanup_close_ int ours = -1, theirs = -1;
	struct cell_fixture f;
	char out[OUT_MAX];
	int fds[CELL_FDS_MAX];
	pid_t pid;

	(void)state;
	fixture_make(&f);
	open_pipe(&ours, &theirs);
	for (size_t i = 0; i < CELL_FDS_MAX; i++) {
		char text[32];

		(void)snprintf(text, sizeof(text), "file %zu\n", i);
		fds[i] = memory(text);
	}
	fixture_start(&f, "cat <&10; cat <&11; cat <&57; ls /proc/self/fd | tr '\\n' ' '; echo",
		      theirs, fds, CELL_FDS_MAX, &pid);
	for (size_t i = 0; i < CELL_FDS_MAX; i++)
		(void)close(fds[i]);
	close_fd(&theirs);
	read_all(ours, out, sizeof(out));
	assert_int_equal(fixture_wait(pid), 0);
	fixture_assert_line(out, "file 0");
	fixture_assert_line(out, "file 1");
	fixture_assert_line(out, "file 47");
	/* All of the given ones, and ls's own: none besides. */
	assert_non_null(strstr(out, "\n0 1 10 11 12 "));
	assert_null(strstr(out, " 58"));
	assert_null(strstr(out, " 4 "));
	fixture_free(&f);
}

/* What is given to be read cannot be opened anew to be written; and a memory file can be opened by
 * the name that it has in /proc. */
static void test_reopen(void **state)
{
	_cleanup_close_ int ours = -1, theirs = -1, mem = memory("in memory\n"), file = -1;
	struct cell_fixture f;
	char out[OUT_MAX], path[96];
	struct str text;
	pid_t pid;

	(void)state;
	if (!fixture_has_landlock())
		skip();
	fixture_make(&f);
	(void)snprintf(path, sizeof(path), "%s/text", f.shown);
	assert_int_equal(chmod(path, 0666), 0);
	file = open(path, O_RDONLY | O_CLOEXEC);
	open_pipe(&ours, &theirs);
	fixture_start(&f,
		      "cat <&10; echo x 2>/dev/null >/proc/self/fd/10 || echo refused; "
		      "cat /proc/self/fd/11",
		      theirs, (const int[]){file, mem}, 2, &pid);
	close_fd(&theirs);
	read_all(ours, out, sizeof(out));
	assert_int_equal(fixture_wait(pid), 0);
	assert_string_equal(out, "\nshown text\nrefused\nin memory\n");
	assert_int_equal(io_read_file(AT_FDCWD, path, 4096, &text, NULL), 0);
	assert_string_equal(text.p, "shown text\n");
	free((void *)(uintptr_t)text.p);
	fixture_free(&f);
}

/* A program with nothing but its words and its bounds. */
static int call(struct cell_fixture *f, const char *const *argv, int timeout_ms, size_t max,
		struct str *out, struct str *err)
{
	struct cell_run r = {
		.argv = (char *const *)(uintptr_t)argv, .in_fd = -1, .out_fd = -1, .err_fd = -1};

	return cell_call(&f->cell, &r, timeout_ms, max, out, err, NULL);
}

static void drop(struct str *text)
{
	free((void *)(uintptr_t)text->p);
	*text = STR_NULL;
}

static void test_environment(void **state)
{
	static const char *const argv[] = {"/usr/bin/env", NULL};
	char *env[] = {(char *)(uintptr_t) "ONE=1", (char *)(uintptr_t) "EMPTY=", NULL};
	struct cell_run r = {.argv = (char *const *)(uintptr_t)argv,
			     .env = env,
			     .in_fd = -1,
			     .out_fd = -1,
			     .err_fd = -1};
	struct cell_fixture f;
	struct str out, err;

	(void)state;
	fixture_make(&f);
	assert_int_equal(cell_call(&f.cell, &r, 5000, 4096, &out, &err, NULL), 0);
	assert_string_equal(out.p, "ONE=1\nEMPTY=\n");
	assert_int_equal(err.n, 0);
	drop(&out);
	drop(&err);
	assert_int_equal(call(&f, argv, 5000, 4096, &out, &err), 0);
	assert_non_null(strstr(out.p, "CLAUDE_BOTTLE_SLUG=test-cell\n"));
	assert_null(strstr(out.p, "ONE="));
	drop(&out);
	drop(&err);
	fixture_free(&f);
}

/* Its status; what it says must be what is expected. */
static int said(struct cell_fixture *f, const char *const *argv, const char *output,
		const char *complaint)
{
	struct str out, err;
	int status = call(f, argv, 5000, 4096, &out, &err);

	if (status >= 0) {
		assert_string_equal(out.p, output);
		assert_string_equal(err.p, complaint);
	}
	drop(&out);
	drop(&err);
	return status;
}

#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void test_statuses(void **state)
{
	struct cell_fixture f;
	char out[OUT_MAX];

	(void)state;
	fixture_make(&f);
	assert_int_equal(fixture_script(&f, "exit 42", out, sizeof(out)), 42);
	assert_int_equal(fixture_script(&f, "kill -TERM $$", out, sizeof(out)), 128 + SIGTERM);
	assert_int_equal(said(&f, WORDS("/no/such"), "",
			      "claude-bottle: cannot run \"/no/such\": "
			      "No such file or directory\n"),
			 127);
	assert_int_equal(said(&f, WORDS("/usr"), "",
			      "claude-bottle: cannot run \"/usr\": Permission denied\n"),
			 126);
	assert_int_equal(said(&f, WORDS("true"), "", ""), -EINVAL);
	/* Neither the keeper's signals nor those of process 1 are the command's. */
	assert_int_equal(said(&f, WORDS("/usr/bin/grep", "Sig[BI]", "/proc/self/status"),
			      "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n", ""),
			 0);
	fixture_free(&f);
}

static void test_until_a_pipe_hangs_up(void **state)
{
	static const char *const argv[] = {"/bin/sleep", "60", NULL};
	int until[2];
	struct cell_run r = {.argv = (char *const *)(uintptr_t)argv,
			     .in_fd = -1,
			     .out_fd = -1,
			     .err_fd = -1,
			     .until_fd = &until[0]};
	struct cell_fixture f;
	pid_t pid;

	(void)state;
	fixture_make(&f);
	open_pipe(&until[0], &until[1]);
	assert_int_equal(cell_run(&f.cell, &r, &pid, NULL), 0);
	/* A word is no end. */
	assert_int_equal(write(until[1], "x", 1), 1);
	(void)usleep(100000);
	assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
	(void)close(until[1]);
	assert_int_equal(fixture_wait(pid), 125);
	(void)close(until[0]);
	fixture_free(&f);
}

/* Nothing of it is asked for. */
static void test_refuses(void **state)
{
	static const char *const argv[] = {"/bin/true", NULL};
	_cleanup_close_ int folder = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int many[CELL_FDS_MAX + 1];
	struct cell_run r = {.argv = (char *const *)(uintptr_t)argv,
			     .in_fd = -1,
			     .out_fd = -1,
			     .err_fd = -1,
			     .fds = &folder,
			     .n_fds = 1};
	struct cell_fixture f;
	pid_t pid;

	(void)state;
	fixture_make(&f);
	assert_int_equal(cell_run(&f.cell, &r, &pid, NULL), -EISDIR);
	assert_int_equal(pid, 0);
	r.fds = many;
	r.n_fds = CELL_FDS_MAX + 1;
	assert_int_equal(cell_run(&f.cell, &r, &pid, NULL), -E2BIG);
	many[0] = -1;
	r.n_fds = 1;
	assert_int_equal(cell_run(&f.cell, &r, &pid, NULL), -EBADF);
	r.argv = (char *[]){NULL};
	r.n_fds = 0;
	assert_int_equal(cell_run(&f.cell, &r, &pid, NULL), -EINVAL);
	fixture_free(&f);
}

static void test_terminal(void **state)
{
	struct winsize size = {.ws_row = 33, .ws_col = 101};
	char *argv[] = {(char *)(uintptr_t) "/bin/bash", (char *)(uintptr_t) "-c",
			(char *)(uintptr_t) "stty size </dev/tty; echo ready; read line", NULL};
	int master, slave;
	struct cell_fixture f;
	char out[OUT_MAX] = "";
	size_t n = 0;
	pid_t pid;

	(void)state;
	fixture_make(&f);
	assert_int_equal(openpty(&master, &slave, NULL, NULL, &size), 0);
	assert_int_equal(cell_run(&f.cell,
				  &(struct cell_run){.argv = argv,
						     .in_fd = slave,
						     .out_fd = slave,
						     .err_fd = slave,
						     .has_terminal = true},
				  &pid, NULL),
			 0);
	(void)close(slave);
	while (!strstr(out, "ready") && io_wait(master, POLLIN, 5000) == 1) {
		ssize_t got = read(master, out + n, sizeof(out) - 1 - n);

		if (got <= 0)
			break;
		n += (size_t)got;
		out[n] = '\0';
	}
	assert_non_null(strstr(out, "33 101"));
	/* The terminal's own way to a signal: it is the session's. */
	assert_int_equal(write(master, "\003", 1), 1);
	assert_int_equal(fixture_wait(pid), 128 + SIGINT);
	(void)close(master);
	fixture_free(&f);
}

#define SHELL(script) WORDS("/bin/bash", "-c", script)

static void test_call_bounds(void **state)
{
	struct cell_fixture f;
	struct str out, err;

	(void)state;
	fixture_make(&f);
	assert_int_equal(said(&f, SHELL("printf 0123456789; printf abc >&2"), "0123456789", "abc"),
			 0);
	assert_int_equal(call(&f, SHELL("printf 0123456789"), 5000, 10, &out, &err), 0);
	drop(&out);
	drop(&err);
	assert_int_equal(call(&f, SHELL("printf 0123456789a"), 5000, 10, &out, &err), -E2BIG);
	assert_null(out.p);
	assert_int_equal(call(&f, SHELL("yes >&2"), 5000, 100000, &out, &err), -E2BIG);
	assert_int_equal(call(&f, SHELL("touch /tmp/began; sleep 60"), 300, 10, &out, &err),
			 -ETIMEDOUT);
	assert_null(out.p);
	/* It had begun, and is gone. */
	assert_int_equal(said(&f, SHELL("ls /tmp; sleep 0.1; ! grep -ls sleep /proc/[0-9]*/comm"),
			      "began\n", ""),
			 0);
	/* Whoever stays in the background with the pipes in its hands is not waited for. */
	assert_int_equal(said(&f, SHELL("setsid sleep 60 & echo started"), "started\n", ""), 0);
	fixture_free(&f);
}

/* Its own limits: process 1 has none of them, nor has the next one. */
static void test_address_space(void **state)
{
	static const char script[] =
		"echo space=$(ulimit -Hv) stack=$(ulimit -Hs)\n"
		"dd if=/dev/null of=/dev/null bs=64M 2>/dev/null; echo small=$?\n"
		"dd if=/dev/null of=/dev/null bs=512M 2>/dev/null; echo large=$?\n";
	static const struct {
		uint64_t bytes;
		const char *said;
	} runs[] = {{256u << 20, "space=262144 stack=8192\nsmall=0\nlarge=1\n"},
		    {0, "small=0\nlarge=0\n"}};
	struct cell_fixture f;

	(void)state;
	fixture_make(&f);
	for (size_t i = 0; i < ARRAY_LEN(runs); i++) {
		struct cell_run r = {.argv = (char *const *)(uintptr_t)SHELL(script),
				     .in_fd = -1,
				     .out_fd = -1,
				     .err_fd = -1,
				     .address_space_bytes = runs[i].bytes};
		struct str out, err;

		assert_int_equal(cell_call(&f.cell, &r, 5000, OUT_MAX, &out, &err, NULL), 0);
		assert_true(str_ends(out, str_of(runs[i].said)));
		drop(&out);
		drop(&err);
	}
	fixture_free(&f);
}

/* Whoever kills the stand-in kills the command and its group, and nobody else. */
static void test_stand_in_killed(void **state)
{
	_cleanup_close_ int group = -1, group_theirs = -1, other = -1, other_theirs = -1;
	struct cell_fixture f;
	char out[OUT_MAX];
	pid_t pid;

	(void)state;
	fixture_make(&f);
	open_pipe(&group, &group_theirs);
	open_pipe(&other, &other_theirs);
	fixture_start(&f,
		      "setsid bash -c 'echo >&10; exec 10>&-; sleep 60' & sleep 60 11>&- & wait",
		      -1, (const int[]){group_theirs, other_theirs}, 2, &pid);
	close_fd(&group_theirs);
	close_fd(&other_theirs);
	await_byte(group);
	assert_int_equal(kill(pid, SIGTERM), 0);
	assert_int_equal(fixture_wait(pid), 1000 + SIGTERM);
	assert_true(fixture_has_ended(group));
	assert_int_equal(io_wait(other, POLLIN, 50), 0);
	/* And the cell serves on. */
	assert_int_equal(fixture_script(&f, "exit 3", out, sizeof(out)), 3);
	cell_kill(&f.cell);
	assert_true(fixture_has_ended(other));
	fixture_free(&f);
}

static void test_many(void **state)
{
	_cleanup_close_ int ours = -1, theirs = -1;
	struct cell_fixture f;
	char out[OUT_MAX];
	pid_t pids[RUNS_MAX], extra;

	(void)state;
	fixture_make(&f);
	open_pipe(&ours, &theirs);
	for (size_t i = 0; i < RUNS_MAX; i++)
		fixture_start(&f, "exec sleep 60", theirs, NULL, 0, &pids[i]);
	fixture_start(&f, "true", -1, NULL, 0, &extra);
	assert_int_equal(fixture_wait(extra), STATUS_NEVER);
	assert_int_equal(kill(pids[7], SIGKILL), 0);
	assert_int_equal(fixture_wait(pids[7]), 1000 + SIGKILL);
	/* Its place is free as soon as it is reaped. */
	for (int i = 0; i < 100; i++) {
		if (fixture_script(&f, "exit 4", out, sizeof(out)) == 4)
			break;
		assert_true(i < 99);
		(void)poll(NULL, 0, 10);
	}
	close_fd(&theirs);
	cell_free(&f.cell);
	assert_true(fixture_has_ended(ours));
	for (size_t i = 0; i < RUNS_MAX; i++) {
		if (i != 7)
			assert_int_equal(fixture_wait(pids[i]), STATUS_NEVER);
	}
	fixture_free(&f);
}

/* A monitor that puts itself into the background outlives its command, and ends with the cell. */
static const char daemon_script[] = "setsid bash -c 'setsid sleep 60 & exit 0' & wait; echo >&10";

static void test_background(void **state)
{
	_cleanup_close_ int ours = -1, theirs = -1;
	struct cell_fixture f;
	struct err e = ERR_INIT;
	pid_t pid;

	(void)state;
	fixture_make(&f);
	open_pipe(&ours, &theirs);
	fixture_start(&f, daemon_script, -1, &theirs, 1, &pid);
	close_fd(&theirs);
	assert_int_equal(fixture_wait(pid), 0);
	await_byte(ours);
	assert_int_equal(io_wait(ours, POLLIN, 50), 0);
	cell_kill(&f.cell);
	assert_true(fixture_has_ended(ours));
	assert_int_equal(cell_run(&f.cell, &(struct cell_run){.argv = NULL}, &pid, &e), -EPIPE);
	fixture_free(&f);
}

/* Its connection is the cell's life, whatever the keeper's children hold. */
static void test_hang_up(void **state)
{
	_cleanup_close_ int ours = -1, theirs = -1;
	struct cell_fixture f;
	pid_t pid;

	(void)state;
	fixture_make(&f);
	open_pipe(&ours, &theirs);
	fixture_start(&f, "echo >&10; sleep 60", -1, &theirs, 1, &pid);
	close_fd(&theirs);
	await_byte(ours);
	close_fd(&f.cell.conn_fd);
	assert_true(fixture_has_ended(ours));
	assert_int_equal(fixture_wait(pid), STATUS_NEVER);
	fixture_free(&f);
}

/* However the keeper ends. */
static void test_keeper_dies(void **state)
{
	_cleanup_close_ int ours = -1, theirs = -1;
	struct cell_fixture f;
	pid_t keeper, pid;
	int status;

	(void)state;
	fixture_prepare(&f);
	open_pipe(&ours, &theirs);
	keeper = fork();
	if (keeper == 0) {
		if (cell_make(&f.cell, &f.spec, NULL) < 0)
			_exit(1);
		fixture_start(&f, daemon_script, -1, &theirs, 1, &pid);
		(void)waitpid(pid, &status, 0);
		fixture_start(&f, "sleep 60", theirs, NULL, 0, &pid);
		(void)kill(getpid(), SIGKILL);
	}
	close_fd(&theirs);
	assert_int_equal(fixture_wait(keeper), 1000 + SIGKILL);
	await_byte(ours);
	assert_true(fixture_has_ended(ours));
	fixture_free(&f);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_descriptors),   cmocka_unit_test(test_reopen),
		cmocka_unit_test(test_environment),   cmocka_unit_test(test_statuses),
		cmocka_unit_test(test_terminal),      cmocka_unit_test(test_until_a_pipe_hangs_up),
		cmocka_unit_test(test_refuses),	      cmocka_unit_test(test_call_bounds),
		cmocka_unit_test(test_address_space), cmocka_unit_test(test_stand_in_killed),
		cmocka_unit_test(test_many),	      cmocka_unit_test(test_background),
		cmocka_unit_test(test_hang_up),	      cmocka_unit_test(test_keeper_dies),
	};

	fixture_begin(argc, argv);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
