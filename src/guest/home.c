/* The agent's home on its way out of a machine that is to end, and into the next one. Who packs and
 * unpacks is the image's tar, as the agent's user: neither root nor anybody on the host reads what
 * an agent has made. */
#include "guest/guest_int.h"

#include "base/clean.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define HOME_PATH "/usr/local/bin:/usr/bin:/bin"

static _Noreturn void home_child(const struct hold_agent *a, const char *home, int fd, bool is_save)
{
	static char *const save[] = {(char *)(uintptr_t) "tar", (char *)(uintptr_t) "-cf",
				     (char *)(uintptr_t) "-", (char *)(uintptr_t) ".", NULL};
	static char *const load[] = {(char *)(uintptr_t) "tar", (char *)(uintptr_t) "-xpf",
				     (char *)(uintptr_t) "-", NULL};
	struct err e = ERR_INIT;
	bool is_exec;
	int ret = dup2(fd, is_save ? STDOUT_FILENO : STDIN_FILENO) < 0 ? err_errno(&e, "dup2") : 0;

	if (ret == 0 &&
	    (clearenv() != 0 || setenv("HOME", home, 1) < 0 || setenv("PATH", HOME_PATH, 1) < 0))
		ret = err_set(&e, -ENOMEM, "no memory for the environment");
	if (ret == 0)
		ret = hold_become(a, &e);
	if (ret == 0)
		(void)agent_become(is_save ? save : load, &is_exec, &e);
	agent_complain(&e);
	_exit(GUEST_NOT_RUN);
}

static int home_tar(const struct hold_agent *a, const char *home, int fd, bool is_save,
		    struct err *e)
{
	int how = 0;
	pid_t pid = fork();

	if (pid == 0)
		home_child(a, home, fd, is_save);
	if (pid < 0)
		return err_errno(e, "fork");
	while (waitpid(pid, &how, 0) < 0 && errno == EINTR)
		;
	/* What was changed or could not be read while it was packed: the rest is there. */
	if (WIFEXITED(how) && (WEXITSTATUS(how) == 0 || (is_save && WEXITSTATUS(how) <= 2)))
		return 0;
	return err_set(e, -EIO, "the image's tar failed");
}

int home_save(const struct hold_agent *a, const char *home, const char *path, struct err *e)
{
	_cleanup_close_ int fd = -1;

	if (agent_isolate(e) < 0)
		return e->code;
	(void)unlink(path);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	return fd < 0 ? err_errno(e, "make \"%s\"", path) : home_tar(a, home, fd, true, e);
}

int home_load(const struct hold_agent *a, const char *home, const char *path, struct err *e)
{
	_cleanup_close_ int fd = -1;

	if (agent_isolate(e) < 0)
		return e->code;
	fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return err_errno(e, "open \"%s\"", path);
	(void)unlink(path);
	if (hold_own_home(a, home, e) < 0)
		return e->code;
	return home_tar(a, home, fd, false, e);
}
