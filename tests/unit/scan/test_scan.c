/* The scan engine: rules, streams, fingerprints, the serialised database. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/mem.h"
#include "scan/scan_int.h"

#include <errno.h>

static struct scan_engine *engine;
static struct buf packed;

struct seen {
	struct scan_finding f[32];
	size_t n;
};

static bool collect(const struct scan_finding *f, void *ctx)
{
	struct seen *s = ctx;

	if (s->n < ARRAY_LEN(s->f))
		s->f[s->n++] = *f;
	return true;
}

static const struct scan_finding *find(const struct seen *s, enum scan_kind kind, const char *rule)
{
	for (size_t i = 0; i < s->n; i++)
		if (s->f[i].kind == kind && strcmp(s->f[i].rule, rule) == 0)
			return &s->f[i];
	return NULL;
}

static int setup(void **state)
{
	struct err e = ERR_INIT;

	(void)state;
	buf_init(&packed, 64u << 20);
	if (scan_compile(&packed, &e) < 0 || scan_engine_new(&engine, buf_str(&packed), &e) < 0)
		fail_msg("%s", e.text);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	scan_engine_free(engine);
	buf_free(&packed);
	return 0;
}

static void test_selftest(void **state)
{
	struct err e = ERR_INIT;

	(void)state;
	if (scan_engine_selftest(engine, &e) < 0 || scan_engine_selftest_full(engine, &e) < 0)
		fail_msg("%s", e.text);
}

static void test_cache_is_verified(void **state)
{
	_cleanup_free_ char *copy = malloc(buf_len(&packed));
	const size_t n = buf_len(&packed);
	const size_t at[] = {0, 9, 20, 60, 116, 130, n / 2, n - 1};
	struct scan_engine *en;
	struct err e = ERR_INIT;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(at); i++) {
		memcpy(copy, buf_str(&packed).p, n);
		copy[at[i]] ^= 1;
		assert_int_equal(scan_engine_new(&en, str_slice(copy, n), &e), -EBADMSG);
		assert_null(en);
	}
	assert_int_equal(scan_engine_new(&en, str_slice(buf_str(&packed).p, n - 1), &e), -EBADMSG);
	assert_int_equal(scan_engine_new(&en, str_slice(buf_str(&packed).p, 10), &e), -EBADMSG);
}

static void test_prints_streamed(void **state)
{
	const struct scan_print_key key = {.multiplier = 0x9E3779B97F4A7C15u | 1,
					   .mac_key = {1, 2}};
	const char secret[] = "correct-Horse_9battery/staple";
	char text[300];
	struct scan_print print;
	struct err e = ERR_INIT;
	int at = 100;

	(void)state;
	assert_int_equal(scan_print_make(&print, &key, SCAN_KIND_SECRET, 7, str_of(secret), &e), 0);
	assert_int_equal(
		scan_print_make(&print, &key, SCAN_KIND_SECRET, 7, STR_LIT("elevenbytes"), &e),
		-ERANGE);
	assert_int_equal(scan_print_make(&print, &key, SCAN_KIND_SECRET, 7, str_of(secret), &e), 0);
	assert_int_equal(scan_engine_set_prints(engine, &key, &print, 1, &e), 0);
	memset(text, 'x', sizeof(text));
	memcpy(text + at, secret, sizeof(secret) - 1);
	for (size_t cut = 0; cut <= sizeof(text); cut++) {
		struct seen s = {.n = 0};
		struct scan_stream *st = scan_stream_open(engine, SCAN_PLACE_BODY, collect, &s);

		assert_int_equal(scan_stream_feed(st, str_slice(text, cut)), 0);
		assert_int_equal(scan_stream_feed(st, str_slice(text + cut, sizeof(text) - cut)),
				 0);
		assert_int_equal(scan_stream_end(st), 0);
		scan_stream_close(st);
		assert_int_equal(s.n, 1);
		assert_int_equal(s.f[0].kind, SCAN_KIND_SECRET);
		assert_int_equal(s.f[0].secret, 7);
		assert_int_equal(s.f[0].from, at);
		assert_int_equal(s.f[0].to, at + (int)sizeof(secret) - 1);
	}
	assert_int_equal(scan_engine_set_prints(engine, NULL, NULL, 0, &e), 0);
}

static void test_text_range(void **state)
{
	struct seen s = {.n = 0};
	struct str text = STR_LIT("key="
				  "AKI"
				  "AIOSFODNN7EXAMPLE&x=1");

	(void)state;
	assert_int_equal(scan_text(engine, SCAN_PLACE_QUERY, text, collect, &s), 0);
	assert_non_null(find(&s, SCAN_KIND_RULE, "aws-access-key"));
	assert_true(s.f[0].from <= 4 && s.f[0].to >= 24);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_selftest),
		cmocka_unit_test(test_cache_is_verified),
		cmocka_unit_test(test_prints_streamed),
		cmocka_unit_test(test_text_range),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
