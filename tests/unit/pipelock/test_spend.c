/*
 * Grants for once: nothing of a request leaves before the keeper, played by the test, has used the
 * grant up; and whatever the keeper says but that, the request is refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "world.h"

#include "base/clean.h"
#include "base/io.h"

#include <poll.h>
#include <stdio.h>

#define BOTH  ((1u << POLICY_METHOD_GET) | (1u << POLICY_METHOD_POST))
#define GRANT 4711

static char host_open[] = "open.example.com", host_once[] = "once.example.com";
static struct policy_route routes[] = {
	{.host = host_open, .ports = {443}, .n_ports = 1, .methods = BOTH},
};
static const struct policy policy = {.routes = routes, .n_routes = ARRAY_LEN(routes)};
static const struct policy_route once = {.host = host_once,
					 .ports = {443, 80},
					 .n_ports = 2,
					 .methods = BOTH,
					 .grant = GRANT,
					 .is_once = true};
static struct world *w;
static char answer[64 << 10];

static int group_setup(void **state)
{
	(void)state;
	w = world_make(&policy);
	return w ? 0 : -1;
}

static int group_teardown(void **state)
{
	(void)state;
	world_free(w);
	return 0;
}

static int each(void **state)
{
	(void)state;
	world_records_drop(w);
	return world_renew(w, &once, 1, false) ? 0 : -1;
}

/* What the keeper is asked next; without a question for a moment, op is 0. That something was
 * refused is none. */
static struct ask asked(void)
{
	struct ask a = {0};

	while (world_ask(w, &a) && a.op == ASK_SEEN)
		a = (struct ask){0};
	return a;
}

static void assert_asks_nothing(void)
{
	struct ask a;

	while (io_wait(w->desk_fd, POLLIN, 20) == 1 && world_ask(w, &a))
		assert_int_equal(a.op, ASK_SEEN);
}

static void say(const struct ask *a, enum ask_state state)
{
	world_answer(w, a, state, (enum ask_release)0);
}

static void assert_spends(const struct ask *a)
{
	assert_int_equal(a->op, ASK_SPEND);
	assert_int_equal(a->number, GRANT);
}

/* Refused as if there were no such route. */
static void assert_refused(struct client *c)
{
	struct record r;

	assert_int_equal(client_response(c, answer, sizeof(answer)), 403);
	assert_non_null(strstr(answer, "\"reason\":\"host-not-allowed\""));
	assert_true(world_record(w, &r));
	assert_int_equal(r.verdict, RECORD_BLOCK);
	assert_string_equal(r.reason, "host-not-allowed");
}

#define GET_ONCE "GET /v1/a HTTP/1.1\r\nHost: once.example.com\r\n\r\n"
#define POST_ONCE(length)                                                                          \
	"POST /v1/a HTTP/1.1\r\nHost: once.example.com\r\nContent-Length: " length "\r\n\r\n"

#define CHUNKED_ONCE                                                                               \
	"POST /v1/a HTTP/1.1\r\nHost: once.example.com\r\n"                                        \
	"Transfer-Encoding: chunked\r\n\r\n"

static void send_text(struct client *c, const char *text)
{
	assert_true(client_send(c, text, strlen(text)));
}

static void test_spent_before_it_leaves(void **state)
{
	struct client c = client_tunnel(w, host_once);
	unsigned before = w->requests;
	struct record r;
	struct ask a;

	(void)state;
	/* The tunnel alone costs nothing. */
	assert_asks_nothing();
	send_text(&c, GET_ONCE);
	a = asked();
	assert_spends(&a);
	(void)usleep(20000);
	assert_int_equal(w->requests, before);
	assert_false(io_wait(w->records_fd, POLLIN, 0));
	say(&a, ASK_GRANTED);
	assert_int_equal(client_response(&c, answer, sizeof(answer)), 200);
	assert_int_equal(w->requests, before + 1);
	assert_true(world_record(w, &r));
	assert_int_equal(r.verdict, RECORD_ALLOW);
	/* The next one has to be paid for again. */
	send_text(&c, GET_ONCE);
	a = asked();
	assert_spends(&a);
	say(&a, ASK_UNKNOWN);
	assert_refused(&c);
	assert_int_equal(w->requests, before + 1);
	client_close(&c);
}

static void test_any_other_answer_refuses(void **state)
{
	unsigned before = w->requests;

	(void)state;
	for (int s = ASK_PENDING; s <= ASK_TAKEN; s++) {
		struct client c = client_tunnel(w, host_once);
		struct ask a;

		send_text(&c, s % 2 ? GET_ONCE : POST_ONCE("3") "abc");
		a = asked();
		assert_spends(&a);
		/* A grant that is another's. */
		if (s == ASK_GRANTED)
			a.number++;
		say(&a, (enum ask_state)s);
		assert_refused(&c);
		client_close(&c);
	}
	assert_int_equal(w->requests, before);
}

static void test_with_a_body(void **state)
{
	static char big[300 << 10];
	struct client c = client_tunnel(w, host_once);
	unsigned before = w->requests;
	struct ask a;
	size_t n;
	char *last;

	(void)state;
	send_text(&c, POST_ONCE("6") "abc");
	/* Not before all of it is there and clean. */
	assert_asks_nothing();
	send_text(&c, "def");
	a = asked();
	assert_spends(&a);
	assert_int_equal(w->requests, before);
	say(&a, ASK_GRANTED);
	assert_int_equal(client_response(&c, answer, sizeof(answer)), 200);
	last = world_last(w, &n);
	assert_non_null(strstr(last, "Content-Length: 6"));
	assert_string_equal(last + n - 6, "abcdef");
	free(last);
	/* In one piece, and in chunks without any. */
	send_text(&c, POST_ONCE("3") "xyz");
	a = asked();
	say(&a, ASK_GRANTED);
	assert_int_equal(client_response(&c, answer, sizeof(answer)), 200);
	send_text(&c, CHUNKED_ONCE "0\r\n\r\n");
	a = asked();
	say(&a, ASK_GRANTED);
	assert_int_equal(client_response(&c, answer, sizeof(answer)), 200);
	/* What is stopped for another reason costs nothing. */
	(void)snprintf(big, sizeof(big), POST_ONCE("%zu") "%s", strlen(WORLD_SECRET), WORLD_SECRET);
	send_text(&c, big);
	assert_int_equal(client_response(&c, answer, sizeof(answer)), 403);
	assert_non_null(strstr(answer, "secret-in-body"));
	/* Nor does what is too long to be judged as a whole. */
	memset(big, 'a', sizeof(big));
	send_text(&c, POST_ONCE("307200"));
	(void)client_send(&c, big, sizeof(big));
	assert_int_equal(client_response(&c, answer, sizeof(answer)), 413);
	assert_asks_nothing();
	client_close(&c);
}

/* On a kept connection, which ends when it is used again, a request would be repeated. */
static void test_never_repeated(void **state)
{
	struct client c = client_tunnel(w, host_open), drop;
	unsigned before = w->requests;
	struct ask a;

	(void)state;
	assert_int_equal(client_ask(&c, "GET / HTTP/1.1\r\nHost: open.example.com\r\n\r\n", answer,
				    sizeof(answer)),
			 200);
	drop = client_tunnel(w, host_once);
	send_text(&drop, "GET /v1/drop HTTP/1.1\r\nHost: once.example.com\r\n\r\n");
	a = asked();
	assert_spends(&a);
	say(&a, ASK_GRANTED);
	assert_int_equal(client_response(&drop, answer, sizeof(answer)), 502);
	assert_int_equal(w->requests, before + 2);
	client_close(&drop);
	client_close(&c);
}

/* A grant is not spent where another route allows the same. */
static void test_a_standing_route_wins(void **state)
{
	struct policy_route both[] = {once, once};
	struct client c;

	(void)state;
	both[1].grant = GRANT + 1;
	both[1].is_once = false;
	assert_true(world_renew(w, both, 2, false));
	c = client_tunnel(w, host_once);
	assert_int_equal(client_ask(&c, GET_ONCE, answer, sizeof(answer)), 200);
	assert_asks_nothing();
	client_close(&c);
}

/* The policy without the grant comes while the request that it was spent for is under way: that one
 * goes on to its end, and its tunnel ends with it. */
static void test_a_spent_one_goes_on(void **state)
{
	static char events[4096];
	struct client c = client_tunnel(w, host_once);
	struct ask a;
	size_t n = 0;

	(void)state;
	send_text(&c, "GET /v1/sse HTTP/1.1\r\nHost: once.example.com\r\n\r\n");
	a = asked();
	say(&a, ASK_GRANTED);
	for (int seen = 1; seen <= 3; seen++) {
		assert_int_equal(client_events(&c, seen, events, sizeof(events), &n), seen);
		assert_true(world_renew(w, NULL, 0, false));
		assert_int_equal(sem_post(&w->go), 0);
	}
	/* To its last chunk, and then the end. */
	assert_int_equal(client_events(&c, 4, events, sizeof(events), &n), 3);
	assert_non_null(strstr(events, "0\r\n\r\n"));
	client_close(&c);
}

/* The policy without the grant comes while the keeper's answer is on its way: only that says
 * whether the grant was used for this request, or revoked before. */
static void test_renewed_while_it_waits(void **state)
{
	(void)state;
	for (int i = 0; i < 4; i++) {
		struct client c = client_tunnel(w, host_once);
		unsigned before = w->requests;
		struct ask a;

		send_text(&c, i % 2 ? POST_ONCE("3") "abc" : GET_ONCE);
		a = asked();
		assert_true(world_renew(w, NULL, 0, false));
		(void)usleep(20000);
		assert_int_equal(w->requests, before);
		say(&a, i < 2 ? ASK_GRANTED : ASK_UNKNOWN);
		if (i < 2)
			assert_int_equal(client_response(&c, answer, sizeof(answer)), 200);
		else
			assert_refused(&c);
		assert_int_equal(w->requests, before + (i < 2));
		/* Its tunnel ends with it. */
		assert_true(client_read(&c, answer, sizeof(answer)) <= 0);
		client_close(&c);
		assert_true(world_renew(w, &once, 1, false));
		world_records_drop(w);
	}
}

static void test_paused_while_it_waits(void **state)
{
	struct client c = client_tunnel(w, host_once);
	unsigned before = w->requests;
	struct ask a;

	(void)state;
	send_text(&c, GET_ONCE);
	a = asked();
	assert_true(world_renew(w, &once, 1, true));
	assert_int_equal(client_response(&c, answer, sizeof(answer)), 403);
	assert_non_null(strstr(answer, "network-paused"));
	/* Too late. */
	say(&a, ASK_GRANTED);
	assert_asks_nothing();
	assert_int_equal(w->requests, before);
	client_close(&c);
}

/* --- in any order --- */

#define ROUNDS	10
#define STEPS	30
#define CLIENTS 3

static uint64_t dice = 4711;

static unsigned any(unsigned n)
{
	dice = dice * UINT64_C(6364136223846793005) + 1442695040888963407u;
	return (unsigned)(dice >> 33) % n;
}

/* One step of whoever acts next: a client, the human, or the keeper, who grants at most `left`. */
static void any_step(struct client c[CLIENTS], unsigned *left, unsigned *granted)
{
	static const char *const pieces[] = {GET_ONCE,
					     GET_ONCE GET_ONCE,
					     POST_ONCE("6") "abc",
					     "def",
					     (CHUNKED_ONCE "3\r\nabc\r\n"),
					     "0\r\n\r\n",
					     "3\r\ndef\r\n0\r\n\r\n"};
	const char *piece = pieces[any(ARRAY_LEN(pieces))];
	struct ask a;

	switch (any(6)) {
	case 0:
		assert_true(world_renew(w, &once, any(4) > 0, any(8) == 0));
		return;
	case 1:
	case 2:
		if (io_wait(w->desk_fd, POLLIN, 0) != 1 || !world_ask(w, &a) || a.op != ASK_SPEND)
			return;
		*granted += *left > 0;
		say(&a, *left > 0 ? ASK_GRANTED : ASK_UNKNOWN);
		*left -= *left > 0;
		return;
	default:
		/* It may have been closed. */
		(void)client_send(&c[any(CLIENTS)], piece, strlen(piece));
		return;
	}
}

/* Whatever comes in whatever order, no more leaves than was granted. */
static void test_any_order(void **state)
{
	unsigned before = w->requests, granted = 0;

	(void)state;
	for (int round = 0; round < ROUNDS; round++) {
		struct client c[CLIENTS];
		unsigned left = any(3);
		struct ask a;

		assert_true(world_renew(w, &once, 1, false));
		for (size_t i = 0; i < CLIENTS; i++)
			c[i] = client_tunnel(w, host_once);
		for (int i = 0; i < STEPS; i++)
			any_step(c, &left, &granted);
		for (size_t i = 0; i < CLIENTS; i++)
			client_close(&c[i]);
		while (io_wait(w->desk_fd, POLLIN, 5) == 1 && world_ask(w, &a))
			;
		/* What was granted in this round may still be on its way. */
		if (w->requests > before + granted)
			fail_msg("%u left, %u were granted", w->requests - before, granted);
		world_records_drop(w);
	}
	assert_true(w->requests > before);
}

/* The last test: nothing can be asked any more. */
static void test_no_keeper(void **state)
{
	struct client c = client_tunnel(w, host_once), waits = client_tunnel(w, host_once);

	(void)state;
	send_text(&waits, GET_ONCE);
	(void)asked();
	(void)shutdown(w->desk_fd, SHUT_RDWR);
	assert_refused(&waits);
	send_text(&c, GET_ONCE);
	assert_refused(&c);
	client_close(&c);
	client_close(&waits);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_spent_before_it_leaves, each),
		cmocka_unit_test_setup(test_any_other_answer_refuses, each),
		cmocka_unit_test_setup(test_with_a_body, each),
		cmocka_unit_test_setup(test_never_repeated, each),
		cmocka_unit_test_setup(test_a_standing_route_wins, each),
		cmocka_unit_test_setup(test_a_spent_one_goes_on, each),
		cmocka_unit_test_setup(test_renewed_while_it_waits, each),
		cmocka_unit_test_setup(test_paused_while_it_waits, each),
		cmocka_unit_test_setup(test_any_order, each),
		cmocka_unit_test_setup(test_no_keeper, each),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
