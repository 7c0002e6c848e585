/*
 * The role. Theory of operation: everything that needs time, the file system or memory in bulk (the
 * rule database, its self-test, the leaf key) happens before the role seals itself; what serves the
 * agent runs afterwards, on one loop. Whatever cannot be had at the start (rules, fingerprints, a
 * leaf key) means that the role does not start, and then nothing leaves the bottle.
 */
#include "pipelock/hold.h"

#include "base/clean.h"
#include "base/log.h"
#include "base/mem.h"
#include "bundle/bundle.h"
#include "bundle/news.h"
#include "keyd/role_engine.h"
#include "pipelock/asks.h"
#include "pipelock/renew.h"
#include "priv/priv.h"

#include <signal.h>
#include <sys/socket.h>

#define PIPELOCK_FILES_MAX  4096
#define PIPELOCK_MEMORY_MAX ((size_t)2 << 30)

/* relay.c accepts CONNECT for hosts that on_connect allowed and minted, so this is a cache hit. */
static enum tls_cert_result pipelock_cert(void *conn_ctx, const char *host, struct x509_st **cert,
					  struct evp_pkey_st **key)
{
	struct relay_front *f = conn_ctx;
	struct pipelock *p = *(struct pipelock **)relay_front_owner(f);
	uint16_t port;

	(void)relay_front_tunnel(f, &port);
	if (policy_decide_authority(p->policy->policy, str_of(host), port).reason != POLICY_OK)
		return TLS_CERT_NONE;
	*cert = leaf_cache_get(p->leaves, str_of(host), loop_now_ns(p->loop), NULL);
	*key = leaf_cache_key(p->leaves);
	return *cert ? TLS_CERT_OK : TLS_CERT_NONE;
}

static int pipelock_relay(struct pipelock *p, const struct pipelock_parts *parts, struct err *e)
{
	const struct relay_config config = {
		.accept = RELAY_ACCEPT_CONNECT | RELAY_ACCEPT_ABSOLUTE_HTTP,
		.back_is_absolute = true,
		.tls_server = p->tls,
		.fronts_max = PIPELOCK_FRONTS_MAX,
		.backs_max = PIPELOCK_BACKS_MAX,
		.idle_backs_max = PIPELOCK_IDLE_BACKS_MAX,
		.out_max_bytes = GATE_CODED_MAX + 4 * RELAY_PIECE_BYTES,
		.owner_bytes = sizeof(struct exchange),
		.front_owner_bytes = sizeof(struct pipelock *),
	};
	int ret = relay_new(&p->relay, p->loop, &config, &pipelock_ops, p, e);

	return ret < 0 ? ret : relay_listen(p->relay, parts->listen_fd, e);
}

/* A news_fn. */
static bool pipelock_on_news(struct bundle_config *c, uint64_t generation, void *ctx)
{
	struct pipelock *p = ctx;
	struct policy_shared *policy;

	(void)generation;
	if (!policy_differs_only_in_grants(p->policy->policy, c->policy))
		return false;
	policy = policy_shared_new(take_ptr(&c->policy));
	renew(p, policy, c->is_paused);
	policy_shared_drop(&policy);
	return true;
}

int pipelock_start(struct pipelock *p, const struct pipelock_parts *parts, struct err *e)
{
	int ret;

	*p = (struct pipelock){.loop = parts->loop,
			       .policy = policy_shared_use(parts->policy),
			       .is_paused = parts->is_paused,
			       .egress_fd = parts->egress_fd,
			       .record_fd = parts->record_fd,
			       .hold_ms = parts->hold_ms ? parts->hold_ms : HOLD_MS};
	asks_start(p);
	gate_init(&p->gate, parts->policy->policy, parts->engine);
	ret = desk_open(&p->desk, parts->loop, parts->desk_fd, parts->life, e);
	if (ret < 0)
		return ret;
	p->leaves = leaf_cache_new(parts->keyd_fd, LEAF_CACHE_HOSTS, e);
	if (!p->leaves)
		return e->code;
	ret = tls_server_new(&p->tls, pipelock_cert, leaf_cache_ca(p->leaves), e);
	if (ret == 0)
		ret = pipelock_relay(p, parts, e);
	if (ret < 0)
		return ret;
	p->dns = dns_sink_new(p->loop, parts->dns_udp_fd, parts->dns_tcp_fd, parts->pinned,
			      report_dns_attempt, p, e);
	if (!p->dns)
		return e->code;
	return news_watch_start(&p->news, p->loop, parts->news_fd, pipelock_on_news, p, e);
}

void pipelock_stop(struct pipelock *p)
{
	news_watch_stop(p->news);
	relay_free(p->relay);
	dns_sink_free(p->dns);
	tls_server_free(p->tls);
	leaf_cache_free(p->leaves);
	exchange_bodies_free(p);
	gate_close(&p->gate);
	asks_stop(p);
	desk_close(p->desk);
	policy_shared_drop(&p->policy);
}

static void pipelock_on_signal(struct loop *l, int signo, void *ctx)
{
	(void)signo;
	(void)ctx;
	loop_stop(l, 0);
}

int pipelock_role_main(struct bundle_role_env *env)
{
	const struct priv_limits limits = {
		.files = PIPELOCK_FILES_MAX,
		.address_space_bytes = priv_is_instrumented() ? 0 : PIPELOCK_MEMORY_MAX,
	};
	struct bundle_config config;
	struct pipelock_parts parts = {.keyd_fd = env->keyd_fd,
				       .egress_fd = env->egress_fd,
				       .record_fd = env->record_fd,
				       .desk_fd = env->desk_fd,
				       .life = env->life,
				       .listen_fd = env->listen_fd,
				       .dns_udp_fd = env->dns_udp_fd,
				       .dns_tcp_fd = env->dns_tcp_fd,
				       .news_fd = env->news_fd,
				       .pinned = config.pinned};
	static struct pipelock p;
	struct err e = ERR_INIT;
	int status;

	if (bundle_config_load(&config, env->config_fd, &e) < 0)
		die("%s", e.text);
	parts.policy = policy_shared_new(take_ptr(&config.policy));
	parts.is_paused = config.is_paused;
	parts.engine = role_engine_new(env->rules_fd, env->keyd_fd, &e);
	if (!parts.engine)
		die("%s", e.text);
	parts.loop = loop_new(&e);
	if (!parts.loop ||
	    loop_signals(parts.loop, (int[]){SIGTERM, SIGINT}, 2, pipelock_on_signal, NULL, &e) <
		    0 ||
	    pipelock_start(&p, &parts, &e) < 0)
		die("%s", e.text);
	if (bundle_role_seal(env, &limits, false, PRIV_SECCOMP_PASS_FD | PRIV_SECCOMP_ACCEPT, &e) <
	    0)
		die("%s", e.text);
	bundle_role_ready(env);
	status = loop_run(parts.loop);
	pipelock_stop(&p);
	policy_shared_drop(&parts.policy);
	loop_free(parts.loop);
	scan_engine_free(parts.engine);
	bundle_config_free(&config);
	return status;
}
