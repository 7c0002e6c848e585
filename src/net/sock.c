#include "net/sock.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/timeutil.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <unistd.h>

#define SOCK_BACKLOG 16

socklen_t sock_address(struct sockaddr_storage *out, const char *address, uint16_t port)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)out;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;

	memset(out, 0, sizeof(*out));
	if (inet_pton(AF_INET, address, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(port);
		return sizeof(*v4);
	}
	if (inet_pton(AF_INET6, address, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons(port);
		return sizeof(*v6);
	}
	return 0;
}

/* At the same place in both families. */
static in_port_t port_of(const struct sockaddr_storage *a)
{
	return ((const struct sockaddr_in *)a)->sin_port;
}

static int bound_socket(int family, int type, in_port_t *port)
{
	struct sockaddr_storage own = {.ss_family = (sa_family_t)family};
	socklen_t size = sizeof(own);
	int fd = socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	if (bind(fd, (const struct sockaddr *)&own,
		 family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6)) ==
		    0 &&
	    getsockname(fd, (struct sockaddr *)&own, &size) == 0)
		*port = port_of(&own);
	return fd;
}

int sock_open(const struct sockaddr_storage *to, int type)
{
	in_port_t port = 0;
	_cleanup_close_ int first = bound_socket(to->ss_family, type, &port);

	/* The first is kept until the second has another port. */
	return first < 0 || port != port_of(to) ? take_fd(&first)
						: bound_socket(to->ss_family, type, &port);
}

int sock_dial(const char *address, uint16_t port, int timeout_ms)
{
	struct sockaddr_storage to;
	socklen_t size = sock_address(&to, address, port), code_size = sizeof(int);
	_cleanup_close_ int fd = size == 0 ? -EINVAL : sock_open(&to, SOCK_STREAM);
	int code = 0, ret;

	if (fd < 0)
		return fd;
	if (connect(fd, (const struct sockaddr *)&to, size) == 0)
		return take_fd(&fd);
	if (errno != EINPROGRESS)
		return -errno;
	ret = io_wait(fd, POLLOUT, timeout_ms);
	if (ret <= 0)
		return ret < 0 ? ret : -ETIMEDOUT;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &code_size) < 0)
		return -errno;
	return code ? -code : take_fd(&fd);
}

void sock_say(int fd, struct str text, int timeout_ms)
{
	char byte;

	(void)send(fd, text.p, text.n, MSG_NOSIGNAL);
	(void)shutdown(fd, SHUT_WR);
	if (io_wait(fd, POLLIN, timeout_ms) == 1)
		(void)!read(fd, &byte, 1);
}

int sock_listen(in_addr_t address, uint16_t *port, struct err *e)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = address};
	socklen_t size = sizeof(sa);
	_cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0 || bind(fd, (const struct sockaddr *)&sa, sizeof(sa)) < 0 ||
	    listen(fd, SOCK_BACKLOG) < 0 || getsockname(fd, (struct sockaddr *)&sa, &size) < 0)
		return err_errno(e, "open the canary's listener");
	*port = ntohs(sa.sin_port);
	return take_fd(&fd);
}

/* Rounded up; 0 only when the time is over. */
static int left_ms(uint64_t until_ns)
{
	uint64_t now = time_monotonic_ns();

	return now >= until_ns ? 0 : (int)((until_ns - now) / TIME_NS_PER_MS) + 1;
}

/* What is asked without a path, and the beginning of the answer: as much as there is room for, or
 * up to where it has `end`. */
static ssize_t ask_root(const char *address, uint16_t port, uint64_t until_ns, char *answer,
			size_t size, struct str end, struct err *e)
{
	static const char request[] =
		"GET / HTTP/1.1\r\nHost: canary.invalid\r\nConnection: close\r\n\r\n";
	_cleanup_close_ int fd = sock_dial(address, port, left_ms(until_ns));
	size_t n = 0;

	if (fd == -ETIMEDOUT)
		return err_set(e, fd, "the bundle at %s:%u does not answer", address, port);
	if (fd < 0) {
		errno = -fd;
		return err_errno(e, "the bundle at %s:%u cannot be reached from the bottle",
				 address, port);
	}
	if (send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL) < 0)
		return err_errno(e, "send to the bundle");
	while (n < size && (end.n == 0 || str_find(str_slice(answer, n), end) == n)) {
		int ms = left_ms(until_ns);
		ssize_t got;

		if (ms == 0 || io_wait(fd, POLLIN, ms) != 1)
			return err_set(e, -ETIMEDOUT, "the bundle at %s:%u does not answer",
				       address, port);
		got = recv(fd, answer + n, size - n, 0);
		if (got <= 0)
			return err_set(e, -EPROTO, "the bundle at %s:%u hangs up", address, port);
		n += (size_t)got;
	}
	return (ssize_t)n;
}

#define ASK_HTTP_BYTES	  9
#define ASK_GITGATE_BYTES 4096

int sock_ask_http(const char *address, uint16_t port, uint64_t until_ns, struct err *e)
{
	char answer[ASK_HTTP_BYTES];
	ssize_t n = ask_root(address, port, until_ns, answer, sizeof(answer), STR_NULL, e);

	if (n < 0)
		return (int)n;
	return str_starts(str_slice(answer, (size_t)n), STR_LIT("HTTP/1.1 "))
		       ? 0
		       : err_set(e, -EPROTO, "the bundle at %s:%u does not speak HTTP", address,
				 port);
}

int sock_ask_gitgate(const char *address, uint16_t port, uint64_t until_ns, struct err *e)
{
	char bytes[ASK_GITGATE_BYTES];
	const struct str name = STR_LIT("\"scanner\":\"git-gate\"");
	ssize_t n = ask_root(address, port, until_ns, bytes, sizeof(bytes), name, e);
	struct str answer = str_slice(bytes, n > 0 ? (size_t)n : 0);

	if (n < 0)
		return (int)n;
	if (str_starts(answer, STR_LIT("HTTP/1.1 404 ")) && str_find(answer, name) < answer.n)
		return 0;
	return err_set(e, -EPROTO, "the bundle at %s:%u is not git-gate", address, port);
}
