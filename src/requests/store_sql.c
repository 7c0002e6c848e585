/* Statements, their values and their failures; transactions. */
#include "requests/store_int.h"

#include <errno.h>

int store_refuse_damage(const struct store *s, const char *what, const char *why, struct err *e)
{
	return err_set(
		e, -EBADMSG,
		"the requests of bottle \"%s\" cannot be read: the file is damaged (%s: "
		"%.200s); nothing is granted by it. To begin anew, move it away with its -wal "
		"and -shm: \"%s\"",
		s->slug, what, why, s->path);
}

int store_fail(const struct store *s, const char *doing, struct err *e)
{
	int code = s->db ? sqlite3_extended_errcode(s->db) : SQLITE_NOMEM;
	const char *why = s->db ? sqlite3_errmsg(s->db) : "no memory";

	switch (code & 0xff) {
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return store_refuse_damage(s, doing, why, e);
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return err_set(e, -EAGAIN, "%s: \"%s\" is in use: %s", doing, s->path, why);
	default:
		return err_set(e, -EIO, "%s: \"%s\": %s", doing, s->path, why);
	}
}

static int bind_value(sqlite3_stmt *q, int at, const struct store_value *v)
{
	const char *p = v->bytes.p ? v->bytes.p : "";

	switch (v->type) {
	case STORE_INT:
		return sqlite3_bind_int64(q, at, (sqlite3_int64)v->number);
	case STORE_TEXT:
		return sqlite3_bind_text(q, at, p, (int)v->bytes.n, SQLITE_STATIC);
	case STORE_BLOB:
	default:
		return sqlite3_bind_blob(q, at, p, (int)v->bytes.n, SQLITE_STATIC);
	}
}

int store_prepare(struct store *s, sqlite3_stmt **out, const char *sql,
		  const struct store_value *values, size_t n, struct err *e)
{
	*out = NULL;
	if (sqlite3_prepare_v2(s->db, sql, -1, out, NULL) != SQLITE_OK)
		return store_fail(s, "prepare", e);
	for (size_t i = 0; i < n; i++)
		if (bind_value(*out, (int)i + 1, &values[i]) != SQLITE_OK)
			return store_fail(s, "bind", e);
	return 0;
}

int store_step_row(struct store *s, sqlite3_stmt *q, struct err *e)
{
	switch (sqlite3_step(q)) {
	case SQLITE_ROW:
		return 1;
	case SQLITE_DONE:
		return 0;
	default:
		return store_fail(s, "read or write", e);
	}
}

int store_run(struct store *s, const char *sql, const struct store_value *values, size_t n,
	      struct err *e)
{
	_cleanup_stmt_ sqlite3_stmt *q = NULL;
	int ret = store_prepare(s, &q, sql, values, n, e);

	while (ret == 0 && (ret = store_step_row(s, q, e)) == 1)
		ret = 0;
	return ret;
}

int store_number(struct store *s, const char *sql, const struct store_value *values, size_t n,
		 uint64_t otherwise, uint64_t *out, struct err *e)
{
	_cleanup_stmt_ sqlite3_stmt *q = NULL;
	int ret = store_prepare(s, &q, sql, values, n, e);

	*out = otherwise;
	if (ret == 0)
		ret = store_step_row(s, q, e);
	if (ret == 1 && sqlite3_column_type(q, 0) != SQLITE_NULL)
		*out = store_column_u64(q, 0);
	return ret < 0 ? ret : 0;
}

uint64_t store_column_u64(sqlite3_stmt *q, int i)
{
	sqlite3_int64 v = sqlite3_column_int64(q, i);

	return v < 0 ? 0 : (uint64_t)v;
}

struct str store_column_str(sqlite3_stmt *q, int i)
{
	const unsigned char *p = sqlite3_column_text(q, i);

	return str_slice(p ? p : (const unsigned char *)"", (size_t)sqlite3_column_bytes(q, i));
}

void store_column_cstr(sqlite3_stmt *q, int i, char *out, size_t size)
{
	(void)!str_to_cstr(out, size, store_column_str(q, i));
}

void store_column_blob(sqlite3_stmt *q, int i, uint8_t *out, size_t n)
{
	const void *p = sqlite3_column_blob(q, i);

	memset(out, 0, n);
	if (p && (size_t)sqlite3_column_bytes(q, i) == n)
		memcpy(out, p, n);
}

/* What is written into a file that nobody finds by its name is lost with this process. */
static int check_place(struct store *s, struct err *e)
{
	int has_moved = 0;

	if (sqlite3_file_control(s->db, NULL, SQLITE_FCNTL_HAS_MOVED, &has_moved) != SQLITE_OK)
		return store_fail(s, "look for the file", e);
	return has_moved ? err_set(e, -EIO, "\"%s\" was moved, removed or replaced", s->path) : 0;
}

int store_begin(struct store_txn *t, struct store *s, struct err *e)
{
	int ret = check_place(s, e);

	if (ret == 0)
		ret = store_run(s, "BEGIN IMMEDIATE", NULL, 0, e);
	*t = (struct store_txn){.s = s, .is_open = ret == 0};
	s->n_pending = STORE_UNCOUNTED;
	return ret;
}

int store_commit(struct store_txn *t, struct err *e)
{
	int ret = store_run(t->s, "COMMIT", NULL, 0, e);

	if (ret == 0)
		t->is_open = false;
	return ret;
}

void store_rollback_p(struct store_txn *t)
{
	if (t->is_open)
		(void)sqlite3_exec(t->s->db, "ROLLBACK", NULL, NULL, NULL);
}
