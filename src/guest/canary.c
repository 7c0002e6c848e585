/*
 * The wall seen from where the agent will stand: same user, same namespaces, before it exists. All
 * that must be closed is tried at once, so that a wall that holds costs microseconds: everything
 * is refused or unreachable, and only something that is neither uses up GUEST_CLOSED_MS.
 *
 * A connection attempt that stays silent fails the canary although nothing was reached: silence is
 * what a packet gets that was sent, and whom it reached cannot be seen from here.
 */
#include "guest/guest_int.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/timeutil.h"
#include "net/rtnl.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>

#define CANARY_RETRY_MS 20
#define CANARY_TRIES	8
#define CANARY_ATTEMPTS (GUEST_CLOSED_MAX + 2)
#define CANARY_DNS_PORT 53

/* --- what must be closed --- */

struct attempt {
	const struct guest_target *target;
	int tcp, udp; /* -1: settled */
};

static socklen_t attempt_address(const struct guest_target *t, struct sockaddr_storage *out)
{
	struct sockaddr_in *in = (void *)out;
	struct sockaddr_in6 *in6 = (void *)out;

	memset(out, 0, sizeof(*out));
	if (inet_pton(AF_INET, t->address, &in->sin_addr) == 1) {
		in->sin_family = AF_INET;
		in->sin_port = htons((uint16_t)t->port);
		return sizeof(*in);
	}
	if (inet_pton(AF_INET6, t->address, &in6->sin6_addr) == 1) {
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons((uint16_t)t->port);
		return sizeof(*in6);
	}
	return 0;
}

static int attempt_open(const struct attempt *a, const char *how, struct err *e)
{
	const struct guest_target *t = a->target;
	bool is_named = t->what && t->what[0];

	return err_set(e, -ENOTUNIQ, "%s%s%s:%u%s %s", is_named ? t->what : "",
		       is_named ? " (" : "", t->address, t->port, is_named ? ")" : "", how);
}

/* The resolver must have no route: a refusal would be an engine that listens on another port. */
static bool attempt_is_resolver(const struct attempt *a)
{
	return strcmp(a->target->address, GUEST_RESOLVER) == 0;
}

static bool attempt_is_good(const struct attempt *a, int code)
{
	return (code == ECONNREFUSED && !attempt_is_resolver(a)) || code == ENETUNREACH ||
	       code == EHOSTUNREACH || code == EACCES || code == EPERM || code == EINVAL ||
	       code == EADDRNOTAVAIL || code == EAFNOSUPPORT;
}

/* Whatever listens is likely to answer this: a question for the root's name servers. */
static const char attempt_question[] = "\xcb\x01\x01\0\0\1\0\0\0\0\0\0"
				       "\0\0\2\0\1";

static int attempt_socket_once(int family, int type, unsigned *port)
{
	_cleanup_close_ int fd = socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_storage own = {.ss_family = (sa_family_t)family};
	socklen_t size =
		family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);

	if (fd < 0 || bind(fd, (const struct sockaddr *)&own, size) < 0 ||
	    getsockname(fd, (struct sockaddr *)&own, &size) < 0)
		return -1;
	*port = ntohs(family == AF_INET ? ((const struct sockaddr_in *)&own)->sin_port
					: ((const struct sockaddr_in6 *)&own)->sin6_port);
	return take_fd(&fd);
}

/* A socket that asks for its own port on loopback meets itself, which looks like an answer; so it
 * gets another port first. */
static int attempt_socket(int family, int type, unsigned asked)
{
	unsigned port = 0;
	_cleanup_close_ int first = attempt_socket_once(family, type, &port);

	return first < 0 || port != asked ? take_fd(&first)
					  : attempt_socket_once(family, type, &port);
}

static int attempt_begin(struct attempt *a, struct err *e)
{
	struct sockaddr_storage address;
	socklen_t size = attempt_address(a->target, &address);

	if (size == 0)
		return err_set(e, -EINVAL, "\"%s\" is not an address", a->target->address);
	a->tcp = attempt_socket(address.ss_family, SOCK_STREAM, a->target->port);
	if (a->tcp >= 0)
		a->udp = attempt_socket(address.ss_family, SOCK_DGRAM, a->target->port);
	if ((a->tcp < 0 || a->udp < 0) && (errno == EAFNOSUPPORT || errno == EADDRNOTAVAIL))
		return 0;
	if (a->tcp < 0 || a->udp < 0)
		return err_errno(e, "socket");
	if (connect(a->tcp, (const struct sockaddr *)&address, size) == 0)
		return attempt_open(a, "can be reached", e);
	if (errno != EINPROGRESS) {
		if (!attempt_is_good(a, errno))
			return attempt_open(a, strerror(errno), e);
		close_fd(&a->tcp);
	}
	if (connect(a->udp, (const struct sockaddr *)&address, size) < 0 ||
	    send(a->udp, attempt_question, sizeof(attempt_question) - 1, MSG_NOSIGNAL) < 0)
		close_fd(&a->udp);
	return 0;
}

static int attempt_on_tcp(struct attempt *a, struct err *e)
{
	socklen_t size = sizeof(int);
	int code = 0;

	if (getsockopt(a->tcp, SOL_SOCKET, SO_ERROR, &code, &size) < 0)
		return err_errno(e, "getsockopt");
	if (code == 0)
		return attempt_open(a, "can be reached", e);
	if (!attempt_is_good(a, code))
		return attempt_open(a, strerror(code), e);
	close_fd(&a->tcp);
	return 0;
}

static int attempt_on_udp(struct attempt *a, struct err *e)
{
	char answer[16];

	if (recv(a->udp, answer, sizeof(answer), MSG_DONTWAIT) >= 0)
		return attempt_open(a, "answers datagrams", e);
	if (errno != EAGAIN && errno != EINTR)
		close_fd(&a->udp);
	return 0;
}

/* Until all are settled or the time is over. */
static int attempts_watch(struct attempt *all, size_t n, struct err *e)
{
	uint64_t until = time_monotonic_ns() + GUEST_CLOSED_MS * TIME_NS_PER_MS;
	struct pollfd polls[2 * CANARY_ATTEMPTS];

	for (;;) {
		uint64_t now = time_monotonic_ns();
		bool is_settled = true;
		int ret = 0;

		for (size_t i = 0; i < n; i++) {
			polls[2 * i] = (struct pollfd){.fd = all[i].tcp, .events = POLLOUT};
			polls[2 * i + 1] = (struct pollfd){.fd = all[i].udp, .events = POLLIN};
			is_settled = is_settled && all[i].tcp < 0 && all[i].udp < 0;
		}
		if (is_settled)
			return 0;
		if (now >= until)
			break;
		if (poll(polls, 2 * n, (int)((until - now) / TIME_NS_PER_MS) + 1) < 0 &&
		    errno != EINTR)
			return err_errno(e, "poll");
		for (size_t i = 0; i < n && ret == 0; i++) {
			if (all[i].tcp >= 0 && polls[2 * i].revents)
				ret = attempt_on_tcp(&all[i], e);
			if (ret == 0 && all[i].udp >= 0 && polls[2 * i + 1].revents)
				ret = attempt_on_udp(&all[i], e);
		}
		if (ret < 0)
			return ret;
	}
	for (size_t i = 0; i < n; i++) {
		if (all[i].tcp >= 0)
			return attempt_open(&all[i], "is not refused at once", e);
	}
	return 0;
}

static int canary_closed(const struct guest_canary *c, struct err *e)
{
	const struct guest_target own[] = {
		{.address = c->pinned, .port = GUEST_PORT_EGRESS, .what = "egress"},
		{.address = GUEST_RESOLVER,
		 .port = CANARY_DNS_PORT,
		 .what = "the engine's resolver"},
	};
	struct attempt all[CANARY_ATTEMPTS];
	size_t n = 0, n_begun = 0;
	int ret = 0;

	for (size_t i = 0; i < ARRAY_LEN(own); i++)
		all[n++] = (struct attempt){.target = &own[i], .tcp = -1, .udp = -1};
	for (size_t i = 0; i < c->n_closed && n < CANARY_ATTEMPTS; i++)
		all[n++] = (struct attempt){.target = &c->closed[i], .tcp = -1, .udp = -1};
	while (ret == 0 && n_begun < n)
		ret = attempt_begin(&all[n_begun++], e);
	if (ret == 0)
		ret = attempts_watch(all, n, e);
	for (size_t i = 0; i < n; i++) {
		close_fd(&all[i].tcp);
		close_fd(&all[i].udp);
	}
	return ret;
}

/* --- what must answer --- */

/* Rounded up; 0 only when the time is over. */
static int canary_left_ms(uint64_t until)
{
	uint64_t now = time_monotonic_ns();

	return now >= until ? 0 : (int)((until - now) / TIME_NS_PER_MS) + 1;
}

/* 0, or -EAGAIN if it may not have started yet. */
static int canary_ask(const char *address, unsigned port, uint64_t until, struct err *e)
{
	static const char request[] =
		"GET / HTTP/1.1\r\nHost: canary.invalid\r\nConnection: close\r\n\r\n";
	const struct guest_target target = {.address = address, .port = port};
	_cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_storage sa;
	socklen_t size = attempt_address(&target, &sa), code_size = sizeof(int);
	char answer[16];
	size_t n = 0;
	int code = 0;

	if (fd < 0)
		return err_errno(e, "socket");
	if (connect(fd, (const struct sockaddr *)&sa, size) < 0)
		code = errno;
	if (code == EINPROGRESS && (io_wait(fd, POLLOUT, canary_left_ms(until)) != 1 ||
				    getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &code_size) < 0))
		return err_set(e, -ETIMEDOUT, "the bundle at %s:%u does not answer", address, port);
	if (code != 0) {
		errno = code;
		(void)err_errno(e, "the bundle at %s:%u cannot be reached from the bottle", address,
				port);
		return code == ECONNREFUSED ? -EAGAIN : -code;
	}
	if (send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL) < 0)
		return err_errno(e, "send to the bundle");
	while (n < 9) {
		int left_ms = canary_left_ms(until);
		ssize_t got;

		/* Whoever answers byte by byte gets no more time than others. */
		if (left_ms == 0 || io_wait(fd, POLLIN, left_ms) != 1)
			return err_set(e, -ETIMEDOUT, "the bundle at %s:%u does not answer",
				       address, port);
		got = recv(fd, answer + n, sizeof(answer) - n, 0);
		if (got <= 0)
			return err_set(e, -EPROTO, "the bundle at %s:%u hangs up", address, port);
		n += (size_t)got;
	}
	return str_starts(str_slice(answer, n), STR_LIT("HTTP/1.1 "))
		       ? 0
		       : err_set(e, -EPROTO, "the bundle at %s:%u does not speak HTTP", address,
				 port);
}

static int canary_answers(const struct guest_canary *c, struct err *e)
{
	uint64_t until = time_monotonic_ns() + GUEST_ANSWER_MS * TIME_NS_PER_MS;

	for (size_t i = 0; i < c->n_answers; i++) {
		for (;;) {
			int ret = canary_ask(c->pinned, c->answers[i], until, e);

			if (ret == 0)
				break;
			if (ret != -EAGAIN || time_monotonic_ns() >= until)
				return e->code;
			*e = ERR_INIT;
			(void)poll(NULL, 0, CANARY_RETRY_MS);
		}
	}
	return 0;
}

/* --- interfaces, addresses, routes --- */

struct scene {
	struct in_addr pinned;
	unsigned loopback, wall; /* wall: 0 until it is known */
};

static int scene_open(unsigned interface, const char *what, struct err *e)
{
	char name[IF_NAMESIZE] = "?";

	(void)if_indextoname(interface, name);
	return err_set(e, -ENOTUNIQ, "the container has %s (%s)", what, name);
}

static unsigned scene_u32(struct rtattr *a)
{
	unsigned value = 0;

	if (a)
		memcpy(&value, RTA_DATA(a), sizeof(value));
	return value;
}

/* All that may leave is for pinned, by one interface; a host's own addresses never leave. */
static int scene_on_route(void *ctx, const struct nlmsghdr *h, struct err *e)
{
	const struct rtmsg *route = NLMSG_DATA(h);
	struct scene *s = ctx;
	struct rtattr *dst;
	unsigned out;

	if (h->nlmsg_type != RTM_NEWROUTE || h->nlmsg_len < NLMSG_LENGTH(sizeof(*route)))
		return err_set(e, -EPROTO, "a route that cannot be read");
	if ((route->rtm_flags & RTM_F_CLONED) || route->rtm_type == RTN_LOCAL ||
	    route->rtm_type == RTN_UNREACHABLE || route->rtm_type == RTN_PROHIBIT ||
	    route->rtm_type == RTN_BLACKHOLE)
		return 0;
	out = scene_u32(rtnl_attribute(h, sizeof(*route), RTA_OIF, sizeof(out)));
	if (route->rtm_dst_len == 0)
		return scene_open(out, "a default route", e);
	if (out != 0 && out == s->loopback)
		return 0;
	dst = rtnl_attribute(h, sizeof(*route), RTA_DST, sizeof(s->pinned));
	if (route->rtm_family != AF_INET || route->rtm_dst_len != 32 || out == 0 || !dst ||
	    rtnl_attribute(h, sizeof(*route), RTA_GATEWAY, 0) ||
	    rtnl_attribute(h, sizeof(*route), RTA_VIA, 0) ||
	    rtnl_attribute(h, sizeof(*route), RTA_MULTIPATH, 0) ||
	    memcmp(RTA_DATA(dst), &s->pinned, sizeof(s->pinned)) != 0 ||
	    (s->wall != 0 && s->wall != out))
		return scene_open(out, "a route to more than the bundle", e);
	s->wall = out;
	return 0;
}

static int scene_on_link(void *ctx, const struct nlmsghdr *h, struct err *e)
{
	const struct ifinfomsg *link = NLMSG_DATA(h);
	const struct scene *s = ctx;
	unsigned index;

	if (h->nlmsg_type != RTM_NEWLINK || h->nlmsg_len < NLMSG_LENGTH(sizeof(*link)))
		return err_set(e, -EPROTO, "an interface that cannot be read");
	index = (unsigned)link->ifi_index;
	/* Kernels with tunnel modules put fallback devices into every namespace; they are down, and
	 * nobody inside may raise them. */
	if (index == s->loopback || index == s->wall || !(link->ifi_flags & IFF_UP))
		return 0;
	return scene_open(index, "one interface too many", e);
}

static int scene_on_address(void *ctx, const struct nlmsghdr *h, struct err *e)
{
	const struct ifaddrmsg *address = NLMSG_DATA(h);
	struct rtattr *a;

	(void)ctx;
	if (h->nlmsg_type != RTM_NEWADDR || h->nlmsg_len < NLMSG_LENGTH(sizeof(*address)))
		return err_set(e, -EPROTO, "an address that cannot be read");
	if (address->ifa_family != AF_INET6)
		return 0;
	a = rtnl_attribute(h, sizeof(*address), IFA_ADDRESS, sizeof(in6addr_loopback));
	if (a && memcmp(RTA_DATA(a), &in6addr_loopback, sizeof(in6addr_loopback)) == 0)
		return 0;
	return scene_open(address->ifa_index, "an IPv6 address", e);
}

/* The tables of all policy rules are listed, so a rule could do no more than choose among routes
 * that were all looked at; rules need no look of their own. */
static int scene_look(struct scene *s, struct err *e)
{
	int ret = rtnl_dump(RTM_GETROUTE, AF_UNSPEC, scene_on_route, s, e);

	if (ret == 0 && s->wall == 0)
		ret = err_set(e, -ENETUNREACH, "the container has no route to the bundle");
	if (ret == 0)
		ret = rtnl_dump(RTM_GETLINK, AF_UNSPEC, scene_on_link, s, e);
	return ret < 0 ? ret : rtnl_dump(RTM_GETADDR, AF_INET6, scene_on_address, s, e);
}

static int canary_scene(const struct guest_canary *c, struct err *e)
{
	int ret = -EAGAIN;

	for (int i = 0; ret == -EAGAIN && i < CANARY_TRIES; i++) {
		struct scene s = {.loopback = if_nametoindex("lo")};

		if (inet_pton(AF_INET, c->pinned, &s.pinned) != 1)
			return err_set(e, -EINVAL, "\"%s\" is not an address", c->pinned);
		ret = scene_look(&s, e);
	}
	return ret;
}

int canary_check(const struct guest_canary *c, struct err *e)
{
	int ret = canary_scene(c, e);

	/* What must be closed is asked last: while the bundle still starts, all of it is. */
	if (ret == 0)
		ret = canary_answers(c, e);
	return ret < 0 ? ret : canary_closed(c, e);
}
