/*
 * KVM or emulation. That /dev/kvm is there says little (in a virtual machine that nests badly it
 * opens, and boots nothing), so it is tried: once, with a machine like any other, and what came of
 * it is kept in the user's cache, "vm/accel":
 *
 *     HOST'S KERNEL \n QEMU \n kvm or tcg \n why \n
 *
 * Where one of the first two has changed, or the file is gone, it is tried again.
 */
#include "backend/qemu/qemu_int.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/text.h"
#include "base/timeutil.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#define ACCEL_FILE    "accel"
#define ACCEL_BOOT_MS 10000
#define ACCEL_MAX     2048

/* By the file: whoever installs another one leaves another time. */
int qemu_program_id(char *out, size_t size, struct err *e)
{
	struct stat st;

	if (stat(QEMU_PROGRAM, &st) < 0)
		return errno == ENOENT ? err_set(e, -ENOENT,
						 QEMU_PROGRAM " is not installed (package "
							      "qemu-system-x86)")
				       : err_errno(e, "find " QEMU_PROGRAM);
	(void)snprintf(out, size, "%llu %lld.%09ld", (unsigned long long)st.st_size,
		       (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
	return 0;
}

static int accel_head(char **head)
{
	struct utsname host;
	char id[128];

	*head = NULL;
	if (uname(&host) < 0 || qemu_program_id(id, sizeof(id), NULL) < 0)
		return -ENOENT;
	*head = mem_printf("%s\n%s\n", host.release, id);
	return 0;
}

/* "" when it may be opened. */
static void device_why(char why[QEMU_WHY_MAX])
{
	_cleanup_close_ int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	why[0] = '\0';
	if (fd < 0)
		(void)snprintf(why, QEMU_WHY_MAX, "/dev/kvm: %s%s", strerror(errno),
			       errno == EACCES ? " (as root: usermod -aG kvm USER)" : "");
}

bool qemu_accel_known(bool *is_kvm, char why[QEMU_WHY_MAX])
{
	_cleanup_close_ int dir = vm_store_open(NULL);
	_cleanup_free_ char *head = NULL, *text = NULL;
	struct str all, kind;
	bool found;

	*is_kvm = false;
	device_why(why);
	if (why[0])
		return true;
	(void)snprintf(why, QEMU_WHY_MAX, "not tried yet");
	if (dir < 0 || accel_head(&head) < 0 ||
	    io_read_file(dir, ACCEL_FILE, ACCEL_MAX, &all, NULL) < 0)
		return false;
	text = (char *)(uintptr_t)all.p;
	if (!str_starts(all, str_of(head)))
		return false;
	all = str_cut(str_sub(all, strlen(head), all.n), '\n', &kind, &found);
	(void)str_cut(all, '\n', &all, &found);
	*is_kvm = str_eq(kind, STR_LIT("kvm"));
	text_visible_cstr(why, QEMU_WHY_MAX, all);
	return true;
}

static void remember(bool is_kvm, const char *why)
{
	_cleanup_close_ int dir = vm_store_open(NULL);
	_cleanup_free_ char *head = NULL, *text = NULL;

	if (dir < 0 || accel_head(&head) < 0)
		return;
	text = mem_printf("%s%s\n%s\n", head, is_kvm ? "kvm" : "tcg", why);
	(void)!io_write_file_atomic(dir, ACCEL_FILE, str_of(text), 0600, NULL);
}

/* What a machine that does not boot comes to. Everything else (no bubblewrap, no memory, a full
 * disk) is not KVM's fault, and would be held against it for as long as this kernel runs. */
static bool is_machines(int ret)
{
	return ret == -EPIPE || ret == -EPROTO || ret == -ETIMEDOUT;
}

bool qemu_accel_try(const struct qemu_parts *parts, const struct qemu_shape *s,
		    const struct progress *progress, char why[QEMU_WHY_MAX])
{
	struct qemu_shape shape = *s;
	char day[TIME_RFC3339_SIZE];
	struct err e = ERR_INIT;
	bool is_kvm;
	int ret;

	if (qemu_accel_known(&is_kvm, why))
		return is_kvm;
	progress_tell(progress, "KVM", "trying whether it boots a virtual machine", 0, 0);
	shape.is_kvm = true;
	ret = qemu_template_boot(parts, &shape, -1, ACCEL_BOOT_MS, &e);
	is_kvm = ret == 0;
	time_format_rfc3339(time_realtime_ns(), day);
	if (is_kvm)
		(void)snprintf(why, QEMU_WHY_MAX, "tried on %.10s", day);
	else
		(void)snprintf(why, QEMU_WHY_MAX,
			       "KVM did not boot a kernel (tried on %.10s): %.90s", day, e.text);
	if (is_kvm || is_machines(ret))
		remember(is_kvm, why);
	return is_kvm;
}
