/*
 * Escapes in text. All kinds are undone in one pass, as in practice they are mixed; a text that was
 * escaped twice is the same decoder one level deeper. Where kinds occur together, each is also
 * undone alone (chain.c), since undoing one may spoil what another would have shown.
 */
#include "scan/decode.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

static size_t utf8_put(uint8_t *out, uint32_t cp)
{
	if (cp < 0x80) {
		out[0] = (uint8_t)cp;
		return 1;
	}
	if (cp < 0x800) {
		out[0] = (uint8_t)(0xc0 | cp >> 6);
		out[1] = (uint8_t)(0x80 | (cp & 63));
		return 2;
	}
	if (cp < 0x10000) {
		out[0] = (uint8_t)(0xe0 | cp >> 12);
		out[1] = (uint8_t)(0x80 | (cp >> 6 & 63));
		out[2] = (uint8_t)(0x80 | (cp & 63));
		return 3;
	}
	out[0] = (uint8_t)(0xf0 | cp >> 18);
	out[1] = (uint8_t)(0x80 | (cp >> 12 & 63));
	out[2] = (uint8_t)(0x80 | (cp >> 6 & 63));
	out[3] = (uint8_t)(0x80 | (cp & 63));
	return 4;
}

/* count hex digits at p. False if they are not there. */
static bool hex_at(const uint8_t *p, const uint8_t *end, size_t count, uint32_t *value)
{
	uint32_t x = 0;

	if ((size_t)(end - p) < count)
		return false;
	for (size_t i = 0; i < count; i++) {
		int d = ascii_hex_value((char)p[i]);

		if (d < 0)
			return false;
		x = x << 4 | (uint32_t)d;
	}
	*value = x;
	return true;
}

/* Each of these undoes the escape at *p, which it moves past it; 0 when there is none. */
static size_t percent_undo(const uint8_t **p, const uint8_t *end, uint8_t *out)
{
	uint32_t x;

	if (hex_at(*p + 1, end, 2, &x)) {
		*p += 3;
		out[0] = (uint8_t)x;
		return 1;
	}
	if (end - *p > 2 && ((*p)[1] | 0x20) == 'u' && hex_at(*p + 2, end, 4, &x)) {
		*p += 6;
		return utf8_put(out, x);
	}
	return 0;
}

static size_t unicode_undo(const uint8_t **p, const uint8_t *end, uint8_t *out)
{
	uint32_t x, low;
	const uint8_t *q = *p + 2;

	if (q < end && *q == '{') { /* \u{1F600} */
		size_t n = 0;

		x = 0;
		while (q + 1 + n < end && n < 6 && ascii_hex_value((char)q[1 + n]) >= 0)
			x = x << 4 | (uint32_t)ascii_hex_value((char)q[1 + n++]);
		if (n == 0 || q + 1 + n >= end || q[1 + n] != '}' || x > 0x10ffff)
			return 0;
		*p = q + 2 + n;
		return utf8_put(out, x);
	}
	if (!hex_at(q, end, 4, &x))
		return 0;
	*p = q + 4;
	if (x >= 0xd800 && x < 0xdc00 && end - *p >= 6 && (*p)[0] == '\\' && (*p)[1] == 'u' &&
	    hex_at(*p + 2, end, 4, &low) && low >= 0xdc00 && low < 0xe000) {
		*p += 6;
		x = 0x10000 + ((x - 0xd800) << 10) + (low - 0xdc00);
	}
	return utf8_put(out, x);
}

static size_t backslash_undo(const uint8_t **p, const uint8_t *end, uint8_t *out)
{
	static const char from[] = "nrtbf", to[] = "\n\r\t\b\f";
	const char *at;
	uint32_t x;
	uint8_t c;

	if (end - *p < 2)
		return 0;
	c = (*p)[1];
	if (c == 'u' || c == 'U')
		return unicode_undo(p, end, out);
	if (c == 'x' && hex_at(*p + 2, end, 2, &x)) {
		*p += 4;
		out[0] = (uint8_t)x;
		return 1;
	}
	if (end - *p >= 4 && c >= '0' && c <= '3' && (*p)[2] >= '0' && (*p)[2] <= '7' &&
	    (*p)[3] >= '0' && (*p)[3] <= '7') {
		out[0] = (uint8_t)((c - '0') << 6 | ((*p)[2] - '0') << 3 | ((*p)[3] - '0'));
		*p += 4;
		return 1;
	}
	at = c ? strchr(from, c) : NULL;
	if (at) {
		out[0] = (uint8_t)to[at - from];
	} else if (c > ' ' && c < 0x7f && !ascii_is_alnum((char)c)) {
		out[0] = c; /* \" \\ \/ and what markdown and shells escape */
	} else {
		return 0;
	}
	*p += 2;
	return 1;
}

static size_t entity_undo(const uint8_t **p, const uint8_t *end, uint8_t *out)
{
	static const struct {
		const char *name;
		char c;
	} names[] = {
		{"amp;", '&'},	    {"lt;", '<'},
		{"gt;", '>'},	    {"quot;", '"'},
		{"apos;", '\''},    {"lowbar;", '_'},
		{"UnderBar;", '_'}, {"hyphen;", '-'},
		{"dash;", '-'},	    {"sol;", '/'},
		{"plus;", '+'},	    {"equals;", '='},
		{"colon;", ':'},    {"commat;", '@'},
		{"period;", '.'},   {"nbsp;", ' '},
		{"Tab;", '\t'},	    {"NewLine;", '\n'},
		{"percnt;", '%'},   {"bsol;", '\\'},
		{"shy;", '\0'},	    {"ZeroWidthSpace;", '\0'},
		{"zwj;", '\0'},	    {"zwnj;", '\0'},
	};
	const uint8_t *q = *p + 1;
	uint32_t x = 0;
	size_t n = 0;

	if (q < end && *q == '#') {
		bool is_hex = ++q < end && (*q | 0x20) == 'x';

		q += is_hex;
		for (; q + n < end && n < 8; n++) {
			int d = ascii_hex_value((char)q[n]);

			if (d < 0 || (!is_hex && d > 9))
				break;
			x = x * (is_hex ? 16 : 10) + (uint32_t)d;
			if (x > 0x10ffff)
				return 0;
		}
		if (n == 0)
			return 0;
		*p = q + n + (q + n < end && q[n] == ';');
		return utf8_put(out, x);
	}
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		n = strlen(names[i].name);
		if ((size_t)(end - q) >= n && memcmp(q, names[i].name, n) == 0) {
			*p = q + n;
			out[0] = (uint8_t)names[i].c;
			return names[i].c != '\0';
		}
	}
	return 0;
}

/* *is_soft: a line break that goes without trace. */
static size_t qp_undo(const uint8_t **p, const uint8_t *end, uint8_t *out, bool *is_soft)
{
	uint32_t x;

	if (hex_at(*p + 1, end, 2, &x)) {
		*p += 3;
		out[0] = (uint8_t)x;
		return 1;
	}
	if (end - *p >= 2 && (*p)[1] == '\n')
		*p += 2;
	else if (end - *p >= 3 && (*p)[1] == '\r' && (*p)[2] == '\n')
		*p += 3;
	else
		return 0;
	*is_soft = true;
	return 0;
}

static unsigned kind_of(uint8_t c)
{
	switch (c) {
	case '%':
		return ESCAPE_PERCENT;
	case '\\':
		return ESCAPE_JSON;
	case '&':
		return ESCAPE_HTML;
	case '+':
		return ESCAPE_FORM;
	case '=':
		return ESCAPE_QP;
	default:
		return 0;
	}
}

/* Copies up to the next byte that may begin an escape of these kinds. */
static const uint8_t *copy_plain(const uint8_t *p, const uint8_t *end, uint8_t **to, unsigned kinds)
{
	uint8_t *out = *to;
	bool is_hit = false;

#if defined(__SSE2__)
	const __m128i pc = _mm_set1_epi8(kinds & ESCAPE_PERCENT ? '%' : (char)0xff);
	const __m128i bs = _mm_set1_epi8(kinds & ESCAPE_JSON ? '\\' : (char)0xff);
	const __m128i am = _mm_set1_epi8(kinds & ESCAPE_HTML ? '&' : (char)0xff);
	const __m128i eq = _mm_set1_epi8(kinds & ESCAPE_QP ? '=' : (char)0xff);
	const __m128i pl = _mm_set1_epi8(kinds & ESCAPE_FORM ? '+' : (char)0xff);

	while (end - p >= 16 && !is_hit) {
		__m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
		__m128i m =
			_mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(v, pc), _mm_cmpeq_epi8(v, bs)),
				     _mm_or_si128(_mm_cmpeq_epi8(v, am), _mm_cmpeq_epi8(v, eq)));
		unsigned bits = (unsigned)_mm_movemask_epi8(_mm_or_si128(m, _mm_cmpeq_epi8(v, pl)));
		unsigned n = bits ? (unsigned)__builtin_ctz(bits) : 16;

		_mm_storeu_si128((__m128i *)(void *)out, v);
		p += n;
		out += n;
		is_hit = bits != 0;
	}
#endif
	while (!is_hit && p < end && !(kind_of(*p) & kinds))
		*out++ = *p++;
	*to = out;
	return p;
}

unsigned scan_unescape(struct scan_out *o, const uint8_t *p, size_t n, unsigned kinds)
{
	const uint8_t *begin = p, *end = p + n, *next_point = p;
	size_t every = n / (SCAN_POINTS_MAX / 2) + 16;
	unsigned undone = 0;
	uint8_t *out;

	scan_out_reset(o);
	out = scan_out_reserve(o, n + 32);
	if (!out)
		return 0;
	while (p < end) {
		const uint8_t *was;
		bool is_gone = false;
		unsigned kind;
		size_t k = 0;

		p = copy_plain(p, end, &out, kinds);
		if (p == end)
			break;
		was = p;
		o->n = (size_t)(out - o->p);
		if (p >= next_point) {
			scan_out_point(o, (size_t)(p - begin));
			next_point = p + every;
		}
		kind = kind_of(*p) & kinds;
		if (kind == ESCAPE_PERCENT) {
			k = percent_undo(&p, end, out);
			undone |= k == 1 && ascii_is_alnum((char)*out) ? ESCAPE_NEEDLESS : 0;
		}
		if (kind == ESCAPE_JSON)
			k = backslash_undo(&p, end, out);
		else if (kind == ESCAPE_HTML)
			k = entity_undo(&p, end, out);
		else if (kind == ESCAPE_QP)
			k = qp_undo(&p, end, out, &is_gone);
		else if (kind == ESCAPE_FORM)
			out[k++] = ' ', p++;
		if (p == was) {
			*out++ = *p++;
			continue;
		}
		out += k;
		undone |= kind;
	}
	o->n = (size_t)(out - o->p);
	/* Plain text between two escapes is as long here as there: offsets shift by what the last
	 * point says. A point at the end closes the last stretch. */
	scan_out_point(o, n);
	return undone;
}
