/*
 * One image out of its template, by the engine's classic builder: it is in every engine of the
 * versions that we speak with, and its answer is a stream of JSON.
 *
 * Without the builder's cache: an image is built when its inputs have changed, and then of what the
 * archives have today, not of a layer that some build left months ago. So whatever a build leaves
 * is its own, and taking it away disturbs no other.
 */
#include "image/image_int.h"

#include "base/mem.h"
#include "base/json.h"
#include "image/tar.h"

#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>

#define BUILD_PATH_MAX 4000 /* the engine's client takes no longer one */

static int add_host_ca(int fd, struct err *e)
{
	_cleanup_(buf_free) struct buf ca;
	int ret = image_host_ca(&ca, e);

	return ret < 0 ? ret : tar_file(fd, IMAGE_HOST_CA, 0644, buf_str(&ca), e);
}

/* The whole in memory: its largest part, the executable, was there already. */
static int make_context(const struct image_job *job, const struct image_template *t, struct err *e)
{
	_cleanup_close_ int fd = memfd_create("context", MFD_CLOEXEC);
	int ret;

	if (fd < 0)
		return err_errno(e, "make a build's context");
	ret = tar_file(fd, "Dockerfile", 0644, str_of(t->dockerfile), e);
	for (size_t i = 0; ret == 0 && i < IMAGE_FILES_MAX && t->files[i].name; i++)
		ret = tar_file(fd, t->files[i].name, 0644, str_of(t->files[i].text), e);
	if (ret == 0 && t->has_program)
		ret = tar_file(fd, "claude-bottle-bundle", 0755,
			       str_slice(job->program->data, job->program->n), e);
	if (ret == 0 && t->needs_host)
		ret = add_host_ca(fd, e);
	if (ret == 0)
		ret = tar_end(fd, e);
	if (ret < 0)
		return ret;
	if (lseek(fd, 0, SEEK_SET) < 0)
		return err_errno(e, "rewind a build's context");
	return take_fd(&fd);
}

static int add_query(struct buf *path, const char *name, const json_t *value, struct err *e)
{
	_cleanup_free_ char *text = json_dumps(value, JSON_COMPACT);

	if (!text || buf_printf(path, "&%s=", name) < 0 || engine_escape(path, str_of(text)) < 0)
		return err_set(e, -ENOBUFS, "a build's arguments are longer than %d bytes",
			       BUILD_PATH_MAX);
	return 0;
}

static int make_path(enum image_kind kind, const char *below, struct buf *path, struct err *e)
{
	const struct image_template *t = &image_templates[kind];
	_cleanup_json_ json_t *args = json_object();
	_cleanup_json_ json_t *labels = json_pack("{s:s, s:s}", IMAGE_LABEL, t->name,
						  "claude-bottle.version", CLAUDE_BOTTLE_VERSION);
	char registry[IMAGE_URL_MAX];
	int ret;

	image_host_proxies(args);
	/* By its bare digits: an id is never pulled. A name that went away in between would be,
	 * from whoever has it in a public registry. */
	if (str_starts(str_of(below), STR_LIT("sha256:")))
		below += 7;
	(void)json_object_set_new(args, "BASE", json_string(below));
	if (t->needs_host && image_host_registry(registry))
		(void)json_object_set_new(args, "NPM_REGISTRY", json_string(registry));
	if (buf_printf(path, "/build?rm=1&forcerm=1&nocache=1") < 0)
		return err_set(e, -ENOBUFS, "no room for a build's arguments");
	ret = add_query(path, "buildargs", args, e);
	return ret < 0 ? ret : add_query(path, "labels", labels, e);
}

/* What the stages left, the last first: those that the new image stands on are refused. */
static void drop_steps(const struct engine *en, const struct image_said *s)
{
	for (size_t i = s->n_ids; i-- > 0;) {
		/* The image itself has no name yet. */
		if (strncmp(s->id, "sha256:", 7) == 0 &&
		    strncmp(s->id + 7, s->ids[i], strlen(s->ids[i])) == 0)
			continue;
		image_drop(en, s->ids[i]);
	}
}

int image_build_one(const struct image_job *job, enum image_kind kind, const char *below,
		    char id[IMAGE_ID_MAX], struct err *e)
{
	const struct image_template *t = &image_templates[kind];
	_cleanup_close_ int context = -1;
	_cleanup_(buf_free) struct buf path;
	struct image_said said;
	char what[48];
	int ret;

	buf_init(&path, BUILD_PATH_MAX);
	if (job->log)
		buf_reset(job->log);
	image_said_init(&said, t->name, job->progress, job->log);
	(void)snprintf(what, sizeof(what), "build image %s", t->name);
	ret = make_path(kind, below, &path, e);
	if (ret < 0)
		return ret;
	context = make_context(job, t, e);
	if (context < 0)
		return context;
	ret = buf_append(&path, "", 1);
	if (ret < 0)
		return err_set(e, ret, "no room for a build's arguments");
	progress_tell(job->progress, said.step, "", 0, 0);
	ret = engine_stream(job->en, "POST", buf_str(&path).p, context, "application/x-tar", NULL,
			    what, image_said_event, &said, e);
	if (ret == 0 && !said.id[0])
		ret = err_set(e, -EPROTO, "the Docker engine: %s: it did not say what it built",
			      what);
	else if (ret < 0)
		image_said_fail(&said, e);
	if (ret < 0 && e && e->code)
		ret = e->code;
	drop_steps(job->en, &said);
	if (ret == 0)
		memcpy(id, said.id, IMAGE_ID_MAX);
	return ret;
}
