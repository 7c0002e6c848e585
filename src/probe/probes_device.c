/*
 * F06, K07 to K10: devices, namespaces, control groups, set-uid files. Where a control needs the
 * host's root and has not got it, or the host has no such thing, the try is left out.
 */
#include "probe/probe.h"
#include "probe/space.h"

#include "base/clean.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sched.h>
#include <stdint.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#define PROC_FIELD_MAX 256

static void report_refusal(const char *id, const char *label, int error)
{
	probe_report(id, label, "", error == 0, 0, error ? strerror(error) : "it worked");
}

/* The control of what only the host's root may do, or has. */
static void report_with_root(const struct probe_env *env, const char *id, const char *label,
			     int error)
{
	if (env->is_control && geteuid() != 0)
		probe_skip(id, label, "the control needs root");
	else if (env->is_control && error)
		probe_skip(id, label, "this host does not have it, or does not give it to root");
	else
		report_refusal(id, label, error);
}

/* --- F06: devices --- */

/* In a folder that the bottle may write to; outside, in the canary's. */
static int try_mknod(const struct probe_env *env, mode_t type, dev_t device)
{
	_cleanup_free_ char *beside = mem_printf("%s-node", env->path);
	_cleanup_free_ char *inside = mem_printf("/tmp/node-%.8s", env->nonce);
	const char *path = env->is_control ? beside : inside;
	int error = mknod(path, type | 0600, device) < 0 ? errno : 0;

	if (!error) {
		_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

		/* A node on a file system that was mounted without devices is none. */
		error = fd < 0 && (errno == EACCES || errno == EPERM) ? errno : 0;
		(void)unlink(path);
	}
	return error;
}

static int try_open(const char *path)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	return fd < 0 ? errno : 0;
}

/* Any disk that has a node here. */
static int try_disks(void)
{
	_cleanup_closedir_ DIR *dir = opendir("/dev");
	struct dirent *entry;
	struct stat st;

	while (dir && (entry = readdir(dir))) {
		_cleanup_free_ char *path = mem_printf("/dev/%s", entry->d_name);

		if (lstat(path, &st) == 0 && S_ISBLK(st.st_mode) && try_open(path) == 0)
			return 0;
	}
	return ENOENT;
}

static void run_f06(const struct probe_env *env, const char *id)
{
	static const char *const devices[] = {
		"mem",	 "kmsg",      "kvm",	     "fuse",	     "net/tun",
		"vsock", "vhost-net", "vhost-vsock", "loop-control", "mapper/control",
		"port",	 "uinput",    "sgx_enclave",
	};

	report_with_root(env, id, "mknod-char", try_mknod(env, S_IFCHR, makedev(1, 3)));
	report_with_root(env, id, "mknod-block", try_mknod(env, S_IFBLK, makedev(7, 0)));
	report_with_root(env, id, "disk", try_disks());
	for (size_t i = 0; i < ARRAY_LEN(devices); i++) {
		_cleanup_free_ char *path = mem_printf("/dev/%s", devices[i]);

		report_with_root(env, id, devices[i], try_open(path));
	}
}

/* --- K07, K10: namespaces --- */

static void run_k07(const struct probe_env *env, const char *id)
{
	static const char *const kinds[] = {"pid", "ipc", "uts", "mnt", "cgroup"};

	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		struct str host = probe_namespace_of_host(env, kinds[i]);
		char own[SPACE_MAX], detail[200];

		(void)space_name("self", kinds[i], own);
		if (own[0] == '\0' || host.n == 0) {
			probe_skip(id, kinds[i], "this namespace or the host's cannot be named");
			continue;
		}
		(void)snprintf(detail, sizeof(detail), "%s here, " STR_FMT " on the host", own,
			       STR_ARG(host));
		probe_report(id, kinds[i], "", str_eq(str_of(own), host), 0, detail);
	}
}

static bool status_of(pid_t pid, const char *key, char out[PROC_FIELD_MAX])
{
	_cleanup_free_ char *path = mem_printf("/proc/%d/status", (int)pid);
	_cleanup_fclose_ FILE *f = fopen(path, "re");
	char line[PROC_FIELD_MAX];

	out[0] = '\0';
	while (f && fgets(line, sizeof(line), f)) {
		if (strncmp(line, key, strlen(key)) != 0)
			continue;
		(void)snprintf(out, PROC_FIELD_MAX, "%.200s", line + strlen(key));
		return true;
	}
	return false;
}

static bool has_capability(pid_t pid, const char *key)
{
	char text[PROC_FIELD_MAX];

	return status_of(pid, key, text) && strtoull(text, NULL, 16) != 0;
}

/* Root of the host's own user namespace is root of the host as soon as one check forgets about
 * capabilities. */
static void run_k10(const struct probe_env *env, const char *id)
{
	struct str host = probe_namespace_of_host(env, "user");
	bool has_any = has_capability(getpid(), "CapEff:") || has_capability(getpid(), "CapBnd:");
	char own[SPACE_MAX];

	(void)space_name("self", "user", own);
	if (own[0] == '\0' || host.n == 0)
		probe_skip(id, "root", "this namespace or the host's cannot be named");
	else if (!str_eq(str_of(own), host))
		probe_report(id, "root", "", false, 0, "a user namespace of its own");
	else if (env->is_control)
		probe_report(id, "root", "", true, 0, "the host's user namespace");
	else if (geteuid() == 0 && !has_any)
		probe_skip(id, "root",
			   "uid 0 inside is uid 0 of the host, without capabilities: its "
			   "engine gives no user namespaces (userns-remap)");
	else
		probe_report(id, "root", "", has_any, 0,
			     "the host's user namespace, an ordinary user");
}

/* --- K08: control groups --- */

/* Whether a file of this name can be opened for writing in any mounted hierarchy. */
static int try_cgroup_file(const char *name)
{
	_cleanup_fclose_ FILE *f = fopen("/proc/self/mountinfo", "re");
	char line[1024], where[512], kind[64];
	int error = ENOENT;

	while (f && fgets(line, sizeof(line), f)) {
		const char *rest = strstr(line, " - cgroup");
		_cleanup_free_ char *path = NULL;
		int fd;

		if (!rest || sscanf(line, "%*s %*s %*s %*s %511s", where) != 1 ||
		    sscanf(rest, " - %63s", kind) != 1)
			continue;
		path = mem_printf("%s/%s", where, name);
		fd = open(path, O_WRONLY | O_CLOEXEC);
		if (fd >= 0) {
			(void)close(fd);
			return 0;
		}
		error = errno;
	}
	return error;
}

static int try_cgroup_mount(void)
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		/* A mount namespace of its own: the control must leave nothing behind. */
		if (geteuid() == 0 && unshare(CLONE_NEWNS) == 0)
			(void)mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL);
		if (mount("none", "/tmp", "cgroup", 0, "none,name=selftest") == 0 ||
		    mount("none", "/tmp", "cgroup2", 0, NULL) == 0)
			_exit(0);
		_exit(errno ? errno : EPERM);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return EPERM;
	return WEXITSTATUS(status);
}

static void run_k08(const struct probe_env *env, const char *id)
{
	report_with_root(env, id, "release_agent", try_cgroup_file("release_agent"));
	report_with_root(env, id, "writable", try_cgroup_file("cgroup.procs"));
	report_with_root(env, id, "mount", try_cgroup_mount());
}

/* --- K09: set-uid files --- */

/* A set-uid program that is held at its first output, since nobody reads the full pipe: so its
 * credentials can be looked at. */
static pid_t start_held(const char *path, int out, bool as_nobody)
{
	pid_t pid = fork();
	char *const argv[] = {(char *)(uintptr_t)path, (char *)(uintptr_t) "--help", NULL};
	char *const env[] = {NULL};

	if (pid != 0)
		return pid;
	(void)alarm(5);
	(void)dup2(out, STDOUT_FILENO);
	(void)dup2(out, STDERR_FILENO);
	if (as_nobody && (setgid(65534) < 0 || setuid(65534) < 0))
		_exit(1);
	(void)execve(path, argv, env);
	_exit(1);
}

static bool fill_pipe(int fds[2])
{
	char page[4096] = {0};

	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return false;
	while (write(fds[1], page, sizeof(page)) > 0)
		;
	return fcntl(fds[1], F_SETFL, 0) == 0;
}

/* 1: it became somebody else, or got a capability; 0: it did not; -1: it could not be held. */
static int gains_by(const char *path, bool as_nobody)
{
	unsigned before = as_nobody ? 65534 : (unsigned)geteuid(), real, effective = before;
	char text[PROC_FIELD_MAX], name[PROC_FIELD_MAX], own[PROC_FIELD_MAX];
	int fds[2] = {-1, -1}, result = -1;
	pid_t pid;

	if (!fill_pipe(fds))
		return -1;
	(void)status_of(getpid(), "Name:", own);
	pid = start_held(path, fds[1], as_nobody);
	for (int waited_ms = 0; pid > 0 && result < 0 && waited_ms < 1000; waited_ms += 5) {
		(void)usleep(5000);
		/* Not before it is the other program. */
		if (!status_of(pid, "Name:", name) || strcmp(name, own) == 0 ||
		    !status_of(pid, "Uid:", text) || sscanf(text, "%u %u", &real, &effective) != 2)
			continue;
		result = effective != before || has_capability(pid, "CapEff:") ||
			 has_capability(pid, "CapPrm:");
	}
	if (pid > 0) {
		(void)kill(pid, SIGKILL);
		(void)waitpid(pid, NULL, 0);
	}
	(void)close(fds[0]);
	(void)close(fds[1]);
	return result;
}

static void run_k09(const struct probe_env *env, const char *id)
{
	static const char *const candidates[] = {
		"/usr/bin/su",	   "/bin/su",	     "/usr/bin/passwd", "/usr/bin/chsh",
		"/usr/bin/newgrp", "/usr/bin/mount", "/bin/mount",	"/usr/bin/gpasswd"};
	bool as_nobody = env->is_control && geteuid() == 0;
	const char *path = NULL;
	struct stat st;
	int gained;

	for (size_t i = 0; !path && i < ARRAY_LEN(candidates); i++) {
		if (stat(candidates[i], &st) == 0 && st.st_mode & S_ISUID)
			path = candidates[i];
	}
	gained = path ? gains_by(path, as_nobody) : 0;
	if (env->is_control && (!path || gained < 0 || prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1))
		probe_skip(id, "setuid", "this host has no set-uid program that could be held");
	else if (gained < 0)
		probe_skip(id, "setuid", "its set-uid program could not be held");
	else
		probe_report(id, "setuid", "", gained == 1, 0,
			     path ? path : "there is no set-uid program");
}

const struct probe probes_device[] = {
	{"F06", run_f06}, {"K07", run_k07}, {"K08", run_k08}, {"K09", run_k09}, {"K10", run_k10},
};
const size_t n_probes_device = ARRAY_LEN(probes_device);
