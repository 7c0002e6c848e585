/*
 * What the keeper said, in words for an agent: how it stands, and what to do now.
 */
#pragma once

#include "bundle/ask.h"

#include <jansson.h>
#include <stdbool.h>

/* kind 0: not known here. The caller owns it. *is_error: the call itself came to nothing. */
json_t *answer_make(const struct ask_answer *a, enum ask_kind kind, bool *is_error);
/* The keeper was not heard, or may not be asked: state is "invalid", "limited" or "unavailable". */
json_t *answer_error(const char *state, const char *message);
