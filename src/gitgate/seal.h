/* What the role, its workers and every git that they start have left: git's programs, the one
 * folder, no network, no socket but pairs. */
#pragma once

#include "bundle/bundle.h"

int gitgate_seal(const struct bundle_role_env *env, const char *folder, struct err *e) _fallible_;
