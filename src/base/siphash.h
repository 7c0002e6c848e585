/*
 * SipHash-2-4 (Aumasson and Bernstein, 2012): 64 bits of a text under a secret key. Whoever does
 * not know the key and never sees a result cannot make two texts that have the same one, however
 * freely they choose them.
 */
#pragma once

#include "base/str.h"

/* Of first, as its eight bytes in memory, and the text behind it. */
uint64_t siphash(const uint64_t key[2], uint64_t first, struct str text);
