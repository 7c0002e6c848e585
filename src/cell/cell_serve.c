/*
 * Theory of operation. Process 1 of a cell first takes from itself, and so from all that it will
 * start, what a virtual machine's monitor does not need: the file system but for what is named, and
 * the kernel's dangerous calls. Then it says hello and does what the keeper asks for. It lives in
 * the monitor's reach, which has the same uid: it is not dumpable, so that nobody there looks into
 * it or takes its descriptors; the kernel keeps signals of its own namespace from process 1; it
 * reads nothing that the monitor could write, and waits for nothing that the monitor could hold up.
 *
 * Whoever loses its parent becomes a child of process 1 and is reaped here: a monitor may put
 * itself into the background, and goes on after the command that has started it.
 */
#include "cell/cell_int.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/signals.h"
#include "base/text.h"
#include "priv/agent_filter.h"
#include "priv/priv.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* Above every number that a process is given: what arrives is moved there before it is arranged. */
#define SERVE_FD_HIGH (CELL_FIRST_FD + CELL_FDS_MAX + 1)

struct serve_run {
	pid_t pid;     /* 0: free */
	int status_fd; /* -1: nobody wants to know any more */
};

struct serve {
	int conn, signals;
	struct serve_run runs[CELL_RUNS_MAX];
};

/* An order with all that belongs to it. */
struct serve_order {
	struct cell_order head;
	int fds[CELL_ORDER_FDS_MAX];
	size_t n_fds;
	char *words; /* what the two point to */
	char *argv[CELL_ARGV_MAX + 1];
	char *env[CELL_ENV_MAX + 1];
};

/* --- sealing --- */

static int serve_seal_self(int conn, struct err *e)
{
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_errno(e, "prctl");
	if ((conn > 3 && close_range(3, (unsigned)conn - 1, 0) < 0) ||
	    close_range((unsigned)conn + 1, ~0u, 0) < 0)
		return err_errno(e, "close what was inherited");
	if (io_set_cloexec(conn, true) < 0)
		return err_set(e, -EBADF, "the keeper's connection is not there");
	if (chdir("/") < 0)
		return err_errno(e, "chdir /");
	(void)umask(077);
	return 0;
}

/* The mounts say the same, but for executing; this holds where a monitor finds its way around
 * them. Not without it: attack: a monitor that has its user's uid opens anew for writing, by
 * /proc/self/fd, what it was given to read, the disk that all bottles start from. */
static int serve_landlock(char *const *args, struct err *e)
{
	static const struct priv_path fixed[] = {
		{"/", PRIV_READ},
		{"/usr", PRIV_READ | PRIV_EXECUTE},
		{"/bin", PRIV_READ | PRIV_EXECUTE | PRIV_OPTIONAL},
		{"/sbin", PRIV_READ | PRIV_EXECUTE | PRIV_OPTIONAL},
		{"/lib", PRIV_READ | PRIV_EXECUTE | PRIV_OPTIONAL},
		{"/lib32", PRIV_READ | PRIV_EXECUTE | PRIV_OPTIONAL},
		{"/lib64", PRIV_READ | PRIV_EXECUTE | PRIV_OPTIONAL},
		{"/libx32", PRIV_READ | PRIV_EXECUTE | PRIV_OPTIONAL},
		{CELL_FOLDER, PRIV_READ | PRIV_EXECUTE},
		{"/dev/null", PRIV_READ | PRIV_WRITE},
		{"/dev/tty", PRIV_READ | PRIV_WRITE | PRIV_DEVICE},
		{"/tmp", PRIV_READ | PRIV_WRITE | PRIV_MANAGE | PRIV_OWN},
	};
	static const struct {
		const char *prefix;
		unsigned access;
	} kinds[] = {
		{CELL_WRITE_ARG, PRIV_READ | PRIV_WRITE | PRIV_MANAGE | PRIV_OWN},
		{CELL_DEVICE_ARG, PRIV_READ | PRIV_WRITE | PRIV_DEVICE},
	};
	struct priv_path paths[ARRAY_LEN(fixed) + CELL_BINDS_MAX];
	size_t n = ARRAY_LEN(fixed), kind;
	int ret;

	memcpy(paths, fixed, sizeof(fixed));
	for (; *args; args++) {
		for (kind = 0; kind < ARRAY_LEN(kinds); kind++) {
			if (str_starts(str_of(*args), str_of(kinds[kind].prefix)))
				break;
		}
		if (kind == ARRAY_LEN(kinds) || n == ARRAY_LEN(paths))
			return err_set(e, -EINVAL, "cell FD [write=PATH|device=PATH ...]");
		paths[n++] =
			(struct priv_path){*args + strlen(kinds[kind].prefix), kinds[kind].access};
	}
	ret = priv_landlock(paths, n, true, e);
	return ret > 0 ? err_set(e, -ENOSYS,
				 "Landlock is missing: it takes Linux 5.19 or newer, "
				 "booted with lsm=landlock,…")
		       : ret;
}

static bool serve_has_writable(char *const *args)
{
	while (*args && !str_starts(str_of(*args), STR_LIT(CELL_WRITE_ARG)))
		args++;
	return *args != NULL;
}

/* The agent's: what it refuses a monitor has no use for either, and neither has business with
 * set-id files in a folder of the host's. KVM's requests pass it.
 *
 * Attack: a monitor that has its user's uid owns what it is lent, also what it may only read: the
 * disk that all bottles start from. By its descriptor it would take everybody's right to read it,
 * or a lease on it, which the next bottle's start would wait for. */
static int serve_filter(char *const *args, struct err *e)
{
	struct agent_filter filter;
	int ret = agent_filter_build(&filter, e);

	if (ret == 0)
		ret = agent_filter_refuse_setid(&filter, e);
	if (ret == 0 && !serve_has_writable(args))
		ret = agent_filter_refuse_borrower(&filter, e);
	return ret < 0 ? ret : agent_filter_apply(&filter, e);
}

/* Only children's ends: all else that somebody in here sends to process 1 the kernel drops. */
static int serve_open_signals(struct serve *s, struct err *e)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	if (sigprocmask(SIG_SETMASK, &set, NULL) < 0)
		return err_errno(e, "sigprocmask");
	s->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return s->signals < 0 ? err_errno(e, "signalfd") : 0;
}

/* --- an order --- */

static int order_bad(struct err *e, const char *what)
{
	return err_set(e, -EPROTO, "the keeper's order makes no sense: %s", what);
}

/* n strings from *rest on, each with its NUL. */
static bool order_split(struct str *rest, char **list, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		size_t end = str_chr(*rest, '\0');

		if (end == rest->n)
			return false;
		list[i] = (char *)(uintptr_t)rest->p;
		*rest = str_sub(*rest, end + 1, rest->n);
	}
	list[n] = NULL;
	return true;
}

static int order_read_words(struct serve_order *o, struct err *e)
{
	int fd = o->fds[CELL_FD_WORDS];
	struct stat st;
	struct str rest;

	if (fstat(fd, &st) < 0 || st.st_size > (off_t)CELL_WORDS_MAX)
		return order_bad(e, "its words");
	o->words = malloc((size_t)st.st_size + 1);
	if (!o->words)
		return err_set(e, -ENOMEM, "no memory for the keeper's order");
	if (pread(fd, o->words, (size_t)st.st_size, 0) != st.st_size)
		return order_bad(e, "its words");
	rest = str_slice(o->words, (size_t)st.st_size);
	if (!order_split(&rest, o->argv, o->head.n_argv) ||
	    !order_split(&rest, o->env, o->head.n_env) || rest.n > 0)
		return order_bad(e, "its words");
	return 0;
}

static void order_free(struct serve_order *o)
{
	for (size_t i = 0; i < o->n_fds; i++)
		close_fd(&o->fds[i]);
	o->n_fds = 0;
	free(o->words);
	o->words = NULL;
}

/* 1, 0 when the keeper has hung up, or an error. order_free() in any case. */
static int order_receive(int conn, struct serve_order *o, struct err *e)
{
	ssize_t got;
	int ret;

	o->words = NULL;
	o->n_fds = ARRAY_LEN(o->fds);
	got = io_recv_fds(conn, &o->head, sizeof(o->head), o->fds, &o->n_fds, 0);
	if (got == 0 || got == -ECONNRESET)
		return 0;
	if (got < 0)
		return err_set(e, (int)got, "the keeper's order cannot be taken");
	if (got != (ssize_t)sizeof(o->head) || o->head.letter != CELL_RUN ||
	    o->n_fds < CELL_FD_FURTHER)
		return order_bad(e, "its form");
	if (o->head.n_argv == 0 || o->head.n_argv > CELL_ARGV_MAX || o->head.n_env > CELL_ENV_MAX)
		return order_bad(e, "how many words");
	ret = order_read_words(o, e);
	return ret < 0 ? ret : 1;
}

/* --- a process --- */

/* The standard descriptors, then CELL_FIRST_FD and so on, and none between or behind. */
static int run_arrange(struct serve_order *o, struct err *e)
{
	size_t first = CELL_FD_IN;

	for (size_t i = first; i < o->n_fds; i++) {
		o->fds[i] = fcntl(o->fds[i], F_DUPFD_CLOEXEC, SERVE_FD_HIGH);
		if (o->fds[i] < 0)
			return err_errno(e, "move a descriptor");
	}
	for (size_t i = first; i < o->n_fds; i++) {
		int to = (int)(i < CELL_FD_FURTHER ? i - first
						   : CELL_FIRST_FD + (i - CELL_FD_FURTHER));

		if (dup2(o->fds[i], to) < 0)
			return err_errno(e, "arrange the descriptors");
	}
	if (close_range(3, CELL_FIRST_FD - 1, CLOSE_RANGE_CLOEXEC) < 0 ||
	    close_range(CELL_FIRST_FD + (unsigned)(o->n_fds - CELL_FD_FURTHER), ~0u,
			CLOSE_RANGE_CLOEXEC) < 0)
		return err_errno(e, "close_range");
	return 0;
}

/* Here, and not for the cell: process 1 is not what it is meant for. */
static int run_limit(const struct cell_order *head, struct err *e)
{
	int ret;

	if (head->address_space_bytes == 0)
		return 0;
	ret = limits_lower(RLIMIT_STACK, CELL_STACK_BYTES, e);
	if (ret == 0)
		ret = limits_lower(RLIMIT_NOFILE, CELL_FILES_MAX, e);
	return ret < 0 ? ret : limits_lower(RLIMIT_AS, head->address_space_bytes, e);
}

static _Noreturn void run_child(struct serve_order *o)
{
	char text[ERR_TEXT_MAX];
	struct err e = ERR_INIT;
	int ret = run_arrange(o, &e), status = CELL_NOT_RUN;

	if (ret == 0 && setsid() < 0)
		ret = err_errno(&e, "setsid");
	if (ret == 0 && o->head.has_terminal && ioctl(STDIN_FILENO, TIOCSCTTY, 0) < 0)
		ret = err_errno(&e, "take the terminal");
	if (ret == 0)
		ret = run_limit(&o->head, &e);
	if (ret == 0) {
		signals_reset();
		(void)execve(o->argv[0], o->argv, o->head.has_env ? o->env : environ);
		status = errno == ENOENT ? 127 : 126;
		(void)err_errno(&e, "cannot run \"%s\"", o->argv[0]);
	}
	text_visible_cstr(text, sizeof(text), str_of(e.text));
	(void)dprintf(STDERR_FILENO, "claude-bottle: %s\n", text);
	_exit(status);
}

/* --- the runs --- */

static void run_end(struct serve_run *r, int status)
{
	struct cell_status answer = {.status = status};

	if (r->status_fd >= 0)
		(void)io_send_fds(r->status_fd, &answer, sizeof(answer), NULL, 0, MSG_DONTWAIT);
	close_fd(&r->status_fd);
	r->pid = 0;
}

/* Its session's leader is the group's; before setsid() there is no group of it, but the process. */
static void run_kill(struct serve_run *r)
{
	close_fd(&r->status_fd);
	(void)kill(-r->pid, SIGKILL);
	(void)kill(r->pid, SIGKILL);
}

static void serve_start(struct serve *s, struct serve_order *o)
{
	struct serve_run all_taken = {.pid = -1, .status_fd = o->fds[CELL_FD_STATUS]};
	struct serve_run *r = NULL;

	for (size_t i = 0; !r && i < CELL_RUNS_MAX; i++) {
		if (s->runs[i].pid == 0)
			r = &s->runs[i];
	}
	o->fds[CELL_FD_STATUS] = -1;
	if (!r) {
		run_end(&all_taken, CELL_NOT_RUN);
		return;
	}
	r->status_fd = all_taken.status_fd;
	r->pid = fork();
	if (r->pid == 0)
		run_child(o);
	if (r->pid < 0)
		run_end(r, CELL_NOT_RUN);
}

static void serve_reap(struct serve *s)
{
	struct signalfd_siginfo ignored;
	pid_t pid;
	int how;

	(void)!read(s->signals, &ignored, sizeof(ignored));
	while ((pid = waitpid(-1, &how, WNOHANG)) > 0) {
		for (size_t i = 0; i < CELL_RUNS_MAX; i++) {
			if (s->runs[i].pid == pid)
				run_end(&s->runs[i], signals_exit_status(how));
		}
	}
}

/* Until the keeper hangs up (0), or an error. */
static int serve_loop(struct serve *s, struct err *e)
{
	static struct serve_order o;
	struct pollfd polls[2 + CELL_RUNS_MAX];

	for (;;) {
		int ret = 1;

		polls[0] = (struct pollfd){.fd = s->conn, .events = POLLIN};
		polls[1] = (struct pollfd){.fd = s->signals, .events = POLLIN};
		/* Nothing is said there: only the hang-up counts. */
		for (size_t i = 0; i < CELL_RUNS_MAX; i++)
			polls[2 + i] = (struct pollfd){.fd = s->runs[i].status_fd};
		if (poll(polls, ARRAY_LEN(polls), -1) < 0) {
			if (errno == EINTR)
				continue;
			return err_errno(e, "poll");
		}
		/* Before the ends, which free what was looked at. */
		for (size_t i = 0; i < CELL_RUNS_MAX; i++) {
			if (polls[2 + i].revents)
				run_kill(&s->runs[i]);
		}
		if (polls[1].revents)
			serve_reap(s);
		if (polls[0].revents) {
			ret = order_receive(s->conn, &o, e);
			if (ret > 0)
				serve_start(s, &o);
			order_free(&o);
		}
		if (ret <= 0)
			return ret;
	}
}

static int serve_run(int conn, char *const *args, struct err *e)
{
	_cleanup_close_ int null = -1, network = -1;
	static const char hello = CELL_HELLO;
	static struct serve s;
	int ret = serve_seal_self(conn, e);

	/* Before Landlock, under which it cannot be had. */
	network = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (network < 0)
		return err_errno(e, "open this network");

	s.conn = conn;
	for (size_t i = 0; i < CELL_RUNS_MAX; i++)
		s.runs[i].status_fd = -1;
	if (ret == 0)
		ret = serve_open_signals(&s, e);
	if (ret == 0)
		ret = serve_landlock(args, e);
	if (ret == 0)
		ret = serve_filter(args, e);
	if (ret < 0)
		return ret;
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0)
		return err_errno(e, "open /dev/null");
	if (io_send_fds(conn, &hello, 1, &network, 1, 0) != 1)
		return err_set(e, -EPIPE, "the keeper has gone");
	/* From here on nobody listens there. */
	if (dup2(null, STDERR_FILENO) < 0)
		return err_errno(e, "dup2");
	return serve_loop(&s, e);
}

int cell_main(int argc, char **argv)
{
	struct err e = ERR_INIT;
	uint64_t fd = 0;

	log_set_role(CELL_COMMAND);
	if (argc < 1 || str_to_u64(str_of(argv[0]), INT32_MAX, &fd) < 0 || fd < 3)
		die("cell FD: claude-bottle starts it");
	if (serve_run((int)fd, argv + 1, &e) < 0)
		die("%s", e.text);
	return 0;
}
