#include "bottles/places.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <sys/stat.h>

int places_home(char out[PLACES_PATH_MAX], struct err *e)
{
	const char *home = getenv("HOME");
	const struct passwd *pw;

	if (!home || home[0] != '/') {
		pw = getpwuid(geteuid());
		home = pw ? pw->pw_dir : NULL;
	}
	if (!home || home[0] != '/')
		return err_set(e, -ENOENT, "no home folder: HOME is not set");
	if (!str_to_cstr(out, PLACES_PATH_MAX, str_of(home)))
		return err_set(e, -ENAMETOOLONG, "the home folder's path is too long");
	return 0;
}

int places_bottles_path(char out[PLACES_PATH_MAX], struct err *e)
{
	/* XDG Base Directory Specification 0.8: a relative path is invalid and to be ignored. */
	const char *state = getenv("XDG_STATE_HOME");
	char home[PLACES_PATH_MAX];
	int n, r;

	if (state && state[0] == '/') {
		n = snprintf(out, PLACES_PATH_MAX, "%s/claude-bottle/bottles", state);
	} else {
		r = places_home(home, e);
		if (r < 0)
			return r;
		n = snprintf(out, PLACES_PATH_MAX, "%s/.local/state/claude-bottle/bottles", home);
	}
	if (n < 0 || n >= PLACES_PATH_MAX)
		return err_set(e, -ENAMETOOLONG, "the state folder's path is too long");
	return 0;
}

static int check_private(int fd, const char *path, struct err *e)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_errno(e, "%s", path);
	if (st.st_uid != geteuid())
		return err_set(e, -EPERM, "%s belongs to uid %u, not to us (uid %u)", path,
			       (unsigned)st.st_uid, (unsigned)geteuid());
	if (st.st_mode & (S_IRWXG | S_IRWXO))
		return err_set(e, -EPERM, "%s is open to others (mode %03o): chmod 700 it", path,
			       (unsigned)(st.st_mode & 0777));
	return 0;
}

int places_bottles_open(bool may_create, int *fd, struct err *e)
{
	_cleanup_close_ int dir = -1;
	char path[PLACES_PATH_MAX];
	int r;

	*fd = -1;
	r = places_bottles_path(path, e);
	if (r < 0)
		return r;
	if (may_create) {
		r = io_mkdir_p(path, 0700, e);
		if (r < 0)
			return r;
	}
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (dir < 0 && errno == ENOENT && !may_create)
		return -ENOENT;
	if (dir < 0)
		return err_errno(e, "open %s", path);
	r = check_private(dir, path, e);
	if (r < 0)
		return r;
	*fd = take_fd(&dir);
	return 0;
}

bool places_slug_is_valid(const char *s)
{
	size_t n = strnlen(s, PLACES_SLUG_MAX);

	if (n == 0 || n >= PLACES_SLUG_MAX || s[0] == '-')
		return false;
	for (size_t i = 0; i < n; i++) {
		if (!ascii_is_digit(s[i]) && s[i] != '-' && (s[i] < 'a' || s[i] > 'z'))
			return false;
	}
	return true;
}
