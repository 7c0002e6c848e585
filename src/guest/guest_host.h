/*
 * The keeper's half of guest.h: it makes the socket that the container finds at GUEST_SOCKET, and
 * speaks with the guest init that connects to it. For the host's side (shared libraries).
 *
 * What is said here is believed for the bottle's start only: before "go" nothing runs in the
 * container but guest init. Text from it is shown with control bytes made visible.
 *
 *   guest_listen -> (start the container) -> guest_accept -> guest_canary -> guest_go -> close(fd)
 *
 * All wait at most timeout_ms, and end at once when abort_fd (-1: none) becomes readable or hangs
 * up: then -ECANCELED. -EPIPE: the guest has gone.
 */
#pragma once

#include "guest/guest.h"

/* Makes dir (0711; its parent must exist and is who keeps other users of the host out) and in it
 * keeper.sock, 0666, because the agent's user in the container is another than the keeper's. dir is
 * to be mounted at the folder of GUEST_SOCKET, read-only. dir may be longer than a socket's
 * address. *fd becomes the caller's. */
int guest_listen(const char *dir, int *fd, struct err *e) _fallible_;
/* Waits for the first connection and its 'h'. *listen_fd is closed and the socket removed from dir,
 * whatever happens: nobody else is let in. *conn_fd is the caller's. */
int guest_accept(const char *dir, int *listen_fd, int timeout_ms, int abort_fd, int *conn_fd,
		 struct err *e) _fallible_;
/* The wall seen from the agent's position: 0 if it holds, -ENOTUNIQ with the guest's own words if
 * not. Takes up to GUEST_ANSWER_MS if something is slow to answer; allow more. */
int guest_canary(int conn_fd, const struct guest_canary *c, int timeout_ms, int abort_fd,
		 struct err *e) _fallible_;
/* The agent starts. 0: it has been executed, or could not be and the container ends with 127 or
 * 126 after one line on its standard error. */
int guest_go(int conn_fd, const struct guest_go *g, int timeout_ms, int abort_fd,
	     struct err *e) _fallible_;
