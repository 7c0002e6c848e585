#include "base/tool.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/signals.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define TOOL_TAIL_MAX  4096
#define TOOL_WHY_MAX   512
#define TOOL_NO_EXEC   127
#define TOOL_FIRST_OWN 4

const char *tool_find(const char *name)
{
	static const char *const folders[] = {"/usr/bin", "/usr/sbin", "/bin", "/sbin"};
	static char path[128];

	for (size_t i = 0; i < ARRAY_LEN(folders) && !strchr(name, '/'); i++) {
		int n = snprintf(path, sizeof(path), "%s/%s", folders[i], name);

		if (n > 0 && (size_t)n < sizeof(path) && access(path, X_OK) == 0)
			return path;
	}
	return NULL;
}

static int said_open(const char *name, struct err *e)
{
	_cleanup_close_ int fd = memfd_create("said", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0 || ftruncate(fd, TOOL_SAID_MAX) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
		return err_errno(e, "make a file for what %s says", name);
	return take_fd(&fd);
}

/* A copy above the numbers that it is about to have, so that none is written over. */
static int aside(int fd)
{
	return fcntl(fd, F_DUPFD_CLOEXEC, TOOL_FIRST_OWN);
}

static _Noreturn void become(const struct tool *t, int said_fd, pid_t parent)
{
	static const char *const fixed[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", NULL};
	char *const *env = t->env ? t->env : (char *const *)(uintptr_t)fixed;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	const int given[] = {t->in_fd, t->out_fd, said_fd, t->file_fd};
	int fds[ARRAY_LEN(given)];
	bool is_placed = null >= 0;

	signals_reset();
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* When mmdebstrap is ended, it hangs up its whole process group: not ours, nor our
	 * caller's. */
	(void)setsid();
	for (size_t i = 0; i < ARRAY_LEN(given); i++)
		fds[i] = aside(given[i] >= 0 ? given[i] : null);
	for (size_t i = 0; i < ARRAY_LEN(given); i++)
		is_placed = is_placed && fds[i] >= 0 && dup2(fds[i], (int)i) == (int)i;
	if (is_placed && getppid() == parent && (!t->folder || chdir(t->folder) == 0) &&
	    close_range(TOOL_FIRST_OWN, ~0u, CLOSE_RANGE_CLOEXEC) == 0)
		(void)execvpe(t->argv[0], (char *const *)(uintptr_t)t->argv, env);
	_exit(TOOL_NO_EXEC);
}

/* --- its guard --- */

/* The tool's end, which it keeps from being reaped: the number of its group stays taken. */
static bool has_ended(pid_t pid)
{
	siginfo_t info = {.si_pid = 0};

	return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0 ||
	       info.si_pid == pid;
}

/* Everybody in its group is told, as by a terminal: mmdebstrap alone only waits for the others, and
 * a shell's child knows nothing of the shell's end. Then there is some time to tidy up. */
static _Noreturn void watch(const struct tool *t, pid_t pid, const sigset_t *signals)
{
	struct timespec left = {.tv_sec = TOOL_DIE_MS / 1000};
	bool is_told = false;
	int status = 0;

	while (!has_ended(pid)) {
		int signo =
			is_told ? sigtimedwait(signals, NULL, &left) : sigwaitinfo(signals, NULL);

		if (signo == SIGTERM && !is_told) {
			is_told = true;
			/* It may not have a group yet. */
			if (kill(-pid, SIGTERM) < 0)
				(void)kill(pid, SIGTERM);
		} else if (signo < 0 && errno == EAGAIN) {
			(void)kill(-pid, SIGKILL);
		}
	}
	/* Nobody of it outlives it. */
	(void)kill(-pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (t->scratch)
		(void)!io_remove_tree(AT_FDCWD, t->scratch, NULL);
	_exit(signals_exit_status(status));
}

/* Stands between the caller and the tool, so that whatever ends the caller ends all of the tool.
 * In a session of its own: a terminal's ^C is for the caller. */
static _Noreturn void guard(const struct tool *t, int said_fd, pid_t parent)
{
	pid_t own = getpid(), pid;
	sigset_t signals;

	signals_reset();
	(void)sigemptyset(&signals);
	(void)sigaddset(&signals, SIGTERM);
	(void)sigaddset(&signals, SIGCHLD);
	(void)sigprocmask(SIG_BLOCK, &signals, NULL);
	(void)prctl(PR_SET_PDEATHSIG, SIGTERM);
	(void)setsid();
	if (getppid() != parent)
		_exit(TOOL_NO_EXEC);
	pid = fork();
	if (pid < 0)
		_exit(TOOL_NO_EXEC);
	if (pid == 0)
		become(t, said_fd, own);
	/* Its own, and no end of any pipe, no lock of the caller's. */
	(void)close_range(0, ~0u, 0);
	watch(t, pid, &signals);
}

int tool_start(struct tool_run *r, const struct tool *t, struct err *e)
{
	const char *slash = strrchr(t->argv[0], '/');
	_cleanup_close_ int said = -1;
	pid_t parent = getpid();

	*r = TOOL_RUN_INIT;
	r->name = slash ? slash + 1 : t->argv[0];
	r->package = t->package;
	said = said_open(r->name, e);
	if (said < 0)
		return said;
	r->pid = fork();
	if (r->pid < 0)
		return err_errno(e, "start %s", r->name);
	if (r->pid == 0)
		guard(t, said, parent);
	r->pid_fd = (int)syscall(SYS_pidfd_open, r->pid, 0);
	r->said_fd = take_fd(&said);
	return 0;
}

int tool_wait(const struct tool_run *r, int timeout_ms)
{
	/* Without a descriptor the wait is in tool_end(), and knows no limit. */
	return r->pid_fd < 0 || io_wait(r->pid_fd, POLLIN, timeout_ms) != 0;
}

void tool_said(const struct tool_run *r, char *out, size_t size)
{
	off_t n = lseek(r->said_fd, 0, SEEK_CUR), from;
	char tail[TOOL_TAIL_MAX];
	struct str rest, line, best = STR_NULL;
	bool found = true, is_error = false;
	ssize_t got;

	from = n > (off_t)sizeof(tail) ? n - (off_t)sizeof(tail) : 0;
	got = n > 0 ? pread(r->said_fd, tail, (size_t)(n - from), from) : 0;
	rest = str_slice(tail, got > 0 ? (size_t)got : 0);
	while (found) {
		bool complains;

		rest = str_cut(rest, '\n', &line, &found);
		line = str_trim(line);
		complains = str_starts(line, STR_LIT("E: "));
		/* mmdebstrap's own, which come last, tell less than apt's. */
		if (line.n == 0 ||
		    (is_error && (!complains || str_find(line, STR_LIT(" failed")) < line.n)))
			continue;
		best = line;
		is_error |= complains;
	}
	text_visible_cstr(out, size, best);
}

int tool_end(struct tool_run *r, bool must_die, struct err *e)
{
	_cleanup_close_ int pid_fd = take_fd(&r->pid_fd), said_fd = -1;
	char why[TOOL_WHY_MAX];
	int status = 0;

	if (must_die) {
		(void)kill(r->pid, SIGTERM);
		/* It takes half of that at most. */
		if (pid_fd >= 0 && io_wait(pid_fd, POLLIN, 2 * TOOL_DIE_MS) == 0)
			(void)kill(r->pid, SIGKILL);
	}
	while (waitpid(r->pid, &status, 0) < 0 && errno == EINTR)
		;
	tool_said(r, why, sizeof(why));
	said_fd = take_fd(&r->said_fd);
	r->pid = -1;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	if (WIFEXITED(status) && WEXITSTATUS(status) == TOOL_NO_EXEC && !why[0])
		return err_set(e, -ENOENT, "%s is not installed (package %s)", r->name, r->package);
	return err_set(e, strstr(why, "No space left on device") ? -ENOSPC : -EIO, "%s: %s",
		       r->name, why[0] ? why : "it was killed");
}

int tool_do(const struct tool *t, int timeout_ms, struct err *e)
{
	struct tool_run r;
	bool has_ended;
	int ret = tool_start(&r, t, e);

	if (ret < 0)
		return ret;
	has_ended = tool_wait(&r, timeout_ms);
	ret = tool_end(&r, !has_ended, e);
	return has_ended ? ret
			 : err_set(e, -ETIMEDOUT, "%s does not end within %d s", r.name,
				   timeout_ms / 1000);
}
