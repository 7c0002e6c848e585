/* Theory of operation: a name is made of inputs; what is there under that name is taken, what is
 * not is built without a name, and only then named. */
#include "image/image_int.h"

#include "base/cache.h"
#include "base/mem.h"
#include "conf/reference.h"
#include "image/digest.h"

#include <errno.h>
#include <stdio.h>
#include <sys/utsname.h>

#define IMAGE_LOCK_MS (30 * 60 * 1000) /* longer than a build on a slow line */

/* --- names --- */

int image_names_here(struct image_names *out, struct image_program *program, bool has_program,
		     struct err *e)
{
	char hex[DIGEST_SIZE];
	struct utsname host;
	int ret = 0;

	if (program)
		*program = (struct image_program){0};
	if (uname(&host) < 0)
		return err_errno(e, "ask for the machine's architecture");
	if (has_program && program)
		ret = image_program_load(program, e);
	else if (has_program)
		ret = image_program_digest(hex, e);
	if (ret < 0)
		return ret;
	if (program && has_program)
		(void)snprintf(hex, sizeof(hex), "%s", program->hash);
	return image_names_make(out, CLAUDE_BOTTLE_VERSION, host.machine, has_program ? hex : NULL,
				e);
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
	struct image_names names;
	int ret = image_names_here(&names, NULL, image_templates[kind].has_program, e);

	*out = (struct image_info){0};
	return ret < 0 ? ret : find(en, kind, &names, out, e);
}

/* --- making --- */

int image_lock(const struct progress *p)
{
	_cleanup_close_ int folder = cache_open(), lock = -1;

	if (folder >= 0)
		lock = cache_lock(folder, "image.lock", IMAGE_LOCK_MS,
				  "another build of images goes on", p, NULL);
	return lock < 0 ? -1 : take_fd(&lock);
}

/* Away with what a rebuild has taken the name from. While a container uses it, it keeps a name of
 * ours, by which "image remove" finds it later: one without could be a user's own, since those that
 * stand on ours inherit the labels. */
static void put_aside(const struct engine *en, enum image_kind kind, const char *id)
{
	const char *digits = str_starts(str_of(id), STR_LIT("sha256:")) ? id + 7 : id;
	_cleanup_free_ char *name = mem_printf(IMAGE_OURS "%s:replaced-%.*s", image_kind_name(kind),
					       IMAGE_TAG_DIGITS, digits);
	_cleanup_free_ char *path = mem_printf("/images/%s", name);

	if (image_name(en, id, name, NULL) == 0)
		(void)!engine_do(en, "DELETE", path, NULL, "remove image", NULL, NULL);
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
		put_aside(job->en, kind, before.id);
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
		ret = image_build_one(job, kind, below.id, id, e);
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
	_cleanup_(image_program_free) struct image_program program = {0};
	bool has_program = image_templates[kind].has_program;
	_cleanup_close_ int lock = -1;
	struct image_names names;
	struct image_job job = {
		.en = en, .names = &names, .program = &program, .progress = p, .log = b->log};
	struct err own = ERR_INIT;
	int ret;

	*out = (struct image_info){0};
	if (!b->must_rebuild) {
		ret = image_names_here(&names, NULL, has_program, e);
		if (ret < 0)
			return ret;
		ret = find(en, kind, &names, out, &own);
		if (ret == 0)
			return 0;
	}
	lock = image_lock(p);
	/* Anew: the executable that goes in must be the one in the name. */
	ret = image_names_here(&names, &program, has_program, e);
	return ret < 0 ? ret : make(&job, kind, b, out, e);
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

int image_agent_reference(const char *provider, char out[IMAGE_REFERENCE_MAX], struct err *e)
{
	struct image_names names;
	enum image_kind kind;
	int ret = kind_of_provider(provider, &kind, e);

	if (ret == 0)
		ret = image_names_here(&names, NULL, false, e);
	if (ret == 0)
		(void)snprintf(out, IMAGE_REFERENCE_MAX, "%s", names.reference[kind]);
	return ret;
}
