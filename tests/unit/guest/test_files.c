/* Files put into a home that an earlier agent may have furnished. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clean.h"
#include "base/io.h"
#include "guest/guest_int.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

static char home[64];
static int home_fd, outside_fd;

/* A home, and beside it a folder that nothing may be written to. */
static int set_up(void **state)
{
	char top[] = "/tmp/cb-guest-files-XXXXXX";

	(void)state;
	(void)umask(077);
	assert_non_null(mkdtemp(top));
	(void)snprintf(home, sizeof(home), "%s/home", top);
	assert_int_equal(mkdir(home, 0700), 0);
	home_fd = open(home, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(mkdirat(home_fd, "../outside", 0700), 0);
	outside_fd = openat(home_fd, "../outside", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(io_write_file_atomic(outside_fd, "theirs", STR_LIT("theirs"), 0640, NULL),
			 0);
	return 0;
}

static int tear_down(void **state)
{
	struct str text = {NULL, 0};

	(void)state;
	/* Whatever a test has tried: what is outside is as it was. */
	assert_int_equal(io_read_file(outside_fd, "theirs", 100, &text, NULL), 0);
	assert_true(str_eq(text, STR_LIT("theirs")));
	free((void *)(uintptr_t)text.p);
	assert_int_equal(unlinkat(outside_fd, "theirs", 0), 0);
	assert_int_equal(unlinkat(home_fd, "../outside", AT_REMOVEDIR), 0);
	close_fd(&home_fd);
	close_fd(&outside_fd);
	*strrchr(home, '/') = '\0';
	assert_int_equal(io_remove_tree(AT_FDCWD, home, NULL), 0);
	return 0;
}

static int put(const char *path, unsigned mode, const char *text, struct err *e)
{
	struct guest_file f = {.path = path, .mode = mode, .text = str_of(text)};

	*e = ERR_INIT;
	return files_write(home, 0700, &f, 1, e);
}

static void expect_put(const char *path, unsigned mode, const char *text)
{
	struct str got = {NULL, 0};
	struct stat st;
	struct err e;

	if (put(path, mode, text, &e) < 0)
		fail_msg("%s", e.text);
	assert_int_equal(fstatat(home_fd, path, &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_true(S_ISREG(st.st_mode));
	assert_int_equal(st.st_mode & 07777, mode);
	assert_int_equal(st.st_nlink, 1);
	if (mode & 0400) {
		assert_int_equal(io_read_file(home_fd, path, 1 << 20, &got, &e), 0);
		assert_true(str_eq(got, str_of(text)));
		free((void *)(uintptr_t)got.p);
	}
}

static void test_written(void **state)
{
	struct stat st;

	(void)state;
	expect_put("a", 0600, "one");
	expect_put("a", 0755, "two");
	expect_put("a", 0, "");
	expect_put(".config/deep/er/b", 0444, "three");
	expect_put(".config/deep/er/b", 0640, "four");
	assert_int_equal(fstatat(home_fd, ".config/deep", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	/* A folder that is there keeps its mode. */
	assert_int_equal(mkdirat(home_fd, "open", 0700), 0);
	assert_int_equal(fchmodat(home_fd, "open", 0755, 0), 0);
	expect_put("open/c", 0600, "five");
	assert_int_equal(fstatat(home_fd, "open", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
	/* No half-written file is left. */
	assert_int_equal(faccessat(home_fd, ".claude-bottle.part", F_OK, AT_SYMLINK_NOFOLLOW), -1);
}

static void test_links(void **state)
{
	char other[96];
	struct err e;

	(void)state;
	/* In the place of a file: replaced, not followed. */
	assert_int_equal(symlinkat("../outside/theirs", home_fd, "a"), 0);
	expect_put("a", 0600, "ours");
	assert_int_equal(symlinkat("../outside/new", home_fd, "b"), 0);
	expect_put("b", 0600, "ours");
	assert_int_equal(linkat(outside_fd, "theirs", home_fd, "c", 0), 0);
	expect_put("c", 0600, "ours");
	assert_int_equal(symlinkat("../outside/theirs", home_fd, ".claude-bottle.part"), 0);
	expect_put("d", 0600, "ours");
	assert_int_equal(linkat(outside_fd, "theirs", home_fd, ".claude-bottle.part", 0), 0);
	expect_put("d", 0600, "ours");
	/* In the place of a folder: refused. */
	assert_int_equal(symlinkat("../outside", home_fd, "folder"), 0);
	assert_true(put("folder/theirs", 0600, "ours", &e) < 0);
	assert_non_null(strstr(e.text, "\"folder/theirs\": open the folder \"folder\""));
	assert_int_equal(symlinkat(home, home_fd, "self"), 0);
	assert_true(put("self/x", 0600, "ours", &e) < 0);
	assert_int_equal(symlinkat("nowhere", home_fd, "dangling"), 0);
	assert_true(put("dangling/x", 0600, "ours", &e) < 0);
	/* As $HOME itself: refused. */
	assert_int_equal(symlinkat(home, outside_fd, "home"), 0);
	assert_true(files_write("/nowhere/at/all", 0700, &(struct guest_file){.path = "x"}, 1, &e) <
		    0);
	(void)snprintf(other, sizeof(other), "%s/../outside/home", home);
	assert_true(files_write(other, 0700, &(struct guest_file){.path = "x"}, 1, &e) < 0);
	assert_int_equal(unlinkat(outside_fd, "home", 0), 0);
}

static void test_pipes(void **state)
{
	struct err e;

	(void)state;
	assert_int_equal(mkfifoat(home_fd, "a", 0600), 0);
	expect_put("a", 0600, "ours");
	assert_int_equal(mkfifoat(home_fd, ".claude-bottle.part", 0600), 0);
	expect_put("b", 0600, "ours");
	assert_int_equal(mkfifoat(home_fd, "folder", 0600), 0);
	assert_int_equal(put("folder/x", 0600, "ours", &e), -ENOTDIR);
}

static void test_refused(void **state)
{
	char longest[GUEST_PATH_MAX + 1];
	struct err e;

	(void)state;
	memset(longest, 'x', sizeof(longest));
	longest[256] = '\0';
	assert_int_equal(put(longest, 0600, "", &e), -ENAMETOOLONG);
	longest[255] = '\0';
	expect_put(longest, 0600, "");
	assert_int_equal(mkdirat(home_fd, "folder", 0700), 0);
	assert_true(put("folder", 0600, "", &e) < 0);
	assert_non_null(strstr(e.text, "write \"folder\""));
	assert_int_equal(faccessat(home_fd, ".claude-bottle.part", F_OK, AT_SYMLINK_NOFOLLOW), -1);
	assert_int_equal(mkdirat(home_fd, ".claude-bottle.part", 0700), 0);
	assert_true(put("y", 0600, "", &e) < 0);
	assert_int_equal(files_write(NULL, 0700, &(struct guest_file){.path = "x"}, 1, &e),
			 -EINVAL);
	assert_int_equal(files_write("relative", 0700, &(struct guest_file){.path = "x"}, 1, &e),
			 -EINVAL);
	assert_int_equal(files_write(NULL, 0700, NULL, 0, &e), 0);
}

#define TEST_(name) cmocka_unit_test_setup_teardown(test_##name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {TEST_(written), TEST_(links), TEST_(pipes),
					   TEST_(refused)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
