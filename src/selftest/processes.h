/*
 * The processes of a bundle, as this host shows them: children of the bottle's keeper, or of a
 * container's shim. They are known by their command line and by the slug in their environment or
 * control group; where this user may not see that, there are none.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define PROCESSES_MAX 16

struct process {
	pid_t pid;
	char role[16]; /* "init", or the role's name */
};

/* init first. 0 if init is not found. */
size_t processes_find(const char *slug, pid_t keeper, struct process out[PROCESSES_MAX]);
const struct process *processes_role(const struct process *list, size_t n, const char *role);
/* Signals it if it is still what it was; false with errno. */
bool processes_signal(const struct process *p, int signo);
/* Whether a process has something open, mapped or as its folder that lies in one with this mark, or
 * below; -1: it cannot be seen. what says which. */
int processes_has_marked(pid_t pid, const char *mark, char *what, size_t size);
/* Whether it executes more than one file; -1 and what as above. */
int processes_has_foreign_code(pid_t pid, char *what, size_t size);
