/* The policy that is in force: the manifest's, and a route for each active grant of egress. */
#pragma once

#include "requests/store.h"

/* Fills out with copies. Grants come behind the manifest's routes, so that one with a credential
 * still wins, and are marked as grants: route->grant is the request's id, and route->is_once. */
int grants_policy(struct policy *out, const struct policy *base, const struct grant *grants,
		  size_t n, struct err *e) _fallible_;
