/*
 * Workers as processes. Each is a fork of the role, with the scan engine in its memory, in a
 * process group of its own with all that it starts. The group ends with the request: a worker that
 * is told to end ends its group, because the role may signal single processes only. What a killed
 * worker leaves behind is told by the kernel (parent-death signal) or finds its pipes closed. At
 * most workers_max run at a time, the rest wait in a queue.
 */
#include "gitgate/worker_desk.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/log.h"
#include "base/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#define CLOSE_OTHERS_MAX 16

/* --- descriptors of a child --- */

void gitgate_close_others(const int *keep, size_t n)
{
	int kept[CLOSE_OTHERS_MAX];
	size_t count = 0;
	unsigned next = 0;

	for (size_t i = 0; i < n && count < CLOSE_OTHERS_MAX; i++) {
		size_t at = count;

		if (keep[i] < 0)
			continue;
		while (at > 0 && kept[at - 1] > keep[i])
			at--;
		memmove(kept + at + 1, kept + at, (count - at) * sizeof(*kept));
		kept[at] = keep[i];
		count++;
	}
	for (size_t i = 0; i < count; i++) {
		if ((unsigned)kept[i] > next)
			(void)close_range(next, (unsigned)kept[i] - 1, 0);
		next = (unsigned)kept[i] + 1;
	}
	(void)close_range(next, ~0u, 0);
}

int gitgate_die_with(pid_t parent)
{
	return prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 || getppid() != parent ? -ESRCH : 0;
}

/* On SIGTERM: the whole group, which is this worker's alone. git removes its temporary files and
 * ends; so does a push that is being decided. What is left after that is killed, ourselves too. */
static void worker_on_term(int signo)
{
	const struct timespec grace = {.tv_nsec = 500 * 1000 * 1000};

	(void)signal(signo, SIG_IGN);
	(void)kill(0, SIGTERM);
	(void)nanosleep(&grace, NULL);
	(void)kill(0, SIGKILL);
}

/* Never returns. Standard input and output stay what they are: init has given every role
 * something. */
_Noreturn static void worker_child(struct gitgate_job *job, int fd, int desk_fd, pid_t parent)
{
	const struct gitgate *g = job->g;
	const int keep[] = {STDIN_FILENO,
			    STDOUT_FILENO,
			    STDERR_FILENO,
			    fd,
			    g->config.record_fd,
			    g->upstream.egress_fd,
			    g->upstream.ssh_fd,
			    g->upstream.door_fd,
			    desk_fd};

	job->desk_fd = desk_fd;
	/* Without a group of its own the handler would end the role. */
	if (setpgid(0, 0) < 0 || gitgate_die_with(parent) < 0)
		_exit(1);
	signals_reset();
	(void)signal(SIGPIPE, SIG_IGN);
	(void)signal(SIGXFSZ, SIG_IGN);
	(void)signal(SIGTERM, worker_on_term);
	/* The agent's other connections among them, which must end when the role ends them. */
	gitgate_close_others(keep, ARRAY_LEN(keep));
	gitgate_worker_main(job, fd);
}

/* --- ends --- */

static void worker_signal(const struct gitgate_worker *w, int signo)
{
	/* Until it has been waited for, the number stands for this process and no other. */
	if (w->pid > 0 && kill(w->pid, signo) < 0 && errno != ESRCH)
		log_warn("a worker cannot be signalled");
}

static void workers_next(struct gitgate *g);

static void worker_on_exit(struct loop_watch *watch, uint32_t events)
{
	struct gitgate_worker *w = (struct gitgate_worker *)(void *)watch;
	struct gitgate *g = w->g;
	int status = 0, pid_fd = watch->fd;

	(void)events;
	(void)waitpid(w->pid, &status, 0);
	if (WIFSIGNALED(status) && !w->is_ending)
		log_warn("a worker was ended by signal %d", WTERMSIG(status));
	loop_timer_del(g->loop, &w->timer);
	loop_del(g->loop, &w->watch);
	(void)close(pid_fd);
	worker_desk_close(w);
	if (w->exchange)
		w->exchange->worker = NULL;
	w->pid = 0;
	workers_next(g);
}

static void worker_on_timer(struct loop_timer *t)
{
	struct gitgate_worker *w =
		(struct gitgate_worker *)(void *)((char *)t -
						  offsetof(struct gitgate_worker, timer));

	if (w->is_ending) {
		worker_signal(w, SIGKILL);
		return;
	}
	w->is_ending = true;
	worker_signal(w, SIGTERM);
	loop_timer_set(w->g->loop, t, GITGATE_GRACE_MS);
}

/* --- starts --- */

static struct gitgate_worker *worker_free_slot(struct gitgate *g)
{
	for (unsigned i = 0; i < g->workers_max; i++) {
		if (g->workers[i].pid == 0)
			return &g->workers[i];
	}
	return NULL;
}

static int worker_watch(struct gitgate_worker *w, struct err *e)
{
	_cleanup_close_ int pid_fd = (int)syscall(SYS_pidfd_open, w->pid, 0);
	int ret;

	if (pid_fd < 0)
		return err_errno(e, "pidfd_open");
	w->watch.fn = worker_on_exit;
	w->timer.fn = worker_on_timer;
	ret = loop_add(w->g->loop, &w->watch, pid_fd, EPOLLIN, e);
	if (ret == 0)
		(void)take_fd(&pid_fd);
	return ret;
}

static int worker_start(struct gitgate *g, struct gitgate_exchange *ex, struct gitgate_worker *w,
			struct err *e)
{
	_cleanup_close_ int ours = -1, theirs = -1, desk_fd = -1;
	pid_t parent = getpid();
	int pair[2], ret;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_errno(e, "socketpair");
	ours = pair[0];
	theirs = pair[1];
	*w = (struct gitgate_worker){.g = g, .watch = {.fd = -1}};
	desk_fd = worker_desk_open(w, &ex->job);
	w->pid = fork();
	if (w->pid < 0) {
		w->pid = 0;
		worker_desk_close(w);
		return err_errno(e, "fork a worker");
	}
	if (w->pid == 0)
		worker_child(&ex->job, theirs, desk_fd, parent);
	ret = io_set_nonblock(ours, true);
	if (ret == 0)
		ret = worker_watch(w, e);
	if (ret < 0) {
		worker_signal(w, SIGKILL);
		(void)waitpid(w->pid, NULL, 0);
		worker_desk_close(w);
		w->pid = 0;
		return ret;
	}
	w->exchange = ex;
	ex->worker = w;
	return take_fd(&ours);
}

int gitgate_worker_get(struct gitgate *g, struct gitgate_exchange *ex, struct err *e)
{
	struct gitgate_worker *w = worker_free_slot(g);

	if (w && !g->queue_first)
		return worker_start(g, ex, w, e);
	if (g->n_queued >= GITGATE_QUEUE_MAX)
		return err_set(e, -EBUSY, "too many requests are waiting");
	ex->queue_next = NULL;
	ex->is_queued = true;
	*g->queue_last = ex;
	g->queue_last = &ex->queue_next;
	g->n_queued++;
	return -EAGAIN;
}

static void queue_remove(struct gitgate *g, struct gitgate_exchange *ex)
{
	struct gitgate_exchange **at = &g->queue_first;

	while (*at && *at != ex)
		at = &(*at)->queue_next;
	if (!*at)
		return;
	*at = ex->queue_next;
	if (!*at)
		g->queue_last = at;
	ex->is_queued = false;
	g->n_queued--;
}

static void workers_next(struct gitgate *g)
{
	struct gitgate_worker *w;

	while (g->queue_first && (w = worker_free_slot(g))) {
		struct relay_back_spec spec = {.fd = -1};
		struct gitgate_exchange *ex = g->queue_first;
		struct err e = ERR_INIT;

		queue_remove(g, ex);
		spec.fd = worker_start(g, ex, w, &e);
		if (spec.fd < 0)
			log_error("%s", e.text);
		relay_dial_done(ex->x, &spec, "git-failed");
	}
}

void gitgate_worker_leave(struct gitgate_exchange *ex, bool is_complete)
{
	struct gitgate_worker *w = ex->worker;

	if (ex->is_queued)
		queue_remove(relay_ctx(ex->x->relay), ex);
	if (!w)
		return;
	ex->worker = NULL;
	w->exchange = NULL;
	if (!is_complete) {
		w->is_ending = true;
		worker_signal(w, SIGTERM);
	}
	loop_timer_set(w->g->loop, &w->timer, is_complete ? GITGATE_LINGER_MS : GITGATE_GRACE_MS);
}

void gitgate_workers_kill(struct gitgate *g)
{
	for (unsigned i = 0; i < g->workers_max; i++) {
		struct gitgate_worker *w = &g->workers[i];

		if (w->pid == 0)
			continue;
		worker_signal(w, SIGKILL);
		(void)waitpid(w->pid, NULL, 0);
		loop_timer_del(g->loop, &w->timer);
		if (w->watch.fd >= 0) {
			int fd = w->watch.fd;

			loop_del(g->loop, &w->watch);
			(void)close(fd);
		}
		worker_desk_close(w);
		w->pid = 0;
	}
}
