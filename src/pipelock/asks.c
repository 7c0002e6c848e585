#include "pipelock/asks.h"

#include "base/clean.h"
#include "base/timeutil.h"
#include "pipelock/hold.h"

#include <errno.h>
#include <stdio.h>

static bool asks_text(struct pipelock *p, enum scan_place place, struct str text, char *out,
		      size_t size)
{
	if (text.n > 0 && str_to_cstr(out, size, text) && gate_may_show(&p->gate, place, text))
		return true;
	out[0] = '\0';
	return false;
}

bool asks_destination(struct pipelock *p, struct relay_exchange *x, struct ask *a)
{
	char canonical[POLICY_HOST_MAX + 1];
	const struct http1_head *h = &x->req;

	if (!x->has_req || policy_host_canonical(h->host, canonical) != POLICY_OK ||
	    !asks_text(p, SCAN_PLACE_HOST, str_of(canonical), a->host, sizeof(a->host)))
		return false;
	a->ports[0] = h->port;
	a->n_ports = 1;
	if (x->is_connect)
		return true;
	if (h->method >= HTTP1_CONNECT || !gate_may_show(&p->gate, SCAN_PLACE_PATH, h->path) ||
	    !refusal_path_pattern(h->path, a->paths[0], sizeof(a->paths[0])))
		return false;
	a->methods = 1u << h->method;
	a->n_paths = 1;
	return true;
}

static bool asks_egress(struct pipelock *p, struct relay_exchange *x, struct ask *a,
			struct asks_offer *out)
{
	a->kind = ASK_EGRESS;
	if (!asks_destination(p, x, a))
		return false;
	/* The same text: what the human will see is what the agent reads here. */
	(void)snprintf(out->path, sizeof(out->path), "%s", a->paths[0]);
	out->ask.host = x->req.host;
	out->ask.port = a->ports[0];
	out->ask.method = x->is_connect ? STR_NULL : http1_method_name(x->req.method);
	out->ask.path = str_of(out->path);
	return true;
}

/* Attack: a flood of refusals must not keep the channel from what waits for an answer. */
static bool asks_say_seen(struct pipelock *p, struct ask *a)
{
	if (!allowance_has(&p->may_say_seen, loop_now_ns(p->loop)))
		return false;
	p->may_say_seen.left--;
	return desk_say(p->desk, a) == 0;
}

void asks_offer(struct pipelock *p, struct relay_exchange *x, const struct gate_verdict *v,
		struct asks_offer *out)
{
	struct exchange *ex = relay_owner(x);
	struct ask a = {.op = ASK_SEEN};
	enum refusal_tool tool = refusal_tool(v->reason);
	bool may_ask = false;

	*out = (struct asks_offer){.ask = {.tool = REFUSAL_ASK_NOTHING}};
	if (v->verdict != RECORD_BLOCK || !desk_is_open(p->desk))
		return;
	memcpy(a.record, ex->id, sizeof(a.record));
	switch (tool) {
	case REFUSAL_ASK_EGRESS:
		may_ask = asks_egress(p, x, &a, out);
		break;
	case REFUSAL_ASK_RELEASE:
		/* By its record alone, so it has to be known there. */
		may_ask = hold_describe(x, &a);
		break;
	case REFUSAL_ASK_NOTHING:
	case REFUSAL_TOOL_COUNT:
	default:
		break;
	}
	if (!may_ask || (!asks_say_seen(p, &a) && tool == REFUSAL_ASK_RELEASE))
		return;
	out->ask.tool = tool;
}

/* --- the canary --- */

static void canary_say(struct pipelock *p)
{
	struct asks_canary *c = &p->canary;

	/* Attack: what fills the channel first, so that nobody hears of what follows. */
	if (desk_is_open(p->desk) && desk_say(p->desk, &c->waiting) == -EAGAIN) {
		loop_timer_set(p->loop, &c->timer, ASKS_CANARY_RETRY_MS);
		return;
	}
	c->waiting.op = 0;
	c->quiet_ns = loop_now_ns(p->loop) + ASKS_CANARY_MS * TIME_NS_PER_MS;
}

static void canary_on_timer(struct loop_timer *t)
{
	canary_say(
		(struct pipelock *)(void *)((char *)t - offsetof(struct pipelock, canary.timer)));
}

void asks_canary(struct pipelock *p, const struct record *r)
{
	struct asks_canary *c = &p->canary;

	if (!desk_is_open(p->desk) || c->waiting.op != 0 || loop_now_ns(p->loop) < c->quiet_ns)
		return;
	c->waiting = (struct ask){.op = ASK_CANARY, .ports = {r->port}, .n_ports = 1};
	memcpy(c->waiting.record, r->id, sizeof(c->waiting.record));
	(void)snprintf(c->waiting.host, sizeof(c->waiting.host), "%s", r->host);
	(void)snprintf(c->waiting.rule, sizeof(c->waiting.rule), "%s", r->rule);
	canary_say(p);
}

void asks_start(struct pipelock *p)
{
	p->canary = (struct asks_canary){.timer.fn = canary_on_timer};
	p->may_say_seen = (struct allowance){ASKS_SEEN_BURST, ASKS_SEEN_PER_SECOND, ASKS_SEEN_BURST,
					     loop_now_ns(p->loop)};
}

void asks_stop(struct pipelock *p)
{
	loop_timer_del(p->loop, &p->canary.timer);
}
