/* Checks of candidates; see checks.h. */
#include "scan/checks.h"

#include <math.h>
#include <openssl/sha.h>

unsigned scan_entropy(const uint8_t *p, size_t n)
{
	unsigned count[256] = {0};
	double h = 0;

	if (n == 0)
		return 0;
	for (size_t i = 0; i < n; i++)
		count[p[i]]++;
	for (size_t i = 0; i < 256; i++)
		if (count[i]) {
			double q = (double)count[i] / (double)n;

			h -= q * log2(q);
		}
	return (unsigned)(h * 100);
}

struct shape {
	size_t upper, lower, digit, other;
};

static struct shape shape_of(const uint8_t *p, size_t n)
{
	struct shape s = {0};

	for (size_t i = 0; i < n; i++) {
		char c = (char)p[i];

		if (ascii_is_digit(c))
			s.digit++;
		else if (c >= 'A' && c <= 'Z')
			s.upper++;
		else if (c >= 'a' && c <= 'z')
			s.lower++;
		else
			s.other++;
	}
	return s;
}

/* Moves c->from to the start of the run of these characters that ends at c->to. */
static void tail_run(struct scan_candidate *c, bool (*is_part)(uint8_t))
{
	size_t i = c->to;

	while (i > c->from && is_part(c->p[i - 1]))
		i--;
	c->from = i;
}

static bool is_token_byte(uint8_t b)
{
	return ascii_is_alnum((char)b) || b == '_' || b == '-' || b == '/' || b == '+' ||
	       b == '.' || b == '=' || b == '~';
}

bool check_random(struct scan_candidate *c)
{
	struct scan_candidate t = *c;
	struct shape s;
	size_t n;

	tail_run(&t, is_token_byte);
	n = t.to - t.from;
	s = shape_of(t.p + t.from, n);
	return s.digit >= 2 && s.lower + s.upper >= 2 && scan_entropy(t.p + t.from, n) >= 280;
}

/* Base64 of random bytes: both cases, and more of an alphabet than hex has. */
bool check_mixed(struct scan_candidate *c)
{
	struct scan_candidate t = *c;
	struct shape s;

	tail_run(&t, is_token_byte);
	s = shape_of(t.p + t.from, t.to - t.from);
	return s.upper >= 3 && s.lower >= 3 &&
	       scan_entropy(t.p + t.from, t.to - t.from) >= (t.to - t.from >= 32 ? 350u : 310u);
}

static bool has_word(const uint8_t *p, size_t n, const char *word)
{
	size_t w = strlen(word);

	for (size_t i = 0; i + w <= n; i++) {
		size_t k = 0;

		while (k < w && ascii_lower((char)p[i + k]) == word[k])
			k++;
		if (k == w)
			return true;
	}
	return false;
}

bool checks_is_placeholder(const uint8_t *p, size_t n)
{
	static const char *const words[] = {
		"example",  "changeme", "change_me", "change-me", "placeholder", "your",
		"xxxx",	    "****",	"<",	     "${",	  "{{",		 "%(",
		"redacted", "dummy",	"....",	     "insert",	  "process.env", "os.environ",
		"getenv",   "secrets.", "vault:",    "null",	  "undefined",	 "todo",
		"foobar",   "replace",
	};

	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		if (has_word(p, n, words[i]))
			return true;
	return false;
}

/* An identifier or an expression of code, such as get_token(user) or config.api_key. */
static bool looks_like_code(const uint8_t *p, size_t n, struct shape s)
{
	bool is_words = true;

	if (memchr(p, '(', n) || memchr(p, '[', n) || memchr(p, '$', n) == p)
		return true;
	if (s.digit == 0)
		for (size_t i = 0; i < n; i++)
			is_words &= ascii_is_alpha((char)p[i]) || p[i] == '_' || p[i] == '.' ||
				    p[i] == '-' || p[i] == '/' || p[i] == ':';
	else
		is_words = false;
	return is_words;
}

static bool is_value_byte(uint8_t b)
{
	return b > ' ' && b < 0x7f && b != '"' && b != '\'' && b != '`' && b != ',' && b != ';' &&
	       b != '&' && b != '<' && b != '>' && b != '\\';
}

bool check_assignment(struct scan_candidate *c)
{
	struct scan_candidate t = *c;
	struct shape s;
	size_t n, i;

	/* The match ends with the value's terminator, unless the text ended there. */
	if (t.to > t.from && !is_value_byte(t.p[t.to - 1]))
		t.to--;
	tail_run(&t, is_value_byte);
	/* name=value without white space: the value starts past the name. */
	for (i = t.from; i < t.to; i++)
		if (t.p[i] == '=' || t.p[i] == ':') {
			size_t k = i + 1;

			while (k < t.to && (t.p[k] == '=' || t.p[k] == '>' || t.p[k] == ':'))
				k++;
			if (k < t.to && i > t.from)
				t.from = k;
			break;
		}
	n = t.to - t.from;
	s = shape_of(t.p + t.from, n);
	if (n < 8 || checks_is_placeholder(t.p + t.from, n) || looks_like_code(t.p + t.from, n, s))
		return false;
	if (s.digit == n || s.digit == 0 || (s.digit < 2 && s.upper == 0))
		return false;
	return scan_entropy(t.p + t.from, n) >= (n >= 16 ? 330u : 280u) && s.lower + s.upper >= 3;
}

bool check_userinfo(struct scan_candidate *c)
{
	size_t i = c->to, at, colon;

	/* ...://user:password@h */
	while (i > c->from && c->p[i - 1] != '@')
		i--;
	if (i == c->from)
		return false;
	at = i - 1;
	for (colon = at; colon > c->from && c->p[colon - 1] != ':'; colon--)
		;
	if (colon == c->from)
		return false;
	return at - colon >= 3 && !checks_is_placeholder(c->p + colon, at - colon) &&
	       !(at - colon == 8 && has_word(c->p + colon, 8, "password")) &&
	       !(at - colon == 4 && has_word(c->p + colon, 4, "pass"));
}

bool check_bearer(struct scan_candidate *c)
{
	struct scan_candidate t = *c;
	struct shape s;

	tail_run(&t, is_token_byte);
	s = shape_of(t.p + t.from, t.to - t.from);
	return s.digit >= 2 && s.lower + s.upper >= 4 &&
	       scan_entropy(t.p + t.from, t.to - t.from) >= 350 &&
	       !checks_is_placeholder(t.p + t.from, t.to - t.from);
}

/* An opening quote at p[i]: something precedes it that a quotation may follow. A JSON string is no
 * quotation: its text is what a model reads. */
static bool is_quotation(const uint8_t *p, size_t i)
{
	size_t k = i;

	if (i > 0 && (ascii_is_alnum((char)p[i - 1]) || strchr(".,!?", p[i - 1] ? p[i - 1] : '.')))
		return false; /* closes one */
	while (k > 0 && p[k - 1] == ' ')
		k--;
	if (k == 0)
		return false;
	if (p[k - 1] == '[' || p[k - 1] == '{' || p[k - 1] == '\n')
		return false;
	if (p[k - 1] == ':' || p[k - 1] == ',') {
		for (k--; k > 0 && p[k - 1] == ' ';)
			k--;
		return !(k > 0 && (p[k - 1] == '"' || p[k - 1] == '}' || p[k - 1] == ']' ||
				   p[k - 1] == '\\'));
	}
	return true;
}

bool check_unquoted(struct scan_candidate *c)
{
	/* The match may reach further back than its text: its start is not known. The nearest quote
	 * that could open a quotation decides, within a sentence's reach. */
	size_t low = c->to > 200 ? c->to - 200 : 0;

	for (size_t i = c->to; i > low; i--) {
		uint8_t b = c->p[i - 1];
		bool is_apostrophe = b == '\'' && i > 1 && ascii_is_alnum((char)c->p[i - 2]);

		if (b == '"' || b == '`' || (b == '\'' && !is_apostrophe))
			return !is_quotation(c->p, i - 1);
		if (b == 0x9c && i > 2 && c->p[i - 2] == 0x80 && c->p[i - 3] == 0xe2) /* U+201C */
			return false;
		if (b == ';' && i >= 6 && memcmp(c->p + i - 6, "&quot;", 6) == 0)
			return false;
		if (b == '\n')
			return true;
	}
	return true;
}

bool checks_luhn(const uint8_t *digits, size_t n)
{
	unsigned sum = 0;

	for (size_t i = 0; i < n; i++) {
		unsigned d = digits[n - 1 - i] - (unsigned)'0';

		if (i & 1)
			d = d * 2 > 9 ? d * 2 - 9 : d * 2;
		sum += d;
	}
	return n > 0 && sum % 10 == 0;
}

/* Country and length, as in the SWIFT registry. */
static const char iban_lengths[] =
	"AD24AE23AL28AT20AZ28BA20BE16BG22BH22BI27BR29BY28CH21CR22CY28CZ24DE22DJ27DK18DO28EE20EG29"
	"ES24FI18FK18FO18FR27GB22GE22GI23GL18GR27GT28HR21HU28IE22IL23IQ23IS26IT27JO30KW30KZ20LB28"
	"LC32LI21LT20LU20LV21LY25MC27MD24ME22MK19MN20MR27MT31MU30NI28NL18NO15OM23PK24PL28PS29PT25"
	"QA29RO24RS22RU33SA24SC31SD18SE24SI19SK24SM27SO23ST25SV28TL23TN24TR26UA29VA22VG24XK20";

static size_t iban_length(const uint8_t *p)
{
	for (const char *c = iban_lengths; *c; c += 4)
		if (c[0] == (char)p[0] && c[1] == (char)p[1])
			return (size_t)((c[2] - '0') * 10 + (c[3] - '0'));
	return 0;
}

bool checks_iban(const uint8_t *p, size_t n)
{
	unsigned rest = 0;

	if (n < 15 || n != iban_length(p))
		return false;
	for (size_t i = 0; i < n; i++) {
		uint8_t b = p[(i + 4) % n];

		if (ascii_is_digit((char)b))
			rest = (rest * 10 + (unsigned)(b - '0')) % 97;
		else if (b >= 'A' && b <= 'Z')
			rest = (rest * 100 + (unsigned)(b - 'A' + 10)) % 97;
		else
			return false;
	}
	return rest == 1;
}

bool checks_base58(const uint8_t *p, size_t n, size_t payload_n, uint8_t *version)
{
	static const char digits[] = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
	uint8_t raw[64] = {0}, sum[32];
	size_t total = payload_n + 4;

	if (total > sizeof(raw))
		return false;
	for (size_t i = 0; i < n; i++) {
		const char *d = p[i] ? strchr(digits, p[i]) : NULL;
		unsigned carry;

		if (!d)
			return false;
		carry = (unsigned)(d - digits);
		for (size_t k = total; k-- > 0;) {
			carry += 58u * raw[k];
			raw[k] = (uint8_t)carry;
			carry >>= 8;
		}
		if (carry)
			return false;
	}
	SHA256(raw, payload_n, sum);
	SHA256(sum, 32, sum);
	*version = raw[0];
	return memcmp(sum, raw + payload_n, 4) == 0;
}

static uint32_t bech32_step(uint32_t pre)
{
	uint32_t b = pre >> 25;

	return (pre & 0x1ffffff) << 5 ^ (b & 1 ? 0x3b6a57b2u : 0) ^ (b & 2 ? 0x26508e6du : 0) ^
	       (b & 4 ? 0x1ea119fau : 0) ^ (b & 8 ? 0x3d4233ddu : 0) ^ (b & 16 ? 0x2a1462b3u : 0);
}

bool checks_bech32(const uint8_t *p, size_t n)
{
	static const char digits[] = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";
	static const uint8_t hrp[] = {3, 3, 0, 2, 3}; /* of "bc": high bits, 0, low bits */
	uint32_t c = 1;

	if (n < 14 || n > 90 || ascii_lower((char)p[0]) != 'b' || ascii_lower((char)p[1]) != 'c' ||
	    p[2] != '1')
		return false;
	for (size_t i = 0; i < sizeof(hrp); i++)
		c = bech32_step(c) ^ hrp[i];
	for (size_t i = 3; i < n; i++) {
		const char *d = p[i] ? strchr(digits, ascii_lower((char)p[i])) : NULL;

		if (!d)
			return false;
		c = bech32_step(c) ^ (uint32_t)(d - digits);
	}
	return c == 1 || c == 0x2bc830a3;
}

unsigned checks_printable(const uint8_t *p, size_t n)
{
	size_t k = 0;

	for (size_t i = 0; i < n; i++)
		k += p[i] >= 0x20 && p[i] < 0x7f;
	return n ? (unsigned)(k * 100 / n) : 0;
}

static unsigned kind_of_byte(uint8_t b)
{
	return ascii_is_digit((char)b) ? 0
	       : b >= 'A' && b <= 'Z'  ? 1
	       : b >= 'a' && b <= 'z'  ? 2
				       : 3;
}

size_t checks_switches(const uint8_t *p, size_t n)
{
	size_t k = 0;

	for (size_t i = 1; i < n; i++)
		k += kind_of_byte(p[i]) != kind_of_byte(p[i - 1]);
	return k;
}
