#include "pipelock/known.h"

#include "base/log.h"

#include <unistd.h>

/* SipHash-2-4: Aumasson and Bernstein, 2012. */
struct sip {
	uint64_t v0, v1, v2, v3;
};

static inline uint64_t rotl(uint64_t x, int b)
{
	return x << b | x >> (64 - b);
}

static inline void sip_round(struct sip *s)
{
	s->v0 += s->v1;
	s->v1 = rotl(s->v1, 13) ^ s->v0;
	s->v0 = rotl(s->v0, 32);
	s->v2 += s->v3;
	s->v3 = rotl(s->v3, 16) ^ s->v2;
	s->v0 += s->v3;
	s->v3 = rotl(s->v3, 21) ^ s->v0;
	s->v2 += s->v1;
	s->v1 = rotl(s->v1, 17) ^ s->v2;
	s->v2 = rotl(s->v2, 32);
}

static inline void sip_word(struct sip *s, uint64_t m)
{
	s->v3 ^= m;
	sip_round(s);
	sip_round(s);
	s->v0 ^= m;
}

void known_init(struct known *k)
{
	memset(k, 0, sizeof(*k));
	if (getentropy(k->key, sizeof(k->key)) < 0)
		die("no randomness");
}

/* salt is hashed as a first block, so that no text can pass for another one's with its salt. */
uint64_t known_name(const struct known *k, uint64_t salt, struct str text)
{
	struct sip s = {
		k->key[0] ^ UINT64_C(0x736f6d6570736575), k->key[1] ^ UINT64_C(0x646f72616e646f6d),
		k->key[0] ^ UINT64_C(0x6c7967656e657261), k->key[1] ^ UINT64_C(0x7465646279746573)};
	uint64_t m, name;
	size_t at = 0;

	sip_word(&s, salt);
	for (; at + 8 <= text.n; at += 8) {
		memcpy(&m, text.p + at, 8);
		sip_word(&s, m);
	}
	m = 0;
	if (at < text.n)
		memcpy(&m, text.p + at, text.n - at);
	sip_word(&s, m | (uint64_t)(text.n + 8) << 56);
	s.v2 ^= 0xff;
	for (int i = 0; i < 4; i++)
		sip_round(&s);
	name = s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
	return name ? name : 1;
}
