#include "cli/session.h"

#include "base/timeutil.h"
#include "cli/asked.h"
#include "cli/cli.h"
#include "cli/pushed.h"
#include "cli/workspace_report.h"

#include <fcntl.h>
#include <stdio.h>

#define LINE_MAX_BYTES 8192
/* Asked for by the backend itself, to see that the wall's doors answer with a refusal: of pipelock
 * by this name, of git-gate, which knows no hosts, once after each start and before the agent's
 * first word. */
#define CANARY_HOST "\"host\":\"canary.invalid\""
#define RUN_BEGINS  "\"reason\":\"bundle-ready\""
#define FROM_GIT    "\"role\":\"gitgate\""

/* Refusals among the records. A quote inside a field is escaped, so no agent's text can look like
 * the key. */
static size_t count_blocks(int dir)
{
	_cleanup_fclose_ FILE *f = NULL;
	char line[LINE_MAX_BYTES];
	bool is_canary_due = false;
	size_t n = 0;
	int fd = openat(dir, "records.jsonl", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0)
		return 0;
	f = fdopen(fd, "r");
	if (!f)
		close_fd(&fd);
	while (f && fgets(line, sizeof(line), f)) {
		bool is_git = strstr(line, FROM_GIT);

		if (strstr(line, RUN_BEGINS))
			is_canary_due = true;
		if (!strstr(line, "\"verdict\":\"block\"") || strstr(line, CANARY_HOST))
			continue;
		if (is_git && is_canary_due)
			is_canary_due = false;
		else
			n++;
	}
	return n;
}

int session_run(const struct client_options *o, const char *slug, int dir)
{
	struct client_result result;
	uint64_t began = time_realtime_ns() / TIME_NS_PER_SEC;
	struct err e = ERR_INIT;
	size_t n_blocks;

	if (client_run(o, &result, &e) < 0) {
		(void)err_prefix(&e, "%s", slug);
		(void)cli_fail(&e);
		workspace_report_show(dir, slug);
		return CLI_FAILED;
	}
	switch (result.end) {
	case CLIENT_DETACHED:
		cli_note("detached from %s, which goes on (claude-bottle attach %s)", slug, slug);
		asked_show_pending(dir, slug);
		return CLI_OK;
	case CLIENT_LOST:
		cli_note("%s is gone: its keeper ended without a word (claude-bottle cleanup)",
			 slug);
		return CLI_FAILED;
	case CLIENT_EXITED:
		/* People want to know; a script asks the records. */
		n_blocks = o->has_tty && o->may_detach ? count_blocks(dir) : 0;
		if (n_blocks)
			cli_note("%zu request%s refused (claude-bottle logs %s)", n_blocks,
				 n_blocks == 1 ? " was" : "s were", slug);
		workspace_report_show(dir, slug);
		if (o->may_detach) { /* the agent, not something beside it */
			asked_show_undecided(dir, slug, began);
			pushed_show(dir, slug);
		}
		break;
	case CLIENT_SIGNALLED:
		break;
	}
	return result.status;
}
