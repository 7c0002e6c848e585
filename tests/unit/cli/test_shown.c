/* What a repository says, on its way to a human. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "cli/shown.h"

#include "base/clean.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

static void check_line(const char *in, size_t n, const char *out)
{
	_cleanup_(buf_free) struct buf b;

	buf_init(&b, 4096);
	assert_int_equal(shown_line(&b, str_slice(in, n)), 0);
	assert_int_equal(buf_append(&b, "", 1), 0);
	assert_string_equal(buf_str(&b).p, out);
}

#define LINE(in, out) check_line(in, sizeof(in) - 1, out)

static void test_line(void **state)
{
	(void)state;
	LINE("", "");
	LINE("plain \\ \\x1b <>", "plain \\ \\x1b <>");
	LINE("\ttab", "\ttab");
	LINE("\x1b[2J\a\r", "<U+001B>[2J<U+0007><U+000D>");
	LINE("a\0b\x7f", "a<U+0000>b<U+007F>");
	LINE("\xc2\x9b", "<U+009B>");
	LINE("\x9b\xff\xc3", "<9B><FF><C3>");
	LINE("\xe2\x80\xae\xe2\x80\x8b", "<U+202E><U+200B>");
	LINE("gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f");
}

static char text[1 << 20];

static const char *said(int fd)
{
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);

	assert_true(n >= 0);
	text[n] = '\0';
	return text;
}

static void begin(struct shown *s, bool has_colour)
{
	*s = (struct shown){.fd = memfd_create("out", MFD_CLOEXEC), .has_colour = has_colour};
	assert_true(s->fd >= 0);
}

/* However it is cut, it comes out the same. */
static void test_pieces(void **state)
{
	static const char in[] = "one\n\xe2\x80\xaetwo\xc3\xbc\n\nlast";
	static const char out[] = "one\n<U+202E>two\xc3\xbc\n\nlast\n";

	(void)state;
	for (size_t step = 1; step < sizeof(in); step++) {
		struct shown *s = calloc(1, sizeof(*s));

		assert_non_null(s);
		begin(s, false);
		for (size_t at = 0; at < sizeof(in) - 1; at += step) {
			size_t n = sizeof(in) - 1 - at < step ? sizeof(in) - 1 - at : step;

			assert_int_equal(shown_put(s, str_slice(in + at, n)), 0);
		}
		shown_mode(s, false);
		assert_string_equal(said(s->fd), out);
		(void)close(s->fd);
		free(s);
	}
}

static void test_long_line(void **state)
{
	static struct shown s;
	size_t n = 0;

	(void)state;
	begin(&s, false);
	/* A character of three bytes at every place of the cut. */
	for (unsigned i = 0; i < 3 * SHOWN_LINE_MAX; i++)
		assert_int_equal(shown_put(&s, STR_LIT("\xe2\x82\xac")), 0);
	shown_mode(&s, false);
	for (const char *p = said(s.fd); *p && *p != '\n'; p += 3, n++)
		assert_memory_equal(p, "\xe2\x82\xac", 3);
	assert_int_equal(n, 3 * SHOWN_LINE_MAX);
	(void)close(s.fd);
}

static void test_colours(void **state)
{
	static struct shown s;

	(void)state;
	begin(&s, true);
	shown_mode(&s, true);
	assert_int_equal(shown_put(&s, STR_LIT("+a\x1b[0m\n-b\n c\n")), 0);
	shown_note(&s, 0, "said %s", "\x1b");
	assert_string_equal(said(s.fd), "\x1b[32m+a<U+001B>[0m\x1b[0m\n\x1b[31m-b\x1b[0m\n c\n"
					"said <U+001B>\n");
	(void)close(s.fd);
}

static void test_nobody_reads(void **state)
{
	static struct shown s;
	int pair[2];

	(void)state;
	assert_int_equal(pipe(pair), 0);
	shown_open(&s, false);
	s.fd = pair[1];
	(void)close(pair[0]);
	assert_int_equal(shown_put(&s, STR_LIT("x\n")), -32);
	assert_int_equal(shown_put(&s, STR_LIT("x\n")), -32);
	(void)close(pair[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_line),	     cmocka_unit_test(test_pieces),
		cmocka_unit_test(test_long_line),    cmocka_unit_test(test_colours),
		cmocka_unit_test(test_nobody_reads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
