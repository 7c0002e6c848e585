/* The wait for the first processes of containers that the engine was asked to start. */
#include "backend/docker/objects.h"

#include "base/clean.h"
#include "base/timeutil.h"

#include <errno.h>
#include <poll.h>

#define ARRIVE_START_MS 60000 /* of a container on a busy machine */
#define ARRIVE_GREET_MS 15000 /* from its start to its first process's connection */

static int arrival_step(struct docker_arrival *a, const struct pollfd polls[2], struct err *e)
{
	uint64_t now = time_monotonic_ns();

	if (*a->listen_fd >= 0 && polls[0].revents)
		return a->take(a->ctx, e);
	if (a->start->fd >= 0 && polls[1].revents) {
		int ret = engine_end(a->start, NULL, e);

		if (ret < 0)
			return ret;
		a->until_ns = now + ARRIVE_GREET_MS * TIME_NS_PER_MS;
	}
	if (*a->listen_fd >= 0 && now >= a->until_ns)
		return err_set(e, -ETIMEDOUT, "%s does not start", a->who);
	return 0;
}

static bool is_awaited(const struct docker_arrival *list, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (*list[i].listen_fd >= 0)
			return true;
	}
	return false;
}

int docker_await_all(struct docker_arrival *list, size_t n, struct err *e)
{
	int ret = 0;

	if (n > DOCKER_ARRIVALS_MAX)
		return err_set(e, -E2BIG, "more containers than are awaited at once");
	for (size_t i = 0; i < n; i++)
		list[i].until_ns = time_monotonic_ns() + ARRIVE_START_MS * TIME_NS_PER_MS;
	while (ret == 0 && is_awaited(list, n)) {
		struct pollfd polls[2 * DOCKER_ARRIVALS_MAX];

		for (size_t i = 0; i < n; i++) {
			polls[2 * i] = (struct pollfd){.fd = *list[i].listen_fd, .events = POLLIN};
			polls[2 * i + 1] =
				(struct pollfd){.fd = list[i].start->fd, .events = POLLIN};
		}
		if (poll(polls, 2 * n, 1000) < 0 && errno != EINTR)
			return err_errno(e, "poll");
		for (size_t i = 0; i < n && ret == 0; i++)
			ret = arrival_step(&list[i], polls + 2 * i, e);
	}
	return ret;
}
