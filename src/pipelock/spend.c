#include "pipelock/spend.h"

#include "bundle/desk.h"

/* As if there were no such route: why a grant cannot be used is no business of the agent's. */
static void spend_refuse(struct pipelock *p, struct relay_exchange *x)
{
	(void)exchange_block(p, x, policy_reason_name(POLICY_DENY_HOST), "policy");
}

static void spend_on_answer(const struct ask_answer *a, void *ctx)
{
	struct relay_exchange *x = ctx;
	struct pipelock *p = exchange_pipelock(x);
	struct exchange *ex = relay_owner(x);

	if (!a->is_final)
		return;
	ex->spend_id = 0;
	if (a->state != ASK_GRANTED || a->number != ex->v.route->grant) {
		spend_refuse(p, x);
		return;
	}
	ex->is_spent = true;
	/* A connection that was kept may end while it is used again: a request is then repeated. */
	x->is_unpooled = true;
	if (exchange_is_recorded(p, x))
		relay_continue(x);
}

enum spend spend_before(struct pipelock *p, struct relay_exchange *x)
{
	struct exchange *ex = relay_owner(x);
	struct ask a = {.op = ASK_SPEND};

	if (!ex->v.route->is_once || ex->is_spent)
		return SPEND_FREE;
	a.number = ex->v.route->grant;
	if (desk_ask(p->desk, &a, spend_on_answer, x, &ex->spend_id) == 0)
		return SPEND_WAITS;
	spend_refuse(p, x);
	return SPEND_REFUSED;
}

void spend_drop(struct pipelock *p, struct relay_exchange *x)
{
	struct exchange *ex = relay_owner(x);

	desk_forget(p->desk, ex->spend_id);
	ex->spend_id = 0;
}
