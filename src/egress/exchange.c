/*
 * Theory of operation: pipelock has decided on each request already; everything is decided again
 * here, so that a pipelock that was taken over reaches nothing but what the policy names, with our
 * placeholders and never with a credential of its own choice. A refusal is recorded before it is
 * sent. What is answered from upstream is recorded by pipelock; here only that something was
 * masked.
 */
#include "egress/exchange.h"

#include "egress/deny.h"
#include "egress/renew.h"

#include "base/clean.h"
#include "base/log.h"
#include "base/text.h"

#include <stdio.h>

static struct egress *egress_of(struct relay_exchange *x)
{
	return relay_ctx(x->relay);
}

/* --- refusals and records --- */

static void record_fill(struct relay_exchange *x, struct record *r)
{
	struct egress *g = egress_of(x);

	(void)snprintf(r->scanner, sizeof(r->scanner), "egress");
	(void)snprintf(r->rule, sizeof(r->rule), "%s", g->rule ? g->rule : "");
	if (!x->has_req)
		return;
	(void)snprintf(r->method, sizeof(r->method), STR_FMT,
		       STR_ARG(http1_method_name(x->req.method)));
	text_visible_cstr(r->host, sizeof(r->host), x->req.host);
	r->port = x->req.port;
	text_visible_cstr(r->path, sizeof(r->path), x->req.path);
	creds_mask(g->creds, r->path, strlen(r->path));
}

static void exchange_record(struct relay_exchange *x, struct record *r)
{
	struct exchange_state *s = relay_owner(x);

	record_fill(x, r);
	s->is_recorded = true;
	/* Nothing is allowed by this, so a record that cannot be written changes no decision. */
	if (record_send(egress_of(x)->record_fd, r) < 0)
		log_error("a refusal could not be recorded: %s", r->reason);
}

/* fields: of the answer, as for relay_refuse_fields(). */
static void exchange_refuse_as(struct relay_exchange *x, unsigned status, struct str fields,
			       const char *reason, const char *detail)
{
	struct record r;
	struct buf body;

	record_init(&r, "egress", deny_find(reason)->verdict, reason);
	r.status = status;
	text_visible_cstr(r.detail, sizeof(r.detail), str_of(detail));
	exchange_record(x, &r);
	buf_init(&body, 4096);
	if (deny_body(&body, reason, r.id) < 0)
		buf_reset(&body);
	relay_refuse_fields(x, status, reason, fields, buf_str(&body));
	buf_free(&body);
}

void egress_refuse(struct relay_exchange *x, const char *reason, const char *detail)
{
	unsigned status = deny_find(reason)->status;

	exchange_refuse_as(x, status ? status : 502, STR_NULL, reason, detail);
}

/* For what the relay refuses by itself: bad HTTP, time-outs, the upstream's TLS. */
static void exchange_refusal_body(struct relay_exchange *x, unsigned status, const char *reason,
				  struct buf *body)
{
	struct record r;

	record_init(&r, "egress", deny_find(reason)->verdict, reason);
	r.status = status;
	exchange_record(x, &r);
	if (deny_body(body, reason, r.id) < 0)
		buf_reset(body);
}

/* --- the request --- */

/* By these an upstream may be told another method, path or host than the policy has decided on,
 * or another origin than the bottle. */
static const char *const override_headers[] = {
	"x-http-method-override",
	"x-http-method",
	"x-method-override",
	"x-original-url",
	"x-rewrite-url",
	"x-forwarded-for",
	"x-forwarded-host",
	"x-forwarded-proto",
	"x-forwarded-port",
	"x-real-ip",
	"x-forwarded-prefix",
	"forwarded",
	"x-original-host",
	"x-host",
	"true-client-ip",
	"x-client-ip",
	"proxy", /* CGI programs take it for HTTP_PROXY (CVE-2016-5385) */
	"content-length",
	"transfer-encoding",
	"host"}; /* only with "_" are they still here */

/* To servers that make variables of headers (CGI, WSGI, PHP) "_" and "-" are one. */
static bool is_override(struct str name)
{
	for (size_t i = 0; i < ARRAY_LEN(override_headers); i++) {
		if (str_ieq_dashed(name, str_of(override_headers[i])))
			return true;
	}
	return false;
}

static void exchange_strip(struct http1_head *h)
{
	size_t kept = 0;

	for (size_t i = 0; i < h->n_fields; i++) {
		if (!is_override(h->fields[i].name))
			h->fields[kept++] = h->fields[i];
	}
	h->n_fields = kept;
}

static const char *exchange_decide(struct relay_exchange *x)
{
	char host[POLICY_HOST_MAX + 1];
	enum policy_reason r = policy_host_canonical(x->req.host, host);

	if (egress_of(x)->is_paused)
		return EGRESS_PAUSED;
	if (r != POLICY_OK)
		return policy_reason_name(r);
	x->req.host = relay_keep(x, str_of(host));
	if (!x->req.host.p)
		return "egress-busy";
	/* The first methods of both enums are the same ones, in the same order. */
	if ((int)x->req.method >= (int)POLICY_METHOD_COUNT)
		return policy_reason_name(POLICY_DENY_METHOD);
	r = renew_decide(egress_of(x), x);
	return r == POLICY_OK ? NULL : policy_reason_name(r);
}

_Static_assert((int)HTTP1_GET == (int)POLICY_METHOD_GET &&
		       (int)HTTP1_OPTIONS == (int)POLICY_METHOD_OPTIONS,
	       "the methods of HTTP and of the policy are numbered alike");

/* Backs are shared by requests of one destination that carry the same credential or none. One that
 * was kept may end while it is used again, and the request is then repeated: not so one for which a
 * grant for once was used up. */
static bool exchange_set_pool_key(struct relay_exchange *x)
{
	struct exchange_state *s = relay_owner(x);
	char key[POLICY_HOST_MAX + 64];
	int n = snprintf(key, sizeof(key), "%s://" STR_FMT ":%u#%ld",
			 x->req.scheme == HTTP1_SCHEME_HTTPS ? "https" : "http",
			 STR_ARG(x->req.host), x->req.port,
			 s->is_bound ? (long)s->route->auth.credential : -1L);

	x->is_unpooled = s->route->is_once;
	x->pool_key = relay_keep(x, str_slice(key, (size_t)n));
	return x->pool_key.p != NULL;
}

/* git and others show their password only to a server that asks for it, so that a request without
 * any is answered as such a server would. */
static void exchange_refuse_credential(struct relay_exchange *x, enum creds_reason reason,
				       bool is_unasked, const char *detail)
{
	if (reason == CREDS_MISSING && is_unasked)
		exchange_refuse_as(x, 401,
				   STR_LIT("Content-Type: application/json\r\n"
					   "WWW-Authenticate: Basic realm=\"claude-bottle\"\r\n"),
				   creds_reason_name(reason), detail);
	else
		egress_refuse(x, creds_reason_name(reason), detail);
}

static enum relay_step exchange_on_request(struct relay_exchange *x)
{
	struct exchange_state *s = relay_owner(x);
	struct egress *g = egress_of(x);
	struct err e = ERR_INIT;
	const char *reason = exchange_decide(x);
	enum creds_reason cr;
	bool is_unasked;

	s->x = x;
	if (reason) {
		egress_refuse(x, reason, "");
		return RELAY_REFUSE;
	}
	exchange_strip(&x->req);
	is_unasked = s->route->auth.scheme == POLICY_AUTH_BASIC &&
		     !http1_find(&x->req, STR_LIT("authorization"));
	cr = creds_apply(g->creds, &x->req, s->route, &e);
	if (cr != CREDS_OK) {
		exchange_refuse_credential(x, cr, is_unasked, e.text);
		return RELAY_REFUSE;
	}
	s->is_bound = s->route->auth.scheme != POLICY_AUTH_NONE;
	if (s->is_bound) {
		/* A part of an answer may end within an echoed credential, and what is coded cannot
		 * be searched: whoever wants one may not ask for it here. */
		(void)http1_remove(&x->req, STR_LIT("range"));
		(void)http1_remove(&x->req, STR_LIT("if-range"));
		if (http1_set(&x->req, STR_LIT("Accept-Encoding"), STR_LIT("identity")) < 0) {
			egress_refuse(x, "egress-busy", "too many header fields");
			return RELAY_REFUSE;
		}
	}
	if (!exchange_set_pool_key(x)) {
		egress_refuse(x, "egress-busy", "");
		return RELAY_REFUSE;
	}
	x->req_skips_data = true;
	return RELAY_FORWARD;
}

/* --- the way out --- */

static void exchange_on_dialled(struct dialer *d, int fd, const char *reason, const char *detail)
{
	struct exchange_state *s =
		(struct exchange_state *)((char *)d - offsetof(struct exchange_state, dialer));
	struct relay_exchange *x = s->x;
	struct relay_back_spec spec = {.fd = fd};

	if (fd < 0) {
		egress_refuse(x, reason, detail);
		return;
	}
	if (x->req.scheme == HTTP1_SCHEME_HTTPS) {
		spec.tls = egress_of(x)->tls;
		/* Fits: it is canonical. */
		if (!spec.tls || !str_to_cstr(spec.tls_host, sizeof(spec.tls_host), x->req.host)) {
			close_fd(&fd);
			egress_refuse(x, "upstream-certificate", "no authority is trusted here");
			return;
		}
	}
	relay_dial_done(x, &spec, reason);
}

static enum relay_dial exchange_dial(struct relay_exchange *x, unsigned attempt,
				     struct relay_back_spec *spec)
{
	struct exchange_state *s = relay_owner(x);
	struct egress *g = egress_of(x);

	(void)spec;
	if (attempt > 0)
		return dialer_next(&s->dialer) ? RELAY_DIAL_LATER : RELAY_DIAL_NONE;
	dialer_cancel(&s->dialer);
	if (dialer_start(&s->dialer, g->loop, g->resolver, x->req.host, x->req.port,
			 exchange_on_dialled))
		return RELAY_DIAL_LATER;
	egress_refuse(x, "egress-busy", "too many lookups");
	return RELAY_DIAL_NONE;
}

/* --- the answer --- */

/* A copy of text with what is known masked. False when there is no memory for it. */
static bool exchange_mask(struct relay_exchange *x, struct str *text)
{
	const struct scrub_set *secrets = creds_secrets(egress_of(x)->creds);
	struct exchange_state *s = relay_owner(x);
	struct str copy;

	if (!scrub_find(secrets, *text))
		return true;
	copy = relay_keep(x, *text);
	if (!copy.p)
		return false;
	s->n_masked += scrub_mask(secrets, (char *)(uintptr_t)copy.p, copy.n);
	*text = copy;
	return true;
}

/* Does any field say that the body is not to be read as it is? */
static bool is_coded(struct http1_head *h)
{
	for (size_t i = 0; i < h->n_fields; i++) {
		if (str_ieq(h->fields[i].name, STR_LIT("content-encoding")) &&
		    h->fields[i].value.n > 0 && !str_ieq(h->fields[i].value, STR_LIT("identity")))
			return true;
	}
	return false;
}

static enum relay_step exchange_on_response(struct relay_exchange *x)
{
	struct exchange_state *s = relay_owner(x);
	struct egress *g = egress_of(x);
	bool is_kept = exchange_mask(x, &x->res.phrase);

	/* They name other ways to the same host, which do not exist in a bottle. */
	(void)http1_remove(&x->res, STR_LIT("alt-svc"));
	for (size_t i = 0; i < x->res.n_fields; i++)
		is_kept = exchange_mask(x, &x->res.fields[i].name) &&
			  exchange_mask(x, &x->res.fields[i].value) && is_kept;
	if (!is_kept) {
		egress_refuse(x, "egress-busy", "the answer's head is too large");
		return RELAY_REFUSE;
	}
	if (s->is_bound && x->res.framing != HTTP1_BODY_NONE && is_coded(&x->res)) {
		egress_refuse(x, "coded-response", "");
		return RELAY_REFUSE;
	}
	if (s->is_bound && x->res.status == 206) {
		egress_refuse(x, "partial-response", "");
		return RELAY_REFUSE;
	}
	x->res_keeps_length = true;
	/* With a bound route somewhere, a credential may be learned while this answer flows. */
	x->res_skips_data = !g->has_bound_routes;
	return RELAY_FORWARD;
}

static enum relay_data exchange_on_response_data(struct relay_exchange *x, struct str in,
						 bool is_last, struct buf *out)
{
	struct exchange_state *s = relay_owner(x);
	int ret = scrub_feed(creds_secrets(egress_of(x)->creds), &s->scrub, in, is_last, out);

	if (ret == SCRUB_CLEAN)
		return RELAY_DATA_PASS;
	if (ret == SCRUB_CHANGED)
		return RELAY_DATA_OK;
	egress_refuse(x, "egress-busy", "an answer could not be searched");
	return RELAY_DATA_REFUSE;
}

static void exchange_on_done(struct relay_exchange *x, const struct relay_result *result)
{
	struct exchange_state *s = relay_owner(x);
	struct record r;

	dialer_cancel(&s->dialer);
	policy_shared_drop(&s->policy);
	s->n_masked += s->scrub.n_masked;
	scrub_stream_close(&s->scrub);
	if (s->n_masked > 0) {
		record_init(&r, "egress", RECORD_REDACT, "credential-echoed");
		(void)snprintf(r.detail, sizeof(r.detail), "masked in the answer");
	} else if (!s->is_recorded && result->outcome != RELAY_DONE &&
		   result->outcome != RELAY_FRONT_CLOSED && result->outcome != RELAY_SHUTDOWN) {
		/* The answer had begun, so that no refusal could be sent. */
		record_init(&r, "egress", deny_find(result->reason)->verdict, result->reason);
	} else {
		return;
	}
	r.status = result->status;
	r.bytes_up = result->bytes_up;
	r.bytes_down = result->bytes_down;
	r.duration_us = result->duration_us;
	exchange_record(x, &r);
}

const struct relay_ops egress_exchange_ops = {
	.on_request = exchange_on_request,
	.dial = exchange_dial,
	.on_response = exchange_on_response,
	.on_response_data = exchange_on_response_data,
	.refusal_body = exchange_refusal_body,
	.on_done = exchange_on_done,
};
