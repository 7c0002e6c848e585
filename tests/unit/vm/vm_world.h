/* A cache of its own for each test of src/vm/, and what the distribution's tools say of a file. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "vm/vm_int.h"

#include "base/io.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

static char vm_world[32]; /* a folder */

__attribute__((unused)) static int world_make(void **state)
{
	(void)state;
	(void)snprintf(vm_world, sizeof(vm_world), "/tmp/cb-vm-XXXXXX");
	return mkdtemp(vm_world) && setenv("XDG_CACHE_HOME", vm_world, 1) == 0 ? 0 : -1;
}

__attribute__((unused)) static int world_remove(void **state)
{
	(void)state;
	return io_remove_tree(AT_FDCWD, vm_world, NULL);
}

/* A path in the world, good for two at a time. */
__attribute__((unused)) static const char *in_world(const char *name)
{
	static char paths[2][1024];
	static unsigned n;
	char *path = paths[n++ % 2];

	(void)snprintf(path, sizeof(paths[0]), "%s/%s", vm_world, name);
	return path;
}

__attribute__((unused)) static void write_in_world(const char *name, const char *text, mode_t mode)
{
	_cleanup_close_ int fd =
		open(in_world(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(io_write_all(fd, text, strlen(text)), 0);
	assert_int_equal(fchmod(fd, mode), 0);
}

__attribute__((unused)) static void folder_in_world(const char *name)
{
	assert_int_equal(io_mkdir_p(in_world(name), 0755, NULL), 0);
}

/* What a tool says of a file, which it finds as TOOL_FILE or as its standard input. The caller
 * frees. Skips the test where the tool is missing. */
__attribute__((unused)) static char *tool_says(const char *const *argv, int fd)
{
	_cleanup_close_ int out = memfd_create("out", MFD_CLOEXEC);
	const char *all[12] = {tool_find(argv[0])};
	struct err e = ERR_INIT;
	struct str text;

	if (!all[0]) {
		print_message("%s is missing\n", argv[0]);
		skip();
	}
	for (size_t i = 1; argv[i]; i++)
		all[i] = argv[i];
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	if (tool_do(&(struct tool){.argv = all,
				   .package = argv[0],
				   .in_fd = fd,
				   .out_fd = out,
				   .file_fd = fd},
		    30000, &e) < 0)
		fail_msg("%s", e.text);
	assert_int_equal(lseek(out, 0, SEEK_SET), 0);
	assert_int_equal(io_read_all(out, 64u << 20, &text, NULL), 0);
	return (char *)text.p;
}
#define TOOL_SAYS(fd, ...) tool_says((const char *const[]){__VA_ARGS__, NULL}, (fd))

__attribute__((unused)) static void assert_has(const char *text, const char *part)
{
	if (!strstr(text, part))
		fail_msg("\"%s\" is not in:\n%s", part, text);
}

__attribute__((unused)) static bool has_tool(const char *name)
{
	return tool_find(name) != NULL;
}

/* For a test that needs this tool. */
#define NEED_TOOL(name)                                                                            \
	do {                                                                                       \
		if (!has_tool(name)) {                                                             \
			print_message("%s is missing\n", name);                                    \
			skip();                                                                    \
		}                                                                                  \
	} while (0)
