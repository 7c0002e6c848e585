/* The store's file: other versions of it, damaged ones, those of somebody else, and reading beside
 * its writer and after it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "requests/store_int.h"
#include "world.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

/* --- versions --- */

/* A version that might have been, and one that might come. */
static void test_migration(void **state)
{
	const struct store_step steps[] = {
		store_steps[0],
		{"ALTER TABLE told ADD COLUMN kind TEXT NOT NULL DEFAULT 'plain'"},
		{"CREATE TABLE more(x TEXT) STRICT"}};
	const struct store_step broken[] = {steps[0],
					    steps[1],
					    steps[2],
					    {"CREATE TABLE more2(x TEXT) STRICT;"
					     "CREATE TABLE more(x TEXT) STRICT"}};
	struct err e = ERR_INIT;
	uint64_t n = 0;

	(void)state;
	assert_int_equal(store_tell(world.store, STR_LIT("kept"), 1, NULL), 0);
	assert_int_equal(store_migrate(world.store, steps, 2, &e), 0);
	assert_int_equal(
		store_number(world.store,
			     "SELECT count(*) FROM told WHERE kind='plain' AND text='kept'", NULL,
			     0, 0, &n, NULL),
		0);
	assert_int_equal(n, 1);
	assert_int_equal(store_migrate(world.store, steps, 3, &e), 0);
	/* A step that fails leaves nothing behind. */
	assert_true(store_migrate(world.store, broken, 4, &e) < 0);
	assert_int_equal(store_number(world.store, "PRAGMA user_version", NULL, 0, 0, &n, NULL), 0);
	assert_int_equal(n, 3);
	assert_int_equal(store_number(world.store,
				      "SELECT count(*) FROM sqlite_schema WHERE name='more2'", NULL,
				      0, 0, &n, NULL),
			 0);
	assert_int_equal(n, 0);
	/* This program knows less than the file now. */
	store_close(world.store);
	assert_int_equal(store_open(&world.store, world.fd, WORLD_SLUG, &e), -EBADMSG);
	assert_non_null(strstr(e.text, "newer version"));
	assert_int_equal(store_open_read(&world.store, world.fd, WORLD_SLUG, &e), -EBADMSG);
	assert_null(world.store);
}

/* --- files --- */

static void refuses_to_open(int want, const char *why)
{
	struct store *s = NULL;
	struct err e = ERR_INIT;
	int ret = store_open(&s, world.fd, WORLD_SLUG, &e);

	if (ret != want || !strstr(e.text, why))
		print_error("%d %s\n", ret, e.text);
	assert_int_equal(ret, want);
	assert_non_null(strstr(e.text, why));
	assert_null(s);
	e = ERR_INIT;
	assert_int_equal(store_open_read(&s, world.fd, WORLD_SLUG, &e), want);
}

static void damage(size_t at, const char *bytes)
{
	_cleanup_close_ int fd = openat(world.fd, STORE_FILE, O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, bytes, strlen(bytes), (off_t)at), strlen(bytes));
}

static void test_bad_files(void **state)
{
	struct stat st;

	(void)state;
	assert_int_equal(fstatat(world.fd, STORE_FILE, &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(fstatat(world.fd, STORE_FILE "-wal", &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	world_fill(200);
	store_close(world.store);
	world.store = NULL;

	assert_int_equal(fchmodat(world.fd, STORE_FILE, 0666, 0), 0);
	refuses_to_open(-EPERM, "written by others");
	assert_int_equal(fchmodat(world.fd, STORE_FILE, 0600, 0), 0);
	assert_int_equal(renameat(world.fd, STORE_FILE, world.fd, "real"), 0);
	assert_int_equal(symlinkat("real", world.fd, STORE_FILE), 0);
	refuses_to_open(-EBADMSG, "not a regular file");
	assert_int_equal(unlinkat(world.fd, STORE_FILE, 0), 0);
	assert_int_equal(renameat(world.fd, "real", world.fd, STORE_FILE), 0);
	world_reopen();
	store_close(world.store);
	world.store = NULL;
	/* A page in its middle, then its beginning. */
	damage(3 * 4096 + 3, "\xff\xff\xff\xff\xff");
	{
		struct err e = ERR_INIT;

		assert_int_equal(store_open(&world.store, world.fd, WORLD_SLUG, &e), -EBADMSG);
		assert_non_null(strstr(e.text, "move it away"));
	}
	damage(0, "not a data base");
	refuses_to_open(-EBADMSG, "damaged");
}

static void test_foreign_database(void **state)
{
	sqlite3 *db = NULL;
	char path[128];

	(void)state;
	store_close(world.store);
	world.store = NULL;
	assert_int_equal(unlinkat(world.fd, STORE_FILE, 0), 0);
	(void)snprintf(path, sizeof(path), "%s/" STORE_FILE, world.path);
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "CREATE TABLE x(y)", NULL, NULL, NULL), SQLITE_OK);
	(void)sqlite3_close(db);
	assert_int_equal(chmod(path, 0600), 0);
	refuses_to_open(-EBADMSG, "no requests of claude-bottle");
}

static size_t read_count(int fd)
{
	struct store *s = NULL;
	struct err e = ERR_INIT;
	size_t n = 0;
	int ret = store_open_read(&s, fd, WORLD_SLUG, &e);

	if (ret < 0)
		print_error("%s\n", e.text);
	assert_int_equal(ret, 0);
	assert_int_equal(store_each(s, ~0u, 0, 0, world_count_one, &n, NULL), 0);
	store_close(s);
	return n;
}

static void copy_to(int folder, const char *name)
{
	_cleanup_free_ char *p = NULL;
	struct str bytes;

	assert_int_equal(io_read_file(world.fd, name, 64u << 20, &bytes, NULL), 0);
	p = (char *)bytes.p;
	assert_int_equal(io_write_file_atomic(folder, name, bytes, 0600, NULL), 0);
}

/* A reader sees what is committed, while the keeper writes and after it has died. */
static void test_reading(void **state)
{
	struct store *reader = NULL;
	uint64_t before, after;
	size_t n;
	_cleanup_close_ int dead = -1;
	char path[WORLD_FOLDER_SIZE];

	(void)state;
	world_fill(3);
	assert_int_equal(read_count(world.fd), 3);
	assert_int_equal(store_open_read(&reader, world.fd, WORLD_SLUG, NULL), 0);
	assert_int_equal(store_version(reader, &before, NULL), 0);
	assert_int_equal(store_version(reader, &after, NULL), 0);
	assert_int_equal(before, after);
	world_execute("BEGIN IMMEDIATE;UPDATE requests SET asked=2", SQLITE_OK);
	assert_int_equal(store_count(reader, ~0u, &n, NULL), 0);
	assert_int_equal(n, 3);
	world_execute("COMMIT", SQLITE_OK);
	assert_int_equal(store_version(reader, &after, NULL), 0);
	assert_true(after > before);
	/* A reader writes nothing. */
	assert_true(store_tell(reader, STR_LIT("x"), 1, NULL) < 0);
	store_close(reader);
	assert_int_equal(store_version(world.store, &before, NULL), 0);
	assert_int_equal(store_tell(world.store, STR_LIT("x"), 1, NULL), 0);
	assert_int_equal(store_version(world.store, &after, NULL), 0);
	assert_true(after > before);

	/* As a killed keeper leaves it: with its log, which has an index no more. */
	dead = world_folder(path);
	copy_to(dead, STORE_FILE);
	copy_to(dead, STORE_FILE "-wal");
	/* And none can be made. */
	assert_int_equal(mkdirat(dead, STORE_FILE "-shm", 0700), 0);
	assert_int_equal(fchmod(dead, 0500), 0);
	assert_int_equal(read_count(dead), 3);
	assert_int_equal(fchmod(dead, 0700), 0);
	assert_int_equal(unlinkat(dead, STORE_FILE "-shm", AT_REMOVEDIR), 0);
	assert_int_equal(read_count(dead), 3);
	assert_int_equal(io_remove_tree(AT_FDCWD, path, NULL), 0);
	assert_int_equal(store_open_read(&reader, dead, WORLD_SLUG, NULL), -ENOENT);
}

#define WORLD(test) cmocka_unit_test_setup_teardown(test, world_setup, world_teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		WORLD(test_migration),
		WORLD(test_bad_files),
		WORLD(test_foreign_database),
		WORLD(test_reading),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
