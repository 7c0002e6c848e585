#include "backend/keeper_int.h"

#include "base/clean.h"

#include <sys/socket.h>

void keeper_desk_init(struct keeper_desk *d)
{
	for (size_t i = 0; i < KEEPER_DESK_COUNT; i++)
		d->fds[i] = -1;
}

int keeper_desk_open(struct keeper *k, int theirs[KEEPER_DESK_COUNT], struct err *e)
{
	for (size_t i = 0; i < KEEPER_DESK_COUNT; i++)
		theirs[i] = -1;
	for (size_t i = 0; i < KEEPER_DESK_COUNT && k->plan->is_supervised; i++) {
		int pair[2];

		if (i == KEEPER_DESK_GITGATE && k->plan->git.n_remotes == 0)
			continue;
		if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
			return err_errno(e, "socketpair");
		k->desk.fds[i] = pair[0];
		theirs[i] = pair[1];
	}
	return 0;
}

void keeper_desk_close(struct keeper_desk *d)
{
	for (size_t i = 0; i < KEEPER_DESK_COUNT; i++)
		close_fd(&d->fds[i]);
}
