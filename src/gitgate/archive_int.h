/*
 * Inside the walker. A node is one level: it takes bytes, and hands what it unpacks to the node
 * below, which looks at the first bytes to know what it is.
 */
#pragma once

#include "gitgate/archive.h"

#include <bzlib.h>
#include <lzma.h>
#include <zlib.h>
#include <zstd.h>

enum archive_type {
	ARCHIVE_TYPE_UNKNOWN, /* its first bytes are being gathered */
	ARCHIVE_TYPE_PLAIN,   /* a text; also what is left of a container that broke */
	ARCHIVE_TYPE_GZIP,
	ARCHIVE_TYPE_ZLIB,
	ARCHIVE_TYPE_ZSTD,
	ARCHIVE_TYPE_BZIP2,
	ARCHIVE_TYPE_XZ,
	ARCHIVE_TYPE_LZMA, /* the format before xz */
	ARCHIVE_TYPE_ZIP,
	ARCHIVE_TYPE_TAR,
	ARCHIVE_TYPE_UNREADABLE /* known, and not to be opened here */
};

/* One decompressor at a time; what was opened is kept for the next file. */
enum archive_codec {
	CODEC_NONE,
	CODEC_GZIP,
	CODEC_ZLIB,
	CODEC_BARE,
	CODEC_ZSTD,
	CODEC_BZIP2,
	CODEC_XZ,
	CODEC_LZMA
};
/* BROKEN: no data of this format, so what stands there is a text. That must never be said of what
 * others would open: BEYOND_US is what wants more memory than it may, or what our decompressor does
 * not know, NO_MEMORY what did not get what it may have. */
enum archive_step { STEP_MORE, STEP_END, STEP_BROKEN, STEP_BEYOND_US, STEP_NO_MEMORY };

#define ARCHIVE_PIECE	 32768
#define ARCHIVE_NAME_MAX (128u << 10) /* a zip entry's name and extra field; tar's long names */

struct archive_node {
	enum archive_type type;
	bool is_text_open, has_child, has_header;
	char chain[ARCHIVE_CHAIN_SIZE];
	uint8_t head[ARCHIVE_HEAD_BYTES];
	size_t head_n, head_want;
	unsigned state;
	uint64_t left; /* of the part that is being read */
	uint64_t pad;
	uint8_t kind;	  /* tar: type of the entry; zip: the last byte behind one */
	bool is_next_due; /* zip: an entry is over, and nothing has come that may follow it */
	uint8_t *name;	  /* ARCHIVE_NAME_MAX bytes, or NULL */
	size_t name_n;
	enum archive_codec codec;
	z_stream z;
	bool is_z_open;
	gz_header gz;
	bool is_gz_told;
	uint8_t gz_extra[65536], gz_name[4096], gz_comment[4096];
	ZSTD_DCtx *zstd;
	bz_stream bz;
	bool is_bz_open;
	lzma_stream xz;
	bool is_xz_open;
	uint8_t out[ARCHIVE_PIECE];
};

struct archive {
	archive_fn fn;
	void *ctx;
	struct archive_node *node[ARCHIVE_DEPTH + 1]; /* made when first needed */
	uint64_t in_n, out_n;
	bool is_stopped; /* a limit of the whole file was reached: the rest is not looked at */
};

/* archive.c */
int archive_text(struct archive *a, unsigned level, struct str bytes); /* of the node's own text */
int archive_name(struct archive *a, unsigned level, struct str name);
int archive_limit(struct archive *a, unsigned level, const char *what);
int archive_child_begin(struct archive *a, unsigned level, const char *label);
int archive_child_feed(struct archive *a, unsigned level, struct str bytes);
int archive_child_end(struct archive *a, unsigned level);
/* Runs the codec over in until it ends, breaks or wants more; what comes out goes to the child.
 * *used: how much of in was taken. -ENOMEM for STEP_NO_MEMORY, which *step is never. */
int archive_unpack(struct archive *a, unsigned level, struct str in, size_t *used,
		   enum archive_step *step);
uint8_t *archive_name_room(struct archive_node *n);

/* archive_codec.c */
int archive_codec_begin(struct archive_node *n, enum archive_codec codec);
/* One call of the decompressor. */
enum archive_step archive_codec_step(struct archive_node *n, const uint8_t *in, size_t in_n,
				     size_t *used, size_t *made);
/* Of one that took all that there is and would take more: whether it is over all the same. */
bool archive_codec_is_over(struct archive_node *n);
void archive_codec_free(struct archive_node *n);
enum archive_type archive_sniff(const uint8_t *p, size_t n);

/* archive_zip.c, archive_tar.c */
int archive_zip_feed(struct archive *a, unsigned level, struct str in);
int archive_zip_end(struct archive *a, unsigned level);
bool archive_tar_is_header(const uint8_t *p);
int archive_tar_feed(struct archive *a, unsigned level, struct str in);
int archive_tar_end(struct archive *a, unsigned level);

static inline uint16_t archive_le16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t archive_le32(const uint8_t *p)
{
	return (uint32_t)archive_le16(p) | (uint32_t)archive_le16(p + 2) << 16;
}
