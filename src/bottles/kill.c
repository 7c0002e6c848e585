/* The end of a bottle whose keeper does not listen. */
#include "bottles/bottles.h"

#include "base/clean.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <fcntl.h>

#define KILL_POLL_MS 20

/* True when the process has the bottle's lock file open: a pid in a file may long be another's. */
static bool holds_lock(pid_t pid, int dir)
{
	_cleanup_closedir_ DIR *fds = NULL;
	struct stat lock, st;
	struct dirent *entry;
	char path[64];

	if (fstatat(dir, "lock", &lock, AT_SYMLINK_NOFOLLOW) < 0)
		return false;
	(void)snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	fds = opendir(path);
	while (fds && (entry = readdir(fds))) {
		if (fstatat(dirfd(fds), entry->d_name, &st, 0) == 0 && st.st_dev == lock.st_dev &&
		    st.st_ino == lock.st_ino)
			return true;
	}
	return false;
}

void bottles_kill_keeper(pid_t pid, int dir)
{
	_cleanup_close_ int pidfd = pid > 1 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;

	/* The pidfd first, so that what is checked is what is signalled. */
	if (pidfd >= 0 && holds_lock(pid, dir))
		(void)syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
}

bool bottles_wait_dead(const char *slug, uint64_t timeout_ms)
{
	uint64_t deadline = time_monotonic_ns() + timeout_ms * TIME_NS_PER_MS;
	_cleanup_close_ int bottles = -1;
	struct bottles_entry b;

	if (places_bottles_open(false, &bottles, NULL) < 0)
		return true;
	do {
		if (bottles_load(bottles, slug, &b, NULL) < 0 || !b.is_alive)
			return true;
		(void)poll(NULL, 0, KILL_POLL_MS);
	} while (time_monotonic_ns() < deadline);
	return false;
}
