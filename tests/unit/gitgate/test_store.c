/* git-gate's folder: made, found again, cleaned up, locked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "gitgate/git_run.h"
#include "gitgate/store.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/timeutil.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

static char top[] = "/tmp/cb-store-XXXXXX";
static char *folder;
static struct git_remote remotes[] = {
	{.name = (char *)"origin",
	 .transport = GIT_TRANSPORT_HTTPS,
	 .host = (char *)"h.example",
	 .port = 443,
	 .path = (char *)"/o/r"},
	{.name = (char *)"workspace",
	 .transport = GIT_TRANSPORT_WORKSPACE,
	 .host = (char *)"workspace",
	 .path = (char *)""},
};
static struct git_policy policy = {.remotes = remotes, .n_remotes = 2};

static struct store *open_store(void)
{
	struct err e = ERR_INIT;
	struct store *s;

	if (store_open(&s, folder, &policy, -1, &e) < 0)
		fail_msg("%s", e.text);
	return s;
}

static int setup(void **state)
{
	(void)state;
	assert_non_null(mkdtemp(top));
	folder = mem_printf("%s/a/b", top);
	return 0;
}

static int teardown(void **state)
{
	struct err e = ERR_INIT;

	(void)state;
	free(folder);
	return io_remove_tree(AT_FDCWD, top, &e);
}

static bool has(const char *name)
{
	_cleanup_free_ char *path = mem_printf("%s/%s", folder, name);

	return access(path, F_OK) == 0;
}

static void make(const char *name)
{
	_cleanup_free_ char *path = mem_printf("%s/%s", folder, name);
	_cleanup_free_ char *parent = mem_printf("%s/%s", folder, name);
	struct err e = ERR_INIT;
	int fd;

	*strrchr(parent, '/') = '\0';
	assert_int_equal(io_mkdir_p(parent, 0700, &e), 0);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	(void)close(fd);
}

static void test_made_and_valid(void **state)
{
	struct store *s = open_store();
	char mirror[STORE_PATH_MAX];
	struct refs_facts facts = {0};
	struct git_run_env env = {.repo = mirror};
	struct err e = ERR_INIT;
	struct stat a, b, c;
	char *path;
	struct buf out;

	(void)state;
	buf_init(&out, 4096);
	for (size_t i = 0; i < policy.n_remotes; i++) {
		store_mirror(s, &remotes[i], mirror);
		buf_reset(&out);
		assert_int_equal(git_run(&env, (const char *const[]){"fsck", "--strict", NULL},
					 STR_NULL, &out, NULL,
					 time_monotonic_ns() + 20 * TIME_NS_PER_SEC, &e),
				 0);
		store_head(s, &remotes[i], &facts);
		assert_string_equal(facts.head, "refs/heads/main");
		assert_int_equal(store_packs(s, &remotes[i]), 0);
	}
	buf_free(&out);
	/* One copy of ourselves, under two names, for nobody else. */
	path = mem_printf("%s/hooks/pre-receive", folder);
	assert_int_equal(stat(path, &a), 0);
	free(path);
	path = mem_printf("%s/tools/git-connect", folder);
	assert_int_equal(stat(path, &b), 0);
	free(path);
	assert_int_equal(stat("/proc/self/exe", &c), 0);
	assert_int_equal(a.st_ino, b.st_ino);
	assert_int_equal(a.st_size, c.st_size);
	assert_int_equal(a.st_mode & 07777, 0500);
	assert_true(store_bytes(s) > (uint64_t)c.st_size);
	store_free(s);
	store_free(open_store());
}

static void test_leftovers(void **state)
{
	static const char *const gone[] = {
		"repos/origin.git/HEAD.lock",
		"repos/origin.git/refs/heads/x.lock",
		"repos/origin.git/objects/tmp_objdir-incoming-abc/pack/x.pack",
		"repos/origin.git/objects/pack/tmp_pack_abc",
		"repos/origin.git/objects/pack/pack-1.keep",
		"repos/origin.git/objects/12/tmp_obj_abc",
	};
	static const char *const kept[] = {
		"repos/origin.git/refs/heads/tmp_x",
		"repos/origin.git/refs/heads/incoming-x",
		"repos/origin.git/refs/heads/x.keep",
		"repos/origin.git/refs/heads/objects/tmp_x",
		"repos/origin.git/objects/pack/pack-1.pack",
	};
	struct store *s;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(gone); i++)
		make(gone[i]);
	for (size_t i = 0; i < ARRAY_LEN(kept); i++)
		make(kept[i]);
	s = open_store();
	for (size_t i = 0; i < ARRAY_LEN(gone); i++) {
		if (has(gone[i]))
			fail_msg("still there: %s", gone[i]);
	}
	for (size_t i = 0; i < ARRAY_LEN(kept); i++) {
		if (!has(kept[i]))
			fail_msg("gone: %s", kept[i]);
	}
	assert_int_equal(store_packs(s, &remotes[0]), 1);
	store_free(s);
}

/* Only when nobody pushes. */
static void test_sweep(void **state)
{
	static const char left[] = "repos/origin.git/objects/tmp_objdir-incoming-1/pack/x";
	struct store *s = open_store();
	struct err e = ERR_INIT;
	int one, two;

	(void)state;
	make(left);
	one = store_push_begin(s, &remotes[0], &e);
	assert_true(one >= 0);
	assert_false(has(left));
	make(left);
	two = store_push_begin(s, &remotes[0], &e);
	assert_true(two >= 0);
	store_sweep(s, &remotes[0]);
	assert_true(has(left));
	(void)close(one);
	store_sweep(s, &remotes[0]);
	assert_true(has(left));
	(void)close(two);
	store_sweep(s, &remotes[0]);
	assert_false(has(left));
	store_free(s);
}

static void test_lock(void **state)
{
	struct store *s = open_store();
	struct err e = ERR_INIT;
	int a = store_lock_open(s, &remotes[0], &e), b = store_lock_open(s, &remotes[0], &e);
	int other = store_lock_open(s, &remotes[1], &e);
	uint64_t start = time_monotonic_ns();

	(void)state;
	assert_int_equal(store_lock_take(a, 0, &e), 0);
	assert_int_equal(store_lock_take(other, 0, &e), 0);
	assert_int_equal(store_lock_take(b, start + 100 * TIME_NS_PER_MS, &e), -ETIMEDOUT);
	assert_true(time_monotonic_ns() - start >= 100 * TIME_NS_PER_MS);
	(void)close(a);
	assert_int_equal(store_lock_take(b, 0, &e), 0);
	(void)close(b);
	(void)close(other);
	store_free(s);
}

static void test_stamp(void **state)
{
	const struct store_stamp in = {true, true, 5, 7, 9, "why: a b"};
	struct store *s = open_store();
	struct store_stamp out;
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(store_stamp_write(s, &remotes[0], &in, &e), 0);
	store_stamp_read(s, &remotes[0], &out);
	assert_true(out.has_fetched && out.has_failed);
	assert_int_equal(out.started_ns, 5);
	assert_int_equal(out.ended_ns, 7);
	assert_int_equal(out.fresh_at_ns, 9);
	assert_string_equal(out.text, "why: a b");
	store_free(s);
	/* Of an earlier life only what still means something. */
	s = open_store();
	store_stamp_read(s, &remotes[0], &out);
	assert_true(out.has_fetched);
	assert_int_equal(out.started_ns, 0);
	assert_int_equal(out.ended_ns, 0);
	/* Of another upstream nothing at all. */
	store_free(s);
	make("repos/origin.git/objects/pack/pack-2.pack");
	remotes[0].port = 8443;
	s = open_store();
	store_stamp_read(s, &remotes[0], &out);
	assert_false(out.has_fetched);
	assert_int_equal(store_packs(s, &remotes[0]), 0);
	remotes[0].port = 443;
	store_free(s);
}

static void test_bad_head(void **state)
{
	static const char *const bad[] = {"", "1111111111111111111111111111111111111111\n",
					  "ref: refs/tags/x\n", "ref: refs/heads/x"};
	_cleanup_free_ char *path = mem_printf("%s/repos/origin.git/HEAD", folder);
	struct store *s = open_store();
	struct refs_facts facts = {0};
	struct err e = ERR_INIT;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		assert_int_equal(io_write_file_atomic(AT_FDCWD, path, str_of(bad[i]), 0600, &e), 0);
		store_head(s, &remotes[0], &facts);
		assert_string_equal(facts.head, "");
	}
	store_free(s);
}

static void test_bad_folders(void **state)
{
	_cleanup_free_ char *file = mem_printf("%s/file", top);
	_cleanup_free_ char *below = mem_printf("%s/file/x", top);
	struct err e = ERR_INIT;
	struct store *s;
	int fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	(void)state;
	(void)close(fd);
	assert_int_equal(store_open(&s, "relative", &policy, -1, &e), -EINVAL);
	assert_null(s);
	assert_true(store_open(&s, below, &policy, -1, &e) < 0);
	assert_null(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_made_and_valid), cmocka_unit_test(test_leftovers),
		cmocka_unit_test(test_sweep),	       cmocka_unit_test(test_lock),
		cmocka_unit_test(test_stamp),	       cmocka_unit_test(test_bad_head),
		cmocka_unit_test(test_bad_folders),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
