/* What the engine is asked for. */
#include "image/image_int.h"

#include "base/mem.h"
#include "base/json.h"
#include "conf/reference.h"

#include <errno.h>
#include <stdio.h>

#define IMAGE_PATH_MAX 1024

int image_inspect(const struct engine *en, const char *ref, struct image_info *out, json_t **whole,
		  struct err *e)
{
	_cleanup_free_ char *path = mem_printf("/images/%s/json", ref);
	_cleanup_json_ json_t *image = NULL;
	const char *id;
	int ret = engine_do(en, "GET", path, NULL, "inspect image", &image, e);

	if (ret < 0)
		return ret;
	id = json_string_value(json_object_get(image, "Id"));
	if (!id || strlen(id) >= sizeof(out->id))
		return err_set(e, -EPROTO, "the Docker engine: inspect image: it has no id");
	if (out) {
		(void)snprintf(out->reference, sizeof(out->reference), "%s", ref);
		(void)snprintf(out->id, sizeof(out->id), "%s", id);
		out->size_bytes = (uint64_t)json_integer_value(json_object_get(image, "Size"));
	}
	if (whole)
		*whole = take_ptr(&image);
	return 0;
}

void image_drop(const struct engine *en, const char *id)
{
	_cleanup_free_ char *path = mem_printf("/images/%s", id);
	_cleanup_json_ json_t *image = NULL;

	/* One with a name belongs to somebody; its only name would go with it. */
	if (image_inspect(en, id, NULL, &image, NULL) < 0 ||
	    json_array_size(json_object_get(image, "RepoTags")) > 0)
		return;
	(void)!engine_do(en, "DELETE", path, NULL, "remove image", NULL, NULL);
}

int image_name(const struct engine *en, const char *id, const char *reference, struct err *e)
{
	_cleanup_(buf_free) struct buf path;
	struct reference r;
	int ret = reference_parse(str_of(reference), &r, e);

	buf_init(&path, IMAGE_PATH_MAX);
	if (ret < 0)
		return ret;
	if (buf_printf(&path, "/images/%s/tag?repo=", id) < 0 || engine_escape(&path, r.name) < 0 ||
	    buf_printf(&path, "&tag=") < 0 || engine_escape(&path, r.tag) < 0 ||
	    buf_append(&path, "", 1) < 0)
		return err_set(e, -ENOBUFS, "the image's name is too long");
	return engine_do(en, "POST", buf_str(&path).p, NULL, "name image", NULL, e);
}

struct pull {
	const struct progress *progress;
	char step[64];
};

static int on_pull(void *ctx, const json_t *event)
{
	const json_t *detail = json_object_get(event, "progressDetail");
	const char *status = json_string_value(json_object_get(event, "status"));
	const char *layer = json_string_value(json_object_get(event, "id"));
	struct pull *p = ctx;
	char text[160];

	(void)snprintf(text, sizeof(text), "%.64s%s%.64s", status ? status : "", layer ? " " : "",
		       layer ? layer : "");
	progress_tell(p->progress, p->step, text,
		      (uint64_t)json_integer_value(json_object_get(detail, "current")),
		      (uint64_t)json_integer_value(json_object_get(detail, "total")));
	return 0;
}

int image_pull(const struct engine *en, struct str name, struct str version,
	       const struct progress *progress, struct err *e)
{
	struct pull p = {.progress = progress};
	_cleanup_(buf_free) struct buf path;

	buf_init(&path, IMAGE_PATH_MAX);
	(void)snprintf(p.step, sizeof(p.step), "pull %.*s", (int)(name.n > 48 ? 48 : name.n),
		       name.p);
	/* Without a tag all of a repository would come. */
	if (buf_printf(&path, "/images/create?fromImage=") < 0 || engine_escape(&path, name) < 0 ||
	    buf_printf(&path, "&tag=") < 0 || engine_escape(&path, version) < 0 ||
	    buf_append(&path, "", 1) < 0)
		return err_set(e, -ENOBUFS, "the image's name is too long");
	progress_tell(progress, p.step, "", 0, 0);
	return engine_stream(en, "POST", buf_str(&path).p, -1, NULL, NULL, "pull image", on_pull,
			     &p, e);
}
