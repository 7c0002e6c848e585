/*
 * One session: a process beside the agent (or the agent), and the port that its input and output go
 * over. Each has buffers of its own and never waits: while a port is full the process's output is
 * not read, while the process does not read its input the port is not. So a session that nobody
 * looks at holds up nobody but itself.
 *
 * Once the process has ended, all that it wrote is in the pipe. Somebody that it has left behind
 * may keep the pipe open: as a container engine does, the session waits for that a little and then
 * ends.
 */
#include "guest/machine_int.h"

#include "base/clean.h"
#include "base/signals.h"
#include "base/text.h"
#include "base/timeutil.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

#define RELAY_OUT_CHUNK 16384
#define RELAY_LEAST_ROOM                                                                           \
	(MACHINE_HEAD + RELAY_OUT_CHUNK + MACHINE_HEAD + 4) /* and then the end                    \
							     */
#define RELAY_OUT_MAX (2 * RELAY_LEAST_ROOM)
/* What one turn of the port may bring: a frame whose beginning came earlier, and the rest. */
#define RELAY_IN_ROOM  (MACHINE_SESSION_MAX + MACHINE_PORT_READ)
#define RELAY_IN_MAX   (2 * RELAY_IN_ROOM)
#define RELAY_LATE_MS  1000
#define RELAY_LATE_MAX (1u << 20)

_Static_assert(RELAY_OUT_CHUNK <= MACHINE_SESSION_MAX, "what is read fits a frame");

int machine_relay_init(struct machine_relay *r, int port_fd, const struct machine_place *place,
		       struct err *e)
{
	*r = (struct machine_relay){
		.place = place, .io = MACHINE_STDIO_INIT, .to_child = BUF_INIT(RELAY_IN_MAX)};
	return machine_port_init(&r->port, port_fd, MACHINE_SESSION_MAX, RELAY_OUT_MAX, e);
}

void machine_relay_free(struct machine_relay *r)
{
	machine_port_free(&r->port);
	buf_free(&r->to_child);
	machine_stdio_close(&r->io);
}

bool machine_relay_is_idle(const struct machine_relay *r)
{
	return r->pid == 0 && buf_len(&r->port.out) == 0;
}

/* --- begin and end --- */

void machine_relay_adopt(struct machine_relay *r, pid_t pid, struct machine_stdio *io)
{
	r->io = *io;
	*io = MACHINE_STDIO_INIT;
	r->pid = pid;
	r->has_ended = r->is_in_over = false;
	r->late_bytes = 0;
	buf_reset(&r->to_child);
}

static void relay_close_in(struct machine_relay *r)
{
	buf_reset(&r->to_child);
	close_fd(&r->io.in);
}

/* Nobody hears it, or nobody may. Its process sees a hang-up or a closed pipe. */
static void relay_abandon(struct machine_relay *r, bool kills)
{
	if (r->pid == 0)
		return;
	if (kills && !r->has_ended)
		(void)kill(r->pid, SIGKILL);
	relay_close_in(r);
	close_fd(&r->io.out);
	close_fd(&r->io.err);
}

static void relay_finish(struct machine_relay *r)
{
	if (r->pid == 0 || !r->has_ended || r->io.out >= 0 || r->io.err >= 0 ||
	    machine_port_say_status(&r->port, r->status) < 0)
		return;
	relay_close_in(r);
	buf_trim(&r->to_child);
	r->pid = 0;
}

void machine_relay_reaped(struct machine_relay *r, pid_t pid, int how)
{
	if (r->pid != pid || r->has_ended)
		return;
	r->has_ended = true;
	r->status = signals_exit_status(how);
	r->until_ns = time_monotonic_ns() + RELAY_LATE_MS * TIME_NS_PER_MS;
	relay_finish(r);
}

/* --- what the host says --- */

static void relay_refuse(struct machine_relay *r, char letter, const struct err *e)
{
	char line[GUEST_TEXT_MAX], text[GUEST_TEXT_MAX - 32];

	text_visible_cstr(text, sizeof(text), str_of(e->text));
	(void)snprintf(line, sizeof(line), "claude-bottle: %s\n", text);
	if (machine_port_say(&r->port, letter, str_of(line)) < 0 ||
	    machine_port_say_status(&r->port, GUEST_NOT_RUN) < 0)
		r->is_deaf = true;
}

static void relay_start(struct machine_relay *r, struct str payload)
{
	static struct machine_start start; /* large */
	struct machine_stdio io = MACHINE_STDIO_INIT;
	struct err e = ERR_INIT;
	pid_t pid = 0;
	int ret = machine_start_parse(&start, payload, &e);

	if (ret == 0)
		ret = machine_place_exec(r->place, &start.session, &io, &pid, &e);
	if (ret < 0)
		relay_refuse(r, start.session.has_tty ? 'o' : 'e', &e);
	else
		machine_relay_adopt(r, pid, &io);
	machine_start_free(&start);
}

static void relay_input(struct machine_relay *r, struct str payload)
{
	if (payload.n == 0)
		r->is_in_over = true;
	/* The port is not read without the room. */
	else if (r->io.in >= 0 && !r->is_in_over && buf_append_str(&r->to_child, payload) < 0)
		relay_abandon(r, true);
}

static void relay_size(struct machine_relay *r, struct str payload)
{
	const unsigned char *p = (const unsigned char *)payload.p;

	if (payload.n != 4)
		relay_abandon(r, true);
	else if (r->io.out >= 0)
		machine_stdio_size(r->io.out, (unsigned)p[0] << 8 | p[1],
				   (unsigned)p[2] << 8 | p[3]);
}

static void relay_hear(void *ctx, char letter, struct str payload)
{
	struct machine_relay *r = ctx;

	if (r->pid == 0) {
		/* The rest was meant for a session that has ended meanwhile. */
		if (letter == 'S')
			relay_start(r, payload);
	} else if (letter == 'i') {
		relay_input(r, payload);
	} else if (letter == 'w') {
		relay_size(r, payload);
	} else {
		relay_abandon(r, true);
	}
}

/* --- with the process --- */

static void relay_write(struct machine_relay *r)
{
	struct str s = buf_str(&r->to_child);
	ssize_t put = 0;

	if (r->io.in < 0)
		return;
	if (s.n > 0)
		put = write(r->io.in, s.p, s.n);
	if (put < 0 && errno != EAGAIN && errno != EINTR) {
		relay_close_in(r);
		return;
	}
	if (put > 0)
		buf_consume(&r->to_child, (size_t)put);
	if (r->is_in_over && buf_len(&r->to_child) == 0)
		close_fd(&r->io.in);
}

/* Others' output, past the time that it is waited for: what is there, but no more than a little. */
static bool relay_is_late(const struct machine_relay *r)
{
	return r->has_ended && time_monotonic_ns() >= r->until_ns;
}

static void relay_read(struct machine_relay *r, int *fd, char letter)
{
	char bytes[RELAY_OUT_CHUNK];
	ssize_t got;

	if (*fd < 0 || buf_room(&r->port.out) < RELAY_LEAST_ROOM)
		return;
	got = read(*fd, bytes, sizeof(bytes));
	if (got < 0 && errno == EINTR)
		return;
	if (got < 0 && errno == EAGAIN) {
		if (relay_is_late(r))
			close_fd(fd);
		return;
	}
	if (got > 0 && relay_is_late(r))
		r->late_bytes += (size_t)got;
	/* A terminal that nobody has open any more says EIO. */
	if (got <= 0 || r->late_bytes > RELAY_LATE_MAX ||
	    machine_port_say(&r->port, letter, str_slice(bytes, (size_t)got)) < 0)
		close_fd(fd);
}

/* --- one turn --- */

static void relay_want(struct pollfd *poll, int fd, bool wants, short events)
{
	*poll = (struct pollfd){.fd = wants ? fd : -1, .events = events};
}

void machine_relay_poll(const struct machine_relay *r, struct pollfd *polls, uint64_t *due_ns)
{
	bool has_room = buf_room(&r->port.out) >= RELAY_LEAST_ROOM;

	machine_port_poll(&r->port, !r->is_deaf && buf_room(&r->to_child) >= RELAY_IN_ROOM,
			  &polls[RELAY_PORT], due_ns);
	relay_want(&polls[RELAY_IN], r->io.in, buf_len(&r->to_child) > 0, POLLOUT);
	relay_want(&polls[RELAY_OUT], r->io.out, has_room, POLLIN);
	relay_want(&polls[RELAY_ERR], r->io.err, has_room, POLLIN);
	/* Without room, the port wakes it. */
	if (r->has_ended && r->pid > 0 && has_room && r->until_ns < *due_ns)
		*due_ns = r->until_ns;
}

void machine_relay_turn(struct machine_relay *r, const struct pollfd *polls)
{
	int ret = machine_port_turn(&r->port, polls[RELAY_PORT].revents, relay_hear, r);

	if (ret == -EPROTO)
		r->is_deaf = true;
	if (ret < 0)
		relay_abandon(r, ret == -EPROTO);
	relay_write(r);
	if (polls[RELAY_OUT].revents || relay_is_late(r))
		relay_read(r, &r->io.out, 'o');
	if (polls[RELAY_ERR].revents || relay_is_late(r))
		relay_read(r, &r->io.err, 'e');
	relay_finish(r);
	/* What has just been put there goes at once, if it can. */
	if (buf_len(&r->port.out) > 0 && r->port.asleep_ns <= time_monotonic_ns())
		(void)machine_port_turn(&r->port, 0, relay_hear, r);
}
