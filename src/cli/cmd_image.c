/* image: what bottles are started from. start makes what it needs by itself; this is for making
 * the docker backend's ahead, for looking, and for getting the room back. */
#include "cli/images.h"
#include "cli/progress.h"
#include "cli/verbs.h"

#include "base/text.h"
#include "image/image.h"

#include <errno.h>
#include <stdio.h>

enum { OPT_ALL, OPT_JSON, OPT_REBUILD, OPT_UNUSED };
static const struct cli_option options[] = {
	[OPT_ALL] = {"all", 'a', NULL, "remove: also those that a start would use", 0},
	[OPT_JSON] = {"json", 0, NULL, "a JSON array of objects", 0},
	[OPT_REBUILD] = {"rebuild", 0, NULL,
			 "build: also what is there, of what the archives have now", 0},
	[OPT_UNUSED] = {"unused", 'u', NULL, "remove: those that no start would use (the default)",
			0},
};

static int connect_engine(struct engine *en, struct err *e)
{
	int r = engine_find(en, e);

	return r < 0 ? r : engine_connect(en, ENGINE_TIMEOUT_MS, e);
}

/* --- build --- */

struct built {
	enum image_kind kind;
	struct image_info info;
	bool is_built;
};

static int report_build(const struct built *b, size_t n, bool is_json, struct buf *out)
{
	int r = is_json ? buf_append(out, "[", 1) : 0;

	for (size_t i = 0; r == 0 && i < n; i++) {
		char size[32];

		images_size(size, sizeof(size), b[i].info.size_bytes);
		if (is_json)
			r = buf_printf(out,
				       "%s\n{\"kind\":\"%s\",\"reference\":\"%s\",\"id\":\"%s\","
				       "\"size_bytes\":%llu,\"built\":%s}",
				       i ? "," : "", image_kind_name(b[i].kind),
				       b[i].info.reference, b[i].info.id,
				       (unsigned long long)b[i].info.size_bytes,
				       b[i].is_built ? "true" : "false");
		else
			r = buf_printf(out, "%s %s (%s)\n",
				       b[i].is_built ? "built" : "already there:",
				       b[i].info.reference, size);
	}
	return r == 0 && is_json ? buf_append_str(out, STR_LIT("\n]\n")) : r;
}

/* What the builder said, for whoever has to find out more than the one line. */
static void show_log(const struct buf *log)
{
	struct buf shown;
	struct str rest = buf_str(log), line;
	bool found = rest.n > 0;

	buf_init(&shown, IMAGE_LOG_MAX * 8);
	while (found) {
		rest = str_cut(rest, '\n', &line, &found);
		if (line.n == 0)
			continue;
		(void)!buf_append_str(&shown, STR_LIT("  | "));
		(void)!text_visible(&shown, line, SIZE_MAX);
		(void)!buf_append(&shown, "\n", 1);
	}
	(void)fwrite(buf_str(&shown).p, 1, buf_len(&shown), stderr);
	buf_free(&shown);
}

static int make_all(const struct engine *en, struct built *list, size_t n, bool must_rebuild,
		    struct err *e)
{
	_cleanup_(buf_free) struct buf log;
	struct image_build b = {.must_rebuild = must_rebuild, .log = &log};
	struct progress_view view;
	struct progress sink;
	int r = 0;

	buf_init(&log, IMAGE_LOG_MAX);
	progress_view_init(&view, STDERR_FILENO, progress_may_rewrite(STDERR_FILENO));
	sink = progress_view_sink(&view);
	for (size_t i = 0; r == 0 && i < n; i++) {
		buf_reset(&log);
		r = image_make(en, list[i].kind, &b, &sink, &list[i].info, e);
		list[i].is_built = b.is_built[list[i].kind];
	}
	progress_view_end(&view);
	if (r < 0)
		show_log(&log);
	return r;
}

static int which(const struct cli_args *args, struct built *list, size_t *n)
{
	static const enum image_kind all[] = {IMAGE_BUNDLE, IMAGE_SHELL, IMAGE_CLAUDE, IMAGE_CODEX};
	const char *name = args->n_positionals > 1 ? args->positionals[1] : "all";
	char shown[96];

	*n = 0;
	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		if (strcmp(name, "all") == 0 || strcmp(name, image_kind_name(all[i])) == 0)
			list[(*n)++] = (struct built){.kind = all[i]};
	}
	if (*n)
		return CLI_OK;
	text_visible_cstr(shown, sizeof(shown), str_of(name));
	return cli_misuse(args, "\"%s\" is not bundle, shell, claude, codex or all", shown);
}

static int build(const struct cli_args *args)
{
	_cleanup_(buf_free) struct buf out;
	struct built list[IMAGE_KIND_COUNT];
	struct err e = ERR_INIT;
	struct engine en;
	size_t n;
	int r;

	buf_init(&out, 65536);
	r = which(args, list, &n);
	if (r != CLI_OK)
		return r;
	r = connect_engine(&en, &e);
	if (r == 0)
		r = make_all(&en, list, n, cli_has(args, OPT_REBUILD), &e);
	if (r < 0)
		return cli_fail(&e);
	if (report_build(list, n, cli_has(args, OPT_JSON), &out) < 0)
		return CLI_FAILED;
	return cli_print(&out);
}

/* --- list, remove --- */

static int list(const struct cli_args *args)
{
	return images_list(cli_has(args, OPT_JSON));
}

static int remove_images(const struct cli_args *args)
{
	const struct images_removal what = {.names = args->positionals + 1,
					    .n_names = args->n_positionals - 1,
					    .is_all = cli_has(args, OPT_ALL),
					    .is_json = cli_has(args, OPT_JSON)};

	if (what.is_all && cli_has(args, OPT_UNUSED))
		return cli_misuse(args, "--all and --unused: one of them");
	if (what.n_names > 0 && (what.is_all || cli_has(args, OPT_UNUSED)))
		return cli_misuse(args, "image remove takes names, or --%s",
				  options[what.is_all ? OPT_ALL : OPT_UNUSED].name);
	return images_remove(&what);
}

static int run(const struct cli_args *args)
{
	/* How many arguments may follow. */
	static const size_t max_names[] = {1, 0, CLI_POSITIONALS_MAX};
	static const char *const names[] = {"build", "list", "remove"};
	static int (*const fns[])(const struct cli_args *) = {build, list, remove_images};
	static const bool takes[][ARRAY_LEN(options)] = {
		{[OPT_JSON] = true, [OPT_REBUILD] = true},
		{[OPT_JSON] = true},
		{[OPT_JSON] = true, [OPT_ALL] = true, [OPT_UNUSED] = true},
	};
	int what = cli_pick(args, names, ARRAY_LEN(names));

	if (what < 0)
		return CLI_USAGE;
	for (size_t o = 0; o < ARRAY_LEN(options); o++) {
		if (cli_has(args, o) && !takes[what][o])
			return cli_misuse(args, "image %s takes no --%s", names[what],
					  options[o].name);
	}
	if (args->n_positionals - 1 > max_names[what])
		return cli_misuse(args, "image %s takes no further argument", names[what]);
	return fns[what](args);
}

const struct cli_verb cmd_image = {
	.name = "image",
	.fn = run,
	.summary = "list and remove images, machines' too; build docker's",
	.synopsis = "build [bundle|shell|claude|codex|all] | list | remove [NAME...]",
	.description =
		"build: makes what is missing in the Docker engine; start does that, too, for "
		"what\n"
		"it needs.\n"
		"list: ours in the engine, and the images and snapshots of virtual machines in "
		"this\n"
		"user's cache; whether a start would use them, and, for machines', when one did "
		"last.\n"
		"remove: those of that name or id (--json shows both), a machine's image with its\n"
		"snapshots; without a name, those that no start would use. Never one that a "
		"bottle\n"
		"or a container uses.\n",
	.options = options,
	.n_options = ARRAY_LEN(options),
	.min_positionals = 1,
	.max_positionals = CLI_POSITIONALS_MAX,
	.complete = CLI_COMPLETE_WORDS,
	.words = "build list remove",
	.more_words = "bundle shell claude codex all",
	.more_after = "build",
};
