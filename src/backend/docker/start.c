/*
 * Theory of operation. The engine takes most of the time of a start, so as much as possible is
 * under way in it at once: prepare asks for the networks, both containers and their starts, each as
 * soon as what it needs is there, and returns. Then the keeper serves the two sockets on which the
 * containers' first processes come, whichever is first: init for its descriptors, guest init to be
 * held. An answer of the engine that says that a start failed ends the wait for that process.
 */
#include "backend/docker/docker_int.h"

#include "backend/agent_env.h"
#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/timeutil.h"
#include "guest/guest_host.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define START_PATH_MAX 256
#define START_MS       60000 /* of a container on a busy machine */
#define START_GREET_MS 15000 /* from its start to its first process's connection */

static int begin_start(struct bottle *b, struct engine_call *c, const char *id, const char *what,
		       struct err *e)
{
	char path[START_PATH_MAX];
	int ret;

	(void)snprintf(path, sizeof(path), "/containers/%s/start", id);
	ret = engine_begin(c, &b->engine, "POST", path, NULL, what, e);
	if (ret == 0)
		c->timeout_ms = START_MS;
	return ret;
}

static int connect_and_start_bundle(struct bottle *b, struct err *e)
{
	int ret = docker_connect_outer(b, e);

	if (ret == 0)
		ret = begin_start(b, &b->bundle_start, b->bundle_id, "start the bundle", e);
	b->is_bundle_started = ret == 0;
	return ret;
}

int docker_begin(struct bottle *b, struct err *e)
{
	struct engine_call agent = {.fd = -1}, bundle = {.fd = -1};
	int ret = docker_end_network(b, &b->wall, e);

	/* Not before: its addresses may have been picked anew. */
	if (ret == 0)
		b->env = agent_env_make(b->plan, b->wall.bundle);
	if (ret == 0)
		ret = docker_write_files(b, e);
	if (ret == 0)
		ret = docker_begin_container(b, &agent, docker_spec_agent(b), "",
					     "make the agent's container", e);
	if (ret == 0)
		ret = docker_begin_container(b, &bundle, docker_spec_bundle(b), "-bundle",
					     "make the bundle's container", e);
	if (ret == 0)
		ret = docker_end_container(&agent, b->agent_id, e);
	if (ret == 0)
		ret = begin_start(b, &b->agent_start, b->agent_id, "start the agent's container",
				  e);
	if (ret == 0)
		ret = docker_end_container(&bundle, b->bundle_id, e);
	if (ret == 0)
		ret = docker_end_network(b, &b->outer, e);
	/* After a failure: what is made all the same must be known, so that it can be removed. */
	if (agent.fd >= 0)
		(void)!docker_end_container(&agent, b->agent_id, NULL);
	if (bundle.fd >= 0)
		(void)!docker_end_container(&bundle, b->bundle_id, NULL);
	return ret == 0 ? connect_and_start_bundle(b, e) : ret;
}

/* --- the bundle --- */

void docker_close_kept(struct bottle *b)
{
	while (b->n_kept > 0)
		close_fd(&b->kept[--b->n_kept].fd);
}

static int keep_fd(struct bottle *b, const char *name, int fd, struct err *e)
{
	struct docker_kept_fd *k = &b->kept[b->n_kept];

	if (fd < 0)
		return 0;
	if (b->n_kept == DOCKER_FDS_MAX || strlen(name) >= sizeof(k->name))
		return err_set(e, -E2BIG, "too many descriptors for the bundle");
	k->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (k->fd < 0)
		return err_errno(e, "dup");
	(void)snprintf(k->name, sizeof(k->name), "%s", name);
	b->n_kept++;
	return 0;
}

int docker_start_bundle(struct bottle *b, const struct backend_fd *fds, size_t n, struct err *e)
{
	int ret = 0;

	for (size_t i = 0; ret == 0 && i < n; i++)
		ret = keep_fd(b, fds[i].name, fds[i].fd, e);
	/* The keeper's standard error is the bottle's log. */
	if (ret == 0)
		ret = keep_fd(b, "log", STDERR_FILENO, e);
	return ret;
}

/* --- whoever comes --- */

/* The socket's name is gone before anything is said over it: nobody else is let in. */
static int give_descriptors(struct bottle *b, struct err *e)
{
	_cleanup_free_ char *path = mem_printf("%s/bundle/" GUEST_SOCKET_NAME, b->dir);
	_cleanup_close_ int conn = accept4(b->bundle_listen_fd, NULL, NULL, SOCK_CLOEXEC);
	int ret = conn < 0 ? err_errno(e, "accept the bundle's init") : 0;

	(void)unlink(path);
	close_fd(&b->bundle_listen_fd);
	for (size_t i = 0; ret == 0 && i < b->n_kept; i++) {
		if (io_send_fds(conn, b->kept[i].name, strlen(b->kept[i].name), &b->kept[i].fd, 1,
				MSG_NOSIGNAL) < 0)
			ret = err_set(e, -EPIPE, "the bundle's init went away");
	}
	if (ret == 0 && io_send_fds(conn, "end", 3, NULL, 0, MSG_NOSIGNAL) < 0)
		ret = err_set(e, -EPIPE, "the bundle's init went away");
	docker_close_kept(b);
	return ret;
}

/* And its network closed, while the bundle is still on its way. */
static int hold_guest(struct bottle *b, struct err *e)
{
	_cleanup_free_ char *dir = mem_printf("%s/agent", b->dir);
	int ret = guest_accept(dir, &b->guest_listen_fd, START_GREET_MS, -1, &b->guest_fd, e);

	return ret == 0 ? docker_close_network(b, e) : ret;
}

/* One of the two containers, until its first process has come. */
struct arrival {
	const char *who;
	int *listen_fd; /* -1 afterwards */
	struct engine_call *start;
	int (*take)(struct bottle *b, struct err *e);
	uint64_t until_ns;
};

static int arrival_step(struct bottle *b, struct arrival *a, const struct pollfd polls[2],
			struct err *e)
{
	uint64_t now = time_monotonic_ns();

	if (*a->listen_fd >= 0 && polls[0].revents)
		return a->take(b, e);
	if (a->start->fd >= 0 && polls[1].revents) {
		int ret = engine_end(a->start, NULL, e);

		if (ret < 0)
			return ret;
		a->until_ns = now + START_GREET_MS * TIME_NS_PER_MS;
	}
	if (*a->listen_fd >= 0 && now >= a->until_ns)
		return err_set(e, -ETIMEDOUT, "%s does not start", a->who);
	return 0;
}

int docker_await(struct bottle *b, struct err *e)
{
	uint64_t until = time_monotonic_ns() + START_MS * TIME_NS_PER_MS;
	struct arrival both[] = {
		{"the agent's container", &b->guest_listen_fd, &b->agent_start, hold_guest, until},
		{"the bundle's container", &b->bundle_listen_fd, &b->bundle_start, give_descriptors,
		 until}};
	int ret = 0;

	while (ret == 0 && (*both[0].listen_fd >= 0 || *both[1].listen_fd >= 0)) {
		struct pollfd polls[4];

		for (size_t i = 0; i < 2; i++) {
			polls[2 * i] = (struct pollfd){.fd = *both[i].listen_fd, .events = POLLIN};
			polls[2 * i + 1] =
				(struct pollfd){.fd = both[i].start->fd, .events = POLLIN};
		}
		if (poll(polls, 4, 1000) < 0 && errno != EINTR)
			return err_errno(e, "poll");
		for (size_t i = 0; i < 2 && ret == 0; i++)
			ret = arrival_step(b, &both[i], polls + 2 * i, e);
	}
	/* Attaching needs a container that the engine holds for started. */
	if (ret == 0 && b->agent_start.fd >= 0)
		ret = engine_end(&b->agent_start, NULL, e);
	return ret;
}
