#include "backend/smolmachines/smol_int.h"

#include "base/clean.h"
#include "base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FIND_ENV "CLAUDE_BOTTLE_SMOLVM"

static bool find_is_program(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

/* path resolved: the folder that it lies in is the installation. */
static int find_take(struct smol_install *out, const char *path, struct err *e)
{
	_cleanup_free_ char *real = realpath(path, NULL);
	char *slash;

	if (!real)
		return err_errno(e, "\"%s\"", path);
	if (strlen(real) + sizeof(SMOL_TOOL) >= SMOL_PATH_MAX)
		return err_set(e, -ENAMETOOLONG, "the path of smolvm is too long");
	(void)snprintf(out->shown, SMOL_PATH_MAX, "%s", real);
	slash = strrchr(real, '/');
	*slash = '\0';
	/* Everybody's folders are in every cell. */
	if (strncmp(real, "/usr/", 5) == 0) {
		(void)snprintf(out->program, SMOL_PATH_MAX, "%s/%s", real, slash + 1);
		return 0;
	}
	if (slash == real)
		return err_set(e, -EINVAL, "smolvm lies in \"/\": put it into a folder of its own");
	(void)snprintf(out->folder, SMOL_PATH_MAX, "%s", real);
	(void)snprintf(out->program, SMOL_PATH_MAX, SMOL_TOOL "/%s", slash + 1);
	return 0;
}

/* Its installer puts the guests' agent with the user's data, where the tool looks for it: in a cell
 * below another home. */
static void find_rootfs(struct smol_install *out, const char *home)
{
	const char *data = getenv("XDG_DATA_HOME");
	_cleanup_free_ char *path = data && data[0] == '/'
					    ? mem_printf("%s/smolvm/agent-rootfs", data)
				    : home ? mem_printf("%s/.local/share/smolvm/agent-rootfs", home)
					   : NULL;
	_cleanup_free_ char *real = path ? realpath(path, NULL) : NULL;

	if (real && strlen(real) < SMOL_PATH_MAX)
		(void)snprintf(out->rootfs, SMOL_PATH_MAX, "%s", real);
}

int smol_find(struct smol_install *out, struct err *e)
{
	static const char *const fixed[] = {"/usr/local/bin/smolvm", "/usr/bin/smolvm"};
	const char *named = getenv(FIND_ENV), *home = getenv("HOME");
	_cleanup_free_ char *own =
		home && home[0] == '/' ? mem_printf("%s/.local/bin/smolvm", home) : NULL;

	memset(out, 0, sizeof(*out));
	find_rootfs(out, home && home[0] == '/' ? home : NULL);
	if (named) {
		if (named[0] != '/' || !find_is_program(named))
			return err_set(e, -ENOENT,
				       FIND_ENV "=%s: not the absolute path of a program", named);
		return find_take(out, named, e);
	}
	for (size_t i = 0; i < ARRAY_LEN(fixed); i++) {
		if (find_is_program(fixed[i]))
			return find_take(out, fixed[i], e);
	}
	if (own && find_is_program(own))
		return find_take(out, own, e);
	return err_set(e, -ENOENT,
		       "smolvm is not installed: it is looked for in /usr/local/bin, /usr/bin and "
		       "~/.local/bin, or set " FIND_ENV);
}
