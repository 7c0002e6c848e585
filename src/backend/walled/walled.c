#include "backend/walled/walled.h"

#include "backend/canary_targets.h"
#include "backend/docker/objects.h"
#include "backend/git_folder.h"
#include "base/clean.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/ports.h"
#include "bundle/bundle.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WALLED_CANARY_MS 5000

void walled_init(struct walled *w, const struct plan *p, const char *state_dir)
{
	*w = (struct walled){.plan = p, .state_dir = mem_strdup(state_dir), .wall = WALL_INIT};
}

/* Where the roles have uids of their own, git-gate's. */
static int walled_git_folder(const struct walled *w, struct backend_place *place, struct err *e)
{
	if (w->plan->git.n_remotes == 0)
		return 0;
	return git_folder_make(w->plan->slug, w->state_dir,
			       place->uid_base ? place->uid_base + BUNDLE_ROLE_GITGATE : 0,
			       place->git_folder, e);
}

/* --- which bundle --- */

void walled_use_docker(struct walled *w)
{
	w->has_docker = bundle_apart_offer((char[BACKEND_WHY_MAX]){""}, &(struct err){0}) == 0;
}

int walled_ensure_docker(const struct progress *progress, struct err *e)
{
	if (bundle_apart_offer((char[BACKEND_WHY_MAX]){""}, &(struct err){0}) < 0)
		return 0;
	return bundle_apart_ensure(progress, e);
}

void walled_probe_docker(struct backend_check *check)
{
	char why[BACKEND_WHY_MAX];
	struct err e = ERR_INIT;
	bool is_docker = bundle_apart_offer(why, &e) == 0;

	/* Neither is a fault. */
	*check = (struct backend_check){.name = "bundle", .is_ok = true};
	(void)snprintf(check->text, sizeof(check->text), "%s: %.200s",
		       is_docker ? "in a container" : "a process of this host",
		       is_docker ? why : e.text);
}

const char *walled_note(const struct walled *w)
{
	return w->has_docker ? "its bundle in a container" : "its bundle a process of this host";
}

/* --- making --- */

/* Where the keeper's child is to stand. */
static int place_child(const struct walled *w, struct backend_place *place, struct err *e)
{
	place->uid_base = bundle_uid_base();
	return walled_git_folder(w, place, e);
}

int walled_prepare(struct walled *w, const char *home, const struct plan_limits *limits,
		   unsigned extra, struct backend_place *place, struct err *e)
{
	const struct plan *p = w->plan;
	unsigned services = extra | (p->git.n_remotes > 0 ? WALL_GIT : 0) |
			    (p->is_supervised ? WALL_SUPERVISE : 0);
	int ret =
		wall_make(&w->wall, p->pinned ? p->pinned : WALL_PINNED_DEFAULT, home, services, e);

	if (ret < 0)
		return ret;
	/* A killed run's would keep the limits of that run. */
	cgroup_remove_slug(p->slug);
	cgroup_make(&w->cgroup, p->slug, limits);
	(void)snprintf(place->pinned, sizeof(place->pinned), "%s", w->wall.pinned);
	return w->has_docker ? bundle_apart_make(&w->apart, p, w->state_dir, place, e)
			     : place_child(w, place, e);
}

/* --- the bundle --- */

int walled_start_bundle(struct walled *w, const struct backend_fd *fds, size_t n, struct err *e)
{
	const struct backend_fd sockets[] = {
		{"pipelock", w->wall.pipelock_fd},   {"gitgate", w->wall.gitgate_fd},
		{"supervise", w->wall.supervise_fd}, {"dns_udp", w->wall.dns_udp_fd},
		{"dns_tcp", w->wall.dns_tcp_fd},
	};
	struct backend_fd all[BACKEND_FDS_MAX];
	int ret;

	if (n + ARRAY_LEN(sockets) > ARRAY_LEN(all))
		return err_set(e, -E2BIG, "too many descriptors for the bundle");
	memcpy(all, fds, n * sizeof(*fds));
	memcpy(all + n, sockets, sizeof(sockets));
	n += ARRAY_LEN(sockets);
	ret = w->apart ? bundle_apart_start(w->apart, all, n, e)
		       : bundle_process_start(&w->bundle, w->plan->slug, all, n, e);
	wall_close_sockets(&w->wall);
	return ret;
}

void walled_reap_bundle(struct walled *w, bool must_die, char *how, size_t how_size)
{
	if (w->apart)
		bundle_apart_reap(w->apart, must_die, how, how_size);
	else
		bundle_process_reap(&w->bundle, must_die, how, how_size);
}

/* --- the proof --- */

int walled_canary_machine(const struct walled *w, int conn_fd, const struct guest_target *more,
			  size_t n, struct err *e)
{
	struct canary_targets *t = NULL;
	int ret = wall_canary(&w->wall, WALLED_CANARY_MS, e);

	if (ret == 0)
		ret = canary_targets_make(&t, e);
	for (size_t i = 0; ret == 0 && i < n; i++)
		canary_targets_add(t, more[i].address, more[i].port ? more[i].port : t->port,
				   more[i].what);
	if (ret == 0) {
		canary_targets_add(t, w->wall.pinned, SERVICE_PORT_REGISTRY,
				   "the image's registry");
		ret = canary_targets_prove(t, conn_fd, w->plan, w->wall.pinned, e);
	}
	canary_targets_free(t);
	return ret;
}

/* --- the end --- */

bool walled_release(struct walled *w)
{
	struct err e = ERR_INIT;
	bool is_all;

	wall_free(&w->wall);
	cgroup_remove(&w->cgroup);
	is_all = bundle_apart_release(take_ptr(&w->apart));
	if (git_folder_remove(w->plan->slug, w->state_dir, &e) < 0) {
		is_all = false;
		log_error("%s: what is left is removed by \"claude-bottle cleanup\"", e.text);
	}
	free(w->state_dir);
	w->state_dir = NULL;
	return is_all;
}

int walled_cleanup(const char *slug, const char *state_dir, struct err *e)
{
	int ret;

	/* Namespaces, mounts and processes go with their last descriptor; groups do not. */
	cgroup_remove_slug(slug);
	ret = git_folder_remove(slug, state_dir, e);
	return ret == 0 ? docker_cleanup(slug, state_dir, e) : ret;
}
