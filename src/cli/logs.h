/* How `logs` shows and checks records. */
#pragma once

#include "base/buf.h"
#include "base/err.h"

#include "record/record.h"

/* One record line in columns for people. A line that is no record is shown as it is, made visible.
 */
int logs_format(struct str line, bool has_colour, struct buf *out) _fallible_;

/* The chain, and the signatures of the checkpoints in it: Ed25519 (RFC 8032) by the key that the
 * chain's own "signing-key" record names. A cut at the very end is seen only as records that no
 * checkpoint signs. */
struct logs_chain {
	uint64_t seq, n_signed; /* n_signed: the last record that a good signature covers */
	uint64_t n_checkpoints;
	char hash_hex[RECORD_HASH_HEX];
	unsigned char public_key[32];
	bool has_key;
};
void logs_chain_start(struct logs_chain *c);
/* -EBADMSG where the chain or a signature breaks. */
int logs_chain_add(struct logs_chain *c, struct str line, struct err *e) _fallible_;
