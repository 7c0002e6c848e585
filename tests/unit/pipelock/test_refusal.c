/* The refusal body: always one valid JSON object with all members, a hint for every reason. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "pipelock/refusal.c"

#include <jansson.h>

static json_t *body_of(const struct refusal *r)
{
	struct buf b;
	json_t *j;

	buf_init(&b, REFUSAL_MAX_BYTES);
	assert_int_equal(refusal_body(&b, r), 0);
	j = json_loadb(buf_str(&b).p, buf_len(&b), JSON_REJECT_DUPLICATES, NULL);
	assert_non_null(j);
	buf_free(&b);
	return j;
}

static void test_members(void **state)
{
	const struct refusal r = {.reason = "secret-in-body",
				  .rule = "aws-access-key",
				  .scanner = "body",
				  .record = {1, 2, 3, 4, 5, 6, 7, 0xff}};
	json_t *j = body_of(&r);

	(void)state;
	assert_true(json_is_true(json_object_get(j, "blocked")));
	assert_string_equal(json_string_value(json_object_get(j, "reason")), "secret-in-body");
	assert_string_equal(json_string_value(json_object_get(j, "rule")), "aws-access-key");
	assert_string_equal(json_string_value(json_object_get(j, "scanner")), "body");
	assert_string_equal(json_string_value(json_object_get(j, "record")), "01020304050607ff");
	assert_true(strlen(json_string_value(json_object_get(j, "hint"))) > 10);
	assert_int_equal(json_object_size(j), 6);
	json_decref(j);
}

static void test_every_reason_fits(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(refusal_texts); i++) {
		struct refusal r = {.reason = refusal_texts[i].reason,
				    .rule = "a-rule-name-that-is-as-long-as-any-may-ever-be",
				    .scanner = "response"};

		json_decref(body_of(&r));
	}
}

static void test_unknown_reason(void **state)
{
	const struct refusal r = {.reason = "obs-fold"};

	(void)state;
	json_decref(body_of(&r));
	assert_int_equal(refusal_status("obs-fold"), 403);
	assert_int_equal(refusal_status("host-mismatch"), 421);
	assert_int_equal(refusal_status("keyd-unavailable"), 503);
}

/* The tool and what it has to be given, as JSON. */
static void assert_ask(const struct refusal *r, const char *want)
{
	json_t *j = body_of(r);
	char *got = json_dumps(json_object_get(j, "ask"), JSON_COMPACT | JSON_SORT_KEYS);

	assert_string_equal(got ? got : "nothing", want);
	free(got);
	json_decref(j);
}

static void test_ask(void **state)
{
	struct refusal r = {.reason = "path-not-allowed", .record = {0xab}};

	(void)state;
	assert_ask(&r, "nothing");
	r.ask = (struct refusal_ask){
		.kind = ASK_EGRESS, .host = STR_LIT("a.example.com"), .port = 443};
	assert_ask(&r, "{\"arguments\":{\"host\":\"a.example.com\",\"ports\":[443]},"
		       "\"tool\":\"request_egress\"}");
	r.ask.method = STR_LIT("POST");
	r.ask.path = STR_LIT("/v1/*");
	assert_ask(&r, "{\"arguments\":{\"host\":\"a.example.com\",\"methods\":[\"POST\"],"
		       "\"paths\":[\"/v1/*\"],\"ports\":[443]},\"tool\":\"request_egress\"}");
	r.ask.kind = ASK_RELEASE;
	assert_ask(&r, "{\"arguments\":{\"record\":\"ab00000000000000\"},"
		       "\"tool\":\"request_release\"}");
}

static void test_tools(void **state)
{
	(void)state;
	assert_int_equal(askable("host-not-allowed"), ASK_EGRESS);
	assert_int_equal(askable("secret-in-body"), ASK_RELEASE);
	assert_int_equal(askable("held-expired"), ASK_RELEASE);
	assert_int_equal(askable("push-needs-approval"), ASK_PUSH);
	assert_int_equal(askable("held-refused"), 0);
	assert_int_equal(askable("canary-leaving"), 0);
	assert_int_equal(askable("ip-literal"), 0);
	assert_int_equal(askable("obs-fold"), 0);
}

/* A path of a request as the pattern that a route would have; NULL: there is none. */
static void test_patterns(void **state)
{
	static const struct {
		const char *path, *pattern;
	} cases[] = {
		{"/", "/"},
		{"/v1/a", "/v1/a"},
		{"/v1/a/", "/v1/a/"},
		{"/v1/%61b", "/v1/ab"},
		{"/v1/a%20b/c", "/v1/*/c"},
		{"/v1/**", "/v1/*"}, /* its own stars are none of a pattern's */
		{"/v1/a*b", "/v1/*"},
		{"/v1/a%2fb", "/v1/*"},
		{"/v1/a%3Fb", "/v1/*"},
		{"/v1/%zz", "/v1/*"},
		{"/v1/%2e%2e/c", "/v1/*/c"},
		{"/v1//c", NULL},
		{"v1", NULL},
		{"", NULL},
		{"/0123456789012345678901234567890", NULL},
	};
	char out[32];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		bool has = refusal_path_pattern(str_of(cases[i].path), out, sizeof(out));

		if (has != (cases[i].pattern != NULL) || (has && strcmp(out, cases[i].pattern)))
			fail_msg("%s: %s", cases[i].path, has ? out : "none");
	}
}

static void test_hostile_text(void **state)
{
	const struct refusal r = {.reason = "x\"},{\n", .rule = "\x1b[2J\xff", .scanner = NULL};
	json_t *j = body_of(&r);

	(void)state;
	assert_string_equal(json_string_value(json_object_get(j, "reason")), "x\"},{\n");
	json_decref(j);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_members),	       cmocka_unit_test(test_every_reason_fits),
		cmocka_unit_test(test_unknown_reason), cmocka_unit_test(test_ask),
		cmocka_unit_test(test_tools),	       cmocka_unit_test(test_patterns),
		cmocka_unit_test(test_hostile_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
