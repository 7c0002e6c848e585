/* policy: what a bottle may reach, before and after the fact. It decides with the very code that
 * pipelock and egress decide with. */
#include "cli/verbs.h"

#include "cli/policy_git.h"
#include "cli/policy_show.h"
#include "cli/policy_why.h"
#include "conf/url.h"

#include <errno.h>

enum { OPT_AGENT, OPT_BOTTLE, OPT_PATH, OPT_JSON };
static const struct cli_option options[] = {
	[OPT_AGENT] = {"agent", 'a', "AGENT", "check: with this agent's bottle",
		       CLI_COMPLETE_AGENT},
	[OPT_BOTTLE] = {"bottle", 0, "NAME", "check: with this bottle of the home", 0},
	[OPT_PATH] = {"path", 0, "PATH", "check push: of commits that change this file", 0},
	[OPT_JSON] = {"json", 0, NULL, "as JSON", 0},
};

/* The plan that a start would make now. Without --agent and --bottle: of the only agent. */
static int make_plan(struct plan *out, const char *agent, const char *bottle, struct err *e)
{
	char home[PLACES_PATH_MAX], cwd[PLACES_PATH_MAX];
	struct plan_options o = {.home = home, .cwd = cwd, .agent = agent, .bottle = bottle};
	struct plan_agent_info *list = NULL;
	size_t n = 0;
	int r = places_home(home, e);

	if (r < 0)
		return r;
	if (!getcwd(cwd, sizeof(cwd)))
		return err_errno(e, "the current directory");
	if (!agent && !bottle) {
		r = plan_list_agents(home, cwd, &list, &n, e);
		if (r == 0 && n == 1)
			o.agent = list[0].name;
		else if (r == 0)
			r = err_set(e, -EINVAL, "say whose policy: --agent AGENT or --bottle NAME");
	}
	if (r == 0)
		r = plan_make(out, &o, e);
	plan_agents_free(list, n);
	return r;
}

/* The status of an answer that out holds. */
static int answer(const struct cli_args *args, struct buf *out, int bad, bool is_allowed)
{
	if (cli_has(args, OPT_JSON))
		bad |= buf_append(out, "}\n", 2);
	if (bad || cli_print(out) != CLI_OK)
		return CLI_FAILED;
	return is_allowed ? CLI_OK : CLI_FAILED;
}

static int check_plan(const struct cli_args *args, struct plan *plan)
{
	struct err e = ERR_INIT;

	if (make_plan(plan, args->values[OPT_AGENT], args->values[OPT_BOTTLE], &e) == 0)
		return CLI_OK;
	return e.line == 0 && e.code == -EINVAL ? cli_misuse(args, "%s", e.text) : cli_fail(&e);
}

static int check_git(const struct cli_args *args, const char *method)
{
	const char *ref = args->n_positionals > 3 ? args->positionals[3] : NULL;
	_cleanup_(plan_free) struct plan plan = {0};
	_cleanup_(buf_free) struct buf out;
	struct policy_git_question q;
	struct err e = ERR_INIT;
	int status, bad = 0;

	buf_init(&out, 1u << 20);
	if ((ref || args->values[OPT_PATH]) && strcmp(method, "push") != 0)
		return cli_misuse(args, "a ref and --path belong to push");
	status = check_plan(args, &plan);
	if (status != CLI_OK)
		return status;
	if (policy_git_decide(&plan.git, method, str_of(args->positionals[1]), ref,
			      args->values[OPT_PATH], &q, &e) < 0)
		return cli_misuse(args, "%s", e.text);
	if (cli_has(args, OPT_JSON)) {
		bad |= buf_append(&out, "{", 1);
		bad |= policy_git_json(&out, &plan, &q);
	} else {
		bad |= policy_git_text(&out, &plan, &q);
	}
	return answer(args, &out, bad, policy_git_is_ok(&q));
}

static int check_request(const struct cli_args *args, const char *name)
{
	_cleanup_(plan_free) struct plan plan = {0};
	_cleanup_(buf_free) struct buf out;
	struct policy_question q = {.method = name};
	char canonical[POLICY_HOST_MAX + 1];
	enum policy_method method;
	enum policy_reason reason;
	struct err e = ERR_INIT;
	struct url url;
	int status, bad = 0;

	buf_init(&out, 1u << 20);
	if (args->n_positionals > 3 || args->values[OPT_PATH])
		return cli_misuse(args, "a ref and --path belong to push");
	if (!policy_method_parse(str_of(name), &method))
		return cli_misuse(args, "the method must be GET, HEAD, POST, PUT, PATCH, DELETE or "
					"OPTIONS, or git's fetch or push; no other can be allowed");
	if (url_parse(str_of(args->positionals[1]), &url, &e) < 0)
		return cli_misuse(args, "%s", e.text);
	status = check_plan(args, &plan);
	if (status != CLI_OK)
		return status;
	reason = policy_host_canonical(url.host, canonical);
	q.host = reason == POLICY_OK ? str_of(canonical) : url.host;
	q.port = url.port;
	q.path = str_sub(url.path, 0, str_chr(url.path, '?'));
	q.decision = reason == POLICY_OK
			     ? policy_decide(&plan.policy, q.host, url.port, method, url.path)
			     : (struct policy_decision){.reason = reason};
	if (cli_has(args, OPT_JSON)) {
		bad |= buf_append(&out, "{", 1);
		bad |= policy_show_json(&out, &plan, &q);
	} else {
		bad |= policy_show_text(&out, &plan.policy, &plan, &q);
		if (git_agent_remote(&plan.git, str_of(args->positionals[1])))
			bad |= buf_printf(&out,
					  "  it is a git remote: policy check URL fetch | push "
					  "[REF] says what git may do\n");
	}
	return answer(args, &out, bad, q.decision.reason == POLICY_OK);
}

/* "fetch" and "push" are git's; an address that only git has is fetched from. */
static int check(const struct cli_args *args)
{
	const char *method = args->n_positionals > 2 ? args->positionals[2] : NULL;

	if (args->n_positionals < 2)
		return cli_misuse(args, "missing argument: policy check URL [METHOD]");
	if (!method && policy_git_is_address(str_of(args->positionals[1])))
		method = "fetch";
	if (method && policy_git_is_method(method))
		return check_git(args, method);
	return check_request(args, method ? method : "GET");
}

/* A bottle that runs or has run; -ENOENT when there is none of that name. */
static int show_slug(const char *slug, bool is_json, struct buf *out, struct err *e)
{
	_cleanup_(policy_free) struct policy policy = {0};
	_cleanup_(git_policy_free) struct git_policy git = {0};
	_cleanup_close_ int bottles = -1;
	struct plan plan = {.slug = (char *)slug};
	int r = places_bottles_open(false, &bottles, e);

	if (r == 0)
		r = policy_load_slug(bottles, slug, &policy, e);
	if (r == 0)
		r = policy_load_git(bottles, slug, &git, e);
	if (r < 0)
		return r;
	if (is_json)
		return policy_show_both(out, &policy, &git, e);
	plan.policy = policy;
	plan.git = git;
	return plan_print_network(&plan, out);
}

static int show(const struct cli_args *args)
{
	_cleanup_(plan_free) struct plan plan = {0};
	_cleanup_(buf_free) struct buf out;
	bool is_json = cli_has(args, OPT_JSON);
	struct err e = ERR_INIT;
	int r;

	buf_init(&out, POLICY_JSON_MAX_BYTES + GIT_JSON_MAX_BYTES);
	if (args->n_positionals != 2)
		return cli_misuse(args, "missing argument: policy show AGENT|SLUG");
	r = show_slug(args->positionals[1], is_json, &out, &e);
	if (r == -ENOENT && !e.code) {
		r = make_plan(&plan, args->positionals[1], NULL, &e);
		if (r == 0)
			r = is_json ? policy_show_both(&out, &plan.policy, &plan.git, &e)
				    : plan_print_network(&plan, &out);
	}
	if (r == 0 && is_json)
		r = buf_append(&out, "\n", 1);
	if (r < 0 && !e.code)
		(void)err_set(&e, r, "the policy is too long to show");
	return r < 0 ? cli_fail(&e) : cli_print(&out);
}

static int why(const struct cli_args *args)
{
	struct str id = str_of(args->n_positionals > 1 ? args->positionals[1] : "");

	if (args->n_positionals != 2)
		return cli_misuse(args, "missing argument: policy why RECORD");
	if (id.n < 4 || id.n > 16 || strspn(id.p, "0123456789abcdef") != id.n)
		return cli_misuse(args, "a record is named by 4 to 16 digits 0-9 and a-f, as in a "
					"refusal's \"record\" or in the logs");
	return policy_why(id.p, cli_has(args, OPT_JSON));
}

static int run(const struct cli_args *args)
{
	static const char *const names[] = {"check", "show", "why"};
	static int (*const fns[])(const struct cli_args *) = {check, show, why};
	int i = cli_pick(args, names, ARRAY_LEN(names));

	return i < 0 ? CLI_USAGE : fns[i](args);
}

const struct cli_verb cmd_policy = {
	.name = "policy",
	.fn = run,
	.summary = "say what a bottle may reach, and why something was refused",
	.synopsis = "check URL [METHOD|fetch|push [REF]] | show NAME | why RECORD",
	.description =
		"check: may this request be made? Status 0 when it is allowed, 1 when refused.\n"
		"With fetch or push: may git do that? URL is then any spelling of an upstream, or "
		"a\n"
		"remote's name.\n"
		"show: everything that the bottle of agent NAME, or a bottle that was started, may "
		"reach.\n"
		"why: explains one record; RECORD is what a refusal and the logs call \"record\"\n"
		"or \"id\", or its first digits.",
	.options = options,
	.n_options = ARRAY_LEN(options),
	.min_positionals = 1,
	.max_positionals = 4,
	.complete = CLI_COMPLETE_WORDS,
	.words = "check show why",
};
