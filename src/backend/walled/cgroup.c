#include "backend/walled/cgroup.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>

#define CGROUP_ROOT	  "/sys/fs/cgroup"
#define CGROUP_PARENT	  "claude-bottle"
#define CGROUP_PERIOD_US  UINT64_C(100000)
#define CGROUP_FILE_MAX	  65536
#define CGROUP_KILL_TRIES 50

static const char *const cgroup_v1[] = {"pids", "memory", "cpu"};

static int cgroup_write(const char *dir, const char *file, const char *text)
{
	_cleanup_free_ char *path = mem_printf("%s/%s", dir, file);
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);

	return fd < 0 ? -errno : io_write_all(fd, text, strlen(text));
}

static int cgroup_write_number(const char *dir, const char *file, uint64_t value)
{
	char text[32];

	(void)snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
	return cgroup_write(dir, file, text);
}

static bool cgroup_has(const char *dir, const char *file)
{
	_cleanup_free_ char *path = mem_printf("%s/%s", dir, file);

	return access(path, W_OK) == 0;
}

/* Directories are 0755 as the kernel wants them; only their owner may move processes into them. */
static bool cgroup_add(struct cgroup *c, char *path)
{
	_cleanup_free_ char *owned = path;

	if (c->n == CGROUP_PATHS_MAX || (mkdir(path, 0755) < 0 && errno != EEXIST))
		return false;
	c->paths[c->n++] = take_ptr(&owned);
	return true;
}

static void cgroup_note(struct cgroup *c, const char *what)
{
	size_t n = strlen(c->note);

	(void)snprintf(c->note + n, sizeof(c->note) - n, "%s%s", n ? ", " : "", what);
}

static void cgroup_limit_v1(struct cgroup *c, const char *controller, const char *dir,
			    const struct plan_limits *l)
{
	bool is_set = true;

	if (strcmp(controller, "pids") == 0 && l->processes > 0) {
		is_set = cgroup_write_number(dir, "pids.max", l->processes) == 0;
	} else if (strcmp(controller, "memory") == 0 && l->memory_bytes > 0) {
		is_set = cgroup_write_number(dir, "memory.limit_in_bytes", l->memory_bytes) == 0;
		/* Without swap accounting there is no such file, and no harm. */
		(void)cgroup_write_number(dir, "memory.memsw.limit_in_bytes", l->memory_bytes);
	} else if (strcmp(controller, "cpu") == 0 && l->cpu_milli > 0) {
		(void)cgroup_write_number(dir, "cpu.cfs_period_us", CGROUP_PERIOD_US);
		is_set = cgroup_write_number(dir, "cpu.cfs_quota_us",
					     l->cpu_milli * CGROUP_PERIOD_US / 1000) == 0;
	}
	if (is_set)
		cgroup_note(c, controller);
}

static void cgroup_make_v1(struct cgroup *c, const char *slug, const struct plan_limits *l)
{
	for (size_t i = 0; i < ARRAY_LEN(cgroup_v1); i++) {
		_cleanup_free_ char *top = mem_printf(CGROUP_ROOT "/%s", cgroup_v1[i]);
		_cleanup_free_ char *parent = mem_printf("%s/" CGROUP_PARENT, top);

		if (!cgroup_has(top, "cgroup.procs") ||
		    (mkdir(parent, 0755) < 0 && errno != EEXIST))
			continue;
		if (cgroup_add(c, mem_printf("%s/%s", parent, slug)))
			cgroup_limit_v1(c, cgroup_v1[i], c->paths[c->n - 1], l);
	}
}

/* Our own version 2 group, from the "0::/path" line; NULL without one. */
static char *cgroup_own_v2(void)
{
	struct str text, rest;
	char *path = NULL;

	if (access(CGROUP_ROOT "/cgroup.controllers", F_OK) < 0 ||
	    io_read_file(AT_FDCWD, "/proc/self/cgroup", CGROUP_FILE_MAX, &text, NULL) < 0)
		return NULL;
	rest = text;
	while (rest.n > 0 && !path) {
		struct str line;
		bool found;

		rest = str_cut(rest, '\n', &line, &found);
		if (str_starts(line, STR_LIT("0::/")))
			path = mem_printf(CGROUP_ROOT STR_FMT, STR_ARG(str_sub(line, 3, line.n)));
	}
	free((void *)(uintptr_t)text.p);
	return path;
}

/* The nearest group above ours in which we may make children and move processes: as root the root
 * group, as a user what was delegated. */
static char *cgroup_parent_v2(void)
{
	_cleanup_free_ char *path = cgroup_own_v2();

	if (!path)
		return NULL;
	if (geteuid() == 0)
		return mem_strdup(CGROUP_ROOT);
	/* A group with processes of its own cannot give controllers to children. */
	for (char *slash = strrchr(path, '/'); slash && slash > path + strlen(CGROUP_ROOT);
	     slash = strrchr(path, '/')) {
		*slash = '\0';
		if (access(path, W_OK) == 0 && cgroup_has(path, "cgroup.procs"))
			return take_ptr(&path);
	}
	return NULL;
}

static void cgroup_limit_v2(struct cgroup *c, const char *dir, const struct plan_limits *l)
{
	char text[64];

	if (l->processes == 0 || cgroup_write_number(dir, "pids.max", l->processes) == 0)
		cgroup_note(c, "pids");
	if (l->memory_bytes == 0 || cgroup_write_number(dir, "memory.max", l->memory_bytes) == 0)
		cgroup_note(c, "memory");
	(void)cgroup_write(dir, "memory.swap.max", "0");
	(void)snprintf(text, sizeof(text), "%llu %llu",
		       (unsigned long long)(l->cpu_milli * CGROUP_PERIOD_US / 1000),
		       (unsigned long long)CGROUP_PERIOD_US);
	if (l->cpu_milli == 0 || cgroup_write(dir, "cpu.max", text) == 0)
		cgroup_note(c, "cpu");
}

static void cgroup_enable_v2(const char *dir)
{
	(void)cgroup_write(dir, "cgroup.subtree_control", "+pids");
	(void)cgroup_write(dir, "cgroup.subtree_control", "+memory");
	(void)cgroup_write(dir, "cgroup.subtree_control", "+cpu");
}

static void cgroup_make_v2(struct cgroup *c, const char *slug, const struct plan_limits *l)
{
	_cleanup_free_ char *top = cgroup_parent_v2();
	_cleanup_free_ char *parent = NULL;

	if (!top)
		return;
	parent = mem_printf("%s/" CGROUP_PARENT, top);
	cgroup_enable_v2(top);
	if (mkdir(parent, 0755) < 0 && errno != EEXIST)
		return;
	cgroup_enable_v2(parent);
	if (cgroup_add(c, mem_printf("%s/%s", parent, slug)))
		cgroup_limit_v2(c, c->paths[c->n - 1], l);
}

void cgroup_make(struct cgroup *c, const char *slug, const struct plan_limits *l)
{
	memset(c, 0, sizeof(*c));
	if (access(CGROUP_ROOT "/cgroup.controllers", F_OK) == 0)
		cgroup_make_v2(c, slug, l);
	else if (geteuid() == 0)
		cgroup_make_v1(c, slug, l);
	if (c->n == 0)
		(void)snprintf(c->note, sizeof(c->note), "no cgroup that we may use");
}

int cgroup_join(const struct cgroup *c, struct err *e)
{
	for (size_t i = 0; i < c->n; i++) {
		int ret = cgroup_write(c->paths[i], "cgroup.procs", "0");

		/* A delegated subtree may refuse to take a process from elsewhere: then the rlimits
		 * are all there is. Root's own groups never refuse. */
		if (ret < 0 && geteuid() == 0) {
			errno = -ret;
			return err_errno(e, "join the cgroup %s", c->paths[i]);
		}
	}
	return 0;
}

/* Kills what is inside; true when nothing is left. */
static bool cgroup_sweep(const char *dir)
{
	_cleanup_free_ char *path = mem_printf("%s/cgroup.procs", dir);
	struct str text, rest;
	bool is_empty = true;

	(void)cgroup_write(dir, "cgroup.kill", "1");
	if (io_read_file(AT_FDCWD, path, CGROUP_FILE_MAX, &text, NULL) < 0)
		return true;
	rest = text;
	while (rest.n > 0) {
		struct str line;
		uint64_t pid;
		bool found;

		rest = str_cut(rest, '\n', &line, &found);
		if (str_to_u64(line, INT32_MAX, &pid) == 0 && pid > 1) {
			(void)kill((pid_t)pid, SIGKILL);
			is_empty = false;
		}
	}
	free((void *)(uintptr_t)text.p);
	return is_empty;
}

/* A killed process leaves its group when it is reaped, which nothing announces for version 1. */
static void cgroup_remove_dir(const char *dir)
{
	for (int i = 0; i < CGROUP_KILL_TRIES; i++) {
		if (rmdir(dir) == 0 || errno == ENOENT)
			return;
		(void)cgroup_sweep(dir);
		(void)poll(NULL, 0, 2);
	}
}

void cgroup_remove(struct cgroup *c)
{
	for (size_t i = 0; i < c->n; i++) {
		char *slash;

		cgroup_remove_dir(c->paths[i]);
		/* The parent goes with its last bottle. */
		slash = strrchr(c->paths[i], '/');
		*slash = '\0';
		(void)rmdir(c->paths[i]);
		free(c->paths[i]);
	}
	c->n = 0;
}

void cgroup_remove_slug(const char *slug)
{
	_cleanup_free_ char *top = cgroup_parent_v2();
	struct cgroup c = {.n = 0};

	for (size_t i = 0; i < ARRAY_LEN(cgroup_v1); i++)
		c.paths[c.n++] =
			mem_printf(CGROUP_ROOT "/%s/" CGROUP_PARENT "/%s", cgroup_v1[i], slug);
	if (top)
		c.paths[c.n++] = mem_printf("%s/" CGROUP_PARENT "/%s", top, slug);
	cgroup_remove(&c);
}

bool cgroup_probe(char *note, size_t size)
{
	_cleanup_free_ char *top = NULL;

	if (access(CGROUP_ROOT "/cgroup.controllers", F_OK) == 0) {
		top = cgroup_parent_v2();
		(void)snprintf(note, size,
			       top ? "version 2, groups are made under %s"
				   : "version 2, nothing delegated to this user: only rlimits hold "
				     "(start in a systemd user service with Delegate=yes)%s",
			       top ? top : "");
		return top != NULL;
	}
	if (geteuid() == 0 && cgroup_has(CGROUP_ROOT "/pids", "cgroup.procs")) {
		(void)snprintf(note, size, "version 1 controllers, as root");
		return true;
	}
	(void)snprintf(note, size, "none that we may use: only rlimits hold");
	return false;
}
