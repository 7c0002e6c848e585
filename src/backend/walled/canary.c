/*
 * The native canary: the wall seen from where the agent will stand. Its verdict on the host's
 * listener comes from the listener (nothing may have arrived), not from the prober's error alone.
 */
#include "backend/walled/wall.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/ports.h"
#include "base/timeutil.h"
#include "net/sock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define CANARY_CLOSED_MS 200 /* a refusal takes microseconds; silence is a failure too */

/* 0 if the connection is refused or unreachable at once. */
static int canary_closed(const char *address, uint16_t port, struct err *e)
{
	_cleanup_close_ int fd = sock_dial(address, port, CANARY_CLOSED_MS);

	if (fd == -ECONNREFUSED || fd == -ENETUNREACH || fd == -EHOSTUNREACH)
		return 0;
	return err_set(e, -ENOTUNIQ, "%s:%u %s", address, port,
		       fd < 0 ? "is not refused at once" : "can be reached from the bottle");
}

static int canary_look(const struct wall *w, uint16_t live_port, int timeout_ms, struct err *e)
{
	uint64_t until_ns = time_monotonic_ns() + (uint64_t)timeout_ms * TIME_NS_PER_MS;
	int ret = wall_enter(w, e);

	if (ret == 0)
		ret = canary_closed("127.0.0.1", live_port, e);
	if (ret == 0)
		ret = canary_closed(w->pinned, live_port, e);
	if (ret == 0)
		ret = canary_closed("1.1.1.1", 443, e);
	if (ret == 0)
		ret = canary_closed("10.209.0.1", 80, e);
	if (ret == 0)
		ret = canary_closed(w->pinned, SERVICE_PORT_EGRESS, e);
	if (ret == 0)
		ret = canary_closed(w->pinned, SERVICE_PORT_REGISTRY, e);
	if (ret == 0 && !(w->services & WALL_GIT))
		ret = canary_closed(w->pinned, SERVICE_PORT_GITGATE, e);
	if (ret == 0 && !(w->services & WALL_SUPERVISE))
		ret = canary_closed(w->pinned, SERVICE_PORT_SUPERVISE, e);
	if (ret == 0)
		ret = sock_ask_http(w->pinned, SERVICE_PORT_PIPELOCK, until_ns, e);
	if (ret == 0 && w->services & WALL_GIT)
		ret = sock_ask_gitgate(w->pinned, SERVICE_PORT_GITGATE, until_ns, e);
	if (ret == 0 && w->services & WALL_SUPERVISE)
		ret = sock_ask_http(w->pinned, SERVICE_PORT_SUPERVISE, until_ns, e);
	return ret;
}

int wall_canary(const struct wall *w, int timeout_ms, struct err *e)
{
	_cleanup_close_ int listener = -1, ours = -1, theirs = -1, visitor = -1;
	struct err answer = ERR_INIT;
	uint16_t port = 0;
	int pair[2];
	ssize_t got;
	pid_t pid;

	/* On the host's loopback; it must stay without a visitor. */
	listener = sock_listen(htonl(INADDR_LOOPBACK), &port, e);
	if (listener < 0)
		return listener;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_errno(e, "socketpair");
	ours = pair[0];
	theirs = pair[1];
	pid = fork();
	if (pid < 0)
		return err_errno(e, "fork");
	if (pid == 0) {
		(void)prctl(PR_SET_DUMPABLE, 0);
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		answer.code = canary_look(w, port, timeout_ms, &answer);
		(void)io_send_fds(theirs, &answer, sizeof(answer), NULL, 0, 0);
		_exit(0);
	}
	close_fd(&theirs);
	got = io_wait(ours, POLLIN, timeout_ms + 2000) == 1
		      ? io_recv_fds(ours, &answer, sizeof(answer), NULL, NULL, 0)
		      : -ETIMEDOUT;
	(void)kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	visitor = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (visitor >= 0)
		return err_set(e, -ENOTUNIQ, "canary: a listener of the host was reached");
	if (got != (ssize_t)sizeof(answer))
		return err_set(e, -EPROTO, "canary: the prober does not answer");
	if (answer.code < 0)
		return err_set(e, answer.code, "canary: %.*s", (int)sizeof(answer.text) - 1,
			       answer.text);
	return 0;
}
