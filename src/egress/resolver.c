/*
 * Theory of operation: each lookup sends two questions through c-ares and is settled when both are
 * answered, when the second is late (RESOLVER_SECOND_MS), or when all time is used. c-ares cannot
 * take one question back, so a lookup lives on until its last callback, with fn cleared. The
 * verdict on the addresses is made at the end, in one place, for fresh and for cached ones alike.
 */
#include "egress/resolver.h"

#include "base/clean.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/timeutil.h"
#include "egress/dns_sockets.h"

#include <ares.h>
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>

#define WATCHES_MAX  64
#define EDNS_BYTES   1232 /* fits every path without fragments */
#define TRY_MS	     1500
#define TRIES	     2
#define DNS_CLASS_IN 1

static const char *const status_names[] = {
#define X(constant, name) [RESOLVER_##constant] = name,
	RESOLVER_STATUSES(X)
#undef X
};
_Static_assert(ARRAY_LEN(status_names) == RESOLVER_STATUS_COUNT, "one name per status");

const char *resolver_status_name(enum resolver_status s)
{
	return s < RESOLVER_STATUS_COUNT ? status_names[s] : "?";
}

struct cached {
	char host[POLICY_HOST_MAX + 1];
	uint64_t until_ns;
	size_t n;
	struct sockaddr_storage addresses[RESOLVER_ADDRESSES_MAX];
};

struct watch {
	struct loop_watch watch;
	struct resolver *resolver;
};

struct resolver {
	struct loop *loop;
	struct resolver_config config;
	ares_channel channel;
	struct dns_sockets *sockets; /* NULL: c-ares makes its own */
	struct watch watches[WATCHES_MAX];
	struct loop_timer timer; /* of c-ares */
	struct resolver_lookup *lookups;
	size_t n_lookups;
	size_t cache_next;
	struct cached *cache;
};

struct question {
	struct resolver_lookup *lookup;
	uint16_t type;
};

struct resolver_lookup {
	struct resolver *resolver;
	struct resolver_lookup *prev, *next;
	char host[POLICY_HOST_MAX + 1];
	uint16_t port;
	resolver_fn fn; /* NULL: delivered or given up */
	void *ctx;
	struct question questions[2];
	unsigned n_open; /* callbacks of c-ares to come */
	bool is_settled;
	bool is_from_cache, is_operators;
	enum resolver_status status[2];
	struct dns_answer answers[2];
	uint16_t numbers[RESOLVER_ADDRESSES_MAX]; /* of the operator's */
	struct loop_timer timer;
};

/* --- c-ares on the loop --- */

static void resolver_arm(struct resolver *r)
{
	struct timeval tv, *due = ares_timeout(r->channel, NULL, &tv);

	if (!due)
		loop_timer_del(r->loop, &r->timer);
	else
		loop_timer_set(r->loop, &r->timer,
			       (uint64_t)due->tv_sec * 1000 + (uint64_t)due->tv_usec / 1000 + 1);
}

static void resolver_on_event(void *ctx, ares_socket_t fd, uint32_t events)
{
	struct resolver *r = ctx;

	ares_process_fd(r->channel, events & (EPOLLIN | EPOLLERR | EPOLLHUP) ? fd : ARES_SOCKET_BAD,
			events & EPOLLOUT ? fd : ARES_SOCKET_BAD);
	resolver_arm(r);
}

static void resolver_on_socket(struct loop_watch *w, uint32_t events)
{
	resolver_on_event(((struct watch *)((char *)w - offsetof(struct watch, watch)))->resolver,
			  w->fd, events);
}

static void resolver_on_timer(struct loop_timer *t)
{
	struct resolver *r = (struct resolver *)((char *)t - offsetof(struct resolver, timer));

	ares_process_fd(r->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
	resolver_arm(r);
}

/* c-ares tells about each socket before it is closed. */
static void resolver_on_state(void *ctx, ares_socket_t fd, int is_readable, int is_writable)
{
	struct resolver *r = ctx;
	uint32_t events =
		(is_readable ? (uint32_t)EPOLLIN : 0) | (is_writable ? (uint32_t)EPOLLOUT : 0);
	struct loop_watch *found = NULL, *spare = NULL;

	if (r->sockets) {
		dns_sockets_watch(r->sockets, fd, events);
		return;
	}
	for (size_t i = 0; i < WATCHES_MAX; i++) {
		struct loop_watch *w = &r->watches[i].watch;

		if (w->fd == fd)
			found = w;
		else if (w->fd < 0 && !spare)
			spare = w;
	}
	if (events == 0 && found)
		loop_del(r->loop, found);
	else if (found)
		(void)loop_set(r->loop, found, events);
	else if (events != 0 && (!spare || loop_add(r->loop, spare, fd, events, NULL) < 0))
		log_warn("a DNS socket cannot be watched; its question will time out");
}

/* --- lookups --- */

static void lookup_unlink(struct resolver_lookup *l)
{
	struct resolver *r = l->resolver;

	loop_timer_del(r->loop, &l->timer);
	*(l->prev ? &l->prev->next : &r->lookups) = l->next;
	if (l->next)
		l->next->prev = l->prev;
	r->n_lookups--;
	free(l);
}

static void answer_note(struct resolver_answer *a, enum address_class class,
			const struct sockaddr_storage *address)
{
	char text[POLICY_ADDRESS_SIZE];

	policy_address_format(address, text);
	(void)snprintf(a->detail, sizeof(a->detail), "%s is %s", text, address_class_name(class));
}

static void set_port(struct sockaddr_storage *a, uint16_t port)
{
	if (a->ss_family == AF_INET6)
		((struct sockaddr_in6 *)a)->sin6_port = htons(port);
	else
		((struct sockaddr_in *)a)->sin_port = htons(port);
}

/* IPv6 first and the families in turn (RFC 8305 section 4). */
static void answer_gather(const struct resolver_lookup *l, struct resolver_answer *a)
{
	const struct dns_answer *v4 = &l->answers[0], *v6 = &l->answers[1];

	for (size_t i = 0; i < DNS_ANSWER_ADDRESSES_MAX; i++) {
		if (i < v6->n && a->n < RESOLVER_ADDRESSES_MAX)
			a->addresses[a->n++] = v6->addresses[i];
		if (i < v4->n && a->n < RESOLVER_ADDRESSES_MAX)
			a->addresses[a->n++] = v4->addresses[i];
	}
	for (size_t i = 0; i < a->n; i++)
		set_port(&a->addresses[i], l->port);
}

/* All addresses, also those that would not be dialled. */
static enum resolver_status answer_check(const struct resolver_lookup *l, struct resolver_answer *a)
{
	struct address_own *own = l->resolver->config.own;
	struct err e = ERR_INIT;

	if (own && address_own_refresh(own, &e) < 0) {
		(void)snprintf(a->detail, sizeof(a->detail), "own addresses unknown: %.80s",
			       e.text);
		return RESOLVER_INSIDE;
	}
	for (int k = 0; k < 2; k++) {
		for (size_t i = 0; i < l->answers[k].n; i++) {
			const struct sockaddr_storage *sa = &l->answers[k].addresses[i];
			enum address_class class = address_check(own, (const struct sockaddr *)sa);

			if (class != ADDRESS_PUBLIC) {
				answer_note(a, class, sa);
				return RESOLVER_INSIDE;
			}
		}
	}
	return RESOLVER_OK;
}

/* What the two questions say together. A malformed answer is never made good by the other one. */
static enum resolver_status lookup_status(const struct resolver_lookup *l)
{
	static const enum resolver_status order[] = {RESOLVER_MALFORMED, RESOLVER_OK,
						     RESOLVER_NO_ADDRESS, RESOLVER_FAILED};

	for (size_t i = 0; i < ARRAY_LEN(order); i++) {
		/* "No such address" counts only when both say so. */
		bool both = order[i] == RESOLVER_NO_ADDRESS;
		bool a = l->status[0] == order[i], b = l->status[1] == order[i];

		if (both ? a && b : a || b)
			return order[i];
	}
	return RESOLVER_TIMEOUT;
}

static void cache_put(const struct resolver_lookup *l, const struct resolver_answer *a)
{
	struct resolver *r = l->resolver;
	struct cached *c = &r->cache[r->cache_next];
	uint32_t ttl = RESOLVER_CACHE_MAX_SECONDS;

	for (int k = 0; k < 2; k++) {
		if (l->answers[k].n > 0 && l->answers[k].ttl_seconds < ttl)
			ttl = l->answers[k].ttl_seconds;
	}
	if (ttl == 0 || l->is_from_cache || l->is_operators)
		return;
	r->cache_next = (r->cache_next + 1) % RESOLVER_CACHE_MAX;
	*c = (struct cached){.until_ns = time_monotonic_ns() + ttl * TIME_NS_PER_SEC, .n = a->n};
	memcpy(c->host, l->host, sizeof(c->host));
	memcpy(c->addresses, a->addresses, sizeof(c->addresses));
}

static void lookup_deliver(struct resolver_lookup *l)
{
	struct resolver_answer a = {.status = lookup_status(l), .is_operators = l->is_operators};
	resolver_fn fn = l->fn;
	void *ctx = l->ctx;

	if (l->is_settled)
		return;
	l->is_settled = true;
	l->fn = NULL;
	loop_timer_del(l->resolver->loop, &l->timer);
	if (a.status == RESOLVER_OK && !l->is_operators)
		a.status = answer_check(l, &a);
	if (a.status == RESOLVER_OK) {
		if (l->is_operators) {
			a.n = l->answers[0].n;
			memcpy(a.addresses, l->answers[0].addresses, a.n * sizeof(a.addresses[0]));
			memcpy(a.numbers, l->numbers, sizeof(a.numbers));
			a.reacher = l->resolver->config.reacher;
		} else {
			answer_gather(l, &a);
			cache_put(l, &a);
		}
	}
	if (l->n_open == 0)
		lookup_unlink(l);
	if (fn)
		fn(ctx, &a);
}

static enum resolver_status status_of_answer(enum dns_answer_status s)
{
	switch (s) {
	case DNS_ANSWER_OK:
		return RESOLVER_OK;
	case DNS_ANSWER_NO_ADDRESS:
		return RESOLVER_NO_ADDRESS;
	case DNS_ANSWER_FAILED:
		return RESOLVER_FAILED;
	case DNS_ANSWER_MALFORMED:
	default:
		return RESOLVER_MALFORMED;
	}
}

static void resolver_on_answer(void *ctx, int status, int timeouts, unsigned char *data, int n)
{
	struct question *q = ctx;
	struct resolver_lookup *l = q->lookup;
	size_t i = (size_t)(q - l->questions);
	bool is_mine = !l->is_settled;

	(void)timeouts;
	l->n_open--;
	if (status == ARES_EDESTRUCTION || !is_mine) {
		if (l->n_open == 0)
			lookup_unlink(l);
		return;
	}
	/* c-ares gives the packet for every code that stands in one. */
	if (data && n > 0)
		l->status[i] = status_of_answer(dns_answer_parse(
			&l->answers[i], str_slice(data, (size_t)n), str_of(l->host), q->type));
	else
		l->status[i] = status == ARES_ETIMEOUT ? RESOLVER_TIMEOUT : RESOLVER_FAILED;
	/* Never from within resolver_ask(): its caller does not have the lookup yet. */
	if (l->n_open == 0)
		loop_timer_set(l->resolver->loop, &l->timer, 0);
	else if (l->status[i] == RESOLVER_OK)
		loop_timer_set(l->resolver->loop, &l->timer, RESOLVER_SECOND_MS);
}

static void lookup_on_timer(struct loop_timer *t)
{
	lookup_deliver(
		(struct resolver_lookup *)((char *)t - offsetof(struct resolver_lookup, timer)));
}

static bool lookup_from_operator(struct resolver_lookup *l)
{
	const struct policy *p = l->resolver->config.policy;
	struct dns_answer *a = &l->answers[0];

	for (size_t i = 0; p && i < p->n_resolve; i++) {
		struct sockaddr_storage address = p->resolve[i].address;

		if (strcmp(p->resolve[i].host, l->host) != 0 || a->n == RESOLVER_ADDRESSES_MAX)
			continue;
		if (((struct sockaddr_in *)&address)->sin_port == 0) /* the same place in v6 */
			set_port(&address, l->port);
		l->numbers[a->n] = (uint16_t)i;
		a->addresses[a->n++] = address;
	}
	return a->n > 0;
}

static bool lookup_from_cache(struct resolver_lookup *l)
{
	struct resolver *r = l->resolver;
	uint64_t now_ns = time_monotonic_ns();

	for (size_t i = 0; i < RESOLVER_CACHE_MAX; i++) {
		const struct cached *c = &r->cache[i];

		if (c->until_ns <= now_ns || strcmp(c->host, l->host) != 0)
			continue;
		for (size_t k = 0; k < c->n; k++) {
			struct dns_answer *a = &l->answers[c->addresses[k].ss_family == AF_INET6];

			a->addresses[a->n++] = c->addresses[k];
		}
		return c->n > 0;
	}
	return false;
}

struct resolver_lookup *resolver_ask(struct resolver *r, struct str host, uint16_t port,
				     resolver_fn fn, void *ctx)
{
	struct resolver_lookup *l;

	if (r->n_lookups == RESOLVER_LOOKUPS_MAX || host.n > POLICY_HOST_MAX)
		return NULL;
	l = mem_zalloc(sizeof(*l));
	*l = (struct resolver_lookup){.resolver = r, .port = port, .fn = fn, .ctx = ctx};
	memcpy(l->host, host.p, host.n);
	l->timer.fn = lookup_on_timer;
	l->status[0] = l->status[1] = RESOLVER_TIMEOUT;
	l->next = r->lookups;
	if (l->next)
		l->next->prev = l;
	r->lookups = l;
	r->n_lookups++;
	l->is_operators = lookup_from_operator(l);
	if (!l->is_operators)
		l->is_from_cache = lookup_from_cache(l);
	if (l->is_operators || l->is_from_cache) {
		l->status[0] = RESOLVER_OK;
		loop_timer_set(r->loop, &l->timer, 0);
		return l;
	}
	loop_timer_set(r->loop, &l->timer, r->config.total_ms);
	l->n_open = 2;
	for (size_t i = 0; i < 2; i++) {
		l->questions[i] = (struct question){l, i == 0 ? DNS_TYPE_A : DNS_TYPE_AAAA};
		ares_query(r->channel, l->host, DNS_CLASS_IN, l->questions[i].type,
			   resolver_on_answer, &l->questions[i]);
	}
	resolver_arm(r);
	return l;
}

void resolver_cancel(struct resolver_lookup *l)
{
	l->fn = NULL;
	l->is_settled = true;
	loop_timer_del(l->resolver->loop, &l->timer);
	if (l->n_open == 0)
		lookup_unlink(l);
}

size_t resolver_pending(const struct resolver *r)
{
	return r->n_lookups;
}

/* --- making one --- */

size_t resolver_servers_parse(struct str text, struct sockaddr_storage out[RESOLVER_SERVERS_MAX])
{
	size_t n = 0;
	bool more = true;

	while (more && n < RESOLVER_SERVERS_MAX) {
		struct str line, word;
		struct err e = ERR_INIT;
		bool found;

		text = str_cut(text, '\n', &line, &more);
		(void)str_cut(line, '#', &line, &found);
		(void)str_cut(line, ';', &line, &found);
		line = str_trim(line);
		if (!str_starts(line, STR_LIT("nameserver")))
			continue;
		line = str_trim(str_sub(line, strlen("nameserver"), line.n));
		(void)str_cut(line, ' ', &word, &found);
		if (policy_address_parse(word, &out[n], &e) < 0)
			continue;
		set_port(&out[n++], 53);
	}
	return n;
}

static int resolver_set_servers(struct resolver *r, struct err *e)
{
	struct ares_addr_port_node nodes[RESOLVER_SERVERS_MAX] = {0};
	size_t n = r->config.n_servers;

	if (n == 0)
		return 0; /* 127.0.0.1, as in resolv.conf(5) */
	for (size_t i = 0; i < n; i++) {
		const struct sockaddr_storage *sa = &r->config.servers[i];

		nodes[i].next = i + 1 < n ? &nodes[i + 1] : NULL;
		nodes[i].family = sa->ss_family;
		if (sa->ss_family == AF_INET6) {
			const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)sa;

			memcpy(&nodes[i].addr.addr6, &v6->sin6_addr, 16);
			nodes[i].udp_port = ntohs(v6->sin6_port);
		} else {
			const struct sockaddr_in *v4 = (const struct sockaddr_in *)sa;

			nodes[i].addr.addr4 = v4->sin_addr;
			nodes[i].udp_port = ntohs(v4->sin_port);
		}
		if (nodes[i].udp_port == 0)
			nodes[i].udp_port = 53;
		nodes[i].tcp_port = nodes[i].udp_port;
	}
	if (ares_set_servers_ports(r->channel, nodes) != ARES_SUCCESS)
		return err_set(e, -EINVAL, "name servers are not accepted");
	return 0;
}

int resolver_new(struct resolver **out, struct loop *l, const struct resolver_config *config,
		 struct err *e)
{
	struct resolver *r = mem_zalloc(sizeof(*r));
	char lookups[] = "b", no_file[] = "/dev/null";
	struct ares_options options = {
		.flags = ARES_FLAG_NOSEARCH | ARES_FLAG_NOALIASES | ARES_FLAG_EDNS,
		.timeout = TRY_MS,
		.tries = TRIES,
		.lookups = lookups,
		.resolvconf_path = no_file,
		.ednspsz = EDNS_BYTES,
		.sock_state_cb = resolver_on_state,
		.sock_state_cb_data = r,
	};
	int ret;

	*out = NULL;
	*r = (struct resolver){.loop = l, .config = *config};
	if (r->config.n_servers > RESOLVER_SERVERS_MAX)
		r->config.n_servers = RESOLVER_SERVERS_MAX;
	if (r->config.total_ms == 0)
		r->config.total_ms = RESOLVER_TOTAL_MS;
	r->timer.fn = resolver_on_timer;
	for (size_t i = 0; i < WATCHES_MAX; i++)
		r->watches[i] = (struct watch){{.fd = -1, .fn = resolver_on_socket}, r};
	r->cache = mem_zalloc_array(RESOLVER_CACHE_MAX, sizeof(*r->cache));
	ret = ares_library_init(ARES_LIB_INIT_ALL);
	if (ret == ARES_SUCCESS)
		ret = ares_init_options(&r->channel, &options,
					ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES |
						ARES_OPT_LOOKUPS | ARES_OPT_RESOLVCONF |
						ARES_OPT_EDNSPSZ | ARES_OPT_SOCK_STATE_CB |
						ARES_OPT_DOMAINS | ARES_OPT_NOROTATE);
	if (ret != ARES_SUCCESS) {
		free(r->cache);
		free(r);
		return err_set(e, -EIO, "c-ares: %s", ares_strerror(ret));
	}
	if (config->reacher && config->policy && config->policy->n_dns > 0)
		r->sockets = dns_sockets_new(l, r->channel, config->reacher, config->policy,
					     resolver_on_event, r);
	ret = resolver_set_servers(r, e);
	r->config.servers = NULL;
	if (ret < 0)
		resolver_free(r);
	else
		*out = r;
	return ret;
}

void resolver_free(struct resolver *r)
{
	if (!r)
		return;
	/* Cancelled first, so that the callbacks of the channel's end unlink what is left. */
	for (struct resolver_lookup *l = r->lookups, *next; l; l = next) {
		next = l->next;
		resolver_cancel(l);
	}
	ares_destroy(r->channel);
	dns_sockets_free(r->sockets);
	loop_timer_del(r->loop, &r->timer);
	for (size_t i = 0; i < WATCHES_MAX; i++)
		loop_del(r->loop, &r->watches[i].watch);
	ares_library_cleanup();
	free(r->cache);
	free(r);
}
