#include "keyd/keyd_proto.h"

#include "base/io.h"
#include "base/timeutil.h"

#include <errno.h>
#include <poll.h>
#include <sys/random.h>
#include <sys/socket.h>

static uint32_t own_life;

void keyd_set_life(uint32_t life)
{
	own_life = life;
}

int keyd_ask(int fd, struct keyd_request *q, struct keyd_reply *r, int timeout_ms, struct err *e)
{
	uint64_t deadline_ns = time_monotonic_ns() + (uint64_t)timeout_ms * TIME_NS_PER_MS;
	ssize_t n;

	memset(r, 0, offsetof(struct keyd_reply, data));
	q->life = own_life;
	/* Unpredictable, so that an answer to a request of an earlier process is never taken for
	 * this one's. */
	if (getrandom(&q->id, sizeof(q->id), 0) != (ssize_t)sizeof(q->id))
		return err_errno(e, "getrandom");
	n = io_send_fds(fd, q, sizeof(*q), NULL, 0, MSG_DONTWAIT);
	if (n != (ssize_t)sizeof(*q))
		return err_set(e, n < 0 ? (int)n : -EIO, "ask keyd: %s",
			       n < 0 ? strerror((int)-n) : "short send");
	for (;;) {
		uint64_t now_ns = time_monotonic_ns();
		int ready = now_ns >= deadline_ns
				    ? 0
				    : io_wait(fd, POLLIN,
					      (int)((deadline_ns - now_ns) / TIME_NS_PER_MS) + 1);

		if (ready <= 0)
			return err_set(e, ready < 0 ? ready : -ETIMEDOUT, "keyd does not answer");
		n = io_recv_fds(fd, r, sizeof(*r), NULL, NULL, MSG_DONTWAIT);
		if (n == -EAGAIN)
			continue;
		if (n == 0)
			return err_set(e, -EPIPE, "keyd closed its channel");
		if (n < (ssize_t)offsetof(struct keyd_reply, data) || r->data_n > KEYD_DATA_MAX ||
		    (size_t)n < offsetof(struct keyd_reply, data) + r->data_n)
			return err_set(e, -EPROTO, "malformed answer of keyd");
		if (r->id == q->id)
			return 0;
	}
}
