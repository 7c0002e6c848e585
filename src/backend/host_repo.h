/*
 * The host's own repository, for `workspace: clone`: where its parts lie. Found by looking at
 * files; nothing is executed, and its configuration is not read.
 */
#pragma once

#include "base/err.h"

#include <sys/types.h>

#define HOST_REPO_ALTERNATES_MAX 16

struct host_repo {
	char *top;	  /* of the work tree, or the bare repository itself; real paths, all */
	char *git_dir;	  /* of this work tree: has its HEAD */
	char *common_dir; /* of all work trees: objects, refs */
	char *objects;
	char *alternates[HOST_REPO_ALTERNATES_MAX]; /* object folders that it borrows from */
	size_t n_alternates;
	mode_t mask; /* umask(2) under which its files have the permissions that they have */
};

/* The repository that path (a folder) is in. -ENOENT: none; -EPERM: somebody else's; -ENOTSUP: refs
 * that are no files. */
int host_repo_find(struct host_repo *out, const char *path, struct err *e) _fallible_;
void host_repo_free(struct host_repo *r);
/* Whether "bottle/SLUG/…" can be a branch there. */
int host_repo_check_branch(const struct host_repo *r, const char *slug, struct err *e) _fallible_;
