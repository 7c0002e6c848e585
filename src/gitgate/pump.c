#include "gitgate/pump.h"

#include "base/timeutil.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

static void pump_end(struct pump_way *w)
{
	w->is_to_done = true;
	(void)shutdown(w->to, SHUT_WR); /* a pipe's error is no matter */
}

/* 1 if anything moved. */
static int pump_read(struct pump_way *w, struct err *e)
{
	ssize_t n = read(w->from, w->bytes, sizeof(w->bytes));
	int ret;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0) {
		w->is_from_done = true;
		if (!w->is_to_done)
			pump_end(w);
		return 1;
	}
	if (w->is_to_done)
		return 1;
	ret = w->look ? w->look(w->ctx, str_slice(w->bytes, (size_t)n), e) : 0;
	if (ret < 0)
		return ret;
	w->at = 0;
	w->n = (size_t)n;
	return 1;
}

static int pump_write(struct pump_way *w)
{
	ssize_t n = write(w->to, w->bytes + w->at, w->n);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n < 0) {
		w->is_to_done = true;
		w->n = 0;
		return 1;
	}
	w->at += (size_t)n;
	w->n -= (size_t)n;
	return 1;
}

static int pump_step(struct pump_way *w, const struct pollfd *from, const struct pollfd *to,
		     struct err *e)
{
	int moved = 0;

	/* With nothing to write only its being gone is told. */
	if (to->revents && w->n > 0)
		moved = pump_write(w);
	else if (to->revents & (POLLERR | POLLHUP))
		w->is_to_done = true;
	if (from->revents && w->n == 0 && !w->is_from_done) {
		int ret = pump_read(w, e);

		return ret < 0 ? ret : moved | ret;
	}
	return moved;
}

static struct pollfd pump_from(const struct pump_way *w)
{
	return (struct pollfd){w->n == 0 && !w->is_from_done ? w->from : -1, POLLIN, 0};
}

int pump_run(struct pump_way *there, struct pump_way *back, const struct wire_clock *clock,
	     unsigned linger_ms, struct err *e)
{
	uint64_t quiet_ns = time_monotonic_ns();

	while (!back->is_to_done || back->n > 0) {
		struct pollfd p[] = {
			pump_from(there),	{there->n > 0 ? there->to : -1, POLLOUT, 0},
			pump_from(back),	{back->to, (short)(back->n > 0 ? POLLOUT : 0), 0},
			{clock->life_fd, 0, 0},
		};
		bool lingers = there->is_from_done && there->n == 0 && linger_ms;
		unsigned quiet_ms = lingers ? linger_ms : clock->silence_ms;
		uint64_t now = time_monotonic_ns(), until = quiet_ns + quiet_ms * TIME_NS_PER_MS;
		int moved = 0, ret;

		if (until > clock->deadline_ns)
			until = clock->deadline_ns;
		if (now >= until)
			return lingers && until != clock->deadline_ns ? 0
			       : until == clock->deadline_ns
				       ? err_set(e, -ETIMEDOUT, "it took too long")
				       : err_set(e, -ETIMEDOUT, "silent for %u seconds",
						 quiet_ms / 1000);
		ret = poll(p, 5, (int)((until - now) / TIME_NS_PER_MS + 1));
		if (ret < 0 && errno != EINTR)
			return err_errno(e, "poll");
		if (ret <= 0)
			continue;
		if (p[4].revents)
			return err_set(e, -ECANCELED, "nobody waits for it any more");
		ret = pump_step(there, &p[0], &p[1], e);
		if (ret >= 0) {
			moved = ret;
			ret = pump_step(back, &p[2], &p[3], e);
		}
		if (ret < 0)
			return ret;
		if (moved | ret)
			quiet_ns = time_monotonic_ns();
	}
	return 0;
}
