/*
 * What repositories hold that looks like a secret and is none. Each exception is as narrow as what
 * it is for: nothing here depends on a path, a comment or anything else that says "ignore me".
 */
#include "gitgate/check_int.h"

#define KEY_BODY_BYTES 512 /* after its first line: headers of an encrypted key, then the body */
#define KEY_BODY_RUN   32
#define KEY_BODY_LINES 64
#define KEY_HEAD_MAX   64 /* a longer range is one that was decoded */
#define TABLE_REACH    24
#define AWS_KEY_BYTES  20
#define ENCODED_REACH  100

static bool is(const char *rule, const char *id)
{
	return strcmp(rule, id) == 0;
}

/* What may stand between two lines of a key: bytes of it, or 0. */
static size_t key_gap(struct str s, size_t i)
{
	char next = i + 1 < s.n ? s.p[i + 1] : '\0';

	if (s.p[i] == '\\')
		return next == 'n' || next == 'r' || next == '\n' ? 2 : 0;
	if (s.p[i] == ' ' || s.p[i] == '\t') /* an indented line; not words in a row */
		return s.p[i - 1] == '\n' || s.p[i - 1] == ' ' || s.p[i - 1] == '\t';
	return s.p[i] == '\n' || s.p[i] == '\r' || s.p[i] == '"' || s.p[i] == '\'' || s.p[i] == ',';
}

/* Code that reads or writes keys names their first line. A key goes on with base64, behind a
 * newline (or what stands for one) and perhaps headers. Attack: its lines may be of any length; a
 * list of words is of one kind of letters. */
static bool has_key_body(struct str s, size_t to, bool is_whole)
{
	size_t end = s.n - to < KEY_BODY_BYTES ? s.n : to + KEY_BODY_BYTES, run = 0, lines = 0;
	unsigned kinds = 0;

	for (size_t i = to; i < end;) {
		char c = s.p[i];
		size_t gap = 0;

		if (ascii_is_alnum(c) || c == '+' || c == '/') {
			kinds |= ascii_is_digit(c) ? 1 : ascii_lower(c) != c ? 2 : 4;
			run++;
			lines++;
		} else {
			gap = key_gap(s, i);
			run = 0;
			lines = gap ? lines : 0;
			kinds = gap ? kinds : 0;
		}
		if (run >= KEY_BODY_RUN || (lines >= KEY_BODY_LINES && kinds == 7))
			return true;
		i += gap ? gap : 1;
	}
	return end == s.n && !is_whole; /* not all of it is there yet */
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

static bool is_gap(char c)
{
	return c == ' ' || c == '\t' || c == ',' || c == ';' || c == '|' || c == '\r' || c == '\n';
}

/* In a row of numbers one in ten has the right check digit. */
static bool is_in_table(struct str s, size_t from, size_t to)
{
	size_t i = from, k = to;

	while (i > 0 && from - i < TABLE_REACH && is_gap(s.p[i - 1]))
		i--;
	while (k < s.n && k - to < TABLE_REACH && is_gap(s.p[k]))
		k++;
	return i < from && k > to && i > 0 && k < s.n && ascii_is_digit(s.p[i - 1]) &&
	       ascii_is_digit(s.p[k]);
}

/* "testcase-6014493291577344", "detail/6014493291577344": the number of something. */
static bool is_in_name(struct str s, size_t from, size_t to)
{
	for (size_t i = from; i < to; i++)
		if (!ascii_is_digit(s.p[i]))
			return false;
	return from >= 2 && (s.p[from - 1] == '-' || s.p[from - 1] == '/') &&
	       ascii_is_alpha(s.p[from - 2]);
}

/* A binary's bytes between control characters. */
static bool is_in_binary(struct str s, size_t from, size_t to)
{
	size_t a = from > 64 ? from - 64 : 0, z = s.n - to < 64 ? s.n : to + 64, n = 0;

	for (size_t i = a; i < z; i++)
		n += (unsigned char)s.p[i] < 9;
	return n > 8;
}

static bool is_encoded_byte(char c, bool is_hex)
{
	return is_hex ? ascii_hex_value(c) >= 0
		      : ascii_is_alnum(c) || c == '+' || c == '/' || c == '-' || c == '_';
}

/* A key's letters by chance, in the middle of much hex or base64: of few different letters, as in
 * "ACCAAAAAAAAAAAAAAAAA", or of nothing but hex digits. Of a key's sixteen random characters twelve
 * are different, and one in half a million is all hex. */
static bool is_in_encoded(struct str s, size_t from, size_t to)
{
	size_t a, z = to, kinds = 0;
	bool is_hex = true, has[256] = {false};

	if (to - from < AWS_KEY_BYTES)
		return false;
	from = to - AWS_KEY_BYTES; /* the engine gives the whole of what it stands in */
	a = from;
	for (size_t i = from; i < to; i++) {
		is_hex &= ascii_hex_value(s.p[i]) >= 0;
		kinds += !has[(uint8_t)s.p[i]] && i >= from + 4;
		has[(uint8_t)s.p[i]] = true;
	}
	if (!is_hex && kinds > 4)
		return false;
	is_hex &= kinds > 4;
	while (a > 0 && from - a < ENCODED_REACH && is_encoded_byte(s.p[a - 1], is_hex))
		a--;
	while (z < s.n && z - to < ENCODED_REACH && is_encoded_byte(s.p[z], is_hex))
		z++;
	return z - to + (from - a) >= ENCODED_REACH;
}

/* https://user:pass@example.com: the names that RFC 2606 keeps for examples are nobody's. */
static bool is_example_host(struct str s, size_t to)
{
	static const char *const names[] = {"example.com", "example.org", "example.net",
					    "example",	   "test",	  "invalid"};
	struct str host;
	size_t n = 0;

	if (to == 0 || to > s.n)
		return false;
	host = str_sub(s, to - 1, s.n);
	while (n < host.n && n < 253 &&
	       (ascii_is_alnum(host.p[n]) || host.p[n] == '.' || host.p[n] == '-'))
		n++;
	host = str_sub(host, 0, n);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct str name = str_of(names[i]);

		if (host.n < name.n || !str_ieq(str_sub(host, host.n - name.n, host.n), name))
			continue;
		if (host.n == name.n ? memchr(name.p, '.', name.n) != NULL
				     : host.p[host.n - name.n - 1] == '.')
			return true;
	}
	return false;
}

bool check_filter_is_own_doing(const char *rule, const char *decoders)
{
	return is(rule, "limit-depth") &&
	       (strncmp(decoders, "squeeze", 7) == 0 || strncmp(decoders, "join", 4) == 0);
}

bool check_filter_is_noise(const char *rule, struct str s, size_t from, size_t to, bool is_plain,
			   bool is_whole, unsigned unit)
{
	/* Names of build outputs and test data are random. */
	if (is(rule, "random-path-segment"))
		return true;
	/* Public by nature: contracts, donations. */
	if (is(rule, "ethereum-address") || is(rule, "bitcoin-address"))
		return true;
	if (unit > 1) /* what stands around is not told by bytes alone */
		return false;
	if (is(rule, "card-number"))
		return is_test_card(s, from, to) || is_in_table(s, from, to) ||
		       is_in_name(s, from, to) || is_in_binary(s, from, to);
	if (is(rule, "aws-access-key"))
		return is_plain && is_in_encoded(s, from, to);
	if (is(rule, "basic-auth-url"))
		return is_whole && is_example_host(s, to);
	if (is(rule, "private-key"))
		return to - from <= KEY_HEAD_MAX && !has_key_body(s, to, is_whole);
	return false;
}
