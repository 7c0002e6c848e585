/*
 * The first process of a microVM (guest/machine.h), linked statically and with nothing of ours, so
 * that the initramfs that is unpacked at every cold boot stays small. It loads the modules that the
 * initramfs lists, mounts the two disks that hold programs, and becomes `guest machine`. Nothing of
 * the agent's exists yet. There is nothing to fall back to: whatever fails is one line on the
 * console and the end of the machine.
 */
#include "guest/machine.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define INIT_MODULES	"/modules"
#define INIT_ORDER_MAX	4096
#define INIT_DISK_TRIES 2000	 /* an emulated machine under load takes its time */
#define INIT_DISK_PAUSE 5000000L /* ns */
#define INIT_COMPRESSED 4	 /* MODULE_INIT_COMPRESSED_FILE, <linux/module.h> of 5.17 */

/* The first module that could not be loaded, and why. A kernel may have it built in: then nothing
 * fails, and nobody is to hear of it. */
static char init_lacks[200];

static _Noreturn void init_fail(const char *what, const char *which)
{
	(void)dprintf(STDERR_FILENO, MACHINE_SAYS "%s %s: %s%s\n", what, which, strerror(errno),
		      init_lacks);
	for (;;) {
		(void)reboot(RB_POWER_OFF);
		(void)reboot((int)RB_HALT_SYSTEM);
		(void)pause();
	}
}

static void init_mount(const char *what, const char *where, const char *type, unsigned long flags)
{
	if ((mkdir(where, 0755) < 0 && errno != EEXIST) ||
	    (mount(what, where, type, flags, NULL) < 0 && errno != EBUSY))
		init_fail("mount", where);
}

/* The kernel has opened /dev/console only if the initramfs had one. */
static void init_console(void)
{
	int fd = open("/dev/console", O_RDWR | O_NOCTTY);

	for (int i = 0; fd >= 0 && i <= STDERR_FILENO; i++)
		(void)dup2(fd, i);
	if (fd > STDERR_FILENO)
		(void)close(fd);
}

/* --- modules --- */

static void init_load(const char *name)
{
	size_t n = strlen(name);
	bool is_plain = n > 3 && strcmp(name + n - 3, ".ko") == 0;
	char path[160];
	int fd;

	(void)snprintf(path, sizeof(path), INIT_MODULES "/%s", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if ((fd < 0 || (syscall(SYS_finit_module, fd, "", is_plain ? 0 : INIT_COMPRESSED) < 0 &&
			errno != EEXIST)) &&
	    !init_lacks[0])
		(void)snprintf(init_lacks, sizeof(init_lacks), " (module %s: %s)", name,
			       strerror(errno));
	if (fd >= 0)
		(void)close(fd);
}

static void init_modules(void)
{
	static char order[INIT_ORDER_MAX + 1];
	int fd = open(INIT_MODULES "/order", O_RDONLY | O_CLOEXEC);
	ssize_t got = fd < 0 ? -1 : read(fd, order, INIT_ORDER_MAX);
	char *rest = order, *name;

	if (got < 0)
		init_fail("read", INIT_MODULES "/order");
	(void)close(fd);
	while ((name = strsep(&rest, "\n"))) {
		if (name[0])
			init_load(name);
	}
}

/* --- disks --- */

static bool init_has_serial(const char *device, const char *serial)
{
	char path[300], text[32];
	ssize_t got;
	int fd;

	(void)snprintf(path, sizeof(path), "/sys/block/%s/serial", device);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	got = read(fd, text, sizeof(text) - 1);
	(void)close(fd);
	text[got > 0 ? got : 0] = '\0';
	text[strcspn(text, "\n")] = '\0';
	return strcmp(text, serial) == 0;
}

static bool init_find(const char *serial, char *path, size_t size)
{
	DIR *dir = opendir("/sys/block");
	const struct dirent *entry;
	bool found = false;

	while (dir && !found && (entry = readdir(dir))) {
		found = strncmp(entry->d_name, "vd", 2) == 0 &&
			init_has_serial(entry->d_name, serial);
		if (found)
			(void)snprintf(path, size, "/dev/%s", entry->d_name);
	}
	if (dir)
		(void)closedir(dir);
	return found;
}

static void init_disk(const char *serial, const char *where)
{
	const struct timespec pause_ns = {.tv_nsec = INIT_DISK_PAUSE};
	char path[300];
	int tries = 0;

	while (!init_find(serial, path, sizeof(path)) || access(path, F_OK) < 0) {
		errno = ENODEV;
		if (++tries == INIT_DISK_TRIES)
			init_fail("find the disk", serial);
		(void)nanosleep(&pause_ns, NULL);
	}
	init_mount(path, where, "squashfs", MS_RDONLY | MS_NOSUID | MS_NODEV);
}

int main(void)
{
	char *const argv[] = {(char *)(uintptr_t) "claude-bottle-bundle",
			      (char *)(uintptr_t) "guest", (char *)(uintptr_t) "machine", NULL};
	char *const env[] = {NULL};

	init_mount("dev", "/dev", "devtmpfs", MS_NOSUID);
	init_console();
	init_mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC);
	init_mount("sys", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC);
	init_modules();
	init_disk(MACHINE_DISK_IMAGE, MACHINE_IMAGE);
	init_disk(MACHINE_DISK_PROGRAM, MACHINE_PROGRAM);
	(void)execve(MACHINE_BUNDLE, argv, env);
	init_fail("execute", MACHINE_BUNDLE);
}
