/* The prefilter of the fingerprints against the obvious loop, with and without wide registers. */
#include "scan/scan_int.h"
#include "scan/window.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static uint32_t next_random(void)
{
	static uint64_t x = 88172645463325252u;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return (uint32_t)(x >> 32);
}

/* A buffer of exactly n bytes, so that a sanitizer sees any read past it. */
static uint8_t *text_new(size_t n, unsigned letters)
{
	uint8_t *p = malloc(n ? n : 1);

	assert_non_null(p);
	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)(letters == 256 ? next_random() : 'a' + next_random() % letters);
	return p;
}

static bool is_wanted(const struct scan_window_set *s, const struct scan_window_hash *h,
		      const uint8_t *p)
{
	for (size_t i = 0; i < s->n; i++)
		if (scan_window_hash(h, p) >> 8 == s->sum[i])
			return true;
	return false;
}

static void check_search(const struct scan_window_hash *h, const struct scan_window_set *s,
			 const uint8_t *p, size_t n, bool is_portable)
{
	size_t from = n ? next_random() % (n < 20 ? n : 20) : 0, found;
	struct scan_window_search w = {
		.hash = h, .set = s, .p = p, .n = n, .at = from, .is_portable = is_portable};

	if (!is_portable)
		w = scan_window_begin(h, s, p, n, from);
	else
		scan_window_start(&w);
	for (size_t i = from; i + SCAN_PRINT_WINDOW <= n; i++)
		if (is_wanted(s, h, p + i)) {
			found = scan_window_next(&w);
			assert_int_equal(found, i);
		}
	assert_int_equal(scan_window_next(&w), SIZE_MAX);
	assert_int_equal(scan_window_next(&w), SIZE_MAX);
}

static void test_search(void **state)
{
	static const unsigned letters[] = {1, 2, 26, 256};
	struct scan_window_hash h;
	size_t hits = 0;

	(void)state;
	for (unsigned round = 0; round < 4000; round++) {
		size_t n = next_random() % 260;
		uint8_t *p = text_new(n, letters[round % ARRAY_LEN(letters)]);
		struct scan_window_set s = {.n = 0};

		scan_window_hash_init(&h, (uint64_t)next_random() << 32 | next_random() | 1);
		for (unsigned k = 0; k < round % 12 && n >= SCAN_PRINT_WINDOW; k++)
			scan_window_set_add(
				&s, scan_window_hash(
					    &h, p + next_random() % (n - SCAN_PRINT_WINDOW + 1)));
		hits += s.n;
		check_search(&h, &s, p, n, false);
		check_search(&h, &s, p, n, true);
		free(p);
	}
	assert_true(hits > 1000);
}

/* Few windows of ordinary text may be taken for a wanted one: each costs an HMAC's look. */
static void test_selective(void **state)
{
	const uint8_t secret[] = "sk-live-4f9a";
	struct scan_window_set s = {.n = 0};
	struct scan_window_hash h;
	struct scan_window_search w;
	const size_t n = 1u << 20;
	uint8_t *p = text_new(n, 26);
	size_t hits = 0;

	(void)state;
	scan_window_hash_init(&h, UINT64_C(0xD6E8FEB86659FD93));
	scan_window_set_add(&s, scan_window_hash(&h, secret));
	w = scan_window_begin(&h, &s, p, n, 0);
	while (scan_window_next(&w) != SIZE_MAX)
		hits++;
	assert_true(hits < n / 500);
	free(p);
}

static void test_squeeze(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 2000; round++) {
		size_t n = next_random() % 100, k = 0, got;
		uint8_t *p = text_new(n, 256), *out = malloc(n + SCAN_SQUEEZE_SLACK);

		assert_non_null(out);
		for (size_t i = 0; i < n; i++)
			if (round % 2)
				p[i] = (uint8_t)(' ' + p[i] % 95);
		got = scan_window_squeeze(out, p, n);
		for (size_t i = 0; i < n; i++)
			if (ascii_is_alnum((char)p[i]))
				assert_int_equal(out[k++], p[i]);
		assert_int_equal(got, k);
		free(p);
		free(out);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_search),
		cmocka_unit_test(test_selective),
		cmocka_unit_test(test_squeeze),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
