#include "backend/agent_home.h"

#include "backend/agent_env.h"
#include "base/clean.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

int agent_home_open(const char *path, uid_t uid, gid_t gid, struct err *e)
{
	_cleanup_close_ int folder = -1, home = -1;
	struct stat st;
	char self[64];

	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return err_errno(e, "make \"%s\"", path);
	folder = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (folder < 0 || fstat(folder, &st) < 0)
		return err_errno(e, "open \"%s\"", path);
	if (geteuid() != 0 && st.st_uid != geteuid())
		return err_set(e, -EPERM, "\"%s\" belongs to uid %u, not to us (uid %u)", path,
			       (unsigned)st.st_uid, (unsigned)geteuid());
	/* The agent may have closed it to itself, and with that, where we are not root, to us. */
	(void)snprintf(self, sizeof(self), "/proc/self/fd/%d", folder);
	if (chmod(self, 0700) < 0)
		return err_errno(e, "open \"%s\"", path);
	home = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (home < 0)
		return err_errno(e, "open \"%s\"", path);
	if (geteuid() == 0 && fchown(home, uid, gid) < 0)
		return err_errno(e, "give \"%s\" to the agent", path);
	return take_fd(&home);
}

int agent_expose_check(const struct plan *p, struct err *e)
{
	for (size_t i = 0; i < p->n_expose; i++) {
		const char *path = p->expose[i];

		if (path[0] != '/' || path[1] == '\0' || strstr(path, "/../") ||
		    str_starts(str_of(path), STR_LIT("/proc/")) ||
		    str_starts(str_of(path), STR_LIT("/dev/")))
			return err_set(e, -EINVAL, "\"%s\" cannot be exposed", path);
		if (access(path, F_OK) < 0)
			return err_errno(e, "expose \"%s\"", path);
	}
	return 0;
}

/* A workspace has the path that it has on the host: build folders, virtual environments and what
 * tools remember of a project by its path go on working on both sides, and a path in a message of
 * the agent's is one that the human can open. */
const char *agent_start_folder(const struct plan *p)
{
	return p->workspace == PLAN_WORKSPACE_MOUNT && p->workspace_path ? p->workspace_path
									 : AGENT_HOME;
}
