/* `policy why RECORD`: one record, found among all bottles' and explained. */
#pragma once

#include "cli/cli.h"

int policy_why(const char *id, bool is_json);
