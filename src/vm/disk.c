/* The disks beside the image: the bundle's executable, and the agent's home. */
#include "vm/vm_int.h"

#include "base/io.h"
#include "base/mem.h"
#include "bundle/program.h"
#include "image/program.h"
#include "image/tar.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define PROGRAM_PREFIX	 VM_PROGRAM_GROUP "-"
#define PROGRAM_FORMAT	 "claude-bottle program disk 1"
#define PROGRAM_DISK_MAX (512u << 20)

static int program_make(const struct image_program *program, struct err *e)
{
	_cleanup_close_ int tar = -1,
			    disk = memfd_create("program", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int ret;

	tar = memfd_create("program.tar", MFD_CLOEXEC);
	if (tar < 0 || disk < 0)
		return err_errno(e, "make a disk for " BUNDLE_PROGRAM);
	ret = tar_file(tar, BUNDLE_PROGRAM, 0555, str_slice(program->data, program->n), e);
	if (ret == 0)
		ret = tar_end(tar, e);
	if (ret == 0)
		ret = vm_squash(tar, disk, e);
	return ret < 0 ? ret : take_fd(&disk);
}

/* Under its name in the cache for the next start; where that cannot be, the one in memory. */
static int program_keep(int folder, const char *name, int disk, struct err *e)
{
	struct str data;
	int ret, fd;

	if (lseek(disk, 0, SEEK_SET) < 0)
		return err_errno(e, "rewind a disk");
	ret = io_read_all(disk, PROGRAM_DISK_MAX, &data, e);
	if (ret < 0)
		return ret;
	ret = io_write_file_atomic(folder, name, data, 0400, NULL);
	free((char *)data.p);
	fd = ret == 0 ? vm_store_file(folder, name) : -1;
	if (fd < 0)
		return vm_reopen(disk, e);
	vm_store_prune(folder, PROGRAM_PREFIX, VM_DISK_SUFFIX, name);
	return fd;
}

static int program_key(char hex[SHA256_HEX_SIZE], char key[VM_KEY_SIZE], struct err *e)
{
	int ret = image_program_digest(hex, e);

	return ret == 0 ? vm_key(key, (const char *const[]){PROGRAM_FORMAT, hex}, 2, e) : ret;
}

bool vm_disk_is_program(const char *stem)
{
	char hex[SHA256_HEX_SIZE], key[VM_KEY_SIZE];
	_cleanup_free_ char *name = NULL;

	if (program_key(hex, key, NULL) < 0)
		return true;
	name = mem_printf(PROGRAM_PREFIX "%s", key);
	return strcmp(stem, name) == 0;
}

int vm_disk_program(int *fd, char key[VM_KEY_SIZE], struct err *e)
{
	_cleanup_(image_program_free) struct image_program program = {.data = NULL};
	_cleanup_close_ int folder = vm_store_open(NULL), disk = -1;
	_cleanup_free_ char *name = NULL;
	char hex[SHA256_HEX_SIZE];
	int ret = program_key(hex, key, e);

	*fd = -1;
	if (ret < 0)
		return ret;
	name = mem_printf(PROGRAM_PREFIX "%s" VM_DISK_SUFFIX, key);
	*fd = folder >= 0 ? vm_store_file(folder, name) : -1;
	if (*fd >= 0)
		return 0;
	ret = image_program_load(&program, e);
	if (ret < 0)
		return ret;
	if (strcmp(program.hash, hex) != 0)
		return err_set(e, -EAGAIN, BUNDLE_PROGRAM " was replaced just now: try again");
	disk = program_make(&program, e);
	if (disk < 0)
		return disk;
	*fd = program_keep(folder, name, disk, e);
	return *fd < 0 ? *fd : 0;
}

/* --- the home --- */

/* Only features that every ext4 of the last ten years has: the guest's kernel is not the host's.
 * With "discard" the tables of a file that is a hole are known to be zero, so that the guest need
 * not write them. */
static int home_format(int file, unsigned uid, unsigned gid, struct err *e)
{
	_cleanup_free_ char *extended = mem_printf(
		"root_owner=%u:%u,lazy_itable_init=1,lazy_journal_init=1,discard", uid, gid);
	const char *const argv[] = {
		"mkfs.ext4",
		"-F",
		"-q",
		"-m",
		"0",
		"-b",
		"4096",
		"-J",
		"size=16",
		"-E",
		extended,
		"-O",
		"none,has_journal,ext_attr,dir_index,filetype,extent,flex_bg,sparse_super,"
		"large_file,huge_file,dir_nlink,extra_isize,uninit_bg",
		TOOL_FILE,
		NULL};

	return vm_tool_do(argv, -1, file, e);
}

static int home_make(const char *path, uint64_t size_bytes, unsigned uid, unsigned gid,
		     struct err *e)
{
	_cleanup_free_ char *making = mem_printf("%s.new", path);
	_cleanup_close_ int fd = -1;
	int ret;

	/* What a broken start has left. */
	(void)unlink(making);
	fd = open(making, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return err_errno(e, "make \"%s\"", making);
	if (ftruncate(fd, (off_t)size_bytes) < 0)
		ret = err_errno(e, "make \"%s\" %" PRIu64 " bytes long", making, size_bytes);
	else
		ret = home_format(fd, uid, gid, e);
	if (ret == 0 && rename(making, path) < 0)
		ret = err_errno(e, "rename \"%s\"", making);
	if (ret < 0) {
		(void)unlink(making);
		return ret;
	}
	return take_fd(&fd);
}

int vm_disk_home(const char *path, uint64_t size_bytes, unsigned uid, unsigned gid, int *fd,
		 struct err *e)
{
	_cleanup_close_ int found = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stat st;

	*fd = -1;
	if (found < 0 && errno == ENOENT)
		found = home_make(path, size_bytes, uid, gid, e);
	else if (found < 0)
		return err_errno(e, "open the home's disk \"%s\"", path);
	if (found < 0)
		return found;
	if (fstat(found, &st) < 0 || !S_ISREG(st.st_mode) || st.st_uid != geteuid())
		return err_set(e, -EPERM, "the home's disk \"%s\" is no file of ours", path);
	*fd = take_fd(&found);
	return 0;
}
