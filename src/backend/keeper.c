/*
 * Theory of operation. keeper_spawn() fetches the secrets, forks, and the child keeps one bottle:
 * wall, bundle, compartment, canary, agent, in this order, each failing the start with its reason;
 * then it serves the control socket until the agent has ended. The end is one path whatever its
 * cause: the compartment is killed, output is drained to the clients, the bundle is stopped and
 * waited for (so that the last record is written and signed), what the backend made is undone,
 * bottle.json says "ended", the lock is given up, and only then the clients hear of it.
 *
 * If this process is killed instead: bubblewrap and everything that joined it have asked for
 * SIGKILL at the parent's death, init sees its control socket close, and the kernel frees the lock.
 */
#include "backend/keeper_int.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/signals.h"
#include "base/timeutil.h"
#include "workspace/watch.h"
#include "workspace/workspace.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <linux/close_range.h>

#define KEEPER_HANG_UP_MS 500 /* between SIGTERM and SIGHUP */

#define KEEPER_OF(m, member)                                                                       \
	((struct keeper *)(void *)((char *)(m)-offsetof(struct keeper, member)))

/* --- the end --- */

void keeper_stop(struct keeper *k, unsigned grace_ms)
{
	/* The end waits for the output, and the output for nobody any more. */
	session_flow(&k->agent);
	if (k->is_ending || k->agent.has_exited)
		return;
	if (grace_ms == 0 || k->backend->signal(k->bottle, k->agent.pid, SIGTERM) < 0) {
		k->backend->kill(k->bottle);
		return;
	}
	k->kill_after_ms = grace_ms;
	if (k->agent.has_tty) {
		unsigned hang_up_ms =
			grace_ms / 2 < KEEPER_HANG_UP_MS ? grace_ms / 2 : KEEPER_HANG_UP_MS;

		k->kill_after_ms -= hang_up_ms;
		k->wants_hang_up = true;
		grace_ms = hang_up_ms;
	}
	loop_timer_set(k->loop, &k->grace_timer, grace_ms);
}

static void keeper_on_grace(struct loop_timer *t)
{
	struct keeper *k = KEEPER_OF(t, grace_timer);

	/* Shells that wait for a command do not listen to SIGTERM, but to the terminal's end. */
	if (k->wants_hang_up) {
		k->wants_hang_up = false;
		(void)k->backend->signal(k->bottle, k->agent.pid, SIGHUP);
		loop_timer_set(k->loop, t, k->kill_after_ms);
		return;
	}
	k->backend->kill(k->bottle);
}

void keeper_check_flushed(struct keeper *k)
{
	if (!k->is_flushing)
		return;
	for (size_t i = 0; i < KEEPER_CLIENTS_MAX; i++) {
		if (k->clients[i].is_used)
			return;
	}
	loop_stop(k->loop, 0);
}

/* While the lock is held: whoever waits for it finds the report. Not while something of the bottle
 * may live: then it is left to cleanup. */
static void keeper_end_workspace(struct keeper *k)
{
	struct err e = ERR_INIT;

	if (strcmp(k->state, "ended") == 0 && workspace_end(k->state_fd, &e) < 0)
		log_warn("%s", e.text);
}

/* What cannot be undone now is not called ended: so it is counted among what is left over. */
static void keeper_release(struct keeper *k)
{
	if (!k->bottle || k->backend->release(k->bottle)) {
		k->state = "ended";
	} else if (k->reason[0]) {
		size_t n = strlen(k->reason);

		(void)snprintf(k->reason + n, sizeof(k->reason) - n,
			       " (what is left of it: claude-bottle cleanup)");
	}
	k->bottle = NULL;
	keeper_end_workspace(k);
	keeper_state_write(k);
}

/* Nothing is left but to say so. */
static void keeper_farewell(struct keeper *k)
{
	if (k->is_flushing)
		return;
	keeper_release(k);
	loop_del(k->loop, &k->listen_watch);
	loop_del(k->loop, &k->workspace_watch);
	close_fd(&k->listen_fd);
	(void)unlinkat(k->state_fd, "control.sock", 0);
	close_fd(&k->lock_fd);
	client_end(k, NULL);
	k->is_flushing = true;
	keeper_check_flushed(k);
}

static void keeper_finish(struct keeper *k)
{
	if (k->is_ending)
		return;
	k->is_ending = true;
	if (!k->bundle.is_started) {
		keeper_farewell(k);
		return;
	}
	keeper_bundle_stop(&k->bundle);
	loop_timer_set(k->loop, &k->end_timer, KEEPER_BUNDLE_STOP_MS);
}

static void keeper_bundle_gone(struct keeper *k, bool must_die);

static void keeper_on_end_timeout(struct loop_timer *t)
{
	struct keeper *k = KEEPER_OF(t, end_timer);

	log_warn("the bundle does not end: killed");
	keeper_bundle_gone(k, true);
}

void keeper_session_done(struct keeper_session *s)
{
	struct keeper *k = s->k;

	if (s->is_agent) {
		keeper_finish(k);
		return;
	}
	client_end(k, s);
	for (size_t i = 0; i < KEEPER_CLIENTS_MAX; i++) {
		if (k->clients[i].session == s)
			k->clients[i].session = NULL;
	}
	session_free(s);
}

/* --- the bundle --- */

static void keeper_bundle_gone(struct keeper *k, bool must_die)
{
	struct keeper_bundle *b = &k->bundle;
	char how[64] = "";

	if (!b->is_started)
		return;
	b->is_started = false;
	loop_del(k->loop, &b->control_watch);
	loop_timer_del(k->loop, &k->end_timer);
	keeper_reach_close(&k->reach);
	keeper_door_close(&k->door);
	keeper_policy_end(k);
	keeper_desk_close(k);
	k->backend->reap_bundle(k->bottle, must_die, how, sizeof(how));
	if (k->is_ending) {
		keeper_farewell(k);
		return;
	}
	if (k->is_cut)
		return;
	(void)snprintf(k->reason, sizeof(k->reason), "the bottle was stopped: its bundle %s",
		       b->failure[0] ? b->failure : how);
	log_error("%s", k->reason);
	k->backend->kill(k->bottle);
}

void keeper_stop_now(struct keeper *k, const char *why)
{
	if (why && !k->reason[0])
		(void)snprintf(k->reason, sizeof(k->reason), "%s", why);
	session_flow(&k->agent);
	k->is_cut = true;
	k->backend->kill(k->bottle);
	keeper_bundle_gone(k, true);
}

void keeper_end_bundle(struct keeper *k, const char *why)
{
	if (!k->bundle.failure[0])
		(void)snprintf(k->bundle.failure, sizeof(k->bundle.failure), "%s", why);
	keeper_bundle_gone(k, true);
}

/* The control channel's end is the bundle's end. */
static void keeper_on_bundle_message(struct loop_watch *w, uint32_t events)
{
	struct keeper *k = KEEPER_OF(w, bundle.control_watch);

	(void)events;
	if (!keeper_bundle_read(k))
		keeper_bundle_gone(k, false);
}

/* --- the workspace --- */

/* At once, without a word to the agent: it could write what the host obeys. */
static void keeper_on_workspace(struct loop_watch *w, uint32_t events)
{
	struct keeper *k = KEEPER_OF(w, workspace_watch);
	const char *lost = workspace_watch_read(k->workspace);

	(void)events;
	if (!lost || k->is_ending)
		return;
	k->backend->kill(k->bottle);
	loop_del(k->loop, w);
	if (!k->reason[0])
		(void)snprintf(
			k->reason, sizeof(k->reason),
			"the bottle was stopped: \"%s\" in its workspace was replaced on the "
			"host, so that it was protected no longer (claude-bottle resume goes "
			"on)",
			lost);
	log_error("%s", k->reason);
}

/* --- start --- */

static void keeper_on_attach_timeout(struct loop_timer *t)
{
	struct keeper *k = KEEPER_OF(t, attach_timer);

	/* Whoever started the bottle died before it could attach. */
	if (!k->is_detached)
		keeper_stop(k, KEEPER_OWNER_GRACE_MS);
	session_flow(&k->agent);
}

static void keeper_on_signal(struct loop *l, int signo, void *ctx)
{
	(void)l;
	if (signo != SIGCHLD)
		keeper_stop(ctx, KEEPER_OWNER_GRACE_MS);
}

static int keeper_make_loop(struct keeper *k, struct err *e)
{
	k->loop = loop_new(e);
	if (!k->loop)
		return e->code;
	k->attach_timer.fn = keeper_on_attach_timeout;
	k->grace_timer.fn = keeper_on_grace;
	k->end_timer.fn = keeper_on_end_timeout;
	k->listen_watch.fd = -1;
	k->workspace_watch.fd = -1;
	for (size_t i = 0; i < KEEPER_CLIENTS_MAX; i++)
		k->clients[i] = (struct keeper_client){.k = k, .watch = {.fd = -1}};
	return 0;
}

/* The loop's signals are blocked here, after the children that must not inherit that were made; a
 * child made later resets its mask. */
static int keeper_watch(struct keeper *k, struct err *e)
{
	struct keeper_bundle *b = &k->bundle;
	int ret = loop_signals(k->loop, (int[]){SIGTERM, SIGINT, SIGHUP, SIGQUIT}, 4,
			       keeper_on_signal, k, e);

	b->control_watch.fn = keeper_on_bundle_message;
	k->workspace_watch.fn = keeper_on_workspace;
	if (ret == 0)
		ret = loop_add(k->loop, &b->control_watch, b->control_fd, EPOLLIN, e);
	if (ret == 0 && k->workspace)
		ret = loop_add(k->loop, &k->workspace_watch, workspace_watch_fd(k->workspace),
			       EPOLLIN, e);
	return ret;
}

static int keeper_launch(struct keeper *k, const struct keeper_start *s, struct err *e)
{
	struct backend_stdio io = {.has_tty = s->has_tty, .rows = s->rows, .columns = s->columns};
	pid_t pid = 0;
	int ret;

	k->agent.k = k;
	k->agent.is_agent = true;
	ret = session_prepare(&k->agent, &io, e);
	if (ret == 0)
		ret = k->backend->launch(k->bottle, &io, &pid, e);
	return ret == 0 ? session_began(&k->agent, &io, pid, e) : ret;
}

static int keeper_make(struct keeper *k, const struct keeper_start *s, int secrets_fd,
		       struct err *e)
{
	_cleanup_close_ int secrets = secrets_fd;
	int ret;

	ret = keeper_policy_init(k, e);
	keeper_state_write(k);
	if (ret == 0)
		ret = keeper_state_write_plan(k, e);
	if (ret == 0)
		ret = keeper_make_loop(k, e);
	if (ret == 0)
		ret = keeper_door_prepare(&k->door, k->plan, s->state_dir, e);
	if (ret == 0)
		ret = k->backend->prepare(&k->bottle, k->plan, s->state_dir, s->has_tty, &k->place,
					  e);
	if (ret == 0)
		ret = workspace_watch_open(&k->workspace, k->state_fd, e);
	if (ret == 0 && k->backend->note)
		(void)snprintf(k->limits, sizeof(k->limits), "%s", k->backend->note(k->bottle));
	if (ret == 0)
		ret = keeper_bundle_start(k, secrets, e);
	/* Side by side with the bundle, which takes the longest. */
	if (ret == 0)
		ret = keeper_launch(k, s, e);
	if (ret == 0)
		ret = keeper_bundle_wait(k, k->ready_fd, e);
	if (ret == 0)
		ret = k->backend->canary(k->bottle, e);
	if (ret == 0)
		ret = client_listen(k, e);
	if (ret == 0)
		ret = keeper_watch(k, e);
	return ret < 0 ? ret : k->backend->go(k->bottle, buf_str(&k->bundle.ca_pem), e);
}

/* As much as there is to undo, in the order of keeper_farewell(). */
static void keeper_undo(struct keeper *k)
{
	keeper_door_close(&k->door);
	keeper_desk_close(k);
	if (k->bottle) {
		k->backend->kill(k->bottle);
		k->backend->reap_bundle(k->bottle, true, NULL, 0);
	}
	keeper_bundle_free(&k->bundle);
	keeper_policy_free(&k->policy);
	keeper_release(k);
	(void)unlinkat(k->state_fd, "control.sock", 0);
	close_fd(&k->lock_fd);
}

static void keeper_say(struct keeper *k, const char *line)
{
	_cleanup_free_ char *text = mem_printf("%s\n", line);

	if (k->ready_fd >= 0)
		(void)!io_write_all(k->ready_fd, text, strlen(text));
	close_fd(&k->ready_fd);
}

static int keeper_run(struct keeper *k, const struct keeper_start *s, int secrets_fd)
{
	struct err e = ERR_INIT;

	if (keeper_make(k, s, secrets_fd, &e) < 0) {
		log_error("%s", e.text);
		(void)snprintf(k->reason, sizeof(k->reason), "%s", e.text);
		keeper_undo(k);
		keeper_say(k, k->reason);
		return 1;
	}
	k->state = "running";
	keeper_state_write(k);
	loop_timer_set(k->loop, &k->attach_timer, KEEPER_ATTACH_WAIT_MS);
	/* A CLI that went away meanwhile will not attach either. */
	if (io_write_all(k->ready_fd, "ok\n", 3) < 0)
		keeper_stop(k, KEEPER_OWNER_GRACE_MS);
	close_fd(&k->ready_fd);
	(void)loop_run(k->loop);
	keeper_bundle_free(&k->bundle);
	keeper_policy_free(&k->policy);
	return 0;
}

/* --- the fork --- */

/* Only what the keeper needs stays open; the terminal does not. */
static int keeper_detach(struct keeper *k, int *secrets_fd, struct err *e)
{
	int *const keep[] = {&k->state_fd, &k->lock_fd, &k->ready_fd, secrets_fd};
	_cleanup_close_ int null = -1, out = -1;

	if (setsid() < 0)
		return err_errno(e, "setsid");
	out = openat(k->state_fd, "log", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW,
		     0600);
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (out < 0 || null < 0)
		return err_errno(e, "open the bottle's log");
	/* Raised out of the way first: what is below is closed, whatever the caller had open. */
	for (size_t i = 0; i < ARRAY_LEN(keep); i++) {
		int high = fcntl(*keep[i], F_DUPFD_CLOEXEC, 1000 - (int)ARRAY_LEN(keep));

		if (high < 0)
			return err_errno(e, "dup");
		*keep[i] = high;
	}
	if (dup2(null, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0)
		return err_errno(e, "dup2");
	null = out = -1;
	(void)close_range(3, 1000 - (unsigned)ARRAY_LEN(keep) - 1, 0);
	for (size_t i = 0; i < ARRAY_LEN(keep); i++) {
		int low = fcntl(*keep[i], F_DUPFD_CLOEXEC, 3);

		if (low < 0)
			return err_errno(e, "dup");
		*keep[i] = low;
	}
	(void)close_range(1000 - (unsigned)ARRAY_LEN(keep), ~0u, 0);
	return 0;
}

static _Noreturn void keeper_main(const struct keeper_start *s, const struct backend *backend,
				  int ready_fd, int secrets_fd)
{
	static struct keeper k;
	struct err e = ERR_INIT;

	k = (struct keeper){.plan = s->plan,
			    .backend = backend,
			    .state_fd = open(s->state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
			    .lock_fd = s->lock_fd,
			    .ready_fd = ready_fd,
			    .listen_fd = -1,
			    .state = "starting",
			    .started_ns = time_realtime_ns(),
			    .exit_status = -1};
	k.bundle.control_fd = -1;
	k.reach.fd = -1;
	keeper_door_init(&k.door);
	keeper_desk_init(&k);
	k.agent.has_tty = s->has_tty;
	k.is_detached = s->is_detached;
	log_set_role("keeper");
	signals_reset();
	(void)signal(SIGPIPE, SIG_IGN);
	(void)umask(077);
	if (k.state_fd < 0 || keeper_detach(&k, &secrets_fd, &e) < 0) {
		keeper_say(&k, e.text[0] ? e.text : "cannot open the state folder");
		_exit(1);
	}
	(void)!chdir("/");
	_exit(keeper_run(&k, s, secrets_fd));
}

int keeper_spawn(const struct keeper_start *s, int *ready_fd, struct err *e)
{
	_cleanup_close_ int ours = -1, theirs = -1, secrets = -1;
	const struct backend *backend = backend_find(s->plan->backend);
	int pair[2];
	pid_t pid;

	*ready_fd = -1;
	if (!backend)
		return err_set(e, -ENOSYS, "this backend is not in this build");
	secrets = keeper_secrets(s->plan, e);
	if (secrets < 0)
		return secrets;
	if (pipe2(pair, O_CLOEXEC) < 0)
		return err_errno(e, "pipe");
	ours = pair[0];
	theirs = pair[1];
	pid = fork();
	if (pid < 0)
		return err_errno(e, "fork");
	if (pid == 0)
		keeper_main(s, backend, theirs, take_fd(&secrets));
	*ready_fd = take_fd(&ours);
	return 0;
}
