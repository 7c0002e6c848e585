/*
 * Namespaces by names that can be compared wherever they were read: a number means something within
 * one kernel only, and a virtual machine counts from the same number as its host. Both the probes
 * and the host's suite name them so.
 */
#pragma once

#include "base/clean.h"
#include "base/mem.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SPACE_MAX 64

/* "net:[N]@BOOT", BOOT being this start of this kernel. False, and empty: it cannot be named. pid:
 * a number, or "self". */
static inline bool space_name(const char *pid, const char *kind, char out[SPACE_MAX])
{
	_cleanup_free_ char *path = mem_printf("/proc/%s/ns/%s", pid, kind);
	_cleanup_close_ int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	char boot[37] = "", link[SPACE_MAX];
	ssize_t n = readlink(path, link, sizeof(link) - 1);
	ssize_t n_boot = fd < 0 ? -1 : read(fd, boot, sizeof(boot) - 1);

	out[0] = '\0';
	if (n <= 0 || n_boot != (ssize_t)sizeof(boot) - 1)
		return false;
	link[n] = '\0';
	(void)snprintf(out, SPACE_MAX, "%.24s@%.36s", link, boot);
	return true;
}

/* Whether two of these are of the same kernel. */
static inline bool space_same_kernel(const char *a, const char *b)
{
	const char *at = strchr(a, '@'), *other = strchr(b, '@');

	return at && other && strcmp(at, other) == 0;
}
