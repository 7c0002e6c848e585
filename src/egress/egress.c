#include "egress/egress.h"

#include "egress/exchange.h"
#include "egress/renew.h"

#include "base/clean.h"
#include "base/log.h"
#include "base/mem.h"

#include <sys/socket.h>

#define EGRESS_FRONTS_MAX     1024
#define EGRESS_BACKS_MAX      1024
#define EGRESS_IDLE_BACKS_MAX 32
/* Longer than all that dialler and resolver do on their own. */
#define EGRESS_DIAL_MS 20000

static int egress_open_relay(struct egress *g, const struct egress_config *c, struct err *e)
{
	struct relay_config config = {
		.accept = RELAY_ACCEPT_ABSOLUTE_HTTP | RELAY_ACCEPT_ABSOLUTE_HTTPS,
		.fronts_max = EGRESS_FRONTS_MAX,
		.backs_max = EGRESS_BACKS_MAX,
		.idle_backs_max = EGRESS_IDLE_BACKS_MAX,
		.owner_bytes = sizeof(struct exchange_state),
		.dial_ms = EGRESS_DIAL_MS,
		.body_ms = c->body_ms,
		.response_ms = c->response_ms,
		.stream_ms = c->stream_ms,
		.idle_ms = 3600000, /* pipelock closes what it needs no more */
	};

	return relay_new(&g->relay, g->loop, &config, &egress_exchange_ops, g, e);
}

static int egress_open_tls(struct egress *g, const struct egress_config *c, struct err *e)
{
	struct tls_client_config config = {.ca_file = c->ca_file,
					   .ca_pem = str_of(c->policy->policy->ca_pem)};

	if (!c->ca_file && !c->policy->policy->ca_pem) {
		log_warn("no certificate authority is known here; https will be refused");
		return 0;
	}
	return tls_client_new(&g->tls, &config, e);
}

int egress_new(struct egress **out, struct loop *l, const struct egress_config *c, struct err *e)
{
	const struct policy *policy = c->policy->policy;
	struct egress *g = mem_zalloc(sizeof(*g));
	struct resolver_config resolver = {.servers = c->servers,
					   .n_servers = c->n_servers,
					   .policy = policy,
					   .own = &g->own,
					   .reacher = c->reacher,
					   .total_ms = c->dns_ms};
	int ret;

	*out = NULL;
	*g = (struct egress){.loop = l, .record_fd = c->record_fd, .rule = c->rule};
	g->first = policy_shared_use(c->policy);
	g->policy = policy_shared_use(c->policy);
	for (size_t i = 0; i < policy->n_routes; i++)
		g->has_bound_routes |= policy->routes[i].auth.scheme != POLICY_AUTH_NONE;
	ret = address_own_open(&g->own, e);
	if (ret == 0 && c->pinned && c->pinned[0])
		ret = address_own_add(&g->own, c->pinned, e);
	for (size_t i = 0; i < c->n_inside && ret == 0; i++)
		ret = address_own_add(&g->own, c->inside[i], e);
	if (ret == 0)
		ret = address_own_refresh(&g->own, e);
	if (ret == 0)
		ret = creds_new(&g->creds, policy, c->ask, c->ask_ctx, e);
	if (ret == 0)
		ret = resolver_new(&g->resolver, l, &resolver, e);
	if (ret == 0)
		ret = egress_open_tls(g, c, e);
	if (ret == 0)
		ret = egress_open_relay(g, c, e);
	if (ret < 0)
		egress_free(g);
	else
		*out = g;
	return ret;
}

void egress_free(struct egress *g)
{
	if (!g)
		return;
	if (g->relay)
		relay_free(g->relay);
	resolver_free(g->resolver);
	if (g->tls)
		tls_client_free(g->tls);
	creds_free(g->creds);
	address_own_close(&g->own);
	renew_free(g);
	free(g);
}

struct resolver *egress_resolver(struct egress *g)
{
	return g->resolver;
}

void egress_serve(struct egress *g, int fd)
{
	struct sockaddr_storage name;
	socklen_t n = sizeof(name);

	/* Whatever else a pipelock that was taken over may pass, only a unix socket is served. */
	if (getsockname(fd, (struct sockaddr *)&name, &n) < 0 || name.ss_family != AF_UNIX) {
		log_warn("a descriptor that is no unix socket was refused");
		close_fd(&fd);
		return;
	}
	(void)relay_front_add(g->relay, fd);
}
