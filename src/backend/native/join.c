/*
 * Theory of operation. Joining a hostile process's namespaces is how container runtimes were taken
 * over (CVE-2016-9962, CVE-2019-5736): until the last step the joiner is a host process that the
 * agent can see. So it is not dumpable from before the first setns(), which denies ptrace and
 * /proc/PID/{exe,fd,mem} to everybody in there; it holds no descriptor but its three and one
 * socket; and it executes nothing before it has no capability, no way to a new one, and the filter.
 * The process in between (a pid namespace is entered by a child) makes its child the keeper's, so
 * that the keeper reaps it and its death signal follows the keeper.
 */
#include "backend/agent_env.h"
#include "backend/native/compartment.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define JOIN_TIMEOUT_MS 10000

struct join {
	const struct compartment *c;
	const struct backend_stdio *io;
	char *const *argv;
	int slave_fd, sock;
};

/* Only the namespaces that are not ours already: to re-enter one's own needs powers over it. */
static int join_flags(pid_t init_pid, struct err *e)
{
	static const struct {
		const char *name;
		int flag;
	} all[] = {{"user", CLONE_NEWUSER},    {"net", CLONE_NEWNET}, {"mnt", CLONE_NEWNS},
		   {"pid", CLONE_NEWPID},      {"ipc", CLONE_NEWIPC}, {"uts", CLONE_NEWUTS},
		   {"cgroup", CLONE_NEWCGROUP}};
	int flags = 0;

	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		struct stat ours, theirs;
		char path[64];

		(void)snprintf(path, sizeof(path), "/proc/self/ns/%s", all[i].name);
		if (stat(path, &ours) < 0)
			return err_errno(e, "stat %s", path);
		(void)snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)init_pid, all[i].name);
		if (stat(path, &theirs) < 0)
			return err_errno(e, "the bottle's %s namespace", all[i].name);
		if (ours.st_ino != theirs.st_ino || ours.st_dev != theirs.st_dev)
			flags |= all[i].flag;
		else if (all[i].flag != CLONE_NEWCGROUP)
			return err_set(e, -EINVAL, "the bottle shares the host's %s namespace",
				       all[i].name);
	}
	return flags;
}

static int join_drop(const struct compartment *c, struct err *e)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[2];
	uid_t id = c->plan->agent_uid;

	memset(none, 0, sizeof(none));
	for (int cap = 0; cap < 64; cap++) {
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0 && errno != EINVAL)
			return err_errno(e, "drop capability %d", cap);
	}
	(void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	if (setresgid(id, id, id) < 0 || setresuid(id, id, id) < 0)
		return err_errno(e, "become the agent's user");
	if (syscall(SYS_capset, &head, none) < 0)
		return err_errno(e, "drop the capabilities");
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_errno(e, "no_new_privs");
	return 0;
}

/* Where the agent began: in its clone of the workspace, or its home. */
static int join_chdir(const struct compartment *c)
{
	static const char name[] = AGENT_WORKSPACE_ENV "=";

	for (char **v = c->env; v && *v; v++) {
		if (strncmp(*v, name, strlen(name)) == 0 && chdir(*v + strlen(name)) == 0)
			return 0;
	}
	return chdir(AGENT_HOME) == 0 ? 0 : chdir("/");
}

/* In the pid namespace, in the agent's place. Returns only with an error. */
static int join_become(const struct join *j, struct err *e)
{
	char probe;
	int ret;

	if (prctl(PR_SET_DUMPABLE, 0) < 0)
		return err_errno(e, "prctl");
	ret = compartment_stdio(j->io, j->slave_fd, true, e);
	if (ret == 0)
		ret = compartment_limit(j->c, e);
	if (ret == 0)
		ret = join_drop(j->c, e);
	if (ret < 0)
		return ret;
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		return err_errno(e, "prctl");
	/* The keeper's end of the socket is gone if the keeper died before the line above. */
	if (recv(j->sock, &probe, 1, MSG_DONTWAIT | MSG_PEEK) == 0)
		_exit(125);
	if (join_chdir(j->c) < 0)
		return err_errno(e, "chdir");
	signals_reset();
	(void)umask(022);
	if (close_range(3, ~0u, CLOSE_RANGE_CLOEXEC) < 0)
		return err_errno(e, "close_range");
	ret = agent_filter_apply(&j->c->filter, e);
	if (ret < 0)
		return ret;
	environ = j->c->env;
	(void)execvp(j->argv[0], j->argv);
	return err_errno(e, "run \"%s\"", j->argv[0]);
}

/* The process in between: enters, leaves its child behind as the keeper's, and goes. */
static int join_enter(const struct join *j, pid_t *pid, struct err *e)
{
	int flags, ret;

	if (prctl(PR_SET_DUMPABLE, 0) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		return err_errno(e, "prctl");
	ret = cgroup_join(j->c->cgroup, e);
	if (ret < 0)
		return ret;
	if (geteuid() == 0 && setgroups(0, NULL) < 0)
		return err_errno(e, "drop supplementary groups");
	flags = join_flags(j->c->init_pid, e);
	if (flags < 0)
		return flags;
	if (setns(j->c->init_pidfd, flags) < 0)
		return err_errno(e, "enter the bottle's namespaces");
	*pid = (pid_t)syscall(SYS_clone, CLONE_PARENT | SIGCHLD, NULL, NULL, NULL, NULL);
	if (*pid < 0)
		return err_errno(e, "clone");
	return 0;
}

static _Noreturn void join_child(const struct join *j)
{
	struct err failed = ERR_INIT;
	pid_t pid = 0;

	failed.code = join_enter(j, &pid, &failed);
	if (failed.code < 0)
		compartment_give_up(j->sock, &failed);
	if (pid == 0) {
		failed.code = join_become(j, &failed);
		compartment_give_up(j->sock, &failed);
	}
	/* A positive code is the pid. */
	failed.code = pid;
	(void)io_send_fds(j->sock, &failed, sizeof(failed), NULL, 0, 0);
	_exit(0);
}

static int join_reap(pid_t pid)
{
	int status = 0;

	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return status;
}

/* The pid of the process in the bottle, or its failure. The two may arrive in either order. */
static int join_answer(int sock, pid_t *pid, struct err *e)
{
	struct err answer;
	int ret = 0;

	for (;;) {
		ssize_t got;

		if (io_wait(sock, POLLIN, JOIN_TIMEOUT_MS) <= 0)
			return err_set(e, -ETIMEDOUT, "the bottle cannot be entered");
		got = io_recv_fds(sock, &answer, sizeof(answer), NULL, NULL, 0);
		if (got == 0)
			break;
		if (got != (ssize_t)sizeof(answer))
			return err_set(e, -EPROTO, "the joiner's answer makes no sense");
		if (answer.code > 0)
			*pid = answer.code;
		else
			ret = err_set(e, answer.code, "%.*s", (int)sizeof(answer.text) - 1,
				      answer.text);
	}
	if (ret == 0 && *pid <= 0)
		return err_set(e, -EPROTO, "the joiner died");
	return ret;
}

int compartment_join(const struct compartment *c, char *const *argv, struct backend_stdio *io,
		     pid_t *pid, struct err *e)
{
	_cleanup_close_ int ours = -1, theirs = -1, slave_fd = -1;
	struct join j = {.c = c, .io = io, .argv = argv};
	int pair[2], ret;
	pid_t between;

	*pid = 0;
	if (c->init_pidfd < 0)
		return err_set(e, -ESRCH, "the bottle does not run");
	ret = io->has_tty ? compartment_open_pty(c, io, &slave_fd, e) : 0;
	if (ret < 0)
		return ret;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_errno(e, "socketpair");
	ours = pair[0];
	theirs = pair[1];
	j.slave_fd = slave_fd;
	j.sock = theirs;
	between = fork();
	if (between < 0)
		return err_errno(e, "fork");
	if (between == 0) {
		close_fd(&ours);
		join_child(&j);
	}
	close_fd(&theirs);
	ret = join_answer(ours, pid, e);
	if (ret < 0)
		(void)kill(between, SIGKILL);
	(void)join_reap(between);
	if (ret < 0 && *pid > 0) {
		(void)kill(*pid, SIGKILL);
		(void)join_reap(*pid);
		*pid = 0;
	}
	return ret;
}
