#include "cli/leftovers.h"
#include "cli/verbs.h"

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

static int clean_all(int bottles, const struct bottles_entry *list, size_t n, bool is_dry,
		     bool is_json, struct buf *out)
{
	int status = CLI_OK, r = is_json ? buf_append(out, "[", 1) : 0;
	bool is_first = true;

	for (size_t i = 0; r == 0 && i < n; i++) {
		struct outcome o;

		if (list[i].is_alive)
			continue;
		o = handle(bottles, &list[i], is_dry);
		/* It began to live between the look and the lock. */
		if (o.lives)
			continue;
		if (is_json)
			r = report_json(&list[i], &o, is_first, out);
		else if (is_dry || o.is_removed)
			r = report_text(&list[i], &o, is_dry, out);
		is_first = false;
		if (o.e.code)
			status = cli_fail(&o.e);
	}
	if (r == 0 && is_json)
		r = buf_append_str(out, is_first ? STR_LIT("]\n") : STR_LIT("\n]\n"));
	if (r == 0 && is_first && !is_json)
		cli_note("nothing is left over");
	return r == 0 ? status : CLI_FAILED;
}

static int run(const struct cli_args *args)
{
	_cleanup_free_ struct bottles_entry *list = NULL;
	_cleanup_close_ int bottles = -1;
	struct err e = ERR_INIT;
	struct buf out;
	int status;
	size_t n;

	if (bottles_list(&list, &n, &e) < 0)
		return cli_fail(&e);
	if (n && cli_bottles_open(false, &bottles, &e) < 0)
		return cli_fail(&e);
	buf_init(&out, 4u << 20);
	status = clean_all(bottles, list, n, cli_has(args, OPT_DRY_RUN), cli_has(args, OPT_JSON),
			   &out);
	if (cli_print(&out) != CLI_OK)
		status = CLI_FAILED;
	buf_free(&out);
	return status;
}

const struct cli_verb cmd_cleanup = {
	.name = "cleanup",
	.fn = run,
	.summary = "remove every trace of bottles that are not running",
	.synopsis = "",
	.description = "Processes, what the backend made, and the state folder with its records.\n",
	.options = options,
	.n_options = ARRAY_LEN(options),
};
