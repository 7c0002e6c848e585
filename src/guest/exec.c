/*
 * Commands beside the agent, by number. The engine puts them into the pid namespace from outside,
 * so process 1 is not their parent and nobody tells it of them: it looks for them when it is asked.
 *
 * What it goes by, all three: the process leads a session; its parent is not in this namespace,
 * which no process that was made inside can bring about (orphans become children of process 1); and
 * the mark is in its environment, wherever: a shell hands on what it has in an order of its own. So
 * the agent can neither take such a signal for a process of its own nor keep it from another's by
 * look-alikes. Whom it reaches may well be the agent's by then: it has the same user as the command
 * and may have changed it. Nothing outside of the namespace has a number in here.
 */
#include "guest/guest_int.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"

#include <fcntl.h>
#include <stdio.h>

#define EXEC_MARK_SIZE	 48
#define EXEC_ENVIRON_MAX (8u << 20) /* more than execve() takes */

_Static_assert(sizeof(GUEST_EXEC_MARK "=4294967295") <= EXEC_MARK_SIZE, "a mark has room");

bool exec_parse_number(const char *text, unsigned *number)
{
	uint64_t value = 0;

	if (text[0] < '1' || text[0] > '9')
		return false;
	for (; *text >= '0' && *text <= '9' && value <= GUEST_EXEC_MAX; text++)
		value = 10 * value + (uint64_t)(*text - '0');
	*number = (unsigned)value;
	return *text == '\0' && value <= GUEST_EXEC_MAX;
}

void exec_mark(unsigned number)
{
	static const char name[] = GUEST_EXEC_MARK "=";
	size_t n = 0, n_marked = 0;
	char **marked;

	while (environ[n])
		n++;
	marked = mem_zalloc_array(n + 2, sizeof(*marked));
	marked[n_marked++] = mem_printf("%s%u", name, number);
	for (size_t i = 0; i < n; i++) {
		if (strncmp(environ[i], name, sizeof(name) - 1) != 0)
			marked[n_marked++] = environ[i];
	}
	environ = marked;
}

/* The beginning of a file of /proc/PID; what it does not have is not there. */
static size_t exec_read(pid_t pid, const char *name, char *out, size_t size)
{
	char path[48];
	_cleanup_close_ int fd = -1;
	ssize_t got;

	(void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	got = fd < 0 ? -1 : read(fd, out, size - 1);
	out[got > 0 ? got : 0] = '\0';
	return got > 0 ? (size_t)got : 0;
}

static bool exec_is_from_outside(pid_t pid)
{
	char stat[256], *after;

	(void)exec_read(pid, "stat", stat, sizeof(stat));
	/* "PID (NAME) STATE PARENT", where a name may hold whatever its process likes. */
	after = strrchr(stat, ')');
	return after && strncmp(after, ") ", 2) == 0 && after[2] &&
	       strncmp(after + 3, " 0 ", 3) == 0;
}

static bool exec_has_mark(pid_t pid, const char *mark)
{
	char path[48];
	struct str all, rest;
	bool found = false;

	(void)snprintf(path, sizeof(path), "/proc/%d/environ", (int)pid);
	if (io_read_file(AT_FDCWD, path, EXEC_ENVIRON_MAX, &all, NULL) < 0)
		return false;
	rest = all;
	while (rest.n > 0 && !found) {
		struct str entry;
		bool ends;

		rest = str_cut(rest, '\0', &entry, &ends);
		found = ends && str_eq(entry, str_of(mark));
	}
	free((void *)(uintptr_t)all.p);
	return found;
}

static bool exec_is(pid_t pid, const char *mark)
{
	return pid > 1 && getsid(pid) == pid && exec_is_from_outside(pid) &&
	       exec_has_mark(pid, mark);
}

pid_t exec_find(unsigned number, size_t most_entries)
{
	_cleanup_closedir_ DIR *proc = opendir("/proc");
	const struct dirent *entry;
	char mark[EXEC_MARK_SIZE];

	(void)snprintf(mark, sizeof(mark), "%s=%u", GUEST_EXEC_MARK, number);
	for (size_t i = 0; proc && i < most_entries; i++) {
		unsigned pid;

		entry = readdir(proc);
		if (!entry)
			break;
		if (exec_parse_number(entry->d_name, &pid) && exec_is((pid_t)pid, mark))
			return (pid_t)pid;
	}
	return 0;
}
