#include "selftest/processes.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>

#define PROC_FILE_MAX  (1u << 20)
#define ANCESTORS_MAX  32
#define BUNDLE_PROGRAM "claude-bottle-bundle"

struct str processes_read(pid_t pid, const char *name)
{
	_cleanup_free_ char *path = mem_printf("/proc/%d/%s", (int)pid, name);
	struct str out = STR_NULL;

	return io_read_file(AT_FDCWD, path, PROC_FILE_MAX, &out, NULL) < 0 ? STR_NULL : out;
}

static void free_str(struct str *s)
{
	free((char *)(uintptr_t)s->p);
}

static pid_t parent_of(pid_t pid)
{
	_cleanup_(free_str) struct str text = processes_read(pid, "stat");
	int parent = 0;
	size_t at = text.n;

	/* The name, in parentheses, may hold anything. */
	while (at > 0 && text.p[at - 1] != ')')
		at--;
	return at > 0 && sscanf(text.p + at, " %*c %d", &parent) == 1 ? parent : 0;
}

/* True for `…/claude-bottle-bundle WORD [ROLE]`, with that role. */
static bool is_bundle(pid_t pid, const char *word, char role[16])
{
	_cleanup_(free_str) struct str all = processes_read(pid, "cmdline");
	struct str rest = all, args[3] = {STR_NULL, STR_NULL, STR_NULL};
	bool more = rest.n > 0;

	for (size_t i = 0; more && i < ARRAY_LEN(args); i++)
		rest = str_cut(rest, '\0', &args[i], &more);
	if (!str_ends(args[0], STR_LIT(BUNDLE_PROGRAM)) || !str_eq(args[1], str_of(word)))
		return false;
	if (strcmp(word, "init") == 0)
		return str_to_cstr(role, 16, STR_LIT("init"));
	return str_to_cstr(role, 16, args[2]);
}

/* The source of the mount as backend/docker/bundle_box.h has it. */
static bool is_of_bottle(pid_t pid, pid_t keeper, const char *slug)
{
	_cleanup_(free_str) struct str mounts = STR_NULL;
	_cleanup_free_ char *source = mem_printf("/%s/docker/bundle ", slug);

	if (keeper > 1 && parent_of(pid) == keeper)
		return true;
	mounts = processes_read(pid, "mountinfo");
	return str_find(mounts, str_of(source)) < mounts.n;
}

size_t processes_find(pid_t keeper, const char *slug, struct process out[PROCESSES_MAX])
{
	_cleanup_closedir_ DIR *dir = opendir("/proc");
	struct dirent *entry;
	char role[16];
	size_t n = 0;

	/* Twice over: init, then its children. */
	while (dir && n == 0 && (entry = readdir(dir))) {
		pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);

		if (pid > 1 && is_bundle(pid, "init", role) && is_of_bottle(pid, keeper, slug)) {
			out[n] = (struct process){.pid = pid};
			memcpy(out[n++].role, role, sizeof(role));
		}
	}
	if (n == 0)
		return 0;
	rewinddir(dir);
	while (n < PROCESSES_MAX && (entry = readdir(dir))) {
		pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);

		if (pid > 1 && parent_of(pid) == out[0].pid && is_bundle(pid, "role", role)) {
			out[n] = (struct process){.pid = pid};
			memcpy(out[n++].role, role, sizeof(role));
		}
	}
	return n;
}

static bool is_below(pid_t pid, pid_t ancestor)
{
	for (int i = 0; pid > 1 && i < ANCESTORS_MAX; i++) {
		pid = parent_of(pid);
		if (pid == ancestor)
			return true;
	}
	return false;
}

size_t processes_find_cell(pid_t keeper, pid_t out[PROCESSES_MAX])
{
	_cleanup_closedir_ DIR *dir = opendir("/proc");
	struct dirent *entry;
	char number[16];
	size_t n = 0;

	while (dir && keeper > 1 && n == 0 && (entry = readdir(dir))) {
		pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);

		if (pid > 1 && is_bundle(pid, "cell", number) && is_below(pid, keeper))
			out[n++] = pid;
	}
	if (n == 0)
		return 0;
	rewinddir(dir);
	while (n < PROCESSES_MAX && (entry = readdir(dir))) {
		pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);

		if (pid > 1 && is_below(pid, out[0]))
			out[n++] = pid;
	}
	return n;
}

const struct process *processes_role(const struct process *list, size_t n, const char *role)
{
	for (size_t i = 0; i < n; i++) {
		if (strcmp(list[i].role, role) == 0)
			return &list[i];
	}
	return NULL;
}

bool processes_signal(const struct process *p, int signo)
{
	/* The pidfd first, so that what is checked is what is signalled. */
	_cleanup_close_ int pidfd = (int)syscall(SYS_pidfd_open, p->pid, 0);
	char role[16];

	if (pidfd < 0)
		return false;
	if (!is_bundle(p->pid, strcmp(p->role, "init") == 0 ? "init" : "role", role) ||
	    strcmp(role, p->role) != 0) {
		errno = ESRCH;
		return false;
	}
	return syscall(SYS_pidfd_send_signal, pidfd, signo, NULL, 0) == 0;
}

/* --- what a process has --- */

uint64_t processes_status(pid_t pid, const char *key, int base)
{
	_cleanup_(free_str) struct str text = processes_read(pid, "status");
	_cleanup_free_ char *wanted = mem_printf("\n%s:", key);
	size_t at = str_find(text, str_of(wanted));

	/* Ended with a NUL byte. */
	return at < text.n ? strtoull(text.p + at + strlen(wanted), NULL, base) : UINT64_MAX;
}

/* True when a folder on the way to path, as the process sees it, has the mark in it. */
static bool is_below_mark(pid_t pid, const char *path, const char *mark)
{
	_cleanup_free_ char *folder = mem_strdup(path);
	char *slash;

	while (path[0] == '/' && (slash = strrchr(folder, '/'))) {
		_cleanup_free_ char *one = NULL;

		*slash = '\0';
		one = mem_printf("/proc/%d/root%s/%s", (int)pid, folder, mark);
		if (access(one, F_OK) == 0)
			return true;
	}
	return false;
}

static int link_is_marked(pid_t pid, const char *name, const char *mark, char *what, size_t size)
{
	_cleanup_free_ char *path = mem_printf("/proc/%d/%s", (int)pid, name);
	char target[4096];
	ssize_t n = readlink(path, target, sizeof(target) - 32);

	if (n < 0)
		return errno == ENOENT ? 0 : -1;
	target[n] = '\0';
	if (strcmp(name, "cwd") == 0)
		memcpy(target + n, "/.", 3); /* the folder itself counts */
	if (!is_below_mark(pid, target, mark))
		return 0;
	(void)snprintf(what, size, "%s is %.120s", name, target);
	return 1;
}

static int map_is_marked(pid_t pid, const char *mark, char *what, size_t size)
{
	_cleanup_(free_str) struct str text = processes_read(pid, "maps");
	struct str rest = text, line;
	bool more = text.n > 0;

	while (more) {
		char path[1024];

		rest = str_cut(rest, '\n', &line, &more);
		line = str_sub(line, str_chr(line, '/'), line.n);
		if (line.n > 0 && str_to_cstr(path, sizeof(path), line) &&
		    is_below_mark(pid, path, mark)) {
			(void)snprintf(what, size, "%.120s is mapped", path);
			return 1;
		}
	}
	return text.n > 0 ? 0 : -1;
}

int processes_has_marked(pid_t pid, const char *mark, char *what, size_t size)
{
	static const char *const links[] = {"exe", "cwd"};
	_cleanup_free_ char *folder = mem_printf("/proc/%d/fd", (int)pid);
	_cleanup_closedir_ DIR *dir = opendir(folder);
	struct dirent *entry;
	int found = dir ? 0 : -1;

	for (size_t i = 0; found == 0 && i < ARRAY_LEN(links); i++)
		found = link_is_marked(pid, links[i], mark, what, size);
	while (found == 0 && (entry = readdir(dir))) {
		_cleanup_free_ char *name = mem_printf("fd/%s", entry->d_name);

		if (entry->d_name[0] != '.')
			found = link_is_marked(pid, name, mark, what, size);
	}
	return found == 0 ? map_is_marked(pid, mark, what, size) : found;
}

int processes_has_foreign_code(pid_t pid, char *what, size_t size)
{
	_cleanup_(free_str) struct str text = processes_read(pid, "maps");
	_cleanup_free_ char *exe = mem_printf("/proc/%d/exe", (int)pid);
	struct str rest = text, line;
	bool more = text.n > 0;
	char own[1024];
	ssize_t n = readlink(exe, own, sizeof(own) - 1);

	if (n < 0 || text.n == 0)
		return -1;
	while (more) {
		struct str path;

		rest = str_cut(rest, '\n', &line, &more);
		path = str_sub(line, str_chr(line, '/'), line.n);
		/* "FROM-TO rwxp …" */
		if (path.n == 0 ||
		    str_chr(str_sub(line, 0, str_chr(line, '/')), 'x') == line.n - path.n)
			continue;
		if (!str_eq(path, str_slice(own, (size_t)n))) {
			(void)snprintf(what, size, STR_FMT " is executed",
				       STR_ARG(str_sub(path, 0, 120)));
			return 1;
		}
	}
	return 0;
}
