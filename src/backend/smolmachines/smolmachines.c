/* The smolmachines backend behind the common table: a microVM of the smolvm command line's, in a
 * cell, in a wall that does not depend on what smolvm enforces. */
#include "backend/smolmachines/smol_int.h"

#include "backend/agent_env.h"
#include "backend/agent_home.h"
#include "backend/git_folder.h"
#include "backend/images.h"
#include "base/clean.h"
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "bundle/bundle.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SMOL_UNDO_MS	     90000
#define SMOL_MONITOR_BYTES   (512ull << 20) /* of a monitor's, beside its guest's memory */
#define SMOL_MONITOR_THREADS 512

static int smol_offer(char why[BACKEND_WHY_MAX], struct err *e)
{
	struct smol_install i;
	int ret = smol_find(&i, e);

	if (ret == 0)
		(void)snprintf(why, BACKEND_WHY_MAX, "smolvm is there: %.120s", i.shown);
	return ret;
}

static int smol_check_plan(const struct plan *p, struct err *e)
{
	if (p->workspace == PLAN_WORKSPACE_MOUNT)
		return err_set(e, -EINVAL,
			       "workspace: mount cannot be had with smolmachines, whose shared "
			       "folders are no wall; take clone");
	return agent_expose_check(p, e);
}

static int smol_ensure(const struct plan *p, const struct progress *progress, struct err *e)
{
	struct smol_install install;
	struct vm_image image;
	struct smol_cli cli;
	bool has_kvm;
	_cleanup_close_ int use = -1;
	struct vm_oci oci;
	int ret = smol_check_plan(p, e);

	if (ret == 0)
		ret = smol_find(&install, e);
	if (ret == 0)
		ret = smol_check_version(&install, &cli, &has_kvm, e);
	if (ret == 0)
		ret = walled_ensure_docker(progress, e);
	if (ret == 0)
		ret = vm_image_ensure(p->provider, p->image, VM_IMAGE_TAR, progress, &image, e);
	if (ret == 0)
		ret = vm_use(image.key, &use, e);
	/* Its digests are remembered beside it. */
	if (ret == 0)
		ret = vm_oci_make(&image, &oci, e);
	if (ret == 0)
		vm_oci_free(&oci);
	return ret;
}

/* What the tool and the monitor may use beside what the guest is given. */
static struct plan_limits smol_limits(const struct plan *p)
{
	struct plan_limits l = p->limits;

	if (l.memory_bytes > 0)
		l.memory_bytes += SMOL_MONITOR_BYTES;
	if (l.processes > 0)
		l.processes += SMOL_MONITOR_THREADS;
	return l;
}

static int smol_prepare(struct bottle **out, const struct plan *p, const char *state_dir,
			bool has_tty, struct backend_place *place, struct err *e)
{
	const struct plan_limits limits = smol_limits(p);
	struct bottle *b = mem_zalloc(sizeof(*b));
	int ret;

	*out = b;
	b->plan = p;
	b->has_tty = has_tty;
	b->cell = CELL_INIT;
	b->cli.in_fd = b->guest_fd = b->watch_fd = b->watch_end_fd = b->use_fd = -1;
	b->home = mem_printf("%s/" SMOL_HOME_FOLDER, state_dir);
	b->in = mem_printf("%s/" SMOL_IN_FOLDER, state_dir);
	walled_init(&b->walled, p, state_dir);
	walled_use_docker(&b->walled);
	/* It is alone in its home, so it need not be the whole of a long slug. */
	(void)snprintf(b->cli.name, sizeof(b->cli.name), "cb-%.*s", SMOL_NAME_MAX - 4, p->slug);
	ret = smol_check_plan(p, e);
	if (ret == 0)
		ret = smol_find(&b->install, e);
	if (ret == 0)
		ret = walled_prepare(&b->walled, NULL, &limits, WALL_REGISTRY, place, e);
	if (ret < 0)
		return ret;
	b->env = agent_env_make(p, b->walled.wall.pinned);
	b->registry_uid = place->uid_base > 0 ? place->uid_base + BUNDLE_ROLE_COUNT : 0;
	ret = smol_make(b, e);
	if (ret == 0)
		(void)snprintf(b->note, sizeof(b->note), "a microVM of smolvm %u.%u.%u, %s; %.80s",
			       b->cli.version.major, b->cli.version.minor, b->cli.version.patch,
			       walled_note(&b->walled), b->walled.cgroup.note);
	return ret;
}

static int smol_start_bundle(struct bottle *b, const struct backend_fd *fds, size_t n,
			     struct err *e)
{
	return walled_start_bundle(&b->walled, fds, n, e);
}

static void smol_reap_bundle(struct bottle *b, bool must_die, char *how, size_t how_size)
{
	walled_reap_bundle(&b->walled, must_die, how, how_size);
}

static const char *smol_note(const struct bottle *b)
{
	return b->note;
}

static int smol_remove_folders(const char *state_dir, struct err *e)
{
	_cleanup_close_ int state = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int ret;

	if (state < 0)
		return errno == ENOENT ? 0 : err_errno(e, "open \"%s\"", state_dir);
	ret = io_remove_tree(state, SMOL_HOME_FOLDER, e);
	return ret < 0 ? ret : io_remove_tree(state, SMOL_IN_FOLDER, e);
}

static bool smol_release(struct bottle *b)
{
	struct err e = ERR_INIT;
	bool is_all;

	if (!b)
		return true;
	smol_kill(b);
	cell_free(&b->cell);
	is_all = smol_remove_folders(b->walled.state_dir, &e) == 0;
	if (!is_all)
		log_error("%s: what is left is removed by \"claude-bottle cleanup\"", e.text);
	is_all = walled_release(&b->walled) && is_all;
	close_fd(&b->cli.in_fd);
	close_fd(&b->watch_fd);
	close_fd(&b->watch_end_fd);
	close_fd(&b->use_fd);
	agent_env_free(b->env);
	free(b->home);
	free(b->in);
	free(b);
	return is_all;
}

static int smol_cleanup(const char *slug, const char *state_dir, struct err *e)
{
	/* Its processes have ended with the keeper. */
	int ret = smol_remove_folders(state_dir, e);

	return ret < 0 ? ret : walled_cleanup(slug, state_dir, e);
}

const struct backend backend_smolmachines = {
	.name = "smolmachines",
	.summary = "a microVM of smolvm's, in a wall of namespaces; needs smolvm and KVM",
	.undo_ms = SMOL_UNDO_MS,
	.probe = smol_probe,
	.offer = smol_offer,
	.ensure = smol_ensure,
	.prepare = smol_prepare,
	.start_bundle = smol_start_bundle,
	.reap_bundle = smol_reap_bundle,
	.canary = smol_canary,
	.launch = smol_launch,
	.go = smol_go,
	.exec = smol_exec_beside,
	.signal = smol_signal,
	.resize = smol_resize,
	.kill = smol_kill,
	.note = smol_note,
	.reason = smol_reason,
	.release = smol_release,
	.cleanup = smol_cleanup,
	.sweep = git_folder_sweep,
	.images = &backend_images_machines,
};
