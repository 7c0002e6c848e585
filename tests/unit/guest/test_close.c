/* What closes a container's network, and the canary that looks whether it is closed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "scene.h"

#include "base/clean.h"
#include "base/ports.h"
#include "base/timeutil.h"
#include "guest/guest_host.h"
#include "guest/guest_int.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define REFUSED "HTTP/1.1 403 Forbidden\r\n\r\n"

static const char *program, *missing;

/* One look, by a process of its own in the agent's namespace; the text comes back. */
struct look {
	struct guest_canary canary;
	const char *close; /* instead: guest close of this */
	bool is_sys_read_only;
	int ret;
	struct err e;
};

static int look_here(void *ctx)
{
	struct look *l = ctx;

	if (l->is_sys_read_only &&
	    (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	     mount("/proc/sys", "/proc/sys", NULL, MS_BIND, NULL) < 0 ||
	     mount("none", "/proc/sys", NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL) < 0))
		return 1;
	l->ret = l->close ? close_run(l->close, &l->e) : canary_check(&l->canary, false, &l->e);
	return 0;
}

static int look(int ns, const struct look *wanted, struct err *e)
{
	struct look *shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
				   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int ret;

	assert_ptr_not_equal(shared, MAP_FAILED);
	*shared = *wanted;
	assert_int_equal(scene_run(ns, look_here, shared), 0);
	ret = shared->ret;
	*e = shared->e;
	(void)munmap(shared, sizeof(*shared));
	return ret;
}

static int close_it(const struct scene *s, const char *pinned, struct err *e)
{
	return look(s->agent_ns, &(struct look){.close = pinned}, e);
}

static unsigned answers[3] = {8888};
static size_t n_answers = 1;

static int canary(const struct scene *s, const struct guest_target *closed, struct err *e)
{
	struct look l = {.canary = {.pinned = SCENE_PINNED,
				    .answers = answers,
				    .n_answers = n_answers,
				    .closed = closed,
				    .n_closed = closed ? 1 : 0}};

	return look(s->agent_ns, &l, e);
}

static void expect_open(const struct scene *s, const struct guest_target *closed, const char *want)
{
	struct err e = ERR_INIT;

	if (canary(s, closed, &e) >= 0 || !strstr(e.text, want))
		fail_msg("\"%s\" instead of \"%s\"", e.text, want);
}

static void expect_closed(const struct scene *s, const struct guest_target *closed)
{
	struct err e = ERR_INIT;

	if (canary(s, closed, &e) < 0)
		fail_msg("%s", e.text);
}

static void expect_close(const struct scene *s)
{
	struct err e = ERR_INIT;

	if (close_it(s, SCENE_PINNED, &e) < 0)
		fail_msg("%s", e.text);
}

/* A scene with a bundle that answers. */
static int set_up(void **state)
{
	static struct scene s;

	*state = &s;
	if (missing)
		return 0;
	scene_make(&s);
	scene_listen(&s, s.bundle_ns, SCENE_PINNED, 8888, REFUSED, 0);
	return 0;
}

static int set_up_closed(void **state)
{
	(void)set_up(state);
	if (!missing)
		expect_close(*state);
	return 0;
}

static int tear_down(void **state)
{
	if (!missing)
		scene_free(*state);
	return 0;
}

static struct scene *need(void **state)
{
	if (missing) {
		print_message("skipped: %s is missing\n", missing);
		skip();
	}
	return *state;
}

static bool can_connect(int ns, const char *address, unsigned port);

/* --- close --- */

static void test_close(void **state)
{
	struct scene *s = need(state);
	const struct guest_target outside = {.address = "1.1.1.1", .port = 443};

	/* Controls: an engine's network is open, and its resolver answers. */
	scene_listen(s, s->agent_ns, GUEST_RESOLVER, 53, REFUSED, 0);
	expect_open(s, NULL, "the container has a default route (eth0)");
	assert_true(can_connect(s->agent_ns, GUEST_RESOLVER, 53));
	assert_true(can_connect(s->agent_ns, SCENE_PINNED, 8888));
	for (int i = 0; i < 2; i++) {
		expect_close(s);
		expect_closed(s, &outside);
		assert_false(can_connect(s->agent_ns, GUEST_RESOLVER, 53));
		assert_true(can_connect(s->agent_ns, SCENE_PINNED, 8888));
	}
	/* What an agent's programs use among themselves stays. */
	scene_listen(s, s->agent_ns, "127.0.0.1", 4000, REFUSED, 0);
	assert_true(can_connect(s->agent_ns, "127.0.0.1", 4000));
}

/* All that a runtime could have put there besides. */
static void test_close_much(void **state)
{
	struct scene *s = need(state);
	static const char *const more[] = {
		"route add 127.0.0.0/8 dev lo",
		"route add 192.168.0.0/16 via 10.210.0.1 dev eth0",
		"route add 10.0.0.0/8 dev eth0",
		"route add 10.210.0.2/32 via 10.210.0.1 dev eth0 metric 7",
		"route add default via 10.210.0.1 dev eth0 table 77",
		"rule add to 9.9.9.9 lookup 77",
		"route add 9.9.9.0/24 via 10.210.0.1 dev eth0 table 78",
		"route add unreachable 11.0.0.0/8",
		"addr add 172.30.0.5/16 dev eth0",
		"link add cb2 type veth peer name cb3",
		"-6 addr add fd00:99::3/64 dev eth0 nodad",
		"-6 route add default via fd00:99::1 dev eth0",
		"-6 route add fd00:98::/64 dev eth0",
		"link set eth0 mtu 1400",
	};

	for (size_t i = 0; i < ARRAY_LEN(more); i++) {
		if (!scene_ip(s->agent_ns, more[i]) && strncmp(more[i], "-6", 2) != 0)
			fail_msg("ip %s", more[i]);
	}
	expect_close(s);
	expect_closed(s, NULL);
}

/* As in a helper container, where nothing of IPv6 can be turned off: its addresses, and what every
 * interface that is up has of multicast and anycast, must be taken away one by one. */
static void test_close_ip6_stays_on(void **state)
{
	struct scene *s = need(state);
	struct look l = {.close = SCENE_PINNED, .is_sys_read_only = true};
	struct err e = ERR_INIT;

	if (access("/proc/sys/net/ipv6", F_OK) < 0) {
		print_message("skipped: this kernel has no IPv6\n");
		skip();
	}
	assert_true(scene_ip(s->agent_ns, "-6 addr add fd00:99::3/64 dev eth0 nodad"));
	assert_true(scene_ip(s->agent_ns, "-6 route add default via fd00:99::1 dev eth0"));
	if (look(s->agent_ns, &l, &e) < 0)
		fail_msg("%s", e.text);
	expect_closed(s, &(struct guest_target){.address = "fd00:99::2", .port = 80});
	expect_closed(s, &(struct guest_target){.address = "ff02::1", .port = 80});
}

static void test_close_refused(void **state)
{
	struct scene *s = need(state);
	struct err e = ERR_INIT;

	assert_true(close_it(s, "10.77.0.2", &e) < 0);
	assert_string_equal(e.text, "no interface of the container is on the network of 10.77.0.2");
	assert_int_equal(close_it(s, "fd00::1", &e), -EINVAL);
	assert_int_equal(close_it(s, "127.0.0.1", &e), -ENODEV);
	assert_int_equal(close_it(s, "", &e), -EINVAL);
	/* Nothing was taken away. */
	expect_open(s, NULL, "a default route");
	expect_close(s);
}

static void test_close_cap(void **state)
{
	struct scene *s = need(state);
	_cleanup_close_ int many = memfd_create("many", 0);
	struct err e = ERR_INIT;
	char batch[64];

	for (int i = 0; i < 200; i++)
		assert_true(dprintf(many, "route add 10.220.%d.0/24 dev eth0\n", i) > 0);
	(void)snprintf(batch, sizeof(batch), "-batch /proc/%d/fd/%d", (int)getpid(), many);
	assert_true(scene_ip(s->agent_ns, batch));
	assert_int_equal(close_it(s, SCENE_PINNED, &e), -E2BIG);
	assert_string_equal(e.text, "the container's network is larger than expected");
	expect_open(s, NULL, "a default route");
}

/* --- the canary: each hole by itself --- */

struct reach {
	const char *address;
	unsigned port;
};

static int reach_here(void *ctx)
{
	const struct reach *r = ctx;
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((uint16_t)r->port)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	(void)inet_pton(AF_INET, r->address, &sa.sin_addr);
	return connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0 ? 0 : 1;
}

static bool can_connect(int ns, const char *address, unsigned port)
{
	struct reach r = {address, port};

	return scene_run(ns, reach_here, &r) == 0;
}

static void test_routes(void **state)
{
	struct scene *s = need(state);
	static const struct {
		const char *add, *want;
	} table[] = {
		{"route add default via " SCENE_PINNED " dev eth0",
		 "the container has a default route (eth0)"},
		{"route add default dev lo", "the container has a default route (lo)"},
		{"route add 10.210.0.0/24 dev eth0",
		 "the container has a route to more than the bundle (eth0)"},
		{"route add 10.210.0.4/32 dev eth0",
		 "the container has a route to more than the bundle (eth0)"},
		{"route add 10.210.0.2/32 via " SCENE_PINNED " dev eth0 metric 9",
		 "the container has a route to more than the bundle (eth0)"},
		{"route add broadcast 10.210.0.255 dev eth0 table local",
		 "the container has a route to more than the bundle (eth0)"},
		{"route add 10.77.0.0/16 dev eth0 table 77",
		 "the container has a route to more than the bundle (eth0)"},
	};

	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		expect_closed(s, NULL);
		if (!scene_ip(s->agent_ns, table[i].add))
			fail_msg("ip %s", table[i].add);
		expect_open(s, NULL, table[i].want);
		expect_close(s);
	}
	expect_closed(s, NULL);
	/* What leads nowhere is no hole. */
	assert_true(scene_ip(s->agent_ns, "route add unreachable 11.0.0.0/8"));
	assert_true(scene_ip(s->agent_ns, "route add prohibit default"));
	assert_true(scene_ip(s->agent_ns, "route add blackhole 12.0.0.0/8"));
	expect_closed(s, &(struct guest_target){.address = "12.0.0.1", .port = 80});
	assert_true(scene_ip(s->agent_ns, "route del " SCENE_PINNED "/32 dev eth0"));
	expect_open(s, NULL, "the container has no route to the bundle");
}

static void test_interfaces(void **state)
{
	struct scene *s = need(state);

	assert_true(scene_ip(s->agent_ns, "link add cb2 type veth peer name cb3"));
	expect_closed(s, NULL);
	assert_true(scene_ip(s->agent_ns, "link set cb2 addrgenmode none up"));
	/* With IPv6 an interface that is up has routes, too. */
	expect_open(s, NULL, "(cb2)");
	(void)scene_ip(s->agent_ns, "-6 route flush dev cb2 table local");
	expect_open(s, NULL, "the container has one interface too many (cb2)");
	assert_true(scene_ip(s->agent_ns, "link del cb2"));
	expect_closed(s, NULL);
}

static void test_ip6_address(void **state)
{
	struct scene *s = need(state);

	if (!scene_ip(s->agent_ns, "-6 addr add fd00:99::3/128 dev lo nodad")) {
		print_message("skipped: this kernel has no IPv6\n");
		skip();
	}
	expect_open(s, NULL, "the container has an IPv6 address (lo)");
	expect_close(s);
	expect_closed(s, NULL);
}

static void test_ports(void **state)
{
	struct scene *s = need(state);
	const struct guest_target tcp = {.address = SCENE_PINNED, .port = 7777, .what = "a door"};
	const struct guest_target udp = {.address = SCENE_PINNED, .port = 7778, .what = ""};
	const struct guest_target full = {.address = SCENE_PINNED, .port = 7779};
	const struct guest_target own = {.address = "::1", .port = 7780};

	expect_closed(s, &tcp);
	expect_closed(s, &udp);
	expect_closed(s, &own);
	scene_listen(s, s->bundle_ns, SCENE_PINNED, 7777, "", 0);
	expect_open(s, &tcp, "a door (" SCENE_PINNED ":7777) can be reached");
	scene_answer_udp(s, s->bundle_ns, SCENE_PINNED, 7778);
	expect_open(s, &udp, SCENE_PINNED ":7778 answers datagrams");
	scene_listen(s, s->bundle_ns, SCENE_PINNED, 7779, NULL, 0);
	expect_open(s, &full, SCENE_PINNED ":7779 is not refused at once");
	expect_closed(s, NULL);
	scene_listen(s, s->bundle_ns, SCENE_PINNED, SERVICE_PORT_EGRESS, "", 0);
	expect_open(s, NULL, "egress (" SCENE_PINNED ":9099) can be reached");
}

/* Among as few ports as there are attempts at once and one more, many a socket would have asked
 * itself. */
static int few_ports(void *ctx)
{
	_cleanup_close_ int fd =
		open("/proc/sys/net/ipv4/ip_local_port_range", O_WRONLY | O_CLOEXEC);

	(void)ctx;
	return fd >= 0 && write(fd, "40000 40004", 11) == 11 ? 0 : 1;
}

static void test_not_itself(void **state)
{
	struct scene *s = need(state);

	assert_int_equal(scene_run(s->agent_ns, few_ports, NULL), 0);
	for (unsigned i = 0; i < 40; i++) {
		const struct guest_target target = {.address = i % 2 ? "127.0.0.1" : "::1",
						    .port = 40000 + i / 2 % 4};

		expect_closed(s, &target);
	}
}

static void test_resolver(void **state)
{
	struct scene *s = need(state);

	assert_true(scene_ip(s->agent_ns, "route del unreachable " GUEST_RESOLVER " table local"));
	/* A resolver's listener is somewhere else, and rules lead there from port 53. */
	expect_open(s, NULL, "the engine's resolver (" GUEST_RESOLVER ":53) Connection refused");
	scene_listen(s, s->agent_ns, GUEST_RESOLVER, 53, REFUSED, 0);
	expect_open(s, NULL, "the engine's resolver (" GUEST_RESOLVER ":53) can be reached");
	expect_close(s);
	expect_closed(s, NULL);
}

static void test_answers(void **state)
{
	struct scene *s = need(state);
	static const struct {
		const char *answer, *want;
	} table[] = {
		{"SSH-2.0-x\r\n", "does not speak HTTP"},
		{"HTTP/1.1", "hangs up"},
		{"", "hangs up"},
	};
	uint64_t begin_ns;

	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		scene_silence(s);
		scene_listen(s, s->bundle_ns, SCENE_PINNED, 8888, table[i].answer, 0);
		expect_open(s, NULL, table[i].want);
	}
	scene_silence(s);
	scene_listen(s, s->bundle_ns, SCENE_PINNED, 8888, REFUSED, 300);
	expect_closed(s, NULL);
	scene_silence(s);
	begin_ns = time_monotonic_ns();
	expect_open(s, NULL, "cannot be reached from the bottle: Connection refused");
	assert_in_range((time_monotonic_ns() - begin_ns) / TIME_NS_PER_MS, GUEST_ANSWER_MS - 100,
			3 * GUEST_ANSWER_MS);
}

/* Who has git finds git-gate on its port and nobody else; who has not finds it closed. */
static void test_git(void **state)
{
	struct scene *s = need(state);
	static const char gate[] = "HTTP/1.1 404 Not Found\r\nContent-Length: 24\r\n\r\n"
				   "{\"scanner\":\"git-gate\"}\r\n";

	scene_listen(s, s->bundle_ns, SCENE_PINNED, SERVICE_PORT_GITGATE, gate, 0);
	expect_open(s, NULL, "git-gate (" SCENE_PINNED ":9418) can be reached");
	answers[1] = SERVICE_PORT_GITGATE;
	n_answers = 2;
	expect_closed(s, NULL);
	scene_silence(s);
	scene_listen(s, s->bundle_ns, SCENE_PINNED, 8888, REFUSED, 0);
	scene_listen(s, s->bundle_ns, SCENE_PINNED, SERVICE_PORT_GITGATE, REFUSED, 0);
	expect_open(s, NULL, ":9418 ");
	n_answers = 1;
}

/* The same of supervise. */
static void test_supervise(void **state)
{
	struct scene *s = need(state);

	scene_listen(s, s->bundle_ns, SCENE_PINNED, SERVICE_PORT_SUPERVISE, REFUSED, 0);
	expect_open(s, NULL, "supervise (" SCENE_PINNED ":9100) can be reached");
	answers[1] = SERVICE_PORT_SUPERVISE;
	n_answers = 2;
	expect_closed(s, NULL);
	n_answers = 1;
}

/* --- from the host --- */

/* guest init, connected and waiting. */
static pid_t guest_start(int ns, int *conn)
{
	char dir[] = "/tmp/cb-guest-close-XXXXXX", listening[64];
	struct err e = ERR_INIT;
	int listener;
	pid_t pid;

	assert_non_null(mkdtemp(dir));
	(void)snprintf(listening, sizeof(listening), "%s/run", dir);
	assert_int_equal(guest_listen(listening, &listener, &e), 0);
	pid = fork();
	if (pid == 0) {
		char path[96];

		scene_enter(ns);
		(void)snprintf(path, sizeof(path), "%s/keeper.sock", listening);
		(void)execl(program, program, "init-at", path, NULL);
		_exit(99);
	}
	if (guest_accept(listening, &listener, 5000, -1, conn, &e) < 0)
		fail_msg("%s", e.text);
	(void)rmdir(listening);
	(void)rmdir(dir);
	return pid;
}

static void guest_end(pid_t pid, int *conn)
{
	close_fd(conn);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void test_host(void **state)
{
	struct scene *s = need(state);
	struct err e = ERR_INIT;
	uint64_t begin_ns;
	pid_t pid, told;
	int conn;

	pid = guest_start(s->agent_ns, &conn);
	assert_int_equal(guest_peer(conn, &told, &e), 0);
	assert_int_equal(told, pid);
	expect_open(s, NULL, "a default route");
	assert_true(guest_close_from_host(conn, "10.77.0.2", &e) < 0);
	assert_string_equal(e.text, "no interface of the container is on the network of 10.77.0.2");
	expect_open(s, NULL, "a default route");
	begin_ns = time_monotonic_ns();
	if (guest_close_from_host(conn, SCENE_PINNED, &e) < 0)
		fail_msg("%s", e.text);
	print_message("guest_close_from_host: %llu us\n",
		      (unsigned long long)((time_monotonic_ns() - begin_ns) / 1000));
	expect_closed(s, NULL);
	/* What it executes may do what it likes. */
	assert_int_equal(guest_close_from_host(conn, "10.99.0.2", &e), -EIO);
	assert_non_null(strstr(e.text, "long long long"));
	assert_int_equal(guest_close_from_host(conn, "10.99.0.3", &e), -EIO);
	assert_non_null(strstr(e.text, "status 7"));
	begin_ns = time_monotonic_ns();
	assert_int_equal(guest_close_from_host(conn, "10.99.0.1", &e), -ETIMEDOUT);
	assert_in_range((time_monotonic_ns() - begin_ns) / TIME_NS_PER_MS, GUEST_CLOSE_MS - 100,
			3 * GUEST_CLOSE_MS);
	guest_end(pid, &conn);
}

static bool is_refused(int conn)
{
	struct err e = ERR_INIT;

	return guest_close_from_host(conn, "10.77.77.77", &e) == -EPERM &&
	       strcmp(e.text, "the container has no network of its own") == 0;
}

static int host_in_own(void *ctx)
{
	int conn;

	(void)ctx;
	(void)guest_start(-1, &conn);
	return is_refused(conn) ? 0 : 1;
}

/* A container in the host's own network; here, the caller's. */
static void test_host_own(void **state)
{
	struct scene *s = need(state);

	assert_int_equal(scene_run(s->agent_ns, host_in_own, NULL), 0);
	expect_open(s, NULL, "a default route");
}

/* The first process of the caller's machine is in the namespace, and the caller in another. */
static int host_of_machine(void *ctx)
{
	const struct scene *s = ctx;
	struct err e = ERR_INIT;
	int conn;

	(void)guest_start(s->agent_ns, &conn);
	return guest_close_from_host(conn, SCENE_PINNED, &e) == -EPERM ? 0 : 1;
}

static int host_machine(void *ctx)
{
	struct scene *s = ctx;
	int status;
	pid_t pid;

	if (unshare(CLONE_NEWPID | CLONE_NEWNS) < 0)
		return 2;
	pid = fork();
	if (pid == 0) {
		if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		    mount("proc", "/proc", "proc", 0, NULL) < 0)
			_exit(3);
		_exit(scene_run(s->bundle_ns, host_of_machine, s));
	}
	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : 4;
}

static void test_host_machine(void **state)
{
	struct scene *s = need(state);

	assert_int_equal(scene_run(s->agent_ns, host_machine, s), 0);
	expect_open(s, NULL, "a default route");
}

static int host_unprivileged(void *ctx)
{
	struct err e = ERR_INIT;

	if (setgroups(0, NULL) < 0 || setresgid(65534, 65534, 65534) < 0 ||
	    setresuid(65534, 65534, 65534) < 0)
		return 2;
	return guest_close_from_host(*(int *)ctx, SCENE_PINNED, &e) == -ENOTSUP ? 0 : 1;
}

static int host_elsewhere(void *ctx)
{
	struct err e = ERR_INIT;
	pid_t pid;
	int status;

	if (unshare(CLONE_NEWPID) < 0)
		return 2;
	pid = fork();
	if (pid == 0) {
		pid_t told = -1;

		if (guest_peer(*(int *)ctx, &told, &e) != 0 || told != 0)
			_exit(3);
		_exit(guest_close_from_host(*(int *)ctx, SCENE_PINNED, &e) == -ENOTSUP ? 0 : 1);
	}
	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : 4;
}

static void test_host_not_possible(void **state)
{
	struct scene *s = need(state);
	struct err e = ERR_INIT;
	int conn;
	pid_t pid = guest_start(s->agent_ns, &conn);

	if (scene_is_root())
		assert_int_equal(scene_run(-1, host_unprivileged, &conn), 0);
	assert_int_equal(scene_run(-1, host_elsewhere, &conn), 0);
	expect_open(s, NULL, "a default route");
	/* Gone, and its number may be another's. */
	(void)kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(guest_close_from_host(conn, SCENE_PINNED, &e), -EPIPE);
	close_fd(&conn);
}

#define TEST_(name)	   cmocka_unit_test_setup_teardown(test_##name, set_up, tear_down)
#define TEST_CLOSED_(name) cmocka_unit_test_setup_teardown(test_##name, set_up_closed, tear_down)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST_(close),
		TEST_(close_much),
		TEST_(close_ip6_stays_on),
		TEST_(close_refused),
		TEST_(close_cap),
		TEST_CLOSED_(routes),
		TEST_CLOSED_(interfaces),
		TEST_CLOSED_(ip6_address),
		TEST_CLOSED_(ports),
		TEST_CLOSED_(not_itself),
		TEST_CLOSED_(resolver),
		TEST_CLOSED_(answers),
		TEST_CLOSED_(git),
		TEST_CLOSED_(supervise),
		TEST_(host),
		TEST_(host_own),
		TEST_(host_machine),
		TEST_(host_not_possible),
	};

	if (argc < 2)
		return 2;
	program = argv[1];
	(void)setenv("CLAUDE_BOTTLE_BUNDLE", program, 1);
	missing = scene_prepare();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
