/* What counts as shown raw, as unflagged, as a flood: H's judgement fails where it must. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "selftest/look.h"

#include "base/clean.h"

#include <stdio.h>

static bool is_raw(const char *text)
{
	return look_is_raw(str_of(text), STR_LIT("TOKEN"));
}

static void test_raw(void **state)
{
	static const char *const raw[] = {
		"\x1b[2J\x1b[31mTOKEN",
		"reason \x1b]52;c;Y2J0\x07TOKEN",
		"\x1b]8;;https://other.selftest.example\x1b\\TOKEN",
		"\xc2\x9b;31mTOKEN",
		"\xe2\x80\xaeTOKEN",
		"\xe2\x81\xa6TOKEN",
		"\xe2\x80\x8bTOKEN",
		"\xef\xbb\xbfTOKEN",
		"\xf3\xa0\x81\x81TOKEN",
		"\xe2\x80\xa8TOKEN",
		"said\nTOKEN",
		"said\rTOKEN",
		"said\tTOKEN",
		"\b\b\bTOKEN",
		"\x7fTOKEN",
		"TOKEN and then \x1b[3A\x1b[KTOKEN",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(raw); i++)
		if (!is_raw(raw[i]))
			fail_msg("%zu is not taken for raw", i);
}

static void test_visible(void **state)
{
	static const char *const visible[] = {
		"",
		"another",
		"TOKEN",
		"reason    \\x1b[2J\\x1b[31mTOKEN",
		"said\\nTOKEN",
		"\\u{202e}TOKEN",
		"\xc3\xa9t\xc3\xa9 TOKEN",
		/* Of the line before, or behind it. */
		"a\tb\nc TOKEN \x1b[2J",
		"\x1b[2J                                TOKEN",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(visible); i++)
		if (is_raw(visible[i]))
			fail_msg("%zu is taken for raw", i);
}

static void test_long(void **state)
{
	char text[4000];

	(void)state;
	memset(text, 'a', sizeof(text));
	(void)snprintf(text + 3000, 8, "TOKEN");
	assert_true(is_raw(text));
	text[2500] = ' ';
	assert_false(is_raw(text));
}

/* --- judging --- */

static struct faces faces;
static char said[4096];

static bool judge(const char *id, const char *label, enum selftest_run run, bool is_wanted)
{
	struct selftest_try t = {.run = run, .is_wanted = is_wanted, .token = "TOKEN"};
	struct buf out = BUF_INIT(sizeof(said));

	(void)snprintf(t.id, sizeof(t.id), "%s", id);
	(void)snprintf(t.label, sizeof(t.label), "%s", label);
	assert_int_equal(look_judge(&faces, &t, 1, &out), 0);
	(void)snprintf(said, sizeof(said), STR_FMT, STR_ARG(buf_str(&out)));
	buf_free(&out);
	return strcmp(said, "TOKEN\n") == 0;
}

static int begin(void **state)
{
	(void)state;
	look_init(&faces);
	return 0;
}

static int end(void **state)
{
	(void)state;
	look_free(&faces);
	return 0;
}

/* JSON is looked at as whoever parses it would get it. */
static void test_json_is_unescaped(void **state)
{
	(void)state;
	look_add_json(&faces, LOOK_JSON, STR_LIT("[{\"reason\":\"\\\\x1bTOKEN\"}]"), false);
	assert_false(judge("H01", "x", SELFTEST_RUN_AGENT, false));
	look_add_json(&faces, LOOK_LOGS_JSON, STR_LIT("{\"a\":1}\n{\"path\":\"\\u001bTOKEN\"}\n"),
		      true);
	assert_true(judge("H01", "x", SELFTEST_RUN_AGENT, false));
	assert_int_equal(faces.n_broken, 0);
	look_add_json(&faces, LOOK_LOGS_JSON, STR_LIT("{\"path\":\"\nTOKEN\"}"), false);
	assert_int_equal(faces.n_broken, 1);
}

/* What one run was shown says nothing of the other. */
static void test_runs_apart(void **state)
{
	(void)state;
	look_add(&faces, LOOK_NAIVE, STR_LIT("\x1bTOKEN"));
	assert_true(judge("H08", "x", SELFTEST_RUN_CONTROL, false));
	assert_false(judge("H08", "x", SELFTEST_RUN_AGENT, false));
	look_add(&faces, LOOK_PAGE, STR_LIT("\x1bTOKEN"));
	assert_true(judge("H08", "x", SELFTEST_RUN_ROOT, false));
}

/* A face that shows nothing would hide everything. */
static void test_twin_in_every_face(void **state)
{
	(void)state;
	look_add(&faces, LOOK_SHOW, STR_LIT("reason TOKEN"));
	look_add(&faces, LOOK_JSON, STR_LIT("TOKEN"));
	assert_false(judge("H01", "twin", SELFTEST_RUN_AGENT, true));
	look_add(&faces, LOOK_PAGE, STR_LIT("TOKEN"));
	assert_true(judge("H01", "twin", SELFTEST_RUN_AGENT, true));
	assert_false(judge("H08", "twin", SELFTEST_RUN_AGENT, true));
}

/* In the store numbers stand before a text: only what was told is looked for there. */
static void test_store(void **state)
{
	(void)state;
	look_add(&faces, LOOK_STORE, STR_LIT("\x01\x02 What the agent has to say: TOKEN"));
	assert_false(judge("H01", "told-ansi", SELFTEST_RUN_AGENT, false));
	assert_true(judge("H01", "told-twin", SELFTEST_RUN_AGENT, true));
	look_add(&faces, LOOK_STORE, STR_LIT("What the agent has to say: \x1b[2JTOKEN"));
	assert_false(judge("H01", "reason-ansi", SELFTEST_RUN_AGENT, false));
	assert_true(judge("H01", "told-ansi", SELFTEST_RUN_AGENT, false));
}

static void ask(const char *state, const char *host, const char *rule)
{
	char json[512];

	(void)snprintf(json, sizeof(json),
		       "[{\"state\":\"%s\",\"change\":{\"host\":\"%s\"},\"findings\":[%s%s%s],"
		       "\"reason\":\"Because of TOKEN\"}]",
		       state, host, rule ? "{\"rule\":\"" : "", rule ? rule : "",
		       rule ? "\"}" : "");
	buf_reset(&faces.requests);
	look_add_requests(&faces, str_of(json));
}

static bool is_through(const char *id)
{
	return judge(id, "x", SELFTEST_RUN_AGENT, false);
}

static void test_unflagged(void **state)
{
	(void)state;
	ask("never", "localhost", NULL);
	assert_false(is_through("H05"));
	ask("pending", "localhost", NULL);
	assert_true(is_through("H05"));
	ask("pending", "localhost", "writes");
	assert_true(is_through("H05"));
	ask("pending", "paste.example", "upload-host");
	assert_false(is_through("H05"));
	ask("granted", "localhost", NULL);
	assert_true(is_through("H05"));
}

static void test_alike(void **state)
{
	(void)state;
	ask("pending", "xn--80ak6aa92e.com", "punycode");
	assert_false(is_through("H10"));
	ask("pending", "rnicrosoft.com", "look-alike");
	assert_false(is_through("H10"));
	/* Another warning is not the one that it needs; and letters are not shown as they are. */
	ask("pending", "rnicrosoft.com", "upload-host");
	assert_true(is_through("H10"));
	ask("pending",
	    "api.anthrop\xc3\xad"
	    "c.com",
	    "punycode");
	assert_true(is_through("H10"));
}

static void add_lines(enum look_face face, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		look_add(&faces, face, STR_LIT("slug 1 pending TOKEN\n"));
}

static void test_flood(void **state)
{
	(void)state;
	assert_true(judge("H04", "same", SELFTEST_RUN_AGENT, false)); /* not even one */
	assert_false(judge("H04", "different", SELFTEST_RUN_AGENT, false));
	add_lines(LOOK_LIST, 1);
	assert_false(judge("H04", "same", SELFTEST_RUN_AGENT, false));
	add_lines(LOOK_LIST, 63);
	assert_true(judge("H04", "same", SELFTEST_RUN_AGENT, false));
	assert_false(judge("H04", "different", SELFTEST_RUN_AGENT, false));
	add_lines(LOOK_LIST, 1);
	assert_true(judge("H04", "different", SELFTEST_RUN_AGENT, false));
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_raw),
		cmocka_unit_test(test_visible),
		cmocka_unit_test(test_long),
		TEST(test_json_is_unescaped),
		TEST(test_runs_apart),
		TEST(test_twin_in_every_face),
		TEST(test_store),
		TEST(test_unflagged),
		TEST(test_alike),
		TEST(test_flood),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
