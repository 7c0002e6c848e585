/* What is said of the store, what is removed of it, and what is left alone. Files stand for images.
 */
#include "vm_world.h"

#include "vm/image_int.h"

#include "base/cache.h"
#include "image/tar.h"

#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define STORE "claude-bottle/vm/"
#define KEY16 "0123456789abcdef"
#define KEY   KEY16 KEY16 KEY16 KEY16
#define HEX16 "fedcba9876543210"
#define OTHER HEX16 HEX16 HEX16 HEX16
#define SHORT KEY16 KEY16
#define BASE  HEX16 HEX16
#define DISK  "tar-" HEX16 "-" KEY ".sqfs"
#define TAR   "tar-" HEX16 "-" KEY ".tar"
#define NAME  "tar-" HEX16 ".name"
#define LAYER "layer-" KEY
#define STATE SHORT "." BASE ".256m.1c.tcg.state"
#define ALONE BASE "." BASE ".256m.1c.tcg.state"

static int world_fill(void **state)
{
	if (world_make(state) < 0)
		return -1;
	folder_in_world("claude-bottle/vm");
	write_in_world(STORE DISK, "a disk", 0600);
	write_in_world(STORE TAR, "an archive", 0600);
	write_in_world(STORE NAME, "/home/u/root\x1b.tar", 0600);
	write_in_world(STORE LAYER, "a digest", 0600);
	write_in_world(STORE STATE, "a snapshot", 0600);
	write_in_world(STORE ALONE, "a snapshot", 0600);
	return 0;
}

static bool is_there(const char *name)
{
	_cleanup_free_ char *path = mem_printf(STORE "%s", name);
	struct stat st;

	return lstat(in_world(path), &st) == 0;
}

static size_t list_all(struct vm_stock **list)
{
	struct err e = ERR_INIT;
	size_t n;

	if (vm_stock_list(list, &n, &e) < 0)
		fail_msg("%s", e.text);
	return n;
}

static const struct vm_stock *find(const struct vm_stock *list, size_t n, const char *file)
{
	for (size_t i = 0; i < n; i++) {
		if (strcmp(list[i].file, file) == 0)
			return &list[i];
	}
	return NULL;
}

static void age(const char *name, time_t seconds)
{
	const struct timespec t[] = {{.tv_sec = seconds}, {.tv_sec = seconds}};
	_cleanup_free_ char *path = mem_printf(STORE "%s", name);

	assert_int_equal(utimensat(AT_FDCWD, in_world(path), t, AT_SYMLINK_NOFOLLOW), 0);
}

static void test_lists(void **state)
{
	_cleanup_free_ struct vm_stock *list = NULL;
	const struct vm_stock *x;
	size_t n;

	(void)state;
	age(DISK, 1000000000);
	age(STATE, 1100000000);
	n = list_all(&list);
	assert_int_equal(n, 4);
	assert_string_equal(list[3].file, DISK);
	assert_string_equal(list[2].file, STATE);
	x = find(list, n, DISK);
	assert_int_equal(x->kind, VM_STOCK_DISK);
	assert_string_equal(x->name, "/home/u/root\x1b.tar");
	assert_int_equal(x->made_s, 1000000000);
	assert_int_equal(x->used_s, 1000000000);
	assert_false(x->is_used);
	/* The archive is not there, so that no start can name it. */
	assert_false(x->is_current);
	x = find(list, n, STATE);
	assert_int_equal(x->kind, VM_STOCK_SNAPSHOT);
	assert_string_equal(x->name, "/home/u/root\x1b.tar");
	assert_string_equal(find(list, n, ALONE)->name, "");
	assert_false(find(list, n, ALONE)->is_current);
	assert_int_equal(find(list, n, TAR)->kind, VM_STOCK_TAR);
}

/* Names that are nearly ours, links, folders, and what is somebody else's. */
static void test_leaves_alone_what_is_not_ours(void **state)
{
	static const char *const names[] = {
		"tar-" HEX16 "-" KEY ".sqfs.old",
		"-" KEY ".sqfs",
		KEY ".sqfs",
		"Tar-" KEY ".sqfs",
		"tar-" KEY16 ".sqfs",
		"a b-" KEY ".sqfs",
		"tar-0123456789ABCDEF" KEY16 KEY16 KEY16 ".tar",
		SHORT ".state",
		KEY16 "." BASE ".state",
		".state",
		".sqfs",
		"making.sqfs",
	};
	_cleanup_free_ struct vm_stock *list = NULL;
	struct err e = ERR_INIT;
	size_t n, before;

	(void)state;
	before = list_all(&list);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		_cleanup_free_ char *path = mem_printf(STORE "%s", names[i]);

		write_in_world(path, "x", 0600);
		assert_int_equal(vm_stock_remove(names[i], NULL), -EINVAL);
	}
	write_in_world("elsewhere", "x", 0600);
	assert_int_equal(symlink(in_world("elsewhere"), in_world(STORE "link-" KEY ".sqfs")), 0);
	folder_in_world(STORE "folder-" KEY ".sqfs");
	assert_int_equal(mkfifo(in_world(STORE "fifo-" KEY ".sqfs"), 0600), 0);
	free(take_ptr(&list));
	n = list_all(&list);
	assert_int_equal(n, before);
	assert_int_equal(vm_stock_remove("link-" KEY ".sqfs", NULL), -EPERM);
	assert_int_equal(vm_stock_remove("folder-" KEY ".sqfs", NULL), -EPERM);
	assert_int_equal(vm_stock_remove("../vm/" DISK, &e), -EINVAL);
	assert_int_equal(vm_stock_remove("../elsewhere", NULL), -EINVAL);
	assert_int_equal(vm_stock_sweep(false, &n, NULL), 0);
	assert_int_equal(n, 0);
	assert_true(access(in_world("elsewhere"), F_OK) == 0 && is_there(DISK));
	assert_true(is_there("link-" KEY ".sqfs") && is_there("folder-" KEY ".sqfs"));
	/* The name of an image is not read through a link. */
	assert_int_equal(unlink(in_world(STORE NAME)), 0);
	assert_int_equal(symlink(in_world("elsewhere"), in_world(STORE NAME)), 0);
	free(take_ptr(&list));
	n = list_all(&list);
	assert_string_equal(find(list, n, DISK)->name, "tar-" HEX16);
	/* Nobody knows any more whether a start might name it. */
	assert_true(find(list, n, DISK)->is_current);
}

static void test_a_store_that_is_a_link(void **state)
{
	struct vm_stock *list;
	size_t n;

	(void)state;
	assert_int_equal(rename(in_world("claude-bottle/vm"), in_world("elsewhere")), 0);
	assert_int_equal(vm_stock_list(&list, &n, NULL), 0);
	assert_int_equal(n, 0);
	assert_true(access(in_world("claude-bottle/vm"), F_OK) < 0);
	free(list);
	assert_int_equal(symlink(in_world("elsewhere"), in_world("claude-bottle/vm")), 0);
	assert_true(vm_stock_list(&list, &n, NULL) < 0);
	assert_true(vm_stock_sweep(false, &n, NULL) < 0);
	assert_true(vm_stock_remove(DISK, NULL) < 0);
}

static void test_removes_an_image_with_what_stands_on_it(void **state)
{
	(void)state;
	assert_int_equal(vm_stock_remove(DISK, NULL), 0);
	assert_true(!is_there(DISK) && !is_there(STATE));
	assert_true(is_there(TAR) && is_there(NAME) && is_there(LAYER) && is_there(ALONE));
	/* Gone with its disk. */
	assert_int_equal(vm_stock_remove(STATE, NULL), 0);
	assert_int_equal(vm_stock_remove(TAR, NULL), 0);
	assert_true(!is_there(TAR) && !is_there(NAME) && !is_there(LAYER));
	assert_int_equal(vm_stock_remove(ALONE, NULL), 0);
	assert_false(is_there(ALONE));
}

static void test_keeps_what_is_used(void **state)
{
	_cleanup_free_ struct vm_stock *list = NULL;
	_cleanup_close_ int use = -1;
	struct err e = ERR_INIT;
	size_t n;

	(void)state;
	age(DISK, 1000000000);
	age(ALONE, 1000000000);
	assert_int_equal(vm_use(KEY, &use, NULL), 0);
	assert_int_equal(vm_use(OTHER, &use, NULL), 0);
	n = list_all(&list);
	assert_true(find(list, n, DISK)->is_used && find(list, n, STATE)->is_used);
	assert_true(find(list, n, ALONE)->is_used);
	assert_true(find(list, n, DISK)->used_s > 1000000000);
	assert_int_equal(find(list, n, DISK)->made_s, 1000000000);
	assert_int_equal(vm_stock_remove(DISK, &e), -EBUSY);
	assert_has(e.text, "is used by a bottle");
	assert_int_equal(vm_stock_remove(STATE, NULL), -EBUSY);
	assert_int_equal(vm_stock_remove(TAR, NULL), -EBUSY);
	assert_true(is_there(DISK) && is_there(STATE) && is_there(TAR));
	close_fd(&use);
	assert_int_equal(vm_stock_remove(DISK, NULL), 0);
	assert_false(is_there(DISK));
}

/* Nobody starts from what is just being removed. */
static void test_is_not_used_while_it_is_removed(void **state)
{
	_cleanup_close_ int folder = vm_store_open(NULL), none = -1, use = -1;
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(vm_use_none(folder, STR_LIT(KEY), &none, NULL), 0);
	assert_int_equal(vm_use(KEY, &use, &e), -EBUSY);
	assert_has(e.text, "is being removed");
	assert_int_equal(use, -1);
	assert_int_equal(vm_use(OTHER, &use, NULL), 0);
	close_fd(&none);
	assert_int_equal(vm_use(KEY, &use, NULL), 0);
	/* A link in its place is not followed. */
	assert_int_equal(unlink(in_world(STORE "use.lock")), 0);
	write_in_world("elsewhere", "", 0600);
	assert_int_equal(symlink(in_world("elsewhere"), in_world(STORE "use.lock")), 0);
	close_fd(&use);
	assert_true(vm_use(KEY, &use, NULL) < 0);
	assert_true(vm_use_is(folder, STR_LIT(KEY)));
	assert_true(vm_stock_remove(DISK, NULL) < 0);
	assert_true(is_there(DISK));
}

/* --- what was broken off --- */

/* A process that was there. */
static pid_t gone(void)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	return pid;
}

static void leave_tmp(char *name, size_t size, pid_t pid)
{
	_cleanup_free_ char *path = NULL;

	(void)snprintf(name, size, "accel.%d.tmp", (int)pid);
	path = mem_printf(STORE "%s", name);
	write_in_world(path, "x", 0600);
}

static void test_sweeps(void **state)
{
	char dead[64], alive[64], young[64];
	_cleanup_close_ int folder = vm_store_open(NULL), lock = -1;
	size_t n;

	(void)state;
	write_in_world(STORE "making", "half", 0600);
	folder_in_world(STORE "fetching/usr");
	write_in_world(STORE "engine-" KEY16 ".name", "me/agent:1", 0600);
	leave_tmp(dead, sizeof(dead), gone());
	leave_tmp(alive, sizeof(alive), getpid());
	leave_tmp(young, sizeof(young), gone());
	age(dead, 1000000000);
	age(alive, 1000000000);
	age(young, time(NULL) - 10);
	/* While an image is made, these are its maker's. */
	lock = cache_lock(folder, "image.lock", 0, "", NULL, NULL);
	assert_true(lock >= 0);
	assert_int_equal(vm_stock_sweep(true, &n, NULL), 0);
	assert_int_equal(n, 1);
	assert_int_equal(vm_stock_sweep(false, &n, NULL), 0);
	assert_int_equal(n, 1);
	assert_true(!is_there(dead) && is_there("making") && is_there("fetching"));
	close_fd(&lock);
	assert_int_equal(vm_stock_sweep(true, &n, NULL), 0);
	assert_int_equal(n, 3);
	assert_true(is_there("making") && is_there("fetching"));
	assert_int_equal(vm_stock_sweep(false, &n, NULL), 0);
	assert_int_equal(n, 3);
	assert_true(!is_there("making") && !is_there("fetching") &&
		    !is_there("engine-" KEY16 ".name"));
	assert_true(is_there(alive) && is_there(young) && is_there(NAME) && is_there(DISK));
	assert_int_equal(vm_stock_sweep(false, &n, NULL), 0);
	assert_int_equal(n, 0);
}

static void test_waits_for_nobody(void **state)
{
	_cleanup_close_ int lock = -1, own = -1;
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(vm_stock_lock(&lock, NULL), 0);
	assert_true(lock >= 0);
	assert_int_equal(vm_stock_lock(&own, &e), -EBUSY);
	assert_int_equal(own, -1);
	assert_has(e.text, "is being made just now");
}

static void test_caps(void **state)
{
	struct vm_stock *list;
	struct err e = ERR_INIT;
	size_t n;

	(void)state;
	for (unsigned i = 0; i < VM_STOCK_MAX; i++) {
		_cleanup_free_ char *path = mem_printf(STORE "n%u-" KEY ".tar", i);

		write_in_world(path, "", 0600);
	}
	assert_int_equal(vm_stock_list(&list, &n, &e), -E2BIG);
	assert_null(list);
	assert_has(e.text, "more than 512 files");
}

/* --- of real ones --- */

/* An image that people name is shown by that name, and is wanted as long as it is the name's. */
static void test_knows_what_a_start_would_use(void **state)
{
	_cleanup_free_ char *path = mem_strdup(in_world("root.tar"));
	_cleanup_free_ struct vm_stock *list = NULL;
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	struct vm_image image;

	(void)state;
	NEED_TOOL("tar2sqfs");
	assert_int_equal(tar_file(fd, "etc/motd", 0644, STR_LIT("hello\n"), NULL), 0);
	assert_int_equal(tar_end(fd, NULL), 0);
	assert_int_equal(vm_image_ensure("shell", path, VM_IMAGE_DISK, NULL, &image, NULL), 0);
	assert_int_equal(list_all(&list), 1);
	assert_string_equal(list[0].name, path);
	assert_true(list[0].is_current && list[0].bytes > 0);
	write_in_world("root.tar", "another", 0644);
	free(take_ptr(&list));
	assert_int_equal(list_all(&list), 1);
	assert_false(list[0].is_current);
	/* Ours, and none that there ever was. */
	assert_false(vm_image_is_wanted("shell", "shell-" KEY, NULL));
	assert_false(vm_image_is_wanted("nobody", "nobody-" KEY, NULL));
	assert_true(vm_image_is_wanted("engine-" KEY16, "engine-" KEY16 "-" KEY, "me/agent:1"));
}

#define STOCK_TEST(name, fill) cmocka_unit_test_setup_teardown(name, fill, world_remove)

int main(void)
{
	const struct CMUnitTest tests[] = {
		STOCK_TEST(test_lists, world_fill),
		STOCK_TEST(test_leaves_alone_what_is_not_ours, world_fill),
		STOCK_TEST(test_a_store_that_is_a_link, world_fill),
		STOCK_TEST(test_removes_an_image_with_what_stands_on_it, world_fill),
		STOCK_TEST(test_keeps_what_is_used, world_fill),
		STOCK_TEST(test_is_not_used_while_it_is_removed, world_fill),
		STOCK_TEST(test_sweeps, world_fill),
		STOCK_TEST(test_waits_for_nobody, world_fill),
		STOCK_TEST(test_caps, world_fill),
		STOCK_TEST(test_knows_what_a_start_would_use, world_make),
	};

	return cmocka_run_group_tests_name("vm-stock", tests, NULL, NULL);
}
