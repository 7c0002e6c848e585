/*
 * The levels, and files that are one compressed stream. Members of a gzip file and frames of a zstd
 * file follow one another and are one text: what is split over two of them comes together again.
 */
#include "gitgate/archive_int.h"
#include "base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum { STREAM_RUNNING, STREAM_BETWEEN, STREAM_SKIP };

#define FRAME_HEAD 8 /* of zstd: magic, and the size of a frame to be skipped */

struct archive *archive_new(archive_fn fn, void *ctx)
{
	struct archive *a = mem_zalloc(sizeof(*a));

	a->fn = fn;
	a->ctx = ctx;
	return a;
}

void archive_free(struct archive *a)
{
	if (!a)
		return;
	for (size_t i = 0; i <= ARCHIVE_DEPTH; i++) {
		if (!a->node[i])
			continue;
		archive_codec_free(a->node[i]);
		free(a->node[i]->name);
		free(a->node[i]);
	}
	free(a);
}

static struct archive_node *node_begin(struct archive *a, unsigned level, const char *chain,
				       const char *label)
{
	struct archive_node *n = a->node[level];

	if (!n)
		n = a->node[level] = mem_zalloc(sizeof(*n));
	n->type = ARCHIVE_TYPE_UNKNOWN;
	n->is_text_open = n->has_child = n->has_header = n->is_next_due = false;
	n->head_n = n->name_n = 0;
	n->head_want = ARCHIVE_HEAD_BYTES;
	n->state = 0;
	n->left = n->pad = 0;
	n->codec = CODEC_NONE;
	if (snprintf(n->chain, sizeof(n->chain), "%s%s%s", chain, *chain && *label ? ">" : "",
		     label) < 0)
		n->chain[0] = '\0';
	return n;
}

uint8_t *archive_name_room(struct archive_node *n)
{
	if (!n->name)
		n->name = mem_zalloc(ARCHIVE_NAME_MAX);
	return n->name;
}

int archive_text(struct archive *a, unsigned level, struct str bytes)
{
	struct archive_node *n = a->node[level];
	int r;

	if (bytes.n == 0)
		return 0;
	if (!n->is_text_open) {
		n->is_text_open = true;
		if ((r = a->fn(a->ctx, ARCHIVE_OPEN, level, str_of(n->chain))) < 0)
			return r;
	}
	return a->fn(a->ctx, ARCHIVE_DATA, level, bytes);
}

int archive_name(struct archive *a, unsigned level, struct str name)
{
	return name.n ? a->fn(a->ctx, ARCHIVE_NAME, level, name) : 0;
}

int archive_limit(struct archive *a, unsigned level, const char *what)
{
	return a->fn(a->ctx, ARCHIVE_LIMIT, level, str_of(what));
}

int archive_child_begin(struct archive *a, unsigned level, const char *label)
{
	struct archive_node *n = a->node[level];

	n->has_child = true;
	(void)node_begin(a, level + 1, n->chain, label);
	return 0;
}

/* --- one compressed stream --- */

static int gz_tell(struct archive *a, unsigned level)
{
	struct archive_node *n = a->node[level];
	int r;

	if (n->codec != CODEC_GZIP || n->is_gz_told || n->gz.done != 1)
		return 0;
	n->is_gz_told = true;
	if (n->gz.extra_len > n->gz.extra_max)
		n->gz.extra_len = n->gz.extra_max;
	if ((r = archive_name(a, level,
			      str_slice(n->gz_name,
					n->gz.name ? strnlen((char *)n->gz_name, sizeof(n->gz_name))
						   : 0))) < 0 ||
	    (r = archive_name(
		     a, level,
		     str_slice(n->gz_comment,
			       n->gz.comment ? strnlen((char *)n->gz_comment, sizeof(n->gz_comment))
					     : 0))) < 0)
		return r;
	/* zlib cuts what does not fit, and does not say so. */
	if ((n->gz.name && !memchr(n->gz_name, 0, sizeof(n->gz_name))) ||
	    (n->gz.comment && !memchr(n->gz_comment, 0, sizeof(n->gz_comment))))
		return archive_limit(a, level, "unreadable-archive");
	return n->gz.extra ? archive_text(a, level, str_slice(n->gz_extra, n->gz.extra_len)) : 0;
}

int archive_unpack(struct archive *a, unsigned level, struct str in, size_t *used,
		   enum archive_step *step)
{
	struct archive_node *n = a->node[level];
	int r = 0;

	*used = 0;
	for (;;) {
		size_t took, made;

		*step = archive_codec_step(n, (const uint8_t *)in.p + *used, in.n - *used, &took,
					   &made);
		*used += took;
		if (*step == STEP_NO_MEMORY)
			return -ENOMEM;
		if ((r = gz_tell(a, level)) < 0)
			return r;
		if (made) {
			a->out_n += made;
			r = archive_child_feed(a, level, str_slice(n->out, made));
			if (r == 0 && a->out_n > ARCHIVE_OUT_MAX)
				r = archive_limit(a, level, "limit-archive-size");
			else if (r == 0 &&
				 a->out_n > ARCHIVE_FREE_BYTES + a->in_n * ARCHIVE_RATIO_MAX)
				r = archive_limit(a, level, "limit-archive-ratio");
			else if (r == 0)
				goto on;
			a->is_stopped = true;
			return r;
		}
	on:
		if (a->is_stopped || *step != STEP_MORE)
			return r;
		if (took == 0 && made == 0) /* wants more */
			return 0;
		if (*used == in.n && made < sizeof(n->out))
			return 0;
	}
}

static enum archive_codec codec_of(enum archive_type t)
{
	return t == ARCHIVE_TYPE_GZIP	 ? CODEC_GZIP
	       : t == ARCHIVE_TYPE_ZLIB	 ? CODEC_ZLIB
	       : t == ARCHIVE_TYPE_ZSTD	 ? CODEC_ZSTD
	       : t == ARCHIVE_TYPE_BZIP2 ? CODEC_BZIP2
	       : t == ARCHIVE_TYPE_XZ	 ? CODEC_XZ
	       : t == ARCHIVE_TYPE_LZMA	 ? CODEC_LZMA
					 : CODEC_NONE;
}

static const char *label_of(enum archive_type t)
{
	return t == ARCHIVE_TYPE_GZIP	 ? "gzip"
	       : t == ARCHIVE_TYPE_ZLIB	 ? "zlib"
	       : t == ARCHIVE_TYPE_ZSTD	 ? "zstd"
	       : t == ARCHIVE_TYPE_BZIP2 ? "bzip2"
	       : t == ARCHIVE_TYPE_LZMA	 ? "lzma"
					 : "xz";
}

/* What comes now is no compressed data any more. */
static int stream_leave(struct archive *a, unsigned level, struct str rest)
{
	int r = archive_child_end(a, level);

	a->node[level]->type = ARCHIVE_TYPE_PLAIN;
	return r < 0 ? r : archive_text(a, level, rest);
}

/* Between members or frames: is there another? Gathers enough of it to know. */
static int stream_between(struct archive *a, unsigned level, struct str *in)
{
	struct archive_node *n = a->node[level];
	size_t want = n->type == ARCHIVE_TYPE_ZSTD ? FRAME_HEAD : 3, k = want - n->head_n;
	enum archive_step step;
	enum archive_type t;
	struct str head;
	size_t used;
	int r;

	if (k > in->n)
		k = in->n;
	memcpy(n->head + n->head_n, in->p, k);
	n->head_n += k;
	*in = str_sub(*in, k, in->n);
	if (n->head_n < want)
		return 0;
	head = str_slice(n->head, n->head_n);
	n->head_n = 0;
	if (n->type == ARCHIVE_TYPE_ZSTD && (archive_le32(n->head) & 0xfffffff0u) == 0x184d2a50u) {
		/* Bytes that decompressors pass over, and that anybody may fill. */
		n->left = archive_le32(n->head + 4);
		n->state = STREAM_SKIP;
		return archive_text(a, level, head);
	}
	t = archive_sniff(n->head, head.n);
	if (t != n->type || n->type == ARCHIVE_TYPE_ZLIB || n->type == ARCHIVE_TYPE_LZMA) {
		if ((r = stream_leave(a, level, head)) == 0)
			r = archive_text(a, level, *in);
		*in = str_sub(*in, in->n, in->n);
		return r;
	}
	n->state = STREAM_RUNNING;
	if ((r = archive_codec_begin(n, codec_of(t))) < 0)
		return r;
	return archive_unpack(a, level, head, &used, &step);
}

static int stream_feed(struct archive *a, unsigned level, struct str in)
{
	struct archive_node *n = a->node[level];
	enum archive_step step;
	size_t used;
	int r = 0;

	while (r == 0 && in.n > 0 && !a->is_stopped) {
		if (n->type == ARCHIVE_TYPE_PLAIN)
			return archive_text(a, level, in);
		if (n->state == STREAM_SKIP) {
			used = n->left < in.n ? (size_t)n->left : in.n;
			r = archive_text(a, level, str_sub(in, 0, used));
			n->left -= used;
			n->state = n->left ? STREAM_SKIP : STREAM_BETWEEN;
			in = str_sub(in, used, in.n);
			continue;
		}
		if (n->state == STREAM_BETWEEN) {
			r = stream_between(a, level, &in);
			continue;
		}
		if ((r = archive_unpack(a, level, in, &used, &step)) < 0 || a->is_stopped)
			return r;
		if (step == STEP_BEYOND_US)
			r = archive_limit(a, level, "unreadable-archive");
		if (r == 0 && (step == STEP_BROKEN || step == STEP_BEYOND_US))
			return stream_leave(a, level, in);
		if (step == STEP_END)
			n->state = STREAM_BETWEEN;
		in = str_sub(in, used, in.n);
	}
	return r;
}

/* --- telling --- */

/* A magic number may stand at the front of anything: whether the data does begin so. */
static int is_stream(struct archive_node *n, bool *is)
{
	enum archive_codec codec = codec_of(n->type);
	enum archive_step step;
	size_t used, made;
	int r;

	*is = true;
	if (n->type == ARCHIVE_TYPE_ZSTD && n->head_n < FRAME_HEAD)
		*is = false;
	if (n->type == ARCHIVE_TYPE_ZSTD)
		return 0;
	if ((r = archive_codec_begin(n, codec)) < 0)
		return r;
	step = archive_codec_step(n, n->head, n->head_n, &used, &made);
	if (step == STEP_NO_MEMORY)
		return -ENOMEM;
	*is = step != STEP_BROKEN;
	return archive_codec_begin(n, codec);
}

static int node_feed(struct archive *a, unsigned level, struct str in);

/* The first bytes are there: what is it? */
static int node_tell(struct archive *a, unsigned level)
{
	struct archive_node *n = a->node[level];
	struct str head;
	uint8_t copy[ARCHIVE_HEAD_BYTES];
	bool is = true;
	int r = 0;

	n->type = archive_sniff(n->head, n->head_n);
	if (codec_of(n->type) != CODEC_NONE && (r = is_stream(n, &is)) < 0)
		return r;
	if (!is)
		n->type = ARCHIVE_TYPE_PLAIN;
	if (n->type != ARCHIVE_TYPE_PLAIN && level == ARCHIVE_DEPTH) {
		r = archive_limit(a, level, "limit-archive-depth");
		n->type = ARCHIVE_TYPE_PLAIN;
	}
	if (n->type == ARCHIVE_TYPE_UNREADABLE) {
		r = archive_limit(a, level, "unreadable-archive");
		n->type = ARCHIVE_TYPE_PLAIN;
	}
	if (r == 0 && codec_of(n->type) != CODEC_NONE) {
		n->state = n->type == ARCHIVE_TYPE_ZSTD ? STREAM_BETWEEN : STREAM_RUNNING;
		r = archive_child_begin(a, level, label_of(n->type));
	}
	memcpy(copy, n->head, n->head_n);
	head = str_slice(copy, n->head_n);
	n->head_n = 0;
	return r < 0 ? r : node_feed(a, level, head);
}

static int node_feed(struct archive *a, unsigned level, struct str in)
{
	struct archive_node *n = a->node[level];
	size_t k;
	int r;

	if (a->is_stopped || in.n == 0)
		return 0;
	switch (n->type) {
	case ARCHIVE_TYPE_UNKNOWN:
		k = ARCHIVE_HEAD_BYTES - n->head_n < in.n ? ARCHIVE_HEAD_BYTES - n->head_n : in.n;
		memcpy(n->head + n->head_n, in.p, k);
		n->head_n += k;
		if (n->head_n < ARCHIVE_HEAD_BYTES)
			return 0;
		r = node_tell(a, level);
		return r < 0 ? r : node_feed(a, level, str_sub(in, k, in.n));
	case ARCHIVE_TYPE_ZIP:
		return archive_zip_feed(a, level, in);
	case ARCHIVE_TYPE_TAR:
		return archive_tar_feed(a, level, in);
	case ARCHIVE_TYPE_GZIP:
	case ARCHIVE_TYPE_ZLIB:
	case ARCHIVE_TYPE_ZSTD:
	case ARCHIVE_TYPE_BZIP2:
	case ARCHIVE_TYPE_XZ:
	case ARCHIVE_TYPE_LZMA:
		return stream_feed(a, level, in);
	case ARCHIVE_TYPE_PLAIN:
	case ARCHIVE_TYPE_UNREADABLE:
		break;
	}
	return archive_text(a, level, in);
}

static int node_end(struct archive *a, unsigned level)
{
	struct archive_node *n = a->node[level];
	int r = 0;

	if (n->type == ARCHIVE_TYPE_UNKNOWN && n->head_n)
		r = node_tell(a, level);
	if (r == 0 && n->type == ARCHIVE_TYPE_ZIP)
		r = archive_zip_end(a, level);
	else if (r == 0 && n->type == ARCHIVE_TYPE_TAR)
		r = archive_tar_end(a, level);
	else if (r == 0 && codec_of(n->type) != CODEC_NONE)
		r = archive_text(a, level, str_slice(n->head, n->head_n));
	if (r == 0)
		r = archive_child_end(a, level);
	if (n->is_text_open) {
		int q = a->fn(a->ctx, ARCHIVE_CLOSE, level, STR_NULL);

		n->is_text_open = false;
		r = r < 0 ? r : q;
	}
	return r;
}

int archive_child_feed(struct archive *a, unsigned level, struct str bytes)
{
	return node_feed(a, level + 1, bytes);
}

int archive_child_end(struct archive *a, unsigned level)
{
	if (!a->node[level]->has_child)
		return 0;
	a->node[level]->has_child = false;
	return node_end(a, level + 1);
}

void archive_begin(struct archive *a)
{
	a->in_n = a->out_n = 0;
	a->is_stopped = false;
	(void)node_begin(a, 0, "", "");
}

int archive_feed(struct archive *a, struct str piece)
{
	a->in_n += piece.n;
	return node_feed(a, 0, piece);
}

int archive_end(struct archive *a)
{
	return node_end(a, 0);
}
