/* claude-bottle: the host's command. */
#include "cli/verbs.h"

#include "base/text.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

/* With a standard descriptor closed, the next file that is opened would take its number, and a
 * message would be written into it. */
static void ensure_standard_fds(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR);
		if (fd < 0)
			_exit(CLI_FAILED);
	} while (fd <= STDERR_FILENO);
	(void)close(fd);
}

static int print_usage(void)
{
	struct buf out;
	int status = CLI_FAILED;

	buf_init(&out, 1u << 16);
	if (cli_usage(&out) == 0)
		status = cli_print(&out);
	buf_free(&out);
	return status;
}

static int print_help(const struct cli_verb *v)
{
	struct buf out;
	int status = CLI_FAILED;

	buf_init(&out, 1u << 16);
	if (cli_help(v, &out) == 0)
		status = cli_print(&out);
	buf_free(&out);
	return status;
}

static int fail_verb(const char *name)
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
		return print_usage();
	v = cli_verb_find(args->positionals[0]);
	return v ? print_help(v) : fail_verb(args->positionals[0]);
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

int main(int argc, char **argv)
{
	const struct cli_verb *v;
	struct cli_args args;
	struct err e = ERR_INIT;
	bool wants_help;
	const char *name;

	ensure_standard_fds();
	(void)umask(077);
	if (argc < 2) {
		struct buf out;

		buf_init(&out, 1u << 16);
		if (cli_usage(&out) == 0)
			(void)fwrite(buf_str(&out).p, 1, buf_len(&out), stderr);
		buf_free(&out);
		return CLI_USAGE;
	}
	name = argv[1];
	if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
		name = "help";
	else if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0)
		name = "version";
	v = cli_verb_find(name);
	if (!v)
		return fail_verb(name);
	if (cli_parse(&args, v, argc - 2, argv + 2, &wants_help, &e) < 0) {
		args.verb = v;
		return cli_misuse(&args, "%s", e.text);
	}
	return wants_help ? print_help(v) : v->fn(&args);
}
