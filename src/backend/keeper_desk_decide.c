/*
 * What the human does, as it comes over the control socket (docs/SUPERVISE-FACES.md, "Control
 * messages"). All that a face may have wrong is looked at again: the request is read from the
 * store, its danger judged now, the manifest edited anew, and a policy with the grant made, before
 * anything is written.
 */
#include "backend/keeper_int.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "requests/manifest_edit.h"
#include "requests/who.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <sys/socket.h>

#define DECIDE_SECONDS_MAX (366u * 24 * 3600)

void desk_reply(struct keeper_client *c, const char *verdict, bool is_in_force, const char *text)
{
	client_send_json(c, KEEPER_DECIDED,
			 json_pack("{s:s, s:b, s:s}", "verdict", verdict, "in_force",
				   (int)is_in_force, "text", text));
}

/* Nothing was done. */
static void reply_failed(struct keeper_client *c, const struct err *e)
{
	desk_reply(c, "failed", false, e->text);
}

/* Who it is, as the kernel says. */
static void who_is(const struct keeper_client *c, char out[STORE_WHO_MAX])
{
	struct ucred peer = {.uid = (uid_t)-1};
	socklen_t size = sizeof(peer);

	(void)getsockopt(c->watch.fd, SOL_SOCKET, SO_PEERCRED, &peer, &size);
	who_name(peer.uid, out);
}

/* A static string; NULL: none of the three. */
static const char *face_of(const json_t *j)
{
	static const char *const names[] = {"terminal", "web", "command"};
	const char *face = json_string_value(json_object_get(j, "face"));

	for (size_t i = 0; face && i < ARRAY_LEN(names); i++) {
		if (strcmp(names[i], face) == 0)
			return names[i];
	}
	return NULL;
}

static bool take_number(const json_t *j, const char *key, uint64_t max, uint64_t *out)
{
	const json_t *v = json_object_get(j, key);

	*out = (uint64_t)json_integer_value(v);
	return json_is_integer(v) && json_integer_value(v) >= 0 && *out <= max;
}

/* --- what is decided --- */

struct decision {
	struct store_decision d;
	uint64_t seconds;
	char who[STORE_WHO_MAX];
	struct request r;
	struct danger danger;
	struct manifest_edit edit; /* ALWAYS */
};

static void decision_free(struct decision *x)
{
	request_free(&x->r);
	manifest_edit_free(&x->edit);
}

static bool take_hash(const json_t *j, const char *key, uint8_t out[CHANGE_HASH_BYTES])
{
	const char *hex = json_string_value(json_object_get(j, key));

	return hex && text_unhex(out, CHANGE_HASH_BYTES, str_of(hex));
}

/* One of names, which begin with the enum's 1. */
static bool take_name(const json_t *j, const char *key, const char *const *names, size_t n,
		      unsigned *out)
{
	const char *name = json_string_value(json_object_get(j, key));

	for (size_t i = 0; name && i < n; i++) {
		if (strcmp(names[i], name) == 0) {
			*out = (unsigned)i + 1;
			return true;
		}
	}
	return false;
}

/* False for what no face of ours sends. */
static bool decision_read(struct decision *x, const json_t *j)
{
	static const char *const scopes[] = {"once", "bottle", "always"};
	static const char *const releases[] = {"pass", "redact"};
	const json_t *grant = json_object_get(j, "grant");
	const char *answer = json_string_value(json_object_get(j, "answer"));
	unsigned scope = 0, release = 0;
	bool is_good = json_is_boolean(grant) && answer && face_of(j) &&
		       take_number(j, "id", INT64_MAX, &x->d.id) &&
		       take_hash(j, "hash", x->d.hash) &&
		       take_name(j, "scope", scopes, ARRAY_LEN(scopes), &scope) &&
		       take_name(j, "release", releases, ARRAY_LEN(releases), &release) &&
		       take_number(j, "seconds", DECIDE_SECONDS_MAX, &x->seconds) &&
		       take_hash(j, "manifest", x->d.manifest);

	x->d.is_granted = json_is_true(grant);
	x->d.scope = (enum ask_scope)scope;
	x->d.release = (enum ask_release)release;
	x->d.face = face_of(j);
	x->d.answer = str_of(answer ? answer : "");
	x->d.until = x->seconds ? desk_now() + x->seconds : 0;
	return is_good;
}

/* The bundle would take a policy with it. Asked before it is decided, so that nothing is decided
 * that cannot be. */
static int check_fits(struct keeper *k, const struct decision *x, struct err *e)
{
	const struct grant g = {.id = x->d.id,
				.state = GRANT_ACTIVE,
				.scope = x->d.scope,
				.until = x->d.until,
				.change = x->r.change};
	struct policy policy = {0};
	int ret = desk_policy(k, &g, &policy, e);

	policy_free(&policy);
	return ret;
}

/* -ESTALE: the manifest would become something else than what was shown. */
static int check_manifest(struct keeper *k, struct decision *x, struct err *e)
{
	const char *path = k->plan->manifest_file;
	int ret;

	if (!path)
		return err_set(e, -EINVAL, "this bottle has no manifest of its own to write to");
	ret = manifest_edit_make(&x->edit, path, &x->r.change, e);
	if (ret == 0 && memcmp(x->edit.hash, x->d.manifest, sizeof(x->edit.hash)) != 0)
		return err_set(e, -ESTALE,
			       "the manifest has changed since its difference was "
			       "shown: look again");
	return ret;
}

static int check_grant(struct keeper *k, struct decision *x, struct err *e)
{
	int ret = 0;

	if (!x->d.is_granted || x->r.change.kind != ASK_EGRESS)
		return 0;
	ret = check_fits(k, x, e);
	return ret == 0 && x->d.scope == ASK_ALWAYS ? check_manifest(k, x, e) : ret;
}

/* --- the manifest --- */

static void write_manifest(struct keeper *k, const struct manifest_edit *edit, uint64_t id,
			   char *said, size_t size)
{
	struct err e = ERR_INIT;
	int ret = manifest_edit_write(edit, k->plan->manifest_file, &e);

	if (ret == 0)
		ret = store_written(k->desk.store, id, desk_now(), &e);
	if (ret == 0) {
		(void)snprintf(said, size, ", and written into %s", k->plan->manifest_file);
		return;
	}
	log_error("%s", e.text);
	(void)snprintf(said, size, "; the manifest was not written: %.300s", e.text);
}

static bool holds_after(const char *path, const uint8_t hash[CHANGE_HASH_BYTES])
{
	struct str text = STR_NULL;
	uint8_t now[CHANGE_HASH_BYTES];
	bool is_it;

	if (io_read_file(AT_FDCWD, path, MANIFEST_EDIT_MAX_BYTES, &text, NULL) < 0)
		return false;
	(void)SHA256((const unsigned char *)text.p, text.n, now);
	is_it = memcmp(now, hash, sizeof(now)) == 0;
	free((void *)(uintptr_t)text.p);
	return is_it;
}

/* Only to exactly the text that the human has seen; else it stays a grant of the bottle's. */
static void replay_one(struct keeper *k, const struct grant *g)
{
	const char *path = k->plan->manifest_file;
	struct manifest_edit edit = {0};
	struct err e = ERR_INIT;
	char said[400] = "";

	if (holds_after(path, g->manifest)) {
		if (store_written(k->desk.store, g->id, desk_now(), &e) < 0)
			log_error("%s", e.text);
		return;
	}
	if (manifest_edit_make(&edit, path, &g->change, &e) == 0 &&
	    memcmp(edit.hash, g->manifest, sizeof(edit.hash)) == 0)
		write_manifest(k, &edit, g->id, said, sizeof(said));
	else
		log_warn("request %llu was granted for always, but the manifest is not what it was "
			 "then: it holds for this bottle alone",
			 (unsigned long long)g->id);
	manifest_edit_free(&edit);
}

void desk_replay_manifest(struct keeper *k)
{
	const struct keeper_desk *d = &k->desk;

	for (size_t i = 0; k->plan->manifest_file && i < d->n_grants; i++) {
		if (d->grants[i].scope == ASK_ALWAYS && !d->grants[i].is_written)
			replay_one(k, &d->grants[i]);
	}
}

/* --- KEEPER_DECIDE --- */

static void say_decided(const struct decision *x, char *out, size_t size)
{
	static const char *const scopes[] = {
		[ASK_ONCE] = "once", [ASK_BOTTLE] = "for this bottle", [ASK_ALWAYS] = "always"};

	if (!x->d.is_granted)
		(void)snprintf(out, size, "request %llu is refused", (unsigned long long)x->d.id);
	else
		(void)snprintf(out, size, "request %llu is granted, %s",
			       (unsigned long long)x->d.id,
			       x->d.release == ASK_REDACT && x->r.change.kind == ASK_RELEASE
				       ? "redacted"
				       : scopes[x->d.scope]);
}

/* After it is in the store. */
static void decided(struct keeper *k, struct keeper_client *c, struct decision *x)
{
	struct desk_change *ch = mem_zalloc(sizeof(*ch));
	struct err e = ERR_INIT;
	size_t n;

	ch->request = x->d.id;
	ch->client = c->serial;
	desk_forget_pending(&k->desk, x->d.id);
	say_decided(x, ch->text, sizeof(ch->text));
	n = strlen(ch->text);
	if (x->d.is_granted && x->d.scope == ASK_ALWAYS)
		write_manifest(k, &x->edit, x->d.id, ch->text + n, sizeof(ch->text) - n);
	if (x->d.is_granted && desk_load_grants(k, &e) < 0) {
		log_error("%s", e.text);
		keeper_end_bundle(k, "could not be told what was granted");
	}
	desk_arm_expiry(k);
	if (x->d.is_granted && x->r.change.kind == ASK_EGRESS) {
		desk_force(k, ch);
		return;
	}
	/* Nothing of the policy changes: it is in force as soon as it is written down. */
	desk_tell_waiting(k, ch->request);
	desk_reply(c, "decided", true, ch->text);
	free(ch);
}

static const char *verdict_name(enum store_verdict v)
{
	static const char *const names[] = {[STORE_DECIDED] = "decided",
					    [STORE_NO_SUCH] = "no-such",
					    [STORE_ALREADY] = "already",
					    [STORE_STALE] = "stale",
					    [STORE_FORBIDDEN] = "forbidden"};

	return names[v];
}

static const char *verdict_text(enum store_verdict v)
{
	static const char *const texts[] = {
		[STORE_DECIDED] = "",
		[STORE_NO_SUCH] = "no request has this number",
		[STORE_ALREADY] = "it was decided before, or its time is over",
		[STORE_STALE] = "it is not what was shown: look again",
		[STORE_FORBIDDEN] = "a rule of danger forbids it: only the manifest can grant it"};

	return texts[v];
}

static void desk_decide(struct keeper *k, struct keeper_client *c, const json_t *j)
{
	_cleanup_(decision_free) struct decision x = {.d.who = x.who};
	enum store_verdict verdict = STORE_NO_SUCH;
	struct err e = ERR_INIT;
	int ret;

	who_is(c, x.who);
	if (!decision_read(&x, j)) {
		(void)err_set(&e, -EINVAL, "not a decision");
		reply_failed(c, &e);
		return;
	}
	ret = store_get(k->desk.store, x.d.id, &x.r, &e);
	if (ret == -ENOENT) {
		desk_reply(c, verdict_name(STORE_NO_SUCH), false, verdict_text(STORE_NO_SUCH));
		return;
	}
	if (ret == 0) {
		desk_judge(k, &x.r.change, &x.danger);
		/* Of one that is still to be decided, and by what was shown: else the store says
		 * what is wrong with it. */
		if (x.r.state == REQUEST_PENDING &&
		    memcmp(x.r.hash, x.d.hash, sizeof(x.r.hash)) == 0)
			ret = check_grant(k, &x, &e);
	}
	if (ret == 0)
		ret = store_decide(k->desk.store, &x.d, &x.danger, desk_now(), &verdict, &e);
	if (ret < 0)
		reply_failed(c, &e);
	else if (verdict == STORE_DECIDED)
		decided(k, c, &x);
	else
		desk_reply(c, verdict_name(verdict), false, verdict_text(verdict));
}

/* --- KEEPER_REVOKE --- */

static const struct grant *find_active(const struct keeper_desk *d, uint64_t id)
{
	for (size_t i = 0; i < d->n_grants; i++) {
		if (d->grants[i].id == id)
			return &d->grants[i];
	}
	return NULL;
}

static void desk_revoke(struct keeper *k, struct keeper_client *c, const json_t *j)
{
	const struct grant *g;
	struct desk_change *ch;
	char who[STORE_WHO_MAX];
	struct err e = ERR_INIT;
	uint64_t id;
	bool is_route, is_always;

	if (!take_number(j, "id", INT64_MAX, &id) || !(g = find_active(&k->desk, id))) {
		desk_reply(c, "no-such", false,
			   "no grant of this number is in force (see \"claude-bottle requests "
			   "grants\")");
		return;
	}
	is_route = g->change.kind == ASK_EGRESS;
	is_always = g->scope == ASK_ALWAYS;
	who_is(c, who);
	if (store_revoke(k->desk.store, id, who, face_of(j), desk_now(), &e) < 0) {
		reply_failed(c, &e);
		return;
	}
	if (desk_load_grants(k, &e) < 0) {
		log_error("%s", e.text);
		keeper_end_bundle(k, "could not be told what was revoked");
	}
	desk_arm_expiry(k);
	ch = mem_zalloc(sizeof(*ch));
	ch->client = c->serial;
	(void)snprintf(ch->text, sizeof(ch->text), "grant %llu is revoked%s",
		       (unsigned long long)id,
		       is_always ? "; its lines in the manifest are to be removed by hand" : "");
	if (is_route) {
		desk_force(k, ch);
		return;
	}
	desk_reply(c, "decided", true, ch->text);
	free(ch);
}

/* --- all three --- */

void keeper_desk_control(struct keeper *k, struct keeper_client *c, char type, const json_t *j)
{
	struct err e = ERR_INIT;

	if (!face_of(j)) {
		(void)err_set(&e, -EINVAL, "no face");
		reply_failed(c, &e);
	} else if (k->is_ending || !k->bundle.is_started) {
		(void)err_set(&e, -ESHUTDOWN, "the bottle is ending");
		reply_failed(c, &e);
	} else if (type == KEEPER_NETWORK) {
		const json_t *paused = json_object_get(j, "paused");
		char who[STORE_WHO_MAX];

		who_is(c, who);
		if (json_is_boolean(paused))
			desk_pause(k, json_is_true(paused), who, face_of(j), c);
		else
			desk_reply(c, "failed", false, "paused or not?");
	} else if (!k->desk.store) {
		desk_reply(c, "no-such", false, "this bottle is not supervised");
	} else if (type == KEEPER_DECIDE) {
		desk_decide(k, c, j);
	} else {
		desk_revoke(k, c, j);
	}
}
