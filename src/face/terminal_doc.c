#include "face/terminal_doc.h"

#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void doc_init(struct doc *d)
{
	*d = (struct doc){0};
	buf_init(&d->text, DOC_MAX_BYTES);
}

void doc_free(struct doc *d)
{
	buf_free(&d->text);
	free(d->lines);
	free(d->rows);
	*d = (struct doc){0};
}

void doc_clear(struct doc *d)
{
	buf_reset(&d->text);
	d->n_lines = d->must = d->n_rows = d->must_rows = 0;
	d->is_cut = d->is_wrapped = false;
}

void doc_restart(struct doc *d)
{
	d->top = d->seen = 0;
}

static struct str text_of(const struct doc *d, size_t from, size_t n)
{
	return str_sub(buf_str(&d->text), from, from + n);
}

void doc_add(struct doc *d, enum grid_style style, int indent, struct str line)
{
	size_t from = buf_len(&d->text);

	if (d->is_cut)
		return;
	if (d->n_lines + 1 >= DOC_LINES_MAX || buf_append_str(&d->text, line) < 0) {
		d->is_cut = true;
		line = STR_NULL;
		style = GRID_WARN;
	}
	d->lines = mem_grow_array(d->lines, &d->cap_lines, d->n_lines + 1, sizeof(*d->lines));
	d->lines[d->n_lines++] = (struct doc_line){from, line.n, style, indent, false};
	d->is_wrapped = false;
}

void doc_addf(struct doc *d, enum grid_style style, int indent, const char *fmt, ...)
{
	char text[8192];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	doc_add(d, style, indent, str_of(text));
}

#define QUOTE_COLS 2

void doc_add_quote(struct doc *d, enum grid_style style, struct str line)
{
	doc_add(d, style, QUOTE_COLS, line);
	d->lines[d->n_lines - 1].is_quoted = !d->is_cut;
}

void doc_add_text(struct doc *d, enum grid_style style, struct str text)
{
	while (text.n > 0) {
		struct str line;
		bool found;

		text = str_cut(text, '\n', &line, &found);
		doc_add(d, style, QUOTE_COLS, line);
	}
}

void doc_must_see(struct doc *d)
{
	d->must = d->n_lines;
}

/* Where a row that starts at from ends: behind its last blank, where that is in its right half,
 * else in the word. At least one character, so that every text ends. */
static size_t row_end(struct str all, size_t from, int room)
{
	size_t at = from, blank = from;
	int used = 0;

	while (at < all.n) {
		int width;
		size_t n = glyph_span(str_sub(all, at, all.n), &width);

		if (used + width > room)
			return blank > from ? blank : at > from ? at : at + n;
		used += width;
		at += n;
		if (all.p[at - 1] == ' ' && used > room / 2)
			blank = at;
	}
	return all.n;
}

static void wrap_line(struct doc *d, const struct doc_line *l)
{
	struct str all = text_of(d, l->from, l->n);
	size_t from = 0;

	do {
		bool is_indented = l->is_quoted || (from > 0 && l->indent < d->width / 2);
		int indent = is_indented ? l->indent : 0;
		size_t end = row_end(all, from, d->width - indent);

		d->rows = mem_grow_array(d->rows, &d->cap_rows, d->n_rows + 1, sizeof(*d->rows));
		d->rows[d->n_rows++] = (struct doc_row){l->from + from, end - from, l->style,
							indent, l->is_quoted};
		from = end;
	} while (from < all.n);
}

static void wrap(struct doc *d, int width)
{
	/* Rows of another width are other rows: what was seen of them has to be seen again. */
	if (d->width != width)
		doc_restart(d);
	else if (d->is_wrapped)
		return;
	d->n_rows = d->must_rows = 0;
	d->width = width;
	d->is_wrapped = true;
	for (size_t i = 0; i < d->n_lines; i++) {
		wrap_line(d, &d->lines[i]);
		if (i + 1 == d->must)
			d->must_rows = d->n_rows;
	}
}

/* The marks of more have the last two. */
static int width_of(int cols)
{
	return cols - 2;
}

int doc_rows(struct doc *d, int cols)
{
	wrap(d, width_of(cols) < 2 ? 2 : width_of(cols));
	return (int)d->n_rows;
}

void doc_draw(struct doc *d, struct grid_area a)
{
	size_t height = a.rows > 0 ? (size_t)a.rows : 0;
	int width = width_of(a.cols);

	if (height == 0 || width < 2)
		return;
	wrap(d, width);
	if (d->top + height > d->n_rows)
		d->top = d->n_rows > height ? d->n_rows - height : 0;
	for (size_t i = 0; i < height && d->top + i < d->n_rows; i++) {
		const struct doc_row *row = &d->rows[d->top + i];

		if (row->is_quoted)
			(void)grid_put(a, (int)i, 0, GRID_DIM, STR_LIT("|"));
		(void)grid_put(a, (int)i, row->indent, row->style, text_of(d, row->from, row->n));
	}
	if (d->top > 0)
		(void)grid_put(a, 0, a.cols - 1, GRID_BOLD, STR_LIT("^"));
	if (d->top + height < d->n_rows)
		(void)grid_put(a, a.rows - 1, a.cols - 1, GRID_BOLD, STR_LIT("v"));
	if (d->is_cut && d->top + height >= d->n_rows)
		(void)grid_put(a, a.rows - 1, 0, GRID_WARN,
			       STR_LIT("(too long to be shown whole)"));
	if (d->top <= d->seen && d->top + height > d->seen)
		d->seen = d->top + height < d->n_rows ? d->top + height : d->n_rows;
}

void doc_scroll(struct doc *d, long rows)
{
	if (rows < 0)
		d->top = d->top > (size_t)-rows ? d->top - (size_t)-rows : 0;
	else
		d->top += (size_t)rows;
	if (d->top >= d->n_rows)
		d->top = d->n_rows ? d->n_rows - 1 : 0;
}

size_t doc_unseen(const struct doc *d)
{
	if (!d->is_wrapped)
		return d->must;
	return d->must_rows > d->seen ? d->must_rows - d->seen : 0;
}
