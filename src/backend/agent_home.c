#include "backend/agent_home.h"

#include "base/clean.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

int agent_home_open(const char *path, uid_t uid, gid_t gid, struct err *e)
{
	_cleanup_close_ int fd = -1;

	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return err_errno(e, "make \"%s\"", path);
	/* The agent may have closed it to itself, and with that, where we are not root, to us: a
	 * descriptor that needs no permission comes first, so that no link is followed. */
	fd = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return err_errno(e, "open \"%s\"", path);
	if (chmod(path, 0700) < 0)
		return err_errno(e, "open \"%s\"", path);
	close_fd(&fd);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return err_errno(e, "open \"%s\"", path);
	if (geteuid() == 0 && fchown(fd, uid, gid) < 0)
		return err_errno(e, "give \"%s\" to the agent", path);
	return take_fd(&fd);
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
