/*
 * What was refused lately: copies of the records of blocks, which the record role passes on, in a
 * ring. They are the agent's own requests; nothing else comes this way.
 */
#pragma once

#include "record/record.h"

#include <jansson.h>

#define REFUSED_MAX 64

struct refused {
	struct record ring[REFUSED_MAX];
	uint64_t n; /* that ever came */
};

/* False: the record is malformed, and was left out. */
bool refused_add(struct refused *f, const struct record *r) __attribute__((warn_unused_result));
/* NULL: it is not among the last ones. */
const struct record *refused_find(const struct refused *f, const uint8_t id[8]);
/* Newest first, visible text alone: {"refusals":[…]}, as the tool's output schema says. */
json_t *refused_list(const struct refused *f, size_t limit);
