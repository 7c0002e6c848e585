#include "backend/qemu/qemu_int.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#define SHAPE_MEMORY_DEFAULT (2048 * QEMU_MIB)
#define SHAPE_MEMORY_MIN     (256 * QEMU_MIB)
#define SHAPE_CPUS_DEFAULT   2
#define SHAPE_CPUS_MAX	     16
/* What QEMU has beside the machine's memory: itself, translated code, buffers of disks. */
#define SHAPE_OVERHEAD (320 * QEMU_MIB)
/* A monitor that its guest has taken over maps no more than this beside the machine's memory: a
 * last resort for hosts where nothing counts what it really uses. Measured under load: 0.6 GiB.
 * Once for all, what could come together at most: the stacks of 64 threads that wait for disks (8
 * MiB), those of each request that a queue takes (1 MiB, 256 for each disk), heaps (4 of 64 MiB),
 * translated code, the program and its libraries. For each processor its stack and tables of
 * addresses. */
#define SHAPE_SPACE_FIXED   (3072 * QEMU_MIB)
#define SHAPE_SPACE_OF_CPU  (512 * QEMU_MIB)
#define SHAPE_SPACE_OF_SIZE 8 /* of its memory, one part of so many: bitmaps, tables of pages */
/* Its threads: one for each processor, and those that wait for disks. */
#define SHAPE_PROCESSES 160

static uint64_t host_memory(void)
{
	long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);

	return pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size : SHAPE_MEMORY_MIN;
}

static unsigned host_cpus(void)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN);

	return n > 0 ? (unsigned)n : 1;
}

static uint64_t plan_memory(const struct plan *p)
{
	uint64_t host = host_memory(), bytes = p->limits.memory_bytes;

	if (bytes == 0)
		bytes = host / 4 < SHAPE_MEMORY_DEFAULT ? host / 4 : SHAPE_MEMORY_DEFAULT;
	if (bytes > host)
		bytes = host;
	if (bytes < SHAPE_MEMORY_MIN)
		bytes = SHAPE_MEMORY_MIN;
	return bytes / QEMU_MIB * QEMU_MIB;
}

static unsigned plan_cpus(const struct plan *p)
{
	uint64_t n = p->limits.cpu_milli ? (p->limits.cpu_milli + 999) / 1000 : SHAPE_CPUS_DEFAULT;

	if (n > host_cpus())
		n = host_cpus();
	return n > SHAPE_CPUS_MAX ? SHAPE_CPUS_MAX : (unsigned)n;
}

int qemu_shape_check(const struct plan *p, struct err *e)
{
	uint64_t bytes = p->limits.memory_bytes;

	return bytes == 0 || bytes >= SHAPE_MEMORY_MIN
		       ? 0
		       : err_set(e, -EINVAL,
				 "limits: memory: %llu MiB is too little for a virtual machine, "
				 "which has a kernel of its own: at least %llu MiB",
				 (unsigned long long)(bytes / QEMU_MIB),
				 (unsigned long long)(SHAPE_MEMORY_MIN / QEMU_MIB));
}

static void tell_less(const struct progress *progress, const char *what, const char *unit,
		      uint64_t has, uint64_t asks)
{
	char text[160];

	if (asks <= has)
		return;
	(void)snprintf(text, sizeof(text),
		       "limits: %s: %llu%s cannot be had on this host: the machine has %llu%s",
		       what, (unsigned long long)asks, unit, (unsigned long long)has, unit);
	progress_tell(progress, "machine", text, 0, 0);
}

void qemu_shape_tell(const struct plan *p, const struct qemu_shape *s,
		     const struct progress *progress)
{
	tell_less(progress, "memory", " MiB", s->memory_bytes / QEMU_MIB,
		  p->limits.memory_bytes / QEMU_MIB);
	tell_less(progress, "cpu", "", s->cpus, (p->limits.cpu_milli + 999) / 1000);
}

void qemu_shape_plan(struct qemu_shape *out, const struct plan *p)
{
	*out = (struct qemu_shape){.memory_bytes = plan_memory(p), .cpus = plan_cpus(p)};
}

void qemu_shape_limits(struct plan_limits *out, const struct qemu_shape *s,
		       const struct plan_limits *l)
{
	*out = *l;
	out->memory_bytes = s->memory_bytes + SHAPE_OVERHEAD;
	out->processes = SHAPE_PROCESSES;
}

uint64_t qemu_shape_address_space(const struct qemu_shape *s)
{
	return s->memory_bytes + s->memory_bytes / SHAPE_SPACE_OF_SIZE + SHAPE_SPACE_FIXED +
	       s->cpus * SHAPE_SPACE_OF_CPU;
}
