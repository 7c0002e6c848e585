#include "bottle_fixture.h"

#include "base/clean.h"
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/wait.h>

#define FIXTURE_TIMEOUT_MS 20000

static _Noreturn void fixture_fail(const struct err *e)
{
	(void)fprintf(stderr, "fixture: %s\n", e->text);
	abort();
}

void fixture_make(struct fixture *f, const char *script, unsigned agent_uid)
{
	struct err e = ERR_INIT;

	memset(f, 0, sizeof(*f));
	(void)snprintf(f->state_dir, sizeof(f->state_dir), "/tmp/native-test-XXXXXX");
	if (!mkdtemp(f->state_dir))
		abort();
	f->command[0] = (char *)(uintptr_t) "/bin/bash";
	f->command[1] = (char *)(uintptr_t) "-c";
	f->command[2] = (char *)(uintptr_t)script;
	f->env[0] = (struct plan_env){(char *)(uintptr_t) "FROM_PLAN", (char *)(uintptr_t) "yes"};
	f->env[1] = (struct plan_env){(char *)(uintptr_t) "HTTPS_PROXY",
				      (char *)(uintptr_t) "http://192.0.2.9:1"};
	f->plan = (struct plan){
		.slug = (char *)(uintptr_t) "test-bottle",
		.command = f->command,
		.n_command = 3,
		.env = f->env,
		.n_env = 2,
		.expose = f->expose,
		.canary = (char *)(uintptr_t) "canary-3f9c1d",
		.pinned = (char *)(uintptr_t)WALL_PINNED_DEFAULT,
		.agent_uid = agent_uid,
		.limits = {.processes = 200, .files = 512},
	};
	if (wall_make(&f->wall, f->plan.pinned, NULL, f->plan.git.n_remotes > 0 ? WALL_GIT : 0,
		      &e) < 0)
		fixture_fail(&e);
	cgroup_make(&f->cgroup, strrchr(f->state_dir, '/') + 1, &f->plan.limits);
}

static void fixture_pipe(int *ours, int *theirs)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		abort();
	*ours = fds[0];
	*theirs = fds[1];
}

int fixture_run(struct fixture *f, char *const *argv, char *out, size_t size)
{
	_cleanup_close_ int in = open("/dev/null", O_RDONLY | O_CLOEXEC), ours = -1, theirs = -1;
	struct backend_stdio io;
	struct err e = ERR_INIT;
	int status = 0, ret;
	size_t n = 0;
	pid_t pid;

	fixture_pipe(&ours, &theirs);
	io = (struct backend_stdio){
		.in_fd = in, .out_fd = theirs, .err_fd = theirs, .master_fd = -1};
	if (!argv && compartment_prepare(&f->compartment, &f->plan, &f->wall, &f->cgroup,
					 f->state_dir, &e) < 0)
		fixture_fail(&e);
	ret = argv ? compartment_join(&f->compartment, argv, &io, &pid, &e)
		   : compartment_launch(&f->compartment, &io, &e);
	if (ret == 0 && !argv)
		ret = compartment_go(&f->compartment, STR_LIT("CA-OF-TEST\n"), &e);
	close_fd(&theirs);
	if (ret < 0)
		(void)fprintf(stderr, "fixture: %s\n", e.text);
	while (n < size - 1 && io_wait(ours, POLLIN, FIXTURE_TIMEOUT_MS) == 1) {
		ssize_t got = read(ours, out + n, size - 1 - n);

		if (got <= 0)
			break;
		n += (size_t)got;
	}
	out[n] = '\0';
	if (ret < 0)
		return ret;
	if (waitpid(argv ? pid : f->compartment.bwrap_pid, &status, 0) < 0)
		abort();
	return status;
}

void fixture_free(struct fixture *f)
{
	compartment_kill(&f->compartment);
	compartment_free(&f->compartment);
	wall_free(&f->wall);
	cgroup_remove(&f->cgroup);
	(void)!io_remove_tree(AT_FDCWD, f->state_dir, NULL);
}
