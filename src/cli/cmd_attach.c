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
				   .may_detach = true};

	if (bottles_find(args->positionals[0], &b, &dir, &e) < 0 ||
	    bottles_connect(dir, b.slug, &sock, &e) < 0)
		return cli_fail(&e);
	if (client_send_attach(sock, o.has_tty, false, &e) < 0)
		return cli_fail(&e);
	o.sock = sock;
	/* Without a terminal only watching makes sense: the agent's input is not ours to end. */
	o.input = o.has_tty ? CLIENT_INPUT_RELAYED : CLIENT_INPUT_NONE;
	return session_run(&o, b.slug, dir);
}

const struct cli_verb cmd_attach = {
	.name = "attach",
	.fn = run,
	.summary = "attach the terminal to a running bottle",
	.synopsis = "SLUG",
	.description = CLIENT_DETACH_KEYS " detaches again and leaves the bottle running.\n",
	.min_positionals = 1,
	.max_positionals = 1,
	.complete = CLI_COMPLETE_SLUG,
};
