/*
 * Theory of operation. The engine takes most of the time of a start, so as much as possible is
 * under way in it at once: prepare asks for the networks, both containers and their starts, each as
 * soon as what it needs is there, and returns. Then the keeper serves the two sockets on which the
 * containers' first processes come, whichever is first: init for its descriptors, guest init to be
 * held (arrive.c).
 */
#include "backend/docker/docker_int.h"
#include "backend/docker/spec.h"

#include "backend/agent_env.h"
#include "base/clean.h"
#include "base/mem.h"
#include "guest/guest_host.h"

#define START_GREET_MS 15000 /* for a first process that has come */

int docker_begin(struct bottle *b, struct err *e)
{
	struct engine_call agent = {.fd = -1};
	int ret = docker_end_network(&b->owner, &b->wall, e);

	/* Not before: its addresses may have been picked anew. */
	if (ret == 0)
		b->env = agent_env_make(b->plan, b->wall.bundle);
	if (ret == 0)
		ret = docker_write_files(b, e);
	if (ret == 0)
		ret = docker_begin_container(&b->owner, &agent, docker_spec_agent(b), "",
					     "make the agent's container", e);
	if (ret == 0)
		ret = bundle_box_begin(&b->box, e);
	if (ret == 0)
		ret = docker_end_container(&agent, b->agent_id, e);
	if (ret == 0)
		ret = docker_begin_start(&b->owner, &b->agent_start, b->agent_id,
					 "start the agent's container", e);
	if (ret == 0)
		ret = bundle_box_run(&b->box, e);
	/* After a failure: what is made all the same must be known, so that it can be removed. */
	if (agent.fd >= 0)
		(void)!docker_end_container(&agent, b->agent_id, NULL);
	return ret;
}

int docker_start_bundle(struct bottle *b, const struct backend_fd *fds, size_t n, struct err *e)
{
	return bundle_box_start(&b->box, fds, n, e);
}

/* And its network closed, while the bundle is still on its way. */
static int hold_guest(void *ctx, struct err *e)
{
	struct bottle *b = ctx;
	_cleanup_free_ char *dir = mem_printf("%s/agent", b->owner.dir);
	int ret = guest_accept(dir, &b->guest_listen_fd, START_GREET_MS, -1, &b->guest_fd, e);

	return ret == 0 ? docker_close_network(b, e) : ret;
}

int docker_await(struct bottle *b, struct err *e)
{
	struct docker_arrival both[] = {{.who = "the agent's container",
					 .listen_fd = &b->guest_listen_fd,
					 .start = &b->agent_start,
					 .take = hold_guest,
					 .ctx = b},
					bundle_box_arrival(&b->box)};
	int ret = docker_await_all(both, ARRAY_LEN(both), e);

	/* Attaching needs a container that the engine holds for started. */
	if (ret == 0 && b->agent_start.fd >= 0)
		ret = engine_end(&b->agent_start, NULL, e);
	return ret;
}
