/*
 * Who uses what of the store. One file, which is never removed, has a byte for each key, and a lock
 * on that byte is a use: a shared one of whoever starts from the key's files, an exclusive one of
 * who removes them. The lock goes with the last descriptor, however its process ends. Nobody but
 * this user's own processes is given the file: a monitor that its guest has taken over could let
 * go of a lock on the image that it has open, or take one.
 */
#include "vm/vm_int.h"

#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#define USE_FILE   "use.lock"
#define USE_DIGITS 14 /* of a key: what an offset has room for */

/* A cache that cannot be written to, or knows no locks: nobody removes anything there either, since
 * that takes a lock (vm_use_none()). */
static bool is_without_locks(int code)
{
	return code == -EROFS || code == -ENOLCK || code == -EOPNOTSUPP || code == -ENOSYS;
}

/* Two keys that begin alike would only be taken for in use together. */
static bool use_byte(struct str key, short type, struct flock *out)
{
	unsigned char digits[USE_DIGITS / 2];
	uint64_t at = 0;

	if (!text_unhex(digits, sizeof(digits), str_sub(key, 0, USE_DIGITS)))
		return false;
	for (size_t i = 0; i < sizeof(digits); i++)
		at = at << 8 | digits[i];
	*out = (struct flock){
		.l_type = type, .l_whence = SEEK_SET, .l_start = (off_t)at, .l_len = 1};
	return true;
}

static int use_open(int folder, int more, struct err *e)
{
	_cleanup_close_ int fd =
		openat(folder, USE_FILE, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | more, 0600);
	struct stat st;

	if (fd < 0)
		return err_errno(e, "open \"" USE_FILE "\" of the cache");
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_uid != geteuid())
		return err_set(e, -EPERM, "\"" USE_FILE "\" of the cache is no file of ours");
	return take_fd(&fd);
}

static int use_take(int fd, struct str key, short type, struct err *e)
{
	struct flock lock;

	if (!use_byte(key, type, &lock))
		return err_set(e, -EINVAL, "what has no key cannot be used");
	if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
		return 0;
	if (errno == EAGAIN || errno == EACCES)
		return err_set(e, -EBUSY, "it is in use");
	return err_errno(e, "lock \"" USE_FILE "\" of the cache");
}

int vm_use(const char key[VM_KEY_SIZE], int *fd, struct err *e)
{
	_cleanup_close_ int folder = vm_store_open(e), own = -1;
	struct err why = ERR_INIT;
	int ret;

	if (folder < 0)
		return folder;
	if (*fd < 0)
		own = use_open(folder, O_CREAT, e);
	if (*fd < 0 && own < 0)
		return is_without_locks(own) ? 0 : own;
	ret = use_take(*fd < 0 ? own : *fd, str_of(key), F_RDLCK, &why);
	if (ret == -EBUSY)
		return err_set(e, -EBUSY,
			       "what the machine is started from is being removed just now "
			       "(claude-bottle image remove): start it again");
	if (is_without_locks(ret))
		return 0;
	if (ret < 0) {
		if (e)
			*e = why;
		return ret;
	}
	if (*fd < 0)
		*fd = take_fd(&own);
	vm_stock_touch(folder, str_of(key));
	return 0;
}

int vm_use_none(int folder, struct str key, int *fd, struct err *e)
{
	_cleanup_close_ int own = use_open(folder, O_CREAT, e);
	int ret = own < 0 ? own : use_take(own, key, F_WRLCK, e);

	*fd = ret == 0 ? take_fd(&own) : -1;
	return ret;
}

bool vm_use_is(int folder, struct str key)
{
	_cleanup_close_ int fd = use_open(folder, 0, NULL);
	struct flock lock;

	if (fd < 0)
		return fd != -ENOENT;
	return !use_byte(key, F_WRLCK, &lock) || fcntl(fd, F_OFD_GETLK, &lock) < 0 ||
	       lock.l_type != F_UNLCK;
}
