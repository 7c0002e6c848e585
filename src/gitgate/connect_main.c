/*
 * git-connect: what git takes for its ssh. Its arguments, a host and a command, mean nothing: the
 * stream that it was given leads to the one upstream that the worker has chosen.
 */
#include "gitgate/upstream.h"

#include "base/io.h"
#include "base/log.h"
#include "base/timeutil.h"
#include "gitgate/pump.h"

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

/* The worker and the connector keep the time. */
#define MAIN_MS 7200000u

int git_connect_main(int argc, char **argv)
{
	static struct pump_way there, back;
	struct wire_clock clock = {time_monotonic_ns() + MAIN_MS * TIME_NS_PER_MS, MAIN_MS, -1};
	const char *text = getenv("CB_STREAM");
	struct err e = ERR_INIT;
	uint64_t fd;

	(void)argc;
	(void)argv;
	if (!text || str_to_u64(str_of(text), 65535, &fd) < 0 || fd < 3)
		die("git starts git-connect, not people");
	(void)signal(SIGPIPE, SIG_IGN);
	if (io_set_nonblock(STDIN_FILENO, true) < 0 || io_set_nonblock(STDOUT_FILENO, true) < 0 ||
	    io_set_nonblock((int)fd, true) < 0)
		die("git-connect needs its descriptors");
	there.from = STDIN_FILENO;
	there.to = back.from = (int)fd;
	back.to = STDOUT_FILENO;
	return pump_run(&there, &back, &clock, 0, &e) < 0 ? 1 : 0;
}
