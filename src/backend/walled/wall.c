/*
 * Theory of operation. wall_make() forks a helper. As root the helper first becomes a user that
 * nobody else is (so a process that breaks out owns nothing and may signal nobody); then it makes
 * the namespaces, maps its one id, furnishes the network, opens the sockets, verifies all of it
 * from inside and passes its descriptors back. Then it is gone: the namespaces live on in the
 * descriptors. The helper holds the namespaces' capabilities and runs nothing but this file.
 */
#include "backend/walled/wall.h"

#include "backend/agent_id.h"
#include "base/clean.h"
#include "base/io.h"
#include "base/ports.h"
#include "net/rtnl.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define WALL_TIMEOUT_MS 10000
#define WALL_BACKLOG	512

/* The listening sockets, in the order in which the helper passes them, behind its namespaces. */
static const struct wall_socket {
	uint16_t port;
	int type;
	unsigned service; /* 0: in every wall */
	size_t slot;
} sockets[] = {
	{SERVICE_PORT_PIPELOCK, SOCK_STREAM, 0, offsetof(struct wall, pipelock_fd)},
	{SERVICE_PORT_DNS, SOCK_DGRAM, 0, offsetof(struct wall, dns_udp_fd)},
	{SERVICE_PORT_DNS, SOCK_STREAM, 0, offsetof(struct wall, dns_tcp_fd)},
	{SERVICE_PORT_GITGATE, SOCK_STREAM, WALL_GIT, offsetof(struct wall, gitgate_fd)},
	{SERVICE_PORT_SUPERVISE, SOCK_STREAM, WALL_SUPERVISE, offsetof(struct wall, supervise_fd)},
	{SERVICE_PORT_REGISTRY, SOCK_STREAM, WALL_REGISTRY, offsetof(struct wall, registry_fd)},
};

enum { WALL_FD_USERNS, WALL_FD_NETNS, WALL_FD_SOCKETS };
#define WALL_FDS_MAX (WALL_FD_SOCKETS + ARRAY_LEN(sockets))

static int *wall_slot(struct wall *w, size_t i)
{
	return (int *)(void *)((char *)w + sockets[i].slot);
}

static bool wall_has(const struct wall *w, size_t i)
{
	return (sockets[i].service & w->services) == sockets[i].service;
}

static int wall_become(const struct wall *w, struct err *e)
{
	if (geteuid() == 0 && setgroups(0, NULL) < 0)
		return err_errno(e, "drop supplementary groups");
	if (geteuid() == 0 &&
	    (setresgid(w->gid, w->gid, w->gid) < 0 || setresuid(w->uid, w->uid, w->uid) < 0))
		return err_errno(e, "become uid %u", (unsigned)w->uid);
	/* A change of ids makes /proc/self root's, whose uid_map has to be written next. */
	if (prctl(PR_SET_DUMPABLE, 1) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		return err_errno(e, "prctl");
	return 0;
}

static int wall_write_proc(const char *path, const char *text, struct err *e)
{
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);
	int ret;

	if (fd < 0)
		return err_errno(e, "open %s", path);
	ret = io_write_all(fd, text, strlen(text));
	if (ret < 0) {
		errno = -ret;
		return err_errno(e, "write %s", path);
	}
	return 0;
}

static int wall_unshare(const struct wall *w, struct err *e)
{
	char line[64];
	int ret;

	if (unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
		return err_errno(e,
				 "make a user and a network namespace (see: claude-bottle doctor)");
	ret = wall_write_proc("/proc/self/setgroups", "deny", e);
	if (ret < 0)
		return ret;
	(void)snprintf(line, sizeof(line), "%u %u 1", WALL_INSIDE_ID, (unsigned)w->uid);
	ret = wall_write_proc("/proc/self/uid_map", line, e);
	if (ret < 0)
		return ret;
	(void)snprintf(line, sizeof(line), "%u %u 1", WALL_INSIDE_ID, (unsigned)w->gid);
	return wall_write_proc("/proc/self/gid_map", line, e);
}

/* ICMP echo sockets are for nobody in a new namespace (net.ipv4.ping_group_range "1 0", which
 * cannot be written where those ids are not mapped). The check is by group, so it is ours that
 * counts. */
static int wall_verify_no_ping(struct err *e)
{
	_cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, IPPROTO_ICMP);

	return fd < 0 ? 0 : err_set(e, -EPERM, "new network namespaces let everybody ping");
}

static int wall_open_socket(struct in_addr address, uint16_t port, int type, struct err *e)
{
	struct sockaddr_in sa = {
		.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = address};
	_cleanup_close_ int fd = socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return err_errno(e, "socket");
	if (bind(fd, (const struct sockaddr *)&sa, sizeof(sa)) < 0)
		return err_errno(e, "bind port %u of the pinned address", port);
	if (type == SOCK_STREAM && listen(fd, WALL_BACKLOG) < 0)
		return err_errno(e, "listen on port %u of the pinned address", port);
	return take_fd(&fd);
}

/* There is no route: the kernel must say so at once, whatever the family. */
static int wall_verify_unreachable(struct err *e)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(443)};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(443)};
	const struct sockaddr *const to[] = {(void *)&v4, (void *)&v6};
	static const socklen_t size[] = {sizeof(v4), sizeof(v6)};
	static const int types[] = {SOCK_STREAM, SOCK_DGRAM};

	(void)inet_pton(AF_INET, "1.1.1.1", &v4.sin_addr);
	(void)inet_pton(AF_INET6, "2606:4700:4700::1111", &v6.sin6_addr);
	for (size_t i = 0; i < 4; i++) {
		size_t family = i % 2;
		_cleanup_close_ int fd = socket(to[family]->sa_family,
						types[i / 2] | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

		if (fd < 0 && errno == EAFNOSUPPORT)
			continue;
		if (fd < 0)
			return err_errno(e, "socket");
		if (connect(fd, to[family], size[family]) == 0 ||
		    (errno != ENETUNREACH && errno != EADDRNOTAVAIL && errno != EACCES))
			return err_set(
				e, -ENOTUNIQ,
				"the wall leaks: connect() to %s is not refused as unreachable",
				family == 0 ? "1.1.1.1" : "2606:4700:4700::1111");
	}
	return 0;
}

/* What the helper passes: n of them, from the front. */
struct wall_fds {
	int fds[WALL_FDS_MAX];
	size_t n;
};

static int wall_furnish(const struct wall *w, struct wall_fds *out, struct err *e)
{
	struct in_addr pinned;
	int ret;

	if (inet_pton(AF_INET, w->pinned, &pinned) != 1)
		return err_set(e, -EINVAL, "the pinned address \"%s\" is not IPv4", w->pinned);
	ret = rtnl_loopback_up(e);
	if (ret == 0)
		ret = rtnl_loopback_add(pinned, e);
	if (ret == 0)
		ret = wall_verify_no_ping(e);
	for (size_t i = 0; ret >= 0 && i < ARRAY_LEN(sockets); i++) {
		if (!wall_has(w, i))
			continue;
		ret = wall_open_socket(pinned, sockets[i].port, sockets[i].type, e);
		out->fds[out->n++] = ret;
	}
	if (ret >= 0)
		ret = rtnl_verify_sealed(e);
	return ret < 0 ? ret : wall_verify_unreachable(e);
}

static int wall_inside(const struct wall *w, struct wall_fds *out, struct err *e)
{
	int ret = wall_become(w, e);

	out->n = WALL_FD_SOCKETS;
	if (ret == 0)
		ret = wall_unshare(w, e);
	if (ret == 0)
		ret = wall_furnish(w, out, e);
	if (ret < 0)
		return ret;
	out->fds[WALL_FD_USERNS] = open("/proc/self/ns/user", O_RDONLY | O_CLOEXEC);
	out->fds[WALL_FD_NETNS] = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (out->fds[WALL_FD_USERNS] < 0 || out->fds[WALL_FD_NETNS] < 0)
		return err_errno(e, "open the new namespaces");
	return 0;
}

static _Noreturn void wall_helper(const struct wall *w, int sock)
{
	struct wall_fds made = {.n = 0};
	struct err e = ERR_INIT;
	int ret = wall_inside(w, &made, &e);

	e.code = ret;
	(void)io_send_fds(sock, &e, sizeof(e), made.fds, ret == 0 ? made.n : 0, 0);
	_exit(0);
}

/* The helper's answer: its struct err, and on success the descriptors. */
static int wall_receive(struct wall *w, int sock, struct err *e)
{
	int fds[WALL_FDS_MAX];
	size_t n = WALL_FDS_MAX, want = WALL_FD_SOCKETS, at = WALL_FD_SOCKETS;
	struct err answer;
	ssize_t got;

	for (size_t i = 0; i < ARRAY_LEN(sockets); i++)
		want += wall_has(w, i);
	if (io_wait(sock, POLLIN, WALL_TIMEOUT_MS) <= 0)
		return err_set(e, -ETIMEDOUT, "the wall's helper does not answer");
	got = io_recv_fds(sock, &answer, sizeof(answer), fds, &n, 0);
	if (got != (ssize_t)sizeof(answer))
		return err_set(e, -EPROTO, "the wall's helper died");
	if (answer.code < 0)
		return err_set(e, answer.code, "%.*s", (int)sizeof(answer.text) - 1, answer.text);
	if (n != want)
		return err_set(e, -EPROTO, "the wall's helper sent %zu descriptors", n);
	w->userns_fd = fds[WALL_FD_USERNS];
	w->netns_fd = fds[WALL_FD_NETNS];
	for (size_t i = 0; i < ARRAY_LEN(sockets); i++) {
		if (wall_has(w, i))
			*wall_slot(w, i) = fds[at++];
	}
	return 0;
}

int wall_make(struct wall *w, const char *pinned, const char *home, unsigned services,
	      struct err *e)
{
	_cleanup_close_ int ours = -1, theirs = -1;
	int pair[2], ret;
	pid_t pid;

	*w = WALL_INIT;
	w->services = services;
	if (!str_to_cstr(w->pinned, sizeof(w->pinned), str_of(pinned)))
		return err_set(e, -EINVAL, "pinned address too long");
	ret = agent_id_pick(&w->uid, &w->gid, home, e);
	if (ret < 0)
		return ret;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_errno(e, "socketpair");
	ours = pair[0];
	theirs = pair[1];
	pid = fork();
	if (pid < 0)
		return err_errno(e, "fork");
	if (pid == 0)
		wall_helper(w, theirs);
	close_fd(&theirs);
	ret = wall_receive(w, ours, e);
	if (ret < 0)
		(void)kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	return ret;
}

void wall_close_sockets(struct wall *w)
{
	for (size_t i = 0; i < ARRAY_LEN(sockets); i++) {
		if (sockets[i].service != WALL_REGISTRY)
			close_fd(wall_slot(w, i));
	}
}

void wall_free(struct wall *w)
{
	close_fd(&w->userns_fd);
	close_fd(&w->netns_fd);
	wall_close_sockets(w);
	close_fd(&w->registry_fd);
}

int wall_enter(const struct wall *w, struct err *e)
{
	if (geteuid() == 0 && setgroups(0, NULL) < 0)
		return err_errno(e, "drop supplementary groups");
	if (setns(w->userns_fd, CLONE_NEWUSER) < 0)
		return err_errno(e, "enter the wall's user namespace");
	if (setns(w->netns_fd, CLONE_NEWNET) < 0)
		return err_errno(e, "enter the wall's network namespace");
	if (setresgid(WALL_INSIDE_ID, WALL_INSIDE_ID, WALL_INSIDE_ID) < 0 ||
	    setresuid(WALL_INSIDE_ID, WALL_INSIDE_ID, WALL_INSIDE_ID) < 0)
		return err_errno(e, "become the wall's user");
	return 0;
}
