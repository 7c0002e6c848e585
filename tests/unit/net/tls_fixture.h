/* Certificates and blocking peers for the tests of TLS and of the relay. */
#pragma once

#include <fcntl.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct fixture_ca {
	X509 *cert;
	EVP_PKEY *key;
};

static inline X509 *fixture_cert(EVP_PKEY *key, const char *name, X509 *issuer,
				 EVP_PKEY *issuer_key)
{
	X509 *cert = X509_new();
	X509_NAME *subject = X509_get_subject_name(cert);
	char san[300] = "DNS:";
	X509_EXTENSION *ext;
	static long serial = 100;

	(void)X509_set_version(cert, 2);
	(void)ASN1_INTEGER_set(X509_get_serialNumber(cert), ++serial);
	(void)X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
	(void)X509_gmtime_adj(X509_getm_notAfter(cert), 86400);
	(void)X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name,
					 -1, -1, 0);
	(void)X509_set_issuer_name(cert, issuer ? X509_get_subject_name(issuer) : subject);
	(void)X509_set_pubkey(cert, key);
	if (issuer) {
		(void)strncat(san, name, sizeof(san) - 5);
		ext = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, san);
	} else {
		ext = X509V3_EXT_conf_nid(NULL, NULL, NID_basic_constraints, "critical,CA:TRUE");
	}
	(void)X509_add_ext(cert, ext, -1);
	X509_EXTENSION_free(ext);
	if (X509_sign(cert, issuer_key ? issuer_key : key, EVP_sha256()) <= 0)
		abort();
	return cert;
}

static inline struct fixture_ca fixture_ca_new(const char *name)
{
	struct fixture_ca ca = {.key = EVP_EC_gen("P-256")};

	ca.cert = fixture_cert(ca.key, name, NULL, NULL);
	return ca;
}

static inline void fixture_ca_free(struct fixture_ca *ca)
{
	X509_free(ca->cert);
	EVP_PKEY_free(ca->key);
}

/* In PEM; the caller frees with free(). */
static inline char *fixture_pem(X509 *cert, size_t *n)
{
	BIO *b = BIO_new(BIO_s_mem());
	char *p, *copy;

	(void)PEM_write_bio_X509(b, cert);
	*n = (size_t)BIO_get_mem_data(b, &p);
	copy = malloc(*n + 1);
	if (!copy)
		abort();
	memcpy(copy, p, *n);
	copy[*n] = '\0';
	BIO_free(b);
	return copy;
}
