/* A child that goes on in this program instead of executing another: it stands for a process that
 * runs elsewhere, and moves its bytes. */
#pragma once

#include "base/err.h"

#include <sys/types.h>

#define CHILD_FDS_MAX 40

/* Forks; in the child *pid is 0. The child dies with the thread that forked it, so the caller is a
 * process of one thread; is called name in lists of processes; leads a session of its own, so that
 * a ^C in the caller's terminal is not for it; has every signal's default action and none blocked,
 * but ignores SIGPIPE and SIGHUP; and has nothing open but keep (-1: passed over) and, where its
 * standard descriptors would be free, /dev/null there. A child whose parent has died meanwhile
 * exits with status lost. */
int child_fork(const char *name, int lost, const int *keep, size_t n, pid_t *pid,
	       struct err *e) _fallible_;

/* Kills it, and what it has forked if it leads a group, and waits for its end; *pid is 0 then, as
 * where there is none (0, -1). */
void child_end(pid_t *pid);

/* A pseudo-terminal that changes nothing of what passes: the process that it stands for has a real
 * one, which does the echo and turns ^C into a signal. The slave does not block. Both close-on-exec
 * and the caller's; nothing is left open after a failure. */
int child_open_pty(unsigned short rows, unsigned short columns, int *master, int *slave,
		   struct err *e) _fallible_;
/* A terminal that is stopped would block a write although it seemed ready; a description of our own
 * does not, and takes nothing from those who share the other. fd itself where it is no terminal. */
int child_unblocked(int fd);
