/* The disks of a machine, read back with the tools of their file systems. */
#include "vm_world.h"

#include "base/timeutil.h"
#include "image/program.h"

static off_t size_of(int fd)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	return st.st_size;
}

static void assert_read_only(int fd)
{
	assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
}

/* --- what is exposed --- */

#define EXPOSE(n_max, fd, e, ...)                                                                  \
	vm_disk_expose((char *const[]){__VA_ARGS__},                                               \
		       sizeof((char *[]){__VA_ARGS__}) / sizeof(char *), (n_max), (fd), (e))

static char *path_of(const char *name)
{
	return mem_strdup(in_world(name));
}

static void test_expose(void **state)
{
	char deep[300];
	_cleanup_free_ char *tools = path_of("tools"), *file = path_of("one file");
	_cleanup_free_ char *list = NULL, *text = NULL, *inner = NULL, *line = NULL;
	_cleanup_close_ int fd = -1;
	struct err e = ERR_INIT;

	(void)state;
	NEED_TOOL("tar2sqfs");
	/* Longer than ustar's names. */
	(void)snprintf(deep, sizeof(deep), "tools/%0120d/%0100d", 1, 2);
	folder_in_world(deep);
	write_in_world("tools/run", "#!/bin/sh\n", 04755);
	write_in_world("one file", "content", 0640);
	assert_int_equal(symlink("run", in_world("tools/link")), 0);
	assert_int_equal(mkfifo(in_world("tools/fifo"), 0600), 0);
	if (EXPOSE(1u << 20, &fd, &e, tools, file) < 0)
		fail_msg("%s", e.text);
	assert_read_only(fd);
	assert_int_equal(size_of(fd), VM_DISK_BYTES);
	list = TOOL_SAYS(fd, "rdsquashfs", "-d", TOOL_FILE);
	line = mem_printf("file %s/run 0755 0 0\n", tools + 1);
	assert_has(list, line);
	assert_has(list, "/link 0777 0 0 run\n");
	assert_null(strstr(list, "fifo"));
	(void)snprintf(deep, sizeof(deep), "/%0120d/%0100d 0755 0 0", 1, 2);
	assert_has(list, deep);
	text = TOOL_SAYS(fd, "rdsquashfs", "-c", file, TOOL_FILE);
	assert_string_equal(text, "content");
	inner = mem_printf("%s/run", tools);
	free(text);
	text = TOOL_SAYS(fd, "rdsquashfs", "-c", inner, TOOL_FILE);
	assert_string_equal(text, "#!/bin/sh\n");
}

static void test_expose_nothing(void **state)
{
	_cleanup_free_ char *list = NULL;
	_cleanup_close_ int fd = -1;

	(void)state;
	NEED_TOOL("tar2sqfs");
	assert_int_equal(vm_disk_expose(NULL, 0, 0, &fd, NULL), 0);
	assert_int_equal(size_of(fd), VM_DISK_BYTES);
	list = TOOL_SAYS(fd, "rdsquashfs", "-d", TOOL_FILE);
	assert_null(strstr(list, "file"));
}

/* The same twice, the one within the other, and a link that is named, whose content is shown. */
static void test_expose_twice(void **state)
{
	_cleanup_free_ char *a = path_of("a"), *b = path_of("a/b"), *again = path_of("a/");
	_cleanup_free_ char *link = path_of("link"), *text = NULL, *list = NULL;
	_cleanup_close_ int fd = -1;
	struct err e = ERR_INIT;

	(void)state;
	NEED_TOOL("tar2sqfs");
	folder_in_world("a/b");
	write_in_world("a/b/c", "once", 0644);
	assert_int_equal(symlink("a", link), 0);
	if (EXPOSE(1u << 20, &fd, &e, b, a, again, link) < 0)
		fail_msg("%s", e.text);
	text = path_of("a/b/c");
	list = TOOL_SAYS(fd, "rdsquashfs", "-c", text, TOOL_FILE);
	assert_string_equal(list, "once");
	free(text);
	free(list);
	text = mem_printf("%s/b/c", link);
	list = TOOL_SAYS(fd, "rdsquashfs", "-c", text, TOOL_FILE);
	assert_string_equal(list, "once");
}

static void test_expose_refusals(void **state)
{
	_cleanup_free_ char *large = path_of("large"), *gone = path_of("gone");
	_cleanup_close_ int fd = -1;
	struct err e = ERR_INIT;

	(void)state;
	write_in_world("large", "", 0644);
	assert_int_equal(truncate(large, 3 << 20), 0);
	assert_int_equal(EXPOSE(2u << 20, &fd, &e, large), -EFBIG);
	assert_has(e.text, "larger than 2 MB");
	assert_has(e.text, large);
	e = ERR_INIT;
	assert_int_equal(EXPOSE(2u << 20, &fd, &e, gone), -ENOENT);
	assert_has(e.text, gone);
	e = ERR_INIT;
	assert_int_equal(EXPOSE(2u << 20, &fd, &e, (char *)"relative"), -EINVAL);
	e = ERR_INIT;
	assert_int_equal(EXPOSE(2u << 20, &fd, &e, (char *)"/tmp/../etc"), -EINVAL);
	assert_int_equal(fd, -1);
	if (geteuid() == 0)
		return;
	write_in_world("secret", "mine", 0000);
	e = ERR_INIT;
	free(gone);
	gone = path_of("secret");
	assert_int_equal(EXPOSE(2u << 20, &fd, &e, gone), -EACCES);
	assert_has(e.text, "secret");
}

/* --- the home --- */

static void test_home(void **state)
{
	const char *path = in_world("home.img");
	_cleanup_free_ char *super = NULL, *root = NULL;
	_cleanup_close_ int fd = -1, again = -1;
	struct err e = ERR_INIT;
	struct stat st;

	(void)state;
	NEED_TOOL("mkfs.ext4");
	if (vm_disk_home(path, VM_HOME_BYTES, 1000, 1001, &fd, &e) < 0)
		fail_msg("%s", e.text);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, VM_HOME_BYTES);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_true(st.st_blocks * 512 < 8 << 20);
	super = TOOL_SAYS(fd, "dumpe2fs", TOOL_FILE);
	assert_has(super, "Block size:               4096\n");
	assert_has(super, "Filesystem state:         clean\n");
	assert_has(super, "has_journal");
	assert_has(super, "ITABLE_ZEROED");
	root = TOOL_SAYS(fd, "debugfs", "-R", "stat /", TOOL_FILE);
	assert_has(root, "User:  1000   Group:  1001");
	/* Not again. */
	assert_int_equal(pwrite(fd, "mark", 4, 0), 4);
	assert_int_equal(vm_disk_home(path, VM_HOME_BYTES, 1, 1, &again, NULL), 0);
	assert_int_equal(fcntl(again, F_GETFL) & O_ACCMODE, O_RDWR);
	assert_int_equal(pread(again, (char[4]){0}, 4, 0), 4);
	assert_int_equal(fstat(again, &st), 0);
	assert_true(access(in_world("home.img.new"), F_OK) < 0);
}

static void test_home_refusals(void **state)
{
	_cleanup_close_ int fd = -1;
	struct err e = ERR_INIT;

	(void)state;
	NEED_TOOL("mkfs.ext4");
	assert_int_equal(vm_disk_home(in_world("gone/home"), VM_HOME_BYTES, 0, 0, &fd, &e),
			 -ENOENT);
	e = ERR_INIT;
	assert_int_equal(symlink("/etc/passwd", in_world("link")), 0);
	assert_true(vm_disk_home(in_world("link"), VM_HOME_BYTES, 0, 0, &fd, &e) < 0);
	e = ERR_INIT;
	assert_int_equal(mkfifo(in_world("fifo"), 0600), 0);
	assert_int_equal(vm_disk_home(in_world("fifo"), VM_HOME_BYTES, 0, 0, &fd, &e), -EPERM);
	/* A tool that fails says why, and leaves nothing. */
	e = ERR_INIT;
	assert_true(vm_disk_home(in_world("small"), 4096, 0, 0, &fd, &e) < 0);
	assert_has(e.text, "mkfs.ext4: ");
	assert_true(access(in_world("small"), F_OK) < 0);
	assert_true(access(in_world("small.new"), F_OK) < 0);
	assert_int_equal(fd, -1);
}

/* --- the program --- */

static void test_program(void **state)
{
	char key[VM_KEY_SIZE], again[VM_KEY_SIZE], hex[SHA256_HEX_SIZE], own[SHA256_HEX_SIZE];
	_cleanup_close_ int fd = -1, second = -1, content = memfd_create("content", MFD_CLOEXEC);
	_cleanup_free_ char *list = NULL, *name = NULL;
	struct err e = ERR_INIT;
	struct stat a, b;

	(void)state;
	NEED_TOOL("tar2sqfs");
	assert_int_equal(setenv("CLAUDE_BOTTLE_BUNDLE", "/proc/self/exe", 1), 0);
	if (vm_disk_program(&fd, key, &e) < 0)
		fail_msg("%s", e.text);
	assert_read_only(fd);
	list = TOOL_SAYS(fd, "rdsquashfs", "-d", TOOL_FILE);
	assert_has(list, "file claude-bottle-bundle 0555 0 0\n");
	/* The second one is of the cache. */
	assert_int_equal(vm_disk_program(&second, again, NULL), 0);
	assert_string_equal(key, again);
	assert_true(fstat(fd, &a) == 0 && fstat(second, &b) == 0 && a.st_ino == b.st_ino);
	name = mem_printf("claude-bottle/vm/program-%s.sqfs", key);
	assert_int_equal(access(in_world(name), F_OK), 0);
	/* What is in it is what the hash is of. */
	assert_int_equal(
		tool_do(&(struct tool){.argv = (const char *const[]){tool_find("rdsquashfs"), "-c",
								     "claude-bottle-bundle",
								     TOOL_FILE, NULL},
				       .package = "",
				       .in_fd = -1,
				       .out_fd = content,
				       .file_fd = fd},
			30000, &e),
		0);
	assert_int_equal(image_sha256_file(content, own, NULL, NULL), 0);
	assert_int_equal(image_program_digest(hex, NULL), 0);
	assert_string_equal(own, hex);
}

/* Without a cache it is made anew. */
static void test_program_without_cache(void **state)
{
	_cleanup_close_ int fd = -1;
	char key[VM_KEY_SIZE];

	(void)state;
	NEED_TOOL("tar2sqfs");
	assert_int_equal(setenv("XDG_CACHE_HOME", "/proc/nothing", 1), 0);
	assert_int_equal(vm_disk_program(&fd, key, NULL), 0);
	assert_read_only(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_expose, world_make, world_remove),
		cmocka_unit_test_setup_teardown(test_expose_nothing, world_make, world_remove),
		cmocka_unit_test_setup_teardown(test_expose_twice, world_make, world_remove),
		cmocka_unit_test_setup_teardown(test_expose_refusals, world_make, world_remove),
		cmocka_unit_test_setup_teardown(test_home, world_make, world_remove),
		cmocka_unit_test_setup_teardown(test_home_refusals, world_make, world_remove),
		cmocka_unit_test_setup_teardown(test_program, world_make, world_remove),
		cmocka_unit_test_setup_teardown(test_program_without_cache, world_make,
						world_remove),
	};

	return cmocka_run_group_tests_name("vm-disk", tests, NULL, NULL);
}
