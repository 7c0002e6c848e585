/*
 * Theory of operation. In a machine there is no keeper to connect to: guest hold plays its part for
 * guest init, which it makes as its child, and hands on to it what guest tell brings. What differs
 * from a container is only who makes the namespace and who carries the letters. guest hold itself
 * is root of the machine and never executes anything of the agent's; guest init and all below have
 * the agent's user.
 *
 * Where the machine lets nobody make a pid namespace, the agent sees the machine's few other
 * processes, which are root's, and what it leaves running lives until the machine is stopped, which
 * is the end of every bottle anyway.
 *
 * What is started beside the agent is a child of this process too (hold_runs.c), because each
 * process that the monitor's tool starts may be in a namespace of its own.
 */
#include "guest/guest_int.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/limits.h"
#include "base/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define HOLD_GREET_MS  10000
#define HOLD_ANSWER_MS 15000 /* the canary's longest look */
#define HOLD_PATH      "/usr/local/bin:/usr/bin:/bin"

struct hold {
	const struct hold_agent *agent;
	const char *home;
	int folder, listen_fd; /* the handle */
	int init_sock;
	pid_t init;
	bool has_namespace, has_tty;
	int go; /* the order that was carried out, or -1 */
	struct hold_run runs[HOLD_RUNS_MAX];
};

/* --- guest init --- */

/* Where one may not, it is of no use either: no_new_privs is set. */
static void hold_drop_bounding(void)
{
	for (int cap = 0; prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) == 0; cap++)
		;
}

int hold_become(const struct hold_agent *a, struct err *e)
{
	uid_t uid = (uid_t)a->uid;
	gid_t gid = (gid_t)a->gid;

	if (a->processes > 0 && limits_lower(RLIMIT_NPROC, a->processes, e) < 0)
		return e->code;
	hold_drop_bounding();
	if (geteuid() != 0)
		return 0;
	if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
		return err_errno(e, "become the agent's user");
	return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 ? err_errno(e, "PR_SET_DUMPABLE") : 0;
}

/* What the image or an earlier agent has made of it: never through a link. */
int hold_own_home(const struct hold_agent *a, const char *home, struct err *e)
{
	_cleanup_close_ int fd = -1;

	if (mkdir(home, 0700) < 0 && errno != EEXIST)
		return err_errno(e, "make the agent's home");
	fd = open(home, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return err_errno(e, "open the agent's home");
	if (geteuid() == 0 && fchown(fd, (uid_t)a->uid, (gid_t)a->gid) < 0)
		return err_errno(e, "give the agent its home");
	return 0;
}

/* Its processes as /proc shows them are those of its namespace. */
static int hold_own_proc(struct err *e)
{
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
		return err_errno(e, "mount /proc");
	return 0;
}

static _Noreturn void hold_child(const struct hold *h, int sock)
{
	struct err e = ERR_INIT;
	int ret = h->has_namespace ? hold_own_proc(&e) : 0;

	if (ret == 0)
		ret = hold_become(h->agent, &e);
	/* What the tool has put there is not the agent's business. */
	if (ret == 0 &&
	    (clearenv() != 0 || setenv("HOME", h->home, 1) < 0 || setenv("PATH", HOLD_PATH, 1) < 0))
		ret = err_set(&e, -ENOMEM, "no memory for the environment");
	if (ret == 0)
		_exit(init_run_machine(sock));
	agent_complain(&e);
	_exit(GUEST_NOT_RUN);
}

static int hold_start(struct hold *h, struct err *e)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_errno(e, "socketpair");
	h->has_namespace = unshare(CLONE_NEWPID | CLONE_NEWNS) == 0;
	h->init = fork();
	if (h->init == 0) {
		(void)close(pair[0]);
		hold_child(h, pair[1]);
	}
	h->init_sock = pair[0];
	(void)close(pair[1]);
	return h->init < 0 ? err_errno(e, "fork") : 0;
}

/* A letter of guest init's and its text, into m. */
static void hold_hear(const struct hold *h, int timeout_ms, struct handle_message *m)
{
	char message[1 + GUEST_TEXT_MAX];
	ssize_t got = -1;

	*m = HANDLE_MESSAGE_INIT;
	if (io_wait(h->init_sock, POLLIN, timeout_ms) == 1)
		got = io_recv_fds(h->init_sock, message, sizeof(message) - 1, NULL, NULL, 0);
	if (got < 1) {
		m->letter = 'n';
		(void)snprintf(m->text, sizeof(m->text), "the agent's first process %s",
			       got == 0 ? "went away" : "does not answer");
		return;
	}
	message[got] = '\0';
	m->letter = message[0];
	(void)snprintf(m->text, sizeof(m->text), "%s", message + 1);
}

/* --- what is told --- */

static void hold_order(struct hold *h, struct handle_message *m)
{
	char letter = m->letter;
	int file = m->n_fds == 1 ? take_fd(&m->fds[0]) : -1;

	if (file < 0 || io_send_fds(h->init_sock, &letter, 1, &file, 1, 0) != 1) {
		close_fd(&file);
		*m = HANDLE_MESSAGE_INIT;
		m->letter = 'n';
		(void)snprintf(m->text, sizeof(m->text), "the order could not be handed on");
		return;
	}
	hold_hear(h, HOLD_ANSWER_MS, m);
	if (letter == 'g' && m->letter == 's' && h->go < 0)
		h->go = take_fd(&file);
	close_fd(&file);
}

/* Guest init passes on to the agent's group what reaches it; with a namespace nothing there
 * outlives its SIGKILL. */
static bool hold_pass(struct hold *h, const struct handle_message *m)
{
	const struct hold_run *r = m->number ? hold_runs_find(h->runs, m->number) : NULL;
	int signo = (int)m->a;

	if (m->number == 0)
		return kill(h->init, signo) == 0;
	return r && agent_signal(r->pid, signo);
}

static bool hold_resize(struct hold *h, const struct handle_message *m)
{
	const struct winsize size = {.ws_row = (unsigned short)m->a,
				     .ws_col = (unsigned short)m->b};
	const struct hold_run *r = m->number ? hold_runs_find(h->runs, m->number) : NULL;
	int tty = m->number == 0 ? STDIN_FILENO : r ? r->tty : -1;

	return ioctl(tty, TIOCSWINSZ, &size) == 0;
}

static void hold_serve(struct hold *h)
{
	struct handle_message m;
	int conn = handle_take(h->listen_fd, &m);

	if (conn < 0)
		return;
	switch (m.letter) {
	case 'h':
		break;
	case 'c':
	case 'g':
		hold_order(h, &m);
		break;
	case 'p':
		m.letter = hold_pass(h, &m) ? 'y' : 'n';
		break;
	case 'w':
		m.letter = hold_resize(h, &m) ? 'y' : 'n';
		break;
	case 'b':
		hold_runs_start(h->runs, h->agent, h->go, conn, &m);
		return;
	default:
		m.letter = 'n';
		break;
	}
	handle_message_free(&m);
	handle_answer(conn, &m);
}

/* Whoever started the command hangs up: it is killed, and its end seen as any other. */
static void hold_watch_run(struct hold_run *r, bool has_ended, bool is_given_up)
{
	if (has_ended) {
		hold_runs_end(r);
	} else if (is_given_up) {
		close_fd(&r->conn);
		hold_runs_kill(r);
	}
}

/* Until guest init hangs up, which is its end. */
static void hold_live(struct hold *h)
{
	struct pollfd polls[2 + 2 * HOLD_RUNS_MAX] = {{.fd = h->listen_fd, .events = POLLIN},
						      {.fd = h->init_sock, .events = POLLIN}};

	for (;;) {
		for (size_t i = 0; i < HOLD_RUNS_MAX; i++) {
			const struct hold_run *r = &h->runs[i];

			polls[2 + 2 * i] =
				(struct pollfd){.fd = r->pid ? r->pidfd : -1, .events = POLLIN};
			polls[3 + 2 * i] = (struct pollfd){.fd = r->pid ? r->conn : -1};
		}
		if (poll(polls, ARRAY_LEN(polls), -1) < 0) {
			if (errno == EINTR)
				continue;
			return;
		}
		if (polls[1].revents)
			return;
		for (size_t i = 0; i < HOLD_RUNS_MAX; i++)
			hold_watch_run(&h->runs[i], polls[2 + 2 * i].revents,
				       polls[3 + 2 * i].revents);
		if (polls[0].revents)
			hold_serve(h);
	}
}

/* Whoever reads the agent's output must see its end; a terminal is kept for its size. */
static void hold_let_go(const struct hold *h)
{
	_cleanup_close_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (int fd = h->has_tty ? 1 : 0; null >= 0 && fd <= 2; fd++)
		(void)dup2(null, fd);
}

/* Guest init's process is not over, and cannot be waited for, before each process of its namespace
 * is: those beside the agent are this one's children, and nobody else's to wait for. */
static int hold_end(struct hold *h)
{
	_cleanup_close_ int fd = -1;
	int how = 0, status;

	close_fd(&h->init_sock);
	for (size_t i = 0; i < HOLD_RUNS_MAX; i++) {
		if (h->runs[i].pid <= 0)
			continue;
		hold_runs_kill(&h->runs[i]);
		hold_runs_end(&h->runs[i]);
	}
	while (waitpid(h->init, &how, 0) < 0 && errno == EINTR)
		;
	status = signals_exit_status(how);
	fd = openat(h->folder, "status", O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC,
		    0600);
	if (fd >= 0)
		(void)dprintf(fd, "%d\n", status);
	return status;
}

int hold_main(const char *run, const struct hold_agent *a, const char *home)
{
	struct hold h = {.agent = a,
			 .home = home,
			 .folder = -1,
			 .listen_fd = -1,
			 .init_sock = -1,
			 .has_tty = isatty(STDIN_FILENO) == 1,
			 .go = -1};
	struct handle_message hello;
	struct err e = ERR_INIT;
	int ret = agent_isolate(&e), status;

	agent_release_terminal();
	if (ret == 0)
		ret = hold_own_home(a, home, &e);
	if (ret == 0)
		ret = hold_start(&h, &e);
	if (ret == 0) {
		hold_hear(&h, HOLD_GREET_MS, &hello);
		if (hello.letter != 'h')
			ret = err_set(&e, -EPROTO, "%s", hello.text);
	}
	/* Whoever finds the socket finds guest init held. */
	if (ret == 0) {
		h.listen_fd = handle_open(run, &h.folder, &e);
		ret = h.listen_fd < 0 ? h.listen_fd : 0;
	}
	if (ret < 0)
		agent_complain(&e);
	hold_let_go(&h);
	if (ret == 0)
		hold_live(&h);
	status = h.init > 0 ? hold_end(&h) : GUEST_NOT_RUN;
	close_fd(&h.listen_fd);
	close_fd(&h.folder);
	close_fd(&h.go);
	return ret < 0 ? GUEST_NOT_RUN : status;
}
