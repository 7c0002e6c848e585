/*
 * The private key of an ssh remote, in keyd's memory: ed25519, ECDSA on P-256, or RSA of 2048 to
 * 4096 bits; from
 * OpenSSH's own format (openssh-key-v1, PROTOCOL.key in its sources) or PEM. One
 * that is encrypted is refused, since nobody is there to type a passphrase.
 *
 * It signs nothing but a request to authenticate as one user (RFC 4252, section 7), so that whoever
 * may ask for signatures cannot have another text signed by it.
 */
#pragma once

#include "base/err.h"
#include "base/str.h"

#define GIT_KEY_BLOB_MAX      600 /* of RSA with 4096 bits: 535 */
#define GIT_KEY_SIGNATURE_MAX 600
#define GIT_KEY_REQUEST_MAX   1024

enum git_key_type { GIT_KEY_ED25519 = 1, GIT_KEY_ECDSA, GIT_KEY_RSA };

struct git_key {
	enum git_key_type type;
	struct evp_pkey_st *pkey;	/* OpenSSL's EVP_PKEY */
	uint8_t blob[GIT_KEY_BLOB_MAX]; /* the public key, as of RFC 4253, section 6.6 */
	size_t blob_n;
};

/* text: the key file's. e says what the operator can do about it, and nothing of the key. */
int git_key_parse(struct git_key *out, struct str text, struct err *e) _fallible_;
void git_key_free(struct git_key *k);

/* The signature, as of RFC 4253, section 6.6, into out (GIT_KEY_SIGNATURE_MAX bytes), when request
 * is what this key may sign for this user: the session identifier, then a publickey request of
 * ssh-connection for exactly this key, with an algorithm of its type that is not SHA-1, and nothing
 * after it. Its length; -EBADMSG for anything else. */
int git_key_sign_userauth(const struct git_key *k, struct str request, const char *user,
			  uint8_t *out, struct err *e);
