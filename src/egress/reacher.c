#include "egress/reacher.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <sys/socket.h>

#define REACHER_TURN 64 /* answers in one turn of the loop */

struct open_question {
	uint64_t id; /* 0: none */
	reacher_fn fn;
	void *ctx;
};

struct reacher {
	struct loop *loop;
	struct loop_watch watch;
	uint32_t life;
	uint64_t last_id;
	bool is_gone;
	struct open_question open[REACH_PENDING_MAX];
};

static struct open_question *find(struct reacher *r, uint64_t id)
{
	for (size_t i = 0; i < REACH_PENDING_MAX; i++) {
		if (r->open[i].id == id)
			return &r->open[i];
	}
	return NULL;
}

/* Owns fd. */
static void settle(struct open_question *o, int fd, int error)
{
	struct open_question asked = *o;

	*o = (struct open_question){0};
	asked.fn(asked.ctx, fd, error);
}

static void reacher_end(struct reacher *r, const char *why)
{
	if (r->is_gone)
		return;
	log_warn("the keeper %s: what the operator named on the host cannot be reached any more",
		 why);
	r->is_gone = true;
	loop_del(r->loop, &r->watch);
	for (size_t i = 0; i < REACH_PENDING_MAX; i++) {
		if (r->open[i].id != 0)
			settle(&r->open[i], -1, REACHER_GONE);
	}
}

static void reacher_take(struct reacher *r, const struct reach_reply *reply, int fd)
{
	struct open_question *o = reply->id == 0 ? NULL : find(r, reply->id);

	/* To an egress that died, or taken back meanwhile. */
	if (reply->life != r->life || !o)
		close_fd(&fd);
	else
		settle(o, fd, (int)reply->status);
}

static void reacher_on_reply(struct loop_watch *w, uint32_t events)
{
	struct reacher *r = (struct reacher *)((char *)w - offsetof(struct reacher, watch));

	(void)events;
	for (int i = 0; i < REACHER_TURN && !r->is_gone; i++) {
		struct reach_reply reply;
		size_t n_fds = 1;
		int fd = -1;
		ssize_t n = io_recv_fds(w->fd, &reply, sizeof(reply), &fd, &n_fds, MSG_DONTWAIT);

		if (n == -EAGAIN)
			return;
		if (n == (ssize_t)sizeof(reply) && (reply.status == 0) == (n_fds == 1) &&
		    reply.status <= INT32_MAX) {
			reacher_take(r, &reply, fd);
			continue;
		}
		if (n > 0 && n_fds == 1)
			close_fd(&fd);
		reacher_end(r, n == 0 ? "is gone" : "sent what is no answer");
	}
}

int reacher_new(struct reacher **out, struct loop *l, int fd, uint32_t life, struct err *e)
{
	struct reacher *r = mem_zalloc(sizeof(*r));
	int ret;

	*out = NULL;
	*r = (struct reacher){.loop = l, .life = life, .watch = {.fd = -1, .fn = reacher_on_reply}};
	ret = loop_add(l, &r->watch, fd, EPOLLIN, e);
	if (ret < 0)
		free(r);
	else
		*out = r;
	return ret;
}

void reacher_free(struct reacher *r)
{
	if (!r)
		return;
	loop_del(r->loop, &r->watch);
	free(r);
}

uint64_t reacher_ask(struct reacher *r, const struct reacher_question *q, reacher_fn fn, void *ctx,
		     int *error)
{
	struct reach_request request = {.life = r->life,
					.list = (uint16_t)q->list,
					.kind = (uint16_t)q->kind,
					.number = q->number,
					.port = q->port};
	struct open_question *o = find(r, 0);
	ssize_t n;

	*error = r->is_gone ? REACHER_GONE : REACHER_BUSY;
	if (r->is_gone || !o)
		return 0;
	request.id = ++r->last_id;
	n = io_send_fds(r->watch.fd, &request, sizeof(request), NULL, 0, MSG_DONTWAIT);
	if (n != (ssize_t)sizeof(request)) {
		/* Full of what the keeper has not read yet; or its end is closed, of which the loop
		 * will hear. */
		*error = n == -EAGAIN ? REACHER_BUSY : REACHER_GONE;
		return 0;
	}
	*error = 0;
	*o = (struct open_question){request.id, fn, ctx};
	return request.id;
}

void reacher_cancel(struct reacher *r, uint64_t handle)
{
	struct open_question *o = handle == 0 ? NULL : find(r, handle);

	if (o)
		*o = (struct open_question){0};
}
