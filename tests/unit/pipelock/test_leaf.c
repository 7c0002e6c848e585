/* The leaf cache against a fake keyd: hits, bound, order of eviction, refusals, silence. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "pipelock/leaf.c"

#include <stdio.h>

static struct {
	EVP_PKEY *ca_key, *leaf_key, *mint_on;
	unsigned mints;
	int fail;	 /* returned by keyd_ask when not 0 */
	unsigned status; /* of mint replies */
	long lifetime_s;
	bool has_tail; /* bytes after the certificate */
} fake;

static size_t make_cert(const char *host, EVP_PKEY *key, uint8_t *out)
{
	X509 *x = X509_new();
	X509_NAME *name = X509_get_subject_name(x);
	unsigned char *p = out;
	int n;

	ASN1_INTEGER_set(X509_get_serialNumber(x), 7);
	X509_gmtime_adj(X509_getm_notBefore(x), 0);
	X509_gmtime_adj(X509_getm_notAfter(x), fake.lifetime_s);
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)host, -1, -1,
				   0);
	X509_set_issuer_name(x, name);
	X509_set_pubkey(x, key);
	assert_true(X509_sign(x, fake.ca_key, EVP_sha256()) > 0);
	n = i2d_X509(x, &p);
	X509_free(x);
	assert_true(n > 0);
	return (size_t)n;
}

int keyd_ask(int fd, struct keyd_request *q, struct keyd_reply *r, int timeout_ms, struct err *e)
{
	const unsigned char *p = q->data;

	(void)fd;
	(void)timeout_ms;
	*r = (struct keyd_reply){.id = q->id};
	if (fake.fail)
		return err_set(e, fake.fail, "fake");
	if (q->op == KEYD_OP_LEAF_KEY) {
		EVP_PKEY_free(fake.leaf_key);
		fake.leaf_key = d2i_PUBKEY(NULL, &p, q->data_n);
		assert_non_null(fake.leaf_key);
	} else if (q->op == KEYD_OP_CA) {
		r->data_n = (uint32_t)make_cert("ca", fake.ca_key, r->data);
	} else {
		assert_int_equal(q->op, KEYD_OP_MINT);
		fake.mints++;
		r->status = fake.status;
		r->data_n = (uint32_t)make_cert(
				    q->host, fake.mint_on ? fake.mint_on : fake.leaf_key, r->data) +
			    fake.has_tail;
	}
	return 0;
}

static int setup(void **state)
{
	memset(&fake, 0, sizeof(fake));
	fake.ca_key = EVP_EC_gen("P-256");
	fake.lifetime_s = 86400;
	*state = leaf_cache_new(3, 3, NULL);
	return *state ? 0 : -1;
}

static int teardown(void **state)
{
	leaf_cache_free(*state);
	EVP_PKEY_free(fake.ca_key);
	EVP_PKEY_free(fake.leaf_key);
	return 0;
}

static X509 *get(struct leaf_cache *c, const char *host)
{
	struct err e = ERR_INIT;

	return leaf_cache_get(c, str_of(host), time_monotonic_ns(), &e);
}

static void test_hit(void **state)
{
	struct leaf_cache *c = *state;
	X509 *a = get(c, "a.example.com");

	assert_non_null(a);
	assert_ptr_equal(get(c, "a.example.com"), a);
	assert_ptr_not_equal(get(c, "b.example.com"), a);
	assert_int_equal(fake.mints, 2);
	assert_int_equal(X509_check_private_key(a, leaf_cache_key(c)), 1);
	assert_int_equal(leaf_cache_stats(c).hits, 1);
}

static void test_eviction(void **state)
{
	struct leaf_cache *c = *state;

	(void)get(c, "a.example.com");
	(void)get(c, "b.example.com");
	(void)get(c, "c.example.com");
	(void)get(c, "a.example.com"); /* b is now the least recently used */
	(void)get(c, "d.example.com");
	assert_int_equal(leaf_cache_stats(c).hosts, 3);
	assert_int_equal(leaf_cache_stats(c).evictions, 1);
	fake.mints = 0;
	(void)get(c, "a.example.com");
	(void)get(c, "c.example.com");
	(void)get(c, "d.example.com");
	assert_int_equal(fake.mints, 0);
	(void)get(c, "b.example.com");
	assert_int_equal(fake.mints, 1);
	for (int i = 0; i < 100; i++) {
		char host[32];

		(void)snprintf(host, sizeof(host), "h%d.example.com", i % 7);
		assert_non_null(get(c, host));
		assert_true(leaf_cache_stats(c).hosts <= 3);
	}
}

static void test_refused(void **state)
{
	struct leaf_cache *c = *state;

	fake.status = KEYD_DENIED;
	assert_null(get(c, "a.example.com"));
	assert_int_equal(leaf_cache_stats(c).hosts, 0);
	fake.status = KEYD_OK;
	assert_non_null(get(c, "a.example.com"));
	assert_null(get(c, ""));
}

/* After silence nobody waits again for a while; hits are served all the same. */
static void test_silence(void **state)
{
	struct leaf_cache *c = *state;
	struct err e = ERR_INIT;
	uint64_t later = time_monotonic_ns() + (LEAF_CACHE_BACKOFF_MS + 1000) * TIME_NS_PER_MS;

	assert_non_null(get(c, "a.example.com"));
	fake.fail = -ETIMEDOUT;
	assert_null(get(c, "b.example.com"));
	fake.fail = 0;
	assert_null(get(c, "b.example.com"));
	assert_non_null(get(c, "a.example.com"));
	assert_int_equal(fake.mints, 1);
	assert_non_null(leaf_cache_get(c, STR_LIT("b.example.com"), later, &e));
}

static void test_bad_certificates(void **state)
{
	struct leaf_cache *c = *state;

	fake.mint_on = fake.ca_key;
	assert_null(get(c, "a.example.com"));
	fake.mint_on = NULL;
	fake.has_tail = true;
	assert_null(get(c, "a.example.com"));
	fake.has_tail = false;
	/* Nearly expired: minted anew each time, never served stale. */
	fake.lifetime_s = LEAF_RENEW_SECONDS - 10;
	fake.mints = 0;
	assert_non_null(get(c, "a.example.com"));
	assert_non_null(get(c, "a.example.com"));
	assert_int_equal(fake.mints, 2);
	assert_int_equal(leaf_cache_stats(c).hosts, 1);
}

/* Names that are all new are minted at a bounded rate, whatever the agent does. */
static void test_rate(void **state)
{
	struct leaf_cache *c = *state;
	uint64_t now_ns = time_monotonic_ns();
	unsigned minted = 0;
	char host[32];

	for (int i = 0; i < LEAF_MINT_BURST + 20; i++) {
		(void)snprintf(host, sizeof(host), "h%d.example.com", i);
		minted += leaf_cache_get(c, str_of(host), now_ns, NULL) != NULL;
	}
	assert_in_range(minted, LEAF_MINT_BURST, LEAF_MINT_BURST + 1);
	assert_null(leaf_cache_get(c, STR_LIT("new.example.com"), now_ns, NULL));
	assert_non_null(
		leaf_cache_get(c, STR_LIT("new.example.com"), now_ns + TIME_NS_PER_SEC, NULL));
}

static void test_no_keyd(void **state)
{
	struct err e = ERR_INIT;

	(void)state;
	fake.fail = -EPIPE;
	assert_null(leaf_cache_new(3, 3, &e));
	assert_int_equal(e.code, -EPIPE);
	fake.fail = 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_hit, setup, teardown),
		cmocka_unit_test_setup_teardown(test_eviction, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_silence, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_certificates, setup, teardown),
		cmocka_unit_test_setup_teardown(test_rate, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_keyd, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
