#include "cli/images.h"

#include "cli/progress.h"
#include "cli/table.h"

#include "backend/images.h"
#include "base/text.h"
#include "base/timeutil.h"

#include <errno.h>
#include <stdio.h>

#define OUT_MAX	  (16u << 20)
#define NAME_SIZE 512 /* of one that is shown */

void images_size(char *out, size_t size, uint64_t bytes)
{
	(void)snprintf(out, size, "%.1f MB", (double)bytes / 1e6);
}

static const char *name_of(const struct backend_image *x)
{
	return x->reference[0] ? x->reference : x->id;
}

static void time_text(char out[TIME_RFC3339_SIZE], int64_t seconds)
{
	out[0] = '\0';
	if (seconds > 0)
		time_format_rfc3339((uint64_t)seconds * TIME_NS_PER_SEC, out);
}

/* --- what each store is asked --- */

/* Nothing, and no failure, where this host has no such store. */
static int ask(const struct backend_images *store, struct backend_image **list, size_t *n,
	       int *status)
{
	struct err e = ERR_INIT;
	int r = store->list(list, n, &e);
	char why[NAME_SIZE];

	text_visible_once_cstr(why, sizeof(why), str_of(e.text));
	if (r == -ENODEV)
		cli_note("%s", why);
	else if (r < 0)
		*status = cli_fail(&e);
	if (r < 0)
		*n = 0;
	return r;
}

/* --- list --- */

/* A member whose value is a text, or null. */
static int put_text(struct buf *out, const char *key, const char *text)
{
	int r = buf_printf(out, ",\"%s\":", key);

	if (r < 0)
		return r;
	return text[0] ? text_json(out, str_of(text)) : buf_append_str(out, STR_LIT("null"));
}

/* An object that is yet to be closed. */
static int put_json(struct buf *out, const struct backend_images *store,
		    const struct backend_image *x, bool is_first)
{
	char created[TIME_RFC3339_SIZE], used[TIME_RFC3339_SIZE];
	int r = buf_printf(out, "%s\n{\"store\":\"%s\"", is_first ? "" : ",", store->name);

	time_text(created, x->created);
	time_text(used, x->used);
	if (r == 0)
		r = put_text(out, "kind", x->kind);
	if (r == 0)
		r = put_text(out, "reference", x->reference);
	if (r == 0)
		r = put_text(out, "id", x->id);
	if (r == 0)
		r = put_text(out, "created", created);
	if (r == 0)
		r = put_text(out, "last_used", used);
	return r == 0 ? buf_printf(out, ",\"size_bytes\":%llu,\"current\":%s,\"used\":%s",
				   (unsigned long long)x->size_bytes,
				   x->is_current ? "true" : "false", x->is_used ? "true" : "false")
		      : r;
}

static void put_row(struct table *t, const struct backend_images *store,
		    const struct backend_image *x)
{
	char size[32], created[TIME_RFC3339_SIZE], used[TIME_RFC3339_SIZE];

	images_size(size, sizeof(size), x->size_bytes);
	time_text(created, x->created);
	time_text(used, x->used);
	table_add(t, x->is_current ? TABLE_GREEN : TABLE_PLAIN,
		  (const char *const[]){store->name, x->kind, name_of(x), size, created,
					used[0] ? used : "-",
					x->is_used	? "in use"
					: x->is_current ? "current"
							: "old"});
}

struct listing {
	struct buf out; /* of JSON */
	struct table table;
	size_t n;
	int status;
};

static int list_store(const struct backend_images *store, bool is_json, struct listing *l)
{
	_cleanup_free_ struct backend_image *list = NULL;
	size_t n = 0;
	int r = 0;

	(void)ask(store, &list, &n, &l->status);
	for (size_t i = 0; r == 0 && i < n; i++, l->n++) {
		if (!is_json) {
			put_row(&l->table, store, &list[i]);
			continue;
		}
		r = put_json(&l->out, store, &list[i], l->n == 0);
		if (r == 0)
			r = buf_append(&l->out, "}", 1);
	}
	return r;
}

static int list_end(bool is_json, struct listing *l)
{
	if (is_json)
		return buf_append_str(&l->out, l->n ? STR_LIT("\n]\n") : STR_LIT("]\n"));
	if (l->n > 0)
		return table_print(&l->table, table_may_colour(STDOUT_FILENO), &l->out);
	if (l->status == CLI_OK)
		cli_note("no image of ours is there; \"claude-bottle start\" makes what it needs");
	return 0;
}

int images_list(bool is_json)
{
	static const char *const heads[] = {"STORE",   "KIND",	    "IMAGE", "SIZE",
					    "CREATED", "LAST USED", "STATE"};
	const struct backend_images *stores[PLAN_BACKEND_COUNT];
	size_t n = backend_images_all(stores);
	struct listing l = {.status = CLI_OK};
	int r;

	buf_init(&l.out, OUT_MAX);
	table_init(&l.table, ARRAY_LEN(heads));
	table_add(&l.table, TABLE_BOLD, heads);
	r = is_json ? buf_append(&l.out, "[", 1) : 0;
	for (size_t i = 0; r == 0 && i < n; i++)
		r = list_store(stores[i], is_json, &l);
	if (r == 0)
		r = list_end(is_json, &l);
	if (r < 0 || cli_print(&l.out) != CLI_OK)
		l.status = CLI_FAILED;
	table_free(&l.table);
	buf_free(&l.out);
	return l.status;
}

/* --- remove --- */

struct removal {
	const struct images_removal *what;
	bool has_found[CLI_POSITIONALS_MAX]; /* of what->names */
	bool is_first;
	bool is_partial; /* a store could not be asked, and that was said */
	int status;
	struct buf out;
};

static bool is_named(struct removal *rm, const struct backend_image *x)
{
	bool is_it = false;

	for (size_t i = 0; i < rm->what->n_names && i < CLI_POSITIONALS_MAX; i++) {
		if (strcmp(rm->what->names[i], x->reference) != 0 &&
		    strcmp(rm->what->names[i], x->id) != 0)
			continue;
		is_it = rm->has_found[i] = true;
	}
	return is_it;
}

static bool is_meant(struct removal *rm, const struct backend_image *x)
{
	if (rm->what->n_names > 0)
		return is_named(rm, x);
	return !x->is_used && (rm->what->is_all || !x->is_current);
}

static int report(struct removal *rm, const struct backend_images *store,
		  const struct backend_image *x, bool is_removed)
{
	char name[NAME_SIZE], kind[sizeof(x->kind) * 4], size[32];
	bool is_first = rm->is_first;
	int r;

	if (!rm->what->is_json && !is_removed)
		return 0;
	rm->is_first = false;
	if (rm->what->is_json) {
		r = put_json(&rm->out, store, x, is_first);
		return r == 0 ? buf_printf(&rm->out, ",\"removed\":%s}",
					   is_removed ? "true" : "false")
			      : r;
	}
	text_visible_cstr(name, sizeof(name), str_of(name_of(x)));
	text_visible_cstr(kind, sizeof(kind), str_of(x->kind));
	images_size(size, sizeof(size), x->size_bytes);
	return buf_printf(&rm->out, "removed %s (%s, %s)\n", name, kind, size);
}

static int remove_one(struct removal *rm, const struct backend_images *store,
		      const struct backend_image *x)
{
	struct err e = ERR_INIT;
	int r = store->remove(x, &e);

	/* Not in use by itself, but below one that stays; or it came into use just now. */
	if (r == -EBUSY && !rm->what->is_all && rm->what->n_names == 0)
		return 0;
	if (r < 0)
		rm->status = cli_fail(&e);
	return report(rm, store, x, r == 0);
}

static int lock_store(const struct backend_images *store, struct err *e)
{
	struct progress_view view;
	struct progress sink;
	int fd = -1, r;

	progress_view_init(&view, STDERR_FILENO, progress_may_rewrite(STDERR_FILENO));
	sink = progress_view_sink(&view);
	r = store->lock(&sink, &fd, e);
	progress_view_end(&view);
	return r < 0 ? r : fd;
}

static int remove_from(struct removal *rm, const struct backend_images *store)
{
	_cleanup_free_ struct backend_image *list = NULL;
	_cleanup_close_ int lock = -1;
	struct err e = ERR_INIT;
	size_t n = 0;
	int r = 0;

	lock = lock_store(store, &e);
	if (ask(store, &list, &n, &rm->status) < 0)
		rm->is_partial = true;
	/* Newest first: what stands on others goes before them. */
	for (size_t i = 0; r == 0 && i < n; i++) {
		if (!is_meant(rm, &list[i]))
			continue;
		/* Somebody is at work there, who may be about to need it. */
		if (e.code)
			return rm->status = cli_fail(&e), 0;
		r = remove_one(rm, store, &list[i]);
	}
	return r;
}

static void complain(struct removal *rm)
{
	for (size_t i = 0; i < rm->what->n_names; i++) {
		struct err e = ERR_INIT;

		if (rm->has_found[i])
			continue;
		(void)err_set(&e, -ENOENT,
			      "no image is called \"%.200s\"%s; \"claude-bottle image list\" "
			      "shows what is there",
			      rm->what->names[i],
			      rm->is_partial ? " where it could be looked for" : "");
		rm->status = cli_fail(&e);
	}
}

int images_remove(const struct images_removal *what)
{
	const struct backend_images *stores[PLAN_BACKEND_COUNT];
	struct removal rm = {.what = what, .is_first = true, .status = CLI_OK};
	size_t n = backend_images_all(stores);
	int r;

	buf_init(&rm.out, OUT_MAX);
	r = what->is_json ? buf_append(&rm.out, "[", 1) : 0;
	for (size_t i = 0; r == 0 && i < n; i++)
		r = remove_from(&rm, stores[i]);
	if (r == 0)
		complain(&rm);
	if (r == 0 && what->is_json)
		r = buf_append_str(&rm.out, rm.is_first ? STR_LIT("]\n") : STR_LIT("\n]\n"));
	else if (r == 0 && rm.is_first && rm.status == CLI_OK)
		cli_note("nothing to remove");
	if (r < 0 || cli_print(&rm.out) != CLI_OK)
		rm.status = CLI_FAILED;
	buf_free(&rm.out);
	return rm.status;
}
