/*
 * What was refused or held lately: copies of the records of these, which the record role passes
 * on, in a ring. They are the agent's own requests; nothing else comes this way.
 */
#pragma once

#include "conf/policy.h"
#include "record/record.h"

#include <jansson.h>

#define REFUSED_MAX 64

struct refused {
	struct record ring[REFUSED_MAX];
	uint64_t n; /* that ever came */
};

/* False: the record is malformed, and was left out. */
bool refused_add(struct refused *f, const struct record *r) __attribute__((warn_unused_result));
/* Newest first, visible text alone: {"refusals":[…]}, as the tool's output schema says. p says
 * whom a human may let something through to; NULL: nobody. */
json_t *refused_list(const struct refused *f, const struct policy *p, size_t limit);
