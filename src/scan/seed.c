/* BIP 39 seed phrases: words of the list in a row, and their checksum. */
#include "scan/walk.h"

#include <openssl/sha.h>

#define SEED_WORDS_MAX 24

static const char seed_words[2048][9] = {
#include "scan/seed_words.inc"
};

/* The first four letters tell a word of the list: a table by their hash, entries are index + 1. */
#define SEED_SLOTS 8192
static uint16_t seed_slot[SEED_SLOTS];

/* A word of three to eight letters as a number, unused bytes zero, without a look past it. */
static inline uint64_t seed_pack(const uint8_t *p, size_t n)
{
	uint32_t first, last;

	if (n == 3)
		return (uint64_t)p[0] | (uint64_t)p[1] << 8 | (uint64_t)p[2] << 16;
	memcpy(&first, p, 4);
	memcpy(&last, p + n - 4, 4);
	return first | (uint64_t)last >> 8 * (8 - n) << 32;
}

static inline uint32_t seed_hash(uint64_t packed)
{
	return (uint32_t)packed * 2654435761u >> 19;
}

__attribute__((constructor)) static void seed_fill(void)
{
	for (size_t i = 0; i < ARRAY_LEN(seed_words); i++) {
		uint32_t h =
			seed_hash(seed_pack((const uint8_t *)seed_words[i], strlen(seed_words[i])));

		while (seed_slot[h])
			h = (h + 1) % SEED_SLOTS;
		seed_slot[h] = (uint16_t)(i + 1);
	}
}

/* Index of the word, or -1. */
static int seed_index(const uint8_t *p, size_t n)
{
	uint64_t packed, word;

	if (n < 3 || n > 8)
		return -1;
	packed = seed_pack(p, n);
	for (uint32_t h = seed_hash(packed); seed_slot[h]; h = (h + 1) % SEED_SLOTS) {
		memcpy(&word, seed_words[seed_slot[h] - 1], sizeof(word));
		if (word == packed)
			return seed_slot[h] - 1;
	}
	return -1;
}

static bool seed_checksum_holds(const int *index, size_t words)
{
	uint8_t bits[SEED_WORDS_MAX * 11 / 8 + 1] = {0}, sum[32];
	size_t check = words / 3, data = words * 11 - check;

	for (size_t i = 0; i < words * 11; i++)
		if (index[i / 11] >> (10 - i % 11) & 1)
			bits[i / 8] |= (uint8_t)(128 >> (i % 8));
	SHA256(bits, data / 8, sum);
	for (size_t i = 0; i < check; i++)
		if ((bits[(data + i) / 8] >> (7 - (data + i) % 8) & 1) !=
		    (sum[i / 8] >> (7 - i % 8) & 1))
			return false;
	return true;
}

struct seed_words {
	int index[SEED_WORDS_MAX];
	size_t from[SEED_WORDS_MAX], to[SEED_WORDS_MAX];
	size_t n;
};

/* The phrase that ends with the last word, of the longest length that holds. */
static bool seed_ends_here(const struct seed_words *s, size_t *from)
{
	for (size_t words = s->n - s->n % 3; words >= 12; words -= 3)
		if (seed_checksum_holds(s->index + s->n - words, words)) {
			*from = s->from[s->n - words];
			return true;
		}
	return false;
}

static void seed_push(struct seed_words *s, int index, size_t from, size_t to)
{
	if (s->n == SEED_WORDS_MAX) {
		memmove(s->index, s->index + 1, sizeof(s->index) - sizeof(s->index[0]));
		memmove(s->from, s->from + 1, sizeof(s->from) - sizeof(s->from[0]));
		s->n--;
	}
	s->index[s->n] = index;
	s->from[s->n++] = from;
	s->to[s->n - 1] = to;
}

/* The word around p[i]. False where there is none. */
static bool word_at(const uint8_t *p, size_t low, size_t end, size_t i, size_t *from, size_t *to)
{
	if (i >= end || p[i] < 'a' || p[i] > 'z')
		return false;
	for (*from = i; *from > low && p[*from - 1] >= 'a' && p[*from - 1] <= 'z';)
		--*from;
	for (*to = i; *to < end && p[*to] >= 'a' && p[*to] <= 'z';)
		++*to;
	return true;
}

/* A phrase has at least twelve words and SCAN_RUN_WORD_MIN bytes, so that one of its first eight
 * words stands in every stretch of half of that: testing there for three words of the list in a row
 * skips most of a text. Returns where a phrase may begin, or end. */
static size_t seed_candidate(const uint8_t *p, size_t at, size_t end)
{
	size_t low = at, from, to, i = at;
	unsigned rank;

	while (i < end) {
		/* A separator: the word after it is no further than a few bytes. */
		while (i < end && (p[i] < 'a' || p[i] > 'z'))
			i++;
		if (!word_at(p, low, end, i, &from, &to))
			return end;
		for (rank = 0; rank < 3 && seed_index(p + from, to - from) >= 0; rank++) {
			for (i = to; i < end && i < to + 4 && (p[i] < 'a' || p[i] > 'z');)
				i++;
			if (!word_at(p, to, end, i, &from, &to))
				return end;
		}
		if (rank == 3)
			return low;
		low = to;
		i = to + SCAN_RUN_WORD_MIN / 2;
	}
	return end;
}

/* Reads words from at on: true with a phrase, else *to is behind the first word not of the list
 * that follows one of it. */
static bool seed_read(const uint8_t *p, size_t at, size_t end, size_t *from, size_t *to)
{
	struct seed_words s;
	size_t i = at, gap = 0;
	bool had_any = false;

	s.n = 0;
	while (i < end) {
		size_t word = i;
		int index;

		while (i < end && p[i] >= 'a' && p[i] <= 'z')
			i++;
		if (i == word) {
			i++;
			if (++gap > 4)
				s.n = 0;
			continue;
		}
		gap = 0;
		index = seed_index(p + word, i - word);
		if (index < 0) {
			s.n = 0;
			if (had_any && i - at >= SCAN_RUN_WORD_MIN / 2 + 8)
				break;
			continue;
		}
		had_any = true;
		seed_push(&s, index, word, i);
		if (s.n >= 12 && seed_ends_here(&s, from)) {
			*to = i;
			return true;
		}
	}
	*to = i;
	return false;
}

bool seed_phrase_find(const uint8_t *p, size_t at, size_t end, size_t *from, size_t *to)
{
	while (at < end) {
		at = seed_candidate(p, at, end);
		if (at < end && seed_read(p, at, end, from, to))
			return true;
		at = at < end ? *to : end;
	}
	return false;
}
