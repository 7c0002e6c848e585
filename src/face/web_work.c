/*
 * Asking a keeper takes as long as the keeper takes, and one of several may hang: stopping that one
 * is what the page is needed for then. So each thing that is done is done by a child of its own,
 * whose answer comes through a pipe. A child goes on when the browser goes away, or when the server
 * ends: what was decided is decided.
 */
#include "base/clean.h"
#include "base/io.h"
#include "base/text.h"
#include "face/web_int.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>

/* --- the child --- */

static const char *const VERDICTS[] = {[STORE_DECIDED] = "decided",
				       [STORE_NO_SUCH] = "no-such",
				       [STORE_ALREADY] = "already",
				       [STORE_STALE] = "stale",
				       [STORE_FORBIDDEN] = "forbidden"};

static int ask(const struct web_work *w, enum store_verdict *verdict, struct buf *said,
	       struct err *e)
{
	const struct face_decision *d = &w->decision;

	*verdict = STORE_DECIDED;
	switch (w->kind) {
	case WEB_DECIDE:
		return face_decide(d, verdict, said, e);
	case WEB_REVOKE:
		return face_revoke(d->slug, d->id, d->face, said, e);
	case WEB_PAUSE:
		return face_pause(d->slug, w->is_paused, d->face, said, e);
	case WEB_STOP:
		return face_stop_now(d->slug, said, e);
	}
	return err_set(e, -EINVAL, "nothing of the kind can be done");
}

_Noreturn static void child(const struct web_work *w, int fd)
{
	struct web_answer a = {.text = BUF_INIT(WEB_WORK_MAX_BYTES)};
	struct buf said = BUF_INIT(WEB_WORK_MAX_BYTES / 8);
	enum store_verdict verdict;
	struct err e = ERR_INIT;

	/* Neither the listener's port nor a browser's connection may live on in here. */
	if (dup2(fd, STDERR_FILENO + 1) < 0 || close_range(STDERR_FILENO + 2, ~0u, 0) < 0)
		_exit(1);
	fd = STDERR_FILENO + 1;
	if (ask(w, &verdict, &said, &e) < 0)
		answer_error(&a, 503, e.text);
	else
		answer_verdict(&a, VERDICTS[verdict], buf_str(&said));
	if (io_write_all(fd, &a.status, sizeof(a.status)) < 0 ||
	    io_write_all(fd, buf_str(&a.text).p, buf_len(&a.text)) < 0)
		_exit(1);
	_exit(0);
}

/* --- the server --- */

static void work_end(struct web_conn *c)
{
	struct str s = buf_str(&c->result);
	struct web_answer a = {.text = BUF_INIT(WEB_WORK_MAX_BYTES), .type = "application/json"};

	if (s.n > sizeof(a.status)) {
		memcpy(&a.status, s.p, sizeof(a.status));
		if (buf_append_str(&a.text, str_sub(s, sizeof(a.status), s.n)) < 0)
			a.status = 0;
	}
	if (a.status == 0)
		answer_error(&a, 503, "it is not known what became of it: look again");
	/* Whoever asks next sees what came of it. */
	web_look(c->web);
	conn_answer(c, &a);
	buf_free(&a.text);
}

static void on_result(struct loop_watch *watch, uint32_t events)
{
	struct web_conn *c = (struct web_conn *)((char *)watch - offsetof(struct web_conn, work));
	size_t room = buf_room(&c->result);
	char *p = buf_reserve(&c->result, room);
	ssize_t n = read(watch->fd, p, room);

	(void)events;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0)
		buf_commit(&c->result, (size_t)n);
	else
		work_end(c);
}

void work_start(struct web_conn *c, const struct web_work *w, struct web_answer *a)
{
	_cleanup_close_ int ours = -1, theirs = -1;
	int fds[2];
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0) {
		answer_error(a, 503, "out of descriptors");
		return;
	}
	ours = fds[0];
	theirs = fds[1];
	buf_init(&c->result, WEB_WORK_MAX_BYTES);
	if (io_set_nonblock(ours, true) < 0 ||
	    loop_add(c->web->loop, &c->work, ours, EPOLLIN, NULL) < 0) {
		answer_error(a, 503, "out of descriptors");
		return;
	}
	(void)take_fd(&ours);
	c->work.fn = on_result;
	pid = fork();
	if (pid == 0)
		child(w, theirs);
	if (pid < 0) {
		answer_error(a, 503, "no process could be made");
		return;
	}
	c->state = WEB_CONN_WORK;
	loop_timer_set(c->web->loop, &c->timer, WEB_WORK_MS);
	/* From now on it can only hang up. */
	(void)loop_set(c->web->loop, &c->watch, EPOLLIN);
}
