/*
 * F01 to F03, F07 to F09: a folder of the host's that the bottle may write (`workspace: mount`).
 * What came of it the suite sees on the host; outside, the same is done in a folder that nothing
 * guards.
 */
#include "probe/probe_git.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define TRIPWIRE "tripwire" /* a file in env->outside that begins with its name */

/* Whoever does not follow links, but renames and makes anew, may get further: all of it is done. */
static int put(const char *path, const char *text)
{
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	int error = errno;

	if (fd < 0)
		return error;
	return write(fd, text, strlen(text)) < 0 ? errno : 0;
}

/* The folders on the way. */
static void make_way(const char *path)
{
	_cleanup_free_ char *way = mem_strdup(path);

	for (char *slash = strchr(way + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		(void)mkdir(way, 0755);
		*slash = '/';
	}
}

static void report_error(const char *id, const char *label, const char *token, int error)
{
	probe_report(id, label, token, false, 0, error ? strerror(error) : "it was written");
}

/* --- F01: links that lead out --- */

static bool has_tripwire(const char *path)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	char text[sizeof(TRIPWIRE)] = "";

	return fd >= 0 && read(fd, text, sizeof(TRIPWIRE) - 1) == sizeof(TRIPWIRE) - 1 &&
	       strcmp(text, TRIPWIRE) == 0;
}

/* target: of a link to the folder outside. */
static void try_link(const struct probe_env *env, const char *id, const char *label,
		     const char *target)
{
	_cleanup_free_ char *link = mem_printf("%s/link-%s", env->workspace, label);
	_cleanup_free_ char *wire = mem_printf("%s/" TRIPWIRE, link);
	_cleanup_free_ char *read_label = mem_printf("read-%s", label);
	_cleanup_free_ char *write_label = mem_printf("write-%s", label);
	_cleanup_free_ char *made = NULL;
	char token[PROBE_TOKEN_SIZE];
	int error = 0;

	(void)unlink(link);
	if (symlink(target, link) < 0)
		error = errno;
	probe_report(id, read_label, "", has_tripwire(wire), 0, target);
	probe_token(env, id, write_label, token);
	made = mem_printf("%s/%s", link, token);
	if (!error)
		error = put(made, token);
	report_error(id, write_label, token, error);
	(void)unlink(link);
}

static void run_f01(const struct probe_env *env, const char *id)
{
	_cleanup_free_ char *up = mem_strdup("..");
	_cleanup_free_ char *relative = NULL, *self = NULL, *init = NULL, *first = NULL;

	for (const char *p = env->workspace + 1; *p; p++) {
		char *more;

		if (*p != '/')
			continue;
		more = mem_printf("../%s", up);
		free(up);
		up = more;
	}
	relative = mem_printf("%s%s", up, env->outside);
	self = mem_printf("/proc/self/root%s", env->outside);
	init = mem_printf("/proc/%d/cwd%s", (int)getpid(), env->outside);
	try_link(env, id, "absolute", env->outside);
	try_link(env, id, "relative", relative);
	try_link(env, id, "proc-root", self);
	/* A chain of two. */
	first = mem_printf("%s/first", env->workspace);
	if (symlink(env->outside, first) == 0 || errno == EEXIST)
		try_link(env, id, "chain", first);
	(void)unlink(first);
	/* From the top of this process's own file system: where a folder was held open. */
	if (chdir("/") == 0)
		try_link(env, id, "proc-cwd", init);
}

/* --- F02 --- */

static void run_f02(const struct probe_env *env, const char *id)
{
	(void)env;
	probe_skip(
		id, "swap",
		"the host copies nothing out of a bottle: a clone's work comes as objects, and a "
		"mounted folder is the folder itself");
}

/* --- F03: a file with another name outside --- */

static void run_f03(const struct probe_env *env, const char *id)
{
	_cleanup_free_ char *old = mem_printf("%s/" TRIPWIRE, env->outside);
	_cleanup_free_ char *own = mem_printf("%s/hard-own", env->workspace);
	_cleanup_free_ char *there = mem_printf("%s/hard", env->workspace);
	char token[PROBE_TOKEN_SIZE];
	int error = 0;

	probe_token(env, id, "made", token);
	(void)unlink(own);
	if (link(old, own) < 0)
		error = errno;
	if (!error)
		error = put(own, token);
	report_error(id, "made", token, error);
	(void)unlink(own);
	/* One that was there before: nothing can keep it from being written, so the suite looks for
	 * whether the human is told. */
	probe_token(env, id, "existing", token);
	(void)put(there, token);
}

/* --- F07: what would run as its owner --- */

static void try_mode(const struct probe_env *env, const char *id, const char *label, mode_t mode,
		     int (*set)(const char *path, mode_t mode))
{
	char token[PROBE_TOKEN_SIZE];
	_cleanup_free_ char *path = NULL;
	int error;

	probe_token(env, id, label, token);
	path = mem_printf("%s/%s", env->workspace, token);
	error = set(path, mode) < 0 ? errno : 0;
	/* The suite looks for the bit; the token alone, which a plain file has too, is not seen. */
	probe_report(id, label, token, false, 0, error ? strerror(error) : "it was made");
}

static int set_by_chmod(const char *path, mode_t mode)
{
	int error = put(path, "x");

	return error ? -1 : chmod(path, mode);
}

static int set_by_fchmod(const char *path, mode_t mode)
{
	_cleanup_close_ int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0755);

	return fd < 0 ? -1 : fchmod(fd, mode);
}

static int set_by_open(const char *path, mode_t mode)
{
	_cleanup_close_ int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, mode);

	return fd < 0 ? -1 : 0;
}

static int set_by_mknod(const char *path, mode_t mode)
{
	return mknod(path, S_IFREG | mode, 0);
}

/* Since Linux 6.6. */
static int set_by_fchmodat2(const char *path, mode_t mode)
{
	int error = put(path, "x");

	return error ? -1 : (int)syscall(452, AT_FDCWD, path, mode, 0);
}

static void run_f07(const struct probe_env *env, const char *id)
{
	(void)umask(0);
	try_mode(env, id, "chmod", 04755, set_by_chmod);
	try_mode(env, id, "chmod-group", 02755, set_by_chmod);
	try_mode(env, id, "fchmod", 04755, set_by_fchmod);
	try_mode(env, id, "open", 04755, set_by_open);
	try_mode(env, id, "mknod", 04755, set_by_mknod);
	try_mode(env, id, "fchmodat2", 04755, set_by_fchmodat2);
	(void)umask(022);
}

/* --- F08: what the host obeys --- */

/* Written, then its folder put aside and made anew, with it in it. */
static void try_file(const struct probe_env *env, const char *id, const char *name)
{
	_cleanup_free_ char *path = mem_printf("%s/%s", env->workspace, name);
	_cleanup_free_ char *folder = mem_strdup(path), *aside = NULL;
	char token[PROBE_TOKEN_SIZE], *slash = strrchr(folder, '/');
	_cleanup_free_ char *line = NULL;
	int error;

	probe_token(env, id, name, token);
	line = mem_printf("# %s\n", token);
	make_way(path);
	error = put(path, line);
	if (error)
		(void)unlink(path);
	if (error)
		error = put(path, line);
	*slash = '\0';
	if (error && strcmp(folder, env->workspace) != 0) {
		aside = mem_printf("%s-aside", folder);
		(void)rename(folder, aside);
		make_way(path);
		error = put(path, line);
	}
	report_error(id, name, token, error);
}

static void run_f08(const struct probe_env *env, const char *id)
{
	static const char *const files[] = {
		".git/hooks/post-checkout",
		".git/hooks/pre-commit",
		".git/config",
		".git/config.worktree",
		".git/info/attributes",
		".git/commondir",
		".vscode/tasks.json",
		".idea/workspace.xml",
		".zed/tasks.json",
		".devcontainer.json",
		".claude/settings.json",
		".claude/hooks/x.sh",
		".mcp.json",
		".codex/config.toml",
		".cursor/mcp.json",
		".gemini/settings.json",
		".envrc",
		"mise.toml",
		".husky/pre-commit",
		".githooks/pre-commit",
		".pre-commit-config.yaml",
		".exrc",
		".dir-locals.el",
	};
	char token[PROBE_TOKEN_SIZE];
	_cleanup_free_ char *path = NULL;

	for (size_t i = 0; i < ARRAY_LEN(files); i++)
		try_file(env, id, files[i]);
	/* Else a folder that nothing may be written to would pass. */
	probe_token(env, id, "twin", token);
	path = mem_printf("%s/notes-%s.txt", env->workspace, env->uid);
	(void)put(path, token);
	probe_report_wanted(id, "twin", token, 0, "an ordinary file");
}

/* --- F09: names --- */

/* The human is told of such a file. What is searched for has the escape in it. */
static void run_f09(const struct probe_env *env, const char *id)
{
	static const struct {
		const char *label, *between;
	} names[] = {{"escape", "\033[31m"}, {"bidi", "\u202e"}, {"c1", "\xc2\x9b"}};

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		char token[PROBE_TOKEN_SIZE], shown[PROBE_TOKEN_SIZE];
		_cleanup_free_ char *path = NULL;

		probe_token(env, id, names[i].label, token);
		(void)snprintf(shown, sizeof(shown), "%.10s%s%.10s", token, names[i].between,
			       token + 10);
		path = mem_printf("%s/%s", env->workspace, shown);
		report_error(id, names[i].label, shown, put(path, "x"));
	}
}

const struct probe probes_mount[] = {
	{"F01", run_f01}, {"F02", run_f02}, {"F03", run_f03},
	{"F07", run_f07}, {"F08", run_f08}, {"F09", run_f09},
};
const size_t n_probes_mount = ARRAY_LEN(probes_mount);
