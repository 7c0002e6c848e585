#include "priv/priv_int.h"

#include "base/clean.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

static pid_t parent_at_start;

bool priv_is_instrumented(void)
{
#ifdef CLAUDE_BOTTLE_INSTRUMENTED
	return true;
#else
	return false;
#endif
}

#ifdef CLAUDE_BOTTLE_INSTRUMENTED
/* Asked by LeakSanitizer at exit: it reads its own process through ptrace, which a role that is not
 * dumpable refuses, and would end with an error of its own. */
int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void)
{
	return prctl(PR_GET_DUMPABLE) == 0;
}
#endif

/* The kernel forgets both at a change of credentials, so this runs again after it. */
static int priv_tie_to_parent(struct err *e)
{
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return err_errno(e, "PR_SET_DUMPABLE");
	/* Process 1 of a container: its parent stands outside (0), is a thread that the engine may
	 * let end at any time, and is not whom this process serves. */
	if (parent_at_start == 0)
		return 0;
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
		return err_errno(e, "PR_SET_PDEATHSIG");
	/* The parent may have died before the signal was asked for. */
	if (getppid() != parent_at_start)
		return err_set(e, -ESRCH, "the parent process is gone");
	return 0;
}

int priv_basics(struct err *e)
{
	struct rlimit no_core = {0, 0};

	parent_at_start = getppid();
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_errno(e, "PR_SET_NO_NEW_PRIVS");
	if (setrlimit(RLIMIT_CORE, &no_core) < 0)
		return err_errno(e, "RLIMIT_CORE");
	(void)umask(077);
	if (geteuid() == 0 && setgroups(0, NULL) < 0 && errno != EPERM)
		return err_errno(e, "setgroups");
	return priv_tie_to_parent(e);
}

/* While CAP_SETPCAP is still there, so before a change of uid. */
static int priv_bound_caps(uint64_t keep, struct err *e)
{
	for (int cap = 0; cap <= 63; cap++) {
		if (keep & UINT64_C(1) << cap)
			continue;
		/* EINVAL: past the last capability of this kernel. EPERM: not ours to drop, in
		 * which case no-new-privs already keeps the bounding set from mattering. */
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0 && errno != EINVAL && errno != EPERM)
			return err_errno(e, "PR_CAPBSET_DROP");
	}
	return 0;
}

static int priv_set_caps(uint64_t keep, struct err *e)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {
		{.effective = (uint32_t)keep, .permitted = (uint32_t)keep},
		{.effective = (uint32_t)(keep >> 32), .permitted = (uint32_t)(keep >> 32)},
	};

	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 && errno != EINVAL)
		return err_errno(e, "PR_CAP_AMBIENT");
	if (syscall(SYS_capset, &head, data) < 0)
		return err_errno(e, "capset");
	return 0;
}

int priv_keep_caps(uint64_t keep, struct err *e)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct have[2];

	if (syscall(SYS_capget, &head, have) < 0)
		return err_errno(e, "capget");
	keep &= (uint64_t)have[1].permitted << 32 | have[0].permitted;
	if (priv_bound_caps(keep, e) < 0)
		return e ? e->code : -EPERM;
	return priv_set_caps(keep, e);
}

int priv_keep_caps_of_init(struct err *e)
{
	return priv_keep_caps(UINT64_C(1) << CAP_SETUID | UINT64_C(1) << CAP_SETGID |
				      UINT64_C(1) << CAP_KILL | UINT64_C(1) << CAP_SETPCAP,
			      e);
}

int priv_drop_uid(uid_t uid, struct err *e)
{
	if (priv_bound_caps(0, e) < 0)
		return e ? e->code : -EPERM;
	if (uid != 0) {
		if (setresgid(uid, uid, uid) < 0)
			return err_errno(e, "setresgid %u", uid);
		if (setresuid(uid, uid, uid) < 0)
			return err_errno(e, "setresuid %u", uid);
		if (setuid(0) == 0 || getuid() != uid || geteuid() != uid || getgid() != uid)
			return err_set(e, -EPERM, "uid %u could be undone", uid);
	}
	if (priv_set_caps(0, e) < 0)
		return e ? e->code : -EPERM;
	return priv_tie_to_parent(e);
}

static int priv_limit_one(int which, size_t value, struct err *e)
{
	struct rlimit r;

	if (getrlimit((__rlimit_resource_t)which, &r) < 0)
		return err_errno(e, "getrlimit");
	/* Never above what the host allows. */
	if (r.rlim_max == RLIM_INFINITY || value < r.rlim_max)
		r.rlim_max = value;
	r.rlim_cur = r.rlim_max;
	if (setrlimit((__rlimit_resource_t)which, &r) < 0)
		return err_errno(e, "setrlimit %d to %zu", which, value);
	return 0;
}

int priv_limit(const struct priv_limits *l, struct err *e)
{
	int ret = 0;

	if (l->files)
		ret = priv_limit_one(RLIMIT_NOFILE, l->files, e);
	if (ret == 0 && l->address_space_bytes && !priv_is_instrumented())
		ret = priv_limit_one(RLIMIT_AS, l->address_space_bytes, e);
	if (ret == 0)
		ret = priv_limit_one(RLIMIT_FSIZE, l->file_size_bytes, e);
	if (ret == 0 && !priv_is_instrumented())
		ret = priv_limit_one(RLIMIT_NPROC, l->processes, e);
	return ret;
}
