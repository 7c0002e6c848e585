/*
 * Binary-to-text encodings, found as runs. Attack: junk glued in front of an encoded run shifts its
 * alignment, so every alignment is decoded; at the first one all of the output is looked at (it may
 * be compressed, or encoded again), at the others only stretches of printable text that are long
 * enough to hold a secret.
 */
#include "scan/decode.h"

#include <stdlib.h>

#define BASE64_MIN    16 /* characters: 12 bytes */
#define BASE32_MIN    20
#define PRINTABLE_MIN 12
#define WRAPPED_TAIL  20 /* a last line that is too short for a run, and its break */

void scan_out_reset(struct scan_out *o)
{
	o->n = 0;
	o->points_n = 0;
	o->is_overfull = o->is_coarse = false;
}

uint8_t *scan_out_reserve(struct scan_out *o, size_t n)
{
	if (n > SCAN_VIEW_BYTES_MAX - o->n) {
		o->is_overfull = true;
		return NULL;
	}
	if (o->n + n > o->size) {
		size_t size = o->size ? o->size : 4096;
		uint8_t *p;

		while (size < o->n + n)
			size *= 2;
		p = realloc(o->p, size);
		if (!p) {
			o->is_overfull = true;
			return NULL;
		}
		o->p = p;
		o->size = size;
	}
	return o->p + o->n;
}

void scan_out_point(struct scan_out *o, size_t in)
{
	struct scan_point *last = o->points_n ? &o->points[o->points_n - 1] : NULL;

	if (last && last->out == o->n) {
		if (last->in > in)
			last->in = (uint32_t)in;
		return;
	}
	if (o->points_n == SCAN_POINTS_MAX) {
		o->is_coarse = true;
		return;
	}
	o->points[o->points_n++] = (struct scan_point){(uint32_t)o->n, (uint32_t)in};
}

void scan_out_append(struct scan_out *o, const void *p, size_t n)
{
	uint8_t *to = n ? scan_out_reserve(o, n) : NULL;

	if (!to)
		return;
	memcpy(to, p, n);
	o->n += n;
}

/* One more segment: a newline keeps it apart from the one before. */
static void segment_begin(struct scan_out *o, size_t in)
{
	if (o->n)
		scan_out_append(o, "\n", 1);
	scan_out_point(o, in);
}

static bool is_printable(uint8_t b)
{
	return (b >= 0x20 && b < 0x7f) || b == '\n' || b == '\r' || b == '\t';
}

/* Of n decoded bytes that lie at the end of out, keeps the printable stretches. */
static void keep_printable(struct scan_out *o, const uint8_t *p, size_t n, size_t in_from,
			   size_t in_to)
{
	for (size_t i = 0; i + PRINTABLE_MIN <= n;) {
		size_t from = i, last = i + PRINTABLE_MIN;

		/* From the far end back: a byte that does not print rules out all starts before
		 * it. */
		while (last > from && is_printable(p[last - 1]))
			last--;
		if (last > from) {
			i = last;
			continue;
		}
		for (i += PRINTABLE_MIN; i < n && is_printable(p[i]);)
			i++;
		/* The output grows behind what is still to be read: a newline and what is kept
		 * never reach past it, as each stretch follows a dropped byte. */
		if (o->n)
			o->p[o->n++] = '\n';
		scan_out_point(o, in_from);
		memmove(o->p + o->n, p + from, i - from);
		o->n += i - from;
		scan_out_point(o, in_to);
	}
}

static uint8_t base64_value[256];
static uint8_t base32_value[256]; /* both cases; 0xff: none */

__attribute__((constructor)) static void values_fill(void)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	memset(base32_value, 0xff, sizeof(base32_value));
	for (unsigned i = 0; i < 64; i++)
		base64_value[(uint8_t)digits[i]] = (uint8_t)i;
	base64_value['-'] = 62;
	base64_value['_'] = 63;
	for (unsigned i = 0; i < 26; i++)
		base32_value['A' + i] = base32_value['a' + i] = (uint8_t)i;
	for (unsigned i = 0; i < 6; i++)
		base32_value['2' + i] = (uint8_t)(26 + i);
}

static size_t base64_decode(uint8_t *out, const uint8_t *p, size_t n)
{
	const uint8_t *v = base64_value;
	size_t k = 0, i;

	for (i = 0; i + 4 <= n; i += 4, k += 3) {
		uint32_t w = (uint32_t)v[p[i]] << 18 | (uint32_t)v[p[i + 1]] << 12 |
			     (uint32_t)v[p[i + 2]] << 6 | v[p[i + 3]];

		out[k] = (uint8_t)(w >> 16);
		out[k + 1] = (uint8_t)(w >> 8);
		out[k + 2] = (uint8_t)w;
	}
	if (n - i >= 2) {
		uint32_t w = (uint32_t)v[p[i]] << 18 | (uint32_t)v[p[i + 1]] << 12 |
			     (n - i == 3 ? (uint32_t)v[p[i + 2]] << 6 : 0);

		out[k++] = (uint8_t)(w >> 16);
		if (n - i == 3)
			out[k++] = (uint8_t)(w >> 8);
	}
	return k;
}

static size_t base32_decode(uint8_t *out, const uint8_t *p, size_t n)
{
	uint64_t acc = 0;
	unsigned bits = 0;
	size_t k = 0, i;

	for (i = 0; i + 8 <= n; i += 8) {
		uint64_t w = 0;

#pragma GCC unroll 8
		for (size_t j = 0; j < 8; j++)
			w = w << 5 | base32_value[p[i + j]];
#pragma GCC unroll 5
		for (unsigned shift = 40; shift > 0; shift -= 8)
			out[k++] = (uint8_t)(w >> (shift - 8));
	}
	for (; i < n; i++) {
		acc = acc << 5 | base32_value[p[i]];
		bits += 5;
		if (bits >= 8) {
			bits -= 8;
			out[k++] = (uint8_t)(acc >> bits);
		}
	}
	return k;
}

static size_t hex_decode(uint8_t *out, const uint8_t *p, size_t n)
{
	size_t k = 0;

	for (size_t i = 0; i + 2 <= n; i += 2)
		out[k++] = (uint8_t)(ascii_hex_value((char)p[i]) << 4 |
				     ascii_hex_value((char)p[i + 1]));
	return k;
}

typedef size_t (*decode_fn)(uint8_t *out, const uint8_t *p, size_t n);

/* One run at each alignment. in_from and in_to: where it stood in the view. */
static void decode_aligned(struct scan_out *o, decode_fn decode, size_t alignments,
			   const uint8_t *p, size_t n, size_t in_from, size_t in_to)
{
	uint8_t *to;

	segment_begin(o, in_from);
	to = scan_out_reserve(o, n + 8);
	if (!to)
		return;
	o->n += decode(to, p, n);
	scan_out_point(o, in_to);
	for (size_t a = 1; a < alignments && a < n; a++) {
		to = scan_out_reserve(o, n + 8);
		if (!to)
			return;
		/* One byte of room for the newline that keeps stretches apart. */
		keep_printable(o, to + 1, decode(to + 1, p + a, n - a), in_from, in_to);
	}
}

static bool is_line_gap(uint8_t b)
{
	return b == '\r' || b == '\n' || b == ' ' || b == '\t';
}

/* Runs from i on that are apart by a line break only: how many. */
static size_t wrapped_runs(const struct scan_view *v, const struct scan_runs *r, size_t i)
{
	size_t n = 1;

	for (; i + n < r->n; n++) {
		size_t gap = r->p[i + n].from - r->p[i + n - 1].to;
		const uint8_t *p = v->p + r->p[i + n - 1].to;

		if (gap > 8)
			break;
		for (size_t k = 0; k < gap; k++)
			if (!is_line_gap(p[k]))
				return n;
	}
	return n;
}

/* Where a wrapped run ends that has the runs up to `to`: the last line may be too short to have
 * been taken for a run. */
static size_t wrapped_end(const struct scan_view *v, size_t to)
{
	size_t k = to;

	while (k < v->n && k < to + 4 && is_line_gap(v->p[k]))
		k++;
	while (k > to && k < v->n && k < to + 16 &&
	       (ascii_is_alnum((char)v->p[k]) || strchr("+/-_", v->p[k] ? v->p[k] : ' ')))
		k++;
	return k;
}

/* The lines of one wrapped run put together at the end of out's memory, decoded from there. */
static void decode_wrapped(struct scan_out *o, const struct scan_view *v, const struct scan_runs *r,
			   size_t i, size_t count)
{
	size_t from = r->p[i].from, to = wrapped_end(v, r->p[i + count - 1].to), n = 0;
	uint8_t *joined;

	/* Decoded bytes are fewer than encoded ones: 2 n + 16 hold a decoding and the joined text.
	 */
	joined = scan_out_reserve(o, 2 * (to - from) + 16);
	if (!joined)
		return;
	joined += (to - from) + 16;
	for (size_t k = from; k < to; k++)
		if (!is_line_gap(v->p[k]))
			joined[n++] = v->p[k];
	segment_begin(o, from);
	o->n += base64_decode(o->p + o->n, joined, n);
	scan_out_point(o, to);
}

static void decode_wrapped_shifted(struct scan_out *o, const struct scan_view *v,
				   const struct scan_runs *r, size_t i, size_t count)
{
	size_t from = r->p[i].from, to = wrapped_end(v, r->p[i + count - 1].to);

	for (size_t a = 1; a < 4; a++) {
		size_t n = 0, skip = a;
		uint8_t *room = scan_out_reserve(o, 2 * (to - from) + 32), *joined;

		if (!room)
			return;
		joined = room + (to - from) + 16;
		for (size_t k = from; k < to; k++)
			if (!is_line_gap(v->p[k])) {
				if (skip)
					skip--;
				else
					joined[n++] = v->p[k];
			}
		keep_printable(o, room + 1, base64_decode(room + 1, joined, n), from, to);
	}
}

bool scan_base64(struct scan_out *o, const struct scan_view *v, const struct scan_class *c,
		 size_t old_n)
{
	const struct scan_runs *r = &c->token;
	size_t wrapped_to = 0;

	scan_out_reset(o);
	for (size_t i = 0; i < r->n; i++) {
		size_t from = r->p[i].from, to = r->p[i].to, count;

		if (i >= wrapped_to && (count = wrapped_runs(v, r, i)) > 1) {
			wrapped_to = i + count;
			if (r->p[wrapped_to - 1].to + WRAPPED_TAIL >= old_n) {
				decode_wrapped(o, v, r, i, count);
				decode_wrapped_shifted(o, v, r, i, count);
			}
		}
		if (to - from >= BASE64_MIN && to >= old_n)
			decode_aligned(o, base64_decode, 4, v->p + from, to - from, from, to);
	}
	return o->n > 0;
}

/* Sub-runs of [from, to) whose bytes all satisfy has(), at least min long. */
static void sub_runs(struct scan_out *o, const struct scan_view *v, struct scan_run run,
		     bool (*has)(uint8_t), size_t min, decode_fn decode, size_t alignments)
{
	for (size_t i = run.from; run.to - i >= min && i < run.to;) {
		size_t from = i, k = i + min;

		/* From the far end: what does not belong there rules out all that begins before. */
		while (k > i && has(v->p[k - 1]))
			k--;
		if (k > i) {
			i = k;
			continue;
		}
		i += min;
		while (i < run.to && has(v->p[i]))
			i++;
		decode_aligned(o, decode, alignments, v->p + from, i - from, from, i);
		i++;
	}
}

static bool is_hex(uint8_t b)
{
	return ascii_hex_value((char)b) >= 0;
}

static bool is_hex_pair(const uint8_t *p, size_t i, size_t end)
{
	return i + 2 <= end && is_hex(p[i]) && is_hex(p[i + 1]) &&
	       (i + 2 == end || !is_hex(p[i + 2]));
}

/* Pairs of hex digits with something between them: 41-4b, 41:4b, \x41\x4b, 0x41, 0x4b. Decodes the
 * first such sequence at or after i and returns where to go on. */
static size_t hex_sequence(struct scan_out *o, const struct scan_view *v, size_t i, size_t end)
{
	const uint8_t *p = v->p;
	size_t n = 0, from;
	uint8_t *to;

	while (i < end && !is_hex_pair(p, i, end)) {
		while (i < end && is_hex(p[i]))
			i++;
		while (i < end && !is_hex(p[i]))
			i++;
	}
	from = i;
	to = scan_out_reserve(o, (end - i) / 3 + 16);
	if (!to)
		return end;
	to++;
	while (is_hex_pair(p, i, end)) {
		size_t gap;

		to[n++] = (uint8_t)(ascii_hex_value((char)p[i]) << 4 |
				    ascii_hex_value((char)p[i + 1]));
		i += 2;
		for (gap = i; i < end && i - gap < 6; i++)
			if (is_hex(p[i]) &&
			    !(p[i] == '0' && i + 1 < end && (p[i + 1] | 0x20) == 'x'))
				break;
		if (i == gap)
			break;
	}
	if (n >= PRINTABLE_MIN) { /* all of it: pairs that are set apart are meant as such */
		segment_begin(o, from);
		memmove(o->p + o->n, to, n);
		o->n += n;
		scan_out_point(o, i);
	}
	return i;
}

bool scan_hex(struct scan_out *o, const struct scan_view *v, const struct scan_class *c,
	      size_t old_n)
{
	scan_out_reset(o);
	for (size_t i = 0; i < c->token.n; i++)
		if (c->token.p[i].to >= old_n &&
		    c->token.p[i].to - c->token.p[i].from >= SCAN_RUN_HEX_MIN)
			sub_runs(o, v, c->token.p[i], is_hex, SCAN_RUN_HEX_MIN, hex_decode, 2);
	for (size_t i = 0; i < c->spaced.n; i++)
		for (size_t k = c->spaced.p[i].from;
		     c->spaced.p[i].to >= old_n && k < c->spaced.p[i].to;)
			k = hex_sequence(o, v, k, c->spaced.p[i].to);
	return o->n > 0;
}

static bool is_base32_upper(uint8_t b)
{
	return (b >= 'A' && b <= 'Z') || (b >= '2' && b <= '7');
}

static bool is_base32_lower(uint8_t b)
{
	return (b >= 'a' && b <= 'z') || (b >= '2' && b <= '7');
}

bool scan_base32(struct scan_out *o, const struct scan_view *v, const struct scan_class *c,
		 size_t old_n, bool is_host)
{
	size_t min = is_host ? 12 : BASE32_MIN;

	scan_out_reset(o);
	for (size_t i = 0; i < c->token.n; i++) {
		struct scan_run r = c->token.p[i];

		if (r.to < old_n || r.to - r.from < min)
			continue;
		sub_runs(o, v, r, is_base32_upper, min, base32_decode, 8);
		sub_runs(o, v, r, is_base32_lower, min, base32_decode, 8);
	}
	return o->n > 0;
}

/* ASCII in units of `width` bytes from i on: where it ends. */
static size_t wide_run(const uint8_t *p, size_t n, size_t i, size_t width)
{
	static const uint8_t zeroes[3];

	while (i + width <= n && p[i] != 0 && p[i] < 0x7f &&
	       memcmp(p + i + 1, zeroes, width - 1) == 0)
		i += width;
	return i;
}

/* The characters of [from, to) as one more segment. False: there is no room. */
static bool wide_append(struct scan_out *o, const uint8_t *p, size_t from, size_t to, size_t width,
			size_t step, size_t *pointed)
{
	size_t count = (to - from + width - 1) / width, told = 0;
	uint8_t *out;

	segment_begin(o, from);
	out = scan_out_reserve(o, count);
	if (!out)
		return false;
	for (size_t k = 0; k < count; k++) {
		out[k] = p[from + k * width];
		/* Lines are where they are in the text: these bytes shrink to a part. */
		if (out[k] == '\n' && from + k * width >= *pointed + step) {
			*pointed = from + k * width;
			o->n += k + 1 - told;
			told = k + 1;
			scan_out_point(o, *pointed + width);
		}
	}
	o->n += count - told;
	scan_out_point(o, to);
	return true;
}

/* ASCII in two-byte and four-byte units of either order, wherever it starts. */
bool scan_utf16(struct scan_out *o, const uint8_t *p, size_t n)
{
	size_t pointed = 0, step = n / (SCAN_POINTS_MAX / 2);

	scan_out_reset(o);
	for (size_t i = 0; i + 1 < n;) {
		size_t from = i, width;
		bool has_last;

		if (p[i + 1] != 0 || p[i] == 0 || p[i] >= 0x7f) {
			i++;
			continue;
		}
		width = i + 3 < n && p[i + 2] == 0 && p[i + 3] == 0 ? 4 : 2;
		i = wide_run(p, n, i, width);
		if (i - from < width * (PRINTABLE_MIN - 1))
			continue;
		/* Big-endian text looks the same, but for its last character, and for its first
		 * when something else stands right before it. Zeroes between characters are either.
		 */
		has_last = i < n && p[i] != 0 && p[i] < 0x7f;
		if (has_last && from > 0 && p[from - 1] == 0)
			i++;
		else if (has_last &&
			 (!wide_append(o, p, from, i + 1, width, step, &pointed) ||
			  !wide_append(o, p, from + width, i + 1, width, step, &pointed)))
			return true;
		if (!wide_append(o, p, from, i, width, step, &pointed))
			return true;
	}
	return o->n > 0;
}
