/*
 * What was split over the parts of a request: parameters, path segments, header lines, host labels,
 * members of a JSON object. The parts' values alone are put in a row.
 */
#include "scan/decode.h"

static void join_part(struct scan_out *o, const struct scan_view *v, size_t from, size_t to)
{
	if (from >= to)
		return;
	scan_out_point(o, from);
	scan_out_append(o, v->p + from, to - from);
	scan_out_point(o, to);
}

/* a=1&b=2: from the first = of each part on, or all of it. */
static void join_pairs(struct scan_out *o, const struct scan_view *v, char between, char after)
{
	for (size_t i = 0; i <= v->n;) {
		const uint8_t *end = i < v->n ? memchr(v->p + i, between, v->n - i) : NULL;
		size_t to = end ? (size_t)(end - v->p) : v->n;
		const uint8_t *eq = after && i < to ? memchr(v->p + i, after, to - i) : NULL;
		size_t from = eq ? (size_t)(eq - v->p) + 1 : i;

		while (from < to && (v->p[from] == ' ' || v->p[from] == '\t'))
			from++;
		while (to > from && v->p[to - 1] == '\r')
			to--;
		join_part(o, v, from, to);
		i = (end ? (size_t)(end - v->p) : v->n) + 1;
	}
}

/* String values of a JSON text, without the names of members. */
static void join_strings(struct scan_out *o, const struct scan_view *v)
{
	const uint8_t *p = v->p, *end = v->p + v->n;

	while (p < end && (p = memchr(p, '"', (size_t)(end - p))) != NULL) {
		const uint8_t *from = ++p, *q, *k;

		for (q = p; q < end && (q = memchr(q, '"', (size_t)(end - q))) != NULL; q++) {
			for (k = q; k > from && k[-1] == '\\'; k--)
				;
			if ((q - k) % 2 == 0)
				break;
		}
		if (!q || q >= end)
			return;
		for (p = k = q + 1; k < end && *k <= ' '; k++)
			;
		if (k >= end || *k != ':')
			join_part(o, v, (size_t)(from - v->p), (size_t)(q - v->p));
	}
}

bool scan_join(struct scan_out *o, const struct scan_view *v, enum scan_place place)
{
	scan_out_reset(o);
	switch (place) {
	case SCAN_PLACE_QUERY:
		join_pairs(o, v, '&', '=');
		break;
	case SCAN_PLACE_PATH:
		join_pairs(o, v, '/', '\0');
		break;
	case SCAN_PLACE_HOST:
		join_pairs(o, v, '.', '\0');
		break;
	case SCAN_PLACE_HEADER:
		join_pairs(o, v, '\n', ':');
		break;
	case SCAN_PLACE_BODY:
		if (v->p[0] == '{' || v->p[0] == '[')
			join_strings(o, v);
		else if (memchr(v->p, '=', v->n) && memchr(v->p, '&', v->n) &&
			 !memchr(v->p, ' ', v->n))
			join_pairs(o, v, '&', '=');
		break;
	case SCAN_PLACE_RESPONSE:
	case SCAN_PLACE_COUNT:
		break;
	}
	return o->n >= 16 && o->n < v->n && o->points_n > 2;
}

static uint8_t squeeze_kept[256]; /* bit per way */

__attribute__((constructor)) static void squeeze_fill(void)
{
	for (unsigned b = 0; b < 128; b++)
		squeeze_kept[b] = ascii_is_alnum((char)b) ? 15
				  : b == '_'		  ? 10
				  : b == '-'		  ? 12
				  : b == '.'		  ? 8
							  : 0;
}

bool scan_squeeze(struct scan_out *o, const uint8_t *p, size_t n, size_t way)
{
	uint8_t *out;
	bool was_kept = false;

	scan_out_reset(o);
	out = scan_out_reserve(o, n + 1);
	if (!out)
		return false;
	for (size_t i = 0; i < n; i++) {
		bool is_kept = squeeze_kept[p[i]] >> way & 1;

		if (is_kept != was_kept && o->points_n + 2 < SCAN_POINTS_MAX) {
			o->n = (size_t)(out - o->p);
			scan_out_point(o, i);
		}
		was_kept = is_kept;
		if (is_kept)
			*out++ = p[i];
	}
	o->n = (size_t)(out - o->p);
	scan_out_point(o, n);
	return o->n >= 16 && o->n < n;
}
