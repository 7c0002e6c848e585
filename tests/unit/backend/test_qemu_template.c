/* Which snapshot fits which machine, and what becomes of one that does not. Nothing boots. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "backend/qemu/template.c"

#include <stdlib.h>
#include <sys/mman.h>

static char cache[] = "/tmp/cb-template-XXXXXX";

struct fixture {
	struct qemu_parts parts;
	struct qemu_shape shape;
};

/* A machine's parts as far as a name is made of them. */
static void open_parts(struct fixture *f)
{
	*f = (struct fixture){.shape = {.memory_bytes = 512 * QEMU_MIB, .cpus = 1}};
	qemu_parts_init(&f->parts);
	(void)snprintf(f->parts.kernel.release, sizeof(f->parts.kernel.release), "6.1.0-cloud");
	memset(f->parts.image.key, 'a', VM_KEY_SIZE - 1);
	memset(f->parts.initramfs_key, 'b', VM_KEY_SIZE - 1);
	memset(f->parts.program_key, 'c', VM_KEY_SIZE - 1);
	f->parts.disk_fds[QEMU_IMAGE] = memfd_create("image", MFD_CLOEXEC);
	assert_int_equal(write(f->parts.disk_fds[QEMU_IMAGE], "disk", 4), 4);
	if (access(QEMU_PROGRAM, F_OK) < 0) {
		print_message("%s is not there: apt-get install qemu-system-x86\n", QEMU_PROGRAM);
		qemu_parts_free(&f->parts);
		skip();
	}
}

static void name_of(const struct fixture *f, char name[TEMPLATE_NAME_SIZE])
{
	struct err e = ERR_INIT;

	if (template_name(name, &f->parts, &f->shape, &e) < 0)
		fail_msg("%s", e.text);
}

static void test_knows_an_image_that_was_made_anew(void **state)
{
	const struct timespec later[] = {{.tv_sec = 1900000000}, {.tv_sec = 1900000000}};
	char before[TEMPLATE_NAME_SIZE], again[TEMPLATE_NAME_SIZE], after[TEMPLATE_NAME_SIZE];
	struct fixture f;

	(void)state;
	open_parts(&f);
	name_of(&f, before);
	name_of(&f, again);
	assert_int_equal(futimens(f.parts.disk_fds[QEMU_IMAGE], later), 0);
	name_of(&f, after);
	qemu_parts_free(&f.parts);
	assert_string_equal(before, again);
	assert_string_not_equal(before, after);
	/* As another base of the same image, which makes the older one stale. */
	assert_memory_equal(before, after, TEMPLATE_KEY_SHOWN);
}

static void test_tells_processors_apart_where_they_matter(void **state)
{
	char tcg[TEMPLATE_NAME_SIZE], kvm[TEMPLATE_NAME_SIZE];
	struct fixture f;

	(void)state;
	open_parts(&f);
	name_of(&f, tcg);
	f.shape.is_kvm = true;
	name_of(&f, kvm);
	qemu_parts_free(&f.parts);
	assert_non_null(strstr(tcg, ".512m.1c.tcg.state"));
	assert_non_null(strstr(kvm, ".512m.1c.kvm"));
	assert_int_equal(strlen(kvm), strlen(tcg) + TEMPLATE_KVM_SHOWN);
}

static void test_puts_aside_what_could_not_be_restored(void **state)
{
	const struct timespec old[] = {{.tv_sec = 1000000000}, {.tv_sec = 1000000000}};
	_cleanup_close_ int dir = -1, fd = -1;
	char name[TEMPLATE_NAME_SIZE];
	struct fixture f;

	(void)state;
	open_parts(&f);
	dir = vm_store_open(NULL);
	name_of(&f, name);
	assert_false(is_settled(dir, name));
	assert_int_equal(io_write_file_atomic(dir, name, STR_LIT("state"), 0600, NULL), 0);
	assert_int_equal(qemu_template_find(&f.parts, &f.shape, &fd, NULL), 0);
	qemu_template_forget(&f.parts, &f.shape);
	/* Whoever has it open keeps it; nobody else finds it, and nobody makes it now. */
	assert_int_equal(lseek(fd, 0, SEEK_END), 5);
	close_fd(&fd);
	assert_int_equal(qemu_template_find(&f.parts, &f.shape, &fd, NULL), -ENOENT);
	assert_int_equal(fd, -1);
	assert_int_equal(qemu_template_ensure(&f.parts, &f.shape, NULL, NULL), 0);
	assert_int_equal(utimensat(dir, name, old, 0), 0);
	assert_false(is_settled(dir, name));
	assert_int_equal(unlinkat(dir, name, 0), 0);
	qemu_parts_free(&f.parts);
}

static void put(int dir, const char *name)
{
	assert_int_equal(io_write_file_atomic(dir, name, STR_LIT("x"), 0600, NULL), 0);
}

static void test_keeps_no_more_than_is_of_use(void **state)
{
#define IMAGE_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define IMAGE_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define IMAGE_C "cccccccccccccccccccccccccccccccc"
	static const struct {
		const char *name;
		bool stays;
	} files[] = {
		{IMAGE_A "." IMAGE_A ".256m.1c.tcg.state", true}, /* another shape */
		{IMAGE_A "." IMAGE_B ".512m.1c.tcg.state", false},
		{IMAGE_B "." IMAGE_B ".512m.1c.tcg.state", true},
		{IMAGE_C "." IMAGE_B ".512m.1c.tcg.state", false}, /* its image is gone */
		{"shell-" IMAGE_B IMAGE_B ".sqfs", true},
		{"shell-" IMAGE_C IMAGE_C ".tar", true},
	};
	_cleanup_close_ int dir = vm_store_open(NULL);

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(files); i++)
		put(dir, files[i].name);
	remove_stale(dir, IMAGE_A "." IMAGE_A ".512m.1c.tcg.state");
	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		if ((faccessat(dir, files[i].name, F_OK, 0) == 0) != files[i].stays)
			fail_msg("%s", files[i].name);
	}
}

static int make_cache(void **state)
{
	(void)state;
	return mkdtemp(cache) && setenv("XDG_CACHE_HOME", cache, 1) == 0 ? 0 : -1;
}

static int remove_cache(void **state)
{
	(void)state;
	return io_remove_tree(AT_FDCWD, cache, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_knows_an_image_that_was_made_anew),
		cmocka_unit_test(test_tells_processors_apart_where_they_matter),
		cmocka_unit_test(test_puts_aside_what_could_not_be_restored),
		cmocka_unit_test(test_keeps_no_more_than_is_of_use),
	};

	return cmocka_run_group_tests(tests, make_cache, remove_cache);
}
