#include "cli/requests_show.h"

#include "base/clean.h"
#include "base/text.h"
#include "base/timeutil.h"

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

static int put_line(struct buf *out, const char *name, const char *value)
{
	return value[0] ? buf_printf(out, "%-9s %s\n", name, value) : 0;
}

static int put_time(struct buf *out, const char *name, uint64_t seconds)
{
	char text[TIME_RFC3339_SIZE];

	time_text(seconds, text);
	return put_line(out, name, text);
}

static int put_findings(struct buf *out, const struct danger *d)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < d->n; i++)
		r = buf_printf(out, "%-9s %s: %s (%s)\n", i == 0 ? "danger" : "",
			       danger_level_name(d->findings[i].level), d->findings[i].text,
			       danger_rule_name(d->findings[i].rule));
	return r;
}

static int put_change(struct buf *out, const struct change *c)
{
	char summary[1024];
	int r;

	change_summary(c, summary, sizeof(summary));
	r = put_line(out, "kind", face_kind_name(c->kind));
	if (r == 0)
		r = put_line(out, "change", summary);
	if (r == 0)
		r = put_line(out, "rule", c->rule);
	if (r == 0)
		r = put_line(out, "where", c->where);
	if (r == 0)
		r = put_line(out, "old", c->old_oid);
	if (r == 0)
		r = put_line(out, "new", c->new_oid);
	if (r == 0)
		r = put_line(out, c->kind == ASK_PUSH ? "paths" : "text", c->shown);
	return r == 0 ? put_line(out, "words", c->words) : r;
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
	int ret = buf_printf(out, "%-9s %s %llu\n", "request", slug, (unsigned long long)r->id);

	text_hex(hex, r->hash, sizeof(r->hash));
	if (ret == 0)
		ret = put_line(out, "state", face_state_name(r->state));
	if (ret == 0)
		ret = put_change(out, &r->change);
	if (ret == 0)
		ret = put_findings(out, &r->danger);
	if (ret == 0)
		ret = put_line(out, "reason", r->reason);
	if (ret == 0)
		ret = put_time(out, "asked", r->created);
	if (ret == 0 && r->asked > 1)
		ret = buf_printf(out, "%-9s %llu times\n", "", (unsigned long long)r->asked);
	if (ret == 0 && r->state == REQUEST_PENDING)
		ret = put_time(out, "expires", r->expires);
	if (ret == 0)
		ret = put_decision(out, r);
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

	time_text(l->time, time);
	if (l->request)
		(void)snprintf(id, sizeof(id), " %llu", (unsigned long long)l->request);
	if (memcmp(l->hash, none, sizeof(none)) != 0)
		text_hex(hex, l->hash, sizeof(l->hash));
	return buf_printf(out, "%s %s%s  %s%s%s  %s%s%s\n", time, l->what, id, l->who,
			  l->face[0] ? ", " : "", l->face, l->detail, hex[0] ? "  " : "", hex);
}
