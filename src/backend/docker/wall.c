/*
 * The wall of a container. Its network is made by the engine, closed from inside by routes (see
 * src/guest/close.c), and then looked at from inside, by process 1 and as the agent's user, before
 * that process becomes the agent's parent. What it is told to try is what this host has to offer:
 * each of its addresses, with a listener behind them that is known to answer.
 */
#include "backend/docker/docker_int.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/ports.h"
#include "base/text.h"
#include "guest/guest_host.h"
#include "net/sock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define WALL_CLOSER_MS	  30000
#define WALL_CANARY_MS	  12000
#define WALL_SIBLINGS_MAX 8
#define WALL_TARGET_SIZE  48

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
	struct engine_relay r = {.engine = &b->engine, .container = id, .fail_fd = -1};
	_cleanup_close_ int ours = -1, theirs = -1;
	int pair[2], master = -1, status = -1, ret;
	struct engine_call c;
	pid_t pid = -1;
	ssize_t n;

	ret = docker_begin_container(b, &c, docker_spec_closer(b), "-closer", "make the closer", e);
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
		ret = engine_do(&b->engine, "POST", path, NULL, "start the closer", NULL, e);
	n = 0;
	if (ret == 0 && io_wait(ours, POLLIN, WALL_CLOSER_MS) == 1)
		n = read(ours, said, sizeof(said) - 1);
	else if (pid > 0)
		(void)kill(pid, SIGKILL);
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	(void)snprintf(path, sizeof(path), "/containers/%s?force=1&v=1", id);
	(void)!engine_do(&b->engine, "DELETE", path, NULL, "remove the closer", NULL, NULL);
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

struct targets {
	struct guest_target list[GUEST_CLOSED_MAX];
	char text[GUEST_CLOSED_MAX][WALL_TARGET_SIZE];
	size_t n;
};

static void target_add(struct targets *t, const char *address, unsigned port, const char *what)
{
	if (t->n == GUEST_CLOSED_MAX)
		return;
	(void)snprintf(t->text[t->n], WALL_TARGET_SIZE, "%s", address);
	t->list[t->n] = (struct guest_target){.address = t->text[t->n], .port = port, .what = what};
	t->n++;
}

static int add_host(struct targets *t, unsigned port, struct err *e)
{
	struct ifaddrs *all = NULL;

	if (getifaddrs(&all) < 0)
		return err_errno(e, "read this host's addresses");
	for (struct ifaddrs *i = all; i; i = i->ifa_next) {
		char text[INET_ADDRSTRLEN];

		if (!i->ifa_addr || i->ifa_addr->sa_family != AF_INET || !(i->ifa_flags & IFF_UP) ||
		    t->n + WALL_SIBLINGS_MAX + 8 > GUEST_CLOSED_MAX ||
		    !inet_ntop(AF_INET, &((struct sockaddr_in *)(void *)i->ifa_addr)->sin_addr,
			       text, sizeof(text)))
			continue;
		target_add(t, text, port, "this host");
	}
	freeifaddrs(all);
	return 0;
}

/* Other bottles' bundles, from their labels. */
static int add_siblings(struct bottle *b, struct targets *t, struct err *e)
{
	static const char path[] = "/containers/json?filters="
				   "%7B%22label%22%3A%5B%22" DOCKER_LABEL_ROLE "%3Dbundle%22%5D%7D";
	json_t *list = NULL;
	int ret = engine_do(&b->engine, "GET", path, NULL, "list bundles", &list, e);
	size_t n = 0;

	for (size_t i = 0; ret == 0 && i < json_array_size(list); i++) {
		const json_t *c = json_array_get(list, i);
		const char *id = json_string_value(json_object_get(c, "Id"));
		json_t *networks =
			json_object_get(json_object_get(c, "NetworkSettings"), "Networks");
		const char *name;
		json_t *network;

		if (!id || strcmp(id, b->bundle_id) == 0)
			continue;
		json_object_foreach(networks, name, network)
		{
			const char *address =
				json_string_value(json_object_get(network, "IPAddress"));

			if (address && address[0] && n++ < WALL_SIBLINGS_MAX)
				target_add(t, address, SERVICE_PORT_PIPELOCK,
					   "another bottle's bundle");
		}
	}
	json_decref(list);
	return ret;
}

static int gather_targets(struct bottle *b, struct targets *t, unsigned port, struct err *e)
{
	int ret = add_host(t, port, e);

	if (ret == 0)
		ret = add_siblings(b, t, e);
	target_add(t, "127.0.0.1", port, "this host's loopback");
	target_add(t, b->wall.gateway, port, "the wall's gateway");
	target_add(t, b->outer.gateway, port, "the bundle's gateway");
	target_add(t, b->outer.bundle, SERVICE_PORT_PIPELOCK, "the bundle's outer address");
	target_add(t, "1.1.1.1", 443, "the outside");
	target_add(t, "1.1.1.1", 53, "the outside");
	target_add(t, "169.254.169.254", 80, "metadata");
	return ret;
}

int docker_canary(struct bottle *b, struct err *e)
{
	unsigned answers[3] = {SERVICE_PORT_PIPELOCK};
	size_t n_answers = 1;
	struct targets *t = mem_zalloc(sizeof(*t));
	_cleanup_close_ int listener = -1, visitor = -1;
	uint16_t port = 0;
	int ret;

	if (b->plan->git.n_remotes > 0)
		answers[n_answers++] = SERVICE_PORT_GITGATE;
	if (b->plan->is_supervised)
		answers[n_answers++] = SERVICE_PORT_SUPERVISE;
	/* On every address of this host: whoever gets through to it is known to have got through.
	 */
	listener = sock_listen(htonl(INADDR_ANY), &port, e);
	ret = listener < 0 ? listener : gather_targets(b, t, port, e);
	if (ret == 0) {
		const struct guest_canary c = {.pinned = b->wall.bundle,
					       .answers = answers,
					       .n_answers = n_answers,
					       .closed = t->list,
					       .n_closed = t->n};

		ret = guest_canary(b->guest_fd, &c, WALL_CANARY_MS, -1, e);
	}
	free(t);
	if (ret < 0)
		return err_prefix(e, "canary");
	visitor = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (visitor >= 0)
		return err_set(e, -ENOTUNIQ, "canary: a listener of the host was reached");
	return 0;
}
