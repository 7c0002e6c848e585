/*
 * Closing a container's network from the host. What must not happen is that the routes of another
 * network namespace are taken away, the host's above all. So the namespace is not named by a number
 * that may have passed to another process: a pidfd is opened, and only if the connection is still
 * up after that, it is guest init's, whose end would have hung it up. And the child compares the
 * namespace that it has entered with the one that it came from, and with that of the host's first
 * process, before it becomes anything that could change it.
 */
#include "guest/guest_host.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/signals.h"
#include "base/text.h"
#include "base/timeutil.h"
#include "bundle/program.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define HOST_COMPLAINT	"claude-bottle: " /* what guest close begins its line with */
#define HOST_REAP_MS	2
#define HOST_STATUS_NOT 3 /* of the child: it could not enter */
#define HOST_STATUS_OWN 4 /* where it came to is nothing that may be closed */

int guest_peer(int conn_fd, pid_t *pid, struct err *e)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);

	*pid = 0;
	if (getsockopt(conn_fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
		return err_errno(e, "ask who the container's first process is");
	*pid = peer.pid;
	return 0;
}

static int host_open_peer(int conn_fd, struct err *e)
{
	_cleanup_close_ int pidfd = -1;
	struct pollfd alive = {.fd = conn_fd};
	pid_t pid;
	int ret = guest_peer(conn_fd, &pid, e);

	if (ret < 0)
		return ret;
	if (pid <= 0)
		return err_set(e, -ENOTSUP, "the container's processes cannot be seen from here");
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (pidfd < 0 && errno != ESRCH)
		return err_set(e, -ENOTSUP, "the container's first process cannot be opened: %s",
			       strerror(errno));
	if (pidfd < 0 || poll(&alive, 1, 0) != 0)
		return err_set(e, -EPIPE, "the container's first process went away");
	return take_fd(&pidfd);
}

/* --- the child --- */

static bool host_is_same(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* 0, or the status to end with after a line. */
static int host_enter(int pidfd)
{
	struct stat own, first, now;

	if (stat("/proc/self/ns/net", &own) < 0 || setns(pidfd, CLONE_NEWNET) < 0) {
		(void)dprintf(STDERR_FILENO, "the container's network cannot be entered: %s\n",
			      strerror(errno));
		return HOST_STATUS_NOT;
	}
	/* Where the first one's cannot be looked at, it is not of this user namespace, and so
	 * cannot be where setns() has just led. */
	if (stat("/proc/self/ns/net", &now) < 0 || host_is_same(&own, &now) ||
	    (stat("/proc/1/ns/net", &first) == 0 && host_is_same(&first, &now))) {
		(void)dprintf(STDERR_FILENO, "the container has no network of its own\n");
		return HOST_STATUS_OWN;
	}
	return 0;
}

static _Noreturn void host_child(int pidfd, int bundle, int err_fd, const char *pinned)
{
	char *const argv[] = {(char *)(uintptr_t)BUNDLE_PROGRAM, (char *)(uintptr_t) "guest",
			      (char *)(uintptr_t) "close", (char *)(uintptr_t)pinned, NULL};
	char *const env[] = {NULL};
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), status;

	if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0 ||
	    dup2(err_fd, STDERR_FILENO) < 0)
		_exit(HOST_STATUS_NOT);
	status = host_enter(pidfd);
	if (status != 0)
		_exit(status);
	bundle_exec(bundle, argv, env);
}

/* --- the parent --- */

/* The child's complaint, until it has said all or the time is over. */
static void host_listen(int fd, uint64_t until, char *text, size_t size)
{
	size_t n = 0;

	for (;;) {
		uint64_t now = time_monotonic_ns();
		char rest[256];
		bool has_room = n < size - 1;
		ssize_t got;

		if (now >= until ||
		    io_wait(fd, POLLIN, (int)((until - now) / TIME_NS_PER_MS) + 1) != 1)
			break;
		got = has_room ? read(fd, text + n, size - 1 - n) : read(fd, rest, sizeof(rest));
		if (got <= 0 && !(got < 0 && errno == EINTR))
			break;
		if (got > 0 && has_room)
			n += (size_t)got;
	}
	text[n] = '\0';
	text[strcspn(text, "\n")] = '\0';
}

/* Its status; -ETIMEDOUT if it had to be ended. */
static int host_reap(pid_t pid, uint64_t until, struct err *e)
{
	bool is_late = false;
	int status = 0;

	for (;;) {
		pid_t got = waitpid(pid, &status, is_late ? 0 : WNOHANG);

		if (got < 0 && errno != EINTR)
			return err_errno(e, "wait for the closing of the container's network");
		if (got == pid)
			break;
		is_late = time_monotonic_ns() >= until;
		if (is_late)
			(void)kill(pid, SIGKILL);
		else
			(void)poll(NULL, 0, HOST_REAP_MS);
	}
	if (is_late)
		return err_set(e, -ETIMEDOUT, "closing the container's network takes too long");
	return signals_exit_status(status);
}

static int host_judge(int status, const char *complaint, struct err *e)
{
	struct str said = str_of(complaint);
	char text[GUEST_TEXT_MAX];

	if (status <= 0)
		return status;
	if (str_starts(said, STR_LIT(HOST_COMPLAINT)))
		said = str_sub(said, strlen(HOST_COMPLAINT), said.n);
	text_visible_cstr(text, sizeof(text), said);
	if (status == HOST_STATUS_NOT)
		return err_set(e, -ENOTSUP, "%s", text);
	if (status == HOST_STATUS_OWN)
		return err_set(e, -EPERM, "%s", text);
	if (text[0] == '\0')
		return err_set(e, -EIO, "closing the container's network failed (status %d)",
			       status);
	return err_set(e, -EIO, "%s", text);
}

int guest_close_from_host(int conn_fd, const char *pinned, struct err *e)
{
	_cleanup_close_ int pidfd = host_open_peer(conn_fd, e), bundle = -1, ours = -1, theirs = -1;
	uint64_t until = time_monotonic_ns() + GUEST_CLOSE_MS * TIME_NS_PER_MS;
	char complaint[GUEST_TEXT_MAX];
	int ends[2], status;
	pid_t pid;

	if (pidfd < 0)
		return pidfd;
	bundle = bundle_find(e);
	if (bundle < 0)
		return bundle;
	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_errno(e, "pipe");
	ours = ends[0];
	theirs = ends[1];
	pid = fork();
	if (pid < 0)
		return err_errno(e, "fork");
	if (pid == 0)
		host_child(pidfd, bundle, theirs, pinned);
	close_fd(&theirs);
	host_listen(ours, until, complaint, sizeof(complaint));
	status = host_reap(pid, until, e);
	return host_judge(status, complaint, e);
}
