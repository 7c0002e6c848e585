/*
 * Leaf certificates for the hosts that the agent talks to. One P-256 key of pipelock's own, made at
 * start, serves every host; keyd, which alone holds the CA key, signs a certificate per host on
 * that key. A role that was taken over could therefore impersonate, towards its own agent only, and
 * only hosts that keyd is willing to mint for.
 *
 * Callers mint only for hosts that the policy allows, so that the agent cannot make keyd work for
 * nothing; the cache is bounded, least recently used first out.
 */
#pragma once

#include "base/err.h"

#include <openssl/x509.h>

#define LEAF_CACHE_HOSTS 1024
#define LEAF_CACHE_BACKOFF_MS                                                                      \
	1000			 /* after keyd did not answer: refuse at once, do not wait again */
#define LEAF_MINT_BURST	     256 /* under a wildcard the agent may ask for any number of hosts */
#define LEAF_MINT_PER_SECOND 32
#define LEAF_RENEW_SECONDS   600 /* a leaf that is nearer to its end is minted anew */

struct leaf_cache;

/* Makes the key, gives its public half to keyd and fetches the CA certificate. keyd_fd is borrowed.
 * NULL with *e filled. Blocks for at most two times KEYD_TIMEOUT_MS. */
struct leaf_cache *leaf_cache_new(int keyd_fd, size_t max_hosts, struct err *e) _fallible_;
void leaf_cache_free(struct leaf_cache *c);

/* The certificate for a canonical host, borrowed until the next call (take a reference to keep it).
 * NULL with *e filled: keyd refused or does not answer, and the caller must not serve the host. A
 * miss blocks for at most KEYD_TIMEOUT_MS. now_ns is monotonic. */
X509 *leaf_cache_get(struct leaf_cache *c, struct str host, uint64_t now_ns,
		     struct err *e) _fallible_;
/* Both borrowed, never NULL. */
EVP_PKEY *leaf_cache_key(const struct leaf_cache *c);
X509 *leaf_cache_ca(const struct leaf_cache *c);

struct leaf_cache_stats {
	uint64_t hits, mints, evictions, failures;
	size_t hosts;
};
struct leaf_cache_stats leaf_cache_stats(const struct leaf_cache *c);
