/* The kernel of the distribution's for clouds, and the initramfs that it is started with here: the
 * host's own, in /boot, is for finding the host's disks. */
#include "vm/vm_int.h"

#include "base/io.h"
#include "base/mem.h"
#include "machine/machine_init.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define KERNEL_PREFIX	  "vmlinuz-"
#define KERNEL_PACKAGE	  "linux-image-cloud-amd64"
#define KERNEL_DEP_MAX	  (4u << 20)
#define KERNEL_MODULE_MAX (32u << 20)

static bool is_cloud(struct str release)
{
	for (size_t i = 0; i < release.n; i++) {
		if (!ascii_is_alnum(release.p[i]) && !strchr("-._+~", release.p[i]))
			return false;
	}
	return str_find(release, STR_LIT("-cloud-")) < release.n;
}

static char *modules_path(const char *root, const char *release, const char *name)
{
	return mem_printf("%s/lib/modules/%s/%s", root, release, name);
}

int vm_kernel_find_below(const char *root, struct vm_kernel *out, struct err *e)
{
	_cleanup_free_ char *boot = mem_printf("%s/boot", root);
	_cleanup_closedir_ DIR *d = opendir(boot);
	const struct dirent *entry;

	*out = (struct vm_kernel){.release = ""};
	while (d && (entry = readdir(d)) != NULL) {
		const char *release = entry->d_name + strlen(KERNEL_PREFIX);
		_cleanup_free_ char *dep = NULL;

		if (!str_starts(str_of(entry->d_name), STR_LIT(KERNEL_PREFIX)) ||
		    !is_cloud(str_of(release)) || strlen(release) >= sizeof(out->release) ||
		    strverscmp(release, out->release) <= 0)
			continue;
		dep = modules_path(root, release, "modules.dep");
		if (access(dep, R_OK) == 0)
			(void)snprintf(out->release, sizeof(out->release), "%s", release);
	}
	(void)snprintf(out->path, sizeof(out->path), "%s/" KERNEL_PREFIX "%s", boot, out->release);
	if (!out->release[0])
		return err_set(e, -ENOENT,
			       "no kernel for a machine: %s has no vmlinuz-*-cloud-* whose modules "
			       "are there (package " KERNEL_PACKAGE ")",
			       boot);
	return access(out->path, R_OK) < 0 ? err_errno(e, "read the kernel \"%s\"", out->path) : 0;
}

int vm_kernel_find(struct vm_kernel *out, struct err *e)
{
	return vm_kernel_find_below("", out, e);
}

/* --- the initramfs --- */

struct initramfs {
	int fd;
	unsigned n; /* entries */
};

static int add(struct initramfs *i, const char *name, unsigned mode, struct str data, struct err *e)
{
	return vm_cpio_put(i->fd, ++i->n, name, mode, data, e);
}

static int add_base(struct initramfs *i, struct err *e)
{
	static const char *const folders[] = {"dev", "proc", "sys", "image", "program", "modules"};
	int ret = add(i, "init", S_IFREG | 0555,
		      str_slice((const char *)machine_init, machine_init_size), e);

	for (size_t n = 0; ret == 0 && n < ARRAY_LEN(folders); n++)
		ret = add(i, folders[n], S_IFDIR | 0755, STR_NULL, e);
	return ret;
}

static const char *last_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static int add_module(struct initramfs *i, const char *root, const char *release, const char *path,
		      struct err *e)
{
	_cleanup_free_ char *from = modules_path(root, release, path);
	_cleanup_free_ char *to = mem_printf("modules/%s", last_name(path));
	struct str data;
	int ret = io_read_file(AT_FDCWD, from, KERNEL_MODULE_MAX, &data, e);

	if (ret < 0)
		return ret;
	ret = add(i, to, S_IFREG | 0444, data, e);
	free((char *)data.p);
	return ret;
}

static int add_modules(struct initramfs *i, const char *root, const char *release,
		       const struct vm_modules *m, struct err *e)
{
	_cleanup_(buf_free) struct buf order = BUF_INIT(65536);
	int ret = 0;

	for (size_t n = 0; n < m->n; n++) {
		if (buf_printf(&order, "%s\n", last_name(m->paths[n])) < 0)
			return err_set(e, -ENOBUFS, "the names of the modules are too long");
	}
	ret = add(i, "modules/order", S_IFREG | 0444, buf_str(&order), e);
	for (size_t n = 0; ret == 0 && n < m->n; n++)
		ret = add_module(i, root, release, m->paths[n], e);
	return ret;
}

static int resolve(const char *root, const char *release, struct vm_modules *out, struct err *e)
{
	_cleanup_free_ char *dep = modules_path(root, release, "modules.dep");
	_cleanup_free_ char *builtin = modules_path(root, release, "modules.builtin");
	struct str of_dep, of_builtin;
	int ret = io_read_file(AT_FDCWD, dep, KERNEL_DEP_MAX, &of_dep, e);

	if (ret < 0)
		return ret;
	ret = io_read_file(AT_FDCWD, builtin, KERNEL_DEP_MAX, &of_builtin, e);
	if (ret == 0) {
		ret = vm_modules_resolve(of_dep, of_builtin, out, e);
		free((char *)of_builtin.p);
	}
	free((char *)of_dep.p);
	return ret < 0 ? err_prefix(e, "kernel %s", release), ret : 0;
}

int vm_initramfs_make_below(const char *root, const struct vm_kernel *k, int *fd,
			    char key[VM_KEY_SIZE], struct err *e)
{
	_cleanup_close_ int file = memfd_create("initramfs", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	_cleanup_(vm_modules_free) struct vm_modules m = {.n = 0};
	struct initramfs i = {.fd = file};
	int ret;

	*fd = -1;
	if (file < 0)
		return err_errno(e, "make an initramfs");
	ret = resolve(root, k->release, &m, e);
	if (ret == 0)
		ret = add_base(&i, e);
	if (ret == 0)
		ret = add_modules(&i, root, k->release, &m, e);
	if (ret == 0)
		ret = vm_cpio_end(file, e);
	if (ret == 0)
		ret = image_sha256_file(file, key, NULL, e);
	if (ret < 0)
		return ret;
	if (lseek(file, 0, SEEK_SET) < 0 ||
	    fcntl(file, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
		return err_errno(e, "seal an initramfs");
	*fd = vm_reopen(file, e);
	return *fd < 0 ? *fd : 0;
}

int vm_initramfs_make(const struct vm_kernel *k, int *fd, char key[VM_KEY_SIZE], struct err *e)
{
	return vm_initramfs_make_below("", k, fd, key, e);
}
