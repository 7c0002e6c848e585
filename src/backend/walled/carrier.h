/* What carries from a wall to a bundle in a container: carry/carry.h, as a child of the keeper. */
#pragma once

#include "backend/bundle_process.h"

#define WALL_SERVED 5 /* sockets of a wall's that the bundle serves */

/* sockets: by name; -1 for those that are not there. They stay the caller's, whose copies must be
 * closed afterwards. bundle_process_reap() ends it. */
int carrier_start(struct bundle_process *carrier, const char *slug, const char *address,
		  const struct backend_fd sockets[WALL_SERVED], struct err *e) _fallible_;
