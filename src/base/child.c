#include "base/child.h"

#include "base/clean.h"

#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <termios.h>

/* kept: sorted, each once. */
static void keep_fd(int *kept, size_t *n, int fd)
{
	size_t at = 0;

	if (fd < 0)
		return;
	while (at < *n && kept[at] < fd)
		at++;
	if (at < *n && kept[at] == fd)
		return;
	memmove(kept + at + 1, kept + at, (*n - at) * sizeof(*kept));
	kept[at] = fd;
	(*n)++;
}

static void close_others(const int *wanted, size_t n_wanted)
{
	int kept[CHILD_FDS_MAX];
	size_t n = 0;
	unsigned next = 0;

	for (size_t i = 0; i < n_wanted; i++)
		keep_fd(kept, &n, wanted[i]);
	for (size_t i = 0; i < n; i++) {
		if ((unsigned)kept[i] > next)
			(void)close_range(next, (unsigned)kept[i] - 1, 0);
		next = (unsigned)kept[i] + 1;
	}
	(void)close_range(next, ~0u, 0);
	/* Nothing that is opened later may become a standard stream. */
	for (;;) {
		int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

		if (fd > STDERR_FILENO)
			(void)close(fd);
		if (fd < 0 || fd > STDERR_FILENO)
			break;
	}
}

static void begin(const char *name, int lost, const int *keep, size_t n, pid_t parent)
{
	sigset_t none;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(lost);
	(void)prctl(PR_SET_NAME, name);
	for (int s = 1; s < NSIG; s++)
		(void)signal(s, s == SIGPIPE || s == SIGHUP ? SIG_IGN : SIG_DFL);
	close_others(keep, n);
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	(void)setsid();
}

int child_fork(const char *name, int lost, const int *keep, size_t n, pid_t *pid, struct err *e)
{
	pid_t parent = getpid();
	sigset_t all, before;

	*pid = -1;
	if (n > CHILD_FDS_MAX)
		return err_set(e, -E2BIG, "more descriptors than a child may keep");
	/* No handler of the caller's may run in the child. */
	(void)sigfillset(&all);
	(void)sigprocmask(SIG_SETMASK, &all, &before);
	*pid = fork();
	if (*pid == 0) {
		begin(name, lost, keep, n, parent);
		return 0;
	}
	(void)sigprocmask(SIG_SETMASK, &before, NULL);
	return *pid < 0 ? err_errno(e, "fork") : 0;
}

void child_end(pid_t *pid)
{
	if (*pid > 0) {
		(void)kill(-*pid, SIGKILL);
		(void)kill(*pid, SIGKILL);
	}
	while (*pid > 0 && waitpid(*pid, NULL, 0) < 0 && errno == EINTR)
		;
	*pid = 0;
}

int child_open_pty(unsigned short rows, unsigned short columns, int *master, int *slave,
		   struct err *e)
{
	_cleanup_close_ int ours = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), theirs = -1;
	struct winsize size = {.ws_row = rows, .ws_col = columns};
	struct termios raw;

	*master = *slave = -1;
	if (ours < 0 || grantpt(ours) < 0 || unlockpt(ours) < 0)
		return err_errno(e, "open a pseudo-terminal");
	theirs = ioctl(ours, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
	if (theirs < 0)
		return err_errno(e, "open the pseudo-terminal's other end");
	if (tcgetattr(theirs, &raw) < 0)
		return err_errno(e, "read the pseudo-terminal's settings");
	cfmakeraw(&raw);
	if (tcsetattr(theirs, TCSANOW, &raw) < 0 || ioctl(theirs, TIOCSWINSZ, &size) < 0)
		return err_errno(e, "set the pseudo-terminal up");
	*master = take_fd(&ours);
	*slave = take_fd(&theirs);
	return 0;
}

int child_unblocked(int fd)
{
	char path[40];
	int own;

	if (fd < 0 || !isatty(fd))
		return fd;
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	own = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	return own < 0 ? fd : own;
}
