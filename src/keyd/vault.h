/*
 * The bottle's secrets in keyd's memory, read from the sealed memory file that init passes on.
 */
#pragma once

#include "base/err.h"
#include "keyd/git_key.h"
#include "scan/scan.h"

#define VAULT_MAX 64

struct vault_secret {
	uint32_t kind; /* enum scan_kind: SECRET, CANARY or PLACEHOLDER */
	uint32_t index;
	struct str value; /* into the vault's locked memory */
};

struct vault_ssh_key {
	uint32_t index;
	struct git_key key;
};

struct vault {
	struct vault_secret secrets[VAULT_MAX];
	size_t n;
	/* No fingerprints are made of them: they are longer than what is searched for, and the
	 * scanner's rules know their shape. Their text is wiped once they are read. */
	struct vault_ssh_key *ssh_keys;
	size_t n_ssh_keys;
	struct scan_print_key key; /* fresh in each process */
	char *memory;		   /* page-aligned, locked where possible, never dumped */
	size_t memory_size;
};

/* fd: see struct bundle_secret_head; -1 for a bottle without secrets. */
int vault_open(struct vault *v, int fd, struct err *e) _fallible_;
void vault_close(struct vault *v);
/* The credential number index, or an empty slice. */
struct str vault_credential(const struct vault *v, uint32_t index);
/* NULL: none of this number. */
const struct git_key *vault_ssh_key(const struct vault *v, uint32_t index);
