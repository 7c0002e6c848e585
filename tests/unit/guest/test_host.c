/* The keeper's half against guests that are late, gone, or hostile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clean.h"
#include "base/io.h"
#include "base/timeutil.h"
#include "guest/guest_host.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

static char dir[256]; /* longer than a socket's address */
static int listener, conn;

static int set_up(void **state)
{
	struct err e = ERR_INIT;
	size_t n;

	(void)state;
	n = (size_t)snprintf(dir, sizeof(dir), "/tmp/cb-guest-host-%d-", (int)getpid());
	memset(dir + n, 'x', 180);
	listener = conn = -1;
	if (guest_listen(dir, &listener, &e) < 0)
		fail_msg("%s", e.text);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	close_fd(&listener);
	close_fd(&conn);
	return io_remove_tree(AT_FDCWD, dir, NULL);
}

static int connect_here(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	_cleanup_close_ int folder = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	(void)snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/keeper.sock",
		       folder);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		close_fd(&fd);
	return fd;
}

/* A guest that has said this. */
static int guest(const char *said, size_t n)
{
	int fd = connect_here();

	assert_true(fd >= 0);
	if (n > 0)
		assert_true(io_send_fds(fd, said, n, NULL, 0, 0) > 0);
	return fd;
}

static int take(int timeout_ms, int abort_fd, struct err *e)
{
	*e = ERR_INIT;
	return guest_accept(dir, &listener, timeout_ms, abort_fd, &conn, e);
}

static void expect_over(void)
{
	struct stat st;
	char path[300];

	assert_int_equal(listener, -1);
	(void)snprintf(path, sizeof(path), "%s/keeper.sock", dir);
	assert_int_equal(stat(path, &st), -1);
	assert_int_equal(connect_here(), -1);
}

static void test_listen(void **state)
{
	struct stat st;
	char path[300];

	(void)state;
	assert_int_equal(stat(dir, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0711);
	(void)snprintf(path, sizeof(path), "%s/keeper.sock", dir);
	assert_int_equal(stat(path, &st), 0);
	assert_true(S_ISSOCK(st.st_mode));
	assert_int_equal(st.st_mode & 07777, 0666);
	/* Again, over what a killed keeper left. */
	close_fd(&listener);
	assert_int_equal(guest_listen(dir, &listener, NULL), 0);
	assert_int_equal(fcntl(listener, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
}

static void test_listen_refused(void **state)
{
	char link[300];
	int fd;

	(void)state;
	(void)snprintf(link, sizeof(link), "/tmp/cb-guest-host-%d-link", (int)getpid());
	assert_int_equal(symlink(dir, link), 0);
	assert_true(guest_listen(link, &fd, NULL) < 0);
	assert_int_equal(fd, -1);
	assert_int_equal(unlink(link), 0);
	assert_int_equal(guest_listen("/tmp/no/such/parent", &fd, NULL), -ENOENT);
}

static void test_accept(void **state)
{
	_cleanup_close_ int first = -1, second = -1;
	struct err e;
	pid_t told;

	(void)state;
	first = guest("h", 1);
	assert_int_equal(take(5000, -1, &e), 0);
	assert_int_equal(fcntl(conn, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	assert_int_equal(guest_peer(conn, &told, &e), 0);
	assert_int_equal(told, getpid());
	expect_over();
	second = connect_here();
	assert_int_equal(second, -1);
}

static void test_nobody(void **state)
{
	uint64_t begin_ns = time_monotonic_ns();
	struct err e;

	(void)state;
	assert_int_equal(take(50, -1, &e), -ETIMEDOUT);
	assert_string_equal(e.text, "the container's first process does not connect");
	assert_in_range((time_monotonic_ns() - begin_ns) / TIME_NS_PER_MS, 50, 5000);
	assert_int_equal(conn, -1);
	expect_over();
}

static void test_abort(void **state)
{
	int ends[2];
	struct err e;

	(void)state;
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	(void)close(ends[1]);
	assert_int_equal(take(10000, ends[0], &e), -ECANCELED);
	(void)close(ends[0]);
	expect_over();
}

static void test_greetings(void **state)
{
	static const char longest[2 + GUEST_TEXT_MAX] = "h";
	static const struct {
		const char *said;
		size_t n;
		int code;
	} table[] = {
		{"x", 1, -EPROTO}, {"k", 1, -EPROTO},	{longest, sizeof(longest), -EMSGSIZE},
		{"", 0, -EPIPE},   {"", 0, -ETIMEDOUT},
	};
	struct err e;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		_cleanup_close_ int fd = guest(table[i].said, table[i].n);

		if (table[i].code == -EPIPE)
			close_fd(&fd);
		if (take(50, -1, &e) != table[i].code)
			fail_msg("%zu: %s", i, e.text);
		assert_int_equal(conn, -1);
		expect_over();
		assert_int_equal(guest_listen(dir, &listener, NULL), 0);
	}
}

static void test_descriptors_are_not_taken(void **state)
{
	_cleanup_close_ int fd = connect_here();
	int given[] = {0, 0, 0}, before, after;
	struct err e;

	(void)state;
	before = dup(0);
	assert_int_equal(io_send_fds(fd, "h", 1, given, 3, 0), 1);
	assert_int_equal(take(5000, -1, &e), -EPROTO);
	(void)close(before);
	/* One fewer is open: the listener. */
	after = dup(0);
	assert_true(after <= before);
	(void)close(after);
}

/* --- after it --- */

static int answer(const char *said, size_t n, int timeout_ms, struct err *e)
{
	static const struct guest_canary c = {.pinned = "10.0.0.1"};
	_cleanup_close_ int fd = guest("h", 1);
	int ret;

	assert_int_equal(take(5000, -1, e), 0);
	if (n > 0)
		assert_true(io_send_fds(fd, said, n, NULL, 0, 0) > 0);
	ret = guest_canary(conn, &c, timeout_ms, -1, e);
	close_fd(&conn);
	assert_int_equal(guest_listen(dir, &listener, NULL), 0);
	return ret;
}

static void test_verdicts(void **state)
{
	struct err e;

	(void)state;
	assert_int_equal(answer("k", 1, 5000, &e), 0);
	assert_int_equal(answer("n\x1b[31mred\nline\x00", 15, 5000, &e), -ENOTUNIQ);
	assert_string_equal(e.text, "\\x1b[31mred\\nline\\x00");
	assert_int_equal(answer("n", 1, 5000, &e), -ENOTUNIQ);
	assert_int_equal(answer("s", 1, 5000, &e), -EPROTO);
	assert_int_equal(answer("", 0, 50, &e), -ETIMEDOUT);
	assert_string_equal(e.text, "the container's first process does not look at the wall");
}

static void test_gone(void **state)
{
	static const struct guest_canary c = {.pinned = "10.0.0.1"};
	int fd = guest("h", 1), ends[2];
	struct err e;

	(void)state;
	assert_int_equal(take(5000, -1, &e), 0);
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	(void)close(ends[1]);
	assert_int_equal(guest_canary(conn, &c, 10000, ends[0], &e), -ECANCELED);
	(void)close(ends[0]);
	(void)close(fd);
	assert_int_equal(guest_canary(conn, &c, 10000, -1, &e), -EPIPE);
	assert_int_equal(guest_signal(conn, 0, SIGTERM, &e), -EPIPE);
}

#define TEST_(name) cmocka_unit_test_setup_teardown(test_##name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_(listen),
		TEST_(listen_refused),
		TEST_(accept),
		TEST_(nobody),
		TEST_(abort),
		TEST_(greetings),
		TEST_(descriptors_are_not_taken),
		TEST_(verdicts),
		TEST_(gone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
