/*
 * The namespaces of the agent's, as a container engine would make them, and the two ways into
 * them: guest init, process 1 in there, and guest exec beside it, whose parent is outside. Both
 * come without any capability and with the agent's filter already on, so that what an agent of the
 * same user could change in the moment before they have closed themselves is worth nothing.
 */
#include "guest/machine_int.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/signals.h"
#include "base/timeutil.h"
#include "priv/agent_filter.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define PLACE_FDS	6
#define PLACE_MARK_SIZE 16

_Static_assert(sizeof("id=4294967295") <= PLACE_MARK_SIZE, "a mark has room");

/* --- the way down --- */

static int place_drop(unsigned uid, unsigned gid, struct err *e)
{
	struct agent_filter filter;
	int ret = agent_filter_build(&filter, e);

	if (ret < 0)
		return ret;
	for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++) {
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
			return err_errno(e, "give capability %d up", cap);
	}
	if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
		return err_errno(e, "become user %u", uid);
	ret = agent_drop_caps(e);
	if (ret < 0)
		return ret;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_errno(e, "PR_SET_NO_NEW_PRIVS");
	return agent_filter_apply(&filter, e);
}

static int place_join(const struct machine_place *p, struct err *e)
{
	return write(p->members, "0", 1) == 1 ? 0 : err_errno(e, "enter the agent's control group");
}

/* Does not return but with an error. */
static int place_become(const struct machine_place *p, const struct machine_stdio *io, bool has_tty,
			char *const *argv, struct err *e)
{
	_cleanup_close_ int bundle = open(p->bundle, O_PATH | O_CLOEXEC);
	int ret = bundle < 0 ? err_errno(e, "find %s", p->bundle)
			     : machine_stdio_take(io, has_tty, e);

	if (ret == 0)
		ret = place_drop(p->uid, p->gid, e);
	if (ret < 0)
		return ret;
	signals_reset();
	(void)syscall(SYS_execveat, bundle, "", argv, p->env, AT_EMPTY_PATH);
	return err_errno(e, "execute %s", p->bundle);
}

/* --- guest init --- */

static int place_send(int to_parent, const struct machine_root *root,
		      const struct machine_stdio *io, struct err *e)
{
	const int fds[PLACE_FDS] = {root->listener, root->terminals, root->writable,
				    io->in,	    io->out,	     io->err};
	ssize_t put =
		io_send_fds(to_parent, "m", 1, fds, io->err >= 0 ? PLACE_FDS : PLACE_FDS - 1, 0);

	return put == 1 ? 0 : err_set(e, -EPIPE, "hand the agent's descriptors over");
}

static _Noreturn void place_child(const struct machine_place *p, const struct machine_order *o,
				  int to_parent)
{
	char *const argv[] = {(char *)(uintptr_t) "claude-bottle-bundle",
			      (char *)(uintptr_t) "guest", (char *)(uintptr_t) "init", NULL};
	struct machine_root root = MACHINE_ROOT_INIT;
	struct machine_stdio io = MACHINE_STDIO_INIT;
	struct err e = ERR_INIT;
	int ret = place_join(p, &e);

	/* Now, so that its group is the top of what it sees of groups. */
	if (ret == 0 && unshare(p->namespaces & CLONE_NEWCGROUP) < 0)
		ret = err_errno(&e, "unshare");
	if (ret == 0)
		ret = machine_root_enter(&root, o, &e);
	if (ret == 0 && sethostname(o->hostname, strlen(o->hostname)) < 0)
		ret = err_errno(&e, "sethostname");
	if (ret == 0)
		ret = machine_stdio_open(&io, o->has_tty ? root.terminals : -1, o->uid, &e);
	if (ret == 0 && o->has_tty)
		machine_stdio_size(io.in, o->rows, o->columns);
	if (ret == 0)
		ret = place_send(to_parent, &root, &io, &e);
	/* Whatever this process keeps ends with execve(). */
	if (ret == 0)
		(void)place_become(p, &io, o->has_tty, argv, &e);
	(void)io_send_fds(to_parent, &e, sizeof(e), NULL, 0, 0);
	_exit(GUEST_NOT_RUN);
}

static int place_wait(int fd, uint64_t until_ns, const char *what, struct err *e)
{
	uint64_t now_ns = time_monotonic_ns();
	int ret = now_ns >= until_ns
			  ? 0
			  : io_wait(fd, POLLIN, (int)((until_ns - now_ns) / TIME_NS_PER_MS) + 1);

	if (ret == 0)
		return err_set(e, -ETIMEDOUT, "the agent's first process does not %s", what);
	return ret < 0 ? err_set(e, ret, "wait for the agent's first process") : 0;
}

/* One message of the child's: its descriptors, or nothing when it has become guest init. */
static int place_receive(int from_child, uint64_t until_ns, int *fds, size_t *n_fds, struct err *e)
{
	struct err said;
	int ret = place_wait(from_child, until_ns, "get ready", e);
	ssize_t got;

	if (ret < 0)
		return ret;
	got = io_recv_fds(from_child, &said, sizeof(said), fds, n_fds, 0);
	if (got == (ssize_t)sizeof(said)) {
		if (e)
			*e = said;
		return said.code < 0 ? said.code : -EPROTO;
	}
	if (got < 0 || got > 1)
		return err_set(e, -EPROTO, "the agent's first process makes no sense");
	return (int)got;
}

static int place_accept(const struct machine_place *p, int listener, uint64_t until_ns, int *conn,
			struct err *e)
{
	struct pollfd polls[] = {{.fd = listener, .events = POLLIN},
				 {.fd = p->init_fd, .events = POLLIN}};

	while (poll(polls, ARRAY_LEN(polls), 100) <= 0 && time_monotonic_ns() < until_ns)
		;
	if (!polls[0].revents)
		return err_set(e, -ETIMEDOUT, "guest init does not connect");
	*conn = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	return *conn < 0 ? err_errno(e, "accept guest init") : 0;
}

static int place_fork(struct machine_place *p, const struct machine_order *o, int *from_child,
		      struct err *e)
{
	_cleanup_close_ int ours = -1, theirs = -1;
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return err_errno(e, "socketpair");
	ours = ends[0];
	theirs = ends[1];
	p->init =
		(pid_t)syscall(SYS_clone, (p->namespaces & ~CLONE_NEWCGROUP) | SIGCHLD, 0, 0, 0, 0);
	if (p->init < 0) {
		p->init = 0;
		return err_errno(e, "make the agent's namespaces");
	}
	if (p->init == 0)
		place_child(p, o, theirs);
	p->init_fd = (int)syscall(SYS_pidfd_open, p->init, 0);
	p->own_pids = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
	if (p->init_fd < 0 || p->own_pids < 0)
		return err_errno(e, "hold the agent's namespaces");
	*from_child = take_fd(&ours);
	return 0;
}

int machine_place_make(struct machine_place *p, const struct machine_orders *o, int *conn,
		       struct machine_stdio *io, struct err *e)
{
	uint64_t until_ns = time_monotonic_ns() + MACHINE_READY_MS * TIME_NS_PER_MS;
	_cleanup_close_ int from_child = -1, listener = -1;
	int fds[PLACE_FDS], ret;
	size_t n_fds = PLACE_FDS, none = 0;

	*io = MACHINE_STDIO_INIT;
	p->bundle = GUEST_BUNDLE;
	p->namespaces = MACHINE_NAMESPACES;
	p->uid = o->order.uid;
	p->gid = o->order.gid;
	p->env = o->env;
	ret = place_fork(p, &o->order, &from_child, e);
	if (ret == 0)
		ret = place_receive(from_child, until_ns, fds, &n_fds, e);
	if (ret < 0)
		return ret;
	if (ret != 1 || n_fds < PLACE_FDS - 1)
		return err_set(e, -EPROTO, "the agent's first process ended while it got ready");
	listener = fds[0];
	p->terminals = fds[1];
	p->writable = fds[2];
	io->in = fds[3];
	io->out = fds[4];
	io->err = n_fds == PLACE_FDS ? fds[5] : -1;
	ret = place_receive(from_child, until_ns, NULL, &none, e);
	if (ret == 1)
		ret = err_set(e, -EPROTO, "the agent's first process says too much");
	return ret < 0 ? ret : place_accept(p, listener, until_ns, conn, e);
}

/* --- guest exec --- */

static _Noreturn void place_exec_child(const struct machine_place *p,
				       const struct machine_session *s,
				       const struct machine_stdio *io)
{
	static char *argv[MACHINE_ARGV_MAX + 5];
	char mark[PLACE_MARK_SIZE];
	struct err e = ERR_INIT;
	size_t n = 0;

	(void)snprintf(mark, sizeof(mark), "id=%u", s->number);
	argv[n++] = (char *)(uintptr_t) "claude-bottle-bundle";
	argv[n++] = (char *)(uintptr_t) "guest";
	argv[n++] = (char *)(uintptr_t) "exec";
	argv[n++] = mark;
	argv[n++] = (char *)(uintptr_t) "--";
	for (size_t i = 0; s->argv[i] && n + 1 < ARRAY_LEN(argv); i++)
		argv[n++] = s->argv[i];
	if (place_join(p, &e) == 0 &&
	    (setns(p->init_fd, p->namespaces & ~CLONE_NEWPID) < 0 || chdir("/") < 0))
		(void)err_errno(&e, "enter the agent's namespaces");
	if (e.code == 0)
		(void)place_become(p, io, s->has_tty, argv, &e);
	/* With what it has for standard error: the session's, if it got so far. */
	agent_complain(&e);
	_exit(GUEST_NOT_RUN);
}

int machine_place_exec(const struct machine_place *p, const struct machine_session *s,
		       struct machine_stdio *io, pid_t *pid, struct err *e)
{
	int ret;

	if (!p->is_open || p->init <= 0)
		return err_set(e, -ESRCH, "the agent is not there");
	ret = machine_stdio_open(io, s->has_tty ? p->terminals : -1, p->uid, e);
	if (ret < 0)
		return ret;
	if (s->has_tty)
		machine_stdio_size(io->in, s->rows, s->columns);
	/* The next child's pid namespace, not this process's; and then its own again. */
	if (setns(p->init_fd, CLONE_NEWPID) < 0) {
		ret = err_errno(e, "enter the agent's namespaces");
	} else {
		*pid = fork();
		if (*pid == 0)
			place_exec_child(p, s, io);
		if (*pid < 0)
			ret = err_errno(e, "fork");
		if (setns(p->own_pids, CLONE_NEWPID) < 0)
			abort();
	}
	machine_stdio_close_child(io);
	if (ret < 0)
		machine_stdio_close(io);
	return ret;
}

void machine_place_free(struct machine_place *p)
{
	close_fd(&p->init_fd);
	close_fd(&p->own_pids);
	close_fd(&p->terminals);
	close_fd(&p->writable);
	close_fd(&p->members);
	p->init = 0;
}
