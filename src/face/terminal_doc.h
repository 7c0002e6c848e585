/*
 * Text longer than a screen: lines of one style each, wrapped to a width and scrolled. What of it
 * has been on the screen is remembered, so that nothing is approved whose end nobody has seen.
 */
#pragma once

#include "face/terminal_grid.h"

#define DOC_MAX_BYTES (4u << 20)
#define DOC_LINES_MAX 100000

struct doc_line {
	size_t from, n; /* in text */
	enum grid_style style;
	int indent; /* of the rows that follow its first one */
	bool is_quoted;
};
struct doc_row {
	size_t from, n;
	enum grid_style style;
	int indent;
	bool is_quoted;
};
struct doc {
	struct buf text;
	struct doc_line *lines;
	size_t n_lines, cap_lines;
	size_t must; /* lines from the first that have to be seen */
	bool is_cut; /* did not fit; what says so is its last line */
	/* As wrapped for width. */
	int width;
	bool is_wrapped;
	struct doc_row *rows;
	size_t n_rows, cap_rows, must_rows;
	size_t top, seen; /* rows; all before seen have been on the screen */
};

void doc_init(struct doc *d);
void doc_free(struct doc *d);
void doc_clear(struct doc *d); /* the place that it is scrolled to stays */
/* Starts over at its top, with nothing seen. */
void doc_restart(struct doc *d);
void doc_add(struct doc *d, enum grid_style style, int indent, struct str line);
void doc_addf(struct doc *d, enum grid_style style, int indent, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* Words of somebody else's: each of its rows begins with a bar, so that none looks like ours. */
void doc_add_quote(struct doc *d, enum grid_style style, struct str line);
/* One line of text for each of its lines. */
void doc_add_text(struct doc *d, enum grid_style style, struct str text);
/* Up to here everything has to be seen. */
void doc_must_see(struct doc *d);
/* Draws, with marks at the right edge where there is more; moves top into bounds and seen on. */
void doc_draw(struct doc *d, struct grid_area a);
/* How many rows it has in an area of so many columns. */
int doc_rows(struct doc *d, int cols);
void doc_scroll(struct doc *d, long rows);
/* Rows that have to be seen and were not yet. */
size_t doc_unseen(const struct doc *d);
