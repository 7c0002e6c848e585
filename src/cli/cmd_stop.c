#include "cli/bottles.h"
#include "cli/client.h"
#include "cli/verbs.h"

#include "base/io.h"
#include "base/timeutil.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define GRACE_MS       5000
#define MARGIN_MS      5000
#define POLL_PERIOD_MS 20

enum { OPT_ALL, OPT_NOW };
static const struct cli_option options[] = {
	[OPT_ALL] = {"all", 'a', NULL, "every running bottle", 0},
	[OPT_NOW] = {"now", 0, NULL, "kill at once, without a chance to finish", 0},
};

/* True when the process has the bottle's lock file open: a pid in a file may long be another's. */
static bool holds_lock(pid_t pid, int dir)
{
	_cleanup_closedir_ DIR *fds = NULL;
	struct stat lock, st;
	struct dirent *entry;
	char path[64];

	if (fstatat(dir, "lock", &lock, AT_SYMLINK_NOFOLLOW) < 0)
		return false;
	(void)snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	fds = opendir(path);
	while (fds && (entry = readdir(fds))) {
		if (fstatat(dirfd(fds), entry->d_name, &st, 0) == 0 && st.st_dev == lock.st_dev &&
		    st.st_ino == lock.st_ino)
			return true;
	}
	return false;
}

static void kill_keeper(pid_t pid, int dir)
{
	_cleanup_close_ int pidfd = pid > 1 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;

	/* The pidfd first, so that what is checked is what is signalled. */
	if (pidfd >= 0 && holds_lock(pid, dir))
		(void)syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
}

static bool wait_dead(int bottles, const char *slug, uint64_t timeout_ms)
{
	uint64_t deadline = time_monotonic_ns() + timeout_ms * TIME_NS_PER_MS;
	struct bottles_entry b;

	do {
		if (bottles_load(bottles, slug, &b, NULL) < 0 || !b.is_alive)
			return true;
		(void)poll(NULL, 0, POLL_PERIOD_MS);
	} while (time_monotonic_ns() < deadline);
	return false;
}

static int stop_one(const struct bottles_entry *b, int dir, bool is_now, struct err *e)
{
	_cleanup_close_ int bottles = -1, sock = -1;
	uint64_t grace_ms = is_now ? 0 : GRACE_MS;
	int r;

	r = cli_bottles_open(false, &bottles, e);
	if (r < 0)
		return r;
	r = bottles_connect(dir, b->slug, &sock, e);
	if (r == 0)
		r = client_send_stop(sock, (unsigned)grace_ms, e);
	if (r == 0 && wait_dead(bottles, b->slug, grace_ms + MARGIN_MS))
		return 0;
	/* The keeper does not answer. All that is the bottle's dies with it. */
	kill_keeper(b->pid, dir);
	if (wait_dead(bottles, b->slug, MARGIN_MS))
		return 0;
	return err_set(e, -EBUSY, "%s does not end: its keeper (pid %d) does not answer", b->slug,
		       (int)b->pid);
}

static int stop_all(bool is_now)
{
	_cleanup_free_ struct bottles_entry *list = NULL;
	struct err e = ERR_INIT;
	int status = CLI_OK;
	size_t n;

	if (bottles_list(&list, &n, &e) < 0)
		return cli_fail(&e);
	for (size_t i = 0; i < n; i++) {
		_cleanup_close_ int dir = -1;
		struct bottles_entry b;

		if (!list[i].is_alive)
			continue;
		e = ERR_INIT;
		if (bottles_find(list[i].slug, &b, &dir, &e) < 0 ||
		    stop_one(&b, dir, is_now, &e) < 0)
			status = cli_fail(&e);
		else
			cli_note("%s has ended", b.slug);
	}
	return status;
}

static int run(const struct cli_args *args)
{
	_cleanup_close_ int dir = -1;
	struct err e = ERR_INIT;
	struct bottles_entry b;

	if (cli_has(args, OPT_ALL) == (args->n_positionals == 1))
		return cli_misuse(args, "name one bottle, or --all");
	if (cli_has(args, OPT_ALL))
		return stop_all(cli_has(args, OPT_NOW));
	if (bottles_find(args->positionals[0], &b, &dir, &e) < 0)
		return cli_fail(&e);
	if (!b.is_alive) {
		cli_note("%s is not running", b.slug);
		return CLI_OK;
	}
	if (stop_one(&b, dir, cli_has(args, OPT_NOW), &e) < 0)
		return cli_fail(&e);
	cli_note("%s has ended", b.slug);
	return CLI_OK;
}

const struct cli_verb cmd_stop = {
	.name = "stop",
	.fn = run,
	.summary = "end a bottle",
	.synopsis = "SLUG | --all",
	.description =
		"The agent is asked with SIGTERM and has five seconds; then all is killed.\n",
	.options = options,
	.n_options = ARRAY_LEN(options),
	.max_positionals = 1,
	.complete = CLI_COMPLETE_SLUG,
};
