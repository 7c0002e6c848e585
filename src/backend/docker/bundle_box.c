#include "backend/docker/bundle_box.h"

#include "backend/bundle_process.h"
#include "backend/docker/spec.h"
#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"
#include "guest/guest.h"
#include "guest/guest_host.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#define BOX_PATH_MAX	   256
#define BOX_END_MS	   4000 /* of a container that is to end */
#define BOX_KILL_MS	   3000
#define BOX_CONTAINER_STOP 137

void bundle_box_init(struct bundle_box *box, const struct docker_owner *o, const struct plan *p,
		     struct docker_net *wall)
{
	*box = (struct bundle_box){
		.owner = o,
		.plan = p,
		.outer = {.role = DOCKER_NET_OUTER, .beside = wall, .call.fd = -1},
		.make.fd = -1,
		.start.fd = -1,
		.listen_fd = -1};
	box->wall = wall;
	if (wall)
		wall->beside = &box->outer;
}

/* --- making --- */

int bundle_box_find_image(struct bundle_box *box, struct err *e)
{
	return image_find_bundle(&box->owner->engine, &box->image, e);
}

int bundle_box_place(struct bundle_box *box, struct err *e)
{
	_cleanup_free_ char *dir = mem_printf("%s/bundle", box->owner->dir);

	return guest_listen(dir, &box->listen_fd, e);
}

int bundle_box_begin(struct bundle_box *box, struct err *e)
{
	return docker_begin_container(box->owner, &box->make, docker_spec_bundle(box), "-bundle",
				      "make the bundle's container", e);
}

int bundle_box_run(struct bundle_box *box, struct err *e)
{
	int ret = docker_end_container(&box->make, box->id, e);

	if (ret == 0 && box->wall)
		ret = docker_end_network(box->owner, &box->outer, e);
	if (ret == 0 && box->wall)
		ret = docker_connect_bundle(box->owner, &box->outer, box->id, e);
	if (ret == 0)
		ret = docker_begin_start(box->owner, &box->start, box->id, "start the bundle", e);
	box->is_started = ret == 0;
	return ret;
}

/* uids for the roles, which nobody else on this host has; in the container init is root whoever the
 * keeper is. */
static unsigned box_uid_base(void)
{
	unsigned base = bundle_uid_base();
	uint32_t random = 0;

	if (base != 0)
		return base;
	if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random))
		return 0;
	return BUNDLE_UID_BASE + (random & 0x0ffffff0u);
}

int bundle_box_fill(const struct bundle_box *box, struct backend_place *place, struct err *e)
{
	if (box->wall)
		(void)snprintf(place->pinned, sizeof(place->pinned), "%s", box->wall->bundle);
	place->uid_base = box_uid_base();
	place->is_apart = true;
	if (box->plan->git.n_remotes > 0)
		(void)snprintf(place->git_folder, sizeof(place->git_folder), BUNDLE_BOX_GIT_FOLDER);
	return place->uid_base ? 0 : err_set(e, -EIO, "no random bytes");
}

/* --- its descriptors --- */

static void box_close_kept(struct bundle_box *box)
{
	while (box->n_kept > 0)
		close_fd(&box->kept[--box->n_kept].fd);
}

static int box_keep(struct bundle_box *box, const char *name, int fd, struct err *e)
{
	struct bundle_box_fd *k = &box->kept[box->n_kept];

	if (fd < 0)
		return 0;
	if (box->n_kept == BACKEND_FDS_MAX || strlen(name) >= sizeof(k->name))
		return err_set(e, -E2BIG, "too many descriptors for the bundle");
	k->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (k->fd < 0)
		return err_errno(e, "dup");
	(void)snprintf(k->name, sizeof(k->name), "%s", name);
	box->n_kept++;
	return 0;
}

int bundle_box_start(struct bundle_box *box, const struct backend_fd *fds, size_t n, struct err *e)
{
	int ret = 0;

	for (size_t i = 0; ret == 0 && i < n; i++)
		ret = box_keep(box, fds[i].name, fds[i].fd, e);
	/* The keeper's standard error is the bottle's log. */
	if (ret == 0)
		ret = box_keep(box, "log", STDERR_FILENO, e);
	return ret;
}

/* The socket's name is gone before anything is said over it: nobody else is let in. */
static int box_give(void *ctx, struct err *e)
{
	struct bundle_box *box = ctx;
	_cleanup_free_ char *path = mem_printf("%s/bundle/" GUEST_SOCKET_NAME, box->owner->dir);
	_cleanup_close_ int conn = accept4(box->listen_fd, NULL, NULL, SOCK_CLOEXEC);
	int ret = conn < 0 ? err_errno(e, "accept the bundle's init") : 0;

	(void)unlink(path);
	close_fd(&box->listen_fd);
	for (size_t i = 0; ret == 0 && i < box->n_kept; i++) {
		if (io_send_fds(conn, box->kept[i].name, strlen(box->kept[i].name),
				&box->kept[i].fd, 1, MSG_NOSIGNAL) < 0)
			ret = err_set(e, -EPIPE, "the bundle's init went away");
	}
	if (ret == 0 && io_send_fds(conn, "end", 3, NULL, 0, MSG_NOSIGNAL) < 0)
		ret = err_set(e, -EPIPE, "the bundle's init went away");
	box_close_kept(box);
	return ret;
}

struct docker_arrival bundle_box_arrival(struct bundle_box *box)
{
	return (struct docker_arrival){.who = "the bundle's container",
				       .listen_fd = &box->listen_fd,
				       .start = &box->start,
				       .take = box_give,
				       .ctx = box};
}

/* --- its end --- */

static void describe_end(struct bundle_box *box, const json_t *answer)
{
	const json_t *state = json_object_get(answer, "State");
	int status = (int)json_integer_value(json_object_get(state, "ExitCode"));

	if (json_is_true(json_object_get(state, "OOMKilled")))
		(void)snprintf(box->how, sizeof(box->how), "ran out of memory");
	else if (status == BOX_CONTAINER_STOP)
		(void)snprintf(box->how, sizeof(box->how), "was killed");
	else
		(void)snprintf(box->how, sizeof(box->how), "ended with status %d", status);
}

static void wait_end(struct bundle_box *box, bool must_die)
{
	const struct engine *engine = &box->owner->engine;
	_cleanup_json_ json_t *answer = NULL;
	struct engine_call c;
	char path[BOX_PATH_MAX];

	(void)snprintf(path, sizeof(path), "/containers/%s/kill", box->id);
	if (must_die && engine_begin(&c, engine, "POST", path, NULL, "kill", NULL) == 0) {
		c.timeout_ms = BOX_KILL_MS;
		(void)!engine_end(&c, NULL, NULL);
	}
	(void)snprintf(path, sizeof(path), "/containers/%s/wait", box->id);
	if (engine_begin(&c, engine, "POST", path, NULL, "wait", NULL) == 0) {
		c.timeout_ms = BOX_END_MS;
		(void)!engine_end(&c, NULL, NULL);
	}
	(void)snprintf(path, sizeof(path), "/containers/%s/json", box->id);
	if (engine_do(engine, "GET", path, NULL, "look at the bundle", &answer, NULL) == 0)
		describe_end(box, answer);
	else
		(void)snprintf(box->how, sizeof(box->how), "went away with the Docker engine");
}

void bundle_box_reap(struct bundle_box *box, bool must_die, char *how, size_t how_size)
{
	if (box->is_started) {
		box->is_started = false;
		engine_cancel(&box->start);
		wait_end(box, must_die);
	}
	if (how_size > 0)
		(void)snprintf(how, how_size, "%s", box->how);
}

void bundle_box_settle(struct bundle_box *box)
{
	if (box->outer.call.fd >= 0)
		(void)!docker_end_network(box->owner, &box->outer, &(struct err){0});
	if (box->make.fd >= 0)
		(void)!docker_end_container(&box->make, box->id, NULL);
	if (box->start.fd >= 0)
		(void)!engine_end(&box->start, NULL, NULL);
}

void bundle_box_close(struct bundle_box *box)
{
	close_fd(&box->listen_fd);
	box_close_kept(box);
}
