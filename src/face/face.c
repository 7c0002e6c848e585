/*
 * Theory of operation. A look lists the state folders, at most every FACE_LIST_MS, and asks each
 * open store for its version, which SQLite knows without reading a page; only where that has
 * changed are the pending requests read again, and of them no more is kept than what their order
 * needs. What is shown is read when it is shown.
 *
 * Only stores of bottles that live stay open. A bottle that has died with requests pending has
 * nobody who could decide them: they are shown as expired, which the store will say as soon as a
 * keeper has it again.
 */
#include "face/face_int.h"

#include "base/mem.h"
#include "base/timeutil.h"

#include <errno.h>
#include <stdio.h>

/* --- stores --- */

static int open_store(const char *slug, struct store **out, struct err *e)
{
	_cleanup_close_ int dir = -1;
	int r = bottles_open(slug, &dir, e);

	return r < 0 ? r : store_open_read(out, dir, slug, e);
}

int face_store(struct face *f, size_t i, struct store **out, struct err *e)
{
	struct err why = ERR_INIT;
	int r;

	*out = f->kept[i].store;
	if (*out)
		return 0;
	r = open_store(f->bottles[i].entry.slug, out, &why);
	if (r < 0 && r != -ENOENT && e)
		*e = why;
	return r;
}

int face_store_of(struct face *f, const char *slug, size_t *i, struct store **out, struct err *e)
{
	int r;

	*i = 0;
	*out = NULL;
	r = face_find(f, slug, i, e);
	return r < 0 ? r : face_store(f, *i, out, e);
}

void face_store_done(const struct face *f, size_t i, struct store *s)
{
	if (s && s != f->kept[i].store)
		store_close(s);
}

static void kept_free(struct face_kept *k)
{
	if (k->store)
		store_close(k->store);
	free(k->pending);
	*k = (struct face_kept){0};
}

int face_find(const struct face *f, const char *slug, size_t *i, struct err *e)
{
	for (*i = 0; *i < f->n; (*i)++) {
		if (strcmp(f->bottles[*i].entry.slug, slug) == 0)
			return 0;
	}
	return err_set(e, -ENOENT, "no bottle \"%s\"", slug);
}

static void face_complain(struct face *f, size_t i, const struct err *e)
{
	if (!f->trouble[0])
		(void)snprintf(f->trouble, sizeof(f->trouble), "%.63s: %.600s",
			       f->bottles[i].entry.slug, e->text);
}

/* --- the list --- */

static int compare_entries(const void *a, const void *b)
{
	const struct bottles_entry *x = a, *y = b;
	int r;

	if (x->is_alive != y->is_alive)
		return x->is_alive ? -1 : 1;
	r = strcmp(y->started, x->started);
	return r ? r : strcmp(x->slug, y->slug);
}

static bool is_same(const struct face_bottle *a, const struct face_bottle *b)
{
	const struct bottles_entry *x = &a->entry, *y = &b->entry;

	return strcmp(x->slug, y->slug) == 0 && x->is_alive == y->is_alive &&
	       x->is_paused == y->is_paused && x->exit_status == y->exit_status &&
	       strcmp(x->state, y->state) == 0 && strcmp(x->started, y->started) == 0;
}

/* What was kept of it before; its place is left empty. */
static struct face_kept take_kept(struct face *f, const char *slug, size_t *n_pending)
{
	struct face_kept k = {0};
	size_t i;

	if (face_find(f, slug, &i, NULL) == 0) {
		k = f->kept[i];
		*n_pending = f->bottles[i].n_pending;
		f->kept[i] = (struct face_kept){0};
	}
	return k;
}

static void face_forget(struct face *f)
{
	for (size_t i = 0; i < f->n; i++)
		kept_free(&f->kept[i]);
	free(f->kept);
	free(f->bottles);
	f->kept = NULL;
	f->bottles = NULL;
	f->n = 0;
}

static int face_list(struct face *f, bool *changed, struct err *e)
{
	_cleanup_free_ struct bottles_entry *list = NULL;
	struct face next = {.listed_ns = time_monotonic_ns()};
	int r = bottles_list(&list, &next.n, e);

	if (r < 0)
		return r;
	if (next.n > 0)
		qsort(list, next.n, sizeof(*list), compare_entries);
	if (next.n > FACE_BOTTLES_MAX)
		next.n = FACE_BOTTLES_MAX;
	*changed = *changed || next.n != f->n;
	next.bottles = mem_zalloc_array(next.n + 1, sizeof(*next.bottles));
	next.kept = mem_zalloc_array(next.n + 1, sizeof(*next.kept));
	for (size_t i = 0; i < next.n; i++) {
		struct face_bottle *b = &next.bottles[i];

		b->entry = list[i];
		b->is_supervised = list[i].is_supervised;
		b->is_paused = list[i].is_paused;
		(void)snprintf(b->manifest, sizeof(b->manifest), "%s", list[i].manifest);
		next.kept[i] = take_kept(f, list[i].slug, &b->n_pending);
		*changed = *changed || i >= f->n || !is_same(b, &f->bottles[i]);
	}
	(void)snprintf(next.trouble, sizeof(next.trouble), "%s", f->trouble);
	face_forget(f);
	*f = next;
	return 0;
}

/* --- what is pending --- */

struct keys {
	struct face_key *p;
	size_t n, cap, bottle;
};

static bool add_key(const struct store_key *r, void *ctx)
{
	struct keys *k = ctx;
	bool is_pending = r->state == REQUEST_PENDING;

	k->p = mem_grow_array(k->p, &k->cap, k->n + 1, sizeof(*k->p));
	k->p[k->n++] = (struct face_key){.time = is_pending   ? r->created
						 : r->decided ? r->decided
							      : r->created,
					 .id = r->id,
					 .bottle = k->bottle,
					 .is_pending = is_pending};
	return k->n < FACE_SHOWN_MAX;
}

static int read_pending(struct face_kept *k, struct err *e)
{
	struct keys keys = {0};
	int r = store_each_key(k->store, 1u << REQUEST_PENDING, FACE_KEPT_PENDING, add_key, &keys,
			       e);

	if (r < 0) {
		free(keys.p);
		return r;
	}
	free(k->pending);
	k->pending = keys.p;
	k->n_pending = keys.n;
	return 0;
}

/* The version first: what is committed meanwhile is found the next time. */
static int refresh_kept(struct face_kept *k, bool *changed, struct err *e)
{
	uint64_t version;
	int r = store_version(k->store, &version, e);

	if (r < 0 || (k->is_current && version == k->version))
		return r;
	r = read_pending(k, e);
	if (r < 0)
		return r;
	k->version = version;
	k->is_current = true;
	*changed = true;
	return 0;
}

static void refresh_bottle(struct face *f, size_t i, size_t *n_open, bool *changed)
{
	struct face_bottle *b = &f->bottles[i];
	struct face_kept *k = &f->kept[i];
	struct err e = ERR_INIT;
	int r = 0;

	if (!b->entry.is_alive || !b->is_supervised || *n_open >= FACE_STORES_MAX) {
		kept_free(k);
		b->n_pending = 0;
		return;
	}
	if (!k->store)
		r = face_store(f, i, &k->store, &e);
	if (r == 0)
		r = refresh_kept(k, changed, &e);
	b->n_pending = r == 0 ? k->n_pending : 0;
	*n_open += r == 0;
	if (r < 0 && r != -ENOENT)
		face_complain(f, i, &e);
	if (r < 0)
		kept_free(k);
}

int face_refresh(struct face *f, bool *changed, struct err *e)
{
	char trouble[ERR_TEXT_MAX];
	size_t n_open = 0;
	bool is_new = false;
	int r;

	*changed = false;
	if (time_monotonic_ns() - f->listed_ns >= FACE_LIST_MS * TIME_NS_PER_MS) {
		r = face_list(f, &is_new, e);
		if (r < 0)
			return r;
	}
	(void)snprintf(trouble, sizeof(trouble), "%s", f->trouble);
	f->trouble[0] = '\0';
	for (size_t i = 0; i < f->n; i++)
		refresh_bottle(f, i, &n_open, &is_new);
	*changed = is_new || strcmp(trouble, f->trouble) != 0;
	return 0;
}

int face_open(struct face **out, struct err *e)
{
	struct face *f = mem_zalloc(sizeof(*f));
	bool ignored = false;
	int r = face_list(f, &ignored, e);

	*out = NULL;
	if (r == 0)
		r = face_refresh(f, &ignored, e);
	if (r < 0) {
		face_close(f);
		return r;
	}
	*out = f;
	return 0;
}

void face_close(struct face *f)
{
	if (!f)
		return;
	face_forget(f);
	free(f);
}

const struct face_bottle *face_bottles(const struct face *f, size_t *n)
{
	*n = f->n;
	return f->bottles;
}

const char *face_trouble(const struct face *f)
{
	return f->trouble;
}
