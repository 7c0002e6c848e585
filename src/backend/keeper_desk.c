/*
 * Theory of operation. Three roles ask over a channel each; whatever comes is checked as if the
 * role had been taken over: what it may not say, or what is malformed, ends its channel for as long
 * as the bottle lives. Nothing that comes this way approves anything, so the worst that is left is
 * to ask too often: new requests, repetitions and messages each have an allowance, and what is not
 * read waits in the kernel, and then its sender does.
 *
 * The store is written before anybody hears of it. Whoever waits for a decision is remembered here
 * alone: after a crash the bottle is gone, and the waiters with it.
 */
#include "backend/keeper_int.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/timeutil.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/socket.h>

#define DESK_BURST	  256
#define DESK_PER_SECOND	  400
#define DESK_PAUSE_MS	  50
#define DESK_TURN	  16   /* messages in one turn of the loop, which serves clients too */
#define DESK_AUDIT_LOOKED 1000 /* lines, for the canary of an earlier run */
#define DESK_LATE_MAX	  10   /* times that what is over may wait for the file */
#define DESK_LATE_MS	  500
#define DESK_TELLS	  60
#define DESK_NOTES	  300 /* of may_note: five at once; DESK_NOTE_COST there */
#define DESK_ASKS	  60  /* of may_ask: ten new requests; DESK_NEW_COST in keeper_desk_ask.c */

#define DESK_OF(m, member)                                                                         \
	((struct desk_channel *)(void *)((char *)(m)-offsetof(struct desk_channel, member)))

static const char *const role_names[] = {
	[KEEPER_DESK_SUPERVISE] = "supervise",
	[KEEPER_DESK_PIPELOCK] = "pipelock",
	[KEEPER_DESK_GITGATE] = "git-gate",
};

/* The wall's clock, but never slower than time itself: one that is set back makes nothing that was
 * granted for a time last longer. */
uint64_t desk_now(void)
{
	static uint64_t last_ns, last_boot_ns;
	uint64_t now_ns = time_realtime_ns(), boot_ns = time_boottime_ns();
	uint64_t due_ns = last_ns + (boot_ns - last_boot_ns);

	last_ns = now_ns > due_ns ? now_ns : due_ns;
	last_boot_ns = boot_ns;
	return last_ns / TIME_NS_PER_SEC;
}

/* --- what may come --- */

#define HAS_END(text) (memchr(text, '\0', sizeof(text)) != NULL)

static bool has_ends(const struct ask *a)
{
	for (size_t i = 0; i < ASK_PATHS_MAX; i++) {
		if (!HAS_END(a->paths[i]))
			return false;
	}
	return HAS_END(a->host) && HAS_END(a->remote) && HAS_END(a->ref) && HAS_END(a->old_oid) &&
	       HAS_END(a->new_oid) && HAS_END(a->reason) && HAS_END(a->rule) && HAS_END(a->where) &&
	       HAS_END(a->shown);
}

static bool may_say(enum keeper_desk_role role, const struct ask *a)
{
	switch ((enum ask_op)a->op) {
	case ASK_REQUEST:
		return role == KEEPER_DESK_SUPERVISE && a->kind != 0;
	case ASK_LOOK:
	case ASK_TELL:
		return role == KEEPER_DESK_SUPERVISE;
	case ASK_HELD:
		return role == KEEPER_DESK_PIPELOCK && a->kind == ASK_RELEASE && a->hold_ms > 0 &&
		       a->hold_ms <= KEEPER_HOLD_MS_MAX;
	case ASK_GONE:
		return role == KEEPER_DESK_PIPELOCK;
	case ASK_SEEN:
		return role == KEEPER_DESK_PIPELOCK
			       ? a->kind == ASK_EGRESS || a->kind == ASK_RELEASE
			       : role == KEEPER_DESK_GITGATE && a->kind == ASK_PUSH;
	case ASK_SPEND:
	case ASK_CANARY:
		return role == KEEPER_DESK_PIPELOCK || role == KEEPER_DESK_GITGATE;
	default:
		return false;
	}
}

static bool is_sound(enum keeper_desk_role role, const struct ask *a)
{
	return a->kind <= ASK_CAPABILITY && a->methods < 1u << POLICY_METHOD_COUNT &&
	       a->n_ports <= ASK_PORTS_MAX && a->n_paths <= ASK_PATHS_MAX && has_ends(a) &&
	       may_say(role, a);
}

/* --- a channel --- */

void desk_channel_end(struct desk_channel *c, const char *why)
{
	if (c->fd < 0)
		return;
	loop_del(c->k->loop, &c->watch);
	loop_timer_del(c->k->loop, &c->timer);
	close_fd(&c->fd);
	for (size_t i = 0; i < KEEPER_WAITING_MAX; i++)
		c->waiting[i].request = 0;
	if (!why)
		return;
	log_warn("%s %s: it is not listened to any more", role_names[c->role], why);
	desk_note(c->k, "desk-ended", "keeper", role_names[c->role], why);
}

void desk_send(struct desk_channel *c, struct ask_answer *a)
{
	ssize_t put;

	if (c->fd < 0)
		return;
	put = io_send_fds(c->fd, a, sizeof(*a), NULL, 0, MSG_DONTWAIT);
	if (put == -EAGAIN)
		desk_channel_end(c, "does not take its answers");
	else if (put < 0)
		desk_channel_end(c, NULL);
}

static void desk_on_message(struct loop_watch *w, uint32_t events)
{
	struct desk_channel *c = DESK_OF(w, watch);

	(void)events;
	for (int i = 0; i < DESK_TURN && c->fd >= 0; i++) {
		struct ask a;
		ssize_t got;

		if (!allowance_has(&c->may_read, time_monotonic_ns())) {
			loop_del(c->k->loop, w);
			loop_timer_set(c->k->loop, &c->timer, DESK_PAUSE_MS);
			return;
		}
		got = io_recv_fds(c->fd, &a, sizeof(a), NULL, NULL, MSG_DONTWAIT);
		if (got == -EAGAIN)
			return;
		c->may_read.left--;
		if (got == (ssize_t)sizeof(a) && is_sound(c->role, &a))
			desk_take(c, &a);
		else
			desk_channel_end(c, got == 0 ? NULL : "said what it may not");
	}
}

static void desk_on_timer(struct loop_timer *t)
{
	struct desk_channel *c = DESK_OF(t, timer);

	if (c->fd >= 0 && loop_add(c->k->loop, &c->watch, c->fd, EPOLLIN, NULL) < 0)
		desk_channel_end(c, "cannot be listened to");
}

static int channel_open(struct desk_channel *c, int *theirs, struct err *e)
{
	/* Room for an answer to all that wait, of this process of the role and of the one before
	 * it; the kernel doubles it for its own bookkeeping. */
	const int room = 2 * KEEPER_WAITING_MAX * (int)sizeof(struct ask_answer);
	uint64_t now_ns = time_monotonic_ns();
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_errno(e, "socketpair");
	c->fd = pair[0];
	*theirs = pair[1];
	c->may_read = (struct allowance){DESK_BURST, DESK_PER_SECOND, DESK_BURST, now_ns};
	c->may_ask = (struct allowance){DESK_ASKS, 1, DESK_ASKS, now_ns};
	if (setsockopt(c->fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room)) < 0)
		return err_errno(e, "SO_SNDBUF");
	return loop_add(c->k->loop, &c->watch, c->fd, EPOLLIN, e);
}

/* --- all of it --- */

static void desk_on_expiry(struct loop_timer *t);

void keeper_desk_init(struct keeper *k)
{
	struct keeper_desk *d = &k->desk;

	*d = (struct keeper_desk){.expiry_timer.fn = desk_on_expiry};
	for (size_t i = 0; i < KEEPER_DESK_COUNT; i++)
		d->channels[i] = (struct desk_channel){.k = k,
						       .role = (enum keeper_desk_role)i,
						       .fd = -1,
						       .watch = {.fd = -1, .fn = desk_on_message},
						       .timer.fn = desk_on_timer};
	keeper_notify_init(&d->notify, NULL, NULL, NULL);
}

static bool find_canary(const struct audit_line *l, void *ctx)
{
	bool *has_seen = ctx;

	*has_seen = strcmp(l->what, "canary") == 0;
	return !*has_seen;
}

/* What the store knows of earlier runs, and what of it is in force from the first moment. */
static int desk_resume(struct keeper *k, struct err *e)
{
	struct keeper_desk *d = &k->desk;
	struct policy policy;
	size_t ignored;
	int ret = store_open(&d->store, k->state_fd, k->plan->slug, e);

	/* Of a run that was killed: nobody waits for them any more. */
	if (ret == 0)
		ret = store_end(d->store, desk_now(), e);
	if (ret == 0)
		ret = store_expire(d->store, desk_now(), &ignored, &ignored, e);
	if (ret == 0)
		ret = store_each_audit(d->store, DESK_AUDIT_LOOKED, find_canary,
				       &d->has_seen_canary, e);
	if (ret == 0)
		ret = desk_load_grants(k, e);
	if (ret < 0)
		return ret;
	desk_replay_manifest(k);
	ret = desk_policy(k, NULL, &policy, e);
	if (ret < 0)
		return err_prefix(e, "what was granted before");
	policy_free(&k->policy.policy);
	k->policy.policy = policy;
	desk_arm_expiry(k);
	return 0;
}

int keeper_desk_open(struct keeper *k, int theirs[KEEPER_DESK_COUNT], struct err *e)
{
	struct keeper_desk *d = &k->desk;
	int ret = 0;

	for (size_t i = 0; i < KEEPER_DESK_COUNT; i++)
		theirs[i] = -1;
	d->wants_paused = k->policy.is_paused =
		faccessat(k->state_fd, KEEPER_PAUSED_FILE, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
	keeper_door_pause(&k->door, d->wants_paused);
	if (!k->plan->is_supervised)
		return 0;
	ret = desk_resume(k, e);
	for (size_t i = 0; ret == 0 && i < KEEPER_DESK_COUNT; i++) {
		if (i != KEEPER_DESK_GITGATE || k->plan->git.n_remotes > 0)
			ret = channel_open(&d->channels[i], &theirs[i], e);
	}
	d->may_tell = (struct allowance){DESK_TELLS, 1, DESK_TELLS, time_monotonic_ns()};
	d->may_note = (struct allowance){DESK_NOTES, 1, DESK_NOTES, time_monotonic_ns()};
	keeper_notify_init(&d->notify, k->loop, k->plan->slug, k->plan->notify);
	return ret;
}

static void desk_on_expiry(struct loop_timer *t)
{
	struct keeper *k =
		(struct keeper *)(void *)((char *)t - offsetof(struct keeper, desk.expiry_timer));
	struct keeper_desk *d = &k->desk;
	struct err e = ERR_INIT;
	size_t n_requests, n_grants;
	int ret = store_expire(d->store, desk_now(), &n_requests, &n_grants, &e);

	/* Somebody else is at the file, which is nobody's but ours: a moment, but not for long. */
	if (ret == -EAGAIN && d->n_late++ < DESK_LATE_MAX) {
		loop_timer_set(k->loop, t, DESK_LATE_MS);
		return;
	}
	d->n_late = 0;
	if (ret < 0 || (n_requests > 0 && desk_load_pending(k, &e) < 0) ||
	    (n_grants > 0 && desk_load_grants(k, &e) < 0)) {
		/* What should have ended must not go on for want of a disk. */
		log_error("%s", e.text);
		keeper_end_bundle(k, "could not be told what has expired");
		return;
	}
	for (size_t i = 0; n_requests > 0 && i < KEEPER_DESK_COUNT; i++) {
		struct desk_channel *c = &d->channels[i];

		for (size_t j = 0; j < KEEPER_WAITING_MAX; j++) {
			if (c->waiting[j].request)
				desk_tell_waiting(k, c->waiting[j].request);
		}
	}
	if (n_grants > 0)
		desk_force(k, mem_zalloc(sizeof(struct desk_change)));
	desk_arm_expiry(k);
}

void keeper_desk_close(struct keeper *k)
{
	struct keeper_desk *d = &k->desk;
	struct err e = ERR_INIT;

	for (size_t i = 0; i < KEEPER_DESK_COUNT; i++) {
		desk_channel_end(&d->channels[i], NULL);
		free(d->channels[i].seen);
		d->channels[i].seen = NULL;
	}
	keeper_notify_close(&d->notify);
	if (!d->store)
		return;
	loop_timer_del(k->loop, &d->expiry_timer);
	if (store_end(d->store, desk_now(), &e) < 0)
		log_error("%s", e.text);
	store_close(d->store);
	d->store = NULL;
	for (size_t i = 0; i < d->n_grants; i++)
		change_free(&d->grants[i].change);
	free(d->grants);
	d->grants = NULL;
	d->n_grants = d->cap_grants = 0;
}
