/* The bottle's authority: leaves verify, a restarted keyd is the same authority. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "keyd/ca.h"
#include "keyd/keyd_proto.h"

#include "base/clean.h"

#include <errno.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

static int leaf_spki(unsigned char *out, size_t size, const char *group)
{
	EVP_PKEY *key = EVP_EC_gen(group);
	unsigned char *p = out;
	int n = i2d_PUBKEY(key, NULL);

	assert_true(n > 0 && (size_t)n <= size);
	n = i2d_PUBKEY(key, &p);
	EVP_PKEY_free(key);
	return n;
}

static X509 *parse(const uint8_t *der, int n)
{
	X509 *cert;

	assert_true(n > 0);
	cert = d2i_X509(NULL, &der, n);
	assert_non_null(cert);
	return cert;
}

static int verify(X509 *ca, X509 *leaf, const char *host)
{
	X509_STORE *store = X509_STORE_new();
	X509_STORE_CTX *ctx = X509_STORE_CTX_new();
	int ok;

	X509_STORE_add_cert(store, ca);
	X509_STORE_CTX_init(ctx, store, leaf, NULL);
	X509_VERIFY_PARAM_set1_host(X509_STORE_CTX_get0_param(ctx), host, 0);
	X509_VERIFY_PARAM_set_purpose(X509_STORE_CTX_get0_param(ctx), X509_PURPOSE_SSL_SERVER);
	ok = X509_verify_cert(ctx);
	X509_STORE_CTX_free(ctx);
	X509_STORE_free(store);
	return ok;
}

static void test_leaf_verifies(void **state)
{
	int fd = memfd_create("state", MFD_CLOEXEC);
	uint8_t ca_der[KEYD_DATA_MAX], der[KEYD_DATA_MAX];
	unsigned char spki[256];
	X509 *ca_cert, *leaf, *other;
	struct err e = ERR_INIT;
	struct ca *ca;
	int n = leaf_spki(spki, sizeof(spki), "P-256");

	(void)state;
	assert_int_equal(ca_open(&ca, fd, "agent-abc", &e), 0);
	assert_int_equal(ca_mint(ca, "a.example.com", der, sizeof(der), &e), -EPERM);
	assert_int_equal(ca_set_leaf_key(ca, str_slice(spki, (size_t)n), &e), 0);
	ca_cert = parse(ca_der, ca_certificate(ca, ca_der, sizeof(ca_der)));
	leaf = parse(der, ca_mint(ca, "a.example.com", der, sizeof(der), &e));
	assert_int_equal(verify(ca_cert, leaf, "a.example.com"), 1);
	assert_int_equal(verify(ca_cert, leaf, "b.example.com"), 0);
	other = parse(der, ca_mint(ca, "b.example.com", der, sizeof(der), &e));
	assert_int_not_equal(
		ASN1_INTEGER_cmp(X509_get0_serialNumber(leaf), X509_get0_serialNumber(other)), 0);
	X509_free(other);
	X509_free(leaf);
	ca_free(ca);

	/* The same file, a new process: the same authority, and the leaf key is still known. */
	assert_int_equal(ca_open(&ca, fd, "agent-abc", &e), 0);
	assert_true(ca_has_leaf_key(ca));
	leaf = parse(der, ca_mint(ca, "c.example.com", der, sizeof(der), &e));
	assert_int_equal(verify(ca_cert, leaf, "c.example.com"), 1);
	X509_free(leaf);
	X509_free(ca_cert);
	ca_free(ca);
	close(fd);
}

static void test_bad_leaf_keys(void **state)
{
	int fd = memfd_create("state", MFD_CLOEXEC);
	unsigned char spki[512];
	struct err e = ERR_INIT;
	struct ca *ca;
	int n;

	(void)state;
	assert_int_equal(ca_open(&ca, fd, "x", &e), 0);
	n = leaf_spki(spki, sizeof(spki), "P-384");
	assert_int_equal(ca_set_leaf_key(ca, str_slice(spki, (size_t)n), &e), -EINVAL);
	n = leaf_spki(spki, sizeof(spki), "P-256");
	spki[n] = 0; /* trailing byte */
	assert_int_equal(ca_set_leaf_key(ca, str_slice(spki, (size_t)n + 1), &e), -EINVAL);
	assert_int_equal(ca_set_leaf_key(ca, str_slice(spki, (size_t)n - 1), &e), -EINVAL);
	ca_free(ca);
	close(fd);
}

static void test_damaged_state_is_refused(void **state)
{
	int fd = memfd_create("state", MFD_CLOEXEC);
	struct err e = ERR_INIT;
	struct ca *ca;

	(void)state;
	assert_int_equal(write(fd, "\xff\xff\xff\x7f", 4), 4);
	assert_int_equal(ca_open(&ca, fd, "x", &e), -EPROTO);
	assert_null(ca);
	close(fd);
}

static void test_checkpoint_signature(void **state)
{
	static const char domain[] = "claude-bottle checkpoint";
	int fd = memfd_create("state", MFD_CLOEXEC);
	uint8_t hash[32] = {1, 2, 3}, signature[64], public_key[32];
	unsigned char message[sizeof(domain) + 32];
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	EVP_PKEY *key;
	struct err e = ERR_INIT;
	struct ca *ca;

	(void)state;
	assert_int_equal(ca_open(&ca, fd, "x", &e), 0);
	assert_int_equal(ca_sign(ca, hash, signature, public_key, &e), 0);
	memcpy(message, domain, sizeof(domain));
	memcpy(message + sizeof(domain), hash, 32);
	key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, public_key, 32);
	assert_int_equal(EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, key), 1);
	assert_int_equal(EVP_DigestVerify(ctx, signature, 64, message, sizeof(message)), 1);
	message[sizeof(domain)] ^= 1;
	EVP_MD_CTX_reset(ctx);
	assert_int_equal(EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, key), 1);
	assert_int_not_equal(EVP_DigestVerify(ctx, signature, 64, message, sizeof(message)), 1);
	EVP_PKEY_free(key);
	EVP_MD_CTX_free(ctx);
	ca_free(ca);
	close(fd);
}

/* A late answer to somebody else's question is not this one's. */
static void test_stale_replies_are_dropped(void **state)
{
	struct keyd_reply stale = {.id = 7, .status = KEYD_OK}, r;
	struct keyd_request q = {.op = KEYD_OP_CA};
	struct err e = ERR_INIT;
	int pair[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(send(pair[1], &stale, offsetof(struct keyd_reply, data), 0),
				 offsetof(struct keyd_reply, data));
	assert_int_equal(keyd_ask(pair[0], &q, &r, 50, &e), -ETIMEDOUT);
	assert_int_equal(send(pair[1], "xx", 2, 0), 2);
	assert_int_equal(keyd_ask(pair[0], &q, &r, 50, &e), -EPROTO);
	close(pair[1]);
	assert_true(keyd_ask(pair[0], &q, &r, 50, &e) < 0);
	close(pair[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_leaf_verifies),
		cmocka_unit_test(test_bad_leaf_keys),
		cmocka_unit_test(test_damaged_state_is_refused),
		cmocka_unit_test(test_checkpoint_signature),
		cmocka_unit_test(test_stale_replies_are_dropped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
