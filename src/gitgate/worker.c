/*
 * A worker: one request of the front's, on one end of a socketpair, and the end of the process. The
 * head was judged by the front already; it is read again only to know the body. Nothing here is
 * freed, and nothing that goes wrong here reaches another request.
 */
#include "gitgate/worker.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/timeutil.h"
#include "gitgate/pkt.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>

#define WORKER_HEAD_MS	10000
#define WORKER_DRAIN_MS 3000
#define WORKER_ERR_MAX	900 /* of an ERR packet's text; git cuts at 1000 */

/* --- whole answers --- */

/* Takes what the front still sends: closing with unread bytes would cut the answer off. */
static void worker_drain(struct worker *w)
{
	uint64_t until = time_monotonic_ns() + WORKER_DRAIN_MS * TIME_NS_PER_MS;
	char piece[4096];

	(void)shutdown(w->fd, SHUT_WR);
	while (time_monotonic_ns() < until) {
		ssize_t n;

		if (io_wait(w->fd, POLLIN, WORKER_DRAIN_MS) != 1)
			return;
		n = read(w->fd, piece, sizeof(piece));
		if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN))
			return;
	}
}

void worker_answer(struct worker *w, unsigned status, struct str content_type, struct str body)
{
	struct str phrase = http1_status_phrase(status);
	struct buf out;

	buf_init(&out, 65536);
	(void)io_set_nonblock(w->fd, false);
	if (buf_printf(&out,
		       "HTTP/1.1 %u " STR_FMT "\r\nContent-Type: " STR_FMT
		       "\r\nCache-Control: no-cache\r\nContent-Length: %zu\r\nConnection: "
		       "close\r\n\r\n",
		       status, STR_ARG(phrase), STR_ARG(content_type), body.n) == 0 &&
	    buf_append_str(&out, body) == 0 &&
	    io_write_all(w->fd, buf_str(&out).p, buf_len(&out)) == 0)
		worker_drain(w);
	buf_free(&out);
}

void worker_refuse(struct worker *w, const char *reason, const char *detail)
{
	const struct gitgate_job *job = w->job;
	uint8_t id[8] = {0};
	struct buf body;

	if (!gitgate_record(job, RECORD_BLOCK, reason,
			    job->service == GIT_RECEIVE_PACK ? "push" : "fetch",
			    gitgate_refusal_status(reason), detail, id))
		reason = "record-unavailable";
	buf_init(&body, 2048);
	(void)gitgate_refusal(&body, reason, job->is_git_client, id);
	worker_answer(w, gitgate_refusal_status(reason),
		      job->is_git_client ? STR_LIT("text/plain; charset=utf-8")
					 : STR_LIT("application/json"),
		      buf_str(&body));
	buf_free(&body);
}

/* An advertisement that is nothing but an error (gitprotocol-pack(5), "Pack Protocol"): git shows
 * it as "fatal: remote error: ...". */
static void worker_answer_error(struct worker *w, const char *text)
{
	bool is_push = w->job->service == GIT_RECEIVE_PACK;
	char line[WORKER_ERR_MAX + 64];
	struct buf body;

	buf_init(&body, 4096);
	(void)snprintf(line, sizeof(line), "ERR git-gate: %.*s", WORKER_ERR_MAX, text);
	if (pkt_write(&body, is_push ? STR_LIT("# service=git-receive-pack\n")
				     : STR_LIT("# service=git-upload-pack\n")) == 0 &&
	    pkt_write_flush(&body) == 0 && pkt_write(&body, str_of(line)) == 0)
		worker_answer(w, 200,
			      is_push ? STR_LIT("application/x-git-receive-pack-advertisement")
				      : STR_LIT("application/x-git-upload-pack-advertisement"),
			      buf_str(&body));
	buf_free(&body);
}

/* --- the request's head --- */

static int worker_read_head(struct worker *w, struct err *e)
{
	uint64_t until = time_monotonic_ns() + WORKER_HEAD_MS * TIME_NS_PER_MS;
	enum http1_reason why = HTTP1_INCOMPLETE;
	size_t n = 0;

	for (;;) {
		char *to = buf_reserve(&w->raw, WORKER_PIECE);
		ssize_t got;

		if (!to || time_monotonic_ns() > until ||
		    io_wait(w->fd, POLLIN, WORKER_HEAD_MS) != 1)
			return err_set(e, -ETIMEDOUT, "no request");
		got = read(w->fd, to, WORKER_PIECE);
		if (got <= 0)
			return err_set(e, -EPIPE, "no request");
		buf_commit(&w->raw, (size_t)got);
		n = http1_head_length(buf_str(&w->raw), 0, true, &why);
		if (n > 0)
			break;
		if (why != HTTP1_OK && why != HTTP1_INCOMPLETE)
			return err_set(e, -EPROTO, "%s", http1_reason_name(why));
	}
	/* The head's slices point into the buffer, which moves: a copy of its own. */
	why = http1_parse_request(&w->head, str_of(str_dup(str_sub(buf_str(&w->raw), 0, n))),
				  HTTP1_SCHEME_HTTP);
	if (why != HTTP1_OK)
		return err_set(e, -EPROTO, "%s", http1_reason_name(why));
	buf_consume(&w->raw, n);
	http1_body_init(&w->body, &w->head);
	return 0;
}

/* --- the whole --- */

/* What a push is judged by, the upstream's default branch not least, is the mirror. Attack: a push
 * without the look at the refs that a client begins with, to be judged by an old one. */
static bool worker_prepare_push(struct worker *w)
{
	char text[STORE_TEXT_MAX] = "";

	if (refresh_run(w->job, GITGATE_PUSH_FRESH_MS, text) == REFRESH_OK)
		return true;
	worker_refuse(w, "git-stale", text);
	return false;
}

/* False: the answer was given. */
static bool worker_prepare(struct worker *w)
{
	const struct gitgate_job *job = w->job;
	char text[STORE_TEXT_MAX];
	uint8_t id[8];

	if (!job->is_advert) {
		if (job->service == GIT_RECEIVE_PACK)
			return worker_prepare_push(w);
		w->is_warning_due = refresh_is_stale(job, w->warning);
		return true;
	}
	switch (refresh_run(job, GITGATE_REFRESH_FRESH_MS, text)) {
	case REFRESH_OK:
		return true;
	case REFRESH_STALE:
		/* Nothing to push onto: what the upstream has now is not known. */
		if (job->service == GIT_UPLOAD_PACK &&
		    gitgate_record(job, RECORD_NOTE, "stale-served", "fetch", 0, text, id))
			return true;
		break;
	case REFRESH_FAILED:
		break;
	}
	worker_answer_error(w, text);
	return false;
}

static int worker_run(struct worker *w, struct err *e)
{
	const struct gitgate_job *job = w->job;
	int ret = worker_read_head(w, e);

	if (ret < 0 || !worker_prepare(w))
		return ret;
	if (job->service == GIT_RECEIVE_PACK && !job->is_advert) {
		w->lock_fd = store_lock_open(job->g->store, job->remote, e);
		if (w->lock_fd < 0)
			return w->lock_fd;
		/* Until this process ends. */
		ret = store_push_begin(job->g->store, job->remote, e);
		if (ret < 0)
			return ret;
	}
	return worker_pump(w, e);
}

_Noreturn void gitgate_worker_main(const struct gitgate_job *job, int fd)
{
	static struct worker w;
	struct err e = ERR_INIT;
	uint64_t ms = job->service == GIT_RECEIVE_PACK ? GITGATE_PUSH_MS : GITGATE_UPLOAD_MS;

	w = (struct worker){.job = job,
			    .fd = fd,
			    .hook_fd = -1,
			    .lock_fd = -1,
			    .git = {-1, -1, -1, -1, -1},
			    .deadline_ns = time_monotonic_ns() + ms * TIME_NS_PER_MS};
	buf_init(&w.raw, WORKER_FLOW_BYTES);
	buf_init(&w.up, COMMANDS_HEAD_MAX + 2 * WORKER_FLOW_BYTES);
	buf_init(&w.from_git, WORKER_FLOW_BYTES);
	buf_init(&w.down, 2 * WORKER_FLOW_BYTES);
	commands_init(&w.commands, job->remote->pack_max_bytes + WORKER_FLOW_BYTES);
	store_mirror(job->g->store, job->remote, w.mirror);
	if (worker_run(&w, &e) < 0) {
		log_warn("git: %s", e.text);
		_exit(1);
	}
	_exit(0);
}
