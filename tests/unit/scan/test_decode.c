/* The decoder chain: every encoding of a secret is found, alone, nested, glued to junk and cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "pack.h"
#include "seen.h"

#include <zstd.h>

/* Encoders: each appends nothing but writes out, and returns its length. */
typedef size_t (*encode_fn)(char *out, const char *p, size_t n);

static size_t enc_base64url(char *out, const char *p, size_t n)
{
	return pack_base64_with(out, p, n, PACK_DIGITS "-_", false);
}

static size_t enc_base64_wrapped(char *out, const char *p, size_t n)
{
	char flat[8192];
	size_t m = pack_base64(flat, p, n), k = 0;

	for (size_t i = 0; i < m; i++) {
		if (i && i % 20 == 0) {
			out[k++] = '\r';
			out[k++] = '\n';
		}
		out[k++] = flat[i];
	}
	return k;
}

static size_t enc_base32(char *out, const char *p, size_t n)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
	uint32_t acc = 0, bits = 0;
	size_t k = 0;

	for (size_t i = 0; i < n; i++) {
		acc = acc << 8 | (uint8_t)p[i];
		for (bits += 8; bits >= 5; bits -= 5)
			out[k++] = digits[acc >> (bits - 5) & 31];
	}
	if (bits)
		out[k++] = digits[acc << (5 - bits) & 31];
	return k;
}

static size_t enc_each(char *out, const char *p, size_t n, const char *format)
{
	size_t k = 0;

	for (size_t i = 0; i < n; i++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		k += (size_t)snprintf(out + k, 16, format, (unsigned)(uint8_t)p[i]);
#pragma GCC diagnostic pop
	}
	return k;
}

#define ENC_EACH(name, format)                                                                     \
	static size_t name(char *out, const char *p, size_t n)                                     \
	{                                                                                          \
		return enc_each(out, p, n, format);                                                \
	}
ENC_EACH(enc_percent, "%%%02x")
ENC_EACH(enc_hex, "%02X")
ENC_EACH(enc_hex_dash, "%02x-")
ENC_EACH(enc_hex_colon, "%02X:")
ENC_EACH(enc_hex_space, "%02x ")
ENC_EACH(enc_hex_0x, "0x%02x, ")
ENC_EACH(enc_backslash_x, "\\x%02x")
ENC_EACH(enc_octal, "\\%03o")
ENC_EACH(enc_json_u, "\\u%04x")
ENC_EACH(enc_html, "&#x%x;")
ENC_EACH(enc_html_decimal, "&#%u;")
ENC_EACH(enc_qp, "=%02X")
ENC_EACH(enc_zero_width, "%c\xe2\x80\x8b")

static size_t enc_utf16le(char *out, const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		out[2 * i] = p[i];
		out[2 * i + 1] = 0;
	}
	return 2 * n;
}

static size_t enc_utf32le(char *out, const char *p, size_t n)
{
	memset(out, 0, 4 * n);
	for (size_t i = 0; i < n; i++)
		out[4 * i] = p[i];
	return 4 * n;
}

static size_t enc_utf32be(char *out, const char *p, size_t n)
{
	memset(out, 0, 4 * n);
	for (size_t i = 0; i < n; i++)
		out[4 * i + 3] = p[i];
	return 4 * n;
}

static size_t enc_utf16be(char *out, const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		out[2 * i] = 0;
		out[2 * i + 1] = p[i];
	}
	return 2 * n;
}

static size_t enc_fullwidth(char *out, const char *p, size_t n)
{
	size_t k = 0;

	for (size_t i = 0; i < n; i++) {
		unsigned cp = 0xff01u + (uint8_t)p[i] - 0x21u;

		out[k++] = (char)(0xe0 | cp >> 12);
		out[k++] = (char)(0x80 | (cp >> 6 & 63));
		out[k++] = (char)(0x80 | (cp & 63));
	}
	return k;
}

static size_t enc_tags(char *out, const char *p, size_t n)
{
	size_t k = 0;

	for (size_t i = 0; i < n; i++) {
		out[k++] = (char)0xf3;
		out[k++] = (char)0xa0;
		out[k++] = (char)(0x80 | (uint8_t)p[i] >> 6);
		out[k++] = (char)(0x80 | (p[i] & 63));
	}
	return k;
}

static size_t enc_gzip(char *out, const char *p, size_t n)
{
	return pack_zlib(out, 8192, p, n, PACK_GZIP);
}

static size_t enc_zlib(char *out, const char *p, size_t n)
{
	return pack_zlib(out, 8192, p, n, PACK_ZLIB);
}

static size_t enc_zstd(char *out, const char *p, size_t n)
{
	return ZSTD_compress(out, 8192, p, n, 1);
}

static const struct {
	const char *name;
	encode_fn encode;
	bool is_binary; /* its output is not text */
} encodings[] = {
	{"base64", pack_base64, false},
	{"base64url", enc_base64url, false},
	{"base64 wrapped", enc_base64_wrapped, false},
	{"base32", enc_base32, false},
	{"percent", enc_percent, false},
	{"hex", enc_hex, false},
	{"hex dashes", enc_hex_dash, false},
	{"hex colons", enc_hex_colon, false},
	{"hex spaces", enc_hex_space, false},
	{"hex 0x", enc_hex_0x, false},
	{"\\x", enc_backslash_x, false},
	{"octal", enc_octal, false},
	{"\\u", enc_json_u, false},
	{"html", enc_html, false},
	{"html decimal", enc_html_decimal, false},
	{"quoted-printable", enc_qp, false},
	{"zero width", enc_zero_width, false},
	{"fullwidth", enc_fullwidth, false},
	{"tags", enc_tags, false},
	{"utf-16le", enc_utf16le, true},
	{"utf-16be", enc_utf16be, true},
	{"utf-32le", enc_utf32le, true},
	{"utf-32be", enc_utf32be, true},
	{"gzip", enc_gzip, true},
	{"zlib", enc_zlib, true},
	{"zstd", enc_zstd, true},
};

static void expect_both(enum scan_place place, encode_fn encode, const char *name)
{
	char out[8192];
	struct seen s;

	s = scan(place, out, encode(out, OWN, sizeof(OWN) - 1));
	if (!s.has_own)
		fail_msg("the own secret is missed in %s", name);
	s = scan(place, out, encode(out, TOKEN, sizeof(TOKEN) - 1));
	if (!s.has_token)
		fail_msg("the token is missed in %s", name);
}

static void test_each(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(encodings); i++) {
		expect_both(SCAN_PLACE_BODY, encodings[i].encode, encodings[i].name);
		if (!encodings[i].is_binary) {
			expect_both(SCAN_PLACE_QUERY, encodings[i].encode, encodings[i].name);
			expect_both(SCAN_PLACE_HEADER, encodings[i].encode, encodings[i].name);
		}
	}
}

/* Any encoding inside any text encoding. */
static void test_nested(void **state)
{
	static char a[16384], b[65536];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(encodings); i++)
		for (size_t k = 0; k < ARRAY_LEN(encodings); k++) {
			size_t n = encodings[i].encode(a, TOKEN, sizeof(TOKEN) - 1), m;
			struct seen s;

			/* What folds is no text to gzip or UTF-16; what is binary cannot be
			 * spelled. */
			if ((encodings[i].is_binary && k >= 16) || n > 2000 ||
			    encodings[k].encode == enc_zstd || encodings[k].encode == enc_utf16le ||
			    encodings[k].encode == enc_utf16be ||
			    encodings[k].encode == enc_utf32le ||
			    encodings[k].encode == enc_utf32be ||
			    encodings[k].encode == enc_fullwidth ||
			    encodings[k].encode == enc_tags ||
			    /* \u and entities spell characters, not bytes. */
			    (k >= 12 && k <= 14 && i >= 16) || (k >= 16 && i >= 16))
				continue;
			m = encodings[k].encode(b, a, n);
			s = scan(SCAN_PLACE_BODY, b, m);
			if (!s.has_token && !s.has_limit)
				fail_msg("missed: %s inside %s", encodings[i].name,
					 encodings[k].name);
		}
}

/* Junk glued in front shifts the alignment. */
static void test_glued(void **state)
{
	const encode_fn fns[] = {pack_base64, enc_base64url, enc_base32, enc_hex};
	char out[512] = "AAAAAAAA";

	(void)state;
	for (size_t f = 0; f < ARRAY_LEN(fns); f++)
		for (size_t junk = 0; junk < 8; junk++) {
			size_t n = fns[f](out + junk, TOKEN, sizeof(TOKEN) - 1);

			memset(out, 'A', junk);
			memcpy(out + junk + n, "BCDEF", 5);
			if (!scan(SCAN_PLACE_BODY, out, junk + n + 5).has_token)
				fail_msg("missed: %zu bytes of junk before encoding %zu", junk, f);
		}
}

/* In a stream, whatever the pieces, and across the window's border. */
static void test_streamed(void **state)
{
	static char text[80000];
	const size_t pieces[] = {1, 7, 100, 1460, 16384, 65536, 80000};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(encodings); i++)
		for (size_t k = 0; k < ARRAY_LEN(pieces); k++) {
			size_t at = pieces[k] < 100 ? 700 : 65536 - 30, n, total;
			struct seen s;

			if (encodings[i].encode == enc_gzip || encodings[i].encode == enc_zlib ||
			    encodings[i].encode == enc_zstd)
				continue;
			memset(text, ' ', sizeof(text));
			n = encodings[i].encode(text + at, TOKEN, sizeof(TOKEN) - 1);
			text[at + n] = ' ';
			total = pieces[k] < 100 ? at + n + 300 : sizeof(text);
			s = scan_cut(text, total, pieces[k]);
			if (!s.has_token)
				fail_msg("missed: %s in pieces of %zu", encodings[i].name,
					 pieces[k]);
		}
}

/* Random bytes have escapes in them by accident, also of escapes: nothing is made of that. */
static void test_random(void **state)
{
	const size_t n = 1 << 20;
	uint8_t *p = test_malloc(n);
	uint64_t x = 88172645463325252u;

	(void)state;
	for (unsigned round = 0; round < 4; round++) {
		for (size_t i = 0; i < n; i++) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			p[i] = (uint8_t)(x >> 32);
			/* Escapes are the rarest: more of them than chance gives. */
			if ((x & 0xff00) == 0)
				p[i] = (uint8_t) "%25%2541"[x % 8];
		}
		if (scan(SCAN_PLACE_BODY, p, n).has_limit)
			fail_msg("a limit: %s", scan(SCAN_PLACE_BODY, p, n).limit);
	}
	test_free(p);
}

static void test_range(void **state)
{
	char out[512];
	struct seen s;
	size_t n;

	(void)state;
	memset(out, '.', sizeof(out));
	n = pack_base64(out + 100, OWN, sizeof(OWN) - 1);
	s = scan(SCAN_PLACE_BODY, out, 400);
	assert_true(s.has_own);
	assert_string_equal(s.decoders, "base64");
	assert_true(s.from >= 98 && s.from <= 100 && s.to >= 100 + n - 2 && s.to <= 102 + n);
	memset(out, '.', sizeof(out));
	n = enc_percent(out + 100, OWN, sizeof(OWN) - 1);
	s = scan(SCAN_PLACE_BODY, out, 400);
	assert_true(s.has_own && s.from <= 100 && s.from >= 60 && s.to >= 100 + n &&
		    s.to <= 140 + n);
}

static void test_split(void **state)
{
	static const struct {
		enum scan_place place;
		const char *text;
	} cases[] = {
		{SCAN_PLACE_QUERY, "a=gh"
				   "p_ABCDEFGHIJKL&b=MNOPQRSTUVWXYZ&c=abcdef01"},
		{SCAN_PLACE_PATH, "/gh"
				  "p_ABCDEFGHIJKL/MNOPQRSTUVWXYZ/abcdef01"},
		{SCAN_PLACE_QUERY,
		 "q=g.h.p._.A.B.C.D.E.F.G.H.I.J.K.L.M.N.O.P.Q.R.S.T.U.V.W.X.Y.Z.a.b.c.d.e"},
		{SCAN_PLACE_HEADER, "X-A: gh"
				    "p_ABCDEFGHIJKL\r\nX-B: MNOPQRSTUVWXYZ\r\nX-C: abcdef01\r\n"},
		{SCAN_PLACE_BODY, "{\"a\":\"gh"
				  "p_ABCDEFGHIJKL\",\"b\":\"MNOPQRSTUVWXYZ\",\"c\":\"abcdef01\"}"},
		{SCAN_PLACE_QUERY, "k=AKI"
				   "A-IOSF-ODNN-7EXA-MPLE"},
	};
	struct seen s;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		s = scan(cases[i].place, cases[i].text, strlen(cases[i].text));
		if (s.n == 0)
			fail_msg("missed: %s", cases[i].text);
	}
	/* The own secret with delimiters put in, or in parts, in any text. */
	s = scan_cstr(SCAN_PLACE_BODY, "x zeb-ra/Qui-lt+vio-lin_93~oc-ean y");
	assert_true(s.has_own);
	s = scan_cstr(SCAN_PLACE_QUERY, "1=zebraQuilt&2=violin93ocean");
	assert_true(s.has_own); /* the parameter's name lies between: the join has it */
	s = scan_cstr(SCAN_PLACE_QUERY, "a=zebra/Quilt%2Bviolin&b=_93~ocean");
	assert_true(s.has_own);
}

static void test_placeholder_alone(void **state)
{
	const char *text = "Authorization: Bearer cbph-abcdefghijklmnop234567qrstuv\r\n";
	struct seen s = scan(SCAN_PLACE_HEADER, text, strlen(text));

	(void)state;
	assert_true(s.has_placeholder);
	assert_int_equal(s.n, 1); /* and no rule took it for a credential */
}

/* Texts of everyday use: nothing is found, and no limit is met. */
static void test_clean(void **state)
{
	static const struct {
		enum scan_place place;
		const char *text;
	} cases[] = {
		{SCAN_PLACE_HOST, "api.github.com"},
		{SCAN_PLACE_HOST, "release-assets.githubusercontent.com"},
		{SCAN_PLACE_PATH,
		 "/repos/golang/go/commits/0123456789abcdef0123456789abcdef01234567"},
		{SCAN_PLACE_PATH,
		 "/packages/a1/b2/9c3a0f8e7d6c5b4a3f2e1d0c9b8a7f6e5d4c3b2a1f0e9d8c7b6a5f4e3d2c1/"
		 "x.whl"},
		{SCAN_PLACE_PATH, "/@scope%2fpackage/-/package-1.2.3-beta.4.tgz"},
		{SCAN_PLACE_QUERY, "q=how+to+fix+%22permission+denied%22&hl=en&redirect=https%3A%"
				   "2F%2Fa.b%2Fc%3Fd%3De"},
		{SCAN_PLACE_QUERY, "page_token=CAUQAA&max_tokens=100&session=abc&csrf=1"},
		{SCAN_PLACE_HEADER,
		 "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 "
		 "(KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36\r\nAccept: */*\r\n"},
		{SCAN_PLACE_HEADER, "X-Request-Id: a3f8b2c1-4e5d-6f7a-8b9c-0d1e2f3a4b5c\r\nETag: "
				    "\"33a64df551425fcc55e4d42a148795d9f25f89d4\"\r\n"},
		{SCAN_PLACE_BODY,
		 "{\"model\":\"claude\",\"max_tokens\":1024,\"messages\":[{\"role\":\"user\","
		 "\"content\":\"Explain how API keys and tokens work.\\nUse \\\"plain\\\" "
		 "words.\"}]}"},
		{SCAN_PLACE_BODY,
		 "diff --git a/src/main.c b/src/main.c\nindex 83db48f..bf26a2c 100644\n"
		 "-\tchar *password = read_password(config->tty);\n+\tapi_key = "
		 "getenv(\"API_KEY\");\n"},
		{SCAN_PLACE_BODY, "{\"integrity\":\"sha512-WLHQAW0mq9Cn9VPvp1vGL0j8gYQ3nSSjpc6V5a+"
				  "XhPLkDhjzXTfWm1Wk3xg4iYQ2Hw7gCzqVdpSU6uHYkA2rgw==\"}"},
		{SCAN_PLACE_BODY,
		 "2026-03-10T09:00:00Z 1700000000000 1700000000000000 +49 30 123456789"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct seen s = scan(cases[i].place, cases[i].text, strlen(cases[i].text));

		if (s.n)
			fail_msg("found %s%s in: %s", s.has_limit ? s.limit : "a rule ", s.decoders,
				 cases[i].text);
	}
}

static void test_limits(void **state)
{
	static char big[1 << 20];
	char *enc = test_malloc(2 << 20);
	struct seen s;
	size_t m;

	(void)state;
	/* Deeper than the engine looks. */
	memcpy(big, TOKEN, sizeof(TOKEN));
	m = sizeof(TOKEN) - 1;
	for (unsigned i = 0; i < SCAN_DEPTH_MAX + 1; i++) {
		m = pack_base64(enc, big, m);
		memcpy(big, enc, m);
	}
	s = scan(SCAN_PLACE_BODY, big, m);
	assert_true(s.has_limit && !s.has_token);
	assert_string_equal(s.limit, "limit-depth");

	/* Letters percent-encoded three times over. */
	s = scan_cstr(SCAN_PLACE_QUERY, "key=%25252541%25252549");
	assert_true(s.has_limit);
	assert_string_equal(s.limit, "over-encoded");

	/* A placeholder's head over and over is charged for. */
	for (size_t i = 0; i < sizeof(big) / 2; i++)
		big[i] = "cbph-abcdefghijklmnop234567"[i % 27];
	s = scan(SCAN_PLACE_BODY, big, sizeof(big) / 2);
	assert_true(s.has_limit);
	assert_string_equal(s.limit, "limit-work");
	test_free(enc);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each),   cmocka_unit_test(test_nested),
		cmocka_unit_test(test_glued),  cmocka_unit_test(test_streamed),
		cmocka_unit_test(test_random), cmocka_unit_test(test_range),
		cmocka_unit_test(test_split),  cmocka_unit_test(test_placeholder_alone),
		cmocka_unit_test(test_clean),  cmocka_unit_test(test_limits),
	};

	return cmocka_run_group_tests(tests, seen_setup, seen_teardown);
}
