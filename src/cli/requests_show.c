#include "cli/requests_show.h"

#include "base/clean.h"
#include "base/text.h"
#include "base/timeutil.h"

#include <stdio.h>

#define DIFF_MAX_BYTES (256u << 10)
#define SHOW_MAX_BYTES (256u << 10)

/* To the second: nothing is decided faster. */
static void time_text(uint64_t seconds, char out[TIME_RFC3339_SIZE])
{
	out[0] = '\0';
	if (seconds == 0)
		return;
	time_format_rfc3339(seconds * TIME_NS_PER_SEC, out);
	memcpy(out + sizeof("2026-01-02T03:04:05") - 1, "Z", 2);
}

#define NAME_COLS 10
#define ROW_COLS  66 /* with the name and a bar, within 80 */

/* The characters that fit into a row, up to the last space where there is one: wide characters, and
 * all past those that are not, count twice. */
static struct str take_row(struct str *rest)
{
	size_t n = 0, cols = 0, space = 0;
	struct str row;

	while (n < rest->n) {
		uint32_t cp = 0;
		size_t step = text_utf8_next(str_sub(*rest, n, rest->n), &cp);
		size_t width = cp >= 0x1100 ? 2 : 1;

		if (cols + width > ROW_COLS)
			break;
		cols += width;
		n += step ? step : 1;
		if (cp == ' ')
			space = n;
	}
	if (n < rest->n && space > 0)
		n = space;
	row = str_sub(*rest, 0, n);
	*rest = str_sub(*rest, n, rest->n);
	return row;
}

/* Broken here, and not by the terminal: only names stand at the beginning of a row. What an agent
 * chose has a bar before each of its rows. */
static int put_value(struct buf *out, const char *name, const char *value, bool is_agents)
{
	struct str rest = str_of(value);
	int r = 0;

	while (r == 0 && rest.n > 0) {
		struct str row = take_row(&rest);

		r = buf_printf(out, "%-*s%s" STR_FMT "\n", NAME_COLS, name, is_agents ? "| " : "",
			       STR_ARG(row));
		name = "";
	}
	return r;
}

static int put_line(struct buf *out, const char *name, const char *value)
{
	return put_value(out, name, value, false);
}

static int put_time(struct buf *out, const char *name, uint64_t seconds)
{
	char text[TIME_RFC3339_SIZE];

	time_text(seconds, text);
	return put_line(out, name, text);
}

static int put_findings(struct buf *out, const struct danger *d)
{
	char text[DANGER_TEXT_MAX + 64];
	int r = 0;

	for (size_t i = 0; r == 0 && i < d->n; i++) {
		const struct danger_finding *f = &d->findings[i];

		(void)snprintf(text, sizeof(text), "%s %s: %s", danger_level_name(f->level),
			       danger_rule_name(f->rule), f->text);
		r = put_line(out, i == 0 ? "danger" : "", text);
	}
	return r;
}

struct putting {
	struct buf *out;
	int r;
};

static void put_field(const struct face_field *f, void *ctx)
{
	struct putting *p = ctx;

	if (p->r == 0)
		p->r = put_value(p->out, f->name, f->value, f->is_agents);
}

static int put_change(struct buf *out, const struct change *c)
{
	struct putting p = {.out = out};

	face_each_field(c, put_field, &p);
	return p.r;
}

/* What can be said to approve, and what it means. */
static int put_ways(struct buf *out, const struct request *r)
{
	static const struct {
		const char *name;
		enum ask_scope scope;
	} ways[] = {{"--once", ASK_ONCE}, {"--for-bottle", ASK_BOTTLE}, {"--always", ASK_ALWAYS}};
	char text[128];
	int ret = 0;

	if (r->state != REQUEST_PENDING || danger_forbids(&r->danger))
		return 0;
	for (size_t i = 0; ret == 0 && i < ARRAY_LEN(ways); i++) {
		const char *means = face_scope_means(r->change.kind, ways[i].scope);

		(void)snprintf(text, sizeof(text), "%s: %s", ways[i].name, means);
		if (means[0])
			ret = put_line(out, i ? "" : "approve", text);
	}
	return ret;
}

static int put_manifest(struct buf *out, const struct manifest_edit *edit, const char *path)
{
	char hex[CHANGE_HASH_HEX];
	int r;

	text_hex(hex, edit->hash, sizeof(edit->hash));
	r = buf_printf(out, "manifest  %s\n", hex);
	return r == 0 ? manifest_edit_diff(edit, path, out) : r;
}

static int put_decision(struct buf *out, const struct request *r)
{
	int ret = put_time(out, "decided", r->decided);

	if (ret == 0)
		ret = put_line(out, "by", r->who);
	if (ret == 0 && r->state == REQUEST_GRANTED)
		ret = put_line(out, "scope", face_scope_name(r->scope));
	if (ret == 0)
		ret = put_time(out, "until", r->until);
	return ret == 0 ? put_line(out, "answer", r->answer) : ret;
}

int requests_show_text(struct buf *out, const char *slug, const struct request *r,
		       const struct manifest_edit *edit, const char *path)
{
	char hex[CHANGE_HASH_HEX];
	int ret = buf_printf(out, "%-*s%s %llu\n", NAME_COLS, "request", slug,
			     (unsigned long long)r->id);

	text_hex(hex, r->hash, sizeof(r->hash));
	if (ret == 0)
		ret = put_line(out, "state", face_state_name(r->state));
	if (ret == 0)
		ret = put_line(out, "kind", face_kind_name(r->change.kind));
	if (ret == 0)
		ret = put_findings(out, &r->danger);
	if (ret == 0)
		ret = put_change(out, &r->change);
	if (ret == 0)
		ret = put_value(out, "reason", r->reason, true);
	if (ret == 0)
		ret = put_time(out, "asked", r->created);
	if (ret == 0 && r->asked > 1)
		ret = buf_printf(out, "%-*s%llu times\n", NAME_COLS, "",
				 (unsigned long long)r->asked);
	if (ret == 0 && r->state == REQUEST_PENDING)
		ret = put_time(out, "expires", r->expires);
	if (ret == 0)
		ret = put_decision(out, r);
	if (ret == 0)
		ret = put_ways(out, r);
	if (ret == 0)
		ret = put_line(out, "hash", hex);
	return ret == 0 && edit ? put_manifest(out, edit, path) : ret;
}

int requests_show_json(struct buf *out, const char *slug, const struct request *r,
		       const struct manifest_edit *edit, const char *path)
{
	_cleanup_(buf_free) struct buf diff = BUF_INIT(DIFF_MAX_BYTES);
	_cleanup_(buf_free) struct buf request = BUF_INIT(SHOW_MAX_BYTES);
	char hex[CHANGE_HASH_HEX];
	int ret;

	if (!edit)
		return face_request_json(out, slug, r);
	text_hex(hex, edit->hash, sizeof(edit->hash));
	ret = manifest_edit_diff(edit, path, &diff);
	if (ret == 0)
		ret = face_request_json(&request, slug, r);
	/* The same object, with one member more. */
	if (ret == 0)
		ret = buf_append_str(out, str_sub(buf_str(&request), 0, buf_len(&request) - 1));
	if (ret == 0)
		ret = buf_printf(out, ",\"manifest\":{\"hash\":\"%s\",\"path\":", hex);
	if (ret == 0)
		ret = text_json(out, str_of(path));
	if (ret == 0)
		ret = buf_append_str(out, STR_LIT(",\"diff\":"));
	if (ret == 0)
		ret = text_json(out, buf_str(&diff));
	return ret == 0 ? buf_append_str(out, STR_LIT("}}")) : ret;
}

int requests_show_audit(struct buf *out, const struct audit_line *l)
{
	static const uint8_t none[CHANGE_HASH_BYTES];
	char time[TIME_RFC3339_SIZE], hex[CHANGE_HASH_HEX] = "", id[24] = "";
	int r;

	time_text(l->time, time);
	if (l->request)
		(void)snprintf(id, sizeof(id), " %llu", (unsigned long long)l->request);
	if (memcmp(l->hash, none, sizeof(none)) != 0)
		text_hex(hex, l->hash, sizeof(l->hash));
	r = buf_printf(out, "%s %s%s  %s%s%s%s%s\n", time, l->what, id, l->who,
		       l->face[0] ? ", " : "", l->face, hex[0] ? "  " : "", hex);
	/* Beneath: an agent's words may be in it. */
	return r == 0 ? put_value(out, "", l->detail, true) : r;
}

int requests_show_told(struct buf *out, const char *line)
{
	struct str clock, text;
	char name[NAME_COLS + 1];
	bool found;

	text = str_cut(str_of(line), ' ', &clock, &found);
	if (!str_to_cstr(name, sizeof(name), clock))
		name[0] = '\0';
	return put_value(out, name, text.p, true);
}
