#include "backend/docker/docker_int.h"

#include "backend/agent_env.h"
#include "backend/agent_home.h"
#include "backend/agent_id.h"
#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"
#include "bundle/program.h"
#include "guest/guest_host.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define PLACE_FILE_MAX 65536

/* Where a file of the agent's /etc lies on the host: "etc/passwd" below the bottle's folder. */
static int place_write_file(const struct bottle *b, const struct agent_file *f, struct err *e)
{
	_cleanup_free_ char *path = mem_printf("%s%s", b->owner.dir, f->path);
	struct str text;
	int ret;

	/* A sealed memory file of ours; its offset is where the writer left it. */
	if (lseek(f->fd, 0, SEEK_SET) < 0)
		return err_errno(e, "read \"%s\"", f->path);
	ret = io_read_all(f->fd, PLACE_FILE_MAX, &text, e);
	if (ret < 0)
		return ret;
	ret = docker_write_file(path, text, e);
	free((void *)(uintptr_t)text.p);
	return ret;
}

int docker_write_files(struct bottle *b, struct err *e)
{
	_cleanup_free_ char *ca = mem_printf("%s/etc/" DOCKER_CA_FILE, b->owner.dir);
	struct agent_file files[AGENT_FILES_MAX];
	size_t n;
	int ret = agent_files_make(files, &n, b->plan, b->wall.bundle, b->uid, b->gid, e);

	if (ret < 0)
		return ret;
	for (size_t i = 0; ret == 0 && i < n; i++)
		ret = place_write_file(b, &files[i], e);
	agent_files_free(files, n);
	/* There for the mount; written in place when the bundle has told its certificate. */
	return ret == 0 ? docker_write_file(ca, STR_LIT(""), e) : ret;
}

int docker_write_ca(const struct bottle *b, struct str ca_pem, struct err *e)
{
	_cleanup_free_ char *path = mem_printf("%s/etc/" DOCKER_CA_FILE, b->owner.dir);
	_cleanup_close_ int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0)
		return err_errno(e, "open \"%s\"", path);
	return agent_ca_write(fd, ca_pem, e);
}

/* The path under which the engine finds the executable that runs in the agent's container. */
static int place_find_bundle(struct bottle *b, struct err *e)
{
	_cleanup_close_ int fd = bundle_find(e);
	char link[40], path[4096];
	ssize_t n;

	if (fd < 0)
		return fd;
	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path));
	if (n <= 0 || (size_t)n == sizeof(path))
		return err_set(e, -ENAMETOOLONG, "the path of " BUNDLE_PROGRAM);
	b->bundle_path = mem_printf("%.*s", (int)n, path);
	return 0;
}

/* What the agent makes in a workspace must be its owner's, and there is nothing between the
 * container's ids and the host's: so it has the owner's. */
static int place_own_workspace(struct bottle *b, struct err *e)
{
	const struct workspace *w = &b->workspace;
	_cleanup_close_ int home = -1;

	if (b->plan->agent_uid == 0)
		return err_set(e, -EINVAL,
			       "workspace: mount and an agent that is uid 0 in its container: its "
			       "files would be root's on this host");
	if (w->uid == 0)
		return err_set(e, -EPERM,
			       "the workspace \"%s\" is root's, and with the docker backend the "
			       "agent would have to be: start the bottle as an ordinary user, or "
			       "natively",
			       w->path);
	b->uid = w->uid;
	b->gid = w->gid;
	home = agent_home_open(b->home, b->uid, b->gid, e);
	return home < 0 ? home : workspace_give(w, b->uid, b->gid, e);
}

/* The agent's ids in the container are its ids on the host: there is no user namespace between
 * them. So that one bottle's escape is not into another bottle's files, each has its own where we
 * are root; else they are the user's. */
static int place_pick_ids(struct bottle *b, struct err *e)
{
	_cleanup_close_ int home = -1;
	bool is_root = b->plan->agent_uid == 0;
	int ret = agent_id_pick(&b->uid, &b->gid, is_root ? NULL : b->home, e);

	if (ret < 0)
		return ret;
	home = agent_home_open(b->home, is_root ? 0 : b->uid, is_root ? 0 : b->gid, e);
	if (home < 0)
		return home;
	/* Root in there is no root: without CAP_DAC_OVERRIDE it needs a permission like others. Who
	 * else is on this host does not come past the state folder. */
	if (is_root && geteuid() != 0 && fchmod(home, 0777) < 0)
		return err_errno(e, "open \"%s\" to root in the bottle", b->home);
	if (is_root)
		b->uid = b->gid = 0;
	return 0;
}

int docker_make_place(struct bottle *b, struct err *e)
{
	_cleanup_free_ char *etc = mem_printf("%s/etc/claude-bottle", b->owner.dir);
	_cleanup_free_ char *agent = mem_printf("%s/agent", b->owner.dir);
	int ret;

	ret = io_mkdir_p(etc, 0711, e);
	if (ret == 0)
		ret = place_find_bundle(b, e);
	if (ret == 0)
		ret = agent_expose_check(b->plan, e);
	if (ret == 0)
		ret = workspace_prepare(&b->workspace, b->plan, b->owner.state_dir, e);
	if (ret == 0)
		ret = b->workspace.path ? place_own_workspace(b, e) : place_pick_ids(b, e);
	if (ret == 0)
		ret = guest_listen(agent, &b->guest_listen_fd, e);
	if (ret == 0)
		ret = bundle_box_place(&b->box, e);
	return ret;
}
