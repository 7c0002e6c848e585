/*
 * Theory of operation. Over the socket (SOCK_SEQPACKET) each message is a descriptor's name with
 * that one descriptor, and "end" with none is the last; then the socket is closed and nothing more
 * can be given. Whoever answers there is the keeper, since only it can make that file; a message
 * that is not understood is a keeper of another version, and init does not start on a guess.
 *
 * Listening sockets that come are served where they were made: a socket belongs to the network that
 * it was made in, whoever accepts from it and wherever that process stands. Those that init makes
 * itself exist before the container has the address (IP_FREEBIND): an address that is not there yet
 * takes no connection, so no moment exists in which something else could answer.
 */
#include "bundle/init_fds.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/ports.h"
#include "base/timeutil.h"
#include "bundle/role.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#define INIT_FDS_RETRY_MS 10
#define INIT_BACKLOG	  1024

enum init_fds_flag {
	IS_NEEDED = 1,
	IS_LISTENING = 2 /* not beside listen=, which makes them */
};

static const struct {
	const char *name;
	size_t offset;
	unsigned flags;
} names[] = {
#define FD(member) #member, offsetof(struct init_fds, member)
	{FD(config), IS_NEEDED},
	{FD(control), IS_NEEDED},
	{FD(records), IS_NEEDED},
	{FD(secrets), 0},
	{FD(rules), 0},
	{FD(reach), 0},
	{FD(door), 0},
	{FD(desk_supervise), 0},
	{FD(desk_pipelock), 0},
	{FD(desk_gitgate), 0},
	{FD(pipelock), IS_LISTENING | IS_NEEDED},
	{FD(gitgate), IS_LISTENING},
	{FD(supervise), IS_LISTENING},
	{FD(dns_udp), IS_LISTENING},
	{FD(dns_tcp), IS_LISTENING},
#undef FD
};

static int *slot(struct init_fds *f, size_t i)
{
	return (int *)(void *)((char *)f + names[i].offset);
}

void init_fds_init(struct init_fds *f)
{
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		*slot(f, i) = -1;
}

static size_t find_name(struct str name)
{
	size_t i = 0;

	while (i < ARRAY_LEN(names) && !str_eq(name, str_of(names[i].name)))
		i++;
	return i;
}

static int check_needed(struct init_fds *f, bool has_listen, struct err *e)
{
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		bool is_made = has_listen && (names[i].flags & IS_LISTENING);

		if ((names[i].flags & IS_NEEDED) && !is_made && *slot(f, i) < 0)
			return err_set(e, -ENOENT, "no descriptor named %s", names[i].name);
	}
	return 0;
}

/* --- passed over a socket --- */

static int connect_once(const struct sockaddr_un *sa, int *out, struct err *e)
{
	const struct timeval limit = {.tv_sec = INIT_FDS_CONNECT_MS / 1000};
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0)
		return err_errno(e, "socket");
	if (connect(fd, (const struct sockaddr *)sa, sizeof(*sa)) < 0)
		return err_errno(e, "connect to \"%s\"", sa->sun_path);
	*out = take_fd(&fd);
	return 0;
}

static int connect_to(const char *path, int *out, struct err *e)
{
	uint64_t deadline_ns = time_monotonic_ns() + INIT_FDS_CONNECT_MS * TIME_NS_PER_MS;
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int ret;

	if (path[0] != '/' || !str_to_cstr(sa.sun_path, sizeof(sa.sun_path), str_of(path)))
		return err_set(e, -EINVAL, "fds=%s is not an absolute path of a socket", path);
	for (;;) {
		ret = connect_once(&sa, out, e);
		if ((ret != -ENOENT && ret != -ECONNREFUSED) || time_monotonic_ns() >= deadline_ns)
			return ret;
		(void)poll(NULL, 0, INIT_FDS_RETRY_MS);
	}
}

static int take_log(int fd, struct err *e)
{
	if (dup2(fd, STDOUT_FILENO) < 0 || dup2(fd, STDERR_FILENO) < 0)
		return err_errno(e, "take the log");
	return 0;
}

/* Owns fd. */
static int take_named(struct init_fds *f, struct str name, int given, bool has_listen,
		      bool *has_log, struct err *e)
{
	_cleanup_close_ int fd = given;
	size_t i = find_name(name);

	if (str_eq(name, STR_LIT("log"))) {
		if (*has_log)
			return err_set(e, -EEXIST, "the descriptor log came twice");
		*has_log = true;
		return take_log(fd, e);
	}
	if (i == ARRAY_LEN(names))
		return err_set(e, -EPROTO, "a descriptor of an unknown name came");
	if (has_listen && (names[i].flags & IS_LISTENING))
		return err_set(e, -EINVAL, "the descriptor %s came beside listen=", names[i].name);
	if (*slot(f, i) >= 0)
		return err_set(e, -EEXIST, "the descriptor %s came twice", names[i].name);
	*slot(f, i) = take_fd(&fd);
	return 0;
}

static int receive(struct init_fds *f, int sock, bool has_listen, struct err *e)
{
	bool has_log = false;

	for (;;) {
		char text[INIT_FDS_NAME_MAX];
		size_t n_fds = 1;
		int fd = -1, ret;
		ssize_t n;

		if (io_wait(sock, POLLIN, INIT_FDS_MESSAGE_MS) != 1)
			return err_set(e, -ETIMEDOUT, "no descriptor came within %d s",
				       INIT_FDS_MESSAGE_MS / 1000);
		n = io_recv_fds(sock, text, sizeof(text), &fd, &n_fds, 0);
		if (n <= 0)
			return err_set(e, n < 0 ? (int)n : -EPIPE,
				       n < 0 ? "a message with a descriptor was cut"
					     : "the descriptors' sender went away");
		if (n_fds == 0 && str_eq(str_slice(text, (size_t)n), STR_LIT("end")))
			return 0;
		if (n_fds != 1)
			return err_set(e, -EPROTO, "a message came without its descriptor");
		ret = take_named(f, str_slice(text, (size_t)n), fd, has_listen, &has_log, e);
		if (ret < 0)
			return ret;
	}
}

/* --- the arguments --- */

/* Each known and once: what is misspelt must not count as absent. */
static int check_arguments(char *const *argv, bool has_fds, bool has_listen, struct err *e)
{
	for (size_t i = 0; argv[i]; i++) {
		struct str name;
		bool found;
		size_t known;

		(void)str_cut(str_of(argv[i]), '=', &name, &found);
		known = find_name(name);
		if (!found || (known == ARRAY_LEN(names) && !str_eq(name, STR_LIT("fds")) &&
			       !str_eq(name, STR_LIT("listen"))))
			return err_set(e, -EINVAL, "init: \"%s\" is not an argument", argv[i]);
		for (size_t k = 0; k < i; k++) {
			if (strncmp(argv[k], argv[i], name.n + 1) == 0)
				return err_set(e, -EINVAL, "init: %.*s= stands twice",
					       STR_ARG(name));
		}
		if (known == ARRAY_LEN(names))
			continue;
		if (has_fds)
			return err_set(e, -EINVAL, "init: %s= beside fds=", names[known].name);
		if (has_listen && (names[known].flags & IS_LISTENING))
			return err_set(e, -EINVAL, "init: %s= beside listen=", names[known].name);
	}
	return 0;
}

static int take_arguments(struct init_fds *f, char *const *argv, struct err *e)
{
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		int ret;

		ret = role_fd_argument(argv, names[i].name, slot(f, i), e);
		if (ret < 0 && ret != -ENOENT)
			return ret;
	}
	return 0;
}

int init_fds_take(struct init_fds *f, char *const *argv, const char **listen_text, struct err *e)
{
	const char *path = role_argument(argv, "fds");
	_cleanup_close_ int sock = -1;
	bool has_listen;
	int ret;

	*listen_text = role_argument(argv, "listen");
	has_listen = *listen_text != NULL;
	init_fds_init(f);
	ret = check_arguments(argv, path != NULL, has_listen, e);
	if (ret == 0 && path)
		ret = connect_to(path, &sock, e);
	if (ret == 0 && path)
		ret = receive(f, sock, has_listen, e);
	if (ret == 0 && !path)
		ret = take_arguments(f, argv, e);
	return ret == 0 ? check_needed(f, has_listen, e) : ret;
}

/* --- the listening sockets --- */

static int open_socket(const struct sockaddr_in *sa, int type, int *out, struct err *e)
{
	_cleanup_close_ int fd = socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	const int on = 1;

	if (fd < 0)
		return err_errno(e, "socket");
	if (setsockopt(fd, IPPROTO_IP, IP_FREEBIND, &on, sizeof(on)) < 0)
		return err_errno(e, "IP_FREEBIND");
	if (bind(fd, (const struct sockaddr *)sa, sizeof(*sa)) < 0)
		return err_errno(e, "bind port %u of the pinned address", ntohs(sa->sin_port));
	if (type == SOCK_STREAM && listen(fd, INIT_BACKLOG) < 0)
		return err_errno(e, "listen on port %u of the pinned address", ntohs(sa->sin_port));
	*out = take_fd(&fd);
	return 0;
}

static int open_stream(const struct sockaddr_in *address, uint16_t port, int *out, struct err *e)
{
	struct sockaddr_in sa = *address;

	sa.sin_port = htons(port);
	return open_socket(&sa, SOCK_STREAM, out, e);
}

int init_fds_listen(struct init_fds *f, const struct bundle_config *c, struct err *e)
{
	struct sockaddr_in dns = {.sin_family = AF_INET, .sin_port = htons(SERVICE_PORT_DNS)};
	uint32_t host;
	int ret;

	if (inet_pton(AF_INET, c->pinned, &dns.sin_addr) != 1)
		return err_set(e, -EINVAL, "listen=%.64s is not an IPv4 address", c->pinned);
	host = ntohl(dns.sin_addr.s_addr);
	/* "This network", and multicast, reserved and broadcast. */
	if (host >> 24 == 0 || host >> 29 == 7)
		return err_set(e, -EINVAL, "listen=%s is not the address of one host", c->pinned);
	ret = open_stream(&dns, SERVICE_PORT_PIPELOCK, &f->pipelock, e);
	if (ret == 0 && c->git)
		ret = open_stream(&dns, SERVICE_PORT_GITGATE, &f->gitgate, e);
	if (ret == 0 && c->is_supervised)
		ret = open_stream(&dns, SERVICE_PORT_SUPERVISE, &f->supervise, e);
	if (ret == 0)
		ret = open_socket(&dns, SOCK_DGRAM, &f->dns_udp, e);
	return ret == 0 ? open_socket(&dns, SOCK_STREAM, &f->dns_tcp, e) : ret;
}

/* The port and the roles' ways to the keeper: all of them, or none. */
static int check_supervised(const struct init_fds *f, const struct bundle_config *c, struct err *e)
{
	const struct {
		const char *name;
		int fd;
		bool is_wanted;
	} all[] = {{"supervise", f->supervise, c->is_supervised},
		   {"desk_supervise", f->desk_supervise, c->is_supervised},
		   {"desk_pipelock", f->desk_pipelock, c->is_supervised},
		   {"desk_gitgate", f->desk_gitgate, c->is_supervised && c->git}};

	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		if (all[i].is_wanted && all[i].fd < 0)
			return err_set(e, -ENOENT,
				       "no descriptor named %s, and the bottle is supervised",
				       all[i].name);
		if (!all[i].is_wanted && all[i].fd >= 0)
			return err_set(e, -EINVAL, "%s= without its part of the configuration",
				       all[i].name);
	}
	return 0;
}

int init_fds_check(const struct init_fds *f, const struct bundle_config *c, struct err *e)
{
	const struct git_policy *git = c->git;

	if (!git != (f->gitgate < 0))
		return err_set(e, -EINVAL, "%s",
			       git ? "no descriptor named gitgate, and the configuration has git"
				   : "gitgate= without git in the configuration");
	for (size_t i = 0; git && i < git->n_remotes; i++) {
		if (git->remotes[i].transport == GIT_TRANSPORT_WORKSPACE && f->door < 0)
			return err_set(e, -ENOENT,
				       "no descriptor named door, and a remote is the workspace");
	}
	return check_supervised(f, c, e);
}
