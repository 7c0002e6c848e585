/*
 * Theory of operation: open addressing over a power-of-two table of slots would need tombstones on
 * eviction; with at most a thousand entries, chained buckets over one preallocated array are
 * simpler. Entries are doubly linked in order of use, by index.
 */
#include "pipelock/leaf.h"

#include "base/clean.h"
#include "base/mem.h"
#include "base/timeutil.h"
#include "conf/policy.h"
#include "keyd/keyd_proto.h"

#include <errno.h>
#include <openssl/ec.h>
#include <openssl/evp.h>

#define LEAF_NONE UINT32_MAX

struct leaf_entry {
	X509 *cert; /* NULL: the entry is free */
	char host[POLICY_HOST_MAX + 1];
	uint32_t host_n;
	uint32_t next_in_bucket;
	uint32_t newer, older;
};

struct leaf_cache {
	int keyd_fd;
	EVP_PKEY *key;
	X509 *ca;
	struct leaf_entry *entries;
	uint32_t *buckets;
	uint32_t max, n_buckets, newest, oldest;
	uint64_t seed, silent_until_ns;
	uint64_t tokens_m, refilled_ns; /* a token bucket, in thousandths of a mint */
	struct leaf_cache_stats stats;
};

/* The bucket of a host: FNV-1a, seeded because the agent chooses the names under a wildcard. */
static uint32_t leaf_bucket(const struct leaf_cache *c, struct str host)
{
	uint64_t h = c->seed ^ UINT64_C(14695981039346656037);

	for (size_t i = 0; i < host.n; i++)
		h = (h ^ (uint8_t)host.p[i]) * UINT64_C(1099511628211);
	return (uint32_t)((h >> 32) ^ h) & (c->n_buckets - 1);
}

static void leaf_unlink_use(struct leaf_cache *c, uint32_t i)
{
	struct leaf_entry *en = &c->entries[i];

	if (en->newer == LEAF_NONE)
		c->newest = en->older;
	else
		c->entries[en->newer].older = en->older;
	if (en->older == LEAF_NONE)
		c->oldest = en->newer;
	else
		c->entries[en->older].newer = en->newer;
}

static void leaf_link_newest(struct leaf_cache *c, uint32_t i)
{
	struct leaf_entry *en = &c->entries[i];

	en->newer = LEAF_NONE;
	en->older = c->newest;
	if (c->newest == LEAF_NONE)
		c->oldest = i;
	else
		c->entries[c->newest].newer = i;
	c->newest = i;
}

static uint32_t leaf_find(const struct leaf_cache *c, struct str host)
{
	uint32_t i = c->buckets[leaf_bucket(c, host)];

	while (i != LEAF_NONE && !str_eq(str_slice(c->entries[i].host, c->entries[i].host_n), host))
		i = c->entries[i].next_in_bucket;
	return i;
}

static void leaf_remove(struct leaf_cache *c, uint32_t i)
{
	struct leaf_entry *en = &c->entries[i];
	uint32_t *at = &c->buckets[leaf_bucket(c, str_slice(en->host, en->host_n))];

	while (*at != i)
		at = &c->entries[*at].next_in_bucket;
	*at = en->next_in_bucket;
	leaf_unlink_use(c, i);
	X509_free(take_ptr(&en->cert));
	c->stats.hosts--;
}

static uint32_t leaf_free_slot(struct leaf_cache *c)
{
	uint32_t i;

	if (c->stats.hosts < c->max) {
		for (i = 0; c->entries[i].cert; i++)
			;
		return i;
	}
	i = c->oldest;
	leaf_remove(c, i);
	c->stats.evictions++;
	return i;
}

static void leaf_insert(struct leaf_cache *c, struct str host, X509 *cert)
{
	uint32_t i = leaf_free_slot(c), bucket = leaf_bucket(c, host);
	struct leaf_entry *en = &c->entries[i];

	memcpy(en->host, host.p, host.n);
	en->host[host.n] = '\0';
	en->host_n = (uint32_t)host.n;
	en->cert = cert;
	en->next_in_bucket = c->buckets[bucket];
	c->buckets[bucket] = i;
	leaf_link_newest(c, i);
	c->stats.hosts++;
}

static int leaf_ask(struct leaf_cache *c, struct keyd_request *q, struct keyd_reply *r,
		    struct err *e)
{
	int ret;

	ret = keyd_ask(c->keyd_fd, q, r, KEYD_TIMEOUT_MS, e);
	if (ret < 0)
		return ret;
	if (r->status != KEYD_OK)
		return err_set(e, -EACCES, "keyd refused (status %u)", r->status);
	if (r->data_n > sizeof(r->data))
		return err_set(e, -EPROTO, "keyd answered with a wrong length");
	return 0;
}

static X509 *leaf_parse(const struct keyd_reply *r, struct err *e)
{
	const unsigned char *p = r->data;
	X509 *cert = d2i_X509(NULL, &p, (long)r->data_n);

	if (!cert || p != r->data + r->data_n) {
		X509_free(cert);
		(void)err_set(e, -EPROTO, "keyd gave no certificate");
		return NULL;
	}
	return cert;
}

static int leaf_make_key(struct leaf_cache *c, struct err *e)
{
	struct keyd_request q = {.op = KEYD_OP_LEAF_KEY};
	struct keyd_reply r;
	unsigned char *spki = NULL;
	int n;

	c->key = EVP_EC_gen("P-256");
	n = c->key ? i2d_PUBKEY(c->key, &spki) : -1;
	if (n <= 0 || (size_t)n > sizeof(q.data)) {
		OPENSSL_free(spki);
		return err_set(e, -EIO, "make the leaf key");
	}
	memcpy(q.data, spki, (size_t)n);
	q.data_n = (uint16_t)n;
	OPENSSL_free(spki);
	return leaf_ask(c, &q, &r, e) < 0 ? err_prefix(e, "give the leaf key to keyd") : 0;
}

static int leaf_fetch_ca(struct leaf_cache *c, struct err *e)
{
	struct keyd_request q = {.op = KEYD_OP_CA};
	struct keyd_reply r;

	if (leaf_ask(c, &q, &r, e) < 0)
		return err_prefix(e, "fetch the CA certificate");
	c->ca = leaf_parse(&r, e);
	return c->ca ? 0 : -EPROTO;
}

static X509 *leaf_mint(struct leaf_cache *c, struct str host, struct err *e)
{
	struct keyd_request q = {.op = KEYD_OP_MINT};
	struct keyd_reply r;
	X509 *cert;

	memcpy(q.host, host.p, host.n);
	if (leaf_ask(c, &q, &r, e) < 0)
		return NULL;
	cert = leaf_parse(&r, e);
	/* A certificate on another key could only make the handshake fail later and less clearly.
	 */
	if (cert && EVP_PKEY_eq(X509_get0_pubkey(cert), c->key) != 1) {
		X509_free(cert);
		(void)err_set(e, -EPROTO, "keyd minted on another key");
		return NULL;
	}
	return cert;
}

static bool leaf_is_fresh(const X509 *cert)
{
	int days = 0, seconds = 0;

	return ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(cert)) == 1 &&
	       (int64_t)days * 86400 + seconds > LEAF_RENEW_SECONDS;
}

static bool leaf_take_token(struct leaf_cache *c, uint64_t now_ns)
{
	uint64_t passed_ms =
		now_ns > c->refilled_ns ? (now_ns - c->refilled_ns) / TIME_NS_PER_MS : 0;

	/* Tokens per second are thousandths per millisecond. */
	if (passed_ms > 60000)
		passed_ms = 60000;
	if (passed_ms > 0) {
		c->refilled_ns = now_ns;
		c->tokens_m += passed_ms * LEAF_MINT_PER_SECOND;
		if (c->tokens_m > LEAF_MINT_BURST * 1000)
			c->tokens_m = LEAF_MINT_BURST * 1000;
	}
	if (c->tokens_m < 1000)
		return false;
	c->tokens_m -= 1000;
	return true;
}

X509 *leaf_cache_get(struct leaf_cache *c, struct str host, uint64_t now_ns, struct err *e)
{
	struct err own = ERR_INIT;
	uint32_t i;
	X509 *cert;

	if (!e)
		e = &own;
	if (host.n == 0 || host.n > POLICY_HOST_MAX) {
		(void)err_set(e, -EINVAL, "not a host name");
		return NULL;
	}
	i = leaf_find(c, host);
	if (i != LEAF_NONE && leaf_is_fresh(c->entries[i].cert)) {
		leaf_unlink_use(c, i);
		leaf_link_newest(c, i);
		c->stats.hits++;
		return c->entries[i].cert;
	}
	if (now_ns < c->silent_until_ns) {
		(void)err_set(e, -EAGAIN, "keyd did not answer a moment ago");
		return NULL;
	}
	if (!leaf_take_token(c, now_ns)) {
		(void)err_set(e, -EBUSY, "too many new hosts");
		return NULL;
	}
	cert = leaf_mint(c, host, e);
	if (!cert) {
		c->stats.failures++;
		/* The clock is read again: the wait itself has taken time. */
		if (e->code == -ETIMEDOUT || e->code == -EPIPE)
			c->silent_until_ns =
				time_monotonic_ns() + LEAF_CACHE_BACKOFF_MS * TIME_NS_PER_MS;
		return NULL;
	}
	if (i != LEAF_NONE)
		leaf_remove(c, i);
	c->stats.mints++;
	leaf_insert(c, host, cert);
	return cert;
}

struct leaf_cache *leaf_cache_new(int keyd_fd, size_t max_hosts, struct err *e)
{
	struct leaf_cache *c = mem_zalloc(sizeof(*c));

	c->keyd_fd = keyd_fd;
	c->max = (uint32_t)max_hosts;
	c->newest = c->oldest = LEAF_NONE;
	c->entries = mem_zalloc_array(max_hosts, sizeof(*c->entries));
	for (c->n_buckets = 16; c->n_buckets < max_hosts; c->n_buckets *= 2)
		;
	c->buckets = mem_zalloc_array(c->n_buckets, sizeof(*c->buckets));
	memset(c->buckets, 0xff, c->n_buckets * sizeof(*c->buckets));
	c->tokens_m = LEAF_MINT_BURST * 1000;
	c->refilled_ns = time_monotonic_ns();
	if (getentropy(&c->seed, sizeof(c->seed)) < 0) {
		(void)err_errno(e, "getentropy");
		leaf_cache_free(c);
		return NULL;
	}
	if (leaf_make_key(c, e) < 0 || leaf_fetch_ca(c, e) < 0) {
		leaf_cache_free(c);
		return NULL;
	}
	return c;
}

void leaf_cache_free(struct leaf_cache *c)
{
	if (!c)
		return;
	while (c->oldest != LEAF_NONE)
		leaf_remove(c, c->oldest);
	X509_free(c->ca);
	EVP_PKEY_free(c->key);
	free(c->entries);
	free(c->buckets);
	free(c);
}

EVP_PKEY *leaf_cache_key(const struct leaf_cache *c)
{
	return c->key;
}

X509 *leaf_cache_ca(const struct leaf_cache *c)
{
	return c->ca;
}

struct leaf_cache_stats leaf_cache_stats(const struct leaf_cache *c)
{
	return c->stats;
}
