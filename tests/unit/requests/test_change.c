/* The canonical form: what is taken, in which spelling, and what is refused with which words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/text.h"
#include "world.h"

#include <errno.h>
#include <stdio.h>

static void json_of(const struct change *c, struct buf *out)
{
	*out = BUF_INIT(CHANGE_JSON_MAX_BYTES);
	assert_int_equal(change_to_json(c, out), 0);
}

static void assert_json(const struct change *c, const char *want)
{
	_cleanup_(buf_free) struct buf have = {0};

	json_of(c, &have);
	if (!str_eq(buf_str(&have), str_of(want)))
		print_error("have " STR_FMT "\nwant %s\n", STR_ARG(buf_str(&have)), want);
	assert_true(str_eq(buf_str(&have), str_of(want)));
}

static void test_hosts(void **state)
{
	static const struct {
		const char *given, *canonical, *why;
	} rows[] = {
		{"API.Example.COM", "api.example.com", NULL},
		{"api.example.com.", "api.example.com", NULL},
		{"*.Example.com", "*.example.com", NULL},
		{"b\303\274cher.example", "xn--bcher-kva.example", NULL},
		{"B\303\234CHER.example", "xn--bcher-kva.example", NULL},
		{"*.b\303\274cher.example", "*.xn--bcher-kva.example", NULL},
		/* Non-transitional: the sharp s stays itself. */
		{"fa\xc3\x9f.example", "xn--fa-hia.example", NULL},
		{"xn--bcher-kva.example", "xn--bcher-kva.example", NULL},
		{"example\xe3\x80\x82"
		 "com",
		 "example.com", NULL},
		{"r3---sn-4g5e.example.com", "r3---sn-4g5e.example.com", NULL},
		{"", NULL, "a name was expected"},
		{"127.0.0.1", NULL, "is an address"},
		{"0x7f.1", NULL, "is an address"},
		{"2130706433", NULL, "is an address"},
		{"[::1]", NULL, "is an address"},
		{"::ffff:10.0.0.1", NULL, "is an address"},
		/* Full-width digits. */
		{"\xef\xbc\x91\xef\xbc\x92\xef\xbc\x97.0.0.1", NULL, "is an address"},
		{"*.1", NULL, "is an address"},
		{"*", NULL, "every name"},
		{"*.com", NULL, "every name under"},
		{"*.github.io", NULL, "anybody"},
		{"a.*.example.com", NULL, "whole first label"},
		{"https://example.com", NULL, "scheme"},
		{"example.com/path", NULL, "path"},
		{"example.com:443", NULL, "port"},
		{"user@example.com", NULL, "user information"},
		{"exa mple.com", NULL, "not a host name"},
		{"-a.example.com", NULL, "not a host name"},
		{"a..example.com", NULL, "not a host name"},
		{"xn--\xc3\xa9.example", NULL, "not an internationalised name"},
		{"xn--0.example", NULL, "not an internationalised name"},
		{"a\xff.example", NULL, "not an internationalised name"},
		{"\xe2\x80\x8b"
		 "a.b\xe2\x80\xae.example",
		 NULL, "not an internationalised name"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char out[CHANGE_HOST_SIZE];
		struct err e = ERR_INIT;
		int ret = change_host_canonical(str_of(rows[i].given), out, &e);

		if (ret != (rows[i].canonical ? 0 : -EINVAL) ||
		    (rows[i].canonical ? strcmp(out, rows[i].canonical) != 0
				       : !strstr(e.text, rows[i].why)))
			print_error("\"%s\": %d \"%s\" %s\n", rows[i].given, ret, out, e.text);
		assert_int_equal(ret, rows[i].canonical ? 0 : -EINVAL);
		if (rows[i].canonical)
			assert_string_equal(out, rows[i].canonical);
		else
			assert_non_null(strstr(e.text, rows[i].why));
	}
}

static void test_defaults(void **state)
{
	_cleanup_(change_free) struct change c = {0};
	char line[128];

	(void)state;
	world_egress(&c, "api.example.com");
	assert_json(&c, "{\"kind\":\"egress\",\"host\":\"api.example.com\",\"ports\":[443],"
			"\"methods\":[\"GET\",\"HEAD\"],\"paths\":[\"/**\"]}");
	assert_int_equal(c.route.on_match, POLICY_MATCH_BLOCK);
	assert_int_equal(c.route.auth.scheme, POLICY_AUTH_NONE);
	change_summary(&c, line, sizeof(line));
	assert_string_equal(line, "GET, HEAD https://api.example.com/**");
}

/* Two ways to say it are one change. */
static void test_one_spelling(void **state)
{
	_cleanup_(change_free) struct change a = {0}, b = {0};
	uint8_t key_a[CHANGE_HASH_BYTES], key_b[CHANGE_HASH_BYTES];
	struct ask one, other;

	(void)state;
	world_ask(&one, "api.example.com", 0, "/b /a /b");
	one.ports[one.n_ports++] = 8443;
	one.ports[one.n_ports++] = 443;
	one.ports[one.n_ports++] = 8443;
	world_ask(&other, "API.example.com.", 1u << POLICY_METHOD_GET | 1u << POLICY_METHOD_HEAD,
		  "/a /b");
	other.ports[other.n_ports++] = 443;
	other.ports[other.n_ports++] = 8443;
	world_change(&a, &one);
	world_change(&b, &other);
	assert_int_equal(change_key(&a, key_a), 0);
	assert_int_equal(change_key(&b, key_b), 0);
	assert_memory_equal(key_a, key_b, sizeof(key_a));
	assert_json(&a, "{\"kind\":\"egress\",\"host\":\"api.example.com\",\"ports\":[443,8443],"
			"\"methods\":[\"GET\",\"HEAD\"],\"paths\":[\"/a\",\"/b\"]}");
	change_free(&b);
	world_ask(&other, "api.example.com", 0, "/b /** /a /**");
	world_change(&b, &other);
	assert_int_equal(b.route.n_paths, 1);
	assert_string_equal(b.route.paths[0], "/**");
}

static void test_other_kinds(void **state)
{
	_cleanup_(change_free) struct change c = {0};
	struct ask a;
	char line[256];

	(void)state;
	world_release(&c, 0xab);
	assert_json(&c,
		    "{\"kind\":\"release\",\"hash\":"
		    "\"abababababababababababababababababababababababababababababababab\","
		    "\"record\":\"abababababababab\",\"host\":\"api.example.com\",\"ports\":[443],"
		    "\"methods\":[\"POST\"],\"paths\":[\"/upload\"],\"rule\":\"aws-key\","
		    "\"where\":\"body\",\"shown\":\"key=****\"}");
	change_summary(&c, line, sizeof(line));
	assert_string_equal(line, "POST https://api.example.com/upload (aws-key in body)");
	change_free(&c);

	a = (struct ask){.kind = ASK_PUSH, .remote = "origin", .ref = "refs/heads/fix"};
	memset(a.hash, 1, sizeof(a.hash));
	memset(a.old_oid, '0', 40);
	memset(a.new_oid, 'A', 40);
	memcpy(a.shown, ".github/workflows/ci.yml\nMakefile\n",
	       sizeof(".github/workflows/ci.yml\nMakefile\n"));
	world_change(&c, &a);
	assert_string_equal(c.old_oid, "");
	assert_string_equal(c.new_oid, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
	assert_string_equal(c.shown, ".github/workflows/ci.yml\\nMakefile\\n");
	change_summary(&c, line, sizeof(line));
	assert_string_equal(line, "push aaaaaaaaaaaa to refs/heads/fix of origin");
	change_free(&c);

	a = (struct ask){.kind = ASK_CAPABILITY, .reason = "jq, \x1b[31mplease\x1b[0m"};
	world_change(&c, &a);
	assert_json(&c, "{\"kind\":\"capability\",\"words\":\"jq, \\\\x1b[31mplease\\\\x1b[0m\"}");
}

static void refuses(const struct ask *a, const char *why)
{
	_cleanup_(change_free) struct change c = {0};
	struct err e = ERR_INIT;

	assert_int_equal(change_from_ask(&c, a, &e), -EINVAL);
	if (!strstr(e.text, why))
		print_error("%s\nis not about %s\n", e.text, why);
	assert_non_null(strstr(e.text, why));
	assert_null(c.route.host);
}

static void test_refused(void **state)
{
	struct ask good, a;

	(void)state;
	world_ask(&good, "api.example.com", 0, "/v1");
	a = good, a.kind = 0;
	refuses(&a, "no such kind");
	a = good, a.kind = 77;
	refuses(&a, "no such kind");
	a = good, a.methods = 1u << POLICY_METHOD_COUNT;
	refuses(&a, "methods:");
	a = good, a.n_ports = 1;
	refuses(&a, "ports:");
	a = good, a.n_ports = ASK_PORTS_MAX + 1;
	refuses(&a, "ports:");
	a = good, a.n_paths = ASK_PATHS_MAX + 1;
	refuses(&a, "paths:");
	a = good, memset(a.paths[0], 'a', ASK_PATH_SIZE);
	refuses(&a, "paths:");
	a = good, memset(a.host, 'a', sizeof(a.host));
	refuses(&a, "host:");
	a = good, memcpy(a.paths[0], "/a/../b", 8);
	refuses(&a, "not canonical");
	a = good, memcpy(a.paths[0], "/a?b", 5);
	refuses(&a, "query");
	a = good, a.kind = ASK_RELEASE;
	refuses(&a, "record:");
	memset(a.hash, 1, sizeof(a.hash));
	memcpy(a.host, "*.example.com", 14);
	refuses(&a, "one host");
	a = (struct ask){.kind = ASK_PUSH, .remote = "origin", .ref = "main"};
	memset(a.hash, 1, sizeof(a.hash));
	refuses(&a, "whole name");
	memcpy(a.ref, "refs/heads/main", 16);
	refuses(&a, "commit:");
	memcpy(a.remote, "--upload", 9);
	refuses(&a, "");
	a = (struct ask){.kind = ASK_CAPABILITY};
	refuses(&a, "what:");
}

static void from_json(const char *json, int want)
{
	_cleanup_(change_free) struct change c = {0};
	struct err e = ERR_INIT;
	int ret = change_from_json(&c, str_of(json), &e);

	if (ret != want)
		print_error("%s: %d %s\n", json, ret, e.text);
	assert_int_equal(ret, want);
}

#define EGRESS(host, rest) "{\"kind\":\"egress\",\"host\":\"" host "\"," rest "}"
#define REST		   "\"ports\":[443],\"methods\":[\"GET\"],\"paths\":[\"/**\"]"

static void test_only_canonical_json(void **state)
{
	(void)state;
	from_json(EGRESS("a.example.com", REST), 0);
	from_json(EGRESS("A.example.com", REST), -EINVAL);
	from_json(EGRESS("a.example.com.", REST), -EINVAL);
	from_json(" " EGRESS("a.example.com", REST), -EINVAL);
	from_json(EGRESS("a.example.com", REST) "\n", -EINVAL);
	from_json(EGRESS("a.ex\\u0061mple.com", REST), -EINVAL);
	from_json(EGRESS("a.example.com", REST ",\"more\":1"), -EINVAL);
	from_json(EGRESS("a.example.com", REST "," REST), -EINVAL);
	from_json(EGRESS("a.example.com", "\"ports\":[443,80],\"methods\":[\"GET\"],"
					  "\"paths\":[\"/**\"]"),
		  -EINVAL);
	from_json(EGRESS("a.example.com", "\"ports\":[65979],\"methods\":[\"GET\"],"
					  "\"paths\":[\"/**\"]"),
		  -EINVAL);
	from_json(EGRESS("a.example.com", "\"ports\":[443],\"methods\":[\"GET\",\"BREW\"],"
					  "\"paths\":[\"/**\"]"),
		  -EINVAL);
	from_json(EGRESS("a.example.com", "\"ports\":[443],\"methods\":[\"GET\"],"
					  "\"paths\":[\"/**\",\"/a\"]"),
		  -EINVAL);
	from_json("{\"kind\":\"capability\",\"words\":\"a\\u202eb\"}", -EINVAL);
	from_json("{\"kind\":\"capability\",\"words\":\"\"}", -EINVAL);
	from_json("{\"kind\":\"other\"}", -EINVAL);
	from_json("[]", -EINVAL);
	from_json("{}", -EINVAL);
	from_json("", -EINVAL);
}

/* --- properties --- */

static void random_text(char *out, size_t size)
{
	static const char *const parts[] = {"a", "Z",	 "0",	 "-",	".",	    "*",
					    "/", "\\",	 "\"",	 "\n",	"\xc3\xbc", "\xe2\x80\xae",
					    " ", "\xff", "xn--", "%41", "'",	    "\xd0\xb0"};
	size_t n = 0, want = world_random((uint32_t)size);

	while (n < want) {
		const char *p = parts[world_random(ARRAY_LEN(parts))];

		if (n + strlen(p) >= size)
			break;
		memcpy(out + n, p, strlen(p));
		n += strlen(p);
	}
	out[n] = '\0';
}

static void random_ask(struct ask *a)
{
	static const char *const hosts[] = {"api.example.com", "B\303\274cher.example",
					    "*.example.org", "localhost"};
	static const char *const paths[] = {"/v1/**", "/", "/a'b/*", "/**", "/x\"y"};

	*a = (struct ask){.kind = 1 + world_random(4), .methods = world_random(128)};
	if (world_random(4) == 0)
		random_text(a->host, 80);
	else
		(void)!str_to_cstr(a->host, sizeof(a->host),
				   str_of(hosts[world_random(ARRAY_LEN(hosts))]));
	for (size_t i = world_random(4); i > 0; i--)
		a->ports[a->n_ports++] = (uint16_t)world_random(65536);
	for (size_t i = world_random(4); i > 0; i--)
		(void)!str_to_cstr(a->paths[a->n_paths++], ASK_PATH_SIZE,
				   str_of(paths[world_random(ARRAY_LEN(paths))]));
	memset(a->hash, (int)world_random(256), sizeof(a->hash));
	memset(a->new_oid, "0aF"[world_random(3)], 40);
	memcpy(a->ref, "refs/heads/x", 13);
	memcpy(a->remote, "origin", 7);
	random_text(a->reason, sizeof(a->reason));
	random_text(a->shown, sizeof(a->shown));
	random_text(a->rule, sizeof(a->rule));
	random_text(a->where, sizeof(a->where));
}

/* What is taken comes back as the same bytes; nothing in it deceives; danger has an answer. */
static void test_round_trip(void **state)
{
	static const struct policy none;
	const struct danger_context ctx = {.policy = &none};
	size_t taken = 0;

	(void)state;
	(void)world_seed();
	for (int i = 0; i < 2000; i++) {
		_cleanup_(change_free) struct change c = {0}, again = {0};
		_cleanup_(buf_free) struct buf json = {0}, json_again = {0};
		struct danger d;
		struct err e = ERR_INIT;
		struct ask a;
		char line[200];

		random_ask(&a);
		if (change_from_ask(&c, &a, &e) < 0) {
			assert_true(e.text[0] && !text_has_deceptive(str_of(e.text)));
			continue;
		}
		taken++;
		json_of(&c, &json);
		assert_false(text_has_deceptive(buf_str(&json)));
		if (change_from_json(&again, buf_str(&json), &e) < 0)
			print_error(STR_FMT "\n%s\n", STR_ARG(buf_str(&json)), e.text);
		json_of(&again, &json_again);
		assert_true(str_eq(buf_str(&json), buf_str(&json_again)));
		change_summary(&c, line, sizeof(line));
		assert_false(text_has_deceptive(str_of(line)));
		danger_judge(&d, &c, &ctx);
		for (size_t k = 0; k < d.n; k++)
			assert_false(text_has_deceptive(str_of(d.findings[k].text)));
	}
	assert_true(taken > 500);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hosts),	     cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_one_spelling), cmocka_unit_test(test_other_kinds),
		cmocka_unit_test(test_refused),	     cmocka_unit_test(test_only_canonical_json),
		cmocka_unit_test(test_round_trip),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
