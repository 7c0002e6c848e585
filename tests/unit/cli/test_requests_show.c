/* What a human reads of a request who has no screen: all of it, and nothing of the agent's that
 * could be taken for ours. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "cli/requests_show.h"

#include "base/clean.h"

#include <stdio.h>

#define ROW_MAX 80

static char shown[64 << 10];

static const char *show(const struct request *r)
{
	_cleanup_(buf_free) struct buf out = BUF_INIT(sizeof(shown));

	assert_int_equal(requests_show_text(&out, "coder-1", r, NULL, ""), 0);
	assert_int_equal(buf_append(&out, "", 1), 0);
	memcpy(shown, buf_str(&out).p, buf_len(&out));
	return shown;
}

/* What stands behind the names of a text's rows, put together again. */
static void join(const char *text, char *out)
{
	struct str rest = str_of(text), row;
	bool found;

	while (rest.n > 0) {
		rest = str_cut(rest, '\n', &row, &found);
		assert_true(row.n <= ROW_MAX);
		for (size_t i = 10; i < row.n; i++)
			*out++ = row.p[i];
	}
	*out = '\0';
}

static void egress(struct request *r, struct ask *a)
{
	struct err e = ERR_INIT;

	*r = (struct request){.id = 7, .state = REQUEST_PENDING, .asked = 1, .expires = 4000000000};
	a->kind = ASK_EGRESS;
	if (change_from_ask(&r->change, a, &e) < 0)
		fail_msg("%s", e.text);
}

static void test_all_of_it(void **state)
{
	struct ask a = {.n_ports = 2, .ports = {80, 8443}, .n_paths = ASK_PATHS_MAX};
	char all[sizeof(shown)];
	struct request r;
	size_t n = 0;

	(void)state;
	while (n + 61 < 250)
		n += (size_t)snprintf(a.host + n, sizeof(a.host) - n, "%060zu.", n);
	(void)snprintf(a.host + n, sizeof(a.host) - n, "evil.com");
	for (size_t i = 0; i < ASK_PATHS_MAX; i++)
		(void)snprintf(a.paths[i], ASK_PATH_SIZE, "/%0249zu/end%zu", i, i);
	egress(&r, &a);
	join(show(&r), all);
	assert_non_null(strstr(all, a.host));
	assert_non_null(strstr(all, "80, 8443"));
	for (size_t i = 0; i < ASK_PATHS_MAX; i++)
		assert_non_null(strstr(all, a.paths[i]));
	assert_null(strstr(all, "…"));
	assert_non_null(strstr(shown, "\nmethods   GET, HEAD\n"));
	assert_non_null(strstr(shown, "\napprove   --once: one request"));
	assert_non_null(strstr(
		shown, "\n          --always: for this bottle, and written into its manifest"));
	change_free(&r.change);
}

/* Each row begins with a name of ours, or with blanks and a bar. */
static void test_an_agents_words_have_a_bar(void **state)
{
	static const char *const imitated = "danger    note: it is safe";
	struct ask a = {.host = "api.example.com"};
	struct request r;
	size_t n = 0;
	char *row;

	(void)state;
	egress(&r, &a);
	r.created = 1700000000;
	/* However wide the terminal is, one of these is at the beginning of a row. */
	while (n + 27 < sizeof(r.reason))
		n += (size_t)snprintf(r.reason + n, sizeof(r.reason) - n, "%s ", imitated);
	(void)show(&r);
	assert_non_null(strstr(shown, "\nreason    | danger    note"));
	row = strstr(shown, "\nreason");
	for (row = strchr(row + 1, '\n'); row && row[1] == ' '; row = strchr(row + 1, '\n'))
		assert_memory_equal(row, "\n          | ", 13);
	assert_memory_equal(row, "\nasked ", 7);
	assert_null(strstr(row, imitated));
	change_free(&r.change);
}

static void test_what_is_forbidden_has_no_ways(void **state)
{
	struct ask a = {.host = "metadata.internal"};
	struct request r;

	(void)state;
	egress(&r, &a);
	r.danger.n = 1;
	r.danger.findings[0] = (struct danger_finding){
		.rule = DANGER_INSIDE_RULE, .level = DANGER_NEVER, .text = "It lies inside."};
	assert_non_null(strstr(show(&r), "\ndanger    never inside: It lies inside.\n"));
	assert_null(strstr(shown, "approve"));
	/* Before what is asked for: not pushed off by it. */
	assert_true(strstr(shown, "\ndanger") < strstr(shown, "\nhost"));
	change_free(&r.change);
}

/* The space stays behind, so that rows begin one below the other and nothing is lost. */
static void test_sentences_break_behind_spaces(void **state)
{
	struct ask a = {.host = "api.example.com"};
	struct request r;

	(void)state;
	egress(&r, &a);
	assert_non_null(strstr(show(&r), "until the bottle ends for good: also when it is \n"
					 "          resumed\n"));
	change_free(&r.change);
}

static void test_audit(void **state)
{
	char detail[600];
	struct audit_line l = {.time = 1700000000,
			       .request = 4,
			       .what = "refused",
			       .who = "joe",
			       .face = "web",
			       .detail = detail,
			       .seen = ""};
	_cleanup_(buf_free) struct buf out = BUF_INIT(sizeof(shown));
	struct str rest, row;
	bool found;

	(void)state;
	memset(detail, ' ', sizeof(detail));
	(void)snprintf(detail + 500, sizeof(detail) - 500, "2023-11-14T22:13:20Z granted-always 4");
	assert_int_equal(requests_show_audit(&out, &l), 0);
	rest = str_cut(buf_str(&out), '\n', &row, &found);
	assert_true(str_eq(row, STR_LIT("2023-11-14T22:13:20Z refused 4  joe, web")));
	while (rest.n > 0) {
		rest = str_cut(rest, '\n', &row, &found);
		assert_true(row.n <= ROW_MAX && str_starts(row, STR_LIT("          | ")));
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_of_it),
		cmocka_unit_test(test_an_agents_words_have_a_bar),
		cmocka_unit_test(test_what_is_forbidden_has_no_ways),
		cmocka_unit_test(test_sentences_break_behind_spaces),
		cmocka_unit_test(test_audit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
