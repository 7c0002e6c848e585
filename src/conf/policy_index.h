/* Which routes could concern a host, without looking at the others. */
#pragma once

#include "conf/policy.h"

struct policy_index;

/* For p's routes as they are now; whoever changes them drops the index first. */
void policy_index_make(struct policy *p);
void policy_index_free(struct policy *p);

/* Routes whose host pattern matches, in manifest order, each once. Works without an index too. */
#define POLICY_CURSOR_CHAINS 8
struct policy_cursor {
	const struct policy *p;
	struct str host;
	size_t at; /* without an index: the next route to look at */
	/* With one: heads of the chains that match, route number + 1. */
	uint16_t heads[POLICY_CURSOR_CHAINS];
	unsigned n_heads;
	bool is_linear;
};
void policy_cursor_start(struct policy_cursor *c, const struct policy *p, struct str host);
const struct policy_route *policy_cursor_next(struct policy_cursor *c);
