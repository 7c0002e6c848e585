/* Plain sockets: what a try sends and whether it met anybody. */
#include "probe/probe.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/timeutil.h"
#include "net/sock.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

#define PROBE_CONNECT_MS 1000

int probe_connect(const char *address, uint16_t port, int timeout_ms)
{
	_cleanup_close_ int fd = sock_dial(address, port, timeout_ms);
	int ret = fd < 0 ? fd : io_set_nonblock(fd, false);

	return ret < 0 ? ret : take_fd(&fd);
}

void probe_try_tcp(const struct probe_env *env, const char *id, const char *label,
		   const char *address, uint16_t port)
{
	char token[PROBE_TOKEN_SIZE], detail[128];
	uint64_t start_ns = time_monotonic_ns();
	_cleanup_close_ int fd = probe_connect(address, port, PROBE_CONNECT_MS);
	uint64_t us = (time_monotonic_ns() - start_ns) / 1000;

	probe_token(env, id, label, token);
	(void)snprintf(detail, sizeof(detail), "%s port %u: %s", address, port,
		       fd >= 0 ? "connected" : strerror(-fd));
	if (fd >= 0)
		sock_say(fd, str_of(token), PROBE_CONNECT_MS);
	probe_report(id, label, token, fd >= 0, us, detail);
}

void probe_try_udp(const struct probe_env *env, const char *id, const char *label,
		   const char *address, uint16_t port)
{
	char token[PROBE_TOKEN_SIZE], detail[128], answer[64];
	struct sockaddr_storage sa;
	socklen_t n = sock_address(&sa, address, port);
	_cleanup_close_ int fd = sock_open(&sa, SOCK_DGRAM);
	uint64_t start_ns = time_monotonic_ns(), us;
	bool is_through = false;
	int error = 0;

	probe_token(env, id, label, token);
	if (fd < 0)
		error = -fd;
	else if (sendto(fd, token, strlen(token), 0, (struct sockaddr *)&sa, n) < 0)
		error = errno;
	us = (time_monotonic_ns() - start_ns) / 1000;
	if (!error && io_wait(fd, POLLIN, 200) == 1)
		is_through = recv(fd, answer, sizeof(answer), 0) > 0;
	(void)snprintf(detail, sizeof(detail), "%s port %u: %s", address, port,
		       error	    ? strerror(error)
		       : is_through ? "answered"
				    : "sent, no answer");
	probe_report(id, label, token, is_through, us, detail);
}

static bool probe_is_connected(int fd)
{
	int error = 0;
	socklen_t n = sizeof(error);
	struct sockaddr_storage sa;
	socklen_t sa_n = sizeof(sa);

	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &n) == 0 && error == 0 &&
	       getpeername(fd, (struct sockaddr *)&sa, &sa_n) == 0;
}

void probe_connect_all(struct probe_target *targets, size_t n, int timeout_ms)
{
	uint64_t end_ns = time_monotonic_ns() + (uint64_t)timeout_ms * TIME_NS_PER_MS;
	bool is_pending[PROBE_TARGETS_MAX];

	for (size_t i = 0; i < n; i++) {
		struct sockaddr_storage sa;
		socklen_t sa_n = sock_address(&sa, targets[i].address, targets[i].port);
		int fd = sa_n == 0 ? -1 : sock_open(&sa, SOCK_STREAM);

		targets[i].fd = fd;
		is_pending[i] = fd >= 0 && connect(fd, (struct sockaddr *)&sa, sa_n) < 0 &&
				errno == EINPROGRESS;
	}
	/* One after the other: while the first is waited for the others are decided too. */
	for (size_t i = 0; i < n; i++) {
		uint64_t now_ns = time_monotonic_ns();
		uint64_t left_ms = now_ns < end_ns ? (end_ns - now_ns) / TIME_NS_PER_MS + 1 : 0;

		if (is_pending[i])
			(void)io_wait(targets[i].fd, POLLOUT, (int)left_ms);
		if (targets[i].fd >= 0 && !probe_is_connected(targets[i].fd))
			close_fd(&targets[i].fd);
	}
}

void probe_close_all(struct probe_target *targets, size_t n)
{
	for (size_t i = 0; i < n; i++)
		close_fd(&targets[i].fd);
}

bool probe_has_address(const char *address, bool otherwise)
{
	struct sockaddr_storage sa;
	socklen_t n = sock_address(&sa, address, 0);
	_cleanup_close_ int fd = n > 0 ? socket(sa.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0) : -1;

	if (fd < 0)
		return otherwise;
	if (bind(fd, (struct sockaddr *)&sa, n) == 0)
		return true;
	return errno == EADDRNOTAVAIL ? false : otherwise;
}

void probe_try_list(const struct probe_env *env, const char *id, const char *label,
		    const char *list, uint16_t port)
{
	struct probe_target targets[PROBE_TARGETS_MAX];
	char token[PROBE_TOKEN_SIZE], detail[128] = "none of them was reached";
	struct str rest = str_of(list);
	uint64_t start_ns = time_monotonic_ns();
	size_t n = 0, n_open = 0, n_missed = 0;

	probe_token(env, id, label, token);
	while (n < PROBE_TARGETS_MAX &&
	       probe_list_next(&rest, targets[n].address, sizeof(targets[n].address)))
		targets[n++].port = port;
	probe_connect_all(targets, n, PROBE_CONNECT_MS);
	for (size_t i = 0; i < n; i++) {
		if (targets[i].fd < 0) {
			if (env->is_control && probe_has_address(targets[i].address, true)) {
				n_missed++;
				(void)snprintf(detail, sizeof(detail), "%.45s port %u: not reached",
					       targets[i].address, port);
			}
			continue;
		}
		n_open++;
		if (!env->is_control)
			(void)snprintf(detail, sizeof(detail), "%.45s port %u: connected",
				       targets[i].address, port);
		sock_say(targets[i].fd, str_of(token), PROBE_CONNECT_MS);
	}
	probe_close_all(targets, n);
	/* The control has no token: one address that was reached would speak for all. */
	probe_report(id, label, env->is_control ? "" : token, n_open > 0 && n_missed == 0,
		     (time_monotonic_ns() - start_ns) / 1000, detail);
}
