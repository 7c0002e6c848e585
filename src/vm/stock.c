/*
 * What lies in the store, for people: to be seen and to be removed. Names are
 *
 *     GROUP-KEY.sqfs, GROUP-KEY.tar   a root file system (image.c); GROUP "program": see disk.c
 *     GROUP.name                      what people call it, where GROUP does not say
 *     layer-KEY                       the digest of a tar (oci.c)
 *     SHORT.REST.state                a machine's snapshot; SHORT: how its image's KEY begins
 *     making, fetching/               what is being made, by who has the lock (image.c)
 *     ANY.PID.tmp                     what is being written (io_write_file_atomic)
 *     image.lock, template.lock       who makes an image, a snapshot (image.c, qemu/template.c)
 *     use.lock                        who uses what (use.c)
 *     accel                           whether KVM boots (qemu/accel.c)
 *
 * What is none of the first six, is no file (but fetching/) or is not this user's is neither shown
 * nor touched.
 */
#include "vm/image_int.h"

#include "base/cache.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/timeutil.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>

#define STOCK_TMP	".tmp"
#define STOCK_TMP_OLD_S 60  /* whose writer, if it is of another namespace, has ended by now */
#define STOCK_BLOCK	512 /* of st_blocks */
#define STOCK_MAKING_MS 0

/* --- names --- */

struct stock_name {
	enum vm_stock_kind kind;
	struct str stem;  /* "GROUP-KEY"; nothing for a snapshot */
	struct str group; /* likewise */
	struct str key;	  /* of a snapshot: how it begins */
};

static bool is_made_of(struct str s, const char *more)
{
	for (size_t i = 0; i < s.n; i++) {
		bool is_plain = s.p[i] == ascii_lower(s.p[i]) && ascii_is_alnum(s.p[i]);

		if (!is_plain && !(s.p[i] && strchr(more, s.p[i])))
			return false;
	}
	return s.n > 0;
}

static bool is_key(struct str s, size_t n)
{
	for (size_t i = 0; i < s.n; i++) {
		if (!ascii_is_digit(s.p[i]) && (s.p[i] < 'a' || s.p[i] > 'f'))
			return false;
	}
	return s.n == n;
}

static bool stem_parse(struct str stem, struct stock_name *out)
{
	size_t dash = stem.n >= VM_KEY_SIZE ? stem.n - VM_KEY_SIZE : 0;

	out->stem = stem;
	out->group = str_sub(stem, 0, dash);
	out->key = str_sub(stem, dash + 1, stem.n);
	return dash > 0 && stem.p[dash] == '-' && is_made_of(out->group, "-") &&
	       is_key(out->key, VM_KEY_SIZE - 1);
}

static bool snapshot_parse(struct str stem, struct stock_name *out)
{
	out->stem = out->group = STR_NULL;
	out->key = str_sub(stem, 0, VM_SNAPSHOT_KEY);
	return stem.n > VM_SNAPSHOT_KEY && stem.p[VM_SNAPSHOT_KEY] == '.' &&
	       is_key(out->key, VM_SNAPSHOT_KEY) && is_made_of(stem, ".");
}

static bool name_parse(const char *file, struct stock_name *out)
{
	static const struct {
		const char *suffix;
		bool (*parse)(struct str stem, struct stock_name *out);
	} kinds[] = {[VM_STOCK_DISK] = {VM_DISK_SUFFIX, stem_parse},
		     [VM_STOCK_TAR] = {VM_TAR_SUFFIX, stem_parse},
		     [VM_STOCK_SNAPSHOT] = {VM_SNAPSHOT_SUFFIX, snapshot_parse}};
	struct str s = str_of(file);

	for (size_t i = 0; i < ARRAY_LEN(kinds) && s.n < VM_FILE_MAX; i++) {
		struct str suffix = str_of(kinds[i].suffix);

		out->kind = (enum vm_stock_kind)i;
		if (str_ends(s, suffix))
			return kinds[i].parse(str_sub(s, 0, s.n - suffix.n), out);
	}
	return false;
}

/* --- the folder --- */

/* Makes none. -ENOENT: there is none. */
static int stock_open(struct err *e)
{
	_cleanup_close_ int cache = cache_open();

	if (cache < 0)
		return err_set(e, -ENODEV,
			       "the images of machines: there is no cache that they could be in "
			       "(HOME, XDG_CACHE_HOME)");
	if (faccessat(cache, VM_STORE_FOLDER, F_OK, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT)
		return -ENOENT;
	return vm_store_open(e);
}

/* A file of ours, and no link to one. */
static bool is_ours(int folder, const char *name, struct stat *st)
{
	return fstatat(folder, name, st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st->st_mode) &&
	       st->st_uid == geteuid();
}

void vm_stock_touch(int folder, struct str key)
{
	const struct timespec now[] = {{.tv_nsec = UTIME_NOW}, {.tv_nsec = UTIME_OMIT}};
	_cleanup_closedir_ DIR *d = io_walk(folder);
	const struct dirent *entry;
	struct stock_name name;

	while (d && (entry = readdir(d)) != NULL) {
		if (name_parse(entry->d_name, &name) && str_eq(name.key, key))
			(void)utimensat(folder, entry->d_name, now, AT_SYMLINK_NOFOLLOW);
	}
}

/* --- the list --- */

static void read_name(int folder, const struct stock_name *n, struct vm_stock *out)
{
	_cleanup_free_ char *file = mem_printf(STR_FMT VM_NAME_SUFFIX, STR_ARG(n->group));
	_cleanup_close_ int fd = vm_store_file(folder, file);
	_cleanup_free_ char *text = NULL;
	struct str kept;

	if (fd >= 0 && io_read_all(fd, sizeof(out->name) - 1, &kept, NULL) == 0) {
		text = (char *)(uintptr_t)kept.p;
		if (kept.n > 0 && str_to_cstr(out->name, sizeof(out->name), kept)) {
			out->is_named = true;
			return;
		}
	}
	(void)snprintf(out->name, sizeof(out->name), STR_FMT, STR_ARG(n->group));
}

static bool is_wanted(const struct stock_name *n, const struct vm_stock *x)
{
	_cleanup_free_ char *stem = str_dup(n->stem), *group = str_dup(n->group);

	if (strcmp(group, VM_PROGRAM_GROUP) == 0)
		return vm_disk_is_program(stem);
	return vm_image_is_wanted(group, stem, x->is_named ? x->name : NULL);
}

static void describe(int folder, const struct stock_name *n, const char *file,
		     const struct stat *st, struct vm_stock *out)
{
	*out = (struct vm_stock){.kind = n->kind,
				 .bytes = (uint64_t)st->st_blocks * STOCK_BLOCK,
				 .made_s = st->st_mtim.tv_sec,
				 .used_s = st->st_atim.tv_sec,
				 .is_used = vm_use_is(folder, n->key)};
	(void)snprintf(out->file, sizeof(out->file), "%s", file);
	if (n->kind == VM_STOCK_SNAPSHOT)
		return;
	read_name(folder, n, out);
	out->is_current = is_wanted(n, out);
}

/* A snapshot is what its image's disk is. */
static void adopt(struct vm_stock *list, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct stock_name own, other;

		if (list[i].kind != VM_STOCK_SNAPSHOT || !name_parse(list[i].file, &own))
			continue;
		for (size_t k = 0; k < n; k++) {
			if (list[k].kind != VM_STOCK_DISK || !name_parse(list[k].file, &other) ||
			    !str_starts(other.key, own.key))
				continue;
			memcpy(list[i].name, list[k].name, sizeof(list[i].name));
			list[i].is_current = list[k].is_current;
		}
	}
}

static int newer_first(const void *a, const void *b)
{
	const struct vm_stock *x = a, *y = b;

	if (x->made_s != y->made_s)
		return x->made_s < y->made_s ? 1 : -1;
	return strcmp(x->file, y->file);
}

int vm_stock_list(struct vm_stock **list, size_t *n, struct err *e)
{
	_cleanup_free_ struct vm_stock *all = NULL;
	_cleanup_close_ int folder = stock_open(e);
	_cleanup_closedir_ DIR *d = NULL;
	const struct dirent *entry;
	struct stock_name name;
	struct stat st;

	*list = NULL;
	*n = 0;
	if (folder == -ENOENT)
		return 0;
	if (folder < 0)
		return folder;
	d = io_walk(folder);
	if (!d)
		return err_errno(e, "read the cache's folder \"" VM_STORE_FOLDER "\"");
	all = mem_zalloc_array(VM_STOCK_MAX, sizeof(*all));
	while ((entry = readdir(d)) != NULL) {
		if (!name_parse(entry->d_name, &name) || !is_ours(folder, entry->d_name, &st))
			continue;
		if (*n == VM_STOCK_MAX)
			return err_set(e, -E2BIG,
				       "the images of machines: more than %d files are in the "
				       "cache's folder \"" VM_STORE_FOLDER "\"",
				       VM_STOCK_MAX);
		describe(folder, &name, entry->d_name, &st, &all[(*n)++]);
	}
	adopt(all, *n);
	qsort(all, *n, sizeof(*all), newer_first);
	*list = take_ptr(&all);
	return 0;
}

/* --- removing --- */

int vm_stock_lock(int *fd, struct err *e)
{
	_cleanup_close_ int folder = stock_open(e), lock = -1;

	*fd = -1;
	if (folder < 0)
		return folder == -ENOENT ? 0 : folder;
	lock = cache_lock(folder, VM_IMAGE_LOCK, STOCK_MAKING_MS,
			  "the images of machines: one is being made just now; try again when it "
			  "is there",
			  NULL, e);
	if (lock < 0)
		return lock;
	*fd = take_fd(&lock);
	return 0;
}

static int drop(int folder, const char *file, struct err *e)
{
	return unlinkat(folder, file, 0) < 0 && errno != ENOENT
		       ? err_errno(e, "remove \"%s\" of the cache", file)
		       : 0;
}

/* Snapshots that nobody could restore without the disk. */
static int drop_snapshots(int folder, struct str key, struct err *e)
{
	_cleanup_closedir_ DIR *d = io_walk(folder);
	const struct dirent *entry;
	struct stock_name name;
	struct stat st;
	int ret = 0;

	while (ret == 0 && d && (entry = readdir(d)) != NULL) {
		if (name_parse(entry->d_name, &name) && name.kind == VM_STOCK_SNAPSHOT &&
		    str_starts(key, name.key) && is_ours(folder, entry->d_name, &st))
			ret = drop(folder, entry->d_name, e);
	}
	return ret;
}

/* Is there an image of this group? Where that cannot be told, yes. */
static bool has_group(int folder, struct str group)
{
	_cleanup_closedir_ DIR *d = io_walk(folder);
	const struct dirent *entry;
	struct stock_name name;

	while (d && (entry = readdir(d)) != NULL) {
		if (name_parse(entry->d_name, &name) && str_eq(name.group, group))
			return true;
	}
	return !d;
}

static int drop_beside(int folder, const struct stock_name *n, struct err *e)
{
	_cleanup_free_ char *name = mem_printf(STR_FMT VM_NAME_SUFFIX, STR_ARG(n->group));
	_cleanup_free_ char *layer = mem_printf(VM_LAYER_PREFIX STR_FMT, STR_ARG(n->key));
	int ret = 0;

	if (n->kind == VM_STOCK_SNAPSHOT)
		return 0;
	if (n->kind == VM_STOCK_DISK)
		ret = drop_snapshots(folder, n->key, e);
	else
		ret = drop(folder, layer, e);
	return ret < 0 || has_group(folder, n->group) ? ret : drop(folder, name, e);
}

int vm_stock_remove(const char *file, struct err *e)
{
	_cleanup_close_ int folder = stock_open(e), unused = -1;
	struct stock_name n;
	struct stat st;
	int ret;

	if (folder < 0)
		return folder == -ENOENT ? 0 : folder;
	if (!name_parse(file, &n))
		return err_set(e, -EINVAL, "no file of the cache has such a name");
	if (fstatat(folder, file, &st, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT)
		return 0;
	if (!is_ours(folder, file, &st))
		return err_set(e, -EPERM, "\"%s\" of the cache is no file of ours", file);
	ret = vm_use_none(folder, n.key, &unused, e);
	if (ret == -EBUSY)
		return err_set(e, -EBUSY, "\"%s\" is used by a bottle that runs or starts", file);
	if (ret == 0)
		ret = drop(folder, file, e);
	return ret == 0 ? drop_beside(folder, &n, e) : ret;
}

/* --- what is half-made --- */

/* Is it written by a process that is gone? */
static bool is_cut_off(int folder, const char *file)
{
	struct str s = str_of(file), pid;
	struct stat st;
	uint64_t n;

	if (!str_ends(s, STR_LIT(STOCK_TMP)))
		return false;
	s = str_sub(s, 0, s.n - strlen(STOCK_TMP));
	for (pid = s; str_chr(pid, '.') < pid.n;)
		pid = str_sub(pid, str_chr(pid, '.') + 1, pid.n);
	if (!is_made_of(s, ".-") || str_to_u64(pid, INT32_MAX, &n) < 0 || n == 0 ||
	    !is_ours(folder, file, &st))
		return false;
	return kill((pid_t)n, 0) < 0 && errno == ESRCH && st.st_mtim.tv_sec >= 0 &&
	       (uint64_t)st.st_mtim.tv_sec + STOCK_TMP_OLD_S < time_realtime_ns() / TIME_NS_PER_SEC;
}

/* The name of an image that has not come to be. */
static bool is_name_alone(int folder, const char *file)
{
	struct str s = str_of(file), group = str_sub(s, 0, s.n - strlen(VM_NAME_SUFFIX));
	struct stat st;

	return str_ends(s, STR_LIT(VM_NAME_SUFFIX)) && is_made_of(group, "-") &&
	       !has_group(folder, group) && is_ours(folder, file, &st);
}

/* What is somebody's who has the lock, if anybody's. */
static bool is_makers(int folder, const char *file)
{
	struct stat st;

	if (strcmp(file, VM_MAKING) == 0)
		return is_ours(folder, file, &st);
	if (strcmp(file, VM_FETCHING) == 0)
		return fstatat(folder, file, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		       S_ISDIR(st.st_mode) && st.st_uid == geteuid();
	return is_name_alone(folder, file);
}

int vm_stock_sweep(bool is_dry, size_t *n, struct err *e)
{
	_cleanup_close_ int folder = stock_open(e), lock = -1;
	_cleanup_closedir_ DIR *d = NULL;
	const struct dirent *entry;
	int ret = 0;

	*n = 0;
	if (folder < 0)
		return folder == -ENOENT || folder == -ENODEV ? 0 : folder;
	/* Without it, somebody is at work, and what lies there is theirs. */
	lock = cache_lock(folder, VM_IMAGE_LOCK, STOCK_MAKING_MS, "", NULL, NULL);
	d = io_walk(folder);
	if (!d)
		return err_errno(e, "read the cache's folder \"" VM_STORE_FOLDER "\"");
	while (ret == 0 && (entry = readdir(d)) != NULL) {
		if (!is_cut_off(folder, entry->d_name) &&
		    (lock < 0 || !is_makers(folder, entry->d_name)))
			continue;
		if (!is_dry)
			ret = io_remove_tree(folder, entry->d_name, e);
		*n += ret == 0;
	}
	return ret;
}
