/*
 * The relay's child: one loop of poll(). Input goes through `up` to the stream, what the stream
 * brings lies in `down` until its reader takes it; both have a cap, so a side that does not read
 * holds up the other end and nothing else. It ends when the process's exit is known and the stream
 * is empty; when the engine goes away first, that is its end too.
 *
 * It has sealed itself before it reads anything, but for one thing: it dials the engine, for the
 * terminal's size and for an exec's status, and an engine can do anything on this host. So the seal
 * holds against a flaw that has to get that far, not against whoever speaks the engine's language
 * from here. What it parses are frames and answers that the engine wrote; the agent's bytes, in
 * them, it moves.
 */
#include "engine/engine_int.h"

#include "base/child.h"
#include "base/clean.h"
#include "base/io.h"
#include "priv/priv.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <termios.h>

#define RELAY_BUF_BYTES	     65536
#define RELAY_WRITE_BYTES    4096 /* what a pipe that is ready takes without blocking */
#define RELAY_DRAIN_MS	     2000 /* for the stream's end after the process's */
#define RELAY_RESIZE_MIN_MS  20
#define RELAY_RESIZE_MAX_MS  500
#define RELAY_RESIZE_FOR_MS  120000 /* of tries: the process may be held before its start */
#define RELAY_RESIZE_HOLD_MS 250    /* of input, for a size that is on its way */
#define RELAY_ASK_MIN_MS     10
#define RELAY_ASK_MAX_MS     500

enum { AT_STREAM_IN, AT_STREAM_OUT, AT_IN, AT_OUT, AT_WAIT, AT_SIGNAL, AT_RESIZE, AT_COUNT };

struct relay {
	struct engine_relay_job *job;
	struct buf up;
	struct buf *down;
	struct engine_demux demux;
	bool is_in_done, is_up_shut; /* no more input; the stream was told */
	bool is_stream_done;
	bool is_alive; /* the stream has brought something */
	bool has_exit; /* status is known, or that it never will be */
	int status;
	uint64_t drain_ns; /* after the exit: when a silent stream is given up */
	int blocked_fd;	   /* of an output that takes nothing now, or -1 */
	bool is_broken[3]; /* outputs that nobody reads any more */
	struct buf wait_body;
	/* the terminal's size */
	int signal_fd;
	struct engine_call resize;
	struct winsize size, size_told;
	uint64_t resize_at_ns, resize_until_ns; /* the next try; the last; UINT64_MAX: none */
	uint64_t hold_ns;			/* until when input waits for it */
	int resize_pause_ms;
	struct err why; /* of a loss */
};

static void lose(struct relay *r)
{
	if (r->has_exit)
		return;
	r->has_exit = true;
	r->status = ENGINE_RELAY_LOST;
	r->drain_ns = engine_deadline(RELAY_DRAIN_MS);
}

/* --- output --- */

static int output_of(const struct relay *r, enum engine_stream_id id)
{
	if (r->job->tty_fd >= 0)
		return r->job->tty_fd;
	return id == ENGINE_STDERR ? r->job->err_fd : r->job->out_fd;
}

/* Bytes taken; 0 when it is full; all of them when nobody is there to read. */
static size_t output_write(struct relay *r, enum engine_stream_id id, struct str data)
{
	struct pollfd p = {.fd = output_of(r, id), .events = POLLOUT};
	ssize_t put;

	if (p.fd < 0 || r->is_broken[id])
		return data.n;
	/* The descriptor may be blocking, and shared with others who want it so. */
	if (poll(&p, 1, 0) <= 0) {
		r->blocked_fd = p.fd;
		r->drain_ns = engine_deadline(RELAY_DRAIN_MS);
		return 0;
	}
	put = write(p.fd, data.p, data.n < RELAY_WRITE_BYTES ? data.n : RELAY_WRITE_BYTES);
	if (put >= 0)
		return (size_t)put;
	if (errno == EAGAIN || errno == EINTR) {
		r->blocked_fd = p.fd;
		return 0;
	}
	/* As a process would find out; but it is the container's that decides what then. */
	r->is_broken[id] = true;
	return data.n;
}

/* Writes what `down` holds until an output is full. */
static void flush_down(struct relay *r)
{
	r->blocked_fd = -1;
	while (buf_len(r->down) > 0 && r->blocked_fd < 0) {
		struct engine_demux next = r->demux;
		struct str in = buf_str(r->down), data = in;
		enum engine_stream_id id = ENGINE_STDOUT;
		size_t used = in.n, put;

		if (r->job->tty_fd < 0) {
			ssize_t n = engine_demux_next(&next, in, &id, &data);

			if (n < 0) {
				(void)err_set(&r->why, -EPROTO,
					      "the Docker engine: the container's stream is not "
					      "what it should be");
				buf_reset(r->down);
				r->is_stream_done = true;
				lose(r);
				return;
			}
			used = (size_t)n;
		}
		put = data.n ? output_write(r, id, data) : 0;
		/* data is the end of what was used. */
		next.left += (uint32_t)(data.n - put);
		r->demux = next;
		buf_consume(r->down, used - (data.n - put));
		if (data.n == 0)
			break;
	}
}

/* --- the stream --- */

static void stream_read(struct relay *r)
{
	ssize_t got = engine_receive(r->job->stream_fd, r->down);

	if (got == -EAGAIN)
		return;
	r->drain_ns = engine_deadline(RELAY_DRAIN_MS);
	if (got <= 0) {
		r->is_stream_done = true;
		return;
	}
	/* It lives: its terminal is there. */
	if (!r->is_alive && r->resize_at_ns != UINT64_MAX)
		r->resize_at_ns = 0;
	r->is_alive = true;
}

/* What is typed after a change of the size finds the new one: the two go different ways. */
static bool is_held(const struct relay *r)
{
	return r->resize.fd >= 0 && engine_left_ms(r->hold_ns) > 0;
}

static void stream_write(struct relay *r)
{
	if (is_held(r))
		return;
	while (buf_len(&r->up) > 0) {
		ssize_t put = send(r->job->stream_fd, buf_str(&r->up).p, buf_len(&r->up),
				   MSG_NOSIGNAL | MSG_DONTWAIT);

		if (put < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (put < 0) {
			/* What it still has to say may be read. */
			buf_reset(&r->up);
			r->is_in_done = r->is_up_shut = true;
			return;
		}
		buf_consume(&r->up, (size_t)put);
	}
	/* A terminal has no end of input but the ^D that passes as a byte. */
	if (r->is_in_done && !r->is_up_shut && r->job->tty_fd < 0) {
		(void)shutdown(r->job->stream_fd, SHUT_WR);
		r->is_up_shut = true;
	}
}

static void input_read(struct relay *r, int fd)
{
	size_t room = buf_room(&r->up);
	char *p = room ? buf_reserve(&r->up, room) : NULL;
	ssize_t got;

	if (!p)
		return;
	got = read(fd, p, room);
	if (got > 0)
		buf_commit(&r->up, (size_t)got);
	else if (got == 0 || (errno != EAGAIN && errno != EINTR))
		r->is_in_done = true;
}

/* --- the exit --- */

static void take_status(struct relay *r, const json_t *answer, const char *name)
{
	const json_t *status = json_object_get(answer, name);
	const json_t *why = json_object_get(json_object_get(answer, "Error"), "Message");

	if (json_is_string(why) && json_string_length(why) > 0)
		(void)engine_fail_said(&r->why, -EIO, "wait for the container",
				       str_slice(json_string_value(why), json_string_length(why)));
	else if (!json_is_integer(status))
		(void)engine_fail(&r->why, -EPROTO, "wait for the container",
				  "its answer names no status");
	if (r->why.code) {
		lose(r);
		return;
	}
	r->has_exit = true;
	r->status = (int)(json_integer_value(status) & 0xff);
	r->drain_ns = engine_deadline(RELAY_DRAIN_MS);
}

/* What has come of the answer to "wait", of which the head was read before the start. */
static void wait_take(struct relay *r, bool is_end)
{
	struct engine_relay_job *job = r->job;
	json_t *answer = NULL;
	struct str data;
	int ret;

	do {
		ret = engine_answer_next(job->wait, job->wait_in, &data);
		if (data.n > 0 && buf_append_str(&r->wait_body, data) < 0)
			ret = -EPROTO;
	} while (ret > 0);
	if (ret == 0 && is_end)
		ret = engine_answer_eof(job->wait);
	if (ret < 0) {
		(void)engine_fail_io(&r->why, ret, "wait for the container");
		lose(r);
		return;
	}
	if (!job->wait->is_done)
		return;
	if (engine_parse_json(buf_str(&r->wait_body), "wait for the container", &answer, &r->why) <
	    0)
		lose(r);
	else
		take_status(r, answer, "StatusCode");
	json_decref(answer);
}

static void wait_read(struct relay *r)
{
	ssize_t got = engine_receive(r->job->wait_fd, r->job->wait_in);

	if (got != -EAGAIN)
		wait_take(r, got <= 0);
}

/* An exec has no "wait": it is asked for, ever less often. Its streams may end long before it. */
static void ask_exec(struct relay *r)
{
	int pause_ms = RELAY_ASK_MIN_MS;
	char path[256];

	(void)snprintf(path, sizeof(path), "/exec/%s/json", r->job->exec);
	while (!r->has_exit) {
		json_t *answer = NULL;

		if (engine_do(r->job->engine, "GET", path, NULL, "wait for exec", &answer,
			      &r->why) < 0)
			lose(r);
		else if (!json_is_true(json_object_get(answer, "Running")))
			take_status(r, answer, "ExitCode");
		json_decref(answer);
		if (r->has_exit)
			break;
		(void)poll(NULL, 0, pause_ms);
		pause_ms = pause_ms * 2 < RELAY_ASK_MAX_MS ? pause_ms * 2 : RELAY_ASK_MAX_MS;
	}
}

/* --- the terminal's size --- */

static void resize_want(struct relay *r)
{
	if (ioctl(r->job->tty_fd, TIOCGWINSZ, &r->size) < 0 || r->size.ws_row == 0 ||
	    r->size.ws_col == 0)
		return;
	r->resize_at_ns = 0;
	r->resize_until_ns = engine_deadline(RELAY_RESIZE_FOR_MS);
	r->resize_pause_ms = RELAY_RESIZE_MIN_MS;
}

/* Before the process runs the engine refuses. */
static void resize_later(struct relay *r)
{
	uint64_t at_ns = engine_deadline(r->resize_pause_ms);

	r->resize_at_ns = at_ns < r->resize_until_ns ? at_ns : UINT64_MAX;
	r->resize_pause_ms = r->resize_pause_ms * 2 < RELAY_RESIZE_MAX_MS ? r->resize_pause_ms * 2
									  : RELAY_RESIZE_MAX_MS;
}

static void resize_begin(struct relay *r)
{
	char path[320];

	r->size_told = r->size;
	r->hold_ns = engine_deadline(RELAY_RESIZE_HOLD_MS);
	(void)snprintf(
		path, sizeof(path), "/%s/%s/resize?h=%u&w=%u", r->job->exec ? "exec" : "containers",
		r->job->exec ? r->job->exec : r->job->container, r->size.ws_row, r->size.ws_col);
	r->resize_at_ns = UINT64_MAX;
	if (engine_begin(&r->resize, r->job->engine, "POST", path, NULL, "resize", NULL) < 0)
		resize_later(r);
}

static void resize_end(struct relay *r)
{
	bool is_told = engine_end(&r->resize, NULL, NULL) == 0;

	if (!is_told)
		resize_later(r);
	else if (r->size.ws_row != r->size_told.ws_row || r->size.ws_col != r->size_told.ws_col)
		r->resize_at_ns = 0;
	else
		r->resize_at_ns = UINT64_MAX;
}

static void signal_read(struct relay *r)
{
	struct signalfd_siginfo info;

	while (read(r->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
		resize_want(r);
}

/* --- the loop --- */

static bool is_over(const struct relay *r)
{
	if (buf_len(r->down) > 0 && r->blocked_fd >= 0)
		return false; /* its reader takes its time */
	if (r->is_stream_done && (r->has_exit || r->job->exec))
		return true;
	return r->has_exit && engine_left_ms(r->drain_ns) == 0;
}

static int loop_timeout_ms(const struct relay *r)
{
	uint64_t at_ns = r->has_exit && r->blocked_fd < 0 ? r->drain_ns : UINT64_MAX;

	if (r->resize.fd < 0 && r->resize_at_ns < at_ns)
		at_ns = r->resize_at_ns;
	if (is_held(r) && r->hold_ns < at_ns)
		at_ns = r->hold_ns;
	return engine_left_ms(at_ns);
}

static void loop_prepare(const struct relay *r, struct pollfd *p)
{
	const struct engine_relay_job *job = r->job;
	int in_fd = job->tty_fd >= 0 ? job->tty_fd : job->in_fd;
	bool may_read = !r->is_stream_done && buf_len(r->down) < RELAY_BUF_BYTES;

	/* Only those of which something is wanted: poll() tells of a hang-up unasked. */
	p[AT_STREAM_IN] = (struct pollfd){.fd = may_read ? job->stream_fd : -1, .events = POLLIN};
	p[AT_STREAM_OUT] = (struct pollfd){
		.fd = buf_len(&r->up) && !is_held(r) ? job->stream_fd : -1, .events = POLLOUT};
	p[AT_IN] = (struct pollfd){.fd = r->is_in_done || !buf_room(&r->up) ? -1 : in_fd,
				   .events = POLLIN};
	p[AT_OUT] = (struct pollfd){.fd = r->blocked_fd, .events = POLLOUT};
	p[AT_WAIT] = (struct pollfd){.fd = r->has_exit ? -1 : job->wait_fd, .events = POLLIN};
	p[AT_SIGNAL] = (struct pollfd){.fd = r->signal_fd, .events = POLLIN};
	p[AT_RESIZE] = (struct pollfd){.fd = r->resize.fd, .events = POLLIN};
}

static void loop(struct relay *r)
{
	while (!is_over(r)) {
		struct pollfd p[AT_COUNT];

		loop_prepare(r, p);
		if (poll(p, AT_COUNT, loop_timeout_ms(r)) < 0) {
			if (errno == EINTR)
				continue;
			(void)err_errno(&r->why, "poll");
			lose(r);
			return;
		}
		if (p[AT_STREAM_IN].revents)
			stream_read(r);
		if (p[AT_IN].revents)
			input_read(r, p[AT_IN].fd);
		if (p[AT_WAIT].revents)
			wait_read(r);
		if (p[AT_SIGNAL].revents)
			signal_read(r);
		if (p[AT_RESIZE].revents)
			resize_end(r);
		if (r->resize.fd < 0 && r->resize_at_ns != UINT64_MAX &&
		    engine_left_ms(r->resize_at_ns) == 0)
			resize_begin(r);
		stream_write(r);
		flush_down(r);
	}
}

static void open_signals(struct relay *r)
{
	sigset_t mask;

	(void)sigemptyset(&mask);
	(void)sigaddset(&mask, SIGWINCH);
	(void)sigprocmask(SIG_BLOCK, &mask, NULL);
	r->signal_fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
	resize_want(r);
}

/* The capability: root may use an engine whose socket is an ordinary user's. */
static int seal(struct err *e)
{
	static const struct priv_seal s = {.sets = PRIV_SECCOMP_TERMINAL | PRIV_SECCOMP_DIAL_LOCAL,
					   .caps = UINT64_C(1) << CAP_DAC_OVERRIDE};

	return priv_seal(&s, e);
}

static void move(struct relay *r)
{
	/* What came with the heads makes no descriptor ready. */
	if (r->job->wait_fd >= 0)
		wait_take(r, false);
	stream_write(r);
	flush_down(r);
	loop(r);
	if (r->job->exec && !r->has_exit)
		ask_exec(r);
}

_Noreturn void engine_relay_run(struct engine_relay_job *job)
{
	struct relay r = {.job = job,
			  .down = job->early,
			  .is_in_done = job->tty_fd < 0 && job->in_fd < 0,
			  .blocked_fd = -1,
			  .signal_fd = -1,
			  .resize = {.fd = -1},
			  .resize_at_ns = UINT64_MAX};
	char line[ERR_TEXT_MAX + 2];

	buf_init(&r.up, RELAY_BUF_BYTES);
	buf_init(&r.wait_body, ENGINE_ERROR_BODY_MAX);
	job->out_fd = child_unblocked(job->out_fd);
	job->err_fd = child_unblocked(job->err_fd);
	if (job->tty_fd >= 0)
		open_signals(&r);
	if (seal(&r.why) == 0)
		move(&r);
	else
		lose(&r);
	if (r.status == ENGINE_RELAY_LOST && r.why.code && job->fail_fd >= 0) {
		(void)snprintf(line, sizeof(line), "%s\n", r.why.text);
		if (io_write_all(job->fail_fd, line, strlen(line)) < 0)
			_exit(ENGINE_RELAY_LOST); /* with nobody to tell */
	}
	_exit(r.status);
}
