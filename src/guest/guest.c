#include "guest/guest_int.h"
#include "guest/machine.h"

#include "base/log.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>
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

/* --- in a machine --- */

/* NAME=N of an argument. */
static uint64_t guest_argument(const char *arg, const char *name)
{
	size_t n = strlen(name);
	uint64_t value = 0;

	if (strncmp(arg, name, n) != 0 || arg[n] != '=' ||
	    str_to_u64(str_of(arg + n + 1), UINT32_MAX, &value) < 0)
		die("guest: %s=N is a number", name);
	return value;
}

static int guest_wait(int argc, char **argv)
{
	sigset_t set;
	int signo = 0;

	(void)argv;
	if (argc != 0)
		die("guest wait takes no argument");
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	(void)sigprocmask(SIG_SETMASK, &set, NULL);
	while (sigwait(&set, &signo) == 0 && signo == SIGCHLD) {
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
	}
	return 0;
}

static int guest_place(int argc, char **argv)
{
	struct err e = ERR_INIT;

	if (argc != 1)
		die("guest place FILE");
	if (tell_place("/", argv[0], &e) == 0)
		return 0;
	agent_complain(&e);
	return 1;
}

static int guest_home(int argc, char **argv)
{
	struct hold_agent a = {.processes = 0};
	struct err e = ERR_INIT;
	const char *folder;
	bool is_save;

	if (argc != 4 && argc != 5)
		die("guest home save|load uid=N gid=N FILE [FOLDER]");
	is_save = strcmp(argv[0], "save") == 0;
	if (!is_save && strcmp(argv[0], "load") != 0)
		die("guest home save|load: not \"%s\"", argv[0]);
	a.uid = guest_argument(argv[1], "uid");
	a.gid = guest_argument(argv[2], "gid");
	folder = argc == 5 ? argv[4] : GUEST_HOME;
	if ((is_save ? home_save(&a, folder, argv[3], &e) : home_load(&a, folder, argv[3], &e)) ==
	    0)
		return 0;
	agent_complain(&e);
	return 1;
}

static int guest_hold(int argc, char **argv)
{
	struct hold_agent a;

	if (argc != 5)
		die("guest hold uid=N gid=N processes=N rows=N columns=N");
	a.uid = guest_argument(argv[0], "uid");
	a.gid = guest_argument(argv[1], "gid");
	a.processes = guest_argument(argv[2], "processes");
	agent_size_terminal(guest_argument(argv[3], "rows"), guest_argument(argv[4], "columns"));
	return hold_main(GUEST_RUN, &a, GUEST_HOME);
}

static int guest_beside(int argc, char **argv)
{
	uint64_t number;

	if (argc < 5 || strcmp(argv[3], "--") != 0)
		die("guest beside id=N rows=N columns=N -- ARGV");
	number = guest_argument(argv[0], "id");
	if (number < 1 || number > GUEST_EXEC_MAX)
		die("guest beside id=N: N is a number from 1 to %u", GUEST_EXEC_MAX);
	agent_size_terminal(guest_argument(argv[1], "rows"), guest_argument(argv[2], "columns"));
	return beside_main(GUEST_RUN, (unsigned)number, argv + 4);
}

static int guest_tell(int argc, char **argv)
{
	struct err e = ERR_INIT;
	uint64_t number = 0;

	if (argc < 2 || str_to_u64(str_of(argv[0]), GUEST_EXEC_MAX, &number) < 0)
		die("guest tell N h | c FILE | g FILE | p SIGNAL | w ROWS COLUMNS");
	if (tell_main(GUEST_RUN, (unsigned)number, argc - 1, argv + 1, &e) == 0)
		return 0;
	agent_complain(&e);
	return 1;
}

int guest_main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*fn)(int argc, char **argv);
	} commands[] = {
		{"init", guest_init},	    {"exec", guest_exec}, {"close", guest_close},
		{"wait", guest_wait},	    {"hold", guest_hold}, {"beside", guest_beside},
		{"place", guest_place},	    {"home", guest_home}, {"tell", guest_tell},
		{"machine", guest_machine},
	};

	log_set_role("guest");
	for (size_t i = 0; argc > 0 && i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (strcmp(argv[0], commands[i].name) == 0)
			return commands[i].fn(argc - 1, argv + 1);
	}
	die("guest init | exec [id=N] -- ARGV | close PINNED | machine; in a machine wait | place "
	    "| hold "
	    "| tell | beside: claude-bottle starts them");
}
