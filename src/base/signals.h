/* What a process hands on to the program that it becomes, and what it leaves when it ends. */
#pragma once

/* Every signal has its default action again and none is blocked, so that nothing of what the caller
 * ignores stays ignored: a shell, for one, could not trap it any more. For a process that is about
 * to execute another program; the C library's own two signals are among them. */
void signals_reset(void);
/* What wait(2) says of one that has ended, as a shell does: its exit status, or 128 + the signal.
 */
int signals_exit_status(int how);
