/*
 * Theory of operation: one message at a time, answered once it is in force. There is no way to go
 * on with the old policy: who cannot take the new one ends, and is started again with it.
 */
#include "bundle/news.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "bundle/bundle.h"
#include "net/loop.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

struct news_watch {
	struct loop *loop;
	struct loop_watch watch;
	uint64_t generation; /* the last one */
	news_fn *fn;
	void *ctx;
};

static void news_take(struct news_watch *w, const struct news *news, int fd)
{
	struct bundle_config config;
	struct err e = ERR_INIT;

	if (news->generation <= w->generation)
		die("a configuration came that is older than the one in force");
	if (bundle_config_load(&config, fd, &e) < 0)
		die("a new configuration cannot be used: %s", e.text);
	if (!w->fn(&config, news->generation, w->ctx))
		die("a new configuration cannot be put into force");
	w->generation = news->generation;
	/* What fn has taken over it has taken out. */
	bundle_config_free(&config);
	if (io_send_fds(w->watch.fd, news, sizeof(*news), NULL, 0, MSG_DONTWAIT) !=
	    (ssize_t)sizeof(*news))
		die("init does not take the answer to a new configuration");
}

static void news_on_message(struct loop_watch *watch, uint32_t events)
{
	struct news_watch *w =
		(struct news_watch *)((char *)watch - offsetof(struct news_watch, watch));
	_cleanup_close_ int fd = -1;
	struct news news;
	size_t n_fds = 1;
	ssize_t n = io_recv_fds(watch->fd, &news, sizeof(news), &fd, &n_fds, MSG_DONTWAIT);

	(void)events;
	if (n == -EAGAIN)
		return;
	/* init is gone, and will be on all channels. */
	if (n == 0) {
		loop_del(w->loop, watch);
		return;
	}
	if (n != (ssize_t)sizeof(news) || n_fds != 1)
		die("what init sent is no news");
	news_take(w, &news, fd);
}

int news_watch_start(struct news_watch **out, struct loop *l, int fd, news_fn *fn, void *ctx,
		     struct err *e)
{
	struct news_watch *w = mem_zalloc(sizeof(*w));
	int ret = 0;

	*out = NULL;
	*w = (struct news_watch){
		.loop = l, .watch = {.fd = -1, .fn = news_on_message}, .fn = fn, .ctx = ctx};
	if (fd >= 0)
		ret = loop_add(l, &w->watch, fd, EPOLLIN, e);
	if (ret < 0)
		free(w);
	else
		*out = w;
	return ret;
}

void news_watch_stop(struct news_watch *w)
{
	if (!w)
		return;
	loop_del(w->loop, &w->watch);
	free(w);
}
