/*
 * A screen as cells, drawn without a terminal: what the view draws into and what the binding to
 * ncurses copies out. Every text goes through glyph_next(), the last line of defence: whatever the
 * C library cannot print in this locale stands there as an escape (\xNN, \u{NNNN}), so that no cell
 * ever holds a character that moves, hides or reorders another.
 *
 * Widths are wcwidth()'s; the caller has set the locale. In one that is not UTF-8 nothing past
 * ASCII is printable, and everything is drawn with ASCII.
 */
#pragma once

#include "base/buf.h"

#include <wchar.h>

/* One base and at most two combining marks: as many as a cell can show. */
#define GRID_CELL_CHARS 3
#define GRID_ROWS_MAX	1000
#define GRID_COLS_MAX	2000

enum grid_style {
	GRID_PLAIN,
	GRID_BOLD,
	GRID_DIM,
	GRID_SELECTED,
	GRID_TITLE,
	GRID_GOOD,
	GRID_NOTE,
	GRID_WARN,
	GRID_NEVER,
	GRID_AGENT, /* words of the agent's */
	GRID_STYLE_COUNT
};

struct grid_cell {
	wchar_t ch[GRID_CELL_CHARS + 1]; /* empty: the right half of the wide one before it */
	uint8_t style;
};

struct grid {
	int rows, cols;
	struct grid_cell *cells;
	int cursor_row, cursor_col; /* row -1: not shown */
};

struct glyph {
	wchar_t ch[GRID_CELL_CHARS + 1];
	int width; /* 1 or 2 */
};
struct glyphs {
	struct str rest;
	char escape[16]; /* what is left of one */
	size_t escape_at;
};
struct glyphs glyphs_of(struct str s);
bool glyph_next(struct glyphs *g, struct glyph *out);
/* The first character of s, or all of its escape: bytes of s, and the cells that it takes. 0: s is
 * empty. */
size_t glyph_span(struct str s, int *width);
/* Cells that the whole of s takes. */
int glyphs_width(struct str s);

/* Sizes past the caps are cut to them; empty cells. */
void grid_resize(struct grid *g, int rows, int cols);
void grid_free(struct grid *g);
void grid_clear(struct grid *g);
/* A part of a grid, clamped to it. What is put past its edge is cut with a mark. */
struct grid_area {
	struct grid *g;
	int row, col, rows, cols;
};
struct grid_area grid_area(struct grid *g, int row, int col, int rows, int cols);
/* Columns used, from col of the area. */
int grid_put(struct grid_area a, int row, int col, enum grid_style style, struct str s);
int grid_printf(struct grid_area a, int row, int col, enum grid_style style, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));
/* Cut in the middle, for texts whose end matters as much as their beginning: "https://api.exa…com".
 */
int grid_put_ends(struct grid_area a, int row, int col, enum grid_style style, struct str s);
/* The style of a whole row of the area, its empty cells too. */
void grid_mark_row(struct grid_area a, int row, enum grid_style style);
/* A rule with a title in it. */
void grid_rule(struct grid_area a, int row, enum grid_style style, const char *title);
/* Is text past ASCII printable here? */
bool grid_is_unicode(void);
const char *grid_cut_mark(void); /* "…", or "~" */
/* A row as UTF-8, without the blanks at its end. For tests. */
int grid_row_text(const struct grid *g, int row, struct buf *out) _fallible_;
