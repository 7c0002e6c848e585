/*
 * A child of the keeper's that ends a bottle which would go on: its tool's home has grown past what
 * a machine can need, or its bridge is gone, without which no signal and no size reaches the agent.
 * It ends the process that stands for the agent, and with it the bottle. Between two looks a home
 * may grow.
 */
#include "backend/smolmachines/smol_int.h"

#include "base/child.h"
#include "base/clean.h"
#include "base/io.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define WATCH_PAUSE_MS 5000

static _Noreturn void watch(const struct bottle *b, uint64_t max_bytes, int hold_fd, int bridge_fd)
{
	enum smol_watch seen = SMOL_WATCH_QUIET;
	uint64_t word;

	while (seen == SMOL_WATCH_QUIET) {
		if (smol_space_is_past(b->home, max_bytes))
			seen = SMOL_WATCH_FULL;
		else if (io_wait(bridge_fd, POLLIN, WATCH_PAUSE_MS) == 1)
			seen = SMOL_WATCH_DEAF;
	}
	/* First, so that whoever asks for the reason of that end finds it. */
	word = seen;
	(void)!write(b->watch_fd, &word, sizeof(word));
	(void)syscall(SYS_pidfd_send_signal, hold_fd, SIGKILL, NULL, 0);
	_exit(0);
}

int smol_watch_start(struct bottle *b, uint64_t max_bytes, struct err *e)
{
	_cleanup_close_ int hold = (int)syscall(SYS_pidfd_open, b->hold, 0);
	_cleanup_close_ int bridge = (int)syscall(SYS_pidfd_open, b->bridge, 0);
	int ret;

	b->watch_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (hold < 0 || bridge < 0 || b->watch_fd < 0)
		return err_errno(e, "watch over smolvm");
	ret = child_fork("smol-watch", 1, (const int[]){hold, bridge, b->watch_fd}, 3, &b->watch,
			 e);
	if (ret < 0) {
		b->watch = 0;
		return ret;
	}
	if (b->watch == 0)
		watch(b, max_bytes, hold, bridge);
	return 0;
}

enum smol_watch smol_watch_said(struct bottle *b)
{
	uint64_t word;

	if (b->watch_said == SMOL_WATCH_QUIET && b->watch_fd >= 0 &&
	    read(b->watch_fd, &word, sizeof(word)) == (ssize_t)sizeof(word))
		b->watch_said = word == SMOL_WATCH_FULL ? SMOL_WATCH_FULL : SMOL_WATCH_DEAF;
	return b->watch_said;
}

void smol_watch_end(struct bottle *b)
{
	if (b->watch <= 0)
		return;
	(void)kill(b->watch, SIGKILL);
	while (waitpid(b->watch, NULL, 0) < 0 && errno == EINTR)
		;
	b->watch = 0;
}
