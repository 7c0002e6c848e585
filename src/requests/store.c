/*
 * The keeper's side. Each function is one transaction, BEGIN IMMEDIATE to COMMIT, so that nothing
 * lies between what was looked at and what is written. Triggers of the schema say once more what
 * must never happen: a decided request decided again, an ended grant taken up, an audit line
 * changed.
 */
#include "requests/store_int.h"

#include "base/clean.h"
#include "base/mem.h"
#include "base/text.h"

#include <errno.h>
#include <openssl/sha.h>

#define PRUNE_EVERY 64 /* new requests */

/* --- what a decision is bound to --- */

static int hash_of(const struct store *s, uint64_t id, struct str change, struct str danger,
		   uint8_t out[CHANGE_HASH_BYTES])
{
	_cleanup_(buf_free) struct buf all = BUF_INIT(CHANGE_JSON_MAX_BYTES * 4);
	int ret = buf_printf(&all, "claude-bottle request\n%s\n%llu\n", s->slug,
			     (unsigned long long)id);

	if (ret == 0)
		ret = buf_append_str(&all, change);
	if (ret == 0)
		ret = buf_append(&all, "\n", 1);
	if (ret == 0)
		ret = buf_append_str(&all, danger);
	if (ret == 0)
		(void)SHA256((const unsigned char *)buf_str(&all).p, buf_len(&all), out);
	return ret;
}

/* Both canonical, a line each. */
static int seen_of(struct str change, struct str danger, struct buf *out)
{
	int ret = buf_append_str(out, change);

	if (ret == 0)
		ret = buf_append(out, "\n", 1);
	return ret < 0 ? ret : buf_append_str(out, danger);
}

/* --- asking --- */

struct asking {
	struct buf change, danger;
	uint8_t key[CHANGE_HASH_BYTES];
};
#define ASKING_INIT                                                                                \
	((struct asking){.change = BUF_INIT(CHANGE_JSON_MAX_BYTES),                                \
			 .danger = BUF_INIT(CHANGE_JSON_MAX_BYTES)})

static void asking_free(struct asking *a)
{
	buf_free(&a->change);
	buf_free(&a->danger);
}

static int asking_make(struct asking *a, const struct change *c, const struct danger *d,
		       struct err *e)
{
	int ret = change_to_json(c, &a->change);

	if (ret == 0)
		ret = danger_to_json(d, &a->danger);
	if (ret == 0)
		ret = change_key(c, a->key);
	return ret < 0 ? err_set(e, ret, "the request cannot be written down") : 0;
}

/* Counts it to the newest of these that stands for it. 1: there was one. */
static int ask_again(struct store *s, const char *which, const struct store_value *values, size_t n,
		     struct store_asked *out, struct err *e)
{
	_cleanup_free_ char *sql =
		mem_printf("SELECT id,state,hash FROM requests WHERE key=?1 AND %s "
			   "ORDER BY id DESC LIMIT 1",
			   which);
	_cleanup_stmt_ sqlite3_stmt *q = NULL;
	int ret = store_prepare(s, &q, sql, values, n, e);

	if (ret == 0)
		ret = store_step_row(s, q, e);
	if (ret <= 0)
		return ret;
	*out = (struct store_asked){.id = store_column_u64(q, 0),
				    .state = (enum request_state)store_column_u64(q, 1)};
	store_column_blob(q, 2, out->hash, sizeof(out->hash));
	ret = store_run(s, "UPDATE requests SET asked=asked+1 WHERE id=?",
			STORE_VALUES(STORE_U64(out->id)), e);
	return ret < 0 ? ret : 1;
}

/* What was asked before and still stands: pending, granted and in force, refused a moment ago,
 * never. */
static int ask_known(struct store *s, const struct asking *a, bool is_never, uint64_t now,
		     struct store_asked *out, struct err *e)
{
	uint64_t since = now > STORE_REFUSAL_S ? now - STORE_REFUSAL_S : 0;
	int ret = is_never ? 0
			   : ask_again(s, "state=1 AND (expires=0 OR expires>?2)",
				       STORE_VALUES(STORE_HASH(a->key), STORE_U64(now)), out, e);

	if (ret == 0 && !is_never)
		ret = ask_again(s,
				"state=2 AND id IN (SELECT id FROM grants WHERE key=?1 AND "
				"state=1 AND (until=0 OR until>?2))",
				STORE_VALUES(STORE_HASH(a->key), STORE_U64(now)), out, e);
	if (ret == 0 && !is_never)
		ret = ask_again(s, "state=3 AND decided>?2",
				STORE_VALUES(STORE_HASH(a->key), STORE_U64(since)), out, e);
	if (ret == 0 && is_never)
		ret = ask_again(s, "state=5", STORE_VALUES(STORE_HASH(a->key)), out, e);
	return ret;
}

/* The oldest decided ones go when there are too many; not those whose grant is in force. */
static int prune(struct store *s, struct err *e)
{
	uint64_t n = 0;
	int ret =
		store_number(s, "SELECT count(*) FROM requests WHERE state<>1", NULL, 0, 0, &n, e);

	if (ret < 0 || n <= STORE_KEPT_MAX)
		return ret;
	ret = store_run(s,
			"DELETE FROM requests WHERE id IN (SELECT id FROM requests WHERE state<>1 "
			"AND id NOT IN (SELECT id FROM grants WHERE state=1) ORDER BY id LIMIT ?)",
			STORE_VALUES(STORE_U64(n - STORE_KEPT_MAX)), e);
	return ret < 0 ? ret
		       : store_run(s,
				   "DELETE FROM grants WHERE state<>1 AND id NOT IN (SELECT id "
				   "FROM requests)",
				   NULL, 0, e);
}

static int ask_new(struct store *s, const struct asking *a, bool is_never, struct str reason,
		   uint64_t now, uint64_t expires, struct store_asked *out, struct err *e)
{
	static const uint8_t none[CHANGE_HASH_BYTES];
	char shown[sizeof(((struct request *)0)->reason)];
	int ret;

	out->is_new = true;
	out->state = is_never ? REQUEST_NEVER : REQUEST_PENDING;
	text_visible_cstr(shown, sizeof(shown), reason);
	/* A number first, of which the hash is then made. */
	ret = store_run(s,
			"INSERT INTO requests(state,key,change,danger,reason,created,expires,"
			"decided,hash) VALUES(?,?,?,?,?,?,?,?,?)",
			STORE_VALUES(STORE_U64(out->state), STORE_HASH(a->key),
				     STORE_STR(buf_str(&a->change)), STORE_STR(buf_str(&a->danger)),
				     STORE_CSTR(shown), STORE_U64(now), STORE_U64(expires),
				     STORE_U64(is_never ? now : 0), STORE_HASH(none)),
			e);
	if (ret < 0)
		return ret;
	out->id = (uint64_t)sqlite3_last_insert_rowid(s->db);
	if (hash_of(s, out->id, buf_str(&a->change), buf_str(&a->danger), out->hash) < 0)
		return err_set(e, -EIO, "the request is too long");
	ret = store_run(s, "UPDATE requests SET hash=? WHERE id=?",
			STORE_VALUES(STORE_HASH(out->hash), STORE_U64(out->id)), e);
	return ret == 0 && out->id % PRUNE_EVERY == 0 ? prune(s, e) : ret;
}

static int audit_never(struct store *s, const struct asking *a, const struct danger *d,
		       const struct store_asked *asked, uint64_t now, struct err *e)
{
	_cleanup_(buf_free) struct buf seen = BUF_INIT(CHANGE_JSON_MAX_BYTES * 4);
	const struct danger_finding *f = danger_forbids(d);

	if (seen_of(buf_str(&a->change), buf_str(&a->danger), &seen) < 0)
		return err_set(e, -EIO, "the request is too long");
	return store_audit_add(s,
			       &(struct store_note){.time = now,
						    .request = asked->id,
						    .what = "never",
						    .who = "rule",
						    .face = "",
						    .detail = str_of(f ? f->text : ""),
						    .seen = buf_str(&seen),
						    .hash = asked->hash},
			       e);
}

int store_ask(struct store *s, const struct change *c, const struct danger *d, struct str reason,
	      uint64_t now, uint64_t expires, struct store_asked *out, struct err *e)
{
	_cleanup_(asking_free) struct asking a = ASKING_INIT;
	_cleanup_txn_ struct store_txn t = {0};
	bool is_never = danger_forbids(d) != NULL;
	size_t n_pending = s->n_pending;
	int ret;

	*out = (struct store_asked){0};
	ret = asking_make(&a, c, d, e);
	if (ret == 0)
		ret = store_begin(&t, s, e);
	if (ret < 0)
		return ret;
	ret = ask_known(s, &a, is_never, now, out, e);
	if (ret == 1)
		return store_commit(&t, e);
	if (ret == 0 && n_pending == STORE_UNCOUNTED)
		ret = store_count(s, 1u << REQUEST_PENDING, &n_pending, e);
	if (ret == 0 && n_pending >= STORE_PENDING_MAX && !is_never)
		ret = err_set(e, -ENOSPC, "%zu requests are pending already", n_pending);
	/* One whose time is over, and which nobody has ended yet, would be in the way. */
	if (ret == 0 && !is_never)
		ret = store_run(s,
				"UPDATE requests SET state=4,decided=?2 WHERE key=?1 AND state=1",
				STORE_VALUES(STORE_HASH(a.key), STORE_U64(now)), e);
	if (ret == 0)
		ret = ask_new(s, &a, is_never, reason, now, expires, out, e);
	if (ret == 0 && is_never)
		ret = audit_never(s, &a, d, out, now, e);
	if (ret == 0)
		ret = store_commit(&t, e);
	if (ret == 0 && !is_never)
		s->n_pending = n_pending + 1;
	return ret;
}

/* --- deciding --- */

/* What may be granted of which kind: docs/SUPERVISE.md's table. */
static int check_decision(const struct store_decision *d, const struct request *r, uint64_t now,
			  struct err *e)
{
	static const uint8_t none[CHANGE_HASH_BYTES];
	bool is_egress = r->change.kind == ASK_EGRESS;

	if (!d->is_granted)
		return 0;
	if (d->scope < ASK_ONCE || d->scope > ASK_ALWAYS || (!is_egress && d->scope != ASK_ONCE))
		return err_set(e, -EINVAL, "%s can be granted %s", change_kind_name(r->change.kind),
			       is_egress ? "once, for the bottle or always" : "once only");
	if (r->change.kind == ASK_RELEASE && d->release != ASK_PASS && d->release != ASK_REDACT)
		return err_set(e, -EINVAL, "a held request passes, or passes redacted");
	if (d->until != 0 && d->until <= now)
		return err_set(e, -EINVAL, "the time until which it would be granted is over");
	if (d->scope == ASK_ALWAYS && memcmp(d->manifest, none, sizeof(none)) == 0)
		return err_set(e, -EINVAL,
			       "always: the manifest as it would be was not named; look at the "
			       "difference first");
	return 0;
}

/* A row that was changed in place, and so is not what anybody has seen, decides nothing. */
struct deciding {
	struct request r;
	struct buf change, danger;
};

static void deciding_free(struct deciding *d)
{
	request_free(&d->r);
	buf_free(&d->change);
	buf_free(&d->danger);
}

static int deciding_read(struct store *s, uint64_t id, struct deciding *out, struct err *e)
{
	uint8_t hash[CHANGE_HASH_BYTES];
	int ret = store_get(s, id, &out->r, e);

	if (ret < 0)
		return ret;
	if (change_to_json(&out->r.change, &out->change) < 0 ||
	    danger_to_json(&out->r.danger, &out->danger) < 0 ||
	    hash_of(s, id, buf_str(&out->change), buf_str(&out->danger), hash) < 0)
		return err_set(e, -EIO, "request %llu is too long", (unsigned long long)id);
	if (memcmp(hash, out->r.hash, sizeof(hash)) != 0)
		return store_refuse_damage(s, "request", "it is not what its hash is of", e);
	return 0;
}

/* Judged again: what is found now stands beside the request from now on. */
static int renew_danger(struct store *s, struct deciding *d, const struct danger *now_danger,
			struct err *e)
{
	_cleanup_(buf_free) struct buf danger = BUF_INIT(CHANGE_JSON_MAX_BYTES);

	if (danger_to_json(now_danger, &danger) < 0)
		return err_set(e, -EIO, "what was found is too long");
	if (str_eq(buf_str(&danger), buf_str(&d->danger)))
		return 0;
	if (hash_of(s, d->r.id, buf_str(&d->change), buf_str(&danger), d->r.hash) < 0)
		return err_set(e, -EIO, "the request is too long");
	return store_run(s, "UPDATE requests SET danger=?,hash=? WHERE id=?",
			 STORE_VALUES(STORE_STR(buf_str(&danger)), STORE_HASH(d->r.hash),
				      STORE_U64(d->r.id)),
			 e);
}

static int write_grant(struct store *s, const struct deciding *d, const struct store_decision *in,
		       struct err *e)
{
	uint8_t key[CHANGE_HASH_BYTES];

	if (change_key(&d->r.change, key) < 0)
		return err_set(e, -EIO, "the request is too long");
	return store_run(s,
			 "INSERT INTO grants(id,state,scope,release,until,key,change,manifest) "
			 "VALUES(?,1,?,?,?,?,?,?)",
			 STORE_VALUES(STORE_U64(d->r.id), STORE_U64(in->scope),
				      STORE_U64(in->release), STORE_U64(in->until), STORE_HASH(key),
				      STORE_STR(buf_str(&d->change)), STORE_HASH(in->manifest)),
			 e);
}

static const char *decision_name(const struct store_decision *d)
{
	if (!d->is_granted)
		return "refused";
	switch (d->scope) {
	case ASK_BOTTLE:
		return "granted-bottle";
	case ASK_ALWAYS:
		return "granted-always";
	case ASK_ONCE:
	default:
		return d->release == ASK_REDACT ? "granted-redacted" : "granted-once";
	}
}

static int audit_decision(struct store *s, const struct deciding *d,
			  const struct store_decision *in, const char *answer, uint64_t now,
			  struct err *e)
{
	_cleanup_(buf_free) struct buf seen = BUF_INIT(CHANGE_JSON_MAX_BYTES * 4);
	_cleanup_(buf_free) struct buf detail = BUF_INIT(4096);
	char summary[512], hex[CHANGE_HASH_HEX];
	int ret;

	change_summary(&d->r.change, summary, sizeof(summary));
	text_hex(hex, in->manifest, sizeof(in->manifest));
	ret = buf_printf(&detail, "%s", summary);
	if (ret == 0 && in->is_granted && in->until)
		ret = buf_printf(&detail, "; until %llu", (unsigned long long)in->until);
	if (ret == 0 && in->is_granted && in->scope == ASK_ALWAYS)
		ret = buf_printf(&detail, "; manifest %s", hex);
	if (ret == 0 && answer[0])
		ret = buf_printf(&detail, "; said: %s", answer);
	if (ret == 0)
		ret = seen_of(buf_str(&d->change), buf_str(&d->danger), &seen);
	if (ret < 0)
		return err_set(e, -EIO, "the decision is too long");
	return store_audit_add(s,
			       &(struct store_note){.time = now,
						    .request = d->r.id,
						    .what = decision_name(in),
						    .who = in->who,
						    .face = in->face,
						    .detail = buf_str(&detail),
						    .seen = buf_str(&seen),
						    .hash = d->r.hash},
			       e);
}

static int write_decision(struct store *s, const struct deciding *d,
			  const struct store_decision *in, uint64_t now, struct err *e)
{
	bool has_grant = in->is_granted && d->r.change.kind != ASK_CAPABILITY;
	char answer[STORE_ANSWER_MAX], who[STORE_WHO_MAX];
	int ret;

	text_visible_once_cstr(answer, sizeof(answer), in->answer);
	text_visible_once_cstr(who, sizeof(who), str_of(in->who));
	ret = store_run(
		s,
		"UPDATE requests SET state=?,decided=?,scope=?,release=?,until=?,answer=?,who=? "
		"WHERE id=? AND state=1",
		STORE_VALUES(STORE_U64(in->is_granted ? REQUEST_GRANTED : REQUEST_REFUSED),
			     STORE_U64(now), STORE_U64(in->is_granted ? in->scope : 0),
			     STORE_U64(in->is_granted ? in->release : 0),
			     STORE_U64(in->is_granted ? in->until : 0), STORE_CSTR(answer),
			     STORE_CSTR(who), STORE_U64(d->r.id)),
		e);
	if (ret == 0 && sqlite3_changes(s->db) != 1)
		ret = err_set(e, -EIO, "request %llu could not be decided",
			      (unsigned long long)d->r.id);
	if (ret == 0 && has_grant)
		ret = write_grant(s, d, in, e);
	return ret < 0 ? ret : audit_decision(s, d, in, answer, now, e);
}

int store_decide(struct store *s, const struct store_decision *d, const struct danger *now_danger,
		 uint64_t now, enum store_verdict *out, struct err *e)
{
	_cleanup_(deciding_free) struct deciding at = {.change = BUF_INIT(CHANGE_JSON_MAX_BYTES),
						       .danger = BUF_INIT(CHANGE_JSON_MAX_BYTES)};
	_cleanup_txn_ struct store_txn t = {0};
	int ret;

	*out = STORE_NO_SUCH;
	ret = store_begin(&t, s, e);
	if (ret == 0)
		ret = deciding_read(s, d->id, &at, e);
	if (ret == -ENOENT)
		return 0;
	if (ret < 0)
		return ret;
	*out = STORE_ALREADY;
	if (at.r.state != REQUEST_PENDING || (at.r.expires != 0 && at.r.expires <= now))
		return 0;
	ret = renew_danger(s, &at, now_danger, e);
	if (ret < 0)
		return ret;
	*out = STORE_STALE;
	if (memcmp(d->hash, at.r.hash, sizeof(at.r.hash)) != 0)
		return store_commit(&t, e);
	*out = STORE_FORBIDDEN;
	if (d->is_granted && danger_forbids(now_danger))
		return 0;
	ret = check_decision(d, &at.r, now, e);
	if (ret == 0)
		ret = write_decision(s, &at, d, now, e);
	if (ret == 0)
		ret = store_commit(&t, e);
	if (ret == 0)
		*out = STORE_DECIDED;
	return ret;
}
