#include "guest/guest_int.h"

#include "base/clean.h"
#include "base/limits.h"
#include "base/signals.h"
#include "base/text.h"
#include "base/timeutil.h"
#include "priv/agent_filter.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define AGENT_SIZE_MS	    500
#define AGENT_SIZE_PAUSE_MS 5

int agent_isolate(struct err *e)
{
	/* Nobody of the same user may trace this process, or open what /proc shows of it. */
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return err_errno(e, "PR_SET_DUMPABLE");
	/* A runtime that leaks a descriptor of the host's would give the agent the host
	 * (CVE-2024-21626); the same for a working folder outside of this root. */
	if (close_range(3, ~0u, 0) < 0)
		return err_errno(e, "close what was inherited");
	if (chdir("/") < 0)
		return err_errno(e, "chdir /");
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_errno(e, "PR_SET_NO_NEW_PRIVS");
	(void)umask(077);
	return 0;
}

void agent_release_terminal(void)
{
	(void)signal(SIGHUP, SIG_IGN);
	(void)ioctl(STDIN_FILENO, TIOCNOTTY);
	(void)signal(SIGHUP, SIG_DFL);
}

void agent_size_terminal(uint64_t rows, uint64_t columns)
{
	const struct winsize size = {.ws_row = (unsigned short)rows,
				     .ws_col = (unsigned short)columns};

	if (rows > 0 && columns > 0)
		(void)ioctl(STDIN_FILENO, TIOCSWINSZ, &size);
}

int agent_take_session(bool has_tty, struct err *e)
{
	if (setsid() < 0)
		return err_errno(e, "setsid");
	if (has_tty && ioctl(STDIN_FILENO, TIOCSCTTY, 0) < 0)
		return err_errno(e, "take the terminal");
	return 0;
}

bool agent_signal(pid_t leader, int signo)
{
	return kill(-leader, signo) == 0 || kill(leader, signo) == 0;
}

/* --- limits --- */

int agent_limit(const struct guest_limits *l, struct err *e)
{
	int ret = limits_lower(RLIMIT_CORE, 0, e);

	if (ret == 0 && l->files > 0)
		ret = limits_lower(RLIMIT_NOFILE, l->files, e);
	if (ret == 0 && l->file_size_bytes > 0)
		ret = limits_lower(RLIMIT_FSIZE, l->file_size_bytes, e);
	if (ret == 0 && l->processes > 0)
		ret = limits_lower(RLIMIT_NPROC, l->processes, e);
	return ret;
}

int agent_limit_as_init(struct err *e)
{
	static const __rlimit_resource_t all[] = {RLIMIT_NOFILE, RLIMIT_FSIZE, RLIMIT_NPROC};
	int ret = limits_lower(RLIMIT_CORE, 0, e);

	for (size_t i = 0; ret == 0 && i < ARRAY_LEN(all); i++) {
		struct rlimit l;

		if (prlimit(1, all[i], NULL, &l) < 0)
			return err_errno(e, "ask for the limits of process 1");
		ret = limits_lower(all[i], l.rlim_max, e);
	}
	return ret;
}

/* --- the last steps --- */

/* The container has none; this holds when somebody has started it with some. As no_new_privs is
 * set, root's are not given back by execve(). */
int agent_drop_caps(struct err *e)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[2];

	memset(none, 0, sizeof(none));
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 && errno != EINVAL)
		return err_errno(e, "PR_CAP_AMBIENT");
	if (syscall(SYS_capset, &head, none) < 0)
		return err_errno(e, "capset");
	return 0;
}

/* The engine tells a terminal its size only after what runs on it has begun: a program that asks
 * once, at its start, would find none. */
static void agent_await_size(void)
{
	uint64_t until = time_monotonic_ns() + AGENT_SIZE_MS * TIME_NS_PER_MS;
	struct winsize size;

	while (ioctl(STDIN_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row == 0 &&
	       time_monotonic_ns() < until)
		(void)poll(NULL, 0, AGENT_SIZE_PAUSE_MS);
}

int agent_become(char *const *argv, bool *is_exec, struct err *e)
{
	const char *home = getenv("HOME"), *folder = getenv(GUEST_FOLDER_ENV);
	struct agent_filter filter;
	int ret = agent_filter_build(&filter, e);

	*is_exec = false;
	/* It may be a folder of the host's. */
	if (ret == 0 && folder)
		ret = agent_filter_refuse_setid(&filter, e);
	if (ret == 0)
		ret = agent_drop_caps(e);
	if (ret < 0)
		return ret;
	/* An image without that folder: whatever runs will say so itself. */
	if ((!folder || chdir(folder) < 0) && (!home || chdir(home) < 0) && chdir("/") < 0)
		return err_errno(e, "chdir");
	(void)umask(022);
	agent_await_size();
	signals_reset();
	if (close_range(3, ~0u, CLOSE_RANGE_CLOEXEC) < 0)
		return err_errno(e, "close_range");
	ret = agent_filter_apply(&filter, e);
	if (ret < 0)
		return ret;
	(void)execvp(argv[0], argv);
	*is_exec = true;
	return err_errno(e, "cannot run \"%s\"", argv[0]);
}

int agent_exec_status(int code)
{
	return code == -ENOENT ? 127 : 126;
}

void agent_complain(const struct err *e)
{
	char text[GUEST_TEXT_MAX];

	text_visible_cstr(text, sizeof(text), str_of(e->text));
	(void)fprintf(stderr, "claude-bottle: %s\n", text);
	(void)fflush(stderr);
}
