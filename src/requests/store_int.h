/* Between the files of the store. */
#pragma once

#include "base/clean.h"
#include "requests/store.h"

#include <sqlite3.h>

#define STORE_APPLICATION_ID 0x63626f72 /* "cbor": claude-bottle requests */

/* One step of the schema: what takes a file of the version before it to this one. */
struct store_step {
	const char *sql;
};
extern const struct store_step store_steps[];
extern const size_t store_n_steps; /* also the version */

struct store {
	sqlite3 *db;
	char *slug, *path;
	uint64_t version, seen_theirs, seen_ours; /* of store_version() */
	/* How many are pending, from one store_ask() to the next; each other transaction forgets
	 * it.
	 */
	size_t n_pending;
	bool is_read_only;
};
#define STORE_UNCOUNTED SIZE_MAX

/* --- store_schema.c --- */

/* Brings a file, empty or of an older version, to the last of the steps: all of them or none. */
int store_migrate(struct store *s, const struct store_step *steps, size_t n,
		  struct err *e) _fallible_;

/* --- store_sql.c --- */

/* -errno with e for a result of SQLite's; -EBADMSG for a file that is damaged or none. */
int store_fail(const struct store *s, const char *doing, struct err *e) _fallible_;
/* The same of damage that was found otherwise. */
int store_refuse_damage(const struct store *s, const char *what, const char *why,
			struct err *e) _fallible_;

static inline void store_stmt_p(sqlite3_stmt **q)
{
	(void)sqlite3_finalize(*q);
}
#define _cleanup_stmt_ _cleanup_(store_stmt_p)

/* A value for a statement: each has its place by its order. */
struct store_value {
	enum { STORE_INT, STORE_TEXT, STORE_BLOB } type;
	uint64_t number;
	struct str bytes;
};
#define STORE_U64(v)	     ((struct store_value){.type = STORE_INT, .number = (v)})
#define STORE_STR(s)	     ((struct store_value){.type = STORE_TEXT, .bytes = (s)})
#define STORE_CSTR(s)	     STORE_STR(str_of(s))
#define STORE_BYTES(p, size) ((struct store_value){.type = STORE_BLOB, .bytes = str_slice(p, size)})
#define STORE_HASH(p)	     STORE_BYTES(p, CHANGE_HASH_BYTES)

/* The values live until the statement is done. */
int store_prepare(struct store *s, sqlite3_stmt **out, const char *sql,
		  const struct store_value *values, size_t n, struct err *e) _fallible_;
/* 1: a row; 0: the end. */
int store_step_row(struct store *s, sqlite3_stmt *q, struct err *e) _fallible_;
/* For what has no rows. */
int store_run(struct store *s, const char *sql, const struct store_value *values, size_t n,
	      struct err *e) _fallible_;
/* The first column of the first row; none: otherwise. */
int store_number(struct store *s, const char *sql, const struct store_value *values, size_t n,
		 uint64_t otherwise, uint64_t *out, struct err *e) _fallible_;
#define STORE_VALUES(...)                                                                          \
	((const struct store_value[]){__VA_ARGS__}),                                               \
		sizeof((const struct store_value[]){__VA_ARGS__}) / sizeof(struct store_value)

/* Of a row; text without a NUL, a blob of exactly n bytes, else zeroes. */
uint64_t store_column_u64(sqlite3_stmt *q, int i);
struct str store_column_str(sqlite3_stmt *q, int i);
void store_column_cstr(sqlite3_stmt *q, int i, char *out, size_t size);
void store_column_blob(sqlite3_stmt *q, int i, uint8_t *out, size_t n);

/* Rolls back unless it was committed. */
struct store_txn {
	struct store *s;
	bool is_open;
};
int store_begin(struct store_txn *t, struct store *s, struct err *e) _fallible_;
int store_commit(struct store_txn *t, struct err *e) _fallible_;
void store_rollback_p(struct store_txn *t);
#define _cleanup_txn_ _cleanup_(store_rollback_p)

/* --- store_audit.c --- */

/* seen: the canonical change and danger that were decided about; may be empty. */
struct store_note {
	uint64_t time, request;
	const char *what, *who, *face;
	struct str detail, seen;
	const uint8_t *hash; /* NULL: none */
};
int store_audit_add(struct store *s, const struct store_note *n, struct err *e) _fallible_;

/* --- store_read.c --- */

#define STORE_REQUEST_COLUMNS                                                                      \
	"id,state,change,danger,reason,created,expires,decided,asked,scope,release,until,"         \
	"answer,who,hash"
/* Of a row of these columns. */
int store_read_request(struct store *s, sqlite3_stmt *q, struct request *out,
		       struct err *e) _fallible_;
/* What was granted, if it still is what its hash (key_at) says. */
int store_read_granted(sqlite3_stmt *q, int change_at, int key_at, struct change *out,
		       struct err *e) _fallible_;
