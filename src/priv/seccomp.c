#include "priv/priv_int.h"

#include "base/clean.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#define SYSCALL(name) SCMP_SYS(name)

static const int set_bytes[] = {
	SYSCALL(read),
	SYSCALL(write),
	SYSCALL(close),
	SYSCALL(shutdown),
	SYSCALL(sendto),
	SYSCALL(recvfrom),
	SYSCALL(munmap),
	SYSCALL(mremap),
	SYSCALL(madvise),
	SYSCALL(brk),
	SYSCALL(poll),
	SYSCALL(ppoll),
	SYSCALL(clock_gettime),
	SYSCALL(clock_nanosleep),
	SYSCALL(nanosleep),
	SYSCALL(gettimeofday),
	SYSCALL(time),
	SYSCALL(getrandom),
	SYSCALL(futex),
	SYSCALL(rt_sigaction),
	SYSCALL(rt_sigprocmask),
	SYSCALL(rt_sigreturn),
	SYSCALL(restart_syscall),
	SYSCALL(exit),
	SYSCALL(exit_group),
	SYSCALL(getpid),
	SYSCALL(gettid),
	SYSCALL(getppid),
	SYSCALL(sched_yield),
	SYSCALL(rseq),
};

static const int set_base[] = {
	SYSCALL(readv),
	SYSCALL(writev),
	SYSCALL(sendmsg),
	SYSCALL(recvmsg),
	SYSCALL(mlock),
	SYSCALL(epoll_wait),
	SYSCALL(epoll_pwait),
	SYSCALL(epoll_ctl),
	SYSCALL(getuid),
	SYSCALL(geteuid),
	SYSCALL(getgid),
	SYSCALL(getegid),
	SYSCALL(fstat),
	SYSCALL(newfstatat),
	SYSCALL(pread64), /* of a configuration that comes later: several roles share its offset */
	SYSCALL(sched_getaffinity),
	SYSCALL(sysinfo),
	SYSCALL(uname),
	SYSCALL(getrusage),
};

static const int set_pass_fd[] = {SYSCALL(sendmsg), SYSCALL(recvmsg)};
static const int set_accept[] = {SYSCALL(accept4),    SYSCALL(getsockname), SYSCALL(getpeername),
				 SYSCALL(setsockopt), SYSCALL(getsockopt),  SYSCALL(sendmsg),
				 SYSCALL(recvmsg),    SYSCALL(sendmmsg),    SYSCALL(recvmmsg)};
static const int set_dial[] = {SYSCALL(connect),     SYSCALL(bind),	  SYSCALL(getsockname),
			       SYSCALL(getpeername), SYSCALL(setsockopt), SYSCALL(getsockopt),
			       SYSCALL(sendmsg),     SYSCALL(recvmsg),	  SYSCALL(sendmmsg)};
static const int set_open[] = {SYSCALL(openat), SYSCALL(lseek)};
static const int set_file[] = {SYSCALL(pwrite64), SYSCALL(ftruncate), SYSCALL(fsync),
			       SYSCALL(fdatasync), SYSCALL(lseek)};
static const int set_fork[] = {SYSCALL(wait4), SYSCALL(waitid), SYSCALL(set_robust_list),
			       SYSCALL(close_range)};
static const int set_kill[] = {SYSCALL(pidfd_send_signal)};
static const int set_dial_local[] = {SYSCALL(connect)};
static const int set_make[] = {SYSCALL(pipe2), SYSCALL(memfd_create), SYSCALL(lseek)};
static const int set_list[] = {SYSCALL(getdents64)};
static const int set_sendfile[] = {SYSCALL(sendfile)};
/* What git of Debian 12 and 13 does when it serves, fetches, indexes and pushes (strace -f), and
 * the same calls under the other names that other C libraries use for them. */
static const int set_exec[] = {
	/* programs */
	SYSCALL(execve),
	SYSCALL(vfork),
	SYSCALL(arch_prctl),
	SYSCALL(set_tid_address),
	SYSCALL(getrlimit),
	SYSCALL(pipe),
	SYSCALL(pipe2),
	SYSCALL(dup),
	SYSCALL(dup2),
	SYSCALL(dup3),
	SYSCALL(select),
	SYSCALL(pselect6),
	SYSCALL(pause),
	SYSCALL(alarm),
	SYSCALL(setitimer),
	SYSCALL(getitimer),
	SYSCALL(times),
	SYSCALL(clock_getres),
	SYSCALL(sigaltstack),
	SYSCALL(rt_sigpending),
	SYSCALL(rt_sigsuspend),
	SYSCALL(rt_sigtimedwait),
	SYSCALL(epoll_create1),
	SYSCALL(epoll_pwait2),
	SYSCALL(eventfd2),
	SYSCALL(sched_setaffinity),
	SYSCALL(sched_getparam),
	SYSCALL(sched_getscheduler),
	SYSCALL(getpgrp),
	SYSCALL(getpgid),
	SYSCALL(getsid),
	SYSCALL(getgroups),
	SYSCALL(getresuid),
	SYSCALL(getresgid),
	SYSCALL(umask),
	SYSCALL(fadvise64),
	SYSCALL(msync),
	SYSCALL(mincore),
	SYSCALL(close_range),
	/* files */
	SYSCALL(open),
	SYSCALL(openat),
	SYSCALL(openat2),
	SYSCALL(creat),
	SYSCALL(stat),
	SYSCALL(lstat),
	SYSCALL(statx),
	SYSCALL(statfs),
	SYSCALL(fstatfs),
	SYSCALL(access),
	SYSCALL(faccessat),
	SYSCALL(faccessat2),
	SYSCALL(lseek),
	SYSCALL(pread64),
	SYSCALL(pwrite64),
	SYSCALL(preadv),
	SYSCALL(pwritev),
	SYSCALL(ftruncate),
	SYSCALL(truncate),
	SYSCALL(fallocate),
	SYSCALL(fsync),
	SYSCALL(fdatasync),
	SYSCALL(sync_file_range),
	SYSCALL(flock),
	SYSCALL(getdents64),
	SYSCALL(getcwd),
	SYSCALL(chdir),
	SYSCALL(fchdir),
	SYSCALL(readlink),
	SYSCALL(readlinkat),
	SYSCALL(mkdir),
	SYSCALL(mkdirat),
	SYSCALL(rmdir),
	SYSCALL(unlink),
	SYSCALL(unlinkat),
	SYSCALL(rename),
	SYSCALL(renameat),
	SYSCALL(renameat2),
	SYSCALL(link),
	SYSCALL(linkat),
	SYSCALL(symlink),
	SYSCALL(symlinkat),
	SYSCALL(utimensat),
	SYSCALL(utime),
	SYSCALL(utimes),
	SYSCALL(copy_file_range),
	SYSCALL(sendfile),
	SYSCALL(splice),
};

static const struct {
	unsigned set;
	const int *calls;
	size_t n;
} sets_table[] = {
	{PRIV_SECCOMP_BYTES, set_bytes, ARRAY_LEN(set_bytes)},
	{PRIV_SECCOMP_BASE, set_base, ARRAY_LEN(set_base)},
	{PRIV_SECCOMP_PASS_FD, set_pass_fd, ARRAY_LEN(set_pass_fd)},
	{PRIV_SECCOMP_ACCEPT, set_accept, ARRAY_LEN(set_accept)},
	{PRIV_SECCOMP_DIAL, set_dial, ARRAY_LEN(set_dial)},
	{PRIV_SECCOMP_OPEN, set_open, ARRAY_LEN(set_open)},
	{PRIV_SECCOMP_FILE, set_file, ARRAY_LEN(set_file)},
	{PRIV_SECCOMP_FORK, set_fork, ARRAY_LEN(set_fork)},
	{PRIV_SECCOMP_KILL, set_kill, ARRAY_LEN(set_kill)},
	{PRIV_SECCOMP_DIAL_LOCAL, set_dial_local, ARRAY_LEN(set_dial_local)},
	{PRIV_SECCOMP_MAKE, set_make, ARRAY_LEN(set_make)},
	{PRIV_SECCOMP_LIST, set_list, ARRAY_LEN(set_list)},
	{PRIV_SECCOMP_EXEC, set_exec, ARRAY_LEN(set_exec)},
	{PRIV_SECCOMP_SENDFILE, set_sendfile, ARRAY_LEN(set_sendfile)},
};

#define ALLOW(call, n, ...) seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(call), n, __VA_ARGS__)
#define REFUSE(call, code)  seccomp_rule_add(ctx, SCMP_ACT_ERRNO(code), SCMP_SYS(call), 0)
/* A namespace of one's own would bring every capability inside it. */
#define CLONE_NEW_ANY                                                                              \
	(CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER |             \
	 CLONE_NEWPID | CLONE_NEWNET)

/* No page becomes executable any more: injected code has to live on what is there. Programs that
 * are executed need their code: from files, never writable at the same time, never made so from
 * other memory. */
static int seccomp_add_memory(scmp_filter_ctx ctx, unsigned sets)
{
	int bad = 0;

	bad |= ALLOW(mmap, 1, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	bad |= ALLOW(mprotect, 1, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	if (sets & PRIV_SECCOMP_EXEC)
		bad |= ALLOW(mmap, 2,
			     SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC | PROT_WRITE, PROT_EXEC),
			     SCMP_A3(SCMP_CMP_MASKED_EQ, MAP_ANONYMOUS, 0));
	return bad;
}

static int seccomp_add_fork(scmp_filter_ctx ctx, unsigned sets)
{
	/* A child that is the parent's, or that nobody traces, is none that is waited for. */
	const scmp_datum_t ever = CLONE_NEW_ANY | CLONE_PARENT | CLONE_PTRACE | CLONE_UNTRACED;
	const scmp_datum_t never = sets & PRIV_SECCOMP_EXEC ? ever : ever | CLONE_VM | CLONE_THREAD;
	int bad = 0;

	if (!(sets & PRIV_SECCOMP_FORK))
		return 0;
	bad |= ALLOW(clone, 1, SCMP_A0(SCMP_CMP_MASKED_EQ, never, 0));
#ifdef __NR_fork
	bad |= seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(fork), 0);
#endif
	/* Its flags are in memory, where a filter cannot look; C libraries then take clone. With
	 * EXEC that is the answer to everything, which libseccomp does not let be said twice. */
	if (!(sets & PRIV_SECCOMP_EXEC))
		bad |= REFUSE(clone3, ENOSYS);
	bad |= ALLOW(pidfd_open, 1, SCMP_A1(SCMP_CMP_EQ, 0));
	bad |= ALLOW(prctl, 2, SCMP_A0(SCMP_CMP_EQ, PR_SET_PDEATHSIG),
		     SCMP_A1(SCMP_CMP_EQ, SIGKILL));
	bad |= ALLOW(prctl, 1, SCMP_A0(SCMP_CMP_EQ, PR_SET_NAME));
	return bad;
}

static int seccomp_add_kill(scmp_filter_ctx ctx, unsigned sets)
{
	/* What abort() and raise() send to oneself; a child that means itself dies as well. */
	int bad = sets & PRIV_SECCOMP_EXEC
			  ? seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 0)
			  : ALLOW(tgkill, 1, SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid()));

	/* One process by its number, or one's own group; never another group, never all. Who may
	 * not stays in the group in which its parent ends it. */
	if (sets & PRIV_SECCOMP_KILL) {
		bad |= ALLOW(kill, 1, SCMP_A0(SCMP_CMP_LE, INT32_MAX));
		bad |= ALLOW(setpgid, 2, SCMP_A0(SCMP_CMP_EQ, 0), SCMP_A1(SCMP_CMP_EQ, 0));
	}
	return bad;
}

/* The locks and copies that programs make of descriptors, and modes of their files. */
static int seccomp_add_exec(scmp_filter_ctx ctx, unsigned sets)
{
	static const unsigned fcntls[] = {F_DUPFD,	F_DUPFD_CLOEXEC, F_GETLK,     F_SETLK,
					  F_SETLKW,	F_OFD_GETLK,	 F_OFD_SETLK, F_OFD_SETLKW,
					  F_GETPIPE_SZ, F_SETPIPE_SZ};
	int bad = 0;

	if (!(sets & PRIV_SECCOMP_EXEC))
		return 0;
	for (size_t i = 0; i < ARRAY_LEN(fcntls); i++)
		bad |= ALLOW(fcntl, 1, SCMP_A1(SCMP_CMP_EQ, fcntls[i]));
	/* No set-id file, whatever no-new-privs would make of it. */
	bad |= ALLOW(chmod, 1, SCMP_A1(SCMP_CMP_MASKED_EQ, 07000, 0));
	bad |= ALLOW(fchmod, 1, SCMP_A1(SCMP_CMP_MASKED_EQ, 07000, 0));
	bad |= ALLOW(fchmodat, 1, SCMP_A2(SCMP_CMP_MASKED_EQ, 07000, 0));
	if (!(sets & PRIV_SECCOMP_DIAL))
		bad |= REFUSE(socket, EACCES);
	return bad;
}

/* Calls that are safe with some arguments only. */
static int seccomp_add_checked(scmp_filter_ctx ctx, unsigned sets)
{
	int bad = seccomp_add_memory(ctx, sets);

	bad |= seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
				SCMP_A1(SCMP_CMP_EQ, FIONREAD));
	bad |= seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
				SCMP_A1(SCMP_CMP_EQ, FIONBIO));
	bad |= seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 1,
				SCMP_A1(SCMP_CMP_EQ, 1 /* F_GETFD */));
	bad |= seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 1,
				SCMP_A1(SCMP_CMP_EQ, 2 /* F_SETFD */));
	bad |= seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 1,
				SCMP_A1(SCMP_CMP_EQ, 3 /* F_GETFL */));
	bad |= seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 1,
				SCMP_A1(SCMP_CMP_EQ, 4 /* F_SETFL */));
	/* Transparent names for anonymous memory, asked for by newer C libraries. */
	bad |= seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1,
				SCMP_A0(SCMP_CMP_EQ, 0x53564d41 /* PR_SET_VMA */));
	/* Reading a limit is harmless; setting one is refused, not fatal. */
	bad |= seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), 1,
				SCMP_A2(SCMP_CMP_EQ, 0));
	bad |= seccomp_add_fork(ctx, sets) | seccomp_add_kill(ctx, sets) |
	       seccomp_add_exec(ctx, sets);
	if (sets & PRIV_SECCOMP_TERMINAL)
		bad |= ALLOW(ioctl, 1, SCMP_A1(SCMP_CMP_EQ, TIOCGWINSZ));
	if (sets & PRIV_SECCOMP_MAKE)
		bad |= ALLOW(fcntl, 1, SCMP_A1(SCMP_CMP_EQ, F_ADD_SEALS));
	if (sets & PRIV_SECCOMP_DIAL_LOCAL)
		bad |= ALLOW(socket, 1, SCMP_A0(SCMP_CMP_EQ, AF_UNIX));
	if (sets & PRIV_SECCOMP_PASS_FD)
		bad |= seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(socketpair), 1,
					SCMP_A0(SCMP_CMP_EQ, AF_UNIX));
	if (sets & PRIV_SECCOMP_DIAL) {
		/* SOCK_RAW is kept out by the missing capability; the families by this. */
		bad |= seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1,
					SCMP_A0(SCMP_CMP_EQ, AF_INET));
		bad |= seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1,
					SCMP_A0(SCMP_CMP_EQ, AF_INET6));
	}
	/* A file that appears to be missing is an answer; without OPEN nothing can be opened. */
	if (!(sets & (PRIV_SECCOMP_OPEN | PRIV_SECCOMP_EXEC))) {
		bad |= seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EACCES), SCMP_SYS(openat), 0);
		bad |= seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EACCES), SCMP_SYS(open), 0);
	}
	return bad;
}

int priv_seccomp(unsigned sets, struct err *e)
{
	sets |= PRIV_SECCOMP_BASE;
	if (sets & PRIV_SECCOMP_EXEC)
		sets |= PRIV_SECCOMP_FORK | PRIV_SECCOMP_KILL;
	return priv_seccomp_exactly(sets, e);
}

int priv_seccomp_exactly(unsigned sets, struct err *e)
{
	scmp_filter_ctx ctx;
	int bad = 0, ret;

	if (priv_is_instrumented())
		return 0;
	sets |= PRIV_SECCOMP_BYTES;
	ctx = seccomp_init(sets & PRIV_SECCOMP_EXEC ? SCMP_ACT_ERRNO(ENOSYS)
						    : SCMP_ACT_KILL_PROCESS);
	if (!ctx)
		return err_set(e, -ENOMEM, "seccomp_init");
	for (size_t t = 0; t < ARRAY_LEN(sets_table); t++) {
		for (size_t i = 0; (sets & sets_table[t].set) && i < sets_table[t].n; i++) {
			ret = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, sets_table[t].calls[i], 0);
			/* EEXIST: the same call in two sets. */
			if (ret < 0 && ret != -EEXIST)
				bad = ret;
		}
	}
	bad |= seccomp_add_checked(ctx, sets);
	ret = bad ? bad : seccomp_load(ctx);
	seccomp_release(ctx);
	return ret < 0 ? err_set(e, ret, "seccomp filter: %s", strerror(-ret)) : 0;
}
