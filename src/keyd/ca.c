#include "keyd/ca.h"

#include "base/clean.h"
#include "base/mem.h"

#include <errno.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <unistd.h>

#define CA_BACKDATE_S 3600	    /* the bottle's clock may be behind */
#define CA_LIFETIME_S (30 * 86400L) /* far longer than a bottle lives */
#define CA_STATE_MAX  8192
#define CA_PART_MAX   2048

struct ca {
	int state_fd;
	EVP_PKEY *key, *sign_key, *leaf_key;
	X509 *cert;
	/* The same in every leaf, so made once. */
	X509_EXTENSION *leaf_basic, *leaf_usage, *leaf_purpose, *leaf_authority;
};

enum ca_part { CA_PART_KEY, CA_PART_CERT, CA_PART_SIGN_KEY, CA_PART_LEAF_KEY, CA_PART_COUNT };

static inline void x509_free_p(X509 **p)
{
	X509_free(*p);
}

static inline void ext_free_p(X509_EXTENSION **p)
{
	X509_EXTENSION_free(*p);
}

static inline void names_free_p(GENERAL_NAMES **p)
{
	GENERAL_NAMES_free(*p);
}

void ca_free(struct ca *ca)
{
	if (!ca)
		return;
	EVP_PKEY_free(ca->key);
	EVP_PKEY_free(ca->sign_key);
	EVP_PKEY_free(ca->leaf_key);
	X509_free(ca->cert);
	X509_EXTENSION_free(ca->leaf_basic);
	X509_EXTENSION_free(ca->leaf_usage);
	X509_EXTENSION_free(ca->leaf_purpose);
	X509_EXTENSION_free(ca->leaf_authority);
	free(ca);
}

static inline void ca_free_p(struct ca **ca)
{
	ca_free(*ca);
}

static bool ca_add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX ctx;
	_cleanup_(ext_free_p) X509_EXTENSION *ext = NULL;

	X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
	ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	return ext && X509_add_ext(cert, ext, -1) == 1;
}

/* 127 random bits: unique without a counter, positive (RFC 5280 section 4.1.2.2). */
static bool ca_set_serial(X509 *cert)
{
	unsigned char bytes[16];
	BIGNUM *n;
	bool is_ok;

	if (RAND_bytes(bytes, sizeof(bytes)) != 1)
		return false;
	bytes[0] &= 0x7f;
	n = BN_bin2bn(bytes, sizeof(bytes), NULL);
	is_ok = n && BN_to_ASN1_INTEGER(n, X509_get_serialNumber(cert));
	BN_free(n);
	return is_ok;
}

static bool ca_set_common_name(X509_NAME *name, const char *text)
{
	/* ub-common-name is 64; clients look at the alternative name alone. */
	int n = (int)strnlen(text, 64);

	return X509_NAME_add_entry_by_NID(name, NID_commonName, MBSTRING_UTF8,
					  (const unsigned char *)text, n, -1, 0) == 1;
}

static bool ca_set_validity(X509 *cert)
{
	return X509_gmtime_adj(X509_getm_notBefore(cert), -CA_BACKDATE_S) &&
	       X509_gmtime_adj(X509_getm_notAfter(cert), CA_LIFETIME_S);
}

static int ca_generate(struct ca *ca, const char *slug, struct err *e)
{
	char name[80];

	(void)snprintf(name, sizeof(name), "claude-bottle %.40s", slug);
	ca->key = EVP_EC_gen("P-256");
	ca->sign_key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	ca->cert = X509_new();
	if (!ca->key || !ca->sign_key || !ca->cert || X509_set_version(ca->cert, 2) != 1 ||
	    !ca_set_serial(ca->cert) || !ca_set_validity(ca->cert) ||
	    !ca_set_common_name(X509_get_subject_name(ca->cert), name) ||
	    X509_set_issuer_name(ca->cert, X509_get_subject_name(ca->cert)) != 1 ||
	    X509_set_pubkey(ca->cert, ca->key) != 1 ||
	    !ca_add_extension(ca->cert, ca->cert, NID_basic_constraints,
			      "critical,CA:TRUE,pathlen:0") ||
	    !ca_add_extension(ca->cert, ca->cert, NID_key_usage, "critical,keyCertSign,cRLSign") ||
	    !ca_add_extension(ca->cert, ca->cert, NID_subject_key_identifier, "hash") ||
	    X509_sign(ca->cert, ca->key, EVP_sha256()) <= 0)
		return err_set(e, -EIO, "cannot make the bottle's certificate authority");
	return 0;
}

static int ca_prepare_leaf_extensions(struct ca *ca, struct err *e)
{
	X509V3_CTX ctx;

	X509V3_set_ctx(&ctx, ca->cert, NULL, NULL, NULL, 0);
	ca->leaf_basic =
		X509V3_EXT_conf_nid(NULL, &ctx, NID_basic_constraints, "critical,CA:FALSE");
	ca->leaf_usage =
		X509V3_EXT_conf_nid(NULL, &ctx, NID_key_usage, "critical,digitalSignature");
	ca->leaf_purpose = X509V3_EXT_conf_nid(NULL, &ctx, NID_ext_key_usage, "serverAuth");
	ca->leaf_authority =
		X509V3_EXT_conf_nid(NULL, &ctx, NID_authority_key_identifier, "keyid:always");
	if (!ca->leaf_basic || !ca->leaf_usage || !ca->leaf_purpose || !ca->leaf_authority)
		return err_set(e, -EIO, "cannot prepare leaf certificates");
	return 0;
}

/* The state is CA_PART_COUNT parts of { u32 length, DER }, rewritten as a whole. */
static int ca_save(const struct ca *ca, struct err *e)
{
	uint8_t state[CA_STATE_MAX];
	size_t n = 0;

	for (int part = 0; part < CA_PART_COUNT; part++) {
		unsigned char *der = NULL;
		uint32_t length;
		int got = 0;

		switch ((enum ca_part)part) {
		case CA_PART_KEY:
			got = i2d_PrivateKey(ca->key, &der);
			break;
		case CA_PART_CERT:
			got = i2d_X509(ca->cert, &der);
			break;
		case CA_PART_SIGN_KEY:
			got = i2d_PrivateKey(ca->sign_key, &der);
			break;
		case CA_PART_LEAF_KEY:
			got = ca->leaf_key ? i2d_PUBKEY(ca->leaf_key, &der) : 0;
			break;
		case CA_PART_COUNT:
			break;
		}
		if (got < 0 || got > CA_PART_MAX ||
		    n + sizeof(length) + (size_t)got > sizeof(state))
			return err_set(e, -EIO, "cannot serialise the certificate authority");
		length = (uint32_t)got;
		memcpy(state + n, &length, sizeof(length));
		n += sizeof(length);
		if (got > 0)
			memcpy(state + n, der, length);
		n += length;
		OPENSSL_clear_free(der, length);
	}
	if (pwrite(ca->state_fd, state, n, 0) != (ssize_t)n ||
	    ftruncate(ca->state_fd, (off_t)n) < 0) {
		mem_wipe(state, sizeof(state));
		return err_set(e, -EIO, "cannot keep the certificate authority");
	}
	mem_wipe(state, sizeof(state));
	return 0;
}

static int ca_load(struct ca *ca, const uint8_t *state, size_t n, struct err *e)
{
	for (int part = 0; part < CA_PART_COUNT; part++) {
		const unsigned char *der;
		uint32_t length;

		if (n < sizeof(length))
			return err_set(e, -EPROTO, "the kept certificate authority is cut");
		memcpy(&length, state, sizeof(length));
		state += sizeof(length);
		n -= sizeof(length);
		if (length > n)
			return err_set(e, -EPROTO, "the kept certificate authority is cut");
		der = state;
		if (part == CA_PART_KEY)
			ca->key = d2i_AutoPrivateKey(NULL, &der, (long)length);
		else if (part == CA_PART_CERT)
			ca->cert = d2i_X509(NULL, &der, (long)length);
		else if (part == CA_PART_SIGN_KEY)
			ca->sign_key = d2i_AutoPrivateKey(NULL, &der, (long)length);
		else if (length > 0)
			ca->leaf_key = d2i_PUBKEY(NULL, &der, (long)length);
		state += length;
		n -= length;
	}
	if (!ca->key || !ca->cert || !ca->sign_key)
		return err_set(e, -EPROTO, "the kept certificate authority is damaged");
	return 0;
}

int ca_open(struct ca **out, int state_fd, const char *slug, struct err *e)
{
	_cleanup_(ca_free_p) struct ca *ca = mem_zalloc(sizeof(*ca));
	uint8_t state[CA_STATE_MAX];
	ssize_t n = pread(state_fd, state, sizeof(state), 0);
	int ret;

	*out = NULL;
	if (n < 0)
		return err_errno(e, "read the kept certificate authority");
	ca->state_fd = state_fd;
	ret = n == 0 ? ca_generate(ca, slug, e) : ca_load(ca, state, (size_t)n, e);
	mem_wipe(state, sizeof(state));
	if (ret == 0)
		ret = ca_prepare_leaf_extensions(ca, e);
	if (ret == 0 && n == 0)
		ret = ca_save(ca, e);
	if (ret == 0)
		*out = take_ptr(&ca);
	return ret;
}

static int ca_der_of(X509 *cert, uint8_t *out, size_t size)
{
	int n = i2d_X509(cert, NULL);

	if (n <= 0 || (size_t)n > size)
		return -EIO;
	return i2d_X509(cert, &out);
}

int ca_certificate(const struct ca *ca, uint8_t *out, size_t size)
{
	return ca_der_of(ca->cert, out, size);
}

int ca_set_leaf_key(struct ca *ca, struct str spki, struct err *e)
{
	const unsigned char *der = (const unsigned char *)spki.p;
	EVP_PKEY *key = d2i_PUBKEY(NULL, &der, (long)spki.n);

	if (!key || der != (const unsigned char *)spki.p + spki.n ||
	    EVP_PKEY_get_base_id(key) != EVP_PKEY_EC || EVP_PKEY_get_bits(key) != 256) {
		EVP_PKEY_free(key);
		return err_set(e, -EINVAL, "the leaf key is not a P-256 public key");
	}
	EVP_PKEY_free(ca->leaf_key);
	ca->leaf_key = key;
	return ca_save(ca, e);
}

bool ca_has_leaf_key(const struct ca *ca)
{
	return ca->leaf_key != NULL;
}

static bool ca_add_host(X509 *cert, const char *host)
{
	_cleanup_(names_free_p) GENERAL_NAMES *names = GENERAL_NAMES_new();
	GENERAL_NAME *name = GENERAL_NAME_new();
	ASN1_IA5STRING *text = ASN1_IA5STRING_new();

	if (!names || !name || !text || ASN1_STRING_set(text, host, -1) != 1) {
		GENERAL_NAME_free(name);
		ASN1_IA5STRING_free(text);
		return false;
	}
	GENERAL_NAME_set0_value(name, GEN_DNS, text);
	if (sk_GENERAL_NAME_push(names, name) <= 0) {
		GENERAL_NAME_free(name);
		return false;
	}
	return X509_add1_ext_i2d(cert, NID_subject_alt_name, names, 0, X509V3_ADD_DEFAULT) == 1;
}

int ca_mint(const struct ca *ca, const char *host, uint8_t *out, size_t size, struct err *e)
{
	_cleanup_(x509_free_p) X509 *cert = X509_new();

	if (!ca->leaf_key)
		return err_set(e, -EPERM, "no leaf key was given");
	if (!cert || X509_set_version(cert, 2) != 1 || !ca_set_serial(cert) ||
	    !ca_set_validity(cert) || !ca_set_common_name(X509_get_subject_name(cert), host) ||
	    X509_set_issuer_name(cert, X509_get_subject_name(ca->cert)) != 1 ||
	    X509_set_pubkey(cert, ca->leaf_key) != 1 || !ca_add_host(cert, host) ||
	    X509_add_ext(cert, ca->leaf_basic, -1) != 1 ||
	    X509_add_ext(cert, ca->leaf_usage, -1) != 1 ||
	    X509_add_ext(cert, ca->leaf_purpose, -1) != 1 ||
	    X509_add_ext(cert, ca->leaf_authority, -1) != 1 ||
	    X509_sign(cert, ca->key, EVP_sha256()) <= 0)
		return err_set(e, -EIO, "cannot mint a leaf certificate");
	return ca_der_of(cert, out, size);
}

int ca_sign(const struct ca *ca, const uint8_t hash[32], uint8_t signature[64],
	    uint8_t public_key[32], struct err *e)
{
	static const char domain[] = "claude-bottle checkpoint";
	uint8_t message[sizeof(domain) + 32];
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	size_t signature_n = 64, key_n = 32;
	bool is_ok;

	memcpy(message, domain, sizeof(domain));
	memcpy(message + sizeof(domain), hash, 32);
	is_ok = ctx && EVP_DigestSignInit(ctx, NULL, NULL, NULL, ca->sign_key) == 1 &&
		EVP_DigestSign(ctx, signature, &signature_n, message, sizeof(message)) == 1 &&
		EVP_PKEY_get_raw_public_key(ca->sign_key, public_key, &key_n) == 1;
	EVP_MD_CTX_free(ctx);
	return is_ok ? 0 : err_set(e, -EIO, "Ed25519 failed");
}
