/* Frames of a byte stream: exact bytes, any cut, and what a hostile peer may announce. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "guest/machine.h"

#include <errno.h>
#include <stdio.h>

#define MAX 70000

static struct frames f;

static int set_up(void **state)
{
	(void)state;
	return frames_init(&f, MAX, NULL);
}

static int tear_down(void **state)
{
	(void)state;
	frames_free(&f);
	return 0;
}

static void test_head(void **state)
{
	unsigned char head[MACHINE_HEAD];

	(void)state;
	frames_head(head, 'o', 0x010203);
	assert_memory_equal(head, "o\1\2\3", MACHINE_HEAD);
}

/* Feeds in pieces of at most step; what comes out is written down as letter, length, a comma. */
static void feed(const char *data, size_t n, size_t step, char *out, size_t size)
{
	struct str rest = str_slice(data, n);
	size_t used_out = 0;

	out[0] = '\0';
	while (rest.n > 0) {
		struct str payload;
		size_t used;
		char letter;
		int ret = frames_feed(&f, str_sub(rest, 0, step), &used, &letter, &payload, NULL);

		assert_in_range(ret, 0, 1);
		assert_true(used > 0);
		if (ret == 1)
			used_out += (size_t)snprintf(out + used_out, size - used_out, "%c%zu%.3s,",
						     letter, payload.n,
						     payload.n == 3 ? payload.p : "");
		rest = str_sub(rest, used, rest.n);
	}
}

static void test_cuts(void **state)
{
	static const char stream[] = "i\0\0\3abci\0\0\0x\0\0\4\0\0\0\7o\0\0\3xyz";
	char got[64];

	(void)state;
	for (size_t step = 1; step < sizeof(stream); step++) {
		feed(stream, sizeof(stream) - 1, step, got, sizeof(got));
		assert_string_equal(got, "i3abc,i0,x4,o3xyz,");
	}
}

static void test_large(void **state)
{
	static char frame[MACHINE_HEAD + MAX];
	char got[32];

	(void)state;
	frames_head((unsigned char *)frame, 'i', MAX);
	feed(frame, sizeof(frame), 1000, got, sizeof(got));
	assert_string_equal(got, "i70000,");
}

/* A head is a promise; memory is given for what has come. */
static void test_announced(void **state)
{
	struct str payload;
	size_t used;
	char letter;

	(void)state;
	assert_int_equal(frames_feed(&f, STR_LIT("i\1\x11\x70xy"), &used, &letter, &payload, NULL),
			 0);
	assert_int_equal(used, 6);
	assert_true(f.cap < 8192);
}

static void test_too_long(void **state)
{
	struct err e = ERR_INIT;
	struct str payload;
	size_t used;
	char letter;

	(void)state;
	/* MAX + 1, and it stays refused. */
	for (int i = 0; i < 2; i++) {
		assert_int_equal(
			frames_feed(&f, STR_LIT("i\1\x11\x71xy"), &used, &letter, &payload, &e),
			-EPROTO);
		assert_string_equal(e.text, "a frame that is longer than its port allows");
		assert_int_equal(letter, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_head),
		cmocka_unit_test_setup_teardown(test_cuts, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_large, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_announced, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_too_long, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
