/* doctor: each thing that the native backend needs, tried and not guessed, with what to install or
 * set where it does not work. */
#include "backend/walled/walled.h"

#include "backend/host_git.h"
#include "backend/walled/bwrap.h"
#include "backend/walled/cgroup.h"
#include "backend/walled/wall.h"
#include "base/clean.h"
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>

#define PROBE_TIMEOUT_MS 10000
#define PROBE_OUTPUT_MAX 512
#define LANDLOCK_VERSION 1u

struct probe {
	struct backend_check *checks;
	size_t *n;
};

/* The number in a /proc/sys file, or -1. */
static long probe_sysctl(const char *path)
{
	struct str text;
	long value = -1;

	if (io_read_file(AT_FDCWD, path, 256, &text, NULL) < 0)
		return -1;
	(void)sscanf(text.p, "%ld", &value);
	free((void *)(uintptr_t)text.p);
	return value;
}

static void probe_kernel(struct probe *p)
{
	struct utsname u;
	unsigned major = 0, minor = 0;
	char text[256];
	bool is_ok;

	(void)uname(&u);
	(void)sscanf(u.release, "%u.%u", &major, &minor);
	is_ok = major > 5 || (major == 5 && minor >= 11);
	(void)snprintf(text, sizeof(text), "%.64s %.64s%s", u.sysname, u.release,
		       is_ok ? "" : ": 5.11 or later is needed (setns with a pidfd, close_range)");
	backend_check_add(p->checks, p->n, "kernel", is_ok, true, text);
}

/* Makes a real wall. When that fails, the usual causes are looked at. */
static void probe_wall(struct probe *p)
{
	struct wall w = WALL_INIT;
	struct err e = ERR_INIT;
	char text[256];

	if (wall_make(&w, WALL_PINNED_DEFAULT, NULL, 0, &e) == 0) {
		(void)snprintf(
			text, sizeof(text),
			"made and verified: user and network namespace, lo, ports, no route");
		backend_check_add(p->checks, p->n, "wall", true, true, text);
		wall_free(&w);
		return;
	}
	wall_free(&w);
	if (probe_sysctl("/proc/sys/kernel/unprivileged_userns_clone") == 0)
		(void)snprintf(
			text, sizeof(text),
			"user namespaces are off: sysctl kernel.unprivileged_userns_clone=1");
	else if (probe_sysctl("/proc/sys/user/max_user_namespaces") == 0)
		(void)snprintf(text, sizeof(text),
			       "user namespaces are off: sysctl user.max_user_namespaces=10000");
	else if (probe_sysctl("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == 1)
		(void)snprintf(text, sizeof(text),
			       "AppArmor restricts user namespaces: install a profile with "
			       "\"userns,\" for claude-bottle and bwrap, or sysctl "
			       "kernel.apparmor_restrict_unprivileged_userns=0");
	else
		(void)snprintf(text, sizeof(text), "%.250s", e.text);
	backend_check_add(p->checks, p->n, "wall", false, true, text);
}

/* Runs argv with both outputs in out. Its exit status, or -1. */
static int probe_run(char *const *argv, char *out, size_t size)
{
	static char *const no_env[] = {NULL};
	int fds[2], status = -1;
	size_t n = 0;
	pid_t pid;

	out[0] = '\0';
	if (pipe2(fds, O_CLOEXEC) < 0)
		return -1;
	pid = fork();
	if (pid == 0) {
		int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (null >= 0 && dup2(null, 0) == 0 && dup2(fds[1], 1) == 1 && dup2(fds[1], 2) == 2)
			(void)execve(argv[0], argv, no_env);
		_exit(127);
	}
	(void)close(fds[1]);
	while (pid > 0 && n < size - 1 && io_wait(fds[0], POLLIN, PROBE_TIMEOUT_MS) == 1) {
		ssize_t got = read(fds[0], out + n, size - 1 - n);

		if (got <= 0)
			break;
		n += (size_t)got;
	}
	(void)close(fds[0]);
	out[n] = '\0';
	out[strcspn(out, "\n")] = '\0';
	if (pid <= 0)
		return -1;
	(void)kill(pid, SIGKILL); /* ended, or beyond its time */
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* bubblewrap as it will be used, with its own /proc and without further user namespaces. */
static void probe_bwrap(struct probe *p)
{
	char *path = (char *)(uintptr_t)bwrap_find();
	char *version[] = {path, (char *)(uintptr_t) "--version", NULL};
	const char *const plain[] = {path,
				     "--unshare-user",
				     "--unshare-pid",
				     "--unshare-ipc",
				     "--unshare-uts",
				     "--disable-userns",
				     "--ro-bind",
				     "/",
				     "/",
				     "--proc",
				     "/proc",
				     "--dev",
				     "/dev",
				     "/bin/true",
				     NULL};
	char out[PROBE_OUTPUT_MAX], text[256];
	unsigned major = 0, minor = 0;

	if (!path) {
		backend_check_add(p->checks, p->n, "bubblewrap", false, true,
				  "not installed: package bubblewrap (bwrap)");
		return;
	}
	(void)probe_run(version, out, sizeof(out));
	(void)sscanf(out, "bubblewrap %u.%u", &major, &minor);
	if (major == 0 && minor < 8) {
		(void)snprintf(text, sizeof(text), "%.64s at %s: 0.8 or later is needed", out,
			       path);
		backend_check_add(p->checks, p->n, "bubblewrap", false, true, text);
		return;
	}
	(void)snprintf(text, sizeof(text), "%.64s at %s", out, path);
	backend_check_add(p->checks, p->n, "bubblewrap", true, true, text);
	if (probe_run((char *const *)(uintptr_t)plain, out, sizeof(out)) == 0)
		(void)snprintf(text, sizeof(text), "namespaces, /proc and /dev can be made");
	else
		(void)snprintf(text, sizeof(text),
			       "%.160s (in a container: /proc must not be masked)", out);
	backend_check_add(p->checks, p->n, "compartment", strncmp(text, "namespaces,", 11) == 0,
			  true, text);
}

static void probe_seccomp(struct probe *p)
{
	unsigned action = SECCOMP_RET_KILL_PROCESS;
	bool is_ok = syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;

	backend_check_add(p->checks, p->n, "seccomp", is_ok, true,
			  is_ok ? "filters with errno and kill-process"
				: "the kernel has no seccomp filters");
}

static void probe_landlock(struct probe *p, bool has_monitor)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_VERSION);
	char text[256];

	if (abi > 0)
		(void)snprintf(text, sizeof(text), "ABI %ld%s", abi,
			       abi >= 4 ? ", network rules included"
					: " (network rules from 4 on)");
	else
		(void)snprintf(text, sizeof(text), "%s without it: boot with lsm=landlock,…",
			       has_monitor ? "no monitor of a virtual machine runs"
					   : "the bundle's roles run");
	backend_check_add(p->checks, p->n, "landlock", abi > 0, has_monitor, text);
}

static void probe_cgroup(struct probe *p)
{
	char text[200];
	bool is_ok = cgroup_probe(text, sizeof(text));

	backend_check_add(p->checks, p->n, "cgroup limits", is_ok, false, text);
}

static void probe_pty(struct probe *p)
{
	_cleanup_close_ int fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	bool is_ok = fd >= 0 && unlockpt(fd) == 0;

	backend_check_add(p->checks, p->n, "pseudo-terminals", is_ok, true,
			  is_ok ? "can be opened" : "mount devpts on /dev/pts");
}

static void probe_tools(struct probe *p)
{
	bool is_ok = access("/usr/bin/setsid", X_OK) == 0 && access("/bin/sh", X_OK) == 0;

	backend_check_add(p->checks, p->n, "setsid", is_ok, true,
			  is_ok ? "/usr/bin/setsid"
				: "/usr/bin/setsid is missing: package util-linux");
}

int walled_probe(struct backend_check checks[BACKEND_CHECKS_MAX], size_t *n, bool has_monitor,
		 struct err *e)
{
	struct probe p = {.checks = checks, .n = n};

	*n = 0;
	probe_kernel(&p);
	probe_wall(&p);
	probe_bwrap(&p);
	probe_tools(&p);
	probe_pty(&p);
	probe_seccomp(&p);
	probe_landlock(&p, has_monitor);
	probe_cgroup(&p);
	if (*n < BACKEND_CHECKS_MAX)
		host_git_probe(&checks[(*n)++]);
	return backend_checks_judge(checks, *n, e);
}
