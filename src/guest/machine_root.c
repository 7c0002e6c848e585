/*
 * The agent's root: the image under a layer in memory, with what a container engine would mount
 * over it. It is made below ROOT_AT in the initramfs, in a mount namespace that only the agent's
 * processes will have; what it is made of is taken first, by descriptor; then everything of the
 * initramfs's is detached, and the new root moved over it. (pivot_root() does not work on the
 * kernel's first root. That one stays beneath, empty of mounts, and has no name in there.)
 *
 * The image may have been made of a container that an agent had furnished, and the home has been an
 * agent's: no link in either is followed on the way to anything that is mounted or written here.
 * Nothing of the agent's runs yet, so nothing changes meanwhile.
 */
#include "guest/machine_int.h"

#include "base/clean.h"
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

#define ROOT_AT		  "/agent"
#define ROOT_LAYER	  "/layer"
#define ROOT_EXPOSE	  "/expose"
#define ROOT_HOME	  "home/agent"
#define ROOT_LAYER_BYTES  (UINT64_C(16) << 20) /* of a root that nobody will write to */
#define ROOT_RUN_BYTES	  (UINT64_C(64) << 20)
#define ROOT_SHM_BYTES	  (UINT64_C(64) << 20)
#define ROOT_DEV_BYTES	  (UINT64_C(64) << 10)
#define ROOT_QUIET	  (MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)
#define ROOT_QUIET_NOEXEC (ROOT_QUIET | MOUNT_ATTR_NOEXEC)

/* <sys/mount.h> and <linux/mount.h> cannot both be included with this C library. */
int mount(const char *source, const char *target, const char *type, unsigned long flags,
	  const void *data);
int umount2(const char *target, int flags);
#define ROOT_MS_MOVE	8192
#define ROOT_MS_REC	16384
#define ROOT_MS_PRIVATE (1 << 18)
#define ROOT_MNT_DETACH 2

struct root {
	const struct machine_order *order;
	int fd; /* of the new root */
	int program, home, expose[MACHINE_EXPOSE_MAX];
};

/* --- file systems --- */

struct root_option {
	const char *key, *value; /* value NULL: a flag */
};

/* A new file system, mounted nowhere yet. */
static int root_make(const char *type, const char *source, const struct root_option *options,
		     unsigned attributes, struct err *e)
{
	_cleanup_close_ int context = (int)syscall(SYS_fsopen, type, FSOPEN_CLOEXEC);
	int fd;

	if (context < 0 || syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING, "source",
				   source ? source : type, 0) < 0)
		return err_errno(e, "%s", type);
	for (; options && options->key; options++) {
		int how = options->value ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG;

		if (syscall(SYS_fsconfig, context, how, options->key, options->value, 0) < 0)
			return err_errno(e, "%s with %s", type, options->key);
	}
	if (syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return err_errno(e, "make or read a file system (%s)", type);
	fd = (int)syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, attributes);
	return fd < 0 ? err_errno(e, "mount %s", type) : fd;
}

static int root_memory(uint64_t bytes, const char *mode, unsigned attributes, struct err *e)
{
	char size[24];
	const struct root_option options[] = {{"size", size}, {"mode", mode}, {NULL, NULL}};

	(void)snprintf(size, sizeof(size), "%llu", (unsigned long long)bytes);
	return root_make("tmpfs", NULL, options, attributes, e);
}

static int root_attach(int fs, int dir, const char *path, struct err *e)
{
	if (syscall(SYS_move_mount, fs, "", dir, path,
		    MOVE_MOUNT_F_EMPTY_PATH | (path[0] ? 0 : MOVE_MOUNT_T_EMPTY_PATH)) < 0)
		return err_errno(e, "attach a file system");
	return 0;
}

/* A copy of a mount, or of what is below a place in one. */
static int root_clone(int dir, const char *path, struct err *e)
{
	int fd = (int)syscall(SYS_open_tree, dir, path,
			      OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW |
				      (path[0] ? 0 : AT_EMPTY_PATH));

	return fd < 0 ? err_errno(e, "take \"%s\"", path) : fd;
}

static int root_restrict(int fs, unsigned attributes, struct err *e)
{
	struct mount_attr attr = {.attr_set = attributes};

	if (syscall(SYS_mount_setattr, fs, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0)
		return err_errno(e, "restrict a mount");
	return 0;
}

/* --- places in the new root --- */

static int root_step(int dir, const char *name, struct err *e)
{
	int fd;

	if (mkdirat(dir, name, 0755) < 0 && errno != EEXIST)
		return err_errno(e, "make the folder \"%s\" in the agent's root", name);
	fd = openat(dir, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 && (errno == ENOTDIR || errno == ELOOP))
		return err_set(e, -ENOTDIR, "\"%s\" in the image or the home is no folder", name);
	return fd < 0 ? err_errno(e, "\"%s\" in the agent's root", name) : fd;
}

/* The folder that path, relative to the root, lies in; *name: its last part. */
static int root_parent(int root, const char *path, char name[NAME_MAX + 1], struct err *e)
{
	_cleanup_close_ int dir = fcntl(root, F_DUPFD_CLOEXEC, 0);
	struct str rest = str_of(path);

	for (;;) {
		struct str part;
		bool more;
		int next;

		rest = str_cut(rest, '/', &part, &more);
		if (dir < 0 || !str_to_cstr(name, NAME_MAX + 1, part))
			return err_set(e, -ENAMETOOLONG, "a name that is too long");
		if (!more)
			return take_fd(&dir);
		next = root_step(dir, name, e);
		if (next < 0)
			return next;
		close_fd(&dir);
		dir = next;
	}
}

static int root_folder(const struct root *r, const char *path, struct err *e)
{
	char name[NAME_MAX + 1];
	_cleanup_close_ int dir = root_parent(r->fd, path, name, e);

	return dir < 0 ? dir : root_step(dir, name, e);
}

/* An empty file, or one that is there. */
static int root_file(const struct root *r, const char *path, struct err *e)
{
	char name[NAME_MAX + 1];
	_cleanup_close_ int dir = root_parent(r->fd, path, name, e);
	_cleanup_close_ int made = -1;
	struct stat st;
	int fd;

	if (dir < 0)
		return dir;
	made = openat(dir, name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0444);
	fd = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return err_errno(e, "\"%s\" in the agent's root", path);
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
		return fd;
	(void)close(fd);
	return err_set(e, -EEXIST, "\"%s\" in the image or the home is no file", path);
}

/* Takes fs, which may be an error already. */
static int root_mount(const struct root *r, int fs, const char *path, bool is_file, struct err *e)
{
	_cleanup_close_ int mounted = fs, place = -1;

	if (fs < 0)
		return fs;
	place = is_file ? root_file(r, path, e) : root_folder(r, path, e);
	if (place < 0)
		return place;
	if (root_attach(mounted, place, "", e) < 0)
		return err_prefix(e, "\"%s\"", path);
	return 0;
}

/* --- what the agent's root is made of --- */

static int root_find_disk(const char *serial, char *path, size_t size, struct err *e)
{
	_cleanup_closedir_ DIR *dir = opendir("/sys/block");
	const struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		char name[300];
		struct str text;
		bool is_it;

		(void)snprintf(name, sizeof(name), "/sys/block/%s/serial", entry->d_name);
		if (io_read_file(AT_FDCWD, name, 64, &text, NULL) < 0)
			continue;
		is_it = str_eq(str_trim(str_sub(text, 0, str_chr(text, '\n'))), str_of(serial));
		free((void *)(uintptr_t)text.p);
		if (is_it) {
			(void)snprintf(path, size, "/dev/%s", entry->d_name);
			return 0;
		}
	}
	return err_set(e, -ENODEV, "the machine has no disk \"%s\"", serial);
}

static int root_disk(const char *serial, const char *type, const struct root_option *options,
		     unsigned attributes, struct err *e)
{
	char path[300];
	int ret = root_find_disk(serial, path, sizeof(path), e);

	if (ret == 0)
		ret = root_make(type, path, options, attributes, e);
	return ret < 0 ? err_prefix(e, "disk \"%s\"", serial) : ret;
}

/* The exposed paths, each a mount of its own below the disk's. */
static int root_take_expose(struct root *r, struct err *e)
{
	_cleanup_close_ int disk = -1, top = -1;

	if (r->order->n_expose == 0)
		return 0;
	disk = root_disk(MACHINE_DISK_EXPOSE, "squashfs", (struct root_option[]){{"ro", NULL}, {0}},
			 ROOT_QUIET | MOUNT_ATTR_RDONLY, e);
	if (disk < 0)
		return disk;
	if (mkdir(ROOT_EXPOSE, 0700) < 0 && errno != EEXIST)
		return err_errno(e, "mkdir %s", ROOT_EXPOSE);
	if (root_attach(disk, AT_FDCWD, ROOT_EXPOSE, e) < 0)
		return err_prefix(e, "%s", ROOT_EXPOSE);
	top = open(ROOT_EXPOSE, O_PATH | O_DIRECTORY | O_CLOEXEC);
	for (size_t i = 0; i < r->order->n_expose; i++) {
		r->expose[i] = root_clone(top, r->order->expose[i] + 1, e);
		if (r->expose[i] < 0)
			return r->expose[i];
	}
	return 0;
}

static int root_take(struct root *r, struct err *e)
{
	/* commit: see kernel_switches. discard: what is deleted takes no room on the host's disk.
	 */
	static const struct root_option options[] = {
		{"commit", "1"}, {"discard", NULL}, {NULL, NULL}};

	r->program = root_clone(AT_FDCWD, MACHINE_BUNDLE, e);
	if (r->program < 0)
		return r->program;
	r->home = root_disk(MACHINE_DISK_HOME, "ext4", options, ROOT_QUIET, e);
	return r->home < 0 ? r->home : root_take_expose(r, e);
}

static int root_overlay(struct root *r, struct err *e)
{
	static const struct root_option options[] = {{"lowerdir", MACHINE_IMAGE},
						     {"upperdir", ROOT_LAYER "/upper"},
						     {"workdir", ROOT_LAYER "/work"},
						     {NULL, NULL}};
	bool is_kept = r->order->has_writable_root;
	_cleanup_close_ int layer =
		root_memory(is_kept ? r->order->tmp_bytes : ROOT_LAYER_BYTES, "755", ROOT_QUIET, e);

	if (layer < 0)
		return layer;
	if ((mkdir(ROOT_LAYER, 0700) < 0 && errno != EEXIST) ||
	    (mkdir(ROOT_AT, 0700) < 0 && errno != EEXIST) || mkdirat(layer, "upper", 0755) < 0 ||
	    mkdirat(layer, "work", 0755) < 0)
		return err_errno(e, "make the folders of the agent's root");
	if (root_attach(layer, AT_FDCWD, ROOT_LAYER, e) < 0)
		return -EIO;
	r->fd = root_make("overlay", NULL, options, ROOT_QUIET, e);
	return r->fd < 0 ? r->fd : root_attach(r->fd, AT_FDCWD, ROOT_AT, e);
}

/* --- what lies in it --- */

int machine_root_write(int writable, const struct machine_file *f, struct err *e)
{
	char name[NAME_MAX + 1];
	_cleanup_close_ int dir = root_parent(writable, f->path + 1, name, e), fd = -1;

	if (dir < 0)
		return dir;
	if (unlinkat(dir, name, 0) < 0 && errno != ENOENT)
		return err_errno(e, "replace %s", f->path);
	fd = openat(dir, name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
	if (fd < 0 || io_write_all(fd, f->text.p, f->text.n) < 0 || fchmod(fd, f->mode) < 0)
		return err_errno(e, "write %s", f->path);
	return 0;
}

static int root_write_all(const struct root *r, struct err *e)
{
	int ret = 0;

	for (size_t i = 0; ret == 0 && i < r->order->n_files; i++)
		ret = machine_root_write(r->fd, &r->order->files[i], e);
	return ret;
}

/* No kmsg, no mem, no disk, no port. */
static int root_devices(const struct root *r, struct err *e)
{
	static const struct {
		const char *name;
		unsigned minor, major;
	} nodes[] = {{"null", 3, 1},   {"zero", 5, 1},	  {"full", 7, 1},
		     {"random", 8, 1}, {"urandom", 9, 1}, {"tty", 0, 5}};
	static const struct {
		const char *name, *target;
	} links[] = {{"ptmx", "pts/ptmx"},
		     {"fd", "/proc/self/fd"},
		     {"stdin", "/proc/self/fd/0"},
		     {"stdout", "/proc/self/fd/1"},
		     {"stderr", "/proc/self/fd/2"}};
	int fs = root_memory(ROOT_DEV_BYTES, "755", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, e);

	for (size_t i = 0; fs >= 0 && i < ARRAY_LEN(nodes); i++) {
		if (mknodat(fs, nodes[i].name, S_IFCHR, makedev(nodes[i].major, nodes[i].minor)) <
			    0 ||
		    fchmodat(fs, nodes[i].name, 0666, 0) < 0)
			return err_errno(e, "make the agent's /dev/%s", nodes[i].name);
	}
	for (size_t i = 0; fs >= 0 && i < ARRAY_LEN(links); i++) {
		if (symlinkat(links[i].target, fs, links[i].name) < 0)
			return err_errno(e, "make the agent's /dev/%s", links[i].name);
	}
	return root_mount(r, fs, "dev", false, e);
}

static int root_memories(const struct root *r, struct err *e)
{
	static const struct root_option terminals[] = {
		{"ptmxmode", "0666"}, {"mode", "0620"}, {"gid", "5"}, {NULL, NULL}};
	uint64_t tmp = r->order->tmp_bytes;
	int ret = root_mount(
		r, root_make("devpts", NULL, terminals, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, e),
		"dev/pts", false, e);

	if (ret == 0)
		ret = root_mount(r, root_memory(ROOT_SHM_BYTES, "1777", ROOT_QUIET_NOEXEC, e),
				 "dev/shm", false, e);
	if (ret == 0)
		ret = root_mount(r, root_memory(tmp, "1777", ROOT_QUIET, e), "tmp", false, e);
	if (ret == 0)
		ret = root_mount(r, root_memory(tmp, "1777", ROOT_QUIET, e), "var/tmp", false, e);
	return ret < 0 ? ret
		       : root_mount(r, root_memory(ROOT_RUN_BYTES, "755", ROOT_QUIET, e), "run",
				    false, e);
}

/* What an engine hides of /proc, or shows without letting it be written. A kernel need not have
 * every one. */
static int root_cover(const struct root *r, const char *path, bool is_hidden, struct err *e)
{
	_cleanup_close_ int place = openat(r->fd, path, O_PATH | O_NOFOLLOW | O_CLOEXEC),
			    cover = -1;
	struct stat st;

	if (place < 0 || fstat(place, &st) < 0)
		return errno == ENOENT ? 0 : err_errno(e, "look at /%s", path);
	if (!is_hidden)
		cover = root_clone(r->fd, path, e);
	else if (S_ISDIR(st.st_mode))
		cover = root_memory(4096, "555", ROOT_QUIET_NOEXEC, e);
	else
		cover = root_clone(r->fd, "dev/null", e);
	if (cover < 0)
		return cover;
	/* What is read of the null device is nothing, whoever writes to it. */
	if ((!is_hidden || S_ISDIR(st.st_mode)) &&
	    root_restrict(cover, ROOT_QUIET_NOEXEC | MOUNT_ATTR_RDONLY, e) < 0)
		return err_prefix(e, "/%s", path);
	return root_attach(cover, place, "", e);
}

static int root_proc(const struct root *r, struct err *e)
{
	static const char *const hidden[] = {
		"proc/acpi",	    "proc/kcore",      "proc/keys",	   "proc/kmsg",
		"proc/kpagecount",  "proc/kpageflags", "proc/kpagecgroup", "proc/latency_stats",
		"proc/sched_debug", "proc/scsi",       "proc/timer_list",  "proc/timer_stats",
		"proc/vmallocinfo", "proc/slabinfo",   "proc/kallsyms",	   "proc/key-users"};
	static const char *const shown[] = {"proc/bus", "proc/fs", "proc/irq", "proc/sys",
					    "proc/sysrq-trigger"};
	int ret = root_mount(r, root_make("proc", NULL, NULL, ROOT_QUIET_NOEXEC, e), "proc", false,
			     e);

	for (size_t i = 0; ret == 0 && i < ARRAY_LEN(hidden); i++)
		ret = root_cover(r, hidden[i], true, e);
	for (size_t i = 0; ret == 0 && i < ARRAY_LEN(shown); i++)
		ret = root_cover(r, shown[i], false, e);
	return ret;
}

static int root_expose(struct root *r, struct err *e)
{
	for (size_t i = 0; i < r->order->n_expose; i++) {
		struct stat st;
		int ret;

		if (fstat(r->expose[i], &st) < 0)
			return err_errno(e, "look at %s", r->order->expose[i]);
		ret = root_mount(r, take_fd(&r->expose[i]), r->order->expose[i] + 1,
				 !S_ISDIR(st.st_mode), e);
		if (ret < 0)
			return ret;
	}
	return 0;
}

static int root_furnish(struct root *r, struct err *e)
{
	int ret = root_write_all(r, e);

	if (ret == 0)
		ret = root_devices(r, e);
	if (ret == 0)
		ret = root_memories(r, e);
	if (ret == 0)
		ret = root_proc(r, e);
	if (ret == 0)
		ret = root_mount(r, take_fd(&r->home), ROOT_HOME, false, e);
	if (ret == 0)
		ret = root_expose(r, e);
	return ret < 0 ? ret : root_mount(r, take_fd(&r->program), &GUEST_BUNDLE[1], true, e);
}

/* --- into it --- */

static int root_move(const struct root *r, struct err *e)
{
	static const char *const old[] = {ROOT_EXPOSE, ROOT_LAYER, MACHINE_IMAGE, MACHINE_PROGRAM,
					  "/sys",      "/proc",	   "/dev",	  MACHINE_GROUPS};

	for (size_t i = 0; i < ARRAY_LEN(old); i++) {
		if (umount2(old[i], ROOT_MNT_DETACH) < 0 && errno != EINVAL && errno != ENOENT)
			return err_errno(e, "detach %s", old[i]);
	}
	if (fchdir(r->fd) < 0 || mount(".", "/", NULL, ROOT_MS_MOVE, NULL) < 0 || chroot(".") < 0 ||
	    chdir("/") < 0)
		return err_errno(e, "enter the agent's root");
	return 0;
}

/* Where guest init will look for its keeper. */
static int root_listen(const struct root *r, int *listener, struct err *e)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	_cleanup_close_ int folder = root_folder(r, &GUEST_FOLDER "/run"[1], e);

	if (folder < 0)
		return folder;
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", GUEST_SOCKET);
	*listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	/* An image that was made of a container has one. */
	(void)unlink(GUEST_SOCKET);
	if (*listener < 0 ||
	    bind(*listener, (const struct sockaddr *)&address, sizeof(address)) < 0 ||
	    chmod(GUEST_SOCKET, 0666) < 0 || listen(*listener, 1) < 0)
		return err_errno(e, "listen for the agent's first process");
	return 0;
}

static void root_free(struct root *r)
{
	close_fd(&r->fd);
	close_fd(&r->program);
	close_fd(&r->home);
	for (size_t i = 0; i < MACHINE_EXPOSE_MAX; i++)
		close_fd(&r->expose[i]);
}

int machine_root_enter(struct machine_root *out, const struct machine_order *o, struct err *e)
{
	struct root r = {.order = o, .fd = -1, .program = -1, .home = -1};
	int ret = 0;

	*out = MACHINE_ROOT_INIT;
	for (size_t i = 0; i < MACHINE_EXPOSE_MAX; i++)
		r.expose[i] = -1;
	(void)umask(0);
	if (mount("none", "/", NULL, ROOT_MS_REC | ROOT_MS_PRIVATE, NULL) < 0)
		ret = err_errno(e, "keep mounts to oneself");
	if (ret == 0)
		ret = root_take(&r, e);
	if (ret == 0)
		ret = root_overlay(&r, e);
	if (ret == 0)
		ret = root_furnish(&r, e);
	if (ret == 0)
		ret = root_move(&r, e);
	if (ret == 0)
		ret = root_listen(&r, &out->listener, e);
	if (ret == 0) {
		out->terminals = open("/dev/pts", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (out->terminals < 0)
			ret = err_errno(e, "open /dev/pts");
	}
	if (ret == 0) {
		out->writable = root_clone(r.fd, "", e);
		ret = out->writable < 0 ? out->writable : 0;
	}
	if (ret == 0 && !o->has_writable_root)
		ret = root_restrict(r.fd, MOUNT_ATTR_RDONLY, e);
	root_free(&r);
	(void)umask(022);
	return ret;
}
