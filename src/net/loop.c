/*
 * Theory of operation: epoll_wait fetches a batch of events. A callback may delete another watch
 * of the same batch, so loop_del() clears that watch out of what is left of the batch; a watch is
 * therefore never called after its deletion, and may be freed at once.
 */
#include "net/loop.h"

#include "base/clean.h"
#include "base/mem.h"
#include "base/timeutil.h"

#include <errno.h>
#include <signal.h>
#include <sys/signalfd.h>

#define LOOP_BATCH 128

struct loop {
	int epoll_fd;
	bool is_running;
	int status;
	uint64_t now_ns;
	struct epoll_event batch[LOOP_BATCH];
	int batch_at, batch_n;
	struct loop_timer **heap; /* [1..n_heap], a binary min-heap on due_ns */
	size_t n_heap, heap_cap;
	struct loop_watch signal_watch;
	void (*signal_fn)(struct loop *l, int signo, void *ctx);
	void *signal_ctx;
};

struct loop *loop_new(struct err *e)
{
	struct loop *l = mem_zalloc(sizeof(*l));

	l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (l->epoll_fd < 0) {
		(void)err_errno(e, "epoll_create1");
		free(l);
		return NULL;
	}
	l->signal_watch.fd = -1;
	l->now_ns = time_monotonic_ns();
	return l;
}

void loop_free(struct loop *l)
{
	if (!l)
		return;
	(void)close(l->epoll_fd);
	if (l->signal_watch.fd >= 0)
		(void)close(l->signal_watch.fd);
	free(l->heap);
	free(l);
}

int loop_add(struct loop *l, struct loop_watch *w, int fd, uint32_t events, struct err *e)
{
	struct epoll_event ev = {.events = events, .data.ptr = w};

	if (epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0)
		return err_errno(e, "epoll_ctl");
	w->fd = fd;
	w->events = events;
	return 0;
}

int loop_set(struct loop *l, struct loop_watch *w, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.ptr = w};

	if (w->fd < 0)
		return -EBADF;
	if (w->events == events)
		return 0;
	if (epoll_ctl(l->epoll_fd, EPOLL_CTL_MOD, w->fd, &ev) < 0)
		return -errno;
	w->events = events;
	return 0;
}

void loop_del(struct loop *l, struct loop_watch *w)
{
	if (w->fd < 0)
		return;
	(void)epoll_ctl(l->epoll_fd, EPOLL_CTL_DEL, w->fd, NULL);
	w->fd = -1;
	for (int i = l->batch_at; i < l->batch_n; i++) {
		if (l->batch[i].data.ptr == w)
			l->batch[i].data.ptr = NULL;
	}
}

static void heap_place(struct loop *l, size_t slot, struct loop_timer *t)
{
	l->heap[slot] = t;
	t->slot = slot;
}

static void heap_up(struct loop *l, size_t slot)
{
	struct loop_timer *t = l->heap[slot];

	while (slot > 1 && l->heap[slot / 2]->due_ns > t->due_ns) {
		heap_place(l, slot, l->heap[slot / 2]);
		slot /= 2;
	}
	heap_place(l, slot, t);
}

static void heap_down(struct loop *l, size_t slot)
{
	struct loop_timer *t = l->heap[slot];

	for (;;) {
		size_t child = slot * 2;

		if (child > l->n_heap)
			break;
		if (child < l->n_heap && l->heap[child + 1]->due_ns < l->heap[child]->due_ns)
			child++;
		if (l->heap[child]->due_ns >= t->due_ns)
			break;
		heap_place(l, slot, l->heap[child]);
		slot = child;
	}
	heap_place(l, slot, t);
}

void loop_timer_set(struct loop *l, struct loop_timer *t, uint64_t after_ms)
{
	uint64_t old_ns = t->due_ns;

	t->due_ns = time_monotonic_ns() + after_ms * TIME_NS_PER_MS;
	if (old_ns == 0) {
		l->heap = mem_grow_array(l->heap, &l->heap_cap, l->n_heap + 2, sizeof(*l->heap));
		heap_place(l, ++l->n_heap, t);
		heap_up(l, l->n_heap);
	} else if (t->due_ns > old_ns) {
		heap_down(l, t->slot);
	} else {
		heap_up(l, t->slot);
	}
}

void loop_timer_del(struct loop *l, struct loop_timer *t)
{
	struct loop_timer *last;
	size_t slot = t->slot;

	if (t->due_ns == 0)
		return;
	t->due_ns = 0;
	last = l->heap[l->n_heap--];
	if (last == t)
		return;
	heap_place(l, slot, last);
	heap_down(l, slot);
	heap_up(l, last->slot);
}

static void loop_on_signal(struct loop_watch *w, uint32_t events)
{
	struct loop *l = (struct loop *)((char *)w - offsetof(struct loop, signal_watch));
	struct signalfd_siginfo info;

	(void)events;
	while (read(w->fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
		l->signal_fn(l, (int)info.ssi_signo, l->signal_ctx);
}

int loop_signals(struct loop *l, const int *signals, size_t n,
		 void (*fn)(struct loop *l, int signo, void *ctx), void *ctx, struct err *e)
{
	_cleanup_close_ int fd = -1;
	sigset_t set;
	int ret;

	(void)sigemptyset(&set);
	for (size_t i = 0; i < n; i++)
		(void)sigaddset(&set, signals[i]);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return err_errno(e, "sigprocmask");
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		return err_errno(e, "signalfd");
	l->signal_fn = fn;
	l->signal_ctx = ctx;
	l->signal_watch.fn = loop_on_signal;
	ret = loop_add(l, &l->signal_watch, fd, EPOLLIN, e);
	if (ret == 0)
		(void)take_fd(&fd);
	return ret;
}

uint64_t loop_now_ns(const struct loop *l)
{
	return l->now_ns;
}

static int loop_wait_ms(const struct loop *l)
{
	uint64_t now_ns, left_ms;

	if (l->n_heap == 0)
		return -1;
	now_ns = time_monotonic_ns();
	if (l->heap[1]->due_ns <= now_ns)
		return 0;
	left_ms = (l->heap[1]->due_ns - now_ns + TIME_NS_PER_MS - 1) / TIME_NS_PER_MS;
	return left_ms > 60000 ? 60000 : (int)left_ms;
}

static void loop_fire_timers(struct loop *l)
{
	/* Only what is due now: a timer that re-arms itself with 0 must not starve the sockets. */
	uint64_t due_ns = l->now_ns;

	while (l->is_running && l->n_heap > 0 && l->heap[1]->due_ns <= due_ns) {
		struct loop_timer *t = l->heap[1];

		loop_timer_del(l, t);
		t->fn(t);
	}
}

int loop_run(struct loop *l)
{
	l->is_running = true;
	while (l->is_running) {
		int n = epoll_wait(l->epoll_fd, l->batch, LOOP_BATCH, loop_wait_ms(l));

		if (n < 0 && errno != EINTR)
			return -errno;
		l->now_ns = time_monotonic_ns();
		l->batch_n = n > 0 ? n : 0;
		for (l->batch_at = 0; l->is_running && l->batch_at < l->batch_n;) {
			struct epoll_event *ev = &l->batch[l->batch_at++];
			struct loop_watch *w = ev->data.ptr;

			if (w)
				w->fn(w, ev->events);
		}
		l->batch_n = 0;
		loop_fire_timers(l);
	}
	return l->status;
}

void loop_stop(struct loop *l, int status)
{
	l->is_running = false;
	l->status = status;
}
