/*
 * git's framing (gitprotocol-common, "pkt-line") and waiting for it: what an upstream sends is cut
 * into lines here, and nothing is waited for without an end.
 */
#pragma once

#include "gitgate/pkt.h"

#include <sys/types.h>

#define WIRE_LINE_MAX PKT_MAX_BYTES

enum wire_kind { WIRE_DATA, WIRE_FLUSH, WIRE_DELIM };

/* The first line of s: how many bytes it takes, 0 while it is not complete, -EPROTO. payload points
 * into s; a line feed at its end is still there. */
ssize_t wire_next(struct str s, enum wire_kind *kind, struct str *payload);
/* 0 or -ENOBUFS, -EMSGSIZE. */
int wire_put(struct buf *out, struct str payload) _fallible_;
int wire_printf(struct buf *out, const char *fmt, ...)
	__attribute__((format(printf, 2, 3))) _fallible_;
int wire_flush(struct buf *out) _fallible_;
int wire_delim(struct buf *out) _fallible_;
struct str wire_chomp(struct str payload);

/* --- waiting --- */

struct wire_clock {
	uint64_t deadline_ns; /* CLOCK_MONOTONIC, of all of it */
	unsigned silence_ms;  /* the most that one wait may take */
	int life_fd; /* write end of a pipe: when nobody reads it any more, all is in vain; -1 */
};

/* 1 when an event of fd is there, else an error: -ETIMEDOUT, -ECANCELED. */
int wire_wait(const struct wire_clock *c, int fd, short events, struct err *e) _fallible_;
/* To a descriptor that does not block. -EPIPE without a word in *e when nobody reads. */
int wire_write(const struct wire_clock *c, int fd, struct str data, struct err *e) _fallible_;

/* Lines from a stream that does not block. */
struct wire_reader {
	const struct wire_clock *clock;
	int fd;
	struct buf in;
	size_t taken; /* of in: the line that was given out last */
	uint64_t n_bytes;
};
void wire_reader_init(struct wire_reader *r, const struct wire_clock *c, int fd);
void wire_reader_free(struct wire_reader *r);
/* Waits for one line; payload is valid until the next call. 0; -ENODATA at the end of the stream
 * between two lines, -ECONNRESET within one, -EPROTO, or as wire_wait(). */
int wire_read(struct wire_reader *r, enum wire_kind *kind, struct str *payload,
	      struct err *e) _fallible_;
/* What was read and not given out. */
struct str wire_reader_rest(struct wire_reader *r);

/* --- looking at what passes through --- */

#define WIRE_OBJECTS_MAX 16000000u

/* An answer of upload-pack after its refs: lines, in which a pack comes in sideband 1. Plain data.
 */
struct wire_walk {
	uint64_t n_bytes, max_bytes;
	size_t left;	 /* of the payload */
	unsigned n_head; /* digits of the length that are there */
	char head[4];
	unsigned n_first; /* bytes of the payload that are kept: what is no pack and no progress */
	char first[256];
	unsigned n_pack; /* of the pack's head */
	unsigned char pack[12];
	bool is_flushed; /* the last line that is complete was a flush */
};
void wire_walk_init(struct wire_walk *w, uint64_t max_bytes);
/* Takes p as it flows. -EPROTO for what is no line, -EFBIG past max_bytes or WIRE_OBJECTS_MAX,
 * -ENOTSUP for the boundary of a shallow repository, -EREMOTEIO when the other side gives up. */
int wire_walk(struct wire_walk *w, struct str piece, struct err *e) _fallible_;
