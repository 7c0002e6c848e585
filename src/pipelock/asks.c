#include "pipelock/asks.h"

#include "base/clean.h"
#include "base/timeutil.h"
#include "pipelock/hold.h"

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
	if (!may_ask || (desk_say(p->desk, &a) < 0 && tool == REFUSAL_ASK_RELEASE))
		return;
	out->ask.tool = tool;
}

void asks_canary(struct pipelock *p, const struct record *r)
{
	struct ask a = {.op = ASK_CANARY, .ports = {r->port}, .n_ports = 1};
	uint64_t now = loop_now_ns(p->loop);

	if (!desk_is_open(p->desk) || now < p->canary_quiet_ns)
		return;
	memcpy(a.record, r->id, sizeof(a.record));
	(void)snprintf(a.host, sizeof(a.host), "%s", r->host);
	(void)snprintf(a.rule, sizeof(a.rule), "%s", r->rule);
	/* Said again for the next one when the keeper did not listen. */
	if (desk_say(p->desk, &a) == 0)
		p->canary_quiet_ns = now + ASKS_CANARY_MS * TIME_NS_PER_MS;
}
