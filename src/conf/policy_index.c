/*
 * A hash table of hosts, so that a decision costs the same with one route and with all 512. A name
 * is hashed from its end, so that one pass over it gives the hash of every suffix that a wildcard
 * could name ("*.example.com" is kept as ".example.com").
 *
 * The table is never more than half full, and the seed is drawn at random: an agent chooses the
 * hosts that it asks for, and must not be able to choose the slow ones.
 */
#include "conf/policy_index.h"

#include "base/mem.h"

#include <stdlib.h>
#include <sys/random.h>

struct policy_index {
	uint32_t seed, mask;
	uint16_t *slots; /* first route of a pattern + 1; 0: free */
	uint16_t *next;	 /* by route: the next one of the same pattern + 1 */
	uint8_t *length; /* by route: of its pattern, without the "*" */
};

/* FNV-1a, a byte at a time. */
static uint32_t hash_byte(uint32_t hash, char c)
{
	return (hash ^ (unsigned char)c) * UINT32_C(16777619);
}

static uint32_t hash_slot(uint32_t hash)
{
	return hash ^ hash >> 15;
}

static const char *pattern_of(const struct policy_route *r)
{
	return r->host[0] == '*' ? r->host + 1 : r->host;
}

/* The chain of routes with exactly this pattern, or 0. is_wild: of "*" patterns, which begin with a
 * dot, as no host does. */
static uint16_t find(const struct policy *p, uint32_t hash, struct str pattern)
{
	const struct policy_index *x = p->index;

	for (uint32_t s = hash_slot(hash) & x->mask; x->slots[s]; s = (s + 1) & x->mask) {
		unsigned i = x->slots[s] - 1u;

		if (x->length[i] == pattern.n &&
		    memcmp(pattern_of(&p->routes[i]), pattern.p, pattern.n) == 0)
			return x->slots[s];
	}
	return 0;
}

/* Appends route i to the chain of its pattern; i grows, so that chains are in manifest order. */
static void add_route(const struct policy *p, struct policy_index *x, unsigned i)
{
	struct str pattern = str_of(pattern_of(&p->routes[i]));
	uint32_t hash = x->seed, s;
	uint16_t at;

	for (size_t k = pattern.n; k-- > 0;)
		hash = hash_byte(hash, pattern.p[k]);
	x->length[i] = (uint8_t)pattern.n;
	at = find(p, hash, pattern);
	if (at) {
		while (x->next[at - 1])
			at = x->next[at - 1];
		x->next[at - 1] = (uint16_t)(i + 1);
		return;
	}
	for (s = hash_slot(hash) & x->mask; x->slots[s]; s = (s + 1) & x->mask)
		;
	x->slots[s] = (uint16_t)(i + 1);
}

void policy_index_make(struct policy *p)
{
	struct policy_index *x;
	uint32_t size = 16;

	policy_index_free(p);
	if (p->n_routes == 0 || p->n_routes > POLICY_ROUTES_MAX)
		return;
	while (size < 2 * p->n_routes)
		size *= 2;
	x = mem_zalloc(sizeof(*x));
	x->mask = size - 1;
	/* Without random bytes there is still the linear order of a small table. */
	if (getrandom(&x->seed, sizeof(x->seed), GRND_NONBLOCK) != (ssize_t)sizeof(x->seed))
		x->seed = UINT32_C(2166136261);
	x->slots = mem_zalloc_array(size, sizeof(*x->slots));
	x->next = mem_zalloc_array(p->n_routes, sizeof(*x->next));
	x->length = mem_zalloc_array(p->n_routes, sizeof(*x->length));
	p->index = x;
	for (unsigned i = 0; i < p->n_routes; i++)
		add_route(p, x, i);
}

void policy_index_free(struct policy *p)
{
	if (!p->index)
		return;
	free(p->index->slots);
	free(p->index->next);
	free(p->index->length);
	free(p->index);
	p->index = NULL;
}

static bool route_has_host(const struct policy_route *r, struct str host)
{
	const char *want = r->host;
	size_t n;

	if (want[0] != '*')
		return want[0] == host.p[0] && strlen(want) == host.n &&
		       memcmp(want, host.p, host.n) == 0;
	/* "*.example.com": the host must end in ".example.com" and have something before it. */
	n = strlen(++want);
	return host.n > n && memcmp(host.p + host.n - n, want, n) == 0;
}

void policy_cursor_start(struct policy_cursor *c, const struct policy *p, struct str host)
{
	uint32_t hash;

	c->p = p;
	c->host = host;
	c->at = 0;
	c->n_heads = 0;
	c->is_linear = !p->index;
	if (c->is_linear)
		return;
	hash = p->index->seed;
	for (size_t k = host.n; k-- > 0;) {
		uint16_t head = 0;

		hash = hash_byte(hash, host.p[k]);
		if (k == 0 || host.p[k] == '.')
			head = find(p, hash, str_sub(host, k, host.n));
		/* A whole host that begins with a dot is none. */
		if (!head || (k == 0 && host.p[0] == '.'))
			continue;
		if (c->n_heads == POLICY_CURSOR_CHAINS) {
			/* So many nested wildcards that one by one is as good. */
			c->is_linear = true;
			return;
		}
		c->heads[c->n_heads++] = head;
	}
}

const struct policy_route *policy_cursor_next(struct policy_cursor *c)
{
	unsigned best = 0;
	uint16_t head;

	while (c->is_linear) {
		if (c->at == c->p->n_routes)
			return NULL;
		if (route_has_host(&c->p->routes[c->at++], c->host))
			return &c->p->routes[c->at - 1];
	}
	if (c->n_heads == 0)
		return NULL;
	for (unsigned i = 1; i < c->n_heads; i++)
		if (c->heads[i] < c->heads[best])
			best = i;
	head = c->heads[best];
	c->heads[best] = c->p->index->next[head - 1];
	if (!c->heads[best])
		c->heads[best] = c->heads[--c->n_heads];
	return &c->p->routes[head - 1];
}
