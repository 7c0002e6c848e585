/* Theory of operation: a name is made of inputs; what is there under that name is taken, what is
 * not is built without a name, and only then named. */
#include "image/image_int.h"

#include "base/io.h"
#include "base/mem.h"
#include "base/timeutil.h"
#include "conf/reference.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/utsname.h>

#define IMAGE_REGISTRY_MS 10000
#define IMAGE_PATH_MAX	  1024
#define IMAGE_LOCK_MS	  (30 * 60 * 1000) /* longer than a build on a slow line */
#define IMAGE_LOCK_STEP	  200000	   /* us */

static void json_unref(json_t **j)
{
	json_decref(*j);
}

/* --- calls --- */

int image_inspect(const struct engine *en, const char *ref, struct image_info *out, json_t **whole,
		  struct err *e)
{
	_cleanup_free_ char *path = mem_printf("/images/%s/json", ref);
	_cleanup_(json_unref) json_t *image = NULL;
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
	_cleanup_(json_unref) json_t *image = NULL;

	/* One with a name belongs to somebody; its only name would go with it. */
	if (image_inspect(en, id, NULL, &image, NULL) < 0 ||
	    json_array_size(json_object_get(image, "RepoTags")) > 0)
		return;
	(void)!engine_do(en, "DELETE", path, NULL, "remove image", NULL, NULL);
}

static int image_name(const struct engine *en, const char *id, const char *reference, struct err *e)
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

int image_registry_answers(const struct engine *en, struct str name, struct str version,
			   struct err *e)
{
	_cleanup_free_ char *path =
		mem_printf("/distribution/" STR_FMT "%s" STR_FMT "/json", STR_ARG(name),
			   str_chr(version, ':') < version.n ? "@" : ":", STR_ARG(version));
	struct engine_call c;
	int ret = engine_begin(&c, en, "GET", path, NULL, "ask the registry", e);

	if (ret < 0)
		return ret;
	c.timeout_ms = IMAGE_REGISTRY_MS;
	return engine_end(&c, NULL, e);
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

/* --- names --- */

static int names_for(struct image_names *out, struct image_program *program, bool has_program,
		     struct err *e)
{
	struct utsname host;
	int ret;

	*program = (struct image_program){0};
	if (uname(&host) < 0)
		return err_errno(e, "ask for the machine's architecture");
	ret = has_program ? image_program_load(program, e) : 0;
	if (ret < 0)
		return ret;
	return image_names_make(out, CLAUDE_BOTTLE_VERSION, host.machine,
				has_program ? program->hash : NULL, e);
}

/* -ENOENT with out->reference set. */
static int find(const struct engine *en, enum image_kind kind, const struct image_names *names,
		struct image_info *out, struct err *e)
{
	struct err own = ERR_INIT;
	int ret;

	*out = (struct image_info){0};
	(void)snprintf(out->reference, sizeof(out->reference), "%s", names->reference[kind]);
	ret = image_inspect(en, names->reference[kind], out, NULL, &own);
	if (ret == -ENOENT)
		return err_set(e, ret,
			       "the image %s is not there: claude-bottle image build %s makes it",
			       names->reference[kind], image_kind_name(kind));
	if (ret < 0 && e)
		*e = own;
	return ret;
}

static int find_kind(const struct engine *en, enum image_kind kind, struct image_info *out,
		     struct err *e)
{
	_cleanup_(image_program_free) struct image_program program;
	struct image_names names;
	int ret = names_for(&names, &program, image_templates[kind].has_program, e);

	*out = (struct image_info){0};
	return ret < 0 ? ret : find(en, kind, &names, out, e);
}

/* --- making --- */

/* One build of a user's at a time: a second one of the same would only do it again, and finds it
 * made when its turn comes. Two users' builds do not wait for each other, and need not. */
static int lock_builds(const struct progress *p)
{
	const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	_cleanup_free_ char *folder = NULL, *path = NULL;
	_cleanup_close_ int fd = -1;
	uint64_t end_ns = time_monotonic_ns() + IMAGE_LOCK_MS * TIME_NS_PER_MS;

	if (cache && cache[0] == '/')
		folder = mem_printf("%s/claude-bottle", cache);
	else if (home && home[0] == '/')
		folder = mem_printf("%s/.cache/claude-bottle", home);
	if (!folder || io_mkdir_p(folder, 0700, NULL) < 0)
		return -1;
	path = mem_printf("%s/image.lock", folder);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -1;
	while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK || time_monotonic_ns() > end_ns)
			return -1;
		progress_tell(p, "wait", "another build of images goes on", 0, 0);
		(void)usleep(IMAGE_LOCK_STEP);
	}
	return take_fd(&fd);
}

/* Names what was built, unless somebody else was faster: then theirs is taken. */
static int take_name(const struct image_job *job, enum image_kind kind, bool must_replace,
		     const char *id, struct image_info *out, struct err *e)
{
	const char *reference = job->names->reference[kind];
	struct image_info before = {0};
	int ret = image_inspect(job->en, reference, &before, NULL, NULL);

	if (ret == 0 && !must_replace) {
		image_drop(job->en, id);
		*out = before;
		return 0;
	}
	ret = image_name(job->en, id, reference, e);
	if (ret < 0) {
		image_drop(job->en, id);
		return ret;
	}
	if (before.id[0] && strcmp(before.id, id) != 0)
		image_drop(job->en, before.id);
	return image_inspect(job->en, reference, out, NULL, e);
}

static int make(const struct image_job *job, enum image_kind kind, struct image_build *b,
		struct image_info *out, struct err *e)
{
	const struct image_template *t = &image_templates[kind];
	bool must_build = b->must_rebuild && !b->is_built[kind];
	char id[IMAGE_ID_MAX] = "";
	struct err own = ERR_INIT;
	struct image_info below;
	int ret = find(job->en, kind, job->names, out, &own);

	if (ret < 0 && ret != -ENOENT && e)
		*e = own;
	if ((ret == 0 && !must_build) || (ret < 0 && ret != -ENOENT))
		return ret;
	if (t->below >= 0) {
		ret = make(job, (enum image_kind)t->below, b, &below, e);
		if (ret < 0)
			return ret;
		ret = image_build_one(job, kind, NULL, id, e);
	} else {
		ret = image_base_make(job, id, e);
	}
	if (ret == 0)
		ret = take_name(job, kind, must_build, id, out, e);
	b->is_built[kind] |= ret == 0;
	return ret;
}

int image_make(const struct engine *en, enum image_kind kind, struct image_build *b,
	       const struct progress *p, struct image_info *out, struct err *e)
{
	_cleanup_(image_program_free) struct image_program program;
	_cleanup_close_ int lock = -1;
	struct image_names names;
	struct image_job job = {
		.en = en, .names = &names, .program = &program, .progress = p, .log = b->log};
	struct err own = ERR_INIT;
	int ret = names_for(&names, &program, image_templates[kind].has_program, e);

	*out = (struct image_info){0};
	if (ret < 0)
		return ret;
	if (!b->must_rebuild) {
		ret = find(en, kind, &names, out, &own);
		if (ret == 0)
			return 0;
	}
	lock = lock_builds(p);
	return make(&job, kind, b, out, e);
}

/* --- the interface --- */

int image_ensure_bundle(const struct engine *en, const struct progress *p, struct image_info *out,
			struct err *e)
{
	struct image_build b = {0};

	return image_make(en, IMAGE_BUNDLE, &b, p, out, e);
}

int image_find_bundle(const struct engine *en, struct image_info *out, struct err *e)
{
	return find_kind(en, IMAGE_BUNDLE, out, e);
}

static int kind_of_provider(const char *provider, enum image_kind *kind, struct err *e)
{
	if (provider && image_kind_parse(str_of(provider), kind) && *kind >= IMAGE_SHELL)
		return 0;
	return err_set(e, -EINVAL, "no image for the provider \"%s\": name one with \"image:\"",
		       provider ? provider : "");
}

static int find_named(const struct engine *en, const char *named, struct reference *r,
		      struct image_info *out, struct err *e)
{
	_cleanup_free_ char *full = NULL;
	struct err own = ERR_INIT;
	int ret = reference_parse(str_of(named), r, e);

	*out = (struct image_info){0};
	if (ret < 0)
		return ret;
	(void)snprintf(out->reference, sizeof(out->reference), "%s", named);
	if (strlen(named) >= sizeof(out->reference))
		return err_set(e, -EINVAL, "the image's name is longer than %zu bytes",
			       sizeof(out->reference) - 1);
	full = mem_printf("%s%s", named, r->tag.n || r->digest.n ? "" : ":latest");
	ret = image_inspect(en, full, out, NULL, &own);
	(void)snprintf(out->reference, sizeof(out->reference), "%s", named);
	if (ret == -ENOENT)
		return err_set(e, ret,
			       "the image \"%s\" is not in the engine: \"docker pull %s\" or build "
			       "it under that name",
			       named, named);
	if (ret < 0 && e)
		*e = own;
	return ret;
}

static int ensure_named(const struct engine *en, const char *named, const struct progress *p,
			struct image_info *out, struct err *e)
{
	struct err own = ERR_INIT;
	struct reference r;
	int ret = find_named(en, named, &r, out, &own);

	if (ret == -ENOENT) {
		struct err of_pull = ERR_INIT;

		ret = image_pull(en, r.name, reference_version(&r), p, &of_pull);
		if (ret == 0)
			return find_named(en, named, &r, out, e);
		return err_set(e, ret == -ENOSPC ? ret : -ENOENT,
			       "the image \"%s\" is not in the engine and could not be pulled: "
			       "\"docker login\" and \"docker pull %s\", or build it under that "
			       "name (%.300s)",
			       named, named, of_pull.text);
	}
	if (ret < 0 && e)
		*e = own;
	return ret;
}

int image_ensure_agent(const struct engine *en, const char *provider, const char *named,
		       const struct progress *p, struct image_info *out, struct err *e)
{
	struct image_build b = {0};
	enum image_kind kind;
	int ret;

	*out = (struct image_info){0};
	if (named)
		return ensure_named(en, named, p, out, e);
	ret = kind_of_provider(provider, &kind, e);
	return ret < 0 ? ret : image_make(en, kind, &b, p, out, e);
}

int image_find_agent(const struct engine *en, const char *provider, const char *named,
		     struct image_info *out, struct err *e)
{
	struct reference r;
	enum image_kind kind;
	int ret;

	*out = (struct image_info){0};
	if (named)
		return find_named(en, named, &r, out, e);
	ret = kind_of_provider(provider, &kind, e);
	return ret < 0 ? ret : find_kind(en, kind, out, e);
}
