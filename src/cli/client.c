/*
 * Theory of operation
 *
 * One poll() loop over standard input, the keeper's socket and a pipe that signal handlers write
 * their number into. Input waits while a message is unsent, so that the socket's queue is the
 * back-pressure; messages out (resize, signals) are flags that are sent when the socket takes them.
 * Output is written blocking: setting the terminal non-blocking would change it for the shell as
 * well, since they share one open file. A signal interrupts such a write.
 */
#include "cli/client.h"

#include "cli/termstate.h"

#include "backend/keeper.h"
#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#define SIGNALS_BEFORE_LEAVING 3
#define INPUT_MAX	       16384

struct client {
	const struct client_options *o;
	struct client_result *result;
	struct client_keys keys;
	struct termstate state;
	struct termios saved;
	bool is_raw, is_done, wants_resize, has_eof, sent_eof, wants_nudge;
	unsigned n_signals;
	uint64_t signals; /* bit N: signal N is to be sent */
	size_t n_pending; /* of input, unsent: 0, or with the type byte */
	char pending[INPUT_MAX + CLIENT_KEYS_ROOM + 1];
	char input[INPUT_MAX];
	char received[KEEPER_MESSAGE_MAX];
};

static int signal_pipe[2] = {-1, -1};
/* For the handler of a crash, which may only touch what is here. */
static struct termios crash_termios;
static volatile sig_atomic_t has_crash_termios;

static void on_signal(int signo)
{
	unsigned char c = (unsigned char)signo;
	int saved = errno;

	if (write(signal_pipe[1], &c, 1) < 0)
		errno = saved; /* the pipe is full of the same */
	errno = saved;
}

static void on_crash(int signo)
{
	if (has_crash_termios)
		(void)tcsetattr(STDIN_FILENO, TCSANOW, &crash_termios);
	(void)raise(signo); /* SA_RESETHAND: now the default action */
}

static const int relayed[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH, SIGCONT, SIGTSTP};
static const int crashes[] = {SIGABRT, SIGSEGV, SIGBUS, SIGILL, SIGFPE};
static struct sigaction old_actions[NSIG];

static void catch_signals(bool has_tty)
{
	struct sigaction sa = {.sa_handler = on_signal}; /* no SA_RESTART: a write must return */
	struct sigaction crash = {.sa_handler = on_crash, .sa_flags = (int)SA_RESETHAND};
	struct sigaction ignore = {.sa_handler = SIG_IGN};
	sigset_t unblocked;

	(void)sigaction(SIGPIPE, &ignore, &old_actions[SIGPIPE]);
	for (size_t i = 0; i < ARRAY_LEN(relayed); i++) {
		(void)sigaction(relayed[i], NULL, &old_actions[relayed[i]]);
		/* What nohup or a shell's "&" has switched off stays off. */
		if (old_actions[relayed[i]].sa_handler == SIG_IGN)
			continue;
		if (!has_tty && (relayed[i] == SIGTSTP || relayed[i] == SIGCONT))
			continue;
		(void)sigaction(relayed[i], &sa, NULL);
	}
	for (size_t i = 0; i < ARRAY_LEN(crashes); i++)
		(void)sigaction(crashes[i], &crash, &old_actions[crashes[i]]);
	/* `start` blocked these until somebody would take them. */
	(void)sigemptyset(&unblocked);
	for (size_t i = 0; i < ARRAY_LEN(relayed); i++)
		(void)sigaddset(&unblocked, relayed[i]);
	(void)sigprocmask(SIG_UNBLOCK, &unblocked, NULL);
}

static void release_signals(void)
{
	(void)sigaction(SIGPIPE, &old_actions[SIGPIPE], NULL);
	for (size_t i = 0; i < ARRAY_LEN(relayed); i++)
		(void)sigaction(relayed[i], &old_actions[relayed[i]], NULL);
	for (size_t i = 0; i < ARRAY_LEN(crashes); i++)
		(void)sigaction(crashes[i], &old_actions[crashes[i]], NULL);
}

static void terminal_raw(struct client *c)
{
	struct termios raw;

	if (!c->o->has_tty || c->is_raw || tcgetattr(STDIN_FILENO, &c->saved) < 0)
		return;
	crash_termios = c->saved;
	has_crash_termios = 1;
	raw = c->saved;
	cfmakeraw(&raw);
	c->is_raw = tcsetattr(STDIN_FILENO, TCSADRAIN, &raw) == 0;
}

static void terminal_restore(struct client *c)
{
	struct buf undo;

	if (!c->is_raw)
		return;
	buf_init(&undo, 4096);
	if (termstate_undo(&c->state, &undo) == 0 && buf_len(&undo))
		(void)!io_write_all(STDOUT_FILENO, buf_str(&undo).p, buf_len(&undo));
	buf_free(&undo);
	/* FLUSH drops input that nobody has read: an agent may have asked the terminal for reports
	 * just before its end, and the answers would be typed into the user's shell. */
	(void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &c->saved);
	c->is_raw = false;
	has_crash_termios = 0;
}

static void end_with(struct client *c, enum client_end end, int status)
{
	if (c->is_done)
		return;
	c->is_done = true;
	*c->result = (struct client_result){end, status};
}

void client_window(unsigned short *rows, unsigned short *columns)
{
	struct winsize w = {0};

	(void)ioctl(STDIN_FILENO, TIOCGWINSZ, &w);
	*rows = w.ws_row ? w.ws_row : 24;
	*columns = w.ws_col ? w.ws_col : 80;
}

/* The answer of send(): true when it is out or never will be, false to try again later. */
static bool send_now(struct client *c, const void *data, size_t n)
{
	while (send(c->o->sock, data, n, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
		if (errno == EAGAIN)
			return false;
		/* A closed socket is noticed, with its last messages, where it is read. */
		if (errno != EINTR)
			return true;
	}
	return true;
}

static bool send_resize(struct client *c, unsigned short fewer_rows)
{
	unsigned short rows, columns;
	char message[64];
	int n;

	client_window(&rows, &columns);
	if (fewer_rows < rows)
		rows = (unsigned short)(rows - fewer_rows);
	n = snprintf(message, sizeof(message), "%c{\"rows\":%u,\"columns\":%u}", KEEPER_RESIZE,
		     rows, columns);
	return send_now(c, message, (size_t)n);
}

static bool send_signals(struct client *c)
{
	for (int signo = 1; signo < 64 && c->signals; signo++) {
		char message[32];
		int n;

		if (!(c->signals & (UINT64_C(1) << signo)))
			continue;
		n = snprintf(message, sizeof(message), "%c{\"signal\":%d}", KEEPER_SIGNAL, signo);
		if (!send_now(c, message, (size_t)n))
			return false;
		c->signals &= ~(UINT64_C(1) << signo);
	}
	return true;
}

/* True when nothing waits any more. */
static bool flush(struct client *c)
{
	if (!send_signals(c))
		return false;
	if (c->wants_nudge) {
		/* Who comes to a running full-screen program wants it drawn: a change of size is
		 * what makes programs do that, and an unchanged one is not reported to them. */
		if (!send_resize(c, 1))
			return false;
		c->wants_nudge = false;
		c->wants_resize = true;
	}
	if (c->wants_resize) {
		if (!send_resize(c, 0))
			return false;
		c->wants_resize = false;
	}
	if (c->n_pending) {
		if (!send_now(c, c->pending, c->n_pending))
			return false;
		c->n_pending = 0;
	}
	if (c->has_eof && !c->sent_eof) {
		const char message = KEEPER_INPUT;

		if (!send_now(c, &message, 1))
			return false;
		c->sent_eof = true;
	}
	return true;
}

static void suspend(struct client *c)
{
	terminal_restore(c);
	(void)raise(SIGSTOP);
	terminal_raw(c);
	c->wants_nudge = true;
}

static void take_signal(struct client *c, int signo)
{
	if (signo == SIGWINCH) {
		c->wants_resize = c->o->has_tty;
	} else if (signo == SIGTSTP) {
		suspend(c);
	} else if (signo == SIGCONT) {
		c->wants_nudge = c->o->has_tty;
	} else if (!c->o->forwards_signals) {
		end_with(c, CLIENT_SIGNALLED, 128 + signo);
	} else {
		c->signals |= UINT64_C(1) << signo;
		/* Without a terminal there is nobody left to wait for. */
		if (++c->n_signals >= SIGNALS_BEFORE_LEAVING ||
		    (signo == SIGHUP && c->o->has_tty)) {
			(void)flush(c);
			end_with(c, CLIENT_SIGNALLED, 128 + signo);
		}
	}
}

static void drain_signals(struct client *c)
{
	unsigned char got[64];
	ssize_t n;

	while ((n = read(signal_pipe[0], got, sizeof(got))) > 0) {
		for (ssize_t i = 0; i < n; i++)
			take_signal(c, got[i]);
	}
}

static void write_output(struct client *c, int fd, const char *p, size_t n)
{
	if (fd == STDOUT_FILENO && c->o->has_tty)
		termstate_feed(&c->state, str_slice(p, n));
	while (n && !c->is_done) {
		ssize_t w = write(fd, p, n);

		if (w >= 0) {
			p += w;
			n -= (size_t)w;
		} else if (errno == EINTR) {
			drain_signals(c);
		} else if (errno == EAGAIN) {
			(void)io_wait(fd, POLLOUT, 100);
			drain_signals(c);
		} else {
			/* As if SIGPIPE had its way: nobody reads what the agent says. */
			end_with(c, CLIENT_SIGNALLED, 128 + SIGPIPE);
		}
	}
}

static int json_field(struct str text, const char *key, struct str *copy, int otherwise)
{
	json_t *root = json_loadb(text.p, text.n, JSON_REJECT_DUPLICATES, NULL);
	json_t *value = json_object_get(root, key);
	int n = json_is_integer(value) ? (int)json_integer_value(value) : otherwise;

	if (copy && json_is_string(value)) {
		copy->p = str_dup(str_of(json_string_value(value)));
		copy->n = strlen(copy->p);
	}
	json_decref(root);
	return n;
}

static int take_message(struct client *c, size_t n, struct err *e)
{
	struct str body = str_slice(c->received + 1, n - 1);
	struct str text = STR_NULL;

	switch (c->received[0]) {
	case KEEPER_OUTPUT:
		write_output(c, STDOUT_FILENO, body.p, body.n);
		return 0;
	case KEEPER_ERROR:
		write_output(c, STDERR_FILENO, body.p, body.n);
		return 0;
	case KEEPER_EXIT:
		end_with(c, CLIENT_EXITED, json_field(body, "status", NULL, 1) & 0xff);
		return 0;
	case KEEPER_FAILED:
		(void)json_field(body, "text", &text, 0);
		c->is_done = true;
		(void)err_set(e, -EIO, "%s", text.p ? text.p : "the bottle refused");
		free((char *)text.p);
		return -EIO;
	default:
		return 0;
	}
}

static int receive(struct client *c, struct err *e)
{
	ssize_t n = recv(c->o->sock, c->received, sizeof(c->received), MSG_DONTWAIT | MSG_TRUNC);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0) {
		end_with(c, CLIENT_LOST, 1);
		return 0;
	}
	if ((size_t)n > sizeof(c->received))
		return err_set(e, -EMSGSIZE, "the bottle's keeper sent too long a message");
	return take_message(c, (size_t)n, e);
}

static void read_input(struct client *c)
{
	ssize_t n = read(STDIN_FILENO, c->input, sizeof(c->input));
	size_t kept;

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0) {
		c->has_eof = true;
		/* The terminal is gone, as with SIGHUP. */
		if (c->o->has_tty)
			take_signal(c, SIGHUP);
		return;
	}
	if (c->o->may_detach && c->o->has_tty) {
		kept = client_keys_filter(&c->keys, str_slice(c->input, (size_t)n), c->pending + 1);
		if (c->keys.wants_detach)
			end_with(c, CLIENT_DETACHED, 0);
	} else {
		kept = (size_t)n;
		memcpy(c->pending + 1, c->input, kept);
	}
	c->pending[0] = KEEPER_INPUT;
	c->n_pending = kept ? kept + 1 : 0;
}

static int run_loop(struct client *c, struct err *e)
{
	while (!c->is_done) {
		bool is_flushed = flush(c);
		struct pollfd fds[] = {
			{.fd = c->o->sock,
			 .events = (short)(is_flushed ? POLLIN : POLLIN | POLLOUT)},
			{.fd = signal_pipe[0], .events = POLLIN},
			{.fd = is_flushed && !c->has_eof ? STDIN_FILENO : -1, .events = POLLIN},
		};
		int r;

		if (poll(fds, ARRAY_LEN(fds), -1) < 0 && errno != EINTR)
			return err_errno(e, "poll");
		drain_signals(c);
		if (!c->is_done && fds[0].revents & (POLLIN | POLLHUP | POLLERR)) {
			r = receive(c, e);
			if (r < 0)
				return r;
		}
		if (!c->is_done && fds[2].revents)
			read_input(c);
	}
	return 0;
}

int client_run(const struct client_options *o, struct client_result *result, struct err *e)
{
	_cleanup_free_ struct client *c = mem_zalloc(sizeof(*c));
	struct err ignored = ERR_INIT;
	int r;

	if (pipe2(signal_pipe, O_CLOEXEC | O_NONBLOCK) < 0)
		return err_errno(e, "make a pipe");
	*result = (struct client_result){CLIENT_LOST, 1};
	c->o = o;
	c->result = result;
	c->has_eof = o->input != CLIENT_INPUT_RELAYED;
	c->sent_eof = o->input == CLIENT_INPUT_NONE;
	c->wants_nudge = o->has_tty && !o->owns && o->may_detach;
	catch_signals(o->has_tty);
	terminal_raw(c);
	r = run_loop(c, e);
	if (r == 0 && result->end == CLIENT_DETACHED) {
		(void)flush(c);
		if (o->owns)
			(void)!client_send_attach(o->sock, true, false, &ignored);
	}
	terminal_restore(c);
	release_signals();
	close_fd(&signal_pipe[0]);
	close_fd(&signal_pipe[1]);
	return r;
}
