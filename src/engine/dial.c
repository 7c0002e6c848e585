#include "engine/engine_int.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#define DIAL_RETRY_MS	20
#define RECEIVE_STEP	16384
#define DIAL_HEAD_BYTES 512 /* of a request's head beside its path, type and headers */

uint64_t engine_deadline(int timeout_ms)
{
	return timeout_ms < 0 ? UINT64_MAX
			      : time_monotonic_ns() + (uint64_t)timeout_ms * TIME_NS_PER_MS;
}

int engine_left_ms(uint64_t deadline_ns)
{
	uint64_t now_ns = time_monotonic_ns(), left_ms;

	if (deadline_ns == UINT64_MAX)
		return -1;
	if (now_ns >= deadline_ns)
		return 0;
	left_ms = (deadline_ns - now_ns + TIME_NS_PER_MS - 1) / TIME_NS_PER_MS;
	return left_ms > 3600000 ? 3600000 : (int)left_ms;
}

/* 1 ready, 0 timed out, -errno. */
static int wait_for(int fd, short events, uint64_t deadline_ns)
{
	struct pollfd p = {.fd = fd, .events = events};

	for (;;) {
		int left_ms = engine_left_ms(deadline_ns);
		int ret = poll(&p, 1, left_ms);

		if (ret < 0 && errno == EINTR)
			continue;
		if (ret == 0 && engine_left_ms(deadline_ns) != 0)
			continue;
		return ret < 0 ? -errno : ret;
	}
}

static int dial_refused(const struct engine *en, int code, struct err *e)
{
	switch (code) {
	case ENOENT:
	case ENOTDIR:
		/* Not -ENOENT, which says that an object of the engine's does not exist. */
		return err_set(e, -ECONNREFUSED,
			       "the Docker engine: there is no socket at %s (%s): is it installed "
			       "and running?",
			       en->socket, en->from);
	case ECONNREFUSED:
		return err_set(e, -ECONNREFUSED,
			       "the Docker engine: nobody listens at %s (%s): is it running?",
			       en->socket, en->from);
	case EACCES:
	case EPERM:
		return err_set(e, -EACCES,
			       "the Docker engine: permission denied on %s (%s): your user must be "
			       "in the group that owns it, \"docker\" as a rule",
			       en->socket, en->from);
	case EAGAIN:
	case ETIMEDOUT:
		return err_set(e, -ETIMEDOUT,
			       "the Docker engine: it does not accept connections at %s (%s)",
			       en->socket, en->from);
	default:
		return err_set(e, -code, "the Docker engine: connect to %s (%s): %s", en->socket,
			       en->from, strerror(code));
	}
}

int engine_dial(const struct engine *en, uint64_t deadline_ns, struct err *e)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	static_assert(sizeof(en->socket) <= sizeof(sa.sun_path), "a path would be cut");
	if (fd < 0)
		return err_errno(e, "socket");
	memcpy(sa.sun_path, en->socket, sizeof(en->socket));
	while (connect(fd, (const struct sockaddr *)&sa, sizeof(sa)) < 0) {
		int left_ms = engine_left_ms(deadline_ns);

		if (errno == EINTR)
			continue;
		/* A full queue of connections: a unix socket has nothing to wait on. */
		if (errno != EAGAIN || left_ms == 0)
			return dial_refused(en, errno, e);
		(void)poll(NULL, 0,
			   left_ms > 0 && left_ms < DIAL_RETRY_MS ? left_ms : DIAL_RETRY_MS);
	}
	return take_fd(&fd);
}

int engine_send(int fd, struct str data, uint64_t deadline_ns)
{
	while (data.n > 0) {
		ssize_t put = send(fd, data.p, data.n, MSG_NOSIGNAL | MSG_DONTWAIT);
		int ret;

		if (put >= 0) {
			data = str_sub(data, (size_t)put, data.n);
			continue;
		}
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN)
			return -errno;
		ret = wait_for(fd, POLLOUT, deadline_ns);
		if (ret <= 0)
			return ret < 0 ? ret : -ETIMEDOUT;
	}
	return 0;
}

ssize_t engine_receive(int fd, struct buf *in)
{
	size_t room = buf_room(in);
	ssize_t got;
	char *p;

	if (room > RECEIVE_STEP)
		room = RECEIVE_STEP;
	p = room ? buf_reserve(in, room) : NULL;
	if (!p)
		return -ENOBUFS;
	do {
		got = recv(fd, p, room, MSG_DONTWAIT);
	} while (got < 0 && errno == EINTR);
	if (got < 0)
		return -errno;
	buf_commit(in, (size_t)got);
	return got;
}

int engine_await(int fd, uint64_t deadline_ns)
{
	int ret = wait_for(fd, POLLIN, deadline_ns);

	return ret < 0 ? ret : ret == 0 ? -ETIMEDOUT : 0;
}

/* --- requests --- */

enum http1_method engine_method(const char *method)
{
	for (unsigned m = 0; m < HTTP1_METHOD_COUNT; m++) {
		if (str_eq(http1_method_name((enum http1_method)m), str_of(method)))
			return (enum http1_method)m;
	}
	return HTTP1_METHOD_COUNT;
}

static bool is_printable(const char *s, bool may_have_space)
{
	if (!*s)
		return false;
	for (; *s; s++) {
		if ((unsigned char)*s < 0x20 || (unsigned char)*s > 0x7e ||
		    (*s == ' ' && !may_have_space))
			return false;
	}
	return true;
}

int engine_write_head(struct buf *out, const struct engine *en, const struct engine_request *r,
		      const char *what, struct err *e)
{
	size_t n = DIAL_HEAD_BYTES + strlen(r->path) + (r->type ? strlen(r->type) : 0);
	int ret;

	if (engine_method(r->method) >= HTTP1_CONNECT || r->path[0] != '/' ||
	    strlen(r->path) > ENGINE_TARGET_MAX || !is_printable(r->path, false) ||
	    (r->type && !is_printable(r->type, true)))
		return engine_fail(e, -EINVAL, what, "not a request that can be made");
	for (const char *const *h = r->headers; h && *h; h++)
		n += strlen(*h) + 2;
	/* At once: memory that is outgrown on the way would keep a copy of a password. */
	if (!buf_reserve(out, n))
		return engine_fail(e, -E2BIG, what, "the request is too large");
	ret = buf_printf(
		out, "%s %s%s%s HTTP/1.1\r\nHost: docker\r\nUser-Agent: claude-bottle/%s\r\n",
		r->method, en->api[0] ? "/v" : "", en->api, r->path, CLAUDE_BOTTLE_VERSION);
	for (const char *const *h = r->headers; ret == 0 && h && *h; h++) {
		/* An empty one would end the head. */
		if (!is_printable(*h, true) || !strchr(*h, ':'))
			return engine_fail(e, -EINVAL, what, "not a header that can be sent");
		ret = buf_printf(out, "%s\r\n", *h);
	}
	if (ret == 0 && r->type)
		ret = buf_printf(out, "Content-Type: %s\r\n", r->type);
	if (ret == 0 && r->body == ENGINE_BODY_CHUNKED)
		ret = buf_printf(out, "Transfer-Encoding: chunked\r\n");
	else if (ret == 0 && (r->body == ENGINE_BODY_LENGTH || strcmp(r->method, "GET") != 0))
		ret = buf_printf(out, "Content-Length: %zu\r\n", r->length);
	if (ret == 0)
		ret = buf_append(out, "\r\n", 2);
	return ret < 0 ? engine_fail(e, -E2BIG, what, "the request is too large") : 0;
}

/* It may hold a registry's password. */
static void wipe_buf(struct buf *b)
{
	if (b->p)
		mem_wipe(b->p, b->size);
	buf_free(b);
}

int engine_request(const struct engine *en, const struct engine_request *r, struct str body,
		   const char *what, uint64_t deadline_ns, struct err *e)
{
	_cleanup_(wipe_buf) struct buf head;
	_cleanup_close_ int fd = -1;
	int ret;

	buf_init(&head, ENGINE_REQUEST_MAX);
	ret = engine_write_head(&head, en, r, what, e);
	if (ret < 0)
		return ret;
	fd = engine_dial(en, deadline_ns, e);
	if (fd < 0)
		return fd;
	ret = engine_send(fd, buf_str(&head), deadline_ns);
	if (ret == 0)
		ret = engine_send(fd, body, deadline_ns);
	/* An engine that hangs up while it is being asked may have said why. */
	if (ret < 0 && ret != -EPIPE && ret != -ECONNRESET)
		return engine_fail_io(e, ret, what);
	return take_fd(&fd);
}
