/* What the keeper hands to the bundle: the secrets' file, the configuration, and the choice of the
 * executable. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "backend/keeper_bundle.c" /* NOLINT: the unit under test */
#include "scan/scan.h"

_Static_assert((int)BUNDLE_KIND_SECRET == (int)SCAN_KIND_SECRET, "one numbering");
_Static_assert((int)BUNDLE_KIND_CANARY == (int)SCAN_KIND_CANARY, "one numbering");
_Static_assert((int)BUNDLE_KIND_PLACEHOLDER == (int)SCAN_KIND_PLACEHOLDER, "one numbering");

static char *text(const char *s)
{
	return (char *)(uintptr_t)s;
}

/* Takes one record off s. */
static struct str take_record(struct str *s, struct bundle_secret_head *h)
{
	struct str value;

	assert_true(s->n >= sizeof(*h));
	memcpy(h, s->p, sizeof(*h));
	*s = str_sub(*s, sizeof(*h), s->n);
	assert_true(h->length <= s->n);
	value = str_sub(*s, 0, h->length);
	*s = str_sub(*s, h->length, s->n);
	return value;
}

static void test_secrets(void **state)
{
	struct policy_route routes[3] = {
		{.auth = {.scheme = POLICY_AUTH_BEARER,
			  .placeholder = text("placeholder-zero"),
			  .credential = 0}},
		{.auth = {.scheme = POLICY_AUTH_NONE}},
		{.auth = {.scheme = POLICY_AUTH_HEADER,
			  .placeholder = text("placeholder-zero"),
			  .credential = 0}},
	};
	struct plan_secret secrets[2] = {{.env = text("NATIVE_TEST_TOKEN")},
					 {.command = text("echo from-a-command-42")}};
	struct plan p = {.policy = {.routes = routes, .n_routes = 3},
			 .secrets = secrets,
			 .n_secrets = 2,
			 .canary = text("canary-value-123")};
	struct bundle_secret_head h;
	struct err e = ERR_INIT;
	struct str all, rest;
	int fd;

	(void)state;
	assert_int_equal(setenv("NATIVE_TEST_TOKEN", "token-of-environment", 1), 0);
	fd = keeper_secrets(&p, &e);
	if (fd < 0)
		fail_msg("%s", e.text);
	assert_int_equal(write(fd, "x", 1), -1); /* sealed */
	assert_int_equal(io_read_all(fd, 1u << 20, &all, NULL), 0);
	rest = all;
	assert_true(str_eq(take_record(&rest, &h), STR_LIT("token-of-environment")));
	assert_int_equal(h.kind, SCAN_KIND_SECRET);
	assert_int_equal(h.index, 0);
	assert_int_equal(h.flags, 0);
	assert_true(str_eq(take_record(&rest, &h), STR_LIT("from-a-command-42")));
	assert_int_equal(h.index, 1);
	assert_true(str_eq(take_record(&rest, &h), STR_LIT("placeholder-zero")));
	assert_int_equal(h.kind, SCAN_KIND_PLACEHOLDER);
	assert_true(str_eq(take_record(&rest, &h), STR_LIT("canary-value-123")));
	assert_int_equal(h.kind, SCAN_KIND_CANARY);
	assert_int_equal(rest.n, 0); /* the shared placeholder came once */
	free((void *)(uintptr_t)all.p);
	close(fd);
	assert_int_equal(unsetenv("NATIVE_TEST_TOKEN"), 0);
	assert_true(keeper_secrets(&p, &e) < 0);
	p.n_secrets = BUNDLE_SECRETS_MAX + 1;
	assert_int_equal(keeper_secrets(&p, &e), -E2BIG);
}

/* A key is one of its own kind; a remote's placeholder stands beside the routes'. */
static void test_git_secrets(void **state)
{
	struct git_remote remotes[3] = {
		{.transport = GIT_TRANSPORT_WORKSPACE},
		{.transport = GIT_TRANSPORT_SSH, .has_credential = true, .credential = 1},
		{.transport = GIT_TRANSPORT_HTTPS,
		 .has_credential = true,
		 .credential = 0,
		 .placeholder = text("placeholder-git")},
	};
	struct plan_secret secrets[2] = {{.command = text("echo from-a-command-42")},
					 {.env = text("KEEPER_TEST_KEY"), .is_key = true}};
	struct plan p = {
		.git = {.remotes = remotes, .n_remotes = 3}, .secrets = secrets, .n_secrets = 2};
	_cleanup_free_ char *key = mem_zalloc(PLAN_KEY_MAX + 1);
	static const char head[] = "-----BEGIN PRIVATE KEY-----\n",
			  tail[] = "\n-----END PRIVATE KEY-----\n";
	struct bundle_secret_head h;
	struct err e = ERR_INIT;
	struct str all, rest;
	int fd;

	(void)state;
	memset(key, 'A', PLAN_KEY_MAX);
	memcpy(key, head, sizeof(head) - 1);
	memcpy(key + PLAN_KEY_MAX - (sizeof(tail) - 1), tail, sizeof(tail) - 1);
	assert_int_equal(setenv("KEEPER_TEST_KEY", key, 1), 0);
	fd = keeper_secrets(&p, &e);
	assert_int_equal(unsetenv("KEEPER_TEST_KEY"), 0);
	if (fd < 0)
		fail_msg("%s", e.text);
	assert_int_equal(io_read_all(fd, 1u << 20, &all, NULL), 0);
	rest = all;
	assert_true(str_eq(take_record(&rest, &h), STR_LIT("from-a-command-42")));
	assert_int_equal(h.kind, SCAN_KIND_SECRET);
	assert_true(str_eq(take_record(&rest, &h), str_of(key)));
	assert_int_equal(h.kind, 4);
	assert_int_equal(h.index, 1);
	assert_true(str_eq(take_record(&rest, &h), STR_LIT("placeholder-git")));
	assert_int_equal(h.kind, SCAN_KIND_PLACEHOLDER);
	assert_int_equal(h.index, 0);
	assert_int_equal(rest.n, 0);
	free((void *)(uintptr_t)all.p);
	close(fd);
}

/* As init is given it at the start. */
static int config_fd(const struct plan *p, const struct backend_place *place, struct err *e)
{
	struct keeper k = {.plan = p, .place = *place};
	int fd;

	assert_int_equal(keeper_policy_init(&k, e), 0);
	fd = keeper_policy_config(&k, e);
	keeper_policy_free(&k.policy);
	return fd;
}

static json_t *config_of(const struct plan *p, const struct backend_place *place)
{
	struct err e = ERR_INIT;
	_cleanup_close_ int fd = config_fd(p, place, &e);
	struct str config;
	json_t *j;

	if (fd < 0)
		fail_msg("%s", e.text);
	assert_int_equal(io_read_all(fd, BUNDLE_CONFIG_MAX, &config, NULL), 0);
	j = json_loadb(config.p, config.n, JSON_REJECT_DUPLICATES, NULL);
	assert_non_null(j);
	free((void *)(uintptr_t)config.p);
	return j;
}

static void test_git_config(void **state)
{
	struct git_remote remote = {.name = text("workspace"),
				    .transport = GIT_TRANSPORT_WORKSPACE,
				    .object_max_bytes = 1,
				    .pack_max_bytes = 1};
	struct plan p = {.slug = text("a-abcdef")};
	struct backend_place place = {.pinned = "10.209.0.2"};
	struct git_policy git;
	struct err e = ERR_INIT;
	char *git_text;
	json_t *j;

	(void)state;
	/* Neither, without remotes: not for git.user alone either. */
	p.git.user_name = text("A");
	(void)snprintf(place.git_folder, sizeof(place.git_folder), "/git");
	j = config_of(&p, &place);
	assert_null(json_object_get(j, "git"));
	assert_null(json_object_get(j, "git_folder"));
	json_decref(j);
	/* Both, with one. */
	p.git.remotes = &remote;
	p.git.n_remotes = 1;
	j = config_of(&p, &place);
	assert_string_equal(json_string_value(json_object_get(j, "git_folder")), "/git");
	git_text = json_dumps(json_object_get(j, "git"), 0);
	assert_int_equal(git_policy_from_json(&git, str_of(git_text), &e), 0);
	assert_string_equal(git.remotes[0].name, "workspace");
	assert_string_equal(git.user_name, "A");
	git_policy_free(&git);
	free(git_text);
	json_decref(j);
	/* A backend that has no folder for it. */
	place.git_folder[0] = '\0';
	assert_int_equal(config_fd(&p, &place, &e), -ENOTSUP);
	assert_non_null(strstr(e.text, "no folder for git-gate"));
}

static void test_bundle_checked(void **state)
{
	char path[] = "/tmp/native-bundle-XXXXXX";
	int fd = mkstemp(path), got;
	struct err e = ERR_INIT;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(setenv("CLAUDE_BOTTLE_BUNDLE", path, 1), 0);
	assert_int_equal(fchmod(fd, 0644), 0);
	assert_int_equal(bundle_find(&e), -EACCES);
	assert_int_equal(fchmod(fd, 0775), 0);
	assert_int_equal(bundle_find(&e), -EPERM);
	assert_int_equal(fchmod(fd, 0755), 0);
	got = bundle_find(&e);
	assert_true(got >= 0);
	close(got);
	if (geteuid() == 0) {
		assert_int_equal(fchown(fd, 12345, 12345), 0);
		assert_int_equal(bundle_find(&e), -EPERM);
	}
	unlink(path);
	close(fd);
	assert_int_equal(bundle_find(&e), -ENOENT);
	assert_int_equal(setenv("CLAUDE_BOTTLE_BUNDLE", "/tmp", 1), 0);
	assert_int_equal(bundle_find(&e), -EACCES);
}

static void test_uid_base(void **state)
{
	unsigned base = bundle_uid_base();

	(void)state;
	if (geteuid() != 0)
		assert_int_equal(base, 0);
	else
		assert_true(base == 0 || base > 64);
	/* Agents and roles never share a uid. */
	if (base >= BUNDLE_UID_BASE)
		assert_true(base > 1000000000u + (1u << 28));
}

/* A started bundle's descriptors: whether it was given a way to the host's network. */
static int given_reach;

static int start_fake(struct bottle *b, const struct backend_fd *fds, size_t n, struct err *e)
{
	(void)b;
	(void)e;
	given_reach = -1;
	for (size_t i = 0; i < n; i++) {
		if (strcmp(fds[i].name, "reach") == 0)
			given_reach = fds[i].fd;
	}
	return 0;
}

/* The host's addresses and the channel are for a bundle that is apart, and for no other one. */
static void test_apart(void **state)
{
	struct policy_resolve resolve = {.host = text("named.test")};
	struct plan p = {.slug = text("t-1"), .policy = {.resolve = &resolve, .n_resolve = 1}};
	const struct backend backend = {.start_bundle = start_fake};
	char executable[] = "/tmp/keeper-bundle-XXXXXX";
	struct err e = ERR_INIT;
	int fd = mkstemp(executable);

	(void)state;
	assert_int_equal(policy_address_parse(STR_LIT("127.0.0.1:80"), &resolve.address, &e), 0);
	assert_int_equal(fchmod(fd, 0755), 0);
	close(fd);
	assert_int_equal(setenv("CLAUDE_BOTTLE_BUNDLE", executable, 1), 0);
	for (int is_apart = 0; is_apart < 2; is_apart++) {
		char dir[] = "/tmp/keeper-test-XXXXXX";
		struct keeper k = {.plan = &p,
				   .backend = &backend,
				   .place = {.pinned = "10.209.0.2", .is_apart = is_apart},
				   .reach = {.fd = -1},
				   .loop = loop_new(&e)};
		struct str config;
		json_t *j;

		assert_non_null(mkdtemp(dir));
		k.state_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		assert_int_equal(keeper_policy_init(&k, &e), 0);
		if (keeper_bundle_start(&k, -1, &e) < 0)
			fail_msg("%s", e.text);
		assert_int_equal(given_reach >= 0, is_apart);
		assert_int_equal(k.reach.fd >= 0, is_apart);
		fd = keeper_policy_config(&k, &e);
		assert_int_equal(io_read_all(fd, BUNDLE_CONFIG_MAX, &config, NULL), 0);
		j = json_loadb(config.p, config.n, JSON_REJECT_DUPLICATES, NULL);
		assert_non_null(j);
		assert_int_equal(json_array_size(json_object_get(j, "inside")) > 0, is_apart);
		json_decref(j);
		free((void *)(uintptr_t)config.p);
		close(fd);
		keeper_reach_close(&k.reach);
		keeper_bundle_free(&k.bundle);
		keeper_policy_free(&k.policy);
		loop_free(k.loop);
		(void)unlinkat(k.state_fd, "records.jsonl", 0);
		(void)unlinkat(k.state_fd, "policy.json", 0);
		close(k.state_fd);
		(void)rmdir(dir);
	}
	unlink(executable);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_secrets),	   cmocka_unit_test(test_git_secrets),
		cmocka_unit_test(test_git_config), cmocka_unit_test(test_bundle_checked),
		cmocka_unit_test(test_uid_base),   cmocka_unit_test(test_apart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
