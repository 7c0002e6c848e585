/*
 * Texts through the engine. What the engine tells is a range of the text; from the bytes there come
 * the line and the digest of which the fingerprint is made.
 */
#include "gitgate/check_int.h"
#include "base/clean.h"
#include "base/timeutil.h"

#include <assert.h>
#include <errno.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>

#define PIECE_BYTES	  (64u << 10)
#define MATCH_REST_MAX	  8192 /* of a line or a key, behind the match */
#define TEXT_FINDINGS_MAX 256  /* of one text; the last one says that there are more */

static_assert(CHECK_WHOLE_BYTES >= SCAN_HOLDBACK_BYTES + PIECE_BYTES, "a stream's window fits");

static void text_kind_find(struct check_text *t, struct str head)
{
	const uint8_t *p = (const uint8_t *)head.p;

	t->unit = 1;
	if (head.n < 4)
		return;
	if ((p[0] && !p[1] && !p[2] && !p[3]) ||
	    (!p[0] && !p[1] && (p[2] == 0xfe || !p[2]) && p[3]) ||
	    (p[0] == 0xff && p[1] == 0xfe && !p[2] && !p[3]))
		t->unit = 4;
	else if ((p[0] == 0xff && p[1] == 0xfe) || (p[0] == 0xfe && p[1] == 0xff) ||
		 (p[0] && !p[1] && p[2] && !p[3]) || (!p[0] && p[1] && !p[2] && p[3]))
		t->unit = 2;
}

/* Newlines in [0, n) of s. In two- and four-byte units most bytes 10 are newlines as well, but for
 * those of characters that end or begin with that byte: their neighbour is not zero. */
static uint64_t count_newlines(const struct check_text *t, struct str s, size_t n)
{
	const char *p = s.p, *end = s.p + n;
	uint64_t k = 0;

	while (p < end && (p = memchr(p, '\n', (size_t)(end - p))) != NULL) {
		bool is_part = t->unit > 1 && (p == s.p || p[-1] != 0) &&
			       (p + 1 >= s.p + s.n || p[1] != 0);

		k += !is_part;
		p++;
	}
	return k;
}

/* Rules that know a secret by how it begins, which is the same for all of its kind: what tells one
 * from another stands in the lines below. */
static bool is_head(const char *rule)
{
	static const char *const rules[] = {"private-key", "private-key-body", "putty-key",
					    "ansible-vault"};

	for (size_t i = 0; i < ARRAY_LEN(rules); i++)
		if (strcmp(rule, rules[i]) == 0)
			return true;
	return false;
}

/* Where what was matched is over: a rule matches the head of its token. The rest of the line (or of
 * a binary's string) also has whatever the engine took for the same match. A head's secret
 * goes on to a key's last line. */
static size_t match_end(const char *rule, struct str s, size_t to)
{
	size_t max = s.n - to < MATCH_REST_MAX ? s.n : to + MATCH_REST_MAX, end = to;

	if (is_head(rule))
		return to + str_find(str_sub(s, to, max), STR_LIT("-----END"));
	if (to > 0 && s.p[to - 1] == '\n')
		return to;
	while (end < max && ((unsigned char)s.p[end] >= ' ' || s.p[end] == '\t'))
		end++;
	return end;
}

/* What the fingerprint is made of: what stays the same when lines are added. Attack: another secret
 * in the place of one that is allowed, or beside it. So where the match cannot be told from these
 * bytes it is good for this very object only: where the range is a decoder's, which may be no more
 * than "somewhere in this text", and where a stream's window ends before the match does. */
static void digest_make(const struct check_text *t, const struct scan_finding *f, struct str s,
			size_t from, size_t to, uint8_t digest[32])
{
	size_t end = match_end(f->rule, s, to);
	bool is_objects = *f->decoders || (t->stream && end == s.n);
	uint8_t both[32 + CHECK_OID_BYTES];
	struct str m = str_sub(s, from, end);

	while (m.n && (unsigned char)m.p[0] <= ' ')
		m = str_sub(m, 1, m.n);
	while (m.n && (unsigned char)m.p[m.n - 1] <= ' ')
		m = str_sub(m, 0, m.n - 1);
	SHA256((const uint8_t *)m.p, m.n, digest);
	if (!is_objects)
		return;
	memcpy(both, digest, 32);
	memcpy(both + 32, t->check->oid, CHECK_OID_BYTES);
	SHA256(both, sizeof(both), digest);
}

static void decoders_tell(struct check_pending *p, const char *chain, const char *decoders)
{
	if (snprintf(p->decoders, sizeof(p->decoders), "%.*s%s%s", ARCHIVE_CHAIN_SIZE - 1, chain,
		     *chain && *decoders ? ">" : "", decoders) < 0)
		p->decoders[0] = '\0';
}

static bool is_without_oid(const struct check_pending *p)
{
	static const uint8_t none[CHECK_OID_BYTES];

	return memcmp(p->oid, none, sizeof(none)) == 0;
}

/* The same bytes of the same object or path, read in another way. */
static bool is_told(const struct check *c, const struct check_pending *p)
{
	for (size_t i = c->n_pending - 1; i-- > 0;) {
		const struct check_pending *q = &c->pending[i];

		if (memcmp(q->oid, p->oid, sizeof(p->oid)) != 0)
			return false;
		if (strcmp(q->rule, p->rule) == 0 && !q->path == !p->path &&
		    (!p->path || strcmp(q->path, p->path) == 0) &&
		    (q->what == p->what || !is_without_oid(p)) &&
		    memcmp(q->digest, p->digest, sizeof(p->digest)) == 0)
			return true;
	}
	return false;
}

static bool on_finding(const struct scan_finding *f, void *ctx)
{
	struct check_text *t = ctx;
	struct check *c = t->check;
	struct str s = str_slice(t->p, t->n);
	size_t from = f->from > t->base ? (size_t)(f->from - t->base) : 0;
	size_t to = f->to > t->base ? (size_t)(f->to - t->base) : 0;
	struct check_pending *p;

	if (to > s.n)
		to = s.n;
	if (from > to)
		from = to;
	if (f->kind == SCAN_KIND_RULE &&
	    check_filter_is_noise(f->rule, s, from, to, !*f->decoders, !t->stream, t->unit))
		return true;
	if (f->kind == SCAN_KIND_LIMIT && check_filter_is_own_doing(f->rule, f->decoders))
		return true;
	/* The canary may stand behind all of them. */
	if (f->kind != SCAN_KIND_CANARY && t->n_findings++ >= TEXT_FINDINGS_MAX) {
		if (t->n_findings == TEXT_FINDINGS_MAX + 1)
			(void)check_found(c, CHECK_LIMIT, "limit-findings", t->what);
		return true;
	}
	p = check_found(c, f->kind == SCAN_KIND_LIMIT ? CHECK_LIMIT : CHECK_SECRET, f->rule,
			t->what);
	if (!p)
		return true;
	p->is_rule = f->kind == SCAN_KIND_RULE;
	p->is_allowable = p->is_rule || f->kind == SCAN_KIND_LIMIT;
	decoders_tell(p, t->chain, f->decoders);
	if (f->kind == SCAN_KIND_LIMIT) { /* of the whole object, whatever it holds */
		memcpy(p->digest, c->oid, sizeof(c->oid));
		return true;
	}
	digest_make(t, f, s, from, to, p->digest);
	if (!*t->chain && t->place != SCAN_PLACE_PATH && !c->path)
		p->line = t->newlines + count_newlines(t, s, to > t->unit ? to - t->unit : 0) + 1;
	if (is_told(c, p))
		check_find_cut(c, c->n_pending - 1);
	return true;
}

int check_scan(struct check *c, enum scan_place place, const char *what, struct str text)
{
	struct check_text *t = &c->small;

	t->check = c;
	t->what = what;
	t->place = place;
	t->chain[0] = '\0';
	t->p = (char *)(uintptr_t)text.p;
	t->n = text.n;
	t->base = t->newlines = 0;
	t->n_findings = 0;
	text_kind_find(t, text);
	c->out->n_bytes += text.n;
	return scan_text(c->in->engine, place, text, on_finding, t);
}

void check_text_begin(struct check_text *t, struct check *c, const char *what,
		      enum scan_place place, const char *chain)
{
	t->check = c;
	t->what = what;
	t->place = place;
	if (snprintf(t->chain, sizeof(t->chain), "%s", chain) < 0)
		t->chain[0] = '\0';
	t->n = 0;
	t->base = t->newlines = 0;
	t->unit = 1;
	t->stream = NULL;
	t->n_findings = 0;
}

/* The stream's window: what the engine looks back at, then the piece. */
static int stream_piece(struct check_text *t, struct str piece)
{
	if (t->n > SCAN_HOLDBACK_BYTES) {
		size_t drop = t->n - SCAN_HOLDBACK_BYTES;

		t->newlines += count_newlines(t, str_slice(t->p, t->n), drop);
		memmove(t->p, t->p + drop, SCAN_HOLDBACK_BYTES);
		t->n = SCAN_HOLDBACK_BYTES;
		t->base += drop;
	}
	memcpy(t->p + t->n, piece.p, piece.n);
	t->n += piece.n;
	return scan_stream_feed(t->stream, piece);
}

/* It has grown past what is held whole. */
static int stream_begin(struct check_text *t)
{
	size_t n = t->n;
	char *whole = t->p;
	int r = 0;

	t->stream = scan_stream_open(t->check->in->engine, t->place, on_finding, t);
	if (!t->stream)
		return err_set(t->check->e, -ENOBUFS, "no more streams");
	t->p = malloc(CHECK_WHOLE_BYTES);
	t->n = 0;
	if (!t->p)
		r = err_set(t->check->e, -ENOMEM, "memory for a text");
	for (size_t i = 0; i < n && r == 0; i += PIECE_BYTES)
		r = stream_piece(t, str_sub(str_slice(whole, n), i, i + PIECE_BYTES));
	free(whole);
	return r;
}

int check_text_feed(struct check_text *t, struct str piece)
{
	int r = 0;

	t->check->out->n_bytes += piece.n;
	if (time_monotonic_ns() > t->check->in->deadline_ns)
		return err_set(t->check->e, -ETIMEDOUT, "looking at the push took too long");
	if (!t->p && !(t->p = malloc(CHECK_WHOLE_BYTES)))
		return err_set(t->check->e, -ENOMEM, "memory for a text");
	if (t->n == 0 && t->base == 0)
		text_kind_find(t, piece);
	if (!t->stream && piece.n <= CHECK_WHOLE_BYTES - t->n) {
		memcpy(t->p + t->n, piece.p, piece.n);
		t->n += piece.n;
		return 0;
	}
	if (!t->stream)
		r = stream_begin(t);
	for (size_t i = 0; i < piece.n && r == 0; i += PIECE_BYTES)
		r = stream_piece(t, str_sub(piece, i, i + PIECE_BYTES));
	return r;
}

int check_text_end(struct check_text *t)
{
	int r;

	if (!t->stream)
		return scan_text(t->check->in->engine, t->place, str_slice(t->p, t->n), on_finding,
				 t);
	r = scan_stream_end(t->stream);
	scan_stream_close(t->stream);
	t->stream = NULL;
	return r;
}

/* --- blobs --- */

int check_archive_event(void *ctx, enum archive_event event, unsigned level, struct str text)
{
	struct check *c = ctx;
	struct check_text *t = &c->text[level];
	char chain[ARCHIVE_CHAIN_SIZE];
	struct check_pending *p;

	switch (event) {
	case ARCHIVE_OPEN:
		if (!str_to_cstr(chain, sizeof(chain), text))
			chain[0] = '\0';
		check_text_begin(t, c, level ? "archive entry" : "blob", SCAN_PLACE_BODY, chain);
		return 0;
	case ARCHIVE_DATA:
		return check_text_feed(t, text);
	case ARCHIVE_CLOSE:
		return check_text_end(t);
	case ARCHIVE_NAME:
		return check_scan(c, SCAN_PLACE_PATH, "archive entry's name", text);
	case ARCHIVE_LIMIT:
		p = check_found(c, CHECK_LIMIT, "", "archive");
		if (p) {
			if (!str_to_cstr(p->rule, sizeof(p->rule), text))
				p->rule[0] = '\0';
			p->is_allowable = true;
			memcpy(p->digest, c->oid, sizeof(c->oid));
			if (is_told(c, p))
				check_find_cut(c, c->n_pending - 1);
		}
		return 0;
	}
	return -EINVAL;
}

void check_blob_begin(struct check *c)
{
	if (!c->archive)
		c->archive = archive_new(check_archive_event, c);
	archive_begin(c->archive);
}

int check_blob_feed(struct check *c, struct str piece)
{
	return archive_feed(c->archive, piece);
}

int check_blob_end(struct check *c)
{
	return archive_end(c->archive);
}

int check_blob_small(struct check *c, struct str text)
{
	int r;

	if (archive_is_any(text)) {
		check_blob_begin(c);
		r = check_blob_feed(c, text);
		return r < 0 ? r : check_blob_end(c);
	}
	r = check_scan(c, SCAN_PLACE_BODY, "blob", text);
	/* A symbolic link's target, or as good as one: split over its segments. */
	if (r == 0 && text.n <= CHECK_PATH_MAX && memchr(text.p, '/', text.n) &&
	    !memchr(text.p, '\n', text.n))
		r = check_scan(c, SCAN_PLACE_PATH, "symlink target", text);
	return r;
}
