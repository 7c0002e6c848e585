/* What roles may ask of the keeper's desk, what becomes of it, and what is in force when. */
#include "desk_fixture.h"

#include "base/io.h"
#include "base/mem.h"
#include "base/text.h"
#include "requests/manifest_edit.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>
#include <sys/socket.h>
#include <cmocka.h>

#define SUPERVISE KEEPER_DESK_SUPERVISE
#define PIPELOCK  KEEPER_DESK_PIPELOCK

/* --- one request, all the way --- */

static void test_request_granted(void **state)
{
	struct desk_fixture *f = *state;
	struct ask a = desk_fixture_egress("api.example.com");
	struct ask_answer out = desk_fixture_ask(f, SUPERVISE, &a);

	assert_int_equal(out.state, ASK_PENDING);
	assert_false(out.is_final);
	assert_int_equal(out.number, desk_fixture_pending(f, NULL));
	desk_fixture_decide(f, out.number, true, "bottle", 0);
	/* Decided, and not in force yet: nobody hears of it. */
	assert_int_equal(f->n_given, 1);
	assert_int_equal(f->given.n_routes, 1);
	assert_string_equal(f->given.routes[0].host, "api.example.com");
	assert_int_equal(f->given.routes[0].grant, out.number);
	assert_int_equal(f->n_replies, 0);
	assert_false(desk_fixture_hear(f, SUPERVISE, &out));
	desk_fixture_answer(f, true);
	assert_string_equal(f->verdict, "decided");
	assert_true(f->is_in_force);
	assert_true(desk_fixture_hear(f, SUPERVISE, &out));
	assert_int_equal(out.id, a.id);
	assert_int_equal(out.state, ASK_GRANTED);
	assert_int_equal(out.scope, ASK_BOTTLE);
	assert_true(out.is_final);
	assert_string_equal(out.text, "as you like");
	/* Asked again, it is granted already: no new line for the human. */
	a.id++;
	out = desk_fixture_ask(f, SUPERVISE, &a);
	assert_int_equal(out.state, ASK_GRANTED);
	assert_int_equal(desk_fixture_count(f, ~0u), 1);
}

static void test_request_refused(void **state)
{
	struct desk_fixture *f = *state;
	struct ask a = desk_fixture_egress("api.example.com");
	struct ask look = {.op = ASK_LOOK, .id = 77, .life = 1};
	struct ask_answer out = desk_fixture_ask(f, SUPERVISE, &a);

	desk_fixture_decide(f, out.number, false, "once", 0);
	assert_string_equal(f->verdict, "decided");
	assert_int_equal(f->n_given, 0);
	look.number = out.number;
	assert_true(desk_fixture_hear(f, SUPERVISE, &out));
	assert_int_equal(out.state, ASK_REFUSED);
	assert_string_equal(out.text, "as you like");
	out = desk_fixture_ask(f, SUPERVISE, &look);
	assert_int_equal(out.state, ASK_REFUSED);
	desk_fixture_decide(f, look.number, true, "once", 0);
	assert_string_equal(f->verdict, "already");
	assert_int_equal(f->n_given, 0);
	look.number = 4711;
	assert_int_equal(desk_fixture_ask(f, SUPERVISE, &look).state, ASK_UNKNOWN);
}

static void test_stale_hash(void **state)
{
	struct desk_fixture *f = *state;
	struct ask a = desk_fixture_egress("api.example.com");
	struct ask_answer out = desk_fixture_ask(f, SUPERVISE, &a);
	uint8_t hash[CHANGE_HASH_BYTES];
	char hex[CHANGE_HASH_HEX];

	(void)desk_fixture_pending(f, hash);
	hash[0] ^= 1;
	text_hex(hex, hash, sizeof(hash));
	desk_fixture_control(f, KEEPER_DECIDE,
			     json_pack("{s:I, s:s, s:b, s:s, s:s, s:i, s:s, s:s, s:s}", "id",
				       (json_int_t)out.number, "hash", hex, "grant", 1, "scope",
				       "bottle", "release", "pass", "seconds", 0, "manifest", hex,
				       "answer", "", "face", "web"));
	assert_string_equal(f->verdict, "stale");
	assert_int_equal(f->n_given, 0);
	(void)desk_fixture_pending(f, NULL);
}

static void test_never(void **state)
{
	struct desk_fixture *f = *state;
	struct ask a = desk_fixture_egress("localhost.internal");
	struct ask_answer out = desk_fixture_ask(f, SUPERVISE, &a);

	assert_int_equal(out.state, ASK_NEVER);
	assert_true(out.is_final);
	assert_true(out.text[0] != '\0');
	desk_fixture_decide(f, out.number, true, "bottle", 0);
	assert_string_not_equal(f->verdict, "decided");
	assert_int_equal(f->n_given, 0);
}

static void test_invalid(void **state)
{
	struct desk_fixture *f = *state;
	struct ask a = desk_fixture_egress("not a host");
	struct ask_answer out = desk_fixture_ask(f, SUPERVISE, &a);

	assert_int_equal(out.state, ASK_INVALID);
	assert_true(desk_fixture_is_open(f, SUPERVISE));
	assert_int_equal(desk_fixture_count(f, ~0u), 0);
}

/* --- held requests, and refusals that are asked for --- */

static struct ask held(enum ask_op op, uint8_t mark)
{
	struct ask a = desk_fixture_egress("api.example.com");

	a.op = (uint32_t)op;
	a.kind = ASK_RELEASE;
	a.hold_ms = op == ASK_HELD ? 1000 : 0;
	a.ports[0] = 443;
	a.n_ports = 1;
	a.methods = 1u << POLICY_METHOD_POST;
	a.reason[0] = '\0';
	memset(a.record, mark, sizeof(a.record));
	memset(a.hash, mark, sizeof(a.hash));
	(void)snprintf(a.rule, sizeof(a.rule), "private-key");
	(void)snprintf(a.where, sizeof(a.where), "body");
	(void)snprintf(a.shown, sizeof(a.shown), "key=********");
	return a;
}

static void test_held_is_released(void **state)
{
	struct desk_fixture *f = *state;
	struct ask a = held(ASK_HELD, 5);
	struct ask_answer out;

	desk_fixture_say(f, PIPELOCK, &a);
	desk_fixture_turn(f, 1);
	assert_false(desk_fixture_hear(f, PIPELOCK, &out));
	desk_fixture_decide(f, desk_fixture_pending(f, NULL), true, "once", 0);
	assert_string_equal(f->verdict, "decided");
	assert_true(desk_fixture_hear(f, PIPELOCK, &out));
	assert_int_equal(out.id, a.id);
	assert_int_equal(out.state, ASK_GRANTED);
	assert_int_equal(out.release, ASK_PASS);
	assert_memory_equal(out.hash, a.hash, sizeof(a.hash));
	assert_int_equal(f->n_given, 0);
}

static void test_held_is_gone(void **state)
{
	struct desk_fixture *f = *state;
	struct ask a = held(ASK_HELD, 5), gone = held(ASK_GONE, 5);
	struct ask_answer out;
	uint64_t id;

	desk_fixture_say(f, PIPELOCK, &a);
	desk_fixture_turn(f, 1);
	id = desk_fixture_pending(f, NULL);
	desk_fixture_say(f, PIPELOCK, &gone);
	desk_fixture_turn(f, 1);
	assert_int_equal(desk_fixture_count(f, 1u << REQUEST_EXPIRED), 1);
	desk_fixture_decide(f, id, true, "once", 0);
	assert_string_equal(f->verdict, "already");
	assert_false(desk_fixture_hear(f, PIPELOCK, &out));
}

static void test_record_means_exactly_that(void **state)
{
	struct desk_fixture *f = *state;
	struct ask seen = held(ASK_SEEN, 9), again = held(ASK_SPEND, 9);
	struct ask ask = {.op = ASK_REQUEST, .kind = ASK_RELEASE, .id = 900, .life = 1};
	struct err e = ERR_INIT;
	struct ask_answer out;
	struct request r;

	memset(ask.record, 9, sizeof(ask.record));
	assert_int_equal(desk_fixture_ask(f, SUPERVISE, &ask).state, ASK_UNKNOWN);
	desk_fixture_say(f, PIPELOCK, &seen);
	desk_fixture_turn(f, 1);
	/* Whatever else supervise says of it does not count. */
	(void)snprintf(ask.host, sizeof(ask.host), "evil.example");
	memset(ask.hash, 1, sizeof(ask.hash));
	(void)snprintf(ask.reason, sizeof(ask.reason), "it is a test key");
	out = desk_fixture_ask(f, SUPERVISE, &ask);
	assert_int_equal(out.state, ASK_PENDING);
	assert_int_equal(store_get(f->k.desk.store, out.number, &r, &e), 0);
	assert_string_equal(r.change.route.host, "api.example.com");
	assert_memory_equal(r.change.hash, seen.hash, sizeof(seen.hash));
	assert_string_equal(r.reason, "it is a test key");
	request_free(&r);
	/* Granted, it holds for the same content, once. */
	again.number = 0;
	assert_int_equal(desk_fixture_ask(f, PIPELOCK, &again).state, ASK_UNKNOWN);
	desk_fixture_decide(f, out.number, true, "once", 0);
	out = desk_fixture_ask(f, PIPELOCK, &again);
	assert_int_equal(out.state, ASK_GRANTED);
	assert_int_equal(out.release, ASK_PASS);
	assert_int_equal(desk_fixture_ask(f, PIPELOCK, &again).state, ASK_UNKNOWN);
}

/* --- pushes --- */

static struct ask push(enum ask_op op)
{
	struct ask a = {.op = (uint32_t)op, .kind = ASK_PUSH, .id = 50, .life = 1};

	memset(a.hash, 6, sizeof(a.hash));
	(void)snprintf(a.remote, sizeof(a.remote), "origin");
	(void)snprintf(a.ref, sizeof(a.ref), "refs/heads/main");
	memset(a.old_oid, 'a', 40);
	memset(a.new_oid, 'b', 40);
	return a;
}

static void test_push(void **state)
{
	struct desk_fixture *f = *state;
	struct ask seen = push(ASK_SEEN), ask = push(ASK_REQUEST), spend = push(ASK_SPEND);
	struct ask_answer out;

	memset(seen.record, 8, sizeof(seen.record));
	(void)snprintf(seen.host, sizeof(seen.host), "git.example.com");
	seen.ports[0] = 443;
	seen.n_ports = 1;
	(void)snprintf(seen.shown, sizeof(seen.shown), ".github/workflows/ci.yml\n");
	/* Named by what it would do; what git-gate has not refused is not known. */
	assert_int_equal(desk_fixture_ask(f, SUPERVISE, &ask).state, ASK_UNKNOWN);
	desk_fixture_say(f, KEEPER_DESK_GITGATE, &seen);
	desk_fixture_turn(f, 1);
	ask.new_oid[3] = 'c';
	assert_int_equal(desk_fixture_ask(f, SUPERVISE, &ask).state, ASK_UNKNOWN);
	ask.new_oid[3] = 'b';
	out = desk_fixture_ask(f, SUPERVISE, &ask);
	assert_int_equal(out.state, ASK_PENDING);
	desk_fixture_decide(f, out.number, true, "bottle", 0);
	assert_string_equal(f->verdict, "failed");
	desk_fixture_decide(f, out.number, true, "once", 0);
	assert_string_equal(f->verdict, "decided");
	/* Another push is another one; pipelock has nothing of it. */
	spend.hash[0] = 7;
	assert_int_equal(desk_fixture_ask(f, KEEPER_DESK_GITGATE, &spend).state, ASK_UNKNOWN);
	spend.hash[0] = 6;
	assert_int_equal(desk_fixture_ask(f, PIPELOCK, &spend).state, ASK_UNKNOWN);
	assert_int_equal(desk_fixture_ask(f, KEEPER_DESK_GITGATE, &spend).state, ASK_GRANTED);
	assert_int_equal(desk_fixture_ask(f, KEEPER_DESK_GITGATE, &spend).state, ASK_UNKNOWN);
}

/* --- grants --- */

/* Decided is not yet in force, whichever way the agent asks. */
static void test_granted_when_in_force(void **state)
{
	struct desk_fixture *f = *state;
	struct ask a = desk_fixture_egress("api.example.com"), again = a;
	uint64_t id = desk_fixture_ask(f, SUPERVISE, &a).number;
	struct ask look = {.op = ASK_LOOK, .id = 900, .life = 1, .number = id};
	struct ask_answer out;

	desk_fixture_decide(f, id, true, "bottle", 0);
	assert_int_equal(desk_fixture_ask(f, SUPERVISE, &look).state, ASK_PENDING);
	again.id = 901;
	out = desk_fixture_ask(f, SUPERVISE, &again);
	assert_int_equal(out.state, ASK_PENDING);
	assert_false(out.is_final);
	assert_int_equal(out.number, id);
	desk_fixture_answer(f, true);
	for (int i = 0; i < 2; i++) {
		assert_true(desk_fixture_hear(f, SUPERVISE, &out));
		assert_int_equal(out.state, ASK_GRANTED);
	}
	assert_int_equal(desk_fixture_ask(f, SUPERVISE, &look).state, ASK_GRANTED);
}

static void test_once_is_once(void **state)
{
	struct desk_fixture *f = *state;
	uint64_t id = desk_fixture_grant(f, "api.example.com", "once", 0);
	struct ask spend = {.op = ASK_SPEND, .id = 5, .life = 1, .number = id};
	struct ask_answer out;

	/* A route is nothing to git-gate. */
	assert_int_equal(desk_fixture_ask(f, KEEPER_DESK_GITGATE, &spend).state, ASK_UNKNOWN);
	out = desk_fixture_ask(f, PIPELOCK, &spend);
	assert_int_equal(out.state, ASK_GRANTED);
	assert_int_equal(out.number, id);
	/* The route goes as well, and before it has gone nothing more can be spent. */
	assert_int_equal(f->given.n_routes, 0);
	assert_int_equal(desk_fixture_ask(f, PIPELOCK, &spend).state, ASK_UNKNOWN);
	desk_fixture_answer(f, true);
	/* Nor after a crash. */
	desk_fixture_restart(f);
	assert_int_equal(f->k.policy.policy.n_routes, 0);
	assert_int_equal(desk_fixture_ask(f, PIPELOCK, &spend).state, ASK_UNKNOWN);
}

static void test_revoke(void **state)
{
	struct desk_fixture *f = *state;
	uint64_t id = desk_fixture_grant(f, "api.example.com", "bottle", 0);
	unsigned n = f->n_replies;

	desk_fixture_control(f, KEEPER_REVOKE,
			     json_pack("{s:I, s:s}", "id", (json_int_t)id, "face", "command"));
	assert_int_equal(f->given.n_routes, 0);
	assert_int_equal(f->n_replies, n);
	desk_fixture_answer(f, true);
	assert_int_equal(f->n_replies, n + 1);
	assert_string_equal(f->verdict, "decided");
	desk_fixture_control(f, KEEPER_REVOKE,
			     json_pack("{s:I, s:s}", "id", (json_int_t)id, "face", "command"));
	assert_string_equal(f->verdict, "no-such");
}

/* A hold and a grant of one second each. */
static void test_time_ends_both(void **state)
{
	struct desk_fixture *f = *state;
	struct ask a = held(ASK_HELD, 5);
	struct ask_answer out = {0};
	unsigned n;

	(void)desk_fixture_grant(f, "other.example.com", "bottle", 1);
	n = f->n_given;
	desk_fixture_say(f, PIPELOCK, &a);
	for (int i = 0; i < 60 && (f->n_given == n || out.id == 0); i++) {
		desk_fixture_turn(f, 50);
		if (out.id == 0)
			(void)desk_fixture_hear(f, PIPELOCK, &out);
	}
	assert_int_equal(out.id, a.id);
	assert_int_equal(out.state, ASK_EXPIRED);
	assert_int_equal(f->n_given, n + 1);
	assert_int_equal(f->given.n_routes, 0);
	desk_fixture_answer(f, true);
}

static void test_grants_outlive_the_keeper(void **state)
{
	struct desk_fixture *f = *state;
	uint64_t id = desk_fixture_grant(f, "api.example.com", "bottle", 0);
	struct ask a = desk_fixture_egress("other.example.com");

	assert_int_equal(desk_fixture_ask(f, SUPERVISE, &a).state, ASK_PENDING);
	desk_fixture_restart(f);
	assert_int_equal(f->k.policy.policy.n_routes, 1);
	assert_int_equal(f->k.policy.policy.routes[0].grant, id);
	assert_string_equal(f->k.policy.policy.routes[0].host, "api.example.com");
	assert_int_equal(desk_fixture_count(f, 1u << REQUEST_PENDING), 0);
}

/* The keeper was killed when the decision was written and the manifest was not. */
static void test_manifest_is_written_later(void **state)
{
	static const char before[] = "---\negress:\n  routes:\n    - host: a.example.com\n---\n";
	struct desk_fixture *f = *state;
	struct ask a = desk_fixture_egress("api.example.com");
	struct ask_answer out = desk_fixture_ask(f, SUPERVISE, &a);
	struct store_decision d = {.is_granted = true,
				   .scope = ASK_ALWAYS,
				   .release = ASK_PASS,
				   .who = "uid 1",
				   .face = "web",
				   .answer = STR_LIT("")};
	struct manifest_edit edit;
	enum store_verdict verdict;
	struct str text = STR_NULL;
	struct err e = ERR_INIT;
	struct request r;

	f->plan.manifest_file = mem_printf("%s/box.md", f->dir);
	assert_int_equal(io_write_file_atomic(f->k.state_fd, "box.md", STR_LIT(before), 0600, &e),
			 0);
	assert_int_equal(store_get(f->k.desk.store, out.number, &r, &e), 0);
	if (manifest_edit_make(&edit, f->plan.manifest_file, &r.change, &e) < 0)
		fail_msg("%s", e.text);
	d.id = r.id;
	memcpy(d.hash, r.hash, sizeof(d.hash));
	memcpy(d.manifest, edit.hash, sizeof(d.manifest));
	assert_int_equal(store_decide(f->k.desk.store, &d, &r.danger, desk_now(), &verdict, &e), 0);
	assert_int_equal(verdict, STORE_DECIDED);
	request_free(&r);
	desk_fixture_restart(f);
	assert_int_equal(io_read_file(f->k.state_fd, "box.md", 65536, &text, &e), 0);
	assert_true(str_eq(text, buf_str(&edit.after)));
	free((void *)(uintptr_t)text.p);
	manifest_edit_free(&edit);
	/* Once: what somebody takes out of it afterwards stays out. */
	assert_int_equal(io_write_file_atomic(f->k.state_fd, "box.md", STR_LIT(before), 0600, &e),
			 0);
	desk_fixture_restart(f);
	assert_true(f->k.desk.grants[0].is_written);
	assert_int_equal(io_read_file(f->k.state_fd, "box.md", 65536, &text, &e), 0);
	assert_true(str_eq(text, STR_LIT(before)));
	free((void *)(uintptr_t)text.p);
}

/* Two at once: the second policy has both, and each hears when its own is in force. */
static void test_one_policy_at_a_time(void **state)
{
	struct desk_fixture *f = *state;
	struct ask one = desk_fixture_egress("one.example.com"),
		   two = desk_fixture_egress("two.example.com");
	uint64_t first = desk_fixture_ask(f, SUPERVISE, &one).number,
		 second = desk_fixture_ask(f, SUPERVISE, &two).number;
	struct ask_answer out;

	desk_fixture_decide(f, first, true, "bottle", 0);
	desk_fixture_decide(f, second, true, "bottle", 0);
	assert_int_equal(f->n_given, 1);
	assert_int_equal(f->given.n_routes, 1);
	desk_fixture_answer(f, true);
	assert_int_equal(f->n_replies, 1);
	assert_true(desk_fixture_hear(f, SUPERVISE, &out));
	assert_int_equal(out.number, first);
	assert_false(desk_fixture_hear(f, SUPERVISE, &out));
	assert_int_equal(f->n_given, 2);
	assert_int_equal(f->given.n_routes, 2);
	desk_fixture_answer(f, true);
	assert_true(desk_fixture_hear(f, SUPERVISE, &out));
	assert_int_equal(out.number, second);
}

static void test_what_cannot_be_in_force(void **state)
{
	struct desk_fixture *f = *state;
	struct ask a = desk_fixture_egress("api.example.com");
	struct ask_answer out = desk_fixture_ask(f, SUPERVISE, &a);

	desk_fixture_decide(f, out.number, true, "bottle", 0);
	desk_fixture_answer(f, false);
	assert_int_equal(f->n_ended, 1);
	assert_false(f->is_in_force);
	assert_false(desk_fixture_hear(f, SUPERVISE, &out));
}

/* pipelock was started again: nobody waits for what the one before it held. */
static void test_another_life(void **state)
{
	struct desk_fixture *f = *state;
	struct ask a = held(ASK_HELD, 5), seen = held(ASK_SEEN, 6);

	desk_fixture_say(f, PIPELOCK, &a);
	desk_fixture_turn(f, 1);
	(void)desk_fixture_pending(f, NULL);
	seen.life = 2;
	desk_fixture_say(f, PIPELOCK, &seen);
	desk_fixture_turn(f, 1);
	assert_int_equal(desk_fixture_count(f, 1u << REQUEST_EXPIRED), 1);
}

/* --- the pause, and the canary --- */

static bool is_marked(const struct desk_fixture *f)
{
	return faccessat(f->k.state_fd, KEEPER_PAUSED_FILE, F_OK, 0) == 0;
}

static void pause_network(struct desk_fixture *f, bool is_paused)
{
	desk_fixture_control(f, KEEPER_NETWORK,
			     json_pack("{s:b, s:s}", "paused", (int)is_paused, "face", "terminal"));
}

static void test_pause(void **state)
{
	struct desk_fixture *f = *state;

	pause_network(f, true);
	assert_true(f->is_given_paused);
	assert_true(f->is_door_paused);
	assert_true(is_marked(f));
	assert_int_equal(f->n_replies, 0);
	desk_fixture_answer(f, true);
	assert_string_equal(f->verdict, "decided");
	/* A new run begins as this one ends. */
	desk_fixture_restart(f);
	assert_true(f->k.policy.is_paused);
	assert_true(f->is_door_paused);
	pause_network(f, false);
	assert_false(f->is_given_paused);
	assert_true(f->is_door_paused); /* until the bundle is open */
	desk_fixture_answer(f, true);
	assert_false(f->is_door_paused);
	assert_false(is_marked(f));
	assert_true(desk_fixture_is_audited(f, "paused"));
	assert_true(desk_fixture_is_audited(f, "resumed"));
	pause_network(f, false);
	assert_string_equal(f->verdict, "decided");
	assert_false(f->is_given);
}

static void test_pause_unsupervised(void **state)
{
	struct desk_fixture *f = *state;

	f->plan.is_supervised = false;
	desk_fixture_restart(f);
	assert_int_equal(f->theirs[SUPERVISE], -1);
	pause_network(f, true);
	assert_true(f->is_given_paused);
	desk_fixture_answer(f, true);
	assert_string_equal(f->verdict, "decided");
	desk_fixture_control(f, KEEPER_REVOKE, json_pack("{s:i, s:s}", "id", 1, "face", "web"));
	assert_string_equal(f->verdict, "no-such");
}

static void test_canary(void **state)
{
	struct desk_fixture *f = *state;
	struct ask a = held(ASK_CANARY, 3);

	f->plan.on_canary = PLAN_CANARY_PAUSE;
	desk_fixture_say(f, PIPELOCK, &a);
	desk_fixture_turn(f, 1);
	assert_true(f->is_given_paused);
	assert_true(desk_fixture_is_audited(f, "canary"));
	desk_fixture_answer(f, true);
	f->plan.on_canary = PLAN_CANARY_STOP;
	desk_fixture_say(f, PIPELOCK, &a);
	desk_fixture_turn(f, 1);
	assert_int_equal(f->n_stopped, 1);
	desk_fixture_restart(f);
	assert_true(f->k.desk.has_seen_canary);
}

/* --- the human hears of it --- */

static void test_notify(void **state)
{
	struct desk_fixture *f = *state;
	struct ask a = desk_fixture_egress("api.example.com");
	struct str text = STR_NULL;

	f->plan.notify =
		mem_printf("printf '%%s %%s %%s %%s' \"$CLAUDE_BOTTLE_REQUEST_SLUG\" "
			   "\"$CLAUDE_BOTTLE_REQUEST_ID\" \"$CLAUDE_BOTTLE_REQUEST_KIND\" "
			   "\"$CLAUDE_BOTTLE_REQUEST_SUMMARY\" >%s/new && mv %s/new %s/told",
			   f->dir, f->dir, f->dir);
	keeper_notify_init(&f->k.desk.notify, f->k.loop, f->plan.slug, f->plan.notify);
	assert_int_equal(desk_fixture_ask(f, SUPERVISE, &a).state, ASK_PENDING);
	for (int i = 0; i < 50 && text.p == NULL; i++) {
		desk_fixture_turn(f, 20);
		(void)!io_read_file(f->k.state_fd, "told", 1024, &text, NULL);
	}
	assert_non_null(text.p);
	assert_true(str_starts(text, STR_LIT("shell-ab12 1 egress ")));
	assert_true(str_find(text, STR_LIT("api.example.com")) < text.n);
	free((void *)(uintptr_t)text.p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		DESK_TEST(test_request_granted),
		DESK_TEST(test_request_refused),
		DESK_TEST(test_stale_hash),
		DESK_TEST(test_never),
		DESK_TEST(test_invalid),
		DESK_TEST(test_held_is_released),
		DESK_TEST(test_held_is_gone),
		DESK_TEST(test_record_means_exactly_that),
		DESK_TEST(test_push),
		DESK_TEST(test_granted_when_in_force),
		DESK_TEST(test_once_is_once),
		DESK_TEST(test_revoke),
		DESK_TEST(test_time_ends_both),
		DESK_TEST(test_grants_outlive_the_keeper),
		DESK_TEST(test_manifest_is_written_later),
		DESK_TEST(test_one_policy_at_a_time),
		DESK_TEST(test_what_cannot_be_in_force),
		DESK_TEST(test_pause),
		DESK_TEST(test_another_life),
		DESK_TEST(test_pause_unsupervised),
		DESK_TEST(test_canary),
		DESK_TEST(test_notify),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
