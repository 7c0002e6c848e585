/*
 * What pipelock decides about each exchange of its relay. An exchange is recorded once, when it is
 * decided: before its refusal is sent, or before the first byte of it can reach egress. What
 * happens later (a secret in the answer) is a record of its own.
 */
#include "pipelock/exchange.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"
#include "pipelock/hold.h"
#include "pipelock/renew.h"
#include "pipelock/spend.h"

#include <errno.h>
#include <sys/socket.h>

/* Fields that say who the client is or that speak to proxies: the agent's word about itself or to
 * somebody between us and the host. */
static bool exchange_is_stripped(struct str name)
{
	static const char *const names[] = {
		"forwarded",	  "via",	  "x-real-ip", "client-ip",
		"true-client-ip", "max-forwards", "alt-used",  "proxy"};
	static const char *const prefixes[] = {"x-forwarded-", "proxy-", "x-pipelock-"};

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (str_ieq_dashed(name, str_of(names[i])))
			return true;
	}
	for (size_t i = 0; i < ARRAY_LEN(prefixes); i++) {
		struct str prefix = str_of(prefixes[i]);

		if (str_ieq_dashed(str_sub(name, 0, prefix.n), prefix))
			return true;
	}
	return false;
}

static void exchange_strip(struct http1_head *h)
{
	size_t kept = 0;

	for (size_t i = 0; i < h->n_fields; i++) {
		if (!exchange_is_stripped(h->fields[i].name))
			h->fields[kept++] = h->fields[i];
	}
	h->n_fields = kept;
}

/* Answers must come in a coding that can be looked into (RFC 9110 section 12.5.3): what else the
 * agent offers is taken out. */
static void exchange_limit_codings(struct relay_exchange *x)
{
	static const char *const known[] = {"gzip", "x-gzip", "deflate", "br", "zstd", "identity"};
	const struct str name = STR_LIT("accept-encoding");
	struct http1_field *f = http1_find(&x->req, name);
	char kept[160];
	size_t n = 0;
	bool more = true;
	struct str rest, item, coding;

	if (!f)
		return;
	for (rest = f->value; more;) {
		bool is_known = false;

		rest = str_cut(rest, ',', &item, &more);
		item = str_trim(item);
		(void)str_cut(item, ';', &coding, &(bool){false});
		coding = str_trim(coding);
		for (size_t i = 0; i < ARRAY_LEN(known); i++)
			is_known |= str_ieq(coding, str_of(known[i]));
		if (!is_known || n + 2 + item.n > sizeof(kept))
			continue;
		if (n > 0) {
			kept[n++] = ',';
			kept[n++] = ' ';
		}
		memcpy(kept + n, item.p, item.n);
		n += item.n;
	}
	item = n > 0 ? relay_keep(x, str_slice(kept, n)) : STR_LIT("identity");
	if (item.p == NULL || http1_set(&x->req, name, item) < 0)
		(void)http1_remove(&x->req, name);
}

enum relay_step exchange_block(struct pipelock *p, struct relay_exchange *x, const char *reason,
			       const char *scanner)
{
	struct exchange *ex = relay_owner(x);

	ex->v.verdict = RECORD_BLOCK;
	ex->v.reason = reason;
	ex->v.scanner = scanner;
	report_refuse(p, x, &ex->v);
	return RELAY_REFUSE;
}

bool exchange_is_recorded(struct pipelock *p, struct relay_exchange *x)
{
	struct exchange *ex = relay_owner(x);

	/* Whoever gets here with what a human has to let go has forgotten to ask. */
	if (ex->v.verdict == RECORD_HOLD) {
		(void)exchange_block(p, x, ex->v.reason, ex->v.scanner);
		return false;
	}
	if (ex->is_recorded || report_verdict(p, x, &ex->v, 0))
		return true;
	report_refuse_unrecorded(x);
	return false;
}

/* The host in its one canonical form, in the exchange's own memory. */
static bool exchange_canonical(struct relay_exchange *x, enum policy_reason *why)
{
	struct exchange *ex = relay_owner(x);

	*why = policy_host_canonical(x->req.host, ex->host);
	if (*why != POLICY_OK)
		return false;
	x->req.host = str_of(ex->host);
	return true;
}

void exchange_mark(struct pipelock *p, struct exchange *ex)
{
	if (ex->v.verdict != RECORD_HOLD || ex->mark)
		return;
	ex->mark = mem_zalloc(sizeof(*ex->mark));
	*ex->mark = p->gate.mark;
}

static enum relay_step exchange_on_connect(struct relay_exchange *x)
{
	struct pipelock *p = exchange_pipelock(x);
	struct exchange *ex = relay_owner(x);
	enum policy_reason why;

	ex->policy = policy_shared_use(p->policy);
	if (p->is_paused)
		return exchange_block(p, x, RENEW_PAUSED, "policy");
	if (x->is_in_tunnel)
		return exchange_block(p, x, "connect-in-tunnel", "http");
	if (!exchange_canonical(x, &why))
		return exchange_block(p, x, policy_reason_name(why), "policy");
	if (!gate_authority(&p->gate, x->req.host, x->req.port, &ex->v)) {
		report_refuse(p, x, &ex->v);
		return RELAY_REFUSE;
	}
	/* Minted now, while a refusal can still be said in words. */
	if (!leaf_cache_get(p->leaves, x->req.host, loop_now_ns(p->loop), NULL))
		return exchange_block(p, x, "keyd-unavailable", "");
	*(struct pipelock **)relay_front_owner(x->front) = p; /* for the certificate's callback */
	return RELAY_FORWARD;
}

static enum relay_step exchange_allow(struct pipelock *p, struct relay_exchange *x)
{
	const struct exchange *ex = relay_owner(x);

	if (ex->v.verdict == RECORD_HOLD)
		return hold_begin(p, x) == HOLD_WAIT ? RELAY_LATER : RELAY_REFUSE;
	switch (spend_before(p, x)) {
	case SPEND_WAITS:
		return RELAY_LATER;
	case SPEND_FREE:
		return exchange_is_recorded(p, x) ? RELAY_FORWARD : RELAY_REFUSE;
	case SPEND_REFUSED:
	default:
		return RELAY_REFUSE;
	}
}

static enum relay_step exchange_on_request(struct relay_exchange *x)
{
	struct pipelock *p = exchange_pipelock(x);
	struct exchange *ex = relay_owner(x);
	struct gate_request q = {.is_tls = x->is_in_tunnel, .head = &x->req};
	enum policy_reason why;

	ex->policy = policy_shared_use(p->policy);
	if (p->is_paused)
		return exchange_block(p, x, RENEW_PAUSED, "policy");
	exchange_strip(&x->req);
	exchange_limit_codings(x);
	if (!exchange_canonical(x, &why))
		return exchange_block(p, x, policy_reason_name(why), "policy");
	q.host = x->req.host;
	q.port = x->req.port;
	if (!gate_head(&p->gate, &q, &ex->v)) {
		report_refuse(p, x, &ex->v);
		return RELAY_REFUSE;
	}
	exchange_mark(p, ex);
	/* Any back will do: egress takes the destination from each request. */
	x->pool_key = STR_LIT("egress");
	/* Masking keeps lengths; a chunked body that was held whole goes on with its exact one. */
	x->req_keeps_length = x->req.framing == HTTP1_BODY_LENGTH;
	/* With a body, it is allowed when that was looked at. */
	return x->req.framing == HTTP1_BODY_NONE ? exchange_allow(p, x) : RELAY_FORWARD;
}

static enum relay_dial exchange_dial(struct relay_exchange *x, unsigned attempt,
				     struct relay_back_spec *spec)
{
	struct pipelock *p = exchange_pipelock(x);
	int pair[2];
	ssize_t n;

	if (attempt > 0)
		return RELAY_DIAL_NONE;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0) {
		n = io_send_fds(p->egress_fd, "c", 1, &pair[1], 1, MSG_DONTWAIT | MSG_NOSIGNAL);
		(void)close(pair[1]);
		if (n == 1) {
			spec->fd = pair[0];
			return RELAY_DIAL_NOW;
		}
		(void)close(pair[0]);
	}
	(void)exchange_block(p, x, "egress-unavailable", "");
	return RELAY_DIAL_NONE;
}

static enum relay_step exchange_on_response(struct relay_exchange *x)
{
	struct pipelock *p = exchange_pipelock(x);
	struct exchange *ex = relay_owner(x);
	const struct http1_field *coding;
	struct gate_verdict v = ex->v;

	/* An invitation to leave the proxy for another port or protocol. */
	(void)http1_remove(&x->res, STR_LIT("alt-svc"));
	coding = http1_find(&x->res, STR_LIT("content-encoding"));
	x->res_keeps_length = true;
	x->res_holds_head = x->res.framing == HTTP1_BODY_LENGTH;
	if (!gate_response_head(&p->gate, &x->res, &v)) {
		report_refuse(p, x, &v);
		return RELAY_REFUSE;
	}
	if (x->res.framing == HTTP1_BODY_NONE)
		return RELAY_FORWARD;
	if (http1_count(&x->res, STR_LIT("content-encoding")) > 1 ||
	    !gate_stream_open(&p->gate, &ex->down, SCAN_PLACE_RESPONSE,
			      coding ? coding->value : STR_NULL, &v)) {
		v.verdict = RECORD_BLOCK;
		v.reason = gate_reason_name(GATE_RESPONSE_CODING_UNSUPPORTED);
		v.scanner = "response";
		report_refuse(p, x, &v);
		return RELAY_REFUSE;
	}
	ex->is_response_open = true;
	return RELAY_FORWARD;
}

static void exchange_refusal_body(struct relay_exchange *x, unsigned status, const char *reason,
				  struct buf *body)
{
	report_relay_refusal(exchange_pipelock(x), x, status, reason, body);
}

static void exchange_on_done(struct relay_exchange *x, const struct relay_result *r)
{
	struct pipelock *p = exchange_pipelock(x);
	struct exchange *ex = relay_owner(x);

	if (ex->is_response_open && ex->down.has_note)
		report_note(p, x,
			    strncmp(ex->down.note_rule, "injected-", 9) == 0
				    ? "injection-in-response"
				    : "note-on-response",
			    ex->down.note_rule);
	/* A handshake that failed has no answer in words, but a record all the same. */
	if (r->outcome == RELAY_BAD_REQUEST && !ex->is_recorded)
		report_relay_refusal(p, x, r->status, r->reason, NULL);
	hold_drop(ex);
	exchange_body_drop(p, ex);
	spend_drop(p, x);
	policy_shared_drop(&ex->policy);
}

const struct relay_ops pipelock_ops = {
	.on_connect = exchange_on_connect,
	.on_request = exchange_on_request,
	.on_request_data = exchange_on_request_data,
	.dial = exchange_dial,
	.on_response = exchange_on_response,
	.on_response_data = exchange_on_response_data,
	.refusal_body = exchange_refusal_body,
	.on_done = exchange_on_done,
};
