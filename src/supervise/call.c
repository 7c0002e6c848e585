/*
 * Theory of operation: one question is with the desk at a time. An answer that is not "pending"
 * ends the call. After a pending one the call waits, if it wanted to and there is room; what the
 * desk has answered for good (a look, or a request that it does not keep for us) is looked at again
 * every poll_ms.
 */
#include "supervise/call.h"

#include "supervise/answer.h"

#include "base/mem.h"
#include "base/timeutil.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

struct call {
	struct calls *all;
	call_done_fn *fn;
	void *ctx;
	struct loop_timer timer;
	enum ask_kind kind;
	uint64_t asked_id;	/* at the desk; 0: nothing is there */
	uint64_t number;	/* of the request, once it is known */
	uint64_t deadline_ns;	/* of the wait */
	struct ask_answer last; /* state 0: none yet */
	bool is_waiting;	/* counted in all->n_waiting */
};

void call_forget(struct call *k)
{
	loop_timer_del(k->all->loop, &k->timer);
	desk_forget(k->all->desk, k->asked_id);
	if (k->is_waiting)
		k->all->n_waiting--;
	free(k);
}

static void call_end(struct call *k, json_t *content, bool is_error)
{
	call_done_fn *fn = k->fn;
	void *ctx = k->ctx;

	call_forget(k);
	fn(content, is_error, ctx);
}

static void call_end_with_last(struct call *k)
{
	bool is_error = false;
	json_t *content = answer_make(&k->last, k->kind, &is_error);

	call_end(k, content, is_error);
}

static json_t *call_not_asked(int ret)
{
	if (ret == -EPIPE)
		return answer_error("unavailable",
				    "Nobody can be asked any more in this bottle: what was "
				    "granted stays, and nothing can be added.");
	return answer_error("limited", "Too many questions at once. Try again in a few seconds.");
}

static uint64_t call_left_ms(const struct call *k)
{
	uint64_t now_ns = time_monotonic_ns();

	return now_ns < k->deadline_ns ? (k->deadline_ns - now_ns) / TIME_NS_PER_MS + 1 : 0;
}

static bool call_may_wait(struct call *k)
{
	if (call_left_ms(k) == 0)
		return false;
	if (!k->is_waiting && k->all->n_waiting < CALL_WAITING_MAX) {
		k->is_waiting = true;
		k->all->n_waiting++;
	}
	return k->is_waiting;
}

static void call_on_answer(const struct ask_answer *a, void *ctx)
{
	struct call *k = ctx;
	uint64_t ms;

	if (a->is_final)
		k->asked_id = 0;
	/* A desk that has ended says so of everything that waits. */
	if (!desk_is_open(k->all->desk)) {
		call_end(k, call_not_asked(-EPIPE), true);
		return;
	}
	k->last = *a;
	if (a->number > 0)
		k->number = a->number;
	if (a->state != ASK_PENDING || !call_may_wait(k)) {
		call_end_with_last(k);
		return;
	}
	ms = call_left_ms(k);
	if (a->is_final && ms > k->all->poll_ms)
		ms = k->all->poll_ms;
	loop_timer_set(k->all->loop, &k->timer, ms);
}

static int call_ask(struct call *k, struct ask *a, uint64_t answer_ms)
{
	int ret = desk_ask(k->all->desk, a, call_on_answer, k, &k->asked_id);

	if (ret == 0)
		loop_timer_set(k->all->loop, &k->timer, answer_ms);
	return ret;
}

static void call_look(struct call *k)
{
	struct ask a = {.op = ASK_LOOK, .number = k->number};

	/* What is known already is the better answer than that a look failed. */
	if (call_ask(k, &a, call_left_ms(k)) < 0)
		call_end_with_last(k);
}

static void call_on_timer(struct loop_timer *t)
{
	struct call *k = (struct call *)(void *)((char *)t - offsetof(struct call, timer));

	if (k->last.state == 0)
		call_end(k,
			 answer_error("unavailable", "No answer came. Try again in a few seconds."),
			 true);
	else if (k->asked_id == 0 && k->number > 0 && call_left_ms(k) > 0)
		call_look(k);
	else
		call_end_with_last(k);
}

struct call *call_start(struct calls *c, struct ask *a, unsigned wait_ms, call_done_fn *fn,
			void *ctx, json_t **content)
{
	struct call *k = mem_zalloc(sizeof(*k));
	int ret;

	*k = (struct call){.all = c,
			   .fn = fn,
			   .ctx = ctx,
			   .timer = {.fn = call_on_timer},
			   .kind = (enum ask_kind)a->kind,
			   .number = a->number,
			   .deadline_ns = time_monotonic_ns() + wait_ms * TIME_NS_PER_MS};
	*content = NULL;
	ret = call_ask(k, a, c->first_ms);
	if (ret == 0)
		return k;
	*content = call_not_asked(ret);
	call_forget(k);
	return NULL;
}
