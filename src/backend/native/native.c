/* The native backend behind the common table: a wall, cgroups where the host gives them, and a
 * compartment. */
#include "backend/agent_clone.h"
#include "backend/git_folder.h"
#include "backend/native/compartment.h"
#include "backend/walled/walled.h"
#include "base/clean.h"
#include "base/mem.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>

#define NATIVE_CANARY_MS 5000
#define NATIVE_UNDO_MS	 5000

struct bottle {
	const struct plan *plan;
	struct walled walled;
	struct compartment compartment;
};

static int native_prepare(struct bottle **out, const struct plan *p, const char *state_dir,
			  bool has_tty, struct backend_place *place, struct err *e)
{
	_cleanup_free_ char *home = mem_printf("%s/home", state_dir);
	struct bottle *b = mem_zalloc(sizeof(*b));
	int ret;

	(void)has_tty;
	*out = b;
	b->plan = p;
	walled_init(&b->walled, p, state_dir);
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
	ret = walled_prepare(&b->walled, home, &p->limits, 0, place, e);
	if (ret < 0)
		return ret;
	return compartment_prepare(&b->compartment, p, &b->walled.wall, &b->walled.cgroup,
				   state_dir, e);
}

static int native_start_bundle(struct bottle *b, const struct backend_fd *fds, size_t n,
			       struct err *e)
{
	return walled_start_bundle(&b->walled, fds, n, e);
}

static void native_reap_bundle(struct bottle *b, bool must_die, char *how, size_t how_size)
{
	walled_reap_bundle(&b->walled, must_die, how, how_size);
}

static int native_offer(char why[BACKEND_WHY_MAX], struct err *e)
{
	(void)e;
	(void)snprintf(why, BACKEND_WHY_MAX, "namespaces of this host");
	return 0;
}

static int native_probe(struct backend_check checks[BACKEND_CHECKS_MAX], size_t *n, struct err *e)
{
	return walled_probe(checks, n, false, e);
}

static int native_canary(struct bottle *b, struct err *e)
{
	return wall_canary(&b->walled.wall, NATIVE_CANARY_MS, e);
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
	return b->walled.cgroup.note;
}

static bool native_release(struct bottle *b)
{
	bool is_all;

	if (!b)
		return true;
	compartment_kill(&b->compartment);
	compartment_free(&b->compartment);
	is_all = walled_release(&b->walled);
	free(b);
	return is_all;
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
	.cleanup = walled_cleanup,
	.sweep = git_folder_sweep,
};
