/* One JSON object each, for scripts and for the page: numbers are seconds since the epoch, hashes
 * lower-case hex, "change" and "findings" the canonical forms that the decision's hash covers. */
#include "face/face_int.h"

#include "base/text.h"

static const char *const state_names[] = {
	[REQUEST_PENDING] = "pending", [REQUEST_GRANTED] = "granted", [REQUEST_REFUSED] = "refused",
	[REQUEST_EXPIRED] = "expired", [REQUEST_NEVER] = "never",
};
static const char *const grant_names[] = {
	[GRANT_ACTIVE] = "active",
	[GRANT_SPENT] = "spent",
	[GRANT_REVOKED] = "revoked",
	[GRANT_EXPIRED] = "expired",
};
static const char *const scope_names[] = {
	"", [ASK_ONCE] = "once", [ASK_BOTTLE] = "bottle", [ASK_ALWAYS] = "always"};
static const char *const release_names[] = {"", [ASK_PASS] = "pass", [ASK_REDACT] = "redact"};

#define NAME_OF(names, i) name_of(names, ARRAY_LEN(names), (size_t)(i))

static const char *name_of(const char *const *names, size_t n, size_t i)
{
	return i < n && names[i] ? names[i] : "";
}

const char *face_state_name(enum request_state s)
{
	return NAME_OF(state_names, s);
}

const char *face_grant_state_name(enum grant_state s)
{
	return NAME_OF(grant_names, s);
}

const char *face_kind_name(enum ask_kind k)
{
	return change_kind_name(k);
}

const char *face_scope_name(enum ask_scope s)
{
	return NAME_OF(scope_names, s);
}

static int put_string(struct buf *out, const char *key, const char *value)
{
	int r = buf_printf(out, ",\"%s\":", key);

	return r == 0 ? text_json(out, str_of(value)) : r;
}

static int put_number(struct buf *out, const char *key, uint64_t n)
{
	return buf_printf(out, ",\"%s\":%llu", key, (unsigned long long)n);
}

static int put_hash(struct buf *out, const char *key, const uint8_t hash[CHANGE_HASH_BYTES])
{
	char hex[CHANGE_HASH_HEX];

	text_hex(hex, hash, CHANGE_HASH_BYTES);
	return put_string(out, key, hex);
}

static int put_change(struct buf *out, const struct change *c)
{
	char summary[512];
	int r;

	change_summary(c, summary, sizeof(summary));
	r = put_string(out, "summary", summary);
	if (r == 0)
		r = put_string(out, "kind", face_kind_name(c->kind));
	if (r == 0)
		r = buf_append_str(out, STR_LIT(",\"change\":"));
	return r == 0 ? change_to_json(c, out) : r;
}

static int put_head(struct buf *out, const char *slug, uint64_t id, const char *state)
{
	int r = buf_append_str(out, STR_LIT("{\"slug\":"));

	if (r == 0)
		r = text_json(out, str_of(slug));
	if (r == 0)
		r = put_number(out, "id", id);
	return r == 0 ? put_string(out, "state", state) : r;
}

int face_request_json(struct buf *out, const char *slug, const struct request *r)
{
	const struct {
		const char *key, *value;
	} texts[] = {{"reason", r->reason},
		     {"scope", NAME_OF(scope_names, r->scope)},
		     {"release", NAME_OF(release_names, r->release)},
		     {"answer", r->answer},
		     {"who", r->who}};
	const struct {
		const char *key;
		uint64_t value;
	} numbers[] = {{"created", r->created},
		       {"expires", r->expires},
		       {"decided", r->decided},
		       {"asked", r->asked},
		       {"until", r->until}};
	int ret = put_head(out, slug, r->id, NAME_OF(state_names, r->state));

	if (ret == 0)
		ret = put_change(out, &r->change);
	if (ret == 0)
		ret = buf_append_str(out, STR_LIT(",\"findings\":"));
	if (ret == 0)
		ret = danger_to_json(&r->danger, out);
	for (size_t i = 0; ret == 0 && i < ARRAY_LEN(texts); i++)
		ret = put_string(out, texts[i].key, texts[i].value);
	for (size_t i = 0; ret == 0 && i < ARRAY_LEN(numbers); i++)
		ret = put_number(out, numbers[i].key, numbers[i].value);
	if (ret == 0)
		ret = put_hash(out, "hash", r->hash);
	return ret == 0 ? buf_append_str(out, STR_LIT("}")) : ret;
}

int face_grant_json(struct buf *out, const char *slug, const struct grant *g)
{
	int r = put_head(out, slug, g->id, NAME_OF(grant_names, g->state));

	if (r == 0)
		r = put_change(out, &g->change);
	if (r == 0)
		r = put_string(out, "scope", NAME_OF(scope_names, g->scope));
	if (r == 0)
		r = put_string(out, "release", NAME_OF(release_names, g->release));
	if (r == 0)
		r = put_number(out, "until", g->until);
	if (r == 0)
		r = buf_printf(out, ",\"written\":%s}", g->is_written ? "true" : "false");
	return r;
}

int face_audit_json(struct buf *out, const struct audit_line *l)
{
	const struct {
		const char *key, *value;
	} texts[] = {{"what", l->what},
		     {"who", l->who},
		     {"face", l->face},
		     {"detail", l->detail},
		     {"seen", l->seen}};
	int r = buf_printf(out, "{\"time\":%llu,\"request\":%llu", (unsigned long long)l->time,
			   (unsigned long long)l->request);

	for (size_t i = 0; r == 0 && i < ARRAY_LEN(texts); i++)
		r = put_string(out, texts[i].key, texts[i].value);
	if (r == 0)
		r = put_hash(out, "hash", l->hash);
	return r == 0 ? buf_append_str(out, STR_LIT("}")) : r;
}

int face_bottle_json(struct buf *out, const struct face_bottle *b)
{
	_cleanup_(buf_free) struct buf entry = BUF_INIT(16384);
	int r = bottles_json(&entry, &b->entry);

	/* The entry's own object, with more in it. */
	if (r == 0)
		r = buf_append_str(out, str_sub(buf_str(&entry), 0, buf_len(&entry) - 1));
	if (r == 0)
		r = put_string(out, "manifest", b->manifest);
	if (r == 0)
		r = put_number(out, "pending", b->n_pending);
	return r == 0 ? buf_append_str(out, STR_LIT("}")) : r;
}
