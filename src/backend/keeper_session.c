/*
 * Theory of operation. Output moves from the process to the clients by pump: a chunk is read only
 * when no client of the session is behind, so that a slow reader slows the process down as a slow
 * terminal would, and nothing is lost. Input waits in a buffer whose fill stops the clients. After
 * the process's exit, its descriptors are read to their end; an orphan that holds them open is
 * waited for no longer than SESSION_DRAIN_MS.
 */
#include "backend/keeper_int.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/log.h"
#include "base/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>

#define SESSION_DRAIN_MS 500

#define SESSION_OF(w, member)                                                                      \
	((struct keeper_session *)(void *)((char *)(w)-offsetof(struct keeper_session, member)))

static void session_on_exit(struct loop_watch *w, uint32_t events);
static void session_on_drain_timeout(struct loop_timer *t);

static void session_on_out(struct loop_watch *w, uint32_t events)
{
	(void)events;
	session_pump(SESSION_OF(w, out_watch));
}

static void session_on_err(struct loop_watch *w, uint32_t events)
{
	(void)events;
	session_pump(SESSION_OF(w, err_watch));
}

/* A watch that waits for nothing is taken out: the kernel reports hang-ups whether or not anybody
 * asks, again and again. */
static void session_watch(struct keeper_session *s, struct loop_watch *w, int fd, uint32_t events)
{
	if (fd < 0)
		return;
	if (events == 0)
		loop_del(s->k->loop, w);
	else if (w->fd < 0 && loop_add(s->k->loop, w, fd, events, NULL) < 0)
		log_error("cannot watch a descriptor of the bottle's");
}

static void session_close_input(struct keeper_session *s)
{
	loop_del(s->k->loop, &s->in_watch);
	close_fd(&s->in_fd);
	buf_reset(&s->input);
}

static void session_write_input(struct keeper_session *s)
{
	bool was_full = !session_takes_input(s);

	while (s->in_fd >= 0 && buf_len(&s->input) > 0) {
		struct str data = buf_str(&s->input);
		ssize_t put = write(s->in_fd, data.p, data.n);

		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0 && errno == EAGAIN)
			break;
		if (put < 0) { /* nobody reads it any more */
			session_close_input(s);
			break;
		}
		buf_consume(&s->input, (size_t)put);
	}
	if (s->in_fd >= 0 && buf_len(&s->input) == 0 && s->has_input_end)
		session_close_input(s);
	session_watch(s, &s->in_watch, s->in_fd, buf_len(&s->input) > 0 ? EPOLLOUT : 0);
	if (was_full && session_takes_input(s))
		client_update(s->k);
}

static void session_on_in(struct loop_watch *w, uint32_t events)
{
	(void)events;
	session_write_input(SESSION_OF(w, in_watch));
}

bool session_takes_input(const struct keeper_session *s)
{
	return buf_len(&s->input) < KEEPER_INPUT_BYTES / 2;
}

void session_input(struct keeper_session *s, struct str data)
{
	if (s->in_fd < 0)
		return;
	/* The clients were stopped at half of the cap, and no message is larger than the rest. */
	if (data.n == 0 && !s->has_tty)
		s->has_input_end = true;
	else if (buf_append_str(&s->input, data) < 0)
		log_warn("input for the bottle was dropped");
	session_write_input(s);
}

void session_resize(struct keeper_session *s, unsigned rows, unsigned columns)
{
	struct winsize size = {.ws_row = (unsigned short)rows, .ws_col = (unsigned short)columns};

	if (!s->has_tty || s->out_fd < 0 || rows == 0 || columns == 0)
		return;
	(void)ioctl(s->out_fd, TIOCSWINSZ, &size);
	if (s->k->backend->resize && !s->has_exited)
		s->k->backend->resize(s->k->bottle, s->pid, rows, columns);
}

/* --- start --- */

static int session_pipe(int *ours, int *theirs, bool is_input, struct err *e)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_errno(e, "pipe");
	*ours = fds[is_input ? 1 : 0];
	*theirs = fds[is_input ? 0 : 1];
	return io_set_nonblock(*ours, true);
}

int session_prepare(struct keeper_session *s, struct backend_stdio *io, struct err *e)
{
	struct keeper *k = s->k;
	bool is_agent = s->is_agent;
	int ret = 0;

	*s = (struct keeper_session){
		.k = k,
		.is_used = true,
		.is_agent = is_agent,
		.has_tty = io->has_tty,
		.pidfd = -1,
		.in_fd = -1,
		.out_fd = -1,
		.err_fd = -1,
		.pid_watch = {.fd = -1, .fn = session_on_exit},
		.in_watch = {.fd = -1, .fn = session_on_in},
		.out_watch = {.fd = -1, .fn = session_on_out},
		.err_watch = {.fd = -1, .fn = session_on_err},
		.drain_timer = {.fn = session_on_drain_timeout},
	};
	buf_init(&s->input, KEEPER_INPUT_BYTES);
	buf_init(&s->scrollback, KEEPER_SCROLLBACK_BYTES);
	io->in_fd = io->out_fd = io->err_fd = io->master_fd = -1;
	if (io->has_tty)
		return 0;
	ret = session_pipe(&s->in_fd, &io->in_fd, true, e);
	if (ret == 0)
		ret = session_pipe(&s->out_fd, &io->out_fd, false, e);
	if (ret == 0)
		ret = session_pipe(&s->err_fd, &io->err_fd, false, e);
	return ret;
}

int session_began(struct keeper_session *s, struct backend_stdio *io, pid_t pid, struct err *e)
{
	close_fd(&io->in_fd);
	close_fd(&io->out_fd);
	close_fd(&io->err_fd);
	s->pid = pid;
	if (s->has_tty) {
		int input = dup(io->master_fd); /* epoll wants one descriptor for each watch */

		s->out_fd = io->master_fd;
		if (input < 0 || io_set_cloexec(input, true) < 0)
			return err_errno(e, "dup");
		s->in_fd = input;
		(void)io_set_nonblock(s->out_fd, true);
	}
	s->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (s->pidfd < 0)
		return err_errno(e, "pidfd_open");
	(void)io_set_nonblock(s->in_fd, true);
	return loop_add(s->k->loop, &s->pid_watch, s->pidfd, EPOLLIN, e);
}

void session_flow(struct keeper_session *s)
{
	if (s->is_flowing)
		return;
	s->is_flowing = true;
	if (s->has_exited)
		loop_timer_set(s->k->loop, &s->drain_timer, SESSION_DRAIN_MS);
	session_pump(s);
}

/* --- output --- */

static void session_remember(struct keeper_session *s, char type, struct str data)
{
	uint32_t n = (uint32_t)data.n + 1;

	if (!s->is_agent)
		return;
	while (buf_room(&s->scrollback) < sizeof(n) + n) {
		uint32_t first;

		memcpy(&first, buf_str(&s->scrollback).p, sizeof(first));
		buf_consume(&s->scrollback, sizeof(first) + first);
	}
	if (buf_append(&s->scrollback, &n, sizeof(n)) < 0 ||
	    buf_append(&s->scrollback, &type, 1) < 0 || buf_append_str(&s->scrollback, data) < 0)
		buf_reset(&s->scrollback);
}

/* One chunk. True if there may be more at once. */
static bool session_move(struct keeper_session *s, struct loop_watch *w, int *fd, char type)
{
	char chunk[KEEPER_CHUNK_BYTES];
	ssize_t got;

	if (*fd < 0)
		return false;
	got = read(*fd, chunk, sizeof(chunk));
	if (got < 0 && errno == EINTR)
		return true;
	if (got < 0 && errno == EAGAIN)
		return false;
	if (got <= 0) { /* a master without slaves says EIO */
		loop_del(s->k->loop, w);
		close_fd(fd);
		return false;
	}
	session_remember(s, type, str_slice(chunk, (size_t)got));
	client_broadcast(s->k, s, type, str_slice(chunk, (size_t)got));
	return true;
}

void session_pump(struct keeper_session *s)
{
	bool is_behind, has_more = true;

	if (!s->is_used || !s->is_flowing || s->is_done)
		return;
	is_behind = client_any_behind(s->k, s);
	while (has_more && !is_behind) {
		has_more = session_move(s, &s->out_watch, &s->out_fd, KEEPER_OUTPUT);
		is_behind = client_any_behind(s->k, s);
		if (!is_behind && session_move(s, &s->err_watch, &s->err_fd, KEEPER_ERROR))
			has_more = true;
		is_behind = client_any_behind(s->k, s);
	}
	session_watch(s, &s->out_watch, s->out_fd, is_behind ? 0 : EPOLLIN);
	session_watch(s, &s->err_watch, s->err_fd, is_behind ? 0 : EPOLLIN);
	if (s->has_exited && s->out_fd < 0 && s->err_fd < 0) {
		s->is_done = true;
		loop_timer_del(s->k->loop, &s->drain_timer);
		keeper_session_done(s);
	}
}

/* --- the end --- */

static void session_on_drain_timeout(struct loop_timer *t)
{
	struct keeper_session *s = SESSION_OF(t, drain_timer);

	/* A client that is behind still gets what there is; an orphan's silence is not waited for.
	 */
	if (client_any_behind(s->k, s)) {
		loop_timer_set(s->k->loop, t, SESSION_DRAIN_MS);
		return;
	}
	loop_del(s->k->loop, &s->out_watch);
	loop_del(s->k->loop, &s->err_watch);
	close_fd(&s->out_fd);
	close_fd(&s->err_fd);
	session_pump(s);
}

static void session_on_exit(struct loop_watch *w, uint32_t events)
{
	struct keeper_session *s = SESSION_OF(w, pid_watch);
	int status;

	(void)events;
	if (waitpid(s->pid, &status, WNOHANG) != s->pid)
		return;
	loop_del(s->k->loop, w);
	close_fd(&s->pidfd);
	s->status = signals_exit_status(status);
	s->has_exited = true;
	if (s->is_agent) {
		const char *broke =
			s->k->backend->reason ? s->k->backend->reason(s->k->bottle, status) : NULL;

		if (broke && !s->k->reason[0])
			(void)snprintf(s->k->reason, sizeof(s->k->reason), "%s", broke);
		/* Whatever it left running goes with it. */
		s->k->backend->kill(s->k->bottle);
		s->k->exit_status = s->status;
		loop_timer_del(s->k->loop, &s->k->grace_timer);
	}
	if (s->is_flowing) {
		loop_timer_set(s->k->loop, &s->drain_timer, SESSION_DRAIN_MS);
		session_pump(s);
	}
}

void session_free(struct keeper_session *s)
{
	if (!s->is_used)
		return;
	loop_del(s->k->loop, &s->pid_watch);
	loop_del(s->k->loop, &s->in_watch);
	loop_del(s->k->loop, &s->out_watch);
	loop_del(s->k->loop, &s->err_watch);
	loop_timer_del(s->k->loop, &s->drain_timer);
	close_fd(&s->pidfd);
	close_fd(&s->in_fd);
	close_fd(&s->out_fd);
	close_fd(&s->err_fd);
	buf_free(&s->input);
	buf_free(&s->scrollback);
	s->is_used = false;
}
