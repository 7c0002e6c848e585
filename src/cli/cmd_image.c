/* image: the images of the docker backend. start makes what it needs by itself; this is for making
 * them ahead, for looking, and for getting the room back. */
#include "cli/progress.h"
#include "cli/table.h"
#include "cli/verbs.h"

#include "base/text.h"
#include "base/timeutil.h"
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

static void size_text(char *out, size_t size, uint64_t bytes)
{
	(void)snprintf(out, size, "%.1f MB", (double)bytes / 1e6);
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

		size_text(size, sizeof(size), b[i].info.size_bytes);
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

/* --- list --- */

static int entry_json(struct buf *out, const struct image_entry *x, bool is_first)
{
	char created[TIME_RFC3339_SIZE];
	int r;

	time_format_rfc3339((uint64_t)x->created * TIME_NS_PER_SEC, created);
	r = buf_printf(out, "%s\n{\"kind\":", is_first ? "" : ",");
	if (r == 0)
		r = text_json(out, str_of(x->kind));
	if (r == 0)
		r = buf_append_str(out, STR_LIT(",\"reference\":"));
	if (r == 0)
		r = x->reference[0] ? text_json(out, str_of(x->reference))
				    : buf_append_str(out, STR_LIT("null"));
	if (r == 0)
		r = buf_append_str(out, STR_LIT(",\"id\":"));
	if (r == 0)
		r = text_json(out, str_of(x->id));
	return r == 0 ? buf_printf(out,
				   ",\"size_bytes\":%llu,\"created\":\"%s\",\"current\":%s,"
				   "\"used\":%s",
				   (unsigned long long)x->size_bytes, created,
				   x->is_current ? "true" : "false", x->is_used ? "true" : "false")
		      : r;
}

static int list_json(const struct image_entry *list, size_t n, struct buf *out)
{
	int r = buf_append(out, "[", 1);

	for (size_t i = 0; r == 0 && i < n; i++) {
		r = entry_json(out, &list[i], i == 0);
		if (r == 0)
			r = buf_append(out, "}", 1);
	}
	return r == 0 ? buf_append_str(out, n ? STR_LIT("\n]\n") : STR_LIT("]\n")) : r;
}

static const char *name_of(const struct image_entry *x)
{
	return x->reference[0] ? x->reference : x->id;
}

static int list_text(const struct image_entry *list, size_t n, struct buf *out)
{
	static const char *const heads[] = {"KIND", "IMAGE", "SIZE", "CREATED", "STATE"};
	struct table t;
	int r;

	if (n == 0) {
		cli_note("no image of ours is in the engine; \"claude-bottle image build\" makes "
			 "them");
		return 0;
	}
	table_init(&t, ARRAY_LEN(heads));
	table_add(&t, TABLE_BOLD, heads);
	for (size_t i = 0; i < n; i++) {
		const struct image_entry *x = &list[i];
		char size[32], created[TIME_RFC3339_SIZE];

		size_text(size, sizeof(size), x->size_bytes);
		time_format_rfc3339((uint64_t)x->created * TIME_NS_PER_SEC, created);
		table_add(&t, x->is_current ? TABLE_GREEN : TABLE_PLAIN,
			  (const char *const[]){x->kind, name_of(x), size, created,
						x->is_used	? "in use"
						: x->is_current ? "current"
								: "old"});
	}
	r = table_print(&t, table_may_colour(STDOUT_FILENO), out);
	table_free(&t);
	return r;
}

static int list(const struct cli_args *args)
{
	_cleanup_free_ struct image_entry *entries = NULL;
	_cleanup_(buf_free) struct buf out;
	struct err e = ERR_INIT;
	struct engine en;
	size_t n = 0;
	int r = connect_engine(&en, &e);

	buf_init(&out, 1u << 20);
	if (r == 0)
		r = image_list(&en, &entries, &n, &e);
	if (r < 0)
		return cli_fail(&e);
	r = cli_has(args, OPT_JSON) ? list_json(entries, n, &out) : list_text(entries, n, &out);
	return r < 0 ? CLI_FAILED : cli_print(&out);
}

/* --- remove --- */

struct removal {
	bool is_all, is_json, is_first;
	int status;
	struct buf *out;
};

static int remove_one(const struct engine *en, const struct image_entry *x, struct removal *rm)
{
	struct err e = ERR_INIT;
	int r = image_remove(en, x, &e), w;

	/* Not in use by itself, but below one that stays. */
	if (r == -EBUSY && !rm->is_all)
		return 0;
	if (r < 0)
		rm->status = cli_fail(&e);
	if (rm->is_json) {
		w = entry_json(rm->out, x, rm->is_first);
		if (w == 0)
			w = buf_printf(rm->out, ",\"removed\":%s}", r == 0 ? "true" : "false");
		rm->is_first = false;
		return w;
	}
	if (r < 0)
		return 0;
	rm->is_first = false;
	return buf_printf(rm->out, "removed %s\n", name_of(x));
}

static int lock_builds(void)
{
	struct progress_view view;
	struct progress sink;
	int fd;

	progress_view_init(&view, STDERR_FILENO, progress_may_rewrite(STDERR_FILENO));
	sink = progress_view_sink(&view);
	fd = image_lock(&sink);
	progress_view_end(&view);
	return fd;
}

static int remove_images(const struct cli_args *args)
{
	_cleanup_free_ struct image_entry *entries = NULL;
	_cleanup_(buf_free) struct buf out;
	_cleanup_close_ int lock = -1;
	struct removal rm = {.is_all = cli_has(args, OPT_ALL),
			     .is_json = cli_has(args, OPT_JSON),
			     .is_first = true,
			     .status = CLI_OK,
			     .out = &out};
	struct err e = ERR_INIT;
	struct engine en;
	size_t n = 0;
	int r;

	buf_init(&out, 1u << 20);
	if (rm.is_all && cli_has(args, OPT_UNUSED))
		return cli_misuse(args, "--all and --unused: one of them");
	r = connect_engine(&en, &e);
	/* What a build has left by now for its next step has no name and is not in use. */
	lock = lock_builds();
	if (r == 0)
		r = image_list(&en, &entries, &n, &e);
	if (r < 0)
		return cli_fail(&e);
	if (rm.is_json)
		r = buf_append(&out, "[", 1);
	/* Newest first: what stands on others goes before them. */
	for (size_t i = 0; r == 0 && i < n; i++) {
		if (!entries[i].is_used && (rm.is_all || !entries[i].is_current))
			r = remove_one(&en, &entries[i], &rm);
	}
	if (r == 0 && rm.is_json)
		r = buf_append_str(&out, rm.is_first ? STR_LIT("]\n") : STR_LIT("\n]\n"));
	else if (r == 0 && rm.is_first && rm.status == CLI_OK)
		cli_note("nothing to remove");
	return r < 0 || cli_print(&out) != CLI_OK ? CLI_FAILED : rm.status;
}

static int run(const struct cli_args *args)
{
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
	if (what > 0 && args->n_positionals > 1)
		return cli_misuse(args, "image %s takes no further argument", names[what]);
	return fns[what](args);
}

const struct cli_verb cmd_image = {
	.name = "image",
	.fn = run,
	.summary = "build, list and remove the images of the docker backend",
	.synopsis = "build [bundle|shell|claude|codex|all] | list | remove",
	.description = "build: makes what is missing; start does that, too, for what it needs.\n"
		       "list: ours in the engine, and whether a start would use them.\n"
		       "remove: those that no start would use; never one that a container uses.\n",
	.options = options,
	.n_options = ARRAY_LEN(options),
	.min_positionals = 1,
	.max_positionals = 2,
	.complete = CLI_COMPLETE_WORDS,
	.words = "build list remove",
	.more_words = "bundle shell claude codex all",
	.more_after = "build",
};
