/*
 * Theory of operation: the parent opens every listener, writes the targets file and polls; each
 * connection is served by a child of its own, so that no probe can stall another. Children inherit
 * the parent's death signal; the parent ends when its standard input closes, so that a killed
 * selftest leaves nothing.
 */
#include "probe/canary.h"

#include "probe/canary_dns.h"
#include "probe/canary_git.h"
#include "probe/canary_http.h"
#include "probe/canary_mcp.h"

#include "base/clean.h"
#include "base/err.h"
#include "base/io.h"
#include "base/log.h"
#include "base/text.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <linux/vm_sockets.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#define CANARY_LISTENERS_MAX 16
#define CANARY_READ_MAX	     8192
#define CANARY_READ_MS	     300
#define CANARY_CHILDREN_MAX  256

enum canary_kind {
	CANARY_RAW, /* reads what comes and says nothing */
	CANARY_TLS,
	CANARY_PLAIN,
	CANARY_PROXY,
	CANARY_MCP,
	CANARY_DNS_TCP,
	CANARY_UDP,
	CANARY_DNS_UDP
};

struct canary_listener {
	const char *name;
	enum canary_kind kind;
	int fd;
	uint16_t port;
};

static struct {
	struct canary_listener listeners[CANARY_LISTENERS_MAX];
	size_t n;
	int log_fd;
	struct canary_tls *tls;
	uint16_t tls_port;
} canary = {.log_fd = -1};

void canary_saw(const char *listener, const void *data, unsigned long n)
{
	struct buf line;

	buf_init(&line, 256 << 10);
	if (buf_printf(&line, "%s\t", listener) < 0 ||
	    text_visible(&line, str_slice(data, n), 200 << 10) < 0 ||
	    buf_append(&line, "\n", 1) < 0 ||
	    io_write_all(canary.log_fd, line.p + line.from, buf_len(&line)) < 0)
		die("an event was lost"); /* a witness that forgets is worse than none */
	buf_free(&line);
}

static void canary_serve_raw(const char *name, int fd)
{
	char data[CANARY_READ_MAX];
	size_t n = 0;

	/* A connection is an event even when nothing is said on it. */
	while (n < sizeof(data) && io_wait(fd, POLLIN, CANARY_READ_MS) == 1) {
		ssize_t got = read(fd, data + n, sizeof(data) - n);

		if (got <= 0)
			break;
		n += (size_t)got;
	}
	canary_saw(name, data, n);
	(void)send(fd, "canary\n", 7, MSG_NOSIGNAL);
}

static void canary_serve(struct canary_listener *l, int fd)
{
	switch (l->kind) {
	case CANARY_RAW:
		canary_serve_raw(l->name, fd);
		break;
	case CANARY_TLS:
		canary_http_serve_tls(canary.tls, l->name, fd);
		break;
	case CANARY_PLAIN:
		canary_http_serve(l->name, fd);
		break;
	case CANARY_PROXY:
		canary_proxy_serve(l->name, fd, canary.tls_port);
		break;
	case CANARY_MCP:
		canary_mcp_serve(l->name, fd);
		break;
	case CANARY_DNS_TCP:
		canary_dns_serve_tcp(l->name, fd);
		break;
	case CANARY_UDP:
	case CANARY_DNS_UDP:
		break;
	}
}

static void canary_on_datagram(struct canary_listener *l)
{
	struct sockaddr_storage from;
	socklen_t from_n = sizeof(from);
	uint8_t data[CANARY_READ_MAX], answer[512];
	ssize_t n = recvfrom(l->fd, data, sizeof(data), MSG_DONTWAIT, (struct sockaddr *)&from,
			     &from_n);
	size_t answer_n;

	if (n < 0)
		return;
	if (l->kind == CANARY_UDP) {
		canary_saw(l->name, data, (unsigned long)n);
		(void)sendto(l->fd, "canary\n", 7, 0, (struct sockaddr *)&from, from_n);
		return;
	}
	answer_n = canary_dns_answer(l->name, data, (size_t)n, answer, sizeof(answer));
	if (answer_n > 0)
		(void)sendto(l->fd, answer, answer_n, 0, (struct sockaddr *)&from, from_n);
}

static void canary_on_connection(struct canary_listener *l, int *n_children)
{
	_cleanup_close_ int fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC);
	pid_t pid;

	if (fd < 0)
		return;
	if (*n_children >= CANARY_CHILDREN_MAX) {
		/* Never lose an event: with no room for a child, the connection itself is noted. */
		canary_saw(l->name, "(connection, not served)", 24);
		return;
	}
	pid = fork();
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
		canary_serve(l, fd);
		_exit(0);
	}
	if (pid > 0)
		(*n_children)++;
}

static int canary_bind(const struct sockaddr *sa, socklen_t n, int type, struct err *e)
{
	_cleanup_close_ int fd = socket(sa->sa_family, type | SOCK_CLOEXEC, 0);
	int one = 1;

	if (fd < 0)
		return err_errno(e, "socket");
	if (sa->sa_family == AF_INET6)
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
	if (bind(fd, sa, n) < 0)
		return err_errno(e, "bind");
	if (type == SOCK_STREAM && listen(fd, 128) < 0)
		return err_errno(e, "listen");
	return take_fd(&fd);
}

static void canary_add(const char *name, enum canary_kind kind, int fd, uint16_t port)
{
	canary.listeners[canary.n++] = (struct canary_listener){name, kind, fd, port};
}

static uint16_t canary_port_of(int fd)
{
	struct sockaddr_in sa = {0};
	socklen_t n = sizeof(sa);

	return getsockname(fd, (struct sockaddr *)&sa, &n) == 0 ? ntohs(sa.sin_port) : 0;
}

/* A stream listener on an address with a free port; with udp_kind also a datagram one there. */
static int canary_listen(const char *name, uint32_t address, enum canary_kind kind, int udp_kind,
			 struct err *e)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(address)};

	for (int tries = 0; tries < 20; tries++) {
		int fd = canary_bind((struct sockaddr *)&sa, sizeof(sa), SOCK_STREAM, e), udp = -1;

		if (fd < 0)
			return fd;
		sa.sin_port = htons(canary_port_of(fd));
		if (udp_kind >= 0)
			udp = canary_bind((struct sockaddr *)&sa, sizeof(sa), SOCK_DGRAM, e);
		if (udp_kind >= 0 && udp < 0) {
			/* Somebody has the same number for datagrams: another one. */
			(void)close(fd);
			sa.sin_port = 0;
			continue;
		}
		canary_add(name, kind, fd, ntohs(sa.sin_port));
		if (udp >= 0)
			canary_add(name, (enum canary_kind)udp_kind, udp, ntohs(sa.sin_port));
		return ntohs(sa.sin_port);
	}
	return err_set(e, -EADDRINUSE, "no free port for %s", name);
}

static int canary_listen_unix(const char *name, const char *path, bool is_abstract, struct err *e)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	size_t n = strlen(path);
	int fd;

	if (n + 2 > sizeof(sa.sun_path))
		return err_set(e, -ENAMETOOLONG, "unix socket path");
	memcpy(sa.sun_path + (is_abstract ? 1 : 0), path, n);
	fd = canary_bind((struct sockaddr *)&sa,
			 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + 1), SOCK_STREAM,
			 e);
	if (fd < 0)
		return fd;
	canary_add(name, CANARY_RAW, fd, 0);
	return 0;
}

/* A machine's way to its host, where this host has such sockets. 0: it has none. */
static unsigned canary_listen_vsock(void)
{
	struct sockaddr_vm sa = {
		.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = VMADDR_PORT_ANY};
	socklen_t n = sizeof(sa);
	struct err e = ERR_INIT;
	int fd = canary_bind((struct sockaddr *)&sa, sizeof(sa), SOCK_STREAM, &e);

	if (fd < 0)
		return 0;
	canary_add("vsock", CANARY_RAW, fd, 0);
	return getsockname(fd, (struct sockaddr *)&sa, &n) == 0 ? sa.svm_port : 0;
}

static bool canary_outer_address(char *out, size_t size)
{
	struct ifaddrs *all = NULL;
	bool found = false;

	if (getifaddrs(&all) < 0)
		return false;
	for (struct ifaddrs *i = all; i && !found; i = i->ifa_next) {
		if (!i->ifa_addr || i->ifa_addr->sa_family != AF_INET ||
		    (i->ifa_flags & IFF_LOOPBACK) || !(i->ifa_flags & IFF_UP))
			continue;
		found = inet_ntop(AF_INET, &((struct sockaddr_in *)(void *)i->ifa_addr)->sin_addr,
				  out, (socklen_t)size) != NULL;
	}
	freeifaddrs(all);
	return found;
}

/* A host without IPv6 has one listener less to reach. */
static void canary_listen_six(const char *name, uint16_t port, enum canary_kind kind)
{
	struct sockaddr_in6 any = {
		.sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_ANY_INIT};
	struct err e = ERR_INIT;
	int fd = canary_bind((struct sockaddr *)&any, sizeof(any), SOCK_STREAM, &e);

	if (fd >= 0)
		canary_add(name, kind, fd, 0);
}

static int canary_open_all(const char *folder, struct buf *targets, struct err *e)
{
	const struct {
		const char *key, *name;
		uint32_t address;
		enum canary_kind kind;
		int udp_kind;
	} wanted[] = {
		{"tls", "tls", INADDR_LOOPBACK, CANARY_TLS, -1},
		{"plain", "plain", INADDR_LOOPBACK, CANARY_PLAIN, -1},
		{"any", "any", INADDR_ANY, CANARY_RAW, CANARY_UDP},
		{"loop", "loop", INADDR_LOOPBACK, CANARY_RAW, CANARY_UDP},
		{"dns", "dns", INADDR_LOOPBACK, CANARY_DNS_TCP, CANARY_DNS_UDP},
		{"proxy", "proxy", INADDR_LOOPBACK, CANARY_PROXY, -1},
		{"mcp", "mcp", INADDR_ANY, CANARY_MCP, -1},
	};
	char name[64], path[108], host[INET_ADDRSTRLEN];
	unsigned vsock;

	for (size_t i = 0; i < ARRAY_LEN(wanted); i++) {
		int port = canary_listen(wanted[i].name, wanted[i].address, wanted[i].kind,
					 wanted[i].udp_kind, e);

		if (port < 0)
			return port;
		if (strcmp(wanted[i].key, "tls") == 0)
			canary.tls_port = (uint16_t)port;
		if (wanted[i].address == INADDR_ANY)
			canary_listen_six(wanted[i].name, (uint16_t)port, wanted[i].kind);
		if (buf_printf(targets, "%s=%d\n", wanted[i].key, port) < 0)
			return err_set(e, -ENOBUFS, "targets");
	}
	(void)snprintf(name, sizeof(name), "claude-bottle-canary-%d", (int)getpid());
	if (snprintf(path, sizeof(path), "%s/canary.sock", folder) >= (int)sizeof(path))
		return err_set(e, -ENAMETOOLONG, "\"%s\" is too long", folder);
	if (canary_listen_unix("abstract", name, true, e) < 0 ||
	    canary_listen_unix("path", path, false, e) < 0)
		return e->code;
	vsock = canary_listen_vsock();
	if (vsock && buf_printf(targets, "vsock=%u\n", vsock) < 0)
		return err_set(e, -ENOBUFS, "targets");
	if (buf_printf(targets, "abstract=%s\npath=%s\n", name, path) < 0 ||
	    (canary_outer_address(host, sizeof(host)) &&
	     buf_printf(targets, "host=%s\n", host) < 0))
		return err_set(e, -ENOBUFS, "targets");
	return 0;
}

static void canary_run(void)
{
	struct pollfd polls[CANARY_LISTENERS_MAX + 1];
	int n_children = 0;

	for (size_t i = 0; i < canary.n; i++)
		polls[i] = (struct pollfd){.fd = canary.listeners[i].fd, .events = POLLIN};
	polls[canary.n] = (struct pollfd){.fd = STDIN_FILENO, .events = POLLIN};
	for (;;) {
		char byte;

		while (n_children > 0 && waitpid(-1, NULL, WNOHANG) > 0)
			n_children--;
		if (poll(polls, canary.n + 1, 500) < 0 && errno != EINTR)
			return;
		if (polls[canary.n].revents && read(STDIN_FILENO, &byte, 1) <= 0)
			return;
		for (size_t i = 0; i < canary.n; i++) {
			struct canary_listener *l = &canary.listeners[i];

			if (!polls[i].revents)
				continue;
			if (l->kind == CANARY_UDP || l->kind == CANARY_DNS_UDP)
				canary_on_datagram(l);
			else
				canary_on_connection(l, &n_children);
		}
	}
}

int canary_main(int argc, char **argv)
{
	_cleanup_close_ int dir = -1;
	_cleanup_(buf_free) struct buf targets;
	struct err e = ERR_INIT;

	log_set_role("canary");
	if (argc != 1)
		die("canary FOLDER: the witness of `claude-bottle selftest`");
	dir = open(argv[0], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		die("%s: %s", argv[0], strerror(errno));
	canary.log_fd = openat(dir, "seen.log", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (canary.log_fd < 0)
		die("seen.log: %s", strerror(errno));
	(void)signal(SIGPIPE, SIG_IGN);
	if (!canary_mcp_open(argv[0]))
		die("shown: %s", strerror(errno));
	buf_init(&targets, 8192);
	canary.tls = canary_tls_new(dir, &e);
	/* Before anybody listens: the children that make the repositories keep nothing open. */
	if (canary_git_open(argv[0]) && buf_printf(&targets, "git=1\n") < 0)
		die("targets");
	if (!canary.tls || canary_open_all(argv[0], &targets, &e) < 0 ||
	    io_write_file_atomic(dir, "targets", buf_str(&targets), 0644, &e) < 0)
		die("%s", e.text);
	canary_run();
	return 0;
}
