/* commit: the state of a bottle's compartment, kept by its backend as an image. */
#include "bottles/bottles.h"
#include "cli/verbs.h"

#include "backend/backend.h"
#include "base/text.h"
#include "conf/reference.h"

#include <errno.h>
#include <stdio.h>

#define SNAPSHOT_NAME "claude-bottle/snapshot:"

enum { OPT_JSON };
static const struct cli_option options[] = {
	[OPT_JSON] = {"json", 0, NULL, "as a JSON object", 0},
};

static int backend_of(const struct bottles_entry *b, const struct backend **out, struct err *e)
{
	enum plan_backend id;
	int r;

	if (!b->backend[0])
		return err_set(e, -ENOENT, "%s does not say which backend made it", b->slug);
	r = plan_backend_parse(str_of(b->backend), &id, e);
	if (r < 0)
		return err_prefix(e, "%s", b->slug);
	*out = backend_find(id);
	return *out ? 0
		    : err_set(e, -ENOSYS, "%s was made by backend %s, which is not in this build",
			      b->slug, b->backend);
}

/* reference: what the engine calls it, held to the form that we would take from a manifest. */
static int commit(const struct bottles_entry *b, const char *name,
		  char reference[BACKEND_REFERENCE_MAX], struct err *e)
{
	_cleanup_close_ int bottles = -1, lock_fd = -1;
	const struct backend *backend;
	struct reference parsed;
	char path[PLACES_PATH_MAX];
	int r = backend_of(b, &backend, e);

	if (r == 0)
		r = bottles_path(b->slug, path, e);
	if (r < 0)
		return r;
	if (!backend->commit)
		return err_set(e, -ENOTSUP,
			       "backend %s keeps no image: the home in %s/home is all there is; "
			       "claude-bottle resume %s",
			       backend->name, path, b->slug);
	/* A dead one is held, so that no cleanup takes it away meanwhile; a living one holds
	 * itself. */
	r = places_bottles_open(false, &bottles, e);
	if (r == 0)
		r = bottles_lock_dead(bottles, b->slug, &lock_fd, e);
	if (r < 0 && r != -EWOULDBLOCK)
		return r;
	reference[0] = '\0';
	r = backend->commit(b->slug, path, name, reference, e);
	if (r < 0)
		return err_prefix(e, "%s", b->slug);
	r = reference_parse(str_of(reference), &parsed, e);
	return r < 0 ? err_prefix(e, "backend %s answers", backend->name) : 0;
}

static int print(const char *slug, const char *reference, bool is_json)
{
	/* Neither has a character that JSON would escape. */
	int n = is_json ? printf("{\"slug\":\"%s\",\"reference\":\"%s\"}\n", slug, reference)
			: printf("%s\n", reference);

	return n < 0 || fflush(stdout) != 0 ? CLI_FAILED : CLI_OK;
}

static int run(const struct cli_args *args)
{
	char reference[BACKEND_REFERENCE_MAX], name[REFERENCE_MAX + 1];
	_cleanup_close_ int dir = -1;
	struct err e = ERR_INIT;
	struct bottles_entry b;

	if (args->n_positionals > 1 && reference_check_new(str_of(args->positionals[1]), &e) < 0)
		return cli_misuse(args, "%s", e.text);
	if (bottles_find(args->positionals[0], &b, &dir, &e) < 0)
		return cli_fail(&e);
	(void)snprintf(name, sizeof(name), "%s%s",
		       args->n_positionals > 1 ? args->positionals[1] : SNAPSHOT_NAME,
		       args->n_positionals > 1 ? "" : b.slug);
	if (commit(&b, name, reference, &e) < 0)
		return cli_fail(&e);
	return print(b.slug, reference, cli_has(args, OPT_JSON));
}

const struct cli_verb cmd_commit = {
	.name = "commit",
	.fn = run,
	.summary = "keep a bottle's file system as an image, with its policy",
	.synopsis = "SLUG [NAME]",
	.description =
		"Prints the image's reference, which a bottle's \"image\" takes. NAME is by\n"
		"default " SNAPSHOT_NAME "SLUG. Not every backend has images.\n",
	.options = options,
	.n_options = ARRAY_LEN(options),
	.min_positionals = 1,
	.max_positionals = 2,
	.complete = CLI_COMPLETE_SLUG_ANY,
};
