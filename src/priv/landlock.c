#include "priv/priv.h"

#include "base/clean.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <sys/stat.h>
#include <sys/syscall.h>

/* Debian 12's kernel headers stop at ABI 2; these are the later ones (landlock(7)). */
#define LL_FS_TRUNCATE	   (1ull << 14)
#define LL_FS_IOCTL_DEV	   (1ull << 15)
#define LL_FS_REFER	   (1ull << 13)
#define LL_FS_ABI1	   ((1ull << 13) - 1)
#define LL_NET_BIND_TCP	   (1ull << 0)
#define LL_NET_CONNECT_TCP (1ull << 1)
#define LL_SCOPE_ABSTRACT  (1ull << 0)
#define LL_SCOPE_SIGNAL	   (1ull << 1)
#define LL_FS_READ	   ((1ull << 2) | (1ull << 3))			/* READ_FILE, READ_DIR */
#define LL_FS_WRITE	   ((1ull << 1) | (1ull << 8) | LL_FS_TRUNCATE) /* WRITE_FILE, MAKE_REG */
#define LL_FS_EXECUTE	   (1ull << 0)
/* REMOVE_DIR, REMOVE_FILE, MAKE_DIR; no devices, sockets, fifos or symbolic links. */
#define LL_FS_MANAGE (LL_FS_WRITE | (1ull << 4) | (1ull << 5) | (1ull << 7) | LL_FS_REFER)
#define LL_FS_OWN    ((1ull << 9) | (1ull << 10) | (1ull << 12)) /* MAKE_SOCK, FIFO, SYM */
#define LL_FS_FILE_ONLY                                                                            \
	(LL_FS_EXECUTE | (1ull << 1) | (1ull << 2) | LL_FS_TRUNCATE | LL_FS_IOCTL_DEV)

struct ll_ruleset_attr {
	uint64_t handled_access_fs, handled_access_net, scoped;
};

static int landlock_add_path(int ruleset, const struct priv_path *path, uint64_t handled,
			     struct err *e)
{
	_cleanup_close_ int fd = open(path->path, O_PATH | O_CLOEXEC);
	struct landlock_path_beneath_attr rule = {.parent_fd = fd};
	struct stat st;
	uint64_t access = 0;

	if (fd < 0 && (errno == ENOENT || errno == ENOTDIR) && (path->access & PRIV_OPTIONAL))
		return 0;
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(e, "landlock: open \"%s\"", path->path);
	if (path->access & PRIV_READ)
		access |= LL_FS_READ;
	if (path->access & PRIV_WRITE)
		access |= LL_FS_WRITE;
	if (path->access & PRIV_EXECUTE)
		access |= LL_FS_EXECUTE;
	if (path->access & PRIV_MANAGE)
		access |= LL_FS_MANAGE;
	if (path->access & PRIV_OWN)
		access |= LL_FS_OWN;
	if (path->access & PRIV_DEVICE)
		access |= LL_FS_IOCTL_DEV;
	if (!S_ISDIR(st.st_mode))
		access &= LL_FS_FILE_ONLY;
	rule.allowed_access = access & handled;
	if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0)
		return err_errno(e, "landlock: rule for \"%s\"", path->path);
	return 0;
}

static bool landlock_wants_refer(const struct priv_path *paths, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (paths[i].access & PRIV_MANAGE)
			return true;
	}
	return false;
}

int priv_landlock(const struct priv_path *paths, size_t n, bool may_tcp_connect, struct err *e)
{
	struct ll_ruleset_attr attr = {.handled_access_fs = LL_FS_ABI1};
	_cleanup_close_ int ruleset = -1;
	size_t size = sizeof(attr.handled_access_fs);
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

	if (abi < 0 && (errno == ENOSYS || errno == EOPNOTSUPP))
		return 1;
	if (abi < 0)
		return err_errno(e, "landlock");
	if (abi < 2 && landlock_wants_refer(paths, n))
		return 1;
	if (abi >= 2)
		attr.handled_access_fs |= LL_FS_REFER;
	if (abi >= 3)
		attr.handled_access_fs |= LL_FS_TRUNCATE;
	if (abi >= 4) {
		attr.handled_access_net = LL_NET_BIND_TCP;
		if (!may_tcp_connect)
			attr.handled_access_net |= LL_NET_CONNECT_TCP;
		size = offsetof(struct ll_ruleset_attr, scoped);
	}
	if (abi >= 5)
		attr.handled_access_fs |= LL_FS_IOCTL_DEV;
	if (abi >= 6) {
		attr.scoped = LL_SCOPE_ABSTRACT | LL_SCOPE_SIGNAL;
		size = sizeof(attr);
	}
	ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, size, 0);
	if (ruleset < 0)
		return err_errno(e, "landlock: create ruleset");
	for (size_t i = 0; i < n; i++) {
		int ret = landlock_add_path(ruleset, &paths[i], attr.handled_access_fs, e);

		if (ret < 0)
			return ret;
	}
	if (syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
		return err_errno(e, "landlock: restrict");
	return 0;
}
