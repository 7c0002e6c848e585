/*
 * The human hears of a new request: a command of the user's own, with what it is about in its
 * environment, never in its arguments or in a shell's text; or the desktop's notify-send, whose
 * text has the bottle's name, the number and the kind alone.
 */
#include "backend/keeper_int.h"

#include "base/clean.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/signals.h"
#include "base/timeutil.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define NOTIFY_EVERY_MS 5000
#define NOTIFY_KILL_MS	10000

#define NOTIFY_OF(m, member)                                                                       \
	((struct keeper_notify *)(void *)((char *)(m)-offsetof(struct keeper_notify, member)))

static void notify_start(struct keeper_notify *n);

static _Noreturn void notify_main(const struct keeper_notify *n, pid_t parent)
{
	char id[24], text[160];
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (setsid() < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent ||
	    null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0)
		_exit(127);
	signals_reset();
	(void)syscall(SYS_close_range, 3, ~0u, 0);
	(void)snprintf(id, sizeof(id), "%llu", (unsigned long long)n->id);
	if (setenv("CLAUDE_BOTTLE_REQUEST_SLUG", n->slug, 1) < 0 ||
	    setenv("CLAUDE_BOTTLE_REQUEST_ID", id, 1) < 0 ||
	    setenv("CLAUDE_BOTTLE_REQUEST_KIND", n->kind, 1) < 0 ||
	    setenv("CLAUDE_BOTTLE_REQUEST_SUMMARY", n->summary, 1) < 0)
		_exit(127);
	(void)snprintf(text, sizeof(text), "%s asks: request %s (%s)", n->slug, id, n->kind);
	if (strcmp(n->command, PLAN_NOTIFY_DESKTOP) == 0)
		(void)execlp("notify-send", "notify-send", "claude-bottle", text, (char *)NULL);
	else
		(void)execl("/bin/sh", "sh", "-c", n->command, (char *)NULL);
	_exit(127);
}

/* Whatever of its group is left goes with it. */
static void notify_end(struct keeper_notify *n)
{
	if (n->pid == 0)
		return;
	loop_del(n->loop, &n->watch);
	loop_timer_del(n->loop, &n->kill_timer);
	(void)kill(-n->pid, SIGKILL);
	(void)kill(n->pid, SIGKILL);
	while (waitpid(n->pid, NULL, 0) < 0 && errno == EINTR)
		;
	n->pid = 0;
	close_fd(&n->pid_fd);
}

static void notify_on_exit(struct loop_watch *w, uint32_t events)
{
	struct keeper_notify *n = NOTIFY_OF(w, watch);

	(void)events;
	notify_end(n);
	notify_start(n);
}

static void notify_on_late(struct loop_timer *t)
{
	struct keeper_notify *n = NOTIFY_OF(t, kill_timer);

	log_warn("the command of notify does not end: killed");
	notify_end(n);
	notify_start(n);
}

static void notify_on_wait(struct loop_timer *t)
{
	notify_start(NOTIFY_OF(t, wait_timer));
}

/* What is next, when its time has come. */
static void notify_start(struct keeper_notify *n)
{
	uint64_t now_ns = time_monotonic_ns(),
		 due_ns = n->last_ns + NOTIFY_EVERY_MS * TIME_NS_PER_MS;
	pid_t parent = getpid();
	struct err e = ERR_INIT;

	if (!n->has_next || n->pid != 0)
		return;
	if (n->last_ns != 0 && now_ns < due_ns) {
		loop_timer_set(n->loop, &n->wait_timer, (due_ns - now_ns) / TIME_NS_PER_MS + 1);
		return;
	}
	n->has_next = false;
	n->last_ns = now_ns;
	n->pid = fork();
	if (n->pid == 0)
		notify_main(n, parent);
	if (n->pid < 0) {
		log_warn("notify: %s", strerror(errno));
		n->pid = 0;
		return;
	}
	n->pid_fd = (int)syscall(SYS_pidfd_open, n->pid, 0);
	if (n->pid_fd < 0 || loop_add(n->loop, &n->watch, n->pid_fd, EPOLLIN, &e) < 0)
		notify_end(n);
	else
		loop_timer_set(n->loop, &n->kill_timer, NOTIFY_KILL_MS);
}

void keeper_notify_init(struct keeper_notify *n, struct loop *l, const char *slug,
			const char *command)
{
	*n = (struct keeper_notify){.loop = l,
				    .slug = slug,
				    .command = command && command[0] ? command : NULL,
				    .pid_fd = -1,
				    .watch = {.fd = -1, .fn = notify_on_exit},
				    .kill_timer.fn = notify_on_late,
				    .wait_timer.fn = notify_on_wait};
}

void keeper_notify(struct keeper_notify *n, uint64_t id, const char *kind, const char *summary)
{
	if (!n->command)
		return;
	n->has_next = true;
	n->id = id;
	(void)snprintf(n->kind, sizeof(n->kind), "%s", kind);
	(void)snprintf(n->summary, sizeof(n->summary), "%s", summary);
	notify_start(n);
}

void keeper_notify_close(struct keeper_notify *n)
{
	if (!n->loop)
		return;
	n->has_next = false;
	notify_end(n);
	loop_timer_del(n->loop, &n->wait_timer);
}
