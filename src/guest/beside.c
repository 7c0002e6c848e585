/* What is started beside the agent in a machine: guest exec, whose namespaces and user nobody has
 * made beforehand. The process that the monitor's tool started stays outside as root, and stands
 * for the command: it is told its signals and its terminal's size. */
#include "guest/guest_int.h"

#include "base/clean.h"
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/wait.h>

struct beside {
	struct hold_agent agent;
	struct orders o; /* of the agent: environment, limits */
	struct handle handle;
	pid_t pid;
	int pidfd;
};

/* Who the agent is; and into its namespaces, for children. */
static int beside_join(struct beside *b, const char *run, struct err *e)
{
	struct handle_message m = HANDLE_MESSAGE_INIT;
	unsigned long long uid, gid, processes;
	int ret;

	m.letter = 'b';
	ret = handle_ask(run, 0, &m, e);
	if (ret == 0 && (m.letter != 'b' || m.n_fds < 1 ||
			 sscanf(m.text, "%llu %llu %llu", &uid, &gid, &processes) != 3))
		ret = err_set(e, -EPROTO, "%s", m.text[0] ? m.text : "the bottle makes no sense");
	if (ret == 0) {
		b->agent = (struct hold_agent){.uid = uid, .gid = gid, .processes = processes};
		ret = orders_take(m.fds[0], 'g', &b->o, e);
	}
	if (ret == 0 && m.n_fds == 2 && setns(m.fds[1], CLONE_NEWPID | CLONE_NEWNS) < 0)
		ret = err_errno(e, "enter the agent's namespaces");
	handle_message_free(&m);
	return ret;
}

static int beside_environ(const struct beside *b, struct err *e)
{
	if (clearenv() != 0)
		return err_set(e, -ENOMEM, "no memory for the environment");
	for (char *const *v = b->o.go.env; v && *v; v++) {
		if (putenv(*v) != 0)
			return err_set(e, -ENOMEM, "no memory for the environment");
	}
	return 0;
}

static _Noreturn void beside_child(struct beside *b, unsigned number, char *const *argv)
{
	struct err e = ERR_INIT;
	bool is_exec = false;
	int ret = agent_take_session(isatty(STDIN_FILENO) == 1, &e);

	if (ret == 0)
		ret = beside_environ(b, &e);
	if (ret == 0)
		ret = agent_limit(&b->o.go.limits, &e);
	if (ret == 0)
		ret = hold_become(&b->agent, &e);
	if (ret == 0) {
		exec_mark(number);
		ret = agent_become(argv, &is_exec, &e);
	}
	agent_complain(&e);
	_exit(is_exec ? agent_exec_status(ret) : GUEST_NOT_RUN);
}

static void beside_serve(const struct beside *b)
{
	struct handle_message m;
	int conn = handle_take(&b->handle, &m), signo;

	if (conn < 0)
		return;
	signo = m.payload[3];
	if (m.letter == 'p')
		/* Before setsid() there is no such group; the process is there. */
		m.letter = kill(-b->pid, signo) == 0 || kill(b->pid, signo) == 0 ? 'y' : 'n';
	else if (m.letter == 'w') {
		handle_resize(&m);
		m.letter = 'y';
	} else
		m.letter = 'n';
	handle_message_free(&m);
	handle_answer(conn, &m);
}

static int beside_live(struct beside *b)
{
	struct pollfd polls[] = {{.fd = b->handle.fd, .events = POLLIN},
				 {.fd = b->pidfd, .events = POLLIN}};
	int how = 0;

	while (polls[1].revents == 0) {
		if (poll(polls, ARRAY_LEN(polls), -1) < 0 && errno != EINTR)
			break;
		if (polls[0].revents)
			beside_serve(b);
	}
	/* Its number is its own until it is reaped: nobody is told of it any more by then. */
	handle_close(&b->handle);
	while (waitpid(b->pid, &how, 0) < 0 && errno == EINTR)
		;
	return WIFSIGNALED(how) ? 128 + WTERMSIG(how) : WEXITSTATUS(how);
}

static void beside_let_go(void)
{
	_cleanup_close_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (int fd = isatty(STDIN_FILENO) == 1 ? 1 : 0; null >= 0 && fd <= 2; fd++)
		(void)dup2(null, fd);
}

int beside_run(const char *run, unsigned number, char *const *argv)
{
	static struct beside b = {.handle = {-1, -1, ""}, .pidfd = -1};
	struct err e = ERR_INIT;
	int ret = agent_isolate(&e), status = GUEST_NOT_RUN;

	agent_release_terminal();
	if (ret == 0)
		ret = handle_open(&b.handle, run, number, &e);
	if (ret == 0)
		ret = beside_join(&b, run, &e);
	if (ret == 0) {
		b.pid = fork();
		if (b.pid == 0)
			beside_child(&b, number, argv);
		if (b.pid < 0)
			ret = err_errno(&e, "fork");
	}
	if (ret == 0) {
		b.pidfd = (int)syscall(SYS_pidfd_open, b.pid, 0);
		if (b.pidfd < 0)
			ret = err_errno(&e, "pidfd_open");
	}
	if (ret < 0)
		agent_complain(&e);
	beside_let_go();
	if (ret == 0)
		status = beside_live(&b);
	handle_close(&b.handle);
	close_fd(&b.pidfd);
	orders_free(&b.o);
	return status;
}
