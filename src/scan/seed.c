/* BIP 39 seed phrases: words of the list in a row, and their checksum. */
#include "scan/walk.h"

#include <openssl/sha.h>
#include <stdlib.h>

#define SEED_WORDS_MAX 24

static const char seed_words[2048][9] = {
#include "scan/seed_words.inc"
};

static int seed_compare(const void *key, const void *word)
{
	const struct str *k = key;
	size_t n = strlen(word);
	int r = memcmp(k->p, word, k->n < n ? k->n : n);

	return r ? r : (int)k->n - (int)n;
}

/* Index of the word, or -1. */
static int seed_index(const uint8_t *p, size_t n)
{
	struct str key = str_slice(p, n);
	const char(*w)[9];

	if (n < 3 || n > 8)
		return -1;
	w = bsearch(&key, seed_words, ARRAY_LEN(seed_words), sizeof(seed_words[0]), seed_compare);
	return w ? (int)(w - seed_words) : -1;
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

bool seed_phrase_find(const uint8_t *p, size_t at, size_t end, size_t *from, size_t *to)
{
	struct seed_words s = {.n = 0};
	size_t i = at, gap = 0;

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
			continue;
		}
		seed_push(&s, index, word, i);
		if (s.n >= 12 && seed_ends_here(&s, from)) {
			*to = i;
			return true;
		}
	}
	return false;
}
