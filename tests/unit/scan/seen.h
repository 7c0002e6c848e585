/* An engine that knows one secret, one placeholder and the rules, and what it finds in a text,
 * summed up. */
#pragma once

#include "scan/scan_int.h"

/* The secret that no rule knows, and one that a rule knows. */
#define OWN "zebra/Quilt+violin_93~ocean"
#define TOKEN                                                                                      \
	"gh"                                                                                       \
	"p_ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef01"

struct seen {
	bool has_own, has_token, has_limit, has_placeholder;
	char limit[SCAN_RULE_NAME_MAX]; /* the first that was met */
	char decoders[32];		/* of the last finding, and where it was */
	uint64_t from, to;
	unsigned n;
};

/* Of a group. */
int seen_setup(void **state);
int seen_teardown(void **state);

struct seen scan(enum scan_place place, const void *p, size_t n);
struct seen scan_cstr(enum scan_place place, const char *text);
/* As a body's stream, in pieces of this size. */
struct seen scan_cut(const void *p, size_t n, size_t piece);
