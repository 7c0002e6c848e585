/*
 * Archives and compressed files, walked as their bytes come: gzip, zlib, zstd, bzip2, xz, zip and
 * tar, one within another to CHECK_ARCHIVE_DEPTH. Nothing is sought and nothing kept, so that
 * memory does not grow with the file.
 *
 * No byte gets by: what a decompressor has consumed comes out as the text below it, everything else
 * (headers, padding, what lies between or behind, what does not decompress) as part of the
 * container's own text. A plain file is one text, as it stands.
 */
#pragma once

#include "base/err.h"

#define ARCHIVE_DEPTH	   3
#define ARCHIVE_HEAD_BYTES 512 /* what telling a format takes */
#define ARCHIVE_CHAIN_SIZE 24

/* What all that comes out of one file may amount to. */
#define ARCHIVE_OUT_MAX	   (1ull << 30)
#define ARCHIVE_RATIO_MAX  250 /* output : input, past the first ARCHIVE_FREE_BYTES */
#define ARCHIVE_FREE_BYTES (16ull << 20)

enum archive_event {
	ARCHIVE_OPEN,  /* a text at this level begins; text: its containers, "gzip>tar" */
	ARCHIVE_DATA,  /* more of it */
	ARCHIVE_CLOSE, /* it ends */
	ARCHIVE_NAME,  /* the name (or link target, comment) of an entry */
	ARCHIVE_LIMIT  /* text: "limit-archive-depth", "limit-archive-ratio", "limit-archive-size",
			* "unreadable-archive" */
};

/* level: 0 to ARCHIVE_DEPTH; at each one text is open at most. 0, or negative, which ends the walk.
 */
typedef int (*archive_fn)(void *ctx, enum archive_event event, unsigned level, struct str text);

/* Whether a file that begins so is anything but one plain text. head: the first ARCHIVE_HEAD_BYTES,
 * or all of it. */
bool archive_is_any(struct str head);

struct archive;
/* Aborts when memory is out; the decompressors' own memory is had when they are needed. */
struct archive *archive_new(archive_fn fn, void *ctx);
void archive_free(struct archive *a);
/* For each file: begin, feed, end. Negative: what fn returned, or -ENOMEM. */
void archive_begin(struct archive *a);
int archive_feed(struct archive *a, struct str piece) _fallible_;
int archive_end(struct archive *a) _fallible_;
