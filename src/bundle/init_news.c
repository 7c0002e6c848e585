/*
 * Theory of operation. One configuration at a time is under way: it takes the place of the running
 * one at once, so that a role that starts from then on has it, and every enforcing role that runs
 * is sent it. It is in force when each of those has answered or, having ended instead, is ready
 * again. Then the keeper is told, and the next one's turn comes.
 *
 * A role's channel is made with its process and dies with it, unlike the channels between roles:
 * what the process before was sent is older than the configuration that the next one starts with,
 * and what that one had answered says nothing about this one. A process that was started before the
 * news and has not read its configuration yet may read either file; it finds the news on its
 * channel in any case. So no order of these steps leaves a role with an old policy.
 *
 * A process that ends while it owes an answer does not count against the limit of restarts: that
 * limit is for a role that ends again and again by itself, and this happens at most once for each
 * role and change, which a human makes (or the end of a grant). Were it counted, a few changes
 * while the machine is busy would end the bottle.
 */
#include "bundle/init_news.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/log.h"
#include "base/text.h"
#include "bundle/news.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

static const enum bundle_role enforcing[] = {BUNDLE_ROLE_PIPELOCK, BUNDLE_ROLE_EGRESS,
					     BUNDLE_ROLE_SUPERVISE};

static bool is_enforcing(enum bundle_role role)
{
	for (size_t i = 0; i < ARRAY_LEN(enforcing); i++) {
		if (enforcing[i] == role)
			return true;
	}
	return false;
}

/* --- to the keeper --- */

/* text NULL: it is in force. */
static void tell(const struct init_news *n, uint64_t generation, const char *text)
{
	_cleanup_(buf_free) struct buf b = BUF_INIT(BUNDLE_CONTROL_MAX);
	int ret = buf_printf(&b, "{\"event\":\"%s\",\"generation\":%llu",
			     text ? "policy-refused" : "policy", (unsigned long long)generation);

	if (ret == 0 && text)
		ret = buf_append_str(&b, STR_LIT(",\"text\":"));
	if (ret == 0 && text)
		ret = text_json(&b, str_of(text));
	if (ret == 0)
		ret = buf_append(&b, "}", 1);
	if (ret < 0 || io_send_fds(n->control_fd, b.p + b.from, buf_len(&b), NULL, 0,
				   MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		log_error("the keeper cannot be told of policy %llu",
			  (unsigned long long)generation);
}

/* --- the roles --- */

static void take_next(struct init_news *n);

static void look_whether_done(struct init_news *n)
{
	if (!n->is_under_way)
		return;
	for (size_t i = 0; i < BUNDLE_ROLE_COUNT; i++) {
		if (n->roles[i].state != NEWS_NONE)
			return;
	}
	n->is_under_way = false;
	tell(n, n->generation, NULL);
	take_next(n);
}

static void role_close(struct init_news_role *r)
{
	int fd = r->watch.fd;

	loop_timer_del(r->news->loop, &r->timer);
	if (fd < 0)
		return;
	loop_del(r->news->loop, &r->watch);
	(void)close(fd);
}

static void role_fails(struct init_news_role *r, const char *how)
{
	log_error("%s %s", bundle_role_name(r->role), how);
	role_close(r);
	r->news->kill(r->role, r->news->ctx);
}

static void role_on_timeout(struct loop_timer *t)
{
	role_fails((struct init_news_role *)(void *)((char *)t -
						     offsetof(struct init_news_role, timer)),
		   "did not take a new policy in time");
}

static void role_on_answer(struct loop_watch *w, uint32_t events)
{
	struct init_news_role *r =
		(struct init_news_role *)(void *)((char *)w -
						  offsetof(struct init_news_role, watch));
	struct news answer;
	ssize_t got = io_recv_fds(w->fd, &answer, sizeof(answer), NULL, NULL, MSG_DONTWAIT);

	(void)events;
	if (got == -EAGAIN)
		return;
	/* It ends; one that only closed its end is ended when it is to be told something. */
	if (got == 0 && r->state == NEWS_NONE) {
		role_close(r);
		return;
	}
	if (got != (ssize_t)sizeof(answer) || r->state != NEWS_SENT ||
	    answer.generation != r->news->generation) {
		role_fails(r, got <= 0 ? "did not answer for a new policy"
				       : "answered what it was not asked");
		return;
	}
	r->state = NEWS_NONE;
	loop_timer_del(r->news->loop, &r->timer);
	look_whether_done(r->news);
}

void init_news_init(struct init_news *n)
{
	for (size_t i = 0; i < BUNDLE_ROLE_COUNT; i++)
		n->roles[i] = (struct init_news_role){.news = n,
						      .role = (enum bundle_role)i,
						      .watch = {.fd = -1, .fn = role_on_answer},
						      .timer = {.fn = role_on_timeout}};
}

int init_news_role_start(struct init_news *n, enum bundle_role role, int *theirs, struct err *e)
{
	struct init_news_role *r = &n->roles[role];
	_cleanup_close_ int ours = -1, other = -1;
	int pair[2], ret;

	*theirs = -1;
	r->is_ready = false;
	if (!is_enforcing(role))
		return 0;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_errno(e, "socketpair");
	ours = pair[0];
	other = pair[1];
	ret = loop_add(n->loop, &r->watch, ours, EPOLLIN, e);
	if (ret < 0)
		return ret;
	ours = -1; /* the watch's */
	r->is_running = true;
	*theirs = take_fd(&other);
	return 0;
}

void init_news_role_ready(struct init_news *n, enum bundle_role role)
{
	struct init_news_role *r = &n->roles[role];

	r->is_ready = true;
	if (r->state == NEWS_SENT)
		loop_timer_set(n->loop, &r->timer, NEWS_MS);
	if (r->state == NEWS_RESTART)
		r->state = NEWS_NONE;
	look_whether_done(n);
}

bool init_news_role_end(struct init_news *n, enum bundle_role role)
{
	struct init_news_role *r = &n->roles[role];
	bool owed = r->state == NEWS_SENT;

	role_close(r);
	r->is_running = false;
	if (owed)
		r->state = NEWS_RESTART;
	return owed;
}

/* One that is not ready yet has init's time for that first. */
static void role_send(struct init_news_role *r)
{
	struct news news = {.generation = r->news->generation};

	if (!r->is_running)
		return;
	r->state = NEWS_SENT;
	if (r->watch.fd < 0 || io_send_fds(r->watch.fd, &news, sizeof(news), r->news->config_fd, 1,
					   MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		role_fails(r, "cannot be given a new policy");
	else if (r->is_ready)
		loop_timer_set(r->news->loop, &r->timer, NEWS_MS);
}

/* --- from the keeper --- */

/* Owns fd. */
static int begin(struct init_news *n, uint64_t generation, int fd, struct err *e)
{
	_cleanup_close_ int file = fd;
	struct bundle_config next;
	int ret;

	if (generation != n->generation + 1)
		return err_set(e, -EINVAL, "policy %llu was expected",
			       (unsigned long long)n->generation + 1);
	if (file < 0)
		return err_set(e, -EINVAL, "it came without its file");
	ret = bundle_config_load(&next, file, e);
	if (ret < 0)
		return ret;
	ret = bundle_config_check_next(n->config, &next, e);
	if (ret < 0) {
		bundle_config_free(&next);
		return ret;
	}
	bundle_config_free(n->config);
	*n->config = next;
	close_fd(n->config_fd);
	*n->config_fd = take_fd(&file);
	n->generation = generation;
	n->is_under_way = true;
	for (size_t i = 0; i < BUNDLE_ROLE_COUNT; i++)
		role_send(&n->roles[i]);
	look_whether_done(n);
	return 0;
}

static void take(struct init_news *n, uint64_t generation, int fd)
{
	struct err e = ERR_INIT;

	if (begin(n, generation, fd, &e) < 0) {
		log_error("a new policy is refused: %s", e.text);
		tell(n, generation, e.text);
	}
}

static void take_next(struct init_news *n)
{
	while (!n->is_under_way && n->n_waiting > 0) {
		uint64_t generation = n->waiting[0].generation;
		int fd = n->waiting[0].fd;

		n->n_waiting--;
		memmove(&n->waiting[0], &n->waiting[1], n->n_waiting * sizeof(n->waiting[0]));
		take(n, generation, fd);
	}
}

bool init_news_take(struct init_news *n, struct str message, int fd)
{
	_cleanup_close_ int file = fd;
	const struct str head = STR_LIT("{\"command\":\"policy\",\"generation\":");
	uint64_t generation;

	if (!str_starts(message, head) || message.p[message.n - 1] != '}' ||
	    str_to_u64(str_slice(message.p + head.n, message.n - head.n - 1), UINT64_MAX - 1,
		       &generation) < 0)
		return false;
	if (!n->is_under_way) {
		take(n, generation, take_fd(&file));
	} else if (n->n_waiting == INIT_NEWS_QUEUE) {
		tell(n, generation, "too many policies wait");
	} else {
		n->waiting[n->n_waiting].generation = generation;
		n->waiting[n->n_waiting++].fd = take_fd(&file);
	}
	return true;
}
