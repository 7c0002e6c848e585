/*
 * The file: how it is found, opened, made, and brought to this version.
 *
 * It is the user's own, in a folder of the user's own that no agent sees. Still nothing in it is
 * taken on trust: no link is followed to it, SQLite does not run what a schema may hold, and each
 * change that is read is checked as one from outside would be.
 *
 * A reader needs the index of the write-ahead log (-shm), which SQLite makes when there is none.
 * Where it cannot, because the folder is read-only, a private copy is read instead: nobody writes
 * there either.
 */
#include "requests/store_int.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#define BUSY_MS	       5000 /* while it is opened: a reader may be putting its log in order */
#define BUSY_WRITER_MS 200  /* from then on: the keeper has terminals to serve */
#define COPY_MAX_BYTES (256u << 20)

/* Numbers of states, scopes and kinds are those of the headers. */
const struct store_step store_steps[] = {
	{"CREATE TABLE bottle("
	 " one INTEGER PRIMARY KEY CHECK(one=1), slug TEXT NOT NULL) STRICT;"
	 "CREATE TABLE requests("
	 " id INTEGER PRIMARY KEY AUTOINCREMENT,"
	 " state INTEGER NOT NULL CHECK(state BETWEEN 1 AND 5),"
	 " key BLOB NOT NULL CHECK(length(key)=32),"
	 " change TEXT NOT NULL, danger TEXT NOT NULL, reason TEXT NOT NULL,"
	 " created INTEGER NOT NULL, expires INTEGER NOT NULL,"
	 " decided INTEGER NOT NULL DEFAULT 0, asked INTEGER NOT NULL DEFAULT 1,"
	 " scope INTEGER NOT NULL DEFAULT 0, release INTEGER NOT NULL DEFAULT 0,"
	 " until INTEGER NOT NULL DEFAULT 0,"
	 " answer TEXT NOT NULL DEFAULT '', who TEXT NOT NULL DEFAULT '',"
	 " hash BLOB NOT NULL CHECK(length(hash)=32)) STRICT;"
	 "CREATE UNIQUE INDEX requests_pending ON requests(key) WHERE state=1;"
	 "CREATE INDEX requests_key ON requests(key,id);"
	 "CREATE INDEX requests_state ON requests(state,id);"
	 "CREATE INDEX requests_expiry ON requests(expires) WHERE state=1;"
	 "CREATE TRIGGER requests_final BEFORE UPDATE OF state ON requests WHEN OLD.state<>1"
	 " BEGIN SELECT RAISE(ABORT,'a decision stands'); END;"
	 "CREATE TABLE grants("
	 " id INTEGER PRIMARY KEY, state INTEGER NOT NULL CHECK(state BETWEEN 1 AND 4),"
	 " scope INTEGER NOT NULL CHECK(scope BETWEEN 1 AND 3), release INTEGER NOT NULL,"
	 " until INTEGER NOT NULL, key BLOB NOT NULL CHECK(length(key)=32),"
	 " change TEXT NOT NULL, manifest BLOB NOT NULL CHECK(length(manifest)=32),"
	 " is_written INTEGER NOT NULL DEFAULT 0) STRICT;"
	 "CREATE INDEX grants_active ON grants(key) WHERE state=1;"
	 "CREATE TRIGGER grants_final BEFORE UPDATE OF state ON grants WHEN OLD.state<>1"
	 " BEGIN SELECT RAISE(ABORT,'a grant that has ended stays so'); END;"
	 "CREATE TABLE told("
	 " id INTEGER PRIMARY KEY AUTOINCREMENT, time INTEGER NOT NULL, text TEXT NOT NULL) STRICT;"
	 "CREATE TABLE audit("
	 " id INTEGER PRIMARY KEY AUTOINCREMENT, time INTEGER NOT NULL, request INTEGER NOT NULL,"
	 " what TEXT NOT NULL, who TEXT NOT NULL, face TEXT NOT NULL, detail TEXT NOT NULL,"
	 " seen TEXT NOT NULL, hash BLOB NOT NULL CHECK(length(hash)=32),"
	 " chain BLOB NOT NULL CHECK(length(chain)=32)) STRICT;"
	 "CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit"
	 " BEGIN SELECT RAISE(ABORT,'the audit is only added to'); END;"
	 "CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit"
	 " BEGIN SELECT RAISE(ABORT,'the audit is only added to'); END;"},
};
const size_t store_n_steps = ARRAY_LEN(store_steps);

/* --- versions --- */

static int execute(struct store *s, const char *sql, struct err *e)
{
	return sqlite3_exec(s->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0
								       : store_fail(s, "make", e);
}

/* 0: new; -EBADMSG: something else, or of a newer program. */
static int check_version(struct store *s, size_t n_steps, uint64_t *version, struct err *e)
{
	uint64_t id = 0, n_tables = 0;
	int ret = store_number(s, "PRAGMA user_version", NULL, 0, 0, version, e);

	if (ret == 0)
		ret = store_number(s, "PRAGMA application_id", NULL, 0, 0, &id, e);
	if (ret == 0)
		ret = store_number(s, "SELECT count(*) FROM sqlite_schema", NULL, 0, 0, &n_tables,
				   e);
	if (ret < 0)
		return ret;
	if (id == 0 && *version == 0 && n_tables == 0)
		return 0;
	if (id != STORE_APPLICATION_ID || *version == 0)
		return err_set(e, -EBADMSG, "\"%s\" holds no requests of claude-bottle", s->path);
	if (*version > n_steps)
		return err_set(
			e, -EBADMSG,
			"\"%s\" is of a newer version of claude-bottle (%llu; this one knows "
			"%zu)",
			s->path, (unsigned long long)*version, n_steps);
	return 0;
}

static int check_slug(struct store *s, struct err *e)
{
	_cleanup_stmt_ sqlite3_stmt *q = NULL;
	int ret = store_prepare(s, &q, "SELECT slug FROM bottle", NULL, 0, e);

	if (ret == 0)
		ret = store_step_row(s, q, e);
	if (ret < 0)
		return ret;
	if (ret == 0 || !str_eq(store_column_str(q, 0), str_of(s->slug)))
		return err_set(e, -EBADMSG, "\"%s\" is of another bottle than \"%s\"", s->path,
			       s->slug);
	return 0;
}

int store_migrate(struct store *s, const struct store_step *steps, size_t n, struct err *e)
{
	_cleanup_txn_ struct store_txn t = {0};
	_cleanup_free_ char *mark = NULL;
	uint64_t version = 0, from;
	int ret = store_begin(&t, s, e);

	if (ret == 0)
		ret = check_version(s, n, &version, e);
	from = version;
	for (; ret == 0 && version < n; version++)
		ret = execute(s, steps[version].sql, e);
	if (ret == 0 && from == 0)
		ret = store_run(s, "INSERT INTO bottle(one,slug) VALUES(1,?)",
				STORE_VALUES(STORE_CSTR(s->slug)), e);
	if (ret < 0)
		return ret;
	mark = mem_printf("PRAGMA application_id=%d;PRAGMA user_version=%zu", STORE_APPLICATION_ID,
			  n);
	if (from < n)
		ret = execute(s, mark, e);
	return ret < 0 ? ret : store_commit(&t, e);
}

/* --- opening --- */

/* The file is the user's own, and no link. -ENOENT without an error. */
static int check_file(int state_fd, const char *path, struct err *e)
{
	struct stat st;

	if (fstatat(state_fd, STORE_FILE, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? -ENOENT : err_errno(e, "\"%s\"", path);
	if (!S_ISREG(st.st_mode))
		return err_set(e, -EBADMSG, "\"%s\" is not a regular file", path);
	if (st.st_uid != geteuid())
		return err_set(e, -EPERM, "\"%s\" belongs to another user (uid %u)", path,
			       (unsigned)st.st_uid);
	if (st.st_mode & (S_IWGRP | S_IWOTH))
		return err_set(e, -EPERM, "\"%s\" may be written by others (mode %04o)", path,
			       (unsigned)(st.st_mode & 07777));
	return 0;
}

/* Only what does not exist yet: to close a descriptor of a file that this process has open in
 * SQLite would give up its locks. */
static int make_file(int state_fd, const char *path, struct err *e)
{
	_cleanup_close_ int fd = openat(state_fd, STORE_FILE,
					O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

	return fd < 0 && errno != EEXIST ? err_errno(e, "make \"%s\"", path) : 0;
}

static char *path_of(int state_fd, struct err *e)
{
	char link[64], target[4096];
	ssize_t n;

	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", state_fd);
	n = readlink(link, target, sizeof(target));
	if (n <= 0 || n == sizeof(target) || target[0] != '/') {
		(void)err_set(e, -ENOENT, "the state folder cannot be found");
		return NULL;
	}
	return mem_printf("%.*s/" STORE_FILE, (int)n, target);
}

static int configure(struct store *s, struct err *e)
{
	static const struct {
		int what, value;
	} settings[] = {
		{SQLITE_DBCONFIG_DEFENSIVE, 1},	     {SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0},
		{SQLITE_DBCONFIG_ENABLE_VIEW, 0},    {SQLITE_DBCONFIG_DQS_DML, 0},
		{SQLITE_DBCONFIG_DQS_DDL, 0},	     {SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0},
		{SQLITE_DBCONFIG_ENABLE_TRIGGER, 1},
	};
	int ret = 0;

	(void)sqlite3_extended_result_codes(s->db, 1);
	(void)sqlite3_busy_timeout(s->db, BUSY_MS);
	for (size_t i = 0; i < ARRAY_LEN(settings); i++)
		if (sqlite3_db_config(s->db, settings[i].what, settings[i].value, NULL) !=
		    SQLITE_OK)
			return store_fail(s, "configure", e);
	ret = execute(s, "PRAGMA cell_size_check=ON;PRAGMA mmap_size=0;PRAGMA temp_store=MEMORY",
		      e);
	if (ret == 0 && s->is_read_only)
		return execute(s, "PRAGMA query_only=ON", e);
	/* The journal's mode before anything is in the file. */
	return ret < 0 ? ret
		       : execute(s,
				 "PRAGMA journal_mode=WAL;PRAGMA synchronous=FULL;"
				 "PRAGMA journal_size_limit=4194304;PRAGMA foreign_keys=ON",
				 e);
}

static int open_at(struct store *s, const char *path, int flags, struct err *e)
{
	int code;

	if (s->db)
		(void)sqlite3_close(s->db);
	s->db = NULL;
	code = sqlite3_open_v2(path, &s->db,
			       flags | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE |
				       SQLITE_OPEN_NOFOLLOW | SQLITE_OPEN_EXRESCODE,
			       NULL);
	return code == SQLITE_OK ? configure(s, e) : store_fail(s, "open", e);
}

static void store_free_p(struct store **s)
{
	store_close(*s);
}

void store_close(struct store *s)
{
	if (!s)
		return;
	(void)sqlite3_close(s->db);
	free(s->slug);
	free(s->path);
	free(s);
}

/* Damage is found now, not in the middle of a decision. */
static int check_whole(struct store *s, struct err *e)
{
	_cleanup_stmt_ sqlite3_stmt *q = NULL;
	int ret = store_prepare(s, &q, "PRAGMA quick_check(1)", NULL, 0, e);

	if (ret == 0)
		ret = store_step_row(s, q, e);
	if (ret < 0 || (ret == 1 && str_eq(store_column_str(q, 0), STR_LIT("ok"))))
		return ret < 0 ? ret : 0;
	return store_refuse_damage(s, "check", (const char *)sqlite3_column_text(q, 0), e);
}

static int store_new(struct store **out, int state_fd, const char *slug, bool is_read_only,
		     struct err *e)
{
	char *path = path_of(state_fd, e);

	*out = NULL;
	if (!path)
		return -ENOENT;
	*out = mem_zalloc(sizeof(**out));
	(*out)->path = path;
	(*out)->slug = mem_strdup(slug);
	(*out)->is_read_only = is_read_only;
	(*out)->n_pending = STORE_UNCOUNTED;
	return 0;
}

int store_open(struct store **out, int state_fd, const char *slug, struct err *e)
{
	_cleanup_(store_free_p) struct store *s = NULL;
	int ret = store_new(&s, state_fd, slug, false, e);

	*out = NULL;
	if (ret == 0)
		ret = make_file(state_fd, s->path, e);
	if (ret == 0)
		ret = check_file(state_fd, s->path, e);
	if (ret == 0)
		ret = open_at(s, s->path, SQLITE_OPEN_READWRITE, e);
	if (ret == 0)
		ret = check_whole(s, e);
	if (ret == 0)
		ret = store_migrate(s, store_steps, store_n_steps, e);
	if (ret == 0)
		ret = check_slug(s, e);
	if (ret < 0)
		return ret;
	(void)sqlite3_busy_timeout(s->db, BUSY_WRITER_MS);
	*out = take_ptr(&s);
	return 0;
}

/* --- reading --- */

/* Reads what every statement needs, and so the log's index too. */
static int look(struct store *s, struct err *e)
{
	uint64_t version = 0;
	int ret = check_version(s, store_n_steps, &version, e);

	/* Made, and its maker was gone before anything was in it. */
	if (ret == 0 && version == 0)
		return err_set(e, -ENOENT, "bottle \"%s\" has no requests", s->slug);
	if (ret == 0 && version < store_n_steps)
		return err_set(e, -EBADMSG,
			       "\"%s\" is of an older version of claude-bottle; it is renewed when "
			       "the bottle is resumed",
			       s->path);
	return ret < 0 ? ret : check_slug(s, e);
}

static int copy_file(int from_dir, const char *name, int to_dir, struct err *e)
{
	_cleanup_close_ int to = -1;
	_cleanup_free_ char *bytes_p = NULL;
	struct str bytes = STR_NULL;
	int ret = io_read_file(from_dir, name, COPY_MAX_BYTES, &bytes, e);

	bytes_p = (char *)bytes.p;
	if (ret < 0)
		return ret;
	to = openat(to_dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (to < 0)
		return err_errno(e, "copy \"%s\"", name);
	ret = io_write_all(to, bytes.p, bytes.n);
	return ret < 0 ? err_set(e, ret, "copy \"%s\": cannot be written", name) : 0;
}

/* SQLite keeps what it has opened; the names are not needed afterwards. */
static int open_copy(struct store *s, int state_fd, struct err *e)
{
	const char *base = getenv("TMPDIR");
	_cleanup_free_ char *folder =
		mem_printf("%s/claude-bottle-XXXXXX", base && base[0] == '/' ? base : "/tmp");
	_cleanup_free_ char *path = NULL;
	_cleanup_close_ int dir = -1;
	int ret;

	if (!mkdtemp(folder))
		return err_errno(e, "make a folder in %s", folder);
	path = mem_printf("%s/" STORE_FILE, folder);
	dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ret = dir < 0 ? err_errno(e, "open \"%s\"", folder)
		      : copy_file(state_fd, STORE_FILE, dir, e);
	if (ret == 0 && faccessat(state_fd, STORE_FILE "-wal", F_OK, 0) == 0)
		ret = copy_file(state_fd, STORE_FILE "-wal", dir, e);
	if (ret == 0)
		ret = open_at(s, path, SQLITE_OPEN_READWRITE, e);
	if (ret == 0)
		ret = look(s, e);
	(void)!io_remove_tree(AT_FDCWD, folder, NULL);
	return ret;
}

int store_open_read(struct store **out, int state_fd, const char *slug, struct err *e)
{
	_cleanup_(store_free_p) struct store *s = NULL;
	int ret = store_new(&s, state_fd, slug, true, e);

	*out = NULL;
	if (ret == 0)
		ret = check_file(state_fd, s->path, e);
	if (ret < 0)
		return ret == -ENOENT ? err_set(e, ret, "bottle \"%s\" has no requests", slug)
				      : ret;
	ret = open_at(s, s->path, SQLITE_OPEN_READONLY, e);
	if (ret == 0)
		ret = look(s, e);
	/* No index of the log, and none can be made. */
	if (ret == -EIO)
		ret = open_copy(s, state_fd, e);
	if (ret == 0)
		*out = take_ptr(&s);
	return ret;
}
