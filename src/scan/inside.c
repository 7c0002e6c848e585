/*
 * Compressed data inside a text, found by its magic number: gzip (RFC 1952), zstd (RFC 8878), and
 * zlib (RFC 1950) where a decoded run begins. The output's ratio to the input has a cap.
 */
#include "scan/decode.h"

#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>

#define INFLATE_TRIES	   8
#define INFLATE_FREE_BYTES (256u << 10)
#define INFLATE_RATIO_MAX  100

struct scan_inflater {
	z_stream z;
	ZSTD_DCtx *zstd;
};

struct scan_inflater *scan_inflater_new(void)
{
	struct scan_inflater *z = calloc(1, sizeof(*z));

	if (!z)
		return NULL;
	z->zstd = ZSTD_createDCtx();
	if (!z->zstd || ZSTD_isError(ZSTD_DCtx_setParameter(z->zstd, ZSTD_d_windowLogMax, 23)) ||
	    inflateInit2(&z->z, 15 + 32) != Z_OK) {
		(void)ZSTD_freeDCtx(z->zstd);
		free(z);
		return NULL;
	}
	return z;
}

void scan_inflater_free(struct scan_inflater *z)
{
	if (!z)
		return;
	(void)inflateEnd(&z->z);
	(void)ZSTD_freeDCtx(z->zstd);
	free(z);
}

enum inflated { INFLATED_NOTHING, INFLATED_ALL, INFLATED_PART, INFLATED_TOO_MUCH };

static size_t room_for(size_t in_n)
{
	size_t most = SCAN_VIEW_BYTES_MAX - (64u << 10);
	size_t n = INFLATE_FREE_BYTES + (in_n < most ? in_n : most) * INFLATE_RATIO_MAX;

	return n < most ? n : most;
}

static uint8_t *grow(struct scan_out *o, size_t limit, size_t *n)
{
	*n = 16384;
	return o->n > limit ? NULL : scan_out_reserve(o, *n);
}

static enum inflated inflate_zlib(struct scan_inflater *s, struct scan_out *o, const uint8_t *p,
				  size_t n)
{
	size_t limit = room_for(n), room, begin = o->n;
	int r;

	if (inflateReset(&s->z) != Z_OK)
		return INFLATED_NOTHING;
	s->z.next_in = (uint8_t *)(uintptr_t)p;
	s->z.avail_in = (unsigned)n;
	do {
		s->z.next_out = grow(o, limit, &room);
		if (!s->z.next_out)
			return INFLATED_TOO_MUCH;
		s->z.avail_out = (unsigned)room;
		r = inflate(&s->z, Z_NO_FLUSH);
		o->n += room - s->z.avail_out;
	} while (r == Z_OK && s->z.avail_out == 0);
	if (r == Z_STREAM_END)
		return INFLATED_ALL;
	/* What came out before the data broke is looked at all the same. */
	if (r == Z_OK || r == Z_BUF_ERROR)
		return INFLATED_PART;
	return o->n > begin ? INFLATED_ALL : INFLATED_NOTHING;
}

static enum inflated inflate_zstd(struct scan_inflater *s, struct scan_out *o, const uint8_t *p,
				  size_t n)
{
	ZSTD_inBuffer in = {p, n, 0};
	size_t limit = room_for(n), room, r, begin = o->n;
	ZSTD_outBuffer out;

	(void)ZSTD_DCtx_reset(s->zstd, ZSTD_reset_session_only);
	do {
		out = (ZSTD_outBuffer){grow(o, limit, &room), room, 0};
		if (!out.dst)
			return INFLATED_TOO_MUCH;
		r = ZSTD_decompressStream(s->zstd, &out, &in);
		o->n += out.pos;
	} while (!ZSTD_isError(r) && r != 0 && out.pos == room);
	if (ZSTD_isError(r))
		return o->n > begin ? INFLATED_ALL : INFLATED_NOTHING;
	return r == 0 ? INFLATED_ALL : INFLATED_PART;
}

static enum scan_decoder magic_at(const struct scan_view *v, size_t i)
{
	const uint8_t *p = v->p + i;
	size_t n = v->n - i;
	bool is_start = i == 0 || (v->parent && v->p[i - 1] == '\n');

	if (n >= 10 && p[0] == 0x1f && p[1] == 0x8b && p[2] == 8 && (p[3] & 0xe0) == 0)
		return DEC_INFLATE;
	if (n >= 8 && p[0] == 0x28 && p[1] == 0xb5 && p[2] == 0x2f && p[3] == 0xfd)
		return DEC_ZSTD;
	if (is_start && n >= 8 && p[0] == 0x78 && (p[0] * 256 + p[1]) % 31 == 0 &&
	    (p[1] == 0x01 || p[1] == 0x5e || p[1] == 0x9c || p[1] == 0xda))
		return DEC_INFLATE;
	return DEC_NONE;
}

bool scan_inflate(struct scan_inflater *s, struct scan_out *o, const struct scan_view *v,
		  bool is_last, enum scan_decoder *what, bool *is_over)
{
	unsigned tries = 0;

	scan_out_reset(o);
	*is_over = false;
	*what = DEC_INFLATE;
	for (size_t i = 0; i + 8 <= v->n && tries < INFLATE_TRIES; i++) {
		enum scan_decoder d = v->p[i] == 0x1f || v->p[i] == 0x28 || v->p[i] == 0x78
					      ? magic_at(v, i)
					      : DEC_NONE;
		enum inflated r;
		size_t was = o->n;

		if (d == DEC_NONE)
			continue;
		tries++;
		if (o->n)
			scan_out_append(o, "\n", 1);
		r = d == DEC_ZSTD ? inflate_zstd(s, o, v->p + i, v->n - i)
				  : inflate_zlib(s, o, v->p + i, v->n - i);
		if (r == INFLATED_NOTHING) {
			o->n = was;
			continue;
		}
		*what = d;
		*is_over |= r == INFLATED_TOO_MUCH || o->is_overfull;
		/* Its head will have left the window when its end comes. */
		if (r == INFLATED_PART && !is_last && v->n - i > SCAN_HOLDBACK_BYTES)
			o->is_cut_run = true;
		if (*is_over)
			break;
	}
	o->points_n = 0;
	return o->n > 0;
}
