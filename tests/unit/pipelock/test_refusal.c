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
		cmocka_unit_test(test_members),
		cmocka_unit_test(test_every_reason_fits),
		cmocka_unit_test(test_unknown_reason),
		cmocka_unit_test(test_hostile_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
