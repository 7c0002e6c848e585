/* A role that asks too much, or that was taken over. */
#include "desk_fixture.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>
#include <sys/socket.h>
#include <cmocka.h>

#define SUPERVISE KEEPER_DESK_SUPERVISE
#define PIPELOCK  KEEPER_DESK_PIPELOCK

/* --- too much --- */

static void test_flood_of_the_same(void **state)
{
	struct desk_fixture *f = *state;
	struct ask a = desk_fixture_egress("api.example.com");

	for (int i = 0; i < 1000; i++) {
		struct ask_answer out;

		a.id++;
		desk_fixture_say(f, SUPERVISE, &a);
		if (i % 16 == 15)
			desk_fixture_turn(f, 0);
		while (desk_fixture_hear(f, SUPERVISE, &out))
			assert_true(out.state == ASK_PENDING || out.state == ASK_LIMITED);
	}
	assert_int_equal(desk_fixture_count(f, ~0u), 1);
	assert_true(desk_fixture_is_open(f, SUPERVISE));
}

static void test_flood_of_others(void **state)
{
	struct desk_fixture *f = *state;
	size_t n_limited = 0;

	for (unsigned i = 0; i < 40; i++) {
		char host[64];
		struct ask a;

		(void)snprintf(host, sizeof(host), "h%u.example.com", i);
		a = desk_fixture_egress(host);
		n_limited += desk_fixture_ask(f, SUPERVISE, &a).state == ASK_LIMITED;
	}
	assert_in_range(n_limited, 29, 30);
	assert_in_range(desk_fixture_count(f, ~0u), 10, 11);
}

/* A line of the log and of the audit for the first ones; the log would fill the disk. */
static void test_flood_of_canaries(void **state)
{
	struct desk_fixture *f = *state;
	struct ask a = {.op = ASK_CANARY, .life = 1, .host = "evil.example.com"};
	int log = openat(f->k.state_fd, "log", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	int kept = dup(STDERR_FILENO);
	char said[4096];
	ssize_t n;

	assert_true(dup2(log, STDERR_FILENO) >= 0);
	for (int i = 0; i < 100; i++) {
		desk_fixture_say(f, PIPELOCK, &a);
		desk_fixture_turn(f, 0);
	}
	assert_true(dup2(kept, STDERR_FILENO) >= 0);
	n = pread(log, said, sizeof(said), 0);
	assert_in_range(n, 1, 1000);
	assert_true(desk_fixture_is_audited(f, "canary"));
	(void)close(log);
	(void)close(kept);
}

/* --- a role that was taken over --- */

static void expect_end(struct desk_fixture *f, enum keeper_desk_role role, const struct ask *a,
		       size_t n)
{
	struct ask good = desk_fixture_egress("after.example.com");

	assert_true(desk_fixture_is_open(f, role));
	assert_int_equal(send(f->theirs[role], a, n, MSG_NOSIGNAL), (ssize_t)n);
	desk_fixture_turn(f, 1);
	assert_false(desk_fixture_is_open(f, role));
	assert_true(desk_fixture_is_audited(f, "desk-ended"));
	/* For good, and the others go on. */
	if (role == SUPERVISE) {
		desk_fixture_say(f, role, &good);
		desk_fixture_turn(f, 1);
		assert_int_equal(desk_fixture_count(f, ~0u), 0);
		assert_true(desk_fixture_is_open(f, PIPELOCK));
	} else {
		assert_int_equal(desk_fixture_ask(f, SUPERVISE, &good).state, ASK_PENDING);
	}
}

static void test_wrong_size(void **state)
{
	struct ask a = desk_fixture_egress("api.example.com");

	expect_end(*state, SUPERVISE, &a, sizeof(a) - 1);
}

static void test_no_end_of_text(void **state)
{
	struct ask a = desk_fixture_egress("api.example.com");

	memset(a.paths[ASK_PATHS_MAX - 1], 'a', sizeof(a.paths[0]));
	expect_end(*state, SUPERVISE, &a, sizeof(a));
}

static void test_out_of_range(void **state)
{
	struct ask a = desk_fixture_egress("api.example.com");

	a.n_ports = ASK_PORTS_MAX + 1;
	expect_end(*state, SUPERVISE, &a, sizeof(a));
}

static void test_spend_is_not_supervises(void **state)
{
	struct ask a = desk_fixture_egress("api.example.com");

	a.op = ASK_SPEND;
	expect_end(*state, SUPERVISE, &a, sizeof(a));
}

static void test_request_is_not_pipelocks(void **state)
{
	struct ask a = desk_fixture_egress("api.example.com");

	expect_end(*state, PIPELOCK, &a, sizeof(a));
}

static void test_unknown_op(void **state)
{
	struct ask a = desk_fixture_egress("api.example.com");

	a.op = ASK_CANARY + 1;
	expect_end(*state, PIPELOCK, &a, sizeof(a));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		DESK_TEST(test_flood_of_the_same),
		DESK_TEST(test_flood_of_others),
		DESK_TEST(test_flood_of_canaries),
		DESK_TEST(test_wrong_size),
		DESK_TEST(test_no_end_of_text),
		DESK_TEST(test_out_of_range),
		DESK_TEST(test_spend_is_not_supervises),
		DESK_TEST(test_request_is_not_pipelocks),
		DESK_TEST(test_unknown_op),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
