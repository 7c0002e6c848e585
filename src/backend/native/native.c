/* The native backend behind the common table: a wall, cgroups where the host gives them, and a
 * compartment. */
#include "backend/native/native.h"

#include "backend/agent_clone.h"
#include "backend/bundle_process.h"
#include "backend/git_folder.h"
#include "backend/native/compartment.h"
#include "base/clean.h"
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "bundle/bundle.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define NATIVE_CANARY_MS      5000
#define NATIVE_UNDO_MS	      5000
#define NATIVE_BUNDLE_FDS_MAX 16

struct bottle {
	const struct plan *plan;
	struct wall wall;
	struct cgroup cgroup;
	struct compartment compartment;
	struct bundle_process bundle;
	char *state_dir;
};

/* Where the roles have uids of their own, git-gate's. */
static int native_git_folder(const struct bottle *b, struct backend_place *place, struct err *e)
{
	if (b->plan->git.n_remotes == 0)
		return 0;
	return git_folder_make(b->plan->slug, b->state_dir,
			       place->uid_base ? place->uid_base + BUNDLE_ROLE_GITGATE : 0,
			       place->git_folder, e);
}

static int native_prepare(struct bottle **out, const struct plan *p, const char *state_dir,
			  bool has_tty, struct backend_place *place, struct err *e)
{
	_cleanup_free_ char *home = mem_printf("%s/home", state_dir);
	struct bottle *b = mem_zalloc(sizeof(*b));
	int ret;

	(void)has_tty;
	*out = b;
	b->plan = p;
	b->state_dir = mem_strdup(state_dir);
	b->wall = WALL_INIT;
	b->compartment = COMPARTMENT_INIT;
	/* It is the host's own. */
	if (p->has_writable_root)
		return err_set(e, -EINVAL,
			       "root: writable cannot be had natively, where the root is the "
			       "host's; leave it out, or use a backend with images");
	if (p->image)
		return err_set(e, -EINVAL,
			       "image cannot be had natively, where the root is the host's; leave "
			       "it out, or use a backend with images");
	ret = wall_make(
		&b->wall, p->pinned ? p->pinned : WALL_PINNED_DEFAULT, home,
		(p->git.n_remotes > 0 ? WALL_GIT : 0) | (p->is_supervised ? WALL_SUPERVISE : 0), e);
	if (ret < 0)
		return ret;
	/* A killed run's would keep the limits of that run. */
	cgroup_remove_slug(p->slug);
	cgroup_make(&b->cgroup, p->slug, &p->limits);
	(void)snprintf(place->pinned, sizeof(place->pinned), "%s", b->wall.pinned);
	place->uid_base = bundle_uid_base();
	ret = native_git_folder(b, place, e);
	if (ret < 0)
		return ret;
	return compartment_prepare(&b->compartment, p, &b->wall, &b->cgroup, state_dir, e);
}

/* The wall's sockets are closed here afterwards, so that a dead bundle's ports are closed too. */
static int native_start_bundle(struct bottle *b, const struct backend_fd *fds, size_t n,
			       struct err *e)
{
	struct backend_fd all[NATIVE_BUNDLE_FDS_MAX];
	int ret;

	if (n + 5 > NATIVE_BUNDLE_FDS_MAX)
		return err_set(e, -E2BIG, "too many descriptors for the bundle");
	memcpy(all, fds, n * sizeof(*fds));
	all[n++] = (struct backend_fd){"pipelock", b->wall.pipelock_fd};
	all[n++] = (struct backend_fd){"gitgate", b->wall.gitgate_fd};
	all[n++] = (struct backend_fd){"supervise", b->wall.supervise_fd};
	all[n++] = (struct backend_fd){"dns_udp", b->wall.dns_udp_fd};
	all[n++] = (struct backend_fd){"dns_tcp", b->wall.dns_tcp_fd};
	ret = bundle_process_start(&b->bundle, b->plan->slug, all, n, e);
	wall_close_sockets(&b->wall);
	return ret;
}

static void native_reap_bundle(struct bottle *b, bool must_die, char *how, size_t how_size)
{
	bundle_process_reap(&b->bundle, must_die, how, how_size);
}

static int native_offer(char why[BACKEND_WHY_MAX], struct err *e)
{
	(void)e;
	(void)snprintf(why, BACKEND_WHY_MAX, "namespaces of this host");
	return 0;
}

static int native_canary(struct bottle *b, struct err *e)
{
	return wall_canary(&b->wall, NATIVE_CANARY_MS, e);
}

static int native_launch(struct bottle *b, struct backend_stdio *io, pid_t *pid, struct err *e)
{
	int ret = compartment_launch(&b->compartment, io, e);

	*pid = b->compartment.bwrap_pid;
	return ret;
}

static int native_go(struct bottle *b, struct str ca_pem, struct err *e)
{
	return compartment_go(&b->compartment, ca_pem, e);
}

static int native_exec(struct bottle *b, char *const *argv, struct backend_stdio *io, pid_t *pid,
		       struct err *e)
{
	char **waiting = agent_exec_make(b->plan, b->compartment.home_dir, argv);
	int ret = compartment_join(&b->compartment, waiting ? waiting : argv, io, pid, e);

	agent_command_free(waiting);
	return ret;
}

/* To the process and what shares its process group, as a terminal would. Both kinds lead a session
 * of their own, so the group has the leader's number. */
static int native_signal(struct bottle *b, pid_t pid, int signo)
{
	pid_t leader =
		pid == b->compartment.bwrap_pid ? compartment_agent_pid(&b->compartment) : pid;

	if (leader <= 1)
		return -ESRCH;
	if (kill(-leader, signo) < 0 && kill(leader, signo) < 0)
		return -errno;
	return 0;
}

static void native_kill(struct bottle *b)
{
	compartment_kill(&b->compartment);
}

static const char *native_note(const struct bottle *b)
{
	return b->cgroup.note;
}

static bool native_release(struct bottle *b)
{
	struct err e = ERR_INIT;
	bool is_all;

	if (!b)
		return true;
	compartment_kill(&b->compartment);
	compartment_free(&b->compartment);
	wall_free(&b->wall);
	cgroup_remove(&b->cgroup);
	is_all = git_folder_remove(b->plan->slug, b->state_dir, &e) == 0;
	if (!is_all)
		log_error("%s: what is left is removed by \"claude-bottle cleanup\"", e.text);
	free(b->state_dir);
	free(b);
	return is_all;
}

static int native_cleanup(const char *slug, const char *state_dir, struct err *e)
{
	/* Namespaces, mounts and processes go with their last descriptor; groups do not. */
	cgroup_remove_slug(slug);
	return git_folder_remove(slug, state_dir, e);
}

const struct backend backend_native = {
	.name = "native",
	.summary = "namespaces and bubblewrap on this host; no daemon, no root, no image",
	.undo_ms = NATIVE_UNDO_MS,
	.probe = native_probe,
	.offer = native_offer,
	.prepare = native_prepare,
	.start_bundle = native_start_bundle,
	.reap_bundle = native_reap_bundle,
	.canary = native_canary,
	.launch = native_launch,
	.go = native_go,
	.exec = native_exec,
	.signal = native_signal,
	.kill = native_kill,
	.note = native_note,
	.release = native_release,
	.cleanup = native_cleanup,
	.sweep = git_folder_sweep,
};
