/* The remembered hash of the bundle's executable: found for that file alone, and never believed of
 * a cache that is not exactly as we write it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "image/digest.c"

#include "base/mem.h"
#include "image/image_int.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define HEX   "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define OTHER "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210"

static char scratch[32], file[96];

/* What another process would find. */
static bool find_anew(const struct stat *st, char hex[DIGEST_SIZE])
{
	memset(known_key, 0, sizeof(known_key));
	memset(known_hex, 0, sizeof(known_hex));
	return digest_find(st, hex);
}

static struct stat old_file(void)
{
	struct stat st = {.st_dev = 7, .st_ino = 42, .st_size = 21000000};

	st.st_mtim = (struct timespec){.tv_sec = 1700000000, .tv_nsec = 1};
	st.st_ctim = (struct timespec){.tv_sec = 1700000001, .tv_nsec = 999999999};
	return st;
}

static int setup(void **state)
{
	(void)state;
	(void)snprintf(scratch, sizeof(scratch), "/tmp/cb-digest-XXXXXX");
	if (!mkdtemp(scratch))
		return -1;
	(void)snprintf(file, sizeof(file), "%s/claude-bottle/" DIGEST_FILE, scratch);
	memset(known_key, 0, sizeof(known_key));
	return setenv("XDG_CACHE_HOME", scratch, 1);
}

static int teardown(void **state)
{
	(void)state;
	return io_remove_tree(AT_FDCWD, scratch, NULL);
}

static void write_text(const char *text)
{
	int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(io_write_all(fd, text, strlen(text)), 0);
	assert_int_equal(close(fd), 0);
}

static void test_kept_and_found(void **state)
{
	struct stat st = old_file(), kept;
	char hex[DIGEST_SIZE] = "";

	(void)state;
	assert_false(digest_find(&st, hex));
	digest_keep(&st, &st, HEX);
	assert_true(digest_find(&st, hex));
	assert_string_equal(hex, HEX);
	memset(hex, 0, sizeof(hex));
	assert_true(find_anew(&st, hex));
	assert_string_equal(hex, HEX);
	assert_int_equal(lstat(file, &kept), 0);
	assert_int_equal(kept.st_mode, S_IFREG | 0600);
	/* From memory: the cache is not looked at again. */
	assert_int_equal(unlink(file), 0);
	memset(hex, 0, sizeof(hex));
	assert_true(digest_find(&st, hex));
	assert_string_equal(hex, HEX);
}

static void test_another_file(void **state)
{
	struct stat st = old_file(), others[8];
	char hex[DIGEST_SIZE];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(others); i++)
		others[i] = st;
	others[0].st_dev++;
	others[1].st_ino++;
	others[2].st_size++;
	others[3].st_mtim.tv_sec++;
	others[4].st_mtim.tv_nsec++;
	others[5].st_ctim.tv_sec--;
	others[6].st_ctim.tv_nsec--;
	others[7].st_size = 2100000042;
	digest_keep(&st, &st, HEX);
	for (size_t i = 0; i < ARRAY_LEN(others); i++) {
		assert_false(digest_find(&others[i], hex));
		assert_false(find_anew(&others[i], hex));
	}
	/* The newest is what is kept. */
	digest_keep(&others[0], &others[0], OTHER);
	assert_false(find_anew(&st, hex));
	assert_true(find_anew(&others[0], hex));
	assert_string_equal(hex, OTHER);
}

static void test_changed_or_too_new(void **state)
{
	struct stat st = old_file(), later = st, now = st;
	char hex[DIGEST_SIZE];

	(void)state;
	later.st_ctim.tv_sec++;
	digest_keep(&st, &later, HEX);
	assert_false(digest_find(&st, hex));
	assert_false(digest_find(&later, hex));
	now.st_ctim.tv_sec = (time_t)(time_realtime_ns() / TIME_NS_PER_SEC);
	digest_keep(&now, &now, HEX);
	assert_false(digest_find(&now, hex));
	now.st_ctim.tv_sec += 3600; /* a clock that went back */
	digest_keep(&now, &now, HEX);
	assert_false(digest_find(&now, hex));
	now.st_ctim.tv_sec -= 3600 + 4;
	digest_keep(&now, &now, HEX);
	assert_true(find_anew(&now, hex));
}

static void test_text_of_others(void **state)
{
	static const struct {
		const char *before;
		int key_max;
		const char *after;
	} bad[] = {
		{"", 0, ""},
		{"", DIGEST_KEY_MAX, ""},
		{"", DIGEST_KEY_MAX, HEX},
		{"", DIGEST_KEY_MAX, HEX "\n\n"},
		{"", DIGEST_KEY_MAX, HEX "0\n"},
		{"", DIGEST_KEY_MAX, "0123456789abcdef\n"},
		{"", 20, HEX "\n"},
		{"claude-bottle program digest 0\n", DIGEST_KEY_MAX, HEX "\n"},
		{"", DIGEST_KEY_MAX,
		 "0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef\n"},
		{"", DIGEST_KEY_MAX,
		 "0123456789abcdeg0123456789abcdef0123456789abcdef0123456789abcdef\n"},
		{"", DIGEST_KEY_MAX,
		 "../../../6789abcdef0123456789abcdef0123456789abcdef0123456789abc\n"},
	};
	_cleanup_free_ char *long_text = mem_zalloc(8192);
	char key[DIGEST_KEY_MAX], hex[DIGEST_SIZE];
	struct stat st = old_file();

	(void)state;
	digest_key(key, &st);
	digest_keep(&st, &st, HEX);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		_cleanup_free_ char *text =
			mem_printf("%s%.*s%s", bad[i].before, bad[i].key_max, key, bad[i].after);

		write_text(text);
		assert_false(find_anew(&st, hex));
	}
	memset(long_text, 'a', 8191);
	write_text(long_text);
	assert_false(find_anew(&st, hex));
	/* What is no good is replaced. */
	digest_keep(&st, &st, HEX);
	assert_true(find_anew(&st, hex));
}

static void test_files_of_others(void **state)
{
	static const mode_t open_modes[] = {0640, 0604, 0620, 0602, 0644};
	_cleanup_free_ char *aside = mem_printf("%s/aside", scratch);
	struct stat st = old_file();
	char hex[DIGEST_SIZE];

	(void)state;
	digest_keep(&st, &st, HEX);
	for (size_t i = 0; i < ARRAY_LEN(open_modes); i++) {
		assert_int_equal(chmod(file, open_modes[i]), 0);
		assert_false(find_anew(&st, hex));
	}
	assert_int_equal(chmod(file, 0600), 0);
	assert_true(find_anew(&st, hex));
	if (geteuid() == 0) {
		assert_int_equal(chown(file, 65534, 65534), 0);
		assert_false(find_anew(&st, hex));
		assert_int_equal(chown(file, 0, 0), 0);
	}
	assert_int_equal(rename(file, aside), 0);
	assert_int_equal(symlink(aside, file), 0);
	assert_false(find_anew(&st, hex));
	assert_int_equal(unlink(file), 0);
	assert_int_equal(mkfifo(file, 0600), 0);
	assert_false(find_anew(&st, hex));
	assert_int_equal(unlink(file), 0);
	assert_int_equal(mkdir(file, 0700), 0);
	assert_false(find_anew(&st, hex));
	digest_keep(&st, &st, HEX);
	assert_false(find_anew(&st, hex));
}

static void test_folders_of_others(void **state)
{
	_cleanup_free_ char *folder = mem_printf("%s/claude-bottle", scratch);
	struct stat st = old_file();
	char hex[DIGEST_SIZE];

	(void)state;
	digest_keep(&st, &st, HEX);
	assert_int_equal(chmod(folder, 0777), 0);
	assert_false(find_anew(&st, hex));
	assert_int_equal(unlink(file), 0);
	digest_keep(&st, &st, HEX);
	assert_int_equal(access(file, F_OK), -1);
	assert_true(digest_find(&st, hex)); /* in this process it is known all the same */
	assert_int_equal(chmod(folder, 0700), 0);
	if (geteuid() == 0) {
		assert_int_equal(chown(folder, 65534, 65534), 0);
		digest_keep(&st, &st, HEX);
		assert_int_equal(access(file, F_OK), -1);
	}
	assert_int_equal(unsetenv("XDG_CACHE_HOME"), 0);
	assert_int_equal(setenv("HOME", "relative", 1), 0);
	digest_keep(&st, &st, HEX);
	assert_false(find_anew(&st, hex));
}

/* The whole way: an executable, its hash, another executable in its place. */
static void test_program(void **state)
{
	_cleanup_free_ char *program = mem_printf("%s/bundle", scratch);
	struct timespec settle = {.tv_sec = 2, .tv_nsec = 100000000};
	char expected[65], hex[65];
	struct err e = ERR_INIT;
	int fd;

	(void)state;
	fd = open(program, O_WRONLY | O_CREAT | O_CLOEXEC, 0700);
	assert_int_equal(io_write_all(fd, "first", 5), 0);
	assert_int_equal(setenv("CLAUDE_BOTTLE_BUNDLE", program, 1), 0);
	assert_int_equal(image_sha256(STR_LIT("first"), expected, &e), 0);
	assert_int_equal(image_program_digest(hex, &e), 0);
	assert_string_equal(hex, expected);
	assert_int_equal(access(file, F_OK), -1); /* too new */
	(void)nanosleep(&settle, NULL);
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(image_program_digest(hex, &e), 0);
		assert_string_equal(hex, expected);
		assert_int_equal(access(file, F_OK), 0);
	}
	/* Of the same length, in place. */
	assert_int_equal(pwrite(fd, "other", 5, 0), 5);
	assert_int_equal(close(fd), 0);
	assert_int_equal(image_sha256(STR_LIT("other"), expected, &e), 0);
	assert_int_equal(image_program_digest(hex, &e), 0);
	assert_string_equal(hex, expected);
	/* Gone, or open to others: an error, whatever is remembered. */
	assert_int_equal(chmod(program, 0722), 0);
	assert_int_equal(image_program_digest(hex, &e), -EPERM);
	assert_int_equal(unlink(program), 0);
	assert_int_equal(image_program_digest(hex, &e), -ENOENT);
	assert_int_equal(unsetenv("CLAUDE_BOTTLE_BUNDLE"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_kept_and_found, setup, teardown),
		cmocka_unit_test_setup_teardown(test_another_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_changed_or_too_new, setup, teardown),
		cmocka_unit_test_setup_teardown(test_text_of_others, setup, teardown),
		cmocka_unit_test_setup_teardown(test_files_of_others, setup, teardown),
		cmocka_unit_test_setup_teardown(test_folders_of_others, setup, teardown),
		cmocka_unit_test_setup_teardown(test_program, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
