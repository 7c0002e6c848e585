#include "guest/guest_int.h"
#include "guest/machine.h"

#include "base/log.h"

#include <string.h>
#include <unistd.h>

static int guest_init(int argc, char **argv)
{
	(void)argv;
	if (argc != 0)
		die("guest init takes no argument");
	return init_run(GUEST_SOCKET, GUEST_CONNECT_MS);
}

static int guest_exec(int argc, char **argv)
{
	struct err e = ERR_INIT;
	bool is_exec = false;
	unsigned number = 0;
	int ret;

	if (argc > 0 && strncmp(argv[0], "id=", 3) == 0) {
		if (!exec_parse_number(argv[0] + 3, &number))
			die("guest exec id=N: N is a number from 1 to %u", GUEST_EXEC_MAX);
		argc--;
		argv++;
	}
	if (argc < 2 || strcmp(argv[0], "--") != 0)
		die("guest exec [id=N] -- ARGV");
	ret = agent_isolate(&e);
	if (ret == 0)
		ret = agent_limit_as_init(&e);
	/* A runtime starts a session for what it executes; with a terminal it must be that one. */
	if (ret == 0 && getsid(0) != getpid() && setsid() < 0)
		ret = err_errno(&e, "setsid");
	if (ret == 0 && number > 0)
		exec_mark(number);
	if (ret == 0)
		ret = agent_become(argv + 1, &is_exec, &e);
	agent_complain(&e);
	return is_exec ? agent_exec_status(ret) : GUEST_NOT_RUN;
}

static int guest_close(int argc, char **argv)
{
	struct err e = ERR_INIT;

	if (argc != 1)
		die("guest close PINNED");
	if (close_run(argv[0], &e) < 0) {
		agent_complain(&e);
		return 1;
	}
	return 0;
}

static int guest_machine(int argc, char **argv)
{
	(void)argv;
	if (argc != 0)
		die("guest machine takes no argument");
	machine_run();
}

int guest_main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*fn)(int argc, char **argv);
	} commands[] = {{"init", guest_init},
			{"exec", guest_exec},
			{"close", guest_close},
			{"machine", guest_machine}};

	log_set_role("guest");
	for (size_t i = 0; argc > 0 && i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (strcmp(argv[0], commands[i].name) == 0)
			return commands[i].fn(argc - 1, argv + 1);
	}
	die("guest init | exec [id=N] -- ARGV | close PINNED | machine: claude-bottle starts them");
}
