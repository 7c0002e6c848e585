/*
 * The box in which the host's git runs. Its order: what needs the file system is opened by the
 * ruleset, then Landlock, then the filters, then git.
 *
 * What a program in it could still do when it has been taken over, with HOST_GIT_RECEIVE: write and
 * remove objects and the bottle's own branches. What git itself would not accept (another branch, a
 * deletion) is refused by what host_git_make() made, which it cannot write.
 */
#include "backend/host_git.h"

#include "backend/backend.h"
#include "base/clean.h"
#include "base/io.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/signals.h"
#include "base/timeutil.h"
#include "priv/priv.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define GIT_FILES_MAX	4096
#define GIT_ARGS_MAX	64
#define GIT_LOOK_MS	30000
#define GIT_MAJOR_MIN	2
#define GIT_MINOR_MIN	30
#define GIT_VERSION_MAX 128

const char *host_git_find(void)
{
	static const char *const paths[] = {"/usr/bin/git", "/usr/local/bin/git", "/bin/git"};

	for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
		if (access(paths[i], X_OK) == 0)
			return paths[i];
	}
	return NULL;
}

/* --- Landlock --- */

#define BOX_WRITE (PRIV_READ | PRIV_WRITE | PRIV_MANAGE)

/* What is not there needs no rule: nobody in the box can make it. */
struct box {
	struct priv_path paths[HOST_REPO_ALTERNATES_MAX + 32];
	size_t n;
	char *joined[8]; /* the paths that are owned */
	size_t n_joined;
};

static void box_free(struct box *b)
{
	for (size_t i = 0; i < b->n_joined; i++)
		free(b->joined[i]);
}

static void box_allow(struct box *b, const char *path, unsigned access)
{
	assert(b->n < ARRAY_LEN(b->paths));
	b->paths[b->n++] = (struct priv_path){path, access | PRIV_OPTIONAL};
}

static void box_allow_below(struct box *b, const char *folder, const char *name, unsigned access)
{
	assert(b->n_joined < ARRAY_LEN(b->joined));
	b->joined[b->n_joined] = mem_printf("%s/%s", folder, name);
	box_allow(b, b->joined[b->n_joined++], access);
}

/* git, the programs that it calls by name, and what the loader opens for them. */
static void box_allow_programs(struct box *b, const char *program)
{
	static const struct priv_path all[] = {
		{"/usr/lib/git-core", PRIV_READ | PRIV_EXECUTE},
		{"/usr/libexec/git-core", PRIV_READ | PRIV_EXECUTE},
		{"/usr/local/libexec/git-core", PRIV_READ | PRIV_EXECUTE},
		{"/usr/lib", PRIV_READ},
		{"/usr/lib64", PRIV_READ},
		{"/usr/local/lib", PRIV_READ},
		{"/lib", PRIV_READ},
		{"/lib64", PRIV_READ},
		{"/lib64/ld-linux-x86-64.so.2", PRIV_READ | PRIV_EXECUTE},
		{"/lib/ld-linux-aarch64.so.1", PRIV_READ | PRIV_EXECUTE},
		{"/lib/ld-musl-x86_64.so.1", PRIV_READ | PRIV_EXECUTE},
		{"/lib/ld-musl-aarch64.so.1", PRIV_READ | PRIV_EXECUTE},
		{"/etc/ld.so.cache", PRIV_READ},
		{"/dev/null", PRIV_READ | PRIV_WRITE},
		{"/dev/urandom", PRIV_READ},
	};

	box_allow(b, program, PRIV_READ | PRIV_EXECUTE);
	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		box_allow(b, all[i].path, all[i].access);
}

static void box_allow_repo(struct box *b, const struct host_git *g)
{
	static const char *const seen[] = {"refs", "packed-refs", "worktrees"};
	const struct host_repo *r = g->repo;
	_cleanup_free_ char *own = mem_printf(HOST_GIT_BRANCHES "%s", g->slug);
	_cleanup_free_ char *log = mem_printf("logs/%s", own);

	for (size_t i = 0; i < r->n_alternates; i++)
		box_allow(b, r->alternates[i], PRIV_READ);
	box_allow(b, r->objects, PRIV_READ);
	box_allow(b, g->made, PRIV_READ);
	for (size_t i = 0; i < ARRAY_LEN(seen) && g->power == HOST_GIT_LOOK; i++)
		box_allow_below(b, r->common_dir, seen[i], PRIV_READ);
	if (g->power != HOST_GIT_RECEIVE)
		return;
	box_allow(b, r->objects, BOX_WRITE);
	box_allow_below(b, r->common_dir, own, BOX_WRITE);
	box_allow_below(b, r->common_dir, log, BOX_WRITE);
}

/* A kernel that has no Landlock, or one that cannot allow moving out of a quarantine, leaves git's
 * own rules and the filter. */
static int box_landlock(const struct host_git *g, const char *program, struct err *e)
{
	_cleanup_(box_free) struct box b = {.n = 0};
	int ret;

	box_allow_programs(&b, program);
	box_allow_repo(&b, g);
	ret = priv_landlock(b.paths, b.n, false, e);
	return ret < 0 ? ret : 0;
}

/* --- into it --- */

static int box_limit(const struct host_git *g, struct err *e)
{
	int ret = limits_lower(RLIMIT_CORE, 0, e);

	if (ret == 0)
		ret = limits_lower(RLIMIT_NOFILE, GIT_FILES_MAX, e);
	/* An index stands beside its pack, and may be the larger one for very small objects. */
	if (ret == 0 && g->power == HOST_GIT_RECEIVE && g->file_max_bytes)
		ret = limits_lower(RLIMIT_FSIZE, 2 * g->file_max_bytes + (64u << 20), e);
	if (ret == 0 && g->power != HOST_GIT_RECEIVE)
		ret = limits_lower(RLIMIT_FSIZE, 0, e);
	return ret;
}

static char **box_environment(const struct host_git *g)
{
	static const char *const fixed[] = {
		"PATH=/usr/bin:/bin",
		"HOME=/nonexistent",
		"LANG=C",
		"LC_ALL=C",
		"GIT_CONFIG_NOSYSTEM=1",
		"GIT_CONFIG_GLOBAL=/dev/null",
		"GIT_ATTR_NOSYSTEM=1",
		"GIT_TERMINAL_PROMPT=0",
		"GIT_ALLOW_PROTOCOL=",
		"GIT_NO_LAZY_FETCH=1",
		"GIT_NO_REPLACE_OBJECTS=1",
		"GIT_OPTIONAL_LOCKS=0",
		"GIT_COMMITTER_EMAIL=claude-bottle@localhost",
	};
	char **env = mem_zalloc_array(ARRAY_LEN(fixed) + 4, sizeof(*env));
	size_t n = 0;

	for (; n < ARRAY_LEN(fixed); n++)
		env[n] = mem_strdup(fixed[n]);
	env[n++] = mem_printf("CLAUDE_BOTTLE_SLUG=%s", g->slug);
	env[n++] = mem_printf("GIT_COMMITTER_NAME=bottle %s", g->slug); /* in its branches' logs */
	if (g->power == HOST_GIT_LOOK)
		env[n++] = mem_printf("GIT_DIR=%s", g->made);
	return env;
}

int host_git_become(const struct host_git *g, const char *const *argv, struct err *e)
{
	const char *program = g->program ? g->program : host_git_find();
	const char *words[GIT_ARGS_MAX + 2] = {"git"};
	char **env = box_environment(g);
	size_t n = 0;
	int ret;

	if (!program)
		return err_set(e, -ENOENT, "git is not installed (package git)");
	for (; argv[n]; n++) {
		if (n == GIT_ARGS_MAX)
			return err_set(e, -E2BIG, "too many arguments for git");
		words[n + 1] = argv[n];
	}
	if (chdir("/") < 0)
		return err_errno(e, "chdir /");
	(void)umask(g->repo->mask);
	signals_reset();
	ret = box_limit(g, e);
	if (ret < 0)
		return ret;
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 ||
	    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_errno(e, "prctl");
	ret = box_landlock(g, program, e);
	if (ret < 0)
		return ret;
	if (close_range(3, ~0u, CLOSE_RANGE_CLOEXEC) < 0)
		return err_errno(e, "close_range");
	ret = host_git_filter(e);
	if (ret < 0)
		return ret;
	(void)execve(program, (char *const *)(uintptr_t)words, env);
	return err_errno(e, "run %s", program);
}

/* --- a question --- */

static _Noreturn void look_child(const struct host_git *g, const char *const *argv, int out)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	struct err e = ERR_INIT;

	if (null < 0 || dup2(null, 0) < 0 || dup2(out, 1) < 0)
		_exit(127);
	(void)!host_git_become(g, argv, &e);
	log_error("%s", e.text);
	_exit(127);
}

static int look_read(int fd, struct buf *out, uint64_t until_ns, struct err *e)
{
	for (;;) {
		uint64_t now_ns = time_monotonic_ns();
		char *at;
		ssize_t n;

		if (now_ns >= until_ns ||
		    io_wait(fd, POLLIN, (int)((until_ns - now_ns) / TIME_NS_PER_MS) + 1) != 1)
			return err_set(e, -ETIMEDOUT, "git does not answer");
		at = buf_reserve(out, 1);
		if (!at)
			return err_set(e, -EFBIG, "git says too much");
		n = read(fd, at, out->size - out->to);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_errno(e, "read from git");
		if (n == 0)
			return 0;
		buf_commit(out, (size_t)n);
	}
}

int host_git_look(const struct host_git *g, const char *const *argv, struct buf *out, struct err *e)
{
	uint64_t until_ns = time_monotonic_ns() + GIT_LOOK_MS * TIME_NS_PER_MS;
	_cleanup_close_ int ours = -1, theirs = -1;
	int pair[2], status = 0, ret;
	pid_t pid;

	if (pipe2(pair, O_CLOEXEC) < 0)
		return err_errno(e, "pipe");
	ours = pair[0];
	theirs = pair[1];
	pid = fork();
	if (pid < 0)
		return err_errno(e, "fork");
	if (pid == 0)
		look_child(g, argv, theirs);
	close_fd(&theirs);
	ret = look_read(ours, out, until_ns, e);
	if (ret < 0)
		(void)kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (ret == 0 && !(WIFEXITED(status) && WEXITSTATUS(status) == 0))
		ret = err_set(e, -EIO, "git %s failed in \"%s\"", argv[0], g->repo->top);
	return ret;
}

int host_git_version(char *out, size_t size, struct err *e)
{
	static const char *const argv[] = {"--version", NULL};
	/* There is no repository yet. */
	struct host_repo nowhere = {.top = (char *)(uintptr_t) "/",
				    .git_dir = (char *)(uintptr_t) "/nonexistent",
				    .common_dir = (char *)(uintptr_t) "/nonexistent",
				    .objects = (char *)(uintptr_t) "/nonexistent",
				    .mask = 077};
	struct host_git g = {
		.repo = &nowhere, .slug = "doctor", .power = HOST_GIT_LOOK, .made = "/nonexistent"};
	unsigned major = 0, minor = 0;
	_cleanup_(buf_free) struct buf text;
	struct str line;
	bool found;
	int ret;

	buf_init(&text, GIT_VERSION_MAX);
	if (!host_git_find())
		return err_set(e, -ENOENT,
			       "git is not installed on this host, which workspace: clone needs "
			       "(package git)");
	ret = host_git_look(&g, argv, &text, e);
	if (ret < 0)
		return ret;
	(void)str_cut(buf_str(&text), '\n', &line, &found);
	(void)snprintf(out, size, STR_FMT, STR_ARG(line));
	if (sscanf(out, "git version %u.%u", &major, &minor) != 2 || major < GIT_MAJOR_MIN ||
	    (major == GIT_MAJOR_MIN && minor < GIT_MINOR_MIN))
		return err_set(e, -ENOTSUP,
			       "%s on this host: workspace: clone needs %d.%d or later", out,
			       GIT_MAJOR_MIN, GIT_MINOR_MIN);
	return 0;
}

void host_git_probe(struct backend_check *c)
{
	struct err e = ERR_INIT;

	*c = (struct backend_check){.name = "git of this host"};
	c->is_ok = host_git_version(c->text, sizeof(c->text), &e) == 0;
	if (!c->is_ok)
		(void)snprintf(c->text, sizeof(c->text), "%.250s", e.text);
}
