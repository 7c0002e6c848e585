/* A role's side of its desk, with the test as the keeper. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clean.h"
#include "bundle/desk.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#define LIFE 7

struct world {
	struct loop *loop;
	struct desk *desk;
	struct loop_timer timer;
	int ours, theirs;
	struct ask_answer last;
	unsigned n;
	bool asks_again;
};
static struct world w;

static void on_timer(struct loop_timer *t)
{
	(void)t;
	loop_stop(w.loop, 0);
}

/* Lets the loop take what is there. */
static void turn(void)
{
	loop_timer_set(w.loop, &w.timer, 5);
	assert_int_equal(loop_run(w.loop), 0);
}

static int setup(void **state)
{
	struct err e = ERR_INIT;
	int pair[2];

	(void)state;
	w = (struct world){.loop = loop_new(&e), .timer = {.fn = on_timer}};
	assert_non_null(w.loop);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	w.ours = pair[0];
	w.theirs = pair[1];
	assert_int_equal(desk_open(&w.desk, w.loop, w.ours, LIFE, &e), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	desk_close(w.desk);
	loop_timer_del(w.loop, &w.timer);
	loop_free(w.loop);
	close_fd(&w.ours);
	close_fd(&w.theirs);
	return 0;
}

static void on_answer(const struct ask_answer *a, void *ctx)
{
	struct ask again = {.op = ASK_LOOK};

	assert_ptr_equal(ctx, &w);
	w.last = *a;
	w.n++;
	if (w.asks_again) {
		w.asks_again = false;
		(void)!desk_ask(w.desk, &again, on_answer, &w, NULL);
	}
}

static uint64_t ask(void)
{
	struct ask a = {.op = ASK_REQUEST};
	uint64_t id = 0;

	assert_int_equal(desk_ask(w.desk, &a, on_answer, &w, &id), 0);
	return id;
}

static struct ask heard(void)
{
	struct ask a;

	assert_int_equal(recv(w.theirs, &a, sizeof(a), MSG_DONTWAIT), sizeof(a));
	return a;
}

static struct ask_answer answer_to(uint64_t id)
{
	return (struct ask_answer){.id = id, .life = LIFE, .state = ASK_GRANTED, .is_final = 1};
}

static void say(const void *bytes, size_t n)
{
	assert_int_equal(send(w.theirs, bytes, n, MSG_DONTWAIT), n);
	turn();
}

static void test_answers_find_their_question(void **state)
{
	uint64_t first, second;
	struct ask_answer a;

	(void)state;
	first = ask();
	second = ask();
	assert_int_not_equal(first, second);
	assert_int_equal(heard().id, first);
	assert_int_equal(heard().life, LIFE);
	a = answer_to(second);
	a.state = ASK_PENDING;
	a.is_final = 0;
	say(&a, sizeof(a));
	assert_int_equal(w.n, 1);
	assert_int_equal(w.last.id, second);
	a = answer_to(second);
	say(&a, sizeof(a));
	assert_int_equal(w.last.state, ASK_GRANTED);
	/* After the final one there is no other. */
	say(&a, sizeof(a));
	assert_int_equal(w.n, 2);
	a = answer_to(first);
	a.life = LIFE - 1;
	say(&a, sizeof(a));
	assert_int_equal(w.n, 2);
	desk_forget(w.desk, first);
	a.life = LIFE;
	say(&a, sizeof(a));
	assert_int_equal(w.n, 2);
	assert_true(desk_is_open(w.desk));
}

static void test_it_may_ask_from_inside(void **state)
{
	struct ask_answer a;
	uint64_t id;

	(void)state;
	id = ask();
	(void)heard();
	w.asks_again = true;
	a = answer_to(id);
	say(&a, sizeof(a));
	a = answer_to(heard().id);
	say(&a, sizeof(a));
	assert_int_equal(w.n, 2);
}

static void expect_closed(void)
{
	struct ask a = {.op = ASK_TELL};

	assert_false(desk_is_open(w.desk));
	assert_int_equal(w.n, 2);
	assert_int_equal(w.last.state, ASK_UNKNOWN);
	assert_int_equal(w.last.is_final, 1);
	assert_int_equal(desk_ask(w.desk, &a, on_answer, &w, NULL), -EPIPE);
	assert_int_equal(desk_say(w.desk, &a), -EPIPE);
}

/* Whatever is no answer closes the desk, and what waits hears of it. */
static void test_malformed(void **state)
{
	static const struct {
		size_t n;
		size_t at;
		uint32_t value;
	} cases[] = {
		{sizeof(struct ask_answer) - 1, 0, 0},
		{sizeof(struct ask_answer) + 1, 0, 0},
		{1, 0, 0},
		{sizeof(struct ask_answer), offsetof(struct ask_answer, state), 0},
		{sizeof(struct ask_answer), offsetof(struct ask_answer, state), ASK_TAKEN + 1},
		{sizeof(struct ask_answer), offsetof(struct ask_answer, scope), ASK_ALWAYS + 1},
		{sizeof(struct ask_answer), offsetof(struct ask_answer, release), ASK_REDACT + 1},
		{sizeof(struct ask_answer), offsetof(struct ask_answer, is_final), 2},
		{sizeof(struct ask_answer), offsetof(struct ask_answer, zero), 1},
	};

	for (size_t i = 0; i <= ARRAY_LEN(cases); i++) {
		union {
			struct ask_answer a;
			unsigned char bytes[sizeof(struct ask_answer) + 1];
		} u = {.a = answer_to(ask())};

		(void)ask();
		if (i == ARRAY_LEN(cases)) {
			memset(u.a.text, 'a', sizeof(u.a.text));
			say(&u.a, sizeof(u.a));
		} else {
			if (cases[i].at)
				memcpy(u.bytes + cases[i].at, &cases[i].value,
				       sizeof(cases[i].value));
			say(u.bytes, cases[i].n);
		}
		expect_closed();
		(void)teardown(state);
		(void)setup(state);
	}
}

static void test_descriptors_are_refused(void **state)
{
	struct ask_answer a = answer_to(1);
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct iovec iov = {&a, sizeof(a)};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = &control,
			     .msg_controllen = sizeof(control)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	(void)state;
	(void)ask();
	(void)ask();
	*c = (struct cmsghdr){.cmsg_level = SOL_SOCKET,
			      .cmsg_type = SCM_RIGHTS,
			      .cmsg_len = CMSG_LEN(sizeof(int))};
	memcpy(CMSG_DATA(c), &w.theirs, sizeof(int));
	assert_int_equal(sendmsg(w.theirs, &msg, 0), sizeof(a));
	turn();
	expect_closed();
}

static void test_the_keeper_is_gone(void **state)
{
	(void)state;
	(void)ask();
	(void)ask();
	w.asks_again = true; /* is refused, and does not wait */
	close_fd(&w.theirs);
	turn();
	expect_closed();
}

static void test_bounds(void **state)
{
	struct ask a = {.op = ASK_REQUEST};
	int ret = 0;
	unsigned n = 0;

	(void)state;
	while ((ret = desk_ask(w.desk, &a, on_answer, &w, NULL)) == 0)
		n++;
	/* The keeper does not read. */
	assert_int_equal(ret, -EAGAIN);
	assert_int_equal(desk_say(w.desk, &a), -EAGAIN);
	for (; n < DESK_WAITING_MAX; n++) {
		(void)heard();
		(void)ask();
	}
	(void)heard();
	assert_int_equal(desk_ask(w.desk, &a, on_answer, &w, NULL), -ENOSPC);
	assert_int_equal(desk_say(w.desk, &a), 0);
	assert_int_equal(w.n, 0);
}

static void test_no_channel(void **state)
{
	struct ask a = {.op = ASK_SPEND};
	struct err e = ERR_INIT;
	struct desk *d;

	(void)state;
	assert_int_equal(desk_open(&d, w.loop, -1, LIFE, &e), 0);
	assert_false(desk_is_open(d));
	assert_int_equal(desk_ask(d, &a, on_answer, &w, NULL), -EPIPE);
	desk_close(d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_answers_find_their_question, setup, teardown),
		cmocka_unit_test_setup_teardown(test_it_may_ask_from_inside, setup, teardown),
		cmocka_unit_test_setup_teardown(test_malformed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_descriptors_are_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_the_keeper_is_gone, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bounds, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_channel, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
