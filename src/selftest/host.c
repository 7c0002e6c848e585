/* What the suite knows of the host that it runs on. */
#include "selftest/suite.h"

#include "base/clean.h"
#include "base/mem.h"
#include "net/sock.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>

#define DIAL_MS	      1000
#define ADDRESSES_MAX 60 /* a host of many bridges: what is past it is not aimed at */

static bool address_text(const struct sockaddr *sa, char out[INET6_ADDRSTRLEN])
{
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)sa;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)sa;

	if (!sa)
		return false;
	if (sa->sa_family == AF_INET)
		return ntohl(v4->sin_addr.s_addr) >> 24 != 127 &&
		       inet_ntop(AF_INET, &v4->sin_addr, out, INET6_ADDRSTRLEN);
	return sa->sa_family == AF_INET6 && !IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr) &&
	       !IN6_IS_ADDR_LINKLOCAL(&v6->sin6_addr) &&
	       inet_ntop(AF_INET6, &v6->sin6_addr, out, INET6_ADDRSTRLEN);
}

void host_addresses(char *out, size_t size)
{
	struct ifaddrs *all = NULL;
	char text[INET6_ADDRSTRLEN];
	size_t n = 0, count = 0;

	out[0] = '\0';
	if (getifaddrs(&all) < 0)
		return;
	for (struct ifaddrs *i = all; i && count < ADDRESSES_MAX; i = i->ifa_next) {
		if (!address_text(i->ifa_addr, text) || n + strlen(text) + 2 > size)
			continue;
		n += (size_t)snprintf(out + n, size - n, "%s%s", count++ ? "," : "", text);
	}
	freeifaddrs(all);
}

void host_namespaces(char *out, size_t size)
{
	static const char *const kinds[] = {"net", "pid", "ipc", "uts", "mnt", "cgroup", "user"};
	size_t n = 0;
	char one[SPACE_MAX];

	out[0] = '\0';
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		if (space_name("self", kinds[i], one) && n + strlen(one) + 2 <= size)
			n += (size_t)snprintf(out + n, size - n, "%s%s", n ? "," : "", one);
	}
}

bool host_net_of(pid_t pid, char out[SPACE_MAX])
{
	char text[16];

	(void)snprintf(text, sizeof(text), "%d", (int)pid);
	return space_name(text, "net", out);
}

bool host_dial(const char *address, uint16_t port, const char *token)
{
	_cleanup_close_ int fd = sock_dial(address, port, DIAL_MS);

	if (fd >= 0)
		sock_say(fd, str_of(token), DIAL_MS);
	return fd >= 0;
}

/* The kernel's table has the host's own networks as routes without a gateway. What only a default
 * route matches is somewhere else, and the suite sends nothing there. */
bool host_is_on_link(const char *address)
{
	_cleanup_fclose_ FILE *f = fopen("/proc/net/route", "re");
	struct in_addr a;
	char line[256];

	if (inet_pton(AF_INET, address, &a) != 1)
		return false;
	while (f && fgets(line, sizeof(line), f)) {
		uint32_t network, gateway, mask;

		if (sscanf(line, "%*s %" SCNx32 " %" SCNx32 " %*s %*s %*s %*s %" SCNx32, &network,
			   &gateway, &mask) == 3 &&
		    mask != 0 && gateway == 0 && (a.s_addr & mask) == network)
			return true;
	}
	return false;
}
