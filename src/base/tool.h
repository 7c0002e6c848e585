/*
 * Runs a program of the host's that makes something: mmdebstrap, tar2sqfs. Descriptors in and out,
 * never a shell; what it says on standard error is kept, bounded, and is the reason when it fails.
 */
#pragma once

#include "base/err.h"

#include <sys/types.h>

#define TOOL_SAID_MAX                                                                              \
	(1u << 20) /* of standard error; past it a write fails, and the tool with it */
#define TOOL_FILE   "/proc/self/fd/3" /* what a tool calls file_fd */
#define TOOL_DIE_MS 10000

struct tool {
	const char *const *argv; /* NULL-terminated; a name without "/" is looked for in PATH */
	const char *package;	 /* of Debian's, for the line that says that it is not there */
	char *const *env;	 /* NULL: the system's folders as PATH, and nothing of the user's */
	const char *folder;	 /* where it runs; NULL: the caller's */
	const char *scratch;	 /* a folder that goes, with all that is in it, at its end */
	int in_fd, out_fd;	 /* -1: /dev/null */
	int file_fd;		 /* TOOL_FILE, or -1 */
};

struct tool_run {
	const char *name, *package;
	pid_t pid; /* of what stands between it and the caller */
	int pid_fd;
	int said_fd; /* a file of fixed size; its offset is how much was written */
};
#define TOOL_RUN_INIT ((struct tool_run){.pid = -1, .pid_fd = -1, .said_fd = -1})

/* The path of what is in /usr/bin, /usr/sbin, /bin or /sbin, until the next call, or NULL. */
const char *tool_find(const char *name);
/* In a session of its own. When the caller dies, or tool_end() hastens it, all of its process group
 * is told (SIGTERM), and killed TOOL_DIE_MS later; nobody in there outlives it. */
int tool_start(struct tool_run *r, const struct tool *t, struct err *e) _fallible_;
/* 1: it has ended, 0: not within timeout_ms. */
int tool_wait(const struct tool_run *r, int timeout_ms);
/* Its last line so far that complains, or else its last one, fit to be shown; may be empty. */
void tool_said(const struct tool_run *r, char *out, size_t size);
/* Waits for its end, which must_die hastens. 0 if it has ended well; -ENOENT: it is not installed;
 * else -EIO or -ENOSPC with its last line that complains. Gives r back in any case. */
int tool_end(struct tool_run *r, bool must_die, struct err *e) _fallible_;
/* All three. -ETIMEDOUT: it was ended. */
int tool_do(const struct tool *t, int timeout_ms, struct err *e) _fallible_;
