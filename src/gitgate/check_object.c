/* The first pass: every new object once. */
#include "gitgate/check_int.h"
#include "base/clean.h"
#include "base/mem.h"
#include "base/siphash.h"
#include "base/text.h"
#include "base/timeutil.h"

#include <errno.h>
#include <stdlib.h>

#define HEAD_MAX    160
#define PIECE_BYTES (64u << 10)
#define TREES_MAX   4096

struct object_head {
	char hex[GIT_OID_SIZE];
	enum { IS_COMMIT, IS_TREE, IS_BLOB, IS_TAG } type;
	uint64_t size;
};

static int odd(struct check *c, const char *what)
{
	return err_set(c->e, -EPROTO, "git said something unexpected of an object (%s)", what);
}

static void delta_note(struct check *c, struct str base)
{
	uint8_t raw[CHECK_OID_BYTES];
	struct check_delta *d;

	if (base.p[0] == '0' && base.p[1] == '0' && base.p[2] == '0' && base.p[39] == '0' &&
	    str_find(base, STR_LIT("0000000000000000000000000000000000000000")) == 0)
		return;
	if (!text_unhex(raw, sizeof(raw), base))
		return;
	c->deltas = mem_grow_array(c->deltas, &c->deltas_size, c->n_deltas + 1, sizeof(*c->deltas));
	d = &c->deltas[c->n_deltas++];
	memcpy(&d->oid, c->oid, sizeof(d->oid));
	memcpy(&d->base, raw, sizeof(d->base));
}

/* "<oid> <type> <size> <delta's base>" */
static int head_parse(struct check *c, struct str line, struct object_head *h)
{
	static const char *const types[] = {"commit", "tree", "blob", "tag"};
	struct str oid, type, size, base;
	bool found;
	unsigned t;

	line = str_cut(line, ' ', &oid, &found);
	line = str_cut(line, ' ', &type, &found);
	if (str_eq(type, STR_LIT("missing")))
		return odd(c, "missing");
	base = str_cut(line, ' ', &size, &found);
	for (t = 0; t < 4 && !str_eq(type, str_of(types[t])); t++)
		;
	if (!found || t == 4 || base.n != 40 || !text_unhex(c->oid, sizeof(c->oid), oid) ||
	    str_to_u64(size, INT64_MAX, &h->size) < 0 || !str_to_cstr(h->hex, sizeof(h->hex), oid))
		return odd(c, "head");
	h->type = t;
	delta_note(c, base);
	return 0;
}

static int content_skip(struct check_flow *f, struct check *c, uint64_t n)
{
	struct str have;
	int r = 0;

	while (n > 0 && (r = check_flow_need(f, c, 1, &have)) == 0) {
		size_t k = have.n < n ? have.n : (size_t)n;

		check_flow_skip(f, k);
		n -= k;
	}
	return r == -ENODATA ? odd(c, "cut short") : r;
}

static int too_large(struct check_flow *f, struct check *c, const struct object_head *h,
		     const char *what, bool is_allowable)
{
	struct check_pending *p = check_found(c, CHECK_OVERSIZE, "oversize", what);

	if (p) {
		p->is_allowable = is_allowable;
		memcpy(p->digest, c->oid, sizeof(c->oid));
	}
	return content_skip(f, c, h->size);
}

/* --- commits and tags --- */

enum { SEEN_PATH, SEEN_IDENT };

/* Whether this very text has been looked at in this push. Attack: a text that is harmless goes
 * first, for one with a secret to pass as it. */
static bool is_seen(struct check *c, struct str s, uint64_t as)
{
	uint64_t name = siphash(c->seen_key, as, s), *slot;

	name |= name == 0;
	slot = &c->seen[name % CHECK_SEEN_SLOTS];
	if (*slot == name)
		return true;
	*slot = name;
	return false;
}

bool check_is_seen(struct check *c, struct str s)
{
	return is_seen(c, s, SEEN_PATH);
}

/* Seconds and zone, digits alone, tell nothing; anything else is text. */
static bool is_plain_time(struct str s)
{
	struct str seconds;
	bool found;
	uint64_t n;

	s = str_cut(s, ' ', &seconds, &found);
	return found && seconds.n <= 12 && str_to_u64(seconds, UINT64_MAX, &n) == 0 && s.n == 5 &&
	       (s.p[0] == '+' || s.p[0] == '-') && str_to_u64(str_sub(s, 1, 5), 9999, &n) == 0;
}

static int ident_scan(struct check *c, const struct object_ident *i, const char *what)
{
	struct str whole = {i->name.p, (size_t)(i->email.p + i->email.n - i->name.p)};

	if (!is_plain_time(i->when))
		whole.n = (size_t)(i->when.p + i->when.n - i->name.p);
	return is_seen(c, whole, SEEN_IDENT) ? 0 : check_scan(c, SCAN_PLACE_HEADER, what, whole);
}

static bool is_user(const struct git_policy *g, const struct object_ident *i)
{
	return g->user_name && g->user_email && str_eq(i->name, str_of(g->user_name)) &&
	       str_eq(i->email, str_of(g->user_email));
}

static void identity_look(struct check *c, const struct object_ident *i, const char *what)
{
	if (c->in->policy->enforces_identity && !is_user(c->in->policy, i))
		(void)check_found(c, CHECK_IDENTITY, "identity", what);
}

static int commit_look(struct check *c, struct str object)
{
	struct object_commit k;
	struct err e = ERR_INIT;
	struct str headers;
	int r;

	if (object_commit_parse(&k, object, &e) < 0) {
		(void)check_found(c, CHECK_MALFORMED, "commit", "commit");
		return check_scan(c, SCAN_PLACE_HEADER, "commit", object);
	}
	identity_look(c, &k.author_ident, "author");
	identity_look(c, &k.committer_ident, "committer");
	if ((r = ident_scan(c, &k.author_ident, "author")) < 0 ||
	    (r = ident_scan(c, &k.committer_ident, "committer")) < 0)
		return r;
	headers = str_sub(k.rest, (size_t)(k.committer.p + k.committer.n + 1 - k.rest.p), k.rest.n);
	headers = str_sub(headers, 0, headers.n - k.message.n);
	if (headers.n > 1 && (r = check_scan(c, SCAN_PLACE_HEADER, "commit header", headers)) < 0)
		return r;
	return check_scan(c, SCAN_PLACE_HEADER, "commit message", k.message);
}

static void tree_note(struct check *c, struct str hex)
{
	if (c->n_trees == TREES_MAX) {
		(void)check_found(c, CHECK_LIMIT, "limit-tagged-trees", "tag");
		return;
	}
	c->trees = mem_grow_array(c->trees, &c->trees_size, c->n_trees + 1, sizeof(*c->trees));
	if (str_to_cstr(c->trees[c->n_trees], GIT_OID_SIZE, hex))
		c->n_trees++;
}

static int tag_look(struct check *c, struct str object)
{
	struct object_tag t;
	struct err e = ERR_INIT;

	if (object_tag_parse(&t, object, &e) < 0) {
		(void)check_found(c, CHECK_MALFORMED, "tag", "tag");
		return check_scan(c, SCAN_PLACE_HEADER, "tag", object);
	}
	if (str_eq(t.type, STR_LIT("tree")))
		tree_note(c, t.object);
	identity_look(c, &t.tagger_ident, "tagger"); /* none is nobody */
	return check_scan(c, SCAN_PLACE_HEADER, "tag", t.rest);
}

static void tree_look(struct check *c, struct str object, const struct object_head *h)
{
	struct object_tree t;
	struct object_entry x;
	struct err e = ERR_INIT;
	int r;

	object_tree_begin(&t, object);
	while ((r = object_tree_next(&t, &x, &e)) > 0)
		;
	if (r < 0)
		(void)check_found(c, CHECK_MALFORMED, "tree", "tree");
	for (size_t i = 0; i < c->in->n_updates; i++)
		if (memcmp(c->in->updates[i].new_oid, h->hex, GIT_OID_SIZE - 1) == 0)
			tree_note(c, str_of(h->hex));
}

/* --- blobs --- */

static int blob_stream(struct check_flow *f, struct check *c, uint64_t left)
{
	struct str have;
	int r;

	check_blob_begin(c);
	while (left > 0) {
		size_t k;

		if ((r = check_flow_need(f, c, 1, &have)) < 0)
			return r == -ENODATA ? odd(c, "cut short") : r;
		k = have.n < left ? have.n : (size_t)left;
		if (k > PIECE_BYTES)
			k = PIECE_BYTES;
		if ((r = check_blob_feed(c, str_sub(have, 0, k))) < 0)
			return r;
		check_flow_skip(f, k);
		left -= k;
	}
	return check_blob_end(c);
}

static int blob_look(struct check_flow *f, struct check *c, const struct object_head *h)
{
	const struct git_remote *r = c->in->remote;
	struct str have;
	int ret;

	if (h->size > r->object_max_bytes)
		return r->may_oversize ? content_skip(f, c, h->size)
				       : too_large(f, c, h, "blob", true);
	if (h->size > CHECK_WHOLE_BYTES)
		return blob_stream(f, c, h->size);
	if ((ret = check_flow_need(f, c, (size_t)h->size, &have)) < 0)
		return ret == -ENODATA ? odd(c, "cut short") : ret;
	ret = check_blob_small(c, str_sub(have, 0, (size_t)h->size));
	check_flow_skip(f, (size_t)h->size);
	return ret;
}

/* Attack: git takes the object of a file's entry for a blob and does not walk on; a tree has room
 * for text in its names, and in ids that are nobody's. */
static void other_note(struct check *c)
{
	c->others = mem_grow_array(c->others, &c->others_size, c->n_others + 1, sizeof(*c->others));
	memcpy(&c->others[c->n_others++], c->oid, sizeof(*c->others));
}

static int other_compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

void check_others_sort(struct check *c)
{
	if (c->n_others)
		qsort(c->others, c->n_others, sizeof(*c->others), other_compare);
}

bool check_is_other(const struct check *c, const uint8_t *oid)
{
	uint64_t key;

	memcpy(&key, oid, sizeof(key));
	return c->n_others && bsearch(&key, c->others, c->n_others, sizeof(key), other_compare);
}

static int object_look(struct check_flow *f, struct check *c, const struct object_head *h)
{
	uint64_t max = h->type == IS_TREE ? CHECK_TREE_MAX : CHECK_COMMIT_MAX;
	struct str have;
	int r = 0;

	if (h->type == IS_BLOB)
		return blob_look(f, c, h);
	other_note(c);
	if (h->size > max)
		return too_large(f, c, h,
				 h->type == IS_TREE  ? "tree"
				 : h->type == IS_TAG ? "tag"
						     : "commit",
				 false);
	if ((r = check_flow_need(f, c, (size_t)h->size, &have)) < 0)
		return r == -ENODATA ? odd(c, "cut short") : r;
	have = str_sub(have, 0, (size_t)h->size);
	if (h->type == IS_COMMIT) {
		memcpy(c->commit, h->hex, sizeof(c->commit));
		r = commit_look(c, have);
		c->commit[0] = '\0';
	} else if (h->type == IS_TAG) {
		r = tag_look(c, have);
	} else {
		tree_look(c, have, h);
	}
	check_flow_skip(f, (size_t)h->size);
	return r;
}

static int objects_read(struct check_flow *f, struct check *c)
{
	struct object_head h;
	struct str line, nl;
	int r;

	while ((r = check_flow_line(f, c, '\n', HEAD_MAX, &line)) == 0) {
		if (++c->out->n_objects > c->in->objects_max) {
			(void)check_found(c, CHECK_LIMIT, "limit-objects", "object");
			return -ECANCELED;
		}
		if ((c->out->n_objects & 63) == 0 && time_monotonic_ns() > c->in->deadline_ns)
			return err_set(c->e, -ETIMEDOUT, "looking at the push took too long");
		if ((r = head_parse(c, line, &h)) < 0 || (r = object_look(f, c, &h)) < 0)
			return r;
		memset(c->oid, 0, sizeof(c->oid));
		if ((r = check_flow_need(f, c, 1, &nl)) < 0 || nl.p[0] != '\n')
			return r == -ENODATA || r == 0 ? odd(c, "end") : r;
		check_flow_skip(f, 1);
	}
	return r == -ENODATA ? 0 : r == -EMSGSIZE ? odd(c, "head") : r;
}

int check_objects(struct check *c, struct str tips)
{
	static const char *const list[] = {
		"rev-list", "--objects", "--no-object-names", "--stdin", "--not", "--all", NULL};
	static const char *const show[] = {
		"cat-file", "--batch=%(objectname) %(objecttype) %(objectsize) %(deltabase)",
		"--buffer", NULL};
	struct check_flow f;
	int r = check_flow_open(&f, c, "objects", list, show, tips), q;

	if (r < 0)
		return r;
	r = objects_read(&f, c);
	memset(c->oid, 0, sizeof(c->oid));
	q = check_flow_close(&f, c);
	if (r == -EPROTO && c->has_failed)
		r = 0; /* it ended in the middle, and has said why */
	return r < 0 && r != -ECANCELED ? r : q;
}

/* --- delta chains --- */

static int delta_compare(const void *a, const void *b)
{
	uint64_t x = ((const struct check_delta *)a)->oid, y = ((const struct check_delta *)b)->oid;

	return (x > y) - (x < y);
}

static size_t delta_at(const struct check *c, uint64_t oid)
{
	size_t lo = 0, hi = c->n_deltas;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (c->deltas[mid].oid < oid)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < c->n_deltas && c->deltas[lo].oid == oid ? lo : SIZE_MAX;
}

/* The depth of each is that of its base and one; a base outside the push is at the bottom. */
int check_delta_chains(struct check *c)
{
	_cleanup_free_ uint32_t *depth = mem_zalloc_array(c->n_deltas + 1, sizeof(*depth));
	uint32_t worst = 0;

	if (c->n_deltas == 0)
		return 0;
	qsort(c->deltas, c->n_deltas, sizeof(*c->deltas), delta_compare);
	for (size_t i = 0; i < c->n_deltas; i++) {
		size_t chain[CHECK_DELTA_DEPTH + 1], n = 0, at = i;

		while (at != SIZE_MAX && depth[at] == 0 && n < ARRAY_LEN(chain)) {
			chain[n++] = at;
			at = delta_at(c, c->deltas[at].base);
		}
		if (n == ARRAY_LEN(chain))
			worst = CHECK_DELTA_DEPTH + 1;
		for (uint32_t below = at == SIZE_MAX ? 0 : depth[at]; n > 0;)
			depth[chain[--n]] = ++below;
		if (depth[i] > worst)
			worst = depth[i];
	}
	if (worst > CHECK_DELTA_DEPTH)
		(void)check_found(c, CHECK_LIMIT, "limit-delta-chain", "pack");
	return 0;
}
