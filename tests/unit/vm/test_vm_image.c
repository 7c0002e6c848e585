/* A root file system as an archive and as a disk, out of an archive that a human names. */
#include "vm_world.h"

#include "image/tar.h"

#include <sched.h>
#include <sys/mount.h>

#define TAR_BLOCK 512
#define TAR_END	  (2 * TAR_BLOCK)
#define BOTH	  (VM_IMAGE_TAR | VM_IMAGE_DISK)

/* An archive of one file. */
static void write_tar(const char *name, const char *text)
{
	_cleanup_close_ int fd =
		open(in_world(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(tar_file(fd, "etc/motd", 0644, str_of(text), NULL), 0);
	assert_int_equal(tar_end(fd, NULL), 0);
}

static size_t count_disks(void)
{
	_cleanup_closedir_ DIR *d = opendir(in_world("claude-bottle/vm"));
	const struct dirent *entry;
	size_t n = 0;

	while (d && (entry = readdir(d)) != NULL)
		n += str_ends(str_of(entry->d_name), STR_LIT(".sqfs"));
	return n;
}

static void test_named(void **state)
{
	_cleanup_free_ char *path = mem_strdup(in_world("root.tar")), *text = NULL;
	_cleanup_close_ int fd = -1;
	struct vm_image image, found;
	struct err e = ERR_INIT;

	(void)state;
	NEED_TOOL("tar2sqfs");
	write_tar("root.tar", "hello\n");
	assert_int_equal(vm_image_find("shell", path, BOTH, &found, &e), -ENOENT);
	assert_int_equal(vm_image_find("shell", path, VM_IMAGE_TAR, &found, NULL), 0);
	if (vm_image_ensure("shell", path, BOTH, NULL, &image, &e) < 0)
		fail_msg("%s", e.text);
	assert_string_equal(image.tar, path);
	assert_string_equal(image.name, path);
	fd = open(image.disk, O_RDONLY | O_CLOEXEC);
	text = TOOL_SAYS(fd, "rdsquashfs", "-c", "etc/motd", TOOL_FILE);
	assert_string_equal(text, "hello\n");
	assert_int_equal(lseek(fd, 0, SEEK_END), image.disk_bytes);
	assert_int_equal(vm_image_find("shell", path, VM_IMAGE_DISK, &found, NULL), 0);
	assert_string_equal(found.disk, image.disk);
	assert_string_equal(found.key, image.key);
	assert_string_equal(found.tar, "");
}

/* Another content is another image, and the old one goes; a machine that has it open keeps it. */
static void test_named_anew(void **state)
{
	_cleanup_free_ char *path = mem_strdup(in_world("root.tar")), *text = NULL;
	_cleanup_free_ char *other = mem_strdup(in_world("other.tar"));
	struct vm_image first, second;
	_cleanup_close_ int fd = -1;

	(void)state;
	NEED_TOOL("tar2sqfs");
	write_tar("root.tar", "one");
	write_tar("other.tar", "another");
	/* What a broken build has left. */
	folder_in_world("claude-bottle/vm");
	write_in_world("claude-bottle/vm/making", "half", 0600);
	assert_int_equal(vm_image_ensure("shell", other, VM_IMAGE_DISK, NULL, &first, NULL), 0);
	assert_int_equal(vm_image_ensure("shell", path, VM_IMAGE_DISK, NULL, &first, NULL), 0);
	assert_true(access(in_world("claude-bottle/vm/making"), F_OK) < 0);
	assert_int_equal(count_disks(), 2);
	fd = open(first.disk, O_RDONLY | O_CLOEXEC);
	write_tar("root.tar", "two, which is longer");
	assert_int_equal(vm_image_ensure("shell", path, VM_IMAGE_DISK, NULL, &second, NULL), 0);
	assert_string_not_equal(first.key, second.key);
	assert_int_equal(count_disks(), 2);
	assert_true(access(first.disk, F_OK) < 0);
	text = TOOL_SAYS(fd, "rdsquashfs", "-c", "etc/motd", TOOL_FILE);
	assert_string_equal(text, "one");
}

static void refuse(const char *name, int code, const char *why)
{
	struct err e = ERR_INIT;
	struct vm_image image;

	assert_int_equal(vm_image_ensure("shell", name, VM_IMAGE_DISK, NULL, &image, &e), code);
	assert_has(e.text, why);
	assert_true(access(in_world("claude-bottle/vm/making"), F_OK) < 0);
}

/* Between two files, which the tools do not notice. */
static void test_cut_off(void **state)
{
	static const off_t less[] = {1, TAR_BLOCK, TAR_END, TAR_END + 1};
	struct stat st;

	(void)state;
	write_tar("root.tar", "hello\n");
	assert_int_equal(stat(in_world("root.tar"), &st), 0);
	for (size_t i = 0; i < ARRAY_LEN(less); i++) {
		assert_int_equal(truncate(in_world("root.tar"), st.st_size - less[i]), 0);
		refuse(in_world("root.tar"), -EINVAL, "root.tar\" is cut off");
	}
}

/* The tools say of it what is no help. */
static void test_no_room(void **state)
{
	struct err e = ERR_INIT;
	struct vm_image image;
	int ret;

	(void)state;
	NEED_TOOL("tar2sqfs");
	write_tar("root.tar", "hello\n");
	if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
		print_message("no mount namespace for this user\n");
		skip();
	}
	folder_in_world("claude-bottle/vm");
	assert_int_equal(
		mount("full", in_world("claude-bottle/vm"), "tmpfs", 0, "size=4k,mode=700"), 0);
	write_in_world("claude-bottle/vm/other", "x", 0600);
	ret = vm_image_ensure("shell", in_world("root.tar"), VM_IMAGE_DISK, NULL, &image, &e);
	assert_int_equal(umount(in_world("claude-bottle/vm")), 0);
	assert_int_equal(ret, -ENOSPC);
	assert_has(e.text, "is full");
}

static void test_no_image(void **state)
{
	struct err e = ERR_INIT;
	struct vm_image image;
	_cleanup_close_ int fd = -1;

	(void)state;
	write_in_world("root.tar", "this is no archive", 0644);
	refuse(in_world("root.tar"), -EINVAL, "is no tar archive");
	refuse(in_world("gone.tar"), -ENOENT, "gone.tar");
	refuse("/dev/zero", -EINVAL, "is no tar archive");
	assert_int_equal(vm_image_find("nobody", NULL, VM_IMAGE_DISK, &image, &e), -EINVAL);
	assert_has(e.text, "nobody");
	NEED_TOOL("tar2sqfs");
	/* The head of one, and nothing behind it. */
	fd = open(in_world("cut.tar"), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	assert_int_equal(tar_file_head(fd, "a", 0644, 100000, NULL), 0);
	refuse(in_world("cut.tar"), -EINVAL, "is cut off");
	/* And an end that looks like one. */
	assert_int_equal(tar_end(fd, NULL), 0);
	refuse(in_world("cut.tar"), -EIO, "cut.tar\": tar2sqfs: ");
	assert_int_equal(count_disks(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_named, world_make, world_remove),
		cmocka_unit_test_setup_teardown(test_named_anew, world_make, world_remove),
		cmocka_unit_test_setup_teardown(test_no_image, world_make, world_remove),
		cmocka_unit_test_setup_teardown(test_cut_off, world_make, world_remove),
		/* Last: it leaves for another mount namespace. */
		cmocka_unit_test_setup_teardown(test_no_room, world_make, world_remove),
	};

	return cmocka_run_group_tests_name("vm-image", tests, NULL, NULL);
}
