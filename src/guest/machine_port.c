/*
 * A virtio-serial port. It is found hung up as long as nothing is connected to it on the host, and
 * poll() says so all the time, so it is then left alone for a while: that is ordinary before the
 * first order, when a template has been stopped and a copy of it runs for somebody else.
 */
#include "guest/machine_int.h"

#include "base/clean.h"
#include "base/timeutil.h"

#include <arpa/inet.h>
#include <errno.h>

#define PORT_ASLEEP_MS 100

int machine_port_init(struct machine_port *p, int fd, size_t max_payload, size_t max_out,
		      struct err *e)
{
	*p = (struct machine_port){.fd = fd, .out = BUF_INIT(max_out)};
	return frames_init(&p->frames, max_payload, e);
}

void machine_port_free(struct machine_port *p)
{
	close_fd(&p->fd);
	frames_free(&p->frames);
	buf_free(&p->out);
}

static void port_due(uint64_t *due_ns, uint64_t at_ns)
{
	if (at_ns < *due_ns)
		*due_ns = at_ns;
}

void machine_port_poll(const struct machine_port *p, bool reads, struct pollfd *poll,
		       uint64_t *due_ns)
{
	*poll = (struct pollfd){.fd = -1};
	if (p->asleep_ns > time_monotonic_ns()) {
		port_due(due_ns, p->asleep_ns);
		return;
	}
	poll->events = (short)((reads ? POLLIN : 0) | (buf_len(&p->out) > 0 ? POLLOUT : 0));
	if (poll->events)
		poll->fd = p->fd;
}

static int port_fall_asleep(struct machine_port *p)
{
	p->asleep_ns = time_monotonic_ns() + PORT_ASLEEP_MS * TIME_NS_PER_MS;
	return -EPIPE;
}

static int port_flush(struct machine_port *p)
{
	struct str s = buf_str(&p->out);
	ssize_t put;

	if (s.n == 0)
		return 0;
	put = write(p->fd, s.p, s.n);
	if (put < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : port_fall_asleep(p);
	buf_consume(&p->out, (size_t)put);
	return 0;
}

static int port_read(struct machine_port *p, machine_frame_fn fn, void *ctx)
{
	char bytes[MACHINE_PORT_READ];
	ssize_t got = read(p->fd, bytes, sizeof(bytes));
	struct str rest;

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (got <= 0)
		return port_fall_asleep(p);
	rest = str_slice(bytes, (size_t)got);
	while (rest.n > 0) {
		struct str payload;
		size_t used;
		char letter;
		int ret = frames_feed(&p->frames, rest, &used, &letter, &payload, NULL);

		if (ret < 0)
			return -EPROTO;
		if (ret > 0)
			fn(ctx, letter, payload);
		rest = str_sub(rest, used, rest.n);
	}
	return 0;
}

int machine_port_turn(struct machine_port *p, short revents, machine_frame_fn fn, void *ctx)
{
	int ret = 0;

	if (revents & (POLLIN | POLLHUP | POLLERR))
		ret = port_read(p, fn, ctx);
	/* Whatever the turn has brought about goes out at once. */
	return ret < 0 ? ret : port_flush(p);
}

int machine_port_say(struct machine_port *p, char letter, struct str payload)
{
	unsigned char head[MACHINE_HEAD];

	if (buf_room(&p->out) < MACHINE_HEAD + payload.n)
		return -ENOBUFS;
	frames_head(head, letter, payload.n);
	if (buf_append(&p->out, head, MACHINE_HEAD) < 0)
		return -ENOBUFS;
	return buf_append_str(&p->out, payload);
}

int machine_port_say_status(struct machine_port *p, int status)
{
	uint32_t value = htonl((uint32_t)status);

	return machine_port_say(p, 'x', str_slice(&value, sizeof(value)));
}
