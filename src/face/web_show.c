/*
 * What a session is shown. The list holds one line for each request, a window of them at a time;
 * the whole of one, and with it the hash that a decision must name, comes only when it is opened.
 * What was opened, and when, is remembered: nothing else can be decided here.
 */
#include "base/clean.h"
#include "base/text.h"
#include "base/timeutil.h"
#include "face/web_int.h"
#include "requests/manifest_edit.h"

#include <errno.h>
#include <stdio.h>

#define SHOW_ROWS    200
#define SHOW_RECENT  50
#define SHOW_TOLD    50
#define SHOW_RECORDS 200
#define SHOW_SUMMARY 512

/* An object or a list that is written one part after the other; the first failure stays. */
struct shown {
	struct buf *out;
	int r;
	size_t skip, n;
};

static void put(struct shown *s, struct str text)
{
	if (s->r == 0)
		s->r = buf_append_str(s->out, text);
}

static void put_string(struct shown *s, const char *key, const char *value)
{
	if (s->r == 0)
		s->r = buf_printf(s->out, "\"%s\":", key);
	if (s->r == 0)
		s->r = text_json(s->out, str_of(value));
}

static void put_number(struct shown *s, const char *key, uint64_t n)
{
	if (s->r == 0)
		s->r = buf_printf(s->out, ",\"%s\":%llu", key, (unsigned long long)n);
}

static bool put_row(const char *slug, const struct request *r, void *ctx)
{
	struct shown *s = ctx;
	char summary[SHOW_SUMMARY];

	if (s->skip > 0) {
		s->skip--;
		return true;
	}
	change_summary(&r->change, summary, sizeof(summary));
	put(s, s->n++ > 0 ? STR_LIT(",{") : STR_LIT("{"));
	put_string(s, "slug", slug);
	put_number(s, "id", r->id);
	put(s, STR_LIT(","));
	put_string(s, "kind", face_kind_name(r->change.kind));
	put(s, STR_LIT(","));
	put_string(s, "state", face_state_name(r->state));
	put(s, STR_LIT(","));
	put_string(s, "summary", summary);
	put(s, STR_LIT(","));
	put_string(s, "level",
		   r->danger.n > 0 ? danger_level_name(r->danger.findings[0].level) : "");
	put_number(s, "asked", r->asked);
	put_number(s, "created", r->created);
	put_number(s, "expires", r->expires);
	put_number(s, "decided", r->decided);
	put(s, STR_LIT("}"));
	return s->r == 0;
}

static bool put_grant(const char *slug, const struct grant *g, void *ctx)
{
	struct shown *s = ctx;

	if (g->state != GRANT_ACTIVE)
		return true;
	put(s, s->n++ > 0 ? STR_LIT(",") : STR_NULL);
	if (s->r == 0)
		s->r = face_grant_json(s->out, slug, g);
	return s->r == 0;
}

static bool has_life(const struct face_bottle *b)
{
	return b->entry.is_alive || b->n_pending > 0;
}

static void put_bottles(struct shown *s, const struct face_bottle *bottles, size_t n,
			size_t *pending)
{
	s->n = 0;
	*pending = 0;
	put(s, STR_LIT(",\"bottles\":["));
	for (size_t i = 0; i < n; i++) {
		if (!has_life(&bottles[i]))
			continue;
		put(s, s->n++ > 0 ? STR_LIT(",") : STR_NULL);
		if (s->r == 0)
			s->r = face_bottle_json(s->out, &bottles[i]);
		*pending += bottles[i].n_pending;
	}
	put(s, STR_LIT("]"));
}

static int put_grants(struct shown *s, struct face *f, const struct face_bottle *bottles, size_t n,
		      struct err *e)
{
	int r = 0;

	s->n = 0;
	put(s, STR_LIT(",\"grants\":["));
	for (size_t i = 0; r == 0 && i < n; i++)
		if (has_life(&bottles[i]))
			r = face_each_grant(f, bottles[i].entry.slug, put_grant, s, e);
	put(s, STR_LIT("]"));
	return r;
}

static int put_requests(struct shown *s, struct face *f, const char *key, unsigned states,
			size_t after, size_t limit, struct err *e)
{
	int r;

	s->n = 0;
	s->skip = after;
	if (s->r == 0)
		s->r = buf_printf(s->out, ",\"%s\":[", key);
	r = face_each(f, NULL, states, after + limit, put_row, s, e);
	put(s, STR_LIT("]"));
	return r;
}

/* "after=N" and nothing else. */
static bool parse_after(struct str query, size_t *after)
{
	uint64_t n = 0;

	if (query.n > 0 &&
	    (!str_starts(query, STR_LIT("after=")) ||
	     str_to_u64(str_sub(query, strlen("after="), query.n), FACE_SHOWN_MAX, &n) < 0))
		return false;
	*after = (size_t)n;
	return true;
}

static void finish(struct web_answer *a, int said, int written, const struct err *e)
{
	if (said < 0)
		answer_error(a, 500, e->text);
	else if (written < 0)
		answer_error(a, 500, "too much to show");
	if (a->status != 0)
		return;
	a->status = 200;
	a->type = "application/json";
}

void show_state(const struct web_call *call, struct web_answer *a)
{
	const unsigned pending = 1u << REQUEST_PENDING;
	const unsigned decided = 1u << REQUEST_GRANTED | 1u << REQUEST_REFUSED |
				 1u << REQUEST_EXPIRED | 1u << REQUEST_NEVER;
	struct face *f = call->web->face;
	struct shown s = {.out = &a->text};
	struct err e = ERR_INIT;
	const struct face_bottle *bottles;
	size_t n, total, after;
	int r;

	if (!parse_after(call->head->query, &after)) {
		answer_error(a, 400, "after: a number was expected");
		return;
	}
	bottles = face_bottles(f, &n);
	put(&s, STR_LIT("{"));
	put_string(&s, "trouble", face_trouble(f));
	put_number(&s, "version", call->web->version);
	put_number(&s, "now", time_realtime_ns() / TIME_NS_PER_SEC);
	put_bottles(&s, bottles, n, &total);
	put_number(&s, "total", total);
	put_number(&s, "after", after);
	r = put_requests(&s, f, "pending", pending, after, SHOW_ROWS, &e);
	if (r == 0 && after == 0)
		r = put_requests(&s, f, "recent", decided, 0, SHOW_RECENT, &e);
	if (r == 0 && after == 0)
		r = put_grants(&s, f, bottles, n, &e);
	put(&s, STR_LIT("}"));
	finish(a, r, s.r, &e);
}

/* --- one request --- */

const struct web_shown *show_find(const struct web_session *s, const char *slug, uint64_t id)
{
	for (size_t i = 0; i < WEB_SHOWN_MAX; i++)
		if (s->shown[i].id == id && id > 0 && strcmp(s->shown[i].slug, slug) == 0)
			return &s->shown[i];
	return NULL;
}

/* Shown again without a difference it stays as old as it is. */
static void remember(struct web *w, struct web_session *s, const struct web_shown *now)
{
	struct web_shown *old = (struct web_shown *)show_find(s, now->slug, now->id);

	if (old && memcmp(old->hash, now->hash, sizeof(old->hash)) == 0 &&
	    memcmp(old->manifest, now->manifest, sizeof(old->manifest)) == 0)
		return;
	if (!old)
		old = &s->shown[s->next_shown++ % WEB_SHOWN_MAX];
	*old = *now;
	old->at_ns = loop_now_ns(w->loop);
}

static const char *manifest_of(struct face *f, const char *slug)
{
	size_t n;
	const struct face_bottle *bottles = face_bottles(f, &n);

	for (size_t i = 0; i < n; i++)
		if (strcmp(bottles[i].entry.slug, slug) == 0)
			return bottles[i].manifest;
	return "";
}

static int put_edit(struct shown *s, const char *path, const struct change *c,
		    struct web_shown *seen, struct err *e)
{
	_cleanup_(manifest_edit_free) struct manifest_edit edit = {0};
	_cleanup_(buf_free) struct buf diff = BUF_INIT(2 * MANIFEST_EDIT_MAX_BYTES);
	char hash[CHANGE_HASH_HEX];
	int r = manifest_edit_make(&edit, path, c, e);

	if (r == 0)
		r = manifest_edit_diff(&edit, path, &diff);
	if (r < 0)
		return e->code ? r : err_set(e, r, "the difference is too large to be shown");
	if (buf_append(&diff, "", 1) < 0)
		return err_set(e, -ENOBUFS, "the difference is too large to be shown");
	memcpy(seen->manifest, edit.hash, sizeof(seen->manifest));
	text_hex(hash, edit.hash, sizeof(edit.hash));
	put(s, STR_LIT("{"));
	put_string(s, "path", path);
	put(s, STR_LIT(","));
	put_string(s, "diff", buf_str(&diff).p);
	put(s, STR_LIT(","));
	put_string(s, "hash", hash);
	put(s, STR_LIT("}"));
	return 0;
}

/* What "always" would do to the manifest, or why it cannot. */
static void put_always(struct shown *s, struct face *f, const struct request *r,
		       struct web_shown *seen)
{
	const char *path = manifest_of(f, seen->slug);
	struct err e = ERR_INIT;

	put(s, STR_LIT(",\"always\":"));
	if (r->change.kind != ASK_EGRESS || r->state != REQUEST_PENDING || !path[0]) {
		put(s, STR_LIT("null"));
	} else if (put_edit(s, path, &r->change, seen, &e) < 0) {
		put(s, STR_LIT("{"));
		put_string(s, "error", e.text);
		put(s, STR_LIT("}"));
	}
}

/* "SLUG/ID" */
static bool parse_which(struct str rest, char slug[PLACES_SLUG_MAX], uint64_t *id)
{
	struct str name;
	bool found;

	rest = str_cut(rest, '/', &name, &found);
	return found && str_to_cstr(slug, PLACES_SLUG_MAX, name) && places_slug_is_valid(slug) &&
	       str_to_u64(rest, INT64_MAX, id) == 0;
}

static void put_means(struct shown *s, enum ask_kind kind)
{
	size_t n = 0;

	put(s, STR_LIT(",\"means\":{"));
	for (int scope = ASK_ONCE; scope <= ASK_ALWAYS; scope++) {
		const char *means = face_scope_means(kind, (enum ask_scope)scope);

		if (!means[0])
			continue;
		put(s, n++ > 0 ? STR_LIT(",") : STR_NULL);
		put_string(s, face_scope_name((enum ask_scope)scope), means);
	}
	put(s, STR_LIT("}"));
}

void show_request(const struct web_call *call, struct web_answer *a)
{
	struct shown s = {.out = &a->text};
	struct web_shown seen = {0};
	struct request r = {0};
	struct err e = ERR_INIT;
	int ret;

	if (call->head->has_query || !parse_which(call->rest, seen.slug, &seen.id)) {
		a->status = 404;
		return;
	}
	ret = face_get(call->web->face, seen.slug, seen.id, &r, &e);
	if (ret < 0) {
		answer_error(a, ret == -ENOENT ? 404 : 500, e.text);
		return;
	}
	put(&s, STR_LIT("{\"request\":"));
	if (s.r == 0)
		s.r = face_request_json(s.out, seen.slug, &r);
	put_means(&s, r.change.kind);
	put_always(&s, call->web->face, &r, &seen);
	put(&s, STR_LIT("}"));
	memcpy(seen.hash, r.hash, sizeof(seen.hash));
	request_free(&r);
	finish(a, 0, s.r, &e);
	if (a->status == 200)
		remember(call->web, call->session, &seen);
}

/* --- what a bottle does --- */

static bool put_line(const char *line, void *ctx)
{
	struct shown *s = ctx;

	put(s, s->n++ > 0 ? STR_LIT(",") : STR_NULL);
	if (s->r == 0)
		s->r = text_json(s->out, str_of(line));
	return s->r == 0;
}

void show_bottle(const struct web_call *call, struct web_answer *a)
{
	struct face *f = call->web->face;
	struct shown s = {.out = &a->text};
	struct err e = ERR_INIT;
	char slug[PLACES_SLUG_MAX];
	int r;

	if (call->head->has_query || !str_to_cstr(slug, sizeof(slug), call->rest) ||
	    !places_slug_is_valid(slug)) {
		a->status = 404;
		return;
	}
	put(&s, STR_LIT("{\"told\":["));
	r = face_each_told(f, slug, SHOW_TOLD, put_line, &s, &e);
	put(&s, STR_LIT("],\"records\":["));
	s.n = 0;
	if (r == 0)
		r = face_each_record(f, slug, SHOW_RECORDS, put_line, &s, &e);
	put(&s, STR_LIT("]}"));
	if (r == -ENOENT)
		answer_error(a, 404, e.text);
	else
		finish(a, r, s.r, &e);
}
