/* How `logs` shows and checks records. */
#pragma once

#include "base/buf.h"
#include "base/err.h"

#include "cli/runs.h"
#include "record/record.h"

/* One record line in columns for people. A line that is no record is shown as it is, made visible.
 */
int logs_format(struct str line, bool has_colour, struct buf *out) _fallible_;

/* Hands every whole line that fd still has to take; what is left in `in` is a line that has no end
 * yet. -EBADMSG for a line longer than any record. */
int logs_read(int fd, struct buf *in, int (*take)(void *ctx, struct str line, struct err *e),
	      void *ctx, struct err *e) _fallible_;

/* The chain, and the signatures of the checkpoints in it: Ed25519 (RFC 8032) by the key that the
 * chain's own "signing-key" record names, one for each run of the bottle. A cut at the very end is
 * seen only as records that no checkpoint signs, unless a run has begun since. */
struct logs_chain {
	uint64_t seq, n_signed; /* n_signed: the last record that a good signature covers */
	uint64_t n_checkpoints;
	char hash_hex[RECORD_HASH_HEX];
	unsigned char public_key[32];
	bool has_key;
	const struct runs *runs; /* NULL: one run */
	size_t run;		 /* how many of runs have ended */
};
/* runs (may be NULL) stays the caller's. */
void logs_chain_start(struct logs_chain *c, const struct runs *runs);
/* -EBADMSG where the chain or a signature breaks. */
int logs_chain_add(struct logs_chain *c, struct str line, struct err *e) _fallible_;
/* -EBADMSG when the records end before a run that began after them. */
int logs_chain_end(const struct logs_chain *c, struct err *e) _fallible_;
/* All of it over the records of a state folder, for one more run. *n_cut: bytes of a last line that
 * was not finished, as a killed run leaves it. */
int logs_chain_file(struct logs_chain *c, int fd, size_t *n_cut, struct err *e) _fallible_;
