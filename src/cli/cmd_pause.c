#include "bottles/bottles.h"
#include "cli/verbs.h"
#include "face/face.h"

static int run(const struct cli_args *args)
{
	_cleanup_(buf_free) struct buf said = BUF_INIT(4096);
	_cleanup_close_ int dir = -1;
	struct err e = ERR_INIT;
	struct bottles_entry b;

	if (bottles_find(args->positionals[0], &b, &dir, &e) < 0 ||
	    face_pause(b.slug, true, "command", &said, &e) < 0)
		return cli_fail(&e);
	cli_note(STR_FMT, STR_ARG(buf_str(&said)));
	return CLI_OK;
}

const struct cli_verb cmd_pause = {
	.name = "pause",
	.fn = run,
	.summary = "close a running bottle's network, until it is resumed",
	.synopsis = "SLUG",
	.description = "The agent goes on; whatever it asks of the network is refused, and what\n"
		       "is open is closed. \"claude-bottle resume SLUG\" opens it again. A bottle\n"
		       "that ends while it is paused is paused when it is resumed.\n",
	.min_positionals = 1,
	.max_positionals = 1,
	.complete = CLI_COMPLETE_SLUG,
};
