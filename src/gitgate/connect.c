#include "gitgate/connect.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/signals.h"
#include "base/text.h"
#include "base/timeutil.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define WHY_WAIT_MS 500	 /* a server may close the stream before it says why */
#define END_MS	    2000 /* for a connector to end when its streams have */
#define CHANNEL_MS  UPSTREAM_CONNECT_MS

/* --- raw streams --- */

static const char *channel_name(const struct git_remote *r)
{
	return r->transport == GIT_TRANSPORT_SSH ? "gitssh" : "the keeper's door";
}

static int raw_send(int channel, const struct git_stream_request *q, const int fds[2],
		    struct err *e)
{
	for (;;) {
		ssize_t n =
			io_send_fds(channel, q, sizeof(*q), fds, 2, MSG_DONTWAIT | MSG_NOSIGNAL);
		int ret;

		if (n == (ssize_t)sizeof(*q))
			return 0;
		if (n != -EAGAIN && n != -EINTR)
			return err_set(e, n < 0 ? (int)n : -EIO, "it cannot be asked");
		ret = io_wait(channel, POLLOUT, CHANNEL_MS);
		if (ret == 0)
			return err_set(e, -ETIMEDOUT, "it does not take requests");
		if (ret < 0 && ret != -EINTR)
			return err_set(e, ret, "it cannot be asked");
	}
}

int connect_raw_open(const struct upstream_place *p, const struct git_remote *r,
		     enum git_service service, int *stream_fd, int *why_fd, struct err *e)
{
	int channel = r->transport == GIT_TRANSPORT_SSH ? p->ssh_fd : p->door_fd, pair[2], why[2];
	struct git_stream_request q = {
		.remote = (uint16_t)(r - p->policy->remotes),
		.service = (uint16_t)service,
	};
	int ret;

	*stream_fd = *why_fd = -1;
	if (channel < 0)
		return err_set(e, -ENOTCONN, "%s is not there", channel_name(r));
	if (pipe2(why, O_CLOEXEC | O_NONBLOCK) < 0)
		return err_errno(e, "pipe");
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
		ret = err_errno(e, "socketpair");
		(void)close(why[0]);
		(void)close(why[1]);
		return ret;
	}
	/* The server's ends are its own to set; ours must not block. */
	ret = io_set_nonblock(pair[0], true);
	if (ret == 0)
		ret = raw_send(channel, &q, (int[]){pair[1], why[1]}, e);
	(void)close(pair[1]);
	(void)close(why[1]);
	if (ret < 0) {
		(void)close(pair[0]);
		(void)close(why[0]);
		return err_prefix(e, "%s", channel_name(r));
	}
	*stream_fd = pair[0];
	*why_fd = why[0];
	return 0;
}

void connect_raw_why(int why_fd, char *out, size_t size)
{
	char text[GIT_STREAM_WHY_MAX];
	size_t n = 0;

	out[0] = 0;
	if (why_fd < 0)
		return;
	while (n < sizeof(text) && io_wait(why_fd, POLLIN, WHY_WAIT_MS) == 1) {
		ssize_t got = read(why_fd, text + n, sizeof(text) - n);

		if (got <= 0)
			break;
		n += (size_t)got;
	}
	while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == '\r'))
		n--;
	/* gitssh has made it visible, if it is still itself. */
	text_visible_once_cstr(out, size, str_slice(text, n));
}

void connect_clock_refs(struct wire_clock *c)
{
	uint64_t until = time_monotonic_ns() + CONNECT_REFS_MS * TIME_NS_PER_MS;

	c->silence_ms = CONNECT_FIRST_MS;
	if (until < c->deadline_ns)
		c->deadline_ns = until;
}

int connect_advert_finish(struct connector *k, struct advert *a, struct err *e)
{
	int ret = advert_settle(a, e);

	if (ret == 0 && k->remote->transport == GIT_TRANSPORT_WORKSPACE)
		ret = advert_overlay(a, k->place->slug, e);
	if (ret == 0)
		advert_head(a, k->report.head);
	return ret;
}

/* --- the connector's process --- */

static int compare_ints(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

/* Whatever else the worker has open is none of the connector's: another's stream would not end. */
static void close_all_but(int *keep, size_t n)
{
	unsigned from = 3;

	qsort(keep, n, sizeof(*keep), compare_ints);
	for (size_t i = 0; i < n; i++) {
		if (keep[i] < 3)
			continue;
		if ((unsigned)keep[i] > from)
			(void)close_range(from, (unsigned)keep[i] - 1, 0);
		from = (unsigned)keep[i] + 1;
	}
	(void)close_range(from, ~0u, 0);
}

_Noreturn static void connector_main(struct connector *k, enum git_service service)
{
	int keep[] = {k->git_fd, k->upstream_fd, k->why_fd, k->clock.life_fd,
		      k->remote->transport == GIT_TRANSPORT_HTTPS ? k->place->egress_fd : -1};
	struct err e = ERR_INIT;
	int ret;

	signals_reset();
	(void)signal(SIGPIPE, SIG_IGN);
	close_all_but(keep, ARRAY_LEN(keep));
	if (k->remote->transport != GIT_TRANSPORT_HTTPS)
		ret = connect_raw_fetch(k, &e);
	else if (service == GIT_UPLOAD_PACK)
		ret = connect_https_fetch(k, &e);
	else
		ret = connect_https_push(k, &e);
	if (ret < 0) {
		k->report.code = ret;
		/* Whatever of it is an upstream's was made visible where it was read. */
		(void)snprintf(k->report.text, sizeof(k->report.text), "%s", e.text);
	}
	_exit(write(k->clock.life_fd, &k->report, sizeof(k->report)) ==
				      (ssize_t)sizeof(k->report) &&
			      ret == 0
		      ? 0
		      : 1);
}

static int connector_start(struct connection *out, struct connector *k, enum git_service service,
			   struct err *e)
{
	int pair[2], report[2], ret = 0;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return err_errno(e, "socketpair");
	if (pipe2(report, O_CLOEXEC) < 0) {
		ret = err_errno(e, "pipe");
		(void)close(pair[0]);
		(void)close(pair[1]);
		return ret;
	}
	k->git_fd = pair[1];
	k->clock.life_fd = report[1];
	out->pid = fork();
	if (out->pid == 0)
		connector_main(k, service);
	if (out->pid < 0)
		ret = err_errno(e, "fork");
	(void)close(pair[1]);
	(void)close(report[1]);
	out->fd = pair[0];
	out->report_fd = report[0];
	if (ret == 0) {
		out->pid_fd = (int)syscall(SYS_pidfd_open, out->pid, 0);
		if (out->pid_fd < 0)
			ret = err_errno(e, "pidfd_open");
	}
	return ret;
}

int connect_open(struct connection *out, const struct upstream_place *p, const struct git_remote *r,
		 enum git_service service, uint64_t deadline_ns, struct err *e)
{
	struct connector k = {
		.place = p,
		.remote = r,
		.clock = {deadline_ns, CONNECT_SILENCE_MS, -1},
		.git_fd = -1,
		.upstream_fd = -1,
		.why_fd = -1,
	};
	struct connect_report unused;
	int ret;

	*out = CONNECTION_NONE;
	if (r->transport != GIT_TRANSPORT_HTTPS) {
		ret = connect_raw_open(p, r, service, &k.upstream_fd, &k.why_fd, e);
		if (ret < 0)
			return ret;
		if (service == GIT_RECEIVE_PACK) {
			out->fd = k.upstream_fd;
			out->why_fd = k.why_fd;
			return 0;
		}
	}
	ret = connector_start(out, &k, service, e);
	close_fd(&k.upstream_fd);
	close_fd(&k.why_fd);
	if (ret < 0)
		connect_close(out, &unused);
	return ret;
}

/* The connector ends by itself when its streams do, or because nobody would read its report. */
static void connector_reap(struct connection *c)
{
	if (c->pid_fd < 0 || io_wait(c->pid_fd, POLLIN, END_MS) != 1)
		(void)kill(c->pid, SIGKILL);
	while (waitpid(c->pid, NULL, 0) < 0 && errno == EINTR)
		;
}

/* The report comes from a process that an upstream has talked to. */
static void report_tame(struct connect_report *r)
{
	r->text[sizeof(r->text) - 1] = r->head[sizeof(r->head) - 1] = 0;
	for (char *p = r->text; *p; p++) {
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '?';
	}
	if (r->code > 0)
		r->code = -EIO;
}

void connect_close(struct connection *c, struct connect_report *out)
{
	*out = (struct connect_report){0};
	close_fd(&c->fd);
	if (c->why_fd >= 0) {
		connect_raw_why(c->why_fd, out->text, sizeof(out->text));
		out->code = out->text[0] ? -EREMOTEIO : 0;
	}
	if (c->report_fd >= 0 && io_wait(c->report_fd, POLLIN, CONNECT_LINGER_MS + END_MS) == 1 &&
	    read(c->report_fd, out, sizeof(*out)) != (ssize_t)sizeof(*out))
		*out = (struct connect_report){.code = -EIO,
					       .text = "its connection ended without a word"};
	report_tame(out);
	close_fd(&c->report_fd);
	if (c->pid > 0)
		connector_reap(c);
	close_fd(&c->why_fd);
	close_fd(&c->pid_fd);
	*c = CONNECTION_NONE;
}
