/*
 * The role's process: gathers what it needs of the file system (the system's certificate
 * authorities, its name servers), gives its powers away, then serves the connections that pipelock
 * passes to it. It has no address: nothing else can reach it.
 */
#include "egress/egress.h"
#include "egress/git_dial.h"

#include "bundle/bundle.h"
#include "bundle/news.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "priv/priv.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#define ROLE_FILES_MAX	    4096
#define ROLE_RESOLV_MAX	    65536
#define ROLE_ACCEPT_STEP    32 /* connections taken in one turn of the loop */
#define ROLE_GIT_SILENCE_MS 300000

/* Debian, Fedora, openSUSE, Alpine. */
static const char *const ca_files[] = {
	"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt",
	"/var/lib/ca-certificates/ca-bundle.pem", "/etc/ssl/cert.pem"};

struct egress_role {
	struct loop *loop;
	struct egress *egress;
	struct reacher *reacher;
	struct bundle_config config;
	struct policy_shared *policy; /* the first */
	struct news_watch *news;
	int keyd_fd;
	struct loop_watch channel;
	/* With git: a second one, which knows git-gate's upstreams and nothing of the agent's. */
	struct policy_shared *git_routes;
	struct egress *git_egress;
	struct loop_watch git_channel;
	struct git_dial *git_dial;
};

static struct egress_role role;

static int role_ask(void *ctx, struct keyd_request *q, struct keyd_reply *r, struct err *e)
{
	struct egress_role *g = ctx;

	return keyd_ask(g->keyd_fd, q, r, KEYD_TIMEOUT_MS, e);
}

static void role_on_connection(struct loop_watch *w, uint32_t events)
{
	struct egress *egress = w == &role.git_channel ? role.git_egress : role.egress;

	(void)events;
	for (int i = 0; i < ROLE_ACCEPT_STEP; i++) {
		int fds[1] = {-1};
		size_t n_fds = 1;
		char byte[16];
		ssize_t n = io_recv_fds(w->fd, byte, sizeof(byte), fds, &n_fds, MSG_DONTWAIT);

		if (n == 0) {
			loop_stop(role.loop, 0);
			return;
		}
		/* A message that is not understood costs its connection only. */
		if (n == -EPROTO || n == -EMSGSIZE)
			continue;
		if (n < 0)
			return;
		if (n_fds == 1)
			egress_serve(egress, fds[0]);
	}
}

static void role_on_signal(struct loop *l, int signo, void *ctx)
{
	(void)signo;
	(void)ctx;
	loop_stop(l, 0);
}

static const char *role_find_ca_file(void)
{
	for (size_t i = 0; i < ARRAY_LEN(ca_files); i++) {
		if (access(ca_files[i], R_OK) == 0)
			return ca_files[i];
	}
	return NULL;
}

/* The operator's own name servers, else the host's. */
static size_t role_find_servers(const struct policy *p,
				struct sockaddr_storage out[RESOLVER_SERVERS_MAX])
{
	struct str text = STR_NULL;
	struct err e = ERR_INIT;
	size_t n = 0;

	for (; n < p->n_dns && n < RESOLVER_SERVERS_MAX; n++)
		out[n] = p->dns[n];
	if (n > 0)
		return n;

	if (io_read_file(AT_FDCWD, "/etc/resolv.conf", ROLE_RESOLV_MAX, &text, &e) < 0)
		log_warn("%s", e.text);
	else
		n = resolver_servers_parse(text, out);
	free((char *)(uintptr_t)text.p);
	if (n == 0)
		log_warn("no name server in /etc/resolv.conf; asking 127.0.0.1");
	return n;
}

/* Where the host's loopback is not ours, what the operator named there must not be looked for on
 * our own, where other things may listen. */
static int role_open_reach(const struct bundle_role_env *env, struct err *e)
{
	if (role.config.is_apart != (env->reach_fd >= 0))
		return err_set(e, -EINVAL,
			       "inside and reach= belong together: the keeper gives both to a "
			       "bundle with a network of its own");
	return role.config.is_apart
		       ? reacher_new(&role.reacher, role.loop, env->reach_fd, env->life, e)
		       : 0;
}

/* A server counts objects, or takes a pack apart, for minutes without a word; and so does the git
 * that makes a pack to be sent. */
static int role_start_git(const struct bundle_role_env *env, const struct egress_config *common,
			  struct err *e)
{
	struct egress_config config = *common;
	struct git_dial_config dial = {
		.git = role.config.git, .channel_fd = env->dial_fd, .record_fd = env->record_fd};
	int ret;

	if (!role.config.git != (env->git_egress_fd < 0))
		return err_set(e, -EINVAL, "git and git_egress= belong together");
	if (!role.config.git)
		return 0;
	role.git_routes = policy_shared_new(mem_zalloc(sizeof(struct policy)));
	ret = git_policy_routes(role.config.git, role.policy->policy, role.git_routes->policy, e);
	if (ret < 0)
		return ret;
	config.policy = role.git_routes;
	config.rule = "git";
	config.body_ms = config.response_ms = config.stream_ms = ROLE_GIT_SILENCE_MS;
	ret = egress_new(&role.git_egress, role.loop, &config, e);
	if (ret < 0)
		return ret;
	role.git_channel = (struct loop_watch){.fd = -1, .fn = role_on_connection};
	ret = loop_add(role.loop, &role.git_channel, env->git_egress_fd, EPOLLIN, e);
	if (ret < 0 || env->dial_fd < 0)
		return ret;
	dial.resolver = egress_resolver(role.git_egress);
	return git_dial_new(&role.git_dial, role.loop, &dial, e);
}

static void role_pause(bool is_paused)
{
	egress_pause(role.egress, is_paused);
	if (role.git_egress)
		egress_pause(role.git_egress, is_paused);
	if (role.git_dial)
		git_dial_pause(role.git_dial, is_paused);
}

/* A news_fn. Git's upstreams are no matter of grants: of a new configuration only the pause
 * concerns them. */
static bool role_on_news(struct bundle_config *c, uint64_t generation, void *ctx)
{
	struct policy_shared *policy;

	(void)generation;
	(void)ctx;
	if (!policy_differs_only_in_grants(role.policy->policy, c->policy))
		return false;
	policy = policy_shared_new(take_ptr(&c->policy));
	egress_renew(role.egress, policy);
	policy_shared_drop(&policy);
	role_pause(c->is_paused);
	return true;
}

static int role_start(const struct bundle_role_env *env, struct err *e)
{
	struct sockaddr_storage servers[RESOLVER_SERVERS_MAX];
	struct egress_config config = {.ask = role_ask, .ask_ctx = &role, .servers = servers};
	int ret = bundle_config_load(&role.config, env->config_fd, e);

	if (ret < 0)
		return ret;
	role.keyd_fd = env->keyd_fd;
	role.loop = loop_new(e);
	if (!role.loop)
		return e->code;
	ret = role_open_reach(env, e);
	if (ret < 0)
		return ret;
	config.reacher = role.reacher;
	config.inside = (const char(*)[46])role.config.inside;
	config.n_inside = role.config.n_inside;
	role.policy = policy_shared_new(take_ptr(&role.config.policy));
	config.policy = role.policy;
	config.pinned = role.config.pinned;
	config.ca_file = role_find_ca_file();
	config.n_servers = role_find_servers(config.policy->policy, servers);
	config.record_fd = env->record_fd;
	ret = egress_new(&role.egress, role.loop, &config, e);
	if (ret < 0)
		return ret;
	role.channel = (struct loop_watch){.fd = -1, .fn = role_on_connection};
	ret = loop_add(role.loop, &role.channel, env->egress_fd, EPOLLIN, e);
	if (ret == 0)
		ret = role_start_git(env, &config, e);
	if (ret == 0)
		ret = news_watch_start(&role.news, role.loop, env->news_fd, role_on_news, NULL, e);
	if (ret < 0)
		return ret;
	role_pause(role.config.is_paused);
	return loop_signals(role.loop, (int[]){SIGTERM}, 1, role_on_signal, NULL, e);
}

int egress_role_main(struct bundle_role_env *env)
{
	struct priv_limits limits = {.files = ROLE_FILES_MAX};
	struct err e = ERR_INIT;
	int status;

	if (role_start(env, &e) < 0)
		die("%s", e.text);
	if (bundle_role_seal(env, &limits, true,
			     PRIV_SECCOMP_PASS_FD | PRIV_SECCOMP_ACCEPT | PRIV_SECCOMP_DIAL,
			     &e) < 0)
		die("%s", e.text);
	bundle_role_ready(env);
	status = loop_run(role.loop);
	news_watch_stop(role.news);
	git_dial_free(role.git_dial);
	egress_free(role.git_egress);
	egress_free(role.egress);
	policy_shared_drop(&role.git_routes);
	policy_shared_drop(&role.policy);
	reacher_free(role.reacher);
	bundle_config_free(&role.config);
	loop_free(role.loop);
	return status;
}
