/*
 * A byte queue with a cap fixed at init: data is appended at the end and consumed at the front.
 * Reaching the cap is back-pressure (-ENOBUFS), never a reallocation past it. Memory is kept
 * between uses (buf_reset), so that a pooled connection allocates nothing after warm-up.
 */
#pragma once

#include "base/err.h"

struct buf {
	char *p;
	size_t from, to; /* readable bytes are [from, to) */
	size_t size;	 /* allocated */
	size_t cap;	 /* the most that may ever be held */
};

/* For a declaration, where a return may come before the first use. */
#define BUF_INIT(cap_bytes) ((struct buf){.cap = (cap_bytes)})
void buf_init(struct buf *b, size_t cap_bytes);
void buf_free(struct buf *b);
/* Empties; wipes nothing, keeps the memory. */
void buf_reset(struct buf *b);
/* Gives the memory back when the buffer is empty: for idle connections. */
void buf_trim(struct buf *b);

static inline size_t buf_len(const struct buf *b)
{
	return b->to - b->from;
}

/* Bytes that may still be appended before the cap. */
static inline size_t buf_room(const struct buf *b)
{
	return b->cap - buf_len(b);
}

/* A read-only view; valid until the next append or reserve. */
static inline struct str buf_str(const struct buf *b)
{
	return (struct str){b->p ? b->p + b->from : NULL, b->to - b->from};
}

/* Makes n bytes writable at the end and returns where, or NULL past the cap. Follow with
 * buf_commit() of what was written. */
char *buf_reserve(struct buf *b, size_t n);
void buf_commit(struct buf *b, size_t n);
/* 0, or -ENOBUFS with nothing appended. */
int buf_append(struct buf *b, const void *data, size_t n) _fallible_;
int buf_append_str(struct buf *b, struct str s) _fallible_;
int buf_printf(struct buf *b, const char *fmt, ...)
	__attribute__((format(printf, 2, 3))) _fallible_;
/* Drops n bytes at the front (n <= buf_len). */
void buf_consume(struct buf *b, size_t n);
