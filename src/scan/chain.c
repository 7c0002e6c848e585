/* Which decoders a view calls for, and the views that they make. */
#include "scan/decode.h"
#include "base/siphash.h"
#include "base/text.h"

#define SQUEEZE_MAX	 8192
#define JOIN_MAX	 (256u << 10)
#define SINGLES_MAX	 (64u << 10)
#define OVER_LAYERS	 3
#define BARE_MIN	 64
#define PRINTABLE_RUN	 16
#define PRINTABLE_VARIED 6

/* False when this very text was already scanned in this pass. Attack: one that is harmless goes
 * first, for one with a secret to pass as it. */
static bool view_is_new(struct scan_pass *ps, const struct scan_view *v)
{
	uint64_t h = siphash(ps->en->hash_key, 0, str_slice(v->p, v->n));

	for (unsigned i = 0; i < ps->work->views; i++)
		if (ps->en->seen_views[i] == h)
			return false;
	if (ps->work->views == SCAN_VIEWS_MAX) {
		scan_limit(ps, v, "limit-views");
		return false;
	}
	ps->en->seen_views[ps->work->views++] = h;
	return true;
}

static bool is_to_text(enum scan_decoder d)
{
	return d == DEC_BASE64 || d == DEC_BASE32 || d == DEC_HEX;
}

/* Most of what decodes is no encoding at all, but a word or a path. It is worth a view only if it
 * holds a stretch of text as long as the shortest secret, compressed data, or two-byte characters.
 */
static bool is_worth(const struct scan_out *o)
{
	size_t run = 0, nul = 0;

	/* Bare deflate: one final block with codes, which short runs are not long enough for. */
	if (o->n >= BARE_MIN && ((o->p[0] & 7) == 3 || (o->p[0] & 7) == 5))
		return true;
	for (size_t i = 0; i < o->n;) {
		const uint8_t *p = o->p + i;
		size_t k = 1;
		uint32_t cp;

		if (*p >= 0x80) /* most such bytes of random data begin no character */
			k = *p < 0xc2 || o->n - i < 2 || (p[1] & 0xc0) != 0x80
				    ? 0
				    : text_utf8_next(str_slice(p, o->n - i), &cp);
		if (k && (*p >= 0x20 || *p == '\n' || *p == '\t' || *p == '\r') && *p != 0x7f) {
			/* A newline keeps apart what was decoded from different runs. */
			run = *p == '\n' ? 0 : run + k;
			if (run >= SCAN_PRINT_WINDOW)
				return true;
			i += k;
		} else {
			run = 0;
			nul += *p == 0;
			if ((*p == 0x1f && o->n - i > 2 && p[1] == 0x8b) || nul >= 8)
				return true;
			i++;
		}
		if (o->n - i > 8 && scan_is_zlib_head(p))
			return true;
		if (*p == 'P' && o->n - i > 3 && memcmp(p + 1, "K\3\4", 3) == 0)
			return true;
		if (*p == 0x28 && o->n - i > 3 && p[1] == 0xb5 && p[2] == 0x2f && p[3] == 0xfd)
			return true;
	}
	return false;
}

static void child(struct scan_pass *ps, const struct scan_view *v, enum scan_decoder decoder,
		  unsigned layers)
{
	const struct scan_out *o = &ps->en->out[v->depth];
	bool is_leaf = decoder == DEC_JOIN && o->n > SQUEEZE_MAX;
	struct scan_view u = {.p = o->p,
			      .n = o->n,
			      .parent = v,
			      .map = o,
			      .depth = v->depth + 1,
			      .decoder = decoder,
			      .layers = layers,
			      .is_leaf = is_leaf,
			      .is_below_binary = v->is_below_binary || is_to_text(decoder)};

	if (o->is_overfull)
		scan_limit(ps, v, "limit-bytes");
	if (is_to_text(decoder) && !is_worth(o))
		return;
	if (o->n && !ps->is_stopped && view_is_new(ps, &u))
		scan_view(ps, &u);
}

static unsigned kinds_of(const struct scan_class *c)
{
	return (c->has_percent ? ESCAPE_PERCENT : 0) | (c->has_backslash ? ESCAPE_JSON : 0) |
	       (c->has_ampersand ? ESCAPE_HTML : 0);
}

/* In random bytes anything may look encoded; text has no control bytes. */
static bool is_text(const struct scan_view *v)
{
	for (size_t i = 0; i < v->n; i++)
		if (v->p[i] < ' ' && (v->p[i] < '\t' || v->p[i] > '\r'))
			return false;
	return true;
}

/* Whether a child without escapes was scanned. */
static bool decode_escapes(struct scan_pass *ps, const struct scan_view *v,
			   const struct scan_class *c)
{
	struct scan_out *o = &ps->en->out[v->depth];
	unsigned kinds = kinds_of(c), undone, layers = v->layers;
	static const struct {
		unsigned kind;
		enum scan_decoder decoder;
	} singles[] = {
		{ESCAPE_PERCENT, DEC_PERCENT}, {ESCAPE_JSON, DEC_JSON}, {ESCAPE_HTML, DEC_HTML}};

	if (!kinds || !(undone = scan_unescape(o, v->p, v->n, kinds)))
		return false;
	layers += undone & ESCAPE_PERCENT ? 1 : 0;
	/* Nothing that is honest escapes letters and digits three times over. */
	if (layers >= OVER_LAYERS && (undone & ESCAPE_NEEDLESS) &&
	    ps->place != SCAN_PLACE_RESPONSE && is_text(v))
		scan_limit(ps, v, "over-encoded");
	undone &= ~ESCAPE_NEEDLESS;
	child(ps, v, DEC_ESCAPE, layers);
	if ((undone & (undone - 1)) == 0 || v->n > SINGLES_MAX || ps->place == SCAN_PLACE_RESPONSE)
		return true;
	for (size_t i = 0; i < ARRAY_LEN(singles) && !ps->is_stopped; i++)
		if ((undone & singles[i].kind) && scan_unescape(o, v->p, v->n, singles[i].kind))
			child(ps, v, singles[i].decoder, layers);
	return true;
}

/* Quoted-printable is told by soft line breaks or by several escapes in a row. */
static bool looks_quoted(const uint8_t *p, size_t n)
{
	const uint8_t *end = p + n;

	while ((p = memchr(p, '=', (size_t)(end - p))) != NULL) {
		if (end - p >= 2 && (p[1] == '\n' || p[1] == '\r'))
			return true;
		if (end - p >= 7 && p[3] == '=' && p[6] == '=' &&
		    ascii_hex_value((char)p[1]) >= 0 && ascii_hex_value((char)p[2]) >= 0)
			return true;
		p++;
	}
	return false;
}

static void decode_text(struct scan_pass *ps, const struct scan_view *v, const struct scan_class *c)
{
	struct scan_out *o = &ps->en->out[v->depth];

	(void)decode_escapes(ps, v, c);
	if (ps->is_stopped)
		return;
	if (c->has_plus && !c->has_space && v->n <= SINGLES_MAX &&
	    (ps->place == SCAN_PLACE_QUERY || (ps->place == SCAN_PLACE_BODY && c->has_equals)) &&
	    scan_unescape(o, v->p, v->n, ESCAPE_FORM | ESCAPE_PERCENT))
		child(ps, v, DEC_FORM, v->layers);
	if (!ps->is_stopped && c->has_equals && looks_quoted(v->p, v->n) &&
	    scan_unescape(o, v->p, v->n, ESCAPE_QP))
		child(ps, v, DEC_QP, v->layers);
	if (!ps->is_stopped && c->has_high && scan_fold(o, v->p, v->n))
		child(ps, v, DEC_FOLD, v->layers);
}

static void decode_binary(struct scan_pass *ps, const struct scan_view *v,
			  const struct scan_class *c)
{
	struct scan_engine *en = ps->en;
	struct scan_out *o = &en->out[v->depth];
	size_t old_n = v->parent ? 0 : ps->old_n;
	bool is_host = ps->place == SCAN_PLACE_HOST;

	if (c->has_nul && scan_utf16(o, v->p, v->n))
		child(ps, v, DEC_UTF16, v->layers);
	if (!ps->is_stopped && c->token.n && scan_base64(o, v, c, old_n))
		child(ps, v, DEC_BASE64, v->layers);
	if (!ps->is_stopped && (c->token.n || c->spaced.n) && scan_hex(o, v, c, old_n))
		child(ps, v, DEC_HEX, v->layers);
	if (!ps->is_stopped && c->token.n && scan_base32(o, v, c, old_n, is_host))
		child(ps, v, DEC_BASE32, v->layers);
}

static void decode_compressed(struct scan_pass *ps, const struct scan_view *v,
			      const struct scan_class *c)
{
	struct scan_out *o = &ps->en->out[v->depth];
	const char *limit;
	enum scan_decoder what;
	bool has_output;

	if (!(c->has_control || c->has_high))
		return;
	has_output = scan_inflate(ps->en->inflater, o, v, v->parent || ps->is_last,
				  ps->place != SCAN_PLACE_RESPONSE, &what, &limit);
	if (limit)
		scan_limit(ps, v, limit);
	if (has_output && !ps->is_stopped)
		child(ps, v, what, v->layers);
}

/* Compressed data in an encoded run that goes on past the window, and whose head will have left
 * the window by the time its end comes: what it holds cannot be seen. */
static void check_cut_run(struct scan_pass *ps, const struct scan_view *v,
			  const struct scan_class *c)
{
	const struct scan_run *r = c->token.n ? &c->token.p[c->token.n - 1] : NULL;
	static const char *const heads[] = {"H4sI", "KLUv",   "eJx",	 "eNp",
					    "eAE",  "1f8b08", "28b52ffd"};

	/* In a long text the runs are looked at without its escapes, one view down. */
	if ((v->parent && (v->depth > 1 || v->decoder != DEC_ESCAPE)) || ps->is_last || !r ||
	    r->to != v->n || v->n - r->from <= SCAN_HOLDBACK_BYTES)
		return;
	for (size_t i = 0; i < ARRAY_LEN(heads); i++)
		if (memcmp(v->p + r->from, heads[i], strlen(heads[i])) == 0)
			scan_limit(ps, v, "limit-compressed-run");
}

static void decode_parts(struct scan_pass *ps, const struct scan_view *v)
{
	struct scan_out *o = &ps->en->out[v->depth];
	bool is_field = ps->place != SCAN_PLACE_BODY;

	if (ps->place == SCAN_PLACE_RESPONSE || ps->stream || v->n < 16 ||
	    (v->parent && (v->depth > 1 || v->decoder != DEC_ESCAPE)))
		return;
	if (v->n <= JOIN_MAX && scan_join(o, v, ps->place))
		child(ps, v, DEC_JOIN, v->layers);
	for (size_t i = 0; is_field && v->n <= SQUEEZE_MAX && i < SQUEEZE_WAYS && !ps->is_stopped;
	     i++)
		if (scan_squeeze(o, v->p, v->n, i))
			child(ps, v, DEC_SQUEEZE, v->layers);
}

/* The last PRINTABLE_RUN bytes of text: of few different ones it is a repetition, which broken
 * compressed data is full of, and no secret. */
static bool is_varied(const uint8_t *end)
{
	uint64_t has[2] = {0, 0};

	for (size_t i = 1; i <= PRINTABLE_RUN; i++)
		has[*(end - i) >> 6 & 1] |= UINT64_C(1) << (*(end - i) & 63);
	return __builtin_popcountll(has[0]) + __builtin_popcountll(has[1]) >= PRINTABLE_VARIED;
}

/* At the last depth: what could still be undone is not looked into, so its presence is a finding.
 */
static void check_depth(struct scan_pass *ps, const struct scan_view *v, const struct scan_class *c)
{
	struct scan_out *o = &ps->en->side;
	size_t run = 0;

	if (ps->place == SCAN_PLACE_RESPONSE)
		return;
	if (c->has_percent && is_text(v) &&
	    (scan_unescape(o, v->p, v->n, ESCAPE_PERCENT) & ESCAPE_NEEDLESS)) {
		scan_limit(ps, v, "limit-depth");
		return;
	}
	if (!v->is_below_binary || c->token.n == 0 || !scan_base64(o, v, c, 0))
		return;
	for (size_t i = 0; i < o->n; i++) {
		run = o->p[i] > ' ' && o->p[i] < 0x7f ? run + 1 : 0;
		if (run >= PRINTABLE_RUN && is_varied(o->p + i + 1)) {
			scan_limit(ps, v, "limit-depth");
			return;
		}
	}
}

/* Bytes without which there is no compressed data and no UTF-16. Undoing what looks like an escape
 * in such would destroy it. */
static bool is_maybe_binary(const struct scan_view *v)
{
	return v->p[0] == 0x78 || memchr(v->p, 0, v->n) || memchr(v->p, 0x1f, v->n) ||
	       memchr(v->p, 0xfd, v->n);
}

bool scan_decode_long(struct scan_pass *ps, const struct scan_view *v)
{
	static const struct {
		char c;
		unsigned kind;
	} marks[] = {{'\\', ESCAPE_JSON}, {'%', ESCAPE_PERCENT}, {'&', ESCAPE_HTML}};
	struct scan_class c = {.has_plus = false};
	bool is_any = false;

	if (v->n <= SCAN_LONG_TEXT || v->depth >= SCAN_DEPTH_MAX - 1 || ps->en->is_plain_only ||
	    is_maybe_binary(v))
		return false;
	for (size_t i = 0; i < ARRAY_LEN(marks); i++) {
		bool has = memchr(v->p, marks[i].c, v->n) != NULL;

		is_any |= has;
		c.has_backslash |= has && marks[i].kind == ESCAPE_JSON;
		c.has_percent |= has && marks[i].kind == ESCAPE_PERCENT;
		c.has_ampersand |= has && marks[i].kind == ESCAPE_HTML;
	}
	if (!is_any || !decode_escapes(ps, v, &c))
		return false;
	if (!ps->is_stopped)
		decode_parts(ps, v);
	return true;
}

void scan_decode(struct scan_pass *ps, const struct scan_view *v, const struct scan_class *c)
{
	if (v->depth == SCAN_DEPTH_MAX) {
		check_depth(ps, v, c);
		return;
	}
	if (v->decoder == DEC_SQUEEZE) { /* nothing but letters, digits and a few marks */
		decode_binary(ps, v, c);
		return;
	}
	decode_text(ps, v, c);
	if (!ps->is_stopped)
		decode_binary(ps, v, c);
	if (!ps->is_stopped)
		decode_compressed(ps, v, c);
	if (!ps->is_stopped)
		check_cut_run(ps, v, c);
	if (!ps->is_stopped)
		decode_parts(ps, v);
}
