/* What the D group writes is what it says: an encoding that nobody could read hides nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "probe/dlp.h"
#include "probe/probe.h"

#include "base/clean.h"

#include <errno.h>
#include <string.h>
#include <zlib.h>

static void expect(char *owned, const char *wanted)
{
	_cleanup_free_ char *text = owned;

	assert_string_equal(text, wanted);
}

static void test_texts(void **state)
{
	(void)state;
	expect(dlp_base64("hello w"), "aGVsbG8gdw");
	expect(dlp_base32("hello"), "NBSWY3DP");
	expect(dlp_base32("hi"), "NBUQ");
	expect(dlp_hex("az", ""), "617a");
	expect(dlp_hex("az", ":"), "61:7a");
	expect(dlp_percent("a/"), "%61%2F");
	expect(dlp_times(dlp_base64, 2, "hello"), "YUdWc2JHOA");
	expect(dlp_mix_in("ab", "-"), "a-b-");
	expect(dlp_lookalike("b1a"), "b1\xd0\xb0");
	expect(dlp_toggle_case("aB1"), "Ab1");
}

static void test_gzip(void **state)
{
	_cleanup_(buf_free) struct buf out;
	char text[64] = "";
	z_stream z = {0};

	(void)state;
	buf_init(&out, 4096 + 4096);
	assert_int_equal(dlp_gzip(&out, STR_LIT("a secret")), 0);
	assert_int_equal(inflateInit2(&z, 15 + 16), Z_OK);
	z.next_in = (unsigned char *)out.p + out.from;
	z.avail_in = (unsigned)buf_len(&out);
	z.next_out = (unsigned char *)text;
	z.avail_out = sizeof(text);
	assert_int_equal(inflate(&z, Z_FINISH), Z_STREAM_END);
	(void)inflateEnd(&z);
	assert_string_equal(text, "a secret");
}

/* Byte for byte what the formats' own tools accept. */
static void test_stored(void **state)
{
	static const char zstd[] = "\x28\xb5\x2f\xfd\x20\x02\x11\x00\x00hi";
	static const char brotli[] = "\x10\x00\x10hi\x03";
	char long_text[300] = "";
	_cleanup_(buf_free) struct buf out;

	(void)state;
	buf_init(&out, 8192);
	assert_int_equal(dlp_zstd(&out, STR_LIT("hi")), 0);
	assert_true(str_eq(buf_str(&out), STR_LIT(zstd)));
	buf_reset(&out);
	assert_int_equal(dlp_brotli(&out, STR_LIT("hi")), 0);
	assert_true(str_eq(buf_str(&out), STR_LIT(brotli)));
	assert_int_equal(dlp_zstd(&out, str_slice(long_text, 256)), -EINVAL);
	assert_int_equal(dlp_brotli(&out, str_slice(long_text, 256)), -EINVAL);
	assert_int_equal(dlp_brotli(&out, STR_NULL), -EINVAL);
	buf_reset(&out);
	assert_int_equal(dlp_zip(&out, "n", STR_LIT("hi")), 0);
	assert_true(str_starts(buf_str(&out), STR_LIT("PK\x03\x04")));
	assert_true(str_find(buf_str(&out), STR_LIT("PK\x05\x06")) < buf_len(&out));
}

static void test_lists(void **state)
{
	struct str list = STR_LIT("a,,bc,too-long,d");
	char one[4];

	(void)state;
	assert_true(probe_list_next(&list, one, sizeof(one)));
	assert_string_equal(one, "a");
	assert_true(probe_list_next(&list, one, sizeof(one)));
	assert_string_equal(one, "bc");
	assert_true(probe_list_next(&list, one, sizeof(one)));
	assert_string_equal(one, "d");
	assert_false(probe_list_next(&list, one, sizeof(one)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_texts),
		cmocka_unit_test(test_gzip),
		cmocka_unit_test(test_stored),
		cmocka_unit_test(test_lists),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
