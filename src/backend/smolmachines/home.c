#include "backend/smolmachines/smol_int.h"

#include "base/clean.h"
#include "guest/guest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define HOME_MS	   30000 /* of each step; a hostile guest takes them all */
#define HOME_GUEST GUEST_FOLDER "/run/" SMOL_KEPT

/* guest home VERB. */
static int home_in_guest(const struct bottle *b, const char *verb, struct err *e)
{
	char uid[32], gid[32];
	const char *const argv[] = {GUEST_BUNDLE, "guest", "home",     verb,
				    uid,	  gid,	   HOME_GUEST, NULL};

	(void)snprintf(uid, sizeof(uid), "uid=%u", b->plan->agent_uid);
	(void)snprintf(gid, sizeof(gid), "gid=%u", b->plan->agent_uid);
	return smol_exec(&b->cli, argv, HOME_MS, NULL, e);
}

/* The file stays where it is until there is a newer one; the cell sees it read-only. */
int smol_load_home(const struct bottle *b, struct err *e)
{
	_cleanup_close_ int state = open(b->walled.state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int ret;

	if (state < 0)
		return err_errno(e, "open the state folder");
	if (linkat(state, SMOL_KEPT, b->cli.in_fd, SMOL_KEPT, 0) < 0)
		return errno == ENOENT ? 0 : err_errno(e, "find the agent's home");
	if (geteuid() == 0 &&
	    fchownat(b->cli.in_fd, SMOL_KEPT, b->cli.uid, b->cli.gid, AT_SYMLINK_NOFOLLOW) < 0)
		return err_errno(e, "give the cell the agent's home");
	ret = smol_copy_in(&b->cli, SMOL_KEPT, HOME_GUEST, HOME_MS, e);
	if (ret == 0)
		ret = home_in_guest(b, "load", e);
	(void)unlinkat(b->cli.in_fd, SMOL_KEPT, 0);
	return ret < 0 ? err_prefix(e, "the agent's home of the run before") : 0;
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
	int ret = home_in_guest(b, "save", e);

	if (ret == 0)
		ret = smol_copy_out(&b->cli, HOME_GUEST, SMOL_KEPT, HOME_MS, e);
	return ret < 0 ? ret : home_take(b, e);
}
