#include "carry/carrier_int.h"

#include "base/clean.h"
#include "base/mem.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

struct carrier *carrier_new(struct loop *l, struct in_addr to, const struct carrier_limits *limits)
{
	struct carrier *c = mem_zalloc(sizeof(*c));

	c->loop = l;
	c->to = to;
	c->limits = *limits;
	if (c->limits.connections == 0)
		c->limits.connections = CARRIER_CONNECTIONS_MAX;
	if (c->limits.dial_ms == 0)
		c->limits.dial_ms = CARRIER_DIAL_MS;
	if (c->limits.flow_ms == 0)
		c->limits.flow_ms = CARRIER_FLOW_MS;
	return c;
}

int carrier_add(struct carrier *c, int fd, uint16_t port, struct err *e)
{
	int type = 0;
	socklen_t size = sizeof(type);

	if (c->n_streams == CARRIER_LISTENERS_MAX || c->n_datagrams == CARRIER_LISTENERS_MAX)
		return err_set(e, -E2BIG, "too many sockets to carry from");
	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) < 0)
		return err_errno(e, "port %u", port);
	if (type == SOCK_STREAM) {
		c->streams[c->n_streams] = streams_new(c, fd, port, e);
		return c->streams[c->n_streams] ? (int)(c->n_streams++, 0) : e->code;
	}
	if (type != SOCK_DGRAM)
		return err_set(e, -EINVAL, "port %u: neither a stream nor datagrams", port);
	c->datagrams[c->n_datagrams] = datagrams_new(c, fd, port, e);
	return c->datagrams[c->n_datagrams] ? (int)(c->n_datagrams++, 0) : e->code;
}

void carrier_free(struct carrier *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < c->n_streams; i++)
		streams_free(c->streams[i]);
	for (size_t i = 0; i < c->n_datagrams; i++)
		datagrams_free(c->datagrams[i]);
	free(c);
}

int carrier_dial(const struct carrier *c, int type, uint16_t port)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = c->to};
	_cleanup_close_ int fd = socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)&sa, sizeof(sa)) < 0 && errno != EINPROGRESS)
		return -errno;
	return take_fd(&fd);
}
