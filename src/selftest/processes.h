/*
 * The processes of a bundle, as this host shows them. They are known by their command line, and
 * that they are this bottle's by their parent, the bottle's keeper, or in a container by the pinned
 * address that they are told to listen on, which no other bottle of this host has meanwhile. Where
 * this user may not see them, there are none.
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
size_t processes_find(pid_t keeper, const char *pinned, struct process out[PROCESSES_MAX]);
const struct process *processes_role(const struct process *list, size_t n, const char *role);
/* Signals it if it is still what it was; false with errno. */
bool processes_signal(const struct process *p, int signo);
/* Whether a process has something open, mapped or as its folder that lies in one with this mark, or
 * below; -1: it cannot be seen. what says which. */
int processes_has_marked(pid_t pid, const char *mark, char *what, size_t size);
/* Whether it executes more than one file; -1 and what as above. */
int processes_has_foreign_code(pid_t pid, char *what, size_t size);
