/*
 * A template is the state of a machine that has booted and waits for its order, in a file of the
 * user's cache below "vm/":
 *
 *     IMAGE.BASE.MEMORYm.CPUSc.ACCEL.state
 *
 * IMAGE is the image's key, BASE the hash of the kernel, the initramfs, the program, QEMU and the
 * way in which QEMU is called: everything else that the state holds or presumes. There is nothing
 * of any bottle in it. Where BASE has changed, the image's older templates are of no use and go;
 * so do those of any image that nobody has read for TEMPLATE_DAYS.
 *
 * The file is written under no name and linked when it is whole, so that two who make the same one
 * do not meet.
 */
#include "backend/qemu/qemu_int.h"

#include "backend/walled/wall.h"
#include "backend/walled/cgroup.h"
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

#define TEMPLATE_LAYOUT	   1 /* what a machine is like beyond its command line */
#define TEMPLATE_KEY_SHOWN 32
#define TEMPLATE_NAME_SIZE 160
#define TEMPLATE_BOOT_MS   120000
#define TEMPLATE_SAVE_MS   60000
#define TEMPLATE_DAYS	   30
#define TEMPLATE_SLUG	   "template"

/* --- its name --- */

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
	for (char **v = argv; ret == 0 && *v; v++)
		ret = buf_printf(&all, " %s", *v);
	if (ret == 0)
		ret = image_sha256(buf_str(&all), key, e);
	qemu_args_free(argv);
	buf_free(&all);
	return ret;
}

static int template_name(char name[TEMPLATE_NAME_SIZE], const struct qemu_parts *parts,
			 const struct qemu_shape *s, struct err *e)
{
	char key[VM_KEY_SIZE];
	int ret = base_key(key, parts, e);

	if (ret == 0)
		(void)snprintf(name, TEMPLATE_NAME_SIZE, "%.*s.%.*s.%llum.%uc.%s.state",
			       TEMPLATE_KEY_SHOWN, parts->image.key, TEMPLATE_KEY_SHOWN, key,
			       (unsigned long long)(s->memory_bytes / QEMU_MIB), s->cpus,
			       s->is_kvm ? "kvm" : "tcg");
	return ret;
}

int qemu_template_find(const struct qemu_parts *parts, const struct qemu_shape *s, int *fd,
		       struct err *e)
{
	_cleanup_close_ int dir = qemu_cache_open(e);
	char name[TEMPLATE_NAME_SIZE];
	int ret = dir < 0 ? dir : template_name(name, parts, s, e);

	*fd = -1;
	if (ret < 0)
		return ret;
	*fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	return *fd < 0 ? err_errno(e, "open a template") : 0;
}

void qemu_template_forget(const struct qemu_parts *parts, const struct qemu_shape *s)
{
	_cleanup_close_ int dir = qemu_cache_open(NULL);
	char name[TEMPLATE_NAME_SIZE];

	if (dir >= 0 && template_name(name, parts, s, NULL) == 0)
		(void)unlinkat(dir, name, 0);
}

/* Of no use: of this image, and another kernel, QEMU or release of ours has made it. Or of any, and
 * nobody has read it for long: its image may be gone, and it is large. */
static bool is_stale(int dir, const char *other, const char *name)
{
	struct str s = str_of(other);
	struct stat st;

	if (!str_ends(s, STR_LIT(".state")) || fstatat(dir, other, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return false;
	if (str_starts(s, str_slice(name, TEMPLATE_KEY_SHOWN + 1)))
		return !str_starts(s, str_slice(name, 2 * TEMPLATE_KEY_SHOWN + 2));
	return (uint64_t)st.st_atim.tv_sec + TEMPLATE_DAYS * 86400 <
	       time_realtime_ns() / TIME_NS_PER_SEC;
}

static void remove_stale(int dir, const char *name)
{
	int copy = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_closedir_ DIR *list = copy < 0 ? NULL : fdopendir(copy);
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
	qemu_words_last(&words, last, sizeof(last));
	qemu_words_free(&words);
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
	const struct qemu_start start = {
		.wall = &wall, .cgroup = &none, .slug = TEMPLATE_SLUG, .parts = parts, .shape = s};
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

int qemu_template_ensure(const struct qemu_parts *parts, const struct qemu_shape *s,
			 const struct progress *progress, struct err *e)
{
	_cleanup_close_ int dir = qemu_cache_open(e), fd = -1;
	char name[TEMPLATE_NAME_SIZE];
	int ret = dir < 0 ? dir : template_name(name, parts, s, e);

	if (ret < 0)
		return ret;
	if (faccessat(dir, name, R_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return 0;
	progress_tell(progress, "template", "booting a virtual machine to start others from", 0, 0);
	fd = openat(dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_errno(e, "make a template");
	ret = qemu_template_boot(parts, s, fd, TEMPLATE_BOOT_MS, e);
	if (ret == 0)
		ret = link_whole(dir, fd, name, e);
	if (ret == 0)
		remove_stale(dir, name);
	return ret;
}
