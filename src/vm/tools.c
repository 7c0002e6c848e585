/* The distribution's tools, and the package of each. */
#include "vm/vm_int.h"

#include <errno.h>

static const struct {
	const char *name, *package;
} tools[] = {
	{"tar2sqfs", "squashfs-tools-ng"},
	{"mkfs.ext4", "e2fsprogs"},
	{"mmdebstrap", "mmdebstrap"},
	{"curl", "curl"},
	{"tar", "tar"},
	{"sh", "dash"},
};

const char *vm_tool_find(const char *name)
{
	return tool_find(name);
}

int vm_tool_do(const char *const *argv, int in_fd, int file_fd, struct err *e)
{
	const char *all[32], *path = vm_tool_find(argv[0]), *package = argv[0];
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_LEN(tools); i++) {
		if (strcmp(argv[0], tools[i].name) == 0)
			package = tools[i].package;
	}
	if (!path)
		return err_set(e, -ENOENT, "%s is not installed (package %s)", argv[0], package);
	all[n++] = path;
	for (size_t i = 1; argv[i] && n < ARRAY_LEN(all) - 1; i++)
		all[n++] = argv[i];
	all[n] = NULL;
	return tool_do(&(struct tool){.argv = all,
				      .package = package,
				      .in_fd = in_fd,
				      .out_fd = -1,
				      .file_fd = file_fd},
		       VM_TOOL_MS, e);
}

/* lz4, since what a machine waits for is its emulated processor, and no record of an archive is
 * passed over in silence. */
int vm_squash(int tar_fd, int out_fd, struct err *e)
{
	static const char *const argv[] = {"tar2sqfs",	   "--quiet", "--force", "--no-skip",
					   "--compressor", "lz4",     TOOL_FILE, NULL};

	if (lseek(tar_fd, 0, SEEK_SET) < 0)
		return err_errno(e, "rewind an archive");
	return vm_tool_do(argv, tar_fd, out_fd, e);
}
