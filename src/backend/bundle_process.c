#include "backend/bundle_process.h"

#include "backend/agent_id.h"
#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/wait.h>

#define BUNDLE_ARGS_MAX 24

/* As root the roles get uids of their own, which nobody else has. 0: this user namespace has none
 * to give, or we are not root. */
unsigned bundle_uid_base(void)
{
	struct str map;
	uint32_t random = 0;
	uid_t first, last;

	if (geteuid() != 0 || getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random) ||
	    io_read_file(AT_FDCWD, "/proc/self/uid_map", 65536, &map, NULL) < 0)
		return 0;
	first = BUNDLE_UID_BASE + (random & 0xfffffff0u) % 0x10000000u;
	last = agent_id_in_map(map.p, first) && agent_id_in_map(map.p, first + 15) ? first : 0;
	if (last == 0 && agent_id_choose(map.p, 0) > 64)
		last = agent_id_choose(map.p, 0) - 32;
	free((void *)(uintptr_t)map.p);
	return last;
}

static _Noreturn void process_child(int bundle_fd, const struct backend_fd *fds, size_t n,
				    const char *slug, pid_t parent)
{
	char *argv[BUNDLE_ARGS_MAX + 3], *env[4];
	const char *asan = getenv("ASAN_OPTIONS");
	size_t argc = 0, n_env = 0;
	sigset_t none;

	argv[argc++] = mem_strdup(BUNDLE_PROGRAM);
	argv[argc++] = mem_strdup("init");
	for (size_t i = 0; i < n; i++) {
		if (fds[i].fd < 0)
			continue;
		if (argc > BUNDLE_ARGS_MAX || io_set_cloexec(fds[i].fd, false) < 0)
			_exit(127);
		argv[argc++] = mem_printf("%s=%d", fds[i].name, fds[i].fd);
	}
	argv[argc] = NULL;
	env[n_env++] = mem_printf("CLAUDE_BOTTLE_SLUG=%s", slug);
	if (asan)
		env[n_env++] = mem_printf("ASAN_OPTIONS=%s", asan);
	env[n_env] = NULL;
	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	(void)signal(SIGPIPE, SIG_DFL);
	if (prctl(PR_SET_PDEATHSIG, SIGTERM) < 0 || getppid() != parent)
		_exit(127);
	bundle_exec(bundle_fd, argv, env);
}

int bundle_process_start(struct bundle_process *b, const char *slug, const struct backend_fd *fds,
			 size_t n, struct err *e)
{
	_cleanup_close_ int bundle = bundle_find(e);
	pid_t parent = getpid();

	if (bundle < 0)
		return bundle;
	b->pid = fork();
	if (b->pid < 0) {
		b->pid = 0;
		return err_errno(e, "fork");
	}
	if (b->pid == 0)
		process_child(bundle, fds, n, slug, parent);
	return 0;
}

void bundle_process_reap(struct bundle_process *b, bool must_die, char *how, size_t how_size)
{
	int status = 0;

	if (b->pid > 0) {
		if (must_die)
			(void)kill(b->pid, SIGKILL);
		while (waitpid(b->pid, &status, 0) < 0 && errno == EINTR)
			;
		b->pid = 0;
		if (WIFSIGNALED(status))
			(void)snprintf(b->how, sizeof(b->how), "was killed");
		else
			(void)snprintf(b->how, sizeof(b->how), "ended with status %d",
				       WEXITSTATUS(status));
	}
	if (how_size > 0)
		(void)snprintf(how, how_size, "%s", b->how);
}
