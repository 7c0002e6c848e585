#include "face/terminal_ui.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

void ui_init(struct ui *u, const char *bottle)
{
	*u = (struct ui){.pane = UI_REQUESTS};
	doc_init(&u->detail);
	doc_init(&u->diff);
	doc_init(&u->help);
	ui_help_text(&u->help);
	(void)snprintf(u->bottle, sizeof(u->bottle), "%s", bottle);
	u->wanted.states = 1u << REQUEST_PENDING;
	u->wanted.limit = UI_LIST_STEP;
	memcpy(u->wanted.slug, u->bottle, sizeof(u->wanted.slug));
	memcpy(u->wanted.records_of, u->bottle, sizeof(u->wanted.records_of));
}

void ui_free(struct ui *u)
{
	look_news_free(&u->now);
	doc_free(&u->detail);
	doc_free(&u->diff);
	doc_free(&u->help);
	if (u->has_edit)
		manifest_edit_free(&u->edit);
	*u = (struct ui){0};
}

void ui_say(struct ui *u, enum grid_style style, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(u->message, sizeof(u->message), fmt, ap);
	va_end(ap);
	u->message_style = style;
}

bool ui_name_is(const struct ui_name *n, const char *slug, uint64_t id)
{
	return n->id == id && strcmp(n->slug, slug) == 0;
}

const struct request *ui_request(const struct ui *u)
{
	const struct look_news *n = &u->now;

	if (!n->has_detail || !n->is_there || n->detail_id != u->wanted.detail ||
	    strcmp(n->detail_of, u->wanted.detail_of) != 0)
		return NULL;
	return &n->detail;
}

const struct face_bottle *ui_bottle(const struct ui *u, const char *slug)
{
	for (size_t i = 0; slug[0] && i < u->now.n_bottles; i++) {
		if (strcmp(u->now.bottles[i].entry.slug, slug) == 0)
			return &u->now.bottles[i];
	}
	return NULL;
}

const char *ui_target(const struct ui *u)
{
	if (u->mode == UI_DETAIL || u->mode == UI_DIFF)
		return u->wanted.detail_of;
	if (u->mode == UI_GRANTS)
		return u->wanted.grants_of;
	if (u->bottle[0])
		return u->bottle;
	if (u->selected.id && !u->is_gone)
		return u->selected.slug;
	return u->now.n_bottles == 1 ? u->now.bottles[0].entry.slug : "";
}

/* --- what comes in --- */

static void set_row(struct ui *u, size_t at)
{
	if (u->now.n_rows == 0)
		return;
	if (at >= u->now.n_rows)
		at = u->now.n_rows - 1;
	u->at = at;
	(void)snprintf(u->selected.slug, sizeof(u->selected.slug), "%s", u->now.rows[at].slug);
	u->selected.id = u->now.rows[at].id;
	u->is_gone = false;
	/* Read further before the end of what is there is reached. */
	if (u->now.is_more && at + UI_LIST_STEP / 4 >= u->now.n_rows &&
	    u->wanted.limit < FACE_SHOWN_MAX)
		u->wanted.limit = 2 * u->now.n_rows;
	if (u->wanted.limit > FACE_SHOWN_MAX)
		u->wanted.limit = FACE_SHOWN_MAX;
	if (!u->bottle[0])
		memcpy(u->wanted.records_of, u->selected.slug, sizeof(u->wanted.records_of));
}

/* Finds the selected request again, wherever it is now. One that is gone stays selected as such:
 * whatever took its row was not chosen by anybody. */
static void follow_selected(struct ui *u)
{
	const struct look_news *n = &u->now;

	if (!u->selected.id) {
		set_row(u, 0);
		return;
	}
	if (u->at < n->n_rows && ui_name_is(&u->selected, n->rows[u->at].slug, n->rows[u->at].id)) {
		u->is_gone = false;
		return;
	}
	for (size_t i = 0; i < n->n_rows; i++) {
		if (ui_name_is(&u->selected, n->rows[i].slug, n->rows[i].id)) {
			set_row(u, i);
			return;
		}
	}
	u->is_gone = true;
}

static void follow_grant(struct ui *u)
{
	for (size_t i = 0; i < u->now.n_grants; i++) {
		if (ui_name_is(&u->grant, u->now.grants_of, u->now.grants[i].id)) {
			u->grant_at = i;
			return;
		}
	}
	u->grant.id = 0;
}

static void count_pending(struct ui *u)
{
	size_t n = 0;

	for (size_t i = 0; i < u->now.n_bottles; i++)
		n += u->now.bottles[i].n_pending;
	u->is_new |= n > u->n_pending;
	u->n_pending = n;
}

void ui_drop_question(struct ui *u)
{
	u->prompt = UI_NO_PROMPT;
	u->asked = (struct ui_order){0};
	if (u->mode == UI_DIFF)
		u->mode = UI_DETAIL;
}

/* A question that is asked while its request becomes another is no question any more. */
static void check_question(struct ui *u)
{
	const struct request *r = ui_request(u);

	if ((u->prompt == UI_NO_PROMPT && u->mode != UI_DIFF) || u->asked.kind != UI_DECIDE)
		return;
	if (r && r->state == REQUEST_PENDING &&
	    memcmp(r->hash, u->asked.hash, sizeof(r->hash)) == 0)
		return;
	ui_drop_question(u);
	ui_say(u, GRID_WARN,
	       "Nothing was sent: the request is no longer what was shown. Look again.");
}

void ui_take(struct ui *u, struct look_news *n)
{
	bool has_rows = n->has_rows, has_detail = n->has_detail, has_bottles = n->has_bottles;

	look_news_merge(&u->now, n);
	if (has_bottles)
		count_pending(u);
	if (has_rows)
		follow_selected(u);
	follow_grant(u);
	if (has_detail)
		check_question(u);
}

/* --- the lists' keys --- */

void ui_open_detail(struct ui *u, const struct ui_name *which)
{
	u->mode = UI_DETAIL;
	memcpy(u->wanted.detail_of, which->slug, sizeof(u->wanted.detail_of));
	u->wanted.detail = which->id;
	u->shown = (struct ui_name){0};
	doc_clear(&u->detail);
	doc_restart(&u->detail);
}

void ui_leave(struct ui *u)
{
	u->mode = UI_LIST;
	u->wanted.detail = 0;
	u->wanted.detail_of[0] = u->wanted.grants_of[0] = '\0';
	u->shown = (struct ui_name){0};
	u->asked = (struct ui_order){0};
}

/* How far a key moves in a list; *is_end: to its first (-1) or last (1). */
static long step_of(const struct ui *u, int key, int *is_end)
{
	long page = u->page > 1 ? (long)u->page - 1 : 1;

	*is_end = key == UI_KEY_HOME || key == 'g' ? -1 : key == UI_KEY_END || key == 'G' ? 1 : 0;
	switch (key) {
	case UI_KEY_UP:
	case 'k':
		return -1;
	case UI_KEY_DOWN:
	case 'j':
		return 1;
	case UI_KEY_PAGE_UP:
		return -page;
	case UI_KEY_PAGE_DOWN:
	case ' ':
		return page;
	default:
		return 0;
	}
}

static size_t moved(size_t at, size_t n, long step, int is_end)
{
	if (n == 0 || is_end < 0)
		return 0;
	if (is_end > 0)
		return n - 1;
	if (step < 0)
		return at > (size_t)-step ? at - (size_t)-step : 0;
	return at + (size_t)step < n ? at + (size_t)step : n - 1;
}

static void select_bottle(struct ui *u, const char *slug)
{
	(void)snprintf(u->bottle, sizeof(u->bottle), "%s", slug);
	memcpy(u->wanted.slug, u->bottle, sizeof(u->wanted.slug));
	memcpy(u->wanted.records_of, u->bottle, sizeof(u->wanted.records_of));
	u->wanted.limit = UI_LIST_STEP;
	u->selected = (struct ui_name){0};
	u->at = u->top = 0;
}

/* The first entry is "all". */
static void move_bottle(struct ui *u, long step, int is_end)
{
	size_t at = 0;

	for (size_t i = 0; u->bottle[0] && i < u->now.n_bottles; i++) {
		if (strcmp(u->now.bottles[i].entry.slug, u->bottle) == 0)
			at = i + 1;
	}
	at = moved(at, u->now.n_bottles + 1, step, is_end);
	select_bottle(u, at ? u->now.bottles[at - 1].entry.slug : "");
}

static void move_row(struct ui *u, long step, int is_end)
{
	/* From one that is gone to what stands in its place: the first key only selects. */
	if (u->is_gone && !is_end)
		step = 0;
	set_row(u, moved(u->at, u->now.n_rows, step, is_end));
}

static void move_grant(struct ui *u, long step, int is_end)
{
	size_t n = u->now.n_grants;

	if (n == 0 || strcmp(u->now.grants_of, u->wanted.grants_of) != 0)
		return;
	u->grant_at = moved(u->grant_at, n, u->grant.id ? step : 0, is_end);
	memcpy(u->grant.slug, u->now.grants_of, sizeof(u->grant.slug));
	u->grant.id = u->now.grants[u->grant_at].id;
}

static void key_list(struct ui *u, int key)
{
	int is_end;
	long step = step_of(u, key, &is_end);

	if (step || is_end) {
		if (u->pane == UI_BOTTLES)
			move_bottle(u, step, is_end);
		else
			move_row(u, step, is_end);
		return;
	}
	switch (key) {
	case UI_KEY_TAB:
		u->pane = u->pane == UI_BOTTLES ? UI_REQUESTS : UI_BOTTLES;
		return;
	case UI_KEY_ENTER:
		if (u->pane == UI_BOTTLES)
			u->pane = UI_REQUESTS;
		else if (u->selected.id && !u->is_gone)
			ui_open_detail(u, &u->selected);
		else
			ui_say(u, GRID_NOTE, "No request is selected.");
		return;
	case 'h':
		u->wanted.states ^= 1u << REQUEST_GRANTED | 1u << REQUEST_REFUSED |
				    1u << REQUEST_EXPIRED | 1u << REQUEST_NEVER;
		return;
	case 'o':
	case 'b':
	case 't':
	case 'a':
	case 'r':
	case 'p':
	case 'm':
	case 'x':
		ui_say(u, GRID_NOTE,
		       "Open the request first (Enter): what is decided has been seen.");
		return;
	default:
		return;
	}
}

static void ask_revoke(struct ui *u)
{
	struct ui_order o = {.kind = UI_REVOKE, .id = u->grant.id};

	if (!u->grant.id) {
		ui_say(u, GRID_NOTE, "No grant is selected.");
		return;
	}
	if (u->now.grants[u->grant_at].state != GRANT_ACTIVE) {
		ui_say(u, GRID_NOTE, "That grant is not in force any more.");
		return;
	}
	memcpy(o.slug, u->grant.slug, sizeof(o.slug));
	ui_prompt(u, UI_CONFIRM, &o, "Revoke grant %llu of %s? y/N", (unsigned long long)o.id,
		  o.slug);
}

static void key_grants(struct ui *u, int key)
{
	int is_end;
	long step = step_of(u, key, &is_end);

	if (step || is_end)
		move_grant(u, step, is_end);
	else if (key == 'x' || key == 'd')
		ask_revoke(u);
	else if (key == 'q' || key == UI_KEY_ESCAPE || key == UI_KEY_LEFT || key == 'v')
		ui_leave(u);
}

/* --- keys of every view --- */

static void ask_bottle(struct ui *u, int key)
{
	const char *slug = ui_target(u);
	const struct face_bottle *b = ui_bottle(u, slug);
	struct ui_order o = {0};

	if (!b || !b->entry.is_alive) {
		ui_say(u, GRID_NOTE, b ? "%s does not run." : "Select a bottle first.", slug);
		return;
	}
	memcpy(o.slug, b->entry.slug, sizeof(o.slug));
	if (key == 'K') {
		o.kind = UI_STOP_NOW;
		ui_prompt(u, UI_CONFIRM, &o, "Stop %s now, agent and network? y/N", o.slug);
	} else if (b->is_paused) {
		o.kind = UI_RESUME;
		ui_prompt(u, UI_CONFIRM, &o, "Give %s its network back? y/N", o.slug);
	} else {
		/* No question: who pauses is in a hurry, and nothing is lost by it. */
		o.kind = UI_PAUSE;
		u->order = o;
	}
}

static void show_grants(struct ui *u)
{
	const char *slug = ui_target(u);

	if (!slug[0]) {
		ui_say(u, GRID_NOTE, "Select a bottle first.");
		return;
	}
	if (u->mode == UI_DETAIL)
		ui_leave(u);
	(void)snprintf(u->wanted.grants_of, sizeof(u->wanted.grants_of), "%s", slug);
	u->grant = (struct ui_name){0};
	u->grant_at = u->grant_top = 0;
	u->mode = UI_GRANTS;
}

static bool key_everywhere(struct ui *u, int key)
{
	switch (key) {
	case '?':
		u->before_help = u->mode;
		u->mode = UI_HELP;
		/* What comes back on the screen has to settle again. */
		u->shown = (struct ui_name){0};
		doc_restart(&u->help);
		return true;
	case 'P':
	case 'K':
		ask_bottle(u, key);
		return true;
	case 'v':
		if (u->mode == UI_GRANTS)
			return false;
		show_grants(u);
		return true;
	default:
		return false;
	}
}

static void key_help(struct ui *u, int key)
{
	int is_end;
	long step = step_of(u, key, &is_end);

	if (step || is_end)
		doc_scroll(&u->help, is_end ? is_end * (long)DOC_LINES_MAX : step);
	else
		u->mode = u->before_help;
}

/* Is key part of a paste that goes nowhere? Into a line that is typed it goes, without its ends. */
static bool is_pasted_away(struct ui *u, int key, uint64_t now_ms)
{
	bool is_line = u->prompt != UI_NO_PROMPT && u->prompt != UI_CONFIRM;

	if (key == UI_KEY_PASTE || key == UI_KEY_PASTE_END) {
		u->is_pasting = key == UI_KEY_PASTE;
		u->pasted_ms = now_ms;
		return true;
	}
	if (u->is_pasting && now_ms >= u->pasted_ms + UI_PASTE_MS)
		u->is_pasting = false;
	if (!u->is_pasting)
		return false;
	u->pasted_ms = now_ms;
	if (is_line)
		return key >= UI_KEY_NONE || key < 0x20;
	ui_say(u, GRID_NOTE, "What is pasted is not taken for keys.");
	return true;
}

void ui_key(struct ui *u, int key, uint64_t now_ms)
{
	if (key == UI_KEY_NONE || is_pasted_away(u, key, now_ms))
		return;
	u->message[0] = '\0';
	if (u->prompt != UI_NO_PROMPT) {
		ui_key_prompt(u, key, now_ms);
		return;
	}
	if (u->mode == UI_HELP) {
		key_help(u, key);
		return;
	}
	if (u->mode == UI_DIFF) {
		ui_key_diff(u, key, now_ms);
		return;
	}
	if (key_everywhere(u, key))
		return;
	if (u->mode == UI_DETAIL)
		ui_key_detail(u, key, now_ms);
	else if (u->mode == UI_GRANTS)
		key_grants(u, key);
	else if (key == 'q')
		u->is_done = true;
	else
		key_list(u, key);
}
