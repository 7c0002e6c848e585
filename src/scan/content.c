/*
 * Content codings, undone as a chain of at most CONTENT_LAYERS_MAX layers. Each layer is one
 * streaming inflater; between two layers lies one small buffer. The ratio is counted end to end,
 * so that two layers cannot multiply what each may do.
 */
#include "scan/content.h"
#include "base/clean.h"
#include "base/mem.h"

#include <brotli/decode.h>
#include <errno.h>
#include <zlib.h>
#include <zstd.h>

#define STEP_BYTES 16384

enum coding { CODING_GZIP, CODING_DEFLATE, CODING_BROTLI, CODING_ZSTD };

struct layer {
	enum coding coding;
	z_stream z;
	bool is_z_open;
	bool is_raw_known; /* deflate: zlib's wrapper was found, or its absence */
	uint8_t head[2];   /* deflate: the bytes that tell */
	size_t head_n;
	BrotliDecoderState *br;
	ZSTD_DStream *zs;
	bool is_ended; /* a member or frame is complete; gzip and zstd may begin another */
	bool has_begun;
	uint8_t *mid; /* output of this layer that the next has not taken */
	size_t mid_from, mid_to;
};

struct content_decoder {
	struct layer layer[CONTENT_LAYERS_MAX]; /* [0] reads the input */
	size_t layers_n;
	uint64_t in_n, out_n;
};

static int coding_of(struct str name)
{
	if (str_ieq(name, STR_LIT("gzip")) || str_ieq(name, STR_LIT("x-gzip")))
		return CODING_GZIP;
	if (str_ieq(name, STR_LIT("deflate")))
		return CODING_DEFLATE;
	if (str_ieq(name, STR_LIT("br")))
		return CODING_BROTLI;
	if (str_ieq(name, STR_LIT("zstd")))
		return CODING_ZSTD;
	return -ENOTSUP;
}

static int layer_open(struct layer *l, struct err *e)
{
	l->mid = malloc(STEP_BYTES);
	if (!l->mid)
		return err_set(e, -ENOMEM, "content decoder");
	switch (l->coding) {
	case CODING_GZIP:
		if (inflateInit2(&l->z, 15 + 16) != Z_OK)
			return err_set(e, -ENOMEM, "content decoder");
		l->is_z_open = true;
		break;
	case CODING_DEFLATE:
		break; /* opened when its first two bytes are known */
	case CODING_BROTLI:
		l->br = BrotliDecoderCreateInstance(NULL, NULL, NULL);
		if (!l->br)
			return err_set(e, -ENOMEM, "content decoder");
		break;
	case CODING_ZSTD:
		l->zs = ZSTD_createDStream();
		/* RFC 9659: no window above 8 MiB in HTTP. */
		if (!l->zs || ZSTD_isError(ZSTD_DCtx_setParameter(l->zs, ZSTD_d_windowLogMax, 23)))
			return err_set(e, -ENOMEM, "content decoder");
		break;
	}
	return 0;
}

void content_decoder_free(struct content_decoder *d)
{
	if (!d)
		return;
	for (size_t i = 0; i < d->layers_n; i++) {
		struct layer *l = &d->layer[i];

		if (l->is_z_open)
			(void)inflateEnd(&l->z);
		if (l->br)
			BrotliDecoderDestroyInstance(l->br);
		(void)ZSTD_freeDStream(l->zs);
		free(l->mid);
	}
	free(d);
}

static void decoder_free_p(struct content_decoder **d)
{
	content_decoder_free(*d);
}

int content_decoder_new(struct content_decoder **out, struct str content_encoding, struct err *e)
{
	_cleanup_(decoder_free_p) struct content_decoder *d = mem_zalloc(sizeof(*d));
	enum coding listed[CONTENT_LAYERS_MAX];
	struct str rest = content_encoding, name;
	size_t n = 0;
	bool more = true;
	int r;

	*out = NULL;
	while (more) {
		rest = str_cut(rest, ',', &name, &more);
		name = str_trim(name);
		if (name.n == 0 || str_ieq(name, STR_LIT("identity")))
			continue;
		if ((r = coding_of(name)) < 0)
			return err_set(e, r, "content coding not known");
		if (n == CONTENT_LAYERS_MAX)
			return err_set(e, -ENOTSUP, "more than %d content codings",
				       CONTENT_LAYERS_MAX);
		listed[n++] = (enum coding)r;
	}
	if (n == 0)
		return 0;
	/* They are listed in the order in which they were applied: the last comes off first. */
	for (; d->layers_n < n; d->layers_n++) {
		d->layer[d->layers_n].coding = listed[n - 1 - d->layers_n];
		if ((r = layer_open(&d->layer[d->layers_n], e)) < 0) {
			d->layers_n++;
			return r;
		}
	}
	*out = take_ptr(&d);
	return 0;
}

/* "deflate" is zlib's format (RFC 9110 section 8.4.1.2), but some send it bare (RFC 1951). */
static int deflate_begin(struct layer *l, const uint8_t **in, size_t *in_n)
{
	bool is_zlib;

	while (l->head_n < 2 && *in_n > 0) {
		l->head[l->head_n++] = *(*in)++;
		(*in_n)--;
	}
	if (l->head_n < 2)
		return 0;
	is_zlib = (l->head[0] & 0x0f) == 8 && (l->head[0] * 256 + l->head[1]) % 31 == 0;
	if (inflateInit2(&l->z, is_zlib ? 15 : -15) != Z_OK)
		return -ENOMEM;
	l->is_z_open = true;
	return 0;
}

static int step_zlib(struct layer *l, const uint8_t **in, size_t *in_n, uint8_t *out, size_t *out_n)
{
	int r;

	if (l->coding == CODING_DEFLATE && !l->is_raw_known) {
		if ((r = deflate_begin(l, in, in_n)) < 0)
			return r;
		if (!l->is_z_open) {
			*out_n = 0;
			return 0;
		}
		l->is_raw_known = true;
	}
	l->z.next_out = out;
	l->z.avail_out = (unsigned)*out_n;
	r = Z_OK;
	if (l->head_n) { /* what was held back to look at */
		l->z.next_in = l->head;
		l->z.avail_in = (unsigned)l->head_n;
		r = inflate(&l->z, Z_NO_FLUSH);
		l->head_n = 0;
	}
	if (r == Z_OK || r == Z_BUF_ERROR) {
		l->z.next_in = (uint8_t *)(uintptr_t)*in;
		l->z.avail_in = (unsigned)*in_n;
		r = inflate(&l->z, Z_NO_FLUSH);
		*in = l->z.next_in;
		*in_n = l->z.avail_in;
	}
	*out_n -= l->z.avail_out;
	if (r == Z_STREAM_END) {
		l->is_ended = true;
		return 0;
	}
	return r == Z_OK || r == Z_BUF_ERROR ? 0 : -EPROTO;
}

static int step_brotli(struct layer *l, const uint8_t **in, size_t *in_n, uint8_t *out,
		       size_t *out_n)
{
	size_t room = *out_n;
	BrotliDecoderResult r = BrotliDecoderDecompressStream(l->br, in_n, in, &room, &out, NULL);

	*out_n -= room;
	if (r == BROTLI_DECODER_RESULT_SUCCESS)
		l->is_ended = true;
	return r == BROTLI_DECODER_RESULT_ERROR ? -EPROTO : 0;
}

static int step_zstd(struct layer *l, const uint8_t **in, size_t *in_n, uint8_t *out, size_t *out_n)
{
	ZSTD_inBuffer i = {*in, *in_n, 0};
	ZSTD_outBuffer o = {out, *out_n, 0};
	size_t r = ZSTD_decompressStream(l->zs, &o, &i);

	*in += i.pos;
	*in_n -= i.pos;
	*out_n = o.pos;
	if (ZSTD_isError(r))
		return -EPROTO;
	l->is_ended = r == 0;
	return 0;
}

/* One step of one layer. *out_n: room in, produced out. */
static int layer_step(struct layer *l, const uint8_t **in, size_t *in_n, uint8_t *out,
		      size_t *out_n)
{
	if (l->is_ended && *in_n > 0) {
		/* gzip may have several members (RFC 1952 section 2.2), zstd several frames. */
		if (l->coding == CODING_GZIP) {
			if (**in != 0x1f || inflateReset(&l->z) != Z_OK)
				return -EPROTO;
		} else if (l->coding != CODING_ZSTD) {
			return -EPROTO;
		}
		l->is_ended = false;
	}
	if (*in_n > 0)
		l->has_begun = true;
	if (l->is_ended) {
		*out_n = 0;
		return 0;
	}
	if (l->coding == CODING_BROTLI)
		return step_brotli(l, in, in_n, out, out_n);
	if (l->coding == CODING_ZSTD)
		return step_zstd(l, in, in_n, out, out_n);
	return step_zlib(l, in, in_n, out, out_n);
}

static bool is_over_ratio(const struct content_decoder *d)
{
	return d->out_n > CONTENT_FREE_BYTES &&
	       (d->out_n - CONTENT_FREE_BYTES) / CONTENT_RATIO_MAX > d->in_n;
}

/* Steps layer i once into out, taking from the layer before it. *is_moved: bytes went anywhere. */
static int chain_step(struct content_decoder *d, size_t i, struct str in, size_t *used,
		      uint8_t *out, size_t *out_n, bool *is_moved)
{
	struct layer *up = i > 0 ? &d->layer[i - 1] : NULL;
	const uint8_t *p = up ? up->mid + up->mid_from : (const uint8_t *)in.p + *used;
	size_t n = up ? up->mid_to - up->mid_from : in.n - *used, before = n;
	int r = layer_step(&d->layer[i], &p, &n, out, out_n);

	if (up)
		up->mid_from += before - n;
	else
		*used += before - n;
	*is_moved |= before != n || *out_n > 0;
	return r;
}

int content_decode(struct content_decoder *d, struct str in, bool is_last, struct buf *out,
		   size_t *used, struct err *e)
{
	bool is_moved = true;
	int r;

	*used = 0;
	while (is_moved && buf_room(out) > 0) {
		size_t last = d->layers_n - 1;

		is_moved = false;
		for (size_t i = 0; i < last; i++) {
			struct layer *l = &d->layer[i];
			size_t n = STEP_BYTES, taken = *used;

			if (l->mid_from < l->mid_to)
				continue;
			if ((r = chain_step(d, i, in, used, l->mid, &n, &is_moved)) < 0)
				return err_set(e, r, "corrupt content coding");
			l->mid_from = 0;
			l->mid_to = n;
			d->in_n += i == 0 ? *used - taken : 0;
		}
		size_t n = buf_room(out) < STEP_BYTES ? buf_room(out) : STEP_BYTES, taken = *used;
		uint8_t *to = (uint8_t *)buf_reserve(out, n);

		if (!to)
			return err_set(e, -ENOBUFS, "content decoder's output");
		if ((r = chain_step(d, last, in, used, to, &n, &is_moved)) < 0)
			return err_set(e, r, "corrupt content coding");
		buf_commit(out, n);
		d->in_n += last == 0 ? *used - taken : 0;
		d->out_n += n;
		if (is_over_ratio(d))
			return err_set(e, -E2BIG, "a coded body that expands more than %d times",
				       CONTENT_RATIO_MAX);
	}
	if (!is_last || *used < in.n || buf_room(out) == 0)
		return 0;
	for (size_t i = 0; i < d->layers_n; i++)
		if (!d->layer[i].is_ended && (d->layer[i].has_begun || i > 0 || d->in_n > 0))
			return err_set(e, -EPROTO, "a coded body that ends too early");
	return 0;
}
