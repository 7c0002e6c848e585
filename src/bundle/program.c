#include "bundle/program.h"

#include "base/clean.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

static int bundle_open(const char *path, struct err *e)
{
	_cleanup_close_ int fd = open(path, O_PATH | O_CLOEXEC);
	struct stat st;

	if (fd < 0)
		return err_errno(e, "open \"%s\"", path);
	if (fstat(fd, &st) < 0)
		return err_errno(e, "stat \"%s\"", path);
	if (!S_ISREG(st.st_mode) || !(st.st_mode & 0111))
		return err_set(e, -EACCES, "\"%s\" is not an executable file", path);
	if (st.st_uid != 0 && st.st_uid != geteuid())
		return err_set(e, -EPERM, "\"%s\" belongs to somebody else (uid %u)", path,
			       (unsigned)st.st_uid);
	if (st.st_mode & 0022)
		return err_set(e, -EPERM, "\"%s\" can be written by others (mode %04o)", path,
			       st.st_mode & 07777);
	return take_fd(&fd);
}

int bundle_find(struct err *e)
{
	static const char *const beside[] = {"/" BUNDLE_PROGRAM,
					     "/../libexec/claude-bottle/" BUNDLE_PROGRAM,
					     "/../libexec/" BUNDLE_PROGRAM};
	const char *named = getenv("CLAUDE_BOTTLE_BUNDLE");
	char self[PATH_MAX];
	ssize_t n;
	char *slash;

	if (named && named[0])
		return bundle_open(named, e);
	n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (n <= 0)
		return err_errno(e, "find our own executable");
	self[n] = '\0';
	slash = strrchr(self, '/');
	if (slash)
		*slash = '\0';
	for (size_t i = 0; i < ARRAY_LEN(beside); i++) {
		_cleanup_free_ char *path = mem_printf("%s%s", self, beside[i]);

		if (access(path, F_OK) == 0)
			return bundle_open(path, e);
	}
	return err_set(e, -ENOENT,
		       BUNDLE_PROGRAM " is neither beside %s/claude-bottle nor in libexec", self);
}

_Noreturn void bundle_exec(int bundle_fd, char *const *argv, char *const *env)
{
	(void)syscall(SYS_execveat, bundle_fd, "", argv, env, AT_EMPTY_PATH);
	_exit(127);
}
