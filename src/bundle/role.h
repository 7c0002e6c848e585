/* What the bundle's main shares with init: descriptors by name on the command line. */
#pragma once

#include "bundle/bundle.h"

/* The value of "name=value", into argv; NULL when the name is absent. */
const char *role_argument(char *const *argv, const char *name);
/* "name=number" arguments. The descriptor becomes close-on-exec. -ENOENT when the name is absent,
 * -EINVAL when the value is not an open descriptor. */
int role_fd_argument(char *const *argv, const char *name, int *fd, struct err *e) _fallible_;
/* Fills env from the arguments that init gave: `role NAME uid=N name=fd …`. */
int role_env_parse(struct bundle_role_env *env, char *const *argv, struct err *e) _fallible_;
bool role_by_name(struct str name, enum bundle_role *out);
