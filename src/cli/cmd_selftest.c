/* selftest: the escape suite on this host. */
#include "cli/preflight.h"
#include "cli/verbs.h"

#include "selftest/selftest.h"

enum { OPT_BACKEND, OPT_ONLY, OPT_ENGINE_RESTART, OPT_JSON };
static const struct cli_option options[] = {
	[OPT_BACKEND] = {"backend", 'b', "BACKEND", "the backend to attack", CLI_COMPLETE_BACKEND},
	[OPT_ONLY] = {"only", 0, "ID,ID,…", "these probes; a letter means its group", 0},
	[OPT_ENGINE_RESTART] = {"engine-restart", 0, "COMMAND",
				"restarts the backend's engine, for R04", 0},
	[OPT_JSON] = {"json", 0, NULL, "one JSON object", 0},
};

static int run(const struct cli_args *args)
{
	struct preflight_choice choice;
	struct selftest_options o = {.only = args->values[OPT_ONLY],
				     .engine_restart = args->values[OPT_ENGINE_RESTART],
				     .is_json = cli_has(args, OPT_JSON)};
	static struct selftest_report report;
	struct err e = ERR_INIT;
	struct buf out;
	int status;

	if (preflight_choose(&choice, args->values[OPT_BACKEND], PLAN_BACKEND_UNSET, &e) < 0 ||
	    preflight_check(&choice, &e) < 0)
		return cli_fail(&e);
	o.backend = plan_backend_name(choice.backend);
	cli_note("backend %s: %s", o.backend, choice.why);
	if (selftest_run(&o, &report, &e) < 0)
		return cli_fail(&e);
	if (report.n_probes == 0) {
		cli_note("no probe is called \"%s\"", o.only ? o.only : "");
		return CLI_USAGE;
	}
	buf_init(&out, 4u << 20);
	status = (o.is_json ? selftest_print_json(&report, &out)
			    : selftest_print_text(&report, &out)) == 0
			 ? cli_print(&out)
			 : CLI_FAILED;
	buf_free(&out);
	return report.failed ? CLI_FAILED : status;
}

const struct cli_verb cmd_selftest = {
	.name = "selftest",
	.fn = run,
	.summary = "attack a bottle on this host and report what holds",
	.synopsis = "",
	.description = "Runs the sandbox-escape suite inside bottles of its own, as the agent and "
		       "as root,\n"
		       "and outside as a control. Exit status 0 only when no probe failed.",
	.options = options,
	.n_options = ARRAY_LEN(options),
};
