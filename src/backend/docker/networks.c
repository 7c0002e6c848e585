/*
 * A bottle's networks. All are asked for at once; the engine makes them one after the other, the
 * wall first, so that the agent's container can begin while the outer one is still being made.
 */
#include "backend/docker/objects.h"

#include "base/clean.h"
#include "base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define NETWORKS_TRIES	  8
#define NETWORKS_PATH_MAX 256

static json_t *net_spec(const struct docker_owner *o, const struct docker_net *net,
			const char *suffix)
{
	_cleanup_free_ char *name = docker_name(o->slug, suffix);

	return json_pack("{s:s, s:s, s:b, s:b, s:o, s:{s:s, s:[{s:s, s:s}]}}", "Name", name,
			 "Driver", "bridge", "CheckDuplicate", 1, "EnableIPv6", 0, "Labels",
			 docker_labels(o, net->role), "IPAM", "Driver", "default", "Config",
			 "Subnet", net->subnet, "Gateway", net->gateway);
}

/* Internal alone is no wall: the bridge's own address would be the host, with every service that
 * listens on 0.0.0.0. So the bridge gets none. */
static json_t *wall_spec(const struct docker_owner *o, const struct docker_net *net)
{
	json_t *spec = net_spec(o, net, ""),
	       *close = json_pack("{s:b, s:{s:s, s:s}}", "Internal", 1, "Options",
				  "com.docker.network.bridge.inhibit_ipv4", "true",
				  "com.docker.network.bridge.enable_ip_masquerade", "false");

	if (!spec || json_object_update(spec, close) < 0) {
		json_decref(spec);
		spec = NULL;
	}
	json_decref(close);
	return spec;
}

static bool is_wall(const struct docker_net *net)
{
	return strcmp(net->role, DOCKER_NET_WALL) == 0;
}

static int network_begin(const struct docker_owner *o, struct docker_net *net, struct err *e)
{
	_cleanup_json_ json_t *spec = is_wall(net) ? wall_spec(o, net) : net_spec(o, net, "-outer");

	if (!spec)
		return err_set(e, -EILSEQ, "the state folder's path is not UTF-8");
	return engine_begin(
		&net->call, &o->engine, "POST", "/networks/create", spec,
		is_wall(net) ? "make the bottle's network" : "make the bundle's network", e);
}

static int network_end(struct docker_net *net, struct err *e)
{
	_cleanup_json_ json_t *answer = NULL;
	int ret = engine_end(&net->call, &answer, e);

	if (ret == -EEXIST)
		docker_advise(e, "it is no bottle's: docker network rm");
	return ret < 0 ? ret : docker_take_id(answer, net->call.what, net->id, e);
}

static bool says(const struct err *e, const char *words)
{
	struct str text = str_of(e->text);

	return str_find(text, str_of(words)) < text.n;
}

/* Somebody has taken these addresses since we looked, or another engine or a firewall was changing
 * the chains of iptables at the same moment; the engine says so in words only. */
static bool is_passing(const struct err *e)
{
	if (says(e, "iptables failed"))
		return true;
	return (e->code == -EACCES || e->code == -EINVAL || e->code == -EEXIST) &&
	       (says(e, "overlap") || says(e, "conflicts with network"));
}

/* --- addresses --- */

static uint32_t seed_of(const char *slug)
{
	uint32_t h = 2166136261u; /* FNV-1a */

	for (; *slug; slug++)
		h = (h ^ (unsigned char)*slug) * 16777619u;
	return h;
}

static int read_taken(const struct docker_owner *o, struct docker_taken *t, struct err *e)
{
	_cleanup_json_ json_t *networks = NULL;
	int ret = engine_do(&o->engine, "GET", "/networks", NULL, "list networks", &networks, e);

	return ret == 0 ? docker_taken_read(t, networks, e) : ret;
}

/* Beside what is taken, and beside the other network's. */
static int network_pick(const struct docker_owner *o, struct docker_net *net,
			struct docker_taken *t, uint32_t offset, struct err *e)
{
	int ret = net->beside ? docker_taken_add_text(t, net->beside->subnet, e) : 0;

	return ret == 0 ? docker_range_pick(net, t, seed_of(o->slug) + offset, e) : ret;
}

static int network_pick_anew(const struct docker_owner *o, struct docker_net *net, uint32_t offset,
			     struct err *e)
{
	_cleanup_free_ struct docker_taken *t = mem_zalloc(sizeof(*t));
	int ret = read_taken(o, t, e);

	return ret == 0 ? network_pick(o, net, t, offset, e) : ret;
}

/* --- making --- */

int docker_begin_networks(const struct docker_owner *o, struct docker_net *const *nets, size_t n,
			  struct err *e)
{
	_cleanup_free_ struct docker_taken *t = mem_zalloc(sizeof(*t));
	int ret = read_taken(o, t, e);

	for (size_t i = 0; ret == 0 && i < n; i++)
		ret = network_pick(o, nets[i], t, (uint32_t)i, e);
	for (size_t i = 0; ret == 0 && i < n; i++)
		ret = network_begin(o, nets[i], e);
	return ret;
}

int docker_end_network(const struct docker_owner *o, struct docker_net *net, struct err *e)
{
	int ret = network_end(net, e);

	for (uint32_t i = 1; ret < 0 && is_passing(e) && i < NETWORKS_TRIES; i++) {
		*e = ERR_INIT;
		ret = network_pick_anew(o, net, 2 * i, e);
		if (ret == 0)
			ret = network_begin(o, net, e);
		if (ret == 0)
			ret = network_end(net, e);
	}
	return ret;
}

int docker_connect_bundle(const struct docker_owner *o, const struct docker_net *net,
			  const char *container, struct err *e)
{
	_cleanup_json_ json_t *spec =
		json_pack("{s:s, s:{s:{s:s}}}", "Container", container, "EndpointConfig",
			  "IPAMConfig", "IPv4Address", net->bundle);
	char path[NETWORKS_PATH_MAX];

	(void)snprintf(path, sizeof(path), "/networks/%s/connect", net->id);
	return engine_do(&o->engine, "POST", path, spec, "connect the bundle", NULL, e);
}
