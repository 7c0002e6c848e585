/* Until gitssh is here: the bundle links, and a bottle with ssh remotes does not start. This file goes
 * with it. */
#include "bundle/bundle.h"

#include "base/log.h"

int gitssh_role_main(struct bundle_role_env *env)
{
	(void)env;
	die("gitssh is not in this build");
}
