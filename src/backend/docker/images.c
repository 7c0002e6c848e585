/* The images of the docker backend as the command line sees them. */
#include "backend/images.h"

#include "base/clean.h"
#include "base/mem.h"
#include "image/image.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* Any engine that answers, also one that no bottle can be had of: the room is taken there, too. */
static int connect_engine(struct engine *en, struct err *e)
{
	int ret = engine_find(en, e);

	if (ret == 0)
		ret = engine_connect(en, ENGINE_TIMEOUT_MS, e);
	if (ret < 0 && e)
		e->code = -ENODEV;
	return ret < 0 ? -ENODEV : 0;
}

static void describe(struct backend_image *out, const struct image_entry *x)
{
	*out = (struct backend_image){.size_bytes = x->size_bytes,
				      .created = x->created,
				      .is_current = x->is_current,
				      .is_used = x->is_used};
	(void)snprintf(out->kind, sizeof(out->kind), "%s", x->kind);
	(void)snprintf(out->reference, sizeof(out->reference), "%s", x->reference);
	(void)snprintf(out->id, sizeof(out->id), "%s", x->id);
}

static int docker_images_list(struct backend_image **list, size_t *n, struct err *e)
{
	_cleanup_free_ struct image_entry *entries = NULL;
	struct engine en;
	int ret = connect_engine(&en, e);

	*list = NULL;
	*n = 0;
	if (ret == 0)
		ret = image_list(&en, &entries, n, e);
	if (ret < 0)
		return ret;
	*list = mem_zalloc_array(*n + 1, sizeof(**list));
	for (size_t i = 0; i < *n; i++)
		describe(&(*list)[i], &entries[i]);
	return 0;
}

/* What a build has left by now for its next step has no name and is not in use. */
static int docker_images_lock(const struct progress *progress, int *fd, struct err *e)
{
	(void)e;
	*fd = image_lock(progress);
	return 0;
}

static int docker_images_remove(const struct backend_image *x, struct err *e)
{
	struct image_entry entry = {.is_used = x->is_used};
	struct engine en;
	int ret = connect_engine(&en, e);

	if (ret < 0)
		return ret;
	if (!str_to_cstr(entry.reference, sizeof(entry.reference), str_of(x->reference)) ||
	    !str_to_cstr(entry.id, sizeof(entry.id), str_of(x->id)))
		return err_set(e, -EINVAL, "no image has such a long name");
	return image_remove(&en, &entry, e);
}

const struct backend_images backend_images_docker = {
	.name = "docker",
	.list = docker_images_list,
	.lock = docker_images_lock,
	.remove = docker_images_remove,
};
