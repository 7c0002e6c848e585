/* Between the files of priv. */
#pragma once

#include "priv/priv.h"

/* These of what it has, and of the bounding set. */
int priv_keep_caps(uint64_t keep, struct err *e) _fallible_;
/* These sets and BYTES. */
int priv_seccomp_exactly(unsigned sets, struct err *e) _fallible_;
