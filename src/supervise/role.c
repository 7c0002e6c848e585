/* The role: see docs/SUPERVISE.md. */
#include "base/log.h"
#include "bundle/bundle.h"
#include "net/loop.h"
#include "priv/priv.h"

#include <signal.h>

static void supervise_on_signal(struct loop *l, int signo, void *ctx)
{
	(void)signo;
	(void)ctx;
	loop_stop(l, 0);
}

int supervise_role_main(struct bundle_role_env *env)
{
	const struct priv_limits limits = {.files = 256};
	struct err e = ERR_INIT;
	struct loop *l = loop_new(&e);

	if (!l || loop_signals(l, (int[]){SIGTERM, SIGINT}, 2, supervise_on_signal, NULL, &e) < 0 ||
	    bundle_role_seal(env, &limits, false, PRIV_SECCOMP_ACCEPT, &e) < 0)
		die("%s", e.text);
	bundle_role_ready(env);
	return loop_run(l);
}
