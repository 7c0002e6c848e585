/* Views: matching one, telling what was found, and where it stood in the outermost text. */
#include "scan/scan_int.h"
#include "base/siphash.h"

#include <errno.h>

#define MATCH_UNITS 60
#define TAIL_CHARS  12

const char *const scan_decoder_names[DEC_COUNT] = {
	[DEC_NONE] = "",	   [DEC_ESCAPE] = "escape", [DEC_PERCENT] = "percent",
	[DEC_JSON] = "json",	   [DEC_HTML] = "html",	    [DEC_FORM] = "form",
	[DEC_QP] = "qp",	   [DEC_FOLD] = "fold",	    [DEC_UTF16] = "utf16",
	[DEC_BASE64] = "base64",   [DEC_BASE32] = "base32", [DEC_HEX] = "hex",
	[DEC_INFLATE] = "gzip",	   [DEC_ZSTD] = "zstd",	    [DEC_JOIN] = "join",
	[DEC_SQUEEZE] = "squeeze",
};

/* The range of the parent that [*from, *to) of v came from. No decoder but the inflater, which has
 * no points, makes more bytes than it takes: so between two points, an output byte is at least as
 * far from the lower one in the input as in the output, and from the upper one likewise. */
static void map_out(const struct scan_view *v, size_t *from, size_t *to)
{
	const struct scan_out *m = v->map;
	size_t lo = 0, hi = m->points_n, a = 0, z = v->parent->n;

	if (m->points_n && !m->is_coarse) {
		while (hi - lo > 1) {
			size_t mid = lo + (hi - lo) / 2;

			if (m->points[mid].out <= *from)
				lo = mid;
			else
				hi = mid;
		}
		a = m->points[lo].out <= *from ? m->points[lo].in + (*from - m->points[lo].out)
					       : *from;
		for (lo = 0, hi = m->points_n; lo < hi;) {
			size_t mid = lo + (hi - lo) / 2;

			if (m->points[mid].out < *to)
				lo = mid + 1;
			else
				hi = mid;
		}
		if (lo < m->points_n && m->points[lo].in >= m->points[lo].out - *to)
			z = m->points[lo].in - (m->points[lo].out - *to);
	}
	*from = a < z && a <= v->parent->n ? a : 0;
	*to = a < z && z <= v->parent->n ? z : v->parent->n;
}

static void chain_of(const struct scan_view *v, char *out, size_t size)
{
	const struct scan_view *up[SCAN_DEPTH_MAX + 1];
	size_t n = 0, at = 0;

	out[0] = '\0';
	for (; v->parent && n < ARRAY_LEN(up); v = v->parent)
		up[n++] = v;
	while (n-- > 0) {
		int k = snprintf(out + at, size - at, "%s%s", at ? ">" : "",
				 scan_decoder_names[up[n]->decoder]);

		if (k < 0 || (size_t)k >= size - at)
			return;
		at += (size_t)k;
	}
}

static uint64_t finding_id(const struct scan_finding *f, uint64_t tail)
{
	uint64_t h = UINT64_C(1469598103934665603) ^ tail;

	for (const char *p = f->rule; *p; p++)
		h = (h ^ (uint8_t)*p) * UINT64_C(1099511628211);
	return ((h ^ f->secret) * UINT64_C(1099511628211) ^ f->kind) | 1;
}

/* The last letters and digits of what matched, which are the same in whatever view it stands. */
static uint64_t tail_of(const struct scan_engine *en, const struct scan_view *v, size_t from,
			size_t to)
{
	char tail[TAIL_CHARS];
	size_t n = 0;

	for (; to > from && n < TAIL_CHARS; to--)
		if (ascii_is_alnum((char)v->p[to - 1]))
			tail[n++] = (char)v->p[to - 1];
	return siphash(en->hash_key, 1, str_slice(tail, n));
}

/* The same, where it was already seen, maybe in another view. Attack: one that is known to be
 * harmless hides another, whose range (of a decoder that knows no better, the whole text) has it.
 */
static bool was_told(struct scan_told *t, const struct scan_finding *f, uint64_t tail)
{
	uint64_t id = finding_id(f, tail);
	unsigned k;

	for (size_t i = 0; i < SCAN_TOLD_MAX; i++)
		if (t->at[i].id == id && t->at[i].from < f->to && f->from < t->at[i].to)
			return true;
	k = t->n++ % SCAN_TOLD_MAX;
	t->at[k].id = id;
	t->at[k].from = f->from;
	t->at[k].to = f->to;
	return false;
}

bool scan_report(struct scan_pass *ps, const struct scan_view *v, enum scan_kind kind,
		 const char *rule, unsigned secret, size_t from, size_t to)
{
	struct scan_finding f = {.kind = kind, .secret = secret, .place = ps->place};
	const struct scan_view *u;
	uint64_t tail = kind == SCAN_KIND_RULE ? tail_of(ps->en, v, from, to) : 0;

	if (ps->is_stopped)
		return false;
	memcpy(f.rule, rule, strnlen(rule, sizeof(f.rule) - 1));
	chain_of(v, f.decoders, sizeof(f.decoders));
	for (u = v; u->parent; u = u->parent)
		map_out(u, &from, &to);
	f.from = ps->base + from;
	f.to = ps->base + to;
	if (was_told(ps->told, &f, tail))
		return true;
	if (ps->fn && !ps->fn(&f, ps->ctx))
		ps->is_stopped = true;
	return !ps->is_stopped;
}

void scan_limit(struct scan_pass *ps, const struct scan_view *v, const char *what)
{
	(void)scan_report(ps, v, SCAN_KIND_LIMIT, what, 0, 0, v->n);
}

bool scan_spend(struct scan_pass *ps, const struct scan_view *v, uint64_t units)
{
	struct scan_work *w = ps->work;

	w->units += units;
	if (w->units <= w->units_max)
		return true;
	scan_limit(ps, v, "limit-work");
	ps->is_stopped = true; /* whatever the callback says: the rest stays unscanned */
	return false;
}

/* A placeholder's part that looks like a credential is none. In a stream the rest of it may not
 * have come: such a match waits, which the hold-back allows. True when the match is not to be told
 * now. */
static bool is_placeholders(struct scan_pass *ps, const struct scan_view *v, unsigned id,
			    size_t from, size_t to)
{
	struct scan_stream *s = ps->stream;

	switch (scan_prints_placeholder(ps, v, from, to)) {
	case IS_PLACEHOLDER:
		return true;
	case MAY_BE_PLACEHOLDER:
		if (v->parent || !s || ps->is_last || s->pending_n == SCAN_PENDING_MAX)
			return false;
		s->pending[s->pending_n++] =
			(struct scan_pending){id, ps->base + from, ps->base + to};
		return true;
	case NO_PLACEHOLDER:
		break;
	}
	return false;
}

void scan_settle_pending(struct scan_pass *ps, const struct scan_view *v)
{
	struct scan_stream *s = ps->stream;
	struct scan_pending was[SCAN_PENDING_MAX];
	unsigned n = s->pending_n;

	memcpy(was, s->pending, sizeof(was));
	s->pending_n = 0;
	for (unsigned i = 0; i < n && !ps->is_stopped; i++) {
		size_t from = was[i].from > ps->base ? (size_t)(was[i].from - ps->base) : 0;
		size_t to = was[i].to > ps->base ? (size_t)(was[i].to - ps->base) : 0;

		if (!is_placeholders(ps, v, was[i].rule, from, to))
			(void)scan_report(ps, v, SCAN_KIND_RULE, scan_rules[was[i].rule].id, 0,
					  from, to);
	}
}

/* An expression's longest match reaches back too far: to what stands before a token, or into the
 * lines (or a binary's strings) before, which may have matches of their own. */
static size_t match_begin(const struct scan_rule *r, const struct scan_candidate *c)
{
	size_t i = c->to;

	if (r->flags & RULE_TOKEN)
		while (i > c->from && c->p[i - 1] > ' ' && c->p[i - 1] != '"' &&
		       c->p[i - 1] != '\'')
			i--;
	else if (r->regex)
		while (i > c->from && (i == c->to || c->p[i - 1] >= ' ' || c->p[i - 1] == '\t'))
			i--;
	else /* a walker knows */
		i = c->from;
	return i;
}

bool scan_candidate_found(struct scan_pass *ps, const struct scan_view *v, unsigned id, size_t from,
			  size_t to)
{
	const struct scan_rule *r = &scan_rules[id];
	struct scan_candidate c = {
		.p = v->p, .n = v->n, .from = from, .to = to, .place = ps->place};

	if (!(r->places >> ps->place & 1))
		return true;
	if ((v->decoder == DEC_JOIN || v->decoder == DEC_SQUEEZE) && !(r->flags & RULE_STRONG))
		return true;
	if ((r->flags & RULE_ENCODED) && !v->is_below_binary)
		return true;
	if (r->check && !r->check(&c))
		return true;
	c.from = match_begin(r, &c);
	if (ps->en->prints.n && is_placeholders(ps, v, id, c.from, c.to))
		return true;
	return scan_report(ps, v, SCAN_KIND_RULE, r->id, 0, c.from, c.to);
}

static int on_match(unsigned id, unsigned long long from, unsigned long long to, unsigned flags,
		    void *ctx)
{
	struct scan_pass *ps = ctx;
	const struct scan_view *v = ps->view;
	uint64_t base = v->parent ? 0 : ps->base;
	size_t end = (size_t)(to - base), width;

	(void)from;
	(void)flags;
	if (id >= scan_rules_n)
		return 0;
	width = ps->en->db.width[id];
	if (!scan_spend(ps, v, MATCH_UNITS))
		return 1;
	if (!scan_candidate_found(ps, v, id, end > width ? end - width : 0, end))
		return 1;
	return ps->is_stopped;
}

/* The expressions over v; of the outermost view of a stream, over what is new. */
static void match_rules(struct scan_pass *ps, const struct scan_view *v)
{
	struct scan_engine *en = ps->en;
	bool is_root = !v->parent && ps->stream;
	hs_stream_t *hs = is_root ? ps->stream->hs : en->hs[scan_way_of(ps->place)];
	size_t from = is_root ? ps->old_n : 0;
	hs_error_t r = HS_SUCCESS;

	ps->view = v;
	if (v->n > from)
		r = hs_scan_stream(hs, (const char *)v->p + from, (unsigned)(v->n - from), 0,
				   en->scratch, on_match, ps);
	if (is_root)
		ps->stream->is_fresh = false;
	if (r == HS_SUCCESS && !ps->is_stopped && (!is_root || ps->is_last)) {
		r = hs_reset_stream(hs, 0, en->scratch, on_match, ps);
		if (is_root)
			ps->stream->is_fresh = r == HS_SUCCESS && !ps->is_stopped;
	}
	if (r != HS_SUCCESS || ps->is_stopped) {
		/* A stopped stream still holds its state. */
		hs_error_t q = hs_reset_stream(hs, 0, en->scratch, NULL, NULL);

		if ((r != HS_SUCCESS && r != HS_SCAN_TERMINATED) || q != HS_SUCCESS)
			ps->error = -EIO;
		ps->is_stopped = true;
		if (is_root)
			ps->stream->is_fresh = q == HS_SUCCESS;
	}
}

void scan_view(struct scan_pass *ps, const struct scan_view *v)
{
	struct scan_class *c = &ps->en->class[v->depth];
	size_t old_n = v->parent ? 0 : ps->old_n;

	if (!scan_spend(ps, v, 50 + v->n))
		return;
	match_rules(ps, v);
	if (!ps->is_stopped)
		scan_prints_match(ps, v, old_n);
	if (ps->is_stopped || v->n < SCAN_RUN_TOKEN_MIN / 2)
		return;
	if (v->is_leaf || ps->en->is_rules_only)
		return;
	if (scan_decode_long(ps, v))
		return;
	scan_classify(c, v->p, v->n);
	scan_walk(ps, v, c);
	if (!ps->is_stopped && !ps->en->is_plain_only)
		scan_decode(ps, v, c);
}
