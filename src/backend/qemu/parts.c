/* What a machine is started from. Everything is a descriptor that the keeper has opened: QEMU's uid
 * may walk to none of these files. */
#include "backend/qemu/qemu_int.h"

#include "base/clean.h"
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

void qemu_parts_init(struct qemu_parts *p)
{
	*p = (struct qemu_parts){.kernel_fd = -1, .initramfs_fd = -1, .use_fd = -1};
	for (size_t i = 0; i < QEMU_DISKS; i++)
		p->disk_fds[i] = -1;
}

void qemu_parts_free(struct qemu_parts *p)
{
	close_fd(&p->kernel_fd);
	close_fd(&p->initramfs_fd);
	close_fd(&p->use_fd);
	for (size_t i = 0; i < QEMU_DISKS; i++)
		close_fd(&p->disk_fds[i]);
}

/* QEMU opens it by the descriptor's path, anew: which its uid and its rules allow of a memory file,
 * and not of one in /boot. */
static int open_kernel(struct qemu_parts *p, struct err *e)
{
	_cleanup_close_ int file = open(p->kernel.path, O_RDONLY | O_CLOEXEC);
	_cleanup_close_ int copy = memfd_create("kernel", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct stat st;
	ssize_t put = 1;

	if (file < 0 || copy < 0 || fstat(file, &st) < 0)
		return err_errno(e, "open the kernel \"%s\"", p->kernel.path);
	for (off_t done = 0; put > 0 && done < st.st_size;)
		put = sendfile(copy, file, &done, (size_t)(st.st_size - done));
	if (put < 0 ||
	    fcntl(copy, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
		return err_errno(e, "copy the kernel");
	p->kernel_fd = take_fd(&copy);
	return 0;
}

static int open_image(struct qemu_parts *p, struct err *e)
{
	p->disk_fds[QEMU_IMAGE] = open(p->image.disk, O_RDONLY | O_CLOEXEC);
	return p->disk_fds[QEMU_IMAGE] < 0 ? err_errno(e, "open \"%s\"", p->image.disk) : 0;
}

int qemu_parts_open(struct qemu_parts *parts, const struct plan *p, bool may_make,
		    const struct progress *progress, struct err *e)
{
	int ret = vm_kernel_find(&parts->kernel, e);

	if (ret == 0)
		ret = open_kernel(parts, e);
	if (ret == 0)
		ret = vm_initramfs_make(&parts->kernel, &parts->initramfs_fd, parts->initramfs_key,
					e);
	if (ret == 0 && may_make)
		ret = vm_image_ensure(p->provider, p->image, VM_IMAGE_DISK, progress, &parts->image,
				      e);
	else if (ret == 0)
		ret = vm_image_find(p->provider, p->image, VM_IMAGE_DISK, &parts->image, e);
	if (ret == 0)
		ret = vm_use(parts->image.key, &parts->use_fd, e);
	if (ret == 0)
		ret = open_image(parts, e);
	if (ret == 0)
		ret = vm_disk_program(&parts->disk_fds[QEMU_BUNDLE], parts->program_key, e);
	return ret == 0 ? vm_use(parts->program_key, &parts->use_fd, e) : ret;
}

/* A hole, in memory. */
static int open_blank(uint64_t bytes, bool is_writable, int *out, struct err *e)
{
	_cleanup_close_ int disk = memfd_create("blank", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (disk < 0 || ftruncate(disk, (off_t)bytes) < 0)
		return err_errno(e, "make an empty disk");
	if (is_writable) {
		*out = take_fd(&disk);
		return 0;
	}
	*out = vm_reopen(disk, e);
	return *out < 0 ? *out : 0;
}

int qemu_parts_expose(struct qemu_parts *parts, const struct plan *p, struct err *e)
{
	int *disk = &parts->disk_fds[QEMU_EXPOSE];

	return p && p->n_expose > 0 ? vm_disk_expose(p->expose, p->n_expose, VM_DISK_BYTES, disk, e)
				    : open_blank(VM_DISK_BYTES, false, disk, e);
}

int qemu_parts_blank(struct qemu_parts *parts, struct err *e)
{
	int ret = open_blank(VM_HOME_BYTES, true, &parts->disk_fds[QEMU_HOME_DISK], e);

	return ret == 0 ? qemu_parts_expose(parts, NULL, e) : ret;
}
