/*
 * K: what the kernel still grants. The witness is the try itself. The control runs outside as root
 * of a user namespace of its own, so that an ordinary user can run it too.
 */
#include "probe/probe.h"

#include "base/clean.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#define NOT_HERE 77 /* the try says nothing on this kernel */

/* One system call in a child of its own: a filter may kill it. 0: it was let in. */
static void try_in_child(const struct probe_env *env, const char *id, const char *label,
			 int (*fn)(void))
{
	char detail[64];
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		if (env->is_control && !probe_become_root(CLONE_NEWNS))
			_exit(NOT_HERE);
		_exit(fn());
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid) {
		probe_skip(id, label, "fork failed");
		return;
	}
	if (WIFEXITED(status) && WEXITSTATUS(status) == NOT_HERE) {
		probe_skip(id, label, "not available on this kernel, outside either");
		return;
	}
	if (WIFSIGNALED(status))
		(void)snprintf(detail, sizeof(detail), "killed by signal %d", WTERMSIG(status));
	else
		(void)snprintf(detail, sizeof(detail), "%s",
			       WEXITSTATUS(status) == 0 ? "let in" : strerror(WEXITSTATUS(status)));
	probe_report(id, label, "", WIFEXITED(status) && WEXITSTATUS(status) == 0, 0, detail);
}

/* A call that came past every filter fails for its own reasons, if at all. */
static int let_in(long ret)
{
	return ret >= 0 || (errno != EPERM && errno != ENOSYS && errno != EACCES) ? 0 : errno;
}

static uint64_t status_field(const char *key, int base)
{
	_cleanup_fclose_ FILE *f = fopen("/proc/self/status", "re");
	char line[256];

	while (f && fgets(line, sizeof(line), f)) {
		if (strncmp(line, key, strlen(key)) == 0)
			return strtoull(line + strlen(key), NULL, base);
	}
	return UINT64_MAX;
}

static int try_capabilities(void)
{
	return status_field("CapEff:", 16) | status_field("CapPrm:", 16) |
			       status_field("CapBnd:", 16) | status_field("CapAmb:", 16)
		       ? 0
		       : EPERM;
}

static void run_k01(const struct probe_env *env, const char *id)
{
	try_in_child(env, id, "any-set", try_capabilities);
}

static void run_k02(const struct probe_env *env, const char *id)
{
	bool is_missing = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1;

	if (env->is_control && !is_missing) {
		probe_skip(id, "flag", "the control itself runs without new privileges");
		return;
	}
	probe_report(id, "flag", "", is_missing, 0, is_missing ? "not set" : "set");
}

static int try_ptrace(void)
{
	return let_in(ptrace(PTRACE_TRACEME, 0, 0, 0));
}

static int try_keyctl(void)
{
	return let_in(syscall(SYS_keyctl, 0 /* GET_KEYRING_ID */, -3, 1));
}

static int try_add_key(void)
{
	return let_in(syscall(SYS_add_key, "user", "x", "x", 1, -2));
}

static int try_io_uring(void)
{
	return let_in(syscall(SYS_io_uring_setup, 0, NULL));
}

static int try_userfaultfd(void)
{
	return let_in(syscall(SYS_userfaultfd, 1 /* UFFD_USER_MODE_ONLY */));
}

static int try_process_vm(void)
{
	char a = 0, b = 0;
	struct iovec local = {&a, 1}, remote = {&b, 1};

	return let_in(process_vm_readv(getpid(), &local, 1, &remote, 1, 0));
}

static int try_mount(void)
{
	return let_in(mount("none", "/tmp", "tmpfs", 0, NULL));
}

static int try_fsopen(void)
{
	return let_in(syscall(430 /* fsopen */, "tmpfs", 0));
}

static int try_open_tree(void)
{
	return let_in(syscall(428 /* open_tree */, AT_FDCWD, "/", 0));
}

static int try_unshare_user(void)
{
	return let_in(unshare(CLONE_NEWUSER));
}

static int try_clone_user(void)
{
	long pid = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, NULL, NULL, NULL, NULL);

	if (pid == 0)
		_exit(0);
	return let_in(pid);
}

static int try_clone3_user(void)
{
	uint64_t args[11] = {CLONE_NEWUSER, 0, 0, 0, SIGCHLD};
	long pid = syscall(435 /* clone3 */, args, sizeof(args));

	if (pid == 0)
		_exit(0);
	return let_in(pid);
}

static int try_setns(void)
{
	int fd = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);

	return let_in(setns(fd, 0));
}

static int try_pidfd_getfd(void)
{
	int fd = (int)syscall(SYS_pidfd_open, getpid(), 0);

	return let_in(syscall(438 /* pidfd_getfd */, fd, 0, 0));
}

static int try_bpf(void)
{
	/* EPERM for everybody but root where unprivileged bpf is off: that says nothing. */
	long ret = syscall(SYS_bpf, 0, NULL, 0);

	return ret < 0 && errno == EPERM ? NOT_HERE : let_in(ret);
}

static int try_alg_socket(void)
{
	return socket(AF_ALG, SOCK_SEQPACKET, 0) >= 0 ? 0
	       : errno == EAFNOSUPPORT		      ? NOT_HERE
						      : errno;
}

static int try_vsock_socket(void)
{
	return socket(AF_VSOCK, SOCK_STREAM, 0) >= 0 ? 0 : errno == EAFNOSUPPORT ? NOT_HERE : errno;
}

static int try_audit_socket(void)
{
	return socket(AF_NETLINK, SOCK_RAW, 9 /* NETLINK_AUDIT */) >= 0 ? 0
	       : errno == EPROTONOSUPPORT				? NOT_HERE
									: errno;
}

#ifdef __x86_64__
/* getpid by the old gate: a filter that knows only one architecture is walked around. */
static int try_i386(void)
{
	long ret;

	__asm__ volatile("int $0x80" : "=a"(ret) : "a"(20L) : "memory", "r8", "r9", "r10", "r11");
	return ret > 0 ? 0 : EPERM;
}

static int try_x32(void)
{
	return let_in(syscall(0x40000000 + SYS_getpid)) == 0 ? 0 : NOT_HERE;
}
#endif

static void run_k03(const struct probe_env *env, const char *id)
{
	static const struct {
		const char *label;
		int (*fn)(void);
	} calls[] = {
		{"ptrace", try_ptrace},
		{"keyctl", try_keyctl},
		{"add_key", try_add_key},
		{"io_uring", try_io_uring},
		{"userfaultfd", try_userfaultfd},
		{"process_vm", try_process_vm},
		{"mount", try_mount},
		{"fsopen", try_fsopen},
		{"open_tree", try_open_tree},
		{"unshare-user", try_unshare_user},
		{"clone-user", try_clone_user},
		{"clone3-user", try_clone3_user},
		{"setns", try_setns},
		{"pidfd_getfd", try_pidfd_getfd},
		{"bpf", try_bpf},
		{"af_alg", try_alg_socket},
		{"af_vsock", try_vsock_socket},
		{"netlink-audit", try_audit_socket},
#ifdef __x86_64__
		{"i386", try_i386},
		{"x32", try_x32},
#endif
	};

	for (size_t i = 0; i < ARRAY_LEN(calls); i++)
		try_in_child(env, id, calls[i].label, calls[i].fn);
}

/* On a terminal of its own, so that nobody's keyboard is typed on. */
static int try_on_terminal(unsigned long request, const void *argument)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), slave;
	char name[64];

	if (master < 0 || grantpt(master) < 0 || unlockpt(master) < 0 ||
	    ptsname_r(master, name, sizeof(name)) != 0)
		return NOT_HERE;
	(void)setsid();
	slave = open(name, O_RDWR | O_CLOEXEC);
	if (slave < 0)
		return NOT_HERE;
	(void)ioctl(slave, TIOCSCTTY, 0);
	if (ioctl(slave, request, argument) == 0)
		return 0;
	/* EIO: this kernel has it switched off for everybody (dev.tty.legacy_tiocsti). */
	return errno == EIO || errno == ENOTTY || errno == EINVAL ? NOT_HERE : errno;
}

static int try_tiocsti(void)
{
	return try_on_terminal(TIOCSTI, "x");
}

static int try_tiocsti_high(void)
{
	/* The kernel looks at 32 bits; a filter that compares 64 is fooled by the upper ones. */
	return try_on_terminal(TIOCSTI | 1ul << 32, "x");
}

static int try_tioclinux(void)
{
	char code = 2;

	return try_on_terminal(TIOCLINUX, &code);
}

static void run_k04(const struct probe_env *env, const char *id)
{
	try_in_child(env, id, "tiocsti", try_tiocsti);
	try_in_child(env, id, "tiocsti-64", try_tiocsti_high);
	try_in_child(env, id, "tioclinux", try_tioclinux);
}

static void run_k05(const struct probe_env *env, const char *id)
{
	_cleanup_close_ int extra __attribute__((unused)) =
		env->is_control ? open("/", O_RDONLY) : -1;
	_cleanup_closedir_ DIR *dir = opendir("/proc/self/fd");
	char detail[300] = "only 0, 1, 2";
	struct dirent *entry;
	bool is_found = false;

	while (dir && (entry = readdir(dir))) {
		int fd = entry->d_name[0] == '.' ? -1 : (int)strtol(entry->d_name, NULL, 10);

		if (fd > 2 && fd != dirfd(dir)) {
			char path[64], target[200];
			ssize_t n;

			(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
			n = readlink(path, target, sizeof(target) - 1);
			target[n > 0 ? n : 0] = '\0';
			(void)snprintf(detail, sizeof(detail), "descriptor %d: %s", fd, target);
			is_found = true;
		}
	}
	probe_report(id, "inherited", "", is_found, 0, detail);
}

static int try_sysrq(void)
{
	return open("/proc/sysrq-trigger", O_WRONLY) >= 0 ? 0 : EPERM;
}

static int try_core_pattern(void)
{
	return open("/proc/sys/kernel/core_pattern", O_WRONLY) >= 0 ? 0 : EPERM;
}

static int try_kcore(void)
{
	int fd = open("/proc/kcore", O_RDONLY);
	char byte;

	return fd >= 0 && read(fd, &byte, 1) == 1 ? 0 : EPERM;
}

/* Files of the kernel that only the host's root may touch; the control needs to be that. */
static void run_k06(const struct probe_env *env, const char *id)
{
	static const struct {
		const char *label;
		int (*fn)(void);
	} files[] = {
		{"sysrq", try_sysrq}, {"core_pattern", try_core_pattern}, {"kcore", try_kcore}};

	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		int error;

		if (env->is_control && geteuid() != 0) {
			probe_skip(id, files[i].label, "the control needs root");
			continue;
		}
		error = files[i].fn();
		if (env->is_control && error) {
			probe_skip(id, files[i].label, "this kernel does not have it");
			continue;
		}
		probe_report(id, files[i].label, "", error == 0, 0, error ? "refused" : "opened");
	}
}

const struct probe probes_kernel[] = {
	{"K01", run_k01}, {"K02", run_k02}, {"K03", run_k03},
	{"K04", run_k04}, {"K05", run_k05}, {"K06", run_k06},
};
const size_t n_probes_kernel = ARRAY_LEN(probes_kernel);
