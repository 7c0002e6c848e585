/*
 * The wall of a container. Its network is made by the engine, closed from inside by routes (see
 * src/guest/close.c), and then looked at from inside, by process 1 and as the agent's user, before
 * that process becomes the agent's parent. What it is told to try is what this host has to offer:
 * each of its addresses, with a listener behind them that is known to answer.
 */
#include "backend/docker/docker_int.h"
#include "backend/docker/spec.h"

#include "backend/canary_targets.h"
#include "base/clean.h"
#include "base/io.h"
#include "base/ports.h"
#include "base/text.h"
#include "guest/guest_host.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#define WALL_CLOSER_MS	  30000
#define WALL_SIBLINGS_MAX 8

/* --- closing --- */

static int closer_failed(struct str said, struct err *e)
{
	char shown[512];
	bool found;

	(void)str_cut(said, '\n', &said, &found);
	if (str_starts(said, STR_LIT("claude-bottle: ")))
		said = str_sub(said, strlen("claude-bottle: "), said.n);
	text_visible_cstr(shown, sizeof(shown), said);
	return err_set(e, -ENOTUNIQ, "the agent's network cannot be closed: %s",
		       shown[0] ? shown : "its closer says nothing");
}

/* Where the keeper may not enter the container's network itself, a container of the engine's does,
 * for the moment, with that one capability. */
static int close_by_container(struct bottle *b, struct err *e)
{
	char id[DOCKER_ID_SIZE], path[256], said[512];
	struct engine_relay r = {.engine = &b->owner.engine, .container = id, .fail_fd = -1};
	_cleanup_close_ int ours = -1, theirs = -1;
	int pair[2], master = -1, status = -1, ret;
	struct engine_call c;
	pid_t pid = -1;
	ssize_t n;

	ret = docker_begin_container(&b->owner, &c, docker_spec_closer(b), "-closer",
				     "make the closer", e);
	if (ret == 0)
		ret = docker_end_container(&c, id, e);
	if (ret < 0)
		return ret;
	if (pipe2(pair, O_CLOEXEC) < 0)
		return err_errno(e, "pipe");
	ours = pair[0];
	theirs = pair[1];
	r.in_fd = -1;
	r.out_fd = r.err_fd = r.fail_fd = theirs;
	ret = engine_relay_start(&r, &pid, &master, e);
	close_fd(&theirs);
	(void)snprintf(path, sizeof(path), "/containers/%s/start", id);
	if (ret == 0)
		ret = engine_do(&b->owner.engine, "POST", path, NULL, "start the closer", NULL, e);
	n = 0;
	if (ret == 0 && io_wait(ours, POLLIN, WALL_CLOSER_MS) == 1)
		n = read(ours, said, sizeof(said) - 1);
	else if (pid > 0)
		(void)kill(pid, SIGKILL);
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	(void)snprintf(path, sizeof(path), "/containers/%s?force=1&v=1", id);
	(void)!engine_do(&b->owner.engine, "DELETE", path, NULL, "remove the closer", NULL, NULL);
	if (ret < 0)
		return ret;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	return closer_failed(str_slice(said, n > 0 ? (size_t)n : 0), e);
}

int docker_close_network(struct bottle *b, struct err *e)
{
	int ret = guest_close_from_host(b->guest_fd, b->wall.bundle, e);

	if (ret != -ENOTSUP)
		return ret;
	*e = ERR_INIT;
	return close_by_container(b, e);
}

/* --- the proof --- */

/* Other bottles' bundles, from their labels. */
static int add_siblings(const struct bottle *b, struct canary_targets *t, struct err *e)
{
	static const char path[] = "/containers/json?filters="
				   "%7B%22label%22%3A%5B%22" DOCKER_LABEL_ROLE "%3Dbundle%22%5D%7D";
	json_t *list = NULL;
	int ret = engine_do(&b->owner.engine, "GET", path, NULL, "list bundles", &list, e);
	size_t n = 0;

	for (size_t i = 0; ret == 0 && i < json_array_size(list); i++) {
		const json_t *c = json_array_get(list, i);
		const char *id = json_string_value(json_object_get(c, "Id"));
		json_t *networks =
			json_object_get(json_object_get(c, "NetworkSettings"), "Networks");
		const char *name;
		json_t *network;

		if (!id || strcmp(id, b->box.id) == 0)
			continue;
		json_object_foreach(networks, name, network)
		{
			const char *address =
				json_string_value(json_object_get(network, "IPAddress"));

			if (address && address[0] && n++ < WALL_SIBLINGS_MAX)
				canary_targets_add(t, address, SERVICE_PORT_PIPELOCK,
						   "another bottle's bundle");
		}
	}
	json_decref(list);
	return ret;
}

int docker_canary(struct bottle *b, struct err *e)
{
	struct canary_targets *t = NULL;
	int ret = canary_targets_make(&t, e);

	if (ret == 0)
		ret = add_siblings(b, t, e);
	if (ret == 0) {
		canary_targets_add(t, b->wall.gateway, t->port, "the wall's gateway");
		canary_targets_add(t, b->box.outer.gateway, t->port, "the bundle's gateway");
		canary_targets_add(t, b->box.outer.bundle, SERVICE_PORT_PIPELOCK,
				   "the bundle's outer address");
		ret = canary_targets_prove(t, b->guest_fd, b->plan, b->wall.bundle, e);
	}
	canary_targets_free(t);
	return ret;
}
