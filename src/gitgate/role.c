/*
 * The role. Before it gives its powers away it reads what it will need (configuration, rules,
 * fingerprints) and opens its own executable, which becomes git's hook and git's ssh; after that it
 * works in its folder, with git, and with what it was given descriptors for. Workers and everything
 * that git starts inherit what is left, which is less than git would need to do anything else.
 */
#include "gitgate/seal.h"

#include "gitgate/gitgate.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/log.h"
#include "bundle/bundle.h"
#include "keyd/role_engine.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>

static void gitgate_on_signal(struct loop *l, int signo, void *ctx)
{
	(void)signo;
	(void)ctx;
	loop_stop(l, 0);
}

/* Its folder may have been made by whoever could not know our uid yet. In a container nobody may
 * give it to us: there it is anybody's to write, and no other role has a path at all. */
static int gitgate_own_folder(const char *folder, unsigned uid, struct err *e)
{
	struct stat st;

	if (io_mkdir_p(folder, 0700, e) < 0)
		return e->code;
	if (stat(folder, &st) < 0)
		return err_errno(e, "git-gate's folder");
	if (uid != 0 && st.st_uid != uid && !(st.st_mode & S_IWOTH) && chown(folder, uid, uid) < 0)
		return err_errno(e, "git-gate's folder belongs to somebody else");
	return 0;
}

static int gitgate_serve(const struct bundle_role_env *env, struct gitgate_config *config,
			 struct err *e)
{
	struct loop *loop = loop_new(e);
	struct gitgate *g = NULL;
	int ret;

	if (!loop ||
	    loop_signals(loop, (int[]){SIGTERM, SIGINT}, 2, gitgate_on_signal, NULL, e) < 0)
		return e->code;
	ret = desk_open(&config->desk, loop, env->desk_fd, env->life, e);
	if (ret == 0)
		ret = gitgate_seal(env, config->folder, e);
	if (ret == 0)
		ret = gitgate_new(&g, loop, config, e);
	if (ret == 0)
		ret = gitgate_listen(g, env->listen_fd, e);
	if (ret < 0)
		return ret;
	bundle_role_ready(env);
	ret = loop_run(loop);
	gitgate_free(g);
	desk_close(config->desk);
	loop_free(loop);
	return ret;
}

int gitgate_role_main(struct bundle_role_env *env)
{
	struct gitgate_config gate = {
		.upstream = {.egress_fd = env->egress_fd,
			     .ssh_fd = env->ssh_fd,
			     .door_fd = env->door_fd},
		.record_fd = env->record_fd,
	};
	struct bundle_config config;
	struct err e = ERR_INIT;
	int status;

	if (bundle_config_load(&config, env->config_fd, &e) < 0)
		die("%s", e.text);
	if (!config.git)
		die("the configuration has no git");
	gate.policy = config.git;
	gate.slug = config.slug;
	gate.folder = config.git_folder;
	gate.engine = role_engine_new(env->rules_fd, env->keyd_fd, &e);
	if (!gate.engine || gitgate_own_folder(gate.folder, env->uid, &e) < 0)
		die("%s", e.text);
	gate.program_fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	if (gate.program_fd < 0)
		die("our own executable cannot be read");
	status = gitgate_serve(env, &gate, &e);
	if (status < 0)
		die("%s", e.text);
	scan_engine_free(gate.engine);
	bundle_config_free(&config);
	return status;
}
