#include "egress/renew.h"

#include "base/timeutil.h"

#include <stdio.h>

static struct policy_decision decide(const struct policy_shared *policy,
				     const struct relay_exchange *x)
{
	return policy_decide(policy->policy, x->req.host, x->req.port,
			     (enum policy_method)x->req.method, x->req.path);
}

static void take(struct egress *g, struct exchange_state *s, struct policy_shared *policy,
		 const struct policy_route *route)
{
	s->policy = policy_shared_use(policy);
	s->route = route;
	/* Routes with a credential are the same ones under every policy; what was fetched for them
	 * is kept by their place in the first. */
	if (route->auth.scheme != POLICY_AUTH_NONE)
		s->route = &g->first->policy->routes[route - policy->policy->routes];
}

enum policy_reason renew_decide(struct egress *g, struct relay_exchange *x)
{
	struct exchange_state *s = relay_owner(x);
	struct policy_decision d = decide(g->policy, x);

	if (d.reason == POLICY_OK) {
		take(g, s, g->policy, d.route);
		return POLICY_OK;
	}
	for (size_t i = 0; i < EGRESS_SPENT_MAX; i++) {
		struct egress_spent *old = &g->spent[i];
		struct policy_decision then;

		if (!old->policy)
			continue;
		if (loop_now_ns(g->loop) >= old->until_ns) {
			policy_shared_drop(&old->policy);
			continue;
		}
		then = decide(old->policy, x);
		if (then.reason == POLICY_OK && then.route->is_once) {
			take(g, s, old->policy, then.route);
			return POLICY_OK;
		}
	}
	return d.reason;
}

static bool has_grant(const struct policy *p, uint64_t grant)
{
	for (size_t i = 0; i < p->n_routes; i++)
		if (p->routes[i].grant == grant)
			return true;
	return false;
}

/* Connections that are kept to where nothing may go any more. Of a wildcard they are all dropped:
 * they are made again. */
static void drop_backs(struct egress *g, const struct policy_route *r)
{
	char key[POLICY_HOST_MAX + 16];

	for (int i = 0; i < 2; i++) {
		int n = snprintf(key, sizeof(key), "%s://%s:", i ? "https" : "http", r->host);

		relay_backs_drop(g->relay,
				 r->host[0] == '*' ? STR_LIT("http") : str_slice(key, (size_t)n));
	}
}

static void keep_spent(struct egress *g, struct policy_shared *old)
{
	struct egress_spent *slot = &g->spent[g->next_spent++ % EGRESS_SPENT_MAX];

	policy_shared_drop(&slot->policy);
	slot->policy = policy_shared_use(old);
	slot->until_ns = loop_now_ns(g->loop) + EGRESS_SPENT_MS * TIME_NS_PER_MS;
}

static void end_if_revoked(struct relay_front *f, void *arg)
{
	struct relay_exchange *x = relay_front_exchange(f);
	struct egress *g = arg;
	struct exchange_state *s;
	enum policy_reason reason;

	if (!x)
		return;
	s = relay_owner(x);
	reason = decide(g->policy, x).reason;
	if (reason != POLICY_OK && !s->route->is_once)
		egress_refuse(x, policy_reason_name(reason), "");
}

void egress_renew(struct egress *g, struct policy_shared *policy)
{
	struct policy_shared *before = g->policy;
	bool has_lost_once = false;

	g->policy = policy_shared_use(policy);
	relay_front_each(g->relay, end_if_revoked, g);
	for (size_t i = 0; i < before->policy->n_routes; i++) {
		const struct policy_route *r = &before->policy->routes[i];

		if (r->grant == 0 || has_grant(policy->policy, r->grant))
			continue;
		has_lost_once |= r->is_once;
		drop_backs(g, r);
	}
	if (has_lost_once)
		keep_spent(g, before);
	policy_shared_drop(&before);
}

static void end_for_pause(struct relay_front *f, void *arg)
{
	struct relay_exchange *x = relay_front_exchange(f);

	(void)arg;
	if (x)
		egress_refuse(x, EGRESS_PAUSED, "");
}

void egress_pause(struct egress *g, bool is_paused)
{
	g->is_paused = is_paused;
	if (!is_paused)
		return;
	relay_front_each(g->relay, end_for_pause, g);
	relay_backs_drop(g->relay, STR_LIT(""));
}

void renew_free(struct egress *g)
{
	for (size_t i = 0; i < EGRESS_SPENT_MAX; i++)
		policy_shared_drop(&g->spent[i].policy);
	policy_shared_drop(&g->policy);
	policy_shared_drop(&g->first);
}
