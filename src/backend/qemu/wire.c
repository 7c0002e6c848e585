/*
 * Theory of operation. The wire is a child of the keeper that stands between it and a machine: on
 * one side a conversation of datagrams as guest init (guest.h) would hold it, so that the keeper
 * speaks with a machine as with a container; on the other a byte stream from somebody hostile. It
 * brings the machine to the point where guest init is about to start (boot or restore, order,
 * "ready"), then translates. What comes from the machine is taken for exactly the frames that
 * machine.h allows in the phase that it is in; anything else is the machine's end.
 *
 * The monitor is closed before the order is sent, so that no agent ever speaks on it. Console and
 * QEMU's standard error are read all the time, one line of each is kept, and shown only when
 * the machine ends on its own.
 *
 * When the keeper closes its end, the machine is asked for a clean end ('q'), and the wire waits
 * for QEMU's. When the keeper is killed, the wire is killed with it, and the cell ends by itself.
 *
 * It has sealed itself (priv_seal()) before it hears anything, of QEMU's monitor too: what is left
 * are its descriptors. So it ends a machine by its own end alone, however that comes: what stands
 * for QEMU sees it and ends QEMU, and the relays see it (session.c).
 */
#include "backend/qemu/qemu_int.h"

#include "base/child.h"
#include "base/clean.h"
#include "base/io.h"
#include "base/text.h"
#include "base/timeutil.h"
#include "priv/priv.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define WIRE_RESTORE_MS	  20000
#define WIRE_LAST_MS	  300 /* for the last words of what has ended */
#define WIRE_READ_BYTES	  16384
#define WIRE_OUT_BYTES	  (2 * (MACHINE_CONTROL_MAX + MACHINE_HEAD))
#define WIRE_MESSAGES_MAX 16	       /* of one machine to the keeper, who expects four */
#define WIRE_SHUT	  (-ESHUTDOWN) /* the end that was asked for */

enum wire_phase {
	WIRE_BOOTS,   /* 'H' is awaited */
	WIRE_ORDERED, /* 'M' */
	WIRE_RUNS,
	WIRE_ENDS, /* 'x' came, or 'q' was sent: nothing but its end is awaited of it */
};

enum { AT_CONTROL, AT_KEEPER, AT_CONSOLE, AT_SAID, AT_COUNT };

struct wire {
	const struct qemu_wire *w;
	int conn_fd, fail_fd, console_fd, said_fd;
	enum wire_phase phase;
	bool is_mute;	   /* the machine has said nothing yet */
	uint64_t until_ns; /* of the phase; UINT64_MAX: none */
	unsigned n_messages;
	struct frames frames;
	struct buf out; /* to the machine */
	struct qemu_words words;
};

static uint64_t deadline(int ms)
{
	return time_monotonic_ns() + (uint64_t)ms * TIME_NS_PER_MS;
}

static int machine_gone(const struct wire *w, struct err *e)
{
	return w->phase == WIRE_ENDS ? WIRE_SHUT : err_set(e, -EPIPE, "the virtual machine ended");
}

/* --- to the machine --- */

static int put_frame(struct wire *w, char letter, struct str payload, struct err *e)
{
	unsigned char head[MACHINE_HEAD];

	frames_head(head, letter, payload.n);
	if (payload.n > MACHINE_CONTROL_MAX || buf_append(&w->out, head, sizeof(head)) < 0 ||
	    buf_append_str(&w->out, payload) < 0)
		return err_set(e, -ENOBUFS, "the machine does not keep up");
	return 0;
}

static int flush(struct wire *w, struct err *e)
{
	while (buf_len(&w->out) > 0) {
		ssize_t put = send(w->w->machine->control_fd, buf_str(&w->out).p, buf_len(&w->out),
				   MSG_NOSIGNAL | MSG_DONTWAIT);

		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0 && errno == EAGAIN)
			return 0;
		if (put < 0)
			return machine_gone(w, e);
		buf_consume(&w->out, (size_t)put);
	}
	return 0;
}

static int send_order(struct wire *w, struct err *e)
{
	_cleanup_free_ char *text = NULL;
	int ret = qemu_order_finish(w->w->order, &text, e);

	if (ret == 0)
		ret = put_frame(w, 'm', str_of(text), e);
	w->phase = WIRE_ORDERED;
	w->until_ns = deadline(MACHINE_READY_MS);
	return ret;
}

/* --- from the machine --- */

static int no_sense(struct err *e)
{
	return err_set(e, -EPROTO, "the virtual machine says what makes no sense");
}

/* The keeper reads what it has asked for, and there is room for that. */
static int tell_keeper(struct wire *w, char letter, struct str text, struct err *e)
{
	char message[1 + GUEST_TEXT_MAX];

	if (text.n > GUEST_TEXT_MAX || w->n_messages++ >= WIRE_MESSAGES_MAX)
		return no_sense(e);
	message[0] = letter;
	if (text.n > 0)
		memcpy(message + 1, text.p, text.n);
	if (send(w->conn_fd, message, 1 + text.n, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 &&
	    errno == EAGAIN)
		return no_sense(e);
	return 0; /* that it has gone is seen when it is read */
}

static int refused(struct str text, struct err *e)
{
	char shown[GUEST_TEXT_MAX];

	text_visible_cstr(shown, sizeof(shown), text);
	return err_set(e, -ENOTUNIQ, "the virtual machine cannot be set up: %s", shown);
}

static int take_frame(struct wire *w, char letter, struct str payload, struct err *e)
{
	bool is_empty = payload.n == 0;

	if (w->phase == WIRE_BOOTS && letter == 'H' && is_empty)
		return send_order(w, e);
	if (w->phase == WIRE_ORDERED && letter == 'M' && is_empty) {
		w->phase = WIRE_RUNS;
		w->until_ns = UINT64_MAX;
		return 0;
	}
	if (w->phase == WIRE_ORDERED && letter == 'n' && payload.n <= GUEST_TEXT_MAX)
		return refused(payload, e);
	if (w->phase == WIRE_ENDS)
		return 0; /* of before it knew */
	if (w->phase != WIRE_RUNS)
		return no_sense(e);
	if (letter == 'n' || ((letter == 'h' || letter == 'k' || letter == 's') && is_empty))
		return tell_keeper(w, letter, payload, e);
	if (letter != 'x' || payload.n != 4)
		return no_sense(e);
	w->phase = WIRE_ENDS;
	return 0;
}

static int read_machine(struct wire *w, struct err *e)
{
	char chunk[WIRE_READ_BYTES];
	ssize_t got = recv(w->w->machine->control_fd, chunk, sizeof(chunk), MSG_DONTWAIT);
	struct str data = str_slice(chunk, got > 0 ? (size_t)got : 0);

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (got <= 0)
		return machine_gone(w, e);
	w->is_mute = false;
	while (data.n > 0) {
		struct str payload;
		size_t used;
		char letter;
		int ret = frames_feed(&w->frames, data, &used, &letter, &payload, e);

		if (ret > 0)
			ret = take_frame(w, letter, payload, e);
		if (ret < 0)
			return ret;
		data = str_sub(data, used, data.n);
	}
	return 0;
}

/* --- the keeper --- */

static int keeper_gone(struct wire *w, struct err *e)
{
	close_fd(&w->conn_fd);
	/* Nobody who would listen is there yet. */
	if (w->phase < WIRE_RUNS)
		return WIRE_SHUT;
	w->phase = WIRE_ENDS;
	return put_frame(w, 'q', STR_NULL, e);
}

static int keeper_order(struct wire *w, char letter, int file_fd, struct err *e)
{
	_cleanup_close_ int file = file_fd;
	struct str text;
	int ret = io_read_all(file, MACHINE_CONTROL_MAX, &text, e);

	if (ret < 0)
		return ret;
	ret = put_frame(w, letter, text, e);
	free((void *)(uintptr_t)text.p);
	return ret;
}

static int read_keeper(struct wire *w, struct err *e)
{
	char message[GUEST_PASS_BYTES + 1];
	int file = -1;
	size_t n_files = 1;
	ssize_t got =
		io_recv_fds(w->conn_fd, message, sizeof(message), &file, &n_files, MSG_DONTWAIT);

	if (got == -EAGAIN || got == -EINTR)
		return 0;
	if (got <= 0)
		return keeper_gone(w, e);
	if (w->phase == WIRE_RUNS && n_files == 1 && got == 1)
		return keeper_order(w, message[0], file, e);
	close_fd(&file);
	if (w->phase == WIRE_RUNS && message[0] == 'p' && got == GUEST_PASS_BYTES)
		return put_frame(w, 'p', str_slice(message + 1, GUEST_PASS_BYTES - 1), e);
	return 0;
}

/* --- the loop --- */

static void prepare_polls(struct wire *w, struct pollfd polls[AT_COUNT])
{
	bool has_room = buf_room(&w->out) > MACHINE_CONTROL_MAX + MACHINE_HEAD;

	polls[AT_CONTROL] =
		(struct pollfd){.fd = w->w->machine->control_fd,
				.events = (short)(POLLIN | (buf_len(&w->out) ? POLLOUT : 0))};
	polls[AT_KEEPER] = (struct pollfd){.fd = has_room ? w->conn_fd : -1, .events = POLLIN};
	polls[AT_CONSOLE] = (struct pollfd){.fd = w->console_fd, .events = POLLIN};
	polls[AT_SAID] = (struct pollfd){.fd = w->said_fd, .events = POLLIN};
}

static void read_words(struct wire *w, const struct pollfd polls[AT_COUNT])
{
	if (polls[AT_CONSOLE].revents && !qemu_words_read(&w->words.console, w->console_fd))
		w->console_fd = -1;
	if (polls[AT_SAID].revents && !qemu_words_read(&w->words.said, w->said_fd))
		w->said_fd = -1;
}

static int turn(struct wire *w, struct err *e)
{
	uint64_t now = time_monotonic_ns();
	struct pollfd polls[AT_COUNT];
	int timeout = -1, ret = 0;

	if (w->until_ns != UINT64_MAX && now >= w->until_ns)
		return err_set(e, -ETIMEDOUT, "the virtual machine %s",
			       w->phase == WIRE_BOOTS ? "does not boot" : "does not set itself up");
	if (w->until_ns != UINT64_MAX)
		timeout = (int)((w->until_ns - now) / TIME_NS_PER_MS) + 1;
	prepare_polls(w, polls);
	if (poll(polls, AT_COUNT, timeout) < 0)
		return errno == EINTR ? 0 : err_errno(e, "poll");
	read_words(w, polls);
	if (polls[AT_CONTROL].revents & ~POLLOUT)
		ret = read_machine(w, e);
	if (ret == 0 && polls[AT_KEEPER].revents)
		ret = read_keeper(w, e);
	return ret == 0 ? flush(w, e) : ret;
}

static int restore(struct wire *w, struct err *e)
{
	struct qmp q = {.fd = -1};
	uint64_t until = deadline(WIRE_RESTORE_MS);
	int ret = qmp_open(&q, w->w->machine->monitor_fd, until, e);

	if (ret == 0)
		ret = qmp_restore(&q, w->w->state_fd, until, e);
	qmp_free(&q);
	(void)close(w->w->state_fd);
	return ret;
}

static int serve(struct wire *w, struct err *e)
{
	int ret = frames_init(&w->frames, MACHINE_CONTROL_MAX, e);

	w->until_ns = deadline(w->w->boot_ms);
	if (ret == 0 && w->w->state_fd >= 0) {
		ret = restore(w, e);
		if (ret == 0)
			ret = send_order(w, e);
	}
	(void)close(w->w->machine->monitor_fd);
	while (ret == 0)
		ret = turn(w, e);
	return ret;
}

/* --- the end --- */

/* What QEMU and the kernel still have to say about it. */
static void hear_last_words(struct wire *w)
{
	uint64_t until = deadline(WIRE_LAST_MS), now;

	while ((now = time_monotonic_ns()) < until && (w->console_fd >= 0 || w->said_fd >= 0)) {
		struct pollfd polls[AT_COUNT];

		prepare_polls(w, polls);
		polls[AT_CONTROL].fd = polls[AT_KEEPER].fd = -1;
		if (poll(polls, AT_COUNT, (int)((until - now) / TIME_NS_PER_MS) + 1) > 0)
			read_words(w, polls);
	}
}

/* Whoever waits for the conversation, and whoever looks for the reason later, hears the same. */
static void fail(struct wire *w, const struct err *why)
{
	char last[320], line[GUEST_TEXT_MAX];
	int n;

	hear_last_words(w);
	qemu_words_best(&w->words, last, sizeof(last));
	n = snprintf(line, sizeof(line), "n%.300s%s%s\n", why->text, last[0] ? ": " : "", last);
	if (n < 0 || (size_t)n >= sizeof(line))
		n = sizeof(line) - 1;
	(void)!io_write_all(w->fail_fd, line + 1, (size_t)n - 1);
	if (w->conn_fd >= 0)
		(void)send(w->conn_fd, line, (size_t)n - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static _Noreturn void run(const struct qemu_wire *job, int conn_fd, int fail_fd)
{
	struct wire w = {.w = job,
			 .conn_fd = conn_fd,
			 .fail_fd = fail_fd,
			 .console_fd = job->machine->console_fd,
			 .said_fd = job->machine->said_fd,
			 .phase = WIRE_BOOTS};
	/* The snapshot is passed to QEMU, the keeper's orders to this. */
	const struct priv_seal seal = {.sets = PRIV_SECCOMP_PASS_FD};
	struct err e = ERR_INIT;
	int ret = priv_seal(&seal, &e);

	buf_init(&w.out, WIRE_OUT_BYTES);
	qemu_words_init(&w.words);
	w.is_mute = ret == 0;
	if (ret == 0)
		ret = serve(&w, &e);
	if (ret != WIRE_SHUT)
		fail(&w, &e);
	_exit(ret == WIRE_SHUT ? 0 : w.is_mute ? QEMU_WIRE_MUTE : 1);
}

int qemu_wire_start(const struct qemu_wire *w, int fail_fd, int *conn_fd, pid_t *pid, struct err *e)
{
	_cleanup_close_ int ours = -1, theirs = -1;
	const struct qemu_machine *m = w->machine;
	int pair[2], ret;

	*conn_fd = -1;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_errno(e, "socketpair");
	ours = pair[0];
	theirs = pair[1];
	{
		const int keep[] = {m->control_fd, m->monitor_fd, m->console_fd, m->said_fd,
				    w->state_fd,   theirs,	  fail_fd};

		ret = child_fork("cb-wire", 1, keep, ARRAY_LEN(keep), pid, e);
	}
	if (ret < 0)
		return ret;
	if (*pid == 0)
		run(w, theirs, fail_fd);
	*conn_fd = take_fd(&ours);
	return 0;
}
