#include "face/terminal_look.h"

#include "base/clean.h"
#include "base/mem.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <time.h>

struct look {
	struct face *face;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t kick;
	/* Under the lock. */
	struct look_wanted wanted;
	struct look_news news;
	bool is_again;
	/* Set with the lock, read without by what may be given up. */
	atomic_bool is_ending, is_kicked;
	int fd;
};

static void free_lines(struct look_lines *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->lines[i]);
	free(l->lines);
	*l = (struct look_lines){0};
}

static void free_detail(struct look_news *n)
{
	if (n->is_there)
		request_free(&n->detail);
	n->is_there = false;
}

void look_news_free(struct look_news *n)
{
	free(n->bottles);
	free(n->rows);
	free(n->grants);
	free_lines(&n->records);
	free_lines(&n->told);
	free_detail(n);
	*n = (struct look_news){0};
}

static void merge_lists(struct look_news *to, struct look_news *from)
{
	if (from->has_bottles) {
		free(to->bottles);
		to->bottles = take_ptr(&from->bottles);
		to->n_bottles = from->n_bottles;
		to->has_bottles = true;
	}
	if (from->has_rows) {
		free(to->rows);
		to->rows = take_ptr(&from->rows);
		to->n_rows = from->n_rows;
		to->cap_rows = from->cap_rows;
		to->is_more = from->is_more;
		to->rows_states = from->rows_states;
		memcpy(to->rows_of, from->rows_of, sizeof(to->rows_of));
		to->has_rows = true;
	}
	if (from->has_grants) {
		free(to->grants);
		to->grants = take_ptr(&from->grants);
		to->n_grants = from->n_grants;
		to->cap_grants = from->cap_grants;
		memcpy(to->grants_of, from->grants_of, sizeof(to->grants_of));
		to->has_grants = true;
	}
}

void look_news_merge(struct look_news *to, struct look_news *from)
{
	merge_lists(to, from);
	if (from->has_records) {
		free_lines(&to->records);
		free_lines(&to->told);
		to->records = from->records;
		to->told = from->told;
		from->records = from->told = (struct look_lines){0};
		memcpy(to->records_of, from->records_of, sizeof(to->records_of));
		to->has_records = true;
	}
	if (from->has_detail) {
		free_detail(to);
		to->detail = from->detail;
		to->is_there = from->is_there;
		from->is_there = false;
		to->detail_id = from->detail_id;
		memcpy(to->detail_of, from->detail_of, sizeof(to->detail_of));
		to->has_detail = true;
	}
	memcpy(to->trouble, from->trouble, sizeof(to->trouble));
	look_news_free(from);
}

/* --- one look; in the thread --- */

struct looking {
	struct look *look;
	struct look_news *news;
	const struct look_wanted *wanted;
	struct look_lines *lines;
};

static bool is_given_up(const struct looking *l)
{
	return atomic_load_explicit(&l->look->is_kicked, memory_order_relaxed) ||
	       atomic_load_explicit(&l->look->is_ending, memory_order_relaxed);
}

static void set_trouble(struct look_news *n, const struct err *e)
{
	if (!n->trouble[0])
		err_format(e, n->trouble, sizeof(n->trouble));
}

static void look_bottles(struct looking *l)
{
	size_t n;
	const struct face_bottle *from = face_bottles(l->look->face, &n);

	l->news->bottles = mem_zalloc_array(n ? n : 1, sizeof(*from));
	if (n)
		memcpy(l->news->bottles, from, n * sizeof(*from));
	l->news->n_bottles = n;
	l->news->has_bottles = true;
}

static bool add_row(const char *slug, const struct request *r, void *ctx)
{
	struct looking *l = ctx;
	struct look_news *n = l->news;
	struct look_row *row;

	if (is_given_up(l))
		return false;
	if (n->n_rows == l->wanted->limit) {
		n->is_more = true;
		return false;
	}
	n->rows = mem_grow_array(n->rows, &n->cap_rows, n->n_rows + 1, sizeof(*n->rows));
	row = &n->rows[n->n_rows++];
	*row = (struct look_row){.id = r->id,
				 .created = r->created,
				 .expires = r->expires,
				 .asked = r->asked,
				 .state = r->state,
				 .kind = r->change.kind};
	(void)snprintf(row->slug, sizeof(row->slug), "%s", slug);
	for (size_t i = 0; i < r->danger.n; i++) {
		if (r->danger.findings[i].level > row->worst)
			row->worst = r->danger.findings[i].level;
	}
	change_summary(&r->change, row->summary, sizeof(row->summary));
	return true;
}

static void look_rows(struct looking *l)
{
	const struct look_wanted *w = l->wanted;
	struct err e = ERR_INIT;

	/* One more than shown, to know whether there are more. */
	if (face_each(l->look->face, w->slug[0] ? w->slug : NULL, w->states, w->limit + 1, add_row,
		      l, &e) < 0)
		set_trouble(l->news, &e);
	memcpy(l->news->rows_of, w->slug, sizeof(w->slug));
	l->news->rows_states = w->states;
	l->news->has_rows = !is_given_up(l);
	if (!l->news->has_rows) {
		free(take_ptr(&l->news->rows));
		l->news->n_rows = l->news->cap_rows = 0;
	}
}

static bool add_line(const char *line, void *ctx)
{
	struct looking *l = ctx;

	l->lines->lines = mem_grow_array(l->lines->lines, &l->lines->cap, l->lines->n + 1,
					 sizeof(*l->lines->lines));
	l->lines->lines[l->lines->n++] = mem_strdup(line);
	return l->lines->n < LOOK_RECORDS_MAX;
}

static void look_records(struct looking *l)
{
	const char *slug = l->wanted->records_of;

	/* A bottle without records yet has none to show; that is no trouble. */
	l->lines = &l->news->records;
	if (slug[0] &&
	    face_each_record(l->look->face, slug, LOOK_RECORDS_MAX, add_line, l, NULL) < 0)
		free_lines(&l->news->records);
	l->lines = &l->news->told;
	if (slug[0] && face_each_told(l->look->face, slug, LOOK_TOLD_MAX, add_line, l, NULL) < 0)
		free_lines(&l->news->told);
	memcpy(l->news->records_of, slug, sizeof(l->news->records_of));
	l->news->has_records = true;
}

static bool add_grant(const char *slug, const struct grant *g, void *ctx)
{
	struct looking *l = ctx;
	struct look_news *n = l->news;
	struct look_grant *to;

	(void)slug;
	if (n->n_grants == LOOK_GRANTS_MAX)
		return false;
	n->grants = mem_grow_array(n->grants, &n->cap_grants, n->n_grants + 1, sizeof(*n->grants));
	to = &n->grants[n->n_grants++];
	*to = (struct look_grant){
		.id = g->id, .until = g->until, .state = g->state, .scope = g->scope};
	change_summary(&g->change, to->summary, sizeof(to->summary));
	return true;
}

static void look_grants(struct looking *l)
{
	const char *slug = l->wanted->grants_of;
	struct err e = ERR_INIT;

	if (slug[0] && face_each_grant(l->look->face, slug, add_grant, l, &e) < 0 &&
	    e.code != -ENOENT)
		set_trouble(l->news, &e);
	memcpy(l->news->grants_of, slug, sizeof(l->news->grants_of));
	l->news->has_grants = true;
}

static void look_detail(struct looking *l)
{
	const struct look_wanted *w = l->wanted;
	struct look_news *n = l->news;
	struct err e = ERR_INIT;
	int r;

	if (!w->detail)
		return;
	r = face_get(l->look->face, w->detail_of, w->detail, &n->detail, &e);
	n->is_there = r == 0;
	if (r < 0 && r != -ENOENT)
		set_trouble(n, &e);
	memcpy(n->detail_of, w->detail_of, sizeof(n->detail_of));
	n->detail_id = w->detail;
	n->has_detail = true;
}

static void publish(struct look *look, struct look_news *news)
{
	char trouble[sizeof(news->trouble)];
	uint64_t one = 1;

	/* What is troubled stays so for what is published next. */
	memcpy(trouble, news->trouble, sizeof(trouble));
	(void)pthread_mutex_lock(&look->lock);
	look_news_merge(&look->news, news);
	(void)pthread_mutex_unlock(&look->lock);
	memcpy(news->trouble, trouble, sizeof(trouble));
	(void)!write(look->fd, &one, sizeof(one));
}

/* *all: the lists too; stays set when reading them was given up. What does not depend on how long
 * they are is published before them. */
static void look_once(struct look *look, const struct look_wanted *w, bool *all)
{
	struct look_news news = {0};
	struct looking l = {.look = look, .news = &news, .wanted = w};
	struct err e = ERR_INIT;
	bool is_changed = false;

	if (face_refresh(look->face, &is_changed, &e) < 0)
		set_trouble(&news, &e);
	*all |= is_changed;
	if (!news.trouble[0])
		(void)snprintf(news.trouble, sizeof(news.trouble), "%s", face_trouble(look->face));
	look_detail(&l);
	look_records(&l);
	if (*all) {
		look_bottles(&l);
		look_grants(&l);
	}
	publish(look, &news);
	if (!*all)
		return;
	look_rows(&l);
	*all = !news.has_rows;
	publish(look, &news);
	look_news_free(&news);
}

static void wait_for_kick(struct look *l)
{
	struct timespec at;

	(void)clock_gettime(CLOCK_MONOTONIC, &at);
	at.tv_nsec += LOOK_PERIOD_MS * 1000000L;
	at.tv_sec += at.tv_nsec / 1000000000L;
	at.tv_nsec %= 1000000000L;
	while (!l->is_kicked && !l->is_ending && !l->is_again) {
		if (pthread_cond_timedwait(&l->kick, &l->lock, &at) == ETIMEDOUT)
			break;
	}
}

static bool wants_same_lists(const struct look_wanted *a, const struct look_wanted *b)
{
	return strcmp(a->slug, b->slug) == 0 && strcmp(a->grants_of, b->grants_of) == 0 &&
	       a->states == b->states && a->limit == b->limit;
}

static void *run(void *ctx)
{
	struct look *l = ctx;
	struct look_wanted now = {0};
	bool all = true;

	(void)pthread_mutex_lock(&l->lock);
	while (!l->is_ending) {
		all |= !wants_same_lists(&l->wanted, &now);
		now = l->wanted;
		l->is_kicked = l->is_again = false;
		(void)pthread_mutex_unlock(&l->lock);
		look_once(l, &now, &all);
		(void)pthread_mutex_lock(&l->lock);
		wait_for_kick(l);
	}
	(void)pthread_mutex_unlock(&l->lock);
	return NULL;
}

/* --- the screen's side --- */

static void set_up_lock(struct look *l)
{
	pthread_condattr_t attr;

	(void)pthread_mutex_init(&l->lock, NULL);
	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&l->kick, &attr);
	(void)pthread_condattr_destroy(&attr);
}

int look_start(struct look **out, struct face *f, struct err *e)
{
	struct look *l = mem_zalloc(sizeof(*l));
	sigset_t all, old;
	int r;

	*out = NULL;
	l->face = f;
	set_up_lock(l);
	l->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (l->fd < 0) {
		free(l);
		return err_errno(e, "eventfd");
	}
	l->wanted.states = 1u << REQUEST_PENDING;
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&l->thread, NULL, run, l);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r != 0) {
		(void)close(l->fd);
		free(l);
		return err_set(e, -r, "a thread that looks at the stores cannot be started");
	}
	*out = l;
	return 0;
}

void look_stop(struct look *l)
{
	if (!l)
		return;
	(void)pthread_mutex_lock(&l->lock);
	l->is_ending = true;
	(void)pthread_cond_signal(&l->kick);
	(void)pthread_mutex_unlock(&l->lock);
	(void)pthread_join(l->thread, NULL);
	face_close(l->face);
	look_news_free(&l->news);
	(void)pthread_cond_destroy(&l->kick);
	(void)pthread_mutex_destroy(&l->lock);
	(void)close(l->fd);
	free(l);
}

void look_want(struct look *l, const struct look_wanted *w)
{
	(void)pthread_mutex_lock(&l->lock);
	if (memcmp(&l->wanted, w, sizeof(*w)) != 0) {
		l->wanted = *w;
		l->is_kicked = true;
		(void)pthread_cond_signal(&l->kick);
	}
	(void)pthread_mutex_unlock(&l->lock);
}

void look_again(struct look *l)
{
	(void)pthread_mutex_lock(&l->lock);
	l->is_again = true;
	(void)pthread_cond_signal(&l->kick);
	(void)pthread_mutex_unlock(&l->lock);
}

int look_fd(const struct look *l)
{
	return l->fd;
}

bool look_take(struct look *l, struct look_news *n)
{
	uint64_t ignored;

	if (read(l->fd, &ignored, sizeof(ignored)) < 0)
		return false;
	(void)pthread_mutex_lock(&l->lock);
	look_news_merge(n, &l->news);
	(void)pthread_mutex_unlock(&l->lock);
	return true;
}
