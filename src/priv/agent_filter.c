/*
 * Written as BPF by hand rather than through libseccomp, because it needs what that cannot say:
 * "every number past the last one we know". Layout: architecture, x32, range, then one block for
 * each refused call; whoever reaches the end is allowed. Calls that reach the end whatever their
 * arguments are cached as allowed by the kernel (5.11+), so the length costs them nothing.
 */
#include "priv/agent_filter.h"

#include "base/clean.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <linux/netlink.h>
#include <netinet/in.h>

#if defined(__x86_64__)
#define FILTER_ARCH	 AUDIT_ARCH_X86_64
#define FILTER_ARCH_NAME "SCMP_ARCH_X86_64"
#elif defined(__aarch64__)
#define FILTER_ARCH	 AUDIT_ARCH_AARCH64
#define FILTER_ARCH_NAME "SCMP_ARCH_AARCH64"
#else
#error "the agent's filter knows x86_64 and aarch64"
#endif

/* The arguments are compared by their lower halves: the kernel takes these as 32-bit values and
 * ignores what an attacker puts above (CVE-2019-10063 was a filter that did not). */
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "argument offsets assume little endian"
#endif
#define FILTER_NR	   offsetof(struct seccomp_data, nr)
#define FILTER_ARG(n)	   (offsetof(struct seccomp_data, args) + 8 * (n))
#define FILTER_DENY(code_) (SECCOMP_RET_ERRNO | (code_))

/* Numbers up to here are in every table of kernel 6.1; later ones are allowed one by one. */
#define FILTER_LAST_NR 450
static const unsigned filter_later[] = {
	451,		    /* cachestat */
	452,		    /* fchmodat2 */
	453,		    /* map_shadow_stack */
	454, 455, 456,	    /* futex_wake, futex_wait, futex_requeue */
	462,		    /* mseal */
	463, 464, 465, 466, /* setxattrat, getxattrat, listxattrat, removexattrat */
};

struct filter_refusal {
	int nr, code;
	const char *name;
};

#define EPERM_(name)                                                                               \
	{                                                                                          \
		__NR_##name, EPERM, #name                                                          \
	}
#define ENOSYS_(name)                                                                              \
	{                                                                                          \
		__NR_##name, ENOSYS, #name                                                         \
	}

static const struct filter_refusal filter_refused[] = {
	/* other processes and their memory */
	EPERM_(ptrace),
	EPERM_(process_vm_readv),
	EPERM_(process_vm_writev),
	EPERM_(pidfd_getfd),
	EPERM_(kcmp),
	EPERM_(process_madvise),
	/* kernel surface with a history, of no use to an agent */
	EPERM_(bpf),
	EPERM_(perf_event_open),
	EPERM_(userfaultfd),
	ENOSYS_(io_uring_setup),
	ENOSYS_(io_uring_enter),
	ENOSYS_(io_uring_register),
	EPERM_(keyctl),
	EPERM_(add_key),
	EPERM_(request_key),
	EPERM_(fanotify_init),
	EPERM_(lookup_dcookie),
	EPERM_(vmsplice),
	EPERM_(move_pages),
	EPERM_(migrate_pages),
	EPERM_(mbind),
	EPERM_(set_mempolicy),
	/* mounts, old and new interface */
	EPERM_(mount),
	EPERM_(umount2),
	EPERM_(pivot_root),
	EPERM_(chroot),
	EPERM_(open_tree),
	EPERM_(move_mount),
	EPERM_(fsopen),
	EPERM_(fsconfig),
	EPERM_(fsmount),
	EPERM_(fspick),
	EPERM_(mount_setattr),
	EPERM_(quotactl),
	EPERM_(quotactl_fd),
	EPERM_(name_to_handle_at),
	EPERM_(open_by_handle_at),
	/* namespaces; clone3 hides its flags behind a pointer, and ENOSYS makes libc use clone */
	EPERM_(setns),
	EPERM_(unshare),
	ENOSYS_(clone3),
	/* the machine */
	EPERM_(reboot),
	EPERM_(kexec_load),
	EPERM_(kexec_file_load),
	EPERM_(init_module),
	EPERM_(finit_module),
	EPERM_(delete_module),
	EPERM_(acct),
	EPERM_(swapon),
	EPERM_(swapoff),
	EPERM_(nfsservctl),
	EPERM_(syslog),
	EPERM_(settimeofday),
	EPERM_(clock_settime),
	EPERM_(clock_adjtime),
	EPERM_(adjtimex),
	EPERM_(sethostname),
	EPERM_(setdomainname),
	EPERM_(vhangup),
	EPERM_(memfd_secret),
#if defined(__x86_64__)
	EPERM_(iopl),
	EPERM_(ioperm),
	EPERM_(modify_ldt),
	EPERM_(uselib),
	EPERM_(_sysctl),
	EPERM_(create_module),
	EPERM_(get_kernel_syms),
	EPERM_(query_module),
	EPERM_(ustat),
	EPERM_(sysfs),
	EPERM_(afs_syscall),
	EPERM_(tuxcall),
	EPERM_(security),
	EPERM_(vserver),
	EPERM_(getpmsg),
	EPERM_(putpmsg),
#endif
};

/* CLONE_NEWTIME shares a bit with the exit signal of clone(); only unshare and clone3 take it. */
#define FILTER_CLONE_NEW                                                                           \
	(CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER |             \
	 CLONE_NEWPID | CLONE_NEWNET)
#define FILTER_TIOCLINUX                                                                           \
	0x541C /* <linux/tiocl.h> selections: types into consoles as TIOCSTI does */
#define FILTER_PER_QUERY	0xffffffffu
#define FILTER_PER_NO_RANDOMIZE 0x0040000u

static void filter_put(struct agent_filter *f, unsigned code, unsigned k, unsigned jt, unsigned jf)
{
	/* Past the end only the count goes on; agent_filter_build() refuses the result. */
	if (f->n < AGENT_FILTER_MAX)
		f->code[f->n] = (struct sock_filter){(uint16_t)code, (uint8_t)jt, (uint8_t)jf, k};
	f->n++;
}

static void filter_load(struct agent_filter *f, size_t offset)
{
	filter_put(f, BPF_LD | BPF_W | BPF_ABS, (unsigned)offset, 0, 0);
}

static void filter_return(struct agent_filter *f, unsigned action)
{
	filter_put(f, BPF_RET | BPF_K, action, 0, 0);
}

/* Jumps over `over` instructions unless the accumulator is k. */
static void filter_unless_eq_skip(struct agent_filter *f, unsigned k, unsigned over)
{
	filter_put(f, BPF_JMP | BPF_JEQ | BPF_K, k, 0, over);
}

static void filter_if_eq_skip(struct agent_filter *f, unsigned k, unsigned over)
{
	filter_put(f, BPF_JMP | BPF_JEQ | BPF_K, k, over, 0);
}

/* The body of one call with arguments: jumped over for other calls, always ends in a return. */
static unsigned short filter_block_begin(struct agent_filter *f, unsigned nr)
{
	filter_unless_eq_skip(f, nr, 0);
	return (unsigned short)(f->n - 1);
}

static void filter_block_end(struct agent_filter *f, unsigned short begin)
{
	filter_return(f, SECCOMP_RET_ALLOW);
	if (f->n <= AGENT_FILTER_MAX)
		f->code[begin].jf = (uint8_t)(f->n - begin - 1);
}

static void filter_head(struct agent_filter *f)
{
	filter_load(f, offsetof(struct seccomp_data, arch));
	filter_if_eq_skip(f, FILTER_ARCH, 1);
	filter_return(f, SECCOMP_RET_KILL_PROCESS);
	filter_load(f, FILTER_NR);
#if defined(__x86_64__)
	/* x32 comes under the same architecture with bit 30 set. */
	filter_put(f, BPF_JMP | BPF_JSET | BPF_K, 0x40000000u, 0, 1);
	filter_return(f, SECCOMP_RET_KILL_PROCESS);
#endif
	for (size_t i = 0; i < ARRAY_LEN(filter_later); i++) {
		filter_unless_eq_skip(f, filter_later[i], 1);
		filter_return(f, SECCOMP_RET_ALLOW);
	}
	filter_put(f, BPF_JMP | BPF_JGT | BPF_K, FILTER_LAST_NR, 0, 1);
	filter_return(f, FILTER_DENY(ENOSYS));
}

static void filter_clone(struct agent_filter *f)
{
	unsigned short begin = filter_block_begin(f, __NR_clone);

	filter_load(f, FILTER_ARG(0));
	filter_put(f, BPF_JMP | BPF_JSET | BPF_K, FILTER_CLONE_NEW, 0, 1);
	filter_return(f, FILTER_DENY(EPERM));
	filter_block_end(f, begin);
}

static void filter_ioctl(struct agent_filter *f)
{
	unsigned short begin = filter_block_begin(f, __NR_ioctl);

	filter_load(f, FILTER_ARG(1));
	filter_if_eq_skip(f, TIOCSTI, 1);
	filter_unless_eq_skip(f, FILTER_TIOCLINUX, 1);
	filter_return(f, FILTER_DENY(EPERM));
	filter_block_end(f, begin);
}

static void filter_personality(struct agent_filter *f)
{
	unsigned short begin = filter_block_begin(f, __NR_personality);

	filter_load(f, FILTER_ARG(0));
	filter_if_eq_skip(f, 0, 3);
	filter_if_eq_skip(f, FILTER_PER_QUERY, 2);
	filter_if_eq_skip(f, FILTER_PER_NO_RANDOMIZE, 1);
	filter_return(f, FILTER_DENY(EPERM));
	filter_block_end(f, begin);
}

/* prctl: PR_SET_MM lets a process rewrite what /proc shows of it; of no use here. */
static void filter_prctl(struct agent_filter *f)
{
	unsigned short begin = filter_block_begin(f, __NR_prctl);

	filter_load(f, FILTER_ARG(0));
	filter_unless_eq_skip(f, PR_SET_MM, 1);
	filter_return(f, FILTER_DENY(EPERM));
	filter_block_end(f, begin);
}

/* Unix sockets; TCP and UDP over IP, by stream and datagram sockets only; netlink for routing
 * alone (getaddrinfo and os.networkInterfaces ask it). No AF_PACKET, AF_ALG, AF_VSOCK, no raw or
 * ICMP sockets, and no protocol whose module the kernel would load on demand. */
static void filter_socket(struct agent_filter *f)
{
	unsigned short begin = filter_block_begin(f, __NR_socket);

	filter_load(f, FILTER_ARG(0));
	filter_unless_eq_skip(f, AF_UNIX, 1);
	filter_return(f, SECCOMP_RET_ALLOW);
	filter_unless_eq_skip(f, AF_NETLINK, 4);
	filter_load(f, FILTER_ARG(2));
	filter_if_eq_skip(f, NETLINK_ROUTE, 1);
	filter_return(f, FILTER_DENY(EPROTONOSUPPORT));
	filter_return(f, SECCOMP_RET_ALLOW);
	filter_if_eq_skip(f, AF_INET, 2);
	filter_if_eq_skip(f, AF_INET6, 1);
	filter_return(f, FILTER_DENY(EAFNOSUPPORT));
	filter_load(f, FILTER_ARG(1));
	filter_put(f, BPF_ALU | BPF_AND | BPF_K, 0xf, 0, 0); /* SOCK_TYPE_MASK of the kernel */
	filter_if_eq_skip(f, SOCK_STREAM, 2);
	filter_if_eq_skip(f, SOCK_DGRAM, 1);
	filter_return(f, FILTER_DENY(EPERM));
	filter_load(f, FILTER_ARG(2));
	filter_if_eq_skip(f, 0, 3);
	filter_if_eq_skip(f, IPPROTO_TCP, 2);
	filter_if_eq_skip(f, IPPROTO_UDP, 1);
	filter_return(f, FILTER_DENY(EPROTONOSUPPORT));
	filter_block_end(f, begin);
}

static void filter_socketpair(struct agent_filter *f)
{
	unsigned short begin = filter_block_begin(f, __NR_socketpair);

	filter_load(f, FILTER_ARG(0));
	filter_if_eq_skip(f, AF_UNIX, 1);
	filter_return(f, FILTER_DENY(EAFNOSUPPORT));
	filter_block_end(f, begin);
}

int agent_filter_build(struct agent_filter *f, struct err *e)
{
	memset(f, 0, sizeof(*f));
	filter_head(f);
	for (size_t i = 0; i < ARRAY_LEN(filter_refused); i++) {
		filter_unless_eq_skip(f, (unsigned)filter_refused[i].nr, 1);
		filter_return(f, FILTER_DENY((unsigned)filter_refused[i].code));
	}
	filter_clone(f);
	filter_ioctl(f);
	filter_personality(f);
	filter_prctl(f);
	filter_socket(f);
	filter_socketpair(f);
	filter_return(f, SECCOMP_RET_ALLOW);
	if (f->n > AGENT_FILTER_MAX)
		return err_set(e, -E2BIG, "the agent's seccomp filter has outgrown its array");
	return 0;
}

/* What takes a mode, by the argument that it is. Of open, only where a file may be made (O_TMPFILE
 * has no O_CREAT); else the kernel ignores what is there, and programs leave anything there. */
static void filter_mode(struct agent_filter *f, unsigned nr, unsigned mode, int flags)
{
	unsigned short begin = filter_block_begin(f, nr);

	if (flags >= 0) {
		filter_load(f, FILTER_ARG((unsigned)flags));
		filter_put(f, BPF_JMP | BPF_JSET | BPF_K, O_CREAT | (O_TMPFILE & ~O_DIRECTORY), 1,
			   0);
		filter_return(f, SECCOMP_RET_ALLOW);
	}
	filter_load(f, FILTER_ARG(mode));
	filter_put(f, BPF_JMP | BPF_JSET | BPF_K, S_ISUID | S_ISGID, 0, 1);
	filter_return(f, FILTER_DENY(EPERM));
	filter_block_end(f, begin);
}

/* What is put before all else, where what build() allows early is not allowed yet. */
static void filter_before_begin(struct agent_filter *before)
{
	before->n = 0;
	filter_load(before, offsetof(struct seccomp_data, arch));
	filter_if_eq_skip(before, FILTER_ARCH, 1);
	filter_return(before, SECCOMP_RET_KILL_PROCESS);
	filter_load(before, FILTER_NR);
}

static int filter_before_end(struct agent_filter *before, struct agent_filter *f, struct err *e)
{
	if (before->n + f->n > AGENT_FILTER_MAX)
		return err_set(e, -E2BIG, "the agent's seccomp filter has outgrown its array");
	memcpy(before->code + before->n, f->code, f->n * sizeof(f->code[0]));
	before->n = (unsigned short)(before->n + f->n);
	*f = *before;
	return 0;
}

int agent_filter_refuse_setid(struct agent_filter *f, struct err *e)
{
	struct agent_filter all;

	filter_before_begin(&all);
	/* Their modes lie behind a pointer, or in a call that libc does without. */
	filter_unless_eq_skip(&all, __NR_openat2, 1);
	filter_return(&all, FILTER_DENY(ENOSYS));
	filter_unless_eq_skip(&all, 452 /* fchmodat2 */, 1);
	filter_return(&all, FILTER_DENY(ENOSYS));
#if defined(__x86_64__)
	filter_mode(&all, __NR_chmod, 1, -1);
	filter_mode(&all, __NR_creat, 1, -1);
	filter_mode(&all, __NR_open, 2, 1);
	filter_mode(&all, __NR_mknod, 1, -1);
#endif
	filter_mode(&all, __NR_fchmod, 1, -1);
	filter_mode(&all, __NR_fchmodat, 2, -1);
	filter_mode(&all, __NR_openat, 3, 2);
	filter_mode(&all, __NR_mknodat, 2, -1);
	return filter_before_end(&all, f, e);
}

/* --- for a borrower --- */

static const unsigned borrower_refused[] = {
/* mode, owner, times, extended attributes */
#if defined(__x86_64__)
	__NR_chmod,
	__NR_chown,
	__NR_lchown,
	__NR_utime,
	__NR_utimes,
	__NR_futimesat,
#endif
	__NR_fchmod,
	__NR_fchmodat,
	452, /* fchmodat2 */
	__NR_fchown,
	__NR_fchownat,
	__NR_utimensat,
	__NR_setxattr,
	__NR_lsetxattr,
	__NR_fsetxattr,
	463, /* setxattrat */
	__NR_removexattr,
	__NR_lremovexattr,
	__NR_fremovexattr,
	466, /* removexattrat */
	/* by the descriptor's name in /proc: before its third version Landlock lets it pass */
	__NR_truncate,
	__NR_flock,
	/* memory that is in nobody's address space */
	__NR_memfd_create,
	__NR_shmget,
	__NR_msgget,
	__NR_semget,
};

/* What is about the descriptor itself: neither locks nor leases, for which others have to wait. */
static const unsigned borrower_fcntl[] = {F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD,
					  F_SETFD, F_GETFL,	    F_SETFL};

/* By the kind of a request, its second byte: terminals and what every descriptor has, sockets, KVM.
 * Those of file systems are of others (flags, projects, verity, clones). */
#define BORROWER_KIND_SHIFT 8
#define BORROWER_KIND_MASK  0xff
static const unsigned borrower_ioctl[] = {'T', 0x89 /* SIOC… */, 0xae /* KVM… */};

/* Goes on with the second argument, shifted and masked, one of these only. */
static void borrower_only(struct agent_filter *f, unsigned nr, unsigned shift, unsigned mask,
			  const unsigned *allowed, unsigned n, unsigned code)
{
	unsigned short begin = filter_block_begin(f, nr);

	filter_load(f, FILTER_ARG(1));
	filter_put(f, BPF_ALU | BPF_RSH | BPF_K, shift, 0, 0);
	filter_put(f, BPF_ALU | BPF_AND | BPF_K, mask, 0, 0);
	for (unsigned i = 0; i < n; i++)
		filter_if_eq_skip(f, allowed[i], n - i);
	filter_return(f, FILTER_DENY(code));
	filter_load(f, FILTER_NR);
	if (f->n <= AGENT_FILTER_MAX)
		f->code[begin].jf = (uint8_t)(f->n - begin - 1);
}

int agent_filter_refuse_borrower(struct agent_filter *f, struct err *e)
{
	struct agent_filter all;

	filter_before_begin(&all);
	for (size_t i = 0; i < ARRAY_LEN(borrower_refused); i++) {
		filter_unless_eq_skip(&all, borrower_refused[i], 1);
		filter_return(&all, FILTER_DENY(EPERM));
	}
	borrower_only(&all, __NR_fcntl, 0, ~0u, borrower_fcntl, ARRAY_LEN(borrower_fcntl), EINVAL);
	borrower_only(&all, __NR_ioctl, BORROWER_KIND_SHIFT, BORROWER_KIND_MASK, borrower_ioctl,
		      ARRAY_LEN(borrower_ioctl), ENOTTY);
	return filter_before_end(&all, f, e);
}

int agent_filter_apply(const struct agent_filter *f, struct err *e)
{
	struct sock_fprog program = {.len = f->n,
				     .filter = (struct sock_filter *)(uintptr_t)f->code};

	if (syscall(__NR_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0)
		return err_errno(e, "install the agent's seccomp filter");
	return 0;
}

/* --- the same as a profile --- */

static int profile_names(struct buf *out, int code, const char *action)
{
	int ret = buf_printf(out, "{\"action\":\"%s\",\"errnoRet\":%d,\"names\":[", action, code);
	bool is_first = true;

	for (size_t i = 0; ret == 0 && i < ARRAY_LEN(filter_refused); i++) {
		if (filter_refused[i].code != code)
			continue;
		ret = buf_printf(out, "%s\"%s\"", is_first ? "" : ",", filter_refused[i].name);
		is_first = false;
	}
	return ret == 0 ? buf_printf(out, "]},") : ret;
}

static int profile_rule(struct buf *out, const char *name, int code, unsigned argument,
			const char *op, unsigned value, unsigned value_two)
{
	return buf_printf(out,
			  "{\"names\":[\"%s\"],\"action\":\"SCMP_ACT_ERRNO\",\"errnoRet\":%d,"
			  "\"args\":[{\"index\":%u,\"op\":\"%s\",\"value\":%u,\"valueTwo\":%u}]}",
			  name, code, argument, op, value, value_two);
}

/* Families below AF_NETLINK that nobody needs; whatever lies above it is refused as a whole. */
static const unsigned profile_families[] = {3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15};

int agent_filter_profile(struct buf *out)
{
	int ret = buf_printf(out,
			     "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"architectures\":[\"%s\"],"
			     "\"syscalls\":[",
			     FILTER_ARCH_NAME);

	if (ret == 0)
		ret = profile_names(out, EPERM, "SCMP_ACT_ERRNO");
	if (ret == 0)
		ret = profile_names(out, ENOSYS, "SCMP_ACT_ERRNO");
	for (unsigned bit = 0; ret == 0 && bit < 32; bit++) {
		if (!((unsigned)FILTER_CLONE_NEW & 1u << bit))
			continue;
		ret = profile_rule(out, "clone", EPERM, 0, "SCMP_CMP_MASKED_EQ", 1u << bit,
				   1u << bit);
		if (ret == 0)
			ret = buf_append(out, ",", 1);
	}
	for (size_t i = 0; ret == 0 && i < ARRAY_LEN(profile_families); i++) {
		ret = profile_rule(out, "socket", EAFNOSUPPORT, 0, "SCMP_CMP_EQ",
				   profile_families[i], 0);
		if (ret == 0)
			ret = buf_append(out, ",", 1);
	}
	if (ret == 0)
		ret = profile_rule(out, "socket", EAFNOSUPPORT, 0, "SCMP_CMP_GT", AF_NETLINK, 0);
	if (ret == 0)
		ret = buf_append(out, ",", 1);
	if (ret == 0)
		ret = profile_rule(out, "ioctl", EPERM, 1, "SCMP_CMP_EQ", TIOCSTI, 0);
	return ret == 0 ? buf_printf(out, "]}") : ret;
}
