/*
 * `workspace: mount`: a folder of the host's that a bottle may write, without what it writes there
 * being executed or obeyed by the host.
 *
 * The folder lies in the bottle under the path that it has on the host. Paths that the host obeys
 * without being asked (conf/risky_path.h, RISKY_MOUNT) are read-only there, present or not: one
 * that is absent is made first, as an empty folder, so that there is something to mount on. Each
 * folder on the way to such a path is a mount point of its own too, since a mount point cannot be
 * renamed, while a folder that only holds one can. The repository's `.git` is not in the bottle at
 * all: in its place is a private one that borrows the host's objects (gitdir.c). Other repositories
 * below, those that are there at the start, keep theirs, read-only.
 *
 * What cannot be prevented is reported: an inventory of the start (inventory.h) is compared with
 * the folder at the end.
 *
 * State folder: workspace/ (0700):
 *   journal.json  path, and the folders that were made for mounts, written before they are made
 *   before.json   the inventory
 *   git/          the private repository; the agent's
 *   gitfile       what lies over a `.git` that is a file
 *   report.json   what the comparison found
 */
#pragma once

#include "base/err.h"
#include "conf/plan.h"

#include <sys/types.h>

#define WORKSPACE_STATE "workspace"
/* In the bottle: what the private repository borrows from, and the repository itself where `.git`
 * is a file. Both lie where nothing of the agent's does: a link of its making is never followed. */
#define WORKSPACE_OBJECTS    "/etc/claude-bottle/objects"
#define WORKSPACE_GITDIR     "/etc/claude-bottle/workspace.git"
#define WORKSPACE_MOUNTS_MAX 512

struct workspace_mount {
	char *path; /* below the workspace */
	bool is_read_only;
};

struct workspace {
	char *path; /* absolute, without links; the same in the bottle; NULL: nothing is mounted */
	uid_t uid;  /* whose it is */
	gid_t gid;
	struct workspace_mount *mounts; /* of the workspace onto itself; outer ones first */
	size_t n_mounts;
	char *git_dir;	   /* private, of the host's path */
	char *git_file;	   /* NULL unless `.git` is a file */
	char *objects;	   /* the host's, read-only at WORKSPACE_OBJECTS; NULL: no repository */
	char **alternates; /* what those borrow from, read-only under the same path */
	size_t n_alternates;
};

/* Never a folder that holds the user's home, the bottles' state or manifests, or that lies within
 * those, or the system's. path: canonical. */
int workspace_check(const char *path, const char *home, const char *state_dir,
		    struct err *e) _fallible_;
/* For a plan with PLAN_WORKSPACE_MOUNT (else out stays empty): checks, takes the inventory, makes
 * what is missing to mount on, and the private repository. Undoes first what a killed run left.
 * -EBUSY: another bottle has the folder, or one around or within it. */
int workspace_prepare(struct workspace *out, const struct plan *p, const char *state_dir,
		      struct err *e) _fallible_;
void workspace_free(struct workspace *w);
/* The private repository is the agent's, who has these ids on the host. */
int workspace_give(const struct workspace *w, uid_t uid, gid_t gid, struct err *e) _fallible_;
/* After the bottle's end, and nothing of it lives: takes away what was made to mount on, where it
 * is still empty, and writes the report. Nothing happens the second time, or without a workspace.
 * state_fd: the state folder. */
int workspace_end(int state_fd, struct err *e) _fallible_;
/* What the report would be by now (report.h), of a bottle that has not been ended; the caller
 * frees. -ENOENT without an error: it has no workspace, or was ended. */
int workspace_look(int state_fd, struct str *json, struct err *e) _fallible_;
