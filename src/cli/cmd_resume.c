/*
 * resume: one more run of a bottle that has ended, in its own home. The lock is held from the first
 * look on, so that nobody removes or resumes it meanwhile.
 */
#include "bottles/bottles.h"
#include "cli/asked.h"
#include "cli/changes.h"
#include "cli/client.h"
#include "cli/launch.h"
#include "cli/leftovers.h"
#include "cli/verbs.h"
#include "face/face.h"

#include <errno.h>
#include <stdio.h>

enum { OPT_PROMPT, OPT_HEADLESS, OPT_DETACH };
static const struct cli_option options[] = {
	[OPT_PROMPT] = {"prompt", 'p', "TEXT", "what the agent is to do", 0},
	[OPT_HEADLESS] = {"headless", 0, NULL, "no terminal: for scripts", 0},
	[OPT_DETACH] = {"detach", 'd', NULL, "leave it running, print its slug", 0},
};

/* A bottle that is found, and ours for as long as lock_fd is open. */
struct held {
	struct bottles_entry b;
	int dir, lock_fd;
	char path[PLACES_PATH_MAX];
};

static void held_free(struct held *h)
{
	close_fd(&h->dir);
	close_fd(&h->lock_fd);
}

static int hold(struct held *h, const char *name, struct err *e)
{
	_cleanup_close_ int bottles = -1;
	int r = bottles_find(name, &h->b, &h->dir, e);

	if (r < 0)
		return r;
	r = places_bottles_open(false, &bottles, e);
	if (r == 0)
		r = bottles_lock_dead(bottles, h->b.slug, &h->lock_fd, e);
	if (r == -EWOULDBLOCK)
		return err_set(e, -EBUSY, "%s is running: claude-bottle attach %s", h->b.slug,
			       h->b.slug);
	return r < 0 ? r : bottles_path(h->b.slug, h->path, e);
}

/* It stays with its backend, whatever the manifest, the variable or this host prefer by now: its
 * home is there. */
static int check_backend(const struct plan *p, struct err *e)
{
	struct preflight_choice c = {.backend = p->backend, .is_named = true};

	(void)snprintf(c.why, sizeof(c.why), "the bottle's own");
	return preflight_check(&c, e);
}

static void note_changes(const struct resume_was *was, const struct plan *plan)
{
	_cleanup_(buf_free) struct buf out = BUF_INIT(CHANGES_BYTES);

	if (was->policy_error[0]) {
		cli_note("what has changed since cannot be said: %s", was->policy_error);
		return;
	}
	if (changes_print(was, plan, &out) < 0)
		cli_note("the policy has changed since, in more than can be said here");
	else if (buf_len(&out))
		cli_note("the policy has changed since: " STR_FMT, STR_ARG(buf_str(&out)));
}

static int make_plan(const struct cli_args *args, const struct held *h, struct plan *plan,
		     struct err *e)
{
	struct plan_options o = {.prompt = args->values[OPT_PROMPT],
				 .command = args->has_rest ? args->rest : NULL,
				 .is_headless = cli_has(args, OPT_HEADLESS)};
	_cleanup_(resume_free) struct resume_was was;
	int r = resume_read(h->dir, h->b.slug, &was, e);

	if (r < 0)
		return err_prefix(e, "%s cannot be resumed", h->b.slug);
	r = resume_plan(&was, h->b.slug, &o, plan, e);
	if (r < 0)
		return e->line ? r : err_prefix(e, "%s cannot be resumed", h->b.slug);
	r = check_backend(plan, e);
	if (r < 0)
		return r;
	cli_note("backend %s: the bottle's own", plan_backend_name(plan->backend));
	note_changes(&was, plan);
	return 0;
}

static int run_session(const struct cli_args *args, const struct plan *plan, struct held *h)
{
	bool is_detached = cli_has(args, OPT_DETACH);
	struct launch l = {.plan = plan,
			   .state_path = h->path,
			   .lock_fd = h->lock_fd,
			   .has_tty = launch_has_tty(cli_has(args, OPT_HEADLESS), is_detached),
			   .is_detached = is_detached};
	_cleanup_close_ int dir = -1;
	struct err e = ERR_INIT;
	bool has_begun;

	/* What a killed run left may still write into the home. */
	(void)leftovers_kill(h->b.slug, false);
	if (resume_mark(h->dir, &e) < 0) {
		(void)err_prefix(&e, "%s cannot be resumed", h->b.slug);
		return cli_fail(&e);
	}
	if (launch_keeper(&l, &dir, &has_begun, &e) < 0)
		return cli_fail(&e);
	close_fd(&h->lock_fd);
	return launch_session(&l, dir);
}

/* A paused bottle that runs is no dead one: its network opens again, and that is all. */
static bool is_paused_alive(const char *name, struct bottles_entry *b)
{
	_cleanup_close_ int dir = -1;

	return bottles_find(name, b, &dir, NULL) == 0 && b->is_alive && b->is_paused;
}

static int unpause(const struct cli_args *args, const struct bottles_entry *b)
{
	_cleanup_(buf_free) struct buf said = BUF_INIT(4096);
	struct err e = ERR_INIT;

	if (args->has_rest || cli_has(args, OPT_PROMPT) || cli_has(args, OPT_HEADLESS) ||
	    cli_has(args, OPT_DETACH))
		return cli_misuse(args, "%s is running: only its network is resumed", b->slug);
	if (face_pause(b->slug, false, "command", &said, &e) < 0)
		return cli_fail(&e);
	cli_note(STR_FMT, STR_ARG(buf_str(&said)));
	return CLI_OK;
}

static int run(const struct cli_args *args)
{
	_cleanup_(held_free) struct held h = {.dir = -1, .lock_fd = -1};
	_cleanup_(plan_free) struct plan plan = {0};
	bool is_headless = cli_has(args, OPT_HEADLESS);
	struct err e = ERR_INIT;
	struct bottles_entry b;

	if (is_paused_alive(args->positionals[0], &b))
		return unpause(args, &b);
	if (hold(&h, args->positionals[0], &e) < 0 || make_plan(args, &h, &plan, &e) < 0)
		return cli_fail(&e);
	if (h.b.is_paused)
		cli_note("its network is paused, as it was left: \"claude-bottle resume %s\" opens "
			 "it once the bottle runs",
			 h.b.slug);
	asked_show_grants(h.dir, h.b.slug);
	if (!is_headless)
		preflight_show(&plan);
	if (!launch_is_wanted(&plan, is_headless, false))
		return CLI_FAILED;
	if (launch_ensure(&plan, &e) < 0)
		return cli_fail(&e);
	return run_session(args, &plan, &h);
}

const struct cli_verb cmd_resume = {
	.name = "resume",
	.fn = run,
	.summary = "start a bottle that has ended again; open a paused one's network",
	.synopsis = "SLUG [-- COMMAND [ARGUMENTS]]",
	.description =
		"The same agent, bottle and backend; what it may do is what the manifests say\n"
		"now, and what has changed is shown. The exit status is the agent's own.\n"
		"" CLIENT_DETACH_KEYS " detaches and leaves it running.\n"
		"Of a bottle that runs and is paused, the network opens again.\n",
	.options = options,
	.n_options = ARRAY_LEN(options),
	.min_positionals = 1,
	.max_positionals = 1,
	.may_rest = true,
	.complete = CLI_COMPLETE_SLUG_DEAD,
};
