/* What anybody may look at. A row that does not hold what was written is damage, not data. */
#include "requests/store_int.h"

#include "base/clean.h"
#include "base/mem.h"

#include <errno.h>
#include <stdio.h>

static int refuse_row(struct store *s, uint64_t id, const struct err *why, struct err *e)
{
	char what[64];

	(void)snprintf(what, sizeof(what), "request %llu", (unsigned long long)id);
	return store_refuse_damage(s, what, why->text, e);
}

int store_read_request(struct store *s, sqlite3_stmt *q, struct request *out, struct err *e)
{
	struct err why = ERR_INIT;

	/* Not all of it: what is not set here is big, and set below. */
	out->change = (struct change){0};
	out->id = store_column_u64(q, 0);
	out->state = (enum request_state)store_column_u64(q, 1);
	store_column_cstr(q, 4, out->reason, sizeof(out->reason));
	out->created = store_column_u64(q, 5);
	out->expires = store_column_u64(q, 6);
	out->decided = store_column_u64(q, 7);
	out->asked = store_column_u64(q, 8);
	out->scope = (enum ask_scope)store_column_u64(q, 9);
	out->release = (enum ask_release)store_column_u64(q, 10);
	out->until = store_column_u64(q, 11);
	store_column_cstr(q, 12, out->answer, sizeof(out->answer));
	store_column_cstr(q, 13, out->who, sizeof(out->who));
	store_column_blob(q, 14, out->hash, sizeof(out->hash));
	if (change_from_json(&out->change, store_column_str(q, 2), &why) < 0 ||
	    danger_from_json(&out->danger, store_column_str(q, 3), &why) < 0) {
		change_free(&out->change);
		return refuse_row(s, out->id, &why, e);
	}
	return 0;
}

void request_free(struct request *r)
{
	change_free(&r->change);
}

int store_get(struct store *s, uint64_t id, struct request *out, struct err *e)
{
	_cleanup_stmt_ sqlite3_stmt *q = NULL;
	int ret = store_prepare(s, &q, "SELECT " STORE_REQUEST_COLUMNS " FROM requests WHERE id=?",
				STORE_VALUES(STORE_U64(id)), e);

	*out = (struct request){0};
	if (ret == 0)
		ret = store_step_row(s, q, e);
	if (ret == 0)
		return err_set(
			e, -ENOENT,
			"there is no request %llu (see \"claude-bottle requests list --all\")",
			(unsigned long long)id);
	return ret < 0 ? ret : store_read_request(s, q, out, e);
}

int store_each(struct store *s, unsigned states, uint64_t before_id, size_t limit,
	       bool (*fn)(const struct request *r, void *ctx), void *ctx, struct err *e)
{
	_cleanup_free_ struct request *r = mem_zalloc(sizeof(*r));
	_cleanup_stmt_ sqlite3_stmt *q = NULL;
	int ret = store_prepare(s, &q,
				"SELECT " STORE_REQUEST_COLUMNS " FROM requests "
				"WHERE (?1>>state)&1 AND id<?2 ORDER BY id DESC LIMIT ?3",
				STORE_VALUES(STORE_U64(states),
					     STORE_U64(before_id ? before_id : INT64_MAX),
					     STORE_U64(limit ? limit : INT64_MAX)),
				e);

	while (ret == 0 && (ret = store_step_row(s, q, e)) == 1) {
		bool goes_on;

		ret = store_read_request(s, q, r, e);
		if (ret < 0)
			return ret;
		goes_on = fn(r, ctx);
		request_free(r);
		if (!goes_on)
			return 0;
	}
	return ret;
}

int store_each_key(struct store *s, unsigned states, size_t limit,
		   bool (*fn)(const struct store_key *k, void *ctx), void *ctx, struct err *e)
{
	_cleanup_stmt_ sqlite3_stmt *q = NULL;
	int ret = store_prepare(
		s, &q,
		"SELECT id,state,created,expires,decided FROM requests "
		"WHERE (?1>>state)&1 ORDER BY id DESC LIMIT ?2",
		STORE_VALUES(STORE_U64(states), STORE_U64(limit ? limit : INT64_MAX)), e);

	while (ret == 0 && (ret = store_step_row(s, q, e)) == 1) {
		struct store_key k = {.id = store_column_u64(q, 0),
				      .state = (enum request_state)store_column_u64(q, 1),
				      .created = store_column_u64(q, 2),
				      .expires = store_column_u64(q, 3),
				      .decided = store_column_u64(q, 4)};

		if (!fn(&k, ctx))
			return 0;
		ret = 0;
	}
	return ret;
}

int store_read_granted(sqlite3_stmt *q, int change_at, int key_at, struct change *out,
		       struct err *e)
{
	uint8_t key[CHANGE_HASH_BYTES], kept[CHANGE_HASH_BYTES];
	int ret = change_from_json(out, store_column_str(q, change_at), e);

	if (ret == 0)
		ret = change_key(out, key);
	store_column_blob(q, key_at, kept, sizeof(kept));
	if (ret < 0 || memcmp(key, kept, sizeof(key)) == 0)
		return ret;
	change_free(out);
	return err_set(e, -EBADMSG, "it is not what was granted");
}

int store_each_grant(struct store *s, bool (*fn)(const struct grant *g, void *ctx), void *ctx,
		     struct err *e)
{
	_cleanup_stmt_ sqlite3_stmt *q = NULL;
	struct err why = ERR_INIT;
	int ret =
		store_prepare(s, &q,
			      "SELECT id,state,scope,release,until,change,manifest,is_written,key "
			      "FROM grants ORDER BY id",
			      NULL, 0, e);

	while (ret == 0 && (ret = store_step_row(s, q, e)) == 1) {
		struct grant g = {
			.id = store_column_u64(q, 0),
			.state = (enum grant_state)store_column_u64(q, 1),
			.scope = (enum ask_scope)store_column_u64(q, 2),
			.release = (enum ask_release)store_column_u64(q, 3),
			.until = store_column_u64(q, 4),
			.is_written = store_column_u64(q, 7) != 0,
		};
		bool goes_on;

		store_column_blob(q, 6, g.manifest, sizeof(g.manifest));
		if (store_read_granted(q, 5, 8, &g.change, &why) < 0)
			return refuse_row(s, g.id, &why, e);
		goes_on = fn(&g, ctx);
		change_free(&g.change);
		if (!goes_on)
			return 0;
		ret = 0;
	}
	return ret;
}

int store_grant_state(struct store *s, uint64_t id, enum grant_state *out, struct err *e)
{
	uint64_t state = 0;
	int ret = store_number(s, "SELECT state FROM grants WHERE id=?",
			       STORE_VALUES(STORE_U64(id)), 0, &state, e);

	if (ret == 0 && (state < GRANT_ACTIVE || state > GRANT_EXPIRED))
		ret = err_set(e, -ENOENT, "request %llu made no grant", (unsigned long long)id);
	*out = (enum grant_state)state;
	return ret;
}

int store_count(struct store *s, unsigned states, size_t *n, struct err *e)
{
	uint64_t total = 0;

	*n = 0;
	for (unsigned state = REQUEST_PENDING; state <= REQUEST_NEVER; state++) {
		uint64_t one;
		int ret;

		if (!(states & 1u << state))
			continue;
		ret = store_number(s, "SELECT count(*) FROM requests WHERE state=?",
				   STORE_VALUES(STORE_U64(state)), 0, &one, e);
		if (ret < 0)
			return ret;
		total += one;
	}
	*n = (size_t)total;
	return 0;
}

int store_each_told(struct store *s, size_t limit,
		    bool (*fn)(uint64_t time, const char *text, void *ctx), void *ctx,
		    struct err *e)
{
	_cleanup_stmt_ sqlite3_stmt *q = NULL;
	int ret = store_prepare(s, &q, "SELECT time,text FROM told ORDER BY id DESC LIMIT ?",
				STORE_VALUES(STORE_U64(limit ? limit : INT64_MAX)), e);

	while (ret == 0 && (ret = store_step_row(s, q, e)) == 1) {
		if (!fn(store_column_u64(q, 0), store_column_str(q, 1).p, ctx))
			return 0;
		ret = 0;
	}
	return ret;
}

/* data_version moves for what others commit, total_changes for what this connection did. */
int store_version(struct store *s, uint64_t *out, struct err *e)
{
	uint64_t theirs, ours = (uint64_t)sqlite3_total_changes64(s->db);
	int ret = store_number(s, "PRAGMA data_version", NULL, 0, 0, &theirs, e);

	if (ret < 0)
		return ret;
	if (s->version == 0 || theirs != s->seen_theirs || ours != s->seen_ours)
		s->version++;
	s->seen_theirs = theirs;
	s->seen_ours = ours;
	*out = s->version;
	return 0;
}

uint64_t store_next_expiry(struct store *s)
{
	uint64_t request = 0, grant = 0;

	if (store_number(s, "SELECT min(expires) FROM requests WHERE state=1 AND expires>0", NULL,
			 0, 0, &request, NULL) < 0 ||
	    store_number(s, "SELECT min(until) FROM grants WHERE state=1 AND until>0", NULL, 0, 0,
			 &grant, NULL) < 0)
		return 0;
	return request && (!grant || request < grant) ? request : grant;
}
