/* Tools of the host: their descriptors, what they say, and their end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/tool.h"

#include "base/clean.h"
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

static int run(const char *script, int in_fd, int out_fd, int file_fd, int timeout_ms,
	       struct err *e)
{
	const char *const argv[] = {"/bin/sh", "-c", script, NULL};

	*e = ERR_INIT;
	return tool_do(&(struct tool){.argv = argv,
				      .package = "dash",
				      .folder = "/",
				      .in_fd = in_fd,
				      .out_fd = out_fd,
				      .file_fd = file_fd},
		       timeout_ms, e);
}

static int file_of(const char *text)
{
	int fd = memfd_create("text", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(io_write_all(fd, text, strlen(text)), 0);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	return fd;
}

static void assert_holds(int fd, const char *expected)
{
	struct str text;

	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	assert_int_equal(io_read_all(fd, 65536, &text, NULL), 0);
	assert_string_equal(text.p, expected);
	free((char *)text.p);
}

static void test_descriptors(void **state)
{
	_cleanup_close_ int in = file_of("in"), out = file_of(""), file = file_of("");
	struct err e;

	(void)state;
	assert_int_equal(setenv("SECRET", "of the user's", 1), 0);
	assert_int_equal(run("cat; pwd; echo $SECRET $PATH; echo file >" TOOL_FILE
			     "; ls /proc/self/fd",
			     in, out, file, 10000, &e),
			 0);
	/* The last one is of ls itself. */
	assert_holds(out, "in/\n/usr/sbin:/usr/bin:/sbin:/bin\n0\n1\n2\n3\n4\n");
	assert_holds(file, "file\n");
	/* Nothing given: nothing to read, and nobody who is shown. */
	assert_int_equal(run("cat; echo out", -1, -1, -1, 10000, &e), 0);
}

static void fails_with(const char *script, int code, const char *text)
{
	struct err e;

	assert_int_equal(run(script, -1, -1, -1, 10000, &e), code);
	assert_string_equal(e.text, text);
}

static void test_failures(void **state)
{
	(void)state;
	fails_with("echo one >&2; echo two >&2; exit 3", -EIO, "sh: two");
	fails_with("echo 'E: why' >&2; echo 'E: apt failed' >&2; echo last >&2; exit 1", -EIO,
		   "sh: E: why");
	fails_with("printf 'a\\033[31m: No space left on device\\n' >&2; exit 1", -ENOSPC,
		   "sh: a\\x1b[31m: No space left on device");
	fails_with("kill -9 $$", -EIO, "sh: it was killed");
	/* It may not fill the memory with words. */
	fails_with("trap '' PIPE; yes >&2 || exit 4", -EIO, "sh: y");
}

static void test_not_there(void **state)
{
	const char *const argv[] = {"/nothing/here", NULL};
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(tool_do(&(struct tool){.argv = argv,
						.package = "nothing",
						.in_fd = -1,
						.out_fd = -1,
						.file_fd = -1},
				 1000, &e),
			 -ENOENT);
	assert_string_equal(e.text, "here is not installed (package nothing)");
	assert_null(tool_find("no-such-tool"));
	assert_null(tool_find("../../tmp"));
	assert_string_equal(tool_find("env"), "/usr/bin/env");
}

static void test_time_is_limited(void **state)
{
	const char *const argv[] = {"/bin/sh", "-c", "echo started >&2; exec sleep 1000", NULL};
	struct tool_run r;
	struct err e;
	char said[64] = "";
	pid_t pid;

	(void)state;
	assert_int_equal(run("exec sleep 1000", -1, -1, -1, 50, &e), -ETIMEDOUT);
	assert_int_equal(tool_start(&r,
				    &(struct tool){.argv = argv,
						   .package = "dash",
						   .in_fd = -1,
						   .out_fd = -1,
						   .file_fd = -1},
				    &e),
			 0);
	while (strcmp(said, "started") != 0) {
		assert_int_equal(tool_wait(&r, 10), 0);
		tool_said(&r, said, sizeof(said));
	}
	pid = r.pid;
	assert_true(tool_end(&r, true, &e) < 0);
	assert_true(kill(pid, 0) < 0 && errno == ESRCH);
}

/* What was written to a pipe until nobody has its other end any more. */
static void assert_ends_with(int fd, const char *expected)
{
	char text[64] = "";
	size_t n = 0;
	ssize_t got;

	do {
		assert_int_equal(io_wait(fd, POLLIN, 5000), 1);
		got = read(fd, text + n, sizeof(text) - 1 - n);
		n += got > 0 ? (size_t)got : 0;
	} while (got > 0);
	assert_string_equal(text, expected);
}

/* A shell's child is not told of the shell's end by anybody else. */
static void test_nobody_outlives_the_caller(void **state)
{
	static const struct {
		const char *script, *says;
	} tools[] = {
		{"sleep 1000; true", ""},
		{"trap '' HUP; sleep 1000 & wait", ""},
		/* It waits for another one, who tidies up. */
		{"trap : TERM; sh -c 'trap \"echo tidy; exit\" TERM; while :; do sleep 0.02; done'",
		 "tidy\n"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(tools); i++) {
		const char *const argv[] = {"/bin/sh", "-c", tools[i].script, NULL};
		struct tool_run r;
		int ends[2];
		pid_t caller;

		assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
		caller = fork();
		if (caller == 0) {
			int ret = tool_start(&r,
					     &(struct tool){.argv = argv,
							    .package = "dash",
							    .in_fd = -1,
							    .out_fd = ends[1],
							    .file_fd = -1},
					     NULL);

			close_fd(&ends[1]);
			if (ret == 0 && io_wait(ends[0], POLLIN, 100) == 0)
				(void)kill(getpid(), SIGKILL);
			_exit(1);
		}
		close_fd(&ends[1]);
		assert_int_equal(waitpid(caller, NULL, 0), caller);
		assert_ends_with(ends[0], tools[i].says);
		close_fd(&ends[0]);
	}
}

/* However it ends. */
static void test_its_folder_goes(void **state)
{
	static const char *const scripts[] = {"mkdir -p a/b; echo >a/b/c", "echo >a; kill -9 $$"};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(scripts); i++) {
		const char *const argv[] = {"/bin/sh", "-c", scripts[i], NULL};
		char scratch[] = "/tmp/cb-tool-XXXXXX";
		struct err e = ERR_INIT;

		assert_non_null(mkdtemp(scratch));
		(void)!tool_do(&(struct tool){.argv = argv,
					      .package = "dash",
					      .folder = scratch,
					      .scratch = scratch,
					      .in_fd = -1,
					      .out_fd = -1,
					      .file_fd = -1},
			       10000, &e);
		assert_true(access(scratch, F_OK) < 0);
	}
}

/* And nobody outlives the tool. */
static void test_no_child_is_left(void **state)
{
	_cleanup_close_ int ours = -1;
	struct err e;
	int ends[2];

	(void)state;
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	ours = ends[0];
	assert_int_equal(run("sleep 1000 & true", -1, ends[1], -1, 10000, &e), 0);
	close_fd(&ends[1]);
	assert_ends_with(ours, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_descriptors),
		cmocka_unit_test(test_failures),
		cmocka_unit_test(test_not_there),
		cmocka_unit_test(test_time_is_limited),
		cmocka_unit_test(test_nobody_outlives_the_caller),
		cmocka_unit_test(test_its_folder_goes),
		cmocka_unit_test(test_no_child_is_left),
	};

	return cmocka_run_group_tests_name("tool", tests, NULL, NULL);
}
