#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "image/tar.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>

/* What tar says of the archive, or NULL when it does not end well. */
static char *tar_says(const char *options, int archive)
{
	char path[48];
	struct str text = STR_NULL;
	int fds[2], status = -1;
	pid_t pid;

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	(void)snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)getpid(), archive);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		(void)dup2(fds[1], 1);
		(void)dup2(fds[1], 2);
		(void)setenv("TZ", "UTC", 1);
		(void)execlp("tar", "tar", "--numeric-owner", options, path, (char *)NULL);
		_exit(127);
	}
	(void)close(fds[1]);
	assert_int_equal(io_read_all(fds[0], 1u << 20, &text, NULL), 0);
	(void)close(fds[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
		print_error("tar: %s\n", text.p);
		free((char *)text.p);
		return NULL;
	}
	return (char *)text.p;
}

static int archive_open(void)
{
	int fd = memfd_create("archive", MFD_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static void test_tar_reads_it(void **state)
{
	_cleanup_close_ int fd = archive_open();
	_cleanup_free_ char *large = mem_zalloc(70000), *list = NULL, *out = NULL;
	char name[TAR_NAME_MAX + 1];

	(void)state;
	memset(name, 'n', TAR_NAME_MAX);
	name[TAR_NAME_MAX] = '\0';
	memset(large, 'x', 70000);
	assert_int_equal(tar_file(fd, "Dockerfile", 0644, STR_LIT("FROM scratch\n"), NULL), 0);
	assert_int_equal(tar_file(fd, "a/empty", 0600, STR_NULL, NULL), 0);
	assert_int_equal(tar_file(fd, name, 0755, str_slice(large, 70000), NULL), 0);
	assert_int_equal(tar_file(fd, "block", 04755, str_slice(large, TAR_BLOCK), NULL), 0);
	assert_int_equal(tar_end(fd, NULL), 0);
	assert_int_equal(lseek(fd, 0, SEEK_CUR) % TAR_BLOCK, 0);
	list = tar_says("-tvf", fd);
	assert_non_null(list);
	assert_non_null(
		strstr(list, "-rw-r--r-- 0/0              13 1970-01-01 00:00 Dockerfile\n"));
	assert_non_null(strstr(list, "-rw------- 0/0               0 1970-01-01 00:00 a/empty\n"));
	assert_non_null(strstr(list, "-rwxr-xr-x 0/0           70000 1970-01-01 00:00 nnn"));
	assert_non_null(strstr(list, "-rwsr-xr-x 0/0             512 1970-01-01 00:00 block\n"));
	out = tar_says("-xOf", fd);
	assert_non_null(out);
	assert_int_equal(strlen(out), 13 + 70000 + 512);
	assert_memory_equal(out, "FROM scratch\nxxx", 16);
}

static void test_same_input_same_bytes(void **state)
{
	unsigned char a[TAR_BLOCK], b[TAR_BLOCK];

	(void)state;
	assert_int_equal(tar_header(a, "x", 0644, 5, NULL), 0);
	assert_int_equal(tar_header(b, "x", 0644, 5, NULL), 0);
	assert_memory_equal(a, b, TAR_BLOCK);
	assert_memory_equal(a + 257, "ustar\00000", 8);
	assert_memory_equal(a + 124, "00000000005", 12);
}

static void test_names_that_are_refused(void **state)
{
	static const char *const bad[] = {"",	  "/etc/x", "../x", "a/../x", "./x",
					  "a//x", "a/",	    "a/.",  ".",      ".."};
	unsigned char block[TAR_BLOCK];
	char name[TAR_NAME_MAX + 2];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct err e = ERR_INIT;

		assert_int_equal(tar_header(block, bad[i], 0644, 0, &e), -EINVAL);
		assert_true(e.text[0] != '\0');
	}
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	assert_int_equal(tar_header(block, name, 0644, 0, NULL), -EINVAL);
	assert_int_equal(tar_header(block, ".host-ca.crt", 0644, 0, NULL), 0);
}

static void test_sizes(void **state)
{
	unsigned char block[TAR_BLOCK];

	(void)state;
	assert_int_equal(tar_header(block, "x", 0644, TAR_SIZE_MAX, NULL), 0);
	assert_memory_equal(block + 124, "77777777777", 12);
	assert_int_equal(tar_header(block, "x", 0644, TAR_SIZE_MAX + 1, NULL), -EFBIG);
}

static void test_a_write_that_fails(void **state)
{
	_cleanup_close_ int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
	struct err e = ERR_INIT;

	(void)state;
	if (fd < 0) {
		print_message("no /dev/full\n");
		skip();
	}
	assert_int_equal(tar_file(fd, "x", 0644, STR_LIT("y"), &e), -ENOSPC);
	assert_non_null(strstr(e.text, "No space left"));
	assert_int_equal(tar_end(fd, NULL), -ENOSPC);
}

/* What ustar has no room for, and what is no file. */
static void test_tar_reads_a_tree(void **state)
{
	_cleanup_close_ int fd = archive_open();
	_cleanup_free_ char *list = NULL, *expected = NULL;
	char name[1200], target[300];

	(void)state;
	/* The length of a record counts its own digits: 999 and 1000 are the same name but one. */
	memset(name, 'n', sizeof(name));
	memset(target, 't', sizeof(target));
	target[sizeof(target) - 1] = '\0';
	assert_int_equal(tar_folder(fd, "a", 0750, NULL), 0);
	assert_int_equal(tar_link(fd, "a/link", target, NULL), 0);
	for (size_t n = 980; n < 1000; n++) {
		memcpy(name, "a/", 2);
		name[n] = '\0';
		assert_int_equal(tar_file_head(fd, name, 0640, 3, NULL), 0);
		assert_int_equal(io_write_all(fd, "abc", 3), 0);
		assert_int_equal(tar_pad(fd, 3, NULL), 0);
		name[n] = 'n';
	}
	assert_int_equal(tar_end(fd, NULL), 0);
	list = tar_says("-tvf", fd);
	assert_non_null(list);
	assert_non_null(strstr(list, "drwxr-x--- 0/0               0 1970-01-01 00:00 a"));
	expected = mem_printf(" a/link -> %s\n", target);
	assert_non_null(strstr(list, expected));
	for (size_t n = 980; n < 1000; n++) {
		name[n] = '\n';
		name[n + 1] = '\0';
		assert_non_null(strstr(list, name));
		name[n] = name[n + 1] = 'n';
	}
	assert_int_equal(tar_link(fd, "../out", "x", NULL), -EINVAL);
	assert_int_equal(tar_folder(fd, "/abs", 0755, NULL), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tar_reads_it),
		cmocka_unit_test(test_tar_reads_a_tree),
		cmocka_unit_test(test_same_input_same_bytes),
		cmocka_unit_test(test_names_that_are_refused),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_a_write_that_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
