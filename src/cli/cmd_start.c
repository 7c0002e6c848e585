/*
 * start: plan, preflight, keeper, session. Standard output belongs to the agent (and to --dry-run
 * and --json); all that start itself says goes to standard error.
 */
#include "bottles/bottles.h"
#include "cli/client.h"
#include "cli/launch.h"
#include "cli/picker.h"
#include "cli/verbs.h"

#include "base/io.h"

#include <errno.h>
#include <stdio.h>

/* A slug has random characters; a second try is for a clash, more would be something else. */
#define CREATE_TRIES 3

enum {
	OPT_BOTTLE,
	OPT_BACKEND,
	OPT_WORKSPACE,
	OPT_PROMPT,
	OPT_HEADLESS,
	OPT_DETACH,
	OPT_DRY_RUN,
	OPT_JSON,
	OPT_ASK,
	OPT_YES,
	OPT_AS_ROOT
};
static const struct cli_option options[] = {
	[OPT_BOTTLE] = {"bottle", 0, "NAME", "this bottle instead of the agent's own", 0},
	[OPT_BACKEND] = {"backend", 'b', "BACKEND", "how the compartment is made",
			 CLI_COMPLETE_BACKEND},
	[OPT_WORKSPACE] = {"workspace", 'w', "KIND", "clone, mount or none of this folder",
			   CLI_COMPLETE_WORDS},
	[OPT_PROMPT] = {"prompt", 'p', "TEXT", "what the agent is to do", 0},
	[OPT_HEADLESS] = {"headless", 0, NULL, "no terminal: for scripts", 0},
	[OPT_DETACH] = {"detach", 'd', NULL, "leave it running, print its slug", 0},
	[OPT_DRY_RUN] = {"dry-run", 'n', NULL, "print the plan, create nothing", 0},
	[OPT_JSON] = {"json", 0, NULL, "with --dry-run or --detach: as JSON", 0},
	[OPT_ASK] = {"ask", 0, NULL, "ask before it begins", 0},
	[OPT_YES] = {"yes", 'y', NULL, "never ask", 0},
	[OPT_AS_ROOT] = {"as-root", 0, NULL, "the agent is uid 0 inside, without any capability",
			 0},
};

static void clean_plan_p(struct plan *p)
{
	plan_free(p);
}

/* A bottle and a command: no agent is needed. */
static bool names_command_alone(const struct cli_args *args)
{
	return args->n_positionals == 0 && cli_has(args, OPT_BOTTLE) && args->has_rest;
}

static int make_plan(const struct cli_args *args, struct plan *plan, struct err *e)
{
	_cleanup_free_ char *picked = NULL;
	struct plan_options o = {.agent = args->n_positionals ? args->positionals[0] : NULL,
				 .bottle = args->values[OPT_BOTTLE],
				 .prompt = args->values[OPT_PROMPT],
				 .command = args->has_rest ? args->rest : NULL,
				 .is_headless = cli_has(args, OPT_HEADLESS),
				 .workspace = args->values[OPT_WORKSPACE]};
	char home[PLACES_PATH_MAX], cwd[PLACES_PATH_MAX];
	int r;

	r = places_home(home, e);
	if (r < 0)
		return r;
	if (!getcwd(cwd, sizeof(cwd)))
		return err_errno(e, "the current directory");
	o.home = home;
	o.cwd = cwd;
	if (!o.agent && !names_command_alone(args)) {
		r = picker_run(home, cwd, &picked, e);
		if (r < 0)
			return r;
		o.agent = picked;
	}
	r = plan_make(plan, &o, e);
	if (r == 0 && cli_has(args, OPT_AS_ROOT))
		plan->agent_uid = 0;
	return r;
}

static int print_plan(const struct plan *plan, bool is_json)
{
	struct buf out;
	int status = CLI_FAILED;

	buf_init(&out, 16u << 20);
	if ((is_json ? plan_print_json(plan, &out) : plan_print_text(plan, &out)) == 0)
		status = cli_print(&out);
	else
		cli_note("the plan is too long to print");
	buf_free(&out);
	return status;
}

/* Says what is left of runs that were killed. Nothing of it stands in the way: slugs are random. */
static void note_leftovers(void)
{
	_cleanup_free_ struct bottles_entry *list = NULL;
	size_t n, killed = 0;

	if (bottles_list(&list, &n, NULL) < 0)
		return;
	for (size_t i = 0; i < n; i++)
		killed += !list[i].is_alive && !bottles_is_ended(&list[i]);
	if (killed)
		cli_note("%zu killed run%s left traces on this host: claude-bottle cleanup", killed,
			 killed == 1 ? "" : "s");
}

/* A folder with its lock, for a slug that nobody has; the plan is made anew for another one. */
static int make_folder(const struct cli_args *args, struct plan *plan, char path[PLACES_PATH_MAX],
		       int *lock_fd, struct err *e)
{
	enum plan_backend backend = plan->backend;
	int r = -EEXIST;

	for (unsigned i = 0; i < CREATE_TRIES && (r == -EEXIST || r == -ESTALE); i++) {
		if (i) {
			plan_free(plan);
			*plan = (struct plan){0};
			*e = ERR_INIT;
			r = make_plan(args, plan, e);
			if (r < 0)
				return r;
			plan->backend = backend;
		}
		r = bottles_create(plan->slug, path, lock_fd, e);
	}
	return r;
}

static int run_session(const struct cli_args *args, struct plan *plan, bool has_tty)
{
	_cleanup_close_ int lock_fd = -1, dir = -1, bottles = -1;
	struct launch l = {.plan = plan,
			   .has_tty = has_tty,
			   .is_detached = cli_has(args, OPT_DETACH),
			   .is_json = cli_has(args, OPT_JSON)};
	char path[PLACES_PATH_MAX];
	struct err e = ERR_INIT;
	bool has_begun = false;
	int r = make_folder(args, plan, path, &lock_fd, &e);

	if (r < 0)
		return cli_fail(&e);
	l.state_path = path;
	l.lock_fd = lock_fd;
	r = launch_keeper(&l, &dir, &has_begun, &e);
	/* Nothing was begun: a secret could not be had, for one. */
	if (r < 0 && !has_begun && places_bottles_open(false, &bottles, NULL) == 0)
		(void)!io_remove_tree(bottles, plan->slug, NULL);
	close_fd(&lock_fd);
	return r < 0 ? cli_fail(&e) : launch_session(&l, dir);
}

static int check_usage(const struct cli_args *args)
{
	bool has_terminal = isatty(STDIN_FILENO) && isatty(STDERR_FILENO);
	const char *workspace = args->values[OPT_WORKSPACE];
	enum plan_workspace ignored;

	if (workspace && !plan_workspace_parse(str_of(workspace), &ignored))
		return cli_misuse(args, "--workspace is clone, mount or none");

	if (args->n_positionals == 0 && !names_command_alone(args) && !has_terminal)
		return cli_misuse(args, "name an agent: there is no terminal to pick one on");
	if (cli_has(args, OPT_JSON) && !cli_has(args, OPT_DRY_RUN) && !cli_has(args, OPT_DETACH))
		return cli_misuse(args, "--json goes with --dry-run or --detach");
	if (cli_has(args, OPT_ASK) && cli_has(args, OPT_YES))
		return cli_misuse(args, "--ask and --yes exclude each other");
	if (cli_has(args, OPT_ASK) && !has_terminal)
		return cli_misuse(args, "--ask needs a terminal");
	return CLI_OK;
}

static int run(const struct cli_args *args)
{
	bool is_headless = cli_has(args, OPT_HEADLESS);
	bool has_tty = launch_has_tty(is_headless, cli_has(args, OPT_DETACH));
	_cleanup_(clean_plan_p) struct plan plan = {0};
	struct preflight_choice choice;
	struct err e = ERR_INIT;
	int status = check_usage(args);

	if (status != CLI_OK)
		return status;
	if (make_plan(args, &plan, &e) < 0)
		return cli_fail(&e);
	if (preflight_choose(&choice, args->values[OPT_BACKEND], plan.backend, &e) < 0)
		return cli_fail(&e);
	plan.backend = choice.backend;
	if (cli_has(args, OPT_DRY_RUN))
		return print_plan(&plan, cli_has(args, OPT_JSON));
	if (preflight_check(&choice, &e) < 0)
		return cli_fail(&e);
	cli_note("backend %s: %s", plan_backend_name(plan.backend), choice.why);
	note_leftovers();
	if (!is_headless)
		preflight_show(&plan);
	if (!cli_has(args, OPT_YES) &&
	    !launch_is_wanted(&plan, is_headless, cli_has(args, OPT_ASK)))
		return CLI_FAILED;
	if (launch_ensure(&plan, &e) < 0)
		return cli_fail(&e);
	return run_session(args, &plan, has_tty);
}

const struct cli_verb cmd_start = {
	.name = "start",
	.fn = run,
	.summary = "start an agent in a bottle",
	.synopsis = "[AGENT] [-- COMMAND [ARGUMENTS]]",
	.description =
		"Without AGENT the terminal offers those that can be started. The exit status\n"
		"is the agent's own. " CLIENT_DETACH_KEYS " detaches and leaves it running.\n",
	.options = options,
	.n_options = ARRAY_LEN(options),
	.max_positionals = 1,
	.may_rest = true,
	.complete = CLI_COMPLETE_AGENT,
	.words = "clone mount none",
};
