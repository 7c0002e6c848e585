/*
 * The host's git, run on a repository that an agent may have had a hand in. What it could obey of
 * the work tree or of the repository is switched off: hooks, fsmonitor, external diff and textconv,
 * signature programs, the pager, terminal prompts, submodule recursion, other transports, automatic
 * maintenance. The user's own configuration is the user's, and stays.
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"

#include <sys/types.h>

#define USER_GIT_TIMEOUT_MS 60000

struct user_git {
	const char *folder; /* where it runs */
	uid_t uid;	    /* as root: becomes this user; else ignored */
	gid_t gid;
	bool is_terminal; /* standard error goes through (for merge); else into the error */
};

/* Its standard output, at most out's cap (-EFBIG past it). *status: its exit status; a failure is
 * an error only when status is NULL, with what git said. args: NULL-terminated, after "git". */
int user_git_run(const struct user_git *g, const char *const *args, struct buf *out, int *status,
		 struct err *e) _fallible_;
/* The same, given to fn in pieces as it comes; fn may end it with a negative value. */
int user_git_stream(const struct user_git *g, const char *const *args,
		    int (*fn)(void *ctx, struct str piece), void *ctx, int *status,
		    struct err *e) _fallible_;
/* One line of output without its end; the caller frees. NULL: git says no, or nothing. */
char *user_git_line(const struct user_git *g, const char *const *args);

#define USER_GIT(g, out, status, e, ...)                                                           \
	user_git_run((g), (const char *const[]){__VA_ARGS__, NULL}, (out), (status), (e))
#define USER_GIT_LINE(g, ...) user_git_line((g), (const char *const[]){__VA_ARGS__, NULL})
