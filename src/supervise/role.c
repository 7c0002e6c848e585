/*
 * The role: a listening socket towards the agent, a desk towards the keeper, and what it is told of
 * the policy and of refusals. It has no file and no address; taken over, it can ask, and lie to the
 * agent about answers. See docs/SUPERVISE.md.
 */
#include "supervise/server.h"

#include "base/log.h"
#include "base/ports.h"
#include "bundle/bundle.h"
#include "bundle/news.h"
#include "priv/priv.h"

#include <errno.h>
#include <signal.h>
#include <sys/socket.h>

#define ROLE_MEMORY_MAX	  (512u << 20)
#define ROLE_RECORDS_TURN 64 /* read in one turn of the loop */

struct supervise_role {
	struct loop *loop;
	struct bundle_config config;
	struct tools_view view;
	struct desk *desk;
	struct news_watch *news;
	struct loop_watch refused;
	struct mcp *mcp;
	struct server *server;
};

static struct supervise_role role;

static void role_on_signal(struct loop *l, int signo, void *ctx)
{
	(void)signo;
	(void)ctx;
	loop_stop(l, 0);
}

static void role_look_at_config(void)
{
	role.view.policy = role.config.policy;
	role.view.is_paused = role.config.is_paused;
}

static bool role_on_news(struct bundle_config *c, uint64_t generation, void *ctx)
{
	struct bundle_config old = role.config;

	(void)generation;
	(void)ctx;
	role.config = *c;
	memset(c, 0, sizeof(*c));
	role_look_at_config();
	/* The server was told the address by reference; news never change it. */
	bundle_config_free(&old);
	return true;
}

/* The last refusals are a courtesy: one that is malformed, or an end of them, costs no more than
 * themselves. */
static void role_on_refused(struct loop_watch *w, uint32_t events)
{
	(void)events;
	for (int i = 0; i < ROLE_RECORDS_TURN; i++) {
		struct record r;
		ssize_t n = recv(w->fd, &r, sizeof(r), MSG_DONTWAIT | MSG_TRUNC);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n <= 0) {
			loop_del(role.loop, w);
			return;
		}
		if (n != (ssize_t)sizeof(r) || !refused_add(&role.view.refused, &r))
			log_warn("a record was malformed, and is not shown to the agent");
	}
}

static int role_start(const struct bundle_role_env *env, struct err *e)
{
	struct server_config server = {.host = role.config.pinned, .port = SERVICE_PORT_SUPERVISE};
	int ret = bundle_config_load(&role.config, env->config_fd, e);

	if (ret < 0)
		return ret;
	role_look_at_config();
	role.loop = loop_new(e);
	if (!role.loop)
		return e->code;
	ret = loop_signals(role.loop, (int[]){SIGTERM, SIGINT}, 2, role_on_signal, NULL, e);
	if (ret == 0)
		ret = desk_open(&role.desk, role.loop, env->desk_fd, env->life, e);
	if (ret == 0)
		ret = news_watch_start(&role.news, role.loop, env->news_fd, role_on_news, NULL, e);
	role.refused = (struct loop_watch){.fd = -1, .fn = role_on_refused};
	if (ret == 0 && env->refused_fd >= 0)
		ret = loop_add(role.loop, &role.refused, env->refused_fd, EPOLLIN, e);
	if (ret < 0)
		return ret;
	role.mcp = mcp_new(role.loop, &(struct mcp_config){.desk = role.desk, .view = &role.view});
	server.mcp = role.mcp;
	ret = server_new(&role.server, role.loop, &server, e);
	return ret < 0 ? ret : server_listen(role.server, env->listen_fd, e);
}

int supervise_role_main(struct bundle_role_env *env)
{
	const struct priv_limits limits = {
		.files = 128,
		.address_space_bytes = priv_is_instrumented() ? 0 : ROLE_MEMORY_MAX,
	};
	struct err e = ERR_INIT;
	int status;

	if (role_start(env, &e) < 0 ||
	    bundle_role_seal(env, &limits, false, PRIV_SECCOMP_ACCEPT | PRIV_SECCOMP_PASS_FD, &e) <
		    0)
		die("%s", e.text);
	bundle_role_ready(env);
	status = loop_run(role.loop);
	server_free(role.server);
	mcp_free(role.mcp);
	news_watch_stop(role.news);
	desk_close(role.desk);
	bundle_config_free(&role.config);
	loop_free(role.loop);
	return status;
}
