#include "keyd/git_key.h"

#include "keyd/sshwire.h"

#include "base/clean.h"

#include <errno.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>

#define USERAUTH_REQUEST 50 /* SSH_MSG_USERAUTH_REQUEST, RFC 4252, section 6 */
#define SESSION_MIN	 32 /* of SHA-256 and better: the exchange hash is the identifier */
#define SESSION_MAX	 64

struct algorithm {
	const char *name;
	enum git_key_type type;
	const EVP_MD *(*hash)(void);
};

static const struct algorithm algorithms[] = {
	{"ssh-ed25519", GIT_KEY_ED25519, NULL},
	{"ecdsa-sha2-nistp256", GIT_KEY_ECDSA, EVP_sha256},
	{"rsa-sha2-256", GIT_KEY_RSA, EVP_sha256},
	{"rsa-sha2-512", GIT_KEY_RSA, EVP_sha512},
};

/* NULL: not a request that this key may sign for this user. */
static const struct algorithm *check(const struct git_key *k, struct str request, const char *user)
{
	struct sshwire_reader r = sshwire_reader_of(request);
	struct str session = sshwire_read_string(&r);
	uint8_t message = sshwire_read_byte(&r);
	struct str name = sshwire_read_string(&r), service = sshwire_read_string(&r);
	struct str method = sshwire_read_string(&r);
	uint8_t has_signature = sshwire_read_byte(&r);
	struct str algorithm = sshwire_read_string(&r), blob = sshwire_read_string(&r);

	if (!sshwire_reader_is_done(&r) || session.n < SESSION_MIN || session.n > SESSION_MAX ||
	    message != USERAUTH_REQUEST || !str_eq(name, str_of(user)) ||
	    !str_eq(service, STR_LIT("ssh-connection")) || !str_eq(method, STR_LIT("publickey")) ||
	    has_signature != 1 || !str_eq(blob, str_slice(k->blob, k->blob_n)))
		return NULL;
	for (size_t i = 0; i < ARRAY_LEN(algorithms); i++) {
		if (algorithms[i].type == k->type && str_eq(algorithm, str_of(algorithms[i].name)))
			return &algorithms[i];
	}
	return NULL;
}

static int sign_raw(const struct git_key *k, const struct algorithm *a, struct str data,
		    uint8_t *out, size_t *n)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool is_done =
		ctx &&
		EVP_DigestSignInit(ctx, NULL, a->hash ? a->hash() : NULL, NULL, k->pkey) == 1 &&
		EVP_DigestSign(ctx, out, n, (const uint8_t *)data.p, data.n) == 1;

	EVP_MD_CTX_free(ctx);
	return is_done ? 0 : -EIO;
}

/* OpenSSL's DER into the two mpints of RFC 5656, section 3.1.2. */
static int write_ecdsa(struct sshwire_writer *w, struct str der)
{
	const unsigned char *p = (const unsigned char *)der.p;
	ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &p, (long)der.n);
	uint8_t bytes[80], number[32];
	struct sshwire_writer inner = {.p = bytes, .cap = sizeof(bytes)};
	const BIGNUM *numbers[2];

	if (!sig)
		return -EIO;
	ECDSA_SIG_get0(sig, &numbers[0], &numbers[1]);
	for (int i = 0; i < 2; i++) {
		int n = BN_bn2binpad(numbers[i], number, sizeof(number));

		sshwire_write_mpint(&inner, str_slice(number, n < 0 ? 0 : (size_t)n));
	}
	ECDSA_SIG_free(sig);
	sshwire_write_string(w, str_slice(bytes, inner.n));
	return inner.is_full ? -EIO : 0;
}

int git_key_sign_userauth(const struct git_key *k, struct str request, const char *user,
			  uint8_t *out, struct err *e)
{
	struct sshwire_writer w = {.p = out, .cap = GIT_KEY_SIGNATURE_MAX};
	const struct algorithm *a = check(k, request, user);
	uint8_t raw[GIT_KEY_SIGNATURE_MAX];
	size_t n = sizeof(raw);
	int ret;

	if (!a)
		return err_set(e, -EBADMSG, "not a request to log in as the remote's user");
	ret = sign_raw(k, a, request, raw, &n);
	sshwire_write_string(&w, str_of(a->name));
	if (ret == 0 && k->type == GIT_KEY_ECDSA)
		ret = write_ecdsa(&w, str_slice(raw, n));
	else if (ret == 0)
		sshwire_write_string(&w, str_slice(raw, n));
	ERR_clear_error();
	if (ret < 0 || w.is_full)
		return err_set(e, ret < 0 ? ret : -EMSGSIZE, "the ssh key could not sign");
	return (int)w.n;
}
