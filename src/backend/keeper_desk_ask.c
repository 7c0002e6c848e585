/* What comes over the channels, each message checked already (keeper_desk.c). */
#include "backend/keeper_int.h"

#include "base/clean.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "base/timeutil.h"

#include <errno.h>
#include <stdio.h>

/* Of may_ask, which earns one a second: ten new requests at once, then one in six seconds. */
#define DESK_NEW_COST	6
#define DESK_AGAIN_COST 1
#define DESK_NOTE_COST	60 /* of may_note: a canary that keeps leaving is one line in a minute */
#define DESK_SECOND_MS	1000

/* --- answers --- */

static struct ask_answer answer_to(const struct ask *a, enum ask_state state)
{
	struct ask_answer out = {.id = a->id,
				 .number = a->number,
				 .life = a->life,
				 .state = (uint32_t)state,
				 .is_final = 1};

	memcpy(out.hash, a->hash, sizeof(out.hash));
	return out;
}

__attribute__((format(printf, 4, 5))) static void
answer(struct desk_channel *c, const struct ask *a, enum ask_state state, const char *fmt, ...)
{
	struct ask_answer out = answer_to(a, state);
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(out.text, sizeof(out.text), fmt, ap);
	va_end(ap);
	desk_send(c, &out);
}

/* The agent learns no more of the host's trouble than that there is some. */
static void answer_trouble(struct desk_channel *c, const struct ask *a, const struct err *e)
{
	log_error("%s", e->text);
	if (e->code == -ENOSPC)
		answer(c, a, ASK_LIMITED, "too many requests wait for the human; ask again later");
	else
		answer(c, a, ASK_LIMITED, "the request could not be written down on the host");
}

void desk_describe(struct ask_answer *a, const struct request *r)
{
	const struct danger_finding *forbids = danger_forbids(&r->danger);
	const char *text = r->answer;

	a->number = r->id;
	a->is_final = 1;
	switch (r->state) {
	case REQUEST_PENDING:
		a->state = ASK_PENDING;
		break;
	case REQUEST_GRANTED:
		a->state = ASK_GRANTED;
		a->scope = (uint32_t)r->scope;
		a->release = (uint32_t)r->release;
		a->until = r->until;
		break;
	case REQUEST_REFUSED:
		a->state = ASK_REFUSED;
		break;
	case REQUEST_NEVER:
		a->state = ASK_NEVER;
		text = forbids ? forbids->text : "";
		break;
	case REQUEST_EXPIRED:
	default:
		a->state = ASK_EXPIRED;
		text = "nobody decided in time";
		break;
	}
	(void)snprintf(a->text, sizeof(a->text), "%s", text);
}

/* Decided, and not in force yet: to the agent that is no grant. */
static bool is_on_its_way(const struct keeper_desk *d, uint64_t request)
{
	for (const struct desk_change *ch = d->changes; ch; ch = ch->next) {
		if (ch->request == request)
			return true;
	}
	return false;
}

static void answer_state(struct desk_channel *c, const struct ask *a, uint64_t request)
{
	struct ask_answer out = answer_to(a, ASK_UNKNOWN);
	struct err e = ERR_INIT;
	struct request r;

	if (store_get(c->k->desk.store, request, &r, &e) == 0) {
		if (is_on_its_way(&c->k->desk, request))
			r.state = REQUEST_PENDING;
		desk_describe(&out, &r);
		request_free(&r);
	} else {
		(void)snprintf(out.text, sizeof(out.text), "no request has this number");
	}
	desk_send(c, &out);
}

/* --- who waits --- */

static void answer_waiting(struct desk_channel *c, struct desk_waiting *w, struct ask_answer *a)
{
	a->id = w->id;
	a->life = w->life;
	memcpy(a->hash, w->hash, sizeof(a->hash));
	w->request = 0;
	desk_send(c, a);
}

/* A role that forgets what it has asked says nothing: the first in turn makes room, and is to look
 * for itself. */
static void wait_for(struct desk_channel *c, const struct ask *a, uint64_t request)
{
	struct desk_waiting *w = NULL;

	for (size_t i = 0; i < KEEPER_WAITING_MAX && !w; i++) {
		if (c->waiting[i].request == 0)
			w = &c->waiting[i];
	}
	if (!w) {
		struct ask_answer early = {.state = ASK_PENDING, .is_final = 1};

		w = &c->waiting[c->n_turns++ % KEEPER_WAITING_MAX];
		early.number = w->request;
		answer_waiting(c, w, &early);
	}
	*w = (struct desk_waiting){.request = request, .id = a->id, .life = a->life};
	memcpy(w->record, a->record, sizeof(w->record));
	memcpy(w->hash, a->hash, sizeof(w->hash));
}

static bool is_awaited(const struct keeper_desk *d, uint64_t request)
{
	for (size_t i = 0; i < KEEPER_DESK_COUNT; i++) {
		for (size_t j = 0; j < KEEPER_WAITING_MAX; j++) {
			if (d->channels[i].waiting[j].request == request)
				return true;
		}
	}
	return false;
}

void desk_tell_waiting(struct keeper *k, uint64_t request)
{
	struct err e = ERR_INIT;
	struct ask_answer a = {0};
	struct request r;

	if (!is_awaited(&k->desk, request))
		return;
	if (store_get(k->desk.store, request, &r, &e) < 0) {
		log_error("%s", e.text);
		return;
	}
	desk_describe(&a, &r);
	request_free(&r);
	for (size_t i = 0; a.state != ASK_PENDING && i < KEEPER_DESK_COUNT; i++) {
		struct desk_channel *c = &k->desk.channels[i];

		for (size_t j = 0; j < KEEPER_WAITING_MAX; j++) {
			if (c->waiting[j].request == request)
				answer_waiting(c, &c->waiting[j], &a);
		}
	}
}

/* --- what was refused lately --- */

static void take_seen(struct desk_channel *c, const struct ask *a)
{
	if (!c->seen)
		c->seen = mem_zalloc_array(KEEPER_SEEN_MAX, sizeof(*c->seen));
	c->seen[c->n_seen++ % KEEPER_SEEN_MAX] = *a;
}

static bool is_record(const uint8_t record[8])
{
	static const uint8_t none[8];

	return memcmp(record, none, sizeof(none)) != 0;
}

static bool is_same_push(const struct ask *a, const struct ask *b)
{
	return strcmp(a->remote, b->remote) == 0 && strcmp(a->ref, b->ref) == 0 &&
	       strcmp(a->new_oid, b->new_oid) == 0;
}

/* The newest one that a means: by its record, or a push by what it would do. */
static const struct ask *find_seen(const struct desk_channel *c, const struct ask *a)
{
	size_t n = c->n_seen < KEEPER_SEEN_MAX ? c->n_seen : KEEPER_SEEN_MAX;

	for (size_t i = 1; i <= n; i++) {
		const struct ask *s = &c->seen[(c->n_seen - i) % KEEPER_SEEN_MAX];
		bool is_it = is_record(a->record)
				     ? memcmp(s->record, a->record, sizeof(s->record)) == 0
				     : a->kind == ASK_PUSH && is_same_push(s, a);

		if (is_it && s->kind == a->kind)
			return s;
	}
	return NULL;
}

/* What exactly is asked for; where only a record says so, what the role that refused it has said,
 * and the agent's words. False: it is not known. */
static bool ask_exactly(struct keeper *k, const struct ask *a, struct ask *out)
{
	const struct desk_channel *c =
		&k->desk.channels[a->kind == ASK_PUSH ? KEEPER_DESK_GITGATE : KEEPER_DESK_PIPELOCK];
	const struct ask *seen;

	*out = *a;
	if (a->op != ASK_REQUEST || a->kind == ASK_CAPABILITY ||
	    (a->kind == ASK_EGRESS && a->host[0]))
		return true;
	if (a->kind == ASK_EGRESS && !is_record(a->record))
		return true; /* the change is refused for want of a host */
	seen = find_seen(c, a);
	if (!seen)
		return false;
	*out = *seen;
	out->id = a->id;
	out->life = a->life;
	memcpy(out->reason, a->reason, sizeof(out->reason));
	return true;
}

/* --- a request --- */

static const struct desk_pending *find_pending(const struct keeper_desk *d,
					       const uint8_t key[CHANGE_HASH_BYTES])
{
	for (size_t i = 0; i < d->n_pending; i++) {
		if (memcmp(d->pending[i].key, key, CHANGE_HASH_BYTES) == 0)
			return &d->pending[i];
	}
	return NULL;
}

/* Takes what it costs; false when it has said why not. */
static bool may_ask(struct desk_channel *c, const struct ask *a, bool is_again)
{
	unsigned cost = is_again ? DESK_AGAIN_COST : DESK_NEW_COST;

	if (!is_again && c->k->desk.n_pending == KEEPER_PENDING_MAX) {
		answer(c, a, ASK_LIMITED,
		       "%d requests wait for the human already; ask again when some are decided",
		       KEEPER_PENDING_MAX);
		return false;
	}
	(void)allowance_has(&c->may_ask, time_monotonic_ns());
	if (c->may_ask.left < cost) {
		answer(c, a, ASK_LIMITED, "too many requests; ask again in %u s",
		       cost - c->may_ask.left);
		return false;
	}
	c->may_ask.left -= cost;
	return true;
}

/* It will be told. Of what is held the decision is the only answer. */
static void answer_waits(struct desk_channel *c, const struct ask *a, uint64_t request)
{
	struct ask_answer out = answer_to(a, ASK_PENDING);

	wait_for(c, a, request);
	out.number = request;
	out.is_final = 0;
	if (a->op == ASK_REQUEST)
		desk_send(c, &out);
}

static bool answer_granted(struct desk_channel *c, const struct ask *a, const struct change *change)
{
	const struct grant *g = desk_find_grant(&c->k->desk, change);
	struct ask_answer out = answer_to(a, ASK_GRANTED);

	if (!g)
		return false;
	if (is_on_its_way(&c->k->desk, g->id)) {
		answer_waits(c, a, g->id);
		return true;
	}
	out.number = g->id;
	out.until = g->until;
	out.scope = (uint32_t)g->scope;
	out.release = (uint32_t)g->release;
	(void)snprintf(out.text, sizeof(out.text), "granted already");
	desk_send(c, &out);
	return true;
}

static void answer_asked(struct desk_channel *c, const struct ask *a, const struct change *change,
			 const struct store_asked *asked, const uint8_t key[CHANGE_HASH_BYTES])
{
	struct keeper_desk *d = &c->k->desk;

	/* A rule, or what was decided about the same before. */
	if (asked->state != REQUEST_PENDING) {
		answer_state(c, a, asked->id);
		return;
	}
	if (asked->is_new && d->n_pending < KEEPER_PENDING_MAX) {
		struct desk_pending *p = &d->pending[d->n_pending++];

		p->id = asked->id;
		memcpy(p->key, key, sizeof(p->key));
	}
	answer_waits(c, a, asked->id);
	if (asked->is_new) {
		char summary[sizeof(d->notify.summary)];

		change_summary(change, summary, sizeof(summary));
		keeper_notify(&d->notify, asked->id, change_kind_name(change->kind), summary);
		desk_arm_expiry(c->k);
	}
}

static void ask_human(struct desk_channel *c, const struct ask *a, const struct change *change)
{
	struct keeper_desk *d = &c->k->desk;
	uint64_t now = desk_now(), expires = now + KEEPER_REQUEST_S;
	uint8_t key[CHANGE_HASH_BYTES];
	struct err e = ERR_INIT;
	struct store_asked asked;
	struct danger danger;

	if (change_key(change, key) < 0) {
		answer(c, a, ASK_INVALID, "too much in one request");
		return;
	}
	if (answer_granted(c, a, change) || !may_ask(c, a, find_pending(d, key) != NULL))
		return;
	if (a->op == ASK_HELD)
		expires = now + (a->hold_ms + DESK_SECOND_MS - 1) / DESK_SECOND_MS;
	desk_judge(c->k, change, &danger);
	if (store_ask(d->store, change, &danger, str_of(a->reason), now, expires, &asked, &e) < 0)
		answer_trouble(c, a, &e);
	else
		answer_asked(c, a, change, &asked, key);
}

static void take_request(struct desk_channel *c, const struct ask *a)
{
	struct change change;
	struct err e = ERR_INIT;
	struct ask exact;

	if (!ask_exactly(c->k, a, &exact)) {
		answer(c, a, ASK_UNKNOWN,
		       "no refusal like this is remembered; try it again, and ask with the record "
		       "of that refusal");
		return;
	}
	exact.op = a->op;
	if (change_from_ask(&change, &exact, &e) < 0) {
		answer(c, a, ASK_INVALID, "%.500s", e.text);
		return;
	}
	ask_human(c, &exact, &change);
	change_free(&change);
}

/* --- the others --- */

static void take_look(struct desk_channel *c, const struct ask *a)
{
	answer_state(c, a, a->number);
}

static void take_tell(struct desk_channel *c, const struct ask *a)
{
	struct allowance *may = &c->k->desk.may_tell;
	struct err e = ERR_INIT;

	(void)allowance_has(may, time_monotonic_ns());
	if (may->left < DESK_NEW_COST) {
		answer(c, a, ASK_LIMITED, "too many messages; tell again in %u s",
		       DESK_NEW_COST - may->left);
		return;
	}
	may->left -= DESK_NEW_COST;
	if (store_tell(c->k->desk.store, str_of(a->reason), desk_now(), &e) < 0)
		answer_trouble(c, a, &e);
	else
		answer(c, a, ASK_TAKEN, "%s", "");
}

/* Its exchange is gone, and with it what there was to decide; whoever else waits for it is told. */
static void expire_held(struct desk_channel *c, struct desk_waiting *w)
{
	struct keeper *k = c->k;
	uint64_t request = w->request;
	struct err e = ERR_INIT;

	w->request = 0;
	if (store_expire_one(k->desk.store, request, desk_now(), &e) < 0 && e.code != -ENOENT)
		log_error("%s", e.text);
	desk_forget_pending(&k->desk, request);
	desk_tell_waiting(k, request);
}

static void take_gone(struct desk_channel *c, const struct ask *a)
{
	for (size_t i = 0; i < KEEPER_WAITING_MAX; i++) {
		struct desk_waiting *w = &c->waiting[i];

		if (w->request && memcmp(w->record, a->record, sizeof(w->record)) == 0)
			expire_held(c, w);
	}
}

/* What this role enforces, by its number, as in a policy, or by what it is for. */
static const struct grant *find_spendable(const struct desk_channel *c, const struct ask *a)
{
	bool is_git = c->role == KEEPER_DESK_GITGATE;
	enum ask_kind kind = is_git ? ASK_PUSH : ASK_RELEASE;
	const struct keeper_desk *d = &c->k->desk;

	for (size_t i = 0; i < d->n_grants; i++) {
		const struct grant *g = &d->grants[i];

		if (a->number != 0
			    ? g->id == a->number && ((g->change.kind == ASK_EGRESS && !is_git) ||
						     g->change.kind == kind)
			    : g->change.kind == kind &&
				      memcmp(g->change.hash, a->hash, sizeof(a->hash)) == 0)
			return g;
	}
	return NULL;
}

static void take_spend(struct desk_channel *c, const struct ask *a)
{
	const struct grant *g = find_spendable(c, a);
	struct ask_answer out = answer_to(a, ASK_UNKNOWN);
	struct err e = ERR_INIT;
	bool is_route = false;
	int ret = g ? store_spend(c->k->desk.store, g->id, a->hash, desk_now(), &e) : -ENOENT;

	if (ret == 0) {
		out.state = ASK_GRANTED;
		out.number = g->id;
		out.scope = ASK_ONCE;
		out.release = (uint32_t)g->release;
		is_route = g->change.kind == ASK_EGRESS;
		/* It is spent whatever follows: the store knows it, and does not spend it twice. */
		ret = desk_load_grants(c->k, &e);
	}
	if (ret < 0 && ret != -ENOENT)
		log_error("%s", e.text);
	desk_send(c, &out);
	if (is_route)
		desk_force(c->k, mem_zalloc(sizeof(struct desk_change)));
}

static void take_canary(struct desk_channel *c, const struct ask *a)
{
	struct keeper *k = c->k;
	char line[400], host[300];

	text_visible_cstr(host, sizeof(host), str_of(a->host[0] ? a->host : a->remote));
	(void)snprintf(line, sizeof(line), "the canary was about to leave to %s",
		       host[0] ? host : "an unknown place");
	k->desk.has_seen_canary = true;
	if (allowance_has(&k->desk.may_note, time_monotonic_ns()) &&
	    k->desk.may_note.left >= DESK_NOTE_COST) {
		struct err e = ERR_INIT;

		k->desk.may_note.left -= DESK_NOTE_COST;
		log_warn("%s", line);
		desk_note(k, "canary", "keeper", "keeper", line);
		if (store_tell(k->desk.store, str_of(line), desk_now(), &e) < 0)
			log_error("%s", e.text);
	}
	if (k->plan->on_canary == PLAN_CANARY_STOP)
		keeper_stop_now(k, "the bottle was stopped: its canary was seen leaving");
	else if (k->plan->on_canary == PLAN_CANARY_PAUSE)
		desk_pause(k, true, "keeper", "canary", NULL);
}

/* Another process of the role than before: what the one before it waited for, nobody waits for. */
static void follow_life(struct desk_channel *c, const struct ask *a)
{
	if (a->life == c->life)
		return;
	c->life = a->life;
	for (size_t i = 0; i < KEEPER_WAITING_MAX; i++) {
		if (c->waiting[i].request && c->role == KEEPER_DESK_PIPELOCK)
			expire_held(c, &c->waiting[i]);
		c->waiting[i].request = 0;
	}
}

void desk_take(struct desk_channel *c, const struct ask *a)
{
	follow_life(c, a);
	switch ((enum ask_op)a->op) {
	case ASK_REQUEST:
	case ASK_HELD:
		take_request(c, a);
		break;
	case ASK_LOOK:
		take_look(c, a);
		break;
	case ASK_TELL:
		take_tell(c, a);
		break;
	case ASK_GONE:
		take_gone(c, a);
		break;
	case ASK_SPEND:
		take_spend(c, a);
		break;
	case ASK_SEEN:
		take_seen(c, a);
		break;
	case ASK_CANARY:
		take_canary(c, a);
		break;
	}
}
