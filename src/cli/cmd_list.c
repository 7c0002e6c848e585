#include "bottles/bottles.h"
#include "cli/asked.h"
#include "cli/pushed.h"
#include "cli/table.h"
#include "cli/verbs.h"

#include <fcntl.h>
#include <stdio.h>

enum { OPT_ALL, OPT_JSON };
static const struct cli_option options[] = {
	[OPT_ALL] = {"all", 'a', NULL, "also bottles that have ended or were killed", 0},
	[OPT_JSON] = {"json", 0, NULL, "a JSON array of objects", 0},
};

/* "ended" is what the keeper wrote last; without a keeper any other state is a lie. */
static const char *state_of(const struct bottles_entry *b)
{
	if (b->is_alive)
		return b->state[0] ? b->state : "starting";
	return bottles_is_ended(b) ? "ended" : "killed";
}

/* The bottle's own object, with one member more: how much waits for the human. */
static int put_bottle(struct buf *out, const struct bottles_entry *b)
{
	_cleanup_(buf_free) struct buf entry = BUF_INIT(1u << 16);
	_cleanup_close_ int dir = -1;
	size_t n = 0;
	int r = bottles_json(&entry, b);

	if (b->is_alive && b->is_supervised && bottles_open(b->slug, &dir, NULL) == 0)
		n = asked_pending(dir, b->slug);
	if (r == 0)
		r = buf_append_str(out, str_sub(buf_str(&entry), 0, buf_len(&entry) - 1));
	return r == 0 ? buf_printf(out, ",\"pending\":%zu}", n) : r;
}

static int print_json(const struct bottles_entry *list, size_t n, bool is_all, struct buf *out)
{
	int r = buf_append_str(out, STR_LIT("["));
	bool is_first = true;

	for (size_t i = 0; r == 0 && i < n; i++) {
		struct bottles_entry b = list[i];

		if (!b.is_alive && !is_all)
			continue;
		(void)snprintf(b.state, sizeof(b.state), "%s", state_of(&list[i]));
		r = buf_append_str(out, is_first ? STR_LIT("\n") : STR_LIT(",\n"));
		is_first = false;
		if (r == 0)
			r = put_bottle(out, &b);
	}
	return r == 0 ? buf_append_str(out, is_first ? STR_LIT("]\n") : STR_LIT("\n]\n")) : r;
}

static int print_text(const struct bottles_entry *list, size_t n, bool is_all, struct buf *out)
{
	static const char *const heads[] = {"SLUG",  "AGENT",  "BOTTLE", "BACKEND",
					    "STATE", "STATUS", "STARTED"};
	struct table t;
	size_t shown = 0;
	int r = 0;

	table_init(&t, ARRAY_LEN(heads));
	table_add(&t, TABLE_BOLD, heads);
	for (size_t i = 0; i < n; i++) {
		const struct bottles_entry *b = &list[i];
		char status[16] = "";

		if (!b->is_alive && !is_all)
			continue;
		if (b->exit_status >= 0)
			(void)snprintf(status, sizeof(status), "%d", b->exit_status);
		table_add(
			&t, b->is_alive ? TABLE_GREEN : TABLE_PLAIN,
			(const char *const[]){b->slug, b->agent, b->bottle, b->backend,
					      b->is_alive && b->is_paused ? "paused" : state_of(b),
					      status, b->started});
		shown++;
	}
	if (shown)
		r = table_print(&t, table_may_colour(STDOUT_FILENO), out);
	else
		cli_note("no bottle %s", is_all ? "has left a trace" : "is running");
	table_free(&t);
	return r;
}

#define WAITING_BOTTLES_MAX 32

/* Behind the table, on standard error: what is there for the human to look at. */
static void show_waiting(const struct bottles_entry *list, size_t n, bool is_all)
{
	_cleanup_close_ int bottles = -1;
	size_t shown = 0;

	if (n == 0 || places_bottles_open(false, &bottles, NULL) < 0)
		return;
	for (size_t i = 0; i < n && shown < WAITING_BOTTLES_MAX; i++) {
		_cleanup_close_ int dir = -1;

		if (!list[i].is_alive && !is_all)
			continue;
		shown++;
		dir = openat(bottles, list[i].slug,
			     O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
		if (dir < 0)
			continue;
		if (list[i].is_alive)
			asked_show_pending(dir, list[i].slug);
		pushed_show(dir, list[i].slug);
	}
}

static int run(const struct cli_args *args)
{
	_cleanup_free_ struct bottles_entry *list = NULL;
	struct err e = ERR_INIT;
	struct buf out;
	int status = CLI_FAILED;
	size_t n;
	int r;

	if (bottles_list(&list, &n, &e) < 0)
		return cli_fail(&e);
	buf_init(&out, 8u << 20);
	if (cli_has(args, OPT_JSON))
		r = print_json(list, n, cli_has(args, OPT_ALL), &out);
	else
		r = print_text(list, n, cli_has(args, OPT_ALL), &out);
	if (r == 0)
		status = cli_print(&out);
	buf_free(&out);
	if (status == CLI_OK && !cli_has(args, OPT_JSON))
		show_waiting(list, n, cli_has(args, OPT_ALL));
	return status;
}

const struct cli_verb cmd_list = {
	.name = "list",
	.fn = run,
	.summary = "list the bottles that are running",
	.synopsis = "",
	.options = options,
	.n_options = ARRAY_LEN(options),
};
