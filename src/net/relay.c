/* The relay as a whole: making, accepting, ending, counting. The rest is in relay_*.c. */
#include "net/relay_priv.h"

#include "base/mem.h"
#include "base/timeutil.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define ACCEPT_BATCH	64
#define ACCEPT_PAUSE_MS 100 /* when descriptors have run out */

static void take_default(unsigned *ms, unsigned value)
{
	if (*ms == 0)
		*ms = value;
}

static void config_defaults(struct relay_config *c)
{
	c->fronts_max = c->fronts_max ? c->fronts_max : 1024;
	c->backs_max = c->backs_max ? c->backs_max : 1024;
	c->idle_backs_max = c->idle_backs_max ? c->idle_backs_max : 16;
	c->out_max_bytes = c->out_max_bytes ? c->out_max_bytes : 2u << 20;
	/* A head, a piece and a refusal must always have room. */
	c->out_max_bytes += HTTP1_HEAD_MAX_BYTES + RELAY_PIECE_BYTES + RELAY_REFUSAL_MAX_BYTES;
	take_default(&c->head_ms, 10000);
	take_default(&c->body_ms, 30000);
	take_default(&c->idle_ms, 75000);
	take_default(&c->tls_ms, 10000);
	take_default(&c->dial_ms, 10000);
	take_default(&c->response_ms, 600000);
	take_default(&c->stream_ms, 300000);
	take_default(&c->back_idle_ms, 30000);
}

/* Fronts whose turn was over before their work was. */
static void on_ready(struct loop_timer *t)
{
	struct relay *r = LIST_OF(t, struct relay, ready_timer);
	struct list batch;

	list_init(&batch);
	if (list_is_empty(&r->ready))
		return;
	batch = r->ready;
	batch.next->prev = batch.prev->next = &batch;
	list_init(&r->ready);
	while (!list_is_empty(&batch)) {
		struct relay_front *f = LIST_OF(batch.next, struct relay_front, ready_link);

		list_del(&f->ready_link);
		front_run(f);
	}
}

static void on_trim(struct loop_timer *t)
{
	struct relay *r = LIST_OF(t, struct relay, trim_timer);
	uint64_t now_ns = loop_now_ns(r->loop);
	bool has_trimmed = false;

	for (struct list *l = r->fronts.next; l != &r->fronts; l = l->next) {
		struct relay_front *f = LIST_OF(l, struct relay_front, link);

		if (now_ns - f->active_ns < RELAY_TRIM_MS * TIME_NS_PER_MS)
			continue;
		if (!f->x)
			has_trimmed |= conn_trim(&f->c);
	}
	for (struct list *l = r->backs.next; l != &r->backs; l = l->next) {
		struct relay_back *b = LIST_OF(l, struct relay_back, link);

		if (b->state == BACK_IDLE && b->c.deadline_ns > 0 &&
		    now_ns + (r->config.back_idle_ms - RELAY_TRIM_MS) * TIME_NS_PER_MS >
			    b->c.deadline_ns)
			has_trimmed |= conn_trim(&b->c);
	}
	/* Else the heap's free pages stay with the process: idle tunnels lie between them. */
	if (has_trimmed)
		(void)malloc_trim(0);
	while (r->n_exchanges == 0 && r->n_spares > 1) {
		struct exchange *x = LIST_OF(r->spares.next, struct exchange, link);

		list_del(&x->link);
		r->n_spares--;
		exchange_free(x);
	}
	if (r->n_fronts + r->n_backs > 0)
		loop_timer_set(r->loop, t, RELAY_TRIM_MS);
}

int relay_new(struct relay **out, struct loop *l, const struct relay_config *config,
	      const struct relay_ops *ops, void *ctx, struct err *e)
{
	struct relay *r;

	*out = NULL;
	if (!ops->on_request || !ops->dial || !ops->on_done)
		return err_set(e, -EINVAL, "a relay needs on_request, dial and on_done");
	r = mem_zalloc(sizeof(*r));
	r->loop = l;
	r->config = *config;
	r->ops = ops;
	r->ctx = ctx;
	config_defaults(&r->config);
	list_init(&r->fronts);
	list_init(&r->backs);
	list_init(&r->ready);
	list_init(&r->spares);
	for (size_t i = 0; i < RELAY_BUCKETS; i++)
		list_init(&r->idle[i]);
	for (size_t i = 0; i < sizeof(r->listen_watch) / sizeof(r->listen_watch[0]); i++)
		r->listen_watch[i].fd = -1;
	buf_init(&r->body, RELAY_REFUSAL_MAX_BYTES);
	buf_init(&r->head, HTTP1_HEAD_MAX_BYTES * 2);
	r->ready_timer.fn = on_ready;
	r->trim_timer.fn = on_trim;
	*out = r;
	return 0;
}

void relay_free(struct relay *r)
{
	if (!r)
		return;
	r->is_closing = true;
	for (size_t i = 0; i < r->n_listens; i++)
		loop_del(r->loop, &r->listen_watch[i]);
	while (!list_is_empty(&r->fronts))
		relay_front_close(LIST_OF(r->fronts.next, struct relay_front, link));
	while (!list_is_empty(&r->backs))
		back_destroy(LIST_OF(r->backs.next, struct relay_back, link));
	while (!list_is_empty(&r->spares)) {
		struct exchange *x = LIST_OF(r->spares.next, struct exchange, link);

		list_del(&x->link);
		exchange_free(x);
	}
	loop_timer_del(r->loop, &r->ready_timer);
	loop_timer_del(r->loop, &r->trim_timer);
	loop_timer_del(r->loop, &r->accept_timer);
	buf_free(&r->body);
	buf_free(&r->head);
	free(r);
}

static void accept_resume(struct loop_timer *t)
{
	struct relay *r = LIST_OF(t, struct relay, accept_timer);

	for (size_t i = 0; i < r->n_listens; i++)
		(void)loop_set(r->loop, &r->listen_watch[i], EPOLLIN);
}

static void accept_on(struct relay *r, struct loop_watch *w)
{
	for (unsigned i = 0; i < ACCEPT_BATCH; i++) {
		int fd = accept4(w->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0) {
			(void)relay_front_add(r, fd);
			continue;
		}
		if (errno == ECONNABORTED || errno == EINTR)
			continue;
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
			(void)loop_set(r->loop, w, 0);
			loop_timer_set(r->loop, &r->accept_timer, ACCEPT_PAUSE_MS);
		}
		return;
	}
}

#define LISTEN_FN(i)                                                                               \
	static void accept_##i(struct loop_watch *w, uint32_t events)                              \
	{                                                                                          \
		(void)events;                                                                      \
		accept_on(LIST_OF(w, struct relay, listen_watch[i]), w);                           \
	}
LISTEN_FN(0)
LISTEN_FN(1)
LISTEN_FN(2)
LISTEN_FN(3)

int relay_listen(struct relay *r, int listen_fd, struct err *e)
{
	static void (*const fns[])(struct loop_watch *, uint32_t) = {accept_0, accept_1, accept_2,
								     accept_3};
	struct loop_watch *w;
	int ret;

	if (r->n_listens == sizeof(fns) / sizeof(fns[0]))
		return err_set(e, -ENOBUFS, "too many listening sockets");
	w = &r->listen_watch[r->n_listens];
	w->fn = fns[r->n_listens];
	r->accept_timer.fn = accept_resume;
	ret = loop_add(r->loop, w, listen_fd, EPOLLIN, e);
	if (ret == 0)
		r->n_listens++;
	return ret;
}

void relay_front_each(struct relay *r, void (*fn)(struct relay_front *f, void *arg), void *arg)
{
	for (struct list *l = r->fronts.next, *next; l != &r->fronts; l = next) {
		next = l->next;
		fn(LIST_OF(l, struct relay_front, link), arg);
	}
}

struct relay_exchange *relay_front_exchange(struct relay_front *f)
{
	struct exchange *x = f->x;

	return x && x->phase != PHASE_HEAD && !x->is_refused ? &x->pub : NULL;
}

void relay_close_after(struct relay_exchange *pub)
{
	((struct exchange *)(void *)pub)->must_close_front = true;
}

void relay_backs_drop(struct relay *r, struct str prefix)
{
	for (struct list *l = r->backs.next, *next; l != &r->backs; l = next) {
		struct relay_back *b = LIST_OF(l, struct relay_back, link);

		next = l->next;
		if (b->state == BACK_IDLE && str_starts(str_slice(b->key, b->key_n), prefix))
			back_destroy(b);
	}
}

void *relay_ctx(const struct relay *r)
{
	return r->ctx;
}

size_t relay_front_count(const struct relay *r)
{
	return r->n_fronts;
}

size_t relay_exchange_count(const struct relay *r)
{
	return r->n_exchanges;
}

size_t relay_back_count(const struct relay *r)
{
	return r->n_backs;
}

void *relay_front_owner(struct relay_front *f)
{
	return f->owner;
}

struct str relay_front_tunnel(const struct relay_front *f, uint16_t *port)
{
	*port = f->port;
	return f->is_tunnel ? str_of(f->host) : STR_NULL;
}

int relay_front_fd(const struct relay_front *f)
{
	return f->c.fd;
}
