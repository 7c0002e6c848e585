/* Who decides, as the audit has it. */
#pragma once

#include "requests/store.h"

#include <sys/types.h>

/* "uid 1000 (anna)"; without a name where the user has none. (uid_t)-1 is nobody that is known. */
void who_name(uid_t uid, char out[STORE_WHO_MAX]);
