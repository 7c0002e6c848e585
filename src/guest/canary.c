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
#include "base/ports.h"
#include "base/timeutil.h"
#include "net/rtnl.h"
#include "net/sock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>

#define CANARY_RETRY_MS 20
#define CANARY_TRIES	8
#define CANARY_OWN	4
#define CANARY_ATTEMPTS (GUEST_CLOSED_MAX + CANARY_OWN)

/* --- what must be closed --- */

struct attempt {
	const struct guest_target *target;
	int tcp, udp; /* -1: settled */
};

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

static int attempt_begin(struct attempt *a, struct err *e)
{
	struct sockaddr_storage address;
	socklen_t size = sock_address(&address, a->target->address, (uint16_t)a->target->port);

	if (size == 0)
		return err_set(e, -EINVAL, "\"%s\" is not an address", a->target->address);
	a->tcp = sock_open(&address, SOCK_STREAM);
	a->udp = sock_open(&address, SOCK_DGRAM);
	if (a->tcp == -EAFNOSUPPORT || a->udp == -EAFNOSUPPORT)
		return 0;
	if (a->tcp < 0 || a->udp < 0)
		return err_set(e, a->tcp < 0 ? a->tcp : a->udp, "socket: %s",
			       strerror(a->tcp < 0 ? -a->tcp : -a->udp));
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

static bool canary_answers_at(const struct guest_canary *c, unsigned port)
{
	for (size_t i = 0; i < c->n_answers; i++) {
		if (c->answers[i] == port)
			return true;
	}
	return false;
}

static int canary_closed(const struct guest_canary *c, bool is_machine, struct err *e)
{
	const struct guest_target own[] = {
		{.address = c->pinned, .port = SERVICE_PORT_EGRESS, .what = "egress"},
		{.address = GUEST_RESOLVER,
		 .port = SERVICE_PORT_DNS,
		 .what = "the engine's resolver"},
		{.address = c->pinned, .port = SERVICE_PORT_GITGATE, .what = "git-gate"},
		{.address = c->pinned, .port = SERVICE_PORT_SUPERVISE, .what = "supervise"},
	};
	_Static_assert(ARRAY_LEN(own) == CANARY_OWN, "room for each");
	struct attempt all[CANARY_ATTEMPTS];
	size_t n = 0, n_begun = 0;
	int ret = 0;

	for (size_t i = 0; i < ARRAY_LEN(own); i++) {
		bool is_pinned = strcmp(own[i].address, c->pinned) == 0;

		if (is_pinned ? !canary_answers_at(c, own[i].port) : !is_machine)
			all[n++] = (struct attempt){.target = &own[i], .tcp = -1, .udp = -1};
	}
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

static int canary_answers(const struct guest_canary *c, struct err *e)
{
	uint64_t until = time_monotonic_ns() + GUEST_ANSWER_MS * TIME_NS_PER_MS;

	for (size_t i = 0; i < c->n_answers; i++) {
		for (;;) {
			uint16_t port = (uint16_t)c->answers[i];
			int ret = port == SERVICE_PORT_GITGATE
					  ? sock_ask_gitgate(c->pinned, port, until, e)
					  : sock_ask_http(c->pinned, port, until, e);

			if (ret == 0)
				break;
			/* It may not have started yet. */
			if (ret != -ECONNREFUSED || time_monotonic_ns() >= until)
				return ret;
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

int canary_check(const struct guest_canary *c, bool is_machine, struct err *e)
{
	int ret = is_machine ? 0 : canary_scene(c, e);

	/* What must be closed is asked last: while the bundle still starts, all of it is. */
	if (ret == 0)
		ret = canary_answers(c, e);
	return ret < 0 ? ret : canary_closed(c, is_machine, e);
}
