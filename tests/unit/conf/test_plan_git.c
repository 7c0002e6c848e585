/* The plan's git: workspaces found and refused, remotes with their credentials, keys, the prints.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "conf/plan.h"
#include "home.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <jansson.h>

#define KEY "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMmU8yM+uuBXAyfm3ocI9cptRnR8lyOdEZ3jfSEhHDZt"
#define OID "0123456789abcdef0123456789abcdef01234567"

/* Made for this test alone; nothing knows it. */
static const char private_key[] =
	"-----BEGIN OPENSSH PRIVATE KEY-----\n"
	"b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW\n"
	"QyNTUxOQAAACDJlPMjPrrgVwMn5t6HCPXKbUZ0fJcjnRGd430hIRw2bQAAAIhfDQJdXw0C\n"
	"XQAAAAtzc2gtZWQyNTUxOQAAACDJlPMjPrrgVwMn5t6HCPXKbUZ0fJcjnRGd430hIRw2bQ\n"
	"AAAECmTbZmhS3gOC+cwxIhZ11aFAWOvfw0d+/1imMlKffocsmU8yM+uuBXAyfm3ocI9cpt\n"
	"RnR8lyOdEZ3jfSEhHDZtAAAAAAECAwQF\n"
	"-----END OPENSSH PRIVATE KEY-----\n";
static const char encrypted_key[] =
	"-----BEGIN OPENSSH PRIVATE KEY-----\n"
	"b3BlbnNzaC1rZXktdjEAAAAACmFlczI1Ni1jdHIAAAAGYmNyeXB0AAAAGAAAABDXRjzH43\n"
	"1ihtM8QR7jOKTZAAAAEAAAAAEAAAAzAAAAC3NzaC1lZDI1NTE5AAAAIJ68JGjhzCBq6Hxp\n"
	"Rw3ZKFhOyTOvMBvOYnJIh6beq2+ZAAAAkI+HNpox9Eem91ITkkOQ46Tz02h3Q2RVvU5HVX\n"
	"wFDqRTZiaY21BmLCl3E+adF+7Qyk+PEfo0azMMZxpQe/414LswW+wuX6RkjXicCfBUeQm4\n"
	"k3oF1E+faDlwPsKGrAZtZ151HI/V/Gsr5sAAU+rNFPkSUjdB0M57fv1F17+Sf3k2LwWzP3\n"
	"CidVJottPoDH8aPg==\n"
	"-----END OPENSSH PRIVATE KEY-----\n";

static struct plan_options options(void)
{
	return (struct plan_options){.home = home.path, .cwd = home.cwd, .bottle = "b"};
}

static void refused(const struct plan_options *o, const char *why)
{
	struct plan p;
	struct err e = ERR_INIT;

	if (plan_make(&p, o, &e) >= 0)
		fail_msg("taken; expected: %s", why);
	if (!strstr(e.text, why))
		fail_msg("\"%s\" does not say \"%s\"", e.text, why);
}

static void make_folder(const char *root, const char *path)
{
	_cleanup_free_ char *full = mem_printf("%s/%s", root, path);

	assert_int_equal(io_mkdir_p(full, 0700, NULL), 0);
}

/* A repository as git leaves it after its first commit. */
static void make_repository(const char *root, const char *path)
{
	_cleanup_free_ char *full = path[0] ? mem_printf("%s/%s", root, path) : mem_strdup(root);

	make_folder(full, ".git/refs/heads");
	make_folder(full, ".git/objects");
	home_write(full, ".git/HEAD", "ref: refs/heads/main\n");
	home_write(full, ".git/refs/heads/main", OID "\n");
}

/* What the default makes of a folder: the top, or NULL for none. */
static void expect_default(const char *folder, const char *top)
{
	_cleanup_(plan_free) struct plan p = {0};
	_cleanup_free_ char *cwd = mem_printf("%s%s%s", home.cwd, folder[0] ? "/" : "", folder);
	struct plan_options o = options();

	o.cwd = cwd;
	home_plan(&p, &o);
	if (top) {
		_cleanup_free_ char *full = mem_printf("%s%s%s", home.cwd, top[0] ? "/" : "", top);

		assert_int_equal(p.workspace, PLAN_WORKSPACE_CLONE);
		assert_string_equal(p.workspace_path, full);
		assert_int_equal(p.git.n_remotes, 1);
		assert_string_equal(p.git.remotes[0].name, "workspace");
		assert_int_equal(p.git.remotes[0].transport, GIT_TRANSPORT_WORKSPACE);
		assert_string_equal(p.git.remotes[0].branches[0], "**");
	} else {
		assert_int_equal(p.workspace, PLAN_WORKSPACE_NONE);
		assert_null(p.workspace_path);
		assert_int_equal(p.git.n_remotes, 0);
	}
}

static void test_default(void **state)
{
	(void)state;
	home_bottle(&home, "b", "");
	expect_default("", NULL);
	make_repository(home.cwd, "repo");
	make_folder(home.cwd, "repo/deep/er");
	expect_default("repo", "repo");
	expect_default("repo/deep/er", "repo");
	expect_default("repo/.git/objects", "repo");
	/* packed, detached, without a commit */
	home_write(home.cwd, "repo/.git/packed-refs",
		   "# pack-refs with: peeled fully-peeled sorted\n" OID " refs/heads/mainly\n" OID
		   " refs/heads/main\n^" OID "\n");
	{
		_cleanup_free_ char *loose = mem_printf("%s/repo/.git/refs/heads/main", home.cwd);

		assert_int_equal(unlink(loose), 0);
	}
	expect_default("repo", "repo");
	home_write(home.cwd, "repo/.git/packed-refs", OID " refs/heads/mainly\n");
	expect_default("repo", NULL);
	home_write(home.cwd, "repo/.git/HEAD", OID "\n");
	expect_default("repo", "repo");
	home_write(home.cwd, "repo/.git/HEAD", "ref: ../../../etc/passwd\n");
	expect_default("repo", NULL);
	home_write(home.cwd, "repo/.git/HEAD", "ref: refs/heads/.invalid\n"); /* reftable */
	expect_default("repo", NULL);
	home_write(home.cwd, "repo/.git/HEAD", OID "0123456789abcdef01234567\n"); /* SHA-256 */
	expect_default("repo", NULL);
	home_write(home.cwd, "repo/.git/HEAD", "");
	expect_default("repo", NULL);
}

/* Worktrees and submodules, and what only looks like them. */
static void test_git_files(void **state)
{
	_cleanup_free_ char *back = mem_printf("%s/tree/.git\n", home.cwd);
	_cleanup_free_ char *to = mem_printf("gitdir: %s/repo/.git/worktrees/tree\n", home.cwd);
	_cleanup_free_ char *link_path = mem_printf("%s/linked/.git", home.cwd);
	_cleanup_free_ char *target = mem_printf("%s/repo/.git", home.cwd);

	(void)state;
	home_bottle(&home, "b", "");
	make_repository(home.cwd, "repo");
	make_folder(home.cwd, "repo/.git/worktrees/tree");
	make_folder(home.cwd, "repo/.git/modules/sub/refs/heads");
	make_folder(home.cwd, "repo/sub");
	make_folder(home.cwd, "tree");
	make_folder(home.cwd, "linked");
	make_folder(home.cwd, "thief");
	home_write(home.cwd, "repo/.git/worktrees/tree/HEAD", "ref: refs/heads/main\n");
	home_write(home.cwd, "repo/.git/worktrees/tree/commondir", "../..\n");
	home_write(home.cwd, "repo/.git/worktrees/tree/gitdir", back);
	home_write(home.cwd, "tree/.git", to);
	expect_default("tree", "tree");
	home_write(home.cwd, "repo/.git/modules/sub/HEAD", OID "\n");
	home_write(home.cwd, "repo/sub/.git", "gitdir: ../.git/modules/sub\n");
	expect_default("repo/sub", "repo/sub");
	/* Another repository of the user's in this one's name. */
	home_write(home.cwd, "thief/.git", "gitdir: ../repo/.git\n");
	expect_default("thief", NULL);
	home_write(home.cwd, "thief/.git", to);
	expect_default("thief", NULL);
	home_write(home.cwd, "thief/.git", "gitdir: ../repo/.git/modules/sub\n");
	expect_default("thief", NULL);
	home_write(home.cwd, "thief/.git", "gitdir: /nonexistent\n");
	expect_default("thief", NULL);
	home_write(home.cwd, "thief/.git", "hello\n");
	expect_default("thief", NULL);
	assert_int_equal(symlink(target, link_path), 0);
	expect_default("linked", NULL);
}

static void test_home_is_none(void **state)
{
	_cleanup_(plan_free) struct plan p = {0}, q = {0};
	_cleanup_free_ char *src = mem_printf("%s/src", home.path);
	struct plan_options o = options();

	(void)state;
	home_bottle(&home, "b", "");
	make_repository(home.path, "");
	o.cwd = home.path;
	home_plan(&p, &o);
	assert_int_equal(p.workspace, PLAN_WORKSPACE_NONE);
	o.cwd = src; /* a folder of the home, in no repository but the home's */
	home_plan(&q, &o);
	assert_int_equal(q.workspace, PLAN_WORKSPACE_NONE);
	o.workspace = "clone";
	refused(&o, "the home and what lies above it are never one");
	o.cwd = home.path;
	refused(&o, "cannot be cloned");
	o.workspace = "mount";
	refused(&o, "is the home or lies above it");
	o.cwd = "/";
	refused(&o, "is the home or lies above it");
	o.workspace = "clone";
	refused(&o, "\"/\" is no git repository");
}

static void test_asked_for(void **state)
{
	_cleanup_(plan_free) struct plan p = {0}, q = {0}, m = {0};
	_cleanup_free_ char *repo = mem_printf("%s/repo", home.cwd);
	struct plan_options o = options();

	(void)state;
	home_bottle(&home, "b", "workspace: clone\n");
	refused(&o, "is no git repository");
	refused(&o, "--workspace none");
	o.workspace = "none";
	home_plan(&p, &o);
	assert_int_equal(p.workspace, PLAN_WORKSPACE_NONE);
	o.workspace = "cloen";
	refused(&o, "unknown workspace \"cloen\"");
	/* the manifest's none, and the flag over it */
	make_repository(home.cwd, "repo");
	home_bottle(&home, "b", "workspace: none\n");
	o.workspace = NULL;
	o.cwd = repo;
	home_plan(&q, &o);
	assert_int_equal(q.workspace, PLAN_WORKSPACE_NONE);
	o.workspace = "mount";
	home_plan(&m, &o);
	assert_int_equal(m.workspace, PLAN_WORKSPACE_MOUNT);
	assert_string_equal(m.workspace_path, repo);
	assert_int_equal(m.git.n_remotes, 0);
	home_write(home.cwd, "repo/.git/HEAD", "ref: refs/heads/none\n");
	o.workspace = "clone";
	refused(&o, "has no commit yet");
}

/* As `resume` asks: the folder of the last run, and its kind where the manifest is silent. */
static void test_of_a_former_run(void **state)
{
	_cleanup_(plan_free) struct plan p = {0}, q = {0};
	_cleanup_free_ char *repo = mem_printf("%s/repo", home.cwd);
	struct plan_options o = options();

	(void)state;
	make_repository(home.cwd, "repo");
	o.cwd = NULL;
	o.workspace_folder = repo;
	o.workspace_default = "mount";
	home_bottle(&home, "b", "");
	home_plan(&p, &o);
	assert_int_equal(p.workspace, PLAN_WORKSPACE_MOUNT);
	home_bottle(&home, "b", "workspace: clone\n");
	home_plan(&q, &o);
	assert_int_equal(q.workspace, PLAN_WORKSPACE_CLONE);
	o.workspace_folder = "/nonexistent";
	refused(&o, "is not there: /nonexistent");
}

static const char remotes[] =
	"egress: {routes: [{host: api.example, auth: {scheme: bearer, env: T, token_ref: "
	"'env:TOK'}}], resolve: {a.example: 127.0.0.1}}\n"
	"git:\n"
	"  user: {name: Bot, email: bot@example.org}\n"
	"  workspace: {branches: [fix/*]}\n"
	"  remotes:\n"
	"    - {name: one, upstream: \"https://a.example/one\", token_ref: 'env:TOK', branches: "
	"[agent/**], tags: [v*], protected: [main]}\n"
	"    - {name: two, upstream: \"https://a.example/two\", token_ref: 'env:TOK'}\n"
	"    - {name: three, upstream: \"https://b.example:8443/three\"}\n"
	"    - {name: four, upstream: \"git@c.example:four\", key: 'env:TOK', known_host_key: '" KEY
	"'}\n";

static void test_remotes(void **state)
{
	_cleanup_(plan_free) struct plan p = {0};
	_cleanup_free_ char *repo = mem_printf("%s/repo", home.cwd);
	struct plan_options o = options();
	const struct git_remote *r;

	(void)state;
	make_repository(home.cwd, "repo");
	o.cwd = repo;
	home_bottle(&home, "b", remotes);
	home_plan(&p, &o);
	assert_int_equal(p.git.n_remotes, 5);
	r = p.git.remotes;
	assert_string_equal(r[0].name, "workspace");
	assert_string_equal(r[0].branches[0], "fix/*");
	assert_true(r[0].may_force && !r[0].may_delete);
	/* one secret for a route and two remotes, and the same place again as a key */
	assert_int_equal(p.n_secrets, 2);
	assert_false(p.secrets[0].is_key);
	assert_true(p.secrets[1].is_key);
	assert_int_equal(r[1].credential, p.policy.routes[0].auth.credential);
	assert_int_equal(r[2].credential, r[1].credential);
	assert_int_equal(r[4].credential, 1);
	/* placeholders: each its own, none for who needs none, none in the agent's environment */
	assert_int_equal(policy_placeholder_check(str_of(r[1].placeholder), NULL), 0);
	assert_string_not_equal(r[1].placeholder, r[2].placeholder);
	assert_string_not_equal(r[1].placeholder, p.policy.routes[0].auth.placeholder);
	assert_null(r[0].placeholder);
	assert_null(r[3].placeholder);
	assert_null(r[4].placeholder);
	for (size_t i = 0; i < p.n_env; i++)
		assert_string_not_equal(p.env[i].value, r[1].placeholder);
	assert_true(p.git.enforces_identity);
	/* resolve names an upstream: no warning */
	assert_false(home_warns(&p, "a.example"));
}

static void test_warnings(void **state)
{
	_cleanup_(plan_free) struct plan p = {0};
	struct plan_options o = options();

	(void)state;
	home_bottle(&home, "b",
		    "git:\n  workspace: {force: false}\n  remotes: [{name: r, upstream: "
		    "\"https://a.example/x\"}]\n");
	home_plan(&p, &o);
	assert_true(home_warns(&p, "git.workspace"));
	assert_true(home_warns(&p, "nothing but its git remotes"));
}

static void test_too_many_remotes(void **state)
{
	_cleanup_(plan_free) struct plan p = {0};
	_cleanup_(buf_free) struct buf b;
	_cleanup_free_ char *repo = mem_printf("%s/repo", home.cwd);
	struct plan_options o = options();

	(void)state;
	buf_init(&b, 65536);
	assert_int_equal(buf_printf(&b, "git:\n  remotes:\n"), 0);
	for (int i = 0; i < GIT_REMOTES_MAX; i++)
		assert_int_equal(buf_printf(&b,
					    "    - {name: r%d, upstream: "
					    "\"https://a.example/x%d\"}\n",
					    i, i),
				 0);
	assert_int_equal(buf_append(&b, "", 1), 0);
	home_bottle(&home, "b", buf_str(&b).p);
	home_plan(&p, &o);
	assert_int_equal(p.git.n_remotes, GIT_REMOTES_MAX);
	make_repository(home.cwd, "repo");
	o.cwd = repo;
	refused(&o, "more than 16 remotes, of which the workspace is one");
}

/* 25 credentials with a placeholder each, and remotes with one more each. */
static void test_too_many_prints(void **state)
{
	struct plan_options o = options();

	(void)state;
	for (int n = 13; n <= 14; n++) {
		_cleanup_(buf_free) struct buf b;

		buf_init(&b, 65536);
		assert_int_equal(buf_printf(&b, "egress:\n  routes:\n"), 0);
		for (int i = 0; i < 25; i++)
			assert_int_equal(buf_printf(&b,
						    "    - {host: h%d.example, auth: {scheme: "
						    "bearer, env: E%d, token_ref: 'env:S%d'}}\n",
						    i, i, i),
					 0);
		assert_int_equal(buf_printf(&b, "git:\n  remotes:\n"), 0);
		for (int i = 0; i < n; i++)
			assert_int_equal(
				buf_printf(&b,
					   "    - {name: r%d, upstream: "
					   "\"https://a.example/x%d\", token_ref: 'env:S0'}\n",
					   i, i),
				0);
		assert_int_equal(buf_append(&b, "", 1), 0);
		home_bottle(&home, "b", buf_str(&b).p);
		if (n == 13) {
			_cleanup_(plan_free) struct plan p = {0};

			home_plan(&p, &o);
		} else {
			refused(&o, "are 64, more than 63 in all");
		}
	}
}

static void test_prints(void **state)
{
	_cleanup_(plan_free) struct plan p = {0};
	_cleanup_(buf_free) struct buf text, json;
	_cleanup_free_ char *repo = mem_printf("%s/repo", home.cwd), *git_text = NULL;
	struct plan_options o = options();
	struct git_policy git;
	json_t *root;
	const char *shown;

	(void)state;
	make_repository(home.cwd, "repo");
	o.cwd = repo;
	home_bottle(&home, "b", remotes);
	home_plan(&p, &o);
	buf_init(&text, 1u << 20);
	buf_init(&json, 1u << 20);
	assert_int_equal(plan_print_text(&p, &text), 0);
	assert_int_equal(buf_append(&text, "", 1), 0);
	shown = buf_str(&text).p;
	assert_non_null(strstr(shown, "Workspace: a clone of what is tracked in /"));
	assert_non_null(strstr(shown, "  one  https://a.example/one\n      push branches agent/**; "
				      "tags v*; never main and the upstream's default branch\n"));
	assert_non_null(strstr(shown, "credential env:TOK as user \"x-access-token\""));
	assert_non_null(strstr(shown, "  two  https://a.example/two\n      fetch only\n"));
	assert_non_null(strstr(shown, "  three  https://b.example:8443/three\n"));
	assert_non_null(strstr(shown, "  four  git@c.example:four\n"));
	assert_non_null(strstr(shown, "key env:TOK as user \"git\""));
	assert_non_null(strstr(shown, "host key " KEY));
	assert_non_null(strstr(shown, "may rewrite them"));
	assert_non_null(strstr(shown, "Commits must be by Bot <bot@example.org>\n"));
	assert_int_equal(plan_print_json(&p, &json), 0);
	root = json_loadb(buf_str(&json).p, buf_len(&json), JSON_REJECT_DUPLICATES, NULL);
	assert_non_null(root);
	assert_string_equal(json_string_value(json_object_get(root, "workspace")), "clone");
	assert_string_equal(json_string_value(json_object_get(root, "workspace_path")), repo);
	git_text = json_dumps(json_object_get(root, "git"), 0);
	assert_int_equal(git_policy_from_json(&git, str_of(git_text), NULL), 0);
	assert_int_equal(git.n_remotes, 5);
	git_policy_free(&git);
	json_decref(root);
	buf_free(&text);
	buf_init(&text, 1u << 20);
	assert_int_equal(plan_print_network(&p, &text), 0);
	assert_true(str_find(buf_str(&text), STR_LIT("git@c.example:four")) < buf_len(&text));
}

static void check_key(const char *value, const char *why)
{
	struct plan_secret s = {.env = (char *)(uintptr_t) "CONF_TEST_KEY", .is_key = true};
	struct err e = ERR_INIT;
	struct str out;
	int ret;

	assert_int_equal(setenv("CONF_TEST_KEY", value, 1), 0);
	ret = plan_secret_fetch(&s, &out, &e);
	if (!why && ret < 0)
		fail_msg("%s", e.text);
	if (why && (ret == 0 || !strstr(e.text, why)))
		fail_msg("%d \"%s\" does not say \"%s\"", ret, e.text, why);
	if (ret < 0) {
		assert_null(out.p);
		assert_null(strstr(e.text, "b3Bl"));
		return;
	}
	assert_string_equal(out.p, value);
	free((char *)(uintptr_t)out.p);
}

static void test_keys(void **state)
{
	_cleanup_free_ char *file = mem_printf("%s/id", home.path);
	_cleanup_free_ char *large = mem_zalloc(PLAN_KEY_MAX + 2);
	_cleanup_free_ char *crlf = mem_printf("%s\r\n", private_key);
	_cleanup_free_ char *cut = mem_strdup(private_key);
	struct plan_secret s = {.file = file, .is_key = true};
	struct err e = ERR_INIT;
	struct str out;

	(void)state;
	check_key(private_key, NULL);
	check_key(encrypted_key, "passphrase");
	check_key(
		"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00"
		"\n\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n-----END RSA PRIVATE KEY-----\n",
		"passphrase");
	check_key(
		"-----BEGIN PRIVATE KEY-----\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
		"AAAAA\n-----END PRIVATE KEY-----",
		NULL);
	check_key(KEY "                                        ", "no ssh private key");
	check_key("short", "100 to 16384 bytes");
	check_key(crlf, "neither printable");
	*strstr(cut, "-----END") = '\0';
	check_key(cut, "no ssh private key");
	memset(large, 'A', PLAN_KEY_MAX + 1);
	check_key(large, "100 to 16384 bytes");
	home_write(home.path, "id", private_key);
	assert_int_equal(plan_secret_fetch(&s, &out, &e), 0);
	assert_string_equal(out.p, private_key);
	free((char *)(uintptr_t)out.p);
	/* as a token it is none */
	s.is_key = false;
	assert_true(plan_secret_fetch(&s, &out, &e) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_default, home_setup, home_teardown),
		cmocka_unit_test_setup_teardown(test_git_files, home_setup, home_teardown),
		cmocka_unit_test_setup_teardown(test_home_is_none, home_setup, home_teardown),
		cmocka_unit_test_setup_teardown(test_asked_for, home_setup, home_teardown),
		cmocka_unit_test_setup_teardown(test_of_a_former_run, home_setup, home_teardown),
		cmocka_unit_test_setup_teardown(test_remotes, home_setup, home_teardown),
		cmocka_unit_test_setup_teardown(test_warnings, home_setup, home_teardown),
		cmocka_unit_test_setup_teardown(test_too_many_remotes, home_setup, home_teardown),
		cmocka_unit_test_setup_teardown(test_too_many_prints, home_setup, home_teardown),
		cmocka_unit_test_setup_teardown(test_prints, home_setup, home_teardown),
		cmocka_unit_test_setup_teardown(test_keys, home_setup, home_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
