/* What an agent finds of this host's file system: its home, which outlives one run of the bottle,
 * and what the operator shows it. */
#pragma once

#include "base/err.h"
#include "conf/plan.h"

#include <sys/types.h>

/* The folder path, made when absent, open, and the agent's (uid and gid count only where we are
 * root). Never follows a link. The fd, or -errno. */
int agent_home_open(const char *path, uid_t uid, gid_t gid, struct err *e) _fallible_;
/* The plan's `expose`: absolute, there, nothing of the kernel's. */
int agent_expose_check(const struct plan *p, struct err *e) _fallible_;
/* Where the agent begins, as it sees it: the workspace that is mounted, else its home. */
const char *agent_start_folder(const struct plan *p);
