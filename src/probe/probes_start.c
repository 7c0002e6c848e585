/*
 * N17: the very first instruction. When this runs nothing else of the agent has run, and nothing
 * may depend on how long it takes until some rule is in place.
 */
#include "probe/probe.h"

#include "base/clean.h"

static void run_n17(const struct probe_env *env, const char *id)
{
	const char *world = env->is_control ? "127.0.0.1" : "1.1.1.1";

	probe_try_tcp(env, id, "first-connection", world, env->any);
	probe_try_udp(env, id, "first-datagram", world, env->any);
	if (env->hosts)
		probe_try_list(env, id, "first-host", env->hosts, env->any);
	probe_try_tcp(env, id, "first-loopback", "127.0.0.1", env->loop);
	probe_try_tunnel(env, id, "first-request", "other.selftest.example:443",
			 "other.selftest.example",
			 "GET /%T HTTP/1.1\r\nHost: other.selftest.example\r\n\r\n");
}

const struct probe probes_start[] = {{"N17", run_n17}};
const size_t n_probes_start = ARRAY_LEN(probes_start);
