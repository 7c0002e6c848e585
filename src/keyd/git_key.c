/*
 * Reading a private key. The public half is always computed from the private one and then compared
 * with what the file says it is, so that a file that does not agree with itself is found at start,
 * not as a refused login later.
 */
#include "keyd/git_key.h"

#include "keyd/sshwire.h"

#include "base/clean.h"
#include "base/mem.h"

#include <errno.h>
#include <openssl/bio.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>

#define KEY_TEXT_MAX	 16384
#define KEY_RSA_BITS_MIN 2048
#define KEY_RSA_BITS_MAX 4096
#define KEY_P256_POINT	 65 /* 0x04, x, y */
#define ARMOR_BEGIN	 "-----BEGIN OPENSSH PRIVATE KEY-----"
#define ARMOR_END	 "-----END OPENSSH PRIVATE KEY-----"
#define MAGIC		 "openssh-key-v1" /* with its NUL */

static inline void bn_clear_free_p(BIGNUM **b)
{
	BN_clear_free(*b);
}

static inline void bn_ctx_free_p(BN_CTX **c)
{
	BN_CTX_free(*c);
}

static inline void bld_free_p(OSSL_PARAM_BLD **b)
{
	OSSL_PARAM_BLD_free(*b);
}

static inline void params_free_p(OSSL_PARAM **p)
{
	OSSL_PARAM_free(*p);
}

static inline void pkey_ctx_free_p(EVP_PKEY_CTX **c)
{
	EVP_PKEY_CTX_free(*c);
}

static inline void bio_free_p(BIO **b)
{
	BIO_free(*b);
}

static int malformed(struct err *e, const char *what)
{
	ERR_clear_error();
	return err_set(e, -EBADMSG, "the ssh key's file is malformed: %s", what);
}

static int encrypted(struct err *e)
{
	ERR_clear_error();
	return err_set(
		e, -EACCES,
		"the ssh key is encrypted, and nobody can type its passphrase here: give a "
		"deploy key of its own without one, or a copy made with ssh-keygen -p -N ''");
}

void git_key_free(struct git_key *k)
{
	EVP_PKEY_free(k->pkey);
	mem_wipe(k, sizeof(*k));
}

/* --- the public half --- */

static int blob_of_ed25519(struct git_key *k, struct sshwire_writer *w)
{
	uint8_t public[32];
	size_t n = sizeof(public);

	if (EVP_PKEY_get_raw_public_key(k->pkey, public, &n) != 1 || n != sizeof(public))
		return -EBADMSG;
	sshwire_write_string(w, STR_LIT("ssh-ed25519"));
	sshwire_write_string(w, str_slice(public, n));
	return 0;
}

static int blob_of_ecdsa(struct git_key *k, struct sshwire_writer *w)
{
	uint8_t point[KEY_P256_POINT + 1];
	char group[32];
	size_t n = 0;

	if (EVP_PKEY_get_utf8_string_param(k->pkey, OSSL_PKEY_PARAM_GROUP_NAME, group,
					   sizeof(group), NULL) != 1 ||
	    strcmp(group, "prime256v1") != 0 ||
	    EVP_PKEY_get_octet_string_param(k->pkey, OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY, point,
					    sizeof(point), &n) != 1 ||
	    n != KEY_P256_POINT || point[0] != 4)
		return -EBADMSG;
	sshwire_write_string(w, STR_LIT("ecdsa-sha2-nistp256"));
	sshwire_write_string(w, STR_LIT("nistp256"));
	sshwire_write_string(w, str_slice(point, n));
	return 0;
}

static int write_number(struct sshwire_writer *w, const EVP_PKEY *pkey, const char *name)
{
	_cleanup_(bn_clear_free_p) BIGNUM *b = NULL;
	uint8_t bytes[KEY_RSA_BITS_MAX / 8];

	if (EVP_PKEY_get_bn_param(pkey, name, &b) != 1 || BN_num_bytes(b) > (int)sizeof(bytes))
		return -EBADMSG;
	sshwire_write_mpint(w, str_slice(bytes, (size_t)BN_bn2bin(b, bytes)));
	return 0;
}

static int blob_of_rsa(struct git_key *k, struct sshwire_writer *w)
{
	int bits = EVP_PKEY_get_bits(k->pkey);

	if (bits < KEY_RSA_BITS_MIN || bits > KEY_RSA_BITS_MAX)
		return -ERANGE;
	sshwire_write_string(w, STR_LIT("ssh-rsa"));
	if (write_number(w, k->pkey, OSSL_PKEY_PARAM_RSA_E) < 0)
		return -EBADMSG;
	return write_number(w, k->pkey, OSSL_PKEY_PARAM_RSA_N);
}

/* Sets type and blob from pkey. */
static int fill_public(struct git_key *k, struct err *e)
{
	struct sshwire_writer w = {.p = k->blob, .cap = sizeof(k->blob)};
	int ret;

	if (EVP_PKEY_is_a(k->pkey, "ED25519")) {
		k->type = GIT_KEY_ED25519;
		ret = blob_of_ed25519(k, &w);
	} else if (EVP_PKEY_is_a(k->pkey, "EC")) {
		k->type = GIT_KEY_ECDSA;
		ret = blob_of_ecdsa(k, &w);
	} else if (EVP_PKEY_is_a(k->pkey, "RSA")) {
		k->type = GIT_KEY_RSA;
		ret = blob_of_rsa(k, &w);
	} else {
		ret = -ERANGE;
	}
	k->blob_n = w.n;
	if (ret == 0 && !w.is_full)
		return 0;
	ERR_clear_error();
	return err_set(e, ret < 0 ? ret : -EMSGSIZE,
		       "the ssh key is of a kind that is not used here: take ed25519, ECDSA on "
		       "P-256, or RSA of %d to %d bits",
		       KEY_RSA_BITS_MIN, KEY_RSA_BITS_MAX);
}

/* Do the private and the public number belong together? */
static bool is_pair(EVP_PKEY *pkey)
{
	_cleanup_(pkey_ctx_free_p) EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(pkey, NULL);

	return ctx && EVP_PKEY_pairwise_check(ctx) == 1;
}

/* --- from numbers --- */

static EVP_PKEY *pkey_from(const char *type, OSSL_PARAM_BLD *bld)
{
	_cleanup_(params_free_p) OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(bld);
	_cleanup_(pkey_ctx_free_p) EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
	EVP_PKEY *pkey = NULL;

	if (!params || !ctx || EVP_PKEY_fromdata_init(ctx) != 1 ||
	    EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_KEYPAIR, params) != 1)
		return NULL;
	return pkey;
}

static BIGNUM *number(struct str s)
{
	return BN_bin2bn((const unsigned char *)s.p, (int)s.n, NULL);
}

static EVP_PKEY *read_ed25519(struct sshwire_reader *r)
{
	struct str public = sshwire_read_string(r), both = sshwire_read_string(r);

	if (r->is_bad || public.n != 32 || both.n != 64 || memcmp(both.p + 32, public.p, 32) != 0)
		return NULL;
	return EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, (const uint8_t *)both.p, 32);
}

static EVP_PKEY *read_ecdsa(struct sshwire_reader *r)
{
	struct str curve = sshwire_read_string(r), point = sshwire_read_string(r);
	struct str secret = sshwire_read_mpint(r);
	_cleanup_(bld_free_p) OSSL_PARAM_BLD *bld = OSSL_PARAM_BLD_new();
	_cleanup_(bn_clear_free_p) BIGNUM *d = NULL;

	if (r->is_bad || !bld || !str_eq(curve, STR_LIT("nistp256")) || point.n != KEY_P256_POINT ||
	    secret.n == 0 || secret.n > 32)
		return NULL;
	d = number(secret);
	if (!d ||
	    OSSL_PARAM_BLD_push_utf8_string(bld, OSSL_PKEY_PARAM_GROUP_NAME, "prime256v1", 0) !=
		    1 ||
	    OSSL_PARAM_BLD_push_octet_string(bld, OSSL_PKEY_PARAM_PUB_KEY, point.p, point.n) != 1 ||
	    OSSL_PARAM_BLD_push_BN_pad(bld, OSSL_PKEY_PARAM_PRIV_KEY, d, 32) != 1)
		return NULL;
	return pkey_from("EC", bld);
}

/* The exponents that OpenSSL wants beside the primes: d modulo (p - 1). */
static BIGNUM *exponent(const BIGNUM *d, const BIGNUM *prime)
{
	_cleanup_(bn_ctx_free_p) BN_CTX *ctx = BN_CTX_secure_new();
	_cleanup_(bn_clear_free_p) BIGNUM *less = BN_dup(prime);
	_cleanup_(bn_clear_free_p) BIGNUM *out = BN_new();

	if (!ctx || !less || !out || BN_sub_word(less, 1) != 1 || BN_is_zero(less) ||
	    BN_mod(out, d, less, ctx) != 1)
		return NULL;
	return take_ptr(&out);
}

static EVP_PKEY *read_rsa(struct sshwire_reader *r)
{
	static const char *const names[] = {
		OSSL_PKEY_PARAM_RSA_N,	       OSSL_PKEY_PARAM_RSA_E,
		OSSL_PKEY_PARAM_RSA_D,	       OSSL_PKEY_PARAM_RSA_COEFFICIENT1,
		OSSL_PKEY_PARAM_RSA_FACTOR1,   OSSL_PKEY_PARAM_RSA_FACTOR2,
		OSSL_PKEY_PARAM_RSA_EXPONENT1, OSSL_PKEY_PARAM_RSA_EXPONENT2,
	};
	enum { N, E, D, IQMP, P, Q, DMP1, DMQ1, COUNT };
	_cleanup_(bld_free_p) OSSL_PARAM_BLD *bld = OSSL_PARAM_BLD_new();
	BIGNUM *numbers[COUNT] = {NULL};
	EVP_PKEY *pkey = NULL;
	bool is_good = bld != NULL;

	_Static_assert(ARRAY_LEN(names) == COUNT, "one name per number");
	for (int i = 0; i <= Q && is_good; i++) {
		struct str s = sshwire_read_mpint(r);

		is_good = !r->is_bad && s.n > 0 && s.n <= KEY_RSA_BITS_MAX / 8;
		if (is_good)
			numbers[i] = number(s);
		is_good = is_good && numbers[i];
	}
	if (is_good) {
		numbers[DMP1] = exponent(numbers[D], numbers[P]);
		numbers[DMQ1] = exponent(numbers[D], numbers[Q]);
	}
	for (int i = 0; i < COUNT && is_good; i++)
		is_good = numbers[i] && OSSL_PARAM_BLD_push_BN(bld, names[i], numbers[i]) == 1;
	/* An even modulus or a tiny exponent is no key, and slow to find out about below. */
	if (is_good && BN_is_odd(numbers[N]) && BN_is_odd(numbers[E]) &&
	    BN_num_bits(numbers[E]) <= 64)
		pkey = pkey_from("RSA", bld);
	for (int i = 0; i < COUNT; i++)
		BN_clear_free(numbers[i]);
	return pkey;
}

/* --- openssh-key-v1 --- */

/* In place of the armour: the bytes. -1: not base64, or cut. out is as large as the text. */
static int unarmor(struct str text, uint8_t *out, size_t *n)
{
	size_t end = str_find(text, STR_LIT(ARMOR_END));
	struct str body = str_sub(text, sizeof(ARMOR_BEGIN) - 1, end);
	EVP_ENCODE_CTX *ctx = EVP_ENCODE_CTX_new();
	int first = 0, last = 0, ret = -1;

	if (ctx && end < text.n) {
		EVP_DecodeInit(ctx);
		if (EVP_DecodeUpdate(ctx, out, &first, (const unsigned char *)body.p,
				     (int)body.n) >= 0 &&
		    EVP_DecodeFinal(ctx, out + first, &last) == 1) {
			*n = (size_t)(first + last);
			ret = 0;
		}
	}
	EVP_ENCODE_CTX_free(ctx);
	return ret;
}

static bool is_padding(struct str s)
{
	for (size_t i = 0; i < s.n; i++) {
		if ((uint8_t)s.p[i] != (uint8_t)(i + 1))
			return false;
	}
	return s.n < 256;
}

static int read_private(struct git_key *k, struct str private, struct err *e)
{
	struct sshwire_reader r = sshwire_reader_of(private);
	uint32_t first = sshwire_read_u32(&r), second = sshwire_read_u32(&r);
	struct str type = sshwire_read_string(&r);

	if (r.is_bad || first != second)
		return malformed(e, "its private part");
	if (str_eq(type, STR_LIT("ssh-ed25519")))
		k->pkey = read_ed25519(&r);
	else if (str_eq(type, STR_LIT("ecdsa-sha2-nistp256")))
		k->pkey = read_ecdsa(&r);
	else if (str_eq(type, STR_LIT("ssh-rsa")))
		k->pkey = read_rsa(&r);
	else
		return err_set(e, -ERANGE,
			       "the ssh key is of a kind that is not used here: take ed25519, "
			       "ECDSA on P-256, or RSA");
	if (!k->pkey)
		return malformed(e, "its numbers");
	(void)sshwire_read_string(&r); /* the comment */
	if (r.is_bad || !is_padding(str_slice(r.p, r.n)))
		return malformed(e, "the end of its private part");
	return 0;
}

static int read_openssh(struct git_key *k, struct str bytes, struct err *e)
{
	struct sshwire_reader r;
	struct str cipher, kdf, options, public, private;
	int ret;

	if (!str_starts(bytes, str_slice(MAGIC, sizeof(MAGIC))))
		return malformed(e, "its beginning");
	r = sshwire_reader_of(str_sub(bytes, sizeof(MAGIC), bytes.n));
	cipher = sshwire_read_string(&r);
	kdf = sshwire_read_string(&r);
	options = sshwire_read_string(&r);
	if (!r.is_bad && !str_eq(cipher, STR_LIT("none")))
		return encrypted(e);
	if (sshwire_read_u32(&r) != 1 || !str_eq(kdf, STR_LIT("none")) || options.n != 0)
		return malformed(e, "not one key in the clear");
	public = sshwire_read_string(&r);
	private = sshwire_read_string(&r);
	if (!sshwire_reader_is_done(&r))
		return malformed(e, "cut, or more than one key");
	ret = read_private(k, private, e);
	if (ret == 0)
		ret = fill_public(k, e);
	if (ret == 0 && (!is_pair(k->pkey) || !str_eq(public, str_slice(k->blob, k->blob_n))))
		ret = malformed(e, "its public and its private part are of different keys");
	return ret;
}

static int parse_openssh(struct git_key *k, struct str text, struct err *e)
{
	uint8_t *bytes = mem_zalloc(text.n);
	size_t n = 0;
	int ret;

	if (unarmor(text, bytes, &n) < 0)
		ret = malformed(e, "not base64, or cut");
	else
		ret = read_openssh(k, str_slice(bytes, n), e);
	mem_wipe(bytes, text.n);
	free(bytes);
	return ret;
}

/* --- PEM --- */

static int no_passphrase(char *buf, int size, int is_writing, void *was_asked)
{
	(void)buf;
	(void)size;
	(void)is_writing;
	*(bool *)was_asked = true;
	return -1;
}

static int parse_pem(struct git_key *k, struct str text, struct err *e)
{
	_cleanup_(bio_free_p) BIO *bio = BIO_new_mem_buf(text.p, (int)text.n);
	bool was_asked = false;
	int ret;

	if (bio)
		k->pkey = PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, &was_asked);
	if (was_asked)
		return encrypted(e);
	if (!k->pkey)
		return malformed(e, "no private key in OpenSSH's format or PEM");
	ret = fill_public(k, e);
	if (ret == 0 && !is_pair(k->pkey))
		ret = malformed(e, "its public and its private part are of different keys");
	return ret;
}

int git_key_parse(struct git_key *out, struct str text, struct err *e)
{
	int ret;

	memset(out, 0, sizeof(*out));
	while (text.n > 0 && strchr(" \t\r\n", text.p[0]))
		text = str_sub(text, 1, text.n);
	if (text.n == 0 || text.n > KEY_TEXT_MAX || memchr(text.p, '\0', text.n))
		return malformed(e, "empty, too large, or not text");
	ret = str_starts(text, STR_LIT(ARMOR_BEGIN)) ? parse_openssh(out, text, e)
						     : parse_pem(out, text, e);
	ERR_clear_error();
	if (ret < 0)
		git_key_free(out);
	return ret;
}
