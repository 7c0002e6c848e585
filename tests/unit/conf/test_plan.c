/* The plan: credentials and placeholders, commands, canary, warnings, secrets, the two prints. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "conf/plan.h"
#include "conf/url.h"
#include "base/timeutil.h"
#include "home.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <jansson.h>

static struct plan_options options_for(const char *agent)
{
	return (struct plan_options){.home = home.path, .cwd = home.cwd, .agent = agent};
}

static const char *env_of(const struct plan *p, const char *name)
{
	for (size_t i = 0; i < p->n_env; i++)
		if (strcmp(p->env[i].name, name) == 0)
			return p->env[i].value;
	return NULL;
}

static void test_credentials(void **state)
{
	_cleanup_(plan_free) struct plan p = {0}, again = {0};
	struct plan_options o = options_for("a");
	const struct policy_route *r;

	(void)state;
	home_bottle(
		&home, "b",
		"provider: claude\nenv: {DISABLE_AUTOUPDATER: '0'}\n"
		"egress:\n  routes:\n"
		"    - {host: api.anthropic.com, auth: {scheme: header, header: X-Api-Key, "
		"token_ref: 'env:K'}}\n"
		"    - {host: api.github.com, auth: {scheme: bearer, env: GH, token_ref: "
		"'file:/t'}}\n"
		"    - {host: github.com, auth: {scheme: basic, user: x, env: GH, token_ref: "
		"'file:/t'}}\n"
		"    - {host: c.example, auth: {scheme: bearer, env: K2, token_ref: 'env:K'}}\n");
	home_agent(home.path, "a", "bottle: b\n", "do it");
	home_plan(&p, &o);
	r = p.policy.routes;
	assert_int_equal(p.policy.n_routes, 4);
	/* the provider's variable, the header in lower case */
	assert_string_equal(env_of(&p, "ANTHROPIC_API_KEY"), r[0].auth.placeholder);
	assert_string_equal(r[0].auth.header, "x-api-key");
	assert_int_equal(strlen(r[0].auth.placeholder), 37);
	assert_memory_equal(r[0].auth.placeholder, "cbph-", 5);
	assert_int_equal(policy_placeholder_check(str_of(r[0].auth.placeholder), NULL), 0);
	/* one variable for one secret: shared; one secret in two variables: not */
	assert_int_equal(p.n_secrets, 2);
	assert_string_equal(r[1].auth.placeholder, r[2].auth.placeholder);
	assert_int_equal(r[1].auth.credential, r[2].auth.credential);
	assert_int_equal(r[3].auth.credential, r[0].auth.credential);
	assert_string_not_equal(r[3].auth.placeholder, r[0].auth.placeholder);
	assert_string_equal(p.secrets[0].env, "K");
	assert_int_equal(p.secrets[0].origin_line, 6);
	/* the manifest's value wins over the provider's */
	assert_string_equal(env_of(&p, "DISABLE_AUTOUPDATER"), "0");
	assert_string_equal(env_of(&p, "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC"), "1");
	assert_string_equal(p.pinned, "10.209.0.2");
	assert_int_equal(p.agent_uid, 1000);
	assert_int_equal(p.n_sources, 2);
	/* everything random is another one the next time */
	home_plan(&again, &o);
	assert_string_not_equal(again.slug, p.slug);
	assert_string_not_equal(again.canary, p.canary);
	assert_string_not_equal(again.policy.routes[0].auth.placeholder, r[0].auth.placeholder);
	assert_int_equal(strlen(p.canary), 44);
	assert_memory_equal(p.canary, "dpl_", 4);
	assert_memory_equal(p.slug, "a-", 2);
	assert_int_equal(strlen(p.slug), 8);
}

static void test_credential_errors(void **state)
{
	static const struct {
		const char *head;
		unsigned line;
		const char *why;
	} rows[] = {
		{"egress:\n  routes:\n    - {host: x.example, auth: {scheme: bearer, token_ref: "
		 "'env:K'}}\n",
		 4, "auth needs \"env\""},
		{"provider: shell\negress:\n  routes:\n"
		 "    - {host: api.anthropic.com, auth: {scheme: bearer, token_ref: 'env:K'}}\n",
		 5, "auth needs \"env\""},
		{"env: {K: x}\negress:\n  routes:\n"
		 "    - {host: x.example, auth: {scheme: bearer, env: K, token_ref: 'env:K'}}\n",
		 5, "also set under \"env\""},
		{"egress:\n  routes:\n    - {host: x.example, auth: {scheme: bearer, env: K, "
		 "token_ref: 'env:A'}}\n"
		 "    - {host: y.example, auth: {scheme: bearer, env: K, token_ref: 'env:B'}}\n",
		 5, "already holds the placeholder"},
	};
	struct plan_options o = options_for(NULL);
	struct plan p;

	(void)state;
	o.bottle = "b";
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct err e = ERR_INIT;

		home_bottle(&home, "b", rows[i].head);
		if (plan_make(&p, &o, &e) >= 0 || e.line != rows[i].line ||
		    !strstr(e.text, rows[i].why))
			fail_msg("%s: %u \"%s\"", rows[i].head, e.line, e.text);
		assert_null(p.slug);
	}
}

static void test_too_many_credentials(void **state)
{
	_cleanup_(buf_free) struct buf b;
	struct plan_options o = options_for(NULL);
	struct plan p;
	struct err e = ERR_INIT;

	(void)state;
	o.bottle = "b";
	for (unsigned n = POLICY_CREDENTIALS_MAX; n <= POLICY_CREDENTIALS_MAX + 1; n++) {
		buf_init(&b, 65536);
		assert_int_equal(buf_printf(&b, "egress:\n  routes:\n"), 0);
		for (unsigned i = 0; i < n; i++)
			assert_int_equal(
				buf_printf(&b,
					   "    - {host: h%u.example, auth: {scheme: bearer, "
					   "env: E%u, token_ref: 'env:S%u'}}\n",
					   i, i, i),
				0);
		assert_int_equal(buf_append(&b, "", 1), 0);
		home_bottle(&home, "b", buf_str(&b).p);
		buf_free(&b);
		if (n == POLICY_CREDENTIALS_MAX) {
			home_plan(&p, &o);
			plan_free(&p);
		} else {
			assert_true(plan_make(&p, &o, &e) < 0);
			assert_non_null(strstr(e.text, "more than 30 credentials"));
		}
	}
}

static void check_command(const char *provider, const char *agent_head, const char *body,
			  const char *prompt, bool is_headless, const char *expected)
{
	_cleanup_(plan_free) struct plan p = {0};
	_cleanup_free_ char *head = mem_printf("provider: %s\n", provider);
	_cleanup_(buf_free) struct buf got;
	struct plan_options o = options_for("a");

	buf_init(&got, 65536);
	home_bottle(&home, "b", head);
	home_agent(home.path, "a", agent_head, body);
	o.prompt = prompt;
	o.is_headless = is_headless;
	home_plan(&p, &o);
	for (size_t i = 0; i < p.n_command; i++)
		assert_int_equal(buf_printf(&got, "%s[%s]", i ? " " : "", p.command[i]), 0);
	assert_null(p.command[p.n_command]);
	assert_int_equal(buf_append(&got, "", 1), 0);
	assert_string_equal(buf_str(&got).p, expected);
}

static void test_commands(void **state)
{
	(void)state;
	check_command("claude", "bottle: b\n", "", NULL, false, "[claude]");
	check_command("claude", "bottle: b\n", "be kind", NULL, true, "[claude] [-p] [be kind]");
	check_command("claude", "bottle: b\n", "be kind", NULL, false, "[claude] [be kind]");
	check_command("claude", "bottle: b\n", "be kind", "say hi", true,
		      "[claude] [--append-system-prompt] [be kind] [-p] [say hi]");
	check_command("claude",
		      "bottle: b\nmodel: opus\ntools: [Read, Bash]\npermissionMode: plan\n", "",
		      "hi", false,
		      "[claude] [--model] [opus] [--permission-mode] [plan] "
		      "[--allowedTools=Read,Bash] [hi]");
	check_command("claude", "bottle: b\nmodel: inherit\n", "", "--help", true,
		      "[claude] [-p] [--] [--help]");
	check_command("codex", "bottle: b\n", "", "hi", true, "[codex] [exec] [hi]");
	check_command("codex", "bottle: b\n", "", NULL, false, "[codex]");
	check_command("shell", "bottle: b\n", "rm -rf /", "rm -rf /", true, "[/bin/bash] [-l]");
}

/* Who may ask is told where, beside whatever else the agent's file names. */
static void test_supervised_command(void **state)
{
	_cleanup_(plan_free) struct plan p = {0}, q = {0}, r = {0};
	struct plan_options o = options_for("a");
	char *command[] = {(char *)"claude", NULL};

	(void)state;
	home_bottle(&home, "b", "supervise: true\n");
	home_agent(home.path, "a", "bottle: b\n", "");
	home_plan(&p, &o);
	assert_int_equal(p.n_command, 3);
	assert_string_equal(p.command[1], "--allowedTools=mcp__claude-bottle");
	assert_string_equal(p.command[2], "--mcp-config=/etc/claude-bottle/mcp.json");
	assert_false(p.is_command_given);
	home_agent(home.path, "a", "bottle: b\ntools: [Read]\n", "");
	home_plan(&q, &o);
	assert_string_equal(q.command[1], "--allowedTools=Read,mcp__claude-bottle");
	/* A command of the user's own is left alone. */
	o.command = command;
	home_plan(&r, &o);
	assert_int_equal(r.n_command, 1);
	assert_true(r.is_command_given);
}

static void test_own_command_and_slug(void **state)
{
	_cleanup_(plan_free) struct plan p = {0};
	char *command[] = {(char *)"ls", (char *)"-l", NULL};
	char *nothing[] = {NULL};
	static const char *const bad[] = {"", "-a", "a-", "A", "a/b", "a.b", ".."};
	struct plan_options o = options_for(NULL);
	struct err e = ERR_INIT;

	(void)state;
	home_bottle(&home, "b", "provider: shell\n");
	assert_true(plan_make(&p, &o, &e) < 0);
	o.bottle = "b";
	o.command = command;
	o.slug = "my-slug";
	home_plan(&p, &o);
	assert_string_equal(p.agent, "b");
	assert_string_equal(p.slug, "my-slug");
	assert_int_equal(p.n_command, 2);
	assert_string_equal(p.command[1], "-l");
	plan_free(&p);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		o.slug = bad[i];
		assert_true(plan_make(&p, &o, &e) < 0);
	}
	o.slug = NULL;
	o.command = nothing;
	assert_true(plan_make(&p, &o, &e) < 0);
	/* An agent without a bottle, and one whose bottle is overridden. */
	o = options_for("a");
	home_agent(home.path, "a", "description: x\n", "");
	assert_true(plan_make(&p, &o, &e) < 0);
	assert_non_null(strstr(e.text, "names no bottle"));
	o.bottle = "b";
	home_plan(&p, &o);
	assert_string_equal(p.bottle, "b");
}

static void test_warnings(void **state)
{
	_cleanup_(plan_free) struct plan p = {0}, q = {0};
	struct plan_options o = options_for(NULL);

	(void)state;
	o.bottle = "b";
	home_bottle(&home, "b", "canary: false\negress: {resolve: {z.example: 127.0.0.1}}\n");
	home_plan(&p, &o);
	assert_true(home_warns(&p, "allowlist is empty"));
	assert_true(home_warns(&p, "z.example"));
	assert_null(p.canary);
	home_bottle(
		&home, "b",
		"egress:\n  routes:\n    - {host: x.example, methods: [GET]}\n"
		"    - {host: x.example, auth: {scheme: bearer, env: K, token_ref: 'env:K'}}\n");
	home_plan(&q, &o);
	assert_int_equal(q.n_warnings, 1);
	assert_true(home_warns(&q, "without the credential of line 5"));
}

static void test_prints(void **state)
{
	_cleanup_(plan_free) struct plan p = {0};
	_cleanup_(buf_free) struct buf text, json;
	struct plan_options o = options_for("a");
	struct policy policy;
	json_t *root;
	char *policy_text;

	(void)state;
	home_bottle(&home, "b",
		    "env: {A: \"x\\e[31m\\u202ey\"}\nexpose: [~/src]\n"
		    "supervise: {on_canary: stop, notify: say}\n"
		    "egress:\n  resolve: {x.example: 127.0.0.1:8443}\n  routes:\n"
		    "    - {host: x.example, auth: {scheme: bearer, env: K, token_ref: "
		    "'command:pass show k'}}\n");
	home_agent(home.path, "a", "bottle: b\ndescription: \"d\"\n", "prompt with \033[2J");
	home_plan(&p, &o);
	buf_init(&text, 1u << 20);
	buf_init(&json, 1u << 20);
	assert_int_equal(plan_print_text(&p, &text), 0);
	assert_int_equal(buf_append(&text, "", 1), 0);
	/* No control or bidirectional character reaches a terminal; the canary is not shown. */
	assert_null(strchr(buf_str(&text).p, '\033'));
	assert_null(strstr(buf_str(&text).p, "\342\200\256"));
	assert_null(strstr(buf_str(&text).p, p.canary));
	assert_non_null(strstr(buf_str(&text).p, "command:pass show k"));
	assert_non_null(strstr(buf_str(&text).p, "x.example is 127.0.0.1:8443"));
	assert_non_null(strstr(buf_str(&text).p, "is stopped, and the bottle is stopped\n"));
	assert_non_null(strstr(buf_str(&text).p, "Supervised: "));
	assert_non_null(strstr(buf_str(&text).p, "request runs on this host: say\n"));
	assert_int_equal(plan_print_json(&p, &json), 0);
	root = json_loadb(buf_str(&json).p, buf_len(&json), JSON_REJECT_DUPLICATES, NULL);
	assert_non_null(root);
	assert_string_equal(json_string_value(json_object_get(root, "slug")), p.slug);
	assert_true(json_is_null(json_object_get(root, "backend")));
	assert_true(json_is_null(json_object_get(root, "image")));
	assert_string_equal(json_string_value(json_object_get(root, "agent_file")), p.agent_file);
	assert_non_null(strstr(p.agent_file, "/home/.claude-bottle/agents/a.md"));
	assert_true(json_is_true(json_object_get(root, "supervised")));
	assert_string_equal(json_string_value(json_object_get(root, "on_canary")), "stop");
	assert_string_equal(json_string_value(json_object_get(root, "notify")), "say");
	assert_non_null(strstr(p.manifest_file, "/home/.claude-bottle/bottles/b.md"));
	policy_text = json_dumps(json_object_get(root, "policy"), 0);
	assert_int_equal(policy_from_json(&policy, str_of(policy_text), NULL), 0);
	assert_int_equal(policy.n_routes, 1);
	policy_free(&policy);
	free(policy_text);
	json_decref(root);
	/* A cap that is reached is an error, not a cut print. */
	buf_free(&json);
	buf_init(&json, 100);
	assert_int_equal(plan_print_json(&p, &json), -ENOBUFS);
	buf_free(&text);
	buf_init(&text, 100);
	assert_int_equal(plan_print_text(&p, &text), -ENOBUFS);
}

/* A bottle's own word goes before that of the one that it extends. */
static void test_image(void **state)
{
	_cleanup_(plan_free) struct plan p = {0}, q = {0};
	struct plan_options o = options_for(NULL);
	_cleanup_(buf_free) struct buf text, json;

	(void)state;
	home_bottle(&home, "base", "image: debian:12\n");
	home_bottle(&home, "b", "extends: base\n");
	o.bottle = "b";
	home_plan(&p, &o);
	assert_string_equal(p.image, "debian:12");
	assert_null(p.agent_file);
	home_bottle(&home, "b", "extends: base\nimage: claude-bottle/snapshot:worker-abcdef\n");
	home_plan(&q, &o);
	assert_string_equal(q.image, "claude-bottle/snapshot:worker-abcdef");
	buf_init(&text, 1u << 20);
	buf_init(&json, 1u << 20);
	assert_int_equal(plan_print_text(&q, &text), 0);
	assert_int_equal(buf_append(&text, "", 1), 0);
	assert_non_null(strstr(buf_str(&text).p, "Image: claude-bottle/snapshot:worker-abcdef\n"));
	assert_int_equal(plan_print_json(&q, &json), 0);
	assert_int_equal(buf_append(&json, "", 1), 0);
	assert_non_null(
		strstr(buf_str(&json).p, "\"image\":\"claude-bottle/snapshot:worker-abcdef\""));
	assert_non_null(strstr(buf_str(&json).p, "\"agent_file\":null"));
}

/* Not looked at before its backend does. What somebody else wrote is shown so that it can be seen.
 */
static void test_image_file(void **state)
{
	_cleanup_(plan_free) struct plan p = {0}, q = {0};
	struct plan_options o = options_for(NULL);
	_cleanup_(buf_free) struct buf text;
	char expected[600];

	(void)state;
	o.bottle = "b";
	home_bottle(&home, "b", "image: ~/images/root.tar\n");
	home_plan(&p, &o);
	(void)snprintf(expected, sizeof(expected), "%s/images/root.tar", home.path);
	assert_string_equal(p.image, expected);
	home_bottle(&home, "b", "image: \"/images/\\e[2Jroot.tar\"\n");
	home_plan(&q, &o);
	assert_string_equal(q.image, "/images/\033[2Jroot.tar");
	buf_init(&text, 1u << 20);
	assert_int_equal(plan_print_text(&q, &text), 0);
	assert_int_equal(buf_append(&text, "", 1), 0);
	assert_non_null(strstr(buf_str(&text).p, "Image: /images/"));
	assert_null(strchr(buf_str(&text).p, '\033'));
}

static void check_fetch(struct plan_secret s, const char *value, const char *why)
{
	struct err e = ERR_INIT;
	struct str out;
	int ret = plan_secret_fetch(&s, &out, &e);

	if ((ret == 0) != (value != NULL) || (why && !strstr(e.text, why)))
		fail_msg("%d \"%s\", expected %s", ret, e.text, value ? value : why);
	if (ret < 0) {
		assert_null(out.p);
		/* A command is shown as it was written; what it says never is. */
		if (!s.command)
			assert_null(strstr(e.text, "s3cr"));
		return;
	}
	assert_string_equal(out.p, value);
	assert_int_equal(out.n, strlen(value));
	free((char *)out.p);
}

#define SECRET(...) ((struct plan_secret){__VA_ARGS__})

static void test_secret_places(void **state)
{
	_cleanup_free_ char *file = mem_printf("%s/token", home.path);

	(void)state;
	assert_int_equal(setenv("CONF_TEST", "s3cr-0123456789", 1), 0);
	check_fetch(SECRET(.env = (char *)"CONF_TEST"), "s3cr-0123456789", NULL);
	check_fetch(SECRET(.env = (char *)"CONF_TEST_NONE"), NULL, "CONF_TEST_NONE is not set");
	assert_int_equal(setenv("CONF_TEST", "s3cr", 1), 0);
	check_fetch(SECRET(.env = (char *)"CONF_TEST"), NULL, "shorter than 12");
	assert_int_equal(setenv("CONF_TEST", "s3cr-0123456\n\n", 1), 0);
	check_fetch(SECRET(.env = (char *)"CONF_TEST"), NULL, "printable");
	home_write(home.path, "token", "s3cr-in-a-file\n");
	check_fetch(SECRET(.file = file), "s3cr-in-a-file", NULL);
	assert_int_equal(chmod(file, 0640), 0);
	check_fetch(SECRET(.file = file), NULL, "open to others");
	assert_int_equal(chmod(file, 0600), 0);
	home_write(home.path, "token", "s3cr-in-a-file\r\n");
	check_fetch(SECRET(.file = file), NULL, "printable");
	check_fetch(SECRET(.file = home.path), NULL, "not a regular file");
	check_fetch(SECRET(.file = (char *)"/nonexistent"), NULL, "No such file");
	check_fetch(SECRET(.command = (char *)"printf 's3cr-%s\\n' of-a-command"),
		    "s3cr-of-a-command", NULL);
	check_fetch(SECRET(.command = (char *)"echo s3cr-0123456789; exit 3"), NULL, "status 3");
	check_fetch(SECRET(.command = (char *)"kill -9 $$"), NULL, "signal 9");
	check_fetch(SECRET(.command = (char *)"true"), NULL, "0 bytes");
	check_fetch(SECRET(.command = (char *)"yes s3cr"), NULL, "longer than 2048");
	check_fetch(SECRET(.env = (char *)"A", .command = (char *)"true"), NULL, "exactly one");
	check_fetch(SECRET(.env = NULL), NULL, "exactly one");
}

static void test_secret_lengths(void **state)
{
	char value[PLAN_SECRET_MAX + 2];

	(void)state;
	memset(value, 'x', sizeof(value));
	value[PLAN_SECRET_MAX + 1] = '\0';
	assert_int_equal(setenv("CONF_TEST", value, 1), 0);
	check_fetch(SECRET(.env = (char *)"CONF_TEST"), NULL, "longer than 2048");
	value[PLAN_SECRET_MAX] = '\0';
	assert_int_equal(setenv("CONF_TEST", value, 1), 0);
	check_fetch(SECRET(.env = (char *)"CONF_TEST"), value, NULL);
	value[PLAN_SECRET_MIN] = '\0';
	assert_int_equal(setenv("CONF_TEST", value, 1), 0);
	check_fetch(SECRET(.env = (char *)"CONF_TEST"), value, NULL);
	value[PLAN_SECRET_MIN - 1] = '\0';
	assert_int_equal(setenv("CONF_TEST", value, 1), 0);
	check_fetch(SECRET(.env = (char *)"CONF_TEST"), NULL, "shorter");
}

static void test_list_agents(void **state)
{
	struct plan_agent_info *list;
	struct err e = ERR_INIT;
	size_t n;

	(void)state;
	home_agent(home.path, "zoe", "bottle: b\ndescription: home's\n", "");
	home_agent(home.cwd, "zoe", "bottle: c\n", "");
	home_agent(home.cwd, "amy", "bottle: c\n", "");
	home_agent(home.cwd, "bad", "botle: c\n", "");
	home_write(home.cwd, ".claude-bottle/agents/Not A Name.md", "---\n---\n");
	assert_int_equal(plan_list_agents(home.path, home.cwd, &list, &n, &e), 0);
	assert_true(n >= 3);
	for (size_t i = 0, seen = 0; i < n; i++) {
		if (strcmp(list[i].name, "zoe") == 0) {
			assert_string_equal(list[i].bottle, "b");
			assert_string_equal(list[i].description, "home's");
			assert_int_equal(seen++, 0);
		}
		if (strcmp(list[i].name, "bad") == 0) {
			assert_null(list[i].bottle);
			assert_non_null(strstr(list[i].description, "did you mean \"bottle\""));
		}
		if (strcmp(list[i].name, "amy") == 0)
			assert_non_null(strstr(list[i].file, "work/.claude-bottle/agents/"));
	}
	plan_agents_free(list, n);
	assert_int_equal(plan_list_agents("/nonexistent", NULL, &list, &n, &e), 0);
	assert_int_equal(n, 0);
	plan_agents_free(list, n);
}

static void test_url(void **state)
{
	static const struct {
		const char *in, *host, *path;
		unsigned port;
	} rows[] = {
		{"https://a.example/x?y#z", "a.example", "/x?y", 443},
		{"HTTP://a.example", "a.example", "/", 80},
		{"a.example:8443/x", "a.example", "/x", 8443},
		{"a.example", "a.example", "/", 443},
		{"https://[::1]:1/", "[::1]", "/", 1},
		{"https://u@a.example/", "u@a.example", "/", 443},
		{"a.example/?u=https://b", "a.example", "/?u=https://b", 443},
	};
	static const char *const bad[] = {"ftp://a", "a:", "a:0", "a:65536", "a:x/", "a?b"};
	struct url u;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		assert_int_equal(url_parse(str_of(rows[i].in), &u, NULL), 0);
		assert_true(str_eq(u.host, str_of(rows[i].host)));
		assert_true(str_eq(u.path, str_of(rows[i].path)));
		assert_int_equal(u.port, rows[i].port);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (url_parse(str_of(bad[i]), &u, NULL) >= 0)
			fail_msg("accepted %s", bad[i]);
}

static void test_backends(void **state)
{
	enum plan_backend b;
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(plan_backend_parse(STR_LIT("native"), &b, &e), 0);
	assert_int_equal(b, PLAN_BACKEND_NATIVE);
	assert_true(plan_backend_parse(STR_LIT("unset"), &b, &e) < 0);
	assert_true(plan_backend_parse(STR_LIT("natve"), &b, &e) < 0);
	assert_non_null(strstr(e.text, "did you mean \"native\"?"));
	assert_int_equal(b, PLAN_BACKEND_UNSET);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_credentials),
		cmocka_unit_test(test_credential_errors),
		cmocka_unit_test(test_too_many_credentials),
		cmocka_unit_test(test_commands),
		cmocka_unit_test(test_supervised_command),
		cmocka_unit_test(test_own_command_and_slug),
		cmocka_unit_test(test_warnings),
		cmocka_unit_test(test_prints),
		cmocka_unit_test(test_image),
		cmocka_unit_test(test_image_file),
		cmocka_unit_test(test_secret_places),
		cmocka_unit_test(test_secret_lengths),
		cmocka_unit_test(test_list_agents),
		cmocka_unit_test(test_url),
		cmocka_unit_test(test_backends),
	};

	return cmocka_run_group_tests(tests, home_setup, home_teardown);
}
