/*
 * Compressed data inside a text, found by its magic number: gzip (RFC 1952), zstd (RFC 8878), the
 * entries of a zip archive, and zlib (RFC 1950). In what is sent zlib is looked for everywhere, as
 * in PDFs and git packs, and a text that begins with none of these is tried as bare deflate. The
 * output's ratio to the input has a cap, and so has the work: attack: headers in front that lead
 * nowhere must not use up the tries that were meant for the one that does.
 */
#include "scan/decode.h"

#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#define ZSTD_WINDOW_LOG	   23	      /* what RFC 9659 allows a content coding */
#define INFLATE_TRIES	   8	      /* in what comes back, where nothing is decided by it */
#define INFLATE_TRIES_SENT 8192	      /* in what is sent; one more is a finding */
#define INFLATE_READ_TIMES 8	      /* all tries together may read a text so many times over */
#define INFLATE_MID_BYTES  (1u << 20) /* of one zlib stream that begins in the middle */
#define INFLATE_OUT_MIN	   12	      /* shorter outputs are accidents, and hold no secret */
#define ZIP_HEAD_BYTES	   30
#define INFLATE_FREE_BYTES (256u << 10)
#define INFLATE_RATIO_MAX  100

struct scan_inflater {
	z_stream z, bare; /* bare: deflate without a wrapper */
	ZSTD_DCtx *zstd;
};

struct scan_inflater *scan_inflater_new(void)
{
	struct scan_inflater *z = calloc(1, sizeof(*z));

	if (!z)
		return NULL;
	z->zstd = ZSTD_createDCtx();
	if (!z->zstd ||
	    ZSTD_isError(ZSTD_DCtx_setParameter(z->zstd, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG)) ||
	    inflateInit2(&z->z, 15 + 32) != Z_OK || inflateInit2(&z->bare, -15) != Z_OK) {
		scan_inflater_free(z);
		return NULL;
	}
	return z;
}

void scan_inflater_free(struct scan_inflater *z)
{
	if (!z)
		return;
	(void)inflateEnd(&z->z); /* does nothing for one that was never opened */
	(void)inflateEnd(&z->bare);
	(void)ZSTD_freeDCtx(z->zstd);
	free(z);
}

enum inflated {
	INFLATED_NOTHING,
	INFLATED_ALL,
	INFLATED_PART,
	INFLATED_BROKEN, /* something came out before an error */
	INFLATED_TOO_MUCH,
	INFLATED_NO_WINDOW /* it needs more memory than there is for it */
};

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

static enum inflated inflate_zlib(z_stream *z, struct scan_out *o, const uint8_t *p, size_t n,
				  size_t limit, size_t *read)
{
	size_t room, begin = o->n;
	int r;

	if (inflateReset(z) != Z_OK)
		return INFLATED_NOTHING;
	z->next_in = (uint8_t *)(uintptr_t)p;
	z->avail_in = (unsigned)n;
	do {
		z->next_out = grow(o, begin + limit, &room);
		if (!z->next_out)
			return INFLATED_TOO_MUCH;
		z->avail_out = (unsigned)room;
		r = inflate(z, Z_NO_FLUSH);
		o->n += room - z->avail_out;
		*read = n - z->avail_in;
	} while (r == Z_OK && z->avail_out == 0);
	if (r == Z_STREAM_END)
		return INFLATED_ALL;
	if (r == Z_MEM_ERROR)
		return INFLATED_NO_WINDOW;
	/* What came out before the data broke is looked at all the same. */
	if (r == Z_OK || r == Z_BUF_ERROR)
		return INFLATED_PART;
	return o->n > begin ? INFLATED_BROKEN : INFLATED_NOTHING;
}

static enum inflated inflate_zstd(struct scan_inflater *s, struct scan_out *o, const uint8_t *p,
				  size_t n, size_t *read)
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
		*read = in.pos;
	} while (!ZSTD_isError(r) && r != 0 && out.pos == room);
	if (ZSTD_getErrorCode(r) == ZSTD_error_frameParameter_windowTooLarge ||
	    ZSTD_getErrorCode(r) == ZSTD_error_memory_allocation)
		return INFLATED_NO_WINDOW;
	if (ZSTD_isError(r))
		return o->n > begin ? INFLATED_BROKEN : INFLATED_NOTHING;
	return r == 0 ? INFLATED_ALL : INFLATED_PART;
}

/* What may begin at a place, and how it is to be undone. */
struct magic {
	enum scan_decoder decoder; /* DEC_NONE: nothing */
	bool is_bare;		   /* deflate without a wrapper */
	bool is_guess;		   /* no proof of anything: what is too much is left alone */
	size_t skip;		   /* to where the data begins */
};

/* The first bytes of all of these. */
static inline bool may_begin(uint8_t b)
{
	return b == 0x1f || (b & 0x8f) == 0x08 || b == 'P';
}

/* Of the bytes from i on; there are eight at least. */
static struct magic magic_at(const struct scan_view *v, size_t i, bool is_sent)
{
	const uint8_t *p = v->p + i;
	size_t n = v->n - i;
	bool is_start = i == 0 || (v->parent && v->p[i - 1] == '\n');

	if (n >= 10 && p[0] == 0x1f && p[1] == 0x8b && p[2] == 8 && (p[3] & 0xe0) == 0)
		return (struct magic){.decoder = DEC_INFLATE};
	if (n >= 8 && p[0] == 0x28 && p[1] == 0xb5 && p[2] == 0x2f && p[3] == 0xfd)
		return (struct magic){.decoder = DEC_ZSTD};
	if (n > ZIP_HEAD_BYTES && memcmp(p, "PK\3\4", 4) == 0 && p[8] == 8 && p[9] == 0) {
		size_t skip = ZIP_HEAD_BYTES + p[26] + 256u * p[27] + p[28] + 256u * p[29];

		return skip < n ? (struct magic){DEC_INFLATE, true, false, skip}
				: (struct magic){.decoder = DEC_NONE};
	}
	if (is_start && scan_is_zlib_head(p))
		return (struct magic){.decoder = DEC_INFLATE};
	/* The pixels of a PNG are the one such stream that is large, frequent and no text. */
	if (is_sent && scan_is_zlib_head(p) && !(i >= 4 && memcmp(p - 4, "IDAT", 4) == 0))
		return (struct magic){.decoder = DEC_INFLATE, .is_guess = true};
	if (is_sent && i == 0 && p[0] != 'P')
		return (struct magic){DEC_INFLATE, true, true, 0};
	return (struct magic){.decoder = DEC_NONE};
}

/* One try. Appends to o what came out, or nothing. */
static enum inflated inflate_one(struct scan_inflater *s, struct scan_out *o,
				 const struct scan_view *v, size_t i, struct magic m, size_t *read)
{
	const uint8_t *p = v->p + i + m.skip;
	size_t n = v->n - i - m.skip, was = o->n, begin, limit = room_for(n);
	enum inflated r;

	*read = 0;
	if (o->n)
		scan_out_append(o, "\n", 1);
	begin = o->n;
	if (m.is_guess && limit > INFLATE_MID_BYTES)
		limit = INFLATE_MID_BYTES;
	r = m.decoder == DEC_ZSTD
		    ? inflate_zstd(s, o, p, n, read)
		    : inflate_zlib(m.is_bare ? &s->bare : &s->z, o, p, n, limit, read);
	if (r == INFLATED_TOO_MUCH && m.is_guess && !o->is_overfull)
		r = INFLATED_PART;
	if (r == INFLATED_NOTHING ||
	    (m.is_guess && r != INFLATED_NO_WINDOW && o->n - begin < INFLATE_OUT_MIN)) {
		o->n = was;
		return INFLATED_NOTHING;
	}
	return r;
}

bool scan_inflate(struct scan_inflater *s, struct scan_out *o, const struct scan_view *v,
		  bool is_last, bool is_sent, enum scan_decoder *what, const char **limit)
{
	unsigned tries = 0;
	uint64_t reads = 0, reads_max = INFLATE_FREE_BYTES + (uint64_t)v->n * INFLATE_READ_TIMES;

	scan_out_reset(o);
	*limit = NULL;
	*what = DEC_INFLATE;
	for (size_t i = 0; i + 8 <= v->n; i++) {
		struct magic m = {.decoder = DEC_NONE};
		enum inflated r;
		size_t read;

		if (i == 0 || may_begin(v->p[i]))
			m = magic_at(v, i, is_sent);
		if (m.decoder == DEC_NONE)
			continue;
		if (++tries > (is_sent ? INFLATE_TRIES_SENT : INFLATE_TRIES) || reads > reads_max) {
			*limit = is_sent ? "limit-compressed-parts" : NULL;
			break;
		}
		r = inflate_one(s, o, v, i, m, &read);
		reads += read;
		if (r == INFLATED_NOTHING)
			continue;
		if (!m.is_guess)
			*what = m.decoder;
		if (r == INFLATED_NO_WINDOW) {
			/* Attack: a frame may ask for any window, however little is in it. */
			if (!is_sent)
				continue;
			*limit = "limit-window";
			break;
		}
		if (r == INFLATED_TOO_MUCH || o->is_overfull) {
			*limit = "limit-ratio";
			break;
		}
		/* Its head will have left the window when the rest of it comes. */
		if (r == INFLATED_PART && !is_last && !m.is_guess && is_sent &&
		    v->n - i > SCAN_HOLDBACK_BYTES)
			*limit = "limit-compressed-run";
		if (r == INFLATED_ALL)
			i += m.skip + read - 1;
	}
	o->points_n = 0;
	return o->n > 0;
}
