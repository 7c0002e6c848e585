#include "base/mem.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *mem_zalloc(size_t size)
{
	return mem_zalloc_array(1, size);
}

void *mem_zalloc_array(size_t count, size_t size)
{
	void *p = calloc(count ? count : 1, size ? size : 1);

	if (!p)
		abort();
	return p;
}

void *mem_grow_array(void *p, size_t *cap, size_t need, size_t size)
{
	size_t next = *cap ? *cap : 8;
	char *grown;

	if (need <= *cap)
		return p;
	while (next < need) {
		if (next > SIZE_MAX / 2)
			abort();
		next *= 2;
	}
	grown = reallocarray(p, next, size);
	if (!grown)
		abort();
	memset(grown + *cap * size, 0, (next - *cap) * size);
	*cap = next;
	return grown;
}

char *mem_strdup(const char *s)
{
	char *copy;

	if (!s)
		return NULL;
	copy = strdup(s);
	if (!copy)
		abort();
	return copy;
}

char *mem_printf(const char *fmt, ...)
{
	char *out = NULL;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&out, fmt, ap);
	va_end(ap);
	if (n < 0)
		abort();
	return out;
}

void mem_wipe(void *p, size_t n)
{
	if (p && n > 0)
		explicit_bzero(p, n);
}
