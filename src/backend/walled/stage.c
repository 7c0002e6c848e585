#include "backend/walled/stage.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* There on every Linux, and never a thing that somebody exposes. */
#define STAGE_DIR "/dev/shm"

static const char *stage_put(struct stage *s, struct stage_item i)
{
	if (!i.from || !s->is_needed)
		return i.from;
	i.from = mem_strdup(i.from);
	i.to = mem_printf(STAGE_DIR "/%zu", s->n);
	s->items = mem_grow_array(s->items, &s->cap, s->n + 1, sizeof(*s->items));
	s->items[s->n++] = i;
	return i.to;
}

const char *stage_add(struct stage *s, const char *from, bool is_mapped)
{
	return stage_put(s, (struct stage_item){(char *)(uintptr_t)from, .is_mapped = is_mapped});
}

const char *stage_add_device(struct stage *s, const char *from)
{
	return stage_put(s, (struct stage_item){(char *)(uintptr_t)from, .is_device = true});
}

void stage_free(struct stage *s)
{
	for (size_t i = 0; i < s->n; i++) {
		free(s->items[i].from);
		free(s->items[i].to);
	}
	free(s->items);
	*s = (struct stage){0};
}

/* --- ids --- */

static int ids_write(pid_t pid, const char *file, unsigned disk, unsigned agent, struct err *e)
{
	_cleanup_free_ char *path = mem_printf("/proc/%d/%s", (int)pid, file);
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);
	char line[64];
	int n = snprintf(line, sizeof(line), "%u %u 1", disk, agent);

	/* For a mount the inside is the disk: "disk agent count". */
	return fd < 0 || write(fd, line, (size_t)n) != n ? err_errno(e, "write %s", path) : 0;
}

/* A user namespace that nobody is in, as mount_setattr(2) wants it: the map alone counts. */
static int ids_open(const struct stage *s, struct err *e)
{
	_cleanup_close_ int up = -1, down = -1, fd = -1;
	_cleanup_free_ char *path = NULL;
	int pair[2], ret = 0;
	pid_t pid;
	char byte;

	if (pipe2(pair, O_CLOEXEC) < 0)
		return err_errno(e, "pipe");
	up = pair[0];
	down = pair[1];
	pid = fork();
	if (pid < 0)
		return err_errno(e, "fork");
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (unshare(CLONE_NEWUSER) < 0 || write(down, "", 1) != 1)
			_exit(1);
		(void)pause();
		_exit(0);
	}
	close_fd(&down);
	if (read(up, &byte, 1) != 1)
		ret = err_set(e, -EPERM, "make a user namespace for the workspace's ids");
	if (ret == 0)
		ret = ids_write(pid, "uid_map", s->disk_uid, s->uid, e);
	if (ret == 0)
		ret = ids_write(pid, "gid_map", s->disk_gid, s->gid, e);
	path = mem_printf("/proc/%d/ns/user", (int)pid);
	fd = ret == 0 ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	if (ret == 0 && fd < 0)
		ret = err_errno(e, "open the workspace's ids");
	(void)kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	return ret < 0 ? ret : take_fd(&fd);
}

/* What is mounted below it on the host is not taken along: it may be of a file system that cannot
 * be mapped. */
static int stage_bind_mapped(const struct stage *s, const struct stage_item *i, int from,
			     struct err *e)
{
	_cleanup_close_ int ids = ids_open(s, e), tree = -1;
	struct mount_attr attr = {.attr_set =
					  MOUNT_ATTR_IDMAP | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV};

	if (ids < 0)
		return ids;
	attr.userns_fd = (unsigned)ids;
	tree = open_tree(from, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (tree < 0)
		return err_errno(e, "take \"%s\"", i->from);
	if (mount_setattr(tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0)
		return err_errno(e,
				 "the file system of \"%s\" cannot show its files as the agent's; "
				 "start the bottle as an ordinary user",
				 i->from);
	if (move_mount(tree, "", AT_FDCWD, i->to, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return err_errno(e, "bind \"%s\"", i->from);
	return 0;
}

static int stage_make_device(const struct stage *s, const struct stage_item *i,
			     const struct stat *st, struct err *e)
{
	if (!S_ISCHR(st->st_mode))
		return err_set(e, -ENODEV, "\"%s\" is no device", i->from);
	if (mknod(i->to, S_IFCHR | 0600, st->st_rdev) < 0 || chown(i->to, s->uid, s->gid) < 0)
		return err_errno(e, "make a \"%s\" for uid %u", i->from, (unsigned)s->uid);
	return 0;
}

/* from is opened before the stage hides STAGE_DIR, and bound through its descriptor: what was
 * checked is what is bound. */
static int stage_bind(const struct stage *s, const struct stage_item *i, int from, struct err *e)
{
	_cleanup_free_ char *source = mem_printf("/proc/self/fd/%d", from);
	_cleanup_close_ int file = -1;
	struct stat st;

	if (fstat(from, &st) < 0)
		return err_errno(e, "stat \"%s\"", i->from);
	if (i->is_device)
		return stage_make_device(s, i, &st, e);
	if (S_ISDIR(st.st_mode)) {
		if (mkdir(i->to, 0755) < 0)
			return err_errno(e, "make \"%s\"", i->to);
	} else {
		file = open(i->to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
		if (file < 0)
			return err_errno(e, "make \"%s\"", i->to);
	}
	if (i->is_mapped)
		return stage_bind_mapped(s, i, from, e);
	if (mount(source, i->to, NULL, MS_BIND | MS_REC, NULL) < 0)
		return err_errno(e, "bind \"%s\"", i->from);
	return 0;
}

int stage_make(const struct stage *s, struct err *e)
{
	_cleanup_free_ int *fds = mem_zalloc_array(s->n + 1, sizeof(*fds));
	size_t n = 0;
	int ret = 0;

	if (unshare(CLONE_NEWNS) < 0)
		return err_errno(e, "make a mount namespace");
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return err_errno(e, "make the mounts private");
	for (; ret == 0 && n < s->n; n++) {
		fds[n] = open(s->items[n].from, O_PATH | O_CLOEXEC);
		if (fds[n] < 0)
			ret = err_errno(e, "open \"%s\"", s->items[n].from);
	}
	if (ret == 0 && mount("stage", STAGE_DIR, "tmpfs", MS_NOSUID, "mode=0755,size=1m") < 0)
		ret = err_errno(e, "mount a stage on " STAGE_DIR);
	for (size_t i = 0; i < n && ret == 0; i++)
		ret = stage_bind(s, &s->items[i], fds[i], e);
	for (size_t i = 0; i < n; i++)
		close_fd(&fds[i]);
	return ret;
}
