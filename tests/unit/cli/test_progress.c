#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "cli/progress.h"

#include "base/clean.h"
#include "base/timeutil.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static char seen[8192];

/* What the view has written since the last call. */
static const char *written(int fd)
{
	ssize_t n = pread(fd, seen, sizeof(seen) - 1, 0);

	assert_true(n >= 0);
	seen[n] = '\0';
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	return seen;
}

static void test_plain_lines_are_one_for_each_step(void **state)
{
	int fd = memfd_create("out", MFD_CLOEXEC);
	struct progress_view v;
	struct progress p;

	(void)state;
	progress_view_init(&v, fd, false);
	p = progress_view_sink(&v);
	progress_tell(&p, "image shell", "step 1", 0, 0);
	progress_tell(&p, "image shell", "step 2", 1, 2);
	progress_tell(&p, "image bundle", NULL, 1, 4);
	progress_view_end(&v);
	assert_string_equal(written(fd), "claude-bottle: image shell: step 1\n"
					 "claude-bottle: image bundle 25 %\n");
	/* The same step once more, when it has gone on for long. */
	progress_tell(&p, "pull", "a", 0, 0);
	v.shown_ns -= PROGRESS_PERIOD_MS * TIME_NS_PER_MS;
	progress_tell(&p, "pull", "b", 9, 4);
	progress_tell(&p, "pull", "c", 9, 4);
	assert_string_equal(written(fd), "claude-bottle: pull: a\nclaude-bottle: pull 100 %: b\n");
	(void)close(fd);
}

static void test_a_terminal_has_one_line(void **state)
{
	int fd = memfd_create("out", MFD_CLOEXEC);
	struct progress_view v;
	struct progress p;
	char wide[400], *end;

	(void)state;
	progress_view_init(&v, fd, true);
	v.columns = 40;
	p = progress_view_sink(&v);
	progress_tell(&p, "a", "one", 0, 0);
	progress_tell(&p, "b", "two", 0, 0);
	assert_string_equal(written(fd), "\r\x1b[Kclaude-bottle: a: one"
					 "\r\x1b[Kclaude-bottle: b: two");
	progress_view_end(&v);
	assert_string_equal(written(fd), "\r\x1b[K");
	progress_view_end(&v);
	assert_string_equal(written(fd), "");
	/* Cut by characters, never within one: a line that wraps cannot be written over. */
	end = wide;
	for (size_t i = 0; i < 100; i++) {
		memcpy(end, "\xc3\xa9", 2);
		end += 2;
	}
	*end = '\0';
	progress_tell(&p, "c", wide, 0, 0);
	assert_int_equal(strlen(written(fd)), 4 + strlen("claude-bottle: c: ") + 2 * (39 - 18));
	assert_int_equal((unsigned char)seen[strlen(seen) - 1], 0xa9);
	(void)close(fd);
}

/* A build's output is anybody's. */
static void test_control_bytes_are_shown(void **state)
{
	int fd = memfd_create("out", MFD_CLOEXEC);
	static char text[20000];
	struct progress_view v;
	struct progress p;

	(void)state;
	progress_view_init(&v, fd, false);
	p = progress_view_sink(&v);
	progress_tell(&p, "x\x1b]0;t\a", "a\nclaude-bottle: forged\x9b", 0, 0);
	assert_string_equal(written(fd), "claude-bottle: x\\x1b]0;t\\x07: "
					 "a\\nclaude-bottle: forged\\x9b\n");
	memset(text, 'a', sizeof(text) - 1);
	progress_tell(&p, text, text, UINT64_MAX - 1, UINT64_MAX);
	assert_true(strlen(written(fd)) < PROGRESS_LINE_MAX + 40);
	assert_ptr_equal(strchr(seen, '\n'), seen + strlen(seen) - 1);
	(void)close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain_lines_are_one_for_each_step),
		cmocka_unit_test(test_a_terminal_has_one_line),
		cmocka_unit_test(test_control_bytes_are_shown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
