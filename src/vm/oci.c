/* Source: the OCI image specification 1.1 (manifest.md, config.md, layer.md). */
#include "vm/vm_int.h"

#include "base/io.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/text.h"
#include "guest/guest.h"
#include "image/digest.h"
#include "image/program.h"
#include "image/tar.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/utsname.h>

#define OCI_MANIFEST "application/vnd.oci.image.manifest.v1+json"
#define OCI_CONFIG   "application/vnd.oci.image.config.v1+json"
#define OCI_LAYER    "application/vnd.oci.image.layer.v1.tar"
#define OCI_SHA256   "sha256:"
#define OCI_PATH     "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define OCI_KEPT_MAX 128

static void set_digest(struct vm_oci_blob *b, const char *hex, uint64_t size)
{
	(void)snprintf(b->digest, sizeof(b->digest), OCI_SHA256 "%s", hex);
	b->size = size;
}

/* --- the root file system, whose hash is remembered: it is of hundreds of megabytes --- */

/* "HEX SIZE\n", and nothing else. */
static bool digest_known(int folder, const char *name, const struct stat *st, char *hex)
{
	char expected[OCI_KEPT_MAX];
	unsigned char digest[32];
	struct str kept;
	bool is_known;

	if (io_read_file(folder, name, OCI_KEPT_MAX, &kept, NULL) < 0)
		return false;
	is_known = text_unhex(digest, sizeof(digest), str_sub(kept, 0, SHA256_HEX_SIZE - 1)) &&
		   str_to_cstr(hex, SHA256_HEX_SIZE, str_sub(kept, 0, SHA256_HEX_SIZE - 1));
	(void)snprintf(expected, sizeof(expected), "%s %" PRIdMAX "\n", hex, (intmax_t)st->st_size);
	is_known = is_known && str_eq(kept, str_of(expected));
	free((char *)kept.p);
	return is_known;
}

/* Not of a file that changed meanwhile, or only just now. */
static void digest_remember(int folder, const char *name, const struct stat *before,
			    const struct stat *after, const char *hex)
{
	char text[OCI_KEPT_MAX];

	if (before->st_size != after->st_size || before->st_mtim.tv_sec != after->st_mtim.tv_sec ||
	    before->st_mtim.tv_nsec != after->st_mtim.tv_nsec || !digest_is_settled(after))
		return;
	(void)snprintf(text, sizeof(text), "%s %" PRIdMAX "\n", hex, (intmax_t)after->st_size);
	(void)!io_write_file_atomic(folder, name, str_of(text), 0600, NULL);
}

static int make_root(const struct vm_image *image, struct vm_oci_blob *out, struct err *e)
{
	_cleanup_free_ char *name = mem_printf(VM_LAYER_PREFIX "%s", image->key);
	_cleanup_close_ int folder = vm_store_open(NULL);
	char hex[SHA256_HEX_SIZE] = "";
	struct stat before, after;
	uint64_t n;
	int ret;

	out->fd = open(image->tar, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (out->fd < 0 || fstat(out->fd, &before) < 0)
		return err_errno(e, "open the image's archive \"%s\"", image->tar);
	if (!S_ISREG(before.st_mode))
		return err_set(e, -EINVAL, "the image's archive \"%s\" is no file", image->tar);
	if (folder >= 0 && digest_known(folder, name, &before, hex)) {
		set_digest(out, hex, (uint64_t)before.st_size);
		return 0;
	}
	ret = image_sha256_file(out->fd, hex, &n, e);
	if (ret < 0)
		return ret;
	set_digest(out, hex, n);
	if (folder >= 0 && fstat(out->fd, &after) == 0)
		digest_remember(folder, name, &before, &after, hex);
	return 0;
}

/* --- what is made here --- */

static int make_blob(const char *what, struct str data, struct vm_oci_blob *out, struct err *e)
{
	_cleanup_close_ int fd = -1;
	char hex[SHA256_HEX_SIZE];
	int ret = image_sha256(data, hex, e);

	if (ret < 0)
		return ret;
	fd = io_memfd_sealed(what, data, e);
	if (fd < 0)
		return fd;
	set_digest(out, hex, data.n);
	out->fd = vm_reopen(fd, e);
	return out->fd < 0 ? out->fd : 0;
}

/* Names there have no slash in front. */
static const char *in_archive(const char *path)
{
	return path + 1;
}

static int make_program(struct vm_oci_blob *out, struct err *e)
{
	_cleanup_(image_program_free) struct image_program program = {.data = NULL};
	_cleanup_close_ int fd = memfd_create("program layer", MFD_CLOEXEC);
	char hex[SHA256_HEX_SIZE];
	uint64_t n;
	int ret = image_program_load(&program, e);

	if (fd < 0 && ret == 0)
		ret = err_errno(e, "make a layer");
	if (ret == 0)
		ret = tar_folder(fd, in_archive(GUEST_FOLDER), 0755, e);
	if (ret == 0)
		ret = tar_folder(fd, in_archive(GUEST_FOLDER "/run"), 0755, e);
	if (ret == 0)
		ret = tar_file(fd, in_archive(GUEST_BUNDLE), 0555,
			       str_slice(program.data, program.n), e);
	if (ret == 0)
		ret = tar_end(fd, e);
	if (ret == 0)
		ret = image_sha256_file(fd, hex, &n, e);
	if (ret < 0)
		return ret;
	set_digest(out, hex, n);
	out->fd = vm_reopen(fd, e);
	return out->fd < 0 ? out->fd : 0;
}

static int make_json(const char *what, json_t *json, struct vm_oci_blob *out, struct err *e)
{
	_cleanup_free_ char *text = json ? json_dumps(json, JSON_COMPACT | JSON_SORT_KEYS) : NULL;

	json_decref(json);
	return text ? make_blob(what, str_of(text), out, e)
		    : err_set(e, -EINVAL, "the image's %s cannot be written", what);
}

/* As Go calls them, which is what the specification asks for. */
static const char *architecture(void)
{
	static const char *const names[][2] = {{"x86_64", "amd64"}, {"aarch64", "arm64"}};
	struct utsname host;

	for (size_t i = 0; uname(&host) == 0 && i < ARRAY_LEN(names); i++) {
		if (strcmp(host.machine, names[i][0]) == 0)
			return names[i][1];
	}
	return NULL;
}

static int make_config(struct vm_oci *o, struct err *e)
{
	const char *machine = architecture();

	if (!machine)
		return err_set(e, -ENOTSUP, "no image for this machine's architecture");
	/* Layers that are not compressed are their own difference. */
	return make_json("configuration",
			 json_pack("{s:s, s:s, s:{s:s, s:[s,s,s], s:[s], s:s}, s:{s:s, s:[s,s]}}",
				   "architecture", machine, "os", "linux", "config", "User", "0:0",
				   "Entrypoint", GUEST_BUNDLE, "guest", "wait", "Env", OCI_PATH,
				   "WorkingDir", "/", "rootfs", "type", "layers", "diff_ids",
				   o->blobs[VM_OCI_ROOT].digest, o->blobs[VM_OCI_PROGRAM].digest),
			 &o->blobs[VM_OCI_CONFIG], e);
}

static json_t *descriptor(const char *type, const struct vm_oci_blob *b)
{
	return json_pack("{s:s, s:s, s:I}", "mediaType", type, "digest", b->digest, "size",
			 (json_int_t)b->size);
}

static int make_manifest(struct vm_oci *o, struct err *e)
{
	return make_json("manifest",
			 json_pack("{s:i, s:s, s:o, s:[o,o]}", "schemaVersion", 2, "mediaType",
				   OCI_MANIFEST, "config",
				   descriptor(OCI_CONFIG, &o->blobs[VM_OCI_CONFIG]), "layers",
				   descriptor(OCI_LAYER, &o->blobs[VM_OCI_ROOT]),
				   descriptor(OCI_LAYER, &o->blobs[VM_OCI_PROGRAM])),
			 &o->blobs[VM_OCI_MANIFEST], e);
}

int vm_oci_make(const struct vm_image *image, struct vm_oci *out, struct err *e)
{
	int ret;

	for (size_t i = 0; i < VM_OCI_COUNT; i++)
		out->blobs[i] = (struct vm_oci_blob){.fd = -1};
	ret = make_root(image, &out->blobs[VM_OCI_ROOT], e);
	if (ret == 0)
		ret = make_program(&out->blobs[VM_OCI_PROGRAM], e);
	if (ret == 0)
		ret = make_config(out, e);
	if (ret == 0)
		ret = make_manifest(out, e);
	if (ret < 0)
		vm_oci_free(out);
	return ret;
}

void vm_oci_free(struct vm_oci *o)
{
	for (size_t i = 0; i < VM_OCI_COUNT; i++)
		close_fd(&o->blobs[i].fd);
}
