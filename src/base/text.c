#include "base/text.h"

#include <errno.h>
#include <stdio.h>

#define TEXT_MARKS_MAX 4

size_t text_utf8_next(struct str s, uint32_t *codepoint)
{
	const unsigned char *p = (const unsigned char *)s.p;
	uint32_t cp;
	size_t n;

	*codepoint = 0;
	if (s.n == 0)
		return 0;
	if (p[0] < 0x80) {
		*codepoint = p[0];
		return 1;
	}
	if (p[0] >= 0xc2 && p[0] <= 0xdf) {
		n = 2;
		cp = p[0] & 0x1fu;
	} else if (p[0] >= 0xe0 && p[0] <= 0xef) {
		n = 3;
		cp = p[0] & 0x0fu;
	} else if (p[0] >= 0xf0 && p[0] <= 0xf4) {
		n = 4;
		cp = p[0] & 0x07u;
	} else {
		return 0;
	}
	if (s.n < n)
		return 0;
	for (size_t i = 1; i < n; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		cp = cp << 6 | (p[i] & 0x3fu);
	}
	if ((n == 3 && cp < 0x800) || (n == 4 && (cp < 0x10000 || cp > 0x10ffff)) ||
	    (cp >= 0xd800 && cp <= 0xdfff))
		return 0;
	*codepoint = cp;
	return n;
}

bool text_is_deceptive(uint32_t cp)
{
	return cp < 0x20 || (cp >= 0x7f && cp <= 0x9f) || cp == 0xad || cp == 0x34f ||
	       cp == 0x61c || cp == 0x115f || cp == 0x1160 || cp == 0x17b4 || cp == 0x17b5 ||
	       (cp >= 0x180b && cp <= 0x180f) || (cp >= 0x200b && cp <= 0x200f) ||
	       (cp >= 0x2028 && cp <= 0x202e) || (cp >= 0x2060 && cp <= 0x206f) || cp == 0x3164 ||
	       (cp >= 0xfe00 && cp <= 0xfe0f) || cp == 0xfeff || cp == 0xffa0 ||
	       (cp >= 0xfff0 && cp <= 0xfffb) || (cp >= 0x1d173 && cp <= 0x1d17a) ||
	       (cp >= 0xe0000 && cp <= 0xe0fff) || (cp & 0xfffe) == 0xfffe;
}

bool text_has_deceptive(struct str s)
{
	while (s.n > 0) {
		uint32_t cp;
		size_t n = text_utf8_next(s, &cp);

		if (n == 0 || text_is_deceptive(cp))
			return true;
		s = str_sub(s, n, s.n);
	}
	return false;
}

/* The commonest that stand above or below the letter before them: no writing needs more than a few
 * of them on one, and a pile covers the lines around it. */
static bool text_is_mark(uint32_t cp)
{
	static const struct {
		uint32_t from, to;
	} marks[] = {
		{0x300, 0x36f},	  {0x483, 0x489},   {0x591, 0x5bd},   {0x610, 0x61a},
		{0x64b, 0x65f},	  {0x6d6, 0x6ed},   {0x730, 0x74a},   {0x7eb, 0x7f3},
		{0x816, 0x82d},	  {0x8d3, 0x8ff},   {0xe31, 0xe3a},   {0xe47, 0xe4e},
		{0xeb1, 0xebc},	  {0xec8, 0xece},   {0xf71, 0xf87},   {0x1ab0, 0x1aff},
		{0x1dc0, 0x1dff}, {0x20d0, 0x20ff}, {0x2cef, 0x2cf1}, {0x2de0, 0x2dff},
		{0x302a, 0x302f}, {0xa66f, 0xa67d}, {0xa8e0, 0xa8f1}, {0xfe20, 0xfe2f},
	};

	for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++) {
		if (cp >= marks[i].from && cp <= marks[i].to)
			return true;
	}
	return false;
}

/* One character of s as it may be shown; its source length is returned. n_marks: how many marks
 * stood before it, for the next call. */
static size_t text_show_one(struct str s, unsigned *n_marks, char out[16])
{
	uint32_t cp;
	size_t n = text_utf8_next(s, &cp);

	*n_marks = text_is_mark(cp) ? *n_marks + 1 : 0;
	if (n == 0) {
		(void)snprintf(out, 16, "\\x%02x", (unsigned char)s.p[0]);
		return 1;
	}
	if (cp == '\n')
		(void)snprintf(out, 16, "\\n");
	else if (cp == '\r')
		(void)snprintf(out, 16, "\\r");
	else if (cp == '\t')
		(void)snprintf(out, 16, "\\t");
	else if (cp == '\\')
		(void)snprintf(out, 16, "\\\\");
	else if (cp < 0x20 || cp == 0x7f)
		(void)snprintf(out, 16, "\\x%02x", (unsigned)cp);
	else if (text_is_deceptive(cp) || *n_marks > TEXT_MARKS_MAX)
		(void)snprintf(out, 16, "\\u{%x}", (unsigned)cp);
	else {
		memcpy(out, s.p, n);
		out[n] = '\0';
	}
	return n;
}

int text_visible(struct buf *out, struct str s, size_t max)
{
	unsigned n_marks = 0;
	size_t used = 0;

	while (s.n > 0) {
		char one[16];
		size_t step = text_show_one(s, &n_marks, one);
		size_t n = strlen(one);
		int ret;

		if (used + n > max)
			return buf_append(out, "…", strlen("…"));
		ret = buf_append(out, one, n);
		if (ret < 0)
			return ret;
		used += n;
		s = str_sub(s, step, s.n);
	}
	return 0;
}

static void text_show_cstr(char *out, size_t size, struct str s, bool keeps_backslash)
{
	unsigned n_marks = 0;
	size_t used = 0;

	if (size == 0)
		return;
	while (s.n > 0) {
		char one[16];
		size_t step = text_show_one(s, &n_marks, one);
		size_t n = keeps_backslash && *s.p == '\\' ? 1 : strlen(one);

		/* Room for this one and for a later "…" of three bytes, and the terminator. */
		if (used + n + 3 + 1 > size) {
			if (used + 3 + 1 <= size) {
				memcpy(out + used, "…", 3);
				used += 3;
			}
			break;
		}
		memcpy(out + used, one, n);
		used += n;
		s = str_sub(s, step, s.n);
	}
	out[used] = '\0';
}

void text_visible_cstr(char *out, size_t size, struct str s)
{
	text_show_cstr(out, size, s, false);
}

static bool text_is_visible(struct str s)
{
	unsigned n_marks = 0;

	while (s.n > 0) {
		char one[16];
		size_t step = text_show_one(s, &n_marks, one);

		if (*s.p != '\\' && (strlen(one) != step || memcmp(one, s.p, step) != 0))
			return false;
		s = str_sub(s, step, s.n);
	}
	return true;
}

void text_visible_once_cstr(char *out, size_t size, struct str s)
{
	text_show_cstr(out, size, s, text_is_visible(s));
}

int text_json(struct buf *out, struct str s)
{
	int ret = buf_append(out, "\"", 1);

	while (ret == 0 && s.n > 0) {
		uint32_t cp;
		size_t run = 0;
		size_t n;

		/* The common case in one piece: printable ASCII without quote and backslash. */
		while (run < s.n && s.p[run] >= 0x20 && s.p[run] < 0x7f && s.p[run] != '"' &&
		       s.p[run] != '\\')
			run++;
		if (run > 0) {
			ret = buf_append(out, s.p, run);
			s = str_sub(s, run, s.n);
			continue;
		}
		n = text_utf8_next(s, &cp);
		if (n == 0) {
			ret = buf_append(out, "\\ufffd", 6);
			n = 1;
		} else if (cp == '"' || cp == '\\') {
			ret = buf_printf(out, "\\%c", (char)cp);
		} else if (text_is_deceptive(cp) && cp <= 0xffff) {
			ret = buf_printf(out, "\\u%04x", (unsigned)cp);
		} else if (text_is_deceptive(cp)) {
			ret = buf_printf(out, "\\u%04x\\u%04x",
					 (unsigned)(0xd800 + ((cp - 0x10000) >> 10)),
					 (unsigned)(0xdc00 + ((cp - 0x10000) & 0x3ff)));
		} else {
			ret = buf_append(out, s.p, n);
		}
		s = str_sub(s, n, s.n);
	}
	return ret < 0 ? ret : buf_append(out, "\"", 1);
}

#define DISTANCE_WORD_MAX 64

size_t text_distance(struct str a, struct str b)
{
	size_t rows[3][DISTANCE_WORD_MAX + 1];

	if (a.n > DISTANCE_WORD_MAX || b.n > DISTANCE_WORD_MAX)
		return SIZE_MAX;
	for (size_t j = 0; j <= b.n; j++)
		rows[0][j] = j;
	for (size_t i = 1; i <= a.n; i++) {
		size_t *row = rows[i % 3], *above = rows[(i - 1) % 3], *above2 = rows[(i + 1) % 3];

		row[0] = i;
		for (size_t j = 1; j <= b.n; j++) {
			size_t best = above[j - 1] + (a.p[i - 1] != b.p[j - 1]);

			if (above[j] + 1 < best)
				best = above[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			if (i > 1 && j > 1 && a.p[i - 1] == b.p[j - 2] &&
			    a.p[i - 2] == b.p[j - 1] && above2[j - 2] + 1 < best)
				best = above2[j - 2] + 1;
			row[j] = best;
		}
	}
	return rows[a.n % 3][b.n];
}

const char *text_nearest(struct str word, const char *const *candidates, size_t n)
{
	const char *best = NULL;
	size_t best_distance = word.n / 3 + 1;

	for (size_t i = 0; i < n; i++) {
		size_t d = text_distance(word, str_of(candidates[i]));

		if (d < best_distance || (d == best_distance && !best && d <= 1)) {
			best = candidates[i];
			best_distance = d;
		}
	}
	return best;
}

void text_hex(char *out, const void *data, size_t n)
{
	static const char digits[] = "0123456789abcdef";
	const unsigned char *p = data;

	for (size_t i = 0; i < n; i++) {
		out[2 * i] = digits[p[i] >> 4];
		out[2 * i + 1] = digits[p[i] & 15];
	}
	out[2 * n] = '\0';
}

bool text_unhex(void *out, size_t n, struct str hex)
{
	unsigned char *p = out;

	if (hex.n != 2 * n)
		return false;
	for (size_t i = 0; i < n; i++) {
		int hi = ascii_hex_value(hex.p[2 * i]);
		int lo = ascii_hex_value(hex.p[2 * i + 1]);

		if (hi < 0 || lo < 0)
			return false;
		p[i] = (unsigned char)(hi << 4 | lo);
	}
	return true;
}

/* One step back per byte, to the last star. */
bool text_star_match(struct str pattern, struct str text, bool lowers)
{
	size_t pi = 0, ti = 0, star = SIZE_MAX, star_ti = 0;

	while (ti < text.n) {
		if (pi < pattern.n && pattern.p[pi] == '*') {
			star = pi++;
			star_ti = ti;
		} else if (pi < pattern.n &&
			   (lowers ? ascii_lower(pattern.p[pi]) : pattern.p[pi]) == text.p[ti]) {
			pi++;
			ti++;
		} else if (star != SIZE_MAX) {
			pi = star + 1;
			ti = ++star_ti;
		} else {
			return false;
		}
	}
	while (pi < pattern.n && pattern.p[pi] == '*')
		pi++;
	return pi == pattern.n;
}
