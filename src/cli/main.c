/* claude-bottle: the host's command. */
#include "cli/verbs.h"

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
		(void)cli_print_usage(stderr);
		return CLI_USAGE;
	}
	name = argv[1];
	if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
		name = "help";
	else if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0)
		name = "version";
	v = cli_verb_find(name);
	if (!v)
		return cli_fail_verb(name);
	if (cli_parse(&args, v, argc - 2, argv + 2, &wants_help, &e) < 0) {
		args.verb = v;
		return cli_misuse(&args, "%s", e.text);
	}
	return wants_help ? cli_print_help(v) : v->fn(&args);
}
