#include "pipelock/exchange.h"

#include "base/clean.h"
#include "base/log.h"
#include "base/text.h"
#include "pipelock/asks.h"
#include "pipelock/hold.h"
#include "record/record.h"

#include <stdio.h>

#define REPORT_MASKED "[masked]"

/* Copies a static name; ours always fit. */
static void report_name(char *dst, size_t size, const char *name)
{
	(void)snprintf(dst, size, "%s", name ? name : "");
}

/* Text of the agent's in a record: visible, and only if the scan has nothing against it. is_clean:
 * it was scanned already. */
static void report_text(struct pipelock *p, char *dst, size_t size, struct str text,
			enum scan_place place, bool is_clean)
{
	if (is_clean || gate_may_show(&p->gate, place, text))
		text_visible_cstr(dst, size, text);
	else
		(void)snprintf(dst, size, "%s", REPORT_MASKED);
}

static void report_fill(struct pipelock *p, struct relay_exchange *x, struct record *r,
			bool is_clean)
{
	if (!x->has_req)
		return;
	report_text(p, r->host, sizeof(r->host), x->req.host, SCAN_PLACE_HOST, is_clean);
	r->port = x->req.port;
	if (x->req.method < HTTP1_METHOD_COUNT)
		text_visible_cstr(r->method, sizeof(r->method), http1_method_name(x->req.method));
	if (!x->is_connect)
		report_text(p, r->path, sizeof(r->path), x->req.path, SCAN_PLACE_PATH, is_clean);
}

/* In what is being recorded, or in what cannot be written down because of it. */
static void report_canary(struct pipelock *p, const struct record *r)
{
	if (p->gate.has_seen_canary ||
	    strcmp(r->reason, gate_reason_name(GATE_CANARY_LEAVING)) == 0)
		asks_canary(p, r);
	p->gate.has_seen_canary = false;
}

static bool report_send(struct pipelock *p, struct relay_exchange *x, const struct record *r)
{
	struct exchange *ex = relay_owner(x);

	memcpy(ex->id, r->id, sizeof(ex->id));
	report_canary(p, r);
	if (record_send(p->record_fd, r) == 0) {
		ex->is_recorded = true;
		return true;
	}
	log_error("a verdict could not be recorded");
	return false;
}

bool report_verdict(struct pipelock *p, struct relay_exchange *x, const struct gate_verdict *v,
		    unsigned status)
{
	const struct exchange *ex = relay_owner(x);
	struct record r;

	record_init(&r, "pipelock", v->verdict, v->reason);
	r.status = status;
	report_name(r.rule, sizeof(r.rule), v->rule);
	report_name(r.scanner, sizeof(r.scanner), v->scanner);
	/* What was allowed has passed every scan; what was stopped, or let go by a human, may hold
	 * what stopped it. */
	report_fill(p, x, &r,
		    v->verdict != RECORD_BLOCK && v->verdict != RECORD_HOLD && !ex->is_released);
	if (v->is_alert)
		(void)snprintf(r.detail, sizeof(r.detail), "alert%s%s",
			       v->decoders[0] ? ": found under " : "", v->decoders);
	else if (v->decoders[0])
		(void)snprintf(r.detail, sizeof(r.detail), "found under %s", v->decoders);
	return report_send(p, x, &r);
}

void report_note(struct pipelock *p, struct relay_exchange *x, const char *reason, const char *rule)
{
	struct record r;

	record_init(&r, "pipelock", RECORD_NOTE, reason);
	report_name(r.rule, sizeof(r.rule), rule);
	report_name(r.scanner, sizeof(r.scanner), "response");
	report_fill(p, x, &r, true);
	if (record_send(p->record_fd, &r) < 0)
		log_error("a note could not be recorded");
}

static void report_body(const struct exchange *ex, struct buf *out, const char *reason,
			const char *rule, const char *scanner, const struct refusal_ask *ask)
{
	struct refusal f = {
		.reason = reason, .rule = rule, .scanner = scanner, .hint = hold_answer(ex)};

	memcpy(f.record, ex->id, sizeof(f.record));
	if (ask)
		f.ask = *ask;
	if (refusal_body(out, &f) < 0)
		buf_reset(out);
}

void report_refuse_unrecorded(struct relay_exchange *x)
{
	const char *reason = "record-unavailable";
	struct buf body;

	buf_init(&body, REFUSAL_MAX_BYTES);
	report_body(relay_owner(x), &body, reason, "", "", NULL);
	relay_refuse(x, refusal_status(reason), reason, buf_str(&body));
	buf_free(&body);
}

void report_refuse(struct pipelock *p, struct relay_exchange *x, const struct gate_verdict *v)
{
	unsigned status = refusal_status(v->reason);
	struct asks_offer offer;
	struct buf body;

	if (!report_verdict(p, x, v, status)) {
		report_refuse_unrecorded(x);
		return;
	}
	asks_offer(p, x, v, &offer);
	buf_init(&body, REFUSAL_MAX_BYTES);
	report_body(relay_owner(x), &body, v->reason, v->rule, v->scanner, &offer.ask);
	relay_refuse(x, status, v->reason, buf_str(&body));
	buf_free(&body);
}

void report_relay_refusal(struct pipelock *p, struct relay_exchange *x, unsigned status,
			  const char *reason, struct buf *body)
{
	struct exchange *ex = relay_owner(x);
	struct record r;

	/* From 500 on it is not the agent's doing. */
	record_init(&r, "pipelock", status < 500 ? RECORD_BLOCK : RECORD_NOTE, reason);
	r.status = status;
	report_name(r.scanner, sizeof(r.scanner), "http");
	report_fill(p, x, &r,
		    ex->is_recorded && ex->v.verdict != RECORD_BLOCK &&
			    ex->v.verdict != RECORD_HOLD && !ex->is_released);
	(void)report_send(p, x, &r);
	if (body)
		report_body(ex, body, reason, "", "http", NULL);
}

void report_dns_attempt(const struct dns_sink_attempt *a, void *pipelock)
{
	static const char *const reasons[] = {
		[DNS_SINK_DROP] = "dns-dropped",     [DNS_SINK_FORMERR] = "dns-malformed",
		[DNS_SINK_NOTIMP] = "dns-malformed", [DNS_SINK_REFUSED] = "dns-query",
		[DNS_SINK_ANSWERED] = "ok",
	};
	struct pipelock *p = pipelock;
	const struct dns_sink_question *q = a->question;
	struct record r;

	record_init(&r, "pipelock", RECORD_BLOCK, reasons[a->result]);
	report_name(r.scanner, sizeof(r.scanner), "dns");
	report_text(p, r.host, sizeof(r.host), str_slice(q->name, q->name_n), SCAN_PLACE_HOST,
		    false);
	r.port = 53;
	(void)snprintf(r.detail, sizeof(r.detail), "%s, type %u, %llu question%s",
		       a->is_tcp ? "tcp" : "udp", q->type, (unsigned long long)a->count,
		       a->count == 1 ? "" : "s");
	report_canary(p, &r);
	if (record_send(p->record_fd, &r) < 0)
		log_error("an attempt at the DNS sink could not be recorded");
}
