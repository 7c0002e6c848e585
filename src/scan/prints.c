/*
 * The bottle's own secrets, found without being known: a prefilter on a truncated hash of each
 * window of SCAN_PRINT_WINDOW bytes (window.c), then HMAC-SHA-256 over the candidate. The window's
 * hash is cut to SCAN_PRINT_HASH_BITS, so that it tells next to nothing about the bytes; the mac is
 * useless for guessing a high-entropy secret.
 *
 * Attack: an agent may write its placeholder's head over and over, each costing an HMAC. That is
 * charged to the text's budget.
 */
#include "scan/scan_int.h"

#include <errno.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#define PRINT_HMAC_UNITS 2000

static int mac_of(uint8_t out[32], const struct scan_print_key *key, const uint8_t *p, size_t n)
{
	unsigned mac_n = 32;

	return HMAC(EVP_sha256(), key->mac_key, sizeof(key->mac_key), p, n, out, &mac_n) ? 0 : -EIO;
}

int scan_print_make(struct scan_print *out, const struct scan_print_key *key, enum scan_kind kind,
		    uint32_t index, struct str secret, struct err *e)
{
	uint8_t bare[SCAN_PRINT_COVER + SCAN_SQUEEZE_SLACK];
	struct scan_window_hash hash;
	size_t n = secret.n < SCAN_PRINT_COVER ? secret.n : SCAN_PRINT_COVER, bare_n;
	const uint8_t *p = (const uint8_t *)secret.p;

	*out = (struct scan_print){0};
	if (secret.n < SCAN_PRINT_WINDOW || secret.n > SCAN_SECRET_MAX)
		return err_set(e, -ERANGE,
			       "a secret of %zu bytes cannot be watched for (%d to %d can)",
			       secret.n, SCAN_PRINT_WINDOW, SCAN_SECRET_MAX);
	out->kind = (uint32_t)kind;
	out->index = index;
	out->length = (uint32_t)n;
	scan_window_hash_init(&hash, key->multiplier);
	out->window = scan_window_hash(&hash, p);
	if (mac_of(out->mac, key, p, n) < 0)
		return err_set(e, -EIO, "HMAC-SHA-256 failed");
	bare_n = scan_window_squeeze(bare, p, n);
	/* A secret of words is common text when its delimiters are taken off: ask for more. */
	if (bare_n >= SCAN_PRINT_WINDOW) {
		out->bare_length = (uint32_t)bare_n;
		out->bare_window = scan_window_hash(&hash, bare);
		if (mac_of(out->bare_mac, key, bare, bare_n) < 0)
			return err_set(e, -EIO, "HMAC-SHA-256 failed");
	}
	return 0;
}

int scan_engine_set_prints(struct scan_engine *en, const struct scan_print_key *key,
			   const struct scan_print *prints, size_t n, struct err *e)
{
	struct scan_prints *ps = &en->prints;

	if (n > SCAN_PRINTS_MAX)
		return err_set(e, -E2BIG, "%zu secrets to watch for, at most %d", n,
			       SCAN_PRINTS_MAX);
	for (size_t i = 0; i < n; i++)
		if (prints[i].length < SCAN_PRINT_WINDOW || prints[i].length > SCAN_PRINT_COVER ||
		    prints[i].bare_length > SCAN_PRINT_COVER ||
		    (prints[i].kind != SCAN_KIND_SECRET && prints[i].kind != SCAN_KIND_CANARY &&
		     prints[i].kind != SCAN_KIND_PLACEHOLDER))
			return err_set(e, -EINVAL, "fingerprint %zu is malformed", i);
	ps->n = n;
	ps->windows.n = ps->bare_windows.n = 0;
	ps->key = key ? *key : (struct scan_print_key){0};
	scan_window_hash_init(&ps->hash, ps->key.multiplier);
	for (size_t i = 0; i < n; i++) {
		ps->print[i] = prints[i];
		scan_window_set_add(&ps->windows, prints[i].window);
		if (prints[i].bare_length)
			scan_window_set_add(&ps->bare_windows, prints[i].bare_window);
	}
	return 0;
}

static const char *print_name(uint32_t kind)
{
	return kind == SCAN_KIND_SECRET	  ? "bottle-secret"
	       : kind == SCAN_KIND_CANARY ? "canary"
					  : "placeholder";
}

/* The prefilter has hit at p[at]: which print, if any, stands there? Its length, or 0. */
static size_t verify(struct scan_pass *ps, const struct scan_view *v, const uint8_t *p, size_t n,
		     size_t at, bool is_bare, const struct scan_print **found)
{
	const struct scan_prints *pr = &ps->en->prints;
	uint32_t h = scan_window_hash(&pr->hash, p + at);

	for (size_t i = 0; i < pr->n; i++) {
		const struct scan_print *x = &pr->print[i];
		size_t len = is_bare ? x->bare_length : x->length;
		uint8_t mac[32];

		if (len == 0 || h != (is_bare ? x->bare_window : x->window) || len > n - at)
			continue;
		if (!scan_spend(ps, v, PRINT_HMAC_UNITS))
			return 0;
		if (mac_of(mac, &pr->key, p + at, len) < 0) {
			ps->error = -EIO;
			ps->is_stopped = true;
			return 0;
		}
		if (memcmp(mac, is_bare ? x->bare_mac : x->mac, sizeof(mac)) == 0) {
			*found = x;
			return len;
		}
	}
	return 0;
}

/* Where prints were found plainly in this view, so that the bare pass does not tell them again. */
struct plain_hits {
	struct {
		const struct scan_print *print;
		size_t from, to;
	} at[16];
	size_t n;
};

static bool plain_hits_has(const struct plain_hits *ph, const struct scan_print *x, size_t from,
			   size_t to)
{
	for (size_t i = 0; i < ph->n; i++)
		if (ph->at[i].print == x && ph->at[i].from < to && from < ph->at[i].to)
			return true;
	return false;
}

static void match_plain(struct scan_pass *ps, const struct scan_view *v, size_t from, size_t old_n,
			struct plain_hits *ph)
{
	const struct scan_prints *pr = &ps->en->prints;
	struct scan_window_search w = scan_window_begin(&pr->hash, &pr->windows, v->p, v->n, from);

	for (size_t i; (i = scan_window_next(&w)) != SIZE_MAX;) {
		const struct scan_print *x = NULL;
		size_t len;

		len = verify(ps, v, v->p, v->n, i, false, &x);
		if (ps->is_stopped)
			return;
		if (len && ph->n < ARRAY_LEN(ph->at)) {
			ph->at[ph->n].print = x;
			ph->at[ph->n].from = i;
			ph->at[ph->n++].to = i + len;
		}
		if (len && i + len > old_n &&
		    !scan_report(ps, v, (enum scan_kind)x->kind, print_name(x->kind), x->index, i,
				 i + len))
			return;
	}
}

/* The offset of the k-th letter or digit of v at or after from. */
static size_t bare_offset(const struct scan_view *v, size_t from, size_t k)
{
	for (size_t i = from; i < v->n; i++)
		if (ascii_is_alnum((char)v->p[i]) && k-- == 0)
			return i;
	return v->n;
}

/* The letters and digits alone. */
static void match_bare(struct scan_pass *ps, const struct scan_view *v, size_t from, size_t old_n,
		       const struct plain_hits *ph)
{
	const struct scan_prints *pr = &ps->en->prints;
	struct buf *b = &ps->en->prints.squeezed;
	struct scan_window_search w;
	const uint8_t *p;
	size_t n, len, a, z;

	buf_reset(b);
	p = (const uint8_t *)buf_reserve(b, v->n - from + SCAN_SQUEEZE_SLACK);
	if (!p)
		return;
	n = scan_window_squeeze((uint8_t *)(uintptr_t)p, v->p + from, v->n - from);
	w = scan_window_begin(&pr->hash, &pr->bare_windows, p, n, 0);
	for (size_t i; (i = scan_window_next(&w)) != SIZE_MAX;) {
		const struct scan_print *x = NULL;

		len = verify(ps, v, p, n, i, true, &x);
		if (ps->is_stopped)
			return;
		if (len == 0)
			continue;
		a = bare_offset(v, from, i);
		z = bare_offset(v, from, i + len - 1) + 1;
		if (z > old_n && !plain_hits_has(ph, x, a, z) &&
		    !scan_report(ps, v, (enum scan_kind)x->kind, print_name(x->kind), x->index, a,
				 z))
			return;
	}
}

/* A long text with escapes: its letters and digits are looked at one view down, without them. */
static bool is_seen_below(const struct scan_view *v)
{
	return v->n > SCAN_LONG_TEXT && !v->parent &&
	       (memchr(v->p, '\\', v->n) || memchr(v->p, '%', v->n) || memchr(v->p, '&', v->n));
}

void scan_prints_match(struct scan_pass *ps, const struct scan_view *v, size_t old_n)
{
	const struct scan_prints *pr = &ps->en->prints;
	struct plain_hits ph = {.n = 0};
	size_t back = old_n > 4 * SCAN_PRINT_COVER ? old_n - 4 * SCAN_PRINT_COVER : 0;

	if (pr->n == 0 || v->n < SCAN_PRINT_WINDOW)
		return;
	match_plain(ps, v, back, old_n, &ph);
	/* Delimiters may make a secret longer: hence the same look-back, four times its cover.
	 * Whoever puts them there means to hide it, which an answer that echoes has no reason to
	 * do. */
	if (!ps->is_stopped && pr->bare_windows.n && ps->place != SCAN_PLACE_RESPONSE &&
	    !is_seen_below(v))
		match_bare(ps, v, back, old_n, &ph);
}

/* The placeholder must begin where a token may: otherwise a secret could be glued in front. */
static bool is_token_start(const struct scan_view *v, size_t i)
{
	uint8_t b = i > 0 ? v->p[i - 1] : ' ';

	return !ascii_is_alnum((char)b) && b != '-' && b != '_' && b != '+' && b != '/' && b != '.';
}

enum scan_is_placeholder scan_prints_placeholder(struct scan_pass *ps, const struct scan_view *v,
						 size_t from, size_t to)
{
	const struct scan_prints *pr = &ps->en->prints;

	for (size_t k = 0; k < pr->n; k++) {
		const struct scan_print *x = &pr->print[k];
		size_t low = to > x->length + 2 ? to - x->length - 2 : 0;

		if (x->kind != SCAN_KIND_PLACEHOLDER)
			continue;
		for (size_t i = low > from ? low : from; i < to && i + SCAN_PRINT_WINDOW <= v->n;
		     i++) {
			uint8_t mac[32];

			if (scan_window_hash(&pr->hash, v->p + i) != x->window ||
			    !is_token_start(v, i))
				continue;
			if (x->length > v->n - i)
				return MAY_BE_PLACEHOLDER;
			if (scan_spend(ps, v, PRINT_HMAC_UNITS) &&
			    mac_of(mac, &pr->key, v->p + i, x->length) == 0 &&
			    memcmp(mac, x->mac, sizeof(mac)) == 0)
				return IS_PLACEHOLDER;
		}
	}
	return NO_PLACEHOLDER;
}
