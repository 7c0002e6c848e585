#include "probe/probe_ca.h"

#include "base/clean.h"
#include "base/text.h"

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#define EC_SCALAR_BYTES 32

X509 *probe_ca_read(const struct probe_env *env)
{
	BIO *in = env->ca ? BIO_new_file(env->ca, "r") : NULL;
	X509 *last = NULL, *one;

	while (in && (one = PEM_read_bio_X509(in, NULL, NULL, NULL))) {
		X509_free(last);
		last = one;
	}
	ERR_clear_error();
	BIO_free(in);
	return last;
}

bool probe_ca_digest(const struct probe_env *env, char out[65])
{
	X509 *ca = probe_ca_read(env);
	unsigned char digest[32];
	unsigned n = sizeof(digest);
	bool is_ok = ca && X509_digest(ca, EVP_sha256(), digest, &n) == 1;

	X509_free(ca);
	if (is_ok)
		text_hex(out, digest, sizeof(digest));
	return is_ok;
}

static bool pem_is_key_of(const X509 *ca, const char *p, size_t n)
{
	BIO *in = BIO_new_mem_buf(p, n > 8192 ? 8192 : (int)n);
	EVP_PKEY *key = in ? PEM_read_bio_PrivateKey(in, NULL, NULL, (void *)(uintptr_t) "") : NULL;
	bool is_its = key && X509_check_private_key(ca, key) == 1;

	ERR_clear_error();
	EVP_PKEY_free(key);
	BIO_free(in);
	return is_its;
}

/* The point that belongs to a scalar, beside the certificate's. */
static bool scalar_is_key_of(const X509 *ca, const unsigned char *scalar)
{
	EC_GROUP *group = EC_GROUP_new_by_curve_name(NID_X9_62_prime256v1);
	BIGNUM *number = BN_bin2bn(scalar, EC_SCALAR_BYTES, NULL);
	EC_POINT *point = group ? EC_POINT_new(group) : NULL;
	unsigned char made[65], wanted[133];
	size_t wanted_n = 0;
	EVP_PKEY *key = X509_get0_pubkey(ca);
	bool is_its = point && number && !BN_is_zero(number) && key &&
		      EVP_PKEY_get_octet_string_param(key, OSSL_PKEY_PARAM_PUB_KEY, wanted,
						      sizeof(wanted), &wanted_n) == 1 &&
		      EC_POINT_mul(group, point, number, NULL, NULL, NULL) == 1 &&
		      EC_POINT_point2oct(group, point, POINT_CONVERSION_UNCOMPRESSED, made,
					 sizeof(made), NULL) == sizeof(made) &&
		      wanted_n == sizeof(made) && memcmp(made, wanted, sizeof(made)) == 0;

	ERR_clear_error();
	EC_POINT_free(point);
	BN_clear_free(number);
	EC_GROUP_free(group);
	return is_its;
}

/* As str_find(), by a byte of the needle's that is rare in what is looked through: all files and
 * all memory of a machine whose processor is emulated. */
static size_t find_rare(struct str s, struct str needle, size_t at)
{
	const char *p = s.p + at, *end = s.p + s.n;

	while (s.n >= needle.n && p < end && (p = memchr(p, needle.p[at], (size_t)(end - p)))) {
		const char *from = p++ - at;

		if ((size_t)(end - from) >= needle.n && memcmp(from, needle.p, needle.n) == 0)
			return (size_t)(from - s.p);
	}
	return s.n;
}

bool probe_ca_key_in(const X509 *ca, const char *p, size_t n)
{
	/* Written in parts: what looks through its own memory must not find its own words. */
	static const char begin[] = {'-', '-', '-', '-', '-', 'B', 'E', 'G', 'I', 'N', ' '};
	static const char der[] = {2, 1, 1, 4, EC_SCALAR_BYTES};
	struct str rest = str_slice(p, n), line;
	size_t at;

	while ((at = find_rare(rest, str_slice(begin, sizeof(begin)), 5)) < rest.n) {
		rest = str_sub(rest, at, rest.n);
		/* Certificates, of which a machine has hundreds, are not tried. */
		line = str_sub(rest, 0, str_chr(rest, '\n'));
		if (str_find(line, STR_LIT("KEY")) < line.n && pem_is_key_of(ca, rest.p, rest.n))
			return true;
		rest = str_sub(rest, 1, rest.n);
	}
	rest = str_slice(p, n);
	while ((at = find_rare(rest, str_slice(der, sizeof(der)), 0)) < rest.n) {
		rest = str_sub(rest, at + sizeof(der), rest.n);
		if (rest.n >= EC_SCALAR_BYTES &&
		    scalar_is_key_of(ca, (const unsigned char *)rest.p))
			return true;
	}
	return false;
}
