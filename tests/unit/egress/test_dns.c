/* The parser of answers on its own, then the resolver against a name server of the test's own. */
#include "dns_stub.h"

#include "egress/dialer.h"
#include "egress/resolver.h"

#include "base/clean.h"
#include "base/timeutil.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* --- the parser --- */

static enum dns_answer_status parse(const uint8_t *p, size_t n, uint16_t type,
				    struct dns_answer *out)
{
	return dns_answer_parse(out, str_slice(p, n), STR_LIT("www.example.com"), type);
}

static void test_parse_plain(void **state)
{
	uint8_t p[1024];
	struct dns_answer a;
	size_t n;

	(void)state;
	n = dns_put_head(p, 1, 0x8180, 2);
	n = dns_put_question(p, n, "WWW.example.COM", 1);
	n = dns_put_address(p, n, "www.EXAMPLE.com", 300, "44.1.1.1");
	n = dns_put_address(p, n, "www.example.com", 60, "44.1.1.2");
	assert_int_equal(parse(p, n, 1, &a), DNS_ANSWER_OK);
	assert_int_equal(a.n, 2);
	assert_int_equal(a.ttl_seconds, 60);
	assert_int_equal(((struct sockaddr_in *)&a.addresses[1])->sin_addr.s_addr,
			 inet_addr("44.1.1.2"));
	/* Every cut of it is malformed. */
	for (size_t cut = 0; cut < n; cut++)
		assert_int_equal(parse(p, cut, 1, &a), DNS_ANSWER_MALFORMED);
	/* Bytes behind the records (an OPT record, padding) do not matter. */
	assert_int_equal(parse(p, n + 11, 1, &a), DNS_ANSWER_OK);
}

static void test_parse_compressed(void **state)
{
	uint8_t p[1024], v6[16] = {0x26, 0x06};
	struct dns_answer a;
	size_t n;

	(void)state;
	n = dns_put_head(p, 1, 0x8180, 1);
	n = dns_put_question(p, n, "www.example.com", 28);
	p[n++] = 0xc0;
	p[n++] = 12;
	memcpy(p + n, (uint8_t[]){0, 28, 0, 1, 0, 0, 0, 5, 0, 16}, 10);
	memcpy(p + n + 10, v6, 16);
	n += 26;
	assert_int_equal(parse(p, n, 28, &a), DNS_ANSWER_OK);
	assert_int_equal(a.addresses[0].ss_family, AF_INET6);
	/* To itself, forwards, and a loop of two. */
	p[n - 27] = (uint8_t)(n - 28);
	assert_int_equal(parse(p, n, 28, &a), DNS_ANSWER_MALFORMED);
	p[n - 27] = (uint8_t)(n - 10);
	assert_int_equal(parse(p, n, 28, &a), DNS_ANSWER_MALFORMED);
	p[n - 28] = 0xff;
	p[n - 27] = 0xff;
	assert_int_equal(parse(p, n, 28, &a), DNS_ANSWER_MALFORMED);
}

static void test_parse_aliases(void **state)
{
	uint8_t p[2048];
	struct dns_answer a;
	char from[32] = "www.example.com", to[32];
	size_t n;

	(void)state;
	/* In whatever order. */
	n = dns_put_head(p, 1, 0x8180, 3);
	n = dns_put_question(p, n, "www.example.com", 1);
	n = dns_put_address(p, n, "b.cdn.net", 300, "44.1.1.1");
	n = dns_put_alias(p, n, "a.cdn.net", "b.cdn.net");
	n = dns_put_alias(p, n, "www.example.com", "a.cdn.net");
	assert_int_equal(parse(p, n, 1, &a), DNS_ANSWER_OK);
	assert_int_equal(a.ttl_seconds, 60);
	/* A loop. */
	n = dns_put_head(p, 1, 0x8180, 2);
	n = dns_put_question(p, n, "www.example.com", 1);
	n = dns_put_alias(p, n, "www.example.com", "a.cdn.net");
	n = dns_put_alias(p, n, "a.cdn.net", "www.example.com");
	assert_int_equal(parse(p, n, 1, &a), DNS_ANSWER_MALFORMED);
	/* Two targets of one name. */
	n = dns_put_head(p, 1, 0x8180, 2);
	n = dns_put_question(p, n, "www.example.com", 1);
	n = dns_put_alias(p, n, "www.example.com", "a.cdn.net");
	n = dns_put_alias(p, n, "www.example.com", "b.cdn.net");
	assert_int_equal(parse(p, n, 1, &a), DNS_ANSWER_MALFORMED);
	/* As many as allowed, and one more. */
	for (uint16_t extra = 0; extra < 2; extra++) {
		uint16_t aliases = (uint16_t)(DNS_ANSWER_ALIASES_MAX + extra);

		memcpy(from, "www.example.com", 16);
		n = dns_put_head(p, 1, 0x8180, (uint16_t)(aliases + 1));
		n = dns_put_question(p, n, "www.example.com", 1);
		for (uint16_t i = 0; i < aliases; i++) {
			memcpy(to, "a.cdn.net", 10);
			to[0] = (char)('a' + i);
			n = dns_put_alias(p, n, from, to);
			memcpy(from, to, sizeof(from));
		}
		n = dns_put_address(p, n, from, 300, "44.1.1.1");
		assert_int_equal(parse(p, n, 1, &a), extra ? DNS_ANSWER_MALFORMED : DNS_ANSWER_OK);
	}
}

static void test_parse_refused(void **state)
{
	static const struct {
		uint16_t flags;
		enum dns_answer_status want;
	} flags[] = {{0x8180, DNS_ANSWER_OK},	     {0x8580, DNS_ANSWER_OK},
		     {0x0180, DNS_ANSWER_MALFORMED}, {0x8380, DNS_ANSWER_MALFORMED},
		     {0x8980, DNS_ANSWER_MALFORMED}, {0x8183, DNS_ANSWER_NO_ADDRESS},
		     {0x8182, DNS_ANSWER_FAILED},    {0x8185, DNS_ANSWER_FAILED}};
	uint8_t p[4096];
	struct dns_answer a;
	size_t n;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(flags); i++) {
		n = dns_put_head(p, 1, flags[i].flags, 1);
		n = dns_put_question(p, n, "www.example.com", 1);
		n = dns_put_address(p, n, "www.example.com", 1, "44.1.1.1");
		assert_int_equal(parse(p, n, 1, &a), flags[i].want);
	}
	/* Another question, another type, a stray owner, another family, a short address. */
	n = dns_put_head(p, 1, 0x8180, 1);
	n = dns_put_question(p, n, "evil.example.com", 1);
	n = dns_put_address(p, n, "www.example.com", 1, "44.1.1.1");
	assert_int_equal(parse(p, n, 1, &a), DNS_ANSWER_MALFORMED);
	n = dns_put_head(p, 1, 0x8180, 1);
	n = dns_put_question(p, n, "www.example.com", 28);
	n = dns_put_address(p, n, "www.example.com", 1, "44.1.1.1");
	assert_int_equal(parse(p, n, 1, &a), DNS_ANSWER_MALFORMED);
	assert_int_equal(parse(p, n, 28, &a), DNS_ANSWER_MALFORMED);
	n = dns_put_head(p, 1, 0x8180, 1);
	n = dns_put_question(p, n, "www.example.com", 1);
	n = dns_put_address(p, n, "evil.example.com", 1, "44.1.1.1");
	assert_int_equal(parse(p, n, 1, &a), DNS_ANSWER_MALFORMED);
	n = dns_put_head(p, 1, 0x8180, 1);
	n = dns_put_question(p, n, "www.example.com", 1);
	n = dns_put_rr(p, n, "www.example.com", 1, 1, "abc", 3);
	assert_int_equal(parse(p, n, 1, &a), DNS_ANSWER_MALFORMED);
	/* A dot inside a label is not a separator. */
	n = dns_put_head(p, 1, 0x8180, 0);
	memcpy(p + n,
	       "\x0bwww.example\x03"
	       "com\0\0\1\0\1",
	       21);
	assert_int_equal(parse(p, n + 21, 1, &a), DNS_ANSWER_MALFORMED);
	/* One address too many. */
	for (uint16_t extra = 0; extra < 2; extra++) {
		uint16_t count = (uint16_t)(DNS_ANSWER_ADDRESSES_MAX + extra);

		n = dns_put_head(p, 1, 0x8180, count);
		n = dns_put_question(p, n, "www.example.com", 1);
		for (uint16_t i = 0; i < count; i++)
			n = dns_put_address(p, n, "www.example.com", 1, "44.1.1.1");
		assert_int_equal(parse(p, n, 1, &a), extra ? DNS_ANSWER_MALFORMED : DNS_ANSWER_OK);
	}
}

/* --- the resolver --- */

struct fixture {
	struct dns_stub stub;
	struct loop *loop;
	struct address_own own;
	struct policy policy;
	struct policy_resolve resolve[2];
	struct resolver *resolver;
	struct resolver_answer answer;
	unsigned n_called;
	uint64_t took_ms;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct err e = ERR_INIT;
	struct resolver_config config = {
		.own = &f->own, .n_servers = 1, .total_ms = 1500, .policy = &f->policy};

	dns_stub_start(&f->stub);
	config.servers = &f->stub.address;
	f->loop = loop_new(&e);
	f->resolve[0].host = (char *)"named.test";
	f->resolve[1].host = (char *)"named.test";
	if (!f->loop || address_own_open(&f->own, &e) < 0 ||
	    policy_address_parse(STR_LIT("127.0.0.1:4433"), &f->resolve[0].address, &e) < 0 ||
	    policy_address_parse(STR_LIT("::1"), &f->resolve[1].address, &e) < 0)
		return -1;
	f->policy = (struct policy){.resolve = f->resolve, .n_resolve = 2};
	if (resolver_new(&f->resolver, f->loop, &config, &e) < 0)
		return -1;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	resolver_free(f->resolver);
	address_own_close(&f->own);
	loop_free(f->loop);
	dns_stub_stop(&f->stub);
	free(f);
	return 0;
}

static void on_answer(void *ctx, const struct resolver_answer *a)
{
	struct fixture *f = ctx;

	f->answer = *a;
	f->n_called++;
	loop_stop(f->loop, 0);
}

static const char *ask(struct fixture *f, const char *host)
{
	uint64_t start_ns = time_monotonic_ns();

	f->n_called = 0;
	assert_non_null(resolver_ask(f->resolver, str_of(host), 443, on_answer, f));
	assert_int_equal(f->n_called, 0);
	assert_int_equal(loop_run(f->loop), 0);
	assert_int_equal(f->n_called, 1);
	f->took_ms = (time_monotonic_ns() - start_ns) / TIME_NS_PER_MS;
	if (f->answer.status != RESOLVER_OK)
		assert_int_equal(f->answer.n, 0);
	return resolver_status_name(f->answer.status);
}

static void assert_address(const struct sockaddr_storage *a, const char *text)
{
	char got[POLICY_ADDRESS_SIZE];

	policy_address_format(a, got);
	assert_string_equal(got, text);
}

static void test_resolves(void **state)
{
	struct fixture *f = *state;

	assert_string_equal(ask(f, "public.test"), "ok");
	assert_int_equal(f->answer.n, 3);
	assert_false(f->answer.is_operators);
	assert_address(&f->answer.addresses[0], "[2606:4700::1]:443");
	assert_address(&f->answer.addresses[1], "44.1.1.1:443");
	assert_address(&f->answer.addresses[2], "44.1.1.2:443");
	assert_int_equal(atomic_load(&f->stub.n_asked), 2); /* one lookup: A and AAAA */
	assert_string_equal(ask(f, "onlyv4.test"), "ok");
	assert_int_equal(f->answer.n, 1);
}

static void test_refuses_inside(void **state)
{
	struct fixture *f = *state;

	assert_string_equal(ask(f, "mixed.test"), "inside-address");
	assert_string_equal(f->answer.detail, "127.0.0.1 is loopback");
	assert_string_equal(ask(f, "mapped.test"), "inside-address");
	assert_string_equal(ask(f, "metadata.test"), "inside-address");
	assert_string_equal(f->answer.detail, "169.254.169.254 is metadata");
}

/* Rebinding: each dial has its own lookup and its own check. */
static void test_flip(void **state)
{
	struct fixture *f = *state;

	assert_string_equal(ask(f, "flip.test"), "ok");
	assert_address(&f->answer.addresses[0], "44.1.1.1:443");
	assert_string_equal(ask(f, "flip.test"), "inside-address");
}

static void test_cache(void **state)
{
	struct fixture *f = *state;
	unsigned asked;

	assert_string_equal(ask(f, "cached.test"), "ok");
	asked = atomic_load(&f->stub.n_asked);
	assert_string_equal(ask(f, "cached.test"), "ok");
	assert_address(&f->answer.addresses[0], "44.1.1.1:443");
	assert_int_equal(atomic_load(&f->stub.n_asked), asked);
	assert_string_equal(ask(f, "onlyv4.test"), "ok"); /* TTL 0 */
	asked = atomic_load(&f->stub.n_asked);
	assert_string_equal(ask(f, "onlyv4.test"), "ok");
	assert_true(atomic_load(&f->stub.n_asked) > asked);
	/* What is cached is checked again: the host may have got that address meanwhile. */
	f->own.n_extra = 0;
	assert_int_equal(address_own_add(&f->own, "44.1.1.1", NULL), 0);
	f->own.read_ns = 0;
	memcpy(f->own.list[0], "\0\0\0\0\0\0\0\0\0\0\xff\xff\x2c\1\1\1", 16);
	f->own.n_extra = 1;
	assert_string_equal(ask(f, "cached.test"), "inside-address");
	assert_string_equal(f->answer.detail, "44.1.1.1:443 is own-interface");
}

static void test_operators(void **state)
{
	struct fixture *f = *state;

	assert_string_equal(ask(f, "named.test"), "ok");
	assert_true(f->answer.is_operators);
	assert_int_equal(f->answer.n, 2);
	assert_address(&f->answer.addresses[0], "127.0.0.1:4433");
	assert_address(&f->answer.addresses[1], "[::1]:443");
	assert_int_equal(atomic_load(&f->stub.n_asked), 0);
	/* Only the exact name. */
	assert_string_equal(ask(f, "sub.named.test"), "dns-no-address");
}

static void test_failures(void **state)
{
	struct fixture *f = *state;

	assert_string_equal(ask(f, "nx.test"), "dns-no-address");
	assert_string_equal(ask(f, "empty.test"), "dns-no-address");
	assert_string_equal(ask(f, "servfail.test"), "dns-failed");
	assert_string_equal(ask(f, "stray.test"), "dns-malformed");
	assert_string_equal(ask(f, "latev6.test"), "ok");
	assert_true(f->took_ms >= 400 && f->took_ms < 1400);
	assert_string_equal(ask(f, "silent.test"), "dns-timeout");
	assert_true(f->took_ms >= 1400);
	/* No search domain, no hosts file. */
	assert_string_equal(ask(f, "localhost"), "dns-no-address");
}

static void test_cancel_and_cap(void **state)
{
	struct fixture *f = *state;
	struct resolver_lookup *l[RESOLVER_LOOKUPS_MAX];

	f->n_called = 0;
	for (size_t i = 0; i < RESOLVER_LOOKUPS_MAX; i++) {
		l[i] = resolver_ask(f->resolver, STR_LIT("silent.test"), 443, on_answer, f);
		assert_non_null(l[i]);
	}
	assert_null(resolver_ask(f->resolver, STR_LIT("public.test"), 443, on_answer, f));
	for (size_t i = 0; i < RESOLVER_LOOKUPS_MAX; i++)
		resolver_cancel(l[i]);
	assert_int_equal(f->n_called, 0);
}

static void test_servers(void **state)
{
	struct sockaddr_storage out[RESOLVER_SERVERS_MAX];

	(void)state;
	assert_int_equal(resolver_servers_parse(STR_LIT("# nameserver 1.1.1.1\nsearch a b\n"
							"nameserver\t9.9.9.9 # x\n"
							"nameserver 2620:fe::fe\r\n"
							"nameserver 2620:fe::fe\n"
							"nameserver fe80::1%eth0\n"
							"options ndots:5"),
						out),
			 2);
	assert_address(&out[0], "9.9.9.9:53");
	assert_address(&out[1], "[2620:fe::fe]:53");
	assert_int_equal(resolver_servers_parse(STR_NULL, out), 0);
	assert_int_equal(resolver_servers_parse(STR_LIT("nameserver 1.1.1.1\nnameserver 1.1.1.1\n"
							"nameserver 1.1.1.1\nnameserver 1.1.1.1\n"
							"nameserver 1.1.1.1\nnameserver 1.1.1.1\n"
							"nameserver 1.1.1.1\nnameserver 1.1.1.1\n"
							"nameserver 1.1.1.1\nnameserver 1.1.1.1\n"),
						out),
			 RESOLVER_SERVERS_MAX);
}

#define RESOLVER_TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse_plain),
		cmocka_unit_test(test_parse_compressed),
		cmocka_unit_test(test_parse_aliases),
		cmocka_unit_test(test_parse_refused),
		RESOLVER_TEST(test_resolves),
		RESOLVER_TEST(test_refuses_inside),
		RESOLVER_TEST(test_flip),
		RESOLVER_TEST(test_cache),
		RESOLVER_TEST(test_operators),
		RESOLVER_TEST(test_failures),
		RESOLVER_TEST(test_cancel_and_cap),
		cmocka_unit_test(test_servers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
