/*
 * Theory of operation. Process 1 has three lives. First it is the keeper's: it connects, says "h",
 * and does what it is told; whatever goes wrong ends it, so that an agent never starts behind a
 * wall that nobody has looked at. Then it forks the agent, and learns from a pipe that closes at
 * execve() that the agent runs. Then it has no standard descriptors any more and is an ordinary
 * init: it reaps, passes signals on, its own and those that the keeper asks for, and ends as the
 * agent ends; the kernel kills the rest of a pid namespace with its first process. So it does, too,
 * when the keeper hangs up: a keeper that was killed leaves no agent running.
 *
 * The agent is of the same user. What it could do to its init is send signals, which it gets back;
 * it may not trace it or take its descriptors (not dumpable, and the filter knows neither ptrace
 * nor pidfd_getfd), and the kernel protects process 1 from signals that it has not asked for.
 * Nothing that the agent can hold up is waited for: every loop watches the keeper.
 */
#include "guest/guest_int.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/signals.h"
#include "base/text.h"
#include "base/timeutil.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#define INIT_RETRY_MS 10
/* A command that is told to end may not be there yet, or be between two programs: while execve()
 * makes the new one's memory it has no environment that it could be known by. */
#define INIT_LATE_MAX	   8
#define INIT_LATE_RETRY_MS 50
#define INIT_LATE_MS	   5000

/* A signal for a command that was not found. */
struct init_late {
	struct orders_pass pass;
	uint64_t until_ns;
};

struct init {
	int sock, signals;
	bool is_machine;	   /* canary_check()'s */
	bool has_held, is_refused; /* the wall: a canary found it closed; one found it open */
	struct init_late late[INIT_LATE_MAX];
	size_t n_late;
};

/* What the child could not do; nothing arrives when it runs. */
struct init_failure {
	bool is_exec;
	struct err e;
};

static int init_fail(const struct err *e)
{
	agent_complain(e);
	return GUEST_NOT_RUN;
}

/* --- signals --- */

/* Faults are this process's own, SIGCHLD is its work; all others are meant for the agent. */
static void init_signal_set(sigset_t *set)
{
	static const int own[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT};

	sigfillset(set);
	for (size_t i = 0; i < ARRAY_LEN(own); i++)
		sigdelset(set, own[i]);
}

static int init_open_signals(struct init *t, struct err *e)
{
	sigset_t set;

	init_signal_set(&set);
	if (sigprocmask(SIG_SETMASK, &set, NULL) < 0)
		return err_errno(e, "sigprocmask");
	t->signals = signalfd(-1, &set, SFD_CLOEXEC);
	return t->signals < 0 ? err_errno(e, "signalfd") : 0;
}

static int init_read_signal(const struct init *t)
{
	struct signalfd_siginfo info;

	return read(t->signals, &info, sizeof(info)) == (ssize_t)sizeof(info) ? (int)info.ssi_signo
									      : 0;
}

/* --- with the keeper --- */

static int init_connect(struct init *t, const char *path, unsigned connect_ms, struct err *e)
{
	uint64_t until = time_monotonic_ns() + connect_ms * TIME_NS_PER_MS;
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	if (!str_to_cstr(address.sun_path, sizeof(address.sun_path), str_of(path)))
		return err_set(e, -ENAMETOOLONG, "the keeper's socket has too long a name");
	t->sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (t->sock < 0)
		return err_errno(e, "socket");
	while (connect(t->sock, (const struct sockaddr *)&address, sizeof(address)) < 0) {
		if (errno != ENOENT && errno != ECONNREFUSED && errno != EINTR && errno != EAGAIN)
			return err_errno(e, "connect to the bottle's keeper");
		if (time_monotonic_ns() > until)
			return err_set(
				e, -ETIMEDOUT,
				"the bottle's keeper is not there: the agent is not started");
		(void)poll(NULL, 0, INIT_RETRY_MS);
	}
	return 0;
}

/* letter and, with 'n', why. The keeper may be gone: what it does not hear it will not miss. */
static void init_tell(const struct init *t, char letter, const struct err *why)
{
	char message[1 + GUEST_TEXT_MAX] = {letter};

	if (why)
		text_visible_cstr(message + 1, sizeof(message) - 1, str_of(why->text));
	(void)io_send_fds(t->sock, message, 1 + strlen(message + 1), NULL, 0, 0);
}

/* Until the keeper says something. -EINTR: somebody has asked for the end; *signo says how. */
static int init_await(const struct init *t, int *signo, struct err *e)
{
	struct pollfd polls[] = {{.fd = t->sock, .events = POLLIN},
				 {.fd = t->signals, .events = POLLIN}};

	for (;;) {
		if (poll(polls, ARRAY_LEN(polls), -1) < 0) {
			if (errno == EINTR)
				continue;
			return err_errno(e, "poll");
		}
		if (polls[1].revents) {
			*signo = init_read_signal(t);
			if (*signo == SIGTERM || *signo == SIGINT || *signo == SIGQUIT ||
			    *signo == SIGHUP)
				return err_set(e, -EINTR, "ended before the agent was started");
		}
		if (polls[0].revents)
			return 0;
	}
}

static void init_canary(struct init *t, const struct guest_canary *c)
{
	struct err e = ERR_INIT;

	if (canary_check(c, t->is_machine, &e) < 0) {
		t->is_refused = true;
		init_tell(t, 'n', &e);
	} else {
		t->has_held = true;
		init_tell(t, 'k', NULL);
	}
}

/* Carries out the keeper's orders up to "go", which o then holds. */
static int init_obey(struct init *t, struct orders *o, int *signo, struct err *e)
{
	for (;;) {
		int ret = init_await(t, signo, e);

		if (ret == 0)
			ret = orders_receive(t->sock, o, e);
		if (ret == 0 && o->letter == 0)
			ret = err_set(e, -EPIPE,
				      "the bottle's keeper went away: the agent is not started");
		if (ret == 0 && o->letter == 'g' && (t->is_refused || !t->has_held))
			ret = err_set(e, -EPERM, "%s: the agent is not started",
				      t->is_refused ? "the wall does not hold"
						    : "nobody has looked at the wall");
		if (ret < 0 || o->letter == 'g')
			return ret;
		init_canary(t, &o->canary);
		orders_free(o);
	}
}

/* --- the agent --- */

static _Noreturn void init_child(const struct guest_go *g, int pipe_fd)
{
	struct init_failure f = {.is_exec = false};

	(void)!agent_take_session(g->has_tty, &f.e);
	/* The strings live as long as the order does, in this child for ever. */
	for (char *const *v = g->env; v && *v; v++)
		(void)putenv(*v);
	if (f.e.code == 0)
		(void)agent_become(g->argv, &f.is_exec, &f.e);
	/* Whoever gets less than all of it takes that for a failure as well. */
	_exit(io_write_all(pipe_fd, &f, sizeof(f)) < 0 ? 1 : GUEST_NOT_RUN);
}

/* Until the child has said something or its end is closed. */
static int init_await_child(const struct init *t, int fd, struct err *e)
{
	/* No event asked for: hanging up is reported nevertheless. */
	struct pollfd polls[] = {{.fd = t->sock}, {.fd = fd, .events = POLLIN}};

	for (;;) {
		if (poll(polls, ARRAY_LEN(polls), -1) < 0) {
			if (errno == EINTR)
				continue;
			return err_errno(e, "poll");
		}
		if (polls[0].revents)
			return err_set(e, -EPIPE,
				       "the bottle's keeper went away while the agent started");
		if (polls[1].revents)
			return 0;
	}
}

/* 0 when the child has become the agent; 126 or 127 when there was nothing to execute. */
static int init_start(const struct init *t, const struct guest_go *g, pid_t *pid, struct err *e)
{
	_cleanup_close_ int ours = -1, theirs = -1;
	struct init_failure f;
	int ends[2], ret;
	ssize_t got;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_errno(e, "pipe");
	ours = ends[0];
	theirs = ends[1];
	*pid = fork();
	if (*pid < 0)
		return err_errno(e, "fork");
	if (*pid == 0)
		init_child(g, theirs);
	close_fd(&theirs);
	ret = init_await_child(t, ours, e);
	if (ret < 0)
		return ret;
	do {
		got = read(ours, &f, sizeof(f));
	} while (got < 0 && errno == EINTR);
	if (got == 0)
		return 0;
	if (got != (ssize_t)sizeof(f))
		return err_set(e, -EPROTO, "the agent's process ended while it started");
	*e = f.e;
	return f.is_exec ? agent_exec_status(f.e.code) : f.e.code;
}

/* True when it was the agent that ended. */
static bool init_reap(pid_t agent, int *status)
{
	bool has_ended = false;

	for (;;) {
		int how;
		pid_t pid = waitpid(-1, &how, WNOHANG);

		if (pid < 0 && errno == EINTR)
			continue;
		if (pid <= 0)
			return has_ended;
		if (pid != agent)
			continue;
		has_ended = true;
		*status = signals_exit_status(how);
	}
}

static bool init_pass(const struct orders_pass *p, pid_t agent)
{
	pid_t leader = p->exec == 0 ? agent : exec_find(p->exec, EXEC_LOOK_MAX);

	if (leader > 1)
		(void)agent_signal(leader, p->signo);
	return leader > 1;
}

/* In their order; what has no room any more was for one of many that are not found either. */
static void init_pass_late(struct init *t, pid_t agent)
{
	uint64_t now_ns = time_monotonic_ns();
	size_t kept = 0;

	for (size_t i = 0; i < t->n_late; i++) {
		if (!init_pass(&t->late[i].pass, agent) && now_ns < t->late[i].until_ns)
			t->late[kept++] = t->late[i];
	}
	t->n_late = kept;
}

/* What the keeper says meanwhile. False: nothing that an agent should outlive. */
static bool init_hear(struct init *t, pid_t agent)
{
	struct orders_pass p;

	if (orders_receive_pass(t->sock, &p, NULL) != 1)
		return false;
	if (!init_pass(&p, agent) && t->n_late < INIT_LATE_MAX)
		t->late[t->n_late++] = (struct init_late){
			.pass = p, .until_ns = time_monotonic_ns() + INIT_LATE_MS * TIME_NS_PER_MS};
	return true;
}

static int init_live(struct init *t, pid_t agent)
{
	struct pollfd polls[] = {{.fd = t->sock, .events = POLLIN},
				 {.fd = t->signals, .events = POLLIN}};
	int status = 0;

	/* Whoever reads the agent's output must see its end when the agent closes it. */
	for (int fd = 0; fd <= 2; fd++)
		(void)close(fd);
	for (;;) {
		int signo;

		if (poll(polls, ARRAY_LEN(polls), t->n_late > 0 ? INIT_LATE_RETRY_MS : -1) < 0) {
			if (errno == EINTR)
				continue;
			return GUEST_HUNG_UP;
		}
		init_pass_late(t, agent);
		if (polls[0].revents && !init_hear(t, agent))
			return GUEST_HUNG_UP;
		if (!polls[1].revents)
			continue;
		signo = init_read_signal(t);
		if (signo == SIGCHLD && init_reap(agent, &status))
			return status;
		if (signo > 0 && signo != SIGCHLD)
			(void)agent_signal(agent, signo);
	}
}

static int init_go(struct init *t, const struct guest_go *g)
{
	struct err e = ERR_INIT;
	pid_t agent = 0;
	int ret = files_write(getenv("HOME"), 0700, g->files, g->n_files, &e);

	if (ret == 0)
		ret = agent_limit(&g->limits, &e);
	if (ret == 0)
		ret = init_start(t, g, &agent, &e);
	if (ret < 0) {
		init_tell(t, 'n', &e);
		return init_fail(&e);
	}
	if (ret > 0)
		agent_complain(&e);
	init_tell(t, 's', NULL);
	return ret > 0 ? ret : init_live(t, agent);
}

/* From a connection on, whose other end is the keeper's, to the end. */
static int init_serve(struct init *t)
{
	static struct orders o; /* the child's argv lies in it */
	struct err e = ERR_INIT;
	int signo = 0, ret;

	init_tell(t, 'h', NULL);
	ret = init_obey(t, &o, &signo, &e);
	if (ret < 0) {
		init_tell(t, 'n', &e);
		ret = ret == -EINTR && signo > 0 ? 128 + signo : init_fail(&e);
	} else {
		ret = init_go(t, &o.go);
	}
	orders_free(&o);
	return ret;
}

static void init_close(struct init *t)
{
	close_fd(&t->sock);
	close_fd(&t->signals);
}

int init_run(const char *socket_path, unsigned connect_ms)
{
	struct init t = {.sock = -1, .signals = -1};
	struct err e = ERR_INIT;
	int ret = agent_isolate(&e);

	agent_release_terminal();
	if (ret == 0)
		ret = init_open_signals(&t, &e);
	if (ret == 0)
		ret = init_connect(&t, socket_path, connect_ms, &e);
	ret = ret < 0 ? init_fail(&e) : init_serve(&t);
	init_close(&t);
	return ret;
}

int init_run_machine(int sock)
{
	struct init t = {.sock = sock, .signals = -1, .is_machine = true};
	struct err e = ERR_INIT;
	int ret = init_open_signals(&t, &e);

	ret = ret < 0 ? init_fail(&e) : init_serve(&t);
	init_close(&t);
	return ret;
}
