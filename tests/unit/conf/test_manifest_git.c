/* Manifests' git and workspace: every key, every error with its place, extends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "conf/manifest.h"
#include "home.h"

#include <errno.h>

#define KEY	     "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMmU8yM+uuBXAyfm3ocI9cptRnR8lyOdEZ3jfSEhHDZt"
#define PRINT	     "0123456789abcdef0123456789abcdef"
#define REMOTE(rest) "git: {remotes: [{name: r, upstream: \"https://a.example/x\"" rest "}]}\n"
#define SSH(rest)    "git: {remotes: [{name: r, upstream: \"git@a.example:x\"" rest "}]}\n"

static void test_refused(void **state)
{
	static const struct home_refused rows[] = {
		/* shapes and keys */
		{"git: []\n", 2, 6, "git must be \"key: value\" lines, not a list"},
		{"git: {remote: []}\n", 2, 7, "did you mean \"remotes\"?"},
		{"git: {remotes: {}}\n", 2, 16, "remotes must be a list"},
		{"git: {remotes: [x]}\n", 2, 17, "a remote must be"},
		{REMOTE(", branch: [x]"), 2, 60, "did you mean \"branches\"?"},
		{REMOTE(", user_key: x"), 2, 60, "unknown key \"user_key\" in a remote"},
		{"workspace: cloned\n", 2, 12, "did you mean \"clone\"?"},
		{"workspace: true\n", 2, 12, "known are none, clone, mount"},
		/* name and upstream */
		{"git: {remotes: [{upstream: \"https://a.example/x\"}]}\n", 2, 17,
		 "a remote needs \"name\""},
		{"git: {remotes: [{name: r}]}\n", 2, 17, "a remote needs \"upstream\""},
		{"git: {remotes: [{name: R}]}\n", 2, 24, "lower-case letter"},
		{"git: {remotes: [{name: workspace}]}\n", 2, 24, "git.workspace"},
		{"git: {remotes: [{name: r, upstream: \"http://a.example/x\"}]}\n", 2, 37,
		 "in clear"},
		{"git: {remotes: [{name: r, upstream: /srv/x}]}\n", 2, 37, "path on this host"},
		{"git: {remotes: [{name: r, upstream: \"https://u:p@a.example/x\"}]}\n", 2, 37,
		 "password"},
		{"git: {remotes: [{name: r, upstream: \"ext::sh -c id\"}]}\n", 2, 37, "no address"},
		/* https and ssh each have their own */
		{REMOTE(", key: 'env:K'"), 2, 65, "key belongs to ssh"},
		{REMOTE(", known_host_key: '" KEY "'"), 2, 76, "known_host_key belongs to ssh"},
		{REMOTE(", user: me"), 2, 66, "a user without a secret"},
		{"git: {remotes: [{name: r, upstream: \"https://me@a.example/x\"}]}\n", 2, 37,
		 "a user without a secret"},
		{"git: {remotes: [{name: r, upstream: \"https://me@a.example/x\", user: you, "
		 "token_ref: 'env:T'}]}\n",
		 2, 69, "another user, \"me\""},
		{REMOTE(", user: 'a:b'"), 2, 66, "without space and \":\""},
		{REMOTE(", token_ref: secret"), 2, 71, "token_ref must be"},
		{SSH(""), 2, 17, "an ssh remote needs \"key\""},
		{SSH(", token_ref: 'env:T'"), 2, 67, "token_ref belongs to https"},
		{SSH(", key: ~/.ssh/id_ed25519"), 2, 61, "key must be \"env:NAME\""},
		{SSH(", key: 'file:~/.ssh/id'"), 2, 17,
		 "ssh-keyscan -t ed25519 a.example, compare its fingerprint"},
		{"git: {remotes: [{name: r, upstream: \"ssh://a.example:2222/x\", key: "
		 "'env:K'}]}\n",
		 2, 17, "ssh-keyscan -t ed25519 -p 2222 a.example"},
		{SSH(", key: 'env:K', known_host_key: AAAA"), 2, 86, "TYPE BASE64"},
		{SSH(", key: 'env:K', known_host_key: 'ssh-ed25519 AAAA'"), 2, 86, "damaged"},
		{"git: {remotes: [{name: r, upstream: \"a.example:x\", key: 'env:K', user: '-x', "
		 "known_host_key: '" KEY "'}]}\n",
		 2, 72, "not begin with \"-\""},
		/* refs */
		{REMOTE(", branches: main"), 2, 70, "branches must be a list"},
		{REMOTE(", branches: [refs/heads/x]"), 2, 71, "short name"},
		{REMOTE(", branches: ['**/x']"), 2, 71, "whole last segment"},
		{REMOTE(", branches: [-x]"), 2, 71, "cannot be the name"},
		{REMOTE(", protected: ['a b']"), 2, 72, "cannot be the name"},
		{REMOTE(", tags: ['!v1']"), 2, 67, "there is no \"!\""},
		{REMOTE(", force: yes"), 2, 67, "true or false"},
		{REMOTE(", delete: 1"), 2, 68, "true or false"},
		{REMOTE(", protect_head: no"), 2, 74, "true or false"},
		{REMOTE(", stale: allow"), 2, 67, "known are refuse, serve"},
		{REMOTE(", oversize: serve"), 2, 70, "known are refuse, allow"},
		{REMOTE(", max_object: none"), 2, 72, "a size like \"50MiB\""},
		{REMOTE(", max_object: 50"), 2, 72, "a size like \"50MiB\""},
		{REMOTE(", max_pack: 2T"), 2, 70, "at most 1TiB"},
		{REMOTE(", allow: [abc]"), 2, 68, "32 lower-case hex digits"},
		/* beside each other */
		{"git:\n  remotes:\n    - {name: r, upstream: \"https://a.example/x\"}\n"
		 "    - {name: r, upstream: \"https://b.example/x\"}\n",
		 5, 7, "the same name as the remote in line 4"},
		{"git:\n  remotes:\n    - {name: r, upstream: \"https://a.example/x.git\"}\n"
		 "    - {name: s, upstream: \"https://a.example:8443/x\"}\n",
		 5, 7, "the same repository as remote \"r\""},
		/* user */
		{"git: {user: me}\n", 2, 13, "git.user must be"},
		{"git: {user: {name: 'a '}}\n", 2, 20, "name must not begin or end"},
		{"git: {user: {email: 'a<b'}}\n", 2, 21, "email must be UTF-8 without"},
		{"git: {user: {name: a, enforce: true}}\n", 2, 13, "needs \"name\" and \"email\""},
		/* workspace's refs */
		{"git: {workspace: clone}\n", 2, 18, "git.workspace must be"},
		{"git: {workspace: {upstream: x}}\n", 2, 19, "unknown key \"upstream\""},
		{"git: {workspace: {branches: [a b]}}\n", 2, 30, "cannot be the name"},
	};

	(void)state;
	home_refuses(rows, ARRAY_LEN(rows));
}

static const char all_keys[] = "extends: base\n"
			       "workspace: clone\n"
			       "git:\n"
			       "  user: {email: bot@example.org}\n"
			       "  workspace: {branches: [fix/*], force: false, max_object: 1MiB}\n"
			       "  remotes:\n"
			       "    - name: origin\n"
			       "      upstream: https://GitHub.com/org/repo.git\n"
			       "      token_ref: file:~/tok\n"
			       "      branches: [agent/**, agent/**, 'fix-*']\n"
			       "      protected: [main]\n"
			       "      tags: [v*]\n"
			       "      protect_head: false\n"
			       "      force: true\n"
			       "      delete: true\n"
			       "      stale: serve\n"
			       "      max_object: 10MiB\n"
			       "      oversize: allow\n"
			       "      max_pack: 1GiB\n"
			       "      allow: [" PRINT ", " PRINT "]\n"
			       "    - name: box\n"
			       "      upstream: box.example:srv/x\n"
			       "      user: deploy\n"
			       "      key: 'command:pass show key'\n"
			       "      known_host_key: " KEY "\n"
			       "    - {name: near, upstream: \"ssh://git@box.example/near\", key: "
			       "'env:K', known_host_key: "
			       "'" KEY "', user: git}\n";

static void test_all_keys_and_extends(void **state)
{
	_cleanup_(manifest_bottle_free) struct manifest_bottle b;
	const struct git_remote *r;

	(void)state;
	home_bottle(&home, "base",
		    "workspace: none\n"
		    "git:\n  user: {name: Bot, email: old@example.org}\n"
		    "  workspace: {protected: ['x/*'], force: false}\n"
		    "  remotes:\n"
		    "    - {name: lib, upstream: \"https://a.example/lib\"}\n"
		    "    - {name: origin, upstream: \"https://a.example/x\", token_ref: 'env:OLD', "
		    "protected: [old]}\n");
	home_bottle(&home, "b", all_keys);
	home_load(&b, "b");
	assert_true(b.says_workspace);
	assert_int_equal(b.workspace, PLAN_WORKSPACE_CLONE);
	/* each key of git.user and git.workspace for itself */
	assert_string_equal(b.git.user_name, "Bot");
	assert_string_equal(b.git.user_email, "bot@example.org");
	assert_true(b.git.enforces_identity);
	r = &b.git.workspace;
	assert_true(b.git.says_workspace);
	assert_string_equal(r->name, "workspace");
	assert_int_equal(r->n_branches, 1);
	assert_string_equal(r->branches[0], "fix/*");
	assert_string_equal(r->protected_branches[0], "x/*");
	assert_false(r->may_force);
	assert_false(r->may_delete);
	assert_int_equal(r->object_max_bytes, 1u << 20);
	/* the base's first; the repeated one is replaced as a whole, where it stood */
	assert_int_equal(b.git.n_remotes, 4);
	assert_string_equal(b.git.remotes[0].remote.name, "lib");
	assert_false(b.git.remotes[0].remote.has_credential);
	assert_true(b.git.remotes[0].remote.is_head_protected);
	assert_int_equal(b.git.remotes[0].remote.object_max_bytes, GIT_OBJECT_MAX_BYTES);
	r = &b.git.remotes[1].remote;
	assert_string_equal(r->name, "origin");
	assert_string_equal(r->host, "github.com");
	assert_string_equal(r->user, "x-access-token");
	assert_true(r->has_credential);
	assert_int_equal(r->n_branches, 2);
	assert_int_equal(r->n_protected_branches, 1);
	assert_string_equal(r->protected_branches[0], "main");
	assert_int_equal(r->n_tags, 1);
	assert_false(r->is_head_protected);
	assert_true(r->may_force && r->may_delete && r->may_serve_stale && r->may_oversize);
	assert_int_equal(r->object_max_bytes, 10u << 20);
	assert_int_equal(r->pack_max_bytes, 1u << 30);
	assert_int_equal(r->n_allow, 1);
	assert_string_equal(r->allow[0], PRINT);
	assert_int_equal(r->origin_line, 8);
	assert_null(b.git.remotes[1].secret.env);
	assert_non_null(strstr(b.git.remotes[1].secret.file, "/home/tok"));
	assert_false(b.git.remotes[1].secret.is_key);
	r = &b.git.remotes[2].remote;
	assert_int_equal(r->transport, GIT_TRANSPORT_SSH);
	assert_string_equal(r->user, "deploy");
	assert_string_equal(r->host_key, KEY);
	assert_string_equal(b.git.remotes[2].secret.command, "pass show key");
	assert_true(b.git.remotes[2].secret.is_key);
	assert_string_equal(b.git.remotes[3].remote.user, "git");
}

static void test_defaults(void **state)
{
	_cleanup_(manifest_bottle_free) struct manifest_bottle b, c;
	const struct git_remote *r = &b.git.workspace;

	(void)state;
	home_bottle(&home, "b", "git:\n");
	home_load(&b, "b");
	assert_false(b.says_workspace);
	assert_false(b.git.says_workspace);
	assert_false(b.git.enforces_identity);
	assert_int_equal(b.git.n_remotes, 0);
	assert_int_equal(r->n_branches, 1);
	assert_string_equal(r->branches[0], "**");
	assert_true(r->may_force && !r->may_delete);
	assert_false(r->is_head_protected);
	home_bottle(&home, "c", "git: {user: {name: A, email: a@b, enforce: false}}\n");
	home_load(&c, "c");
	assert_false(c.git.enforces_identity);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_refused, home_setup, home_teardown),
		cmocka_unit_test_setup_teardown(test_all_keys_and_extends, home_setup,
						home_teardown),
		cmocka_unit_test_setup_teardown(test_defaults, home_setup, home_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
