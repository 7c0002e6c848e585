/* Findings while they wait for their place, and the report that they end up in. */
#include "gitgate/check_int.h"
#include "base/clean.h"
#include "base/mem.h"
#include "base/text.h"

#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>

#define FINGERPRINT_BYTES 16
#define FINGERPRINT_SEED  "git-gate finding 1"
#define MASK		  "***"

_Static_assert(GIT_FINGERPRINT_SIZE == 2 * FINGERPRINT_BYTES + 1, "128 bits in hex");

static const char *const kind_names[CHECK_KIND_COUNT] = {
#define X(constant, name) [CHECK_##constant] = name,
	CHECK_KINDS(X)
#undef X
};

const char *check_kind_name(enum check_kind k)
{
	return k < CHECK_KIND_COUNT ? kind_names[k] : "?";
}

/* Attack: what fills the report, so that nobody hears of what follows. The canary takes another's
 * place. */
static bool is_canary(const char *rule)
{
	return strcmp(rule, CHECK_CANARY_RULE) == 0;
}

struct check_pending *check_found(struct check *c, enum check_kind kind, const char *rule,
				  const char *what)
{
	struct check_pending *p;

	if (c->n_pending == CHECK_PENDING_MAX) {
		c->n_unkept++;
		if (!is_canary(rule))
			return NULL;
		check_find_cut(c, c->n_pending - 1);
	}
	c->pending =
		mem_grow_array(c->pending, &c->pending_size, c->n_pending + 1, sizeof(*c->pending));
	p = &c->pending[c->n_pending++];
	memset(p, 0, sizeof(*p));
	p->kind = kind;
	p->what = what;
	memcpy(p->rule, rule, strnlen(rule, sizeof(p->rule) - 1));
	memcpy(p->oid, c->oid, sizeof(p->oid));
	memcpy(p->commit, c->commit, sizeof(p->commit));
	p->path = mem_strdup(c->path);
	return p;
}

void check_find_cut(struct check *c, size_t n)
{
	while (c->n_pending > n)
		free(c->pending[--c->n_pending].path);
}

void check_find_free(struct check *c)
{
	check_find_cut(c, 0);
	free(c->pending);
	free(c->index);
}

/* --- by object --- */

static uint64_t oid_hash(const uint8_t *oid)
{
	uint64_t h;

	memcpy(&h, oid, sizeof(h));
	return h;
}

static bool is_without_oid(const struct check_pending *p)
{
	static const uint8_t none[CHECK_OID_BYTES];

	return memcmp(p->oid, none, sizeof(none)) == 0;
}

void check_find_index(struct check *c)
{
	c->index_size = 64;
	while (c->index_size < 4 * c->n_pending)
		c->index_size *= 2;
	free(c->index);
	c->index = mem_zalloc_array(c->index_size, sizeof(*c->index));
	for (size_t i = 0; i < c->n_pending; i++) {
		size_t at;

		if (c->pending[i].commit[0] || is_without_oid(&c->pending[i]))
			continue;
		at = oid_hash(c->pending[i].oid) & (c->index_size - 1);
		while (c->index[at])
			at = (at + 1) & (c->index_size - 1);
		c->index[at] = i + 1;
	}
}

void check_find_place(struct check *c, const uint8_t *oid, const char *commit, struct str path)
{
	size_t at = oid_hash(oid) & (c->index_size - 1);

	for (; c->index[at]; at = (at + 1) & (c->index_size - 1)) {
		struct check_pending *p = &c->pending[c->index[at] - 1];

		if (p->path || memcmp(p->oid, oid, sizeof(p->oid)) != 0)
			continue;
		memcpy(p->commit, commit, strnlen(commit, sizeof(p->commit) - 1));
		p->path = str_dup(path);
	}
}

/* --- the report --- */

static void fingerprint_make(const struct check_pending *p, char out[GIT_FINGERPRINT_SIZE])
{
	const char *path = p->path ? p->path : "";
	uint8_t sum[3][32], all[32];

	/* Of hashes, so that no part can be taken for another's end. */
	SHA256((const uint8_t *)p->rule, strlen(p->rule), sum[0]);
	SHA256((const uint8_t *)path, strlen(path), sum[1]);
	memcpy(sum[2], p->digest, sizeof(sum[2]));
	SHA256((const uint8_t *)sum, sizeof(sum), all);
	text_hex(out, all, FINGERPRINT_BYTES);
}

static bool is_allowed(const struct git_remote *r, const struct check_pending *p,
		       const char *fingerprint)
{
	for (size_t i = 0; i < r->n_allow && p->is_allowable; i++)
		if (strcmp(r->allow[i], fingerprint) == 0)
			return true;
	return false;
}

static bool on_name_finding(const struct scan_finding *f, void *ctx)
{
	bool *has = ctx;

	*has |= strcmp(f->rule, "random-path-segment") != 0;
	return true;
}

static bool name_has_secret(struct scan_engine *engine, struct str name)
{
	bool has = false;

	/* In doubt it is not shown. */
	return scan_text(engine, SCAN_PLACE_PATH, name, on_name_finding, &has) < 0 ||
	       scan_text(engine, SCAN_PLACE_BODY, name, on_name_finding, &has) < 0 || has;
}

void check_name_show(struct scan_engine *engine, char *out, size_t size, struct str name)
{
	struct str rest = name, segment;
	_cleanup_(buf_free) struct buf b;
	bool more = true;
	int r = 0;

	buf_init(&b, CHECK_PATH_MAX + 1024);
	if (!name_has_secret(engine, rest)) {
		text_visible_cstr(out, size, rest);
		return;
	}
	while (more && r == 0) {
		rest = str_cut(rest, '/', &segment, &more);
		r = buf_append_str(&b, name_has_secret(engine, segment) ? STR_LIT(MASK) : segment);
		if (r == 0 && more)
			r = buf_append_str(&b, STR_LIT("/"));
	}
	if (r < 0 || name_has_secret(engine, buf_str(&b)))
		text_visible_cstr(out, size, STR_LIT(MASK));
	else
		text_visible_cstr(out, size, buf_str(&b));
}

static void tell(struct check *c, const struct check_pending *p, const char *fingerprint)
{
	struct check_report *out = c->out;
	struct check_finding *f;

	if (out->n_findings == CHECK_FINDINGS_MAX) {
		out->n_more++;
		if (!is_canary(p->rule))
			return;
		out->n_findings--;
	}
	f = &out->findings[out->n_findings++];
	memset(f, 0, sizeof(*f));
	f->kind = p->kind;
	memcpy(f->rule, p->rule, sizeof(f->rule));
	memcpy(f->commit, p->commit, sizeof(f->commit));
	memcpy(f->decoders, p->decoders, sizeof(f->decoders));
	memcpy(f->what, p->what, strnlen(p->what, sizeof(f->what) - 1));
	f->line = p->line;
	if (p->path)
		check_name_show(c->in->engine, f->path, sizeof(f->path), str_of(p->path));
	if (p->is_allowable)
		memcpy(f->fingerprint, fingerprint, sizeof(f->fingerprint));
}

/* The same thing brought again by a later commit. */
static bool is_repeated(const struct check *c, size_t i)
{
	const struct check_pending *p = &c->pending[i];

	for (size_t k = 0; k < i; k++) {
		const struct check_pending *q = &c->pending[k];

		if (q->kind == p->kind && q->what == p->what && strcmp(q->rule, p->rule) == 0 &&
		    (p->kind != CHECK_SECRET && p->kind != CHECK_OVERSIZE && p->kind != CHECK_LIMIT
			     ? strcmp(q->commit, p->commit) == 0
			     : memcmp(q->digest, p->digest, sizeof(p->digest)) == 0) &&
		    strcmp(q->path ? q->path : "", p->path ? p->path : "") == 0)
			return true;
	}
	return false;
}

int check_report_make(struct check *c)
{
	for (unsigned kind = 0; kind < CHECK_KIND_COUNT; kind++)
		for (size_t i = 0; i < c->n_pending; i++) {
			struct check_pending *p = &c->pending[i];
			char fingerprint[GIT_FINGERPRINT_SIZE];

			if (p->kind != kind || p->is_dropped || is_repeated(c, i))
				continue;
			fingerprint_make(p, fingerprint);
			if (!is_allowed(c->in->remote, p, fingerprint))
				tell(c, p, fingerprint);
		}
	if (c->n_unkept) {
		c->out->n_more += c->n_unkept;
		if (c->out->n_findings == 0) {
			/* Everything that was kept is allowed; the rest was not looked at. */
			check_find_cut(c, c->n_pending - 1);
			(void)check_found(c, CHECK_LIMIT, "limit-findings", "object");
			tell(c, &c->pending[c->n_pending - 1], "");
		}
	}
	return 0;
}
