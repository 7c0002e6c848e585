/*
 * A keeper that is killed at any moment: a child asks, decides, spends and revokes, and writes down
 * in a pipe, which outlives it, what it is about to do and what was acknowledged. After SIGKILL the
 * file is opened anew and must say no less than what was acknowledged and no more than what was
 * begun:
 *
 *   - nothing is granted that was not about to be decided so;
 *   - each decision that was acknowledged is there, and its audit with it;
 *   - a grant for once is spent at most once, and one that was acknowledged as spent stays so;
 *   - what was revoked stays so;
 *   - the chain of the audit holds, and each grant has its line in it.
 *
 * CRASH_ROUNDS=200 for more rounds.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "requests/store_int.h"
#include "world.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>

#define ROUNDS_QUICK 60
#define IDS_MAX	     32768
#define KILL_MAX_US  6000

enum step { STEP_DECIDE, STEP_SPEND, STEP_REVOKE };

/* Small enough for a pipe to take it whole. */
struct note {
	uint32_t step, is_done;
	uint64_t id;
	uint32_t is_granted, scope;
};

/* What is known of each request, over all rounds. */
struct known {
	struct note begun[3], done[3]; /* by step; id 0: not */
};
static struct known known[IDS_MAX];

/* --- the child --- */

static void say(int fd, enum step step, bool is_done, uint64_t id, bool is_granted,
		enum ask_scope scope)
{
	struct note n = {step, is_done, id, is_granted, scope};

	if (write(fd, &n, sizeof(n)) != sizeof(n))
		_exit(2);
}

static void child_must(int ret)
{
	if (ret < 0)
		_exit(3);
}

/* One request's whole life; which one it has is drawn. */
static void live(struct store *s, int fd, unsigned round, unsigned i)
{
	static const struct danger none;
	static const uint8_t content[CHANGE_HASH_BYTES] = {1};
	struct ask a = {.kind = ASK_EGRESS};
	struct store_decision d = {.who = "uid 1", .face = "test", .scope = ASK_ONCE};
	struct store_asked asked;
	enum store_verdict verdict;
	struct change c;

	(void)snprintf(a.host, sizeof(a.host), "r%u-%u.example.com", round, i);
	child_must(change_from_ask(&c, &a, NULL));
	child_must(store_ask(s, &c, &none, STR_LIT("x"), 100, 0, &asked, NULL));
	d.id = asked.id;
	memcpy(d.hash, asked.hash, sizeof(d.hash));
	d.is_granted = world_random(4) != 0;
	if (world_random(2))
		d.scope = ASK_BOTTLE;
	say(fd, STEP_DECIDE, false, d.id, d.is_granted, d.scope);
	child_must(store_decide(s, &d, &none, 110, &verdict, NULL));
	if (verdict != STORE_DECIDED)
		_exit(4);
	say(fd, STEP_DECIDE, true, d.id, d.is_granted, d.scope);
	if (d.is_granted && d.scope == ASK_ONCE) {
		say(fd, STEP_SPEND, false, d.id, true, d.scope);
		child_must(store_spend(s, d.id, content, 120, NULL));
		say(fd, STEP_SPEND, true, d.id, true, d.scope);
		/* A second time it is not there, whatever happened in between. */
		if (store_spend(s, d.id, content, 120, NULL) != -ENOENT)
			_exit(5);
	} else if (d.is_granted) {
		say(fd, STEP_REVOKE, false, d.id, true, d.scope);
		child_must(store_revoke(s, d.id, "uid 1", "test", 130, NULL));
		say(fd, STEP_REVOKE, true, d.id, true, d.scope);
	}
	change_free(&c);
}

static void child(int fd, unsigned round)
{
	struct store *s = NULL;

	child_must(store_open(&s, world.fd, WORLD_SLUG, NULL));
	for (unsigned i = 0;; i++)
		live(s, fd, round, i);
}

/* --- what is left --- */

static void take_note(const struct note *n)
{
	assert_true(n->id > 0 && n->id < IDS_MAX && n->step <= STEP_REVOKE);
	if (n->is_done)
		known[n->id].done[n->step] = *n;
	else
		known[n->id].begun[n->step] = *n;
}

static void read_notes(int fd)
{
	struct note n;

	while (read(fd, &n, sizeof(n)) == sizeof(n))
		take_note(&n);
}

static size_t n_seen;

static bool check_request(const struct request *r, void *ctx)
{
	const struct known *k = &known[r->id];
	const struct note *begun = &k->begun[STEP_DECIDE], *done = &k->done[STEP_DECIDE];

	(void)ctx;
	n_seen++;
	if (r->state == REQUEST_GRANTED) {
		assert_true(begun->id == r->id && begun->is_granted);
		assert_int_equal(r->scope, begun->scope);
	}
	if (r->state == REQUEST_REFUSED)
		assert_true(begun->id == r->id && !begun->is_granted);
	if (done->id)
		assert_int_equal(r->state, done->is_granted ? REQUEST_GRANTED : REQUEST_REFUSED);
	return true;
}

static bool check_grant(const struct grant *g, void *ctx)
{
	const struct known *k = &known[g->id];

	(void)ctx;
	assert_int_equal(world_state(g->id), REQUEST_GRANTED);
	assert_int_equal(g->scope, k->begun[STEP_DECIDE].scope);
	if (g->state == GRANT_SPENT)
		assert_int_equal(k->begun[STEP_SPEND].id, g->id);
	if (k->done[STEP_SPEND].id)
		assert_int_equal(g->state, GRANT_SPENT);
	if (g->state == GRANT_REVOKED)
		assert_int_equal(k->begun[STEP_REVOKE].id, g->id);
	if (k->done[STEP_REVOKE].id)
		assert_int_equal(g->state, GRANT_REVOKED);
	return true;
}

static void count_is(const char *sql, uint64_t want)
{
	uint64_t n = 0;

	assert_int_equal(store_number(world.store, sql, NULL, 0, 0, &n, NULL), 0);
	if (n != want)
		print_error("%s: %llu\n", sql, (unsigned long long)n);
	assert_int_equal(n, want);
}

static void check_all(void)
{
	struct err e = ERR_INIT;
	size_t n;

	world_reopen();
	assert_int_equal(store_each(world.store, ~0u, 0, 0, check_request, NULL, &e), 0);
	assert_int_equal(store_each_grant(world.store, check_grant, NULL, &e), 0);
	for (uint64_t id = 1; id < IDS_MAX; id++)
		if (known[id].done[STEP_DECIDE].id)
			assert_true(world_state(id) == REQUEST_GRANTED ||
				    world_state(id) == REQUEST_REFUSED);
	assert_int_equal(store_verify_audit(world.store, &n, &e), 0);
	/* All of a decision, or none of it. */
	count_is(
		"SELECT count(*) FROM requests WHERE state=2 AND id NOT IN (SELECT id FROM grants)",
		0);
	count_is("SELECT count(*) FROM grants WHERE id NOT IN (SELECT id FROM requests WHERE "
		 "state=2)",
		 0);
	count_is("SELECT count(*) FROM requests WHERE state IN (2,3) AND id NOT IN (SELECT request "
		 "FROM audit WHERE what IN ('granted-once','granted-bottle','refused'))",
		 0);
	count_is("SELECT count(*) FROM grants WHERE state=2 AND id NOT IN (SELECT request FROM "
		 "audit WHERE what='spent')",
		 0);
	count_is("SELECT count(*) FROM (SELECT request FROM audit WHERE what IN ('spent','revoked',"
		 "'granted-once','granted-bottle','refused') GROUP BY request,what HAVING "
		 "count(*)>1)",
		 0);
	store_close(world.store);
	world.store = NULL;
}

static void run_round(unsigned round)
{
	struct timespec wait = {.tv_nsec = (long)world_random(KILL_MAX_US) * 1000};
	struct note first;
	int fds[2], status;
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		/* Its own draws. */
		for (unsigned i = 0; i < round; i++)
			(void)world_random(2);
		child(fds[1], round);
	}
	(void)close(fds[1]);
	/* From its first note on, so that rounds are not spent on opening the file. */
	assert_int_equal(read(fds[0], &first, sizeof(first)), sizeof(first));
	take_note(&first);
	(void)nanosleep(&wait, NULL);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	read_notes(fds[0]);
	(void)close(fds[0]);
}

static void test_killed_at_any_moment(void **state)
{
	const char *given = getenv("CRASH_ROUNDS");
	uint64_t rounds = ROUNDS_QUICK;

	(void)state;
	if (given)
		assert_int_equal(str_to_u64(str_of(given), 100000, &rounds), 0);
	(void)world_seed();
	store_close(world.store);
	world.store = NULL;
	for (unsigned i = 0; i < rounds; i++) {
		run_round(i);
		/* Each round is checked by the next one's opening; in full every few. */
		if (i % 5 == 4 || i + 1 == rounds)
			check_all();
	}
	assert_true(n_seen >= rounds);
	print_message("%llu rounds, %zu requests seen\n", (unsigned long long)rounds, n_seen);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_killed_at_any_moment, world_setup,
						world_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
