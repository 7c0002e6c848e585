/* The judgement of the escape suite fails where it must: a suite that cannot fail proves nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "selftest/selftest.h"

#include "base/clean.h"

#include <errno.h>
#include <string.h>

static struct selftest_try tries[16];
static struct selftest_report report;
static size_t n_tries;

static void judge(const char *inside, const char *outside, const char *seen)
{
	struct err e = ERR_INIT;

	n_tries = 0;
	memset(&report, 0, sizeof(report));
	assert_int_equal(
		selftest_parse_tries(str_of(inside), SELFTEST_RUN_AGENT, tries, &n_tries, &e), 0);
	assert_int_equal(
		selftest_parse_tries(str_of(outside), SELFTEST_RUN_CONTROL, tries, &n_tries, &e),
		0);
	selftest_judge(&report, tries, n_tries, str_of(seen));
}

#define INSIDE	"N01\tx\ttokA\tstopped\t10\trefused\nend\n"
#define OUTSIDE "N01\tx\ttokB\tstopped\t10\tsent\nend\n"

static void test_passes(void **state)
{
	(void)state;
	judge(INSIDE, OUTSIDE, "any\ttokB\n");
	assert_int_equal(report.n_probes, 1);
	assert_int_equal(report.probes[0].verdict, SELFTEST_PASSED);
	assert_string_equal(report.probes[0].control, "succeeded");
	assert_int_equal(report.passed, 1);
}

/* The client said "refused"; the canary saw it all the same. */
static void test_canary_outvotes_client(void **state)
{
	(void)state;
	judge(INSIDE, OUTSIDE, "any\ttokA\nany\ttokB\n");
	assert_int_equal(report.probes[0].verdict, SELFTEST_FAILED);
	assert_non_null(strstr(report.probes[0].text, "got through"));
}

static void test_client_alone_is_enough(void **state)
{
	(void)state;
	judge("N01\tx\ttokA\tthrough\t10\tconnected\nend\n", OUTSIDE, "any\ttokB\n");
	assert_int_equal(report.probes[0].verdict, SELFTEST_FAILED);
}

static void test_lost_control_fails(void **state)
{
	(void)state;
	judge(INSIDE, OUTSIDE, "nothing arrived");
	assert_int_equal(report.probes[0].verdict, SELFTEST_FAILED);
	assert_string_not_equal(report.probes[0].control, "succeeded");
}

static void test_missing_runs_fail(void **state)
{
	(void)state;
	judge("end\n", OUTSIDE, "any\ttokB\n");
	assert_int_equal(report.probes[0].verdict, SELFTEST_FAILED);
	judge(INSIDE, "end\n", "any\ttokB\n");
	assert_int_equal(report.probes[0].verdict, SELFTEST_FAILED);
}

static void test_skips_are_never_passes(void **state)
{
	(void)state;
	judge(INSIDE, "N01\tx\t\tskipped\t0\tno such thing here\nend\n", "");
	assert_int_equal(report.probes[0].verdict, SELFTEST_SKIPPED);
	assert_non_null(strstr(report.probes[0].text, "no such thing here"));
	assert_int_equal(report.passed, 0);
	assert_int_equal(report.skipped, 1);
}

/* One try proven, another one skipped: what is left counts. */
static void test_mixed(void **state)
{
	(void)state;
	judge("N01\tx\ttokA\tstopped\t1\tr\nN01\ty\ttokC\tstopped\t1\tr\nend\n",
	      "N01\tx\ttokB\tstopped\t1\tr\nN01\ty\t\tskipped\t0\tno\nend\n", "any\ttokB\n");
	assert_int_equal(report.probes[0].verdict, SELFTEST_PASSED);
	judge("N01\tx\ttokA\tstopped\t1\tr\nN01\ty\ttokC\tstopped\t1\tr\nend\n",
	      "N01\tx\ttokB\tstopped\t1\tr\nN01\ty\ttokD\tstopped\t1\tr\nend\n", "any\ttokB\n");
	assert_int_equal(report.probes[0].verdict, SELFTEST_FAILED);
}

/* What must arrive and does not is as bad as what must not and does: else a scan that refuses all
 * would be the best one. */
static void test_wanted(void **state)
{
	const char *outside = "D01\ttwin\ttokB\twanted\t9\td\nend\n";

	(void)state;
	judge("D01\ttwin\ttokA\twanted\t9000\td\nend\n", outside, "tls\ttokA\ntls\ttokB\n");
	assert_int_equal(report.probes[0].verdict, SELFTEST_PASSED);
	assert_int_equal(report.probes[0].ms, 0); /* no refusal */
	judge("D01\ttwin\ttokA\twanted\t9\td\nend\n", outside, "tls\ttokB\n");
	assert_int_equal(report.probes[0].verdict, SELFTEST_FAILED);
	assert_non_null(strstr(report.probes[0].text, "did not arrive"));
	/* Nor does it arrive outside: then it says nothing about the wall. */
	judge("D01\ttwin\ttokA\twanted\t9\td\nend\n", outside, "tls\ttokA\n");
	assert_int_equal(report.probes[0].verdict, SELFTEST_FAILED);
	assert_string_not_equal(report.probes[0].control, "succeeded");
}

/* The same of what no witness outside can see; and what is said to the human is no try. */
static void test_arrived(void **state)
{
	const char *outside = "H06\tgood\t\tarrived\t9\td\nend\n";

	(void)state;
	judge("human\tapprove 1\nH06\tgood\t\tarrived\t9\td\nend\n", outside, "");
	assert_int_equal(report.probes[0].verdict, SELFTEST_PASSED);
	judge("H06\tgood\t\twanted\t9\td\nend\n", outside, "");
	assert_int_equal(report.probes[0].verdict, SELFTEST_FAILED);
	assert_non_null(strstr(report.probes[0].text, "did not arrive"));
}

/* What is run again under another id has the control of the first time, which may be there for its
 * sake alone. */
static void test_origin(void **state)
{
	(void)state;
	judge(INSIDE, OUTSIDE, "any\ttokB\n");
	memcpy(tries[0].id, "R01", 4);
	memcpy(tries[0].origin, "N01", 4);
	tries[1].is_support = true;
	memset(&report, 0, sizeof(report));
	selftest_judge(&report, tries, n_tries, STR_LIT("any\ttokB\n"));
	assert_int_equal(report.n_probes, 1);
	assert_string_equal(report.probes[0].id, "R01");
	assert_int_equal(report.probes[0].verdict, SELFTEST_PASSED);
	selftest_judge(&report, tries, n_tries, STR_LIT("any\ttokA\nany\ttokB\n"));
	assert_int_equal(report.probes[0].verdict, SELFTEST_FAILED);
	assert_non_null(strstr(report.probes[0].text, "N01 x got through"));
}

/* One that is left out is seen, though others speak for the probe. */
static void test_left_out_is_told(void **state)
{
	_cleanup_(buf_free) struct buf out;

	(void)state;
	judge("N01\tx\ttokA\tstopped\t1\tr\nN01\ty\t\tskipped\t0\tno such device\nend\n", OUTSIDE,
	      "any\ttokB\n");
	assert_int_equal(report.probes[0].verdict, SELFTEST_PASSED);
	assert_int_equal(report.probes[0].n_tries, 2);
	assert_int_equal(report.probes[0].n_left_out, 1);
	buf_init(&out, 65536);
	assert_int_equal(selftest_print_text(&report, &out), 0);
	assert_int_equal(buf_append(&out, "", 1), 0);
	assert_non_null(strstr(out.p, "1 of 2 left out, y: no such device"));
}

/* A probe that asks for more targets goes on after it. */
static void test_question_is_no_try(void **state)
{
	(void)state;
	judge("N01\tx\ttokA\tstopped\t1\tr\nask\nend\n", OUTSIDE, "any\ttokB\n");
	assert_int_equal(report.probes[0].verdict, SELFTEST_PASSED);
	assert_int_equal(n_tries, 2);
}

static void test_too_many_tries_are_refused(void **state)
{
	static struct selftest_try many[SELFTEST_TRIES_MAX];
	size_t n = SELFTEST_TRIES_MAX;
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(selftest_parse_tries(STR_LIT("N01\tx\tt\tstopped\t1\tr\nend\n"),
					      SELFTEST_RUN_AGENT, many, &n, &e),
			 -E2BIG);
	assert_int_equal(n, SELFTEST_TRIES_MAX);
}

static void test_cut_output_is_refused(void **state)
{
	struct err e = ERR_INIT;

	(void)state;
	n_tries = 0;
	assert_int_equal(selftest_parse_tries(STR_LIT("N01\tx\tt\tstopped\t1\tr\n"),
					      SELFTEST_RUN_AGENT, tries, &n_tries, &e),
			 -EPROTO);
	assert_int_equal(selftest_parse_tries(STR_LIT("something else\nend\n"), SELFTEST_RUN_AGENT,
					      tries, &n_tries, &e),
			 -EPROTO);
}

static void test_json(void **state)
{
	_cleanup_(buf_free) struct buf out;

	(void)state;
	judge(INSIDE, OUTSIDE, "any\ttokB\n");
	buf_init(&out, 65536);
	assert_int_equal(selftest_print_json(&report, &out), 0);
	assert_int_equal(buf_append(&out, "", 1), 0);
	assert_non_null(strstr(out.p, "\"passed\":1,\"failed\":0,\"skipped\":0"));
	assert_non_null(strstr(out.p, "\"id\":\"N01\""));
	assert_non_null(strstr(out.p, "\"control\":\"succeeded\""));
	assert_non_null(strstr(out.p, "\"skipped_reason\":null"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_passes),
		cmocka_unit_test(test_canary_outvotes_client),
		cmocka_unit_test(test_client_alone_is_enough),
		cmocka_unit_test(test_lost_control_fails),
		cmocka_unit_test(test_missing_runs_fail),
		cmocka_unit_test(test_skips_are_never_passes),
		cmocka_unit_test(test_mixed),
		cmocka_unit_test(test_wanted),
		cmocka_unit_test(test_arrived),
		cmocka_unit_test(test_origin),
		cmocka_unit_test(test_left_out_is_told),
		cmocka_unit_test(test_question_is_no_try),
		cmocka_unit_test(test_too_many_tries_are_refused),
		cmocka_unit_test(test_cut_output_is_refused),
		cmocka_unit_test(test_json),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
