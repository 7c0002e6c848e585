#include "bottles/bottles.h"
#include "cli/client.h"
#include "cli/session.h"
#include "cli/verbs.h"

static int run(const struct cli_args *args)
{
	_cleanup_close_ int dir = -1, sock = -1;
	struct err e = ERR_INIT;
	struct bottles_entry b;
	struct client_options o = {.has_tty = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO),
				   .input = CLIENT_INPUT_RELAYED,
				   .forwards_signals = true,
				   .owns = true};

	if (!args->has_rest)
		return cli_misuse(args, "missing command: exec SLUG [--] COMMAND…");
	if (bottles_find(args->positionals[0], &b, &dir, &e) < 0 ||
	    bottles_connect(dir, b.slug, &sock, &e) < 0)
		return cli_fail(&e);
	if (client_send_exec(sock, args->rest, o.has_tty, &e) < 0)
		return cli_fail(&e);
	o.sock = sock;
	return session_run(&o, b.slug, dir);
}

const struct cli_verb cmd_exec = {
	.name = "exec",
	.fn = run,
	.summary = "run a command beside the agent, as walled in as it is",
	.synopsis = "SLUG [--] COMMAND [ARGUMENTS]",
	.description = "The exit status is the command's own.\n",
	.min_positionals = 1,
	.max_positionals = 1,
	.rest_after = 1,
	.may_rest = true,
	.complete = CLI_COMPLETE_SLUG,
};
