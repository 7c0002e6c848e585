/* What the keeper hands to the bundle: the secrets' file, and the choice of the executable. */
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_secrets),
		cmocka_unit_test(test_bundle_checked),
		cmocka_unit_test(test_uid_base),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
