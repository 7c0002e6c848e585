/*
 * On the host, what is fed here is a hostile machine's: a head only announces, so memory grows with
 * the bytes that have really come, and never past the port's largest frame.
 */
#include "guest/machine.h"

#include "base/mem.h"

#include <errno.h>
#include <stdlib.h>

#define FRAMES_FIRST 4096

int frames_init(struct frames *f, size_t max_payload, struct err *e)
{
	*f = (struct frames){.max = max_payload, .cap = FRAMES_FIRST};
	f->p = malloc(f->cap);
	return f->p ? 0 : err_set(e, -ENOMEM, "no memory for a port's frames");
}

void frames_free(struct frames *f)
{
	/* It may have been the agent's environment. */
	if (f->p)
		mem_wipe(f->p, f->cap);
	free(f->p);
	*f = (struct frames){0};
}

void frames_head(unsigned char head[MACHINE_HEAD], char letter, size_t n)
{
	head[0] = (unsigned char)letter;
	head[1] = (unsigned char)(n >> 16);
	head[2] = (unsigned char)(n >> 8);
	head[3] = (unsigned char)n;
}

/* Of the whole frame, or as long as its head is not there, of that. */
static size_t frames_need(const struct frames *f)
{
	if (f->n < MACHINE_HEAD)
		return MACHINE_HEAD;
	return MACHINE_HEAD + ((size_t)f->p[1] << 16 | (size_t)f->p[2] << 8 | f->p[3]);
}

static int frames_grow(struct frames *f, size_t need, struct err *e)
{
	size_t cap = f->cap;
	unsigned char *p;

	while (cap < need)
		cap *= 2;
	if (cap == f->cap)
		return 0;
	p = realloc(f->p, cap);
	if (!p)
		return err_set(e, -ENOMEM, "no memory for a port's frame");
	f->p = p;
	f->cap = cap;
	return 0;
}

static int frames_take(struct frames *f, struct str data, size_t *used, struct err *e)
{
	size_t left = frames_need(f) - f->n, n = data.n - *used;

	if (n > left)
		n = left;
	if (n == 0)
		return 0;
	if (frames_grow(f, f->n + n, e) < 0)
		return -ENOMEM;
	memcpy(f->p + f->n, data.p + *used, n);
	f->n += n;
	*used += n;
	return 0;
}

int frames_feed(struct frames *f, struct str data, size_t *used, char *letter, struct str *payload,
		struct err *e)
{
	int ret;

	*used = 0;
	*letter = 0;
	*payload = STR_NULL;
	/* The one that the last call gave out. */
	if (f->n >= MACHINE_HEAD && f->n == frames_need(f))
		f->n = 0;
	ret = frames_take(f, data, used, e);
	if (ret < 0 || f->n < MACHINE_HEAD)
		return ret;
	if (frames_need(f) - MACHINE_HEAD > f->max)
		return err_set(e, -EPROTO, "a frame that is longer than its port allows");
	ret = frames_take(f, data, used, e);
	if (ret < 0 || f->n < frames_need(f))
		return ret;
	*letter = (char)f->p[0];
	*payload = str_slice(f->p + MACHINE_HEAD, f->n - MACHINE_HEAD);
	return 1;
}
