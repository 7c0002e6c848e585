#include "pipelock/renew.h"

/* Why x would not be allowed now; NULL: it would. */
static const char *renew_reason(const struct pipelock *p, struct relay_exchange *x)
{
	const struct exchange *ex = relay_owner(x);
	struct policy_decision d;

	if (p->is_paused)
		return RENEW_PAUSED;
	if (ex->is_spent || ex->spend_id != 0)
		return NULL;
	d = x->is_connect ? policy_decide_authority(p->policy->policy, x->req.host, x->req.port)
			  : policy_decide(p->policy->policy, x->req.host, x->req.port,
					  (enum policy_method)x->req.method, x->req.path);
	if (d.reason != POLICY_OK)
		return policy_reason_name(d.reason);
	/* Another grant for once is not for what is under way already. */
	if (!x->is_connect && d.route->is_once &&
	    (!ex->v.route->is_once || ex->v.route->grant != d.route->grant))
		return policy_reason_name(POLICY_DENY_HOST);
	return NULL;
}

static bool renew_tunnel_ends(const struct pipelock *p, const struct relay_front *f)
{
	uint16_t port;
	struct str host = relay_front_tunnel(f, &port);

	return host.n > 0 &&
	       (p->is_paused ||
		policy_decide_authority(p->policy->policy, host, port).reason != POLICY_OK);
}

/* No refusal fits behind the 200 of a CONNECT. */
static void renew_end_connect(struct pipelock *p, struct relay_exchange *x, const char *reason)
{
	struct gate_verdict v = {.verdict = RECORD_BLOCK, .reason = reason, .scanner = "policy"};

	(void)report_verdict(p, x, &v, 0);
	relay_front_close(x->front);
}

static void renew_front(struct relay_front *f, void *arg)
{
	struct pipelock *p = arg;
	struct relay_exchange *x = relay_front_exchange(f);
	const char *reason = x ? renew_reason(p, x) : NULL;

	if (renew_tunnel_ends(p, f)) {
		if (!x) {
			relay_front_close(f);
			return;
		}
		relay_close_after(x);
	}
	if (reason && x->is_connect)
		renew_end_connect(p, x, reason);
	else if (reason)
		(void)exchange_block(p, x, reason, "policy");
}

void renew(struct pipelock *p, struct policy_shared *policy, bool is_paused)
{
	struct policy_shared *before = p->policy;

	p->policy = policy_shared_use(policy);
	p->gate.policy = policy->policy;
	p->is_paused = is_paused;
	relay_front_each(p->relay, renew_front, p);
	policy_shared_drop(&before);
}
