/* Allocation that aborts when memory is out: for small control structures, never for agent data. */
#pragma once

#include <stddef.h>

void *mem_zalloc(size_t size);
/* Array of count elements, zeroed; overflow aborts. */
void *mem_zalloc_array(size_t count, size_t size);
/* Grows an array to hold at least `need` elements, doubling; the new part is zeroed. */
void *mem_grow_array(void *p, size_t *cap, size_t need, size_t size);
char *mem_strdup(const char *s); /* NULL stays NULL */
char *mem_printf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Overwrites, in a way that the compiler keeps. */
void mem_wipe(void *p, size_t n);
