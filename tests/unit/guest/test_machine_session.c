/*
 * Sessions of a machine, with a socket in place of the port and a container of the tests' in place
 * of the machine's compartment.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "fixture.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/timeutil.h"
#include "guest/machine_int.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define WAIT_MS 10000

static struct machine_place place;
static struct machine_relay relay;
static int host = -1; /* its end of the port */
static struct frames frames;
static bool is_reading; /* the host takes what comes */
static struct {
	char out[65536], err[1024];
	size_t n_out, n_err, n_all; /* n_all: also what had no room */
	int status;		    /* -1: the session has not ended */
} seen;

static void make_place(void)
{
	static char home[112];
	static char *env[] = {home, (char *)(uintptr_t) "PATH=/usr/bin:/bin", NULL};

	(void)snprintf(home, sizeof(home), "HOME=%s", container.home);
	place = (struct machine_place){
		.init = container.init,
		.init_fd = (int)syscall(SYS_pidfd_open, container.init, 0),
		.namespaces = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET,
		.own_pids = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC),
		.terminals = open("/dev/pts", O_RDONLY | O_DIRECTORY | O_CLOEXEC),
		.members = open("/dev/null", O_WRONLY | O_CLOEXEC),
		.bundle = container_program,
		.uid = container.uid,
		.gid = container.uid,
		.env = env,
		.is_open = true,
	};
}

static void begin(void)
{
	int ends[2];

	fixture_need();
	if (!scene_is_root()) {
		print_message("skipped: root is missing, who alone may drop groups\n");
		skip();
	}
	/* Which nobody in there may have. */
	assert_int_equal(setgroups(1, &(gid_t){4711}), 0);
	fixture_run("sleep 1000");
	make_place();
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends),
			 0);
	host = ends[0];
	assert_int_equal(machine_relay_init(&relay, ends[1], &place, NULL), 0);
	assert_int_equal(frames_init(&frames, MACHINE_SESSION_MAX, NULL), 0);
	is_reading = true;
}

static int finish(void **state)
{
	if (host >= 0) {
		machine_relay_free(&relay);
		frames_free(&frames);
		machine_place_free(&place);
	}
	close_fd(&host);
	return fixture_test_end(state);
}

static void put(char *to, size_t size, size_t *n, struct str s)
{
	seen.n_all += s.n;
	if (s.n > size - 1 - *n)
		s.n = size - 1 - *n;
	memcpy(to + *n, s.p, s.n);
	*n += s.n;
	to[*n] = '\0';
}

static void take(char letter, struct str payload)
{
	if (letter == 'o') {
		put(seen.out, sizeof(seen.out), &seen.n_out, payload);
	} else if (letter == 'e') {
		put(seen.err, sizeof(seen.err), &seen.n_err, payload);
	} else {
		assert_int_equal(letter, 'x');
		assert_int_equal(payload.n, 4);
		assert_int_equal(seen.status, -1);
		seen.status = (unsigned char)payload.p[3];
	}
}

static void host_reads(void)
{
	char bytes[8192];
	ssize_t got = read(host, bytes, sizeof(bytes));
	struct str rest = str_slice(bytes, got > 0 ? (size_t)got : 0);

	while (rest.n > 0) {
		struct str payload;
		size_t used;
		char letter;
		int ret = frames_feed(&frames, rest, &used, &letter, &payload, NULL);

		assert_in_range(ret, 0, 1);
		if (ret == 1)
			take(letter, payload);
		rest = str_sub(rest, used, rest.n);
	}
}

/* What the machine's loop does, once. */
static void turn(void)
{
	struct pollfd polls[RELAY_POLLS + 1];
	uint64_t due_ns = UINT64_MAX;
	int how;

	machine_relay_poll(&relay, polls, &due_ns);
	polls[RELAY_POLLS] = (struct pollfd){.fd = is_reading ? host : -1, .events = POLLIN};
	assert_true(poll(polls, ARRAY_LEN(polls), 5) >= 0);
	machine_relay_turn(&relay, polls);
	if (polls[RELAY_POLLS].revents)
		host_reads();
	if (relay.pid > 0 && !relay.has_ended && waitpid(relay.pid, &how, WNOHANG) == relay.pid)
		machine_relay_reaped(&relay, relay.pid, how);
}

static void turn_for(unsigned ms)
{
	uint64_t until_ns = time_monotonic_ns() + ms * TIME_NS_PER_MS;

	while (time_monotonic_ns() < until_ns)
		turn();
}

static void say(char letter, const void *payload, size_t n)
{
	unsigned char head[MACHINE_HEAD];

	frames_head(head, letter, n);
	assert_int_equal(io_write_all(host, head, sizeof(head)), 0);
	assert_int_equal(io_write_all(host, payload, n), 0);
}

static void start(const char *script, bool has_tty)
{
	_cleanup_free_ char *text =
		mem_printf("{\"argv\":[\"sh\",\"-c\",\"%s\"],\"number\":5,\"tty\":%s,\"rows\":33,"
			   "\"columns\":99}",
			   script, has_tty ? "true" : "false");

	memset(&seen, 0, sizeof(seen));
	seen.status = -1;
	say('S', text, strlen(text));
}

static void await(const char *text)
{
	uint64_t until_ns = time_monotonic_ns() + WAIT_MS * TIME_NS_PER_MS;

	while (!strstr(seen.out, text) && time_monotonic_ns() < until_ns)
		turn();
	if (!strstr(seen.out, text))
		fail_msg("\"%s\" does not have \"%s\"", seen.out, text);
}

static void expect_status(int status)
{
	uint64_t until_ns = time_monotonic_ns() + WAIT_MS * TIME_NS_PER_MS;

	while (seen.status < 0 && time_monotonic_ns() < until_ns)
		turn();
	if (seen.status != status)
		fail_msg("status %d instead of %d: %s %s", seen.status, status, seen.out, seen.err);
	assert_true(machine_relay_is_idle(&relay));
}

static void run(const char *script, int status)
{
	start(script, false);
	expect_status(status);
}

static void test_pipes(void **state)
{
	(void)state;
	begin();
	/* For nobody. */
	say('i', "early", 5);
	say('w', "\0\1\0\1", 4);
	start("cat; echo oops >&2; exit 7", false);
	say('i', "hel", 3);
	say('i', "lo", 2);
	say('i', NULL, 0);
	expect_status(7);
	assert_string_equal(seen.out, "hello");
	assert_string_equal(seen.err, "oops\n");
	/* It is the agent's neighbour, with nothing of this process's. */
	run("echo $PPID $CLAUDE_BOTTLE_EXEC; id -u; id -G; grep -E '^(CapBnd|CapEff|NoNewPrivs):' "
	    "/proc/self/status | tr -d '\\\\t\\\\n'; ls /proc/self/fd | wc -l; test -t 0 || echo "
	    "none",
	    0);
	assert_string_equal(seen.out, "0 5\n65534\n65534\nCapEff:0000000000000000"
				      "CapBnd:0000000000000000NoNewPrivs:14\nnone\n");
	run("kill -9 $$", 128 + SIGKILL);
}

static void test_terminal(void **state)
{
	(void)state;
	begin();
	start("stty size; read x; stty size; echo to stderr >&2; echo got $x > /dev/tty; exit 3",
	      true);
	await("33 99\r\n");
	say('w', "\0\x32\0\x78", 4);
	say('i', "word\n", 5);
	expect_status(3);
	assert_non_null(strstr(seen.out, "word\r\n50 120\r\nto stderr\r\ngot word\r\n"));
	assert_int_equal(seen.n_err, 0);
	start("sleep 1000", true);
	turn_for(100);
	say('i', "\3", 1);
	expect_status(128 + SIGINT);
}

/* Who is left behind with the output open holds it up only a little. */
static void test_left_behind(void **state)
{
	uint64_t begin_ns = time_monotonic_ns();

	(void)state;
	begin();
	run("sleep 1000 & echo bye", 0);
	assert_string_equal(seen.out, "bye\n");
	assert_in_range((time_monotonic_ns() - begin_ns) / TIME_NS_PER_MS, 0, 5000);
}

/* A host that does not read stops the process, not this one; then all of it comes. */
static void test_output_waits(void **state)
{
	(void)state;
	begin();
	is_reading = false;
	start("head -c 3000000 /dev/zero", false);
	turn_for(200);
	assert_false(relay.has_ended);
	assert_true(buf_len(&relay.port.out) <= relay.port.out.cap);
	is_reading = true;
	expect_status(0);
	assert_int_equal(seen.n_all, 3000000);
}

/* A process that does not read stops the host, which is not read any more; then it gets it all. */
static void test_input_waits(void **state)
{
	static unsigned char frame[MACHINE_HEAD + MACHINE_SESSION_MAX];
	size_t n_frames = 0, left = 0;
	char want[32];

	(void)state;
	begin();
	frames_head(frame, 'i', MACHINE_SESSION_MAX);
	start("sleep 0.3; wc -c", false);
	turn_for(100);
	for (int i = 0; i < 300 && left == 0; i++) {
		ssize_t put_bytes = send(host, frame, sizeof(frame), MSG_NOSIGNAL);

		if (put_bytes > 0) {
			n_frames++;
			left = sizeof(frame) - (size_t)put_bytes;
		} else if (n_frames > 3) {
			break;
		}
		turn();
	}
	assert_in_range(n_frames, 4, 60);
	while (left > 0) {
		ssize_t put_bytes = send(host, frame + sizeof(frame) - left, left, MSG_NOSIGNAL);

		if (put_bytes > 0)
			left -= (size_t)put_bytes;
		turn();
	}
	turn_for(300);
	say('i', NULL, 0);
	expect_status(0);
	(void)snprintf(want, sizeof(want), "%zu\n", n_frames * MACHINE_SESSION_MAX);
	assert_string_equal(seen.out, want);
}

static void test_refused(void **state)
{
	(void)state;
	begin();
	/* Nobody stands beside an agent that has not begun. */
	place.is_open = false;
	run("true", GUEST_NOT_RUN);
	assert_non_null(strstr(seen.err, "the agent is not there"));
	start("true", true);
	expect_status(GUEST_NOT_RUN);
	assert_non_null(strstr(seen.out, "the agent is not there"));
	place.is_open = true;
	seen.status = -1;
	say('S', "{}", 2);
	expect_status(GUEST_NOT_RUN);
	/* What makes no sense ends the session, and only that. */
	start("sleep 1000", false);
	say('z', "", 0);
	expect_status(128 + SIGKILL);
	start("sleep 1000", false);
	say('w', "\0", 1);
	expect_status(128 + SIGKILL);
	run("exit 4", 4);
	/* After this nothing on the port makes sense. */
	start("sleep 1000", false);
	assert_int_equal(io_write_all(host, "i\0\x80\1", 4), 0);
	expect_status(128 + SIGKILL);
	start("true", false);
	turn_for(100);
	assert_int_equal(seen.status, -1);
}

/* The host's end is gone: its process gets nothing and may say nothing. */
static void test_hung_up(void **state)
{
	(void)state;
	begin();
	start("exec yes", false);
	await("y\n");
	is_reading = false;
	(void)shutdown(host, SHUT_RDWR);
	for (int i = 0; i < 1000 && relay.pid > 0; i++)
		turn();
	assert_int_equal(relay.pid, 0);
}

int main(int argc, char **argv)
{
#define SESSION_TEST(name) cmocka_unit_test_setup_teardown(test_##name, fixture_test, finish)
	const struct CMUnitTest tests[] = {
		SESSION_TEST(pipes),	    SESSION_TEST(terminal),    SESSION_TEST(left_behind),
		SESSION_TEST(output_waits), SESSION_TEST(input_waits), SESSION_TEST(refused),
		SESSION_TEST(hung_up),
	};

	if (argc < 2)
		return 2;
	container_program = realpath(argv[1], NULL);
	return cmocka_run_group_tests(tests, fixture_group, fixture_group_end);
}
