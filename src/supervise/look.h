/* What is allowed, as the agent may know it: no credential's name, placeholder or file. */
#pragma once

#include "conf/policy.h"

#include <jansson.h>

#define LOOK_POLICY_MAX (48u << 10) /* bytes of all routes; further ones are counted */

/* p may be NULL: nothing is allowed. The caller owns it. */
json_t *look_policy(const struct policy *p, bool is_paused);
