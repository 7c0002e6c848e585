#include "cli/session.h"

#include "cli/cli.h"

int session_run(const struct client_options *o, const char *slug, int dir)
{
	struct client_result result;
	struct err e = ERR_INIT;

	(void)dir;
	if (client_run(o, &result, &e) < 0) {
		(void)err_prefix(&e, "%s", slug);
		return cli_fail(&e);
	}
	switch (result.end) {
	case CLIENT_DETACHED:
		cli_note("detached from %s, which goes on (claude-bottle attach %s)", slug, slug);
		return CLI_OK;
	case CLIENT_LOST:
		cli_note("%s is gone: its keeper ended without a word (claude-bottle cleanup)",
			 slug);
		return CLI_FAILED;
	case CLIENT_EXITED:
	case CLIENT_SIGNALLED:
		break;
	}
	return result.status;
}
