/*
 * Whose process a connection on loopback comes from: the kernel knows the owner of the socket at
 * its other end (sock_diag(7)). Other users of this host can connect to the port; they have neither
 * token nor session, but they could use up tries and places.
 */
#include "base/clean.h"
#include "face/web_int.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <sys/socket.h>

struct peer_query {
	struct nlmsghdr head;
	struct inet_diag_req_v2 request;
};

static int send_query(int fd, const struct sockaddr_in *from, const struct sockaddr_in *to)
{
	struct peer_query q = {
		.head = {.nlmsg_len = sizeof(q),
			 .nlmsg_type = SOCK_DIAG_BY_FAMILY,
			 .nlmsg_flags = NLM_F_REQUEST},
		.request = {.sdiag_family = AF_INET,
			    .sdiag_protocol = IPPROTO_TCP,
			    .idiag_states = ~0u,
			    .id = {.idiag_sport = from->sin_port,
				   .idiag_dport = to->sin_port,
				   .idiag_src = {from->sin_addr.s_addr},
				   .idiag_dst = {to->sin_addr.s_addr},
				   .idiag_cookie = {INET_DIAG_NOCOOKIE, INET_DIAG_NOCOOKIE}}}};
	struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};

	return sendto(fd, &q, sizeof(q), 0, (struct sockaddr *)&kernel, sizeof(kernel)) == sizeof(q)
		       ? 0
		       : -EIO;
}

/* The kernel answers before sendto() returns. */
static int receive_owner(int fd, uid_t *uid)
{
	union {
		struct nlmsghdr head;
		char bytes[8192];
	} answer;
	ssize_t n = recv(fd, &answer, sizeof(answer), MSG_DONTWAIT);
	struct inet_diag_msg *m = NLMSG_DATA(&answer.head);

	if (n < (ssize_t)NLMSG_LENGTH(sizeof(*m)) || answer.head.nlmsg_type != SOCK_DIAG_BY_FAMILY)
		return -ENOENT;
	/* Closed already, it is nobody's, which reads as root's. */
	if (m->idiag_inode == 0)
		return -ENOTCONN;
	*uid = m->idiag_uid;
	return 0;
}

int peer_check(int conn)
{
	struct sockaddr_in from = {0}, to = {0};
	socklen_t n_from = sizeof(from), n_to = sizeof(to);
	_cleanup_close_ int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	uid_t uid;
	int r;

	if (fd < 0 || getpeername(conn, (struct sockaddr *)&from, &n_from) < 0 ||
	    getsockname(conn, (struct sockaddr *)&to, &n_to) < 0)
		return -errno;
	r = send_query(fd, &from, &to);
	if (r == 0)
		r = receive_owner(fd, &uid);
	if (r < 0)
		return r;
	return uid == geteuid() || uid == 0 ? 0 : -EPERM;
}
