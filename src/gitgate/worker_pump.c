/*
 * Theory of operation: one loop over five descriptors, until git has said everything and the front
 * has it.
 *
 *   front ─▶ raw ─▶ (chunks undone, a push's head read) ─▶ up ─▶ git http-backend
 *   front ◀─ down ◀─ (CGI head made HTTP, chunks made) ◀─ from_git ◀───┘
 *                            hook ─▶ its request, whole; then a judge of its own, forked
 *
 * git is not started before a push's head is known to be good, so a refusal can still be said in
 * HTTP. The judge decides about the push and talks to the hook, while the loop goes on: git sends
 * the client what the hook shows, and keeps the connection alive. When the front is gone, so is
 * everything.
 */
#include "gitgate/worker.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/log.h"
#include "base/text.h"
#include "base/timeutil.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

#define PUMP_POLL_MS  1000
#define PUMP_OVERHEAD 4096  /* of heads and chunk sizes around a piece */
#define PUMP_GIT_MS   30000 /* from git's last word to its end */
#define PUMP_SAID_MAX 512   /* of git's standard error, per piece */
#define PUMP_REFUSED  1	    /* the answer was given */

enum { FRONT, GIT_IN, GIT_OUT, GIT_ERR, HOOK, PUMP_FDS };

static bool is_push(const struct worker *w)
{
	return w->job->service == GIT_RECEIVE_PACK && !w->job->is_advert;
}

/* --- the request --- */

static bool wants_front(const struct worker *w)
{
	return !w->body.is_done && buf_room(&w->raw) >= WORKER_PIECE &&
	       buf_room(&w->up) >= COMMANDS_HEAD_MAX + WORKER_FLOW_BYTES;
}

static int pump_refuse(struct worker *w, enum commands_reason why, struct err *e)
{
	/* Too late for words. */
	if (w->is_started)
		return err_set(e, -EPROTO, "%s", commands_reason_name(why));
	worker_refuse(w, commands_reason_name(why), "");
	return PUMP_REFUSED;
}

/* Undoes the framing of what has come, and reads a push's head. */
static int pump_body(struct worker *w, struct err *e)
{
	while (!w->body.is_done && buf_len(&w->raw) > 0) {
		enum commands_reason why = COMMANDS_OK;
		struct str data;
		size_t used;
		enum http1_reason bad = http1_body_decode(&w->body, w->raw.p + w->raw.from,
							  buf_len(&w->raw), &used, &data);

		if (bad != HTTP1_OK && bad != HTTP1_INCOMPLETE)
			return err_set(e, -EPROTO, "%s", http1_reason_name(bad));
		if (is_push(w))
			why = commands_feed(&w->commands, data, &w->up);
		else if (buf_append_str(&w->up, data) < 0)
			return err_set(e, -ENOBUFS, "a request's body does not fit");
		buf_consume(&w->raw, used);
		if (why != COMMANDS_OK)
			return pump_refuse(w, why, e);
		if (used == 0)
			break;
	}
	if (w->body.is_done && is_push(w) && commands_end(&w->commands) != COMMANDS_OK)
		return pump_refuse(w, commands_end(&w->commands), e);
	return 0;
}

static int pump_from_front(struct worker *w, struct err *e)
{
	char *to = buf_reserve(&w->raw, WORKER_PIECE);
	ssize_t n;

	if (!to)
		return err_set(e, -ENOBUFS, "a request does not fit");
	n = read(w->fd, to, WORKER_PIECE);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0)
		return err_set(e, -EPIPE, "the client is gone");
	buf_commit(&w->raw, (size_t)n);
	return pump_body(w, e);
}

/* A push's git waits for its head. */
static int pump_start(struct worker *w, struct err *e)
{
	bool may_start = !is_push(w) || w->commands.state == COMMANDS_PACK ||
			 w->commands.state == COMMANDS_END;
	int ret;

	if (w->is_started || !may_start)
		return 0;
	ret = cgi_start(w, e);
	if (ret < 0)
		return ret;
	(void)io_set_nonblock(w->git.in_fd, true);
	(void)io_set_nonblock(w->git.out_fd, true);
	(void)io_set_nonblock(w->git.err_fd, true);
	return 0;
}

static void pump_to_git(struct worker *w)
{
	struct str s = buf_str(&w->up);
	ssize_t n = s.n > 0 ? write(w->git.in_fd, s.p, s.n) : 0;

	if (n > 0)
		buf_consume(&w->up, (size_t)n);
	/* git may end without reading all of it, and says why. */
	if (n < 0 && errno != EAGAIN && errno != EINTR) {
		close_fd(&w->git.in_fd);
		buf_reset(&w->up);
	}
}

/* --- the answer --- */

static bool wants_git(const struct worker *w)
{
	return buf_room(&w->from_git) >= WORKER_PIECE &&
	       buf_room(&w->down) >= buf_len(&w->from_git) + WORKER_PIECE + PUMP_OVERHEAD;
}

static int pump_from_git(struct worker *w, struct err *e)
{
	char *to = buf_reserve(&w->from_git, WORKER_PIECE);
	ssize_t n;

	if (!to)
		return err_set(e, -ENOBUFS, "an answer does not fit");
	n = read(w->git.out_fd, to, WORKER_PIECE);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n > 0)
		buf_commit(&w->from_git, (size_t)n);
	else
		close_fd(&w->git.out_fd);
	w->is_git_done = n <= 0;
	return cgi_translate(w, e);
}

static int pump_to_front(struct worker *w, struct err *e)
{
	struct str s = buf_str(&w->down);
	ssize_t n = s.n > 0 ? write(w->fd, s.p, s.n) : 0;

	if (n < 0 && errno != EAGAIN && errno != EINTR)
		return err_set(e, -EPIPE, "the client is gone");
	if (n > 0)
		buf_consume(&w->down, (size_t)n);
	return 0;
}

/* What git says to nobody in particular: for the operator, when something is wrong. */
static void pump_from_err(struct worker *w)
{
	char piece[PUMP_SAID_MAX], shown[2 * PUMP_SAID_MAX];
	ssize_t n = read(w->git.err_fd, piece, sizeof(piece));

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		close_fd(&w->git.err_fd);
		return;
	}
	text_visible_cstr(shown, sizeof(shown), str_slice(piece, (size_t)n));
	log_debug("git: %s", shown);
}

/* --- the hook --- */

/* What git has taken from the request and what it gives to its hook must be the same: a part of a
 * push is never decided as if it were all of it. */
static bool is_same_push(const struct worker *w)
{
	const struct hook_request *h = w->hook;

	if (h->n_updates != w->commands.n_updates)
		return false;
	for (size_t i = 0; i < h->n_updates; i++) {
		const struct check_update *a = &h->updates[i], *b = &w->commands.updates[i];

		if (strcmp(a->ref, b->ref) != 0 || strcmp(a->old_oid, b->old_oid) != 0 ||
		    strcmp(a->new_oid, b->new_oid) != 0)
			return false;
	}
	return true;
}

/* The quarantine is a folder that git has made below the mirror's objects; of what the hook says
 * only its name counts. False: there should be one. */
static bool pump_quarantine(struct worker *w, char out[STORE_PATH_MAX + HOOK_PATH_MAX])
{
	const char *slash = strrchr(w->hook->quarantine, '/');
	struct str name = str_of(slash ? slash + 1 : "");

	if (!w->hook->quarantine[0])
		return !w->commands.has_pack_wanted;
	if (!str_starts(name, STR_LIT("tmp_objdir-incoming-")) &&
	    !str_starts(name, STR_LIT("incoming-")))
		return false;
	(void)snprintf(out, STORE_PATH_MAX + HOOK_PATH_MAX, "%s/objects/%s", w->mirror, name.p);
	return access(out, X_OK) == 0;
}

static int pump_judge(struct worker *w, const char *quarantine, struct err *e)
{
	const struct push_input in = {
		.job = w->job,
		.quarantine = quarantine,
		.updates = w->hook->updates,
		.n = w->hook->n_updates,
		.hook_fd = w->hook_fd,
		.lock_fd = w->lock_fd,
	};
	const struct gitgate *g = w->job->g;
	const int keep[] = {
		STDIN_FILENO,	     STDOUT_FILENO,	  STDERR_FILENO,	 w->hook_fd,
		w->lock_fd,	     g->config.record_fd, g->upstream.egress_fd, g->upstream.ssh_fd,
		g->upstream.door_fd, w->job->desk_fd};
	pid_t parent = getpid();

	w->judge = fork();
	if (w->judge < 0) {
		w->judge = 0;
		return err_errno(e, "fork for a push");
	}
	if (w->judge == 0) {
		(void)signal(SIGTERM, SIG_DFL);
		if (gitgate_die_with(parent) < 0)
			_exit(1);
		gitgate_close_others(keep, ARRAY_LEN(keep));
		_exit(push_run(&in));
	}
	close_fd(&w->hook_fd);
	return 0;
}

static int pump_hook(struct worker *w, struct err *e)
{
	struct err said = ERR_INIT;
	char quarantine[STORE_PATH_MAX + HOOK_PATH_MAX];
	uint8_t id[8];
	int ret = hook_request_read(w->hook, w->hook_fd, &said);

	if (ret == -EPIPE) {
		close_fd(&w->hook_fd); /* git ended before its hook */
		return 0;
	}
	if (ret == 0 && !w->hook->is_complete)
		return 0;
	if (ret == 0 && !pump_quarantine(w, quarantine))
		ret = err_set(&said, -EPROTO, "git's quarantine is not where it should be");
	if (ret == 0 && is_same_push(w))
		return pump_judge(w, w->hook->quarantine[0] ? quarantine : NULL, e);
	hook_say(w->hook_fd, "git-gate: refused: %s",
		 ret < 0 ? said.text
			 : "git does not take all of this push; push its refs one by one");
	(void)gitgate_record(w->job, RECORD_BLOCK, "push-incomplete", "push", 0, "", id);
	if (hook_answer(w->hook_fd, 1) < 0)
		log_debug("the hook is gone");
	close_fd(&w->hook_fd);
	return 0;
}

/* --- the loop --- */

static void pump_wanted(const struct worker *w, struct pollfd p[PUMP_FDS])
{
	int front = (wants_front(w) ? POLLIN : 0) | (buf_len(&w->down) > 0 ? POLLOUT : 0);

	/* POLLRDHUP: a front that is gone, while nothing is wanted of it. */
	p[FRONT] = (struct pollfd){w->fd, (short)(front | (w->body.is_done ? POLLRDHUP : 0)), 0};
	p[GIT_IN] = (struct pollfd){buf_len(&w->up) > 0 ? w->git.in_fd : -1, POLLOUT, 0};
	p[GIT_OUT] = (struct pollfd){wants_git(w) ? w->git.out_fd : -1, POLLIN, 0};
	p[GIT_ERR] = (struct pollfd){w->git.err_fd, POLLIN, 0};
	p[HOOK] = (struct pollfd){w->hook_fd, POLLIN, 0};
}

static int pump_front(struct worker *w, int revents, struct err *e)
{
	int ret = 0;

	if (revents & POLLOUT)
		ret = pump_to_front(w, e);
	if (ret == 0 && (revents & POLLIN) && wants_front(w))
		ret = pump_from_front(w, e);
	else if (ret == 0 && (revents & (POLLHUP | POLLERR | POLLRDHUP)))
		ret = err_set(e, -EPIPE, "the client is gone");
	return ret;
}

static int pump_round(struct worker *w, struct err *e)
{
	struct pollfd p[PUMP_FDS];
	int ret = pump_start(w, e), n;

	if (ret < 0)
		return ret;
	if (w->git.in_fd >= 0 && w->body.is_done && buf_len(&w->up) == 0)
		close_fd(&w->git.in_fd);
	pump_wanted(w, p);
	n = poll(p, PUMP_FDS, PUMP_POLL_MS);
	if (n < 0 && errno != EINTR)
		return err_errno(e, "poll");
	if (time_monotonic_ns() > w->deadline_ns)
		return err_set(e, -ETIMEDOUT, "a request takes too long");
	if (n <= 0)
		return 0;
	if (p[FRONT].revents)
		ret = pump_front(w, p[FRONT].revents, e);
	if (ret == 0 && p[GIT_IN].revents)
		pump_to_git(w);
	if (ret == 0 && p[GIT_OUT].revents)
		ret = pump_from_git(w, e);
	if (ret == 0 && p[GIT_ERR].revents)
		pump_from_err(w);
	if (ret == 0 && p[HOOK].revents)
		ret = pump_hook(w, e);
	return ret;
}

static int pump_end(struct worker *w, struct err *e)
{
	uint64_t until = time_monotonic_ns() + PUMP_GIT_MS * TIME_NS_PER_MS;
	int ret = 0;

	if (!w->has_cgi_head)
		return err_set(e, -EPROTO, "git http-backend has said nothing");
	/* The mirror's refs have moved, or not, only when git has ended; the answer's last byte
	 * waits for that. */
	if (git_run_wait(&w->git, until, NULL) < 0)
		return err_set(e, -EPROTO, "git does not end");
	if (w->judge > 0)
		(void)waitpid(w->judge, NULL, 0);
	ret = cgi_finish(w);
	(void)io_set_nonblock(w->fd, false);
	while (ret == 0 && buf_len(&w->down) > 0)
		ret = pump_to_front(w, e);
	return ret;
}

int worker_pump(struct worker *w, struct err *e)
{
	int ret = pump_body(w, e);

	(void)io_set_nonblock(w->fd, true);
	while (ret == 0 && !w->is_git_done)
		ret = pump_round(w, e);
	if (ret == 0)
		return pump_end(w, e);
	if (ret == PUMP_REFUSED)
		return 0;
	if (w->is_started && !w->has_cgi_head && ret != -EPIPE)
		worker_refuse(w, "git-failed", "");
	/* What is left of git ends with this process's group. */
	if (w->is_started)
		(void)kill(0, SIGTERM);
	return ret;
}
