/* Content codings: streamed in any pieces, capped, complete. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "pack.h"

#include "base/clean.h"
#include "scan/content.h"

#include <errno.h>
#include <zstd.h>

#define TEXT_BYTES 100000

static char text[TEXT_BYTES];

static void free_p(struct content_decoder **d)
{
	content_decoder_free(*d);
}

/* Decodes in pieces of this size. 0 with out filled, or the error. */
static int decode(const char *coding, const uint8_t *p, size_t n, size_t piece, size_t out_piece,
		  struct buf *out)
{
	_cleanup_(free_p) struct content_decoder *d = NULL;
	struct err e = ERR_INIT;
	struct buf step;
	int r = content_decoder_new(&d, str_of(coding), &e);

	if (r < 0)
		return r;
	buf_init(&step, out_piece);
	for (size_t at = 0; r == 0;) {
		size_t m = n - at < piece ? n - at : piece, used = 0;
		bool is_last = at + m == n;

		r = content_decode(d, str_slice(p + at, m), is_last, &step, &used, &e);
		at += used;
		if (r == 0 && buf_append_str(out, buf_str(&step)) < 0)
			r = -ENOBUFS;
		if (r == 0 && is_last && at == n && buf_room(&step) > 0)
			break;
		buf_reset(&step);
	}
	buf_free(&step);
	return r;
}

static void expect(const char *coding, const uint8_t *p, size_t n)
{
	const size_t pieces[] = {1, 13, 4096, 1 << 20};

	for (size_t i = 0; i < ARRAY_LEN(pieces); i++)
		for (size_t k = 0; k < 2; k++) {
			struct buf out;

			buf_init(&out, 1 << 20);
			assert_int_equal(decode(coding, p, n, pieces[i], k ? 100 : 65536, &out), 0);
			assert_int_equal(buf_len(&out), TEXT_BYTES);
			assert_memory_equal(buf_str(&out).p, text, TEXT_BYTES);
			buf_free(&out);
		}
}

static int expect_error(const char *coding, const uint8_t *p, size_t n, size_t cap)
{
	struct buf out;
	int r;

	buf_init(&out, cap);
	r = decode(coding, p, n, 1000, 65536, &out);
	buf_free(&out);
	return r;
}

static int setup(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (char)("lorem ipsum "[i % 12] + (i % 97 == 0));
	return 0;
}

static void test_single(void **state)
{
	static uint8_t p[2 * TEXT_BYTES];
	size_t n, m;

	(void)state;
	n = pack_zlib(p, sizeof(p), text, TEXT_BYTES, 31);
	expect("gzip", p, n);
	expect(" GZIP ", p, n);
	expect("identity, gzip", p, n);
	/* Two members. */
	n = pack_zlib(p, sizeof(p), text, 60000, 31);
	m = pack_zlib(p + n, sizeof(p) - n, text + 60000, TEXT_BYTES - 60000, 31);
	expect("gzip", p, n + m);
	n = pack_zlib(p, sizeof(p), text, TEXT_BYTES, 15);
	expect("deflate", p, n);
	n = pack_zlib(p, sizeof(p), text, TEXT_BYTES, -15);
	expect("deflate", p, n);
	n = ZSTD_compress(p, sizeof(p), text, TEXT_BYTES, 3);
	expect("zstd", p, n);
}

/* "hello hello hello hello\n" by the reference encoder. */
static const uint8_t brotli_hello[] = {0x1b, 0x17, 0x00, 0xf8, 0x8d, 0x94, 0x6e, 0xde,
				       0x44, 0x55, 0x86, 0xd6, 0x0a, 0x20, 0x6c, 0x6f,
				       0x4a, 0x11, 0x79, 0xe2, 0x80, 0xae, 0x16};

static void test_brotli(void **state)
{
	struct buf out;
	int r;

	(void)state;
	buf_init(&out, 4096);
	r = decode("br", brotli_hello, sizeof(brotli_hello), 3, 100, &out);
	assert_int_equal(r, 0);
	assert_true(str_eq(buf_str(&out), STR_LIT("hello hello hello hello\n")));
	buf_free(&out);
	assert_int_equal(expect_error("br", brotli_hello, sizeof(brotli_hello) - 1, 4096), -EPROTO);
}

static void test_two_layers(void **state)
{
	static uint8_t a[2 * TEXT_BYTES], b[2 * TEXT_BYTES];
	size_t n = pack_zlib(a, sizeof(a), text, TEXT_BYTES, 31), m;

	(void)state;
	m = ZSTD_compress(b, sizeof(b), a, n, 1);
	expect("gzip, zstd", b, m);
	assert_int_equal(expect_error("zstd, gzip", b, m, 1 << 20), -EPROTO);
}

static void test_refused(void **state)
{
	_cleanup_(free_p) struct content_decoder *d = NULL;
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(content_decoder_new(&d, STR_LIT("compress"), &e), -ENOTSUP);
	assert_int_equal(content_decoder_new(&d, STR_LIT("gzip, gzip, gzip"), &e), -ENOTSUP);
	assert_int_equal(content_decoder_new(&d, STR_LIT(""), &e), 0);
	assert_null(d);
	assert_int_equal(content_decoder_new(&d, STR_LIT("identity"), &e), 0);
	assert_null(d);
}

static void test_broken(void **state)
{
	static const struct {
		const char *coding;
		int bits;
	} codings[] = {{"gzip", 31}, {"deflate", 15}};
	static uint8_t p[2 * TEXT_BYTES];
	size_t n;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(codings); i++) {
		n = pack_zlib(p, sizeof(p), text, TEXT_BYTES, codings[i].bits);
		assert_int_equal(expect_error(codings[i].coding, p, n - 1, 1 << 20), -EPROTO);
		p[n] = 'x'; /* trailing garbage */
		assert_int_equal(expect_error(codings[i].coding, p, n + 1, 1 << 20), -EPROTO);
		p[n / 2] ^= 0x55;
		assert_int_equal(expect_error(codings[i].coding, p, n, 1 << 20), -EPROTO);
	}
	n = ZSTD_compress(p, sizeof(p), text, TEXT_BYTES, 3);
	assert_int_equal(expect_error("zstd", p, n - 1, 1 << 20), -EPROTO);
	p[n] = 'x';
	assert_int_equal(expect_error("zstd", p, n + 1, 1 << 20), -EPROTO);
}

static void test_bombs(void **state)
{
	static char zeros[64u << 20];
	static uint8_t p[1 << 20], q[1 << 20];
	size_t n = pack_zlib(p, sizeof(p), zeros, sizeof(zeros), 31), m;

	(void)state;
	assert_int_equal(expect_error("gzip", p, n, 128u << 20), -E2BIG);
	m = pack_zlib(q, sizeof(q), p, n, 31);
	assert_int_equal(expect_error("gzip, gzip", q, m, 128u << 20), -E2BIG);
	n = ZSTD_compress(p, sizeof(p), zeros, sizeof(zeros), 3);
	assert_int_equal(expect_error("zstd", p, n, 128u << 20), -E2BIG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_single),	   cmocka_unit_test(test_brotli),
		cmocka_unit_test(test_two_layers), cmocka_unit_test(test_refused),
		cmocka_unit_test(test_broken),	   cmocka_unit_test(test_bombs),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
