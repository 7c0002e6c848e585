/* What the agent's filter refuses, and that of a monitor: each call tried in a child that has it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "priv/agent_filter.h"

#include "base/clean.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/fs.h>
#include <linux/fsverity.h>
#include <linux/io_uring.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* What is put before the agent's own; each has what those before it have. */
enum more { PLAIN, SETID, BORROWER };

/* Runs fn in a child that has the filter; its status. */
static int filtered(enum more more, int (*fn)(void))
{
	struct agent_filter f;
	int status;
	pid_t pid;

	assert_int_equal(agent_filter_build(&f, NULL), 0);
	if (more >= SETID)
		assert_int_equal(agent_filter_refuse_setid(&f, NULL), 0);
	if (more >= BORROWER)
		assert_int_equal(agent_filter_refuse_borrower(&f, NULL), 0);
	pid = fork();
	if (pid == 0) {
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || agent_filter_apply(&f, NULL) < 0)
			_exit(99);
		_exit(fn());
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

/* Exits with the number of the line that is wrong, so that a failure names itself. */
#define REFUSED(code_, call)                                                                       \
	do {                                                                                       \
		errno = 0;                                                                         \
		if ((long)(call) != -1 || errno != (code_))                                        \
			return __LINE__ % 97 + 1;                                                  \
	} while (0)
#define ALLOWED(call)                                                                              \
	do {                                                                                       \
		if ((long)(call) < 0)                                                              \
			return __LINE__ % 97 + 1;                                                  \
	} while (0)
#define HIGH(v) ((long)((uint64_t)(v) | 0xdead00000000u))

static int refused_calls(void)
{
	REFUSED(EPERM, syscall(SYS_ptrace, PTRACE_TRACEME, 0, 0, 0));
	REFUSED(EPERM, syscall(SYS_bpf, 0, NULL, 0));
	REFUSED(EPERM, syscall(SYS_perf_event_open, NULL, 0, 0, 0, 0));
	REFUSED(EPERM, syscall(SYS_userfaultfd, 0));
	REFUSED(ENOSYS, syscall(SYS_io_uring_setup, 1, NULL));
	REFUSED(EPERM, syscall(SYS_keyctl, 0, 0));
	REFUSED(EPERM, syscall(SYS_add_key, NULL, NULL, NULL, 0, 0));
	REFUSED(EPERM, syscall(SYS_request_key, NULL, NULL, NULL, 0));
	REFUSED(EPERM, syscall(SYS_mount, NULL, NULL, NULL, 0, NULL));
	REFUSED(EPERM, syscall(SYS_fsopen, NULL, 0));
	REFUSED(EPERM, syscall(SYS_open_tree, -1, NULL, 0));
	REFUSED(EPERM, syscall(SYS_move_mount, -1, NULL, -1, NULL, 0));
	REFUSED(EPERM, syscall(SYS_mount_setattr, -1, NULL, 0, NULL, 0));
	REFUSED(EPERM, syscall(SYS_pivot_root, NULL, NULL));
	REFUSED(EPERM, syscall(SYS_setns, -1, 0));
	REFUSED(EPERM, syscall(SYS_unshare, 0));
	REFUSED(ENOSYS, syscall(SYS_clone3, NULL, 0));
	REFUSED(EPERM, syscall(SYS_kexec_load, 0, 0, NULL, 0));
	REFUSED(EPERM, syscall(SYS_init_module, NULL, 0, NULL));
	REFUSED(EPERM, syscall(SYS_finit_module, -1, NULL, 0));
	REFUSED(EPERM, syscall(SYS_open_by_handle_at, -1, NULL, 0));
	REFUSED(EPERM, syscall(SYS_process_vm_readv, 0, NULL, 0, NULL, 0, 0));
	REFUSED(EPERM, syscall(SYS_pidfd_getfd, -1, 0, 0));
	REFUSED(EPERM, syscall(SYS_kcmp, 0, 0, 0, 0, 0));
	REFUSED(EPERM, syscall(SYS_reboot, 0, 0, 0, NULL));
	REFUSED(EPERM, syscall(SYS_quotactl, 0, NULL, 0, NULL));
	REFUSED(ENOSYS, syscall(449 + 100)); /* a call of the future */
	REFUSED(ENOSYS, syscall(457));	     /* statmount */
	return 0;
}

static int refused_arguments(void)
{
	REFUSED(EPERM, syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, NULL, NULL, NULL, NULL));
	REFUSED(EPERM, syscall(SYS_clone, HIGH(CLONE_NEWNET | SIGCHLD), NULL, NULL, NULL, NULL));
	REFUSED(EPERM, syscall(SYS_ioctl, 0, TIOCSTI, "x"));
	REFUSED(EPERM, syscall(SYS_ioctl, 0, HIGH(TIOCSTI), "x"));
	REFUSED(EPERM, syscall(SYS_ioctl, 0, 0x541C, "x"));
	REFUSED(EPERM, syscall(SYS_personality, 0x0008));    /* PER_LINUX32 and its likes */
	REFUSED(EPERM, syscall(SYS_personality, 0x0400000)); /* READ_IMPLIES_EXEC */
	ALLOWED(syscall(SYS_personality, 0xffffffff));
	ALLOWED(syscall(SYS_personality, 0x0040000));
	REFUSED(EPERM, syscall(SYS_prctl, PR_SET_MM, 0, 0, 0, 0));
	ALLOWED(syscall(SYS_prctl, PR_SET_NAME, "name"));
	return 0;
}

static int refused_sockets(void)
{
	ALLOWED(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
	ALLOWED(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, IPPROTO_TCP));
	ALLOWED(socket(AF_INET, SOCK_DGRAM, IPPROTO_UDP));
	ALLOWED(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
	REFUSED(EPROTONOSUPPORT, socket(AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER));
	REFUSED(EPROTONOSUPPORT, syscall(SYS_socket, AF_NETLINK, SOCK_RAW, HIGH(NETLINK_AUDIT)));
	REFUSED(EPERM, socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
	REFUSED(EPERM, socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6));
	REFUSED(EPERM, socket(AF_INET, SOCK_SEQPACKET, 132));
	REFUSED(EPROTONOSUPPORT, socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP));
	REFUSED(EAFNOSUPPORT, socket(AF_PACKET, SOCK_DGRAM, 0));
	REFUSED(EAFNOSUPPORT, socket(AF_ALG, SOCK_SEQPACKET, 0));
	REFUSED(EAFNOSUPPORT, socket(AF_VSOCK, SOCK_STREAM, 0));
	REFUSED(EAFNOSUPPORT, syscall(SYS_socket, HIGH(AF_VSOCK), SOCK_STREAM, 0));
	return 0;
}

/* What is refused to every agent is refused with all that is put before it. */
static void test_calls(void **state)
{
	(void)state;
	for (enum more more = PLAIN; more <= BORROWER; more++) {
		assert_int_equal(filtered(more, refused_calls), 0);
		assert_int_equal(filtered(more, refused_arguments), 0);
		assert_int_equal(filtered(more, refused_sockets), 0);
	}
}

/* Exists in no folder: whoever gets as far as that is told so. */
#define NOWHERE "/nonexistent/x"

static int setid_calls(void)
{
	struct {
		uint64_t flags, mode, resolve;
	} how = {.flags = O_CREAT | O_WRONLY, .mode = 04755};

#if defined(__x86_64__)
	REFUSED(EPERM, syscall(SYS_chmod, NOWHERE, 04755));
	REFUSED(EPERM, syscall(SYS_chmod, NOWHERE, 02755));
	REFUSED(ENOENT, syscall(SYS_chmod, NOWHERE, 01755));
	REFUSED(EPERM, syscall(SYS_creat, NOWHERE, 04755));
	REFUSED(EPERM, syscall(SYS_open, NOWHERE, O_CREAT | O_WRONLY, 04755));
	REFUSED(ENOENT, syscall(SYS_open, NOWHERE, O_RDONLY, 04755));
	REFUSED(EPERM, syscall(SYS_mknod, NOWHERE, S_IFREG | 04755, 0));
#endif
	REFUSED(EPERM, syscall(SYS_fchmod, -1, 04755));
	REFUSED(EPERM, syscall(SYS_fchmod, -1, HIGH(02755)));
	REFUSED(EBADF, syscall(SYS_fchmod, -1, 0755));
	REFUSED(EPERM, syscall(SYS_fchmodat, AT_FDCWD, NOWHERE, 06755));
	REFUSED(ENOENT, syscall(SYS_fchmodat, AT_FDCWD, NOWHERE, 0777));
	REFUSED(ENOSYS, syscall(452, AT_FDCWD, NOWHERE, 04755, 0));
	REFUSED(EPERM, syscall(SYS_openat, AT_FDCWD, NOWHERE, O_CREAT | O_WRONLY, 04755));
	REFUSED(EPERM, syscall(SYS_openat, AT_FDCWD, "/nonexistent", O_TMPFILE | O_RDWR, 04755));
	REFUSED(ENOENT, syscall(SYS_openat, AT_FDCWD, NOWHERE, O_CREAT | O_WRONLY, 0755));
	REFUSED(ENOENT, syscall(SYS_openat, AT_FDCWD, NOWHERE, O_RDONLY, 04755));
	REFUSED(ENOSYS, syscall(SYS_openat2, AT_FDCWD, NOWHERE, &how, sizeof(how)));
	REFUSED(EPERM, syscall(SYS_mknodat, AT_FDCWD, NOWHERE, S_IFREG | 02755, 0));
	return 0;
}

static int setid_calls_without(void)
{
	REFUSED(EBADF, syscall(SYS_fchmod, -1, 04755));
	REFUSED(ENOENT, syscall(SYS_openat, AT_FDCWD, NOWHERE, O_CREAT | O_WRONLY, 04755));
	return 0;
}

static void test_setid(void **state)
{
	(void)state;
	/* The control: it is this that refuses them. */
	assert_int_equal(filtered(PLAIN, setid_calls_without), 0);
	assert_int_equal(filtered(SETID, setid_calls), 0);
}

/* --- for a borrower --- */

/* Of the user's, as the image of all bottles; open for reading alone. */
static char lent_path[] = "/tmp/cb-lent-XXXXXX", lent_name[40];
static int lent_fd;

static void open_lent(void)
{
	int fd = mkstemp(lent_path);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, "lent", 4), 4);
	(void)close(fd);
	lent_fd = open(lent_path, O_RDONLY | O_CLOEXEC);
	assert_true(lent_fd >= 0);
	(void)snprintf(lent_name, sizeof(lent_name), "/proc/self/fd/%d", lent_fd);
}

#define LEASE(how) fcntl(lent_fd, F_SETLEASE, (how))

/* Each that changes the file, or holds others up, by nothing but the descriptor. */
static int borrower_calls_without(void)
{
	struct flock all = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
	int shared = shmget(IPC_PRIVATE, 4096, 0600);

	ALLOWED(shared);
	ALLOWED(shmctl(shared, IPC_RMID, NULL));
	ALLOWED(memfd_create("x", 0));
	ALLOWED(fchmod(lent_fd, 0600));
	ALLOWED(chmod(lent_name, 0600));
	ALLOWED(fchown(lent_fd, (uid_t)-1, getegid()));
	ALLOWED(chown(lent_name, (uid_t)-1, getegid()));
	ALLOWED(futimens(lent_fd, NULL));
	ALLOWED(utimensat(AT_FDCWD, lent_name, NULL, 0));
	ALLOWED(truncate(lent_name, 4));
	ALLOWED(flock(lent_fd, LOCK_EX));
	ALLOWED(fcntl(lent_fd, F_SETLK, &all));
	ALLOWED(fcntl(lent_fd, F_OFD_SETLK, &all));
	ALLOWED(LEASE(F_WRLCK));
	ALLOWED(LEASE(F_UNLCK));
	return 0;
}

static int borrower_files(void)
{
	struct timespec times[2] = {{.tv_sec = 1}, {.tv_sec = 1}};

	REFUSED(EPERM, fchmod(lent_fd, 0));
	REFUSED(EPERM, syscall(SYS_fchmod, HIGH(lent_fd), 0));
	REFUSED(EPERM, syscall(SYS_fchmodat, AT_FDCWD, lent_name, 0));
	REFUSED(EPERM, syscall(452, lent_fd, "", 0, AT_EMPTY_PATH));
	REFUSED(EPERM, fchown(lent_fd, (uid_t)-1, getegid()));
	REFUSED(EPERM, syscall(SYS_fchownat, lent_fd, "", -1, getegid(), AT_EMPTY_PATH));
	REFUSED(EPERM, syscall(SYS_utimensat, lent_fd, NULL, times, 0));
	REFUSED(EPERM, syscall(SYS_fsetxattr, lent_fd, "user.x", "x", 1, 0));
	REFUSED(EPERM, syscall(SYS_setxattr, lent_name, "user.x", "x", 1, 0));
	REFUSED(EPERM, syscall(SYS_lsetxattr, lent_name, "user.x", "x", 1, 0));
	REFUSED(EPERM, syscall(SYS_fremovexattr, lent_fd, "user.x"));
	REFUSED(EPERM, syscall(SYS_removexattr, lent_name, "user.x"));
	REFUSED(EPERM, syscall(SYS_lremovexattr, lent_name, "user.x"));
	REFUSED(EPERM, syscall(463, lent_fd, "", AT_EMPTY_PATH, "user.x", NULL, 0));
	REFUSED(EPERM, syscall(466, lent_fd, "", AT_EMPTY_PATH, "user.x"));
	REFUSED(EPERM, truncate(lent_name, 0));
#if defined(__x86_64__)
	REFUSED(EPERM, syscall(SYS_chmod, lent_name, 0));
	REFUSED(EPERM, syscall(SYS_chown, lent_name, -1, getegid()));
	REFUSED(EPERM, syscall(SYS_lchown, lent_name, -1, getegid()));
	REFUSED(EPERM, syscall(SYS_utime, lent_name, NULL));
	REFUSED(EPERM, syscall(SYS_utimes, lent_name, NULL));
	REFUSED(EPERM, syscall(SYS_futimesat, AT_FDCWD, lent_name, NULL));
#endif
	return 0;
}

static int borrower_locks(void)
{
	struct flock all = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
	int flags = 0;

	REFUSED(EPERM, flock(lent_fd, LOCK_SH));
	REFUSED(EINVAL, fcntl(lent_fd, F_SETLK, &all));
	REFUSED(EINVAL, fcntl(lent_fd, F_SETLKW, &all));
	REFUSED(EINVAL, fcntl(lent_fd, F_OFD_SETLK, &all));
	REFUSED(EINVAL, syscall(SYS_fcntl, lent_fd, HIGH(F_OFD_SETLK), &all));
	REFUSED(EINVAL, LEASE(F_WRLCK));
	REFUSED(EINVAL, LEASE(F_RDLCK));
	REFUSED(EINVAL, fcntl(lent_fd, F_SET_RW_HINT, NULL));
	REFUSED(ENOTTY, ioctl(lent_fd, FS_IOC_SETFLAGS, &flags));
	REFUSED(ENOTTY, syscall(SYS_ioctl, lent_fd, HIGH(FS_IOC_FSSETXATTR), NULL));
	REFUSED(ENOTTY, ioctl(lent_fd, FS_IOC_ENABLE_VERITY, NULL));
	REFUSED(ENOTTY, ioctl(lent_fd, FICLONE, lent_fd));
	return 0;
}

/* And what QEMU needs goes on. */
static int borrower_memory_and_rest(void)
{
	int left = 0, copy = fcntl(lent_fd, F_DUPFD_CLOEXEC, 100);
	struct stat st;

	REFUSED(EPERM, memfd_create("x", 0));
	REFUSED(EPERM, syscall(SYS_shmget, IPC_PRIVATE, 4096, 0600));
	REFUSED(EPERM, syscall(SYS_msgget, IPC_PRIVATE, 0600));
	REFUSED(EPERM, syscall(SYS_semget, IPC_PRIVATE, 1, 0600));
	ALLOWED(copy);
	ALLOWED(fcntl(copy, F_SETFL, fcntl(copy, F_GETFL) | O_NONBLOCK));
	ALLOWED(fcntl(copy, F_SETFD, fcntl(copy, F_GETFD) & ~FD_CLOEXEC));
	ALLOWED(ioctl(copy, FIONREAD, &left));
	/* A request of KVM's gets as far as the file, which has none. */
	REFUSED(ENOTTY, ioctl(copy, 0xae00 /* KVM_GET_API_VERSION */, 0));
	ALLOWED(fstat(copy, &st));
	return left == 4 && st.st_size == 4 ? 0 : __LINE__ % 97 + 1;
}

static void test_borrower(void **state)
{
	(void)state;
	open_lent();
	/* The control: all of that can be done by whoever owns the file. */
	assert_int_equal(filtered(SETID, borrower_calls_without), 0);
	assert_int_equal(filtered(BORROWER, borrower_files), 0);
	assert_int_equal(filtered(BORROWER, borrower_locks), 0);
	assert_int_equal(filtered(BORROWER, borrower_memory_and_rest), 0);
	(void)close(lent_fd);
	assert_int_equal(unlink(lent_path), 0);
}

#if defined(__x86_64__)
static int call_x32(void)
{
	(void)syscall(0x40000000 + SYS_getpid);
	return 0;
}

static int call_i386(void)
{
	long ret;

	__asm__ volatile("int $0x80" : "=a"(ret) : "a"(20L) : "memory");
	return 0;
}

static void test_foreign_abi(void **state)
{
	int status = filtered(PLAIN, call_x32);

	(void)state;
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
	status = filtered(PLAIN, call_i386);
	assert_true(WIFSIGNALED(status));
}
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_calls),
		cmocka_unit_test(test_setid),
		cmocka_unit_test(test_borrower),
#if defined(__x86_64__)
		cmocka_unit_test(test_foreign_abi),
#endif
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
