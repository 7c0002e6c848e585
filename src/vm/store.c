#include "vm/vm_int.h"

#include "base/cache.h"
#include "base/io.h"

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
		fd = memfd_create(what, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return err_errno(e, "make a file for %s", what);
	return take_fd(&fd);
}

/* Attack: Landlock has no say over memory files, so that whoever is lent one to read would open it
 * anew, and write into it what no limit of its own memory counts. */
static int reopen_seal(int fd)
{
	int seals = fcntl(fd, F_GET_SEALS);

	if (seals < 0 || (seals & F_SEAL_SEAL))
		return 0; /* a file of some file system */
	return fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL);
}

int vm_reopen(int fd, struct err *e)
{
	char path[48];
	int again;

	if (reopen_seal(fd) < 0)
		return err_errno(e, "seal a memory file");
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, O_RDONLY | O_CLOEXEC);
	return again < 0 ? err_errno(e, "open a file anew") : again;
}

/* Who has one open keeps it. */
void vm_store_prune(int folder, const char *prefix, const char *suffix, const char *keep)
{
	_cleanup_closedir_ DIR *d = io_walk(folder);
	const struct dirent *entry;

	while (d && (entry = readdir(d)) != NULL) {
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
