/*
 * Theory of operation. A session's relay is a child of the keeper that stands for a process in the
 * machine: it moves bytes between the process's port, a stream of frames from somebody hostile, and
 * the keeper's pipes or terminal, and exits with the status that the port tells. What comes is one
 * frame at a time; the next is read when its output has been taken, so that a slow reader holds up
 * the process and nothing else. A port that says what makes no sense is left as it is: the relay
 * exits with QEMU_SESSION_LOST, and the port, still marked busy, is never used again.
 *
 * Without the wire nobody speaks for the machine: its end is the port's, after what has come. Like
 * the wire, the relay has sealed itself (priv_seal()) before it hears anything.
 */
#include "backend/qemu/qemu_int.h"

#include "base/child.h"
#include "base/clean.h"
#include "base/io.h"
#include "base/timeutil.h"
#include "priv/priv.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>

#define SESSION_READ_BYTES  16384
#define SESSION_WRITE_BYTES 4096 /* what a pipe that is ready takes without blocking */
#define SESSION_INPUT_BYTES 8192 /* in one frame */
#define SESSION_UP_FULL	    65536
#define SESSION_UP_BYTES    (3 * SESSION_UP_FULL) /* an order, input, sizes */
#define SESSION_FLUSH_MS    1000		  /* after the end, for a frame that is half sent */

enum { AT_PORT, AT_IN, AT_OUT, AT_SIGNAL, AT_WIRE, AT_COUNT };

struct session {
	int port_fd, wire_fd, tty_fd, in_fd, out_fd, err_fd, signal_fd;
	struct frames frames;
	struct buf in, up;  /* from the port; to it */
	struct str pending; /* output that is not taken yet, of the frame that frames holds */
	int pending_fd;
	bool is_blocked; /* it takes nothing now */
	bool is_in_done, is_out_broken, is_err_broken;
	bool has_exit;
	int status;
};

struct qemu_ports *qemu_ports_make(struct err *e)
{
	void *p = mmap(NULL, sizeof(struct qemu_ports), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED) {
		(void)err_errno(e, "mmap");
		return NULL;
	}
	return p;
}

void qemu_ports_free(struct qemu_ports *p)
{
	if (p)
		(void)munmap(p, sizeof(*p));
}

/* --- to the port --- */

static int put_frame(struct session *s, char letter, const void *payload, size_t n)
{
	unsigned char head[MACHINE_HEAD];

	frames_head(head, letter, n);
	if (buf_append(&s->up, head, sizeof(head)) < 0)
		return -ENOBUFS;
	return buf_append(&s->up, payload, n);
}

static int flush_up(struct session *s)
{
	while (buf_len(&s->up) > 0) {
		ssize_t put = send(s->port_fd, buf_str(&s->up).p, buf_len(&s->up),
				   MSG_NOSIGNAL | MSG_DONTWAIT);

		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return errno == EAGAIN ? 0 : -EPIPE;
		buf_consume(&s->up, (size_t)put);
	}
	return 0;
}

/* A terminal has no end of input but the ^D that passes as a byte. */
static int read_input(struct session *s)
{
	char chunk[SESSION_INPUT_BYTES];
	ssize_t got = read(s->tty_fd >= 0 ? s->tty_fd : s->in_fd, chunk, sizeof(chunk));

	if (got > 0)
		return put_frame(s, 'i', chunk, (size_t)got);
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	s->is_in_done = true;
	return s->tty_fd >= 0 ? 0 : put_frame(s, 'i', "", 0);
}

static int put_size(struct session *s)
{
	struct winsize size;
	uint16_t wire[2];

	if (ioctl(s->tty_fd, TIOCGWINSZ, &size) < 0 || size.ws_row == 0 || size.ws_col == 0)
		return 0;
	wire[0] = htons(size.ws_row);
	wire[1] = htons(size.ws_col);
	return put_frame(s, 'w', wire, sizeof(wire));
}

static int read_signal(struct session *s)
{
	struct signalfd_siginfo info;
	bool is_changed = false;

	while (read(s->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
		is_changed = true;
	return is_changed ? put_size(s) : 0;
}

/* --- from the port --- */

static void drop_pending(struct session *s)
{
	s->pending = STR_NULL;
	s->is_blocked = false;
}

/* False: its reader takes its time. */
static bool write_pending(struct session *s)
{
	bool *is_broken = s->pending_fd == s->err_fd ? &s->is_err_broken : &s->is_out_broken;

	s->is_blocked = false;
	while (s->pending.n > 0 && !*is_broken && s->pending_fd >= 0) {
		struct pollfd p = {.fd = s->pending_fd, .events = POLLOUT};
		size_t n = s->pending.n < SESSION_WRITE_BYTES ? s->pending.n : SESSION_WRITE_BYTES;
		ssize_t put;

		/* The descriptor may be blocking, and shared with others who want it so. */
		if (poll(&p, 1, 0) <= 0) {
			s->is_blocked = true;
			return false;
		}
		put = write(s->pending_fd, s->pending.p, n);
		if (put < 0 && (errno == EAGAIN || errno == EINTR)) {
			s->is_blocked = true;
			return false;
		}
		/* As a process would find out; but it is the machine's that decides what then. */
		if (put < 0)
			*is_broken = true;
		else
			s->pending = str_sub(s->pending, (size_t)put, s->pending.n);
	}
	drop_pending(s);
	return true;
}

static int take_frame(struct session *s, char letter, struct str payload)
{
	uint32_t status;

	if (letter == 'x' && payload.n == sizeof(status)) {
		memcpy(&status, payload.p, sizeof(status));
		status = ntohl(status);
		if (status > 255)
			return -EPROTO;
		s->has_exit = true;
		s->status = (int)status;
		return 0;
	}
	if (payload.n == 0 || (letter != 'o' && (letter != 'e' || s->tty_fd >= 0)))
		return -EPROTO;
	s->pending = payload;
	s->pending_fd = s->tty_fd >= 0 ? s->tty_fd : letter == 'e' ? s->err_fd : s->out_fd;
	return 0;
}

/* As far as output is taken. */
static int take_frames(struct session *s)
{
	while (!s->has_exit && write_pending(s) && buf_len(&s->in) > 0) {
		struct str payload;
		size_t used;
		char letter;
		int ret = frames_feed(&s->frames, buf_str(&s->in), &used, &letter, &payload, NULL);

		if (ret > 0)
			ret = take_frame(s, letter, payload);
		if (ret < 0)
			return ret;
		buf_consume(&s->in, used);
	}
	/* Nothing follows the exit. */
	return s->has_exit && buf_len(&s->in) > 0 ? -EPROTO : 0;
}

static int read_port(struct session *s)
{
	char *room = buf_reserve(&s->in, SESSION_READ_BYTES);
	ssize_t got = room ? recv(s->port_fd, room, SESSION_READ_BYTES, MSG_DONTWAIT) : 0;

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (got <= 0)
		return -EPIPE;
	buf_commit(&s->in, (size_t)got);
	return 0;
}

/* Nothing more comes in, or goes out; what lies there is read. */
static void end_port(struct session *s)
{
	(void)shutdown(s->port_fd, SHUT_RDWR);
	s->wire_fd = -1;
}

/* --- the loop --- */

static int turn(struct session *s)
{
	struct pollfd p[AT_COUNT] = {
		[AT_PORT] = {.fd = s->port_fd,
			     .events = (short)((buf_len(&s->in) ? 0 : POLLIN) |
					       (buf_len(&s->up) ? POLLOUT : 0))},
		[AT_IN] = {.fd = s->is_in_done || buf_len(&s->up) >= SESSION_UP_FULL ? -1
				 : s->tty_fd >= 0				     ? s->tty_fd
										     : s->in_fd,
			   .events = POLLIN},
		[AT_OUT] = {.fd = s->is_blocked ? s->pending_fd : -1, .events = POLLOUT},
		[AT_SIGNAL] = {.fd = s->signal_fd, .events = POLLIN},
		[AT_WIRE] = {.fd = s->wire_fd}}; /* its words are the keeper's */
	int ret = 0;

	/* A hang-up is told unasked, and again and again: it waits for what came before it. */
	if (!p[AT_PORT].events)
		p[AT_PORT].fd = -1;
	if (poll(p, AT_COUNT, -1) < 0)
		return errno == EINTR ? 0 : -errno;
	if (p[AT_WIRE].revents)
		end_port(s);
	if (p[AT_PORT].revents & ~POLLOUT && buf_len(&s->in) == 0)
		ret = read_port(s);
	if (ret == 0 && p[AT_SIGNAL].revents)
		ret = read_signal(s);
	if (ret == 0 && p[AT_IN].revents)
		ret = read_input(s);
	if (ret == 0)
		ret = flush_up(s);
	return ret == 0 ? take_frames(s) : ret;
}

/* The port is another session's only if no frame is half sent on it. */
static bool is_left_clean(struct session *s)
{
	uint64_t until = time_monotonic_ns() + SESSION_FLUSH_MS * TIME_NS_PER_MS, now;

	while (flush_up(s) == 0) {
		if (buf_len(&s->up) == 0)
			return true;
		now = time_monotonic_ns();
		if (now >= until)
			return false;
		(void)io_wait(s->port_fd, POLLOUT, (int)((until - now) / TIME_NS_PER_MS) + 1);
	}
	return false;
}

static void open_terminal(struct session *s)
{
	sigset_t mask;

	(void)ioctl(s->tty_fd, TIOCSCTTY, 0);
	(void)sigemptyset(&mask);
	(void)sigaddset(&mask, SIGWINCH);
	(void)sigprocmask(SIG_BLOCK, &mask, NULL);
	s->signal_fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
}

static _Noreturn void run(struct session *s, const char *order, volatile unsigned char *state)
{
	static const struct priv_seal seal = {.sets = PRIV_SECCOMP_TERMINAL};
	int ret = frames_init(&s->frames, MACHINE_SESSION_MAX, NULL);

	buf_init(&s->in, SESSION_READ_BYTES);
	buf_init(&s->up, SESSION_UP_BYTES);
	s->out_fd = child_unblocked(s->out_fd);
	s->err_fd = child_unblocked(s->err_fd);
	s->is_in_done = s->tty_fd < 0 && s->in_fd < 0;
	if (s->tty_fd >= 0)
		open_terminal(s);
	if (ret == 0)
		ret = priv_seal(&seal, NULL);
	if (ret == 0 && order)
		ret = put_frame(s, 'S', order, strlen(order));
	/* The agent's is begun by somebody who does not know its terminal's size. */
	else if (ret == 0 && s->tty_fd >= 0)
		ret = put_size(s);
	if (ret == 0)
		ret = flush_up(s);
	while (ret == 0 && !s->has_exit)
		ret = turn(s);
	if (ret < 0)
		_exit(QEMU_SESSION_LOST);
	if (is_left_clean(s))
		*state = QEMU_PORT_FREE;
	_exit(s->status);
}

int qemu_session_start(struct qemu_ports *ports, size_t at, int port_fd, int wire_fd,
		       const char *order, struct backend_stdio *io, pid_t *pid, struct err *e)
{
	_cleanup_close_ int master = -1, slave = -1;
	struct session s = {.port_fd = port_fd,
			    .wire_fd = wire_fd,
			    .tty_fd = -1,
			    .in_fd = io->has_tty ? -1 : io->in_fd,
			    .out_fd = io->has_tty ? -1 : io->out_fd,
			    .err_fd = io->has_tty ? -1 : io->err_fd,
			    .signal_fd = -1};
	int ret = 0;

	*pid = -1;
	io->master_fd = -1;
	if (order && strlen(order) > MACHINE_SESSION_MAX)
		return err_set(e, -E2BIG, "the command is longer than a machine takes");
	if (io->has_tty)
		ret = child_open_pty(io->rows, io->columns, &master, &slave, e);
	s.tty_fd = slave;
	if (ret == 0) {
		const int keep[] = {s.port_fd, s.wire_fd, s.tty_fd, s.in_fd, s.out_fd, s.err_fd};

		ports->state[at] = QEMU_PORT_BUSY;
		ret = child_fork("cb-relay", QEMU_SESSION_LOST, keep, ARRAY_LEN(keep), pid, e);
		if (ret < 0)
			ports->state[at] = QEMU_PORT_FREE;
	}
	if (ret < 0)
		return ret;
	if (*pid == 0)
		run(&s, order, &ports->state[at]);
	io->master_fd = take_fd(&master);
	return 0;
}
