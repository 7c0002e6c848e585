/*
 * Strict reading of the policies' JSON: each object knows its keys and refuses the rest, every
 * value has its type and its cap. Errors begin with "policy: ".
 */
#pragma once

#include "base/err.h"

#include <jansson.h>

/* The whole text: at most max bytes, nested no deeper than depth_max, no key twice. The caller
 * gives *out back (json_decref). */
int policy_read_root(struct str json, size_t max, unsigned depth_max, json_t **out,
		     struct err *e) _fallible_;
/* Refuses what is not an object, and keys that are not in the NULL-terminated list. */
int policy_read_keys(const json_t *object, const char *what, const char *const *known,
		     struct err *e) _fallible_;
/* Without a NUL inside; lives as long as the object. */
int policy_read_string(const json_t *object, const char *key, size_t max, struct str *out,
		       struct err *e) _fallible_;
int policy_read_u64(const json_t *object, const char *key, uint64_t max, uint64_t *out,
		    struct err *e) _fallible_;
int policy_read_unsigned(const json_t *object, const char *key, unsigned max, unsigned *out,
			 struct err *e) _fallible_;
int policy_read_bool(const json_t *object, const char *key, bool *out, struct err *e) _fallible_;
int policy_read_list(const json_t *object, const char *key, size_t max, const json_t **out,
		     struct err *e) _fallible_;
