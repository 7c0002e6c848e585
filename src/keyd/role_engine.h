/*
 * The scan engine of a role that looks at what leaves the bottle: rules from the cache if that is
 * sound, else compiled; self-tested; and the fingerprints of the bottle's secrets, from keyd. What
 * cannot be had is a role that does not start.
 */
#pragma once

#include "scan/scan.h"

/* rules_fd: -1 for none. Blocks on keyd. NULL: *e says why. */
struct scan_engine *role_engine_new(int rules_fd, int keyd_fd, struct err *e);
