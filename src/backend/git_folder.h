/*
 * The folder of git-gate's own, where the bundle runs on this host. It lies in the bottle's state
 * folder; but where the roles have uids of their own, they could not walk there, past root's
 * folders: then it is /var/lib/claude-bottle/git/SLUG, with SLUG.of beside it, which names the
 * state folder and is there as long as the folder may be. Mirrors are all that is in it: nothing of
 * it outlives a run.
 */
#pragma once

#include "backend/backend.h"

/* Made anew, for this uid alone (0: ours). */
int git_folder_make(const char *slug, const char *state_dir, unsigned uid,
		    char out[BACKEND_PATH_MAX], struct err *e) _fallible_;
/* What is there of that bottle's; nothing is no error. */
int git_folder_remove(const char *slug, const char *state_dir, struct err *e) _fallible_;
/* Removes (is_dry: counts) those whose state folder lay below state_root and is gone. */
int git_folder_sweep(const char *state_root, bool is_dry, size_t *n, struct err *e) _fallible_;
