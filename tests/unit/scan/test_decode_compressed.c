/* Compressed data: found at the front of a text and within it, in base64, behind decoys; and what
 * of it cannot be seen is said to be so. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <zstd.h>

#include "pack.h"
#include "seen.h"

/* Text that compresses, but not to nothing, with the token at its end. */
static size_t long_text(char *out, size_t n)
{
	uint32_t x = 1;

	for (size_t i = 0; i < n; i++) {
		x = x * 1664525 + 1013904223;
		out[i] = "etaoin shrdlu. cmf"[(x >> 24) % 18];
	}
	memcpy(out + n, TOKEN, sizeof(TOKEN) - 1);
	return n + sizeof(TOKEN) - 1;
}

/* A zip archive of one deflated entry, without its directory, up to the data. */
#define ZIP_HEAD "PK\3\4\24\0\0\0\10\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\0\0\0x"

static const struct kind {
	const char *name;
	int window_bits;
	size_t head_n;
	const char *head;
	bool is_inside; /* found behind other bytes too */
} kinds[] = {
	{"zip", PACK_BARE, sizeof(ZIP_HEAD) - 1, ZIP_HEAD, true},
	{"zlib", PACK_ZLIB, 0, "", true},
	{"zlib with a small window", 9, 0, "", true},
	{"gzip", PACK_GZIP, 0, "", true},
	{"bare deflate", PACK_BARE, 0, "", false},
};

static size_t put(const struct kind *k, char *out, size_t size, const char *p, size_t n)
{
	memcpy(out, k->head, k->head_n);
	return k->head_n + pack_zlib(out + k->head_n, size - k->head_n, p, n, k->window_bits);
}

static void test_parts(void **state)
{
	static const char before[] = "%PDF-1.5\n1 0 obj <</Filter /FlateDecode>> stream\r\n\xe2\n";
	static char plain[2048], body[16384], coded[32768];
	size_t n = long_text(plain, 500), m;

	(void)state;
	for (const struct kind *k = kinds; k < kinds + ARRAY_LEN(kinds); k++) {
		m = put(k, body, sizeof(body), plain, n);
		if (!scan(SCAN_PLACE_BODY, body, m).has_token)
			fail_msg("missed in %s", k->name);
		m = pack_base64(coded, body, m);
		if (!scan(SCAN_PLACE_BODY, coded, m).has_token)
			fail_msg("missed in %s in base64", k->name);
		memcpy(body, before, sizeof(before));
		m = sizeof(before) +
		    put(k, body + sizeof(before), sizeof(body) - sizeof(before), plain, n);
		if (k->is_inside && !scan(SCAN_PLACE_BODY, body, m).has_token)
			fail_msg("missed in %s after other bytes", k->name);
	}
}

/* Heads that lead nowhere, and escapes that are none. */
static void test_decoys(void **state)
{
	static char plain[2048], body[60000];
	size_t n = long_text(plain, 500), m = 0;

	(void)state;
	for (unsigned i = 0; i < 40; i++, m += 12)
		memcpy(body + m, "\x1f\x8b\x08\0\0\0\0\0\0\3\7\7", 12);
	m += pack_zlib(body + m, sizeof(body) - m, plain, n, PACK_GZIP);
	assert_true(scan(SCAN_PLACE_BODY, body, m).has_token);

	/* A field that would lose bytes if it were unescaped, in a text that is long. */
	memset(body, ' ', 10000);
	memcpy(body + 10000, "\x1f\x8b\x08\4\0\0\0\0\0\3\6\0%41%41", 18);
	m = 10018 + pack_zlib(body + 10018, sizeof(body) - 10018, plain, n, PACK_BARE);
	assert_true(scan(SCAN_PLACE_BODY, body, m).has_token);
}

/* What was scanned is not scanned again: a text that is like the secret's but for the top bits of
 * three bytes, which a multiplication hands on as they are, goes first. */
static void test_look_alike_goes_first(void **state)
{
	static const char real[] =
		"a note of some 64 letters, of which none is more than a letter: " TOKEN
		" and so on";
	char like[sizeof(real)], packed[512], body[2048];
	const char *first = like, *second = real;

	(void)state;
	memcpy(like, real, sizeof(like));
	for (size_t at = 71; at <= 79; at += 4)
		like[at] = (char)(like[at] ^ 0x80);
	for (int i = 0; i < 2; i++) {
		size_t n = pack_zlib(body, sizeof(body), first, sizeof(real) - 1, PACK_GZIP), m;

		m = pack_zlib(packed, sizeof(packed), second, sizeof(real) - 1, PACK_GZIP);
		body[n++] = '\n';
		n += pack_base64(body + n, packed, m);
		assert_true(scan(SCAN_PLACE_BODY, body, n).has_token);
		first = real;
		second = like;
	}
}

/* Compressed data that goes on past the window: what it holds cannot be seen. */
static void test_cut(void **state)
{
	const size_t size = 700000;
	char *plain = test_malloc(size), *body = test_malloc(size);
	size_t n = pack_zlib(body, size, plain, long_text(plain, 600000), PACK_GZIP);
	struct seen s;

	(void)state;
	assert_true(n > 200000);
	s = scan_cut(body, n, 16384);
	assert_true(s.has_limit);
	assert_string_equal(s.limit, "limit-compressed-run");
	test_free(plain);
	test_free(body);
}

/* Compressed data with bytes in it that look like escapes; and such that no window holds. */
static void test_body(void **state)
{
	static char plain[40000], packed[65536], text[200000];
	uint32_t seed = 1;
	struct seen s;
	size_t n;

	(void)state;
	for (size_t i = 0; i < sizeof(plain); i++)
		plain[i] = (char)(' ' + ((seed = seed * 1664525 + 1013904223) >> 24) % 90);
	memcpy(plain + 39000, TOKEN, sizeof(TOKEN) - 1);
	n = pack_zlib(packed, sizeof(packed), plain, sizeof(plain), PACK_GZIP);
	s = scan(SCAN_PLACE_BODY, packed, n);
	assert_true(s.has_token);
	s = scan_cut(packed, n, 5000);
	assert_true(s.has_limit);
	assert_string_equal(s.limit, "limit-compressed-run");
	n = pack_base64(text, packed, n);
	s = scan(SCAN_PLACE_BODY, text, n);
	assert_true(s.has_token);
	s = scan_cut(text, n, 5000);
	assert_true(s.has_limit);
	assert_string_equal(s.limit, "limit-compressed-run");
}

/* A bomb inside base64. */
static void test_bomb(void **state)
{
	const size_t size = 16 << 20;
	char *big = test_malloc(size), *packed = test_malloc(1 << 20), *text = test_malloc(2 << 20);
	struct seen s;

	(void)state;
	memset(big, 'a', size);
	s = scan(SCAN_PLACE_BODY, text,
		 pack_base64(text, packed, pack_zlib(packed, 1 << 20, big, size, PACK_GZIP)));
	assert_true(s.has_limit);
	assert_string_equal(s.limit, "limit-ratio");
	test_free(big);
	test_free(packed);
	test_free(text);
}

/* A frame that asks for a window of 2^log bytes, and has n of them. */
static size_t zstd_frame(char *out, size_t size, const char *p, size_t n, int log)
{
	ZSTD_CCtx *c = ZSTD_createCCtx();
	ZSTD_inBuffer in = {p, n, 0};
	ZSTD_outBuffer o = {out, size, 0};

	assert_false(ZSTD_isError(ZSTD_CCtx_setParameter(c, ZSTD_c_windowLog, log)));
	/* In two steps: the library makes the window no larger than a size that it knows. */
	assert_false(ZSTD_isError(ZSTD_compressStream2(c, &o, &in, ZSTD_e_continue)));
	assert_int_equal(ZSTD_compressStream2(c, &o, &in, ZSTD_e_end), 0);
	(void)ZSTD_freeCCtx(c);
	return o.pos;
}

/* Attack: what is packed fits any window, but the frame asks for one that we do not give. */
static void test_window(void **state)
{
	static char plain[2048], packed[4096], text[8192];
	size_t n = long_text(plain, 500), m;
	struct seen s;

	(void)state;
	m = zstd_frame(packed, sizeof(packed), plain, n, 23);
	assert_true(scan(SCAN_PLACE_BODY, packed, m).has_token);
	m = zstd_frame(packed, sizeof(packed), plain, n, 24);
	s = scan(SCAN_PLACE_BODY, packed, m);
	assert_true(s.has_limit);
	assert_string_equal(s.limit, "limit-window");
	s = scan(SCAN_PLACE_BODY, text, pack_base64(text, packed, m));
	assert_true(s.has_limit);
	assert_string_equal(s.limit, "limit-window");
	/* Archives that are fetched may need it, and nothing is decided by them. */
	assert_false(scan(SCAN_PLACE_RESPONSE, packed, m).has_limit);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parts),
		cmocka_unit_test(test_decoys),
		cmocka_unit_test(test_look_alike_goes_first),
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_body),
		cmocka_unit_test(test_bomb),
		cmocka_unit_test(test_window),
	};

	return cmocka_run_group_tests(tests, seen_setup, seen_teardown);
}
