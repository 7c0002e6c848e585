/*
 * git as a child: always the same few programs, with an environment made here and nothing
 * inherited, no hooks, no system or user configuration, no alternates, no transport but our own, no
 * prompt. Whatever a pushed repository says, git runs nothing on its word.
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"

#include <sys/types.h>

struct git_run_env {
	const char *repo; /* absolute path of the bare mirror (GIT_DIR) */
	/* Of a push under way: GIT_QUARANTINE_PATH, which is the object folder, with the mirror's
	 * as alternate; NULL: none. */
	const char *quarantine;
	const char *program; /* of git; NULL: /usr/bin/git */
	/* Further "NAME=VALUE", NULL-terminated; may be NULL. Borrowed. */
	const char *const *extra;
};

struct git_child {
	pid_t pid;
	int pid_fd;
	int in_fd, out_fd, err_fd; /* ours; -1 where the caller gave its own */
};

#define GIT_RUN_ARGS_MAX 64

/* argv without "git", NULL-terminated. fds: the child's standard descriptors, -1: a pipe is made
 * (err: -1 a pipe). Close-on-exec for everything else but keep_fd (-1: none). */
int git_run_start(const struct git_run_env *env, const char *const *argv, const int fds[3],
		  int keep_fd, struct git_child *out, struct err *e) _fallible_;
/* Waits until deadline_ns (CLOCK_MONOTONIC), then kills. The exit status, 128 + signal, or
 * -ETIMEDOUT. Closes what the child still has. */
int git_run_wait(struct git_child *c, uint64_t deadline_ns, struct err *e) _fallible_;
/* The whole output (at most out's cap, else -EFBIG) of a command that is given `in`; err_text (may
 * be NULL) its standard error, cut. The exit status, or negative. */
int git_run(const struct git_run_env *env, const char *const *argv, struct str in, struct buf *out,
	    struct buf *err_text, uint64_t deadline_ns, struct err *e) _fallible_;
