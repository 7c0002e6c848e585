#include "pipelock/gate_int.h"

#include "base/clean.h"
#include "base/text.h"
#include "pipelock/git_push.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>

#define GATE_HTTPS_PORT 443
#define GATE_BASIC_MAX	640 /* longer than any user and placeholder */

static const char *const gate_reason_names[] = {
	[GATE_OK] = "ok",
	[GATE_SECRET_IN_HOST] = "secret-in-host",
	[GATE_SECRET_IN_PATH] = "secret-in-path",
	[GATE_SECRET_IN_QUERY] = "secret-in-query",
	[GATE_SECRET_IN_HEADER] = "secret-in-header",
	[GATE_SECRET_IN_BODY] = "secret-in-body",
	[GATE_SECRET_IN_RESPONSE] = "secret-in-response",
	[GATE_CANARY_LEAVING] = "canary-leaving",
	[GATE_PLACEHOLDER_MISPLACED] = "placeholder-misplaced",
	[GATE_SCAN_LIMIT] = "scan-limit",
	[GATE_BODY_TOO_LARGE] = "body-too-large",
	[GATE_BODY_CODING_UNSUPPORTED] = "body-coding-unsupported",
	[GATE_BODY_CODING_CORRUPT] = "body-coding-corrupt",
	[GATE_RESPONSE_CODING_UNSUPPORTED] = "response-coding-unsupported",
	[GATE_RESPONSE_CODING_CORRUPT] = "response-coding-corrupt",
	[GATE_PLAIN_HTTP] = "plain-http",
	[GATE_PLAIN_HTTP_CREDENTIAL] = "plain-http-credential",
	[GATE_GIT_PUSH] = "git-push",
};
static_assert(ARRAY_LEN(gate_reason_names) == GATE_REASON_COUNT, "one name for each reason");

static const struct {
	enum gate_reason reason;
	const char *scanner;
} gate_places[] = {
	[SCAN_PLACE_HOST] = {GATE_SECRET_IN_HOST, "host"},
	[SCAN_PLACE_PATH] = {GATE_SECRET_IN_PATH, "url"},
	[SCAN_PLACE_QUERY] = {GATE_SECRET_IN_QUERY, "url"},
	[SCAN_PLACE_HEADER] = {GATE_SECRET_IN_HEADER, "header"},
	[SCAN_PLACE_BODY] = {GATE_SECRET_IN_BODY, "body"},
	[SCAN_PLACE_RESPONSE] = {GATE_SECRET_IN_RESPONSE, "response"},
};
static_assert(ARRAY_LEN(gate_places) == SCAN_PLACE_COUNT, "one reason for each place");

const char *gate_reason_name(enum gate_reason r)
{
	return r < GATE_REASON_COUNT ? gate_reason_names[r] : "unknown";
}

void gate_init(struct gate *g, const struct policy *policy, struct scan_engine *engine)
{
	*g = (struct gate){.policy = policy, .engine = engine};
	buf_init(&g->text, GATE_HEAD_MAX);
	buf_init(&g->decoded, 64u << 10);
	known_init(&g->known);
}

void gate_close(struct gate *g)
{
	buf_free(&g->text);
	buf_free(&g->decoded);
}

static void gate_allow(struct gate_verdict *v, const struct policy_route *route)
{
	*v = (struct gate_verdict){.verdict = RECORD_ALLOW,
				   .reason = gate_reason_names[GATE_OK],
				   .scanner = "",
				   .route = route,
				   .on_match = route->on_match};
}

bool gate_block(struct gate_verdict *v, enum gate_reason reason, const char *scanner)
{
	v->verdict = RECORD_BLOCK;
	v->reason = gate_reason_name(reason);
	v->scanner = scanner;
	return false;
}

static bool gate_block_policy(struct gate_verdict *v, struct policy_decision d)
{
	*v = (struct gate_verdict){.verdict = RECORD_BLOCK,
				   .reason = policy_reason_name(d.reason),
				   .scanner = "policy",
				   .route = d.route};
	return false;
}

/* --- findings --- */

static bool gate_is_at_home(const struct policy_route *route, const struct scan_finding *f)
{
	return route && route->auth.scheme != POLICY_AUTH_NONE &&
	       route->auth.credential == f->secret;
}

bool gate_on_finding(const struct scan_finding *f, void *ctx)
{
	struct gate_findings *fs = ctx;

	if (f->kind == SCAN_KIND_PLACEHOLDER && gate_is_at_home(fs->route, f)) {
		if (fs->n_home < GATE_FINDINGS_MAX && f->decoders[0] == '\0')
			fs->home[fs->n_home++] = (struct gate_range){f->from, f->to};
		return true;
	}
	if (fs->n == GATE_FINDINGS_MAX) {
		fs->is_full = true;
		/* Of a request, any finding decides, but the canary is to be heard of. In an answer
		 * only secrets decide. Attack: shapes in front of either must not use up the list.
		 */
		if (f->kind ==
		    (f->place == SCAN_PLACE_RESPONSE ? SCAN_KIND_SECRET : SCAN_KIND_CANARY))
			fs->list[0] = *f;
		return true;
	}
	fs->list[fs->n++] = *f;
	return true;
}

bool gate_is_placeholder_shape(const struct gate_findings *fs, const struct scan_finding *f)
{
	if (f->kind != SCAN_KIND_RULE || f->decoders[0] != '\0')
		return false;
	for (unsigned i = 0; i < fs->n_home; i++) {
		if (f->from >= fs->home[i].from && f->to <= fs->home[i].to)
			return true;
	}
	return false;
}

static int gate_rank(enum scan_kind kind)
{
	switch (kind) {
	case SCAN_KIND_CANARY:
		return 5;
	case SCAN_KIND_SECRET:
		return 4;
	case SCAN_KIND_PLACEHOLDER:
		return 3;
	case SCAN_KIND_RULE:
		return 2;
	case SCAN_KIND_LIMIT:
		break;
	}
	return 1;
}

const struct scan_finding *gate_worst(const struct gate_findings *fs)
{
	const struct scan_finding *worst = NULL;

	for (unsigned i = 0; i < fs->n; i++) {
		const struct scan_finding *f = &fs->list[i];

		if (!gate_is_placeholder_shape(fs, f) &&
		    (!worst || gate_rank(f->kind) > gate_rank(worst->kind)))
			worst = f;
	}
	return worst;
}

bool gate_block_finding(struct gate_verdict *v, enum scan_place place, const struct scan_finding *f)
{
	enum gate_reason reason = gate_places[place].reason;

	if (f->kind == SCAN_KIND_CANARY)
		reason = GATE_CANARY_LEAVING;
	else if (f->kind == SCAN_KIND_PLACEHOLDER)
		reason = GATE_PLACEHOLDER_MISPLACED;
	else if (f->kind == SCAN_KIND_LIMIT)
		reason = GATE_SCAN_LIMIT;
	v->is_alert = f->kind == SCAN_KIND_CANARY || f->kind == SCAN_KIND_PLACEHOLDER;
	memcpy(v->rule, f->rule, sizeof(v->rule));
	memcpy(v->decoders, f->decoders, sizeof(v->decoders));
	return gate_block(v, reason, gate_places[place].scanner);
}

static struct gate_findings *gate_find(struct gate *g, enum scan_place place, struct str text,
				       const struct policy_route *route, int *ret)
{
	struct gate_findings *fs = &g->findings;

	fs->route = route;
	fs->n = fs->n_home = 0;
	fs->is_full = false;
	*ret = scan_text(g->engine, place, text, gate_on_finding, fs);
	return fs;
}

/* A text's name among the known ones; 0 for one that is not to be looked up. */
static uint64_t gate_name(const struct gate *g, enum scan_place place, struct str text,
			  const struct policy_route *route)
{
	/* The credential counts: its placeholder is clean there and nowhere else. Its number means
	 * the same under every policy that this process will see. */
	uint64_t credential = route && route->auth.scheme != POLICY_AUTH_NONE
				      ? route->auth.credential + UINT64_C(1)
				      : 0;
	uint64_t salt = (uint64_t)place << 32 | credential;

	if (place == SCAN_PLACE_BODY || text.n > KNOWN_TEXT_MAX)
		return 0;
	return known_name(&g->known, salt, text);
}

/* Scans one text. True when clean, or when it may be masked (is_masked given) and is clean now. */
static bool gate_scan(struct gate *g, enum scan_place place, struct str text,
		      struct gate_verdict *v, bool *is_masked)
{
	bool may_mask = is_masked && v->on_match == POLICY_MATCH_REDACT;
	uint64_t name = gate_name(g, place, text, v->route);

	if (name && known_has(&g->known, name))
		return true;
	for (int round = 0;; round++) {
		int ret;
		struct gate_findings *fs = gate_find(g, place, text, v->route, &ret);
		const struct scan_finding *worst = gate_worst(fs);

		if (ret < 0 || (!worst && fs->is_full))
			return gate_block(v, GATE_SCAN_LIMIT, gate_places[place].scanner);
		if (!worst) {
			if (name && round == 0)
				known_add(&g->known, name);
			return true;
		}
		if (v->on_match == POLICY_MATCH_SUPERVISE && gate_hold(g, place, text, v))
			return true;
		if (!may_mask || round == GATE_MASK_ROUNDS || !gate_mask(fs, text))
			return gate_block_finding(v, place, worst);
		*is_masked = true;
		memcpy(v->rule, worst->rule, sizeof(v->rule));
		v->scanner = gate_places[place].scanner;
		v->reason = gate_reason_name(gate_places[place].reason);
		v->verdict = RECORD_REDACT;
	}
}

bool gate_may_show(struct gate *g, enum scan_place place, struct str text)
{
	struct gate_findings *fs;
	int ret;

	if (text.n == 0)
		return true;
	fs = gate_find(g, place, text, NULL, &ret);
	for (unsigned i = 0; i < fs->n; i++)
		g->has_seen_canary |= fs->list[i].kind == SCAN_KIND_CANARY;
	return ret == 0 && fs->n == 0;
}

/* --- heads --- */

/* Methods are handed from one to the other by number. */
static_assert((int)HTTP1_GET == (int)POLICY_METHOD_GET &&
		      (int)HTTP1_DELETE == (int)POLICY_METHOD_DELETE &&
		      (int)HTTP1_OPTIONS == (int)POLICY_METHOD_OPTIONS &&
		      (int)HTTP1_CONNECT == (int)POLICY_METHOD_COUNT,
	      "the order of the methods");

bool gate_authority(struct gate *g, struct str host, uint16_t port, struct gate_verdict *v)
{
	struct policy_decision d = policy_decide_authority(g->policy, host, port);

	if (d.reason != POLICY_OK)
		return gate_block_policy(v, d);
	gate_allow(v, d.route);
	return d.route->host[0] != '*' || gate_scan(g, SCAN_PLACE_HOST, host, v, NULL);
}

/* The bound header in the form in which egress replaces all of it or refuses the request: nothing
 * of the value goes out, and its shape ("Bearer", a key's prefix) is no finding. Basic codes the
 * placeholder together with a user of the agent's choice, which is replaced too. */
static bool gate_is_replaced(const struct policy_route *route, const struct http1_field *h)
{
	struct str placeholder, value = h->value;

	if (!route || route->auth.scheme == POLICY_AUTH_NONE ||
	    !str_ieq(h->name, str_of(route->auth.header)))
		return false;
	placeholder = str_of(route->auth.placeholder);
	switch (route->auth.scheme) {
	case POLICY_AUTH_BEARER:
		return str_istarts(value, STR_LIT("bearer ")) &&
		       str_eq(str_trim(str_sub(value, 7, value.n)), placeholder);
	case POLICY_AUTH_BASIC:
		return str_istarts(value, STR_LIT("basic ")) && value.n < GATE_BASIC_MAX;
	case POLICY_AUTH_HEADER:
		return str_eq(value, placeholder);
	case POLICY_AUTH_NONE:
	default:
		return false;
	}
}

/* All headers as one text, a line each, so that one scan sees them all and what is split between a
 * name and its value, or between neighbours, is seen whole. at[i] is where value i starts, 0 for
 * one that was left out. */
static int gate_build_text(struct gate *g, const struct http1_head *head,
			   const struct policy_route *route, uint32_t *at)
{
	buf_reset(&g->text);
	for (size_t i = 0; i < head->n_fields; i++) {
		const struct http1_field *h = &head->fields[i];
		char *p = NULL;

		at[i] = 0;
		if (gate_is_replaced(route, h))
			continue;
		p = buf_reserve(&g->text, h->name.n + h->value.n + 3);
		if (!p)
			return -ENOBUFS;
		memcpy(p, h->name.p, h->name.n);
		p += h->name.n;
		*p++ = ':';
		*p++ = ' ';
		at[i] = (uint32_t)(buf_len(&g->text) + h->name.n + 2);
		if (h->value.n > 0)
			memcpy(p, h->value.p, h->value.n);
		p[h->value.n] = '\n';
		buf_commit(&g->text, h->name.n + h->value.n + 3);
	}
	return 0;
}

/* Copies masked values back; false when a name was masked as well: a header's name is no place for
 * a mask. */
static bool gate_take_masks(const struct gate *g, const struct http1_head *head, const uint32_t *at)
{
	const char *text = buf_str(&g->text).p;

	for (size_t i = 0; i < head->n_fields; i++) {
		const struct http1_field *h = &head->fields[i];

		if (at[i] == 0)
			continue;
		if (memcmp(text + at[i] - 2 - h->name.n, h->name.p, h->name.n) != 0)
			return false;
		if (h->value.n > 0)
			memcpy((char *)(uintptr_t)h->value.p, text + at[i], h->value.n);
	}
	return true;
}

static bool gate_headers(struct gate *g, const struct http1_head *head, struct gate_verdict *v)
{
	uint32_t at[HTTP1_FIELDS_MAX];
	bool is_masked = false;

	if (head->n_fields == 0)
		return true;
	if (gate_build_text(g, head, v->route, at) < 0)
		return gate_block(v, GATE_SCAN_LIMIT, "header");
	if (!gate_scan(g, SCAN_PLACE_HEADER, buf_str(&g->text), v, &is_masked))
		return false;
	if (is_masked && !gate_take_masks(g, head, at))
		return gate_block(v, GATE_SECRET_IN_HEADER, "header");
	return true;
}

/* Over plain HTTP nothing that authenticates may pass, and no host that a credential is bound to
 * may be spoken to: everybody on the way could read it. */
static bool gate_plain_http(const struct gate_request *q, struct gate_verdict *v)
{
	static const char *const credentials[] = {"authorization", "cookie", "x-api-key",
						  "proxy-authorization"};

	if (v->route->auth.scheme != POLICY_AUTH_NONE)
		return gate_block(v, GATE_PLAIN_HTTP_CREDENTIAL, "policy");
	/* Whoever lists a host without ports means https: what goes there in clear is on show. */
	if (q->port == GATE_HTTPS_PORT)
		return gate_block(v, GATE_PLAIN_HTTP, "policy");
	for (size_t i = 0; i < q->head->n_fields; i++) {
		for (size_t j = 0; j < ARRAY_LEN(credentials); j++) {
			if (str_ieq(q->head->fields[i].name, str_of(credentials[j])))
				return gate_block(v, GATE_PLAIN_HTTP_CREDENTIAL, "policy");
		}
	}
	return true;
}

bool gate_head(struct gate *g, const struct gate_request *q, struct gate_verdict *v)
{
	const struct http1_head *head = q->head;
	struct policy_decision d = {.reason = POLICY_DENY_METHOD};
	bool is_masked = false;

	if (git_push_is(head)) {
		*v = (struct gate_verdict){.rule = ""};
		return gate_block(v, GATE_GIT_PUSH, "policy");
	}
	if (head->method < HTTP1_CONNECT)
		d = policy_decide(g->policy, q->host, q->port, (enum policy_method)head->method,
				  head->path);
	if (d.reason != POLICY_OK)
		return gate_block_policy(v, d);
	gate_allow(v, d.route);
	if (q->redacts && v->on_match == POLICY_MATCH_SUPERVISE)
		v->on_match = POLICY_MATCH_REDACT;
	if (!q->is_tls && !gate_plain_http(q, v))
		return false;
	/* A path is never masked: it would name another resource. */
	if (d.route->host[0] == '*' && !gate_scan(g, SCAN_PLACE_HOST, q->host, v, NULL))
		return false;
	if (!gate_scan(g, SCAN_PLACE_PATH, head->path, v, NULL))
		return false;
	if (head->query.n > 0 && !gate_scan(g, SCAN_PLACE_QUERY, head->query, v, &is_masked))
		return false;
	return gate_headers(g, head, v);
}

bool gate_response_head(struct gate *g, const struct http1_head *head, struct gate_verdict *v)
{
	uint32_t at[HTTP1_FIELDS_MAX];
	struct gate_findings *fs;
	uint64_t name;
	int ret;

	if (gate_build_text(g, head, NULL, at) < 0)
		return gate_block(v, GATE_SCAN_LIMIT, "response");
	name = gate_name(g, SCAN_PLACE_RESPONSE, buf_str(&g->text), v->route);
	if (name && known_has(&g->known, name))
		return true;
	fs = gate_find(g, SCAN_PLACE_RESPONSE, buf_str(&g->text), v->route, &ret);
	for (unsigned i = 0; i < fs->n; i++) {
		if (fs->list[i].kind == SCAN_KIND_SECRET)
			return gate_block_finding(v, SCAN_PLACE_RESPONSE, &fs->list[i]);
	}
	if (ret < 0)
		return gate_block(v, GATE_SCAN_LIMIT, "response");
	if (name && fs->n == 0)
		known_add(&g->known, name);
	return true;
}

/* --- whole bodies --- */

static bool gate_coded_body(struct gate *g, struct str body, struct str coding,
			    struct gate_verdict *v)
{
	struct gate_stream s;
	bool is_clean;

	/* Nothing in it can be masked, nor shown to a human as it would arrive. */
	v->on_match = POLICY_MATCH_BLOCK;
	is_clean = gate_stream_open(g, &s, SCAN_PLACE_BODY, coding, v) &&
		   gate_stream_feed(&s, body, true, v);
	gate_stream_close(&s);
	/* The coded bytes as well: containers have fields for names and comments, and room after
	 * what they hold. */
	return is_clean && gate_scan(g, SCAN_PLACE_BODY, body, v, NULL);
}

bool gate_body(struct gate *g, struct str body, struct str content_encoding, struct gate_verdict *v)
{
	bool is_masked = false;

	if (body.n == 0)
		return true;
	if (content_encoding.n > 0 && !str_ieq(content_encoding, STR_LIT("identity")))
		return gate_coded_body(g, body, content_encoding, v);
	return gate_scan(g, SCAN_PLACE_BODY, body, v, &is_masked);
}
