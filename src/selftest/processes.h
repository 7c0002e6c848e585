/*
 * The processes of a bundle, and those of the cell of a machine's monitor (cell/cell.h), as this
 * host shows them. They are known by their command line, and that they are this bottle's by their
 * parent, the bottle's keeper, or in a container by what is mounted there: the folder of this
 * bottle's where its init gets its descriptors. Where this user may not see them, there are none.
 */
#pragma once

#include "base/str.h"

#include <sys/types.h>

#define PROCESSES_MAX 16

struct process {
	pid_t pid;
	char role[16]; /* "init", or the role's name */
};

/* init first. 0 if init is not found. */
size_t processes_find(pid_t keeper, const char *slug, struct process out[PROCESSES_MAX]);
/* Those of the cell of this keeper's bottle, its process 1 first. 0: there is none. */
size_t processes_find_cell(pid_t keeper, pid_t out[PROCESSES_MAX]);
const struct process *processes_role(const struct process *list, size_t n, const char *role);
/* Signals it if it is still what it was; false with errno. */
bool processes_signal(const struct process *p, int signo);
/* Whether a process has something open, mapped or as its folder that lies in one with this mark, or
 * below; -1: it cannot be seen. what says which. */
int processes_has_marked(pid_t pid, const char *mark, char *what, size_t size);
/* Whether it executes more than one file; -1 and what as above. */
int processes_has_foreign_code(pid_t pid, char *what, size_t size);
/* A number after KEY in its status; UINT64_MAX: it cannot be seen. */
uint64_t processes_status(pid_t pid, const char *key, int base);
/* A file of its in /proc, NUL-terminated; empty when it cannot be read. The caller frees p. */
struct str processes_read(pid_t pid, const char *name);
/* Whether this text is in its memory, as far as that is there (processes_memory.c); -1 as above. */
int processes_has_in_memory(pid_t pid, struct str text, char *what, size_t size);
