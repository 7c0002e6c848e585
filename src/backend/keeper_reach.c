/*
 * The host's network for a bundle that has one of its own: the keeper opens sockets to what the
 * operator named (bundle/reach.h), and tells egress which addresses are the host's.
 *
 * Theory of operation. Each request is answered at once, since connect() does not wait, so nothing
 * is remembered between two of them. egress is trusted with little: it was told what to ask for, so
 * a request that it would not make is the work of somebody who has taken it over, and ends the
 * channel. So does an egress that does not take its answers: each one holds an open socket. Faster
 * than REACH_PER_SECOND nothing is read; what comes meanwhile waits in the kernel, and then the
 * sender does.
 */
#include "backend/keeper_int.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/log.h"
#include "base/timeutil.h"
#include "bundle/reach.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>

#define REACH_BURST	   256
#define REACH_PER_SECOND   1000
#define REACH_PAUSE_MS	   50
#define REACH_TURN	   32 /* requests in one turn of the loop, which serves clients too */
#define REACH_ANSWER_BYTES 1024
#define REACH_DNS_PORT	   53

#define REACH_OF(m, member)                                                                        \
	((struct keeper_reach *)(void *)((char *)(m)-offsetof(struct keeper_reach, member)))

/* --- what a request stands for --- */

static in_port_t *reach_port(struct sockaddr_storage *a)
{
	return &((struct sockaddr_in *)(void *)a)->sin_port; /* the same place in v6 */
}

/* A route of the agent's, or an upstream of git-gate's. */
static bool reach_has_route(const struct policy *p, const struct git_policy *git, const char *host,
			    uint16_t port)
{
	for (size_t i = 0; git && i < git->n_remotes; i++) {
		const struct git_remote *r = &git->remotes[i];

		if (r->transport != GIT_TRANSPORT_WORKSPACE && r->port == port &&
		    strcmp(r->host, host) == 0)
			return true;
	}
	return policy_decide_authority(p, str_of(host), port).reason == POLICY_OK;
}

/* -EBADMSG for what no egress asks, whatever grants its policy has. -EACCES for a port that may
 * have been granted a moment ago, or no longer: egress and we do not learn of it at once. */
static int reach_find(const struct keeper_reach *reach, const struct reach_request *q,
		      struct sockaddr_storage *to)
{
	const struct policy *p = reach->policy;

	if (q->zero != 0 || q->port == 0)
		return -EBADMSG;
	if (q->list == REACH_DNS && q->number < p->n_dns &&
	    (q->kind == REACH_STREAM || q->kind == REACH_DATAGRAM)) {
		*to = p->dns[q->number];
		if (*reach_port(to) == 0)
			*reach_port(to) = htons(REACH_DNS_PORT);
	} else if (q->list == REACH_RESOLVE && q->number < p->n_resolve &&
		   q->kind == REACH_STREAM) {
		const struct policy_resolve *r = &p->resolve[q->number];

		*to = r->address;
		if (*reach_port(to) == 0 && !reach_has_route(p, reach->git, r->host, q->port))
			return -EACCES;
		if (*reach_port(to) == 0)
			*reach_port(to) = htons(q->port);
	} else {
		return -EBADMSG;
	}
	return *reach_port(to) == htons(q->port) ? 0 : -EBADMSG;
}

/* The socket, or -errno. */
static int reach_dial(const struct sockaddr_storage *to, enum reach_kind kind)
{
	int type = (kind == REACH_STREAM ? SOCK_STREAM : SOCK_DGRAM) | SOCK_NONBLOCK | SOCK_CLOEXEC;
	socklen_t n = to->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6)
						: sizeof(struct sockaddr_in);
	_cleanup_close_ int fd = socket(to->ss_family, type, 0);

	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)to, n) < 0 && errno != EINPROGRESS)
		return -errno;
	return take_fd(&fd);
}

/* --- the channel --- */

static void reach_end(struct keeper_reach *r, const char *why)
{
	if (why)
		log_warn("egress %s: it gets no more of the host's network", why);
	keeper_reach_close(r);
}

static void reach_answer(struct keeper_reach *r, const struct reach_request *q)
{
	struct reach_reply reply = {.id = q->id, .life = q->life};
	struct sockaddr_storage to;
	_cleanup_close_ int fd = -1;
	ssize_t put;

	fd = reach_find(r, q, &to);
	if (fd == -EBADMSG) {
		reach_end(r, "asked for what the policy does not name");
		return;
	}
	if (fd == 0)
		fd = reach_dial(&to, (enum reach_kind)q->kind);
	reply.status = fd < 0 ? (uint32_t)-fd : 0;
	put = io_send_fds(r->fd, &reply, sizeof(reply), &fd, fd >= 0, MSG_DONTWAIT);
	/* Too many of this user's descriptors are on their way somewhere. */
	if (put == -ETOOMANYREFS) {
		reply.status = ETOOMANYREFS;
		put = io_send_fds(r->fd, &reply, sizeof(reply), NULL, 0, MSG_DONTWAIT);
	}
	if (put == -EAGAIN)
		reach_end(r, "does not take what it asked for");
	else if (put < 0)
		reach_end(r, NULL);
}

static void reach_on_request(struct loop_watch *w, uint32_t events)
{
	struct keeper_reach *r = REACH_OF(w, watch);

	(void)events;
	for (int i = 0; i < REACH_TURN && r->fd >= 0; i++) {
		struct reach_request q;
		ssize_t got;

		if (!allowance_has(&r->may_read, time_monotonic_ns())) {
			loop_del(r->loop, w);
			loop_timer_set(r->loop, &r->timer, REACH_PAUSE_MS);
			return;
		}
		got = io_recv_fds(r->fd, &q, sizeof(q), NULL, NULL, MSG_DONTWAIT);
		if (got == -EAGAIN)
			return;
		r->may_read.left--;
		if (got == (ssize_t)sizeof(q))
			reach_answer(r, &q);
		else
			reach_end(r, got == 0 ? NULL : "sent what is no request");
	}
}

static void reach_on_timer(struct loop_timer *t)
{
	struct keeper_reach *r = REACH_OF(t, timer);

	if (loop_add(r->loop, &r->watch, r->fd, EPOLLIN, NULL) < 0)
		reach_end(r, "cannot be listened to");
}

int keeper_reach_open(struct keeper_reach *r, struct loop *l, const struct policy *p,
		      const struct git_policy *git, int *theirs, struct err *e)
{
	/* Room for the answers to one egress and to the one before it; the kernel doubles it for
	 * its own bookkeeping. */
	const int room = 2 * REACH_PENDING_MAX * REACH_ANSWER_BYTES;
	int pair[2], ret;

	*theirs = -1;
	*r = (struct keeper_reach){
		.loop = l,
		.policy = p,
		.git = git,
		.watch = {.fd = -1, .fn = reach_on_request},
		.timer = {.fn = reach_on_timer},
		.fd = -1,
		.may_read = {REACH_BURST, REACH_PER_SECOND, REACH_BURST, time_monotonic_ns()}};
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_errno(e, "socketpair");
	r->fd = pair[0];
	*theirs = pair[1];
	if (setsockopt(r->fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room)) < 0)
		ret = err_errno(e, "SO_SNDBUF");
	else
		ret = loop_add(l, &r->watch, r->fd, EPOLLIN, e);
	if (ret < 0) {
		keeper_reach_close(r);
		close_fd(theirs);
	}
	return ret;
}

void keeper_reach_close(struct keeper_reach *r)
{
	if (r->fd < 0)
		return;
	loop_del(r->loop, &r->watch);
	loop_timer_del(r->loop, &r->timer);
	close_fd(&r->fd);
}

/* --- the host's addresses --- */

/* -EEXIST for what need not be told: every veth of a busy host has a link-local address, and those
 * are inside by their range. */
static int inside_format(const struct sockaddr *sa, char text[INET6_ADDRSTRLEN])
{
	const void *bytes;

	if (sa && sa->sa_family == AF_INET) {
		bytes = &((const struct sockaddr_in *)(const void *)sa)->sin_addr;
	} else if (sa && sa->sa_family == AF_INET6) {
		bytes = &((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr;
		if (IN6_IS_ADDR_LINKLOCAL((const struct in6_addr *)bytes))
			return -EEXIST;
	} else {
		return -EEXIST;
	}
	return inet_ntop(sa->sa_family, bytes, text, INET6_ADDRSTRLEN) ? 0 : -errno;
}

static int inside_put(struct buf *out, size_t *n, const struct sockaddr *sa, struct err *e)
{
	char text[INET6_ADDRSTRLEN];
	int ret = inside_format(sa, text);

	if (ret == -EEXIST)
		return 0;
	if (ret == 0 && *n == BUNDLE_INSIDE_MAX)
		return err_set(e, -E2BIG,
			       "this host has over %d addresses: egress could not be told which "
			       "ones are inside; use the native backend, or remove some",
			       BUNDLE_INSIDE_MAX);
	if (ret == 0)
		ret = buf_printf(out, "%s\"%s\"", *n ? "," : "", text);
	(*n)++;
	return ret < 0 ? err_set(e, ret, "list the host's addresses: %s", strerror(-ret)) : 0;
}

/* As egress does for its own interfaces, the other end of a point-to-point link counts as well. */
static int inside_put_all(struct buf *out, const struct ifaddrs *list, struct err *e)
{
	size_t n = 0;
	int ret = 0;

	for (const struct ifaddrs *i = list; i && ret == 0; i = i->ifa_next) {
		ret = inside_put(out, &n, i->ifa_addr, e);
		if (ret == 0 && (i->ifa_flags & IFF_POINTOPOINT))
			ret = inside_put(out, &n, i->ifa_dstaddr, e);
	}
	if (ret == 0 && n == 0)
		return err_set(e, -ENOENT,
			       "no address of this host is known, so egress could not be told "
			       "which ones are inside; is its network up?");
	return ret;
}

int keeper_inside_put(struct buf *out, struct err *e)
{
	struct ifaddrs *list = NULL;
	int ret;

	if (getifaddrs(&list) < 0)
		return err_errno(e, "list the host's addresses");
	ret = inside_put_all(out, list, e);
	freeifaddrs(list);
	return ret;
}
