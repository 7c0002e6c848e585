/*
 * The bottle's certificate authority and signing key. They live in keyd's memory and in a memory
 * file that init keeps open, so that a restarted keyd is the same authority; never on disk.
 */
#pragma once

#include "base/err.h"

struct ca;

/* Reads the state from fd, or makes and writes it when the file is empty. */
int ca_open(struct ca **out, int state_fd, const char *slug, struct err *e) _fallible_;
void ca_free(struct ca *ca);
/* The certificate in DER into out (size bytes). Its length, or -errno. */
int ca_certificate(const struct ca *ca, uint8_t *out, size_t size);
/* The public key (SPKI DER, P-256) that leaves are made for; replaces an earlier one. */
int ca_set_leaf_key(struct ca *ca, struct str spki, struct err *e) _fallible_;
bool ca_has_leaf_key(const struct ca *ca);
/* A server certificate for one DNS name. Its DER length, or -errno. */
int ca_mint(const struct ca *ca, const char *host, uint8_t *out, size_t size, struct err *e);
/* Ed25519 (RFC 8032) over "claude-bottle checkpoint\0" and the 32-byte hash. */
int ca_sign(const struct ca *ca, const uint8_t hash[32], uint8_t signature[64],
	    uint8_t public_key[32], struct err *e) _fallible_;
