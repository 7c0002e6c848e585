/* A role's command line: what init says to it, and the descriptors that it inherits. */
#pragma once

#include "bundle/bundle.h"

#include <sys/types.h>

#define INIT_ARGV_MAX 40

struct init_argv {
	char text[INIT_ARGV_MAX][32];
	char *argv[INIT_ARGV_MAX + 4];
	int fds[INIT_ARGV_MAX];
	size_t n, n_fds;
};

/* At most INIT_ARGV_MAX of all these; role_env_parse() reads them. */
void init_argv_begin(struct init_argv *a, enum bundle_role role);
void init_argv_say(struct init_argv *a, const char *name, unsigned value);
/* Nothing for -1. */
void init_argv_give(struct init_argv *a, const char *name, int fd);
void init_argv_give_numbered(struct init_argv *a, const char *name, unsigned number, int fd);
/* In a child of parent, which is tied to it: becomes the role, in a process group of its own,
 * without an environment. */
_Noreturn void init_argv_exec(struct init_argv *a, int self_fd, pid_t parent);
