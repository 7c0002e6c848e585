/*
 * Where one run of a bottle ended in its records and the next one began: runs.jsonl of the state
 * folder, a line {"after":N,"hash":"HEX"} for each resume, written by the host before the next
 * bundle is started. Each run's keyd signs with a key of its own, and each run's bundle may write
 * to the whole file of records. So a second signing key is taken only where a run began, and what
 * an earlier run recorded cannot be written anew by a later one without being found.
 */
#pragma once

#include "base/err.h"
#include "record/record.h"

#define RUNS_MAX 1000

struct runs_end {
	uint64_t after; /* the last record of a run; 0: it made none */
	char hash_hex[RECORD_HASH_HEX];
};

struct runs {
	struct runs_end *ends; /* in order */
	size_t n;
};

/* dir: the state folder. No file: the bottle has not been resumed. */
int runs_load(int dir, struct runs *out, struct err *e) _fallible_;
void runs_free(struct runs *r);
/* Writes one more, unless it is the last one's place: a run that failed before it recorded
 * anything. -E2BIG past RUNS_MAX. */
int runs_add(int dir, const struct runs *r, const struct runs_end *end, struct err *e) _fallible_;
