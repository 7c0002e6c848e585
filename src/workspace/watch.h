/*
 * What is mounted over in a bottle loses its mount there when somebody on the host removes it, or
 * renames another file over it, as editors and `git checkout` do: Linux lets nobody's mounts stand
 * in the way of that. From then on the agent could write what is there now. So the keeper watches
 * the names; nobody in the bottle can cause these events, since a mount point is busy there.
 */
#pragma once

#include "base/err.h"

struct workspace_watch;

/* After workspace_prepare(). NULL in *out: the bottle has no workspace. */
int workspace_watch_open(struct workspace_watch **out, int state_fd, struct err *e) _fallible_;
/* Readable when something may have happened. */
int workspace_watch_fd(const struct workspace_watch *w);
/* The path, below the workspace, that has lost its mount; NULL: none. Reads what there is. */
const char *workspace_watch_read(struct workspace_watch *w);
void workspace_watch_free(struct workspace_watch *w);
