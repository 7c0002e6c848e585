/* Between the files of this module. */
#pragma once

#include "base/buf.h"
#include "workspace/workspace.h"

#define WORKSPACE_INVENTORY_MS 8000 /* at the start */
#define WORKSPACE_END_MS       3000 /* at the end, when somebody waits for the prompt */

struct inventory;

/* --- mounts.c --- */

/* A folder that was made to mount on. */
struct workspace_made {
	char *path;
	uint64_t dev, ino; /* 0 until it is made */
};

struct workspace_journal {
	char *path; /* of the workspace */
	struct workspace_made *made;
	size_t n, cap;
	/* what lies under a mount of the bottle's, and must stay there (watch.h) */
	struct workspace_made *guarded;
	size_t n_guarded, cap_guarded;
};

void journal_free(struct workspace_journal *j);
/* dir: the workspace's folder in the state folder. -ENOENT without an error: there is none. */
int journal_load(int dir, struct workspace_journal *out, struct err *e) _fallible_;
int journal_store(int dir, const struct workspace_journal *j, struct err *e) _fallible_;
/* Takes away what is still as it was made. */
void journal_undo(const struct workspace_journal *j);

/* Fills w->mounts, and j with what is missing; nothing is made. root: the workspace. repositories:
 * paths of every other repository's `.git` (and bare ones' folders), sorted. */
int mounts_plan(struct workspace *w, int root, const struct inventory *found,
		struct workspace_journal *j, struct err *e) _fallible_;
/* Makes what j names; then j has their numbers. */
int mounts_make(const struct workspace *w, int root, struct workspace_journal *j,
		struct err *e) _fallible_;

/* Notes in j what w mounts over. */
int mounts_guard(const struct workspace *w, int root, struct workspace_journal *j,
		 struct err *e) _fallible_;
/* The folder that path's last segment lies in, no link followed; *name: that segment. -1: gone. */
int workspace_open_parent(int root, const char *path, const char **name);

/* --- gitdir.c --- */

/* Fills w->git_dir, git_file, objects, alternates. dir_path: the workspace's folder in the state
 * folder. is_file: `.git` is one. */
int gitdir_make(struct workspace *w, const char *dir_path, bool is_file, struct err *e) _fallible_;
