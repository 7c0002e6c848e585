#include "egress/address.h"

#include "base/clean.h"
#include "base/mem.h"
#include "base/timeutil.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <unistd.h>

static const char *const class_names[] = {
#define X(constant, name) [ADDRESS_##constant] = name,
	ADDRESS_CLASSES(X)
#undef X
};
_Static_assert(ARRAY_LEN(class_names) == ADDRESS_CLASS_COUNT, "one name per class");

const char *address_class_name(enum address_class c)
{
	return c < ADDRESS_CLASS_COUNT ? class_names[c] : "?";
}

struct range {
	uint8_t prefix[16];
	uint8_t bits;
	uint8_t class;
};

/* The first match decides, so single addresses stand before the ranges that hold them. */
static const struct range ranges_v4[] = {
	{{169, 254, 169, 254}, 32, ADDRESS_METADATA}, /* AWS, Azure, Google, OpenStack */
	{{100, 100, 100, 200}, 32, ADDRESS_METADATA}, /* Alibaba */
	{{168, 63, 129, 16}, 32, ADDRESS_METADATA},   /* Azure's wire server: a public address */
	{{192, 0, 0, 192}, 32, ADDRESS_METADATA},     /* Oracle */
	{{0}, 8, ADDRESS_UNSPECIFIED},
	{{10}, 8, ADDRESS_PRIVATE},
	{{100, 64}, 10, ADDRESS_SHARED},
	{{127}, 8, ADDRESS_LOOPBACK},
	{{169, 254}, 16, ADDRESS_LINK_LOCAL},
	{{172, 16}, 12, ADDRESS_PRIVATE},
	{{192, 0, 0}, 24, ADDRESS_PROTOCOL},
	{{192, 0, 2}, 24, ADDRESS_DOCUMENTATION},
	{{192, 88, 99}, 24, ADDRESS_TRANSITION}, /* 6to4 relays, RFC 7526 */
	{{192, 168}, 16, ADDRESS_PRIVATE},
	{{198, 18}, 15, ADDRESS_BENCHMARK},
	{{198, 51, 100}, 24, ADDRESS_DOCUMENTATION},
	{{203, 0, 113}, 24, ADDRESS_DOCUMENTATION},
	{{224}, 4, ADDRESS_MULTICAST},
	{{255, 255, 255, 255}, 32, ADDRESS_BROADCAST},
	{{240}, 4, ADDRESS_RESERVED},
};

static const struct range ranges_v6[] = {
	{{0xfd, 0x00, 0x0e, 0xc2, [14] = 0x02, [15] = 0x54}, 128, ADDRESS_METADATA}, /* AWS */
	{{0xfd, 0x20, 0x00, 0xce, [14] = 0x02, [15] = 0x54}, 128, ADDRESS_METADATA}, /* Google */
	{{0}, 128, ADDRESS_UNSPECIFIED},
	{{[15] = 1}, 128, ADDRESS_LOOPBACK},
	{{0xfe, 0x80}, 10, ADDRESS_LINK_LOCAL},
	{{0xfe, 0xc0}, 10, ADDRESS_SITE_LOCAL},
	{{0xfc}, 7, ADDRESS_UNIQUE_LOCAL},
	{{0xff}, 8, ADDRESS_MULTICAST},
	{{0x20, 0x02}, 16, ADDRESS_TRANSITION},			       /* 6to4 */
	{{0x20, 0x01, 0x00, 0x00}, 32, ADDRESS_TRANSITION},	       /* Teredo */
	{{0x20, 0x01, 0x00, 0x02, 0x00, 0x00}, 48, ADDRESS_BENCHMARK}, /* RFC 5180 */
	{{0x20, 0x01, 0x0d, 0xb8}, 32, ADDRESS_DOCUMENTATION},
	{{0x3f, 0xff, 0x00}, 20, ADDRESS_DOCUMENTATION}, /* RFC 9637 */
	{{0x20, 0x01, 0x00}, 23, ADDRESS_PROTOCOL},
};

static const uint8_t nat64_well_known[12] = {0x00, 0x64, 0xff, 0x9b};	    /* RFC 6052 */
static const uint8_t nat64_local[6] = {0x00, 0x64, 0xff, 0x9b, 0x00, 0x01}; /* RFC 8215 */
static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
static const uint8_t translated[12] = {[8] = 0xff, [9] = 0xff}; /* SIIT, RFC 2765 */
static const uint8_t zeroes[12];

static bool range_has(const struct range *r, const uint8_t *a)
{
	size_t whole = r->bits / 8;
	unsigned rest = r->bits % 8;

	if (memcmp(r->prefix, a, whole) != 0)
		return false;
	return rest == 0 || ((r->prefix[whole] ^ a[whole]) >> (8 - rest)) == 0;
}

enum address_class address_classify_v4(const uint8_t a[4])
{
	for (size_t i = 0; i < ARRAY_LEN(ranges_v4); i++) {
		if (range_has(&ranges_v4[i], a))
			return (enum address_class)ranges_v4[i].class;
	}
	return ADDRESS_PUBLIC;
}

/* An interface identifier that holds an IPv4 address (ISATAP, RFC 5214 section 6.1). */
static bool is_isatap(const uint8_t a[16])
{
	return (a[8] & 0xfc) == 0 && a[9] == 0 && a[10] == 0x5e && a[11] == 0xfe;
}

enum address_class address_classify_v6(const uint8_t a[16])
{
	enum address_class inner;

	for (size_t i = 0; i < ARRAY_LEN(ranges_v6); i++) {
		if (range_has(&ranges_v6[i], a))
			return (enum address_class)ranges_v6[i].class;
	}
	/* Name servers of IPv6-only networks make these for every IPv4 host, so a public one is as
	 * good as the IPv4 address in it. */
	if (memcmp(a, nat64_well_known, sizeof(nat64_well_known)) == 0)
		return address_classify_v4(a + 12);
	if (memcmp(a, nat64_local, sizeof(nat64_local)) == 0)
		return ADDRESS_TRANSITION;
	/* No honest AAAA record has these; the class of what is inside says more in a record. */
	if (memcmp(a, mapped, sizeof(mapped)) == 0 || memcmp(a, zeroes, sizeof(zeroes)) == 0 ||
	    memcmp(a, translated, sizeof(translated)) == 0) {
		inner = address_classify_v4(a + 12);
		return inner == ADDRESS_PUBLIC ? ADDRESS_TRANSITION : inner;
	}
	if ((a[0] & 0xe0) != 0x20) /* global unicast is 2000::/3, RFC 4291 */
		return ADDRESS_RESERVED;
	if (is_isatap(a))
		return address_classify_v4(a + 12);
	return ADDRESS_PUBLIC;
}

enum address_class address_classify(const struct sockaddr *sa)
{
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;

	if (sa->sa_family == AF_INET) {
		memcpy(&v4, sa, sizeof(v4));
		return address_classify_v4((const uint8_t *)&v4.sin_addr);
	}
	if (sa->sa_family == AF_INET6) {
		memcpy(&v6, sa, sizeof(v6));
		/* A scope means one link. */
		if (v6.sin6_scope_id != 0)
			return ADDRESS_LINK_LOCAL;
		return address_classify_v6(v6.sin6_addr.s6_addr);
	}
	return ADDRESS_UNKNOWN;
}

socklen_t address_size(const struct sockaddr *sa)
{
	return sa->sa_family == AF_INET6 ? (socklen_t)sizeof(struct sockaddr_in6)
					 : (socklen_t)sizeof(struct sockaddr_in);
}

/* --- own interfaces --- */

static void to_mapped(const uint8_t v4[4], uint8_t out[16])
{
	memcpy(out, mapped, sizeof(mapped));
	memcpy(out + 12, v4, 4);
}

static int own_append(struct address_own *o, const uint8_t a[16], struct err *e)
{
	if (o->n == ADDRESS_OWN_MAX)
		return err_set(e, -E2BIG, "this host has over %u addresses", ADDRESS_OWN_MAX);
	o->list = mem_grow_array(o->list, &o->cap, o->n + 1, sizeof(*o->list));
	memcpy(o->list[o->n++], a, 16);
	return 0;
}

int address_own_open(struct address_own *o, struct err *e)
{
	*o = (struct address_own){.netlink_fd = -1};
	o->netlink_fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	if (o->netlink_fd < 0)
		return err_errno(e, "netlink socket");
	return 0;
}

void address_own_close(struct address_own *o)
{
	close_fd(&o->netlink_fd);
	free(o->list);
	o->list = NULL;
	o->n = o->cap = o->n_extra = 0;
}

int address_own_add(struct address_own *o, const char *text, struct err *e)
{
	uint8_t a[16], v4[4];

	if (inet_pton(AF_INET, text, v4) == 1)
		to_mapped(v4, a);
	else if (inet_pton(AF_INET6, text, a) != 1)
		return err_set(e, -EINVAL, "\"%s\" is not an address", text);
	o->n_extra++;
	return own_append(o, a, e);
}

/* IFA_LOCAL is the interface's own end of a point-to-point link, IFA_ADDRESS the other; both are
 * taken as own. */
static int own_take(struct address_own *o, const struct nlmsghdr *h, struct err *e)
{
	const struct ifaddrmsg *m = NLMSG_DATA(h);
	size_t left;
	int ret = 0;

	if (h->nlmsg_len < NLMSG_LENGTH(sizeof(*m)))
		return err_set(e, -EPROTO, "short netlink message");
	left = h->nlmsg_len - NLMSG_LENGTH(sizeof(*m));
	for (const struct rtattr *a = IFA_RTA(m); ret == 0 && RTA_OK(a, left);
	     a = RTA_NEXT(a, left)) {
		uint8_t address[16];
		size_t size = RTA_PAYLOAD(a);

		if (a->rta_type != IFA_LOCAL && a->rta_type != IFA_ADDRESS &&
		    a->rta_type != IFA_ANYCAST)
			continue;
		if (m->ifa_family == AF_INET && size == 4)
			to_mapped(RTA_DATA(a), address);
		else if (m->ifa_family == AF_INET6 && size == 16)
			memcpy(address, RTA_DATA(a), 16);
		else
			continue;
		ret = own_append(o, address, e);
	}
	return ret;
}

/* One datagram of a dump. 1 when the dump is complete, 0 for more. */
static int own_take_datagram(struct address_own *o, const char *data, size_t n, struct err *e)
{
	const struct nlmsghdr *h = (const struct nlmsghdr *)data;
	int ret = 0;

	for (; ret == 0 && NLMSG_OK(h, n); h = NLMSG_NEXT(h, n)) {
		if (h->nlmsg_seq != o->sequence)
			continue;
		if (h->nlmsg_flags & NLM_F_DUMP_INTR)
			return err_set(e, -EAGAIN, "the addresses changed while they were read");
		if (h->nlmsg_type == NLMSG_DONE)
			return 1;
		if (h->nlmsg_type == NLMSG_ERROR)
			return err_set(e, -EIO, "netlink refused to list addresses");
		if (h->nlmsg_type == RTM_NEWADDR)
			ret = own_take(o, h, e);
	}
	return ret;
}

static int own_read(struct address_own *o, struct err *e)
{
	struct {
		struct nlmsghdr head;
		struct ifaddrmsg body;
	} q = {.head = {.nlmsg_len = sizeof(q),
			.nlmsg_type = RTM_GETADDR,
			.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
			.nlmsg_seq = ++o->sequence},
	       .body = {.ifa_family = AF_UNSPEC}};
	struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
	_Alignas(struct nlmsghdr) static char data[65536];
	int ret = 0;

	o->n = o->n_extra;
	if (sendto(o->netlink_fd, &q, sizeof(q), MSG_NOSIGNAL, (struct sockaddr *)&kernel,
		   sizeof(kernel)) != (ssize_t)sizeof(q))
		return err_errno(e, "netlink");
	while (ret == 0) {
		struct sockaddr_nl from = {0};
		socklen_t from_n = sizeof(from);
		/* The kernel has queued the first part before sendto() returned and queues each
		 * next part when one is read, so this does not wait. */
		ssize_t n = recvfrom(o->netlink_fd, data, sizeof(data), MSG_DONTWAIT | MSG_TRUNC,
				     (struct sockaddr *)&from, &from_n);

		if (n < 0)
			return err_errno(e, "netlink");
		if ((size_t)n > sizeof(data))
			return err_set(e, -EMSGSIZE, "netlink message over %zu bytes",
				       sizeof(data));
		if (from.nl_pid == 0) /* any process may send to the socket */
			ret = own_take_datagram(o, data, (size_t)n, e);
	}
	return ret < 0 ? ret : 0;
}

int address_own_refresh(struct address_own *o, struct err *e)
{
	uint64_t now_ns = time_monotonic_ns();
	int ret = -EAGAIN;

	if (o->read_ns && now_ns - o->read_ns < ADDRESS_OWN_FRESH_MS * TIME_NS_PER_MS)
		return 0;
	for (int tries = 0; tries < 3 && ret == -EAGAIN; tries++)
		ret = own_read(o, e);
	o->read_ns = ret == 0 ? now_ns : 0;
	return ret;
}

bool address_own_has(const struct address_own *o, const struct sockaddr *sa)
{
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
	uint8_t a[16];

	if (sa->sa_family == AF_INET) {
		memcpy(&v4, sa, sizeof(v4));
		to_mapped((const uint8_t *)&v4.sin_addr, a);
	} else if (sa->sa_family == AF_INET6) {
		memcpy(&v6, sa, sizeof(v6));
		memcpy(a, v6.sin6_addr.s6_addr, 16);
		if (memcmp(a, nat64_well_known, sizeof(nat64_well_known)) == 0 || is_isatap(a))
			to_mapped(v6.sin6_addr.s6_addr + 12, a);
	} else {
		return true;
	}
	for (size_t i = 0; i < o->n; i++) {
		if (memcmp(o->list[i], a, 16) == 0)
			return true;
	}
	return false;
}

enum address_class address_check(const struct address_own *o, const struct sockaddr *sa)
{
	enum address_class c = address_classify(sa);

	if (c == ADDRESS_PUBLIC && o && address_own_has(o, sa))
		c = ADDRESS_OWN;
	return c;
}

bool address_is_delivered_here(const struct sockaddr *sa, bool *no_route)
{
	_cleanup_close_ int fd = socket(sa->sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct sockaddr_storage source = {0};
	socklen_t n = sizeof(source);

	/* A host without IPv6 at all has no route to one. */
	*no_route = fd < 0 && errno == EAFNOSUPPORT;
	if (fd < 0)
		return !*no_route;
	if (connect(fd, sa, address_size(sa)) < 0) {
		*no_route = errno == ENETUNREACH || errno == EHOSTUNREACH ||
			    errno == EADDRNOTAVAIL || errno == EAFNOSUPPORT;
		return !*no_route;
	}
	if (getsockname(fd, (struct sockaddr *)&source, &n) < 0)
		return true;
	if (sa->sa_family == AF_INET)
		return memcmp(&((const struct sockaddr_in *)(const void *)&source)->sin_addr,
			      &((const struct sockaddr_in *)(const void *)sa)->sin_addr, 4) == 0;
	return memcmp(&((const struct sockaddr_in6 *)(const void *)&source)->sin6_addr,
		      &((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr, 16) == 0;
}
