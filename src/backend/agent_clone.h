/* `workspace: clone`, in the compartment: the agent's command begins in a clone of the workspace.
 */
#pragma once

#include "conf/plan.h"

/* Where the clone lies in the agent's home; NULL: the workspace is not cloned. The caller frees. */
char *agent_clone_folder(const struct plan *p);
/* The plan's command, codex's own with the server of a supervised bottle; in a workspace that is
 * cloned behind a shell that clones it from git-gate, once in the life of the home, and changes
 * there. NULL-terminated; agent_command_free(). */
char **agent_command_make(const struct plan *p, const char *pinned);
/* What is started beside an agent that still clones, behind a shell that waits for the clone: so
 * that it begins where it would a moment later. home: the agent's, on the host; NULL:
 * it cannot be seen from here, and the shell looks. NULL is returned when there is no need. */
char **agent_exec_make(const struct plan *p, const char *home, char *const *argv);
void agent_command_free(char **argv);
