/*
 * Text as slices. Parsed text is never NUL-terminated; a terminator appears only at the
 * syscall edge (str_to_cstr, str_dup).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct str {
	const char *p; /* may be NULL when n is 0 */
	size_t n;
};

#define STR_LIT(s) ((struct str){(s), sizeof(s) - 1})
#define STR_NULL   ((struct str){NULL, 0})
#define STR_FMT	   "%.*s"
/* Arguments for STR_FMT; the precision of printf is an int, so longer slices are cut. */
#define STR_ARG(s) (int)((s).n > 4096 ? 4096 : (s).n), ((s).p ? (s).p : "")

static inline struct str str_of(const char *cstr)
{
	return (struct str){cstr, cstr ? strlen(cstr) : 0};
}

static inline struct str str_slice(const void *p, size_t n)
{
	return (struct str){(const char *)p, n};
}

/* [from, to) of s, clamped to s. */
static inline struct str str_sub(struct str s, size_t from, size_t to)
{
	if (to > s.n)
		to = s.n;
	if (from > to)
		from = to;
	return (struct str){s.p ? s.p + from : NULL, to - from};
}

static inline bool str_eq(struct str a, struct str b)
{
	return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static inline char ascii_lower(char c)
{
	return (char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
}

static inline bool ascii_is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static inline bool ascii_is_alpha(char c)
{
	char l = ascii_lower(c);

	return l >= 'a' && l <= 'z';
}

static inline bool ascii_is_alnum(char c)
{
	return ascii_is_digit(c) || ascii_is_alpha(c);
}

/* Value of a hex digit, or -1. */
static inline int ascii_hex_value(char c)
{
	if (ascii_is_digit(c))
		return c - '0';
	c = ascii_lower(c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool str_ieq(struct str a, struct str b); /* ASCII case-insensitive */
/* The same, and "_" in a is as good as "-": how servers that make variables of names read them. */
bool str_ieq_dashed(struct str a, struct str b);
bool str_starts(struct str s, struct str prefix);
bool str_istarts(struct str s, struct str prefix);
bool str_ends(struct str s, struct str suffix);
/* Index of the first c, or s.n. */
size_t str_chr(struct str s, char c);
/* Index of the first occurrence of needle, or s.n. */
size_t str_find(struct str s, struct str needle);
/* Cuts s at the first c: *head is what stands before it, the return value what follows. When c
 * does not occur, *head is all of s and *found is false. */
struct str str_cut(struct str s, char c, struct str *head, bool *found);
/* Without ASCII space and tab at both ends. */
struct str str_trim(struct str s);
/* Decimal digits only, no sign, no overflow past max. 0, or -EINVAL / -ERANGE. */
int str_to_u64(struct str s, uint64_t max, uint64_t *out) __attribute__((warn_unused_result));
/* Lower-cases ASCII into dst (at least s.n bytes). dst may be s.p. */
void str_lower_into(char *dst, struct str s);
/* Copies into a NUL-terminated buffer. False, with dst empty, if it does not fit or holds a NUL. */
bool str_to_cstr(char *dst, size_t size, struct str s) __attribute__((warn_unused_result));
/* NUL-terminated copy on the heap; aborts when memory is out. The caller frees. */
char *str_dup(struct str s);
/* Compares without an early exit, for secrets. Lengths may leak. */
bool str_eq_consttime(struct str a, struct str b);
