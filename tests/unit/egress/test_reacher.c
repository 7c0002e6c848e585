/* egress's end of reach=, and the dialler and the resolver upon it, against a played keeper in the
 * same loop that behaves as each test wants. */
#include "dns_stub.h"

#include "egress/dialer.h"
#include "egress/reacher.h"
#include "egress/resolver.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/timeutil.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define LIFE 3

enum manners { DIALS, MUTE, REFUSES, MUTE_TO_FIRST };

struct fixture {
	struct loop *loop;
	struct loop_timer stop;
	struct dns_stub stub;
	int listener;
	int channel[2]; /* [0] ours, [1] the keeper's */
	struct loop_watch keeper;
	enum manners manners;
	unsigned n_requests;
	struct reach_request last;
	struct reacher *reacher;
	struct policy policy;
	struct policy_resolve resolve[3];
	struct address_own own;
	struct resolver *resolver;
	/* What came */
	unsigned n_called, n_ok;
	int fd, error;
	char reason[64];
	struct resolver_answer answer;
};

/* --- the played keeper --- */

static void reply(struct fixture *f, uint64_t id, uint32_t life, uint32_t status, int fd)
{
	struct reach_reply r = {.id = id, .life = life, .status = status};

	assert_int_equal(io_send_fds(f->channel[1], &r, sizeof(r), &fd, fd >= 0, 0), sizeof(r));
}

static void dial(struct fixture *f, const struct reach_request *q)
{
	const struct sockaddr_storage *to = q->list == REACH_DNS
						    ? &f->policy.dns[q->number]
						    : &f->policy.resolve[q->number].address;
	int type = q->kind == REACH_STREAM ? SOCK_STREAM : SOCK_DGRAM;
	_cleanup_close_ int fd = socket(to->ss_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	(void)!connect(fd, (const struct sockaddr *)to, sizeof(struct sockaddr_in));
	reply(f, q->id, q->life, 0, fd);
}

static void keeper_on_request(struct loop_watch *w, uint32_t events)
{
	struct fixture *f = (struct fixture *)((char *)w - offsetof(struct fixture, keeper));
	struct reach_request q;

	(void)events;
	assert_int_equal(recv(w->fd, &q, sizeof(q), 0), sizeof(q));
	f->last = q;
	if (++f->n_requests == 1 && f->manners == MUTE_TO_FIRST)
		return;
	if (f->manners == DIALS || f->manners == MUTE_TO_FIRST)
		dial(f, &q);
	else if (f->manners == REFUSES)
		reply(f, q.id, q.life, ECONNREFUSED, -1);
}

/* The keeper is there, but does not read. */
static void keeper_pause(struct fixture *f, bool pauses)
{
	struct err e = ERR_INIT;

	if (pauses)
		loop_del(f->loop, &f->keeper);
	else
		assert_int_equal(loop_add(f->loop, &f->keeper, f->channel[1], EPOLLIN, &e), 0);
}

static void keeper_die(struct fixture *f)
{
	loop_del(f->loop, &f->keeper);
	close_fd(&f->channel[1]);
}

/* --- the fixture --- */

static void on_stop(struct loop_timer *t)
{
	loop_stop(((struct fixture *)((char *)t - offsetof(struct fixture, stop)))->loop, 0);
}

static void turn(struct fixture *f, unsigned ms)
{
	loop_timer_set(f->loop, &f->stop, ms);
	(void)loop_run(f->loop);
}

static void make_policy(struct fixture *f)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof(a);

	f->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(f->listener, (struct sockaddr *)&a, n), 0);
	assert_int_equal(listen(f->listener, 16), 0);
	assert_int_equal(getsockname(f->listener, (struct sockaddr *)&a, &n), 0);
	f->resolve[0].host = (char *)"other.test";
	f->resolve[1].host = f->resolve[2].host = (char *)"named.test";
	for (int i = 0; i < 3; i++)
		memcpy(&f->resolve[i].address, &a, sizeof(a));
	f->policy = (struct policy){
		.resolve = f->resolve, .n_resolve = 3, .dns = &f->stub.address, .n_dns = 1};
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct resolver_config config = {.own = &f->own,
					 .n_servers = 1,
					 .total_ms = 3500,
					 .policy = &f->policy,
					 .servers = &f->stub.address};
	struct err e = ERR_INIT;

	(void)signal(SIGPIPE, SIG_IGN);
	dns_stub_start(&f->stub);
	make_policy(f);
	f->stop.fn = on_stop;
	f->keeper = (struct loop_watch){.fd = -1, .fn = keeper_on_request};
	f->loop = loop_new(&e);
	if (!f->loop || address_own_open(&f->own, &e) < 0 ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, f->channel) < 0 ||
	    loop_add(f->loop, &f->keeper, f->channel[1], EPOLLIN, &e) < 0 ||
	    reacher_new(&f->reacher, f->loop, f->channel[0], LIFE, &e) < 0)
		return -1;
	config.reacher = f->reacher;
	if (resolver_new(&f->resolver, f->loop, &config, &e) < 0)
		return -1;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	resolver_free(f->resolver);
	reacher_free(f->reacher);
	address_own_close(&f->own);
	loop_free(f->loop);
	dns_stub_stop(&f->stub);
	close_fd(&f->channel[0]);
	close_fd(&f->channel[1]);
	close_fd(&f->listener);
	free(f);
	return 0;
}

/* --- the channel --- */

static void on_reached(void *ctx, int fd, int error)
{
	struct fixture *f = ctx;

	f->n_called++;
	f->fd = fd;
	f->error = error;
}

static const struct reacher_question question = {REACH_RESOLVE, REACH_STREAM, 1, 443};

static uint64_t ask(struct fixture *f)
{
	uint64_t handle = reacher_ask(f->reacher, &question, on_reached, f, &f->error);

	assert_int_equal(f->error == 0, handle != 0);
	return handle;
}

static void test_asks_by_number(void **state)
{
	struct fixture *f = *state;

	assert_true(ask(f) != 0);
	assert_int_equal(f->n_called, 0);
	turn(f, 20);
	assert_int_equal(f->n_called, 1);
	assert_true(f->fd >= 0);
	close_fd(&f->fd);
	assert_int_equal(f->last.list, REACH_RESOLVE);
	assert_int_equal(f->last.kind, REACH_STREAM);
	assert_int_equal(f->last.number, 1);
	assert_int_equal(f->last.port, 443);
	assert_int_equal(f->last.life, LIFE);
	assert_int_equal(f->last.zero, 0);
	f->manners = REFUSES;
	assert_true(ask(f) != 0);
	turn(f, 20);
	assert_int_equal(f->n_called, 2);
	assert_int_equal(f->fd, -1);
	assert_int_equal(f->error, ECONNREFUSED);
}

static bool is_closed(int peer)
{
	char byte;

	return recv(peer, &byte, 1, MSG_DONTWAIT) == 0;
}

/* Answers to an egress that died come first; their sockets are closed, whatever their number. */
static void test_stale_answers(void **state)
{
	struct fixture *f = *state;
	uint64_t handle;
	int pair[2];

	f->manners = MUTE;
	handle = ask(f);
	assert_true(handle != 0);
	turn(f, 10);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	reply(f, handle, LIFE - 1, 0, pair[1]);
	reply(f, handle, LIFE - 1, ECONNREFUSED, -1);
	reply(f, handle + 1, LIFE, 0, pair[1]);
	reply(f, 0, LIFE, 0, pair[1]);
	close_fd(&pair[1]);
	turn(f, 20);
	assert_int_equal(f->n_called, 0);
	assert_true(is_closed(pair[0]));
	close_fd(&pair[0]);
	dial(f, &f->last);
	turn(f, 20);
	assert_int_equal(f->n_called, 1);
	assert_true(f->fd >= 0);
	close_fd(&f->fd);
	/* Taken back meanwhile. */
	handle = ask(f);
	reacher_cancel(f->reacher, handle);
	reacher_cancel(f->reacher, handle);
	reacher_cancel(f->reacher, 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	reply(f, handle, LIFE, 0, pair[1]);
	close_fd(&pair[1]);
	turn(f, 20);
	assert_int_equal(f->n_called, 1);
	assert_true(is_closed(pair[0]));
	close_fd(&pair[0]);
}

static void test_cap(void **state)
{
	struct fixture *f = *state;
	uint64_t first = 0;

	f->manners = MUTE;
	for (int i = 0; i < REACH_PENDING_MAX; i++) {
		uint64_t handle = ask(f);

		assert_true(handle != 0);
		first = first ? first : handle;
	}
	assert_true(ask(f) == 0);
	assert_int_equal(f->error, REACHER_BUSY);
	reacher_cancel(f->reacher, first);
	first = ask(f);
	assert_true(first != 0);
	reacher_cancel(f->reacher, first);
	/* A keeper that does not read, and questions that are taken back: the kernel's queue ends
	 * it. */
	keeper_pause(f, true);
	for (int i = 0; i < 100000; i++) {
		uint64_t handle = ask(f);

		if (handle == 0)
			break;
		reacher_cancel(f->reacher, handle);
	}
	assert_int_equal(f->error, REACHER_BUSY);
}

static void test_end_of_the_keeper(void **state)
{
	struct fixture *f = *state;

	f->manners = MUTE;
	for (int i = 0; i < 3; i++)
		assert_true(ask(f) != 0);
	turn(f, 10);
	keeper_die(f);
	turn(f, 20);
	assert_int_equal(f->n_called, 3);
	assert_int_equal(f->fd, -1);
	assert_int_equal(f->error, REACHER_GONE);
	assert_true(ask(f) == 0);
	assert_int_equal(f->error, REACHER_GONE);
	assert_int_equal(f->n_called, 3);
}

/* What is no answer ends the channel, and is not taken for one. */
static void test_malformed_answers(void **state)
{
	(void)state;
	for (int i = 0; i < 6; i++) {
		struct reach_reply r[2] = {{.id = 1, .life = LIFE}};
		void *inner = NULL;
		struct fixture *f;
		int fds[2];

		assert_int_equal(setup(&inner), 0);
		f = inner;
		f->manners = MUTE;
		assert_true(ask(f) == 1);
		turn(f, 10);
		fds[0] = fds[1] = f->listener;
		if (i == 0) /* too short */
			(void)io_send_fds(f->channel[1], r, sizeof(r[0]) - 1, fds, 1, 0);
		else if (i == 1) /* too long */
			(void)io_send_fds(f->channel[1], r, sizeof(r[0]) + 1, fds, 1, 0);
		else if (i == 2) /* no socket */
			(void)io_send_fds(f->channel[1], r, sizeof(r[0]), NULL, 0, 0);
		else if (i == 3) /* two */
			(void)io_send_fds(f->channel[1], r, sizeof(r[0]), fds, 2, 0);
		r[0].status = i == 4 ? EPERM : UINT32_MAX;
		if (i == 4) /* a reason why not, and a socket */
			(void)io_send_fds(f->channel[1], r, sizeof(r[0]), fds, 1, 0);
		else if (i == 5) /* no errno */
			(void)io_send_fds(f->channel[1], r, sizeof(r[0]), NULL, 0, 0);
		turn(f, 20);
		assert_int_equal(f->n_called, 1);
		assert_int_equal(f->fd, -1);
		assert_int_equal(f->error, REACHER_GONE);
		assert_true(ask(f) == 0);
		(void)teardown(&inner);
	}
}

/* --- the dialler --- */

static struct fixture *dialling;

static void on_dialled(struct dialer *d, int fd, const char *reason, const char *detail)
{
	(void)d;
	(void)detail;
	dialling->n_called++;
	dialling->fd = fd;
	(void)snprintf(dialling->reason, sizeof(dialling->reason), "%s", reason);
	loop_stop(dialling->loop, 0);
}

static const char *connect_to(struct fixture *f, struct dialer *d)
{
	unsigned before = f->n_called;

	dialling = f;
	assert_true(dialer_start(d, f->loop, f->resolver, STR_LIT("named.test"), 443, on_dialled));
	(void)loop_run(f->loop);
	assert_int_equal(f->n_called, before + 1);
	return f->reason;
}

static void test_dialler(void **state)
{
	struct fixture *f = *state;
	struct dialer d = {0};
	int peer;

	assert_string_equal(connect_to(f, &d), "ok");
	assert_int_equal(f->last.list, REACH_RESOLVE);
	assert_int_equal(f->last.number, 1);
	peer = accept4(f->listener, NULL, NULL, SOCK_CLOEXEC);
	assert_int_equal(send(f->fd, "x", 1, 0), 1);
	close_fd(&f->fd);
	close_fd(&peer);
	/* The second address of the same name. */
	assert_true(dialer_next(&d));
	(void)loop_run(f->loop);
	assert_string_equal(f->reason, "ok");
	assert_int_equal(f->last.number, 2);
	close_fd(&f->fd);
	assert_false(dialer_next(&d));
	f->manners = REFUSES;
	assert_string_equal(connect_to(f, &d), "connect-failed");
	assert_int_equal(f->n_requests, 4);
	/* Nobody has dialled besides. */
	assert_int_equal(io_wait(f->listener, POLLIN, 0), 1); /* the second one's */
	peer = accept4(f->listener, NULL, NULL, SOCK_CLOEXEC);
	close_fd(&peer);
	assert_int_equal(io_wait(f->listener, POLLIN, 0), 0);
}

static void test_dialler_waits_so_long(void **state)
{
	struct fixture *f = *state;
	uint64_t start_ns = time_monotonic_ns(), ms;
	struct dialer d = {0};

	/* One address after the other, each with its time. */
	f->manners = MUTE_TO_FIRST;
	assert_string_equal(connect_to(f, &d), "ok");
	assert_int_equal(f->last.number, 2);
	close_fd(&f->fd);
	ms = (time_monotonic_ns() - start_ns) / TIME_NS_PER_MS;
	assert_true(ms >= DIALER_LATE_MS - 10 && ms < DIALER_LATE_MS + 1000);
	f->manners = MUTE;
	assert_string_equal(connect_to(f, &d), "connect-timeout");
	/* Given up: nothing is called. */
	assert_true(dialer_start(&d, f->loop, f->resolver, STR_LIT("named.test"), 443, on_dialled));
	turn(f, 50);
	f->n_called = 0;
	dialer_cancel(&d);
	dial(f, &f->last);
	turn(f, 50);
	assert_int_equal(f->n_called, 0);
}

static void test_dialler_without_keeper(void **state)
{
	struct fixture *f = *state;
	struct dialer d = {0};

	/* It goes while it is asked, then it is not there. */
	f->manners = MUTE;
	dialling = f;
	assert_true(dialer_start(&d, f->loop, f->resolver, STR_LIT("named.test"), 443, on_dialled));
	turn(f, 50);
	assert_int_equal(f->n_called, 0);
	keeper_die(f);
	(void)loop_run(f->loop);
	assert_string_equal(f->reason, "reach-failed");
	assert_string_equal(connect_to(f, &d), "reach-failed");
	/* The listener is on this very host, and was never dialled. */
	assert_int_equal(io_wait(f->listener, POLLIN, 0), 0);
}

static void test_dialler_busy(void **state)
{
	struct fixture *f = *state;
	struct dialer d = {0};

	f->manners = MUTE;
	for (int i = 0; i < REACH_PENDING_MAX; i++)
		assert_true(ask(f) != 0);
	assert_string_equal(connect_to(f, &d), "egress-busy");
}

/* --- the resolver --- */

static void on_answer(void *ctx, const struct resolver_answer *a)
{
	struct fixture *f = ctx;

	f->answer = *a;
	f->n_called++;
	f->n_ok += a->status == RESOLVER_OK;
	loop_stop(f->loop, 0);
}

static const char *look_up(struct fixture *f, const char *host)
{
	unsigned before = f->n_called;

	assert_non_null(resolver_ask(f->resolver, str_of(host), 443, on_answer, f));
	assert_int_equal(f->n_called, before);
	(void)loop_run(f->loop);
	assert_int_equal(f->n_called, before + 1);
	return resolver_status_name(f->answer.status);
}

static void test_resolver(void **state)
{
	struct fixture *f = *state;

	assert_string_equal(look_up(f, "public.test"), "ok");
	assert_int_equal(f->answer.n, 3);
	assert_null(f->answer.reacher); /* an address outside is dialled from here */
	assert_int_equal(f->last.list, REACH_DNS);
	assert_int_equal(f->last.kind, REACH_DATAGRAM);
	assert_int_equal(f->last.number, 0);
	assert_string_equal(look_up(f, "mixed.test"), "inside-address");
	assert_string_equal(look_up(f, "nx.test"), "dns-no-address");
	/* What does not fit is asked for over TCP, which is asked of the keeper as well. */
	assert_string_equal(look_up(f, "tcp.test"), "ok");
	assert_int_equal(f->answer.n, 1);
	assert_int_equal(f->last.kind, REACH_STREAM);
	assert_int_equal(atomic_load(&f->stub.n_tcp), 1);
	assert_string_equal(look_up(f, "named.test"), "ok");
	assert_ptr_equal(f->answer.reacher, f->reacher);
	assert_int_equal(f->answer.numbers[1], 2);
}

static void test_resolver_without_keeper(void **state)
{
	struct fixture *f = *state;

	f->manners = REFUSES;
	assert_string_equal(look_up(f, "public.test"), "dns-failed");
	f->manners = MUTE;
	assert_string_equal(look_up(f, "public.test"), "dns-timeout");
	/* In the midst of a lookup, and before one. */
	assert_non_null(resolver_ask(f->resolver, STR_LIT("public.test"), 443, on_answer, f));
	turn(f, 50);
	keeper_die(f);
	(void)loop_run(f->loop);
	assert_int_equal(f->answer.status, RESOLVER_FAILED);
	assert_string_equal(look_up(f, "public.test"), "dns-failed");
	/* The server is on this very host, and was never asked. */
	assert_int_equal(atomic_load(&f->stub.n_asked), 0);
}

/* All lookups that there may be, before the keeper has answered once: more than is kept. */
static void test_resolver_burst(void **state)
{
	struct fixture *f = *state;

	keeper_pause(f, true);
	for (int i = 0; i < RESOLVER_LOOKUPS_MAX; i++)
		assert_non_null(resolver_ask(f->resolver, STR_LIT("public.some-longer-name.test"),
					     443, on_answer, f));
	turn(f, 100);
	assert_int_equal(f->n_called, 0);
	assert_int_equal(atomic_load(&f->stub.n_asked), 0);
	keeper_pause(f, false);
	for (int i = 0; i < RESOLVER_LOOKUPS_MAX && f->n_called < RESOLVER_LOOKUPS_MAX; i++)
		(void)loop_run(f->loop);
	assert_int_equal(f->n_called, RESOLVER_LOOKUPS_MAX);
	assert_int_equal(f->n_ok, RESOLVER_LOOKUPS_MAX);
	assert_int_equal(f->n_requests, 1);
}

/* A resolver that ends while the keeper is asked: nothing is called, nothing is left. */
static void test_resolver_freed(void **state)
{
	struct fixture *f = *state;

	f->manners = MUTE;
	assert_non_null(resolver_ask(f->resolver, STR_LIT("public.test"), 443, on_answer, f));
	turn(f, 20);
	assert_int_equal(f->n_requests, 1);
	resolver_free(f->resolver);
	f->resolver = NULL;
	dial(f, &f->last);
	turn(f, 20);
	assert_int_equal(f->n_called, 0);
}

#define REACHER_TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		REACHER_TEST(test_asks_by_number),
		REACHER_TEST(test_stale_answers),
		REACHER_TEST(test_cap),
		REACHER_TEST(test_end_of_the_keeper),
		cmocka_unit_test(test_malformed_answers),
		REACHER_TEST(test_dialler),
		REACHER_TEST(test_dialler_waits_so_long),
		REACHER_TEST(test_dialler_without_keeper),
		REACHER_TEST(test_dialler_busy),
		REACHER_TEST(test_resolver),
		REACHER_TEST(test_resolver_without_keeper),
		REACHER_TEST(test_resolver_burst),
		REACHER_TEST(test_resolver_freed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
