/* What of ours is in the engine. */
#include "image/image_int.h"

#include "base/mem.h"
#include "base/text.h"

#include <errno.h>
#include <stdio.h>

#define LIST_PATH	"/images/json?filters=%7B%22label%22%3A%5B%22" IMAGE_LABEL "%22%5D%7D"
#define LIST_CONTAINERS "/containers/json?all=1"

static void json_unref(json_t **j)
{
	json_decref(*j);
}

static const char *text_of(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

static bool is_used(const json_t *containers, const char *id)
{
	const json_t *c;
	size_t i;

	json_array_foreach(containers, i, c)
	{
		if (strcmp(text_of(c, "ImageID"), id) == 0)
			return true;
	}
	return false;
}

static bool is_current(const struct image_names *names, const char *reference)
{
	for (size_t k = 0; k < IMAGE_KIND_COUNT; k++) {
		if (reference[0] && strcmp(names->reference[k], reference) == 0)
			return true;
	}
	return false;
}

struct listing {
	struct image_entry *list;
	size_t n;
	const struct image_names *names;
	const json_t *containers;
};

static void list_add(struct listing *l, const json_t *image, const char *reference)
{
	struct image_entry *x = &l->list[l->n];

	*x = (struct image_entry){0};
	text_visible_cstr(x->kind, sizeof(x->kind),
			  str_of(text_of(json_object_get(image, "Labels"), IMAGE_LABEL)));
	(void)snprintf(x->reference, sizeof(x->reference), "%s", reference);
	(void)snprintf(x->id, sizeof(x->id), "%s", text_of(image, "Id"));
	x->size_bytes = (uint64_t)json_integer_value(json_object_get(image, "Size"));
	x->created = json_integer_value(json_object_get(image, "Created"));
	x->is_current = is_current(l->names, reference);
	x->is_used = is_used(l->containers, x->id);
	l->n++;
}

/* One entry for each of its names that is ours. A user's own image built on one of ours inherits
 * the label, so that without a name only a stage is surely ours. */
static void list_image(struct listing *l, const json_t *image)
{
	const json_t *tags = json_object_get(image, "RepoTags"), *tag;
	bool has_name = false;
	size_t i;

	json_array_foreach(tags, i, tag)
	{
		const char *name = json_string_value(tag);

		if (!name || strcmp(name, "<none>:<none>") == 0)
			continue;
		has_name = true;
		if (strncmp(name, IMAGE_OURS, strlen(IMAGE_OURS)) == 0 && l->n < IMAGE_LIST_MAX)
			list_add(l, image, name);
	}
	if (!has_name && l->n < IMAGE_LIST_MAX &&
	    strcmp(text_of(json_object_get(image, "Labels"), IMAGE_LABEL), IMAGE_STAGE) == 0)
		list_add(l, image, "");
}

static int newer_first(const void *a, const void *b)
{
	const struct image_entry *x = a, *y = b;

	if (x->created != y->created)
		return x->created < y->created ? 1 : -1;
	return strcmp(x->reference, y->reference);
}

int image_list(const struct engine *en, struct image_entry **list, size_t *n, struct err *e)
{
	_cleanup_(json_unref) json_t *images = NULL, *containers = NULL;
	struct image_names names;
	struct listing l = {.names = &names};
	const json_t *image;
	size_t i;
	int ret;

	*list = NULL;
	*n = 0;
	ret = image_names_here(&names, NULL, true, e);
	if (ret == 0)
		ret = engine_do(en, "GET", LIST_PATH, NULL, "list images", &images, e);
	if (ret == 0)
		ret = engine_do(en, "GET", LIST_CONTAINERS, NULL, "list containers", &containers,
				e);
	if (ret < 0)
		return ret;
	l.containers = containers;
	l.list = mem_zalloc_array(IMAGE_LIST_MAX, sizeof(*l.list));
	json_array_foreach(images, i, image) list_image(&l, image);
	qsort(l.list, l.n, sizeof(*l.list), newer_first);
	*list = l.list;
	*n = l.n;
	return 0;
}

int image_remove(const struct engine *en, const struct image_entry *x, struct err *e)
{
	_cleanup_free_ char *path =
		mem_printf("/images/%s", x->reference[0] ? x->reference : x->id);
	struct err own = ERR_INIT;
	int ret;

	if (x->is_used)
		return err_set(e, -EBUSY, "%s is used by a container",
			       x->reference[0] ? x->reference : x->id);
	ret = engine_do(en, "DELETE", path, NULL, "remove image", NULL, &own);
	/* Removed with one that stood on it. */
	if (ret == -ENOENT)
		return 0;
	if (ret == -EEXIST)
		return err_set(e, -EBUSY, "%.600s", own.text);
	if (ret < 0 && e)
		*e = own;
	return ret;
}
