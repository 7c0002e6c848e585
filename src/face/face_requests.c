/* Requests and grants, of one bottle or of all in one order. */
#include "face/face_int.h"

#include "base/mem.h"

#include <errno.h>

/* One walk over the stores of several bottles. */
struct walk {
	struct face *f;
	struct store **stores; /* by bottle; NULL: not opened */
	struct face_key *keys;
	size_t n, cap, bottle, n_before;
	size_t limit;
};

static void walk_free(struct walk *w)
{
	for (size_t i = 0; w->stores && i < w->f->n; i++)
		face_store_done(w->f, i, w->stores[i]);
	free(w->stores);
	free(w->keys);
}

static void walk_put(struct walk *w, const struct face_key *k)
{
	w->keys = mem_grow_array(w->keys, &w->cap, w->n + 1, sizeof(*w->keys));
	w->keys[w->n] = *k;
	w->keys[w->n++].bottle = w->bottle;
}

static bool walk_add(const struct store_key *r, void *ctx)
{
	struct walk *w = ctx;
	bool is_pending = r->state == REQUEST_PENDING && w->f->bottles[w->bottle].entry.is_alive;
	uint64_t time = is_pending ? r->created : r->decided ? r->decided : r->expires;

	walk_put(w, &(struct face_key){.time = time, .id = r->id, .is_pending = is_pending});
	return true;
}

/* What its keys are, of a bottle that is open already or is opened here. */
static int walk_bottle(struct walk *w, unsigned states, struct err *e)
{
	const struct face_kept *k = &w->f->kept[w->bottle];
	unsigned pending = 1u << REQUEST_PENDING;
	int r;

	if (!w->f->bottles[w->bottle].entry.is_alive)
		states = states & (1u << REQUEST_EXPIRED) ? states | pending : states & ~pending;
	if (states == 0)
		return 0;
	r = face_store(w->f, w->bottle, &w->stores[w->bottle], e);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	if ((states & pending) && k->store && k->is_current) {
		for (size_t i = 0; i < k->n_pending; i++)
			walk_put(w, &k->pending[i]);
		states &= ~pending;
	}
	return states ? store_each_key(w->stores[w->bottle], states, w->limit, walk_add, w, e) : 0;
}

static int compare_keys(const void *a, const void *b)
{
	const struct face_key *x = a, *y = b;

	if (x->is_pending != y->is_pending)
		return x->is_pending ? -1 : 1;
	if (x->time != y->time)
		return (x->time < y->time) == x->is_pending ? -1 : 1;
	if (x->bottle != y->bottle)
		return x->bottle < y->bottle ? -1 : 1;
	return x->id == y->id ? 0 : (x->id < y->id) == x->is_pending ? -1 : 1;
}

/* Nobody is there any more who could decide it. */
static void settle(const struct face *f, size_t i, struct request *r)
{
	if (r->state == REQUEST_PENDING && !f->bottles[i].entry.is_alive)
		r->state = REQUEST_EXPIRED;
}

static int walk_show(struct walk *w, size_t limit, face_request_fn *fn, void *ctx, struct err *e)
{
	for (size_t i = 0; i < w->n && i < limit; i++) {
		size_t b = w->keys[i].bottle;
		struct request r;
		bool goes_on;
		int ret = store_get(w->stores[b], w->keys[i].id, &r, e);

		/* Removed meanwhile: the oldest go when there are too many. */
		if (ret == -ENOENT)
			continue;
		if (ret < 0)
			return ret;
		settle(w->f, b, &r);
		goes_on = fn(w->f->bottles[b].entry.slug, &r, ctx);
		request_free(&r);
		if (!goes_on)
			return 0;
	}
	return 0;
}

int face_each(struct face *f, const char *slug, unsigned states, size_t limit, face_request_fn *fn,
	      void *ctx, struct err *e)
{
	_cleanup_(walk_free) struct walk w = {.f = f};
	size_t n_dead = 0, from = 0, to = f->n;
	int r = 0;

	w.limit = limit < FACE_SHOWN_MAX ? limit : FACE_SHOWN_MAX;
	if (slug) {
		r = face_find(f, slug, &from, e);
		to = from + 1;
	}
	w.stores = mem_zalloc_array(f->n + 1, sizeof(struct store *));
	for (w.bottle = from; r == 0 && w.bottle < to; w.bottle++) {
		struct err why = ERR_INIT;

		if (!slug && !f->bottles[w.bottle].entry.is_alive && ++n_dead > FACE_DEAD_LOOKED)
			break;
		r = walk_bottle(&w, states, &why);
		/* Of several, one that cannot be read does not hide the others. */
		if (r < 0 && slug && e)
			*e = why;
		if (!slug)
			r = 0;
	}
	if (r == 0 && w.n > 0)
		qsort(w.keys, w.n, sizeof(*w.keys), compare_keys);
	return r < 0 ? r : walk_show(&w, w.limit, fn, ctx, e);
}

int face_get(struct face *f, const char *slug, uint64_t id, struct request *out, struct err *e)
{
	struct store *s = NULL;
	size_t i;
	int r = face_find(f, slug, &i, e);

	if (r < 0)
		return r;
	r = face_store(f, i, &s, e);
	if (r == 0)
		r = store_get(s, id, out, e);
	else if (r == -ENOENT)
		(void)err_set(e, r, "%s has no requests", slug);
	if (r == 0)
		settle(f, i, out);
	face_store_done(f, i, s);
	return r;
}

struct grants {
	const char *slug;
	face_grant_fn *fn;
	void *ctx;
};

static bool show_grant(const struct grant *g, void *ctx)
{
	const struct grants *gs = ctx;

	return gs->fn(gs->slug, g, gs->ctx);
}

int face_each_grant(struct face *f, const char *slug, face_grant_fn *fn, void *ctx, struct err *e)
{
	struct grants gs = {.slug = slug, .fn = fn, .ctx = ctx};
	struct store *s;
	size_t i;
	int r = face_store_of(f, slug, &i, &s, e);

	if (r == 0)
		r = store_each_grant(s, show_grant, &gs, e);
	face_store_done(f, i, s);
	return r == -ENOENT ? 0 : r;
}

int face_each_audit(struct face *f, const char *slug, size_t limit,
		    bool (*fn)(const struct audit_line *l, void *ctx), void *ctx, struct err *e)
{
	struct store *s;
	size_t i;
	int r = face_store_of(f, slug, &i, &s, e);

	if (r == 0)
		r = store_each_audit(s, limit, fn, ctx, e);
	face_store_done(f, i, s);
	return r == -ENOENT ? 0 : r;
}

int face_verify_audit(struct face *f, const char *slug, struct err *e)
{
	struct store *s;
	size_t i, n_lines;
	int r = face_store_of(f, slug, &i, &s, e);

	if (r == 0)
		r = store_verify_audit(s, &n_lines, e);
	face_store_done(f, i, s);
	return r == -ENOENT ? 0 : r;
}
