/* An image as a registry hands it out: each name is checked against what it names, and what is in
 * the layers against what tar says of them. */
#include "vm_world.h"

#include "base/json.h"
#include "image/tar.h"

#include <sys/utsname.h>

static void write_root(struct vm_image *image)
{
	_cleanup_close_ int fd = -1;

	*image = (struct vm_image){.key = "0123456789abcdef"};
	(void)snprintf(image->tar, sizeof(image->tar), "%s", in_world("root.tar"));
	fd = open(image->tar, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	assert_int_equal(tar_file(fd, "etc/motd", 0644, STR_LIT("hello\n"), NULL), 0);
	assert_int_equal(tar_end(fd, NULL), 0);
}

/* By another implementation than the one that made it. */
static void assert_digest(const struct vm_oci_blob *b)
{
	_cleanup_free_ char *sum = TOOL_SAYS(b->fd, "sha256sum", "-b");
	struct stat st;

	assert_int_equal(fcntl(b->fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	assert_int_equal(fstat(b->fd, &st), 0);
	assert_int_equal(st.st_size, b->size);
	assert_true(str_starts(str_of(b->digest), STR_LIT("sha256:")));
	assert_memory_equal(b->digest + 7, sum, 64);
	assert_int_equal(strlen(b->digest), 7 + 64);
}

static json_t *load(const struct vm_oci_blob *b)
{
	_cleanup_free_ char *text = TOOL_SAYS(b->fd, "cat");
	json_t *json = json_loads(text, JSON_REJECT_DUPLICATES, NULL);

	assert_non_null(json);
	return json;
}

static const char *text_at(const json_t *json, const char *name)
{
	const char *text = json_string_value(json_object_get(json, name));

	assert_non_null(text);
	return text;
}

static void assert_names(const json_t *descriptor, const char *type, const struct vm_oci_blob *b)
{
	assert_string_equal(text_at(descriptor, "mediaType"), type);
	assert_string_equal(text_at(descriptor, "digest"), b->digest);
	assert_int_equal(json_integer_value(json_object_get(descriptor, "size")), b->size);
}

static void check_manifest(const struct vm_oci *o)
{
	_cleanup_json_ json_t *manifest = load(&o->blobs[VM_OCI_MANIFEST]);
	const json_t *layers = json_object_get(manifest, "layers");

	assert_int_equal(json_integer_value(json_object_get(manifest, "schemaVersion")), 2);
	assert_string_equal(text_at(manifest, "mediaType"),
			    "application/vnd.oci.image.manifest.v1+json");
	assert_names(json_object_get(manifest, "config"),
		     "application/vnd.oci.image.config.v1+json", &o->blobs[VM_OCI_CONFIG]);
	assert_int_equal(json_array_size(layers), 2);
	assert_names(json_array_get(layers, 0), "application/vnd.oci.image.layer.v1.tar",
		     &o->blobs[VM_OCI_ROOT]);
	assert_names(json_array_get(layers, 1), "application/vnd.oci.image.layer.v1.tar",
		     &o->blobs[VM_OCI_PROGRAM]);
}

static void check_config(const struct vm_oci *o)
{
	_cleanup_json_ json_t *config = load(&o->blobs[VM_OCI_CONFIG]);
	const json_t *run = json_object_get(config, "config"), *rootfs, *ids, *entry;
	static const char *const words[] = {"/.claude-bottle/bundle", "guest", "wait"};
	struct utsname host;

	assert_int_equal(uname(&host), 0);
	if (strcmp(host.machine, "x86_64") == 0)
		assert_string_equal(text_at(config, "architecture"), "amd64");
	assert_string_equal(text_at(config, "os"), "linux");
	assert_string_equal(text_at(run, "User"), "0:0");
	entry = json_object_get(run, "Entrypoint");
	assert_int_equal(json_array_size(entry), ARRAY_LEN(words));
	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		assert_string_equal(json_string_value(json_array_get(entry, i)), words[i]);
	rootfs = json_object_get(config, "rootfs");
	ids = json_object_get(rootfs, "diff_ids");
	assert_string_equal(text_at(rootfs, "type"), "layers");
	assert_int_equal(json_array_size(ids), 2);
	assert_string_equal(json_string_value(json_array_get(ids, 0)),
			    o->blobs[VM_OCI_ROOT].digest);
	assert_string_equal(json_string_value(json_array_get(ids, 1)),
			    o->blobs[VM_OCI_PROGRAM].digest);
}

static void test_whole(void **state)
{
	_cleanup_free_ char *root = NULL, *program = NULL;
	struct vm_image image;
	struct err e = ERR_INIT;
	struct vm_oci o;

	(void)state;
	write_root(&image);
	assert_int_equal(setenv("CLAUDE_BOTTLE_BUNDLE", "/proc/self/exe", 1), 0);
	if (vm_oci_make(&image, &o, &e) < 0)
		fail_msg("%s", e.text);
	for (size_t i = 0; i < VM_OCI_COUNT; i++)
		assert_digest(&o.blobs[i]);
	check_manifest(&o);
	check_config(&o);
	root = TOOL_SAYS(o.blobs[VM_OCI_ROOT].fd, "tar", "-t");
	assert_string_equal(root, "etc/motd\n");
	program = TOOL_SAYS(o.blobs[VM_OCI_PROGRAM].fd, "tar", "-tv", "--numeric-owner");
	assert_has(program, "drwxr-xr-x 0/0");
	assert_has(program, " .claude-bottle/run\n");
	assert_has(program, "-r-xr-xr-x 0/0");
	assert_has(program, " .claude-bottle/bundle\n");
	vm_oci_free(&o);
	assert_int_equal(o.blobs[VM_OCI_ROOT].fd, -1);
}

/* The remembered hash is taken, but only for the same length and if it is one. */
static void test_digest_is_kept(void **state)
{
	static const char kept[] = "claude-bottle/vm/layer-0123456789abcdef";
	_cleanup_free_ char *text = mem_printf("%064d %d\n", 7, 2048);
	struct vm_image image;
	struct vm_oci o;

	(void)state;
	write_root(&image);
	folder_in_world("claude-bottle/vm");
	assert_int_equal(chmod(in_world("claude-bottle"), 0700), 0);
	write_in_world(kept, text, 0600);
	assert_int_equal(vm_oci_make(&image, &o, NULL), 0);
	assert_has(o.blobs[VM_OCI_ROOT].digest, "sha256:00000000");
	vm_oci_free(&o);
	text[0] = 'x';
	write_in_world(kept, text, 0600);
	assert_int_equal(vm_oci_make(&image, &o, NULL), 0);
	assert_digest(&o.blobs[VM_OCI_ROOT]);
	vm_oci_free(&o);
	(void)snprintf(text, 65 + 6, "%064d %d\n", 7, 2049);
	write_in_world(kept, text, 0600);
	assert_int_equal(vm_oci_make(&image, &o, NULL), 0);
	assert_digest(&o.blobs[VM_OCI_ROOT]);
	vm_oci_free(&o);
}

static void test_no_archive(void **state)
{
	struct vm_image image = {.key = "0"};
	struct err e = ERR_INIT;
	struct vm_oci o;

	(void)state;
	(void)snprintf(image.tar, sizeof(image.tar), "%s", in_world("gone.tar"));
	assert_int_equal(vm_oci_make(&image, &o, &e), -ENOENT);
	assert_has(e.text, "gone.tar");
	assert_int_equal(o.blobs[VM_OCI_PROGRAM].fd, -1);
	(void)snprintf(image.tar, sizeof(image.tar), "/dev/zero");
	assert_int_equal(vm_oci_make(&image, &o, &e), -EINVAL);
	assert_int_equal(o.blobs[VM_OCI_ROOT].fd, -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_whole, world_make, world_remove),
		cmocka_unit_test_setup_teardown(test_digest_is_kept, world_make, world_remove),
		cmocka_unit_test_setup_teardown(test_no_archive, world_make, world_remove),
	};

	return cmocka_run_group_tests_name("vm-oci", tests, NULL, NULL);
}
