#include "bundle/init_argv.h"

#include "base/io.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

void init_argv_begin(struct init_argv *a, enum bundle_role role)
{
	*a = (struct init_argv){0};
	a->argv[0] = (char *)(uintptr_t) "claude-bottle-bundle";
	a->argv[1] = (char *)(uintptr_t) "role";
	a->argv[2] = (char *)(uintptr_t)bundle_role_name(role);
}

void init_argv_say(struct init_argv *a, const char *name, unsigned value)
{
	(void)snprintf(a->text[a->n], sizeof(a->text[0]), "%s=%u", name, value);
	a->argv[a->n + 3] = a->text[a->n];
	a->n++;
}

void init_argv_give(struct init_argv *a, const char *name, int fd)
{
	if (fd < 0)
		return;
	/* Descriptors stay where they are; the child clears close-on-exec on these alone. */
	init_argv_say(a, name, (unsigned)fd);
	a->fds[a->n_fds++] = fd;
}

void init_argv_give_numbered(struct init_argv *a, const char *name, unsigned number, int fd)
{
	char full[16];

	(void)snprintf(full, sizeof(full), "%s%u", name, number);
	init_argv_give(a, full, fd);
}

_Noreturn void init_argv_exec(struct init_argv *a, int self_fd, pid_t parent)
{
	static char *const no_environment[] = {NULL};
	sigset_t none;

	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 || getppid() != parent ||
	    setpgid(0, 0) < 0)
		_exit(1);
	for (size_t i = 0; i < a->n_fds; i++) {
		if (io_set_cloexec(a->fds[i], false) < 0)
			_exit(1);
	}
	(void)syscall(SYS_execveat, self_fd, "", a->argv, no_environment, AT_EMPTY_PATH);
	_exit(127);
}
