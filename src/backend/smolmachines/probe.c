/* doctor: what a bottle here needs, tried as far as that goes without starting a machine. To be
 * pasted into a report: so the versions are in it, and what only a start proves is said to be. */
#include "backend/smolmachines/smol_int.h"

#include "backend/agent_home.h"
#include "backend/host_git.h"
#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define PROBE_SLUG "doctor"

struct probe {
	struct backend_check *checks;
	size_t *n;
};

static void probe_add(struct probe *p, const char *name, bool is_ok, bool is_required,
		      const char *text)
{
	struct backend_check *c;

	if (*p->n >= BACKEND_CHECKS_MAX)
		return;
	c = &p->checks[(*p->n)++];
	memset(c, 0, sizeof(*c));
	(void)snprintf(c->name, sizeof(c->name), "%s", name);
	(void)snprintf(c->text, sizeof(c->text), "%.250s", text);
	c->is_ok = is_ok;
	c->is_required = is_required;
}

/* A wall, and in it a cell that can do no more than ask the tool for its version. */
static int probe_cell(const struct smol_install *i, struct walled *w, struct smol_cli *c,
		      const char *home, struct err *e)
{
	_cleanup_close_ int fd = -1;
	struct cell cell = CELL_INIT;
	struct smol_install bare = *i;
	int ret = wall_make(&w->wall, WALL_PINNED_DEFAULT, NULL, 0, e);

	if (ret == 0) {
		fd = agent_home_open(home, w->wall.uid, w->wall.gid, e);
		ret = fd < 0 ? fd : 0;
	}
	/* Needs folders in that home, and only a machine needs it. */
	bare.rootfs[0] = '\0';
	if (ret == 0)
		ret = smol_cell_make(&cell, &bare, w, PROBE_SLUG, home, NULL, e);
	c->cell = &cell;
	c->program = i->program;
	if (ret == 0)
		ret = smol_cli_open(c, e);
	c->cell = NULL;
	cell_free(&cell);
	return ret;
}

int smol_check_version(const struct smol_install *i, struct smol_cli *c, struct err *e)
{
	char folder[] = "/tmp/claude-bottle-smolvm-XXXXXX";
	struct walled w = {.wall = WALL_INIT};
	int ret;

	memset(c, 0, sizeof(*c));
	if (!mkdtemp(folder))
		return err_errno(e, "make a folder in /tmp");
	{
		_cleanup_free_ char *home = mem_printf("%s/home", folder);
		_cleanup_close_ int fd = -1;

		ret = probe_cell(i, &w, c, home, e);
		fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd >= 0)
			(void)!io_remove_tree(fd, "home", NULL);
	}
	(void)rmdir(folder);
	wall_free(&w.wall);
	return ret;
}

static void probe_tool(struct probe *p)
{
	struct err e = ERR_INIT;
	struct smol_install i;
	struct smol_cli c;
	char text[256];

	if (smol_find(&i, &e) < 0) {
		probe_add(p, "smolvm", false, true, e.text);
		return;
	}
	if (smol_check_version(&i, &c, &e) < 0) {
		probe_add(p, "smolvm", false, true, e.text);
		return;
	}
	(void)snprintf(text, sizeof(text),
		       "%u.%u.%u at %.120s, asked in a wall and a cell; command line of %s on",
		       c.version.major, c.version.minor, c.version.patch, i.shown, c.dialect->name);
	probe_add(p, "smolvm", true, true, text);
	(void)snprintf(text, sizeof(text), "%.200s",
		       i.rootfs[0] ? i.rootfs
				   : "no agent-rootfs in the user's data: smolvm must find its "
				     "own beside its program");
	probe_add(p, "smolvm's guest", i.rootfs[0] != '\0', false, text);
}

static void probe_kvm(struct probe *p)
{
	_cleanup_close_ int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int version = fd < 0 ? -1 : ioctl(fd, KVM_GET_API_VERSION, 0);
	struct stat st;
	char text[256];

	if (fd < 0) {
		(void)snprintf(text, sizeof(text), "/dev/kvm: %s%s", strerror(errno),
			       errno == EACCES ? ": add the user to the group kvm" : "");
		probe_add(p, "kvm", false, true, text);
		return;
	}
	/* The monitor is nobody's user there. */
	if (geteuid() == 0 && (fstat(fd, &st) < 0 || (st.st_mode & 0006) != 0006)) {
		probe_add(p, "kvm", false, true,
			  "/dev/kvm is not open to every user, as the monitor of a bottle that "
			  "root starts needs it: start bottles as a user of the group kvm");
		return;
	}
	(void)snprintf(text, sizeof(text),
		       "API %d; whether a machine boots with it, only a start shows", version);
	probe_add(p, "kvm", version == KVM_API_VERSION, true, text);
}

int smol_probe(struct backend_check checks[BACKEND_CHECKS_MAX], size_t *n, struct err *e)
{
	struct probe p = {.checks = checks, .n = n};

	*n = 0;
	probe_tool(&p);
	probe_kvm(&p);
	if (*n < BACKEND_CHECKS_MAX)
		host_git_probe(&checks[(*n)++]);
	if (*n < BACKEND_CHECKS_MAX)
		walled_probe_docker(&checks[(*n)++]);
	probe_add(&p, "proof", true, false,
		  "each start: a canary in the guest reaches the bundle, and neither this host, "
		  "1.1.1.1, egress nor the registry; else no agent begins");
	for (size_t i = 0; i < *n; i++) {
		if (checks[i].is_required && !checks[i].is_ok)
			return err_set(e, -ENOTSUP, "%s: %s", checks[i].name, checks[i].text);
	}
	return 0;
}
