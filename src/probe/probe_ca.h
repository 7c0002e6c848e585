/* The bottle's own authority, as the agent is given it, and keys that might be that one's. */
#pragma once

#include "probe/probe.h"

#include <openssl/x509.h>

/* The last certificate of env->ca, which is where the bottle's own stands; NULL if there is none.
 * The caller frees. */
X509 *probe_ca_read(const struct probe_env *env);
/* Its SHA-256 in hex; false if there is none. */
bool probe_ca_digest(const struct probe_env *env, char out[65]);
/* Looks for the authority's private key in n bytes: PEM of any kind, and EC keys in DER, which is
 * how they lie in memory. */
bool probe_ca_key_in(const X509 *ca, const char *p, size_t n);
