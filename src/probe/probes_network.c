/* A1, A2, A6 and N: ways out that need no permission of the proxy. */
#include "probe/probe.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/timeutil.h"
#include "net/sock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <fcntl.h>
#include <sched.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

/* Outside, an attack on the world is aimed at the canary: the suite never sends to anybody else. */
static const char *aim(const struct probe_env *env, const char *address)
{
	return env->is_control ? (strchr(address, ':') ? "::1" : "127.0.0.1") : address;
}

static bool host_has_ipv6(void)
{
	int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in6 sa = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	bool has = fd >= 0 && bind(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0;

	if (fd >= 0)
		close(fd);
	return has;
}

static void run_n01(const struct probe_env *env, const char *id)
{
	probe_try_tcp(env, id, "public-v4", aim(env, "1.1.1.1"), env->any);
	probe_try_tcp(env, id, "public-v4-other", aim(env, "8.8.8.8"), env->any);
	probe_try_tcp(env, id, "metadata", aim(env, "169.254.169.254"), env->any);
	probe_try_tcp(env, id, "mapped-v6", env->is_control ? "::ffff:127.0.0.1" : "::ffff:1.1.1.1",
		      env->any);
	if (env->is_control && !host_has_ipv6()) {
		probe_skip(id, "public-v6", "this host has no IPv6");
		return;
	}
	probe_try_tcp(env, id, "public-v6", aim(env, "2606:4700:4700::1111"), env->any);
}

/* A client that was told about the proxy and ignores it. */
static void run_n02(const struct probe_env *env, const char *id)
{
	(void)unsetenv("HTTPS_PROXY");
	(void)unsetenv("HTTP_PROXY");
	(void)setenv("NO_PROXY", "*", 1);
	probe_try_tcp(env, id, "no-proxy-https", env->is_control ? "127.0.0.1" : "1.1.1.1",
		      env->is_control ? env->any : 443);
	if (env->host)
		probe_try_tcp(env, id, "no-proxy-host", env->host, env->any);
	probe_try_tcp(env, id, "no-proxy-loopback", "127.0.0.1", env->tls);
}

static void run_n03(const struct probe_env *env, const char *id)
{
	probe_try_udp(env, id, "any-port", aim(env, "1.1.1.1"), env->any);
	probe_try_udp(env, id, "quic", aim(env, "1.1.1.1"), env->is_control ? env->any : 443);
	probe_try_udp(env, id, "ntp", aim(env, "1.1.1.1"), env->is_control ? env->any : 123);
	probe_try_udp(env, id, "mdns", env->is_control ? "127.0.0.1" : "224.0.0.251",
		      env->is_control ? env->any : 5353);
	probe_try_udp(env, id, "broadcast", env->is_control ? "127.0.0.1" : "255.255.255.255",
		      env->any);
}

/* An unprivileged ICMP socket, then a raw one; an answer or a sent packet is a way out. */
static void run_n04(const struct probe_env *env, const char *id)
{
	static const struct {
		const char *label;
		int type;
	} kinds[] = {{"ping-socket", SOCK_DGRAM}, {"raw-socket", SOCK_RAW}};

	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		struct {
			struct icmphdr head;
			char payload[PROBE_TOKEN_SIZE];
		} packet = {.head = {.type = ICMP_ECHO}};
		struct sockaddr_in sa = {.sin_family = AF_INET};
		_cleanup_close_ int fd =
			socket(AF_INET, kinds[i].type | SOCK_CLOEXEC, IPPROTO_ICMP);
		const unsigned char *p = (const unsigned char *)&packet;
		unsigned sum = 0;
		char token[PROBE_TOKEN_SIZE], answer[256];
		bool is_through = false;
		int error = fd < 0 ? errno : 0;

		probe_token(env, id, kinds[i].label, token);
		if (fd < 0 && env->is_control) {
			probe_skip(id, kinds[i].label,
				   "this host gives no ICMP socket to this user");
			continue;
		}
		memcpy(packet.payload, token, sizeof(packet.payload));
		for (size_t at = 0; at < sizeof(packet); at += 2)
			sum += (unsigned)p[at] | (unsigned)p[at + 1] << 8;
		sum = (sum & 0xffff) + (sum >> 16);
		packet.head.checksum = (uint16_t) ~(sum + (sum >> 16));
		(void)inet_pton(AF_INET, aim(env, "1.1.1.1"), &sa.sin_addr);
		if (fd >= 0 &&
		    sendto(fd, &packet, sizeof(packet), 0, (struct sockaddr *)&sa, sizeof(sa)) < 0)
			error = errno;
		if (!error && io_wait(fd, POLLIN, 300) == 1)
			is_through = recv(fd, answer, sizeof(answer), 0) > 0;
		probe_report(id, kinds[i].label, "", is_through, 0,
			     error	  ? strerror(error)
			     : is_through ? "answered"
					  : "no answer");
	}
}

static void run_n05(const struct probe_env *env, const char *id)
{
	static const struct {
		const char *label, *address;
		bool is_tcp;
		unsigned type;
	} tries[] = {
		{"engine-resolver", "127.0.0.11", false, 1},
		{"bundle-udp", NULL, false, 1},
		{"bundle-tcp", NULL, true, 1},
		{"bundle-txt", NULL, false, 16},
		{"bundle-null", NULL, false, 10},
		{"bundle-aaaa", NULL, false, 28},
		{"outside-udp", "1.1.1.1", false, 1},
		{"outside-tcp", "8.8.8.8", true, 1},
		{"loopback-udp", "127.0.0.1", false, 1},
		{"loopback-tcp", "127.0.0.1", true, 1},
	};
	uint16_t port = env->is_control ? env->dns : 53;

	for (size_t i = 0; i < ARRAY_LEN(tries); i++) {
		const char *address = tries[i].address ? tries[i].address : env->pinned;

		probe_try_dns(env, id, tries[i].label, NULL,
			      env->is_control ? "127.0.0.1" : address, port, tries[i].is_tcp,
			      tries[i].type);
	}
	probe_try_dns(env, id, "authority-itself", NULL, "127.0.0.1", env->dns, false, 1);
	if (env->host)
		probe_try_dns(env, id, "authority-by-host", NULL,
			      env->is_control ? "127.0.0.1" : env->host, env->dns, false, 16);
	probe_try_tcp(env, id, "dns-over-tls", aim(env, "1.1.1.1"),
		      env->is_control ? env->any : 853);
}

static void run_n07(const struct probe_env *env, const char *id)
{
	static const struct {
		const char *label, *address;
		uint16_t port;
	} places[] = {
		{"docker0", "172.17.0.1", 0},	   {"docker-engine", "172.17.0.1", 2375},
		{"vm-gateway", "10.0.2.2", 0},	   {"desktop-engine", "192.168.65.7", 2375},
		{"wall-gateway", "10.209.0.1", 0}, {"ssh-of-gateway", "172.17.0.1", 22},
		{"link-local", "169.254.1.1", 0},
	};

	for (size_t i = 0; i < ARRAY_LEN(places); i++) {
		bool is_own_port = places[i].port != 0 && !env->is_control;

		probe_try_tcp(env, id, places[i].label, aim(env, places[i].address),
			      is_own_port ? places[i].port : env->any);
	}
	if (env->host)
		probe_try_tcp(env, id, "host-outer", env->host, env->any);
	else
		probe_skip(id, "host-outer", "this host has no address but loopback");
	/* All of its interfaces: a bridge that was made for this bottle has an address too. */
	if (env->hosts)
		probe_try_list(env, id, "host-all", env->hosts, env->any);
	else
		probe_skip(id, "host-all", "this host has no address but loopback");
}

static void unix_try(const struct probe_env *env, const char *id, const char *label,
		     const char *name, bool is_abstract)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char token[PROBE_TOKEN_SIZE];
	size_t n = strlen(name);
	bool is_through;

	probe_token(env, id, label, token);
	if (n + 2 > sizeof(sa.sun_path)) {
		probe_skip(id, label, "the socket's path is too long");
		return;
	}
	memcpy(sa.sun_path + (is_abstract ? 1 : 0), name, n);
	is_through = fd >= 0 &&
		     connect(fd, (struct sockaddr *)&sa,
			     (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + 1)) == 0;
	if (is_through)
		sock_say(fd, str_of(token), 1000);
	probe_report(id, label, token, is_through, 0, is_through ? "connected" : strerror(errno));
}

static void run_n13(const struct probe_env *env, const char *id)
{
	static const char *const variables[] = {"SSH_AUTH_SOCK",   "DBUS_SESSION_BUS_ADDRESS",
						"DISPLAY",	   "WAYLAND_DISPLAY",
						"XDG_RUNTIME_DIR", "DOCKER_HOST"};
	static const char *const paths[] = {
		"/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock",
		"/run/dbus/system_bus_socket", "/run/podman/podman.sock"};
	char found[128] = "none of the host's is there";
	unsigned n = 0;

	if (env->is_control)
		(void)setenv("SSH_AUTH_SOCK", env->path, 1);
	for (size_t i = 0; i < ARRAY_LEN(variables); i++) {
		if (getenv(variables[i])) {
			(void)snprintf(found, sizeof(found), "%s is set", variables[i]);
			n++;
		}
	}
	for (size_t i = 0; !env->is_control && i < ARRAY_LEN(paths); i++) {
		if (access(paths[i], F_OK) == 0) {
			(void)snprintf(found, sizeof(found), "%s is there", paths[i]);
			n++;
		}
	}
	probe_report(id, "environment", "", n > 0, 0, found);
	unix_try(env, id, "abstract", env->abstract, true);
	unix_try(env, id, "path", env->path, false);
}

/* --- N06, N14: taking the network apart --- */

/* Runs fn in a child that, for the control, is root of a user namespace of its own. */
static int in_own_namespace(bool is_control, int (*fn)(void))
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		if (is_control && !probe_become_root(CLONE_NEWNET))
			_exit(77);
		_exit(fn());
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return 1; /* killed by a filter: stopped */
	return WEXITSTATUS(status);
}

static void namespace_try(const struct probe_env *env, const char *id, const char *label,
			  int (*fn)(void))
{
	int status = in_own_namespace(env->is_control, fn);

	if (status == 77)
		probe_skip(id, label, "this host gives no user namespace for the control");
	else
		probe_report(id, label, "", status == 0, 0, status == 0 ? "it worked" : "refused");
}

static int try_packet_socket(void)
{
	return socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL)) >= 0 ? 0 : 1;
}

static int try_raw_socket(void)
{
	return socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW) >= 0 ? 0 : 1;
}

/* A second address on lo would let the agent pose as somebody else. */
static int try_add_address(void)
{
	struct ifreq request = {0};
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x0ad10003)};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	memcpy(request.ifr_name, "lo:9", 5);
	memcpy(&request.ifr_addr, &sa, sizeof(sa));
	return fd >= 0 && ioctl(fd, 0x8916 /* SIOCSIFADDR */, &request) == 0 ? 0 : 1;
}

static int try_new_namespaces(void)
{
	return unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0 ? 0 : 1;
}

static int try_join_init(void)
{
	int fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);

	return fd >= 0 && setns(fd, CLONE_NEWNET) == 0 ? 0 : 1;
}

static void run_n06(const struct probe_env *env, const char *id)
{
	namespace_try(env, id, "packet-socket", try_packet_socket);
	namespace_try(env, id, "raw-socket", try_raw_socket);
}

static void run_n14(const struct probe_env *env, const char *id)
{
	namespace_try(env, id, "add-address", try_add_address);
	namespace_try(env, id, "new-namespaces", try_new_namespaces);
	namespace_try(env, id, "setns", try_join_init);
}

/* --- the core's network attacks --- */

static void run_a1(const struct probe_env *env, const char *id)
{
	probe_try_tunnel(env, id, "connect", "other.selftest.example:443", "other.selftest.example",
			 "GET /%T HTTP/1.1\r\nHost: other.selftest.example\r\n\r\n");
	probe_try_tunnel(env, id, "connect-subdomain", "%T.other.selftest.example:443",
			 "other.selftest.example",
			 "GET /%T HTTP/1.1\r\nHost: other.selftest.example\r\n\r\n");
	probe_try_proxy(env, id, "absolute-form",
			"GET http://other.selftest.example/%T HTTP/1.1\r\nHost: "
			"other.selftest.example\r\n\r\n");
}

static void run_a2(const struct probe_env *env, const char *id)
{
	probe_try_tunnel(env, id, "connect-literal", "93.184.215.14:443", "ok.selftest.example",
			 "GET /%T HTTP/1.1\r\nHost: ok.selftest.example\r\n\r\n");
	probe_try_tunnel(env, id, "connect-literal-v6", "[2606:2800:21f:cb07::1]:443",
			 "ok.selftest.example",
			 "GET /%T HTTP/1.1\r\nHost: ok.selftest.example\r\n\r\n");
	probe_try_proxy(
		env, id, "spoofed-host",
		"GET http://93.184.215.14/%T HTTP/1.1\r\nHost: ok.selftest.example\r\n\r\n");
	probe_try_proxy(env, id, "origin-form-literal",
			"GET /%T HTTP/1.1\r\nHost: 93.184.215.14\r\n\r\n");
}

static void run_a6(const struct probe_env *env, const char *id)
{
	char text[256];

	probe_try_tcp(env, id, "host-loopback", "127.0.0.1", env->loop);
	probe_try_tcp(env, id, "host-loopback-any", "127.0.0.1", env->any);
	if (env->host)
		probe_try_tcp(env, id, "lan", env->host, env->any);
	else
		probe_skip(id, "lan", "this host has no address but loopback");
	if (env->hosts)
		probe_try_list(env, id, "every-interface", env->hosts, env->any);
	probe_try_tcp(env, id, "bridge-gateway", aim(env, "172.17.0.1"), env->any);
	/* The same through the proxy, which runs where these addresses mean something. */
	(void)snprintf(text, sizeof(text),
		       "GET http://127.0.0.1:%u/%%T HTTP/1.1\r\nHost: 127.0.0.1:%u\r\n\r\n",
		       env->plain, env->plain);
	probe_try_proxy(env, id, "proxy-to-loopback", text);
	(void)snprintf(text, sizeof(text),
		       "GET http://localhost:%u/%%T HTTP/1.1\r\nHost: localhost:%u\r\n\r\n",
		       env->plain, env->plain);
	probe_try_proxy(env, id, "proxy-to-localhost", text);
}

const struct probe probes_network[] = {
	{"A1", run_a1},	  {"A2", run_a2},   {"A6", run_a6},   {"N01", run_n01},
	{"N02", run_n02}, {"N03", run_n03}, {"N04", run_n04}, {"N05", run_n05},
	{"N06", run_n06}, {"N07", run_n07}, {"N13", run_n13}, {"N14", run_n14},
};
const size_t n_probes_network = ARRAY_LEN(probes_network);
