#include "bottles/bottles.h"
#include "cli/verbs.h"
#include "face/terminal.h"
#include "face/web.h"

enum { OPT_BELL, OPT_WEB, OPT_PORT };
static const struct cli_option options[] = {
	[OPT_BELL] = {"bell", 0, NULL, "ring at a new request, at most once in five seconds", 0},
	[OPT_WEB] = {"web", 0, NULL, "a page on loopback instead, for a browser of this host", 0},
	[OPT_PORT] = {"port", 0, "PORT", "of the page; by default one that is free", 0},
};

static int run_web(const struct cli_args *args)
{
	struct face_web_options o = {0};
	struct err e = ERR_INIT;
	uint64_t port;

	if (args->n_positionals || cli_has(args, OPT_BELL))
		return cli_misuse(args, "--web shows every bottle, without a bell");
	if (cli_has(args, OPT_PORT)) {
		if (str_to_u64(str_of(args->values[OPT_PORT]), UINT16_MAX, &port) < 0 || port == 0)
			return cli_misuse(args, "--port is a number from 1 to 65535");
		o.port = (uint16_t)port;
	}
	return face_web(&o, &e) < 0 ? cli_fail(&e) : CLI_OK;
}

static int run(const struct cli_args *args)
{
	struct face_terminal_options o = {.rings = cli_has(args, OPT_BELL)};
	struct bottles_entry b;
	struct err e = ERR_INIT;
	int ended_by;

	if (cli_has(args, OPT_WEB))
		return run_web(args);
	if (cli_has(args, OPT_PORT))
		return cli_misuse(args, "--port goes with --web");
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
