/*
 * The keeper's half of guest.h: it makes the socket that the container finds at GUEST_SOCKET, and
 * speaks with the guest init that connects to it. For the host's side (shared libraries).
 *
 * What is said here is believed for the bottle's start only: before "go" nothing runs in the
 * container but guest init. Text from it is shown with control bytes made visible.
 *
 *   guest_listen -> (start the container) -> guest_accept -> guest_close_from_host -> guest_canary
 *   -> guest_go -> guest_signal, as often as needed -> close(conn_fd), which kills
 *
 * guest_accept, guest_canary and guest_go wait at most timeout_ms, and end at once when abort_fd
 * (-1: none) becomes readable or hangs up: then -ECANCELED. -EPIPE: the guest has gone.
 *
 * The connection is the bottle's life. When its last copy is closed on this side, because the
 * keeper closes it or is killed, guest init ends and the kernel ends every process of the container
 * with it, without the engine's help. It is close-on-exec; a child of the keeper that does not
 * execute anything must close it, or the bottle outlives the keeper. When guest init has ended,
 * conn_fd hangs up.
 */
#pragma once

#include "guest/guest.h"

#include <sys/types.h>

/* Makes dir (0711; its parent must exist and is who keeps other users of the host out) and in it
 * keeper.sock, 0666, because the agent's user in the container is another than the keeper's. dir is
 * to be mounted at the folder of GUEST_SOCKET, read-only. dir may be longer than a socket's
 * address. *fd becomes the caller's. */
int guest_listen(const char *dir, int *fd, struct err *e) _fallible_;
/* Waits for the first connection and its 'h'. *listen_fd is closed and the socket removed from dir,
 * whatever happens: nobody else is let in. *conn_fd is the caller's. */
int guest_accept(const char *dir, int *listen_fd, int timeout_ms, int abort_fd, int *conn_fd,
		 struct err *e) _fallible_;
/* Waits for 'h' over a connection that was made otherwise. */
int guest_greet(int conn_fd, int timeout_ms, int abort_fd, struct err *e) _fallible_;
/* The wall seen from the agent's position: 0 if it holds, -ENOTUNIQ with the guest's own words if
 * not. Takes up to GUEST_ANSWER_MS if something is slow to answer; allow more. */
int guest_canary(int conn_fd, const struct guest_canary *c, int timeout_ms, int abort_fd,
		 struct err *e) _fallible_;
/* The agent starts; needs a guest_canary() that returned 0. 0: it has been executed, or could not
 * be and the container ends with 127 or 126 after one line on its standard error. The caller keeps
 * conn_fd open as long as the bottle is to live. */
int guest_go(int conn_fd, const struct guest_go *g, int timeout_ms, int abort_fd,
	     struct err *e) _fallible_;
/* After guest_go(): signo to the agent's process group (exec 0), or to that of guest exec id=exec.
 * Does not block, and is not answered: 0 says that guest init will do it, and whoever has ended,
 * has not executed its command yet or has another uid gets nothing. -EAGAIN: guest init does not
 * keep up. -EINVAL: no such signal or number. */
int guest_signal(int conn_fd, unsigned exec, int signo, struct err *e) _fallible_;

/* --- guest_host_close.c --- */

#define GUEST_CLOSE_MS 5000

/* Who is at the other end. *pid is of the caller's pid namespace, and guest init's as long as the
 * connection has not hung up; 0: it cannot be told, as it lives where this namespace does not see.
 */
int guest_peer(int conn_fd, pid_t *pid, struct err *e) _fallible_;
/* guest close, without the engine: a child enters the network namespace of guest init and becomes
 * the bundle's executable. Between guest_accept() and guest_canary(). Takes at most GUEST_CLOSE_MS.
 * -ENOTSUP: not from here (no privilege over that namespace, another pid namespace, an old kernel),
 * nothing was touched: let a container do it. Every other error is one of guest close's, in its
 * words, or a namespace that is the caller's own or the host's, which is never touched. */
int guest_close_from_host(int conn_fd, const char *pinned, struct err *e) _fallible_;
