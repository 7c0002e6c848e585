#include "net/rtnl.h"

#include "base/clean.h"

#include <errno.h>
#include <net/if.h>
#include <sys/socket.h>

#define RTNL_REPLY_MAX 32768

static int rtnl_open(struct err *e)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	return fd < 0 ? err_errno(e, "open a netlink socket") : fd;
}

int rtnl_request(struct nlmsghdr *request, const char *what, struct err *e)
{
	_cleanup_close_ int fd = rtnl_open(e);
	_Alignas(struct nlmsghdr) char reply[4096];
	const struct nlmsghdr *h = (const struct nlmsghdr *)reply;
	const struct nlmsgerr *answer;
	ssize_t got;

	if (fd < 0)
		return fd;
	request->nlmsg_flags |= NLM_F_REQUEST | NLM_F_ACK;
	if (send(fd, request, request->nlmsg_len, 0) < 0)
		return err_errno(e, "%s", what);
	got = recv(fd, reply, sizeof(reply), 0);
	if (got < 0)
		return err_errno(e, "%s", what);
	if ((size_t)got < NLMSG_LENGTH(sizeof(*answer)) || h->nlmsg_type != NLMSG_ERROR)
		return err_set(e, -EPROTO, "%s: the kernel's answer is not an acknowledgement",
			       what);
	answer = NLMSG_DATA(h);
	if (answer->error != 0) {
		errno = -answer->error;
		return err_errno(e, "%s", what);
	}
	return 0;
}

int rtnl_link_up(unsigned interface, struct err *e)
{
	struct {
		struct nlmsghdr h;
		struct ifinfomsg link;
	} request = {
		.h = {.nlmsg_len = NLMSG_LENGTH(sizeof(struct ifinfomsg)),
		      .nlmsg_type = RTM_NEWLINK},
		.link = {.ifi_index = (int)interface, .ifi_flags = IFF_UP, .ifi_change = IFF_UP},
	};

	return rtnl_request(&request.h, "bring an interface up", e);
}

int rtnl_address_add(unsigned interface, struct in_addr address, struct err *e)
{
	bool is_loopback = interface == if_nametoindex("lo");
	struct {
		struct nlmsghdr h;
		struct ifaddrmsg address;
		struct rtattr local_head;
		struct in_addr local;
	} request = {
		.h = {.nlmsg_len = sizeof(request), .nlmsg_type = RTM_NEWADDR},
		.address = {.ifa_family = AF_INET,
			    .ifa_prefixlen = 32,
			    .ifa_scope = is_loopback ? RT_SCOPE_HOST : RT_SCOPE_UNIVERSE,
			    .ifa_index = interface},
		.local_head = {.rta_len = RTA_LENGTH(sizeof(struct in_addr)),
			       .rta_type = IFA_LOCAL},
		.local = address,
	};

	request.h.nlmsg_flags = NLM_F_CREATE | NLM_F_EXCL;
	return rtnl_request(&request.h, "add an address to an interface", e);
}

int rtnl_route_add(unsigned interface, struct in_addr host, struct in_addr source, struct err *e)
{
	struct {
		struct nlmsghdr h;
		struct rtmsg route;
		struct rtattr dst_head;
		struct in_addr dst;
		struct rtattr out_head;
		unsigned out;
		struct rtattr source_head;
		struct in_addr source;
	} request = {
		.h = {.nlmsg_len = sizeof(request),
		      .nlmsg_type = RTM_NEWROUTE,
		      .nlmsg_flags = NLM_F_CREATE | NLM_F_REPLACE},
		.route = {.rtm_family = AF_INET,
			  .rtm_dst_len = 32,
			  .rtm_table = RT_TABLE_MAIN,
			  .rtm_protocol = RTPROT_STATIC,
			  .rtm_scope = RT_SCOPE_LINK,
			  .rtm_type = RTN_UNICAST},
		.dst_head = {.rta_len = RTA_LENGTH(4), .rta_type = RTA_DST},
		.dst = host,
		.out_head = {.rta_len = RTA_LENGTH(4), .rta_type = RTA_OIF},
		.out = interface,
		.source_head = {.rta_len = RTA_LENGTH(4), .rta_type = RTA_PREFSRC},
		.source = source,
	};

	if (source.s_addr == 0)
		request.h.nlmsg_len -= (uint32_t)RTA_SPACE(4);
	return rtnl_request(&request.h, "add the route to the bundle", e);
}

int rtnl_neighbour_add(unsigned interface, struct in_addr host,
		       const unsigned char hardware[RTNL_HARDWARE_BYTES], struct err *e)
{
	struct {
		struct nlmsghdr h;
		struct ndmsg neighbour;
		struct rtattr dst_head;
		struct in_addr dst;
		struct rtattr hardware_head;
		unsigned char hardware[RTA_ALIGN(RTNL_HARDWARE_BYTES)];
	} request = {
		.h = {.nlmsg_len = sizeof(request),
		      .nlmsg_type = RTM_NEWNEIGH,
		      .nlmsg_flags = NLM_F_CREATE | NLM_F_REPLACE},
		.neighbour = {.ndm_family = AF_INET,
			      .ndm_ifindex = (int)interface,
			      .ndm_state = NUD_PERMANENT},
		.dst_head = {.rta_len = RTA_LENGTH(4), .rta_type = NDA_DST},
		.dst = host,
		.hardware_head = {.rta_len = RTA_LENGTH(RTNL_HARDWARE_BYTES),
				  .rta_type = NDA_LLADDR},
	};

	memcpy(request.hardware, hardware, RTNL_HARDWARE_BYTES);
	return rtnl_request(&request.h, "say who the bundle's neighbour is", e);
}

static int rtnl_find_loopback(unsigned *interface, struct err *e)
{
	*interface = if_nametoindex("lo");
	return *interface == 0 ? err_errno(e, "find lo") : 0;
}

int rtnl_loopback_up(struct err *e)
{
	unsigned lo;
	int ret = rtnl_find_loopback(&lo, e);

	return ret < 0 ? ret : rtnl_link_up(lo, e);
}

int rtnl_loopback_add(struct in_addr address, struct err *e)
{
	unsigned lo;
	int ret = rtnl_find_loopback(&lo, e);

	return ret < 0 ? ret : rtnl_address_add(lo, address, e);
}

static int rtnl_check_link(void *ctx, const struct nlmsghdr *h, struct err *e)
{
	const struct ifinfomsg *link = NLMSG_DATA(h);
	char name[IF_NAMESIZE] = "?";

	(void)ctx;
	if (h->nlmsg_len < NLMSG_LENGTH(sizeof(*link)))
		return err_set(e, -EPROTO, "short link message");
	if ((link->ifi_flags & IFF_LOOPBACK) || !(link->ifi_flags & IFF_UP))
		return 0;
	(void)if_indextoname((unsigned)link->ifi_index, name);
	return err_set(e, -ENOTUNIQ, "the new network namespace has an interface \"%s\" that is up",
		       name);
}

static int rtnl_check_route(void *ctx, const struct nlmsghdr *h, struct err *e)
{
	struct rtmsg *route = NLMSG_DATA(h);
	unsigned loopback = if_nametoindex("lo");
	size_t left;

	(void)ctx;
	if (h->nlmsg_len < NLMSG_LENGTH(sizeof(*route)))
		return err_set(e, -EPROTO, "short route message");
	left = h->nlmsg_len - NLMSG_LENGTH(sizeof(*route));
	for (struct rtattr *a = RTM_RTA(route); RTA_OK(a, left); a = RTA_NEXT(a, left)) {
		unsigned out;

		if (a->rta_type == RTA_GATEWAY || a->rta_type == RTA_VIA ||
		    a->rta_type == RTA_MULTIPATH)
			return err_set(e, -ENOTUNIQ, "the new network namespace has a gateway");
		if (a->rta_type != RTA_OIF || RTA_PAYLOAD(a) < sizeof(out))
			continue;
		memcpy(&out, RTA_DATA(a), sizeof(out));
		if (out != loopback)
			return err_set(e, -ENOTUNIQ,
				       "the new network namespace has a route that is not lo's");
	}
	return 0;
}

int rtnl_dump(uint16_t type, unsigned char family, rtnl_message_fn fn, void *ctx, struct err *e)
{
	_cleanup_close_ int fd = rtnl_open(e);
	_cleanup_free_ char *reply = malloc(RTNL_REPLY_MAX);
	struct {
		struct nlmsghdr h;
		struct rtgenmsg any;
	} request = {
		.h = {.nlmsg_len = NLMSG_LENGTH(sizeof(struct rtgenmsg)),
		      .nlmsg_type = type,
		      .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
		.any = {.rtgen_family = family},
	};

	if (fd < 0)
		return fd;
	if (!reply || send(fd, &request, request.h.nlmsg_len, 0) < 0)
		return err_errno(e, "ask for the namespace's links and routes");
	for (;;) {
		ssize_t got = recv(fd, reply, RTNL_REPLY_MAX, 0);
		size_t left;

		if (got < 0)
			return err_errno(e, "read the namespace's links and routes");
		left = (size_t)got;
		for (struct nlmsghdr *h = (void *)reply; NLMSG_OK(h, left);
		     h = NLMSG_NEXT(h, left)) {
			int ret;

			if (h->nlmsg_flags & NLM_F_DUMP_INTR)
				return err_set(e, -EAGAIN,
					       "links and routes changed while they were read");
			if (h->nlmsg_type == NLMSG_DONE)
				return 0;
			if (h->nlmsg_type == NLMSG_ERROR)
				return err_set(e, -EPROTO,
					       "the kernel refuses to list links and routes");
			ret = fn(ctx, h, e);
			if (ret < 0)
				return ret;
		}
		if (got == 0)
			return err_set(e, -EPROTO, "the list of links and routes was cut");
	}
}

struct rtattr *rtnl_attribute(const struct nlmsghdr *h, size_t head_bytes, unsigned short type,
			      size_t payload_min)
{
	struct rtattr *a = (void *)((char *)NLMSG_DATA(h) + NLMSG_ALIGN(head_bytes));
	size_t left;

	if (h->nlmsg_len < NLMSG_SPACE(head_bytes))
		return NULL;
	left = h->nlmsg_len - NLMSG_SPACE(head_bytes);
	for (; RTA_OK(a, left); a = RTA_NEXT(a, left)) {
		if (a->rta_type == type && RTA_PAYLOAD(a) >= payload_min)
			return a;
	}
	return NULL;
}

int rtnl_verify_sealed(struct err *e)
{
	int ret = rtnl_dump(RTM_GETLINK, AF_UNSPEC, rtnl_check_link, NULL, e);

	return ret < 0 ? ret : rtnl_dump(RTM_GETROUTE, AF_UNSPEC, rtnl_check_route, NULL, e);
}
