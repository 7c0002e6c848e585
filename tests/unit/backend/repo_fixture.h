/* A repository of the host's for tests, and the shell's way to look at it. */
#pragma once

#include "base/err.h"

struct repo_fixture {
	char top[64];  /* a scratch folder */
	char path[96]; /* the repository in it: main with two commits, a tag, a stash, another
			* bottle's branch, a remote's branch */
};

void repo_make(struct repo_fixture *r);
void repo_free(struct repo_fixture *r);
/* The status of a script, in the repository, with the user's git; out may be NULL. */
int repo_sh(const struct repo_fixture *r, char *out, size_t size, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* One line that a command says; it must succeed. */
const char *repo_line(const struct repo_fixture *r, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* A digest of all files of the repository and its work tree, but objects and the test bottle's own
 * branches and logs. */
const char *repo_digest(const struct repo_fixture *r);
