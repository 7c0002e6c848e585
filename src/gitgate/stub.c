/* Until git-gate's own parts are here: the bundle links, and a bottle with git does not start. This
 * file goes with them. */
#include "bundle/bundle.h"
#include "gitgate/gitgate.h"

#include "base/log.h"

int gitgate_role_main(struct bundle_role_env *env)
{
	(void)env;
	die("git-gate is not in this build");
}

int git_hook_main(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	return 1;
}

int git_connect_main(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	return 1;
}

int gitssh_role_main(struct bundle_role_env *env)
{
	(void)env;
	die("gitssh is not in this build");
}
