/*
 * The two networks. Both are asked for at once; the engine makes them one after the other, the wall
 * first, so that the agent's container can begin while the outer one is still being made.
 */
#include "backend/docker/docker_int.h"

#include "base/clean.h"
#include "base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define NETWORKS_TRIES	  8
#define NETWORKS_PATH_MAX 256

static json_t *wall_spec(const struct bottle *b)
{
	_cleanup_free_ char *name = docker_name(b->plan->slug, "");

	/* Internal alone is no wall: the bridge's own address would be the host, with every service
	 * that listens on 0.0.0.0. So the bridge gets none. */
	return json_pack("{s:s, s:s, s:b, s:b, s:b, s:o, s:{s:s, s:s}, s:{s:s, s:[{s:s, s:s}]}}",
			 "Name", name, "Driver", "bridge", "CheckDuplicate", 1, "Internal", 1,
			 "EnableIPv6", 0, "Labels", docker_labels(b, "wall"), "Options",
			 "com.docker.network.bridge.inhibit_ipv4", "true",
			 "com.docker.network.bridge.enable_ip_masquerade", "false", "IPAM",
			 "Driver", "default", "Config", "Subnet", b->wall.subnet, "Gateway",
			 b->wall.gateway);
}

static json_t *outer_spec(const struct bottle *b)
{
	_cleanup_free_ char *name = docker_name(b->plan->slug, "-outer");

	return json_pack("{s:s, s:s, s:b, s:b, s:o, s:{s:s, s:[{s:s, s:s}]}}", "Name", name,
			 "Driver", "bridge", "CheckDuplicate", 1, "EnableIPv6", 0, "Labels",
			 docker_labels(b, "outer"), "IPAM", "Driver", "default", "Config", "Subnet",
			 b->outer.subnet, "Gateway", b->outer.gateway);
}

static int network_begin(struct bottle *b, struct docker_net *net, struct err *e)
{
	bool is_wall = net == &b->wall;
	_cleanup_json_ json_t *spec = is_wall ? wall_spec(b) : outer_spec(b);

	if (!spec)
		return err_set(e, -EILSEQ, "the state folder's path is not UTF-8");
	return engine_begin(&net->call, &b->engine, "POST", "/networks/create", spec,
			    is_wall ? "make the bottle's network" : "make the bundle's network", e);
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

static int read_taken(const struct bottle *b, struct docker_taken *t, struct err *e)
{
	_cleanup_json_ json_t *networks = NULL;
	int ret = engine_do(&b->engine, "GET", "/networks", NULL, "list networks", &networks, e);

	return ret == 0 ? docker_taken_read(t, networks, e) : ret;
}

/* Beside what is taken, and beside the other network's. */
static int network_pick(struct bottle *b, struct docker_net *net, struct docker_taken *t,
			uint32_t offset, struct err *e)
{
	const struct docker_net *other = net == &b->wall ? &b->outer : &b->wall;
	int ret = docker_taken_add_text(t, other->subnet, e);

	return ret == 0 ? docker_range_pick(net, t, seed_of(b->plan->slug) + offset, e) : ret;
}

static int network_pick_anew(struct bottle *b, struct docker_net *net, uint32_t offset,
			     struct err *e)
{
	_cleanup_free_ struct docker_taken *t = mem_zalloc(sizeof(*t));
	int ret = read_taken(b, t, e);

	return ret == 0 ? network_pick(b, net, t, offset, e) : ret;
}

/* --- making --- */

int docker_begin_networks(struct bottle *b, struct err *e)
{
	_cleanup_free_ struct docker_taken *t = mem_zalloc(sizeof(*t));
	int ret = read_taken(b, t, e);

	if (ret == 0)
		ret = network_pick(b, &b->wall, t, 0, e);
	if (ret == 0)
		ret = network_pick(b, &b->outer, t, 1, e);
	if (ret == 0)
		ret = network_begin(b, &b->wall, e);
	return ret == 0 ? network_begin(b, &b->outer, e) : ret;
}

int docker_end_network(struct bottle *b, struct docker_net *net, struct err *e)
{
	int ret = network_end(net, e);

	for (uint32_t i = 1; ret < 0 && is_passing(e) && i < NETWORKS_TRIES; i++) {
		*e = ERR_INIT;
		ret = network_pick_anew(b, net, 2 * i, e);
		if (ret == 0)
			ret = network_begin(b, net, e);
		if (ret == 0)
			ret = network_end(net, e);
	}
	return ret;
}

int docker_connect_outer(struct bottle *b, struct err *e)
{
	_cleanup_json_ json_t *spec =
		json_pack("{s:s, s:{s:{s:s}}}", "Container", b->bundle_id, "EndpointConfig",
			  "IPAMConfig", "IPv4Address", b->outer.bundle);
	char path[NETWORKS_PATH_MAX];

	(void)snprintf(path, sizeof(path), "/networks/%s/connect", b->outer.id);
	return engine_do(&b->engine, "POST", path, spec, "connect the bundle", NULL, e);
}
