/*
 * Each network of a bottle is a block of eight addresses, from private ranges that are seldom used;
 * what the host routes anywhere, a VPN for one, and what the engine has given to other networks is
 * left alone.
 */
#include "backend/docker/objects.h"

#include "net/rtnl.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define RANGE_BLOCK 8u
#define RANGE_BITS  29u

/* First addresses of /16 networks. */
static const uint32_t range_pools[] = {
	0x0ad20000,					/* 10.210 … */
	0x0ad30000, 0x0ad40000, 0x0ad50000, 0xac1d0000, /* 172.29 … */
	0xac1e0000, 0xac1f0000, 0xc0a8c000,		/* 192.168.192.0/18 */
};
#define RANGE_POOL_SIZE	     65536u
#define RANGE_POOL_SIZE_LAST 16384u

static size_t range_blocks(size_t pool)
{
	bool is_last = pool + 1 == sizeof(range_pools) / sizeof(range_pools[0]);

	return (is_last ? RANGE_POOL_SIZE_LAST : RANGE_POOL_SIZE) / RANGE_BLOCK;
}

static int taken_add(struct docker_taken *t, struct in_addr network, unsigned prefix, struct err *e)
{
	uint32_t mask = prefix == 0 ? 0 : ~0u << (32 - prefix);
	uint32_t first = ntohl(network.s_addr) & mask;

	if (prefix == 0)
		return 0;
	if (t->n == DOCKER_TAKEN_MAX)
		return err_set(e, -E2BIG, "more than %d networks and routes on this host",
			       DOCKER_TAKEN_MAX);
	t->list[t->n].first = first;
	t->list[t->n++].last = first | ~mask;
	return 0;
}

static int taken_on_route(void *ctx, const struct nlmsghdr *h, struct err *e)
{
	const struct rtmsg *route = NLMSG_DATA(h);
	struct in_addr network;
	struct rtattr *dst;

	if (h->nlmsg_type != RTM_NEWROUTE || h->nlmsg_len < NLMSG_LENGTH(sizeof(*route)))
		return 0;
	dst = rtnl_attribute(h, sizeof(*route), RTA_DST, sizeof(network));
	if (!dst || route->rtm_family != AF_INET || route->rtm_dst_len > 32)
		return 0;
	memcpy(&network, RTA_DATA(dst), sizeof(network));
	return taken_add(ctx, network, route->rtm_dst_len, e);
}

/* "10.1.2.0/24"; IPv6 and whatever else is no matter here. */
int docker_taken_add_text(struct docker_taken *t, const char *text, struct err *e)
{
	struct in_addr network;
	struct str address, prefix;
	char cstr[20];
	uint64_t bits;
	bool found;

	prefix = str_cut(str_of(text ? text : ""), '/', &address, &found);
	if (!found || str_to_u64(prefix, 32, &bits) < 0 ||
	    !str_to_cstr(cstr, sizeof(cstr), address) || inet_pton(AF_INET, cstr, &network) != 1)
		return 0;
	return taken_add(t, network, (unsigned)bits, e);
}

int docker_taken_read(struct docker_taken *t, const json_t *networks, struct err *e)
{
	int ret;

	for (int tries = 0; tries < 4; tries++) {
		t->n = 0;
		ret = rtnl_dump(RTM_GETROUTE, AF_INET, taken_on_route, t, e);
		if (ret != -EAGAIN)
			break;
	}
	for (size_t i = 0; ret == 0 && i < json_array_size(networks); i++) {
		const json_t *ipam = json_object_get(json_array_get(networks, i), "IPAM");
		const json_t *config = json_object_get(ipam, "Config");

		for (size_t k = 0; ret == 0 && k < json_array_size(config); k++) {
			const json_t *subnet = json_object_get(json_array_get(config, k), "Subnet");

			ret = docker_taken_add_text(t, json_string_value(subnet), e);
		}
	}
	return ret;
}

static bool is_free(const struct docker_taken *t, uint32_t first)
{
	for (size_t i = 0; i < t->n; i++) {
		if (t->list[i].first <= first + RANGE_BLOCK - 1 && t->list[i].last >= first)
			return false;
	}
	return true;
}

static void range_text(char *out, size_t size, uint32_t address, const char *suffix)
{
	struct in_addr a = {.s_addr = htonl(address)};
	char text[INET_ADDRSTRLEN];

	(void)inet_ntop(AF_INET, &a, text, sizeof(text));
	(void)snprintf(out, size, "%s%s", text, suffix);
}

static void range_fill(struct docker_net *n, uint32_t first)
{
	_Static_assert(1u << (32 - RANGE_BITS) == RANGE_BLOCK, "the prefix of a block");
	range_text(n->subnet, sizeof(n->subnet), first, "/29");
	range_text(n->gateway, sizeof(n->gateway), first + 1, "");
	range_text(n->bundle, sizeof(n->bundle), first + 2, "");
	range_text(n->agent, sizeof(n->agent), first + 3, "");
}

int docker_range_pick(struct docker_net *out, const struct docker_taken *t, uint32_t seed,
		      struct err *e)
{
	for (size_t p = 0; p < sizeof(range_pools) / sizeof(range_pools[0]); p++) {
		size_t n = range_blocks(p);

		for (size_t i = 0; i < n; i++) {
			uint32_t first =
				range_pools[p] + (uint32_t)((seed % n + i) % n) * RANGE_BLOCK;

			if (!is_free(t, first))
				continue;
			range_fill(out, first);
			return 0;
		}
	}
	return err_set(e, -EADDRNOTAVAIL,
		       "no addresses are free for a bottle's networks (10.210-213, 172.29-31, "
		       "192.168.192-255 are all routed or taken)");
}
