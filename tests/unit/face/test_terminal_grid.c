/* Cells and wrapped text: widths, cuts, and that nothing a text holds reaches a cell unseen. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "face/terminal_doc.h"

#include "base/clean.h"
#include "base/text.h"

#include <locale.h>
#include <stdio.h>

static void expect_row(const struct grid *g, int row, const char *expected)
{
	_cleanup_(buf_free) struct buf text = BUF_INIT(65536);

	assert_int_equal(grid_row_text(g, row, &text), 0);
	assert_int_equal(buf_append(&text, "", 1), 0);
	assert_string_equal(buf_str(&text).p, expected);
}

static struct grid_area whole(struct grid *g)
{
	return grid_area(g, 0, 0, g->rows, g->cols);
}

static void test_put(void **state)
{
	static const struct {
		const char *text, *shown;
	} cases[] = {
		{"abc", "abc"},
		{"abcdefghij", "abcdefghij"},
		{"abcdefghijk", "abcdefghi…"},
		{"\x1b[2Jx", "\\x1b[2Jx"},
		{"a\tb\nc\rd", "a\\x09b\\x0…"},
		{"\x9b"
		 "31m",
		 "\\x9b31m"},
		{"\xc2\x9b"
		 "31m",
		 "\\u{9b}31m"},
		{"\xff\xfe", "\\xff\\xfe"},
		{"a\xe2\x80\xae"
		 "b",
		 "a\\u{202e}b"},
		{"a\xe2\x80\x8b"
		 "b",
		 "a\\u{200b}b"},
		{"日本語日本", "日本語日本"},
		{"日本語日本x", "日本語日…"},
		{"a日本語日本", "a日本語日…"},
		{"e\xcc\x81x", "e\xcc\x81x"},
		{"\xcc\x81x", "\\u{301}x"},
		{"\xee\x80\x80", "\\u{e000}"},
		{"", ""},
	};
	struct grid g = {0};

	(void)state;
	grid_resize(&g, 2, 10);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		grid_clear(&g);
		(void)grid_put(whole(&g), 0, 0, GRID_PLAIN, str_of(cases[i].text));
		/* A private character is printable in some C libraries. */
		if (wcwidth(0xe000) > 0 && strstr(cases[i].shown, "e000"))
			continue;
		expect_row(&g, 0, cases[i].shown);
		expect_row(&g, 1, "");
	}
	grid_free(&g);
}

/* A pile of marks on one letter takes one cell, the rest is told. */
static void test_marks_are_bounded(void **state)
{
	struct grid g = {0};

	(void)state;
	grid_resize(&g, 1, 40);
	(void)grid_put(whole(&g), 0, 0, GRID_PLAIN, STR_LIT("e\xcc\x81\xcc\x81\xcc\x81\xcc\x81"));
	expect_row(&g, 0, "e\xcc\x81\xcc\x81\\u{301}\\u{301}");
	grid_free(&g);
}

/* Whatever the bytes: each cell holds something printable, and the right half of a wide one stands
 * only behind one. */
static void test_no_bytes_reach_a_cell(void **state)
{
	struct grid g = {0};
	uint32_t seed = 1;

	(void)state;
	grid_resize(&g, 4, 37);
	for (int round = 0; round < 3000; round++) {
		char bytes[96];

		for (size_t i = 0; i < sizeof(bytes); i++) {
			seed = seed * 1664525u + 1013904223u;
			bytes[i] = (char)(seed >> 24);
			if ((seed >> 20 & 3) == 0) /* starts of what is long and strange */
				bytes[i] = "\xe2\xcc\xf0\x1b"[seed >> 18 & 3];
		}
		grid_clear(&g);
		(void)grid_put(whole(&g), 0, 3, GRID_PLAIN, str_slice(bytes, sizeof(bytes)));
		(void)grid_put_ends(whole(&g), 1, 3, GRID_PLAIN, str_slice(bytes, sizeof(bytes)));
		for (int i = 0; i < 2 * g.cols; i++) {
			const wchar_t *c = g.cells[i].ch;

			if (!c[0]) {
				assert_int_not_equal(i % g.cols, 0);
				assert_int_equal(wcwidth(c[-(ptrdiff_t)(sizeof(*g.cells) /
									sizeof(wchar_t))]),
						 2);
				continue;
			}
			assert_true(wcwidth(c[0]) > 0 && !text_is_deceptive((uint32_t)c[0]));
			for (int m = 1; c[m]; m++)
				assert_int_equal(wcwidth(c[m]), 0);
		}
		expect_row(&g, 2, "");
	}
	grid_free(&g);
}

static void test_ends(void **state)
{
	struct grid g = {0};

	(void)state;
	grid_resize(&g, 1, 20);
	(void)grid_put_ends(whole(&g), 0, 0, GRID_PLAIN,
			    STR_LIT("https://api.github.com.a.b.c.evil.example/"));
	expect_row(&g, 0, "https://a…l.example/");
	grid_clear(&g);
	(void)grid_put_ends(whole(&g), 0, 0, GRID_PLAIN, STR_LIT("https://a.example/"));
	expect_row(&g, 0, "https://a.example/");
	grid_free(&g);
}

static void test_areas_are_clamped(void **state)
{
	struct grid g = {0};

	(void)state;
	grid_resize(&g, 3, 5);
	(void)grid_put(grid_area(&g, 2, 3, 9, 9), 0, 0, GRID_PLAIN, STR_LIT("abcdef"));
	(void)grid_put(grid_area(&g, 5, 5, 1, 1), 0, 0, GRID_PLAIN, STR_LIT("x"));
	(void)grid_put(whole(&g), -1, 0, GRID_PLAIN, STR_LIT("x"));
	(void)grid_put(whole(&g), 0, 7, GRID_PLAIN, STR_LIT("x"));
	grid_mark_row(whole(&g), 7, GRID_SELECTED);
	expect_row(&g, 0, "");
	expect_row(&g, 2, "   a…");
	grid_resize(&g, 0, 0);
	assert_int_equal(g.rows * g.cols, 1);
	grid_free(&g);
}

static void test_wrap(void **state)
{
	struct grid g = {0};
	struct doc d;

	(void)state;
	grid_resize(&g, 6, 14); /* 12 and the marks */
	doc_init(&d);
	doc_add(&d, GRID_PLAIN, 2, STR_LIT("one two three four five"));
	doc_add(&d, GRID_PLAIN, 0, STR_LIT("aaaaaaaaaaaaaaaaaaaaaaaaaaa"));
	doc_must_see(&d);
	doc_add(&d, GRID_PLAIN, 0, STR_LIT("rest"));
	assert_int_equal(doc_unseen(&d), 2);
	doc_draw(&d, grid_area(&g, 0, 0, 3, 14));
	expect_row(&g, 0, "one two");
	expect_row(&g, 1, "  three");
	expect_row(&g, 2, "  four five  v");
	assert_int_equal(doc_unseen(&d), 3);
	doc_scroll(&d, 2);
	grid_clear(&g);
	doc_draw(&d, grid_area(&g, 0, 0, 3, 14));
	expect_row(&g, 1, "aaaaaaaaaaaa");
	assert_int_equal(doc_unseen(&d), 1);
	/* Past what has been seen: what lies between has not been. */
	doc_scroll(&d, -2);
	doc_draw(&d, grid_area(&g, 0, 0, 3, 14));
	doc_scroll(&d, 100);
	doc_draw(&d, grid_area(&g, 0, 0, 1, 14));
	assert_int_equal(doc_unseen(&d), 1);
	doc_scroll(&d, -1);
	doc_draw(&d, grid_area(&g, 0, 0, 1, 14));
	assert_int_equal(doc_unseen(&d), 0);
	/* Another width: other rows, to be seen again. */
	grid_resize(&g, 6, 20);
	doc_draw(&d, grid_area(&g, 0, 0, 1, 20));
	assert_int_not_equal(doc_unseen(&d), 0);
	doc_free(&d);
	grid_free(&g);
}

static void test_escapes_are_not_torn(void **state)
{
	struct grid g = {0};
	struct doc d;

	(void)state;
	grid_resize(&g, 3, 14);
	doc_init(&d);
	doc_add(&d, GRID_PLAIN, 0, STR_LIT("abcdefgh\xe2\x80\xaezz"));
	doc_draw(&d, whole(&g));
	expect_row(&g, 0, "abcdefgh");
	expect_row(&g, 1, "\\u{202e}zz");
	doc_free(&d);
	grid_free(&g);
}

/* Where the locale prints no more than ASCII, nothing else is drawn. */
static void test_ascii(void **state)
{
	struct grid g = {0};

	(void)state;
	assert_non_null(setlocale(LC_CTYPE, "C"));
	grid_resize(&g, 2, 12);
	(void)grid_put(whole(&g), 0, 0, GRID_PLAIN, STR_LIT("caf\xc3\xa9 au lait"));
	grid_rule(whole(&g), 1, GRID_TITLE, "x");
	expect_row(&g, 0, "caf\\u{e9} a~");
	expect_row(&g, 1, "-- x -------");
	grid_free(&g);
	assert_non_null(setlocale(LC_CTYPE, "C.UTF-8"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_put),
		cmocka_unit_test(test_marks_are_bounded),
		cmocka_unit_test(test_no_bytes_reach_a_cell),
		cmocka_unit_test(test_ends),
		cmocka_unit_test(test_areas_are_clamped),
		cmocka_unit_test(test_wrap),
		cmocka_unit_test(test_escapes_are_not_torn),
		cmocka_unit_test(test_ascii),
	};

	if (!setlocale(LC_CTYPE, "C.UTF-8"))
		return 77;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
