/*
 * pkt-lines, the framing of git's protocol (gitprotocol-common(5)): four hex digits of length,
 * their own four bytes included, then the data; 0000, 0001 and 0002 are marks without data.
 */
#pragma once

#include "base/buf.h"

#define PKT_HEAD_BYTES 4
#define PKT_MAX_BYTES  65520 /* with its length */
#define PKT_DATA_MAX   (PKT_MAX_BYTES - PKT_HEAD_BYTES)

enum pkt_kind {
	PKT_MORE, /* not all of it is here */
	PKT_DATA,
	PKT_FLUSH, /* 0000 */
	PKT_DELIM, /* 0001 */
	PKT_END,   /* 0002: response-end */
	PKT_BAD	   /* no length, or 0003, or past PKT_MAX_BYTES */
};

/* The packet at the start of in: its data (a view) and how many bytes it takes; both are zero for
 * MORE and BAD. A length that can never be right is BAD as soon as it is there. */
enum pkt_kind pkt_next(struct str in, struct str *data, size_t *used);

/* 0, or -ENOBUFS with nothing appended; -EMSGSIZE past PKT_DATA_MAX. */
int pkt_write(struct buf *out, struct str data) _fallible_;
int pkt_write_flush(struct buf *out) _fallible_;
