/* A child process whose standard output and standard error end up, together, in a text of the
 * test's. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct collect {
	pid_t pid;
	int fd;
};

/* True in the child, which becomes another program or ends with _exit(). */
bool collect_fork(struct collect *c);
/* The child's status, as a shell gives it, when it has ended. out is what it said, at most size - 1
 * bytes of it, and a NUL; whoever says more finds its pipe closed. */
int collect_end(struct collect *c, char *out, size_t size);
/* The same for a test that has read fd itself. */
int collect_wait(struct collect *c);
