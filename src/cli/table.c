#include "cli/table.h"

#include "base/clean.h"
#include "base/mem.h"
#include "base/text.h"

struct table_row {
	enum table_colour colour;
	char *cells[TABLE_COLUMNS_MAX];
};

void table_init(struct table *t, size_t n_columns)
{
	*t = (struct table){.n_columns =
				    n_columns > TABLE_COLUMNS_MAX ? TABLE_COLUMNS_MAX : n_columns};
}

void table_free(struct table *t)
{
	for (size_t i = 0; i < t->n_rows; i++) {
		for (size_t k = 0; k < t->n_columns; k++)
			free(t->rows[i].cells[k]);
	}
	free(t->rows);
	*t = (struct table){0};
}

static struct table_row *new_row(struct table *t, enum table_colour colour)
{
	struct table_row *row;

	t->rows = mem_grow_array(t->rows, &t->cap_rows, t->n_rows + 1, sizeof(*t->rows));
	row = &t->rows[t->n_rows++];
	row->colour = colour;
	return row;
}

void table_add(struct table *t, enum table_colour colour, const char *const *cells)
{
	struct table_row *row = new_row(t, colour);

	for (size_t k = 0; k < t->n_columns; k++) {
		char shown[TABLE_CELL_MAX];

		text_visible_cstr(shown, sizeof(shown), str_of(cells[k] ? cells[k] : ""));
		row->cells[k] = mem_strdup(shown);
	}
}

void table_add_visible(struct table *t, enum table_colour colour, const char *const *cells)
{
	struct table_row *row = new_row(t, colour);

	for (size_t k = 0; k < t->n_columns; k++)
		row->cells[k] = mem_strdup(cells[k] ? cells[k] : "");
}

size_t table_width(const char *s)
{
	size_t n = 0;

	for (; *s; s++)
		n += ((unsigned char)*s & 0xc0) != 0x80;
	return n;
}

int table_cell(struct buf *out, const char *text, size_t width)
{
	size_t have = table_width(text);
	int r = buf_append_str(out, str_of(text));

	for (; r == 0 && have < width; have++)
		r = buf_append(out, " ", 1);
	return r;
}

const char *table_colour_start(enum table_colour c)
{
	static const char *const starts[] = {
		[TABLE_PLAIN] = "",	  [TABLE_BOLD] = "\x1b[1m",    [TABLE_GREEN] = "\x1b[32m",
		[TABLE_RED] = "\x1b[31m", [TABLE_YELLOW] = "\x1b[33m", [TABLE_DIM] = "\x1b[2m"};

	return starts[c];
}

static int print_row(const struct table *t, const struct table_row *row, const size_t *widths,
		     bool has_colour, struct buf *out)
{
	bool is_coloured = has_colour && row->colour != TABLE_PLAIN;
	size_t last = 0;
	int r = 0;

	for (size_t k = 0; k < t->n_columns; k++) {
		if (row->cells[k][0])
			last = k;
	}
	if (is_coloured)
		r = buf_append_str(out, str_of(table_colour_start(row->colour)));
	for (size_t k = 0; r == 0 && k <= last; k++)
		r = table_cell(out, row->cells[k], k == last ? 0 : widths[k] + 2);
	if (r == 0 && is_coloured)
		r = buf_append_str(out, STR_LIT("\x1b[0m"));
	return r == 0 ? buf_append(out, "\n", 1) : r;
}

int table_print(const struct table *t, bool has_colour, struct buf *out)
{
	size_t widths[TABLE_COLUMNS_MAX] = {0};
	int r = 0;

	for (size_t i = 0; i < t->n_rows; i++) {
		for (size_t k = 0; k < t->n_columns; k++) {
			size_t n = table_width(t->rows[i].cells[k]);

			if (n > widths[k])
				widths[k] = n;
		}
	}
	for (size_t i = 0; r == 0 && i < t->n_rows; i++)
		r = print_row(t, &t->rows[i], widths, has_colour, out);
	return r;
}

bool table_may_colour(int fd)
{
	const char *no = getenv("NO_COLOR");
	const char *term = getenv("TERM");

	return isatty(fd) && !(no && no[0]) && term && strcmp(term, "dumb") != 0;
}
