/* The root file system of an engine's image: of a container that is never started. */
#include "vm/image_int.h"

#include "base/json.h"
#include "base/mem.h"
#include "image/image.h"

#include <errno.h>
#include <stdio.h>

#define EXPORT_PING_MS 2000

int vm_image_of_engine(struct vm_source *s, bool may_make, struct err *e)
{
	struct image_info info;
	int ret = engine_find(&s->engine, e);

	s->image[0] = '\0';
	if (ret == 0)
		ret = engine_connect(&s->engine, EXPORT_PING_MS, e);
	if (ret < 0) {
		if (e)
			e->code = -ENODEV;
		return -ENODEV;
	}
	ret = may_make
		      ? image_ensure_agent(&s->engine, s->provider, s->named, s->progress, &info, e)
		      : image_find_agent(&s->engine, s->provider, s->named, &info, e);
	if (ret == 0)
		(void)snprintf(s->image, sizeof(s->image), "%s", info.id);
	return ret;
}

/* The image may name no command, and a container has one. */
static int make_container(const struct vm_source *s, const char *name, struct err *e)
{
	_cleanup_free_ char *path = mem_printf("/containers/create?name=%s", name);
	_cleanup_json_ json_t *body =
		json_pack("{s:s, s:[s], s:b, s:{s:s}}", "Image", s->image, "Cmd", "/nothing",
			  "NetworkDisabled", 1, "Labels", IMAGE_LABEL, "export");

	return engine_do(&s->engine, "POST", path, body, "create a container to copy", NULL, e);
}

static int remove_container(const struct vm_source *s, const char *name, struct err *e)
{
	_cleanup_free_ char *path = mem_printf("/containers/%s?force=1&v=1", name);

	return engine_do(&s->engine, "DELETE", path, NULL, "remove the copied container", NULL, e);
}

/* One of this user's at a time, by the store's lock: what has its name is of a build that was
 * broken off. */
int vm_image_export(const struct vm_source *s, int fd, struct err *e)
{
	_cleanup_free_ char *name = mem_printf("claude-bottle-export-%u", (unsigned)geteuid());
	_cleanup_free_ char *path = mem_printf("/containers/%s/export", name);
	struct err own = ERR_INIT;
	int ret, removed;

	progress_tell(s->progress, VM_IMAGE_STEP, "copied from the Docker engine", 0, 0);
	ret = make_container(s, name, &own);
	if (ret == -EEXIST) {
		ret = remove_container(s, name, e);
		if (ret == 0)
			ret = make_container(s, name, e);
	} else if (ret < 0 && e) {
		*e = own;
	}
	if (ret < 0)
		return ret;
	ret = engine_fetch(&s->engine, path, fd, VM_DISK_BYTES, "copy an image", e);
	removed = remove_container(s, name, ret < 0 ? NULL : e);
	return ret < 0 ? ret : removed;
}
