/*
 * A7, N10, N11, N16: the bundle's own address, other bottles, and the network that is shared with
 * nobody. The sibling is a second bottle that runs at the same time; what its listener and its
 * records saw decides, since on some backends both bundles have the same pinned address, each in a
 * network of its own: whoever dials it there meets his own.
 */
#include "probe/probe.h"
#include "probe/space.h"

#include "base/clean.h"
#include "base/mem.h"
#include "base/ports.h"
#include "base/timeutil.h"
#include "net/sock.h"

#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

#define SCAN_AT_ONCE PROBE_TARGETS_MAX
#define SCAN_S	     10
#define SCAN_LOW     1024
#define SCAN_MS	     1000 /* for all of them; they are done when each was refused */

static const uint16_t services[] = {SERVICE_PORT_PIPELOCK, SERVICE_PORT_DNS, SERVICE_PORT_GITGATE,
				    SERVICE_PORT_SUPERVISE};

/* That this bottle's bundle serves. */
static bool is_service(unsigned port)
{
	if (port == SERVICE_PORT_SUPERVISE)
		return getenv(SERVICE_SUPERVISE_ENV) != NULL;
	for (size_t i = 0; i < ARRAY_LEN(services); i++) {
		if (services[i] == port)
			return true;
	}
	return false;
}

/* --- the bundle's ports --- */

/* Met once more. A socket that dials an address of its own host's may meet itself, when its port is
 * the one that it dials; ours do not (sock_open()), those of a machine's user networking may. It
 * has another port the next time, and a listener is still there. */
static bool is_open(struct probe_target *t)
{
	close_fd(&t->fd);
	t->fd = probe_connect(t->address, t->port, SCAN_MS);
	return t->fd >= 0;
}

/* The low ones first, as they are; the others in an order of this run's own, so that runs which do
 * not get through all of them see different ones. */
static unsigned port_at(unsigned i, unsigned seed)
{
	/* The factor has no divisor in common with their number. */
	return i < SCAN_LOW ? i : SCAN_LOW + ((i - SCAN_LOW) * 40507u + seed) % (65536 - SCAN_LOW);
}

/* How many of some targets are open; the last of them is told in detail. */
static unsigned scan_some(struct probe_target *targets, size_t n, char *detail, size_t size)
{
	unsigned n_open = 0;

	probe_connect_all(targets, n, SCAN_MS);
	for (size_t i = 0; i < n; i++) {
		if (targets[i].fd < 0 || !is_open(&targets[i]))
			continue;
		n_open++;
		(void)snprintf(detail, size, "port %u of %.45s is open", targets[i].port,
			       targets[i].address);
	}
	probe_close_all(targets, n);
	return n_open;
}

/* Every port of the bundle's address: only the services may be open. Where each costs a packet
 * through an emulated network, as many as there is time for. */
static void scan_bundle(const struct probe_env *env, const char *id)
{
	const char *address = env->is_control ? "127.0.0.1" : env->pinned;
	char detail[160] = "no other port is open", rest[160];
	uint64_t start_ns = time_monotonic_ns(), end_ns = start_ns + SCAN_S * 1000 * TIME_NS_PER_MS;
	char order[PROBE_TOKEN_SIZE];
	unsigned n_open = 0, i = 1, seed;

	probe_token(env, id, "order", order);
	seed = (unsigned)strtoul(order + strlen(order) - 6, NULL, 16);
	while (i <= 65535 && time_monotonic_ns() < end_ns) {
		struct probe_target targets[SCAN_AT_ONCE];
		size_t n = 0;

		for (; n < SCAN_AT_ONCE && i <= 65535; i++) {
			unsigned port = port_at(i, seed);

			if (env->is_control ? port != env->any && port != env->loop
					    : is_service(port))
				continue;
			(void)snprintf(targets[n].address, sizeof(targets[n].address), "%s",
				       address);
			targets[n++].port = (uint16_t)port;
		}
		n_open += scan_some(targets, n, detail, sizeof(detail));
	}
	probe_report(id, "bundle-ports", "", n_open > 0, (time_monotonic_ns() - start_ns) / 1000,
		     detail);
	if (i > 65535)
		return;
	(void)snprintf(rest, sizeof(rest),
		       "%u ports were tried in the %d s that there are for it; K12 tries all of a "
		       "machine's from the host",
		       i - 1, SCAN_S);
	probe_skip(id, "bundle-ports-rest", rest);
}

/* --- the sibling --- */

/* An address that is ours too: who answers there says nothing about the sibling. */
static bool is_own(const struct probe_env *env, const char *address)
{
	return (env->pinned && strcmp(address, env->pinned) == 0) ||
	       probe_has_address(address, false);
}

static void sibling_try(const struct probe_env *env, const char *id, const char *label,
			const char *address, uint16_t port, const char *format)
{
	char token[PROBE_TOKEN_SIZE], detail[128];
	uint64_t start_ns = time_monotonic_ns(), us;
	_cleanup_close_ int fd = -1;
	_cleanup_free_ char *text = NULL;

	if (env->is_control) {
		address = "127.0.0.1";
		port = env->any;
	}
	fd = probe_connect(address, port, 1000);
	us = (time_monotonic_ns() - start_ns) / 1000;
	probe_plain_token(env, label, token);
	text = probe_fill(format, token);
	(void)snprintf(detail, sizeof(detail), "%s port %u: %s", address, port,
		       fd >= 0 ? "connected" : strerror(-fd));
	if (fd >= 0)
		sock_say(fd, str_of(text), 1000);
	probe_report(id, label, token, fd >= 0 && (env->is_control || !is_own(env, address)), us,
		     detail);
}

/* An answer of the sibling's own sink is one too many, and its record says so as well. */
static void sibling_try_dns(const struct probe_env *env, const char *id)
{
	const char *address = env->is_control ? "127.0.0.1" : env->sibling;
	char token[PROBE_TOKEN_SIZE];
	uint8_t answer[PROBE_DNS_MAX];
	_cleanup_free_ char *name = NULL;
	int n;

	probe_plain_token(env, "sibling-dns", token);
	name = mem_printf("%s.selftest.example", token);
	n = probe_ask_dns(address, env->is_control ? env->dns : 53, false, name, 1, answer);
	probe_report(id, "sibling-dns", token, n > 0 && (env->is_control || !is_own(env, address)),
		     0, n > 0 ? "answered" : "no answer");
}

/* A resolver that knows other bottles by name is a map of them, if no way to them. */
static void sibling_try_name(const struct probe_env *env, const char *id)
{
	_cleanup_free_ char *name =
		mem_printf("%s%s%s", env->is_control ? "inside-" : "", env->sibling_name,
			   env->is_control ? ".selftest.example" : "");
	const char *const resolvers[] = {env->is_control ? "127.0.0.1" : "127.0.0.11",
					 env->is_control ? "127.0.0.1" : env->pinned};
	char detail[96] = "nobody knows it";
	bool is_known = false;

	for (size_t i = 0; i < ARRAY_LEN(resolvers); i++) {
		uint8_t answer[PROBE_DNS_MAX] = {0};
		int n = probe_ask_dns(resolvers[i], env->is_control ? env->dns : 53, false, name, 1,
				      answer);

		if (n > 7 && (answer[6] || answer[7])) {
			is_known = true;
			(void)snprintf(detail, sizeof(detail), "%s knows its address",
				       resolvers[i]);
		}
	}
	probe_report(id, "sibling-name", "", is_known, 0, detail);
}

static void attack_sibling(const struct probe_env *env, const char *id)
{
	static const char tunnel[] = "CONNECT %T.other.selftest.example:443 HTTP/1.1\r\n"
				     "Host: %T.other.selftest.example:443\r\n\r\n";
	static const char *const requests[] = {
		/* What each service writes into its bottle's records, or would understand. */
		[0] = tunnel,
		[1] = "%T",
		[2] = "GET /%T/info/refs?service=git-receive-pack HTTP/1.1\r\nHost: git\r\n\r\n",
		[3] = "POST /mcp HTTP/1.1\r\nHost: %T\r\nContent-Length: 0\r\n\r\n",
	};
	struct str agents = str_of(env->sibling_agent ? env->sibling_agent : "127.0.0.1");
	char address[46];

	_Static_assert(ARRAY_LEN(requests) == ARRAY_LEN(services), "one request per service");
	for (size_t i = 0; i < ARRAY_LEN(services); i++) {
		_cleanup_free_ char *label = mem_printf("sibling-%u", services[i]);

		sibling_try(env, id, label, env->sibling, services[i], requests[i]);
	}
	sibling_try_dns(env, id);
	for (unsigned i = 0; probe_list_next(&agents, address, sizeof(address)); i++) {
		if (i == 0 || !env->is_control)
			sibling_try(env, id, "sibling-agent", address, env->sibling_port, "%T");
		if (i == 0 || !env->is_control)
			probe_try_udp(env, id, "sibling-agent-udp",
				      env->is_control ? "127.0.0.1" : address,
				      env->is_control ? env->any : env->sibling_port);
	}
	sibling_try_name(env, id);
}

static void run_n10(const struct probe_env *env, const char *id)
{
	scan_bundle(env, id);
	if (env->sibling && env->sibling_name)
		attack_sibling(env, id);
	else
		probe_skip(id, "sibling", "no other bottle runs");
}

static void run_a7(const struct probe_env *env, const char *id)
{
	const char *address = env->is_control ? "127.0.0.1" : env->pinned;

	probe_try_tcp(env, id, "egress-port", address, env->is_control ? env->any : 9099);
	probe_try_tcp(env, id, "egress-loopback", "127.0.0.1", env->is_control ? env->loop : 9099);
	if (env->host)
		probe_try_tcp(env, id, "egress-by-host", env->is_control ? "127.0.0.1" : env->host,
			      env->is_control ? env->any : 9099);
}

/* --- N16: whose network this is --- */

static void network_try(const char *id, const char *label, const char *own, struct str other)
{
	char detail[200];

	if (own[0] == '\0' || other.n == 0) {
		probe_skip(id, label, "this network namespace or the other one cannot be named");
		return;
	}
	(void)snprintf(detail, sizeof(detail), "%s here, " STR_FMT " there", own, STR_ARG(other));
	probe_report(id, label, "", str_eq(str_of(own), other), 0, detail);
}

static void run_n16(const struct probe_env *env, const char *id)
{
	char own[SPACE_MAX];
	struct str host;

	(void)space_name("self", "net", own);
	host = probe_namespace_of_host(env, "net");
	network_try(id, "host", own, host);
	network_try(id, "sibling", own, str_of(env->sibling_net));
}

const struct probe probes_bundle[] = {
	{"A7", run_a7},
	{"N10", run_n10},
	{"N11", run_a7},
	{"N16", run_n16},
};
const size_t n_probes_bundle = ARRAY_LEN(probes_bundle);
