/* References to images: what engines take, and what must never reach one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "conf/reference.h"

#include "base/clean.h"

#include <errno.h>
#include <stdio.h>

#define HEX32  "0123456789abcdef0123456789abcdef"
#define HEX64  HEX32 HEX32
#define HEX128 HEX64 HEX64

static void test_taken(void **state)
{
	static const struct {
		const char *text, *name, *tag, *digest;
	} rows[] = {
		{"debian", "debian", "", ""},
		{"debian:12", "debian", "12", ""},
		{"a", "a", "", ""},
		{"library/debian:bookworm-slim", "library/debian", "bookworm-slim", ""},
		{"claude-bottle/snapshot:worker-ab12cd", "claude-bottle/snapshot", "worker-ab12cd",
		 ""},
		{"registry.example/a/b/c", "registry.example/a/b/c", "", ""},
		{"registry.example:5000/a", "registry.example:5000/a", "", ""},
		{"registry.example:65535/a:b", "registry.example:65535/a", "b", ""},
		{"localhost/a", "localhost/a", "", ""},
		{"127.0.0.1:5000/a", "127.0.0.1:5000/a", "", ""},
		{"a.b", "a.b", "", ""},
		{"a_b/c__d/e-f/g---h/i.j", "a_b/c__d/e-f/g---h/i.j", "", ""},
		{"a:_X.Y-z", "a", "_X.Y-z", ""},
		{"a@sha256:" HEX64, "a", "", "sha256:" HEX64},
		{"h.example:1/a:t@sha512:" HEX128, "h.example:1/a", "t", "sha512:" HEX128},
		{"a@sha384:" HEX64 HEX32, "a", "", "sha384:" HEX64 HEX32},
		{"sha256:" HEX64, "sha256", HEX64, ""},
		{"h.example/" HEX64, "h.example/" HEX64, "", ""},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct reference r;
		struct err e = ERR_INIT;

		if (reference_parse(str_of(rows[i].text), &r, &e) < 0)
			fail_msg("%s: %s", rows[i].text, e.text);
		assert_true(str_eq(r.name, str_of(rows[i].name)));
		assert_true(str_eq(r.tag, str_of(rows[i].tag)));
		assert_true(str_eq(r.digest, str_of(rows[i].digest)));
	}
}

static void test_refused(void **state)
{
	static const struct {
		const char *text, *why;
	} rows[] = {
		{"", "it is empty"},
		{"-a", "each part of its name"},
		{"--privileged", "each part of its name"},
		{"a/-b", "each part of its name"},
		{"a-", "each part of its name"},
		{"a..b", "each part of its name"},
		{"a___b", "each part of its name"},
		{"a._b", "each part of its name"},
		{".a", "each part of its name"},
		{"A", "each part of its name"},
		{"a/B", "each part of its name"},
		{"a//b", "each part of its name"},
		{"/a", "each part of its name"},
		{"a/", "each part of its name"},
		{"a b", "each part of its name"},
		{"a\nb", "\"a\\nb\" is not"},
		{"a/../b", "each part of its name"},
		{"m\303\274nchen", "each part of its name"},
		{"https://h.example/a", "its registry must be"},
		{"H.example/a", "its registry must be"},
		{"h..example/a", "its registry must be"},
		{"-h.example/a", "its registry must be"},
		{"h-.example/a", "its registry must be"},
		{"h.example:/a", "its registry must be"},
		{"h.example:0/a", "its registry must be"},
		{"h.example:65536/a", "its registry must be"},
		{"h.example:1:2/a", "its registry must be"},
		{"user@h.example/a", "its digest must be"},
		{"[::1]:5000/a", "its registry must be"},
		{"a:", "its tag has"},
		{"a:.b", "its tag has"},
		{"a:-b", "its tag has"},
		{"a:b c", "its tag has"},
		{"a:b:c", "each part of its name"},
		{"a:" HEX128 "0", "its tag has"},
		{"a@", "its digest must be"},
		{"a@sha256:", "its digest must be"},
		{"a@sha256:" HEX32, "its digest must be"},
		{"a@sha256:" HEX64 "0", "its digest must be"},
		{"a@SHA256:" HEX64, "its digest must be"},
		{"a@md5:" HEX32, "its digest must be"},
		{"a@sha256:" HEX32 "ABCDEF0123456789abcdef0123456789", "its digest must be"},
		{"a@sha256:" HEX64 "@sha256:" HEX64, "its digest must be"},
		{"@sha256:" HEX64, "each part of its name"},
		{HEX64, "an image's id"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct reference r;
		struct err e = ERR_INIT;

		if (reference_parse(str_of(rows[i].text), &r, &e) != -EINVAL ||
		    !strstr(e.text, rows[i].why))
			fail_msg("%s: \"%s\"", rows[i].text, e.text);
		assert_int_equal(r.name.n, 0);
	}
	assert_int_equal(reference_parse(str_slice("a\0b", 3), &(struct reference){0}, NULL),
			 -EINVAL);
}

static void test_cap(void **state)
{
	char text[REFERENCE_MAX + 1];
	struct reference r;
	struct err e = ERR_INIT;

	(void)state;
	memset(text, 'a', sizeof(text));
	assert_int_equal(reference_parse(str_slice(text, REFERENCE_MAX), &r, &e), 0);
	assert_int_equal(reference_parse(str_slice(text, REFERENCE_MAX + 1), &r, &e), -EINVAL);
	assert_string_equal(e.text, "an image's reference has at most 255 bytes");
}

static void test_of_a_new_image(void **state)
{
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(reference_check_new(STR_LIT("h.example:1/a:b"), &e), 0);
	assert_int_equal(reference_check_new(STR_LIT("A"), &e), -EINVAL);
	assert_int_equal(reference_check_new(STR_LIT("a@sha256:" HEX64), &e), -EINVAL);
	assert_non_null(strstr(e.text, "no digest yet"));
	assert_int_equal(reference_check_new(STR_LIT("sha256:" HEX64), &e), -EINVAL);
	assert_non_null(strstr(e.text, "not a name"));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_taken),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_cap),
		cmocka_unit_test(test_of_a_new_image),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
