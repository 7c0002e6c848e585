/*
 * Theory of operation: a slot for each question that waits, found by the id that comes back. An
 * answer to another life of the role, or to what was forgotten, is not for us and is dropped; one
 * that is not formed as ask.h says ends the desk, since nothing after it could be believed.
 */
#include "bundle/desk.h"

#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define DESK_TURN 64 /* answers in one turn of the loop */

struct desk_waiting {
	uint64_t id; /* 0: free */
	desk_answer_fn *fn;
	void *ctx;
};

struct desk {
	struct loop *loop;
	struct loop_watch watch;
	uint32_t life;
	uint64_t last_id;
	bool is_open;
	struct desk_waiting waiting[DESK_WAITING_MAX];
};

static struct desk_waiting *find(struct desk *d, uint64_t id)
{
	for (size_t i = 0; i < DESK_WAITING_MAX; i++) {
		if (d->waiting[i].id == id)
			return &d->waiting[i];
	}
	return NULL;
}

static void desk_end(struct desk *d, const char *why)
{
	log_warn("the keeper %s: nothing can be asked any more", why);
	d->is_open = false;
	loop_del(d->loop, &d->watch);
	for (size_t i = 0; i < DESK_WAITING_MAX; i++) {
		struct desk_waiting w = d->waiting[i];
		struct ask_answer a = {
			.id = w.id, .life = d->life, .state = ASK_UNKNOWN, .is_final = 1};

		d->waiting[i] = (struct desk_waiting){0};
		if (w.id != 0)
			w.fn(&a, w.ctx);
	}
}

static bool is_answer(const struct ask_answer *a)
{
	return a->state >= ASK_PENDING && a->state <= ASK_TAKEN && a->scope <= ASK_ALWAYS &&
	       a->release <= ASK_REDACT && a->is_final <= 1 && a->zero == 0 &&
	       memchr(a->text, '\0', sizeof(a->text));
}

static void desk_take(struct desk *d, const struct ask_answer *a)
{
	struct desk_waiting *w = a->id == 0 || a->life != d->life ? NULL : find(d, a->id);
	struct desk_waiting asked;

	if (!w)
		return;
	asked = *w;
	if (a->is_final)
		*w = (struct desk_waiting){0};
	asked.fn(a, asked.ctx);
}

static void desk_on_answer(struct loop_watch *w, uint32_t events)
{
	struct desk *d = (struct desk *)((char *)w - offsetof(struct desk, watch));

	(void)events;
	for (int i = 0; i < DESK_TURN && d->is_open; i++) {
		struct ask_answer a;
		size_t n_fds = 0;
		ssize_t n = io_recv_fds(w->fd, &a, sizeof(a), NULL, &n_fds, MSG_DONTWAIT);

		if (n == -EAGAIN)
			return;
		if (n == (ssize_t)sizeof(a) && is_answer(&a))
			desk_take(d, &a);
		else
			desk_end(d, n == 0 ? "is gone" : "sent what is no answer");
	}
}

int desk_open(struct desk **out, struct loop *l, int fd, uint32_t life, struct err *e)
{
	struct desk *d = mem_zalloc(sizeof(*d));
	int ret = 0;

	*out = NULL;
	*d = (struct desk){.loop = l,
			   .life = life,
			   .is_open = fd >= 0,
			   .watch = {.fd = -1, .fn = desk_on_answer}};
	if (fd >= 0)
		ret = loop_add(l, &d->watch, fd, EPOLLIN, e);
	if (ret < 0)
		free(d);
	else
		*out = d;
	return ret;
}

void desk_close(struct desk *d)
{
	if (!d)
		return;
	if (d->is_open)
		loop_del(d->loop, &d->watch);
	free(d);
}

bool desk_is_open(const struct desk *d)
{
	return d->is_open;
}

static int desk_send(struct desk *d, struct ask *a, uint64_t id)
{
	ssize_t n;

	if (!d->is_open)
		return -EPIPE;
	a->id = id;
	a->life = d->life;
	n = io_send_fds(d->watch.fd, a, sizeof(*a), NULL, 0, MSG_DONTWAIT);
	if (n == (ssize_t)sizeof(*a))
		return 0;
	/* Of an end that is closed the loop will hear as well. */
	return n == -EAGAIN || n == -ENOBUFS ? -EAGAIN : -EPIPE;
}

int desk_ask(struct desk *d, struct ask *a, desk_answer_fn *fn, void *ctx, uint64_t *id)
{
	struct desk_waiting *w = find(d, 0);
	int ret;

	if (d->is_open && !w)
		return -ENOSPC;
	ret = desk_send(d, a, d->last_id + 1);
	if (ret < 0)
		return ret;
	*w = (struct desk_waiting){.id = ++d->last_id, .fn = fn, .ctx = ctx};
	if (id)
		*id = w->id;
	return 0;
}

void desk_forget(struct desk *d, uint64_t id)
{
	struct desk_waiting *w = id == 0 ? NULL : find(d, id);

	if (w)
		*w = (struct desk_waiting){0};
}

int desk_say(struct desk *d, struct ask *a)
{
	bool is_about = a->op == ASK_GONE;
	int ret = desk_send(d, a, is_about ? a->id : d->last_id + 1);

	/* An id of its own: an answer that nobody waits for finds no slot. */
	if (ret == 0 && !is_about)
		d->last_id++;
	return ret;
}
