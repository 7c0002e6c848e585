/*
 * Text made to look like ASCII, or with characters in it that nobody sees, folded to plain ASCII:
 * fullwidth and mathematical letters, lookalikes of other scripts, zero-width characters, the tag
 * characters that spell ASCII invisibly. What has no such form stays as it is.
 */
#include "scan/decode.h"
#include "base/text.h"

#include <assert.h>

#define FOLD_KEEP  0
#define FOLD_DROP  1
#define FOLD_PAGES 192

static const struct {
	uint32_t from, to;
	uint8_t first, step;
} fold_rows[] = {
#include "scan/fold_table.inc"
};

static uint8_t fold_page_of[0x110000 >> 8]; /* 0: nothing is folded there */
static uint8_t fold_page[FOLD_PAGES][256];
static_assert(FOLD_PAGES <= 256, "page numbers are bytes");

__attribute__((constructor)) static void fold_fill(void)
{
	unsigned pages = 1;

	for (size_t i = 0; i < ARRAY_LEN(fold_rows); i++)
		for (uint32_t cp = fold_rows[i].from; cp <= fold_rows[i].to; cp++) {
			uint8_t *page = &fold_page_of[cp >> 8];

			if (*page == 0 && pages < FOLD_PAGES)
				*page = (uint8_t)pages++;
			fold_page[*page][cp & 255] =
				(uint8_t)(fold_rows[i].first +
					  fold_rows[i].step * (cp - fold_rows[i].from));
		}
}

bool scan_fold(struct scan_out *o, const uint8_t *p, size_t n)
{
	size_t i = 0, every = n / (SCAN_POINTS_MAX / 2) + 16, next_point = 0;
	bool is_changed = false;
	uint8_t *out;

	scan_out_reset(o);
	out = scan_out_reserve(o, n);
	if (!out)
		return false;
	while (i < n) {
		uint32_t cp;
		uint8_t f;
		uint64_t eight;
		size_t k;

		while (n - i >= 8) {
			memcpy(&eight, p + i, 8);
			if (eight & UINT64_C(0x8080808080808080))
				break;
			memcpy(out, p + i, 8);
			out += 8;
			i += 8;
		}
		if (i == n)
			break;
		/* Plain text, and in binary data what cannot begin a character. */
		if (p[i] < 0xc2 || i + 1 == n || (p[i + 1] & 0xc0) != 0x80) {
			*out++ = p[i++];
			continue;
		}
		k = text_utf8_next(str_slice(p + i, n - i), &cp);
		f = k ? fold_page[fold_page_of[cp >> 8]][cp & 255] : FOLD_KEEP;
		if (k == 0)
			k = 1;
		if (f == FOLD_KEEP) {
			memcpy(out, p + i, k);
			out += k;
		} else {
			if (i >= next_point) {
				o->n = (size_t)(out - o->p);
				scan_out_point(o, i);
				next_point = i + every;
			}
			if (f != FOLD_DROP)
				*out++ = f;
			is_changed = true;
		}
		i += k;
	}
	o->n = (size_t)(out - o->p);
	scan_out_point(o, n);
	return is_changed;
}
