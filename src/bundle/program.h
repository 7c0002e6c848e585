/* The bundle's executable on this host. */
#pragma once

#include "base/err.h"

#define BUNDLE_PROGRAM "claude-bottle-bundle"

/* Opens the bundle's executable, checked: a regular file of root's or ours that nobody else may
 * write. The fd (O_PATH), or -errno. */
int bundle_find(struct err *e) _fallible_;
/* In a child: becomes it. */
_Noreturn void bundle_exec(int bundle_fd, char *const *argv, char *const *env);
