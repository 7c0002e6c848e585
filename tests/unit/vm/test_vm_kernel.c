/* Finding a kernel, the order of its modules, and the initramfs, as cpio reads it. */
#include "vm_world.h"

#include "machine/machine_init.h"

/* As depmod writes it: what is needed first stands last. */
static const char dep[] =
	"kernel/drivers/virtio/virtio.ko: kernel/drivers/virtio/virtio_ring.ko\n"
	"kernel/drivers/virtio/virtio_ring.ko:\n"
	"kernel/drivers/virtio/virtio_pci_modern_dev.ko:\n"
	"kernel/drivers/virtio/virtio_pci_legacy_dev.ko:\n"
	"kernel/drivers/virtio/virtio_pci.ko: kernel/drivers/virtio/virtio_pci_legacy_dev.ko "
	"kernel/drivers/virtio/virtio_pci_modern_dev.ko kernel/drivers/virtio/virtio.ko "
	"kernel/drivers/virtio/virtio_ring.ko\n"
	"kernel/fs/fuse/virtiofs.ko: kernel/fs/fuse/fuse.ko\n"
	"kernel/drivers/block/virtio_blk.ko: kernel/drivers/virtio/virtio.ko "
	"kernel/drivers/virtio/virtio_ring.ko\n"
	"kernel/drivers/net/virtio_net.ko: kernel/drivers/net/net_failover.ko "
	"kernel/net/core/failover.ko kernel/drivers/virtio/virtio.ko "
	"kernel/drivers/virtio/virtio_ring.ko\n"
	"kernel/drivers/net/net_failover.ko: kernel/net/core/failover.ko\n"
	"kernel/net/core/failover.ko:\n"
	"kernel/drivers/char/virtio_console.ko: kernel/drivers/virtio/virtio.ko\n"
	"kernel/fs/squashfs/squashfs.ko: kernel/lib/lz4.ko kernel/lib/deep.ko\n"
	"kernel/fs/overlayfs/overlay.ko:\n"
	"kernel/drivers/char/hw_random/virtio-rng.ko: kernel/drivers/virtio/virtio.ko\n";
static const char builtin[] = "kernel/fs/ext4/ext4.ko\nkernel/drivers/char/hw_random/rng_core.ko\n";
static const char *const order[] = {
	"kernel/drivers/virtio/virtio_ring.ko",
	"kernel/drivers/virtio/virtio.ko",
	"kernel/drivers/virtio/virtio_pci_legacy_dev.ko",
	"kernel/drivers/virtio/virtio_pci_modern_dev.ko",
	"kernel/drivers/virtio/virtio_pci.ko",
	"kernel/drivers/block/virtio_blk.ko",
	"kernel/net/core/failover.ko",
	"kernel/drivers/net/net_failover.ko",
	"kernel/drivers/net/virtio_net.ko",
	"kernel/drivers/char/virtio_console.ko",
	"kernel/lib/deep.ko",
	"kernel/lib/lz4.ko",
	"kernel/fs/squashfs/squashfs.ko",
	"kernel/fs/overlayfs/overlay.ko",
	"kernel/drivers/char/hw_random/virtio-rng.ko",
};

static void test_modules_in_order(void **state)
{
	struct vm_modules m;

	(void)state;
	assert_int_equal(vm_modules_resolve(str_of(dep), str_of(builtin), &m, NULL), 0);
	assert_int_equal(m.n, ARRAY_LEN(order));
	for (size_t i = 0; i < m.n; i++)
		assert_string_equal(m.paths[i], order[i]);
	vm_modules_free(&m);
}

static void test_modules_that_cannot_be(void **state)
{
	struct err e = ERR_INIT;
	struct vm_modules m;
	char changed[sizeof(dep) + 4];
	const char *at = strstr(dep, "virtio_blk.ko");

	(void)state;
	/* Built in nowhere. */
	assert_int_equal(vm_modules_resolve(str_of(dep), STR_NULL, &m, &e), -ENOENT);
	assert_string_equal(e.text, "the kernel has no module ext4");
	e = ERR_INIT;
	(void)snprintf(changed, sizeof(changed), "%.*s.ko.xz%s", (int)(at - dep + 10), dep,
		       at + strlen("virtio_blk.ko"));
	assert_int_equal(vm_modules_resolve(str_of(changed), str_of(builtin), &m, &e), -ENOTSUP);
	assert_has(e.text, "virtio_blk.ko.xz\" is compressed");
	e = ERR_INIT;
	assert_int_equal(vm_modules_resolve(str_of("\n: \n::\n"), str_of(builtin), &m, &e),
			 -ENOENT);
	assert_has(e.text, "no module virtio_ring");
}

/* --- a host with kernels --- */

static void add_kernel(const char *release, bool has_modules)
{
	_cleanup_free_ char *image = mem_printf("root/boot/vmlinuz-%s", release);
	_cleanup_free_ char *folder = mem_printf("root/lib/modules/%s", release);
	_cleanup_free_ char *path = mem_printf("%s/modules.dep", folder);

	folder_in_world("root/boot");
	write_in_world(image, "a kernel", 0644);
	if (!has_modules)
		return;
	folder_in_world(folder);
	write_in_world(path, dep, 0644);
}

static void test_newest_kernel(void **state)
{
	const char *root = in_world("root");
	struct err e = ERR_INIT;
	struct vm_kernel k;

	(void)state;
	assert_int_equal(vm_kernel_find_below(root, &k, &e), -ENOENT);
	assert_has(e.text, "package linux-image-cloud-amd64");
	add_kernel("6.1.0-9-cloud-amd64", true);
	add_kernel("6.1.0-57-cloud-amd64", true);
	add_kernel("6.1.0-58-cloud-amd64", false);
	add_kernel("6.9.0-1-amd64", true);
	add_kernel("6.9.0-1-cloud-amd64.dpkg new", true);
	assert_int_equal(vm_kernel_find_below(in_world("root"), &k, NULL), 0);
	assert_string_equal(k.release, "6.1.0-57-cloud-amd64");
	assert_string_equal(k.path, in_world("root/boot/vmlinuz-6.1.0-57-cloud-amd64"));
}

static void add_modules(const char *release)
{
	for (size_t i = 0; i < ARRAY_LEN(order); i++) {
		_cleanup_free_ char *path = mem_printf("root/lib/modules/%s/%s", release, order[i]);
		_cleanup_free_ char *folder = mem_strdup(path);

		*strrchr(folder, '/') = '\0';
		folder_in_world(folder);
		write_in_world(path, order[i], 0644);
	}
}

static void test_initramfs(void **state)
{
	char key[VM_KEY_SIZE], again[VM_KEY_SIZE];
	const char *release = "6.1.0-57-cloud-amd64";
	_cleanup_free_ char *list = NULL, *said = NULL, *blk = NULL;
	_cleanup_free_ char *builtins = mem_printf("root/lib/modules/%s/modules.builtin", release);
	_cleanup_close_ int fd = -1, second = -1;
	struct vm_kernel k;

	(void)state;
	add_kernel(release, true);
	add_modules(release);
	write_in_world(builtins, builtin, 0644);
	assert_int_equal(vm_kernel_find_below(in_world("root"), &k, NULL), 0);
	assert_int_equal(vm_initramfs_make_below(in_world("root"), &k, &fd, key, NULL), 0);
	assert_int_equal(vm_initramfs_make_below(in_world("root"), &k, &second, again, NULL), 0);
	assert_string_equal(key, again);
	assert_true(write(fd, "x", 1) < 0);

	list = TOOL_SAYS(fd, "cpio", "-tv", "--quiet");
	assert_has(list, "-r-xr-xr-x");
	assert_has(list, " init\n");
	assert_has(list, "drwxr-xr-x   2 root     root            0 Jan  1  1970 proc\n");
	assert_has(list, " program\n");
	said = TOOL_SAYS(fd, "cpio", "-i", "--to-stdout", "--quiet", "modules/order");
	assert_true(str_starts(str_of(said), STR_LIT("virtio_ring.ko\nvirtio.ko\n")));
	assert_true(str_ends(str_of(said), STR_LIT("\noverlay.ko\nvirtio-rng.ko\n")));
	blk = TOOL_SAYS(fd, "cpio", "-i", "--to-stdout", "--quiet", "modules/virtio_blk.ko");
	assert_string_equal(blk, "kernel/drivers/block/virtio_blk.ko");
}

/* Where the host has the distribution's kernel: with what it really has. */
static void test_this_hosts_kernel(void **state)
{
	_cleanup_free_ char *init = NULL;
	_cleanup_close_ int fd = -1;
	char key[VM_KEY_SIZE];
	struct err e = ERR_INIT;
	struct vm_kernel k;

	(void)state;
	if (vm_kernel_find(&k, &e) < 0) {
		print_message("%s\n", e.text);
		skip();
	}
	assert_int_equal(vm_initramfs_make(&k, &fd, key, &e), 0);
	init = TOOL_SAYS(fd, "cpio", "-i", "--to-stdout", "--quiet", "init");
	assert_memory_equal(init, machine_init, machine_init_size);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_modules_in_order),
		cmocka_unit_test(test_modules_that_cannot_be),
		cmocka_unit_test_setup_teardown(test_newest_kernel, world_make, world_remove),
		cmocka_unit_test_setup_teardown(test_initramfs, world_make, world_remove),
		cmocka_unit_test(test_this_hosts_kernel),
	};

	return cmocka_run_group_tests_name("vm-kernel", tests, NULL, NULL);
}
