/*
 * What an engine gives a container besides the network that it was asked for: a default route to a
 * gateway (even where no host has that address, and then every refusal takes seconds), the whole
 * subnet, and on its own networks a resolver at GUEST_RESOLVER, which the engine answers from
 * outside of the wall by NAT rules and listeners in this very namespace. All of it is taken away by
 * routes alone, since a route is looked up before any of those rules is: what has no route cannot
 * be sent, whatever would have become of it. The agent holds no capability to put them back.
 */
#include "guest/guest_int.h"

#include "base/clean.h"
#include "net/rtnl.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <stdio.h>
#include <sys/socket.h>

#define CLOSE_ROUNDS  4
#define CLOSE_BATCH   128
#define CLOSE_MESSAGE 512

struct close_message {
	_Alignas(struct nlmsghdr) char bytes[CLOSE_MESSAGE];
};

struct close_job {
	struct in_addr pinned, own; /* own: the address that the wall's route prefers, 0 for none */
	unsigned wall;		    /* interface; 0 until it is found */
	unsigned wall_bits;	    /* of the prefix that it was found by */
	unsigned loopback;
	/* What is to be deleted; the kernel's own description of a thing names it best. */
	struct close_message found[CLOSE_BATCH];
	size_t n_found;
};

static unsigned close_u32(struct rtattr *a)
{
	unsigned value = 0;

	if (a)
		memcpy(&value, RTA_DATA(a), sizeof(value));
	return value;
}

static int close_remember(struct close_job *job, const struct nlmsghdr *h, uint16_t type,
			  struct err *e)
{
	struct nlmsghdr *copy;

	if (h->nlmsg_len > CLOSE_MESSAGE || job->n_found == CLOSE_BATCH)
		return err_set(e, -E2BIG, "the container's network is larger than expected");
	copy = (void *)job->found[job->n_found++].bytes;
	memcpy(copy, h, h->nlmsg_len);
	copy->nlmsg_type = type;
	copy->nlmsg_flags = 0;
	copy->nlmsg_seq = 0;
	copy->nlmsg_pid = 0;
	return 0;
}

static int close_delete_found(struct close_job *job, struct err *e)
{
	for (size_t i = 0; i < job->n_found; i++) {
		struct nlmsghdr *h = (void *)job->found[i].bytes;
		int ret = rtnl_request(h, "take a route or an address away", e);

		/* Gone with one that was deleted before it. */
		if (ret < 0 && ret != -ESRCH && ret != -EADDRNOTAVAIL && ret != -ENOENT)
			return ret;
	}
	return 0;
}

/* --- the wall's interface --- */

/* The connected route that covers pinned, the most specific of them. */
static int close_find_wall(void *ctx, const struct nlmsghdr *h, struct err *e)
{
	const struct rtmsg *route = NLMSG_DATA(h);
	struct close_job *job = ctx;
	struct rtattr *dst, *source;
	struct in_addr network;
	uint32_t mask;
	unsigned out;

	(void)e;
	if (h->nlmsg_type != RTM_NEWROUTE || h->nlmsg_len < NLMSG_LENGTH(sizeof(*route)))
		return 0;
	out = close_u32(rtnl_attribute(h, sizeof(*route), RTA_OIF, sizeof(out)));
	dst = rtnl_attribute(h, sizeof(*route), RTA_DST, sizeof(network));
	if (route->rtm_type != RTN_UNICAST || route->rtm_dst_len == 0 || route->rtm_dst_len > 32 ||
	    !dst || out == 0 || out == job->loopback ||
	    rtnl_attribute(h, sizeof(*route), RTA_GATEWAY, 0))
		return 0;
	memcpy(&network, RTA_DATA(dst), sizeof(network));
	mask = htonl(~0u << (32 - route->rtm_dst_len));
	if ((job->pinned.s_addr & mask) != (network.s_addr & mask) ||
	    route->rtm_dst_len <= job->wall_bits)
		return 0;
	job->wall = out;
	job->wall_bits = route->rtm_dst_len;
	job->own.s_addr = 0;
	source = rtnl_attribute(h, sizeof(*route), RTA_PREFSRC, sizeof(job->own));
	if (source)
		memcpy(&job->own, RTA_DATA(source), sizeof(job->own));
	return 0;
}

/* --- everything else --- */

/* In the local table, before the one that has 127.0.0.0/8. */
int close_resolver(struct err *e)
{
	struct {
		struct nlmsghdr h;
		struct rtmsg route;
		struct rtattr dst_head;
		struct in_addr dst;
	} request = {
		.h = {.nlmsg_len = sizeof(request),
		      .nlmsg_type = RTM_NEWROUTE,
		      .nlmsg_flags = NLM_F_CREATE | NLM_F_REPLACE},
		.route = {.rtm_family = AF_INET,
			  .rtm_dst_len = 32,
			  .rtm_table = RT_TABLE_LOCAL,
			  .rtm_protocol = RTPROT_STATIC,
			  .rtm_scope = RT_SCOPE_HOST,
			  .rtm_type = RTN_UNREACHABLE},
		.dst_head = {.rta_len = RTA_LENGTH(4), .rta_type = RTA_DST},
	};

	if (inet_pton(AF_INET, GUEST_RESOLVER, &request.dst) != 1)
		return err_set(e, -EINVAL, "the resolver's address");
	return rtnl_request(&request.h, "make the engine's resolver unreachable", e);
}

/* Whatever leaves by an interface, but for the one route. */
static int close_find_route(void *ctx, const struct nlmsghdr *h, struct err *e)
{
	const struct rtmsg *route = NLMSG_DATA(h);
	struct close_job *job = ctx;
	struct rtattr *dst;
	unsigned out;

	if (h->nlmsg_type != RTM_NEWROUTE || h->nlmsg_len < NLMSG_LENGTH(sizeof(*route)))
		return 0;
	/* Entries of the cache, and this host's own addresses. */
	if ((route->rtm_flags & RTM_F_CLONED) || route->rtm_type == RTN_LOCAL ||
	    route->rtm_type == RTN_UNREACHABLE)
		return 0;
	out = close_u32(rtnl_attribute(h, sizeof(*route), RTA_OIF, sizeof(out)));
	dst = rtnl_attribute(h, sizeof(*route), RTA_DST, sizeof(job->pinned));
	if (out == job->loopback && route->rtm_dst_len > 0)
		return 0;
	if (route->rtm_family == AF_INET && route->rtm_dst_len == 32 && out == job->wall && dst &&
	    route->rtm_type == RTN_UNICAST && route->rtm_table == RT_TABLE_MAIN &&
	    !rtnl_attribute(h, sizeof(*route), RTA_GATEWAY, 0) &&
	    !rtnl_attribute(h, sizeof(*route), RTA_VIA, 0) &&
	    memcmp(RTA_DATA(dst), &job->pinned, sizeof(job->pinned)) == 0)
		return 0;
	return close_remember(job, h, RTM_DELROUTE, e);
}

static int close_find_address6(void *ctx, const struct nlmsghdr *h, struct err *e)
{
	const struct ifaddrmsg *address = NLMSG_DATA(h);
	struct rtattr *a;

	if (h->nlmsg_type != RTM_NEWADDR || h->nlmsg_len < NLMSG_LENGTH(sizeof(*address)))
		return 0;
	a = rtnl_attribute(h, sizeof(*address), IFA_ADDRESS, sizeof(in6addr_loopback));
	if (address->ifa_family != AF_INET6 ||
	    (a && memcmp(RTA_DATA(a), &in6addr_loopback, sizeof(in6addr_loopback)) == 0))
		return 0;
	return close_remember(ctx, h, RTM_DELADDR, e);
}

/* Usually it is off already, or /proc/sys is not writable here; the address dump that follows is
 * what counts. */
static void close_disable_ip6(unsigned interface)
{
	char name[IF_NAMESIZE], path[96];
	_cleanup_close_ int fd = -1;
	ssize_t ignored;

	if (!if_indextoname(interface, name))
		return;
	(void)snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/disable_ipv6", name);
	fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd >= 0) {
		ignored = write(fd, "1", 1);
		(void)ignored;
	}
}

/* Deletes what find remembers of a dump until there is nothing left to find. */
static int close_all(struct close_job *job, uint16_t type, unsigned char family,
		     rtnl_message_fn find, struct err *e)
{
	for (int i = 0; i < CLOSE_ROUNDS; i++) {
		int ret;

		job->n_found = 0;
		ret = rtnl_dump(type, family, find, job, e);
		if (ret == -EAGAIN)
			continue;
		if (ret < 0 || job->n_found == 0)
			return ret;
		ret = close_delete_found(job, e);
		if (ret < 0)
			return ret;
	}
	return err_set(e, -EBUSY, "the container's network does not settle");
}

int close_run(const char *pinned, struct err *e)
{
	static struct close_job job;
	int ret;

	job = (struct close_job){.loopback = if_nametoindex("lo")};
	if (inet_pton(AF_INET, pinned, &job.pinned) != 1)
		return err_set(e, -EINVAL, "\"%s\" is not an IPv4 address", pinned);
	ret = rtnl_dump(RTM_GETROUTE, AF_INET, close_find_wall, &job, e);
	if (ret == 0 && job.wall == 0)
		ret = err_set(e, -ENODEV, "no interface of the container is on the network of %s",
			      pinned);
	if (ret < 0)
		return ret;
	close_disable_ip6(job.wall);
	ret = rtnl_route_add(job.wall, job.pinned, job.own, e);
	if (ret == 0)
		ret = close_resolver(e);
	if (ret == 0)
		ret = close_all(&job, RTM_GETROUTE, AF_INET, close_find_route, e);
	if (ret == 0)
		ret = close_all(&job, RTM_GETADDR, AF_INET6, close_find_address6, e);
	return ret < 0 ? ret : close_all(&job, RTM_GETROUTE, AF_INET6, close_find_route, e);
}
