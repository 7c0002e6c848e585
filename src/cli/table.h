/* Aligned columns for people. */
#pragma once

#include "base/buf.h"

#define TABLE_COLUMNS_MAX 12
#define TABLE_CELL_MAX	  256

struct table {
	size_t n_columns, n_rows, cap_rows;
	struct table_row *rows;
};

enum table_colour { TABLE_PLAIN, TABLE_BOLD, TABLE_GREEN, TABLE_RED, TABLE_YELLOW, TABLE_DIM };

void table_init(struct table *t, size_t n_columns);
void table_free(struct table *t);
/* Copies the cells; NULL is an empty cell. They may hold agent text, which is made visible. */
void table_add(struct table *t, enum table_colour colour, const char *const *cells);
/* The same for cells that are visible already: a second time would double their backslashes. */
void table_add_visible(struct table *t, enum table_colour colour, const char *const *cells);
/* Widths in code points; the last column is not padded. Colours only if has_colour. */
int table_print(const struct table *t, bool has_colour, struct buf *out) _fallible_;
/* True if fd is a terminal that takes colours: NO_COLOR unset or empty, TERM not "dumb". */
bool table_may_colour(int fd);
/* Code points of a UTF-8 text. */
size_t table_width(const char *s);
/* One cell, padded to width unless width is 0. */
int table_cell(struct buf *out, const char *text, size_t width) _fallible_;
const char *table_colour_start(enum table_colour c);
