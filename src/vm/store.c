#include "vm/vm_int.h"

#include "base/cache.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

int vm_store_open(struct err *e)
{
	_cleanup_close_ int cache = cache_need(e), fd = -1;
	char link[48], path[PATH_MAX];
	ssize_t n;

	if (cache < 0)
		return cache;
	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", cache);
	n = readlink(link, path, sizeof(path) - 1);
	path[n > 0 ? n : 0] = '\0';
	if (mkdirat(cache, VM_STORE_FOLDER, 0700) < 0 && errno != EEXIST)
		return err_errno(e, "make the cache folder \"%.512s/" VM_STORE_FOLDER "\"", path);
	fd = openat(cache, VM_STORE_FOLDER, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return err_errno(e,
				 "open the cache folder \"%.512s/" VM_STORE_FOLDER
				 "\", which is to be a folder and no link to one",
				 path);
	if (!cache_is_own(fd))
		return err_set(e, -EPERM,
			       "the cache folder \"%.512s/" VM_STORE_FOLDER
			       "\" is not yours alone: remove it",
			       path);
	return take_fd(&fd);
}

int vm_store_file(int folder, const char *name)
{
	_cleanup_close_ int fd =
		openat(folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_uid != geteuid())
		return -1;
	return take_fd(&fd);
}

int vm_scratch(const char *what, struct err *e)
{
	_cleanup_close_ int folder = vm_store_open(NULL), fd = -1;

	if (folder >= 0)
		fd = openat(folder, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0)
		fd = memfd_create(what, MFD_CLOEXEC);
	if (fd < 0)
		return err_errno(e, "make a file for %s", what);
	return take_fd(&fd);
}

int vm_reopen(int fd, struct err *e)
{
	char path[48];
	int again;

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, O_RDONLY | O_CLOEXEC);
	return again < 0 ? err_errno(e, "open a file anew") : again;
}

/* Who has one open keeps it. */
void vm_store_prune(int folder, const char *prefix, const char *suffix, const char *keep)
{
	int fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_closedir_ DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	const struct dirent *entry;

	if (!d) {
		close_fd(&fd);
		return;
	}
	while ((entry = readdir(d)) != NULL) {
		struct str name = str_of(entry->d_name);

		if (str_starts(name, str_of(prefix)) && str_ends(name, str_of(suffix)) &&
		    strcmp(entry->d_name, keep) != 0)
			(void)unlinkat(folder, entry->d_name, 0);
	}
}

int vm_key(char key[VM_KEY_SIZE], const char *const *parts, size_t n, struct err *e)
{
	_cleanup_(buf_free) struct buf b = BUF_INIT(1u << 20);

	for (size_t i = 0; i < n; i++) {
		if (buf_printf(&b, "%zu %s\n", strlen(parts[i]), parts[i]) < 0)
			return err_set(e, -ENOBUFS, "too much goes into a key");
	}
	return image_sha256(buf_str(&b), key, e);
}
