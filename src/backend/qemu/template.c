/*
 * A template (for people: a snapshot) is the state of a machine that has booted and waits for its
 * order, in a file of the user's cache below "vm/":
 *
 *     IMAGE.BASE.MEMORYm.CPUSc.ACCEL.state
 *
 * IMAGE is the image's key, BASE the hash of the kernel, the initramfs, the program, QEMU, the way
 * in which QEMU is called, and the image's disk, which may have been made anew under the same key:
 * everything else that the state holds or presumes. ACCEL is "tcg", or "kvm" and the processor's
 * hash. There is nothing of any bottle in it. Where BASE has changed, the image's older templates
 * are of no use and go; so do those of any image that is gone, or that nobody has read for
 * TEMPLATE_DAYS.
 *
 * The file is written under no name and linked when it is whole. One is made at a time: several who
 * start for the first time would each boot a machine, to keep one of them. An empty one stands for
 * a template that could not be restored: for a day, machines boot.
 */
#include "backend/qemu/qemu_int.h"

#include "backend/walled/wall.h"
#include "backend/walled/cgroup.h"
#include "base/cache.h"
#include "base/clean.h"
#include "base/io.h"
#include "base/timeutil.h"
#include "image/sha256.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define TEMPLATE_LAYOUT	       1 /* what a machine is like beyond its command line */
#define TEMPLATE_KEY_SHOWN     VM_SNAPSHOT_KEY
#define TEMPLATE_NAME_SIZE     160
#define TEMPLATE_PROCESSOR_MAX 16384
#define TEMPLATE_KVM_SHOWN     16
#define TEMPLATE_BOOT_MS       120000
#define TEMPLATE_SAVE_MS       60000
#define TEMPLATE_DAYS	       30
#define TEMPLATE_FORGOTTEN_S   86400
#define TEMPLATE_SLUG	       "template"
#define TEMPLATE_LOCK	       "template.lock"
#define TEMPLATE_WAIT_MS       (2 * (TEMPLATE_BOOT_MS + TEMPLATE_SAVE_MS))

/* --- its name --- */

/* What the machine has read of its image stays in its memory. */
static int put_disks(struct buf *all, const struct qemu_parts *parts, struct err *e)
{
	struct stat st;

	if (fstat(parts->disk_fds[QEMU_IMAGE], &st) < 0)
		return err_errno(e, "look at the image's disk");
	return buf_printf(all, " %lld %lld.%09ld %llu %llu", (long long)st.st_size,
			  (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec,
			  (unsigned long long)VM_DISK_BYTES, (unsigned long long)VM_HOME_BYTES);
}

static int base_key(char key[VM_KEY_SIZE], const struct qemu_parts *parts, struct err *e)
{
	/* Of any shape: which one it is, the name says. */
	static const struct qemu_shape any = {.memory_bytes = QEMU_MIB, .cpus = 1};
	char **argv = qemu_args_make(&any, false), id[128];
	struct buf all;
	int ret = qemu_program_id(id, sizeof(id), e);

	buf_init(&all, 65536);
	if (ret == 0)
		ret = buf_printf(&all, "%d %s %s %s %s", TEMPLATE_LAYOUT, parts->kernel.release,
				 parts->initramfs_key, parts->program_key, id);
	if (ret == 0)
		ret = put_disks(&all, parts, e);
	for (char **v = argv; ret == 0 && *v; v++)
		ret = buf_printf(&all, " %s", *v);
	if (ret == 0)
		ret = image_sha256(buf_str(&all), key, e);
	qemu_args_free(argv);
	buf_free(&all);
	return ret;
}

/* A kernel that has booted with KVM has fitted itself to the processor that it found. */
static int kvm_key(char key[VM_KEY_SIZE], struct err *e)
{
	static const char *const facts[] = {"vendor_id", "cpu family", "model\t", "stepping",
					    "flags"};
	_cleanup_close_ int fd = open("/proc/cpuinfo", O_RDONLY | O_CLOEXEC);
	_cleanup_(buf_free) struct buf all = BUF_INIT(TEMPLATE_PROCESSOR_MAX);
	char text[TEMPLATE_PROCESSOR_MAX];
	ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof(text));
	struct str rest = str_slice(text, got > 0 ? (size_t)got : 0);
	bool more = true;

	if (got < 0)
		return err_errno(e, "read /proc/cpuinfo");
	/* The first of them, up to an empty line. */
	while (more) {
		struct str line;

		rest = str_cut(rest, '\n', &line, &more);
		more = more && line.n > 0;
		for (size_t i = 0; i < ARRAY_LEN(facts); i++) {
			if (str_starts(line, str_of(facts[i])) && buf_append_str(&all, line) < 0)
				return err_set(e, -ENOBUFS, "too much in /proc/cpuinfo");
		}
	}
	return image_sha256(buf_str(&all), key, e);
}

static int template_name(char name[TEMPLATE_NAME_SIZE], const struct qemu_parts *parts,
			 const struct qemu_shape *s, struct err *e)
{
	char key[VM_KEY_SIZE], kvm[VM_KEY_SIZE] = "";
	int ret = base_key(key, parts, e);

	if (ret == 0 && s->is_kvm)
		ret = kvm_key(kvm, e);
	if (ret == 0)
		(void)snprintf(name, TEMPLATE_NAME_SIZE,
			       "%.*s.%.*s.%llum.%uc.%s%.*s" VM_SNAPSHOT_SUFFIX, TEMPLATE_KEY_SHOWN,
			       parts->image.key, TEMPLATE_KEY_SHOWN, key,
			       (unsigned long long)(s->memory_bytes / QEMU_MIB), s->cpus,
			       s->is_kvm ? "kvm" : "tcg", TEMPLATE_KVM_SHOWN, kvm);
	return ret;
}

int qemu_template_find(const struct qemu_parts *parts, const struct qemu_shape *s, int *fd,
		       struct err *e)
{
	const struct timespec now[] = {{.tv_nsec = UTIME_NOW}, {.tv_nsec = UTIME_OMIT}};
	_cleanup_close_ int dir = vm_store_open(e), found = -1;
	char name[TEMPLATE_NAME_SIZE];
	struct stat st;
	int ret = dir < 0 ? dir : template_name(name, parts, s, e);

	*fd = -1;
	if (ret < 0)
		return ret;
	found = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (found < 0 || fstat(found, &st) < 0)
		return err_errno(e, "open a template");
	if (st.st_size == 0)
		return err_set(e, -ENOENT, "the template could not be restored");
	/* Read: also where the file system notes no such times. */
	(void)futimens(found, now);
	*fd = take_fd(&found);
	return 0;
}

void qemu_template_forget(const struct qemu_parts *parts, const struct qemu_shape *s)
{
	_cleanup_close_ int dir = vm_store_open(NULL), mark = -1;
	char name[TEMPLATE_NAME_SIZE];

	if (dir < 0 || template_name(name, parts, s, NULL) < 0)
		return;
	/* Another one: who restores from the file just now goes on. */
	(void)unlinkat(dir, name, 0);
	mark = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
}

/* It is there, or it was forgotten so lately that making it again is no use. */
static bool is_settled(int dir, const char *name)
{
	struct stat st;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return false;
	return st.st_size > 0 || (uint64_t)st.st_mtim.tv_sec + TEMPLATE_FORGOTTEN_S >=
					 time_realtime_ns() / TIME_NS_PER_SEC;
}

/* Whether the disk of a template's image is still there (vm.h: its name ends in the key). */
static bool has_image(int dir, struct str name)
{
	_cleanup_closedir_ DIR *list = io_walk(dir);
	struct str key = str_sub(name, 0, TEMPLATE_KEY_SHOWN);
	const struct dirent *d;

	while (list && (d = readdir(list))) {
		struct str disk = str_of(d->d_name);

		if (str_ends(disk, STR_LIT(VM_DISK_SUFFIX)) && str_find(disk, key) < disk.n)
			return true;
	}
	return !list;
}

/* Of no use: of this image, and another kernel, QEMU or release of ours has made it. Or of another
 * whose disk is gone, or that nobody has read for long: it is large. */
static bool is_stale(int dir, const char *other, const char *name)
{
	struct str s = str_of(other);
	struct stat st;

	if (!str_ends(s, STR_LIT(VM_SNAPSHOT_SUFFIX)) ||
	    fstatat(dir, other, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return false;
	if (str_starts(s, str_slice(name, TEMPLATE_KEY_SHOWN + 1)))
		return !str_starts(s, str_slice(name, 2 * TEMPLATE_KEY_SHOWN + 2));
	return !has_image(dir, s) || (uint64_t)st.st_atim.tv_sec + TEMPLATE_DAYS * 86400 <
					     time_realtime_ns() / TIME_NS_PER_SEC;
}

static void remove_stale(int dir, const char *name)
{
	_cleanup_closedir_ DIR *list = io_walk(dir);
	const struct dirent *d;

	while (list && (d = readdir(list))) {
		if (is_stale(dir, d->d_name, name))
			(void)unlinkat(dir, d->d_name, 0);
	}
}

/* --- a machine that is nobody's --- */

/* Until its 'H'. */
static int await_boot(const struct qemu_machine *m, int boot_ms, struct err *e)
{
	uint64_t until = time_monotonic_ns() + (uint64_t)boot_ms * TIME_NS_PER_MS, now;
	struct qemu_words words;
	char last[320], byte[MACHINE_HEAD + 1];
	bool hears_console = true, hears_said = true;
	ssize_t got = -1;

	qemu_words_init(&words);
	while (got < 0 && (now = time_monotonic_ns()) < until) {
		struct pollfd p[] = {{.fd = m->control_fd, .events = POLLIN},
				     {.fd = hears_console ? m->console_fd : -1, .events = POLLIN},
				     {.fd = hears_said ? m->said_fd : -1, .events = POLLIN}};

		if (poll(p, ARRAY_LEN(p), (int)((until - now) / TIME_NS_PER_MS) + 1) <= 0)
			continue;
		if (p[1].revents)
			hears_console = qemu_words_read(&words.console, m->console_fd);
		if (p[2].revents)
			hears_said = qemu_words_read(&words.said, m->said_fd);
		if (p[0].revents)
			got = recv(m->control_fd, byte, sizeof(byte), MSG_DONTWAIT);
	}
	qemu_words_best(&words, last, sizeof(last));
	if (got == MACHINE_HEAD && memcmp(byte, "H\0\0\0", MACHINE_HEAD) == 0)
		return 0;
	if (got > 0)
		return err_set(e, -EPROTO, "the virtual machine says what makes no sense");
	return err_set(e, got == 0 ? -EPIPE : -ETIMEDOUT, "the virtual machine %s%s%s",
		       got == 0 ? "ended" : "does not boot", last[0] ? ": " : "", last);
}

static int save(const struct qemu_machine *m, int save_fd, struct err *e)
{
	uint64_t until = time_monotonic_ns() + TEMPLATE_SAVE_MS * TIME_NS_PER_MS;
	struct qmp q;
	int ret = qmp_open(&q, m->monitor_fd, until, e);

	if (ret == 0)
		ret = qmp_save(&q, save_fd, until, e);
	qmp_free(&q);
	return ret;
}

int qemu_template_boot(const struct qemu_parts *parts, const struct qemu_shape *s, int save_fd,
		       int boot_ms, struct err *e)
{
	const struct cgroup none = {.n = 0};
	struct wall wall = WALL_INIT;
	struct qemu_machine m;
	const struct qemu_start start = {.wall = &wall,
					 .cgroup = &none,
					 .slug = TEMPLATE_SLUG,
					 .parts = parts,
					 .shape = s,
					 .is_saved = save_fd >= 0};
	int ret = wall_make(&wall, WALL_PINNED_DEFAULT, NULL, 0, e);

	qemu_machine_init(&m);
	if (ret == 0)
		ret = qemu_machine_start(&m, &start, e);
	if (ret == 0)
		ret = await_boot(&m, boot_ms, e);
	if (ret == 0 && save_fd >= 0)
		ret = save(&m, save_fd, e);
	qemu_machine_free(&m);
	wall_free(&wall);
	return ret;
}

/* --- making one --- */

static int link_whole(int dir, int fd, const char *name, struct err *e)
{
	char path[40];

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (linkat(AT_FDCWD, path, dir, name, AT_SYMLINK_FOLLOW) < 0 && errno != EEXIST)
		return err_errno(e, "name a template");
	return 0;
}

static int make(int dir, const char *name, const struct qemu_parts *parts,
		const struct qemu_shape *s, struct err *e)
{
	_cleanup_close_ int fd = openat(dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	int ret;

	if (fd < 0)
		return err_errno(e, "make a template");
	ret = qemu_template_boot(parts, s, fd, TEMPLATE_BOOT_MS, e);
	if (ret == 0 && unlinkat(dir, name, 0) < 0 && errno != ENOENT)
		ret = err_errno(e, "replace a template");
	if (ret == 0)
		ret = link_whole(dir, fd, name, e);
	if (ret == 0)
		remove_stale(dir, name);
	return ret;
}

int qemu_template_ensure(const struct qemu_parts *parts, const struct qemu_shape *s,
			 const struct progress *progress, struct err *e)
{
	_cleanup_close_ int dir = vm_store_open(e), lock = -1;
	char name[TEMPLATE_NAME_SIZE];
	int ret = dir < 0 ? dir : template_name(name, parts, s, e);

	if (ret < 0)
		return ret;
	if (is_settled(dir, name))
		return 0;
	lock = cache_lock(dir, TEMPLATE_LOCK, TEMPLATE_WAIT_MS,
			  "another virtual machine to start from is being made", progress, e);
	if (lock < 0)
		return lock;
	if (is_settled(dir, name))
		return 0;
	progress_tell(progress, "template", "booting a virtual machine to start others from", 0, 0);
	return make(dir, name, parts, s, e);
}
