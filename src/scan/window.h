/*
 * The prefilter of the fingerprints: a hash of each window of SCAN_PRINT_WINDOW bytes, for 32
 * windows at a time. A hash is a sum of the window's bytes, each times a coefficient that the key
 * gives, modulo 2^16: sums of products of bytes are what processors do fastest.
 */
#pragma once

#include "scan/scan.h"

#define SCAN_WINDOW_BLOCK 32					      /* windows at a time */
#define SCAN_WINDOW_READS (SCAN_WINDOW_BLOCK + SCAN_PRINT_WINDOW - 1) /* bytes of one block */

struct scan_window_hash {
	/* Odd, and small enough that two products of a byte never exceed 16 bits. */
	int8_t coefficient[SCAN_PRINT_WINDOW];
	uint64_t multiplier;
};

/* Distinct sums that are looked for. */
struct scan_window_set {
	uint16_t sum[SCAN_PRINTS_MAX];
	size_t n;
};

void scan_window_hash_init(struct scan_window_hash *h, uint64_t multiplier);
/* SCAN_PRINT_HASH_BITS bits: the sum, then eight bits of another hash of the same bytes. */
uint32_t scan_window_hash(const struct scan_window_hash *h, const uint8_t *p);
void scan_window_set_add(struct scan_window_set *s, uint32_t hash);

/* Candidates among the windows that begin at p[at] ... p[n - SCAN_PRINT_WINDOW]. */
struct scan_window_search {
	const struct scan_window_hash *hash;
	const struct scan_window_set *set;
	const uint8_t *p;
	size_t n, at;
	uint32_t hits;	  /* of the block at `at` */
	bool is_portable; /* for the test: as on a processor without wide registers */
};
struct scan_window_search scan_window_begin(const struct scan_window_hash *h,
					    const struct scan_window_set *s, const uint8_t *p,
					    size_t n, size_t from);
/* The same on a search that was filled in by hand. */
void scan_window_start(struct scan_window_search *w);
/* The next candidate's place, or SIZE_MAX. */
size_t scan_window_next(struct scan_window_search *w);

/* Letters and digits of p[0..n) to out, which has room for n + SCAN_SQUEEZE_SLACK: how many. */
#define SCAN_SQUEEZE_SLACK 16
size_t scan_window_squeeze(uint8_t *out, const uint8_t *p, size_t n);
