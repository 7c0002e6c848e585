/* The JSON form: round trips, and everything that must leave an empty policy. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clean.h"
#include "base/mem.h"
#include "conf/policy.h"

#include <errno.h>

#define ROUTE_TAIL "\"on_match\":\"block\",\"websocket\":false"
#define ROUTE                                                                                      \
	"{\"host\":\"a.example\",\"ports\":[443],\"methods\":[\"GET\"],\"paths\":[]," ROUTE_TAIL "}"
#define POLICY_OF(routes) "{\"version\":1,\"routes\":[" routes "],\"resolve\":[]}"
#define GRANT(number, rest)                                                                        \
	"{\"host\":\"g.example\",\"ports\":[443],\"methods\":[\"GET\"],\"paths\":[]," ROUTE_TAIL   \
	",\"grant\":" number rest "}"
#define PLACEHOLDER "cbph-abcdefghijklmnopqrstuvwxyz234567"

static const char full[] =
	"{\"version\":1,\"routes\":["
	"{\"host\":\"api.example\",\"ports\":[443,8443],\"methods\":[\"GET\",\"POST\"],"
	"\"paths\":[\"/v1/**\",\"/x\"],\"auth\":{\"scheme\":\"basic\",\"credential\":3,"
	"\"header\":\"authorization\",\"user\":\"me\",\"placeholder\":\"" PLACEHOLDER "\"},"
	"\"on_match\":\"redact\",\"websocket\":true,\"origin_line\":12,"
	"\"origin_file\":\"/home/me/b.md\"},"
	"{\"host\":\"*.wild.example\",\"ports\":[443],\"methods\":[\"GET\"],\"paths\":[]"
	"," ROUTE_TAIL "}," GRANT("9007199254740993", ",\"once\":false") "," GRANT(
		"1", ",\"once\":true") "],"
				       "\"resolve\":[{\"host\":\"api.example\",\"address\":\"127.0."
				       "0.1:8443\"},"
				       "{\"host\":\"b.example\",\"address\":\"::1\"}],"
				       "\"dns\":[\"127.0.0.1:5353\",\"::1\"],"
				       "\"ca_pem\":\"-----BEGIN\\u000a\"}";

static void test_round_trip(void **state)
{
	_cleanup_(policy_free) struct policy p = {0};
	_cleanup_(buf_free) struct buf out;
	struct err e = ERR_INIT;

	(void)state;
	buf_init(&out, POLICY_JSON_MAX_BYTES);
	if (policy_from_json(&p, str_of(full), &e) < 0)
		fail_msg("%s", e.text);
	assert_int_equal(p.n_routes, 4);
	assert_int_equal(p.routes[1].grant, 0);
	assert_true(p.routes[2].grant == UINT64_C(9007199254740993) && !p.routes[2].is_once);
	assert_true(p.routes[3].grant == 1 && p.routes[3].is_once);
	assert_int_equal(p.routes[0].auth.credential, 3);
	assert_int_equal(p.routes[0].origin_line, 12);
	assert_int_equal(p.n_resolve, 2);
	assert_string_equal(p.ca_pem, "-----BEGIN\n");
	assert_int_equal(policy_to_json(&p, &out, &e), 0);
	assert_int_equal(buf_len(&out), strlen(full));
	assert_memory_equal(buf_str(&out).p, full, strlen(full));
}

static void test_out_cap(void **state)
{
	_cleanup_(policy_free) struct policy p = {0};
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(policy_from_json(&p, str_of(full), &e), 0);
	for (size_t cap = 0; cap < strlen(full); cap += 7) {
		_cleanup_(buf_free) struct buf out;

		buf_init(&out, cap);
		assert_int_equal(policy_to_json(&p, &out, &e), -ENOBUFS);
	}
}

static void test_refused(void **state)
{
	static const struct {
		const char *json, *text;
	} rows[] = {
		{"", "not JSON"},
		{"[]", "must be an object"},
		{"null", "not JSON"},
		{"{}", "\"version\""},
		{"{\"version\":2,\"routes\":[],\"resolve\":[]}", "version 2"},
		{"{\"version\":1,\"resolve\":[]}", "\"routes\" must be a list"},
		{"{\"version\":1,\"routes\":{},\"resolve\":[]}", "\"routes\" must be a list"},
		{"{\"version\":1,\"routes\":[]}", "\"resolve\" must be a list"},
		{"{\"version\":1,\"routes\":[],\"resolve\":[],\"dns\":[1]}", "list of addresses"},
		{"{\"version\":1,\"routes\":[],\"resolve\":[],\"dns\":[\"here\"]}", "address"},
		{"{\"version\":1,\"routes\":[],\"resolve\":[],\"dns\":[\"::1\",\"::1\",\"::1\",\"::"
		 "1\",\"::1\"]}",
		 "4"},
		{"{\"version\":1,\"routes\":[],\"resolve\":[],\"allow_all\":true}",
		 "unknown key \"allow_all\""},
		{"{\"version\":1,\"routes\":[],\"routes\":[" ROUTE "],\"resolve\":[]}",
		 "duplicate"},
		{POLICY_OF(ROUTE) "x", "not JSON"},
		{POLICY_OF("null"), "must be an object"},
		{POLICY_OF("{\"host\":\"*\",\"ports\":[443],\"methods\":[\"GET\"],\"paths\":[]"
			   "," ROUTE_TAIL "}"),
		 "every name"},
		{POLICY_OF("{\"host\":\"*.com\",\"ports\":[443],\"methods\":[\"GET\"],\"paths\":[]"
			   "," ROUTE_TAIL "}"),
		 "every name"},
		{POLICY_OF("{\"host\":\"A.example\",\"ports\":[443],\"methods\":[\"GET\"],"
			   "\"paths\":[]," ROUTE_TAIL "}"),
		 "canonical"},
		{POLICY_OF("{\"host\":\"a.example.\",\"ports\":[443],\"methods\":[\"GET\"],"
			   "\"paths\":[]," ROUTE_TAIL "}"),
		 "canonical"},
		{POLICY_OF("{\"host\":\"10.0.0.1\",\"ports\":[443],\"methods\":[\"GET\"],\"paths\":"
			   "[]," ROUTE_TAIL "}"),
		 "address"},
		{POLICY_OF("{\"host\":\"a\\u0000b\",\"ports\":[443],\"methods\":[\"GET\"],"
			   "\"paths\":[]," ROUTE_TAIL "}"),
		 "not JSON"},
		{POLICY_OF("{\"host\":\"a.example\",\"ports\":[],\"methods\":[\"GET\"],\"paths\":[]"
			   "," ROUTE_TAIL "}"),
		 "without a port"},
		{POLICY_OF("{\"host\":\"a.example\",\"ports\":[0],\"methods\":[\"GET\"],\"paths\":["
			   "]," ROUTE_TAIL "}"),
		 "1 to 65535"},
		{POLICY_OF("{\"host\":\"a.example\",\"ports\":[65536],\"methods\":[\"GET\"],"
			   "\"paths\":[]," ROUTE_TAIL "}"),
		 "1 to 65535"},
		{POLICY_OF("{\"host\":\"a.example\",\"ports\":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,"
			   "16,17],\"methods\":[\"GET\"],\"paths\":[]," ROUTE_TAIL "}"),
		 "more than 16"},
		{POLICY_OF("{\"host\":\"a.example\",\"ports\":[443],\"methods\":[],\"paths\":[]"
			   "," ROUTE_TAIL "}"),
		 "without a method"},
		{POLICY_OF("{\"host\":\"a.example\",\"ports\":[443],\"methods\":[\"TRACE\"],"
			   "\"paths\":[]," ROUTE_TAIL "}"),
		 "unknown method"},
		{POLICY_OF(
			 "{\"host\":\"a.example\",\"ports\":[443],\"methods\":[\"GET\"]," ROUTE_TAIL
			 "}"),
		 "\"paths\" must be a list"},
		{POLICY_OF("{\"host\":\"a.example\",\"ports\":[443],\"methods\":[\"GET\"],"
			   "\"paths\":[\"x\"]," ROUTE_TAIL "}"),
		 "start with"},
		{POLICY_OF("{\"host\":\"a.example\",\"ports\":[443],\"methods\":[\"GET\"],"
			   "\"paths\":[1]," ROUTE_TAIL "}"),
		 "must be a string"},
		{POLICY_OF("{\"host\":\"a.example\",\"ports\":[443],\"methods\":[\"GET\"],"
			   "\"paths\":[],\"x\":1," ROUTE_TAIL "}"),
		 "unknown key \"x\""},
		{POLICY_OF("{\"host\":\"a.example\",\"ports\":[443],\"methods\":[\"GET\"],"
			   "\"paths\":[],\"on_match\":\"allow\",\"websocket\":false}"),
		 "on_match"},
		{POLICY_OF("{\"host\":\"a.example\",\"ports\":[443],\"methods\":[\"GET\"],"
			   "\"paths\":[],\"on_match\":\"block\",\"websocket\":1}"),
		 "websocket"},
		{"{\"version\":1,\"routes\":[],\"resolve\":[{\"host\":\"*.a.example\",\"address\":"
		 "\"127.0.0.1\"}]}",
		 "exact name"},
		{"{\"version\":1,\"routes\":[],\"resolve\":[{\"host\":\"a.example\",\"address\":"
		 "\"127.1\"}]}",
		 "not an address"},
		{"{\"version\":1,\"routes\":[],\"resolve\":[{\"host\":\"a.example\"}]}",
		 "\"address\""},
		{POLICY_OF(GRANT("0", ",\"once\":true")), "from 1"},
		{POLICY_OF(GRANT("-1", ",\"once\":true")), "\"grant\""},
		{POLICY_OF(GRANT("\"1\"", ",\"once\":true")), "\"grant\""},
		{POLICY_OF(GRANT("1.5", ",\"once\":true")), "\"grant\""},
		{POLICY_OF(GRANT("9223372036854775808", ",\"once\":true")), "not JSON"},
		{POLICY_OF(GRANT("1", "")), "\"once\""},
		{POLICY_OF(GRANT("1", ",\"once\":1")), "\"once\""},
		{POLICY_OF("{\"host\":\"a.example\",\"ports\":[443],\"methods\":[\"GET\"],"
			   "\"paths\":[],\"once\":true," ROUTE_TAIL "}"),
		 "belongs to a grant"},
		{POLICY_OF(GRANT("1", ",\"once\":true,\"auth\":{\"scheme\":\"bearer\","
				      "\"credential\":0,\"header\":\"authorization\","
				      "\"placeholder\":\"" PLACEHOLDER "\"}")),
		 "no credential"},
		{POLICY_OF(ROUTE "," GRANT("1", ",\"once\":true") "," ROUTE), "behind a grant"},
		{"[[[[[[[[[[]]]]]]]]]]", "nested deeper"},
	};
	static const char *const auths[] = {
		"null",
		"{}",
		"{\"scheme\":\"none\",\"credential\":0,\"header\":\"authorization\","
		"\"placeholder\":\"" PLACEHOLDER "\"}",
		"{\"scheme\":\"bearer\",\"credential\":30,\"header\":\"authorization\","
		"\"placeholder\":\"" PLACEHOLDER "\"}",
		"{\"scheme\":\"bearer\",\"credential\":-1,\"header\":\"authorization\","
		"\"placeholder\":\"" PLACEHOLDER "\"}",
		"{\"scheme\":\"bearer\",\"credential\":0,\"header\":\"x-api-key\",\"placeholder\":"
		"\"" PLACEHOLDER "\"}",
		"{\"scheme\":\"header\",\"credential\":0,\"header\":\"Host\",\"placeholder\":"
		"\"" PLACEHOLDER "\"}",
		"{\"scheme\":\"header\",\"credential\":0,\"header\":\"host\",\"placeholder\":"
		"\"" PLACEHOLDER "\"}",
		"{\"scheme\":\"bearer\",\"credential\":0,\"header\":\"authorization\","
		"\"placeholder\":\"short\"}",
		"{\"scheme\":\"bearer\",\"credential\":0,\"header\":\"authorization\",\"user\":"
		"\"x\",\"placeholder\":\"" PLACEHOLDER "\"}",
		"{\"scheme\":\"basic\",\"credential\":0,\"header\":\"authorization\","
		"\"placeholder\":\"" PLACEHOLDER "\"}",
		"{\"scheme\":\"bearer\",\"credential\":0,\"header\":\"authorization\","
		"\"placeholder\":\"" PLACEHOLDER "\",\"token\":\"x\"}",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct policy p;
		struct err e = ERR_INIT;
		int ret = policy_from_json(&p, str_of(rows[i].json), &e);

		if (ret >= 0 || !strstr(e.text, rows[i].text))
			fail_msg("%s: %d \"%s\"", rows[i].json, ret, e.text);
		assert_int_equal(p.n_routes, 0);
		assert_null(p.routes);
	}
	for (size_t i = 0; i < ARRAY_LEN(auths); i++) {
		_cleanup_free_ char *json = mem_printf(
			"{\"version\":1,\"routes\":[{\"host\":\"a.example\",\"ports\":[443],"
			"\"methods\":[\"GET\"],\"paths\":[]," ROUTE_TAIL
			",\"auth\":%s}],\"resolve\":[]}",
			auths[i]);
		struct policy p;

		if (policy_from_json(&p, str_of(json), NULL) >= 0)
			fail_msg("accepted %s", auths[i]);
		assert_int_equal(p.n_routes, 0);
	}
}

/* Every cut of a good policy, and every single byte changed to one that is structural, is either
 * refused or still within the rules; never a crash. */
static void test_mutations(void **state)
{
	static const char bytes[] = "\"{}[],:0\\*\x80";

	(void)state;
	for (size_t n = 0; n < strlen(full); n++) {
		struct policy p;

		assert_true(policy_from_json(&p, str_slice(full, n), NULL) < 0);
	}
	for (size_t at = 0; at < strlen(full); at++) {
		_cleanup_free_ char *copy = mem_strdup(full);

		for (size_t k = 0; k < sizeof(bytes) - 1; k++) {
			struct policy p;

			copy[at] = bytes[k];
			if (policy_from_json(&p, str_of(copy), NULL) == 0)
				policy_free(&p);
		}
	}
}

static void test_caps(void **state)
{
	_cleanup_(buf_free) struct buf b;
	struct policy p;
	struct err e = ERR_INIT;

	(void)state;
	for (size_t n = POLICY_ROUTES_MAX; n <= POLICY_ROUTES_MAX + 1; n++) {
		buf_init(&b, POLICY_JSON_MAX_BYTES);
		assert_int_equal(buf_printf(&b, "{\"version\":1,\"resolve\":[],\"routes\":["), 0);
		for (size_t i = 0; i < n; i++)
			assert_int_equal(buf_printf(&b, "%s" ROUTE, i ? "," : ""), 0);
		assert_int_equal(buf_printf(&b, "]}"), 0);
		if (n == POLICY_ROUTES_MAX) {
			assert_int_equal(policy_from_json(&p, buf_str(&b), &e), 0);
			policy_free(&p);
			buf_free(&b);
		} else {
			assert_int_equal(policy_from_json(&p, buf_str(&b), &e), -EINVAL);
			assert_non_null(strstr(e.text, "more than 512"));
		}
	}
	_cleanup_free_ char *big = mem_zalloc(POLICY_JSON_MAX_BYTES + 1);

	memset(big, ' ', POLICY_JSON_MAX_BYTES + 1);
	assert_int_equal(policy_from_json(&p, str_slice(big, POLICY_JSON_MAX_BYTES + 1), &e),
			 -EFBIG);
}

static bool may_follow(const char *a, const char *b)
{
	_cleanup_(policy_free) struct policy one = {0};
	_cleanup_(policy_free) struct policy other = {0};

	assert_int_equal(policy_from_json(&one, str_of(a), NULL), 0);
	assert_int_equal(policy_from_json(&other, str_of(b), NULL), 0);
	return policy_differs_only_in_grants(&one, &other);
}

#define G1 GRANT("1", ",\"once\":true")
#define G2 GRANT("2", ",\"once\":false")

static void test_differs_only_in_grants(void **state)
{
	_cleanup_(policy_free) struct policy p = {0};

	(void)state;
	assert_true(may_follow(POLICY_OF(""), POLICY_OF("")));
	assert_true(may_follow(POLICY_OF(ROUTE), POLICY_OF(ROUTE "," G1 "," G2)));
	assert_true(may_follow(POLICY_OF(ROUTE "," G1 "," G2), POLICY_OF(ROUTE "," G2)));
	assert_true(may_follow(POLICY_OF(G1), POLICY_OF("")));
	assert_true(may_follow(full, full));
	assert_false(may_follow(POLICY_OF(ROUTE), POLICY_OF("")));
	assert_false(may_follow(POLICY_OF(""), POLICY_OF(ROUTE "," G1)));
	assert_false(may_follow(POLICY_OF(ROUTE), POLICY_OF(ROUTE "," ROUTE)));
	/* A grant in memory that stands in front. */
	assert_int_equal(policy_from_json(&p, str_of(POLICY_OF(ROUTE "," ROUTE)), NULL), 0);
	p.routes[0].grant = 1;
	assert_false(policy_differs_only_in_grants(&p, &p));
}

/* Each value of everything but the grants counts: any one byte of the manifest's part that was
 * changed and still is a policy is another one. */
static void test_any_other_difference(void **state)
{
	static const char bytes[] = "ab19./*-";
	_cleanup_(policy_free) struct policy as_is = {0};
	size_t end = (size_t)(strstr(full, "\"g.example") - full), found = 0;

	(void)state;
	assert_int_equal(policy_from_json(&as_is, str_of(full), NULL), 0);
	for (size_t at = 0; at < strlen(full); at++) {
		_cleanup_free_ char *copy = mem_strdup(full);

		/* The grants' own part. */
		if (at >= end && at < (size_t)(strstr(full, "\"resolve") - full))
			continue;
		for (size_t k = 0; k < sizeof(bytes) - 1; k++) {
			struct policy p;

			copy[at] = bytes[k];
			if (bytes[k] == full[at] || policy_from_json(&p, str_of(copy), NULL) < 0)
				continue;
			found++;
			if (policy_differs_only_in_grants(&as_is, &p))
				fail_msg("%s", copy);
			policy_free(&p);
		}
	}
	assert_true(found > 300);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_out_cap),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_mutations),
		cmocka_unit_test(test_caps),
		cmocka_unit_test(test_differs_only_in_grants),
		cmocka_unit_test(test_any_other_difference),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
