/* From a key in the detail view to a message to the keeper. */
#include "face/terminal_ui.h"

#include "base/text.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

/* --- prompts --- */

void ui_prompt(struct ui *u, enum ui_prompt prompt, const struct ui_order *o, const char *fmt, ...)
{
	va_list ap;

	u->prompt = prompt;
	u->asked = *o;
	u->asked_since_ms = 0;
	u->input_n = 0;
	u->input[0] = '\0';
	va_start(ap, fmt);
	(void)vsnprintf(u->question, sizeof(u->question), fmt, ap);
	va_end(ap);
}

/* The warnings beside a request by name, for the line that asks about them. */
static void name_warnings(const struct danger *d, char *out, size_t size)
{
	size_t used = 0;

	out[0] = '\0';
	for (size_t i = 0; i < d->n; i++) {
		int n;

		if (d->findings[i].level != DANGER_WARN)
			continue;
		n = snprintf(out + used, size - used, "%s%s", used ? ", " : "",
			     danger_rule_name(d->findings[i].rule));
		if (n < 0 || used + (size_t)n >= size)
			return;
		used += (size_t)n;
	}
}

/* Sends it, after a second key where a warning stands beside it. */
static void order_or_confirm(struct ui *u, const struct ui_order *o)
{
	const struct request *r = ui_request(u);
	char warnings[200] = "";

	if (o->is_granted && r)
		name_warnings(&r->danger, warnings, sizeof(warnings));
	if (warnings[0]) {
		ui_prompt(u, UI_CONFIRM, o, "WARNING: %s. Approve all the same? y/N", warnings);
		return;
	}
	u->order = *o;
	ui_drop_question(u);
}

static void type(struct ui *u, int key)
{
	char utf8[8];
	size_t n;

	if (key == UI_KEY_BACKSPACE || key == 0x7f || key == 0x08) {
		/* A whole character: its continuation bytes go with it. */
		while (u->input_n && ((unsigned char)u->input[--u->input_n] & 0xc0) == 0x80)
			;
		u->input[u->input_n] = '\0';
		return;
	}
	if (key == 0x15) { /* Ctrl-U */
		u->input_n = 0;
		u->input[0] = '\0';
		return;
	}
	if (key >= UI_KEY_NONE || key < 0x20 || text_is_deceptive((uint32_t)key))
		return;
	if (u->prompt == UI_MINUTES && (key < '0' || key > '9'))
		return;
	if (key < 0x80)
		n = (size_t)snprintf(utf8, sizeof(utf8), "%c", key);
	else if (key < 0x800)
		n = (size_t)snprintf(utf8, sizeof(utf8), "%c%c", 0xc0 | key >> 6,
				     0x80 | (key & 0x3f));
	else if (key < 0x10000)
		n = (size_t)snprintf(utf8, sizeof(utf8), "%c%c%c", 0xe0 | key >> 12,
				     0x80 | (key >> 6 & 0x3f), 0x80 | (key & 0x3f));
	else
		n = (size_t)snprintf(utf8, sizeof(utf8), "%c%c%c%c", 0xf0 | key >> 18,
				     0x80 | (key >> 12 & 0x3f), 0x80 | (key >> 6 & 0x3f),
				     0x80 | (key & 0x3f));
	if (u->input_n + n > (u->prompt == UI_MINUTES ? 6 : UI_INPUT_MAX))
		return;
	memcpy(u->input + u->input_n, utf8, n + 1);
	u->input_n += n;
}

static void enter_line(struct ui *u)
{
	struct ui_order o = u->asked;

	if (u->prompt == UI_MINUTES) {
		uint64_t minutes;

		if (str_to_u64(str_of(u->input), UI_MINUTES_MAX, &minutes) < 0 || minutes == 0) {
			ui_say(u, GRID_NOTE, "Minutes from 1 to %d, or Esc.", UI_MINUTES_MAX);
			return;
		}
		o.seconds = minutes * 60;
	} else {
		(void)snprintf(o.answer, sizeof(o.answer), "%s", u->input);
	}
	order_or_confirm(u, &o);
}

static bool has_settled(struct ui *u, uint64_t since_ms, uint64_t now_ms)
{
	if (since_ms && now_ms >= since_ms + UI_SETTLE_MS)
		return true;
	ui_say(u, GRID_WARN, "Too fast: this has only just come on the screen. Once more.");
	return false;
}

void ui_key_prompt(struct ui *u, int key, uint64_t now_ms)
{
	if (key == UI_KEY_ESCAPE) {
		ui_drop_question(u);
		ui_say(u, GRID_NOTE, "Nothing was sent.");
		return;
	}
	if (u->prompt != UI_CONFIRM) {
		if (key == UI_KEY_ENTER)
			enter_line(u);
		else
			type(u, key);
		return;
	}
	if (key != 'y' && key != 'Y')
		ui_say(u, GRID_NOTE, "Nothing was sent.");
	else if (u->asked.is_granted && !has_settled(u, u->asked_since_ms, now_ms))
		return;
	else
		u->order = u->asked;
	ui_drop_question(u);
}

/* --- the detail view's keys --- */

/* What may be sent is what was drawn: the copy that ui_draw() made of its hash. */
static bool start_order(struct ui *u, struct ui_order *o)
{
	const struct request *r = ui_request(u);

	if (!r || !ui_name_is(&u->shown, u->wanted.detail_of, u->wanted.detail) ||
	    memcmp(r->hash, u->shown_hash, sizeof(r->hash)) != 0) {
		ui_say(u, GRID_WARN, "Nothing was sent: the request is not on the screen yet.");
		return false;
	}
	if (r->state != REQUEST_PENDING) {
		ui_say(u, GRID_NOTE, "This request has been decided.");
		return false;
	}
	*o = (struct ui_order){.kind = UI_DECIDE, .id = u->shown.id};
	memcpy(o->slug, u->shown.slug, sizeof(o->slug));
	memcpy(o->hash, u->shown_hash, sizeof(o->hash));
	return true;
}

static bool may_approve(struct ui *u, uint64_t now_ms)
{
	const struct request *r = ui_request(u);
	const struct danger_finding *never = r ? danger_forbids(&r->danger) : NULL;
	size_t unseen = doc_unseen(&u->detail);

	if (never) {
		ui_say(u, GRID_NEVER, "Cannot be approved: %s", never->text);
		return false;
	}
	if (unseen) {
		ui_say(u, GRID_WARN,
		       "Read on first: %zu line%s of the change %s not been on the screen.", unseen,
		       unseen == 1 ? "" : "s", unseen == 1 ? "has" : "have");
		return false;
	}
	return has_settled(u, u->shown_since_ms, now_ms);
}

/* Writes what would change in the manifest, shows it and asks. */
static void show_diff(struct ui *u, const struct ui_order *o)
{
	const struct request *r = ui_request(u);
	const struct face_bottle *b = ui_bottle(u, o->slug);
	struct buf text = BUF_INIT(2 * MANIFEST_EDIT_MAX_BYTES);
	struct err e = ERR_INIT;

	if (!b || !b->manifest[0]) {
		ui_say(u, GRID_WARN, "This bottle's manifest is not known.");
		return;
	}
	if (u->has_edit)
		manifest_edit_free(&u->edit);
	u->has_edit = false;
	if (manifest_edit_make(&u->edit, b->manifest, &r->change, &e) < 0) {
		ui_say(u, GRID_WARN, "%s", e.text);
		return;
	}
	u->has_edit = true;
	if (manifest_edit_diff(&u->edit, b->manifest, &text) == 0) {
		u->asked = *o;
		u->asked.scope = ASK_ALWAYS;
		memcpy(u->asked.manifest, u->edit.hash, sizeof(u->asked.manifest));
		doc_clear(&u->diff);
		doc_restart(&u->diff);
		doc_addf(&u->diff, GRID_TITLE, 0, "This would be written into %s:", b->manifest);
		doc_add_text(&u->diff, GRID_PLAIN, buf_str(&text));
		doc_must_see(&u->diff);
		name_warnings(&r->danger, u->question, sizeof(u->question));
		u->mode = UI_DIFF;
		u->diff_since_ms = 0;
	} else {
		ui_say(u, GRID_WARN, "The difference is too long to be shown.");
	}
	buf_free(&text);
}

void ui_key_diff(struct ui *u, int key, uint64_t now_ms)
{
	long page = u->page > 1 ? (long)u->page - 1 : 1;

	if (key == UI_KEY_DOWN || key == 'j' || key == UI_KEY_UP || key == 'k') {
		doc_scroll(&u->diff, key == UI_KEY_DOWN || key == 'j' ? 1 : -1);
		return;
	}
	if (key == UI_KEY_PAGE_DOWN || key == ' ' || key == UI_KEY_PAGE_UP) {
		doc_scroll(&u->diff, key == UI_KEY_PAGE_UP ? -page : page);
		return;
	}
	if (key == 'y' && (doc_unseen(&u->diff) || u->diff.is_cut)) {
		ui_say(u, GRID_WARN, "Read on first: the end of it has not been on the screen.");
		return;
	}
	if (key == 'y' && !has_settled(u, u->diff_since_ms, now_ms))
		return;
	if (key == 'y')
		u->order = u->asked;
	else
		ui_say(u, GRID_NOTE, "Nothing was sent.");
	u->asked = (struct ui_order){0};
	u->mode = UI_DETAIL;
	u->shown = (struct ui_name){0};
}

/* Which scopes a kind of request has (docs/SUPERVISE.md); NULL: this key is not for it. */
static const char *keys_for(enum ask_kind k)
{
	switch (k) {
	case ASK_EGRESS:
		return "obta";
	case ASK_RELEASE:
		return "pm";
	case ASK_PUSH:
	case ASK_CAPABILITY:
		return "o";
	}
	return "";
}

static void approve(struct ui *u, int key, uint64_t now_ms)
{
	const struct request *r = ui_request(u);
	struct ui_order o;

	if (!start_order(u, &o))
		return;
	if (!strchr(keys_for(r->change.kind), key)) {
		ui_say(u, GRID_NOTE,
		       r->change.kind == ASK_RELEASE
			       ? "A held request: p passes it, m with the value "
				 "masked, x stops it."
			       : "This can be approved once: o.");
		return;
	}
	if (!may_approve(u, now_ms))
		return;
	o.is_granted = true;
	o.scope = key == 'b' || key == 't' ? ASK_BOTTLE : key == 'a' ? ASK_ALWAYS : ASK_ONCE;
	o.release = key == 'm' ? ASK_REDACT : key == 'p' ? ASK_PASS : 0;
	if (key == 'a')
		show_diff(u, &o);
	else if (key == 't')
		ui_prompt(u, UI_MINUTES, &o, "For how many minutes?");
	else if (r->change.kind == ASK_CAPABILITY)
		ui_prompt(u, UI_WORDS, &o, "What the agent is told:");
	else
		order_or_confirm(u, &o);
}

void ui_key_detail(struct ui *u, int key, uint64_t now_ms)
{
	long page = u->page > 1 ? (long)u->page - 1 : 1;
	struct ui_order o;

	switch (key) {
	case UI_KEY_UP:
	case 'k':
		doc_scroll(&u->detail, -1);
		return;
	case UI_KEY_DOWN:
	case 'j':
		doc_scroll(&u->detail, 1);
		return;
	case UI_KEY_PAGE_UP:
	case UI_KEY_PAGE_DOWN:
	case ' ':
		doc_scroll(&u->detail, key == UI_KEY_PAGE_UP ? -page : page);
		return;
	case 'q':
	case UI_KEY_ESCAPE:
	case UI_KEY_LEFT:
		ui_leave(u);
		return;
	case 'o':
	case 'b':
	case 't':
	case 'a':
	case 'p':
	case 'm':
		approve(u, key, now_ms);
		return;
	case 'r':
		if (start_order(u, &o))
			ui_prompt(u, UI_REASON, &o, "Why not? (for the agent)");
		return;
	case 'x':
		if (start_order(u, &o))
			u->order = o;
		return;
	default:
		return;
	}
}

/* --- the keeper --- */

static void say_verdict(struct ui *u, const struct ui_order *o, enum store_verdict v,
			const char *said)
{
	static const char *const texts[] = {
		[STORE_DECIDED] = "Done.",
		[STORE_NO_SUCH] = "There is no such request.",
		[STORE_ALREADY] = "Nothing was decided: somebody was faster, or its time was over.",
		[STORE_STALE] = "Nothing was decided: it is no longer what was shown. Look again.",
		[STORE_FORBIDDEN] = "Nothing was decided: a rule of danger forbids it."};

	ui_say(u, v == STORE_DECIDED ? GRID_GOOD : GRID_WARN, "%s %llu: %s", o->slug,
	       (unsigned long long)o->id, said[0] ? said : texts[v]);
	if (v == STORE_STALE)
		u->shown = (struct ui_name){0};
	else
		ui_leave(u);
}

static int decide(struct ui *u, const struct ui_order *o, struct buf *said, struct err *e)
{
	struct face_decision d = {.slug = o->slug,
				  .id = o->id,
				  .is_granted = o->is_granted,
				  .scope = o->scope,
				  .release = o->release,
				  .seconds = o->seconds,
				  .answer = o->answer[0] ? o->answer : NULL,
				  .face = "terminal"};
	enum store_verdict v = STORE_NO_SUCH;
	char text[400];
	int r;

	memcpy(d.hash, o->hash, sizeof(d.hash));
	memcpy(d.manifest, o->manifest, sizeof(d.manifest));
	r = face_decide(&d, &v, said, e);
	if (r == 0) {
		(void)snprintf(text, sizeof(text), STR_FMT, STR_ARG(buf_str(said)));
		say_verdict(u, o, v, text);
	}
	return r;
}

void ui_carry_out(struct ui *u)
{
	struct ui_order o = u->order;
	struct buf said = BUF_INIT(4096);
	struct err e = ERR_INIT;
	int r = 0;

	u->order = (struct ui_order){0};
	switch (o.kind) {
	case UI_DECIDE:
		r = decide(u, &o, &said, &e);
		break;
	case UI_REVOKE:
		r = face_revoke(o.slug, o.id, "terminal", &said, &e);
		break;
	case UI_PAUSE:
	case UI_RESUME:
		r = face_pause(o.slug, o.kind == UI_PAUSE, "terminal", &said, &e);
		break;
	case UI_STOP_NOW:
		r = face_stop_now(o.slug, &said, &e);
		break;
	case UI_NO_ORDER:
		break;
	}
	if (r < 0)
		ui_say(u, GRID_WARN, "%s: %s", o.slug, e.text[0] ? e.text : strerror(-r));
	else if (o.kind != UI_DECIDE && o.kind != UI_NO_ORDER)
		ui_say(u, GRID_GOOD, "%s: " STR_FMT, o.slug, STR_ARG(buf_str(&said)));
	buf_free(&said);
}
