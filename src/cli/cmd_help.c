#include "cli/verbs.h"

#include "base/text.h"

#include <stdio.h>

int cli_print_usage(FILE *to)
{
	struct buf out;
	int status = CLI_FAILED;

	buf_init(&out, 1u << 16);
	if (cli_usage(&out) == 0 &&
	    fwrite(buf_str(&out).p, 1, buf_len(&out), to) == buf_len(&out) && fflush(to) == 0)
		status = CLI_OK;
	buf_free(&out);
	return status;
}

int cli_print_help(const struct cli_verb *v)
{
	struct buf out;
	int status = CLI_FAILED;

	buf_init(&out, 1u << 16);
	if (cli_help(v, &out) == 0)
		status = cli_print(&out);
	buf_free(&out);
	return status;
}

int cli_fail_verb(const char *name)
{
	const char *near = cli_verb_nearest(name);
	char shown[128];

	text_visible_cstr(shown, sizeof(shown), str_of(name));
	if (near)
		cli_note("unknown verb \"%s\", did you mean \"%s\"?", shown, near);
	else
		cli_note("unknown verb \"%s\" (see \"claude-bottle --help\")", shown);
	return CLI_USAGE;
}

static int run_help(const struct cli_args *args)
{
	const struct cli_verb *v;

	if (args->n_positionals == 0)
		return cli_print_usage(stdout);
	v = cli_verb_find(args->positionals[0]);
	return v ? cli_print_help(v) : cli_fail_verb(args->positionals[0]);
}

const struct cli_verb cmd_help = {
	.name = "help",
	.fn = run_help,
	.summary = "explain a verb",
	.synopsis = "[VERB]",
	.max_positionals = 1,
	.complete = CLI_COMPLETE_VERB,
};

static int run_version(const struct cli_args *args)
{
	(void)args;
	return printf("claude-bottle %s\n", CLAUDE_BOTTLE_VERSION) < 0 || fflush(stdout) != 0
		       ? CLI_FAILED
		       : CLI_OK;
}

const struct cli_verb cmd_version = {
	.name = "version",
	.fn = run_version,
	.summary = "print the version",
	.synopsis = "",
};
