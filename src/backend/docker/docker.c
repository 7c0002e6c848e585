/* The docker backend behind the common table. What a bottle has in the engine, and how it comes to
 * be, is told in docker_int.h, run.c and wall.c. */
#include "backend/docker/docker_int.h"

#include "backend/agent_env.h"
#include "backend/images.h"
#include "base/clean.h"
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DOCKER_UNDO_MS 30000 /* of an engine that is slow */

/* A microVM's root may come from an archive; an engine has images only. */
static int check_image(const struct plan *p, struct err *e)
{
	char shown[256];

	if (!p->image || p->image[0] != '/')
		return 0;
	text_visible_cstr(shown, sizeof(shown), str_of(p->image));
	return err_set(e, -EINVAL,
		       "image: docker starts no file; \"docker import %s NAME\" makes an image of "
		       "it, which \"image: NAME\" then takes (a microVM takes the file itself)",
		       shown);
}

static int docker_ensure(const struct plan *p, const struct progress *progress, struct err *e)
{
	struct image_info info;
	struct engine en;
	int ret = check_image(p, e);

	if (ret == 0)
		ret = docker_engine(&en, e);
	if (ret == 0)
		ret = image_ensure_bundle(&en, progress, &info, e);
	return ret == 0 ? image_ensure_agent(&en, p->provider, p->image, progress, &info, e) : ret;
}

static int docker_make(struct bottle *b, struct err *e)
{
	struct docker_net *const nets[] = {&b->wall, &b->box.outer};
	int ret = docker_owner_begin(&b->owner, e);

	if (ret == 0)
		ret = docker_begin_networks(&b->owner, nets, ARRAY_LEN(nets), e);
	/* While the engine makes them. */
	if (ret == 0)
		ret = docker_make_place(b, e);
	if (ret == 0)
		ret = bundle_box_find_image(&b->box, e);
	if (ret == 0)
		ret = image_find_agent(&b->owner.engine, b->plan->provider, b->plan->image,
				       &b->agent_image, e);
	return ret == 0 ? docker_begin(b, e) : ret;
}

static int docker_prepare(struct bottle **out, const struct plan *p, const char *state_dir,
			  bool has_tty, struct backend_place *place, struct err *e)
{
	struct bottle *b = mem_zalloc(sizeof(*b));
	int ret;

	*out = b;
	b->plan = p;
	b->guest_listen_fd = b->guest_fd = -1;
	b->agent_start.fd = -1;
	b->wall = (struct docker_net){.role = DOCKER_NET_WALL, .call.fd = -1};
	b->has_tty = has_tty;
	b->fail_fds[0] = b->fail_fds[1] = -1;
	b->home = mem_printf("%s/home", state_dir);
	docker_owner_init(&b->owner, p->slug, state_dir);
	bundle_box_init(&b->box, &b->owner, p, &b->wall);
	if (pipe2(b->fail_fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return err_errno(e, "pipe");
	ret = docker_make(b, e);
	return ret == 0 ? bundle_box_fill(&b->box, place, e) : ret;
}

static const char *docker_note(const struct bottle *b)
{
	(void)b;
	return "set on the container by the engine";
}

/* What is being made must be known before it can be removed. */
static void settle(struct bottle *b)
{
	if (b->wall.call.fd >= 0)
		(void)!docker_end_network(&b->owner, &b->wall, &(struct err){0});
	if (b->agent_start.fd >= 0)
		(void)!engine_end(&b->agent_start, NULL, NULL);
	bundle_box_settle(&b->box);
}

static bool docker_release(struct bottle *b)
{
	struct docker_known known;
	bool is_all;

	if (!b)
		return true;
	settle(b);
	close_fd(&b->guest_fd);
	close_fd(&b->guest_listen_fd);
	bundle_box_close(&b->box);
	known = (struct docker_known){{b->agent_id, b->box.id}, {b->wall.id, b->box.outer.id}};
	is_all = docker_owner_release(&b->owner, &known, b->has_gone);
	close_fd(&b->fail_fds[0]);
	close_fd(&b->fail_fds[1]);
	agent_env_free(b->env);
	free(b->home);
	free(b->bundle_path);
	workspace_free(&b->workspace);
	free(b);
	return is_all;
}

static int docker_sweep(const char *state_root, bool is_dry, size_t *n, struct err *e)
{
	struct docker_which w = {.below = state_root, .is_dry = is_dry};
	struct engine en;
	int ret = docker_engine(&en, e);

	return ret == 0 ? docker_remove(&en, &w, n, e) : ret;
}

const struct backend backend_docker = {
	.name = "docker",
	.summary = "a container on an internal network with its bundle; needs a Docker engine",
	.undo_ms = DOCKER_UNDO_MS,
	.probe = docker_probe,
	.offer = docker_offer,
	.ensure = docker_ensure,
	.prepare = docker_prepare,
	.start_bundle = docker_start_bundle,
	.reap_bundle = docker_reap_bundle,
	.canary = docker_canary,
	.launch = docker_launch,
	.go = docker_go,
	.exec = docker_exec,
	.signal = docker_signal,
	.kill = docker_kill,
	.note = docker_note,
	.reason = docker_reason,
	.release = docker_release,
	.cleanup = docker_cleanup,
	.sweep = docker_sweep,
	.images = &backend_images_docker,
	.commit = docker_commit,
};
