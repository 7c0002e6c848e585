/* Commands beside the agent, as children of guest hold's: they are born into the agent's
 * namespaces, and from their parent's side nobody needs to look for them. */
#include "guest/guest_int.h"

#include "base/clean.h"
#include "base/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define RUN_WORDS_MAX (4u << 20)

enum { RUN_FD_WORDS, RUN_FD_IN, RUN_FD_COUNT = 4 };

/* The words of a file of whole strings; they stay. */
static int run_argv(int fd, char *argv[GUEST_ARGV_MAX + 1], struct err *e)
{
	struct stat st;
	size_t n = 0, at = 0;
	char *text;

	if (fstat(fd, &st) < 0 || st.st_size < 2 || st.st_size > (off_t)RUN_WORDS_MAX)
		return err_set(e, -EPROTO, "the command has no words, or too many");
	text = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	if (text == MAP_FAILED)
		return err_errno(e, "read the command");
	if (text[st.st_size - 1] != '\0')
		return err_set(e, -EPROTO, "the command's last word has no end");
	for (; at < (size_t)st.st_size; at += strlen(text + at) + 1) {
		if (n == GUEST_ARGV_MAX)
			return err_set(e, -E2BIG, "the command has too many words");
		argv[n++] = text + at;
	}
	argv[n] = NULL;
	return 0;
}

static int run_environ(const struct orders *o, struct err *e)
{
	if (clearenv() != 0)
		return err_set(e, -ENOMEM, "no memory for the environment");
	for (char *const *v = o->go.env; v && *v; v++) {
		if (putenv(*v) != 0)
			return err_set(e, -ENOMEM, "no memory for the environment");
	}
	return 0;
}

static _Noreturn void run_child(const struct hold_agent *a, int go_file,
				const struct handle_message *m)
{
	static struct orders o;
	static char *argv[GUEST_ARGV_MAX + 1];
	struct err e = ERR_INIT;
	bool is_exec = false;
	int ret = 0;

	for (int fd = 0; fd <= 2; fd++) {
		if (dup2(m->fds[RUN_FD_IN + fd], fd) < 0)
			_exit(GUEST_NOT_RUN);
	}
	ret = agent_take_session(isatty(STDIN_FILENO) == 1, &e);
	if (ret == 0)
		ret = run_argv(m->fds[RUN_FD_WORDS], argv, &e);
	if (ret == 0)
		ret = orders_take(go_file, 'g', &o, &e);
	if (ret == 0)
		ret = run_environ(&o, &e);
	if (ret == 0)
		ret = agent_limit(&o.go.limits, &e);
	if (ret == 0)
		ret = hold_become(a, &e);
	if (ret == 0) {
		exec_mark(m->number);
		ret = agent_become(argv, &is_exec, &e);
	}
	agent_complain(&e);
	_exit(is_exec ? agent_exec_status(ret) : GUEST_NOT_RUN);
}

struct hold_run *hold_runs_find(struct hold_run runs[HOLD_RUNS_MAX], uint32_t number)
{
	for (size_t i = 0; i < HOLD_RUNS_MAX; i++) {
		if (runs[i].pid > 0 && runs[i].number == number)
			return &runs[i];
	}
	return NULL;
}

static const char *run_start(struct hold_run runs[HOLD_RUNS_MAX], const struct hold_agent *a,
			     int go_file, int conn, struct handle_message *m)
{
	struct hold_run *r = NULL;
	int tty;

	for (size_t i = 0; !r && i < HOLD_RUNS_MAX; i++) {
		if (runs[i].pid == 0)
			r = &runs[i];
	}
	if (m->n_fds != RUN_FD_COUNT || m->number == 0 || hold_runs_find(runs, m->number))
		return "it is not understood";
	if (go_file < 0)
		return "the agent has not begun";
	tty = isatty(m->fds[RUN_FD_IN]) == 1 ? fcntl(m->fds[RUN_FD_IN], F_DUPFD_CLOEXEC, 3) : -1;
	if (!r)
		return "too many commands run already";
	*r = (struct hold_run){.conn = conn, .number = m->number, .tty = tty};
	r->pid = fork();
	if (r->pid == 0)
		run_child(a, go_file, m);
	r->pidfd = r->pid > 0 ? (int)syscall(SYS_pidfd_open, r->pid, 0) : -1;
	if (r->pidfd >= 0)
		return NULL;
	if (r->pid > 0)
		(void)kill(r->pid, SIGKILL);
	r->pid = 0;
	close_fd(&r->tty);
	return "no process could be made";
}

void hold_runs_start(struct hold_run runs[HOLD_RUNS_MAX], const struct hold_agent *a, int go_file,
		     int conn, struct handle_message *m)
{
	const char *why = run_start(runs, a, go_file, conn, m);

	handle_message_free(m);
	if (!why)
		return;
	m->letter = 'n';
	(void)snprintf(m->text, sizeof(m->text), "the command was not started: %s", why);
	handle_answer(conn, m);
}

void hold_runs_kill(const struct hold_run *r)
{
	(void)agent_signal(r->pid, SIGKILL);
}

void hold_runs_end(struct hold_run *r)
{
	struct handle_message m = HANDLE_MESSAGE_INIT;
	int how = 0;

	while (waitpid(r->pid, &how, 0) < 0 && errno == EINTR)
		;
	m.letter = 'x';
	m.a = (uint32_t)(signals_exit_status(how));
	if (r->conn >= 0)
		handle_answer(r->conn, &m);
	close_fd(&r->pidfd);
	close_fd(&r->tty);
	*r = (struct hold_run){.pid = 0};
}
