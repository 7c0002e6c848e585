/* Every edge of every range, the IPv4 forms inside IPv6, and this host's own interfaces. */
#include "egress/address.h"

#include "base/clean.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static struct sockaddr_storage parse(const char *text)
{
	struct sockaddr_storage out = {0};
	struct sockaddr_in *v4 = (struct sockaddr_in *)&out;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&out;

	if (inet_pton(AF_INET, text, &v4->sin_addr) == 1)
		out.ss_family = AF_INET;
	else if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1)
		out.ss_family = AF_INET6;
	else
		fail_msg("%s is no address", text);
	return out;
}

static enum address_class classify(const char *text)
{
	struct sockaddr_storage a = parse(text);

	return address_classify((struct sockaddr *)&a);
}

static const struct {
	const char *text;
	const char *class;
} edges[] = {
	{"0.0.0.0", "unspecified"},
	{"0.255.255.255", "unspecified"},
	{"1.0.0.0", "public"},
	{"1.1.1.1", "public"},
	{"9.255.255.255", "public"},
	{"10.0.0.0", "private"},
	{"10.255.255.255", "private"},
	{"11.0.0.0", "public"},
	{"100.63.255.255", "public"},
	{"100.64.0.0", "shared"},
	{"100.100.100.200", "metadata"},
	{"100.127.255.255", "shared"},
	{"100.128.0.0", "public"},
	{"126.255.255.255", "public"},
	{"127.0.0.0", "loopback"},
	{"127.0.0.1", "loopback"},
	{"127.255.255.255", "loopback"},
	{"128.0.0.0", "public"},
	{"168.63.129.15", "public"},
	{"168.63.129.16", "metadata"},
	{"168.63.129.17", "public"},
	{"169.253.255.255", "public"},
	{"169.254.0.0", "link-local"},
	{"169.254.169.254", "metadata"},
	{"169.254.255.255", "link-local"},
	{"169.255.0.0", "public"},
	{"172.15.255.255", "public"},
	{"172.16.0.0", "private"},
	{"172.31.255.255", "private"},
	{"172.32.0.0", "public"},
	{"191.255.255.255", "public"},
	{"192.0.0.0", "protocol-assignment"},
	{"192.0.0.192", "metadata"},
	{"192.0.0.255", "protocol-assignment"},
	{"192.0.1.0", "public"},
	{"192.0.2.0", "documentation"},
	{"192.0.2.255", "documentation"},
	{"192.0.3.0", "public"},
	{"192.88.98.255", "public"},
	{"192.88.99.0", "ipv4-in-ipv6"},
	{"192.88.99.255", "ipv4-in-ipv6"},
	{"192.88.100.0", "public"},
	{"192.167.255.255", "public"},
	{"192.168.0.0", "private"},
	{"192.168.255.255", "private"},
	{"192.169.0.0", "public"},
	{"198.17.255.255", "public"},
	{"198.18.0.0", "benchmarking"},
	{"198.19.255.255", "benchmarking"},
	{"198.20.0.0", "public"},
	{"198.51.99.255", "public"},
	{"198.51.100.0", "documentation"},
	{"198.51.100.255", "documentation"},
	{"198.51.101.0", "public"},
	{"203.0.112.255", "public"},
	{"203.0.113.0", "documentation"},
	{"203.0.113.255", "documentation"},
	{"203.0.114.0", "public"},
	{"223.255.255.255", "public"},
	{"224.0.0.0", "multicast"},
	{"239.255.255.255", "multicast"},
	{"240.0.0.0", "reserved"},
	{"255.255.255.254", "reserved"},
	{"255.255.255.255", "broadcast"},

	{"::", "unspecified"},
	{"::1", "loopback"},
	{"::2", "unspecified"}, /* IPv4-compatible 0.0.0.2 */
	{"::1.1.1.1", "ipv4-in-ipv6"},
	{"::127.0.0.1", "loopback"},
	{"::169.254.169.254", "metadata"},
	{"::ffff:1.1.1.1", "ipv4-in-ipv6"},
	{"::ffff:127.0.0.1", "loopback"},
	{"::ffff:10.1.2.3", "private"},
	{"::ffff:169.254.169.254", "metadata"},
	{"::ffff:0:10.1.2.3", "private"},
	{"::fffe:1.1.1.1", "reserved"},
	{"64:ff9b::8.8.8.8", "public"},
	{"64:ff9b::10.0.0.1", "private"},
	{"64:ff9b::127.0.0.1", "loopback"},
	{"64:ff9b::169.254.169.254", "metadata"},
	{"64:ff9b::168.63.129.16", "metadata"},
	{"64:ff9b::1:8.8.8.8", "reserved"}, /* not the /96 */
	{"64:ff9b:1::", "ipv4-in-ipv6"},
	{"64:ff9b:1:ffff:ffff:ffff:808:808", "ipv4-in-ipv6"},
	{"64:ff9b:2::808:808", "reserved"},
	{"100::1", "reserved"}, /* discard only */
	{"1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "reserved"},
	{"2000::1", "public"},
	{"2000:ffff:ffff::", "public"},
	{"2001::", "ipv4-in-ipv6"}, /* Teredo */
	{"2001:0:ffff:ffff:ffff:ffff:ffff:ffff", "ipv4-in-ipv6"},
	{"2001:1::1", "protocol-assignment"},
	{"2001:2::", "benchmarking"},
	{"2001:2:0:ffff:ffff:ffff:ffff:ffff", "benchmarking"},
	{"2001:2:1::", "protocol-assignment"},
	{"2001:20::", "protocol-assignment"}, /* ORCHIDv2 */
	{"2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", "protocol-assignment"},
	{"2001:200::", "public"},
	{"2001:4860:4860::8888", "public"},
	{"2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", "public"},
	{"2001:db8::", "documentation"},
	{"2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "documentation"},
	{"2001:db9::", "public"},
	{"2002::", "ipv4-in-ipv6"},
	{"2002:808:808::1", "ipv4-in-ipv6"},
	{"2002:7f00:1::1", "ipv4-in-ipv6"},
	{"2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ipv4-in-ipv6"},
	{"2003::", "public"},
	{"2606:4700::5efe:10.0.0.1", "private"}, /* ISATAP */
	{"2606:4700::200:5efe:169.254.169.254", "metadata"},
	{"2606:4700::5efe:8.8.8.8", "public"},
	{"2606:4700::1:5efe:10.0.0.1", "public"},
	{"3ffe:ffff::", "public"},
	{"3fff::", "documentation"},
	{"3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff", "documentation"},
	{"3fff:1000::", "public"},
	{"4000::", "reserved"},
	{"5f00::1", "reserved"},
	{"fbff:ffff::", "reserved"},
	{"fc00::", "unique-local"},
	{"fd00:ec2::254", "metadata"},
	{"fd00:ec2::253", "unique-local"},
	{"fd20:ce::254", "metadata"},
	{"fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "unique-local"},
	{"fe00::", "reserved"},
	{"fe80::", "link-local"},
	{"febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "link-local"},
	{"fec0::", "site-local"},
	{"feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "site-local"},
	{"ff00::", "multicast"},
	{"ff02::fb", "multicast"},
	{"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "multicast"},
};

static void test_edges(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(edges); i++) {
		const char *class = address_class_name(classify(edges[i].text));

		if (strcmp(class, edges[i].class) != 0)
			fail_msg("%s is %s, not %s", edges[i].text, class, edges[i].class);
	}
}

static void test_scope_and_family(void **state)
{
	struct sockaddr_storage a = parse("2606:4700::1");
	struct sockaddr other = {.sa_family = AF_UNIX};

	(void)state;
	((struct sockaddr_in6 *)&a)->sin6_scope_id = 2;
	assert_int_equal(address_classify((struct sockaddr *)&a), ADDRESS_LINK_LOCAL);
	assert_int_equal(address_classify(&other), ADDRESS_UNKNOWN);
}

/* What the C library lists must all be found; what is added stays over readings. */
static void test_own_interfaces(void **state)
{
	struct address_own own;
	struct ifaddrs *list = NULL;
	struct err e = ERR_INIT;
	struct sockaddr_storage extra = parse("44.1.2.3"), foreign = parse("44.1.2.4");
	struct sockaddr_storage nat64 = parse("64:ff9b::44.1.2.3");
	unsigned seen = 0;

	(void)state;
	assert_int_equal(address_own_open(&own, &e), 0);
	assert_true(address_own_add(&own, "44.1.2.x", &e) < 0);
	assert_int_equal(address_own_add(&own, "44.1.2.3", &e), 0);
	for (int round = 0; round < 2; round++) {
		own.read_ns = 0;
		if (address_own_refresh(&own, &e) < 0)
			fail_msg("%s", e.text);
		assert_int_equal(address_check(&own, (struct sockaddr *)&extra), ADDRESS_OWN);
		assert_int_equal(address_check(&own, (struct sockaddr *)&nat64), ADDRESS_OWN);
		assert_int_equal(address_check(&own, (struct sockaddr *)&foreign), ADDRESS_PUBLIC);
	}
	assert_int_equal(getifaddrs(&list), 0);
	for (struct ifaddrs *i = list; i; i = i->ifa_next) {
		if (!i->ifa_addr ||
		    (i->ifa_addr->sa_family != AF_INET && i->ifa_addr->sa_family != AF_INET6))
			continue;
		assert_true(address_own_has(&own, i->ifa_addr));
		assert_true(address_check(&own, i->ifa_addr) != ADDRESS_PUBLIC);
		seen++;
	}
	freeifaddrs(list);
	assert_true(seen > 0);
	address_own_close(&own);
}

static void test_delivered_here(void **state)
{
	struct sockaddr_storage a = parse("127.44.5.6");
	bool no_route;

	(void)state;
	((struct sockaddr_in *)&a)->sin_port = htons(443);
	/* The source towards most of 127/8 is the destination itself or 127.0.0.1; the latter is
	 * what the table of ranges is for. */
	(void)address_is_delivered_here((struct sockaddr *)&a, &no_route);
	assert_false(no_route);
	a = parse("127.0.0.1");
	((struct sockaddr_in *)&a)->sin_port = htons(443);
	assert_true(address_is_delivered_here((struct sockaddr *)&a, &no_route));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_edges),
		cmocka_unit_test(test_scope_and_family),
		cmocka_unit_test(test_own_interfaces),
		cmocka_unit_test(test_delivered_here),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
