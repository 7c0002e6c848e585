/*
 * What repositories hold that looks like a secret and is none. Each exception is as narrow as what
 * it is for: nothing here depends on a path, a comment or anything else that says "ignore me".
 */
#include "gitgate/check_int.h"

#define KEY_BODY_BYTES 512 /* after its first line: headers of an encrypted key, then the body */
#define KEY_BODY_RUN   32
#define KEY_HEAD_MAX   64 /* a longer range is one that was decoded */
#define TABLE_REACH    24

static bool is(const char *rule, const char *id)
{
	return strcmp(rule, id) == 0;
}

/* Code that reads or writes keys names their first line. A key goes on with base64, behind a
 * newline (or what stands for one) and perhaps headers. */
static bool has_key_body(struct str s, size_t to, bool is_whole)
{
	size_t end = s.n - to < KEY_BODY_BYTES ? s.n : to + KEY_BODY_BYTES, run = 0;

	for (size_t i = to; i < end; i++) {
		run = ascii_is_alnum(s.p[i]) || s.p[i] == '+' || s.p[i] == '/' ? run + 1 : 0;
		if (run >= KEY_BODY_RUN)
			return true;
	}
	/* Not all of it is there yet, or it is in two-byte units. */
	return (end == s.n && !is_whole) || (end > to && memchr(s.p + to, 0, end - to));
}

/* The numbers that card schemes and payment services publish for tests. */
static bool is_test_card(struct str s, size_t from, size_t to)
{
	static const char *const cards[] = {
		"4242424242424242", "4000056655665556", "5555555555554444", "2223003122003222",
		"5200828282828210", "5105105105105100", "378282246310005",  "371449635398431",
		"6011111111111117", "6011000990139424", "3056930009020004", "36227206271667",
		"3566002020360505", "6200000000000005", "4111111111111111", "4012888888881881",
		"4000000000000002", "30569309025904",	"38520000023237",   "3530111333300000",
		"378734493671000",  "5431111111111111", "5500000000000004", "4000000000000000",
		"6771798021000008",
	};
	char digits[24];
	size_t n = 0;

	for (size_t i = from; i < to && n < sizeof(digits); i++)
		if (ascii_is_digit(s.p[i]))
			digits[n++] = s.p[i];
	for (size_t i = 0; i < sizeof(cards) / sizeof(cards[0]); i++)
		if (str_eq(str_slice(digits, n), str_of(cards[i])))
			return true;
	return false;
}

/* In a row of numbers one in ten has the right check digit. */
static bool is_in_table(struct str s, size_t from, size_t to)
{
	size_t i = from, k = to;

	while (i > 0 && from - i < TABLE_REACH &&
	       strchr(" \t,;|\r\n", s.p[i - 1] ? s.p[i - 1] : 'x'))
		i--;
	while (k < s.n && k - to < TABLE_REACH && strchr(" \t,;|\r\n", s.p[k] ? s.p[k] : 'x'))
		k++;
	return i < from && k > to && i > 0 && k < s.n && ascii_is_digit(s.p[i - 1]) &&
	       ascii_is_digit(s.p[k]);
}

/* A binary's bytes between control characters. */
static bool is_in_binary(struct str s, size_t from, size_t to)
{
	size_t a = from > 64 ? from - 64 : 0, z = s.n - to < 64 ? s.n : to + 64, n = 0;

	for (size_t i = a; i < z; i++)
		n += (unsigned char)s.p[i] < 9;
	return n > 8;
}

bool check_filter_is_noise(const char *rule, struct str s, size_t from, size_t to, bool is_whole)
{
	/* Names of build outputs and test data are random. */
	if (is(rule, "random-path-segment"))
		return true;
	/* Public by nature: contracts, donations. */
	if (is(rule, "ethereum-address") || is(rule, "bitcoin-address"))
		return true;
	if (is(rule, "card-number"))
		return is_test_card(s, from, to) || is_in_table(s, from, to) ||
		       is_in_binary(s, from, to);
	if (is(rule, "private-key"))
		return to - from <= KEY_HEAD_MAX && !has_key_body(s, to, is_whole);
	return false;
}
