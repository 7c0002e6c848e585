/*
 * Theory of operation: each request brings the socket on which it is answered, so nothing has to be
 * matched, and an asker that died costs its dial only. The asker is trusted with nothing: a request
 * that names no ssh remote, or brings another kind of descriptor, gets no answer but the end of its
 * socket, and past GIT_DIALS_MAX the answer is that too many are under way.
 *
 * A connection that was given away can still be ended: a copy of it is kept here, together with the
 * answer's socket, whose other end the asker holds while it uses the connection. When that end is
 * closed the copy is, too, so that the connection never outlives who uses it.
 */
#include "egress/git_dial.h"

#include "bundle/git_stream.h"
#include "egress/deny.h"
#include "egress/dialer.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>

#define GIT_DIAL_TURN 16 /* requests in one turn of the loop */

struct dial {
	struct dialer dialer;
	struct git_dial *of;
	const struct git_remote *remote; /* NULL: free */
	int answer_fd;
	int given_fd; /* a copy of what was given away; -1: still being made */
	struct loop_watch asker;
};

struct git_dial {
	struct loop *loop;
	struct git_dial_config config;
	struct loop_watch channel;
	bool is_paused;
	struct dial dials[GIT_DIALS_MAX];
};

static void dial_record(const struct git_dial *g, const struct git_remote *remote,
			const char *reason, const char *detail)
{
	struct record r;

	record_init(&r, "egress", deny_find(reason)->verdict, reason);
	(void)snprintf(r.scanner, sizeof(r.scanner), "egress");
	(void)snprintf(r.rule, sizeof(r.rule), "git-ssh");
	text_visible_cstr(r.host, sizeof(r.host), str_of(remote->host));
	r.port = remote->port;
	text_visible_cstr(r.detail, sizeof(r.detail), str_of(detail));
	/* Nothing is allowed by this, so a record that cannot be written changes no decision. */
	if (record_send(g->config.record_fd, &r) < 0)
		log_error("a refusal could not be recorded: %s", r.reason);
}

/* fd -1: none. */
static bool dial_say(int answer_fd, int fd, const char *reason, const char *detail)
{
	struct git_dial_reply reply = {.status = fd < 0};
	ssize_t n;

	if (fd < 0)
		(void)snprintf(reply.text, sizeof(reply.text), "%s%s%s", reason,
			       *detail ? ": " : "", detail);
	n = io_send_fds(answer_fd, &reply, sizeof(reply), &fd, fd >= 0, MSG_DONTWAIT);
	if (n != (ssize_t)sizeof(reply))
		log_warn("a connection for git was not taken");
	return n == (ssize_t)sizeof(reply);
}

/* Owns answer_fd. */
static void dial_refuse(struct git_dial *g, const struct git_remote *remote, int answer_fd,
			const char *reason, const char *detail)
{
	dial_record(g, remote, reason, detail);
	(void)dial_say(answer_fd, -1, reason, detail);
	close_fd(&answer_fd);
}

static void dial_end(struct dial *d)
{
	dialer_cancel(&d->dialer);
	loop_del(d->of->loop, &d->asker);
	close_fd(&d->answer_fd);
	close_fd(&d->given_fd);
	d->remote = NULL;
}

/* The asker says nothing more: this is its end. */
static void dial_on_asker(struct loop_watch *w, uint32_t events)
{
	(void)events;
	dial_end((struct dial *)((char *)w - offsetof(struct dial, asker)));
}

static void dial_on_done(struct dialer *dialer, int fd, const char *reason, const char *detail)
{
	struct dial *d = (struct dial *)((char *)dialer - offsetof(struct dial, dialer));
	struct err e = ERR_INIT;

	if (fd < 0) {
		dial_refuse(d->of, d->remote, take_fd(&d->answer_fd), reason, detail);
		dial_end(d);
		return;
	}
	d->given_fd = fd;
	if (!dial_say(d->answer_fd, fd, reason, detail) ||
	    loop_add(d->of->loop, &d->asker, d->answer_fd, EPOLLIN | EPOLLRDHUP, &e) < 0)
		dial_end(d);
}

/* Owns answer_fd. */
static void dial_start(struct git_dial *g, const struct git_remote *remote, int answer_fd)
{
	if (g->is_paused) {
		dial_refuse(g, remote, answer_fd, "network-paused", "");
		return;
	}
	for (size_t i = 0; i < GIT_DIALS_MAX; i++) {
		struct dial *d = &g->dials[i];

		if (d->remote)
			continue;
		if (!dialer_start(&d->dialer, g->loop, g->config.resolver, str_of(remote->host),
				  remote->port, dial_on_done))
			break;
		d->remote = remote;
		d->answer_fd = answer_fd;
		return;
	}
	dial_refuse(g, remote, answer_fd, "egress-busy",
		    "too many connections for git are being made");
}

static const struct git_remote *dial_find(const struct git_dial *g,
					  const struct git_stream_request *q)
{
	const struct git_remote *r;

	if (q->remote >= g->config.git->n_remotes || q->service != 0 || q->zero != 0)
		return NULL;
	r = &g->config.git->remotes[q->remote];
	return r->transport == GIT_TRANSPORT_SSH ? r : NULL;
}

static bool is_unix_socket(int fd)
{
	struct sockaddr_storage name;
	socklen_t n = sizeof(name);

	return getsockname(fd, (struct sockaddr *)&name, &n) == 0 && name.ss_family == AF_UNIX;
}

static void dial_on_request(struct loop_watch *w, uint32_t events)
{
	struct git_dial *g = (struct git_dial *)((char *)w - offsetof(struct git_dial, channel));

	(void)events;
	for (int i = 0; i < GIT_DIAL_TURN; i++) {
		struct git_stream_request q;
		const struct git_remote *remote = NULL;
		size_t n_fds = 1;
		int fd = -1;
		ssize_t n = io_recv_fds(w->fd, &q, sizeof(q), &fd, &n_fds, MSG_DONTWAIT);

		/* init is gone, and will be on all channels. */
		if (n == 0) {
			loop_del(g->loop, w);
			return;
		}
		if (n == -EPROTO || n == -EMSGSIZE)
			continue;
		if (n < 0)
			return;
		if (n == (ssize_t)sizeof(q) && n_fds == 1 && is_unix_socket(fd))
			remote = dial_find(g, &q);
		if (remote) {
			dial_start(g, remote, fd);
			continue;
		}
		log_warn("gitssh asked for a connection that the policy does not have");
		if (n_fds == 1)
			close_fd(&fd);
	}
}

int git_dial_new(struct git_dial **out, struct loop *l, const struct git_dial_config *config,
		 struct err *e)
{
	struct git_dial *g = mem_zalloc(sizeof(*g));
	int ret;

	*out = NULL;
	*g = (struct git_dial){
		.loop = l, .config = *config, .channel = {.fd = -1, .fn = dial_on_request}};
	for (size_t i = 0; i < GIT_DIALS_MAX; i++)
		g->dials[i] = (struct dial){.of = g,
					    .answer_fd = -1,
					    .given_fd = -1,
					    .asker = {.fd = -1, .fn = dial_on_asker}};
	ret = loop_add(l, &g->channel, config->channel_fd, EPOLLIN, e);
	if (ret < 0)
		free(g);
	else
		*out = g;
	return ret;
}

void git_dial_pause(struct git_dial *g, bool is_paused)
{
	g->is_paused = is_paused;
	for (size_t i = 0; is_paused && i < GIT_DIALS_MAX; i++) {
		struct dial *d = &g->dials[i];

		if (!d->remote)
			continue;
		if (d->given_fd >= 0)
			(void)shutdown(d->given_fd, SHUT_RDWR);
		else
			dial_refuse(g, d->remote, take_fd(&d->answer_fd), "network-paused", "");
		dial_end(d);
	}
}

void git_dial_free(struct git_dial *g)
{
	if (!g)
		return;
	loop_del(g->loop, &g->channel);
	for (size_t i = 0; i < GIT_DIALS_MAX; i++)
		dial_end(&g->dials[i]);
	free(g);
}
