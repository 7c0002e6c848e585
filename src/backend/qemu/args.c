/*
 * QEMU's command line. Only virtio devices beside the chipset that q35 is, no firmware but its own,
 * no file by a path but of /usr: everything else is a descriptor. A template and a bottle differ in
 * nothing but QEMU's being paused, or a snapshot of the one would not fit the other.
 */
#include "backend/qemu/qemu_int.h"

#include "base/mem.h"

#include <assert.h>
#include <stdarg.h>
#include <stdlib.h>

#define ARGS_MAX 192
/* Of translated code. QEMU's own choice is up to 1 GiB, which would count as the bottle's memory.
 */
#define ARGS_TRANSLATED_MIB 128
#define ARGS_APPEND	    "console=ttyS0 quiet loglevel=3 panic=-1"

struct args {
	char **list;
	size_t n;
};

static __attribute__((format(printf, 2, 3))) void arg(struct args *a, const char *fmt, ...)
{
	va_list ap;
	char *text = NULL;

	assert(a->n + 1 < ARGS_MAX);
	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		abort();
	va_end(ap);
	a->list[a->n++] = text;
}

static int fd_of(enum qemu_fd which, size_t more)
{
	return CELL_FIRST_FD + (int)which + (int)more;
}

static void add_disks(struct args *a)
{
	static const struct {
		const char *name, *options, *device;
	} disks[QEMU_DISKS] = {
		[QEMU_IMAGE] = {MACHINE_DISK_IMAGE, "read-only=on", ""},
		[QEMU_BUNDLE] = {MACHINE_DISK_PROGRAM, "read-only=on", ""},
		[QEMU_EXPOSE] = {MACHINE_DISK_EXPOSE, "read-only=on", ""},
		/* What the guest has flushed is on the host's disk; what it has deleted takes no
		 * room there. Where the host's disk is full the guest is told, and its agent with
		 * it: QEMU would hold the machine and wait for a monitor that is closed. */
		[QEMU_HOME_DISK] = {MACHINE_DISK_HOME, "discard=unmap", ",werror=report"},
	};

	/* No locks: the cell refuses them, the home has one user by its bottle's lock, and nobody
	 * writes to the others. One queue each, however many processors: a request takes a MiB of
	 * address space, which is limited. */
	for (size_t i = 0; i < QEMU_DISKS; i++) {
		arg(a, "-add-fd");
		arg(a, "fd=%d,set=%zu", fd_of(QEMU_FD_DISK, i), i + 1);
		arg(a, "-blockdev");
		arg(a,
		    "driver=raw,node-name=%s,%s,file.driver=file,file.locking=off,"
		    "file.filename=/dev/fdset/%zu",
		    disks[i].name, disks[i].options, i + 1);
		arg(a, "-device");
		arg(a, "virtio-blk-pci,drive=%s,serial=%s,num-queues=1%s", disks[i].name,
		    disks[i].name, disks[i].device);
	}
}

/* index: of all ports. A bus more when the last one is full, since QEMU drops without a word what a
 * full bus has to tell its machine. */
static void add_port(struct args *a, int fd, unsigned index, const char *name, const char *suffix)
{
	unsigned bus = index / MACHINE_PORTS_OF_BUS, number = index % MACHINE_PORTS_OF_BUS + 1;

	if (number == 1) {
		arg(a, "-device");
		arg(a, "virtio-serial-pci,id=bus%u", bus);
	}
	arg(a, "-chardev");
	arg(a, "socket,id=port%u,fd=%d", index, fd);
	arg(a, "-device");
	arg(a, "virtserialport,bus=bus%u.0,chardev=port%u,nr=%u,name=%s%s", bus, index, number,
	    name, suffix);
}

static void add_ports(struct args *a)
{
	add_port(a, fd_of(QEMU_FD_CONTROL, 0), 0, MACHINE_CONTROL_PORT, "");
	for (unsigned i = 0; i < MACHINE_SESSIONS; i++) {
		char suffix[12];

		(void)snprintf(suffix, sizeof(suffix), "%u", i + 1);
		add_port(a, fd_of(QEMU_FD_SESSION, i), i + 1, MACHINE_SESSION_PORT, suffix);
	}
}

static void add_machine(struct args *a, const struct qemu_shape *s)
{
	arg(a, "-machine");
	arg(a, "q35,vmport=off,i8042=off");
	arg(a, "-accel");
	if (s->is_kvm)
		arg(a, "kvm");
	else
		arg(a, "tcg,thread=multi,tb-size=%d", ARGS_TRANSLATED_MIB);
	arg(a, "-cpu");
	arg(a, "max");
	arg(a, "-m");
	arg(a, "%lluM", (unsigned long long)(s->memory_bytes / QEMU_MIB));
	arg(a, "-smp");
	arg(a, "%u", s->cpus);
	arg(a, "-kernel");
	arg(a, "/proc/self/fd/%d", fd_of(QEMU_FD_KERNEL, 0));
	arg(a, "-initrd");
	arg(a, "/proc/self/fd/%d", fd_of(QEMU_FD_INITRAMFS, 0));
	arg(a, "-append");
	arg(a, ARGS_APPEND);
}

char **qemu_args_make(const struct qemu_shape *s, bool is_paused)
{
	struct args a = {.list = mem_zalloc_array(ARGS_MAX, sizeof(char *))};

	arg(&a, QEMU_PROGRAM);
	arg(&a, "-nodefaults");
	arg(&a, "-no-user-config");
	arg(&a, "-no-reboot");
	arg(&a, "-display");
	arg(&a, "none");
	arg(&a, "-sandbox");
	arg(&a, "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
	add_machine(&a, s);
	arg(&a, "-chardev");
	arg(&a, "socket,id=monitor,fd=%d", fd_of(QEMU_FD_MONITOR, 0));
	arg(&a, "-mon");
	arg(&a, "chardev=monitor,mode=control");
	arg(&a, "-chardev");
	arg(&a, "socket,id=console,fd=%d", fd_of(QEMU_FD_CONSOLE, 0));
	arg(&a, "-serial");
	arg(&a, "chardev:console");
	add_disks(&a);
	add_ports(&a);
	/* The wall is around QEMU; what it dials from in there it may dial. */
	arg(&a, "-netdev");
	arg(&a, "user,id=net,ipv6=off");
	arg(&a, "-device");
	arg(&a, "virtio-net-pci,netdev=net,romfile=");
	if (is_paused) {
		arg(&a, "-S");
		arg(&a, "-incoming");
		arg(&a, "defer");
	}
	return a.list;
}

void qemu_args_free(char **argv)
{
	for (char **v = argv; v && *v; v++)
		free(*v);
	free(argv);
}
