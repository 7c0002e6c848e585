/* The git policy: its JSON both ways, its places at the gate, what it writes for others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clean.h"
#include "base/mem.h"
#include "conf/git_policy.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>

#define KEY	    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMmU8yM+uuBXAyfm3ocI9cptRnR8lyOdEZ3jfSEhHDZt"
#define PLACEHOLDER "cbph-abcdefghijklmnopqrstuvwxyz234567"
#define PRINT	    "0123456789abcdef0123456789abcdef"
#define REFS	    "\"branches\":[\"fix/*\",\"agent/**\"],\"protected\":[\"main\"],\"tags\":[],"
#define TAIL                                                                                       \
	"\"protect_head\":true,\"force\":false,\"delete\":false,\"stale\":false,"                  \
	"\"oversize\":false,\"max_object\":52428800,\"max_pack\":2147483648,\"allow\":[]"
#define HTTPS                                                                                      \
	"{\"transport\":\"https\",\"name\":\"origin\",\"host\":\"github.com\",\"port\":443,"       \
	"\"path\":\"/org/repo.git\",\"user\":\"me\",\"credential\":2,"                             \
	"\"placeholder\":\"" PLACEHOLDER "\"," REFS                                                \
	"\"protect_head\":true,\"force\":true,\"delete\":false,\"stale\":true,"                    \
	"\"oversize\":false,\"max_object\":52428800,\"max_pack\":2147483648,"                      \
	"\"allow\":[\"" PRINT "\"],\"origin_line\":7,\"origin_file\":\"/home/me/b.md\"}"
#define OPEN                                                                                       \
	"{\"transport\":\"https\",\"name\":\"open\",\"host\":\"git.example\",\"port\":8443,"       \
	"\"path\":\"/a/b\",\"branches\":[],\"protected\":[],\"tags\":[]," TAIL "}"
#define SSH                                                                                        \
	"{\"transport\":\"ssh\",\"name\":\"box\",\"host\":\"box.example\",\"port\":22,"            \
	"\"path\":\"srv/x\",\"user\":\"git\",\"host_key\":\"" KEY "\",\"credential\":0," REFS TAIL \
	"}"
#define WORKSPACE                                                                                  \
	"{\"transport\":\"workspace\",\"name\":\"workspace\",\"branches\":[\"**\"],"               \
	"\"protected\":[],\"tags\":[],\"protect_head\":false,\"force\":true,\"delete\":true,"      \
	"\"stale\":false,\"oversize\":false,\"max_object\":1,\"max_pack\":1,\"allow\":[]}"
#define POLICY_OF(remotes) "{\"version\":1,\"remotes\":[" remotes "],\"enforce_identity\":false}"

static const char full[] =
	"{\"version\":1,\"remotes\":[" WORKSPACE "," HTTPS "," OPEN "," SSH
	"],\"user_name\":\"Agent \\\"A\\\" Smith\",\"user_email\":\"a@b.example\","
	"\"enforce_identity\":true}";

static void load(struct git_policy *g, const char *json)
{
	struct err e = ERR_INIT;

	if (git_policy_from_json(g, str_of(json), &e) < 0)
		fail_msg("%s", e.text);
}

static void test_round_trip(void **state)
{
	_cleanup_(git_policy_free) struct git_policy g = {0};
	_cleanup_(buf_free) struct buf out;
	struct err e = ERR_INIT;
	const struct git_remote *r;

	(void)state;
	load(&g, full);
	assert_int_equal(g.n_remotes, 4);
	r = &g.remotes[0];
	assert_int_equal(r->transport, GIT_TRANSPORT_WORKSPACE);
	assert_string_equal(r->host, "workspace");
	assert_string_equal(r->path, "");
	assert_true(r->may_force && r->may_delete && !r->is_head_protected);
	r = &g.remotes[1];
	assert_int_equal(r->transport, GIT_TRANSPORT_HTTPS);
	assert_string_equal(r->path, "/org/repo.git");
	assert_true(r->has_credential && r->credential == 2);
	assert_string_equal(r->placeholder, PLACEHOLDER);
	assert_true(r->is_head_protected && r->may_force && r->may_serve_stale);
	assert_int_equal(r->n_branches, 2);
	assert_string_equal(r->allow[0], PRINT);
	assert_int_equal(r->pack_max_bytes, GIT_PACK_MAX_BYTES);
	assert_int_equal(r->origin_line, 7);
	assert_false(g.remotes[2].has_credential);
	assert_null(g.remotes[2].user);
	assert_false(git_remote_may_push(&g.remotes[2]));
	assert_true(git_remote_may_push(r));
	assert_string_equal(g.remotes[3].path, "srv/x");
	assert_string_equal(g.remotes[3].host_key, KEY);
	assert_true(g.enforces_identity);
	buf_init(&out, GIT_JSON_MAX_BYTES);
	assert_int_equal(git_policy_to_json(&g, &out, &e), 0);
	assert_int_equal(buf_len(&out), strlen(full));
	assert_memory_equal(buf_str(&out).p, full, strlen(full));
}

static void test_out_cap(void **state)
{
	_cleanup_(git_policy_free) struct git_policy g = {0};

	(void)state;
	load(&g, full);
	for (size_t cap = 0; cap < strlen(full); cap += 11) {
		_cleanup_(buf_free) struct buf out;

		buf_init(&out, cap);
		assert_int_equal(git_policy_to_json(&g, &out, NULL), -ENOBUFS);
	}
}

/* from in base becomes to; each must be refused, with text in the error. */
static void refuse_changed(const char *base, const char *from, const char *to, const char *text)
{
	const char *at = strstr(base, from);
	_cleanup_free_ char *json = NULL;
	struct git_policy g;
	struct err e = ERR_INIT;

	if (!at)
		fail_msg("no %s", from);
	json = mem_printf("%.*s%s%s", (int)(at - base), base, to, at + strlen(from));
	if (git_policy_from_json(&g, str_of(json), &e) == 0)
		fail_msg("taken: %s for %s", to, from);
	if (!strstr(e.text, text))
		fail_msg("%s for %s: \"%s\" does not say \"%s\"", to, from, e.text, text);
	assert_null(g.remotes);
	assert_null(g.user_name);
	assert_int_equal(g.n_remotes, 0);
	assert_false(g.enforces_identity);
}

static void test_refused(void **state)
{
	static const struct {
		const char *from, *to, *text;
	} rows[] = {
		{"\"version\":1", "\"version\":2", "version 2"},
		{"\"version\":1", "\"version\":\"1\"", "version"},
		{"\"version\":1,", "", "version"},
		{"\"version\":1", "\"version\":1,\"version\":1", "duplicate"},
		{"\"version\":1", "\"version\":1,\"x\":1", "unknown key \"x\""},
		{"{\"version\"", "[{\"version\"", "not JSON"},
		{"\"remotes\":[", "\"remotes\":[null,", "must be an object"},
		{"\"remotes\":[", "\"remotes\":[" WORKSPACE ",", "one name"},
		{"\"remotes\":[", "\"remotes\":[{},", "transport"},
		{"\"transport\":\"https\"", "\"transport\":\"http\"", "transport"},
		{"\"transport\":\"https\"", "\"transport\":\"ssh\"", "ssh remote"},
		{"\"transport\":\"https\"", "\"transport\":\"workspace\"", "unknown key"},
		{"\"transport\":\"ssh\"", "\"transport\":\"https\"", "port"},
		{"\"name\":\"origin\"", "\"name\":\"workspace\"", "workspace"},
		{"\"name\":\"workspace\"", "\"name\":\"other\"", "workspace"},
		{"\"name\":\"origin\"", "\"name\":\"box\"", "one name"},
		{"\"name\":\"origin\"", "\"name\":\"Origin\"", "lower-case"},
		{"\"name\":\"origin\"", "\"name\":\"\"", "lower-case"},
		{"\"name\":\"origin\"", "\"name\":\"-a\"", "lower-case"},
		{"\"host\":\"github.com\"", "\"host\":\"GitHub.com\"", "form"},
		{"\"host\":\"github.com\"", "\"host\":\"github.com.\"", "form"},
		{"\"host\":\"github.com\"", "\"host\":\"github.com/x\"", "host name"},
		{"\"host\":\"github.com\"", "\"host\":\"a@github.com\"", "host name"},
		{"\"host\":\"github.com\"", "\"host\":\"10.0.0.1\"", "address"},
		{"\"host\":\"github.com\"", "\"host\":\"workspace\"", "workspace"},
		{"\"port\":443", "\"port\":0", "port"},
		{"\"port\":443", "\"port\":80", "port 80"},
		{"\"port\":443", "\"port\":65536", "port"},
		{"/org/repo.git", "/org/../repo.git", "\"..\""},
		{"/org/repo.git", "org/repo.git", "port"},
		{"/org/repo.git", "/org/repo.git/", "empty"},
		{"/org/repo.git", "", "no path"},
		{"/org/repo.git", "/org/re\\u0000po", "not JSON"},
		{"\"host\":\"git.example\",\"port\":8443,\"path\":\"/a/b\"",
		 "\"host\":\"github.com\",\"port\":8443,\"path\":\"/org/repo\"",
		 "one name or path"},
		{"\"user\":\"me\"", "\"user\":\"m:e\"", "\":\""},
		{"\"user\":\"me\",", "", "none of them"},
		{"\"credential\":2,", "", "none of them"},
		{"\"credential\":2", "\"credential\":30", "number"},
		{"\"credential\":2", "\"credential\":-1", "number"},
		{"\"placeholder\":\"" PLACEHOLDER "\",", "", "none of them"},
		{"\"placeholder\":\"" PLACEHOLDER, "\"placeholder\":\"x", "placeholder"},
		{"\"host_key\":\"" KEY "\",", "", "ssh remote"},
		{"\"host_key\":\"" KEY, "\"host_key\":\"ssh-ed25519 AAAA", "damaged"},
		{"\"user\":\"git\"", "\"user\":\"-git\"", "begin"},
		{"\"user\":\"git\",", "", "ssh remote"},
		{"\"credential\":0,", "", "ssh remote"},
		{"\"user\":\"git\"", "\"user\":\"git\",\"placeholder\":\"" PLACEHOLDER "\"",
		 "ssh remote"},
		{"\"user\":\"me\"", "\"user\":\"me\",\"host_key\":\"" KEY "\"", "https remote"},
		{"\"fix/*\"", "\"refs/heads/fix\"", "short name"},
		{"\"fix/*\"", "1", "string"},
		{"\"branches\":[\"fix/*\",\"agent/**\"]", "\"branches\":null", "list"},
		{"\"protect_head\":true", "\"protect_head\":1", "true or false"},
		{"\"protect_head\":true,", "", "protect_head"},
		{"\"max_object\":52428800", "\"max_object\":0", "0"},
		{"\"max_object\":52428800", "\"max_object\":1.5", "number"},
		{"\"max_pack\":2147483648", "\"max_pack\":9999999999999", "number"},
		{PRINT, "0123", "fingerprint"},
		{PRINT, "0123456789ABCDEF0123456789abcdef", "fingerprint"},
		{"\"origin_line\":7,", "", "origin_line"},
		{"\"user_name\":\"Agent", "\"user_name\":\" Agent", "cut off"},
		{"\"user_name\":\"Agent", "\"user_name\":\"Age\\nnt", "invisible"},
		{"\"user_name\":\"Agent", "\"user_name\":\"Age<nt", "\"<\""},
		{"\"user_email\":\"a@b.example\",", "", "name and email"},
		{"\"enforce_identity\":true", "\"enforce_identity\":\"yes\"", "true or false"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		refuse_changed(full, rows[i].from, rows[i].to, rows[i].text);
	refuse_changed(POLICY_OF(""), "[]", "[[[[[[[[]]]]]]]]", "nested");
}

static void test_empty(void **state)
{
	_cleanup_(git_policy_free) struct git_policy g = {0};

	(void)state;
	load(&g, POLICY_OF(""));
	assert_int_equal(g.n_remotes, 0);
	git_policy_free(&g);
	git_policy_free(&g);
	assert_int_equal(git_policy_from_json(&g, str_of(""), NULL), -EINVAL);
}

static void test_too_many(void **state)
{
	_cleanup_(buf_free) struct buf b;
	struct git_policy g;
	struct err e = ERR_INIT;

	(void)state;
	for (int n = GIT_REMOTES_MAX; n <= GIT_REMOTES_MAX + 1; n++) {
		buf_init(&b, GIT_JSON_MAX_BYTES);
		assert_int_equal(buf_printf(&b, "{\"version\":1,\"remotes\":["), 0);
		for (int i = 0; i < n; i++)
			assert_int_equal(
				buf_printf(&b,
					   "%s{\"transport\":\"https\",\"name\":\"r%d\","
					   "\"host\":\"a.example\",\"port\":443,\"path\":\"/%d\","
					   "\"branches\":[],\"protected\":[],\"tags\":[]," TAIL "}",
					   i ? "," : "", i, i),
				0);
		assert_int_equal(buf_printf(&b, "],\"enforce_identity\":false}"), 0);
		assert_int_equal(git_policy_from_json(&g, buf_str(&b), &e),
				 n <= GIT_REMOTES_MAX ? 0 : -EINVAL);
		git_policy_free(&g);
		buf_free(&b);
	}
}

static void test_gate_find(void **state)
{
	static const struct {
		const char *path, *name, *rest;
	} rows[] = {
		{"/github.com/org/repo/info/refs", "origin", "/info/refs"},
		{"/github.com/org/repo.git/info/refs", "origin", "/info/refs"},
		{"/github.com/org/repo.git/git-upload-pack", "origin", "/git-upload-pack"},
		{"/github.com/org/repo", "origin", ""},
		{"/github.com/org/repo/HEAD", "origin", "/HEAD"},
		{"/github.com/org/repo/../x", "origin", "/../x"},
		{"/github.com/org/repository/info/refs", NULL, NULL},
		{"/github.com/org/repo.github/info/refs", NULL, NULL},
		{"/github.com/org/repo.git.git/info/refs", NULL, NULL},
		{"/github.com/org", NULL, NULL},
		{"/github.com/Org/repo/info/refs", NULL, NULL},
		{"//github.com/org/repo/info/refs", NULL, NULL},
		{"github.com/org/repo/info/refs", NULL, NULL},
		{"/git.example/a/b/info/refs", "open", "/info/refs"},
		{"/box.example/srv/x/git-receive-pack", "box", "/git-receive-pack"},
		{"/workspace/info/refs", "workspace", "/info/refs"},
		{"/workspace.git/info/refs", "workspace", "/info/refs"},
		{"/workspaces/info/refs", NULL, NULL},
		{"", NULL, NULL},
		{"/", NULL, NULL},
	};
	_cleanup_(git_policy_free) struct git_policy g = {0};

	(void)state;
	load(&g, full);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct str rest;
		const struct git_remote *r = git_gate_find(&g, str_of(rows[i].path), &rest);

		if (!r != !rows[i].name || (r && strcmp(r->name, rows[i].name) != 0))
			fail_msg("%s: %s", rows[i].path, r ? r->name : "none");
		if (r && !str_eq(rest, str_of(rows[i].rest)))
			fail_msg("%s: rest " STR_FMT, rows[i].path, STR_ARG(rest));
	}
}

/* One remote's path may begin another's, also with git's own words in it. */
static void test_gate_find_nested(void **state)
{
#define AT(name, path)                                                                             \
	"{\"transport\":\"https\",\"name\":\"" name                                                \
	"\",\"host\":\"h.example\",\"port\":443,\"path\":\"" path                                  \
	"\",\"branches\":[],\"protected\":[],\"tags\":[]," TAIL "}"
	static const char json[] =
		POLICY_OF(AT("c", "/a/info/refs") "," AT("a", "/a") "," AT("b", "/a/info"));
	static const struct {
		const char *path, *name;
	} rows[] = {
		{"/h.example/a/info/refs", "a"},
		{"/h.example/a/info/info/refs", "b"},
		{"/h.example/a/info/refs/info/refs", "c"},
		{"/h.example/a/info/refs/git-upload-pack", "c"},
		{"/h.example/a/info/git-upload-pack", "b"},
		{"/h.example/a/git-upload-pack", "a"},
		{"/h.example/a/info/x", "b"},
	};
	_cleanup_(git_policy_free) struct git_policy g = {0};

	(void)state;
	load(&g, json);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct str rest;
		const struct git_remote *r = git_gate_find(&g, str_of(rows[i].path), &rest);

		assert_non_null(r);
		assert_string_equal(r->name, rows[i].name);
	}
}

static const char agent_config[] = "[user]\n"
				   "\tname = \"Agent \\\"A\\\" Smith\"\n"
				   "\temail = \"a@b.example\"\n"
				   "[http \"http://10.209.0.2:9418\"]\n"
				   "\tproxy = \"\"\n"
				   "[url \"http://10.209.0.2:9418/github.com/org/repo\"]\n"
				   "\tinsteadOf = \"https://github.com:443/org/repo\"\n"
				   "\tinsteadOf = \"https://github.com/org/repo\"\n"
				   "\tinsteadOf = \"https://me@github.com/org/repo\"\n"
				   "\tinsteadOf = \"ssh://git@github.com:22/org/repo\"\n"
				   "\tinsteadOf = \"ssh://git@github.com/org/repo\"\n"
				   "\tinsteadOf = \"git@github.com:org/repo\"\n"
				   "\tinsteadOf = \"git@github.com:/org/repo\"\n"
				   "\tinsteadOf = \"ssh://github.com:22/org/repo\"\n"
				   "\tinsteadOf = \"ssh://github.com/org/repo\"\n"
				   "\tinsteadOf = \"github.com:org/repo\"\n"
				   "\tinsteadOf = \"github.com:/org/repo\"\n"
				   "[url \"http://10.209.0.2:9418/git.example/a/b\"]\n"
				   "\tinsteadOf = \"https://git.example:8443/a/b\"\n"
				   "\tinsteadOf = \"ssh://git@git.example:22/a/b\"\n";

static void test_agent_config(void **state)
{
	_cleanup_(git_policy_free) struct git_policy g = {0};
	_cleanup_(buf_free) struct buf out;
	struct err e = ERR_INIT;

	(void)state;
	load(&g, full);
	buf_init(&out, 65536);
	assert_int_equal(git_agent_config(&g, "10.209.0.2", &out, &e), 0);
	assert_true(str_starts(buf_str(&out), STR_LIT(agent_config)));
	assert_int_equal(str_find(buf_str(&out), STR_LIT("workspace")), buf_len(&out));
	buf_reset(&out);
	assert_int_equal(git_agent_config(&g, "fd00::2", &out, &e), 0);
	assert_true(
		str_find(buf_str(&out), STR_LIT("\"http://[fd00::2]:9418/box.example/srv/x\"")) <
		buf_len(&out));
	buf_reset(&out);
	assert_int_equal(git_agent_config(&g, "x\"]", &out, &e), -EINVAL);
	assert_int_equal(git_agent_config(&g, "", &out, &e), -EINVAL);
	buf_free(&out);
	buf_init(&out, 100);
	assert_int_equal(git_agent_config(&g, "10.209.0.2", &out, &e), -ENOBUFS);
}

static void test_routes(void **state)
{
	_cleanup_(git_policy_free) struct git_policy g = {0};
	_cleanup_(policy_free) struct policy base = {0}, out = {0};
	struct policy_decision d;
	struct err e = ERR_INIT;
	static const struct {
		const char *host;
		unsigned port;
		enum policy_method method;
		const char *path;
		bool is_allowed;
	} rows[] = {
		{"github.com", 443, POLICY_METHOD_GET,
		 "/org/repo.git/info/refs?service=git-upload-pack", true},
		{"github.com", 443, POLICY_METHOD_POST, "/org/repo.git/git-upload-pack", true},
		{"github.com", 443, POLICY_METHOD_POST, "/org/repo.git/git-receive-pack", true},
		{"github.com", 443, POLICY_METHOD_PUT, "/org/repo.git/git-receive-pack", false},
		{"github.com", 443, POLICY_METHOD_GET, "/org/repo.git/HEAD", false},
		{"github.com", 443, POLICY_METHOD_GET, "/org/repo.git/info/../x", false},
		{"github.com", 443, POLICY_METHOD_GET, "/org/repo/info/refs", false},
		{"github.com", 443, POLICY_METHOD_GET, "/other/repo.git/info/refs", false},
		{"github.com", 80, POLICY_METHOD_GET, "/org/repo.git/info/refs", false},
		{"git.example", 8443, POLICY_METHOD_POST, "/a/b/git-upload-pack", true},
		{"git.example", 8443, POLICY_METHOD_POST, "/a/b/git-receive-pack", false},
		{"git.example", 443, POLICY_METHOD_POST, "/a/b/git-upload-pack", false},
		{"box.example", 22, POLICY_METHOD_GET, "/", false},
		{"box.example", 22, POLICY_METHOD_GET, "/srv/x/info/refs", false},
		{"workspace", 443, POLICY_METHOD_GET, "/info/refs", false},
		{"api.example", 443, POLICY_METHOD_GET, "/", false},
	};

	(void)state;
	load(&g, full);
	assert_int_equal(
		policy_from_json(
			&base,
			str_of("{\"version\":1,\"routes\":[{\"host\":\"api.example\",\"ports\":["
			       "443]"
			       ",\"methods\":[\"GET\"],\"paths\":[],\"on_match\":\"block\","
			       "\"websocket\":false}],\"resolve\":[{\"host\":\"github.com\","
			       "\"address\":\"127.0.0.1:8443\"}],\"dns\":[\"127.0.0.1:53\"],"
			       "\"ca_pem\":\"PEM\"}"),
			&e),
		0);
	assert_int_equal(git_policy_routes(&g, &base, &out, &e), 0);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		d = policy_decide(&out, str_of(rows[i].host), (uint16_t)rows[i].port,
				  rows[i].method, str_of(rows[i].path));
		if ((d.reason == POLICY_OK) != rows[i].is_allowed)
			fail_msg("%s:%u%s: %s", rows[i].host, rows[i].port, rows[i].path,
				 policy_reason_name(d.reason));
	}
	d = policy_decide(&out, STR_LIT("github.com"), 443, POLICY_METHOD_GET,
			  STR_LIT("/org/repo.git/info/refs"));
	assert_int_equal(d.route->auth.scheme, POLICY_AUTH_BASIC);
	assert_string_equal(d.route->auth.user, "me");
	assert_string_equal(d.route->auth.placeholder, PLACEHOLDER);
	assert_int_equal(d.route->auth.credential, 2);
	assert_string_equal(d.route->auth.header, "authorization");
	assert_int_equal(policy_decide_authority(&out, STR_LIT("box.example"), 22).reason,
			 POLICY_OK);
	assert_int_equal(policy_decide_authority(&out, STR_LIT("box.example"), 443).reason,
			 POLICY_DENY_PORT);
	assert_int_equal(out.n_resolve, 1);
	assert_string_equal(out.resolve[0].host, "github.com");
	assert_int_equal(ntohs(((struct sockaddr_in *)&out.resolve[0].address)->sin_port), 8443);
	assert_int_equal(out.n_dns, 1);
	assert_string_equal(out.ca_pem, "PEM");
}

static void test_identity(void **state)
{
	static const char *const good[] = {"A", "Anna Österreich", "a.b@c.example", "O'Neil",
					   "x (bot)"};
	static const char *const bad[] = {"",	  " a", "a ",	 "Jr.",	  "a,",	      "'a'",
					  "a<b",  "a>", "a\nb",	 "a\x1b", "a\u202eb", "\xff",
					  "a\rb", "a;", "\"a\"", ".a"};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		if (git_identity_check(str_of(good[i]), NULL) < 0)
			fail_msg("refused: %s", good[i]);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (git_identity_check(str_of(bad[i]), NULL) == 0)
			fail_msg("taken: %s", bad[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),	 cmocka_unit_test(test_out_cap),
		cmocka_unit_test(test_refused),		 cmocka_unit_test(test_empty),
		cmocka_unit_test(test_too_many),	 cmocka_unit_test(test_gate_find),
		cmocka_unit_test(test_gate_find_nested), cmocka_unit_test(test_agent_config),
		cmocka_unit_test(test_routes),		 cmocka_unit_test(test_identity),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
