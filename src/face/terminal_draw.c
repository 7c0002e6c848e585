/* From what the ui holds to cells. Nothing here changes what a key does but the record of what has
 * been on the screen (note_shown()). */
#include "face/terminal_ui.h"

#include <stdio.h>

#define SIDE_BY_SIDE_COLS 110
#define SIDE_COLS	  44

static const char *state_of(const struct face_bottle *b)
{
	if (!b->entry.is_alive)
		return "dead";
	if (b->is_paused)
		return "paused";
	return b->entry.state[0] ? b->entry.state : "running";
}

/* Puts text in a column of its own; the next one starts behind it. */
static int put_column(struct grid_area a, int row, int col, int width, enum grid_style style,
		      const char *text)
{
	(void)grid_put(grid_area(a.g, a.row + row, a.col + col, 1,
				 width < a.cols - col ? width : a.cols - col),
		       0, 0, style, str_of(text));
	return col + width + 1;
}

/* The first row to show of n in a height, so that at is among them, moving as little as possible.
 */
static size_t scrolled(size_t top, size_t at, size_t n, size_t height)
{
	if (height == 0 || n <= height)
		return 0;
	if (at < top)
		top = at;
	if (at >= top + height)
		top = at - height + 1;
	return top + height > n ? n - height : top;
}

static void draw_bottle(struct grid_area a, int row, const struct face_bottle *b, bool is_selected)
{
	bool is_wide = a.cols >= 42;
	char pending[24] = "";
	int name = a.cols - (is_wide ? 26 : 13), col = 0;
	enum grid_style style = !b->entry.is_alive ? GRID_DIM
				: b->is_paused	   ? GRID_WARN
						   : GRID_PLAIN;

	if (b->n_pending)
		(void)snprintf(pending, sizeof(pending), "%zu", b->n_pending);
	col = put_column(a, row, col, name, style, b->entry.slug);
	if (is_wide) {
		col = put_column(a, row, col, 6, style, b->entry.agent);
		col = put_column(a, row, col, 6, style, b->entry.backend);
	}
	col = put_column(a, row, col, 7, style, state_of(b));
	(void)put_column(a, row, col, 4, b->n_pending ? GRID_BOLD : style, pending);
	if (is_selected)
		grid_mark_row(a, row, GRID_SELECTED);
}

static void draw_bottles(const struct ui *u, struct grid_area a)
{
	size_t n = u->now.n_bottles + 1, at = 0, height = a.rows > 1 ? (size_t)a.rows - 1 : 0, top;
	struct grid_area list = grid_area(a.g, a.row + 1, a.col, a.rows - 1, a.cols);

	for (size_t i = 0; u->bottle[0] && i < u->now.n_bottles; i++) {
		if (strcmp(u->now.bottles[i].entry.slug, u->bottle) == 0)
			at = i + 1;
	}
	grid_rule(a, 0, u->pane == UI_BOTTLES ? GRID_TITLE : GRID_DIM, "bottles");
	top = scrolled(0, at, n, height);
	for (size_t i = 0; i < height && top + i < n; i++) {
		if (top + i > 0) {
			draw_bottle(list, (int)i, &u->now.bottles[top + i - 1], top + i == at);
			continue;
		}
		(void)grid_put(list, 0, 0, GRID_PLAIN, STR_LIT("all bottles"));
		if (at == 0)
			grid_mark_row(list, 0, GRID_SELECTED);
	}
}

static const char *mark_of(const struct look_row *r)
{
	switch (r->state) {
	case REQUEST_PENDING:
		break;
	case REQUEST_GRANTED:
		return "yes";
	case REQUEST_REFUSED:
		return "no";
	case REQUEST_EXPIRED:
		return "late";
	case REQUEST_NEVER:
		return "NEVER";
	}
	return r->worst == DANGER_NEVER	 ? "NEVER"
	       : r->worst == DANGER_WARN ? "WARN"
	       : r->worst == DANGER_NOTE ? "note"
					 : "";
}

static void draw_row(const struct ui *u, struct grid_area a, int row, const struct look_row *r,
		     uint64_t now)
{
	static const enum grid_style styles[] = {GRID_PLAIN, GRID_NOTE, GRID_WARN, GRID_NEVER};
	enum grid_style plain = r->state == REQUEST_PENDING ? GRID_PLAIN : GRID_DIM;
	char age[16], times[24] = "";
	int col = 0;

	ui_span(age, now > r->created ? now - r->created : 0);
	if (r->asked > 999)
		(void)snprintf(times, sizeof(times), ">999x");
	else if (r->asked > 1)
		(void)snprintf(times, sizeof(times), "%ux", (unsigned)r->asked);
	col = put_column(a, row, col, 5, plain, age);
	if (a.cols >= 60)
		col = put_column(a, row, col, 5, plain, times);
	col = put_column(a, row, col, 6, plain, ui_kind_name(r->kind));
	col = put_column(a, row, col, 5, styles[r->worst <= DANGER_NEVER ? r->worst : 0],
			 mark_of(r));
	if (!u->bottle[0] && a.cols >= 72)
		col = put_column(a, row, col, 18, plain, r->slug);
	if (col < a.cols)
		(void)grid_put_ends(a, row, col, plain, str_of(r->summary));
}

static void draw_requests(struct ui *u, struct grid_area a, uint64_t now)
{
	const struct look_news *n = &u->now;
	struct grid_area list = grid_area(a.g, a.row + 1, a.col, a.rows - 1, a.cols);
	bool is_ours = strcmp(n->rows_of, u->wanted.slug) == 0;
	char title[96];

	(void)snprintf(title, sizeof(title), "requests%s%s %zu%s", u->bottle[0] ? " of " : "",
		       u->bottle, is_ours ? n->n_rows : 0, is_ours && n->is_more ? "+" : "");
	grid_rule(a, 0, u->pane == UI_REQUESTS ? GRID_TITLE : GRID_DIM, title);
	u->page = list.rows > 0 ? (size_t)list.rows : 1;
	u->top = scrolled(u->top, u->at, n->n_rows, u->page);
	if (!is_ours || n->n_rows == 0)
		(void)grid_put(list, 0, 0, GRID_DIM,
			       n->has_rows && is_ours ? STR_LIT("nothing is asked for")
						      : str_of(grid_cut_mark()));
	for (size_t i = 0; is_ours && i < u->page && u->top + i < n->n_rows; i++) {
		const struct look_row *r = &n->rows[u->top + i];

		draw_row(u, list, (int)i, r, now);
		if (!u->is_gone && ui_name_is(&u->selected, r->slug, r->id))
			grid_mark_row(list, (int)i, GRID_SELECTED);
	}
}

static void draw_records(const struct ui *u, struct grid_area a)
{
	const struct look_news *n = &u->now;
	char title[96];
	size_t told = 0;
	int row;

	if (a.rows < 2)
		return;
	(void)snprintf(title, sizeof(title), "decisions of %s",
		       n->records_of[0] ? n->records_of : "no bottle");
	grid_rule(a, 0, GRID_DIM, title);
	if (strcmp(n->records_of, u->wanted.records_of) != 0)
		return;
	/* From the bottom up: what the agent told last, in at most a third, then the records. */
	row = a.rows - 1;
	for (; told < n->told.n && (int)told < a.rows / 3; told++, row--) {
		int used = grid_put(a, row, 0, GRID_AGENT, STR_LIT("the agent says: "));

		(void)grid_put(a, row, used, GRID_AGENT,
			       str_of(n->told.lines[n->told.n - 1 - told]));
	}
	for (size_t i = n->records.n; i > 0 && row > 0; i--, row--)
		(void)grid_put(a, row, 0, GRID_PLAIN, str_of(n->records.lines[i - 1]));
}

static void draw_lists(struct ui *u, struct grid_area a, uint64_t now)
{
	int n_bottles = (int)u->now.n_bottles + 2, rest, records;

	if (a.cols >= SIDE_BY_SIDE_COLS) {
		records = a.rows / 3;
		draw_bottles(u, grid_area(a.g, a.row, a.col, a.rows, SIDE_COLS));
		draw_requests(u,
			      grid_area(a.g, a.row, a.col + SIDE_COLS + 1, a.rows - records,
					a.cols - SIDE_COLS - 1),
			      now);
		draw_records(u, grid_area(a.g, a.row + a.rows - records, a.col + SIDE_COLS + 1,
					  records, a.cols - SIDE_COLS - 1));
		return;
	}
	if (n_bottles > a.rows / 4 + 2)
		n_bottles = a.rows / 4 + 2;
	rest = a.rows - n_bottles;
	records = rest >= 8 ? rest / 3 : rest >= 6 ? 2 : 0;
	draw_bottles(u, grid_area(a.g, a.row, a.col, n_bottles, a.cols));
	draw_requests(u, grid_area(a.g, a.row + n_bottles, a.col, rest - records, a.cols), now);
	draw_records(u, grid_area(a.g, a.row + a.rows - records, a.col, records, a.cols));
}

/* What a decision may be about from here on: this, as it is on the screen now. */
static void note_shown(struct ui *u, const struct request *r, uint64_t now_ms)
{
	if (ui_name_is(&u->shown, u->wanted.detail_of, r->id) &&
	    memcmp(u->shown_hash, r->hash, sizeof(r->hash)) == 0)
		return;
	if (u->shown.id && ui_name_is(&u->shown, u->wanted.detail_of, r->id)) {
		ui_say(u, GRID_WARN, "This request has changed. Look again.");
		doc_restart(&u->detail);
	}
	memcpy(u->shown.slug, u->wanted.detail_of, sizeof(u->shown.slug));
	u->shown.id = r->id;
	memcpy(u->shown_hash, r->hash, sizeof(u->shown_hash));
	u->shown_since_ms = now_ms;
}

static void draw_detail(struct ui *u, struct grid_area a, uint64_t now)
{
	const struct request *r = ui_request(u);

	u->page = a.rows > 0 ? (size_t)a.rows : 1;
	if (!r) {
		bool is_known = u->now.has_detail && u->now.detail_id == u->wanted.detail &&
				strcmp(u->now.detail_of, u->wanted.detail_of) == 0;

		u->shown = (struct ui_name){0};
		(void)grid_put(a, 0, 0, GRID_DIM,
			       is_known ? STR_LIT("This request is not there any more.")
					: str_of(grid_cut_mark()));
		return;
	}
	doc_clear(&u->detail);
	ui_describe(&u->detail, u->wanted.detail_of, r, now);
	doc_draw(&u->detail, a);
}

static void draw_grants(struct ui *u, struct grid_area a, uint64_t now)
{
	struct grid_area list = grid_area(a.g, a.row + 1, a.col, a.rows - 1, a.cols);
	const struct look_news *n = &u->now;
	bool is_ours = n->has_grants && strcmp(n->grants_of, u->wanted.grants_of) == 0;
	char title[96];

	(void)snprintf(title, sizeof(title), "grants of %s", u->wanted.grants_of);
	grid_rule(a, 0, GRID_TITLE, title);
	u->page = list.rows > 0 ? (size_t)list.rows : 1;
	u->grant_top = scrolled(u->grant_top, u->grant_at, n->n_grants, u->page);
	if (!is_ours || n->n_grants == 0)
		(void)grid_put(list, 0, 0, GRID_DIM,
			       is_ours ? STR_LIT("nothing has been granted")
				       : str_of(grid_cut_mark()));
	for (size_t i = 0; is_ours && i < u->page && u->grant_top + i < n->n_grants; i++) {
		const struct look_grant *g = &n->grants[u->grant_top + i];
		enum grid_style style = g->state == GRANT_ACTIVE ? GRID_PLAIN : GRID_DIM;
		char text[24];
		int col;

		(void)snprintf(text, sizeof(text), "%llu", (unsigned long long)g->id);
		col = put_column(list, (int)i, 0, 5, style, text);
		col = put_column(list, (int)i, col, 7, style, face_grant_state_name(g->state));
		col = put_column(list, (int)i, col, 6, style, face_scope_name(g->scope));
		text[0] = '\0';
		if (g->state == GRANT_ACTIVE && g->until)
			ui_span(text, g->until > now ? g->until - now : 0);
		col = put_column(list, (int)i, col, 4, style, text);
		(void)grid_put_ends(list, (int)i, col, style, str_of(g->summary));
		if (ui_name_is(&u->grant, n->grants_of, g->id))
			grid_mark_row(list, (int)i, GRID_SELECTED);
	}
}

static const char *hint_of(const struct ui *u)
{
	const struct request *r = ui_request(u);

	switch (u->mode) {
	case UI_LIST:
		return "? help  q quit  Enter open  Tab pane  v grants  P pause  K stop  h history";
	case UI_GRANTS:
		return "x revoke  Esc back";
	case UI_HELP:
		return "any key: back";
	case UI_DIFF:
		return "y/N";
	case UI_DETAIL:
		break;
	}
	if (!r || r->state != REQUEST_PENDING)
		return "Esc back";
	if (danger_forbids(&r->danger))
		return "r refuse  Esc back";
	switch (r->change.kind) {
	case ASK_EGRESS:
		return "o once  b bottle  t minutes  a always  r refuse  Esc back";
	case ASK_RELEASE:
		return "p pass  m masked  x stop  r refuse, with a reason  Esc back";
	case ASK_PUSH:
	case ASK_CAPABILITY:
		break;
	}
	return "o approve  r refuse  Esc back";
}

static void draw_input(const struct ui *u, struct grid_area a)
{
	int used = grid_put(a, 0, 0, GRID_TITLE, str_of(u->question)), room, skip;
	struct str line = str_slice(u->input, u->input_n);

	if (used > a.cols / 2)
		used = a.cols / 2;
	used++;
	room = a.cols - used - 1;
	/* The end is where one types. */
	for (skip = glyphs_width(line) - room; skip > 0;) {
		int width;
		size_t n = glyph_span(line, &width);

		line = str_sub(line, n, line.n);
		skip -= width;
	}
	a.g->cursor_row = a.row;
	a.g->cursor_col = a.col + used + grid_put(a, 0, used, GRID_PLAIN, line);
}

/* What stands at the bottom: a question before a message before the keys. "" while a line is typed.
 */
static void bottom_text(const struct ui *u, char *out, size_t size, enum grid_style *style)
{
	*style = GRID_TITLE;
	if (u->prompt == UI_CONFIRM) {
		*style = GRID_WARN;
		(void)snprintf(out, size, "%s%s%s", u->message, u->message[0] ? " " : "",
			       u->question);
	} else if (u->prompt != UI_NO_PROMPT) {
		out[0] = '\0';
	} else if (u->order.kind != UI_NO_ORDER) {
		(void)snprintf(out, size, "The keeper is asked ...");
	} else if (u->message[0]) {
		*style = u->message_style;
		(void)snprintf(out, size, "%s", u->message);
	} else if (u->mode == UI_DIFF && u->question[0]) {
		*style = GRID_WARN;
		(void)snprintf(out, size, "WARNING: %s. Approve always, with this? y/N",
			       u->question);
	} else if (u->mode == UI_DIFF) {
		(void)snprintf(out, size, "Approve always, with this? y/N");
	} else {
		*style = GRID_DIM;
		(void)snprintf(out, size, "%s", hint_of(u));
	}
}

#define BOTTOM_ROWS_MAX 4
/* Draws it and returns its rows: a question is shown whole, for it names what is warned about. */
static int draw_bottom(const struct ui *u, struct grid *g)
{
	enum grid_style style;
	char text[sizeof(u->message) + sizeof(u->question) + 64];
	struct doc d;
	int rows;

	bottom_text(u, text, sizeof(text), &style);
	if (u->prompt != UI_NO_PROMPT && u->prompt != UI_CONFIRM) {
		draw_input(u, grid_area(g, g->rows - 1, 0, 1, g->cols));
		return 1;
	}
	if (style == GRID_DIM) {
		(void)grid_put(grid_area(g, g->rows - 1, 0, 1, g->cols), 0, 0, style, str_of(text));
		return 1;
	}
	doc_init(&d);
	doc_add(&d, style, 0, str_of(text));
	rows = doc_rows(&d, g->cols);
	if (rows > BOTTOM_ROWS_MAX)
		rows = BOTTOM_ROWS_MAX;
	if (rows > g->rows - 4)
		rows = g->rows - 4;
	doc_draw(&d, grid_area(g, g->rows - rows, 0, rows, g->cols));
	doc_free(&d);
	return rows;
}

static void draw_top(const struct ui *u, struct grid_area a)
{
	int used = grid_printf(a, 0, 0, GRID_TITLE, "supervise  %zu pending", u->n_pending);

	if (u->now.trouble[0] && a.cols > used + 4) {
		(void)grid_put(a, 0, used + 2, GRID_WARN, str_of(u->now.trouble));
	} else if (u->is_gone && u->mode == UI_LIST) {
		(void)grid_put(a, 0, used + 2, GRID_NOTE,
			       STR_LIT("the selected request is no longer here"));
	}
}

/* Nothing that is decided about can be read on it. */
static void draw_too_small(struct ui *u, struct grid *g)
{
	ui_drop_question(u);
	u->shown = (struct ui_name){0};
	(void)grid_put(grid_area(g, 0, 0, g->rows, g->cols), 0, 0, GRID_WARN, STR_LIT("too small"));
}

void ui_draw(struct ui *u, struct grid *g, uint64_t now, uint64_t now_ms)
{
	struct grid_area body;

	grid_clear(g);
	if (g->rows < UI_ROWS_MIN || g->cols < UI_COLS_MIN) {
		draw_too_small(u, g);
		return;
	}
	/* First what is remembered about a request that has changed: it says so at the bottom. */
	if (u->mode == UI_DETAIL && ui_request(u))
		note_shown(u, ui_request(u), now_ms);
	body = grid_area(g, 1, 0, g->rows - 1 - draw_bottom(u, g), g->cols);
	if (u->prompt == UI_CONFIRM && !u->asked_since_ms)
		u->asked_since_ms = now_ms;
	switch (u->mode) {
	case UI_LIST:
		draw_lists(u, body, now);
		break;
	case UI_DETAIL:
		draw_detail(u, body, now);
		break;
	case UI_DIFF:
		u->page = (size_t)body.rows;
		doc_draw(&u->diff, body);
		if (!u->diff_since_ms)
			u->diff_since_ms = now_ms;
		break;
	case UI_GRANTS:
		draw_grants(u, body, now);
		break;
	case UI_HELP:
		u->page = (size_t)body.rows;
		doc_draw(&u->help, body);
		break;
	}
	draw_top(u, grid_area(g, 0, 0, 1, g->cols));
}
