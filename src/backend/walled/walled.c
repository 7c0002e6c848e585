#include "backend/walled/walled.h"

#include "backend/git_folder.h"
#include "base/log.h"
#include "base/mem.h"
#include "bundle/bundle.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WALLED_BUNDLE_FDS_MAX 16

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
	place->uid_base = bundle_uid_base();
	return walled_git_folder(w, place, e);
}

int walled_start_bundle(struct walled *w, const struct backend_fd *fds, size_t n, struct err *e)
{
	struct backend_fd all[WALLED_BUNDLE_FDS_MAX];
	int ret;

	if (n + 5 > WALLED_BUNDLE_FDS_MAX)
		return err_set(e, -E2BIG, "too many descriptors for the bundle");
	memcpy(all, fds, n * sizeof(*fds));
	all[n++] = (struct backend_fd){"pipelock", w->wall.pipelock_fd};
	all[n++] = (struct backend_fd){"gitgate", w->wall.gitgate_fd};
	all[n++] = (struct backend_fd){"supervise", w->wall.supervise_fd};
	all[n++] = (struct backend_fd){"dns_udp", w->wall.dns_udp_fd};
	all[n++] = (struct backend_fd){"dns_tcp", w->wall.dns_tcp_fd};
	ret = bundle_process_start(&w->bundle, w->plan->slug, all, n, e);
	wall_close_sockets(&w->wall);
	return ret;
}

bool walled_release(struct walled *w)
{
	struct err e = ERR_INIT;
	bool is_all;

	wall_free(&w->wall);
	cgroup_remove(&w->cgroup);
	is_all = git_folder_remove(w->plan->slug, w->state_dir, &e) == 0;
	if (!is_all)
		log_error("%s: what is left is removed by \"claude-bottle cleanup\"", e.text);
	free(w->state_dir);
	w->state_dir = NULL;
	return is_all;
}

int walled_cleanup(const char *slug, const char *state_dir, struct err *e)
{
	/* Namespaces, mounts and processes go with their last descriptor; groups do not. */
	cgroup_remove_slug(slug);
	return git_folder_remove(slug, state_dir, e);
}
