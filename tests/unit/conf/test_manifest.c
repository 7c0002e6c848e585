/* Manifests: every key, every error with its place, extends, owners, agents' places. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "conf/manifest.h"
#include "home.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#define ROUTE(rest) "egress:\n  routes:\n    - host: a.example\n" rest
#define AUTH(rest)  ROUTE("      auth: {" rest "}\n")

static void test_refused(void **state)
{
	static const struct home_refused rows[] = {
		/* keys */
		{"egres: {}\n", 2, 1,
		 "unknown key \"egres\" in a bottle; did you mean \"egress\"?"},
		{"xyzzy: 1\n", 2, 1, "unknown key \"xyzzy\" in a bottle; known are extends,"},
		{"egress: {rutes: []}\n", 2, 10, "did you mean \"routes\"?"},
		{ROUTE("      port: 443\n"), 5, 7, "did you mean \"ports\"?"},
		{"limits: {memroy: 1G}\n", 2, 10, "did you mean \"memory\"?"},
		{AUTH("scheme: bearer, token: abc"), 5, 30, "unknown key \"token\" in auth"},
		{ROUTE("      dlp: {onmatch: block}\n"), 5, 13, "did you mean \"on_match\"?"},
		/* of the design, but not served yet */
		{"skills: []\n", 2, 9, "not supported yet"},
		{ROUTE("      websocket: true\n"), 5, 18, "not supported yet"},
		/* shapes */
		{"egress: []\n", 2, 9, "egress must be \"key: value\" lines, not a list"},
		{"egress: {routes: {}}\n", 2, 18, "routes must be a list, not a mapping"},
		{"egress: {routes: [a.example]}\n", 2, 19, "a route must be"},
		{ROUTE("      ports: 443\n"), 5, 14, "ports must be a list, not text"},
		{"provider: [claude]\n", 2, 11, "provider must be text, not a list"},
		{"provider:\n", 2, 10, "provider must be text, not nothing"},
		{"provider: ''\n", 2, 11, "must not be empty"},
		{"canary: yes\n", 2, 9, "true or false"},
		{"canary: 'true'\n", 2, 9, "true or false"},
		/* supervise */
		{"supervise: maybe\n", 2, 12, "true or false"},
		{"supervise: []\n", 2, 12, "true or false"},
		{"supervise: {on_canary: explode}\n", 2, 24, "known are record, pause, stop"},
		{"supervise: {notify: ' '}\n", 2, 21, "1 to 4096 characters"},
		{"supervise: {notify: \"a\\tb\"}\n", 2, 21, "without controls"},
		{"supervise: {notfy: a}\n", 2, 13, "did you mean \"notify\"?"},
		{ROUTE("      dlp: {on_match: supervise}\n"), 4, 1, "needs \"supervise: true\""},
		/* choices */
		{"provider: cluade\n", 2, 11, "did you mean \"claude\"?"},
		{"provider: emacs\n", 2, 11, "known are claude, codex, shell"},
		{"backend: dokcer\n", 2, 10, "did you mean \"docker\"?"},
		{"backend: unset\n", 2, 10, "backend cannot be \"unset\""},
		/* hosts */
		{"egress: {routes: [{ports: [443]}]}\n", 2, 19, "a route needs \"host\""},
		{"egress: {routes: [{host: '*'}]}\n", 2, 26, "would allow every name"},
		{"egress: {routes: [{host: '*.com'}]}\n", 2, 26, "every name under \".com\""},
		{"egress: {routes: [{host: '*.co.uk'}]}\n", 2, 26, "anybody can have"},
		{"egress: {routes: [{host: 10.0.0.1}]}\n", 2, 26, "is an address"},
		{"egress: {routes: [{host: 2130706433}]}\n", 2, 26, "is an address"},
		{"egress: {routes: [{host: '[::1]'}]}\n", 2, 26, "is an address"},
		{"egress: {routes: [{host: \"https://a.example\"}]}\n", 2, 26, "has a scheme"},
		{"egress: {routes: [{host: a.example/x}]}\n", 2, 26, "has a path"},
		{"egress: {routes: [{host: m\303\274nchen.example}]}\n", 2, 26,
		 "xn--mnchen-3ya.example"},
		/* ports, methods, paths */
		{ROUTE("      ports: [0]\n"), 5, 15, "from 1 to 65535"},
		{ROUTE("      ports: [65536]\n"), 5, 15, "from 1 to 65535"},
		{ROUTE("      ports: ['443']\n"), 5, 15, "from 1 to 65535"},
		{ROUTE("      ports: [443, 443]\n"), 5, 20, "stands twice"},
		{ROUTE("      ports: []\n"), 5, 14, "would allow nothing"},
		{ROUTE("      ports: [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]\n"), 5, 14,
		 "more than 16"},
		{ROUTE("      methods: []\n"), 5, 16, "would allow nothing"},
		{ROUTE("      methods: [get]\n"), 5, 17, "did you mean \"GET\"?"},
		{ROUTE("      methods: [PSOT]\n"), 5, 17, "did you mean \"POST\"?"},
		{ROUTE("      methods: [CONNECT]\n"), 5, 17, "can never be allowed"},
		{ROUTE("      methods: [TRACE]\n"), 5, 17, "can never be allowed"},
		{ROUTE("      paths: []\n"), 5, 14, "would allow nothing"},
		{ROUTE("      paths: [v1]\n"), 5, 15, "start with \"/\""},
		{ROUTE("      paths: [/a/../b]\n"), 5, 15, "not canonical"},
		{ROUTE("      paths: [/**/a]\n"), 5, 15, "whole last segment"},
		{ROUTE("      paths: [/a%2fb]\n"), 5, 15, "escapes"},
		{ROUTE("      paths: ['/a?b']\n"), 5, 15, "query"},
		/* auth */
		{AUTH("token_ref: 'env:T'"), 5, 13, "auth needs \"scheme\""},
		{AUTH("scheme: bearer"), 5, 13, "auth needs \"token_ref\""},
		{AUTH("scheme: baerer, token_ref: 'env:T'"), 5, 22, "did you mean \"bearer\"?"},
		{AUTH("scheme: none, token_ref: 'env:T'"), 5, 22, "scheme cannot be"},
		{AUTH("scheme: header, token_ref: 'env:T'"), 5, 13,
		 "scheme header needs \"header\""},
		{AUTH("scheme: bearer, header: x-a, token_ref: 'env:T'"), 5, 13,
		 "belongs to scheme header"},
		{AUTH("scheme: header, header: Host, token_ref: 'env:T'"), 5, 38, "cannot carry"},
		{AUTH("scheme: header, header: 'a b', token_ref: 'env:T'"), 5, 38,
		 "not a header name"},
		{AUTH("scheme: basic, token_ref: 'env:T'"), 5, 13, "scheme basic needs \"user\""},
		{AUTH("scheme: bearer, user: x, token_ref: 'env:T'"), 5, 13,
		 "belongs to scheme basic"},
		{AUTH("scheme: basic, user: 'a:b', token_ref: 'env:T'"), 5, 35,
		 "without space and \":\""},
		{AUTH("scheme: bearer, env: 1X, token_ref: 'env:T'"), 5, 35,
		 "name of an environment variable"},
		{AUTH("scheme: bearer, token_ref: 'env:'"), 5, 41,
		 "name of an environment variable"},
		{AUTH("scheme: bearer, token_ref: 'file:x'"), 5, 41, "starts with \"/\""},
		{AUTH("scheme: bearer, token_ref: 'command: '"), 5, 41, "token_ref must be"},
		{ROUTE("      ports: [80]\n      auth: {scheme: bearer, token_ref: 'env:T'}\n"), 6,
		 13, "port 80"},
		{"egress: {routes: [{host: '*.a.example', auth: {scheme: bearer, token_ref: "
		 "'env:T'}}]}\n",
		 2, 47, "one exact host"},
		/* routes beside each other */
		{"egress:\n  routes:\n    - host: a.example\n    - host: A.example.\n", 5, 7,
		 "the same route as in line 4"},
		{"egress:\n  routes:\n    - {host: a.example, ports: [443, 80], methods: [GET, "
		 "PUT]}\n"
		 "    - {host: a.example, methods: [PUT, GET], ports: [80, 443]}\n",
		 5, 7, "the same route"},
		{"egress:\n  routes:\n"
		 "    - {host: a.example, auth: {scheme: bearer, env: A, token_ref: 'env:T'}}\n"
		 "    - {host: a.example, paths: [/x], auth: {scheme: bearer, env: B, token_ref: "
		 "'env:U'}}\n",
		 5, 7, "another credential"},
		{"egress:\n  routes:\n"
		 "    - {host: a.example, paths: [/a*/x], auth: {scheme: bearer, env: A, "
		 "token_ref: 'env:T'}}\n"
		 "    - {host: a.example, paths: [/ab/*], auth: {scheme: bearer, env: B, "
		 "token_ref: 'env:U'}}\n",
		 5, 7, "another credential"},
		/* env, limits, resolve */
		{"env: [A]\n", 2, 6, "env must be"},
		{"env: {1A: x}\n", 2, 7, "not the name"},
		{"env: {HTTPS_PROXY: x}\n", 2, 7, "set by the bottle itself"},
		{"env: {https_proxy: x}\n", 2, 7, "set by the bottle itself"},
		{"env: {A: }\n", 2, 10, "must be text, not nothing"},
		{"env: {A: [x]}\n", 2, 10, "must be text, not a list"},
		{"image: []\n", 2, 8, "image must be text, not a list"},
		{"image:\n", 2, 7, "image must be text, not nothing"},
		{"image: ''\n", 2, 8, "must not be empty"},
		{"image: -v\n", 2, 8, "\"-v\" is not an image's reference"},
		{"image: Debian\n", 2, 8, "lower-case"},
		{"image: 'debian:12 --privileged'\n", 2, 8, "its tag has"},
		{"image: debian@sha256:12\n", 2, 8, "its digest must be"},
		{"image: ~tar/root.tar\n", 2, 8, "starts with \"/\" or \"~/\""},
		{"image: /\n", 2, 8, "uncompressed; anything else is an image's reference"},
		{"image: /images/root.tar.gz\n", 2, 8, "uncompressed"},
		{"image: ./root.tar\n", 2, 8, "is not an image's reference"},
		{"root: rw\n", 2, 7, "known are read-only, writable"},
		{"root: writeable\n", 2, 7, "did you mean \"writable\"?"},
		{"root: true\n", 2, 7, "root cannot be \"true\""},
		{"limits: {memory: 2}\n", 2, 18, "must be a size"},
		{"limits: {memory: 2X}\n", 2, 18, "must be a size"},
		{"limits: {memory: 0G}\n", 2, 18, "must be a size"},
		{"limits: {memory: -1G}\n", 2, 18, "must be a size"},
		{"limits: {memory: 99999999999T}\n", 2, 18, "must be a size"},
		{"limits: {processes: 0}\n", 2, 21, "whole number from 8"},
		{"limits: {files: many}\n", 2, 17, "whole number from 64"},
		{"limits: {cpu: 0}\n", 2, 15, "more than 0"},
		{"limits: {cpu: 1.2345}\n", 2, 15, "number of cores"},
		{"limits: {cpu: 1.}\n", 2, 15, "number of cores"},
		{"egress: {resolve: {a.example: 127.1}}\n", 2, 31, "not an address"},
		{"egress: {dns: [127.1]}\n", 2, 16, "not an address"},
		{"egress: {dns: [1.1.1.1, 1.1.1.2, 1.1.1.3, 1.1.1.4, 1.1.1.5]}\n", 2, 15,
		 "more than 4"},
		{"egress: {resolve: {a.example: b.example}}\n", 2, 31, "not an address"},
		{"egress: {resolve: {'*.a.example': 127.0.0.1}}\n", 2, 20, "one exact host"},
		{"egress: {resolve: {'a b': 127.0.0.1}}\n", 2, 20, "not a host name"},
		/* paths of this host */
		{"expose: [/]\n", 2, 10, "never exposed"},
		{"expose: [/etc]\n", 2, 10, "never exposed"},
		{"expose: [/etc/ssl]\n", 2, 10, "never exposed"},
		{"expose: [/proc/self]\n", 2, 10, "never exposed"},
		{"expose: [/var]\n", 2, 10, "never exposed"},
		{"expose: [/home]\n", 2, 10, "never exposed"},
		{"expose: [/root]\n", 2, 10, "never exposed"},
		{"expose: [/usr/../etc]\n", 2, 10, "never exposed"},
		{"expose: [~/]\n", 2, 10, "never exposed"},
		{"expose: [~/.claude-bottle]\n", 2, 10, "never exposed"},
		{"expose: [~/.claude-bottle/bottles]\n", 2, 10, "never exposed"},
		{"expose: [~/..]\n", 2, 10, "never exposed"},
		{"expose: [~/link]\n", 2, 10, "never exposed"},
		{"expose: [src]\n", 2, 10, "starts with \"/\" or \"~/\""},
		{"expose: [~/none]\n", 2, 10, "No such file"},
		{"expose: [~/file]\n", 2, 10, "not a folder"},
		{"egress: {ca: ~/none}\n", 2, 14, "No such file"},
		{"egress: {ca: ~/file}\n", 2, 14, "holds no certificate"},
		{"egress: {ca: ~/key.pem}\n", 2, 14, "private key"},
		{"egress: {ca: ~/cut.pem}\n", 2, 14, "damaged"},
		/* extends */
		{"extends: [x]\n", 2, 10, "name of a bottle"},
		{"extends: ../x\n", 2, 10, "name of a bottle"},
		{"extends: nune\n", 2, 10, "there is no bottle \"nune\""},
		{"extends: b\n", 2, 10, "in a circle: b -> b"},
	};

	(void)state;
	home_write(home.path, "file", "x\n");
	home_write(home.path, "key.pem",
		   "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
	home_write(home.path, "cut.pem",
		   "-----BEGIN CERTIFICATE-----\nMIIBAAAA\n-----END CERTIFICATE-----\n");
	{
		_cleanup_free_ char *link_path = mem_printf("%s/link", home.path);

		assert_int_equal(symlink("/etc", link_path), 0);
	}
	home_refuses(rows, ARRAY_LEN(rows));
}

static void test_secret_is_not_echoed(void **state)
{
	struct manifest_bottle b;
	struct err e = ERR_INIT;

	(void)state;
	home_bottle(&home, "b", AUTH("scheme: bearer, token_ref: sk-pasted-by-mistake"));
	assert_true(manifest_load_bottle(&b, home.path, "b", &e) < 0);
	assert_null(strstr(e.text, "pasted"));
	assert_non_null(strstr(e.text, "never stands in a manifest"));
}

static const char all_keys[] =
	"extends: base\n"
	"backend: docker\n"
	"provider: shell\n"
	"image: registry.example:5000/tools/agent:1.2\n"
	"description: {any: thing}\n"
	"supervise: false\n"
	"canary: false\n"
	"root: writable\n"
	"env: {A: child, C: 8080}\n"
	"expose: [~/src, ~/src/]\n"
	"limits: {memory: 2GiB, processes: 64, files: 256, cpu: 0.25, file_size: 512M}\n"
	"egress:\n"
	"  ca: ~/ca.pem\n"
	"  resolve: {API.example: \"127.0.0.1:8443\", b.example: \"::1\"}\n"
	"  routes:\n"
	"    - host: API.Example.\n"
	"      ports: [443, 8443]\n"
	"      methods: [GET, POST]\n"
	"      paths: [/v1/**]\n"
	"      auth: {scheme: basic, user: me, env: TOK, token_ref: \"file:~/tok\"}\n"
	"      dlp: {on_match: redact}\n"
	"      websocket: false\n";

/* A SEQUENCE of 0x81 bytes; what stands in it is egress's to judge. */
static void write_ca(void)
{
	_cleanup_(buf_free) struct buf b;

	buf_init(&b, 4096);
	assert_int_equal(buf_printf(&b, "a comment\n-----BEGIN CERTIFICATE-----\nMIGBAAAA"), 0);
	for (int i = 0; i < 42; i++)
		assert_int_equal(buf_printf(&b, "%sAAAA", i % 16 ? "" : "\n"), 0);
	assert_int_equal(buf_printf(&b, "\n-----END CERTIFICATE-----\nmore\n"), 0);
	assert_int_equal(buf_append(&b, "", 1), 0);
	home_write(home.path, "ca.pem", buf_str(&b).p);
}

static void test_all_keys_and_extends(void **state)
{
	_cleanup_(manifest_bottle_free) struct manifest_bottle b;
	const struct policy_route *r;

	(void)state;
	write_ca();
	home_bottle(&home, "base",
		    "backend: native\nprovider: claude\nimage: debian\nenv: {A: base, B: base}\n"
		    "limits: {memory: 1G, files: 1024}\n"
		    "egress:\n  routes:\n    - host: base.example\n"
		    "    - {host: api.example, ports: [8443, 443], methods: [POST, GET], paths: "
		    "[/v1/**]}\n"
		    "  resolve: {b.example: 127.0.0.2}\n");
	home_bottle(&home, "b", all_keys);
	home_load(&b, "b");
	assert_int_equal(b.backend, PLAN_BACKEND_DOCKER);
	assert_string_equal(b.provider, "shell");
	assert_string_equal(b.image, "registry.example:5000/tools/agent:1.2");
	assert_false(b.wants_canary);
	assert_true(b.has_writable_root);
	assert_int_equal(b.n_env, 3);
	assert_string_equal(b.env[0].value, "child");
	assert_string_equal(b.env[1].value, "base");
	assert_string_equal(b.env[2].value, "8080");
	assert_int_equal(b.n_expose, 1);
	assert_int_equal(b.limits.memory_bytes, UINT64_C(2) << 30);
	assert_int_equal(b.limits.processes, 64);
	assert_int_equal(b.limits.files, 256);
	assert_int_equal(b.limits.cpu_milli, 250);
	assert_int_equal(b.limits.file_size_bytes, UINT64_C(512) << 20);
	assert_int_equal(b.n_resolve, 2);
	assert_string_equal(b.resolve[0].host, "b.example");
	assert_int_equal(b.resolve[0].address.ss_family, AF_INET6);
	assert_non_null(b.ca_pem);
	assert_null(strstr(b.ca_pem, "comment"));
	assert_null(strstr(b.ca_pem, "more"));
	/* The base's routes come first; the one that is repeated is replaced where it stood. */
	assert_int_equal(b.n_routes, 2);
	assert_string_equal(b.routes[0].route.host, "base.example");
	assert_int_equal(b.routes[0].route.methods, (1u << POLICY_METHOD_COUNT) - 1);
	assert_int_equal(b.routes[0].route.ports[0], 443);
	r = &b.routes[1].route;
	assert_string_equal(r->host, "api.example");
	assert_int_equal(r->n_ports, 2);
	assert_int_equal(r->methods, 1u << POLICY_METHOD_GET | 1u << POLICY_METHOD_POST);
	assert_int_equal(r->auth.scheme, POLICY_AUTH_BASIC);
	assert_string_equal(r->auth.header, "authorization");
	assert_string_equal(r->auth.user, "me");
	assert_int_equal(r->on_match, POLICY_MATCH_REDACT);
	assert_int_equal(r->origin_line, 17);
	assert_non_null(strstr(r->origin_file, "/b.md"));
	assert_string_equal(b.routes[1].env, "TOK");
	assert_non_null(strstr(b.routes[1].secret.file, "/home/tok"));
	assert_int_equal(b.n_sources, 2);
	assert_non_null(strstr(b.sources[0], "/base.md"));
}

static void expect_supervise(const char *head, bool is_on, enum plan_on_canary on_canary,
			     const char *notify)
{
	_cleanup_(manifest_bottle_free) struct manifest_bottle b;

	home_bottle(&home, "b", head);
	home_load(&b, "b");
	assert_int_equal(b.supervise.is_on, is_on);
	assert_int_equal(b.supervise.on_canary, on_canary);
	if (notify)
		assert_string_equal(b.supervise.notify, notify);
	else
		assert_null(b.supervise.notify);
}

static void test_supervise(void **state)
{
	(void)state;
	expect_supervise("", false, PLAN_CANARY_RECORD, NULL);
	expect_supervise("supervise: false\n", false, PLAN_CANARY_RECORD, NULL);
	expect_supervise("supervise: true\n", true, PLAN_CANARY_PAUSE, NULL);
	expect_supervise("supervise: {}\n", true, PLAN_CANARY_PAUSE, NULL);
	expect_supervise("supervise: {on_canary: stop, notify: ' notify-send \"$1\" '}\n", true,
			 PLAN_CANARY_STOP, "notify-send \"$1\"");
	/* All of it over all of the base's, whose route for a human then has one. */
	home_bottle(&home, "base",
		    "supervise: {on_canary: stop, notify: x}\n"
		    "egress: {routes: [{host: a.example, dlp: {on_match: supervise}}]}\n");
	expect_supervise("extends: base\n", true, PLAN_CANARY_STOP, "x");
	expect_supervise("extends: base\nsupervise: {on_canary: record}\n", true,
			 PLAN_CANARY_RECORD, NULL);
}

/* What is absent allows nothing. */
static void test_empty(void **state)
{
	static const char *const heads[] = {"", "egress:\n", "egress: {}\n",
					    "egress: {routes: []}\n"};
	struct manifest_bottle b;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(heads); i++) {
		home_bottle(&home, "b", heads[i]);
		assert_int_equal(manifest_load_bottle(&b, home.path, "b", NULL), 0);
		assert_int_equal(b.n_routes, 0);
		assert_true(b.wants_canary);
		manifest_bottle_free(&b);
	}
}

static void test_same_credential_may_overlap(void **state)
{
	struct manifest_bottle b;

	(void)state;
	home_bottle(&home, "b",
		    "egress:\n  routes:\n"
		    "    - {host: a.example, auth: {scheme: bearer, env: A, token_ref: 'env:T'}}\n"
		    "    - {host: a.example, paths: [/x], auth: {scheme: bearer, env: A, "
		    "token_ref: 'env:T'}}\n"
		    "    - {host: b.example, paths: [/x/*], auth: {scheme: bearer, env: A, "
		    "token_ref: 'env:T'}}\n"
		    "    - {host: b.example, paths: [/y/*], auth: {scheme: bearer, env: B, "
		    "token_ref: 'env:U'}}\n"
		    "    - {host: c.example, methods: [GET], auth: {scheme: bearer, env: A, "
		    "token_ref: 'env:T'}}\n"
		    "    - {host: c.example, methods: [PUT], auth: {scheme: bearer, env: B, "
		    "token_ref: 'env:U'}}\n"
		    "    - {host: d.example, ports: [443], auth: {scheme: bearer, env: A, "
		    "token_ref: 'env:T'}}\n"
		    "    - {host: d.example, ports: [444], auth: {scheme: bearer, env: B, "
		    "token_ref: 'env:U'}}\n");
	home_load(&b, "b");
	assert_int_equal(b.n_routes, 8);
	manifest_bottle_free(&b);
}

static void test_extends_limits(void **state)
{
	struct manifest_bottle b;
	struct err e = ERR_INIT;

	(void)state;
	home_bottle(&home, "a", "extends: b\n");
	home_bottle(&home, "b", "extends: c\n");
	home_bottle(&home, "c", "extends: b\n");
	assert_true(manifest_load_bottle(&b, home.path, "a", &e) < 0);
	assert_non_null(strstr(e.text, "in a circle: b -> c -> b"));
	assert_non_null(strstr(e.file, "/c.md"));
	for (int i = 0; i <= MANIFEST_EXTENDS_MAX; i++) {
		_cleanup_free_ char *name = mem_printf("n%d", i);
		_cleanup_free_ char *head =
			i ? mem_printf("extends: n%d\n", i - 1) : mem_strdup("");

		home_bottle(&home, name, head);
	}
	assert_int_equal(manifest_load_bottle(&b, home.path, "n7", &e), 0);
	assert_int_equal(b.n_sources, MANIFEST_EXTENDS_MAX);
	manifest_bottle_free(&b);
	assert_true(manifest_load_bottle(&b, home.path, "n8", &e) < 0);
	assert_non_null(strstr(e.text, "more than 8 bottles"));
}

static void test_names_and_absence(void **state)
{
	static const char *const bad[] = {
		"",   "A",   "1a",  "-a",	"a/b",
		"..", "a.b", "a_b", "\303\244", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
	struct manifest_bottle b;
	struct manifest_agent a;
	struct err e = ERR_INIT;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		assert_false(manifest_name_is_valid(str_of(bad[i])));
		assert_true(manifest_load_bottle(&b, home.path, bad[i], &e) < 0);
		assert_true(manifest_load_agent(&a, home.path, home.cwd, bad[i], &e) < 0);
	}
	assert_true(manifest_name_is_valid(STR_LIT("a-1")));
	home_bottle(&home, "develop", "");
	assert_int_equal(manifest_load_bottle(&b, home.path, "devlop", &e), -ENOENT);
	assert_non_null(strstr(e.text, "did you mean \"develop\"?"));
	assert_int_equal(manifest_load_bottle(&b, "/nonexistent", "x", &e), -ENOENT);
	assert_non_null(strstr(e.text, "claude-bottle init"));
}

static void change_mode(const char *path, mode_t mode)
{
	_cleanup_free_ char *full = mem_printf("%s/%s", home.path, path);

	assert_int_equal(chmod(full, mode), 0);
}

static void test_owners(void **state)
{
	static const struct {
		const char *path;
		mode_t bad, good;
	} rows[] = {
		{".claude-bottle", 0770, 0700},
		{".claude-bottle", 0702, 0755},
		{".claude-bottle/bottles", 0720, 0755},
		{".claude-bottle/bottles/b.md", 0620, 0644},
		{".claude-bottle/bottles/b.md", 0602, 0600},
	};
	_cleanup_free_ char *file = mem_printf("%s/.claude-bottle/bottles/b.md", home.path);
	struct manifest_bottle b;
	struct err e = ERR_INIT;

	(void)state;
	home_bottle(&home, "b", "");
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		change_mode(rows[i].path, rows[i].bad);
		assert_int_equal(manifest_load_bottle(&b, home.path, "b", &e), -EPERM);
		assert_non_null(strstr(e.text, "may be changed by others"));
		change_mode(rows[i].path, rows[i].good);
		assert_int_equal(manifest_load_bottle(&b, home.path, "b", &e), 0);
		manifest_bottle_free(&b);
	}
	if (geteuid() == 0) {
		assert_int_equal(chown(file, 12345, 0), 0);
		assert_int_equal(manifest_load_bottle(&b, home.path, "b", &e), -EPERM);
		assert_non_null(strstr(e.text, "another user"));
		assert_int_equal(chown(file, 0, 0), 0);
	}
	assert_int_equal(unlink(file), 0);
	assert_int_equal(mkfifo(file, 0600), 0);
	assert_true(manifest_load_bottle(&b, home.path, "b", &e) < 0); /* and does not hang */
	assert_int_equal(unlink(file), 0);
}

static void test_agents(void **state)
{
	_cleanup_(manifest_agent_free) struct manifest_agent a = {0};
	_cleanup_free_ char *link_path = mem_printf("%s/.claude-bottle/agents/linked.md", home.cwd);
	struct err e = ERR_INIT;

	(void)state;
	home_agent(home.path, "both", "bottle: b\nmodel: sonnet\ncolor: red\n", "\nfrom home\n\n");
	home_agent(home.cwd, "both", "bottle: c\n", "from cwd");
	home_agent(home.cwd, "only", "bottle: c\ntools: [Read, Bash]\nhooks: {a: [1]}\n", "");
	assert_int_equal(manifest_load_agent(&a, home.path, home.cwd, "both", &e), 0);
	assert_string_equal(a.bottle, "b");
	assert_string_equal(a.prompt, "from home");
	assert_string_equal(a.model, "sonnet");
	assert_non_null(strstr(a.note, "current folder is not used"));
	manifest_agent_free(&a);
	assert_int_equal(manifest_load_agent(&a, home.path, home.cwd, "only", &e), 0);
	assert_string_equal(a.bottle, "c");
	assert_string_equal(a.tools, "Read,Bash");
	assert_null(a.prompt);
	assert_null(a.note);
	manifest_agent_free(&a);
	/* The home is not its own current folder. */
	assert_int_equal(manifest_load_agent(&a, home.path, home.path, "both", &e), 0);
	assert_null(a.note);
	manifest_agent_free(&a);
	/* A repository's link is not followed, wherever it leads. */
	assert_int_equal(symlink("../../../home/.claude-bottle/agents/both.md", link_path), 0);
	assert_true(manifest_load_agent(&a, home.path, home.cwd, "linked", &e) < 0);
	assert_int_equal(manifest_load_agent(&a, home.path, home.cwd, "bothh", &e), -ENOENT);
	assert_non_null(strstr(e.text, "did you mean \"both\"?"));
}

static void test_agent_refused(void **state)
{
	static const struct {
		const char *head;
		unsigned line, column;
		const char *why;
	} rows[] = {
		{"botle: b\n", 2, 1, "did you mean \"bottle\"?"},
		{"egress: {routes: []}\n", 2, 1, "unknown key \"egress\" in an agent"},
		{"env: {A: b}\n", 2, 1, "unknown key \"env\" in an agent"},
		{"bottle: ../b\n", 2, 9, "name of a bottle"},
		{"bottle: /etc/passwd\n", 2, 9, "name of a bottle"},
		{"model: --dangerously\n", 2, 8, "must not start with"},
		{"tools: [-x]\n", 2, 9, "must not start with"},
		{"permissionMode: [a]\n", 2, 17, "must be text"},
	};
	struct manifest_agent a;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct err e = ERR_INIT;

		home_agent(home.cwd, "bad", rows[i].head, "");
		if (manifest_load_agent(&a, home.path, home.cwd, "bad", &e) >= 0 ||
		    e.line != rows[i].line || e.column != rows[i].column ||
		    !strstr(e.text, rows[i].why))
			fail_msg("%s -> %u:%u \"%s\"", rows[i].head, e.line, e.column, e.text);
	}
}

/* The reference's examples are manifests; those with an "egress" or a "provider" are bottles. */
static void test_reference(void **state)
{
	_cleanup_free_ char *text_p = NULL;
	struct str text, rest;
	unsigned n_bottles = 0, n_agents = 0;

	(void)state;
	assert_int_equal(io_read_file(AT_FDCWD, CONF_REFERENCE, 1u << 20, &text, NULL), 0);
	text_p = (char *)text.p;
	for (rest = text;;) {
		size_t at = str_find(rest, STR_LIT("\n```yaml\n"));
		_cleanup_free_ char *example = NULL;
		struct err e = ERR_INIT;
		int ret;

		if (at == rest.n)
			break;
		rest = str_sub(rest, at + 9, rest.n);
		example = str_dup(str_sub(rest, 0, str_find(rest, STR_LIT("\n```")) + 1));
		if (strstr(example, "egress:") || strstr(example, "git:")) {
			struct manifest_bottle b = {0};

			home_write(home.path, ".claude-bottle/bottles/x.md", example);
			ret = manifest_load_bottle(&b, home.path, "x", &e);
			manifest_bottle_free(&b);
			n_bottles++;
		} else {
			struct manifest_agent a = {0};

			home_write(home.path, ".claude-bottle/agents/x.md", example);
			ret = manifest_load_agent(&a, home.path, NULL, "x", &e);
			manifest_agent_free(&a);
			n_agents++;
		}
		if (ret < 0)
			fail_msg("%u:%u: %s\n%s", e.line, e.column, e.text, example);
	}
	assert_int_equal(n_bottles, 3);
	assert_int_equal(n_agents, 1);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_secret_is_not_echoed),
		cmocka_unit_test(test_all_keys_and_extends),
		cmocka_unit_test(test_supervise),
		cmocka_unit_test(test_empty),
		cmocka_unit_test(test_same_credential_may_overlap),
		cmocka_unit_test(test_extends_limits),
		cmocka_unit_test(test_names_and_absence),
		cmocka_unit_test(test_owners),
		cmocka_unit_test(test_agents),
		cmocka_unit_test(test_agent_refused),
		cmocka_unit_test(test_reference),
	};

	return cmocka_run_group_tests(tests, home_setup, home_teardown);
}
