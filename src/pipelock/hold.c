/*
 * Theory of operation: hold_begin() takes the hash of all that would be sent. The keeper is asked
 * first whether exactly that was granted before (ASK_SPEND by hash: an earlier hold that ran out of
 * time was decided late), then to show it to the human (ASK_HELD), whose grant has to be spent like
 * any other (ASK_SPEND by its number), so that it is not there for a second time.
 *
 *   KNOWN ──not granted──> HELD ──granted──> SPENDING ──spent──> RELEASED (relay_continue)
 *     └──spent─────────────────────────────────────────────────────^
 *   any other answer, or none in time: ENDED (refused)
 *
 * A release runs through the gate as a new request would, with what is in force then: a canary, a
 * secret of the bottle's or a route that is gone still stops it.
 */
#include "pipelock/hold.h"

#include "base/log.h"
#include "base/mem.h"
#include "pipelock/asks.h"

#include <openssl/evp.h>
#include <stdio.h>

enum hold_state { HOLD_KNOWN, HOLD_HELD, HOLD_SPENDING, HOLD_RELEASED, HOLD_ENDED };

struct hold {
	struct pipelock *p;
	struct relay_exchange *x;
	enum hold_state state;
	struct loop_timer timer;
	uint64_t ask_id;	      /* 0: nothing is asked */
	uint8_t record[8];	      /* of the verdict HOLD */
	const char *reason, *scanner; /* of the finding; static */
	uint8_t hash[ASK_HASH_BYTES];
	char answer[sizeof(((struct ask_answer *)0)->text)];
};

/* --- the hash --- */

static bool hash_text(EVP_MD_CTX *md, struct str s)
{
	uint64_t n = s.n;

	return EVP_DigestUpdate(md, &n, sizeof(n)) == 1 &&
	       (s.n == 0 || EVP_DigestUpdate(md, s.p, s.n) == 1);
}

/* Each text behind its length, so that no two requests are the same bytes. */
static bool hash_request(EVP_MD_CTX *md, struct relay_exchange *x, struct str body)
{
	const struct http1_head *h = &x->req;
	uint64_t numbers[] = {x->is_in_tunnel, h->port, h->n_fields};
	bool ok = hash_text(md, http1_method_name(h->method)) &&
		  EVP_DigestUpdate(md, numbers, sizeof(numbers)) == 1 && hash_text(md, h->host) &&
		  hash_text(md, h->path) && hash_text(md, h->query);

	for (size_t i = 0; ok && i < h->n_fields; i++)
		ok = hash_text(md, h->fields[i].name) && hash_text(md, h->fields[i].value);
	return ok && hash_text(md, body);
}

static bool hold_hash(struct relay_exchange *x, uint8_t out[ASK_HASH_BYTES])
{
	const struct exchange *ex = relay_owner(x);
	struct str body = ex->held ? buf_str(&ex->held->buf) : STR_NULL;
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	bool ok = md && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1 &&
		  hash_request(md, x, body) && EVP_DigestFinal_ex(md, out, NULL) == 1;

	EVP_MD_CTX_free(md);
	return ok;
}

/* --- ends --- */

static void hold_leave(struct hold *h, enum hold_state state)
{
	if (h->state < HOLD_RELEASED)
		h->p->n_holds--;
	loop_timer_del(h->p->loop, &h->timer);
	desk_forget(h->p->desk, h->ask_id);
	h->ask_id = 0;
	h->state = state;
}

static void hold_refuse(struct hold *h, const char *reason)
{
	struct exchange *ex = relay_owner(h->x);

	hold_leave(h, HOLD_ENDED);
	ex->v.verdict = RECORD_BLOCK;
	ex->v.reason = reason;
	ex->v.scanner = h->scanner;
	report_refuse(h->p, h->x, &ex->v);
}

static bool hold_judge(struct hold *h, enum ask_release how, struct gate_verdict *v)
{
	struct relay_exchange *x = h->x;
	struct exchange *ex = relay_owner(x);
	struct gate *g = &h->p->gate;
	const struct gate_request q = {.host = x->req.host,
				       .port = x->req.port,
				       .is_tls = x->is_in_tunnel,
				       .redacts = how == ASK_REDACT,
				       .head = &x->req};

	/* Its route is from now on one of the policy in force. */
	policy_shared_drop(&ex->policy);
	ex->policy = policy_shared_use(h->p->policy);
	return gate_head(g, &q, v) &&
	       (!ex->held || gate_body(g, buf_str(&ex->held->buf), STR_NULL, v));
}

static void hold_release(struct hold *h, enum ask_release how)
{
	struct exchange *ex = relay_owner(h->x);
	uint8_t now[ASK_HASH_BYTES];

	if (!hold_hash(h->x, now) || memcmp(now, h->hash, sizeof(now)) != 0) {
		log_error("a held request is not what it was");
		hold_refuse(h, "held-expired");
		return;
	}
	if (!hold_judge(h, how, &ex->v)) {
		hold_leave(h, HOLD_ENDED);
		report_refuse(h->p, h->x, &ex->v);
		return;
	}
	if (ex->v.verdict != (how == ASK_PASS ? RECORD_HOLD : RECORD_REDACT)) {
		log_error("a held request is no longer what a human decided about");
		hold_refuse(h, "held-expired");
		return;
	}
	hold_leave(h, HOLD_RELEASED);
	ex->is_released = true;
	h->x->is_unpooled = true; /* as in spend.c: what a human let go goes once */
	if (how == ASK_PASS) {
		ex->v.verdict = RECORD_ALLOW;
		ex->v.reason = "held-released";
	}
	if (report_verdict(h->p, h->x, &ex->v, 0))
		relay_continue(h->x);
	else
		report_refuse_unrecorded(h->x);
}

/* --- the desk --- */

static void hold_on_answer(const struct ask_answer *a, void *ctx);

static void hold_fill(struct hold *h, struct ask *a)
{
	const struct exchange *ex = relay_owner(h->x);

	a->kind = ASK_RELEASE;
	memcpy(a->record, h->record, sizeof(a->record));
	memcpy(a->hash, h->hash, sizeof(a->hash));
	(void)asks_destination(h->p, h->x, a);
	(void)snprintf(a->rule, sizeof(a->rule), "%s", ex->mark->rule);
	(void)snprintf(a->where, sizeof(a->where), "%s", ex->mark->where);
	(void)snprintf(a->shown, sizeof(a->shown), "%s", ex->mark->shown);
}

/* number: of the grant, where it is known. */
static bool hold_ask(struct hold *h, enum ask_op op, uint64_t number, unsigned wait_ms)
{
	struct ask a = {.op = op, .number = number, .hold_ms = op == ASK_HELD ? wait_ms : 0};

	hold_fill(h, &a);
	if (desk_ask(h->p->desk, &a, hold_on_answer, h, &h->ask_id) < 0) {
		h->ask_id = 0;
		return false;
	}
	loop_timer_set(h->p->loop, &h->timer, wait_ms);
	return true;
}

/* By its record the agent may ask for it with words of its own, while it waits and afterwards. */
static void hold_make_known(struct hold *h)
{
	struct ask a = {.op = ASK_SEEN};

	hold_fill(h, &a);
	if (desk_say(h->p->desk, &a) < 0)
		log_warn("a held request can be asked for by nobody");
}

static void hold_show(struct hold *h)
{
	desk_forget(h->p->desk, h->ask_id);
	hold_make_known(h);
	h->ask_id = 0;
	h->state = HOLD_HELD;
	if (!hold_ask(h, ASK_HELD, 0, h->p->hold_ms))
		hold_refuse(h, "held-expired");
}

static void hold_spend(struct hold *h, uint64_t number)
{
	loop_timer_del(h->p->loop, &h->timer);
	h->state = HOLD_SPENDING;
	if (number == 0 || !hold_ask(h, ASK_SPEND, number, HOLD_SPEND_MS))
		hold_refuse(h, "held-expired");
}

/* It was not granted. */
static void hold_on_no(struct hold *h, const struct ask_answer *a)
{
	bool is_no = h->state == HOLD_HELD && (a->state == ASK_REFUSED || a->state == ASK_NEVER);

	if (h->state == HOLD_KNOWN) {
		hold_show(h);
		return;
	}
	if (is_no)
		memcpy(h->answer, a->text, sizeof(h->answer));
	hold_refuse(h, is_no ? "held-refused" : "held-expired");
}

static void hold_on_answer(const struct ask_answer *a, void *ctx)
{
	struct hold *h = ctx;
	bool is_same = memcmp(a->hash, h->hash, sizeof(h->hash)) == 0;
	bool is_granted = a->state == ASK_GRANTED && is_same &&
			  (a->release == ASK_PASS || a->release == ASK_REDACT);

	if (!a->is_final)
		return;
	h->ask_id = 0;
	if (!is_granted)
		hold_on_no(h, a);
	else if (h->state == HOLD_HELD)
		hold_spend(h, a->number);
	else
		hold_release(h, (enum ask_release)a->release);
}

static void hold_gone(struct hold *h)
{
	struct ask a = {.op = ASK_GONE, .id = h->ask_id};

	if (h->state != HOLD_HELD || h->ask_id == 0)
		return;
	memcpy(a.record, h->record, sizeof(a.record));
	if (desk_say(h->p->desk, &a) < 0)
		log_warn("the keeper was not told that a request waits no longer");
}

static void hold_on_timer(struct loop_timer *t)
{
	struct hold *h = (struct hold *)((char *)t - offsetof(struct hold, timer));

	if (h->state == HOLD_KNOWN) {
		hold_show(h);
		return;
	}
	hold_gone(h);
	hold_refuse(h, "held-expired");
}

/* --- the exchange's side --- */

static struct hold *hold_new(struct pipelock *p, struct relay_exchange *x)
{
	struct exchange *ex = relay_owner(x);
	struct hold *h = mem_zalloc(sizeof(*h));

	h->p = p;
	h->x = x;
	h->state = HOLD_ENDED;
	h->timer.fn = hold_on_timer;
	h->reason = ex->v.reason;
	h->scanner = ex->v.scanner;
	return h;
}

enum hold_step hold_begin(struct pipelock *p, struct relay_exchange *x)
{
	struct exchange *ex = relay_owner(x);
	struct hold *h = hold_new(p, x);

	if (!hold_hash(x, h->hash)) {
		free(h);
		ex->v.verdict = RECORD_BLOCK;
		report_refuse(p, x, &ex->v);
		return HOLD_REFUSED;
	}
	ex->hold = h;
	/* Where nobody can be asked, or too many wait, it is a block like any other. */
	if (!desk_is_open(p->desk) || p->n_holds == HOLD_MAX) {
		hold_refuse(h, h->reason);
		return HOLD_REFUSED;
	}
	if (!report_verdict(p, x, &ex->v, 0)) {
		report_refuse_unrecorded(x);
		return HOLD_REFUSED;
	}
	memcpy(h->record, ex->id, sizeof(h->record));
	h->state = HOLD_KNOWN;
	p->n_holds++;
	if (hold_ask(h, ASK_SPEND, 0, HOLD_SPEND_MS))
		return HOLD_WAIT;
	hold_refuse(h, "held-expired");
	return HOLD_REFUSED;
}

bool hold_describe(struct relay_exchange *x, struct ask *a)
{
	struct exchange *ex = relay_owner(x);
	uint8_t record[sizeof(a->record)];

	if (!ex->hold)
		return false;
	memcpy(record, a->record, sizeof(record));
	hold_fill(ex->hold, a);
	memcpy(a->record, record, sizeof(record));
	return true;
}

const char *hold_answer(const struct exchange *ex)
{
	return ex->hold && ex->hold->answer[0] ? ex->hold->answer : NULL;
}

void hold_drop(struct exchange *ex)
{
	struct hold *h = ex->hold;

	free(ex->mark);
	ex->mark = NULL;
	ex->hold = NULL;
	if (!h)
		return;
	hold_gone(h);
	hold_leave(h, HOLD_ENDED);
	free(h);
}
