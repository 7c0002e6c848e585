/* The scrubber against a plain oracle: every form, every cut, overlaps, and no stalling. */
#include "egress/scrub.h"

#include "base/clean.h"
#include "base/timeutil.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define SECRET "sk-live/ab+c\"&9Zq7_x"

static struct scrub_set *set_of(const char *const *secrets, size_t n)
{
	struct scrub_set *s;
	struct err e = ERR_INIT;

	assert_int_equal(scrub_set_new(&s, 4u << 20, &e), 0);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(scrub_set_add(s, str_of(secrets[i]), &e), 0);
	return s;
}

/* Feeds text cut at `cut` (and again at `cut2`), returns all that came out. */
static struct buf run(const struct scrub_set *s, struct str text, size_t cut, size_t cut2)
{
	struct scrub_stream st = {0};
	struct buf out;
	size_t from[4] = {0, cut, cut2 < cut ? cut : cut2, text.n};

	buf_init(&out, 16u << 20);
	for (int i = 0; i < 3; i++) {
		struct str piece = str_sub(text, from[i], from[i + 1]);
		int ret = scrub_feed(s, &st, piece, i == 2, &out);

		assert_true(ret == SCRUB_CLEAN || ret == SCRUB_CHANGED);
		if (ret == SCRUB_CLEAN)
			assert_int_equal(buf_append_str(&out, piece), 0);
	}
	assert_int_equal(buf_len(&st.held), 0);
	scrub_stream_close(&st);
	return out;
}

/* text holds `hidden` at `at`: it comes out masked, and all else as it was, whatever the cuts. */
static void assert_masked(const struct scrub_set *s, struct str text, size_t at, size_t n)
{
	for (size_t cut = 0; cut <= text.n; cut++) {
		struct buf out = run(s, text, cut, cut + cut % 7);
		struct str got = buf_str(&out);

		assert_int_equal(got.n, text.n);
		assert_memory_equal(got.p, text.p, at);
		for (size_t i = at; i < at + n; i++) {
			if (got.p[i] != '*')
				fail_msg("cut %zu: " STR_FMT, cut, STR_ARG(got));
		}
		assert_memory_equal(got.p + at + n, text.p + at + n, text.n - at - n);
		buf_free(&out);
	}
	assert_true(scrub_find(s, text));
}

static void test_forms(void **state)
{
	static const char *const forms[] = {
		SECRET,
		"736b2d6c6976652f61622b632226395a71375f78",
		"736B2D6C6976652F61622B632226395A71375F78",
		"sk-live%2Fab%2Bc%22%269Zq7_x",
		"sk-live%2fab%2bc%22%269Zq7_x",
		"sk-live/ab+c\\\"&9Zq7_x",
		"sk-live\\/ab+c\\\"\\u00269Zq7_x",
		"sk-live/ab+c&quot;&amp;9Zq7_x",
		"%73%6B%2D%6C%69%76%65%2F%61%62%2B%63%22%26%39%5A%71%37%5F%78",
		"\\u0073\\u006b\\u002d\\u006c\\u0069\\u0076\\u0065\\u002f\\u0061\\u0062\\u002b\\u00"
		"63"
		"\\u0022\\u0026\\u0039\\u005a\\u0071\\u0037\\u005f\\u0078",
	};
	struct scrub_set *s = set_of((const char *[]){SECRET}, 1);

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
		char text[512];
		int n = snprintf(text, sizeof(text), "{\"echo\": \"%s\"} and sk-li more", forms[i]);

		assert_masked(s, str_slice(text, (size_t)n), 10, strlen(forms[i]));
	}
	scrub_set_free(s);
}

/* OpenSSL's encoder on the secret within other text, at each alignment; both alphabets. */
static void test_base64(void **state)
{
	struct scrub_set *s = set_of((const char *[]){SECRET}, 1);

	(void)state;
	for (size_t before = 0; before < 9; before++) {
		for (int is_url = 0; is_url < 2; is_url++) {
			char plain[128], coded[256];
			struct buf out;
			size_t masked = 0, n;

			n = (size_t)snprintf(plain, sizeof(plain), "%.*s%stail", (int)before,
					     "userid012:", SECRET);
			n = (size_t)EVP_EncodeBlock((unsigned char *)coded, (unsigned char *)plain,
						    (int)n);
			for (size_t i = 0; is_url && i < n; i++)
				coded[i] = coded[i] == '+' ? '-' : coded[i] == '/' ? '_' : coded[i];
			out = run(s, str_slice(coded, n), n / 3, n / 2);
			for (size_t i = 0; i < n; i++)
				masked += out.p[i] == '*';
			/* All digits but those that share bits with a neighbour. */
			assert_true(masked >= strlen(SECRET) * 8 / 6 - 2);
			buf_free(&out);
		}
	}
	scrub_set_free(s);
}

/* A prefix of one secret is another; two overlap in the text. */
static void test_overlap(void **state)
{
	struct scrub_set *s = set_of(
		(const char *[]){"abcdefghijkl", "abcdefghijklmnopqrst", "stuvwxyzABCDEF"}, 3);

	(void)state;
	assert_masked(s, STR_LIT("x abcdefghijklm-"), 2, 12);
	assert_masked(s, STR_LIT("x abcdefghijklmnopqrst-"), 2, 20);
	assert_masked(s, STR_LIT("x abcdefghijklmnopqrstuvwxyzABCDEF-"), 2, 32);
	assert_masked(s, STR_LIT("abcdefghijklabcdefghijkl"), 0, 24);
	scrub_set_free(s);
}

static void test_periodic(void **state)
{
	struct scrub_set *s = set_of((const char *[]){"aaaaaaaaaaaaaaaa"}, 1);

	(void)state;
	assert_masked(s, STR_LIT("baaaaaaaaaaaaaaaab"), 1, 16);
	assert_masked(s, STR_LIT("baaaaaaaaaaaaaaaaaaaaaab"), 1, 22);
	scrub_set_free(s);
}

/* What is held back is the beginning of a form and nothing else. */
static void test_holds_only_beginnings(void **state)
{
	struct scrub_set *s = set_of((const char *[]){SECRET}, 1);
	struct scrub_stream st = {0};
	struct buf out;

	(void)state;
	buf_init(&out, 4096);
	assert_int_equal(scrub_feed(s, &st, STR_LIT("data: {\"text\":\"hello\"}\n\n"), false, &out),
			 SCRUB_CLEAN);
	assert_int_equal(scrub_feed(s, &st, STR_LIT("data: sk-li"), false, &out), SCRUB_CHANGED);
	assert_int_equal(buf_len(&out), 6);
	assert_int_equal(buf_len(&st.held), 5);
	assert_int_equal(scrub_feed(s, &st, STR_LIT("ght\n\n"), false, &out), SCRUB_CHANGED);
	assert_true(str_eq(buf_str(&out), STR_LIT("data: sk-light\n\n")));
	assert_int_equal(scrub_feed(s, &st, STR_LIT("more"), false, &out), SCRUB_CLEAN);
	assert_int_equal(scrub_feed(s, &st, STR_LIT("sk-live/ab+c\"&9Zq"), false, &out),
			 SCRUB_CHANGED);
	buf_reset(&out);
	assert_int_equal(scrub_feed(s, &st, STR_LIT("7_x"), true, &out), SCRUB_CHANGED);
	assert_true(str_eq(buf_str(&out), STR_LIT("********************")));
	assert_int_equal(st.n_masked, 1);
	scrub_stream_close(&st);
	buf_free(&out);
	scrub_set_free(s);
}

static unsigned seed = 12345;

static unsigned next_random(unsigned below)
{
	seed = seed * 1103515245u + 12345u;
	return (seed >> 8) % below;
}

/* Random texts over a small alphabet against the simplest possible search. */
static void test_oracle(void **state)
{
	static const char *const secrets[] = {"abababababab", "babcabcabcabcab", "ccccccccccccca"};
	struct scrub_set *s = set_of(secrets, 3);

	(void)state;
	for (unsigned round = 0; round < 3000; round++) {
		char text[160], want[160];
		size_t n = 0, target = 20 + next_random(100);
		struct buf out;

		while (n < target) {
			const char *w = secrets[next_random(3)];
			size_t take = 1 + next_random((unsigned)strlen(w));

			take = take > target - n ? target - n : take;
			memcpy(text + n, w, take);
			n += take;
		}
		memcpy(want, text, n);
		for (size_t i = 0; i < n; i++) {
			for (size_t k = 0; k < 3; k++) {
				size_t len = strlen(secrets[k]);

				if (i + len <= n && memcmp(text + i, secrets[k], len) == 0)
					memset(want + i, '*', len);
			}
		}
		out = run(s, str_slice(text, n), next_random((unsigned)n + 1),
			  next_random((unsigned)n + 1));
		assert_int_equal(buf_len(&out), n);
		assert_memory_equal(out.p, want, n);
		buf_free(&out);
		scrub_mask(s, text, n);
		assert_memory_equal(text, want, n);
	}
	scrub_set_free(s);
}

static void test_caps(void **state)
{
	struct scrub_set *s;
	struct err e = ERR_INIT;
	struct scrub_stream st = {0};
	struct buf out;
	char long_one[SCRUB_SECRET_MAX + 1];

	(void)state;
	memset(long_one, '"', sizeof(long_one));
	assert_int_equal(scrub_set_new(&s, 60000, &e), 0);
	buf_init(&out, 8);
	assert_int_equal(scrub_feed(s, &st, STR_LIT("anything"), false, &out), SCRUB_CLEAN);
	assert_int_equal(scrub_set_add(s, STR_LIT("shortsecret"), &e), -ERANGE);
	assert_int_equal(scrub_set_add(s, str_slice(long_one, sizeof(long_one)), &e), -ERANGE);
	assert_int_equal(scrub_set_add(s, str_slice(long_one, SCRUB_SECRET_MAX), &e), 0);
	memset(long_one, '<', sizeof(long_one));
	assert_int_equal(scrub_set_add(s, str_slice(long_one, SCRUB_SECRET_MAX), &e), -ENOSPC);
	/* A failed addition leaves what was there. */
	memset(long_one, '"', sizeof(long_one));
	assert_true(scrub_find(s, str_slice(long_one, SCRUB_SECRET_MAX)));
	/* An output without room breaks the stream instead of losing bytes. */
	assert_int_equal(scrub_feed(s, &st, str_slice(long_one, SCRUB_SECRET_MAX), true, &out),
			 -ENOBUFS);
	scrub_stream_close(&st);
	buf_free(&out);
	scrub_set_free(s);
}

/* Not a pass or fail on time: prints what clean text costs. */
static void test_rate(void **state)
{
	static const char *const secrets[] = {"sk-ant-REDACTED",
					      "ghp_0123456789abcdefABCDEF0123456789abcd"};
	struct scrub_set *s = set_of(secrets, 2);
	size_t n = 8u << 20;
	_cleanup_free_ char *text = malloc(n);
	struct scrub_stream st = {0};
	struct buf out;
	uint64_t start_ns;

	(void)state;
	assert_non_null(text);
	for (size_t i = 0; i < n; i++)
		text[i] = "{\"type\":\"text\",\"delta\":\"Lorem ipsum dolor sit amet\"}\n"[i % 53];
	buf_init(&out, 16u << 20);
	start_ns = time_monotonic_ns();
	for (size_t i = 0; i < n; i += 65536)
		assert_true(scrub_feed(s, &st, str_slice(text + i, 65536), false, &out) >= 0);
	print_message("clean text: %.2f GB/s\n",
		      (double)n / (double)(time_monotonic_ns() - start_ns));
	for (size_t i = 0; i < n; i++)
		text[i] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
			[next_random(64)];
	start_ns = time_monotonic_ns();
	for (size_t i = 0; i < n; i += 65536)
		assert_true(scrub_feed(s, &st, str_slice(text + i, 65536), false, &out) >= 0);
	print_message("base64 digits: %.2f GB/s\n",
		      (double)n / (double)(time_monotonic_ns() - start_ns));
	scrub_stream_close(&st);
	buf_free(&out);
	scrub_set_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_forms),
		cmocka_unit_test(test_base64),
		cmocka_unit_test(test_overlap),
		cmocka_unit_test(test_periodic),
		cmocka_unit_test(test_holds_only_beginnings),
		cmocka_unit_test(test_oracle),
		cmocka_unit_test(test_caps),
		cmocka_unit_test(test_rate),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
