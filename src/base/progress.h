/* What a human sees while something long goes on. */
#pragma once

#include <stdint.h>

/* A NULL fn, or a NULL struct progress *: nobody watches. text is one line and may hold what others
 * said: whoever shows it makes control bytes visible. done and total are 0 where not known. */
struct progress {
	void (*fn)(void *ctx, const char *step, const char *text, uint64_t done, uint64_t total);
	void *ctx;
};

static inline void progress_tell(const struct progress *p, const char *step, const char *text,
				 uint64_t done, uint64_t total)
{
	if (p && p->fn)
		p->fn(p->ctx, step, text, done, total);
}
