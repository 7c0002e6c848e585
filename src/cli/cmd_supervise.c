#include "bottles/bottles.h"
#include "cli/verbs.h"
#include "face/terminal.h"

#include <signal.h>

enum { OPT_BELL };
static const struct cli_option options[] = {
	[OPT_BELL] = {"bell", 0, NULL, "ring at a new request, at most once in five seconds", 0},
};

static int run(const struct cli_args *args)
{
	struct face_terminal_options o = {.rings = cli_has(args, OPT_BELL)};
	struct bottles_entry b;
	struct err e = ERR_INIT;
	int ended_by;

	if (args->n_positionals) {
		_cleanup_close_ int dir = -1;

		if (bottles_find(args->positionals[0], &b, &dir, &e) < 0)
			return cli_fail(&e);
		o.slug = b.slug;
	}
	if (face_terminal(&o, &ended_by, &e) < 0)
		return cli_fail(&e);
	return ended_by ? 128 + ended_by : CLI_OK;
}

const struct cli_verb cmd_supervise = {
	.name = "supervise",
	.fn = run,
	.summary = "see what bottles ask for, and decide",
	.synopsis = "[SLUG]",
	.description =
		"A screen with the bottles, their requests and what they do; \"?\" shows its "
		"keys.\n",
	.options = options,
	.n_options = ARRAY_LEN(options),
	.max_positionals = 1,
	.complete = CLI_COMPLETE_SLUG_ANY,
};
