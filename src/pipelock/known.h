/*
 * Texts that were scanned before and found clean. A client sends the same fields with every
 * request, and their scan is the dearest part of a small exchange; a text that is the same byte for
 * byte, in the same place, for the same credential, need not be scanned again.
 *
 * What is kept is a 64-bit SipHash-2-4 under a random key of this process, so nobody can make a
 * text that passes for another without guessing 64 bits that are never shown. What the engine looks
 * for does not change while a process lives.
 */
#pragma once

#include "base/str.h"

#define KNOWN_SLOTS 1024
#define KNOWN_TEXT_MAX                                                                             \
	16384 /* a longer text is not looked up: hashing it costs, and it rarely recurs */

struct known {
	uint64_t key[2];
	uint64_t slots[KNOWN_SLOTS]; /* 0: empty */
};

/* Draws the key; aborts the process when there is no randomness. */
void known_init(struct known *k);
/* The name of a text: salt says where and for whom it stood. Never 0. */
uint64_t known_name(const struct known *k, uint64_t salt, struct str text);
static inline bool known_has(const struct known *k, uint64_t name)
{
	return k->slots[name % KNOWN_SLOTS] == name;
}
static inline void known_add(struct known *k, uint64_t name)
{
	k->slots[name % KNOWN_SLOTS] = name;
}
