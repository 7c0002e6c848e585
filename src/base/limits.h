/* Resource limits of the calling process. */
#pragma once

#include "base/err.h"

#include <sys/resource.h>

/* Both of a resource's limits at once: never above the hard limit that it has already, and for
 * good. */
int limits_lower(__rlimit_resource_t what, uint64_t value, struct err *e) _fallible_;
