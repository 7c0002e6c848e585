#include "backend/smolmachines/smol_int.h"

#include "base/clean.h"
#include "guest/guest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#define HOME_MS		 30000 /* of each step; a hostile guest takes them all */
#define HOME_EXPOSED	 "exposed.tar"
#define HOME_EXPOSED_MAX (2ull << 30)
#define HOME_GUEST	 GUEST_FOLDER "/run/" SMOL_KEPT

/* guest home VERB, as this user. folder NULL: the agent's home. */
static int home_in_guest(const struct bottle *b, const char *verb, unsigned id, const char *folder,
			 struct err *e)
{
	char uid[32], gid[32];
	const char *const argv[] = {GUEST_BUNDLE, "guest",    "home", verb, uid,
				    gid,	  HOME_GUEST, folder, NULL};

	(void)snprintf(uid, sizeof(uid), "uid=%u", id);
	(void)snprintf(gid, sizeof(gid), "gid=%u", id);
	return smol_exec(&b->cli, argv, HOME_MS, NULL, e);
}

/* in/name is unpacked there as that user, and gone. */
static int home_put(const struct bottle *b, const char *name, unsigned id, const char *folder,
		    struct err *e)
{
	int ret = 0;

	if (geteuid() == 0 &&
	    fchownat(b->cli.in_fd, name, b->cli.uid, b->cli.gid, AT_SYMLINK_NOFOLLOW) < 0)
		ret = err_errno(e, "give the cell \"%s\"", name);
	if (ret == 0)
		ret = smol_copy_in(&b->cli, name, HOME_GUEST, HOME_MS, e);
	if (ret == 0)
		ret = home_in_guest(b, "load", id, folder, e);
	(void)unlinkat(b->cli.in_fd, name, 0);
	return ret;
}

/* --- the agent's home --- */

/* The file stays where it is until there is a newer one; the cell sees it read-only. */
int smol_load_home(const struct bottle *b, struct err *e)
{
	_cleanup_close_ int state = open(b->walled.state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int ret;

	if (state < 0)
		return err_errno(e, "open the state folder");
	if (linkat(state, SMOL_KEPT, b->cli.in_fd, SMOL_KEPT, 0) < 0)
		return errno == ENOENT ? 0 : err_errno(e, "find the agent's home");
	ret = home_put(b, SMOL_KEPT, b->plan->agent_uid, NULL, e);
	return ret < 0 ? err_prefix(e, "the agent's home of the run before") : 0;
}

/* --- what is exposed --- */

static int expose_write(const struct bottle *b, int tar, struct err *e)
{
	_cleanup_close_ int fd =
		openat(b->cli.in_fd, HOME_EXPOSED, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0400);
	off_t at = 0, size = lseek(tar, 0, SEEK_END);

	if (fd < 0 || size < 0)
		return err_errno(e, "make \"%s\"", HOME_EXPOSED);
	while (at < size) {
		ssize_t n = sendfile(fd, tar, &at, (size_t)(size - at));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_errno(e, "write \"%s\"", HOME_EXPOSED);
	}
	return 0;
}

/* A copy, as it is now, in the guest's own file system: root's there. */
int smol_expose(const struct bottle *b, struct err *e)
{
	_cleanup_close_ int tar = -1;
	int ret;

	if (b->plan->n_expose == 0)
		return 0;
	ret = vm_tar_expose(b->plan->expose, b->plan->n_expose, HOME_EXPOSED_MAX, &tar, e);
	if (ret == 0)
		ret = expose_write(b, tar, e);
	if (ret == 0)
		ret = home_put(b, HOME_EXPOSED, 0, "/", e);
	return ret < 0 ? err_prefix(e, "what is exposed") : 0;
}

/* Whoever has the cell could have put anything there: only a file of its own is taken. */
static int home_take(const struct bottle *b, struct err *e)
{
	_cleanup_close_ int state = open(b->walled.state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_close_ int home = -1;
	struct stat st;

	home = state < 0 ? -1
			 : openat(state, SMOL_HOME_FOLDER,
				  O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (home < 0)
		return err_errno(e, "open the state folder");
	if (renameat(home, SMOL_KEPT, state, SMOL_KEPT ".new") < 0)
		return err_errno(e, "take the agent's home");
	if (fstatat(state, SMOL_KEPT ".new", &st, AT_SYMLINK_NOFOLLOW) < 0 ||
	    !S_ISREG(st.st_mode) || st.st_nlink != 1) {
		(void)unlinkat(state, SMOL_KEPT ".new", 0);
		return err_set(e, -EPERM, "the agent's home is no file");
	}
	if (fchmodat(state, SMOL_KEPT ".new", 0400, 0) < 0 ||
	    renameat(state, SMOL_KEPT ".new", state, SMOL_KEPT) < 0)
		return err_errno(e, "keep the agent's home");
	return 0;
}

int smol_save_home(const struct bottle *b, struct err *e)
{
	int ret = home_in_guest(b, "save", b->plan->agent_uid, NULL, e);

	if (ret == 0)
		ret = smol_copy_out(&b->cli, HOME_GUEST, SMOL_KEPT, HOME_MS, e);
	return ret < 0 ? ret : home_take(b, e);
}
