/*
 * What is in force: the manifest's routes, the active grants, and the pause.
 *
 * Theory of operation. The store is the truth; a policy is made of it as a whole, and one is on its
 * way to the bundle at a time. What changes meanwhile waits for the next one, which then has all of
 * it. Each change says what it has to say when the policy with it is in force. When that cannot be
 * reached, the bundle is ended: a revocation must not wait for better times, and what the store
 * calls granted is in force when the bottle is resumed.
 */
#include "backend/keeper_int.h"

#include "base/clean.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/timeutil.h"
#include "requests/grants.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

/* The loop's clock stands still while the host sleeps, and the wall's can be set: how long a time
 * that is over may go unnoticed. */
#define DESK_LOOK_S 20

/* --- from the store --- */

static bool add_pending(const struct request *r, void *ctx)
{
	struct keeper_desk *d = ctx;
	struct desk_pending *p = &d->pending[d->n_pending];

	p->id = r->id;
	if (change_key(&r->change, p->key) == 0)
		d->n_pending++;
	return d->n_pending < KEEPER_PENDING_MAX;
}

int desk_load_pending(struct keeper *k, struct err *e)
{
	k->desk.n_pending = 0;
	return store_each(k->desk.store, 1u << REQUEST_PENDING, 0, KEEPER_PENDING_MAX, add_pending,
			  &k->desk, e);
}

void desk_forget_pending(struct keeper_desk *d, uint64_t id)
{
	for (size_t i = 0; i < d->n_pending; i++) {
		if (d->pending[i].id == id) {
			d->pending[i] = d->pending[--d->n_pending];
			return;
		}
	}
}

static int copy_change(struct change *out, const struct change *c, struct err *e)
{
	_cleanup_(buf_free) struct buf json = BUF_INIT(CHANGE_JSON_MAX_BYTES);

	if (change_to_json(c, &json) < 0)
		return err_set(e, -E2BIG, "a change is too large");
	return change_from_json(out, buf_str(&json), e);
}

static void forget_grants(struct keeper_desk *d)
{
	for (size_t i = 0; i < d->n_grants; i++)
		change_free(&d->grants[i].change);
	d->n_grants = 0;
}

struct loading {
	struct keeper_desk *d;
	struct err *e;
	int ret;
};

static bool add_grant(const struct grant *g, void *ctx)
{
	struct loading *l = ctx;
	struct keeper_desk *d = l->d;

	if (g->state != GRANT_ACTIVE)
		return true;
	d->grants = mem_grow_array(d->grants, &d->cap_grants, d->n_grants + 1, sizeof(*d->grants));
	d->grants[d->n_grants] = *g;
	l->ret = copy_change(&d->grants[d->n_grants].change, &g->change, l->e);
	if (l->ret == 0)
		d->n_grants++;
	return l->ret == 0;
}

int desk_load_grants(struct keeper *k, struct err *e)
{
	struct loading l = {.d = &k->desk, .e = e};
	int ret;

	forget_grants(&k->desk);
	ret = store_each_grant(k->desk.store, add_grant, &l, e);
	return ret < 0 ? ret : l.ret;
}

const struct grant *desk_find_grant(const struct keeper_desk *d, const struct change *c)
{
	uint8_t key[CHANGE_HASH_BYTES], other[CHANGE_HASH_BYTES];
	uint64_t now = desk_now();

	if (change_key(c, key) < 0)
		return NULL;
	for (size_t i = 0; i < d->n_grants; i++) {
		const struct grant *g = &d->grants[i];

		if ((g->until == 0 || g->until > now) && g->change.kind == c->kind &&
		    change_key(&g->change, other) == 0 && memcmp(key, other, sizeof(key)) == 0)
			return g;
	}
	return NULL;
}

void desk_arm_expiry(struct keeper *k)
{
	uint64_t next = k->desk.store ? store_next_expiry(k->desk.store) : 0, now = desk_now();
	uint64_t left_s = next > now ? next - now : 0;

	if (next == 0)
		loop_timer_del(k->loop, &k->desk.expiry_timer);
	else
		loop_timer_set(k->loop, &k->desk.expiry_timer,
			       left_s > DESK_LOOK_S ? DESK_LOOK_S * 1000 : left_s * 1000 + 1);
}

void desk_note(struct keeper *k, const char *what, const char *who, const char *face,
	       const char *detail)
{
	struct err e = ERR_INIT;

	if (k->desk.store &&
	    store_audit(k->desk.store, what, who, face, str_of(detail), desk_now(), &e) < 0)
		log_error("%s", e.text);
}

void desk_judge(struct keeper *k, const struct change *c, struct danger *out)
{
	const struct danger_context ctx = {.policy = &k->policy.policy,
					   .git = k->plan->git.n_remotes > 0 ? &k->plan->git : NULL,
					   .canary_seen = k->desk.has_seen_canary};

	danger_judge(out, c, &ctx);
}

/* --- into force --- */

int desk_policy(struct keeper *k, const struct grant *extra, struct policy *out, struct err *e)
{
	const struct keeper_desk *d = &k->desk;
	_cleanup_free_ struct grant *all = mem_zalloc_array(d->n_grants + 1, sizeof(*all));
	size_t n = d->n_grants;

	if (n > 0)
		memcpy(all, d->grants, n * sizeof(*all)); /* borrowed */
	if (extra)
		all[n++] = *extra;
	return grants_policy(out, &k->plan->policy, all, n, e);
}

static void force_next(struct keeper *k);

/* The human's door to the repository opens last and shuts first. */
static void change_done(struct keeper *k, struct desk_change *ch, bool ok)
{
	struct keeper_client *c = client_find(k, ch->client);

	if (ok && ch->is_resume && !k->desk.wants_paused)
		keeper_door_pause(&k->door, false);
	if (ok && ch->request)
		desk_tell_waiting(k, ch->request);
	if (c && ok)
		desk_reply(c, "decided", true, ch->text);
	else if (c)
		desk_reply(
			c, "decided", false,
			"written down, but the bundle could not put it into force and is ended; it "
			"will be when the bottle is resumed");
	free(ch);
}

static void changes_done(struct keeper *k, bool ok)
{
	struct desk_change **at = &k->desk.changes;

	while (*at) {
		struct desk_change *ch = *at;

		if (!ch->is_sent) {
			at = &ch->next;
			continue;
		}
		*at = ch->next;
		change_done(k, ch, ok);
	}
}

static void force_on_done(struct keeper *k, bool ok, void *ctx)
{
	(void)ctx;
	k->desk.is_applying = false;
	changes_done(k, ok);
	/* One that has gone already had its own reason. */
	if (!ok && k->bundle.is_started)
		keeper_end_bundle(k, "did not take what was decided");
	force_next(k);
}

static int force_send(struct keeper *k, struct err *e)
{
	struct policy policy;
	int ret;

	if (k->is_ending || !k->bundle.is_started)
		return err_set(e, -ESHUTDOWN, "the bottle ends");
	ret = desk_policy(k, NULL, &policy, e);
	if (ret < 0)
		return ret;
	ret = keeper_policy_apply(k, &policy, k->desk.wants_paused, force_on_done, NULL, e);
	policy_free(&policy);
	return ret;
}

static void force_next(struct keeper *k)
{
	struct keeper_desk *d = &k->desk;
	struct err e = ERR_INIT;

	if (d->is_applying || !d->changes)
		return;
	for (struct desk_change *ch = d->changes; ch; ch = ch->next)
		ch->is_sent = true;
	d->is_applying = true;
	if (force_send(k, &e) == 0)
		return;
	log_error("%s", e.text);
	force_on_done(k, false, NULL);
}

void desk_force(struct keeper *k, struct desk_change *what)
{
	struct desk_change **last = &k->desk.changes;

	while (*last)
		last = &(*last)->next;
	*last = what;
	force_next(k);
}

/* --- the pause --- */

/* Durable before anything else happens: a pause that a crash has undone would be none. */
static int pause_mark(struct keeper *k, bool is_paused, struct err *e)
{
	_cleanup_close_ int fd = -1;

	if (is_paused) {
		fd = openat(k->state_fd, KEEPER_PAUSED_FILE,
			    O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (fd < 0)
			return err_errno(e, "make \"" KEEPER_PAUSED_FILE "\"");
	} else if (unlinkat(k->state_fd, KEEPER_PAUSED_FILE, 0) < 0 && errno != ENOENT) {
		return err_errno(e, "remove \"" KEEPER_PAUSED_FILE "\"");
	}
	return fsync(k->state_fd) < 0 ? err_errno(e, "sync the state folder") : 0;
}

void desk_pause(struct keeper *k, bool is_paused, const char *who, const char *face,
		struct keeper_client *c)
{
	struct keeper_desk *d = &k->desk;
	const char *lasts = "";
	struct desk_change *ch;
	struct err e = ERR_INIT;

	if (d->wants_paused == is_paused && k->policy.is_paused == is_paused && !d->is_applying) {
		if (c)
			desk_reply(c, "decided", true,
				   is_paused ? "the network is paused already"
					     : "the network is not paused");
		return;
	}
	/* What cannot be written down is in force all the same, for as long as this run lives. */
	if (pause_mark(k, is_paused, &e) < 0) {
		log_error("%s", e.text);
		lasts = is_paused ? ", until the bottle ends: it could not be written down"
				  : ", until the bottle ends: that it was paused is still written "
				    "down";
	}
	if (is_paused)
		keeper_door_pause(&k->door, true);
	if (d->wants_paused != is_paused)
		desk_note(k, is_paused ? "paused" : "resumed", who, face, "");
	d->wants_paused = is_paused;
	ch = mem_zalloc(sizeof(*ch));
	ch->client = c ? c->serial : 0;
	ch->is_resume = !is_paused;
	(void)snprintf(ch->text, sizeof(ch->text), "the network of %s is %s%s", k->plan->slug,
		       is_paused ? "paused" : "open again", lasts);
	desk_force(k, ch);
}
