/*
 * The native canary: the wall seen from where the agent will stand. Its verdict on the host's
 * listener comes from the listener (nothing may have arrived), not from the prober's error alone.
 */
#include "backend/native/wall.h"

#include "base/clean.h"
#include "base/io.h"

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
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(port)};
	_cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int code = 0;
	socklen_t size = sizeof(code);

	if (fd < 0)
		return err_errno(e, "socket");
	(void)inet_pton(AF_INET, address, &sa.sin_addr);
	if (connect(fd, (const struct sockaddr *)&sa, sizeof(sa)) < 0) {
		if (errno == ECONNREFUSED || errno == ENETUNREACH || errno == EHOSTUNREACH)
			return 0;
		if (errno == EINPROGRESS && io_wait(fd, POLLOUT, CANARY_CLOSED_MS) == 1 &&
		    getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &size) == 0 && code != 0)
			return 0;
		return err_set(e, -ENOTUNIQ, "%s:%u is not refused at once", address, port);
	}
	return err_set(e, -ENOTUNIQ, "%s:%u can be reached from the bottle", address, port);
}

/* 0 if pipelock answers a request, with a refusal or whatever else HTTP has. */
static int canary_answers(const char *address, uint16_t port, int timeout_ms, struct err *e)
{
	static const char request[] =
		"GET / HTTP/1.1\r\nHost: canary.invalid\r\nConnection: close\r\n\r\n";
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(port)};
	_cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char answer[16] = "";
	size_t n = 0;

	if (fd < 0)
		return err_errno(e, "socket");
	(void)inet_pton(AF_INET, address, &sa.sin_addr);
	if (connect(fd, (const struct sockaddr *)&sa, sizeof(sa)) < 0)
		return err_errno(e, "the bundle at %s:%u cannot be reached from the bottle",
				 address, port);
	if (send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL) < 0)
		return err_errno(e, "send to the bundle");
	while (n < 9) {
		ssize_t got;

		if (io_wait(fd, POLLIN, timeout_ms) <= 0)
			return err_set(e, -ETIMEDOUT, "the bundle at %s:%u does not answer",
				       address, port);
		got = recv(fd, answer + n, sizeof(answer) - 1 - n, 0);
		if (got <= 0)
			return err_set(e, -EPROTO, "the bundle at %s:%u hangs up", address, port);
		n += (size_t)got;
	}
	if (!str_starts(str_slice(answer, n), STR_LIT("HTTP/1.1 ")))
		return err_set(e, -EPROTO, "the bundle at %s:%u does not speak HTTP", address,
			       port);
	return 0;
}

static int canary_look(const struct wall *w, uint16_t live_port, int timeout_ms, struct err *e)
{
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
		ret = canary_closed(w->pinned, WALL_PORT_EGRESS, e);
	return ret < 0 ? ret : canary_answers(w->pinned, WALL_PORT_PIPELOCK, timeout_ms, e);
}

/* A listener on the host's loopback, which must stay without a visitor. */
static int canary_listen(uint16_t *port, struct err *e)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof(sa);
	_cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0 || bind(fd, (const struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(fd, 4) < 0 ||
	    getsockname(fd, (struct sockaddr *)&sa, &size) < 0)
		return err_errno(e, "open the canary's listener");
	*port = ntohs(sa.sin_port);
	return take_fd(&fd);
}

int wall_canary(const struct wall *w, int timeout_ms, struct err *e)
{
	_cleanup_close_ int listener = -1, ours = -1, theirs = -1, visitor = -1;
	struct err answer = ERR_INIT;
	uint16_t port = 0;
	int pair[2];
	ssize_t got;
	pid_t pid;

	listener = canary_listen(&port, e);
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
