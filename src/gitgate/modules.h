/*
 * .gitmodules, read as git reads a configuration file, and judged: which URLs, paths and names of
 * submodules git must not be given by those who clone with submodules.
 */
#pragma once

#include "base/err.h"

#define MODULES_VALUE_MAX 4096
#define MODULES_BYTES_MAX (1u << 20)

/* Called for each value: section "submodule", its name, key in lower case, the value unquoted. The
 * slices live for the call. Return false to stop. */
typedef bool (*modules_fn)(void *ctx, struct str section, struct str name, struct str key,
			   struct str value, unsigned line);

/* 0, or -EBADMSG with e->line: what git would refuse, or what it would read in more than one way.
 */
int modules_parse(struct str text, modules_fn fn, void *ctx, struct err *e) _fallible_;

/* What is wrong with a value of a submodule, or NULL. repo_segments: how many segments the path of
 * the superproject's URL has: a relative URL with more "../" leaves its host. */
const char *modules_wrong(struct str name, struct str key, struct str value,
			  unsigned repo_segments);
