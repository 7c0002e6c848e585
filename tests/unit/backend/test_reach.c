/* The keeper's end of reach=: what it dials, and what ends the channel. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "backend/keeper_reach.c" /* NOLINT: the unit under test */

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>

struct fixture {
	struct loop *loop;
	struct loop_timer stop;
	struct keeper_reach reach;
	int theirs;
	int tcp_fd, udp_fd;
	uint16_t tcp_port, udp_port;
	struct policy policy;
	struct policy_route routes[1];
	struct policy_resolve resolve[3];
	struct git_policy git;
	struct git_remote remotes[2];
	struct sockaddr_storage dns[1];
};

static uint16_t bind_loopback(int fd)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof(a);

	assert_int_equal(bind(fd, (struct sockaddr *)&a, n), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &n), 0);
	return ntohs(a.sin_port);
}

static void name(struct sockaddr_storage *out, uint16_t port)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
				.sin_port = htons(port),
				.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

	memcpy(out, &a, sizeof(a));
}

static void on_stop(struct loop_timer *t)
{
	loop_stop(((struct fixture *)((char *)t - offsetof(struct fixture, stop)))->loop, 0);
}

/* 0: the listener; 1: what no connection can be made to; 2: without a port, routes allow the
 * listener's. */
static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct err e = ERR_INIT;

	(void)signal(SIGPIPE, SIG_IGN);
	f->tcp_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	f->udp_fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	f->tcp_port = bind_loopback(f->tcp_fd);
	f->udp_port = bind_loopback(f->udp_fd);
	assert_int_equal(listen(f->tcp_fd, 1024), 0);
	f->routes[0] = (struct policy_route){.host = (char *)"any-port.test",
					     .ports = {f->tcp_port},
					     .n_ports = 1,
					     .methods = 1u << POLICY_METHOD_GET};
	f->resolve[0].host = (char *)"named.test";
	f->resolve[1].host = (char *)"nobody.test";
	f->resolve[2].host = (char *)"any-port.test";
	name(&f->resolve[0].address, f->tcp_port);
	name(&f->resolve[1].address, 1);
	((struct sockaddr_in *)&f->resolve[1].address)->sin_addr.s_addr = INADDR_BROADCAST;
	name(&f->resolve[2].address, 0);
	name(&f->dns[0], f->udp_port);
	f->policy = (struct policy){.routes = f->routes,
				    .n_routes = 1,
				    .resolve = f->resolve,
				    .n_resolve = 3,
				    .dns = f->dns,
				    .n_dns = 1};
	/* To places where nobody listens: its own, and what is no network at all. */
	f->remotes[0] = (struct git_remote){.transport = GIT_TRANSPORT_SSH,
					    .host = (char *)"any-port.test",
					    .port = f->udp_port};
	f->remotes[1] = (struct git_remote){
		.transport = GIT_TRANSPORT_WORKSPACE, .host = (char *)"any-port.test", .port = 23};
	f->git = (struct git_policy){.remotes = f->remotes, .n_remotes = 2};
	f->stop.fn = on_stop;
	f->loop = loop_new(&e);
	if (!f->loop ||
	    keeper_reach_open(&f->reach, f->loop, &f->policy, &f->git, &f->theirs, &e) < 0)
		return -1;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	keeper_reach_close(&f->reach);
	loop_free(f->loop);
	close_fd(&f->theirs);
	close_fd(&f->tcp_fd);
	close_fd(&f->udp_fd);
	free(f);
	return 0;
}

static void turn(struct fixture *f, unsigned ms)
{
	loop_timer_set(f->loop, &f->stop, ms);
	(void)loop_run(f->loop);
}

static struct reach_request request(struct fixture *f, enum reach_list list, enum reach_kind kind,
				    uint16_t number, uint16_t port)
{
	static uint64_t id;

	(void)f;
	return (struct reach_request){.id = ++id,
				      .life = 7,
				      .list = (uint16_t)list,
				      .kind = (uint16_t)kind,
				      .number = number,
				      .port = port};
}

/* The status; the socket, or -1. */
static uint32_t ask(struct fixture *f, struct reach_request q, int *fd)
{
	struct reach_reply reply = {0};
	size_t n_fds = 1;

	*fd = -1;
	assert_int_equal(send(f->theirs, &q, sizeof(q), 0), sizeof(q));
	turn(f, 20);
	assert_int_equal(io_recv_fds(f->theirs, &reply, sizeof(reply), fd, &n_fds, MSG_DONTWAIT),
			 sizeof(reply));
	assert_true(reply.id == q.id);
	assert_int_equal(reply.life, q.life);
	assert_int_equal(n_fds, reply.status == 0);
	return reply.status;
}

/* Nothing was dialled, and nothing will be: the channel is closed. */
static void assert_ended(struct fixture *f)
{
	char byte;

	turn(f, 20);
	assert_int_equal(recv(f->theirs, &byte, 1, MSG_DONTWAIT), 0);
	assert_int_equal(f->reach.fd, -1);
	assert_int_equal(io_wait(f->tcp_fd, POLLIN, 0), 0);
}

static void test_dials_what_is_named(void **state)
{
	struct fixture *f = *state;
	char text[8] = "";
	int fd, peer;

	assert_int_equal(ask(f, request(f, REACH_RESOLVE, REACH_STREAM, 0, f->tcp_port), &fd), 0);
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	peer = accept4(f->tcp_fd, NULL, NULL, SOCK_CLOEXEC);
	assert_int_equal(io_wait(fd, POLLOUT, 1000), 1);
	assert_int_equal(send(fd, "hello", 5, MSG_NOSIGNAL), 5);
	assert_int_equal(recv(peer, text, sizeof(text), 0), 5);
	close_fd(&fd);
	/* The keeper has kept nothing of it. */
	assert_int_equal(recv(peer, text, sizeof(text), 0), 0);
	close_fd(&peer);

	assert_int_equal(ask(f, request(f, REACH_RESOLVE, REACH_STREAM, 2, f->tcp_port), &fd), 0);
	peer = accept4(f->tcp_fd, NULL, NULL, SOCK_CLOEXEC);
	assert_true(peer >= 0);
	close_fd(&peer);
	close_fd(&fd);

	assert_int_equal(ask(f, request(f, REACH_DNS, REACH_DATAGRAM, 0, f->udp_port), &fd), 0);
	assert_int_equal(send(fd, "query", 5, MSG_NOSIGNAL), 5);
	assert_int_equal(recv(f->udp_fd, text, sizeof(text), 0), 5);
	close_fd(&fd);
}

static void test_says_why_not(void **state)
{
	struct fixture *f = *state;
	socklen_t n = sizeof(int);
	int fd, error = 0;

	/* The kernel's no comes at once, */
	assert_int_not_equal(ask(f, request(f, REACH_RESOLVE, REACH_STREAM, 1, 1), &fd), 0);
	/* the other host's with the socket. */
	assert_int_equal(ask(f, request(f, REACH_DNS, REACH_STREAM, 0, f->udp_port), &fd), 0);
	assert_int_equal(io_wait(fd, POLLOUT, 1000), 1);
	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &n), 0);
	assert_int_equal(error, ECONNREFUSED);
	close_fd(&fd);
	/* What only git-gate may reach is tried as well. */
	assert_int_equal(ask(f, request(f, REACH_RESOLVE, REACH_STREAM, 2, f->udp_port), &fd), 0);
	assert_int_equal(io_wait(fd, POLLOUT, 1000), 1);
	close_fd(&fd);
	/* A port that no route allows, perhaps no longer, and the port of what is not dialled. */
	assert_int_equal(ask(f, request(f, REACH_RESOLVE, REACH_STREAM, 2, 22), &fd), EACCES);
	assert_int_equal(ask(f, request(f, REACH_RESOLVE, REACH_STREAM, 2, 23), &fd), EACCES);
	/* It goes on. */
	assert_int_equal(ask(f, request(f, REACH_RESOLVE, REACH_STREAM, 0, f->tcp_port), &fd), 0);
	close_fd(&fd);
}

static const struct {
	const char *what;
	uint16_t list, kind, number;
	int port; /* -1: the listener's */
	uint32_t zero;
} overstepping[] = {
	{"a number out of range", REACH_RESOLVE, REACH_STREAM, 3, -1, 0},
	{"the largest number", REACH_RESOLVE, REACH_STREAM, 65535, -1, 0},
	{"a name server out of range", REACH_DNS, REACH_DATAGRAM, 1, 53, 0},
	{"another port than the address has", REACH_RESOLVE, REACH_STREAM, 0, 22, 0},
	{"another port than the name server has", REACH_DNS, REACH_DATAGRAM, 0, 22, 0},
	{"no port", REACH_RESOLVE, REACH_STREAM, 2, 0, 0},
	{"no port, where the address has one", REACH_RESOLVE, REACH_STREAM, 0, 0, 0},
	{"a datagram to a service", REACH_RESOLVE, REACH_DATAGRAM, 0, -1, 0},
	{"no list", 0, REACH_STREAM, 0, -1, 0},
	{"an unknown list", 3, REACH_STREAM, 0, -1, 0},
	{"no kind", REACH_RESOLVE, 0, 0, -1, 0},
	{"an unknown kind", REACH_DNS, 3, 0, 53, 0},
	{"something behind it", REACH_RESOLVE, REACH_STREAM, 0, -1, 1},
};

static void test_overstepping_ends_it(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(overstepping); i++) {
		void *inner = NULL;
		struct fixture *f;
		struct reach_request q;

		assert_int_equal(setup(&inner), 0);
		f = inner;
		q = request(f, (enum reach_list)overstepping[i].list,
			    (enum reach_kind)overstepping[i].kind, overstepping[i].number,
			    overstepping[i].port < 0 ? f->tcp_port
						     : (uint16_t)overstepping[i].port);
		q.zero = overstepping[i].zero;
		print_message("%s\n", overstepping[i].what);
		assert_int_equal(send(f->theirs, &q, sizeof(q), 0), sizeof(q));
		assert_ended(f);
		(void)teardown(&inner);
	}
}

static void test_malformed_ends_it(void **state)
{
	static const size_t sizes[] = {0, 1, sizeof(struct reach_request) - 1,
				       sizeof(struct reach_request) + 1, 4096};

	(void)state;
	for (size_t i = 0; i <= ARRAY_LEN(sizes); i++) {
		struct reach_request q;
		char bytes[4096] = {0};
		void *inner = NULL;
		struct fixture *f;

		assert_int_equal(setup(&inner), 0);
		f = inner;
		q = request(f, REACH_RESOLVE, REACH_STREAM, 0, f->tcp_port);
		memcpy(bytes, &q, sizeof(q));
		if (i < ARRAY_LEN(sizes))
			assert_int_equal(send(f->theirs, bytes, sizes[i], 0), sizes[i]);
		else /* with a descriptor */
			assert_int_equal(io_send_fds(f->theirs, &q, sizeof(q), &f->udp_fd, 1, 0),
					 sizeof(q));
		assert_ended(f);
		(void)teardown(&inner);
	}
}

/* What asks and does not take its answers would fill the kernel with open sockets. */
static void test_answers_must_be_taken(void **state)
{
	struct fixture *f = *state;
	struct reach_request q = request(f, REACH_DNS, REACH_DATAGRAM, 0, f->udp_port);
	unsigned n = 0;

	/* An honest egress, and the one before it that died, may leave as many as this. */
	for (; n < 2 * REACH_PENDING_MAX; n++) {
		assert_int_equal(send(f->theirs, &q, sizeof(q), 0), sizeof(q));
		if (n % 64 == 0)
			turn(f, 100);
	}
	turn(f, 300);
	assert_true(f->reach.fd >= 0);
	for (; n < 64 * REACH_PENDING_MAX && f->reach.fd >= 0; n++) {
		if (send(f->theirs, &q, sizeof(q), MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
			turn(f, 50);
	}
	assert_int_equal(f->reach.fd, -1);
}

/* As fast as it goes, all answers taken: no more than the rate is opened, and the loop still serves
 * others, or it would not stop in time. */
static void test_flood_is_held_back(void **state)
{
	struct fixture *f = *state;
	struct reach_request q = request(f, REACH_DNS, REACH_DATAGRAM, 0, f->udp_port);
	uint64_t start_ns = time_monotonic_ns(), ms;
	unsigned n_sent = 0, n_answers = 0;

	do {
		struct reach_reply reply;
		size_t n_fds = 1;
		int fd = -1;

		while (send(f->theirs, &q, sizeof(q), MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
			n_sent++;
		turn(f, 1);
		while (io_recv_fds(f->theirs, &reply, sizeof(reply), &fd, &n_fds, MSG_DONTWAIT) >
		       0) {
			n_answers++;
			close_fd(&fd);
			n_fds = 1;
		}
		ms = (time_monotonic_ns() - start_ns) / TIME_NS_PER_MS;
	} while (ms < 500);
	assert_true(f->reach.fd >= 0);
	assert_true(n_answers >= REACH_BURST);
	assert_true(n_answers <= REACH_BURST + ms * REACH_PER_SECOND / 1000 + 1);
	assert_true(n_sent > n_answers); /* the rest waits */
	/* Nobody there any more, while it holds back. */
	close_fd(&f->theirs);
	turn(f, 600);
	assert_int_equal(f->reach.fd, -1);
}

static void test_other_end_goes(void **state)
{
	struct fixture *f = *state;

	close_fd(&f->theirs);
	turn(f, 20);
	assert_int_equal(f->reach.fd, -1);
	keeper_reach_close(&f->reach); /* again */
}

/* --- the host's addresses --- */

static struct sockaddr_in v4(const char *text)
{
	struct sockaddr_in a = {.sin_family = AF_INET};

	assert_int_equal(inet_pton(AF_INET, text, &a.sin_addr), 1);
	return a;
}

static struct sockaddr_in6 v6(const char *text)
{
	struct sockaddr_in6 a = {.sin6_family = AF_INET6};

	assert_int_equal(inet_pton(AF_INET6, text, &a.sin6_addr), 1);
	return a;
}

static void test_inside_listed(void **state)
{
	struct sockaddr_in lo = v4("127.0.0.1"), ppp = v4("44.1.1.1"), peer = v4("44.1.1.2"),
			   eth = v4("192.0.2.2"), net = v4("192.0.2.255");
	struct sockaddr_in6 global = v6("2001:db8::2"), local = v6("fe80::1");
	struct sockaddr packet = {.sa_family = AF_PACKET};
	struct ifaddrs list[] = {
		{.ifa_addr = NULL},
		{.ifa_addr = &packet},
		{.ifa_addr = (struct sockaddr *)&lo},
		{.ifa_addr = (struct sockaddr *)&ppp,
		 .ifa_flags = IFF_POINTOPOINT,
		 .ifa_dstaddr = (struct sockaddr *)&peer},
		{.ifa_addr = (struct sockaddr *)&eth, .ifa_dstaddr = (struct sockaddr *)&net},
		{.ifa_addr = (struct sockaddr *)&local},
		{.ifa_addr = (struct sockaddr *)&global},
	};
	_cleanup_(buf_free) struct buf out;
	struct err e = ERR_INIT;

	(void)state;
	for (size_t i = 0; i + 1 < ARRAY_LEN(list); i++)
		list[i].ifa_next = &list[i + 1];
	buf_init(&out, 65536);
	assert_int_equal(inside_put_all(&out, list, &e), 0);
	assert_true(str_eq(buf_str(&out),
			   STR_LIT("\"127.0.0.1\",\"44.1.1.1\",\"44.1.1.2\",\"192.0.2.2\","
				   "\"2001:db8::2\"")));
	/* This host's own. */
	buf_reset(&out);
	assert_int_equal(keeper_inside_put(&out, &e), 0);
	assert_true(str_find(buf_str(&out), STR_LIT("\"127.0.0.1\"")) < buf_len(&out));
}

static void test_inside_unknown(void **state)
{
	static struct ifaddrs list[BUNDLE_INSIDE_MAX + 1];
	struct sockaddr_in6 longest = v6("2001:db8:1111:2222:3333:4444:5555:6666");
	_cleanup_(buf_free) struct buf out;
	struct err e = ERR_INIT;

	(void)state;
	/* As in the configuration: as many of the longest as may be fit. */
	buf_init(&out, BUNDLE_INSIDE_JSON_MAX);
	assert_int_equal(inside_put_all(&out, NULL, &e), -ENOENT);
	for (size_t i = 0; i < ARRAY_LEN(list); i++)
		list[i] =
			(struct ifaddrs){.ifa_addr = (struct sockaddr *)&longest,
					 .ifa_next = i + 1 < ARRAY_LEN(list) ? &list[i + 1] : NULL};
	assert_int_equal(inside_put_all(&out, list, &e), -E2BIG);
	buf_reset(&out);
	assert_int_equal(inside_put_all(&out, list + 1, &e), 0);
	assert_true(buf_room(&out) > 4096);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_dials_what_is_named, setup, teardown),
		cmocka_unit_test_setup_teardown(test_says_why_not, setup, teardown),
		cmocka_unit_test(test_overstepping_ends_it),
		cmocka_unit_test(test_malformed_ends_it),
		cmocka_unit_test_setup_teardown(test_answers_must_be_taken, setup, teardown),
		cmocka_unit_test_setup_teardown(test_flood_is_held_back, setup, teardown),
		cmocka_unit_test_setup_teardown(test_other_end_goes, setup, teardown),
		cmocka_unit_test(test_inside_listed),
		cmocka_unit_test(test_inside_unknown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
