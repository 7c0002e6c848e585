/*
 * Paths of a repository whose content something executes or obeys without being asked: hooks, git's
 * own configuration, editors' tasks, agents' settings, build files, CI. One table for all who care:
 * git-gate (edits need the human), `workspace: mount` (read-only, or reported at exit), `merge`
 * (a warning).
 */
#pragma once

#include "base/str.h"

#define RISKY_CI                                                                                   \
	1u /* runs on the upstream's side when pushed: workflows, CODEOWNERS, .gitmodules */
#define RISKY_HOST  2u /* runs or is obeyed on the host at a mere cd, open or git command */
#define RISKY_BUILD 4u /* runs when the human builds or tests; reported, never refused */
#define RISKY_MOUNT 8u /* shown read-only in `workspace: mount`, present or not */

/* path: of a file or link, relative to the work tree, "/" between segments, any bytes. Compared the
 * way the most forgiving file system would: without letter case, HFS+ ignorables, NTFS trailing
 * dots, spaces and streams, short names ("git~1"). At any depth where that is where the reader
 * looks. 0: none; *what (may be NULL): static, for people, of the gravest reason. A path that
 * climbs
 * ("..") or is longer than RISKY_PATH_MAX is RISKY_HOST. */
#define RISKY_PATH_MAX 4096
unsigned risky_path_find(struct str path, const char **what);
/* The entries with RISKY_MOUNT, as paths relative to the work tree's top, in order; a trailing "/"
 * marks a folder. NULL past the end. Of ".git" there are the parts that git obeys; it must also not
 * be possible to move ".git" itself away, or these with it. */
const char *risky_path_mount(size_t i);
