#include "face/terminal_grid.h"

#include "base/mem.h"
#include "base/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define PRINTF_MAX 1024

bool grid_is_unicode(void)
{
	return wcwidth(0x2026) == 1 && wcwidth(0x2500) == 1;
}

const char *grid_cut_mark(void)
{
	return grid_is_unicode() ? "…" : "~";
}

struct glyphs glyphs_of(struct str s)
{
	return (struct glyphs){.rest = s};
}

/* Takes the combining marks that follow a base, as many as a cell shows; what is left over has no
 * base and becomes escapes. */
static void take_marks(struct glyphs *g, struct glyph *out)
{
	for (size_t n = 1; n < GRID_CELL_CHARS; n++) {
		uint32_t cp;
		size_t step = text_utf8_next(g->rest, &cp);

		if (step == 0 || text_is_deceptive(cp) || wcwidth((wchar_t)cp) != 0)
			return;
		out->ch[n] = (wchar_t)cp;
		g->rest = str_sub(g->rest, step, g->rest.n);
	}
}

bool glyph_next(struct glyphs *g, struct glyph *out)
{
	uint32_t cp;
	size_t step;

	*out = (struct glyph){.width = 1};
	if (g->escape[g->escape_at]) {
		out->ch[0] = (wchar_t)g->escape[g->escape_at++];
		return true;
	}
	if (g->rest.n == 0)
		return false;
	step = text_utf8_next(g->rest, &cp);
	if (step > 0 && !text_is_deceptive(cp) && wcwidth((wchar_t)cp) > 0) {
		out->ch[0] = (wchar_t)cp;
		out->width = wcwidth((wchar_t)cp) > 1 ? 2 : 1;
		g->rest = str_sub(g->rest, step, g->rest.n);
		take_marks(g, out);
		return true;
	}
	if (step == 0)
		(void)snprintf(g->escape, sizeof(g->escape), "\\x%02x",
			       (unsigned char)g->rest.p[0]);
	else
		(void)snprintf(g->escape, sizeof(g->escape), cp < 0x80 ? "\\x%02x" : "\\u{%x}",
			       (unsigned)cp);
	g->rest = str_sub(g->rest, step ? step : 1, g->rest.n);
	out->ch[0] = (wchar_t)g->escape[0];
	g->escape_at = 1;
	return true;
}

size_t glyph_span(struct str s, int *width)
{
	struct glyphs it = glyphs_of(s);
	struct glyph one;

	*width = 0;
	if (!glyph_next(&it, &one))
		return 0;
	*width = one.width;
	while (it.escape[it.escape_at] && glyph_next(&it, &one))
		*width += one.width;
	return s.n - it.rest.n;
}

int glyphs_width(struct str s)
{
	struct glyphs it = glyphs_of(s);
	struct glyph one;
	int width = 0;

	while (width < GRID_COLS_MAX * 4 && glyph_next(&it, &one))
		width += one.width;
	return width;
}

static int clamp(int v, int from, int to)
{
	return v < from ? from : v > to ? to : v;
}

void grid_clear(struct grid *g)
{
	for (size_t i = 0; i < (size_t)g->rows * (size_t)g->cols; i++)
		g->cells[i] = (struct grid_cell){.ch = {L' '}};
	g->cursor_row = -1;
}

void grid_resize(struct grid *g, int rows, int cols)
{
	rows = clamp(rows, 1, GRID_ROWS_MAX);
	cols = clamp(cols, 1, GRID_COLS_MAX);
	free(g->cells);
	g->cells = mem_zalloc_array((size_t)rows * (size_t)cols, sizeof(*g->cells));
	g->rows = rows;
	g->cols = cols;
	grid_clear(g);
}

void grid_free(struct grid *g)
{
	free(g->cells);
	*g = (struct grid){0};
}

struct grid_area grid_area(struct grid *g, int row, int col, int rows, int cols)
{
	row = clamp(row, 0, g->rows);
	col = clamp(col, 0, g->cols);
	return (struct grid_area){g, row, col, clamp(rows, 0, g->rows - row),
				  clamp(cols, 0, g->cols - col)};
}

static struct grid_cell *cell_at(struct grid_area a, int row, int col)
{
	return &a.g->cells[(size_t)(a.row + row) * (size_t)a.g->cols + (size_t)(a.col + col)];
}

static void put_glyph(struct grid_area a, int row, int col, enum grid_style style,
		      const struct glyph *one)
{
	struct grid_cell *c = cell_at(a, row, col);

	memcpy(c->ch, one->ch, sizeof(c->ch));
	c->style = (uint8_t)style;
	if (one->width == 2)
		c[1] = (struct grid_cell){.style = (uint8_t)style};
}

/* At most width cells of s; *is_cut: there was more, and the mark stands in the last one. */
static int put_within(struct grid_area a, int row, int col, int width, enum grid_style style,
		      struct str s)
{
	struct glyphs it = glyphs_of(s), mark = glyphs_of(str_of(grid_cut_mark()));
	struct glyph one;
	int used = 0, marked = 0;

	if (row < 0 || row >= a.rows || col < 0)
		return 0;
	width = clamp(width, 0, a.cols - col);
	while (glyph_next(&it, &one)) {
		if (used + one.width > width) {
			if (width > 0 && glyph_next(&mark, &one))
				put_glyph(a, row, col + marked, style, &one);
			for (int i = marked + 1; i < width; i++)
				*cell_at(a, row, col + i) =
					(struct grid_cell){.ch = {L' '}, .style = (uint8_t)style};
			return width;
		}
		/* Where the mark would have to stand, should this be the last that fits. */
		if (used + one.width < width)
			marked = used + one.width;
		put_glyph(a, row, col + used, style, &one);
		used += one.width;
	}
	return used;
}

int grid_put(struct grid_area a, int row, int col, enum grid_style style, struct str s)
{
	return put_within(a, row, col, a.cols - col, style, s);
}

int grid_printf(struct grid_area a, int row, int col, enum grid_style style, const char *fmt, ...)
{
	char text[PRINTF_MAX];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return grid_put(a, row, col, style, str_of(text));
}

int grid_put_ends(struct grid_area a, int row, int col, enum grid_style style, struct str s)
{
	int width = a.cols - col, all = glyphs_width(s), tail = width / 2, skip;
	struct glyphs it = glyphs_of(s);
	struct glyph one;
	int head, used;

	if (all <= width || width < 8)
		return grid_put(a, row, col, style, s);
	/* The head takes one cell more than it may, so that its cut leaves the mark there. */
	head = width - tail;
	used = put_within(a, row, col, head, style, s);
	skip = all - tail;
	while (skip > 0 && glyph_next(&it, &one))
		skip -= one.width;
	while (row >= 0 && row < a.rows && glyph_next(&it, &one) && used + one.width <= width) {
		put_glyph(a, row, col + used, style, &one);
		used += one.width;
	}
	return used;
}

void grid_mark_row(struct grid_area a, int row, enum grid_style style)
{
	for (int i = 0; row >= 0 && row < a.rows && i < a.cols; i++)
		cell_at(a, row, i)->style = (uint8_t)style;
}

void grid_rule(struct grid_area a, int row, enum grid_style style, const char *title)
{
	wchar_t line = grid_is_unicode() ? L'─' : L'-';
	const struct glyph one = {.ch = {line}, .width = 1};

	for (int i = 0; row >= 0 && row < a.rows && i < a.cols; i++)
		put_glyph(a, row, i, GRID_DIM, &one);
	if (*title && a.cols > 6) {
		struct grid_area inner = grid_area(a.g, a.row + row, a.col + 2, 1, a.cols - 4);
		int used = grid_put(inner, 0, 1, style, str_of(title));

		(void)grid_put(inner, 0, 0, style, STR_LIT(" "));
		(void)grid_put(inner, 0, used + 1, style, STR_LIT(" "));
	}
}

int grid_row_text(const struct grid *g, int row, struct buf *out)
{
	const struct grid_cell *cells = g->cells + (size_t)row * (size_t)g->cols;
	int n = g->cols, r = 0;

	while (n > 0 && cells[n - 1].ch[0] == L' ' && cells[n - 1].ch[1] == 0)
		n--;
	for (int i = 0; r == 0 && i < n; i++) {
		for (const wchar_t *w = cells[i].ch; r == 0 && *w; w++) {
			char utf8[16];
			mbstate_t state = {0};
			size_t len = wcrtomb(utf8, *w, &state);

			r = len == (size_t)-1 ? buf_append(out, "?", 1)
					      : buf_append(out, utf8, len);
		}
	}
	return r;
}
