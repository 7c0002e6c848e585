#include "cli/leftovers.h"
#include "cli/verbs.h"

#include "backend/images.h"
#include "base/text.h"

#include <errno.h>
#include <stdio.h>

enum { OPT_DRY_RUN, OPT_JSON };
static const struct cli_option options[] = {
	[OPT_DRY_RUN] = {"dry-run", 'n', NULL, "only say what would be removed", 0},
	[OPT_JSON] = {"json", 0, NULL, "a JSON array of objects", 0},
};

struct outcome {
	size_t n_processes;
	bool is_removed, lives;
	struct err e;
};

static struct outcome handle(int bottles, const struct bottles_entry *b, bool is_dry)
{
	struct outcome o = {.e = ERR_INIT};
	int r;

	if (is_dry) {
		o.n_processes = leftovers_kill(b->slug, true);
		return o;
	}
	r = leftovers_remove(bottles, b, &o.n_processes, &o.e);
	o.lives = r == -EWOULDBLOCK;
	o.is_removed = r == 0;
	return o;
}

static int report_json(const struct bottles_entry *b, const struct outcome *o, bool is_first,
		       struct buf *out)
{
	int r = buf_printf(
		out, "%s{\"slug\":\"%s\",\"state\":\"%s\",\"processes\":%zu,\"removed\":%s",
		is_first ? "\n" : ",\n", b->slug, bottles_is_ended(b) ? "ended" : "killed",
		o->n_processes, o->is_removed ? "true" : "false");

	if (r == 0 && o->e.code) {
		r = buf_append_str(out, STR_LIT(",\"error\":"));
		if (r == 0)
			r = text_json(out, str_of(o->e.text));
	}
	return r == 0 ? buf_append(out, "}", 1) : r;
}

static int report_text(const struct bottles_entry *b, const struct outcome *o, bool is_dry,
		       struct buf *out)
{
	char processes[48] = "";

	if (o->n_processes)
		(void)snprintf(processes, sizeof(processes), ", %zu process%s", o->n_processes,
			       o->n_processes == 1 ? "" : "es");
	return buf_printf(out, "%s %s (%s%s)\n", is_dry ? "would remove" : "removed", b->slug,
			  bottles_is_ended(b) ? "ended" : "killed", processes);
}

struct report {
	bool is_dry, is_json, is_first;
	int status;
	struct buf out;
};

static int clean_bottles(int bottles, const struct bottles_entry *list, size_t n, struct report *rp)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++) {
		struct outcome o;

		if (list[i].is_alive)
			continue;
		o = handle(bottles, &list[i], rp->is_dry);
		/* It began to live between the look and the lock. */
		if (o.lives)
			continue;
		if (rp->is_json)
			r = report_json(&list[i], &o, rp->is_first, &rp->out);
		else if (rp->is_dry || o.is_removed)
			r = report_text(&list[i], &o, rp->is_dry, &rp->out);
		rp->is_first = false;
		if (o.e.code)
			rp->status = cli_fail(&o.e);
	}
	return r;
}

/* What was removed that is no bottle's. */
struct swept {
	const char *json_key, *name;	 /* the name, and what it is the name of */
	const char *before, *of, *after; /* in the line: around "object of", and behind the name */
	size_t n;
	bool is_broken_off;
};

static int report_swept(const struct swept *s, struct report *rp)
{
	int r;

	if (s->n == 0)
		return 0;
	if (rp->is_json)
		r = buf_printf(&rp->out,
			       "%s{\"slug\":null,\"%s\":\"%s\",\"objects\":%zu,"
			       "\"removed\":%s}",
			       rp->is_first ? "\n" : ",\n", s->json_key, s->name, s->n,
			       rp->is_dry || s->is_broken_off ? "false" : "true");
	else
		r = buf_printf(&rp->out, "%s %zu %sobject%s of %s%s%s\n",
			       rp->is_dry ? "would remove" : "removed", s->n, s->before,
			       s->n == 1 ? "" : "s", s->of, s->name, s->after);
	rp->is_first = false;
	return r;
}

/* What is left of bottles whose folders are gone: somebody removed those by hand, or the backend
 * could not be asked then. */
static int sweep_backend(const struct backend *b, struct report *rp)
{
	struct swept s = {.json_key = "backend", .name = b->name, .before = "", .of = ""};
	struct err e = ERR_INIT;

	s.is_broken_off = leftovers_sweep(b, rp->is_dry, &s.n, &e) < 0;
	if (s.is_broken_off)
		rp->status = cli_fail(&e);
	s.after = s.n == 1 ? " that belongs to no bottle" : " that belong to no bottle";
	return report_swept(&s, rp);
}

/* What makings of images have left that were broken off. */
static int sweep_images(const struct backend_images *store, struct report *rp)
{
	struct swept s = {.json_key = "images",
			  .name = store->name,
			  .before = "half-made ",
			  .of = "the images of ",
			  .after = ""};
	struct err e = ERR_INIT;

	s.is_broken_off = store->sweep && store->sweep(rp->is_dry, &s.n, &e) < 0;
	if (s.is_broken_off)
		rp->status = cli_fail(&e);
	return report_swept(&s, rp);
}

static int clean_stores(struct report *rp)
{
	const struct backend_images *stores[PLAN_BACKEND_COUNT];
	size_t n = backend_images_all(stores);
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++)
		r = sweep_images(stores[i], rp);
	return r;
}

static int clean_all(int bottles, const struct bottles_entry *list, size_t n, struct report *rp)
{
	int r = rp->is_json ? buf_append(&rp->out, "[", 1) : 0;

	rp->is_first = true;
	if (r == 0)
		r = clean_bottles(bottles, list, n, rp);
	for (unsigned id = PLAN_BACKEND_UNSET + 1; r == 0 && id < PLAN_BACKEND_COUNT; id++) {
		const struct backend *b = backend_find((enum plan_backend)id);

		if (b)
			r = sweep_backend(b, rp);
	}
	if (r == 0)
		r = clean_stores(rp);
	if (r == 0 && rp->is_json)
		r = buf_append_str(&rp->out, rp->is_first ? STR_LIT("]\n") : STR_LIT("\n]\n"));
	if (r == 0 && rp->is_first && !rp->is_json && rp->status == CLI_OK)
		cli_note("nothing is left over");
	return r == 0 ? rp->status : CLI_FAILED;
}

static int run(const struct cli_args *args)
{
	_cleanup_free_ struct bottles_entry *list = NULL;
	_cleanup_close_ int bottles = -1;
	struct report rp = {.is_dry = cli_has(args, OPT_DRY_RUN),
			    .is_json = cli_has(args, OPT_JSON),
			    .status = CLI_OK};
	struct err e = ERR_INIT;
	int status;
	size_t n;

	if (bottles_list(&list, &n, &e) < 0)
		return cli_fail(&e);
	if (n && places_bottles_open(false, &bottles, &e) < 0)
		return cli_fail(&e);
	buf_init(&rp.out, 4u << 20);
	status = clean_all(bottles, list, n, &rp);
	if (cli_print(&rp.out) != CLI_OK)
		status = CLI_FAILED;
	buf_free(&rp.out);
	return status;
}

const struct cli_verb cmd_cleanup = {
	.name = "cleanup",
	.fn = run,
	.summary = "remove every trace of bottles that are not running",
	.synopsis = "",
	.description =
		"Processes, what the backend made, the agent's home and the state folder with its\n"
		"records; and what is half-made of images whose making was killed. What cannot be\n"
		"removed now, because an engine does not answer, is kept for the next time.\n",
	.options = options,
	.n_options = ARRAY_LEN(options),
};
