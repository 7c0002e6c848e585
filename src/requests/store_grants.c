/* What becomes of requests and grants after they were decided, or were not. */
#include "requests/store_int.h"

#include "base/clean.h"
#include "base/mem.h"
#include "base/text.h"

#include <errno.h>

/* Ids that a statement finds; what is done with them may change what it would find. */
struct id_list {
	uint64_t *ids;
	size_t n, cap;
};

static void id_list_free(struct id_list *l)
{
	free(l->ids);
}

static int collect_ids(struct store *s, struct id_list *out, const char *sql, uint64_t now,
		       struct err *e)
{
	_cleanup_stmt_ sqlite3_stmt *q = NULL;
	int ret = store_prepare(s, &q, sql, STORE_VALUES(STORE_U64(now)), e);

	while (ret == 0 && (ret = store_step_row(s, q, e)) == 1) {
		out->ids = mem_grow_array(out->ids, &out->cap, out->n + 1, sizeof(*out->ids));
		out->ids[out->n++] = store_column_u64(q, 0);
		ret = 0;
	}
	return ret;
}

/* One line of what happened to a grant or a request, with what it is about. */
static int note_about(struct store *s, const char *what, uint64_t id, const char *who,
		      const char *face, uint64_t now, struct err *e)
{
	_cleanup_stmt_ sqlite3_stmt *q = NULL;
	_cleanup_(change_free) struct change c = {0};
	char summary[512] = "";
	uint8_t hash[CHANGE_HASH_BYTES] = {0};
	int ret = store_prepare(s, &q, "SELECT change,hash FROM requests WHERE id=?",
				STORE_VALUES(STORE_U64(id)), e);

	if (ret == 0)
		ret = store_step_row(s, q, e);
	if (ret == 1) {
		store_column_blob(q, 1, hash, sizeof(hash));
		if (change_from_json(&c, store_column_str(q, 0), NULL) == 0)
			change_summary(&c, summary, sizeof(summary));
	}
	return ret < 0 ? ret
		       : store_audit_add(s,
					 &(struct store_note){.time = now,
							      .request = id,
							      .what = what,
							      .who = who,
							      .face = face,
							      .detail = str_of(summary),
							      .hash = hash},
					 e);
}

static int end_grant(struct store *s, uint64_t id, enum grant_state state, struct err *e)
{
	return store_run(s, "UPDATE grants SET state=? WHERE id=? AND state=1",
			 STORE_VALUES(STORE_U64(state), STORE_U64(id)), e);
}

/* -ENOENT unless it is in force. kind 0: the change was not asked for. */
static int grant_in_force(struct store *s, uint64_t id, uint64_t now, enum ask_scope *scope,
			  struct change *c, struct err *e)
{
	_cleanup_stmt_ sqlite3_stmt *q = NULL;
	int ret = store_prepare(s, &q,
				"SELECT scope,change,key FROM grants WHERE id=?1 AND state=1 AND "
				"(until=0 OR until>?2)",
				STORE_VALUES(STORE_U64(id), STORE_U64(now)), e);

	if (ret == 0)
		ret = store_step_row(s, q, e);
	if (ret == 0)
		return err_set(e, -ENOENT, "no grant %llu is in force", (unsigned long long)id);
	if (ret < 0)
		return ret;
	*scope = (enum ask_scope)store_column_u64(q, 0);
	return store_read_granted(q, 1, 2, c, e);
}

int store_spend(struct store *s, uint64_t id, const uint8_t hash[CHANGE_HASH_BYTES], uint64_t now,
		struct err *e)
{
	_cleanup_txn_ struct store_txn t = {0};
	_cleanup_(change_free) struct change c = {0};
	enum ask_scope scope = 0;
	int ret = store_begin(&t, s, e);

	if (ret == 0)
		ret = grant_in_force(s, id, now, &scope, &c, e);
	if (ret == 0 && scope != ASK_ONCE)
		ret = err_set(e, -ENOENT, "grant %llu is not for once", (unsigned long long)id);
	/* A route of its own says what may pass by it; everything else is one content. */
	if (ret == 0 && c.kind != ASK_EGRESS && memcmp(c.hash, hash, sizeof(c.hash)) != 0)
		ret = err_set(e, -ENOENT, "grant %llu is for another content",
			      (unsigned long long)id);
	if (ret == 0)
		ret = end_grant(s, id, GRANT_SPENT, e);
	if (ret == 0)
		ret = note_about(s, "spent", id, "bottle", "", now, e);
	return ret < 0 ? ret : store_commit(&t, e);
}

/* Whatever has become of the row: to take power away nothing of it need be read. */
int store_revoke(struct store *s, uint64_t id, const char *who, const char *face, uint64_t now,
		 struct err *e)
{
	_cleanup_txn_ struct store_txn t = {0};
	int ret = store_begin(&t, s, e);

	if (ret == 0)
		ret = end_grant(s, id, GRANT_REVOKED, e);
	if (ret == 0 && sqlite3_changes(s->db) != 1)
		ret = err_set(e, -ENOENT, "no grant %llu is in force", (unsigned long long)id);
	if (ret == 0)
		ret = note_about(s, "revoked", id, who, face, now, e);
	return ret < 0 ? ret : store_commit(&t, e);
}

static int expire_requests(struct store *s, const char *which, const char *what, uint64_t now,
			   size_t *n, struct err *e)
{
	_cleanup_(id_list_free) struct id_list l = {0};
	int ret = collect_ids(s, &l, which, now, e);

	for (size_t i = 0; ret == 0 && i < l.n; i++) {
		ret = store_run(s, "UPDATE requests SET state=4,decided=? WHERE id=? AND state=1",
				STORE_VALUES(STORE_U64(now), STORE_U64(l.ids[i])), e);
		if (ret == 0)
			ret = note_about(s, what, l.ids[i], "time", "", now, e);
	}
	*n = l.n;
	return ret;
}

int store_expire(struct store *s, uint64_t now, size_t *n_requests, size_t *n_grants, struct err *e)
{
	_cleanup_txn_ struct store_txn t = {0};
	_cleanup_(id_list_free) struct id_list l = {0};
	int ret = store_begin(&t, s, e);

	*n_requests = *n_grants = 0;
	if (ret == 0)
		ret = expire_requests(s,
				      "SELECT id FROM requests WHERE state=1 AND expires>0 AND "
				      "expires<=? ORDER BY id",
				      "expired", now, n_requests, e);
	if (ret == 0)
		ret = collect_ids(s, &l,
				  "SELECT id FROM grants WHERE state=1 AND until>0 AND until<=? "
				  "ORDER BY id",
				  now, e);
	for (size_t i = 0; ret == 0 && i < l.n; i++) {
		ret = end_grant(s, l.ids[i], GRANT_EXPIRED, e);
		if (ret == 0)
			ret = note_about(s, "grant-expired", l.ids[i], "time", "", now, e);
	}
	*n_grants = l.n;
	return ret < 0 ? ret : store_commit(&t, e);
}

int store_expire_one(struct store *s, uint64_t id, uint64_t now, struct err *e)
{
	_cleanup_txn_ struct store_txn t = {0};
	int ret = store_begin(&t, s, e);

	if (ret == 0)
		ret = store_run(s, "UPDATE requests SET state=4,decided=? WHERE id=? AND state=1",
				STORE_VALUES(STORE_U64(now), STORE_U64(id)), e);
	if (ret == 0 && sqlite3_changes(s->db) != 1)
		ret = err_set(e, -ENOENT, "no request %llu is pending", (unsigned long long)id);
	if (ret == 0)
		ret = note_about(s, "gone", id, "bottle", "", now, e);
	return ret < 0 ? ret : store_commit(&t, e);
}

int store_end(struct store *s, uint64_t now, struct err *e)
{
	_cleanup_txn_ struct store_txn t = {0};
	size_t n;
	int ret = store_begin(&t, s, e);

	if (ret == 0)
		ret = expire_requests(s,
				      "SELECT id FROM requests WHERE state=1 AND ?>=0 ORDER BY id",
				      "bottle-ended", now, &n, e);
	return ret < 0 ? ret : store_commit(&t, e);
}

int store_written(struct store *s, uint64_t id, uint64_t now, struct err *e)
{
	_cleanup_txn_ struct store_txn t = {0};
	int ret = store_begin(&t, s, e);

	if (ret == 0)
		ret = store_run(s,
				"UPDATE grants SET is_written=1 WHERE id=? AND scope=3 AND "
				"is_written=0",
				STORE_VALUES(STORE_U64(id)), e);
	if (ret == 0 && sqlite3_changes(s->db) != 1)
		ret = err_set(e, -ENOENT, "no grant %llu waits for the manifest",
			      (unsigned long long)id);
	if (ret == 0)
		ret = note_about(s, "manifest-written", id, "keeper", "", now, e);
	return ret < 0 ? ret : store_commit(&t, e);
}

int store_tell(struct store *s, struct str text, uint64_t now, struct err *e)
{
	_cleanup_txn_ struct store_txn t = {0};
	char shown[ASK_REASON_SIZE * 4];
	int ret = store_begin(&t, s, e);

	text_visible_cstr(shown, sizeof(shown), text);
	if (ret == 0)
		ret = store_run(s, "INSERT INTO told(time,text) VALUES(?,?)",
				STORE_VALUES(STORE_U64(now), STORE_CSTR(shown)), e);
	if (ret == 0)
		ret = store_run(s, "DELETE FROM told WHERE id<=(SELECT max(id) FROM told)-?",
				STORE_VALUES(STORE_U64(STORE_TELLS_MAX)), e);
	return ret < 0 ? ret : store_commit(&t, e);
}

int store_audit(struct store *s, const char *what, const char *who, const char *face,
		struct str detail, uint64_t now, struct err *e)
{
	_cleanup_txn_ struct store_txn t = {0};
	char shown[1024];
	int ret = store_begin(&t, s, e);

	text_visible_once_cstr(shown, sizeof(shown), detail);
	if (ret == 0)
		ret = store_audit_add(s,
				      &(struct store_note){.time = now,
							   .what = what,
							   .who = who,
							   .face = face,
							   .detail = str_of(shown)},
				      e);
	return ret < 0 ? ret : store_commit(&t, e);
}
