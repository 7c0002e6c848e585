/*
 * A policy that outlives its being replaced: whoever was judged by it, and so points at one of its
 * routes, uses it until he is done. Of one thread, without locks.
 */
#pragma once

#include "conf/policy.h"

struct policy_shared {
	struct policy *policy; /* on the heap, its own */
	unsigned n_users;
};

/* Takes p over; the caller is its first user. */
struct policy_shared *policy_shared_new(struct policy *p);
/* One user more. */
struct policy_shared *policy_shared_use(struct policy_shared *s);
/* One less: *s becomes NULL; the last one frees the policy. */
void policy_shared_drop(struct policy_shared **s);
