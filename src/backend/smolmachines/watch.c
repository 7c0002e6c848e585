/*
 * A child of the keeper's with whose end a bottle ends, which would go on: its tool's home has
 * grown past what a machine can need, or its bridge is gone, without which no signal and no size
 * reaches the agent. It says why into a pipe, and ends; the process that stands for the agent ends
 * when that pipe hangs up, so also when this one is killed. Between two looks a home may grow.
 *
 * A monitor that its guest has taken over makes the names that are looked at here: before that it
 * seals itself, and can open nothing outside of that home.
 */
#include "backend/smolmachines/smol_int.h"

#include "base/child.h"
#include "base/clean.h"
#include "base/io.h"
#include "priv/priv.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#define WATCH_PAUSE_MS 5000

static _Noreturn void watch(const struct bottle *b, uint64_t max_bytes, int bridge_fd)
{
	const struct priv_path home = {b->home, PRIV_READ};
	/* The capability: root looks into folders of the cell's uid. */
	const struct priv_seal seal = {.sets = PRIV_SECCOMP_BASE | PRIV_SECCOMP_OPEN |
					       PRIV_SECCOMP_LIST,
				       .caps = UINT64_C(1) << CAP_DAC_READ_SEARCH,
				       .paths = &home,
				       .n_paths = 1};
	unsigned char seen = SMOL_WATCH_QUIET;

	if (priv_seal(&seal, NULL) < 0)
		_exit(1);
	while (seen == SMOL_WATCH_QUIET) {
		if (smol_space_is_past(b->home, max_bytes))
			seen = SMOL_WATCH_FULL;
		else if (io_wait(bridge_fd, POLLIN, WATCH_PAUSE_MS) == 1)
			seen = SMOL_WATCH_DEAF;
	}
	(void)!write(b->watch_end_fd, &seen, 1);
	_exit(0);
}

int smol_watch_prepare(struct bottle *b, struct err *e)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return err_errno(e, "pipe");
	b->watch_fd = fds[0];
	b->watch_end_fd = fds[1];
	return 0;
}

int smol_watch_start(struct bottle *b, uint64_t max_bytes, struct err *e)
{
	_cleanup_close_ int bridge = (int)syscall(SYS_pidfd_open, b->bridge, 0);
	int ret;

	if (bridge < 0)
		return err_errno(e, "watch over smolvm");
	ret = child_fork("smol-watch", 1, (const int[]){bridge, b->watch_end_fd}, 2, &b->watch, e);
	if (ret < 0) {
		b->watch = 0;
		return ret;
	}
	if (b->watch == 0)
		watch(b, max_bytes, bridge);
	close_fd(&b->watch_end_fd);
	return 0;
}

enum smol_watch smol_watch_said(struct bottle *b)
{
	unsigned char word;
	ssize_t got;

	if (b->watch <= 0 || b->watch_said != SMOL_WATCH_QUIET)
		return b->watch_said;
	got = read(b->watch_fd, &word, 1);
	if (got == 0)
		b->watch_said = SMOL_WATCH_GONE;
	else if (got == 1)
		b->watch_said = word == SMOL_WATCH_FULL ? SMOL_WATCH_FULL : SMOL_WATCH_DEAF;
	return b->watch_said;
}

void smol_watch_end(struct bottle *b)
{
	child_end(&b->watch);
}
