/* What process 1 of the machine tells its kernel, before the agent's root is made. */
#include "guest/machine_int.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/timeutil.h"
#include "net/rtnl.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <time.h>

#define KERNEL_FILES	    1048576 /* as engines have it */
#define KERNEL_AGENT	    MACHINE_GROUPS "/agent"
#define KERNEL_MEMORY_KEPT  (UINT64_C(64) << 20)
#define KERNEL_THREAD_BYTES (UINT64_C(192) << 10) /* of the machine's memory, for each thread */

/* --- the clock and the random numbers --- */

static int kernel_set_clock(uint64_t time_ns, struct err *e)
{
	const struct timespec now = {.tv_sec = (time_t)(time_ns / TIME_NS_PER_SEC),
				     .tv_nsec = (long)(time_ns % TIME_NS_PER_SEC)};

	return clock_settime(CLOCK_REALTIME, &now) < 0 ? err_errno(e, "set the clock") : 0;
}

/* Machines that were restored from one snapshot would otherwise draw the same numbers. */
static int kernel_seed(const unsigned char seed[MACHINE_SEED_BYTES], struct err *e)
{
	_cleanup_close_ int fd = open("/dev/random", O_RDWR | O_CLOEXEC);
	struct {
		int bits, bytes;
		unsigned char seed[MACHINE_SEED_BYTES];
	} pool = {.bits = 8 * MACHINE_SEED_BYTES, .bytes = MACHINE_SEED_BYTES};

	memcpy(pool.seed, seed, MACHINE_SEED_BYTES);
	if (fd < 0 || ioctl(fd, RNDADDENTROPY, &pool) < 0 || ioctl(fd, RNDRESEEDCRNG) < 0)
		return err_errno(e, "seed the random numbers");
	return 0;
}

/* --- its switches --- */

static const struct {
	const char *path, *value;
} kernel_switches[] = {
	/* What the home's file system is told reaches its disk within about two seconds, so that a
	 * machine that is killed loses no more; the disk's mount options have the other half. */
	{"vm/dirty_expire_centisecs", "50"},
	{"vm/dirty_writeback_centisecs", "50"},
	/* Nothing of this is the agent's, even where it gets past its filter. */
	{"kernel/modules_disabled", "1"},
	{"kernel/kexec_load_disabled", "1"},
	{"kernel/sysrq", "0"},
	{"kernel/kptr_restrict", "2"},
	{"kernel/dmesg_restrict", "1"},
	{"kernel/unprivileged_bpf_disabled", "2"},
	{"kernel/yama/ptrace_scope", "2"},
	{"fs/suid_dumpable", "0"},
	{"user/max_user_namespaces", "0"},
	{"vm/unprivileged_userfaultfd", "0"},
	{"net/core/bpf_jit_harden", "2"},
	/* A kernel that has caught itself at a fault may be somebody else's by now. */
	{"kernel/panic_on_oops", "1"},
	/* ICMP sockets are nobody's, and there is no IPv6. */
	{"net/ipv4/ping_group_range", "1 0"},
	{"net/ipv6/conf/all/accept_ra", "0"},
	{"net/ipv6/conf/default/accept_ra", "0"},
	{"net/ipv6/conf/all/disable_ipv6", "1"},
	{"net/ipv6/conf/default/disable_ipv6", "1"},
};

static int kernel_switch_all(struct err *e)
{
	for (size_t i = 0; i < ARRAY_LEN(kernel_switches); i++) {
		const char *value = kernel_switches[i].value;
		_cleanup_close_ int fd = -1;
		char path[96];

		(void)snprintf(path, sizeof(path), "/proc/sys/%s", kernel_switches[i].path);
		fd = open(path, O_WRONLY | O_CLOEXEC);
		/* A kernel without the switch is one without what it switches. */
		if (fd < 0 && errno == ENOENT)
			continue;
		if (fd < 0 || write(fd, value, strlen(value)) < 0)
			return err_errno(e, "set %s", kernel_switches[i].path);
	}
	return 0;
}

/* The kernel's own for its first process are small; the agent's are below them (guest init). */
static int kernel_limits(struct err *e)
{
	const struct rlimit files = {KERNEL_FILES, KERNEL_FILES};
	const struct rlimit processes = {RLIM_INFINITY, RLIM_INFINITY};

	if (setrlimit(RLIMIT_NOFILE, &files) < 0 || setrlimit(RLIMIT_NPROC, &processes) < 0)
		return err_errno(e, "raise limits");
	return 0;
}

/* --- what the agent leaves over --- */

static int kernel_write(const char *path, const char *text, struct err *e)
{
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		return err_errno(e, "write \"%s\" to %s", text, path);
	return 0;
}

/* The agent may eat up whatever the machine has. What it is refused then must be the agent's loss:
 * without a fence the kernel would drop this process's program from memory to read it again for
 * each of its steps, and nobody could even end the machine in order. The processor is shared half
 * and half, since the group counts as much as this one process. */
static int kernel_fence(int *members, struct err *e)
{
	struct sysinfo info;
	char memory[24], threads[24];
	int ret;

	if ((mkdir(MACHINE_GROUPS, 0700) < 0 && errno != EEXIST) ||
	    mount("cgroup2", MACHINE_GROUPS, "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
		return err_errno(e, "mount control groups");
	if (sysinfo(&info) < 0)
		return err_errno(e, "ask for the memory's size");
	(void)snprintf(memory, sizeof(memory), "%llu",
		       (unsigned long long)info.totalram * info.mem_unit - KERNEL_MEMORY_KEPT);
	/* As the kernel reckons how many there may be: one for each eight pages or so of memory. */
	(void)snprintf(threads, sizeof(threads), "%llu",
		       (unsigned long long)info.totalram * info.mem_unit / KERNEL_THREAD_BYTES);
	ret = kernel_write(MACHINE_GROUPS "/cgroup.subtree_control", "+memory +pids +cpu", e);
	if (ret == 0 && mkdir(KERNEL_AGENT, 0700) < 0)
		ret = err_errno(e, "make the agent's control group");
	if (ret == 0)
		ret = kernel_write(KERNEL_AGENT "/memory.max", memory, e);
	if (ret == 0)
		ret = kernel_write(KERNEL_AGENT "/pids.max", threads, e);
	if (ret < 0)
		return ret;
	*members = open(KERNEL_AGENT "/cgroup.procs", O_WRONLY | O_CLOEXEC);
	return *members < 0 ? err_errno(e, "open the agent's control group") : 0;
}

/* --- the network --- */

/* The only interface with a device behind it. */
static int kernel_find_wall(unsigned *interface, struct err *e)
{
	_cleanup_closedir_ DIR *dir = opendir("/sys/class/net");
	const struct dirent *entry;

	*interface = 0;
	while (dir && (entry = readdir(dir))) {
		char path[320];

		if (entry->d_name[0] == '.')
			continue;
		(void)snprintf(path, sizeof(path), "/sys/class/net/%s/device", entry->d_name);
		if (access(path, F_OK) < 0)
			continue;
		if (*interface != 0)
			return err_set(e, -ENOTUNIQ, "the machine has more than one network");
		*interface = if_nametoindex(entry->d_name);
	}
	return *interface == 0 ? err_set(e, -ENODEV, "the machine has no network") : 0;
}

static int kernel_connect(const char *pinned, struct err *e)
{
	unsigned hardware[RTNL_HARDWARE_BYTES], wall;
	unsigned char bytes[RTNL_HARDWARE_BYTES];
	struct in_addr bundle, own;
	int ret;

	if (inet_pton(AF_INET, pinned, &bundle) != 1 ||
	    inet_pton(AF_INET, MACHINE_ADDRESS, &own) != 1 ||
	    sscanf(MACHINE_GATEWAY_HW, "%x:%x:%x:%x:%x:%x", &hardware[0], &hardware[1],
		   &hardware[2], &hardware[3], &hardware[4], &hardware[5]) != 6)
		return err_set(e, -EINVAL, "the machine's addresses");
	for (size_t i = 0; i < RTNL_HARDWARE_BYTES; i++)
		bytes[i] = (unsigned char)hardware[i];
	ret = kernel_find_wall(&wall, e);
	if (ret == 0)
		ret = rtnl_link_up(wall, e);
	if (ret == 0)
		ret = rtnl_address_add(wall, own, e);
	if (ret == 0)
		ret = rtnl_neighbour_add(wall, bundle, bytes, e);
	return ret < 0 ? ret : rtnl_route_add(wall, bundle, own, e);
}

int machine_kernel_prepare(int *members, struct err *e)
{
	int ret = kernel_limits(e);

	if (ret == 0)
		ret = kernel_fence(members, e);
	if (ret == 0)
		ret = kernel_switch_all(e);
	if (ret == 0)
		ret = rtnl_loopback_up(e);
	return ret < 0 ? ret : close_resolver(e);
}

int machine_kernel_set(const struct machine_order *o, struct err *e)
{
	int ret = kernel_set_clock(o->time_ns, e);

	if (ret == 0)
		ret = kernel_seed(o->seed, e);
	return ret < 0 ? ret : kernel_connect(o->pinned, e);
}
