#include "priv/priv.h"

#include "base/clean.h"

#include <errno.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#define SYSCALL(name) SCMP_SYS(name)

static const int set_base[] = {
	SYSCALL(read),
	SYSCALL(write),
	SYSCALL(readv),
	SYSCALL(writev),
	SYSCALL(close),
	SYSCALL(shutdown),
	SYSCALL(sendto),
	SYSCALL(recvfrom),
	SYSCALL(sendmsg),
	SYSCALL(recvmsg),
	SYSCALL(munmap),
	SYSCALL(mremap),
	SYSCALL(madvise),
	SYSCALL(brk),
	SYSCALL(mlock),
	SYSCALL(epoll_wait),
	SYSCALL(epoll_pwait),
	SYSCALL(epoll_ctl),
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
	SYSCALL(tgkill),
	SYSCALL(getuid),
	SYSCALL(geteuid),
	SYSCALL(getgid),
	SYSCALL(getegid),
	SYSCALL(fstat),
	SYSCALL(newfstatat),
	SYSCALL(sched_yield),
	SYSCALL(sched_getaffinity),
	SYSCALL(sysinfo),
	SYSCALL(uname),
	SYSCALL(rseq),
	SYSCALL(getrusage),
};

static const int set_pass_fd[] = {SYSCALL(sendmsg)};
static const int set_accept[] = {SYSCALL(accept4),    SYSCALL(getsockname), SYSCALL(getpeername),
				 SYSCALL(setsockopt), SYSCALL(getsockopt),  SYSCALL(sendmsg),
				 SYSCALL(recvmsg),    SYSCALL(sendmmsg),    SYSCALL(recvmmsg)};
static const int set_dial[] = {SYSCALL(connect),     SYSCALL(bind),	  SYSCALL(getsockname),
			       SYSCALL(getpeername), SYSCALL(setsockopt), SYSCALL(getsockopt),
			       SYSCALL(sendmsg),     SYSCALL(recvmsg),	  SYSCALL(sendmmsg)};
static const int set_open[] = {SYSCALL(openat), SYSCALL(lseek), SYSCALL(pread64)};
static const int set_file[] = {SYSCALL(pread64), SYSCALL(pwrite64),  SYSCALL(ftruncate),
			       SYSCALL(fsync),	 SYSCALL(fdatasync), SYSCALL(lseek)};

static const struct {
	unsigned set;
	const int *calls;
	size_t n;
} sets_table[] = {
	{PRIV_SECCOMP_BASE, set_base, ARRAY_LEN(set_base)},
	{PRIV_SECCOMP_PASS_FD, set_pass_fd, ARRAY_LEN(set_pass_fd)},
	{PRIV_SECCOMP_ACCEPT, set_accept, ARRAY_LEN(set_accept)},
	{PRIV_SECCOMP_DIAL, set_dial, ARRAY_LEN(set_dial)},
	{PRIV_SECCOMP_OPEN, set_open, ARRAY_LEN(set_open)},
	{PRIV_SECCOMP_FILE, set_file, ARRAY_LEN(set_file)},
};

/* Calls that are safe with some arguments only. */
static int seccomp_add_checked(scmp_filter_ctx ctx, unsigned sets)
{
	const struct scmp_arg_cmp not_exec = SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0);
	int bad = 0;

	/* No page becomes executable any more: injected code has to live on what is there. */
	bad |= seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1, not_exec);
	bad |= seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1, not_exec);
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
	if (!(sets & PRIV_SECCOMP_OPEN)) {
		bad |= seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EACCES), SCMP_SYS(openat), 0);
		bad |= seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EACCES), SCMP_SYS(open), 0);
	}
	return bad;
}

int priv_seccomp(unsigned sets, struct err *e)
{
	scmp_filter_ctx ctx;
	int bad = 0, ret;

	if (priv_is_instrumented())
		return 0;
	ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);
	if (!ctx)
		return err_set(e, -ENOMEM, "seccomp_init");
	sets |= PRIV_SECCOMP_BASE;
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
