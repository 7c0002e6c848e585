#include "base/cache.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/timeutil.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#define CACHE_LOCK_STEP 200000 /* us */

bool cache_is_own(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && st.st_uid == geteuid() && (st.st_mode & 0022) == 0;
}

int cache_need(struct err *e)
{
	/* XDG Base Directory Specification 0.8: a relative path is invalid and to be ignored. */
	const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	_cleanup_free_ char *path = NULL;
	_cleanup_close_ int fd = -1;
	int ret;

	if (cache && cache[0] == '/')
		path = mem_printf("%s/claude-bottle", cache);
	else if (home && home[0] == '/')
		path = mem_printf("%s/.cache/claude-bottle", home);
	else
		return err_set(e, -ENOENT,
			       "there is no cache folder: set HOME or XDG_CACHE_HOME to the "
			       "absolute path of a folder of your own");
	ret = io_mkdir_p(path, 0700, e);
	if (ret < 0)
		return err_prefix(e, "the cache folder"), ret;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_errno(e, "open the cache folder \"%s\"", path);
	if (!cache_is_own(fd))
		return err_set(e, -EPERM,
			       "the cache folder \"%s\" is not yours alone: make it your user's, "
			       "and writable for nobody else, or set XDG_CACHE_HOME",
			       path);
	return take_fd(&fd);
}

int cache_open(void)
{
	int fd = cache_need(NULL);

	return fd < 0 ? -1 : fd;
}

int cache_lock(int folder, const char *name, int timeout_ms, const char *what,
	       const struct progress *p, struct err *e)
{
	uint64_t end_ns = time_monotonic_ns() + (uint64_t)timeout_ms * TIME_NS_PER_MS;
	_cleanup_close_ int fd = -1;

	fd = openat(folder, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return err_errno(e, "lock \"%s\" of the cache", name);
	while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK)
			return err_errno(e, "lock \"%s\" of the cache", name);
		if (time_monotonic_ns() > end_ns)
			return err_set(e, -EBUSY, "%s", what);
		progress_tell(p, "wait", what, 0, 0);
		(void)usleep(CACHE_LOCK_STEP);
	}
	return take_fd(&fd);
}
