#include "bottles/bottles.h"
#include "cli/client.h"
#include "cli/pushed.h"
#include "cli/verbs.h"
#include "cli/workspace_report.h"

#include "backend/backend.h"
#include "base/io.h"
#include "base/timeutil.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define GRACE_MS  5000
#define MARGIN_MS 5000
/* Where nobody can say how long a keeper may need. */
#define MARGIN_UNKNOWN_MS 30000
/* Of --all: each has its grace, and an engine works on several as fast as on one. More of them
 * would only wait for each other, past their margins. */
#define STOP_TOGETHER 4

enum { OPT_ALL, OPT_NOW };
static const struct cli_option options[] = {
	[OPT_ALL] = {"all", 'a', NULL, "every running bottle", 0},
	[OPT_NOW] = {"now", 0, NULL,
		     "kill all at once, network included, without a chance to finish", 0},
};

/* One that was asked to end. */
struct stopping {
	struct bottles_entry b;
	int dir, sock;
};

static void stopping_close(struct stopping *s)
{
	close_fd(&s->dir);
	close_fd(&s->sock);
}

/* The name is a slug, or the beginning of one. Nothing is open in s after a failure. */
static int stop_ask(struct stopping *s, const char *name, bool is_now, struct err *e)
{
	int r;

	*s = (struct stopping){.dir = -1, .sock = -1};
	r = bottles_find(name, &s->b, &s->dir, e);
	/* Who does not take it is killed, in stop_wait(). */
	if (r == 0 && s->b.is_alive && bottles_connect(s->dir, s->b.slug, &s->sock, NULL) == 0 &&
	    client_send_stop(s->sock, is_now ? 0 : GRACE_MS, NULL) < 0)
		close_fd(&s->sock);
	return r;
}

/* How long a keeper that has heard may take until all is undone: killed meanwhile, it would leave
 * what it was removing. */
static unsigned margin_ms(const struct bottles_entry *b)
{
	enum plan_backend id;
	const struct backend *backend =
		plan_backend_parse(str_of(b->backend), &id, NULL) == 0 ? backend_find(id) : NULL;

	return backend ? backend->undo_ms : MARGIN_UNKNOWN_MS;
}

static int stop_wait(struct stopping *s, bool is_now, struct err *e)
{
	unsigned wait_ms = (is_now ? 0 : GRACE_MS) + margin_ms(&s->b);

	if (s->sock >= 0 && bottles_wait_dead(s->b.slug, wait_ms))
		return 0;
	/* The keeper does not answer. All that is the bottle's dies with it. */
	bottles_kill_keeper(s->b.pid, s->dir);
	if (bottles_wait_dead(s->b.slug, MARGIN_MS))
		return 0;
	return err_set(e, -EBUSY, "%s does not end: its keeper (pid %d) does not answer", s->b.slug,
		       (int)s->b.pid);
}

static int stop_end(struct stopping *s, bool is_now)
{
	struct err e = ERR_INIT;
	int status = CLI_OK;

	if (!s->b.is_alive)
		cli_note("%s is not running", s->b.slug);
	else if (stop_wait(s, is_now, &e) < 0)
		status = cli_fail(&e);
	else
		cli_note("%s has ended", s->b.slug);
	if (status == CLI_OK) {
		workspace_report_show(s->dir, s->b.slug);
		pushed_show(s->dir, s->b.slug);
	}
	stopping_close(s);
	return status;
}

static int stop_some(const struct bottles_entry *list, size_t n, bool is_now)
{
	struct stopping asked[STOP_TOGETHER];
	size_t n_asked = 0;
	int status = CLI_OK;

	for (size_t i = 0; i < n; i++) {
		struct err e = ERR_INIT;

		if (stop_ask(&asked[n_asked], list[i].slug, is_now, &e) == 0)
			n_asked++;
		else
			status = cli_fail(&e);
	}
	for (size_t i = 0; i < n_asked; i++) {
		int r = stop_end(&asked[i], is_now);

		status = r == CLI_OK ? status : r;
	}
	return status;
}

static int stop_all(bool is_now)
{
	_cleanup_free_ struct bottles_entry *list = NULL;
	struct err e = ERR_INIT;
	int status = CLI_OK;
	size_t n, n_alive = 0;

	if (bottles_list(&list, &n, &e) < 0)
		return cli_fail(&e);
	for (size_t i = 0; i < n; i++) {
		if (list[i].is_alive)
			list[n_alive++] = list[i];
	}
	for (size_t i = 0; i < n_alive; i += STOP_TOGETHER) {
		size_t left = n_alive - i;
		int r = stop_some(list + i, left < STOP_TOGETHER ? left : STOP_TOGETHER, is_now);

		status = r == CLI_OK ? status : r;
	}
	return status;
}

static int run(const struct cli_args *args)
{
	bool is_now = cli_has(args, OPT_NOW);
	struct stopping s;
	struct err e = ERR_INIT;

	if (cli_has(args, OPT_ALL) == (args->n_positionals == 1))
		return cli_misuse(args, "name one bottle, or --all");
	if (cli_has(args, OPT_ALL))
		return stop_all(is_now);
	if (stop_ask(&s, args->positionals[0], is_now, &e) < 0)
		return cli_fail(&e);
	return stop_end(&s, is_now);
}

const struct cli_verb cmd_stop = {
	.name = "stop",
	.fn = run,
	.summary = "end a bottle",
	.synopsis = "SLUG | --all",
	.description =
		"The agent is asked with SIGTERM and has five seconds; then all is killed.\n"
		"--now kills the agent and its network in the same moment; the last records may\n"
		"stay unsigned.\n",
	.options = options,
	.n_options = ARRAY_LEN(options),
	.max_positionals = 1,
	.complete = CLI_COMPLETE_SLUG,
};
