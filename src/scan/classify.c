/*
 * One pass over a text that finds what the decoders and walkers could have work with. Sixteen bytes
 * at a time: whether a byte belongs to a set of ASCII characters is two table look-ups by nibble
 * (the low nibble's entry has a bit for each high nibble). The sets become bit masks of 64 bytes,
 * in which long runs are found by shifting. Hyperscan needs SSSE3 already; elsewhere a table of 256
 * does the same.
 */
#include "scan/scan_int.h"

#include <stdlib.h>

#if defined(__x86_64__)
#include <tmmintrin.h>
#define CLASS_TARGET __attribute__((target("ssse3")))
#else
#define CLASS_TARGET
#endif

enum { SET_TOKEN, SET_SPACED, SET_DIGIT, SET_WORD, SET_CONTROL, SET_SPACE, SET_COUNT };

enum { FLAG_PERCENT = 1, FLAG_BACKSLASH = 2, FLAG_AMPERSAND = 4, FLAG_EQUALS = 8, FLAG_PLUS = 16 };

struct class_tables {
	uint8_t low[SET_COUNT][16];
	uint8_t byte[256];   /* bit per set, for the portable path */
	uint8_t flag_of[16]; /* by low nibble: the character that has a flag, and its flag */
	uint8_t flag_bit[16];
};

static struct class_tables tables;

static bool set_has(unsigned set, uint8_t b)
{
	char c = (char)b;

	switch (set) {
	case SET_TOKEN:
		return ascii_is_alnum(c) || c == '+' || c == '/' || c == '_' || c == '-';
	case SET_SPACED:
		return ascii_hex_value(c) >= 0 || (b && strchr(" -:,._xX\\;|/\n\r\t", c));
	case SET_DIGIT:
		return ascii_is_digit(c) || c == ' ' || c == '-';
	case SET_WORD:
		return (c >= 'a' && c <= 'z') || (b && strchr(" ,+\"\n\r\t", c));
	case SET_CONTROL:
		return b > 0 && b < 0x20 && !strchr("\t\n\r", c);
	default:
		return b && strchr(" \t\n\r", c);
	}
}

__attribute__((constructor)) static void tables_fill(void)
{
	static const char flags[] = "%\\&=+";

	for (unsigned b = 0; b < 128; b++)
		for (unsigned s = 0; s < SET_COUNT; s++)
			if (set_has(s, (uint8_t)b)) {
				tables.low[s][b & 15] |= (uint8_t)(1u << (b >> 4));
				tables.byte[b] |= (uint8_t)(1u << s);
			}
	for (unsigned i = 0; flags[i]; i++) {
		tables.flag_of[flags[i] & 15] = (uint8_t)flags[i];
		tables.flag_bit[flags[i] & 15] = (uint8_t)(1u << i);
	}
}

struct block {
	uint64_t set[SET_COUNT];
	uint64_t high, nul;
	unsigned flags;
};

#if defined(__x86_64__)
CLASS_TARGET static inline void block_class(struct block *b, const uint8_t *p)
{
	const __m128i nibble = _mm_set1_epi8(15), zero = _mm_setzero_si128();
	const __m128i bit_of =
		_mm_setr_epi8(1, 2, 4, 8, 16, 32, 64, (char)128, 0, 0, 0, 0, 0, 0, 0, 0);
	const __m128i flag_of = _mm_loadu_si128((const __m128i *)(const void *)tables.flag_of);
	const __m128i flag_bit = _mm_loadu_si128((const __m128i *)(const void *)tables.flag_bit);
	__m128i flags = zero;
	uint8_t folded[16];

	*b = (struct block){0};
#pragma GCC unroll 4
	for (unsigned i = 0; i < 4; i++) {
		__m128i v = _mm_loadu_si128((const __m128i *)(const void *)(p + 16 * i));
		__m128i lo = _mm_and_si128(v, nibble);
		__m128i row = _mm_shuffle_epi8(bit_of, _mm_and_si128(_mm_srli_epi16(v, 4), nibble));

#pragma GCC unroll 8
		for (unsigned s = 0; s < SET_COUNT; s++) {
			__m128i low = _mm_loadu_si128((const __m128i *)(const void *)tables.low[s]);
			__m128i out =
				_mm_cmpeq_epi8(_mm_and_si128(_mm_shuffle_epi8(low, lo), row), zero);

			b->set[s] |= (uint64_t)(~(unsigned)_mm_movemask_epi8(out) & 0xffffu)
				     << (16 * i);
		}
		b->high |= (uint64_t)(unsigned)_mm_movemask_epi8(v) << (16 * i);
		b->nul |= (uint64_t)(unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(v, zero))
			  << (16 * i);
		flags = _mm_or_si128(flags,
				     _mm_and_si128(_mm_cmpeq_epi8(v, _mm_shuffle_epi8(flag_of, lo)),
						   _mm_shuffle_epi8(flag_bit, lo)));
	}
	flags = _mm_or_si128(flags, _mm_srli_si128(flags, 8));
	flags = _mm_or_si128(flags, _mm_srli_si128(flags, 4));
	_mm_storeu_si128((__m128i *)(void *)folded, flags);
	b->flags = (unsigned)folded[0] | folded[1] | folded[2] | folded[3];
}
#else
static void block_class(struct block *b, const uint8_t *p)
{
	*b = (struct block){0};
	for (unsigned i = 0; i < 64; i++) {
		for (unsigned s = 0; s < SET_COUNT; s++)
			b->set[s] |= (uint64_t)(tables.byte[p[i]] >> s & 1) << i;
		b->high |= (uint64_t)(p[i] >> 7) << i;
		b->nul |= (uint64_t)(p[i] == 0) << i;
		if (tables.flag_of[p[i] & 15] == p[i])
			b->flags |= tables.flag_bit[p[i] & 15];
	}
}
#endif

struct run_state {
	struct scan_runs *runs;
	size_t min;
	size_t start;
	bool is_open; /* a run reaches the end of the last block */
};

static void runs_add(struct scan_runs *r, size_t from, size_t to)
{
	if (r->n == r->size) {
		size_t size = r->size ? r->size * 2 : 64;
		struct scan_run *p = realloc(r->p, size * sizeof(*p));

		if (!p)
			abort(); /* as mem_*: a text's runs are a fraction of its bytes */
		r->p = p;
		r->size = size;
	}
	r->p[r->n++] = (struct scan_run){(uint32_t)from, (uint32_t)to};
}

static void run_close(struct run_state *s, size_t to)
{
	if (s->is_open && to - s->start >= s->min)
		runs_add(s->runs, s->start, to);
	s->is_open = false;
}

/* Each run of at least min (12 or more) set bits in a sequence of masks. */
static inline void run_block(struct run_state *s, uint64_t m, size_t base)
{
	uint64_t e;
	unsigned top;

	if (s->is_open) {
		unsigned t = ~m ? (unsigned)__builtin_ctzll(~m) : 64;

		if (t == 64)
			return;
		run_close(s, base + t);
		m &= ~UINT64_C(0) << t;
	}
	top = m == ~UINT64_C(0) ? 64 : (unsigned)__builtin_clzll(~m);
	if (top) {
		s->is_open = true;
		s->start = base + 64 - top;
		m = top == 64 ? 0 : m & ~UINT64_C(0) >> top;
	}
	e = m & m >> 1;
	e &= e >> 2;
	e &= e >> 4;
	e &= e >> 4;
	while (e) {
		unsigned from = (unsigned)__builtin_ctzll(e);
		unsigned to = from + (unsigned)__builtin_ctzll(~(m >> from));

		if (to - from >= s->min)
			runs_add(s->runs, base + from, base + to);
		e &= ~UINT64_C(0) << to; /* to < 64: the top run was taken off */
	}
}

CLASS_TARGET void scan_classify(struct scan_class *c, const uint8_t *p, size_t n)
{
	struct run_state token = {.runs = &c->token, .min = SCAN_RUN_TOKEN_MIN};
	struct run_state spaced = {.runs = &c->spaced, .min = SCAN_RUN_HEX_MIN};
	struct run_state digit = {.runs = &c->digit, .min = SCAN_RUN_DIGIT_MIN};
	struct run_state word = {.runs = &c->word, .min = SCAN_RUN_WORD_MIN};
	uint64_t high = 0, nul = 0, control = 0, space = 0;
	unsigned flags = 0;

	c->token.n = c->spaced.n = c->digit.n = c->word.n = 0;
	for (size_t at = 0; at < n; at += 64) {
		uint8_t last[64];
		const uint8_t *q = p + at;
		struct block b;

		if (n - at < 64) {
			memset(last, 0x7f, sizeof(last)); /* in no set */
			memcpy(last, q, n - at);
			q = last;
		}
		block_class(&b, q);
		run_block(&token, b.set[SET_TOKEN], at);
		run_block(&spaced, b.set[SET_SPACED], at);
		run_block(&digit, b.set[SET_DIGIT], at);
		run_block(&word, b.set[SET_WORD], at);
		high |= b.high;
		nul |= b.nul;
		control |= b.set[SET_CONTROL];
		space |= b.set[SET_SPACE];
		flags |= b.flags;
	}
	run_close(&token, n);
	run_close(&spaced, n);
	run_close(&digit, n);
	run_close(&word, n);
	c->has_percent = flags & FLAG_PERCENT;
	c->has_backslash = flags & FLAG_BACKSLASH;
	c->has_ampersand = flags & FLAG_AMPERSAND;
	c->has_equals = flags & FLAG_EQUALS;
	c->has_plus = flags & FLAG_PLUS;
	c->has_high = high;
	c->has_nul = nul;
	c->has_control = control;
	c->has_space = space;
}
