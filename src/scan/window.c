#include "scan/window.h"
#include "scan/scan_int.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

typedef uint8_t bytes16 __attribute__((vector_size(16)));
typedef uint16_t lanes16 __attribute__((vector_size(32)));

void scan_window_hash_init(struct scan_window_hash *h, uint64_t multiplier)
{
	uint64_t x = multiplier;

	h->multiplier = multiplier;
	for (size_t i = 0; i < SCAN_PRINT_WINDOW; i++) { /* SplitMix64 */
		uint64_t z = x += UINT64_C(0x9e3779b97f4a7c15);

		z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
		z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
		h->coefficient[i] = (int8_t)(((int)(z >> 57) - 64) | 1);
	}
}

static uint16_t window_sum(const struct scan_window_hash *h, const uint8_t *p)
{
	unsigned sum = 0;

	for (size_t i = 0; i < SCAN_PRINT_WINDOW; i++)
		sum += (unsigned)(p[i] * h->coefficient[i]);
	return (uint16_t)sum;
}

/* All twelve bytes, the middle ones twice: two overlapping loads are cheaper than two that fit. */
uint32_t scan_window_hash(const struct scan_window_hash *h, const uint8_t *p)
{
	uint64_t a, b;

	memcpy(&a, p, 8);
	memcpy(&b, p + 4, 8);
	return (uint32_t)window_sum(h, p) << 8 | (uint32_t)((a + 2 * b) * h->multiplier >> 56);
}

void scan_window_set_add(struct scan_window_set *s, uint32_t hash)
{
	uint16_t sum = (uint16_t)(hash >> 8);

	for (size_t i = 0; i < s->n; i++)
		if (s->sum[i] == sum)
			return;
	if (s->n < SCAN_PRINTS_MAX)
		s->sum[s->n++] = sum;
}

/* Looks at up to `blocks` blocks from p on. The number of blocks before the first with a hit. */
static size_t blocks_portable(const struct scan_window_search *w, const uint8_t *p, size_t blocks,
			      uint32_t *hits)
{
	const struct scan_window_set *s = w->set;

	*hits = 0;
	for (size_t b = 0; b < 2 * blocks; b++) {
		lanes16 sum = {0}, found = {0};
		uint64_t any[4];

		for (size_t j = 0; j < SCAN_PRINT_WINDOW; j++) {
			bytes16 in;

			memcpy(&in, p + 16 * b + j, sizeof(in));
			sum += __builtin_convertvector(in, lanes16) *
			       (uint16_t)w->hash->coefficient[j];
		}
		for (size_t k = 0; k < s->n; k++)
			found |= (lanes16)(sum == s->sum[k]);
		memcpy(any, &found, sizeof(any));
		if (any[0] | any[1] | any[2] | any[3])
			for (unsigned i = 0; i < 16; i++)
				*hits |= (uint32_t)(found[i] & 1) << (i + 16 * (b & 1));
		if ((b & 1) && *hits)
			return b / 2;
	}
	return blocks;
}

#if defined(__x86_64__)
/* Sums of the windows at even places in one register, of those at odd places in another. */
__attribute__((target("avx2"))) static size_t
blocks_avx2(const struct scan_window_search *w, const uint8_t *p, size_t blocks, uint32_t *hits)
{
	const struct scan_window_set *s = w->set;
	__m256i pair[SCAN_PRINT_WINDOW / 2], wanted[4];

	for (size_t j = 0; j < SCAN_PRINT_WINDOW / 2; j++) {
		int16_t two;

		memcpy(&two, w->hash->coefficient + 2 * j, sizeof(two));
		pair[j] = _mm256_set1_epi16(two);
	}
	for (size_t k = 0; k < 4; k++)
		wanted[k] = _mm256_set1_epi16((int16_t)s->sum[k < s->n ? k : 0]);
	for (size_t b = 0; b < blocks; b++, p += SCAN_WINDOW_BLOCK) {
		__m256i even = _mm256_setzero_si256(), odd = even, in_even, in_odd;

#pragma GCC unroll 6
		for (size_t j = 0; j < SCAN_PRINT_WINDOW / 2; j++) {
			const __m256i *at = (const __m256i *)(const void *)(p + 2 * j);
			const __m256i *next = (const __m256i *)(const void *)(p + 2 * j + 1);

			even = _mm256_add_epi16(
				even, _mm256_maddubs_epi16(_mm256_loadu_si256(at), pair[j]));
			odd = _mm256_add_epi16(
				odd, _mm256_maddubs_epi16(_mm256_loadu_si256(next), pair[j]));
		}
		in_even = _mm256_cmpeq_epi16(even, wanted[0]);
		in_odd = _mm256_cmpeq_epi16(odd, wanted[0]);
#pragma GCC unroll 3
		for (size_t k = 1; k < 4; k++) {
			in_even = _mm256_or_si256(in_even, _mm256_cmpeq_epi16(even, wanted[k]));
			in_odd = _mm256_or_si256(in_odd, _mm256_cmpeq_epi16(odd, wanted[k]));
		}
		for (size_t k = 4; k < s->n; k++) {
			__m256i sum = _mm256_set1_epi16((int16_t)s->sum[k]);

			in_even = _mm256_or_si256(in_even, _mm256_cmpeq_epi16(even, sum));
			in_odd = _mm256_or_si256(in_odd, _mm256_cmpeq_epi16(odd, sum));
		}
		*hits = (uint32_t)_mm256_movemask_epi8(
			_mm256_blendv_epi8(in_even, in_odd, _mm256_set1_epi16((int16_t)0xff00)));
		if (*hits)
			return b;
	}
	*hits = 0;
	return blocks;
}
#endif

static size_t blocks_next(const struct scan_window_search *w, const uint8_t *p, size_t blocks,
			  uint32_t *hits)
{
#if defined(__x86_64__)
	if (!w->is_portable && __builtin_cpu_supports("avx2"))
		return blocks_avx2(w, p, blocks, hits);
#endif
	return blocks_portable(w, p, blocks, hits);
}

/* From w->at on: the first block with a hit. False when there is none. */
static bool search_blocks(struct scan_window_search *w)
{
	uint8_t last[SCAN_WINDOW_READS] = {0};
	size_t left = w->n - w->at, blocks = 0, skipped;

	if (left >= SCAN_WINDOW_READS) {
		blocks = (left - SCAN_WINDOW_READS) / SCAN_WINDOW_BLOCK + 1;
		skipped = blocks_next(w, w->p + w->at, blocks, &w->hits);
		w->at += skipped * SCAN_WINDOW_BLOCK;
		if (skipped < blocks)
			return true;
		left = w->n - w->at;
	}
	/* What is left is less than a block reads. */
	if (left < SCAN_PRINT_WINDOW)
		return false;
	memcpy(last, w->p + w->at, left);
	(void)blocks_next(w, last, 1, &w->hits);
	w->hits &= ~UINT32_C(0) >> (SCAN_WINDOW_BLOCK - 1 - (left - SCAN_PRINT_WINDOW));
	return w->hits != 0;
}

void scan_window_start(struct scan_window_search *w)
{
	if (w->set->n == 0 || w->at > w->n || !search_blocks(w)) {
		w->hits = 0;
		w->at = w->n;
	}
}

struct scan_window_search scan_window_begin(const struct scan_window_hash *h,
					    const struct scan_window_set *s, const uint8_t *p,
					    size_t n, size_t from)
{
	struct scan_window_search w = {.hash = h, .set = s, .p = p, .n = n, .at = from};

	scan_window_start(&w);
	return w;
}

size_t scan_window_next(struct scan_window_search *w)
{
	size_t found;

	if (w->hits == 0) {
		if (w->n - w->at < SCAN_WINDOW_BLOCK)
			return SIZE_MAX;
		w->at += SCAN_WINDOW_BLOCK;
		if (!search_blocks(w)) {
			w->at = w->n;
			w->hits = 0;
			return SIZE_MAX;
		}
	}
	found = w->at + (unsigned)__builtin_ctz(w->hits);
	w->hits &= w->hits - 1;
	return found;
}

static size_t squeeze_bytes(uint8_t *out, const uint8_t *p, size_t n)
{
	size_t k = 0;

	for (size_t i = 0; i < n; i++) {
		uint8_t c = p[i], letter = (uint8_t)((c | 0x20) - 'a');

		out[k] = c;
		k += (letter < 26) | ((uint8_t)(c - '0') < 10);
	}
	return k;
}

#if defined(__x86_64__)
/* By a mask of eight bytes: the places of those that are kept, in order. */
static uint8_t kept_places[256][8], kept_count[256];

__attribute__((constructor)) static void kept_places_fill(void)
{
	for (unsigned mask = 0; mask < 256; mask++)
		for (unsigned bit = 0, k = 0; bit < 8; bit++)
			if (mask >> bit & 1) {
				kept_places[mask][k++] = (uint8_t)bit;
				kept_count[mask]++;
			}
}

__attribute__((target("ssse3"))) static inline uint8_t *keep_eight(uint8_t *out, __m128i v,
								   unsigned mask)
{
	__m128i places = _mm_loadl_epi64((const __m128i *)(const void *)kept_places[mask]);

	_mm_storel_epi64((__m128i *)(void *)out, _mm_shuffle_epi8(v, places));
	return out + kept_count[mask];
}

__attribute__((target("ssse3"))) size_t scan_window_squeeze(uint8_t *out, const uint8_t *p,
							    size_t n)
{
	const __m128i low = _mm_set1_epi8(0x20), a = _mm_set1_epi8('a'), zero = _mm_set1_epi8('0');
	const __m128i z = _mm_set1_epi8(25), nine = _mm_set1_epi8(9);
	uint8_t *to = out;
	size_t i;

	for (i = 0; i + 16 <= n; i += 16) {
		__m128i v = _mm_loadu_si128((const __m128i *)(const void *)(p + i));
		__m128i letter = _mm_sub_epi8(_mm_or_si128(v, low), a);
		__m128i digit = _mm_sub_epi8(v, zero);
		__m128i is_kept = _mm_or_si128(_mm_cmpeq_epi8(_mm_min_epu8(letter, z), letter),
					       _mm_cmpeq_epi8(_mm_min_epu8(digit, nine), digit));
		unsigned mask = (unsigned)_mm_movemask_epi8(is_kept);

		to = keep_eight(to, v, mask & 255);
		to = keep_eight(to, _mm_srli_si128(v, 8), mask >> 8);
	}
	return (size_t)(to - out) + squeeze_bytes(to, p + i, n - i);
}
#else
size_t scan_window_squeeze(uint8_t *out, const uint8_t *p, size_t n)
{
	return squeeze_bytes(out, p, n);
}
#endif
