/*
 * An image is a tar, and of that a disk. Both are files of the store, under the key of what goes
 * in; one builder at a time works on a file without a name, which becomes the image when it is
 * whole: what is broken off leaves nothing. Where a file system knows no such file it has the name
 * VM_MAKING meanwhile, and what a broken build leaves there the next one takes away.
 */
#include "vm/image_int.h"

#include "base/cache.h"
#include "base/io.h"
#include "base/mem.h"
#include "image/image.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#define IMAGE_FORMAT  "claude-bottle machine image 1"
#define IMAGE_WAIT_MS (60 * 60 * 1000)
#define STORE_FULL    (64u << 10) /* a disk with less left was written full */
#define GROUP_TAR     "tar"	  /* of archives that people name */
#define GROUP_ENGINE  "engine"	  /* of an engine's images */
#define TAR_MAGIC     "ustar"
#define TAR_MAGIC_AT  257
#define TAR_BLOCK     512
#define TAR_END	      (2 * TAR_BLOCK) /* of zeros */

/* --- what an image is called --- */

static void set_stem(struct vm_source *s, const char *group, const char *key)
{
	(void)snprintf(s->group, sizeof(s->group), "%s-", group);
	(void)snprintf(s->stem, sizeof(s->stem), "%s%s", s->group, key);
}

/* A group for what people name: an image takes the place of an older one of the same name. */
static int set_named(struct vm_source *s, const char *kind, const char *key, struct err *e)
{
	char hex[SHA256_HEX_SIZE], group[64];
	int ret = image_sha256(str_of(s->named), hex, e);

	if (ret < 0)
		return ret;
	(void)snprintf(group, sizeof(group), "%s-%.16s", kind, hex);
	set_stem(s, group, key);
	return 0;
}

/* tar2sqfs takes an archive that is cut off between two files for a whole one. */
static int check_end(int fd, const char *path, const struct stat *st, struct err *e)
{
	char end[TAR_END];
	bool is_whole = st->st_size % TAR_BLOCK == 0 && st->st_size >= TAR_END &&
			pread(fd, end, sizeof(end), st->st_size - TAR_END) == TAR_END;

	for (size_t i = 0; is_whole && i < sizeof(end); i++)
		is_whole = end[i] == '\0';
	return is_whole ? 0
			: err_set(e, -EINVAL,
				  "the image \"%s\" is cut off: a tar archive ends with %d zero "
				  "bytes (write it again)",
				  path, TAR_END);
}

static int check_tar(const char *path, struct stat *st, struct err *e)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	char head[TAR_MAGIC_AT + sizeof(TAR_MAGIC) - 1] = "";

	if (fd < 0 || fstat(fd, st) < 0)
		return err_errno(e, "open the image \"%s\"", path);
	if (!S_ISREG(st->st_mode) || pread(fd, head, sizeof(head), 0) != (ssize_t)sizeof(head) ||
	    memcmp(head + TAR_MAGIC_AT, TAR_MAGIC, strlen(TAR_MAGIC)) != 0)
		return err_set(
			e, -EINVAL,
			"the image \"%s\" is no tar archive: what is asked for is a root file "
			"system's, not compressed (\"docker export\" writes one)",
			path);
	return check_end(fd, path, st, e);
}

/* By what the kernel says of the file: it may be large, and each start asks. */
static int find_tar(struct vm_source *s, struct vm_image *out, struct err *e)
{
	char text[256];
	struct stat st;
	int ret = check_tar(s->named, &st, e);

	if (ret < 0)
		return ret;
	(void)snprintf(text, sizeof(text),
		       "%" PRIuMAX " %" PRIuMAX " %" PRIdMAX " %" PRIdMAX ".%09ld %" PRIdMAX
		       ".%09ld",
		       (uintmax_t)st.st_dev, (uintmax_t)st.st_ino, (intmax_t)st.st_size,
		       (intmax_t)st.st_mtim.tv_sec, st.st_mtim.tv_nsec, (intmax_t)st.st_ctim.tv_sec,
		       st.st_ctim.tv_nsec);
	ret = vm_key(out->key, (const char *const[]){IMAGE_FORMAT, "tar", s->named, text}, 4, e);
	return ret < 0 ? ret : set_named(s, GROUP_TAR, out->key, e);
}

static int find_template(struct vm_source *s, struct vm_image *out, struct err *e)
{
	char reference[IMAGE_REFERENCE_MAX];
	int ret = image_agent_reference(s->provider, reference, e);

	if (ret == 0)
		ret = vm_key(out->key, (const char *const[]){IMAGE_FORMAT, "template", reference},
			     3, e);
	if (ret == 0)
		set_stem(s, s->provider, out->key);
	return ret;
}

static bool is_path(const char *named)
{
	return named && named[0] == '/';
}

/* An image of an engine's, which alone knows what the name stands for today. */
static int find_reference(struct vm_source *s, bool may_make, struct vm_image *out, struct err *e)
{
	struct err own = ERR_INIT;
	int ret = vm_image_of_engine(s, may_make, &own);

	if (ret == -ENODEV)
		return err_set(
			e, -ENOENT,
			"the image \"%.200s\" is for a Docker engine to give: %.300s; or name "
			"a root file system's tar archive by its absolute path",
			s->named, own.text);
	if (ret < 0 && e)
		*e = own;
	if (ret == 0)
		ret = vm_key(out->key, (const char *const[]){IMAGE_FORMAT, "engine", s->image}, 3,
			     e);
	return ret < 0 ? ret : set_named(s, GROUP_ENGINE, out->key, e);
}

/* may_make: an engine may be asked to pull. */
static int source_find(struct vm_source *s, bool may_make, struct vm_image *out, struct err *e)
{
	*out = (struct vm_image){.key = ""};
	(void)snprintf(out->name, sizeof(out->name), "%s", s->named ? s->named : s->provider);
	if (s->named && strlen(s->named) >= sizeof(out->tar))
		return err_set(e, -ENAMETOOLONG, "the image's name is too long");
	if (is_path(s->named))
		return find_tar(s, out, e);
	if (s->named)
		return find_reference(s, may_make, out, e);
	return find_template(s, out, e);
}

bool vm_image_is_wanted(const char *group, const char *stem, const char *named)
{
	struct vm_source s = {.provider = group, .named = named, .folder = -1};
	bool is_tar = str_starts(str_of(group), STR_LIT(GROUP_TAR "-"));
	struct vm_image found;
	int ret;

	/* What the name stands for, the engine knows; or nobody knows the name any more. */
	if (str_starts(str_of(group), STR_LIT(GROUP_ENGINE "-")) || (is_tar && !is_path(named)))
		return true;
	ret = is_tar ? find_tar(&s, &found, NULL) : find_template(&s, &found, NULL);
	if (ret == -ENOENT || ret == -EINVAL)
		return false;
	return ret < 0 || strcmp(s.stem, stem) == 0;
}

/* --- what is there --- */

static char *file_name(const struct vm_source *s, const char *suffix)
{
	return mem_printf("%s%s", s->stem, suffix);
}

/* Fills in path, if the file is there. */
static bool has_file(const struct vm_source *s, const char *suffix, char *path, size_t size,
		     uint64_t *n)
{
	_cleanup_free_ char *name = file_name(s, suffix);
	char link[48], folder[4096];
	struct stat st;
	ssize_t got;

	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", s->folder);
	got = readlink(link, folder, sizeof(folder) - 1);
	if (got <= 0 || fstatat(s->folder, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
	    !S_ISREG(st.st_mode) || st.st_uid != geteuid())
		return false;
	folder[got] = '\0';
	if ((size_t)snprintf(path, size, "%s/%s", folder, name) >= size) {
		path[0] = '\0';
		return false;
	}
	if (n)
		*n = (uint64_t)st.st_size;
	return true;
}

static bool has_tar(const struct vm_source *s, struct vm_image *out)
{
	if (!is_path(s->named))
		return has_file(s, VM_TAR_SUFFIX, out->tar, sizeof(out->tar), NULL);
	(void)snprintf(out->tar, sizeof(out->tar), "%s", s->named);
	return true;
}

static bool has_disk(const struct vm_source *s, struct vm_image *out)
{
	return has_file(s, VM_DISK_SUFFIX, out->disk, sizeof(out->disk), &out->disk_bytes);
}

static bool has_forms(const struct vm_source *s, unsigned forms, struct vm_image *out)
{
	bool is_there = true;

	if (forms & VM_IMAGE_TAR)
		is_there = has_tar(s, out);
	if (forms & VM_IMAGE_DISK)
		is_there = has_disk(s, out) && is_there;
	return is_there;
}

int vm_image_find(const char *provider, const char *named, unsigned forms, struct vm_image *out,
		  struct err *e)
{
	_cleanup_close_ int folder = vm_store_open(e);
	struct vm_source s = {.provider = provider, .named = named, .folder = folder};
	int ret;

	if (folder < 0)
		return folder;
	ret = source_find(&s, false, out, e);
	if (ret < 0)
		return ret;
	return has_forms(&s, forms, out)
		       ? 0
		       : err_set(e, -ENOENT, "the machine's image of \"%s\" is not there yet",
				 out->name);
}

/* --- making --- */

static int making_open(const struct vm_source *s, struct err *e)
{
	int fd;

	(void)unlinkat(s->folder, VM_MAKING, 0);
	fd = openat(s->folder, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0)
		fd = openat(s->folder, VM_MAKING, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	return fd < 0 ? err_errno(e, "make a file in the cache") : fd;
}

/* Before the image has its own: one without would be nobody's. */
static int keep_name(const struct vm_source *s, struct err *e)
{
	_cleanup_free_ char *name =
		mem_printf("%.*s" VM_NAME_SUFFIX, (int)strlen(s->group) - 1, s->group);

	return s->named ? io_write_file_atomic(s->folder, name, str_of(s->named), 0600, e) : 0;
}

static int making_keep(const struct vm_source *s, int fd, const char *suffix, struct err *e)
{
	_cleanup_free_ char *name = file_name(s, suffix);
	int ret = keep_name(s, e);
	char path[40];
	struct stat st;

	if (ret < 0)
		return ret;
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (fstat(fd, &st) < 0 || (st.st_nlink == 0 && linkat(AT_FDCWD, path, s->folder, VM_MAKING,
							      AT_SYMLINK_FOLLOW) < 0))
		return err_errno(e, "name \"" VM_MAKING "\"");
	if (renameat(s->folder, VM_MAKING, s->folder, name) < 0)
		return err_errno(e, "name \"%s\"", name);
	vm_store_prune(s->folder, s->group, suffix, name);
	return 0;
}

static int squash(const struct vm_source *s, int fd, struct err *e)
{
	_cleanup_close_ int in = open(s->tar, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	int ret;

	if (in < 0)
		return err_errno(e, "open \"%s\"", s->tar);
	progress_tell(s->progress, VM_IMAGE_STEP, "a disk, with tar2sqfs", 0, 0);
	ret = vm_squash(in, fd, e);
	if (ret < 0)
		(void)err_prefix(e, "make a disk of \"%s\"", s->tar);
	return ret;
}

/* As long as what was written is there: of the tools, not all say why they cannot write. */
static bool is_full(int fd, uint64_t *left)
{
	struct statvfs vfs;

	if (fstatvfs(fd, &vfs) < 0)
		return false;
	*left = (uint64_t)vfs.f_bavail * vfs.f_frsize;
	return *left < STORE_FULL;
}

static int make_form(const struct vm_source *s, const char *suffix, vm_make_fn make, struct err *e)
{
	_cleanup_close_ int fd = making_open(s, e);
	uint64_t left;
	int ret;

	if (fd < 0)
		return fd;
	ret = make(s, fd, e);
	/* Nobody looks at it again: after a power failure its name must not be that of half of it.
	 */
	if (ret == 0 && fsync(fd) < 0)
		ret = err_errno(e, "write a file of the cache");
	if (ret == 0)
		ret = making_keep(s, fd, suffix, e);
	if (ret < 0 && is_full(fd, &left))
		ret = err_set(
			e, -ENOSPC,
			"the disk of the cache folder is full, with %" PRIu64
			" KiB left (make room, or set XDG_CACHE_HOME): the image of \"%.200s\"",
			left >> 10, s->named ? s->named : s->provider);
	if (ret < 0)
		(void)unlinkat(s->folder, VM_MAKING, 0);
	return ret;
}

static int make_here(struct vm_source *s, struct err *e)
{
	struct vm_source below = {.provider = image_kind_name(IMAGE_SHELL),
				  .progress = s->progress,
				  .folder = s->folder};
	struct vm_image shell;
	int ret;

	if (strcmp(s->provider, below.provider) == 0)
		return make_form(s, VM_TAR_SUFFIX, vm_image_bootstrap, e);
	ret = source_find(&below, false, &shell, e);
	if (ret == 0 && !has_tar(&below, &shell))
		ret = make_form(&below, VM_TAR_SUFFIX, vm_image_bootstrap, e);
	if (ret == 0 && !has_tar(&below, &shell))
		ret = err_set(e, -ENOENT, "the archive went away");
	if (ret < 0)
		return ret;
	s->tar = shell.tar;
	return make_form(s, VM_TAR_SUFFIX, vm_image_add_agent, e);
}

/* An engine that has the image already is the fastest; one that would have to make it is asked only
 * when what it takes to make it here is missing. */
static int make_tar(struct vm_source *s, struct err *e)
{
	struct err own = ERR_INIT;
	int ret;

	if (s->image[0])
		return make_form(s, VM_TAR_SUFFIX, vm_image_export, e);
	if (vm_image_of_engine(s, false, NULL) == 0)
		return make_form(s, VM_TAR_SUFFIX, vm_image_export, e);
	ret = make_here(s, &own);
	if ((ret == -ENOENT || ret == -EPERM) && vm_image_of_engine(s, true, NULL) == 0)
		return make_form(s, VM_TAR_SUFFIX, vm_image_export, e);
	if (ret == -EPERM)
		return err_set(e, ret,
			       "%.600s; or name a root file system's tar archive as the bottle's "
			       "image",
			       own.text);
	if (ret < 0 && e)
		*e = own;
	return ret;
}

/* An archive that was only made for the disk goes, unless it is what others stand on. */
static void drop_tar(const struct vm_source *s)
{
	_cleanup_free_ char *name = file_name(s, VM_TAR_SUFFIX);

	if (s->named || strcmp(s->provider, image_kind_name(IMAGE_SHELL)) != 0)
		(void)unlinkat(s->folder, name, 0);
}

static int make(struct vm_source *s, unsigned forms, struct vm_image *out, struct err *e)
{
	int ret = 0;

	if (!has_tar(s, out) && ((forms & VM_IMAGE_TAR) || !has_disk(s, out)))
		ret = make_tar(s, e);
	if (ret < 0 || !(forms & VM_IMAGE_DISK) || has_disk(s, out))
		return ret;
	if (!has_tar(s, out))
		return err_set(e, -ENOENT, "the archive went away");
	s->tar = out->tar;
	ret = make_form(s, VM_DISK_SUFFIX, squash, e);
	if (ret == 0 && !(forms & VM_IMAGE_TAR))
		drop_tar(s);
	return ret;
}

int vm_image_ensure(const char *provider, const char *named, unsigned forms,
		    const struct progress *progress, struct vm_image *out, struct err *e)
{
	_cleanup_close_ int folder = vm_store_open(e), lock = -1;
	struct vm_source s = {
		.provider = provider, .named = named, .progress = progress, .folder = folder};
	int ret;

	if (folder < 0)
		return folder;
	ret = source_find(&s, true, out, e);
	if (ret < 0 || has_forms(&s, forms, out))
		return ret;
	lock = cache_lock(folder, VM_IMAGE_LOCK, IMAGE_WAIT_MS,
			  "another machine image is being made", progress, e);
	if (lock == -EBUSY)
		return err_set(e, -EBUSY, "another machine image is being made, for an hour now");
	if (lock < 0)
		return lock;
	ret = make(&s, forms, out, e);
	if (ret < 0)
		return ret;
	out->tar[0] = out->disk[0] = '\0';
	return has_forms(&s, forms, out)
		       ? 0
		       : err_set(e, -ENOENT, "the machine's image went away as it was made");
}
