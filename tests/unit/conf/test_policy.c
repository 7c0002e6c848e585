/* Hosts, paths and decisions: the tables hold what attackers write. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clean.h"
#include "base/mem.h"
#include "base/timeutil.h"
#include "conf/policy_index.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>

static void test_host_canonical(void **state)
{
	static const struct {
		struct str in;
		enum policy_reason reason;
		const char *out;
	} rows[] = {
		{STR_LIT("api.example.com"), POLICY_OK, "api.example.com"},
		{STR_LIT("API.Example.COM"), POLICY_OK, "api.example.com"},
		{STR_LIT("api.example.com."), POLICY_OK, "api.example.com"},
		{STR_LIT("localhost"), POLICY_OK, "localhost"},
		{STR_LIT("xn--mnchen-3ya.example"), POLICY_OK, "xn--mnchen-3ya.example"},
		{STR_LIT("1.2.3.example"), POLICY_OK, "1.2.3.example"},
		{STR_LIT("0xg.example"), POLICY_OK, "0xg.example"},
		{STR_LIT("a.0xg"), POLICY_OK, "a.0xg"},
		{STR_LIT("a--b.example"), POLICY_OK, "a--b.example"},
		/* every spelling of an address */
		{STR_LIT("127.0.0.1"), POLICY_DENY_IP_LITERAL, ""},
		{STR_LIT("127.0.0.1."), POLICY_DENY_IP_LITERAL, ""},
		{STR_LIT("127.1"), POLICY_DENY_IP_LITERAL, ""},
		{STR_LIT("127.0.1"), POLICY_DENY_IP_LITERAL, ""},
		{STR_LIT("0"), POLICY_DENY_IP_LITERAL, ""},
		{STR_LIT("2130706433"), POLICY_DENY_IP_LITERAL, ""},
		{STR_LIT("017700000001"), POLICY_DENY_IP_LITERAL, ""},
		{STR_LIT("0177.0.0.1"), POLICY_DENY_IP_LITERAL, ""},
		{STR_LIT("0x7f000001"), POLICY_DENY_IP_LITERAL, ""},
		{STR_LIT("0X7F.0.0.1"), POLICY_DENY_IP_LITERAL, ""},
		{STR_LIT("127.0.0.0x1"), POLICY_DENY_IP_LITERAL, ""},
		{STR_LIT("0x"), POLICY_DENY_IP_LITERAL, ""},
		{STR_LIT("1.2.3.4.5"), POLICY_DENY_IP_LITERAL, ""},
		{STR_LIT("allowed.example.1"), POLICY_DENY_IP_LITERAL, ""},
		{STR_LIT("256.256.256.256"), POLICY_DENY_IP_LITERAL, ""},
		{STR_LIT("09"), POLICY_DENY_IP_LITERAL, ""},
		{STR_LIT("[::1]"), POLICY_DENY_IP_LITERAL, ""},
		{STR_LIT("[allowed.example]"), POLICY_DENY_IP_LITERAL, ""},
		{STR_LIT("::1"), POLICY_DENY_IP_LITERAL, ""},
		{STR_LIT("::ffff:127.0.0.1"), POLICY_DENY_IP_LITERAL, ""},
		{STR_LIT("[::ffff:7f00:1]"), POLICY_DENY_IP_LITERAL, ""},
		{STR_LIT("fe80::1%eth0"), POLICY_DENY_IP_LITERAL, ""},
		{STR_LIT("64:ff9b::a9fe:a9fe"), POLICY_DENY_IP_LITERAL, ""},
		/* not names */
		{STR_LIT(""), POLICY_DENY_HOST_SYNTAX, ""},
		{STR_LIT("."), POLICY_DENY_HOST_SYNTAX, ""},
		{STR_LIT("a..b"), POLICY_DENY_HOST_SYNTAX, ""},
		{STR_LIT(".a"), POLICY_DENY_HOST_SYNTAX, ""},
		{STR_LIT("a.."), POLICY_DENY_HOST_SYNTAX, ""},
		{STR_LIT("1.2.3.4.."), POLICY_DENY_HOST_SYNTAX, ""},
		{STR_LIT("ok@evil.example"), POLICY_DENY_HOST_SYNTAX, ""},
		{STR_LIT("allowed.example:443"), POLICY_DENY_HOST_SYNTAX, ""},
		{STR_LIT("evil\0.allowed.example"), POLICY_DENY_HOST_SYNTAX, ""},
		{STR_LIT("allowed.example\0"), POLICY_DENY_HOST_SYNTAX, ""},
		{STR_LIT("allowed.example\r\n"), POLICY_DENY_HOST_SYNTAX, ""},
		{STR_LIT("allowed .example"), POLICY_DENY_HOST_SYNTAX, ""},
		{STR_LIT("allowed%00.example"), POLICY_DENY_HOST_SYNTAX, ""},
		{STR_LIT("allowed%2eexample"), POLICY_DENY_HOST_SYNTAX, ""},
		{STR_LIT("allowed.example/x"), POLICY_DENY_HOST_SYNTAX, ""},
		{STR_LIT("allowed.example\\x"), POLICY_DENY_HOST_SYNTAX, ""},
		{STR_LIT("api.anthrop\303\255c.com"), POLICY_DENY_HOST_SYNTAX, ""},
		{STR_LIT("\357\274\221.2.3.4"), POLICY_DENY_HOST_SYNTAX, ""}, /* full-width 1 */
		{STR_LIT("allowed\343\200\202example"), POLICY_DENY_HOST_SYNTAX, ""}, /* U+3002 */
		{STR_LIT("-a.example"), POLICY_DENY_HOST_SYNTAX, ""},
		{STR_LIT("a-.example"), POLICY_DENY_HOST_SYNTAX, ""},
		{STR_LIT("a_b.example"), POLICY_DENY_HOST_SYNTAX, ""},
		{STR_LIT("*.example.com"), POLICY_DENY_HOST_SYNTAX, ""},
	};
	char out[POLICY_HOST_MAX + 1];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		enum policy_reason got = policy_host_canonical(rows[i].in, out);

		if (got != rows[i].reason || strcmp(out, rows[i].out) != 0)
			fail_msg("%s: %s \"%s\"", rows[i].in.p, policy_reason_name(got), out);
	}
}

static void test_host_lengths(void **state)
{
	char host[POLICY_HOST_MAX + 3], out[POLICY_HOST_MAX + 1];

	(void)state;
	memset(host, 'a', sizeof(host));
	assert_int_equal(policy_host_canonical(str_slice(host, 63), out), POLICY_OK);
	assert_int_equal(policy_host_canonical(str_slice(host, 64), out), POLICY_DENY_HOST_SYNTAX);
	for (size_t i = 1; i < sizeof(host); i += 2)
		host[i] = '.';
	assert_int_equal(policy_host_canonical(str_slice(host, 253), out), POLICY_OK);
	assert_int_equal(strlen(out), 253);
	assert_int_equal(policy_host_canonical(str_slice(host, 254), out), POLICY_OK);
	assert_int_equal(policy_host_canonical(str_slice(host, 255), out), POLICY_DENY_HOST_SYNTAX);
}

static void test_host_pattern(void **state)
{
	static const struct {
		struct str in;
		const char *text; /* NULL: accepted */
	} rows[] = {
		{STR_LIT("api.example.com"), NULL},
		{STR_LIT("*.example.com"), NULL},
		{STR_LIT("*.a.example.com"), NULL},
		{STR_LIT("registry"), NULL},
		{STR_LIT("*"), "every name"},
		{STR_LIT("*.com"), "every name under \".com\""},
		{STR_LIT("*.localhost"), "every name under"},
		{STR_LIT("*.COM"), "every name under \".com\""},
		{STR_LIT("*.com."), "every name under \".com\""},
		{STR_LIT("*.co.uk"), "anybody can have"},
		{STR_LIT("*.GitHub.io"), "anybody can have"},
		{STR_LIT("*.*.example.com"), "whole first label"},
		{STR_LIT("a*.example.com"), "whole first label"},
		{STR_LIT("a.*.com"), "whole first label"},
		{STR_LIT("example.*"), "whole first label"},
		{STR_LIT("**.example.com"), "whole first label"},
		{STR_LIT("*.1"), "is an address"},
		{STR_LIT("10.0.0.1"), "is an address"},
		{STR_LIT("[::1]"), "is an address"},
		{STR_LIT("0x7f.1"), "is an address"},
		{STR_LIT("https://example.com"), "has a scheme"},
		{STR_LIT("example.com/x"), "has a path"},
		{STR_LIT("example.com:443"), "has a port"},
		{STR_LIT("me@example.com"), "user information"},
		{STR_LIT(""), "empty"},
		{STR_LIT("a b.example"), "not a host name"},
		{STR_LIT("m\303\274nchen.example"), "write \"xn--mnchen-3ya.example\""},
		{STR_LIT("*.b\303\274cher.example"), "write \"*.xn--bcher-kva.example\""},
		{STR_LIT("\344\276\213\343\201\210.\343\203\206\343\202\271\343\203\210"),
		 "write \"xn--r8jz45g.xn--zckzah\""},
		{STR_LIT("a\377.example"), "outside ASCII"},
		{STR_LIT("a\342\200\213b.example"), "outside ASCII"}, /* zero-width space */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct err e = ERR_INIT;
		int ret = policy_host_pattern_check(rows[i].in, &e);

		if ((ret == 0) != (rows[i].text == NULL) ||
		    (rows[i].text && !strstr(e.text, rows[i].text)))
			fail_msg("%s: %d \"%s\"", rows[i].in.p, ret, e.text);
	}
}

static void test_path_canonical(void **state)
{
	static const struct str good[] = {
		STR_LIT("/"),	    STR_LIT("/v1/messages"), STR_LIT("/v1/"),
		STR_LIT("/a.b/.c"), STR_LIT("/..a/b.."),     STR_LIT("/.../x"),
		STR_LIT("/a%20b"),  STR_LIT("/%C3%A9"),	     STR_LIT("/a@b:c,d=e+f"),
	};
	static const struct str bad[] = {
		STR_LIT(""),	      STR_LIT("*"),	      STR_LIT("v1"),
		STR_LIT("/."),	      STR_LIT("/.."),	      STR_LIT("/a/../b"),
		STR_LIT("/a/./b"),    STR_LIT("/a/.."),	      STR_LIT("//"),
		STR_LIT("//a"),	      STR_LIT("/a//b"),	      STR_LIT("/a//"),
		STR_LIT("/%2e"),      STR_LIT("/%2e%2e/a"),   STR_LIT("/.%2E/a"),
		STR_LIT("/a%2fb"),    STR_LIT("/a%2Fb"),      STR_LIT("/a%5cb"),
		STR_LIT("/a%5Cb"),    STR_LIT("/a\\b"),	      STR_LIT("/a%00"),
		STR_LIT("/a%0d%0ab"), STR_LIT("/a%7f"),	      STR_LIT("/a\0b"),
		STR_LIT("/a b"),      STR_LIT("/a\tb"),	      STR_LIT("/a\177"),
		STR_LIT("/\303\251"), STR_LIT("/a;x"),	      STR_LIT("/..;/b"),
		STR_LIT("/a%3bx"),    STR_LIT("/a%"),	      STR_LIT("/a%2"),
		STR_LIT("/a%zz"),     STR_LIT("/%252e%252e"), STR_LIT("/a%252fb"),
		STR_LIT("/a#b"),      STR_LIT("/a%c0%ae%2e"), STR_LIT("/%25%32%65"),
		STR_LIT("/100%25"),   STR_LIT("http://a/b"),  STR_LIT("/%c0%ae%c0%ae/a"),
		STR_LIT("/a%c1%9cb"), STR_LIT("/%e0%80%af"),  STR_LIT("/%F0%80%80%AE"),
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		if (!policy_path_is_canonical(good[i]))
			fail_msg("refused: %s", good[i].p);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (policy_path_is_canonical(bad[i]))
			fail_msg("accepted: %s", bad[i].p);
}

#define METHODS_ALL  ((1u << POLICY_METHOD_COUNT) - 1)
#define METHODS_READ (1u << POLICY_METHOD_GET | 1u << POLICY_METHOD_HEAD)

static char *api_paths[] = {(char *)"/v1/messages", (char *)"/v1/models/*"};
static char *repo_paths[] = {(char *)"/repos/me/*/issues", (char *)"/raw/**", (char *)"/a:b/x*z"};

static struct policy_route routes[] = {
	{.host = (char *)"open.example",
	 .ports = {443, 8443},
	 .n_ports = 2,
	 .methods = METHODS_ALL},
	{.host = (char *)"*.wild.example", .ports = {443}, .n_ports = 1, .methods = METHODS_READ},
	{.host = (char *)"api.example", .ports = {443}, .n_ports = 1, .methods = METHODS_ALL},
	{.host = (char *)"api.example",
	 .ports = {443},
	 .n_ports = 1,
	 .methods = 1u << POLICY_METHOD_POST,
	 .paths = api_paths,
	 .n_paths = 2,
	 .auth = {.scheme = POLICY_AUTH_BEARER}},
	{.host = (char *)"repo.example",
	 .ports = {443},
	 .n_ports = 1,
	 .methods = METHODS_READ,
	 .paths = repo_paths,
	 .n_paths = 3},
};
static const struct policy table = {.routes = routes, .n_routes = ARRAY_LEN(routes)};

static void test_decide(void **state)
{
	static const struct {
		const char *host;
		uint16_t port;
		enum policy_method method;
		const char *path;
		enum policy_reason reason;
		int route; /* -1: none */
	} rows[] = {
		{"open.example", 443, POLICY_METHOD_PUT, "/x?y=/../z", POLICY_OK, 0},
		{"open.example", 8443, POLICY_METHOD_GET, "/", POLICY_OK, 0},
		{"open.example", 22, POLICY_METHOD_GET, "/", POLICY_DENY_PORT, 0},
		{"open.example", 0, POLICY_METHOD_GET, "/", POLICY_DENY_PORT, 0},
		{"open.example", 443, POLICY_METHOD_COUNT, "/", POLICY_DENY_HOST, -1},
		/* unrestricted: the spelling changes nothing, so what real clients send passes */
		{"open.example", 443, POLICY_METHOD_GET, "/@scope%2fname", POLICY_OK, 0},
		{"open.example", 443, POLICY_METHOD_GET, "/web/https://a.example/", POLICY_OK, 0},
		{"open.example", 443, POLICY_METHOD_GET, "/a;v=1", POLICY_OK, 0},
		{"open.example", 443, POLICY_METHOD_GET, "/100%25", POLICY_OK, 0},
		{"open.example", 443, POLICY_METHOD_GET, "/a/../b", POLICY_DENY_PATH_SYNTAX, 0},
		{"open.example", 443, POLICY_METHOD_GET, "/a/%2e%2e/b", POLICY_DENY_PATH_SYNTAX, 0},
		{"open.example", 443, POLICY_METHOD_GET, "/a/..%2fb", POLICY_DENY_PATH_SYNTAX, 0},
		{"open.example", 443, POLICY_METHOD_GET, "/a%2f..", POLICY_DENY_PATH_SYNTAX, 0},
		{"open.example", 443, POLICY_METHOD_GET, "/a/..;/b", POLICY_DENY_PATH_SYNTAX, 0},
		{"open.example", 443, POLICY_METHOD_GET, "/a/..%3b/b", POLICY_DENY_PATH_SYNTAX, 0},
		{"open.example", 443, POLICY_METHOD_GET, "/a\\b", POLICY_DENY_PATH_SYNTAX, 0},
		{"open.example", 443, POLICY_METHOD_GET, "/a%00", POLICY_DENY_PATH_SYNTAX, 0},
		{"open.example", 443, POLICY_METHOD_OPTIONS, "*", POLICY_DENY_PATH_SYNTAX, 0},
		{"open.example", 443, POLICY_METHOD_GET, "", POLICY_DENY_PATH_SYNTAX, 0},
		/* names that look like allowed ones */
		{"xopen.example", 443, POLICY_METHOD_GET, "/", POLICY_DENY_HOST, -1},
		{"open.example.evil", 443, POLICY_METHOD_GET, "/", POLICY_DENY_HOST, -1},
		{"open.exampl", 443, POLICY_METHOD_GET, "/", POLICY_DENY_HOST, -1},
		{"a.open.example", 443, POLICY_METHOD_GET, "/", POLICY_DENY_HOST, -1},
		{"", 443, POLICY_METHOD_GET, "/", POLICY_DENY_HOST, -1},
		{"a.wild.example", 443, POLICY_METHOD_GET, "/", POLICY_OK, 1},
		{"a.b.wild.example", 443, POLICY_METHOD_HEAD, "/", POLICY_OK, 1},
		{"a.wild.example", 443, POLICY_METHOD_POST, "/", POLICY_DENY_METHOD, 1},
		{"wild.example", 443, POLICY_METHOD_GET, "/", POLICY_DENY_HOST, -1},
		{".wild.example", 443, POLICY_METHOD_GET, "/", POLICY_DENY_HOST, -1},
		{"evilwild.example", 443, POLICY_METHOD_GET, "/", POLICY_DENY_HOST, -1},
		{"*.wild.example", 443, POLICY_METHOD_GET, "/", POLICY_OK, 1},
		/* the route with the credential wins, and no spelling avoids it */
		{"api.example", 443, POLICY_METHOD_POST, "/v1/messages", POLICY_OK, 3},
		{"api.example", 443, POLICY_METHOD_POST, "/v1/%6dessages?x", POLICY_OK, 3},
		{"api.example", 443, POLICY_METHOD_POST, "/v1/models/x", POLICY_OK, 3},
		{"api.example", 443, POLICY_METHOD_POST, "/other", POLICY_OK, 2},
		{"api.example", 443, POLICY_METHOD_GET, "/v1/messages", POLICY_OK, 2},
		{"api.example", 443, POLICY_METHOD_POST, "/v1//messages", POLICY_DENY_PATH_SYNTAX,
		 2},
		{"api.example", 443, POLICY_METHOD_POST, "/v1%2fmessages", POLICY_DENY_PATH_SYNTAX,
		 2},
		{"api.example", 443, POLICY_METHOD_GET, "/v1;x/messages", POLICY_DENY_PATH_SYNTAX,
		 2},
		/* path patterns */
		{"repo.example", 443, POLICY_METHOD_GET, "/repos/me/x/issues", POLICY_OK, 4},
		{"repo.example", 443, POLICY_METHOD_GET, "/repos/me/x/issues/1", POLICY_DENY_PATH,
		 4},
		{"repo.example", 443, POLICY_METHOD_GET, "/repos/me/x/y/issues", POLICY_DENY_PATH,
		 4},
		{"repo.example", 443, POLICY_METHOD_GET, "/repos/you/x/issues", POLICY_DENY_PATH,
		 4},
		{"repo.example", 443, POLICY_METHOD_GET, "/raw/", POLICY_OK, 4},
		{"repo.example", 443, POLICY_METHOD_GET, "/raw/a/b/c", POLICY_OK, 4},
		{"repo.example", 443, POLICY_METHOD_GET, "/raw", POLICY_DENY_PATH, 4},
		{"repo.example", 443, POLICY_METHOD_GET, "/rawx/a", POLICY_DENY_PATH, 4},
		{"repo.example", 443, POLICY_METHOD_GET, "/RAW/a", POLICY_DENY_PATH, 4},
		{"repo.example", 443, POLICY_METHOD_GET, "/a:b/xz", POLICY_OK, 4},
		{"repo.example", 443, POLICY_METHOD_GET, "/a%3ab/x1z2z", POLICY_OK, 4},
		{"repo.example", 443, POLICY_METHOD_GET, "/a%3Ab/x%41z", POLICY_OK, 4},
		{"repo.example", 443, POLICY_METHOD_GET, "/a:b/x1z2", POLICY_DENY_PATH, 4},
		{"repo.example", 443, POLICY_METHOD_GET, "/", POLICY_DENY_PATH, 4},
		{"repo.example", 443, POLICY_METHOD_POST, "/raw/../x", POLICY_DENY_METHOD, 4},
		{"repo.example", 443, POLICY_METHOD_GET, "/raw/%2e%2e/x", POLICY_DENY_PATH_SYNTAX,
		 4},
	};

	const size_t n = ARRAY_LEN(rows);
	struct policy indexed = table;

	(void)state;
	policy_index_make(&indexed);
	for (size_t i = 0; i < 2 * ARRAY_LEN(rows); i++) {
		struct policy_decision d = policy_decide(
			i < n ? &table : &indexed, str_of(rows[i % n].host), rows[i % n].port,
			rows[i % n].method, str_of(rows[i % n].path));
		const struct policy_route *want =
			rows[i % n].route < 0 ? NULL : &routes[rows[i % n].route];

		if (d.reason != rows[i % n].reason || d.route != want)
			fail_msg("%s:%u %s: %s, route %td", rows[i % n].host, rows[i % n].port,
				 rows[i % n].path, policy_reason_name(d.reason),
				 d.route ? d.route - routes : -1);
	}
	policy_index_free(&indexed);
}

static void test_decide_authority(void **state)
{
	struct policy empty = {0};
	struct policy_decision d = policy_decide_authority(&table, STR_LIT("repo.example"), 443);

	(void)state;
	assert_int_equal(d.reason, POLICY_OK);
	assert_ptr_equal(d.route, &routes[4]);
	d = policy_decide_authority(&table, STR_LIT("repo.example"), 80);
	assert_int_equal(d.reason, POLICY_DENY_PORT);
	d = policy_decide_authority(&table, STR_LIT("other.example"), 443);
	assert_int_equal(d.reason, POLICY_DENY_HOST);
	assert_null(d.route);
	/* Nothing means nothing. */
	assert_int_equal(policy_decide_authority(&empty, STR_LIT("open.example"), 443).reason,
			 POLICY_DENY_HOST);
	assert_int_equal(policy_decide_authority(NULL, STR_LIT("open.example"), 443).reason,
			 POLICY_DENY_HOST);
	assert_int_equal(
		policy_decide(&empty, STR_LIT("open.example"), 443, POLICY_METHOD_GET, STR_LIT("/"))
			.reason,
		POLICY_DENY_HOST);
	/* A host with a NUL that a caller did not make canonical must not match its prefix. */
	d = policy_decide_authority(&table, STR_LIT("open.example\0.evil"), 443);
	assert_int_equal(d.reason, POLICY_DENY_HOST);
}

static void test_path_pattern(void **state)
{
	static const struct {
		const char *in, *text;
	} rows[] = {
		{"/v1/messages", NULL},
		{"/", NULL},
		{"/**", NULL},
		{"/v1/*/x", NULL},
		{"/a*b/**", NULL},
		{"v1", "start with"},
		{"", "start with"},
		{"/a?b", "query"},
		{"/a%20b", "escapes"},
		{"/a/../b", "not canonical"},
		{"//", "not canonical"},
		{"/a;b", "not canonical"},
		{"/a b", "not canonical"},
		{"/**/a", "whole last segment"},
		{"/a**", "whole last"},
		{"/***", "whole last"},
		{"/\303\251", "canonical"},
		{"/a#b", "fragment"},
	};
	char longer[POLICY_PATH_MAX + 2];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct err e = ERR_INIT;
		int ret = policy_path_pattern_check(str_of(rows[i].in), &e);

		if ((ret == 0) != (rows[i].text == NULL) ||
		    (rows[i].text && !strstr(e.text, rows[i].text)))
			fail_msg("%s: %d \"%s\"", rows[i].in, ret, e.text);
	}
	memset(longer, '/', 1);
	memset(longer + 1, 'a', sizeof(longer) - 1);
	assert_int_equal(policy_path_pattern_check(str_slice(longer, POLICY_PATH_MAX), NULL), 0);
	assert_int_equal(policy_path_pattern_check(str_slice(longer, POLICY_PATH_MAX + 1), NULL),
			 -EINVAL);
}

static void test_address(void **state)
{
	static const struct {
		const char *in, *out;
	} rows[] = {
		{"127.0.0.1", "127.0.0.1"},
		{"127.0.0.1:8443", "127.0.0.1:8443"},
		{"::1", "::1"},
		{"[::1]:443", "[::1]:443"},
		{"[2001:DB8::1]", "2001:db8::1"},
		{"::ffff:1.2.3.4", "::ffff:1.2.3.4"},
		{"127.1", NULL},
		{"0x7f.0.0.1", NULL},
		{"0177.0.0.1", NULL},
		{"1.2.3.4:", NULL},
		{"1.2.3.4:0", NULL},
		{"1.2.3.4:65536", NULL},
		{"1.2.3.4:443x", NULL},
		{"[::1", NULL},
		{"[::1]x", NULL},
		{"localhost", NULL},
		{"", NULL},
		{"fe80::1%lo", NULL},
		{"1.2.3.4.", NULL},
	};
	struct sockaddr_storage a;
	char out[POLICY_ADDRESS_SIZE];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		int ret = policy_address_parse(str_of(rows[i].in), &a, NULL);

		if ((ret == 0) != (rows[i].out != NULL))
			fail_msg("%s: %d", rows[i].in, ret);
		if (ret < 0)
			continue;
		policy_address_format(&a, out);
		assert_string_equal(out, rows[i].out);
	}
	assert_int_equal(policy_address_parse(str_slice("1.2.3.4\0x", 9), &a, NULL), -EINVAL);
}

static void test_names(void **state)
{
	enum policy_method m;

	(void)state;
	for (int i = 0; i < POLICY_METHOD_COUNT; i++) {
		assert_true(
			policy_method_parse(str_of(policy_method_name((enum policy_method)i)), &m));
		assert_int_equal(m, i);
	}
	assert_false(policy_method_parse(STR_LIT("get"), &m));
	assert_false(policy_method_parse(STR_LIT("TRACE"), &m));
	assert_false(policy_method_parse(STR_LIT("CONNECT"), &m));
	assert_false(policy_method_parse(STR_LIT(""), &m));
	assert_string_equal(policy_reason_name(POLICY_DENY_HOST), "host-not-allowed");
	assert_string_equal(policy_reason_name(POLICY_REASON_COUNT), "unknown");
	assert_int_equal(policy_header_check(STR_LIT("x-api-key"), NULL), 0);
	assert_int_equal(policy_header_check(STR_LIT("X-Api-Key"), NULL), -EINVAL);
	assert_int_equal(policy_header_check(STR_LIT("host"), NULL), -EINVAL);
	assert_int_equal(policy_header_check(STR_LIT("transfer-encoding"), NULL), -EINVAL);
	assert_int_equal(policy_header_check(STR_LIT("a b"), NULL), -EINVAL);
	assert_int_equal(policy_header_check(STR_LIT("a\r\nb"), NULL), -EINVAL);
	assert_int_equal(policy_header_check(STR_LIT(""), NULL), -EINVAL);
	assert_int_equal(policy_user_check(STR_LIT("x-access-token"), NULL), 0);
	assert_int_equal(policy_user_check(STR_LIT("a:b"), NULL), -EINVAL);
}

/* Which of several routes wins, whatever stands in front: a credential, then what stands, then what
 * costs a grant; of equals the first. Against a search that says it in so many words. */
static void test_which_route_wins(void **state)
{
	static char host[] = "a.example", wild[] = "*.example", header[] = "authorization";
	enum kind { AUTH, STANDING, ONCE, KINDS };
	struct policy_route r[5];
	unsigned seed = 7;

	(void)state;
	for (unsigned round = 0; round < 3000; round++) {
		struct policy p = {.routes = r, .n_routes = 1 + (size_t)rand_r(&seed) % 5};
		enum kind kinds[5], best = KINDS;
		const struct policy_route *want = NULL;
		struct policy_decision d;

		for (size_t i = 0; i < p.n_routes; i++) {
			kinds[i] = (enum kind)(rand_r(&seed) % KINDS);
			r[i] = (struct policy_route){
				.host = rand_r(&seed) % 2 ? host : wild,
				.ports = {443},
				.n_ports = 1,
				.methods = METHODS_READ,
				.grant = kinds[i] == ONCE || rand_r(&seed) % 2,
				.is_once = kinds[i] == ONCE,
				.auth = {.scheme = kinds[i] == AUTH ? POLICY_AUTH_BEARER
								    : POLICY_AUTH_NONE,
					 .header = header},
			};
		}
		for (size_t i = 0; i < p.n_routes; i++) {
			if (kinds[i] < best) {
				best = kinds[i];
				want = &r[i];
			}
		}
		policy_index_make(&p);
		d = policy_decide(&p, str_of(host), 443, POLICY_METHOD_GET, STR_LIT("/"));
		assert_int_equal(d.reason, POLICY_OK);
		assert_ptr_equal(d.route, want);
		policy_index_free(&p);
	}
}

/* The index gives the same routes in the same order as looking at all of them. */
static void test_index(void **state)
{
	static const char *const labels[] = {"a", "b", "cc", "x-y", "wild", "example"};
	struct policy p = {0};
	char names[POLICY_ROUTES_MAX][64];
	unsigned seed = 1;

	(void)state;
	p.routes = mem_zalloc_array(POLICY_ROUTES_MAX, sizeof(*p.routes));
	for (unsigned round = 0; round < 200; round++) {
		p.n_routes = round < 20 ? round : (size_t)rand_r(&seed) % POLICY_ROUTES_MAX + 1;
		for (size_t i = 0; i < p.n_routes; i++) {
			int n = snprintf(names[i], sizeof(names[i]), "%s",
					 rand_r(&seed) % 3 ? "" : "*.");

			for (int k = rand_r(&seed) % 4; k >= 0; k--)
				n += snprintf(names[i] + n, sizeof(names[i]) - (size_t)n, "%s%s",
					      labels[(size_t)rand_r(&seed) % ARRAY_LEN(labels)],
					      k ? "." : "");
			p.routes[i].host = names[i];
		}
		policy_index_make(&p);
		for (unsigned q = 0; q < 50; q++) {
			struct policy_cursor one, all;
			const struct policy_route *a, *b;
			struct policy plain = p;
			char host[64];
			int n = 0;

			plain.index = NULL;
			for (int k = rand_r(&seed) % 5; k >= 0; k--)
				n += snprintf(host + n, sizeof(host) - (size_t)n, "%s%s",
					      labels[(size_t)rand_r(&seed) % ARRAY_LEN(labels)],
					      k ? "." : "");
			policy_cursor_start(&one, &p, str_of(host));
			policy_cursor_start(&all, &plain, str_of(host));
			do {
				a = policy_cursor_next(&one);
				b = policy_cursor_next(&all);
				assert_ptr_equal(a, b);
			} while (a);
		}
		policy_index_free(&p);
	}
	free(p.routes);
}

/* More nested wildcards than the cursor has room for. */
static void test_index_many_chains(void **state)
{
	struct policy_route nested[12] = {0};
	struct policy p = {.routes = nested, .n_routes = ARRAY_LEN(nested)};
	char names[12][64];
	struct policy_cursor c;
	const struct policy_route *r;
	size_t n = 0;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(nested); i++) {
		size_t at = (size_t)snprintf(names[i], sizeof(names[i]), "*");

		for (size_t k = 0; k <= i; k++)
			at += (size_t)snprintf(names[i] + at, sizeof(names[i]) - at, ".a");
		nested[i].host = names[i];
	}
	policy_index_make(&p);
	policy_cursor_start(&c, &p, STR_LIT("a.a.a.a.a.a.a.a.a.a.a.a.a.a"));
	while ((r = policy_cursor_next(&c)))
		assert_ptr_equal(r, &nested[n++]);
	assert_int_equal(n, ARRAY_LEN(nested));
	policy_index_free(&p);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_host_canonical), cmocka_unit_test(test_host_lengths),
		cmocka_unit_test(test_host_pattern),   cmocka_unit_test(test_path_canonical),
		cmocka_unit_test(test_decide),	       cmocka_unit_test(test_decide_authority),
		cmocka_unit_test(test_path_pattern),   cmocka_unit_test(test_address),
		cmocka_unit_test(test_names),	       cmocka_unit_test(test_which_route_wins),
		cmocka_unit_test(test_index),	       cmocka_unit_test(test_index_many_chains),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
