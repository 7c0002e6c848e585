/*
 * Theory of operation: the session does not block. What was read from one side and not yet taken by
 * the other stands in a buffer of fixed size, and while there is something in it that side is not
 * read: towards the server libssh's window says how much it will take, from the server a window
 * that is not opened again holds it back. So memory is bounded by the two buffers and the two
 * windows (about a megabyte each), however slow either side is.
 *
 * It ends when the server's program has ended and all of its output was taken, when git-gate's end
 * is gone, or when nothing has moved for too long. git-gate's end of input is passed on.
 */
#include "gitssh/gitssh.h"

#include "base/clean.h"
#include "base/timeutil.h"

#include <errno.h>
#include <libssh/callbacks.h>
#include <libssh/libssh.h>
#include <poll.h>
#include <sys/socket.h>

#define PUMP_PIECE	  65536
#define PUMP_LAST_WORD_MS 5000 /* from the end of the output to the exit status */

struct pump {
	ssh_session session;
	ssh_channel channel;
	ssh_event event;
	int stream_fd;
	struct buf up, down; /* to the server, to git-gate */
	struct buf *said;
	bool is_up_ended;   /* git-gate has said all */
	bool is_up_told;    /* and the server was told so */
	bool is_down_ended; /* the server has said all */
	bool has_moved;
	bool has_status;
	int status;
	const char *signal;
};

static void on_exit_status(ssh_session s, ssh_channel c, int status, void *ctx)
{
	struct pump *p = ctx;

	(void)s;
	(void)c;
	p->has_status = true;
	p->status = status;
}

static void on_exit_signal(ssh_session s, ssh_channel c, const char *signal, int core,
			   const char *text, const char *language, void *ctx)
{
	struct pump *p = ctx;

	(void)s;
	(void)c;
	(void)signal;
	(void)core;
	(void)text;
	(void)language;
	p->has_status = true;
	p->signal = "by a signal";
}

/* Without waiting: from libssh into down and said. -EIO when the connection is gone. */
static int take_from_server(struct pump *p, struct err *e)
{
	char scrap[1024];
	int n;

	while (buf_room(&p->down) > 0 && !p->is_down_ended) {
		char *to = buf_reserve(&p->down, buf_room(&p->down));

		n = ssh_channel_read_nonblocking(p->channel, to, (uint32_t)buf_room(&p->down), 0);
		if (n == SSH_ERROR)
			return err_set(e, -EIO, "the connection broke: %s",
				       ssh_get_error(p->session));
		if (n == SSH_EOF || (n == 0 && ssh_channel_is_eof(p->channel)))
			p->is_down_ended = true;
		if (n <= 0)
			break;
		buf_commit(&p->down, (size_t)n);
		p->has_moved = true;
	}
	/* What does not fit is dropped: it must not stop the server. */
	while ((n = ssh_channel_read_nonblocking(p->channel, scrap, sizeof(scrap), 1)) > 0) {
		size_t room = buf_room(p->said);

		(void)!buf_append(p->said, scrap, (size_t)n < room ? (size_t)n : room);
		p->has_moved = true;
	}
	return 0;
}

static int give_to_server(struct pump *p, struct err *e)
{
	while (buf_len(&p->up) > 0) {
		uint32_t window = ssh_channel_window_size(p->channel);
		size_t n = buf_len(&p->up) < window ? buf_len(&p->up) : window;
		int put;

		if (n == 0)
			return 0;
		put = ssh_channel_write(p->channel, buf_str(&p->up).p, (uint32_t)n);
		if (put < 0)
			return err_set(e, -EIO, "the connection broke: %s",
				       ssh_get_error(p->session));
		if (put == 0)
			return 0;
		buf_consume(&p->up, (size_t)put);
		p->has_moved = true;
	}
	if (p->is_up_ended && !p->is_up_told) {
		p->is_up_told = true;
		if (ssh_channel_send_eof(p->channel) == SSH_ERROR)
			return err_set(e, -EIO, "the connection broke: %s",
				       ssh_get_error(p->session));
	}
	return 0;
}

/* -EPIPE: git-gate is gone, which is how it says that it has enough. */
static int move_stream(struct pump *p)
{
	while (buf_len(&p->down) > 0) {
		ssize_t n = send(p->stream_fd, buf_str(&p->down).p, buf_len(&p->down),
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0)
			return -EPIPE;
		buf_consume(&p->down, (size_t)n);
		p->has_moved = true;
	}
	if (buf_len(&p->up) == 0 && !p->is_up_ended) {
		char *to = buf_reserve(&p->up, PUMP_PIECE);
		ssize_t n = recv(p->stream_fd, to, PUMP_PIECE, MSG_DONTWAIT);

		if (n == 0)
			p->is_up_ended = true;
		else if (n > 0)
			buf_commit(&p->up, (size_t)n);
		else if (errno != EAGAIN && errno != EINTR)
			return -EPIPE;
		p->has_moved = p->has_moved || n >= 0;
	}
	return 0;
}

static int wait_for_either(struct pump *p, int timeout_ms)
{
	struct pollfd fds[2] = {{.fd = ssh_get_fd(p->session), .events = POLLIN},
				{.fd = p->stream_fd, .events = 0}};

	if (ssh_get_poll_flags(p->session) & SSH_WRITE_PENDING)
		fds[0].events |= POLLOUT;
	if (buf_len(&p->up) == 0 && !p->is_up_ended)
		fds[1].events |= POLLIN;
	if (buf_len(&p->down) > 0)
		fds[1].events |= POLLOUT;
	if (poll(fds, 2, timeout_ms) < 0)
		return errno == EINTR ? 0 : -errno;
	/* Packets are taken off the socket whether or not their channel is read: libssh's own
	 * window bounds that, and a window that opens is such a packet. */
	if (fds[0].revents && ssh_event_dopoll(p->event, 0) == SSH_ERROR)
		return -EIO;
	/* Both directions are shut: nobody is there to write for. */
	return fds[1].revents & (POLLHUP | POLLERR) ? -EPIPE : 0;
}

/* The exit status comes after the last byte, or never. */
static void wait_for_status(struct pump *p)
{
	uint64_t deadline_ns = time_monotonic_ns() + PUMP_LAST_WORD_MS * TIME_NS_PER_MS;

	while (!p->has_status && !ssh_channel_is_closed(p->channel) &&
	       ssh_is_connected(p->session) && time_monotonic_ns() < deadline_ns) {
		struct err e = ERR_INIT;

		if (ssh_event_dopoll(p->event, 100) == SSH_ERROR || take_from_server(p, &e) < 0)
			return;
	}
}

static int judge(const struct pump *p, struct err *e)
{
	if (p->signal)
		return err_set(e, -EIO, "git on the server was ended %s", p->signal);
	if (!p->has_status)
		return err_set(e, -EIO, "the server ended the connection");
	if (p->status != 0)
		return err_set(e, -EIO, "git on the server ended with status %d", p->status);
	return 0;
}

static int pump_run(struct pump *p, unsigned silence_ms, struct err *e)
{
	uint64_t last_ns = time_monotonic_ns();

	for (;;) {
		int ret;

		p->has_moved = false;
		ret = take_from_server(p, e);
		if (ret == 0)
			ret = give_to_server(p, e);
		if (ret < 0)
			return ret;
		if (move_stream(p) < 0)
			return 0;
		if (p->is_down_ended && buf_len(&p->down) == 0) {
			wait_for_status(p);
			return judge(p, e);
		}
		if (p->has_moved) {
			last_ns = time_monotonic_ns();
			continue;
		}
		if (time_monotonic_ns() - last_ns >= silence_ms * TIME_NS_PER_MS)
			return err_set(e, -ETIMEDOUT, "nothing came for %u s", silence_ms / 1000);
		ret = wait_for_either(p, 1000);
		if (ret == -EPIPE)
			return 0;
		/* What was read before it broke is still to be passed on. */
		if (ret < 0 && !ssh_channel_is_eof(p->channel))
			return err_set(e, ret, "the connection broke: %s",
				       ssh_get_error(p->session));
	}
}

int gitssh_pump(struct ssh_session_struct *session, struct ssh_channel_struct *channel,
		int stream_fd, unsigned silence_ms, struct buf *said, struct err *e)
{
	struct pump p = {
		.session = session, .channel = channel, .stream_fd = stream_fd, .said = said};
	struct ssh_channel_callbacks_struct callbacks = {
		.userdata = &p,
		.channel_exit_status_function = on_exit_status,
		.channel_exit_signal_function = on_exit_signal,
	};
	int ret = 0;

	ssh_callbacks_init(&callbacks);
	buf_init(&p.up, PUMP_PIECE);
	buf_init(&p.down, PUMP_PIECE);
	ssh_set_blocking(session, 0);
	p.event = ssh_event_new();
	if (!p.event || ssh_event_add_session(p.event, session) != SSH_OK ||
	    ssh_set_channel_callbacks(channel, &callbacks) != SSH_OK)
		ret = err_set(e, -ENOMEM, "the ssh library");
	if (ret == 0)
		ret = pump_run(&p, silence_ms, e);
	(void)ssh_remove_channel_callbacks(channel, &callbacks);
	if (p.event) {
		(void)ssh_event_remove_session(p.event, session);
		ssh_event_free(p.event);
	}
	buf_free(&p.up);
	buf_free(&p.down);
	return ret;
}
