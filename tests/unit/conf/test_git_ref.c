/* Names of refs and the patterns for them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clean.h"
#include "conf/git_policy.h"

#include <stdio.h>
#include <string.h>

static void test_valid(void **state)
{
	static const char *const good[] = {
		"refs/heads/main",    "refs/heads/a/b/c",   "refs/tags/v1.0",	  "refs/heads/a.b",
		"refs/heads/grün",    "refs/heads/日本",    "refs/heads/a@b",	  "refs/heads/x{y}",
		"refs/heads/lock",    "refs/heads/a.locks", "refs/heads/'\"$(x)", "refs/stash",
		"refs/heads/a#b;c&d", "refs/notes/commits", "refs/heads/%2e%2e",
	};
	static const char *const bad[] = {
		"",
		"main",
		"heads/main",
		"HEAD",
		"refs",
		"refs/",
		"refs//heads",
		"refs/heads/",
		"/refs/heads/a",
		"refs/heads/a//b",
		"refs/heads/.a",
		"refs/heads/a/.b",
		"refs/heads/..",
		"refs/heads/a..b",
		"refs/heads/../tags/a",
		"refs/heads/a.",
		"refs/heads/a./b",
		"refs/heads/a.lock",
		"refs/heads/a.lock/b",
		"refs/heads/a.LOCK",
		"refs/heads/@",
		"refs/heads/a@{1}",
		"refs/heads/-a",
		"refs/heads/-",
		"refs/heads/a/-b",
		"refs/heads/a b",
		"refs/heads/a\tb",
		"refs/heads/a\nb",
		"refs/heads/a\x1b[0m",
		"refs/heads/a\x7f",
		"refs/heads/a~1",
		"refs/heads/a^",
		"refs/heads/a:b",
		"refs/heads/a?",
		"refs/heads/a*",
		"refs/heads/a[b",
		"refs/heads/a\\b",
		"refs/heads/\xff",
		"refs/heads/\xc0\xae",
		"refs/heads/a\xc2\x85",	    /* C1 */
		"refs/heads/a\xc2\xa0",	    /* no-break space */
		"refs/heads/a\u200b",	    /* zero width */
		"refs/heads/a\u202eb",	    /* right to left override */
		"refs/heads/a\u2066b",	    /* isolate */
		"refs/heads/\ufeffa",	    /* byte order mark */
		"refs/heads/a\u2003b",	    /* em space */
		"refs/heads/a\xed\xa0\x80", /* surrogate */
	};
	char longest[GIT_REF_MAX + 2];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		if (!git_ref_is_valid(str_of(good[i])))
			fail_msg("refused: %s", good[i]);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (git_ref_is_valid(str_of(bad[i])))
			fail_msg("taken: %s", bad[i]);
	assert_false(git_ref_is_valid(str_slice("refs/heads/a\0b", 14)));
	memset(longest, 'a', sizeof(longest));
	memcpy(longest, "refs/heads/", 11);
	assert_true(git_ref_is_valid(str_slice(longest, GIT_REF_MAX)));
	assert_false(git_ref_is_valid(str_slice(longest, GIT_REF_MAX + 1)));
}

static void test_pattern_check(void **state)
{
	static const char *const good[] = {"main", "*",	    "**", "fix/*", "fix/**",
					   "a*b",  "*/x/*", "v1", "grün",  "a/b/c"};
	static const struct {
		const char *pattern, *text;
	} bad[] = {
		{"", "empty"},
		{"refs/heads/main", "short name"},
		{"refs/tags/*", "short name"},
		{"!main", "protected"},
		{"**/a", "last segment"},
		{"a**", "last segment"},
		{"a/**b", "last segment"},
		{"***", "last segment"},
		{"/a", "cannot be"},
		{"a/", "cannot be"},
		{"a//b", "cannot be"},
		{"-a", "cannot be"},
		{"a b", "cannot be"},
		{"a..b", "cannot be"},
		{"a?", "cannot be"},
		{"a\x1b", "cannot be"},
		{"a.lock", "cannot be"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		struct err e = ERR_INIT;

		if (git_ref_pattern_check(str_of(good[i]), &e) < 0)
			fail_msg("%s: %s", good[i], e.text);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct err e = ERR_INIT;

		if (git_ref_pattern_check(str_of(bad[i].pattern), &e) == 0)
			fail_msg("taken: %s", bad[i].pattern);
		if (!strstr(e.text, bad[i].text))
			fail_msg("%s: \"%s\" does not say \"%s\"", bad[i].pattern, e.text,
				 bad[i].text);
	}
}

static void test_match(void **state)
{
	static const struct {
		const char *pattern, *name;
		bool is_match;
	} rows[] = {
		{"main", "main", true},	      {"main", "Main", false},
		{"main", "main2", false},     {"main", "mai", false},
		{"main", "a/main", false},    {"main", "main/a", false},
		{"*", "main", true},	      {"*", "a/b", false},
		{"**", "main", true},	      {"**", "a/b/c", true},
		{"fix/*", "fix/a", true},     {"fix/*", "fix", false},
		{"fix/*", "fix/a/b", false},  {"fix/**", "fix", false},
		{"fix/**", "fix/a", true},    {"fix/**", "fix/a/b", true},
		{"fix/**", "fixes/a", false}, {"*/x", "a/x", true},
		{"*/x", "x", false},	      {"a*b", "ab", true},
		{"a*b", "axxb", true},	      {"a*b", "axxbc", false},
		{"a*b*c", "a-b-b-c", true},   {"*.*", "v1.0", true},
		{"*.*", "v1", false},	      {"a%62", "ab", false},
		{"main", "", false},	      {"**", "", false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char *patterns[] = {(char *)(uintptr_t) "no/such",
				    (char *)(uintptr_t)rows[i].pattern};

		if (git_ref_matches(str_of(rows[i].name), patterns, 2) != rows[i].is_match)
			fail_msg("%s against %s", rows[i].name, rows[i].pattern);
		assert_false(git_ref_matches(str_of(rows[i].name), patterns, 1));
	}
	assert_false(git_ref_matches(STR_LIT("main"), NULL, 0));
}

/* Stars that could be tried in very many ways cost no more than others. */
static void test_match_is_fast(void **state)
{
	char name[200], pattern[100];
	char *patterns[] = {pattern};

	(void)state;
	memset(name, 'a', sizeof(name));
	for (size_t i = 0; i + 1 < sizeof(pattern); i += 2)
		memcpy(pattern + i, "*a", 2);
	pattern[97] = 'b';
	pattern[98] = '\0';
	assert_false(git_ref_matches(str_slice(name, sizeof(name)), patterns, 1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_valid),
		cmocka_unit_test(test_pattern_check),
		cmocka_unit_test(test_match),
		cmocka_unit_test(test_match_is_fast),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
