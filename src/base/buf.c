#include "base/buf.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define BUF_SIZE_MIN 512

void buf_init(struct buf *b, size_t cap_bytes)
{
	*b = (struct buf){.cap = cap_bytes};
}

void buf_free(struct buf *b)
{
	free(b->p);
	b->p = NULL;
	b->from = b->to = b->size = 0;
}

void buf_reset(struct buf *b)
{
	b->from = b->to = 0;
}

void buf_trim(struct buf *b)
{
	if (buf_len(b) == 0)
		buf_free(b);
}

char *buf_reserve(struct buf *b, size_t n)
{
	size_t len = buf_len(b);
	size_t want;
	char *grown;

	if (n > b->cap || len > b->cap - n)
		return NULL;
	if (b->size - b->to >= n && b->p)
		return b->p + b->to;
	if (b->from > 0) {
		if (len > 0)
			memmove(b->p, b->p + b->from, len);
		b->from = 0;
		b->to = len;
		if (b->size - b->to >= n)
			return b->p + b->to;
	}
	want = b->size ? b->size : BUF_SIZE_MIN;
	while (want < len + n)
		want *= 2;
	if (want > b->cap)
		want = b->cap;
	grown = realloc(b->p, want ? want : 1);
	if (!grown)
		return NULL;
	b->p = grown;
	b->size = want;
	return b->p + b->to;
}

void buf_commit(struct buf *b, size_t n)
{
	if (n > b->size - b->to)
		abort();
	b->to += n;
}

int buf_append(struct buf *b, const void *data, size_t n)
{
	char *at;

	if (n == 0)
		return 0;
	at = buf_reserve(b, n);
	if (!at)
		return -ENOBUFS;
	memcpy(at, data, n);
	b->to += n;
	return 0;
}

int buf_append_str(struct buf *b, struct str s)
{
	return buf_append(b, s.p, s.n);
}

int buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list ap;
	char *at;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0)
		return -EINVAL;
	/* One more for the terminator that vsnprintf insists on; it is not committed. */
	at = buf_reserve(b, (size_t)n + 1);
	if (!at)
		return -ENOBUFS;
	va_start(ap, fmt);
	(void)vsnprintf(at, (size_t)n + 1, fmt, ap);
	va_end(ap);
	b->to += (size_t)n;
	return 0;
}

void buf_consume(struct buf *b, size_t n)
{
	if (n > buf_len(b))
		abort();
	b->from += n;
	if (b->from == b->to)
		b->from = b->to = 0;
}
