#include "gitgate/worker_desk.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/log.h"
#include "base/timeutil.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

#define DESK_CANARY_MS 1000 /* one canary is told in so long */

/* --- the role's side --- */

static struct gitgate_worker *worker_of(struct loop_watch *w)
{
	return (struct gitgate_worker *)(void *)((char *)w -
						 offsetof(struct gitgate_worker, desk_watch));
}

static void desk_reply(struct gitgate_worker *w, const struct ask_answer *a)
{
	/* It asks one thing at a time, and has room for the answer. */
	if (io_send_fds(w->desk_watch.fd, a, sizeof(*a), NULL, 0, MSG_DONTWAIT) < 0)
		log_debug("a worker takes no answer");
}

static void desk_reply_state(struct gitgate_worker *w, enum ask_state state)
{
	const struct ask_answer a = {.state = state, .is_final = 1};

	desk_reply(w, &a);
}

static void desk_on_answer(const struct ask_answer *a, void *ctx)
{
	struct gitgate_worker *w = ctx;

	if (!a->is_final)
		return;
	w->desk_id = 0;
	desk_reply(w, a);
}

static void desk_text(char *to, const char *from, size_t size)
{
	size_t n = strnlen(from, size - 1);

	memcpy(to, from, n);
	to[n] = '\0';
}

/* What a worker may say of a push, and nothing else of its message. Attack: one that was taken over
 * sends what ends the desk for the whole bottle. */
static struct ask desk_copy(const struct ask *from)
{
	struct ask a = {.op = from->op, .kind = ASK_PUSH};

	memcpy(a.record, from->record, sizeof(a.record));
	memcpy(a.hash, from->hash, sizeof(a.hash));
	desk_text(a.remote, from->remote, sizeof(a.remote));
	desk_text(a.ref, from->ref, sizeof(a.ref));
	desk_text(a.old_oid, from->old_oid, sizeof(a.old_oid));
	desk_text(a.new_oid, from->new_oid, sizeof(a.new_oid));
	desk_text(a.shown, from->shown, sizeof(a.shown));
	return a;
}

static enum ask_state desk_tell(struct gitgate *g, struct ask *a)
{
	uint64_t now = loop_now_ns(g->loop);

	if (a->op == ASK_CANARY) {
		if (now < g->canary_quiet_ns)
			return ASK_TAKEN;
		a->kind = 0;
	}
	if (desk_say(g->config.desk, a) < 0)
		return ASK_UNKNOWN;
	if (a->op == ASK_CANARY)
		g->canary_quiet_ns = now + DESK_CANARY_MS * TIME_NS_PER_MS;
	return ASK_TAKEN;
}

static void desk_take(struct gitgate_worker *w, const struct ask *from)
{
	struct gitgate *g = w->g;
	struct ask a = desk_copy(from);

	if (a.op == ASK_SEEN || a.op == ASK_CANARY)
		desk_reply_state(w, desk_tell(g, &a));
	else if (a.op != ASK_SPEND || w->desk_id != 0 ||
		 desk_ask(g->config.desk, &a, desk_on_answer, w, &w->desk_id) < 0)
		desk_reply_state(w, ASK_UNKNOWN);
}

static void desk_on_readable(struct loop_watch *watch, uint32_t events)
{
	struct gitgate_worker *w = worker_of(watch);
	struct ask a;
	ssize_t n = io_recv_fds(watch->fd, &a, sizeof(a), NULL, NULL, MSG_DONTWAIT);

	(void)events;
	if (n == -EAGAIN)
		return;
	if (n == (ssize_t)sizeof(a))
		desk_take(w, &a);
	else
		worker_desk_close(w);
}

int worker_desk_open(struct gitgate_worker *w, const struct gitgate_job *job)
{
	struct gitgate *g = w->g;
	struct err e = ERR_INIT;
	int pair[2];

	w->desk_watch = (struct loop_watch){.fd = -1, .fn = desk_on_readable};
	if (job->service != GIT_RECEIVE_PACK || job->is_advert || !g->config.desk ||
	    !desk_is_open(g->config.desk) ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -1;
	if (loop_add(g->loop, &w->desk_watch, pair[0], EPOLLIN, &e) < 0) {
		log_warn("%s", e.text);
		(void)close(pair[0]);
		(void)close(pair[1]);
		return -1;
	}
	return pair[1];
}

void worker_desk_close(struct gitgate_worker *w)
{
	int fd = w->desk_watch.fd;

	if (fd < 0)
		return;
	desk_forget(w->g->config.desk, w->desk_id);
	w->desk_id = 0;
	loop_del(w->g->loop, &w->desk_watch);
	w->desk_watch.fd = -1;
	(void)close(fd);
}

/* --- the worker's side --- */

bool worker_desk_ask(int desk_fd, const struct ask *a, struct ask_answer *answer)
{
	return desk_fd >= 0 &&
	       io_send_fds(desk_fd, a, sizeof(*a), NULL, 0, MSG_DONTWAIT) == (ssize_t)sizeof(*a) &&
	       io_wait(desk_fd, POLLIN, WORKER_DESK_MS) == 1 &&
	       io_recv_fds(desk_fd, answer, sizeof(*answer), NULL, NULL, MSG_DONTWAIT) ==
		       (ssize_t)sizeof(*answer);
}
