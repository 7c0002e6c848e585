/* doctor: what a bottle here needs, tried as far as that goes without starting a machine. To be
 * pasted into a report: so the versions are in it, and what only a start proves is said to be. */
#include "backend/smolmachines/smol_int.h"

#include "backend/agent_home.h"
#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PROBE_SLUG     "doctor"
#define PROBE_MS       5000
#define PROBE_SAID_MAX 4096

struct probe {
	struct backend_check *checks;
	size_t *n;
};

/* Whether the cell's user may use the device there. */
static bool probe_device(const struct cell *c)
{
	char *const argv[] = {(char *)(uintptr_t) "/bin/sh", (char *)(uintptr_t) "-c",
			      (char *)(uintptr_t) ": <>/dev/kvm", NULL};
	const struct cell_run run = {.argv = argv, .in_fd = -1, .out_fd = -1, .err_fd = -1};
	struct str out = STR_NULL, err = STR_NULL;
	bool is_open = cell_call(c, &run, PROBE_MS, PROBE_SAID_MAX, &out, &err, NULL) == 0;

	free((void *)(uintptr_t)out.p);
	free((void *)(uintptr_t)err.p);
	return is_open;
}

/* A wall, and in it a cell that can do no more than ask the tool for its version. */
static int probe_cell(const struct smol_install *i, struct walled *w, const struct smol_folders *f,
		      struct smol_cli *c, bool *has_kvm, struct err *e)
{
	_cleanup_close_ int fd = -1;
	struct cell cell = CELL_INIT;
	struct smol_install bare = *i;
	int ret = wall_make(&w->wall, WALL_PINNED_DEFAULT, NULL, 0, e);

	if (ret == 0) {
		fd = agent_home_open(f->home, w->wall.uid, w->wall.gid, e);
		ret = fd < 0 ? fd : 0;
	}
	/* Needs folders in that home, and only a machine needs it. */
	bare.rootfs[0] = '\0';
	if (ret == 0)
		ret = smol_cell_make(&cell, &bare, w, PROBE_SLUG, f, e);
	c->cell = &cell;
	c->program = i->program;
	if (ret == 0) {
		*has_kvm = probe_device(&cell);
		ret = smol_cli_open(c, e);
	}
	c->cell = NULL;
	cell_free(&cell);
	return ret;
}

int smol_check_version(const struct smol_install *i, struct smol_cli *c, bool *has_kvm,
		       struct err *e)
{
	char folder[] = "/tmp/claude-bottle-smolvm-XXXXXX";
	_cleanup_free_ char *home = NULL, *kvm = NULL;
	struct walled w = {.wall = WALL_INIT};
	struct smol_folders f = {.in = NULL};
	_cleanup_close_ int tmp = -1;
	int ret;

	memset(c, 0, sizeof(*c));
	*has_kvm = false;
	if (!mkdtemp(folder))
		return err_errno(e, "make a folder in /tmp");
	f.home = home = mem_printf("%s/home", folder);
	f.kvm = kvm = mem_printf("%s/kvm", folder);
	ret = probe_cell(i, &w, &f, c, has_kvm, e);
	wall_free(&w.wall);
	tmp = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (tmp >= 0)
		(void)!io_remove_tree(tmp, folder + strlen("/tmp/"), NULL);
	return ret;
}

static void probe_kvm(struct probe *p, bool has_kvm)
{
	char text[256];

	if (has_kvm)
		(void)snprintf(text, sizeof(text),
			       "opened by the monitor's user in the cell; whether a machine boots "
			       "with it, only a start shows");
	else
		(void)snprintf(text, sizeof(text),
			       "/dev/kvm %s: smolvm starts no machine without it",
			       access("/dev/kvm", F_OK) < 0
				       ? "is not there"
				       : "cannot be opened in the cell (the user must be of the "
					 "group kvm)");
	/* Whether it is needed is the tool's matter, and its own words come with a start. */
	backend_check_add(p->checks, p->n, "kvm", has_kvm, false, text);
}

static void probe_tool(struct probe *p)
{
	struct err e = ERR_INIT;
	struct smol_install i;
	struct smol_cli c;
	bool has_kvm;
	char text[256];

	if (smol_find(&i, &e) < 0 || smol_check_version(&i, &c, &has_kvm, &e) < 0) {
		backend_check_add(p->checks, p->n, "smolvm", false, true, e.text);
		return;
	}
	(void)snprintf(text, sizeof(text),
		       "%u.%u.%u at %.120s, asked in a wall and a cell; command line as of %s",
		       c.version.major, c.version.minor, c.version.patch, i.shown, c.dialect->name);
	backend_check_add(p->checks, p->n, "smolvm", true, true, text);
	(void)snprintf(text, sizeof(text), "%.200s",
		       i.rootfs[0] ? i.rootfs
				   : "no agent-rootfs in the user's data: smolvm must find its "
				     "own beside its program");
	backend_check_add(p->checks, p->n, "smolvm's guest", i.rootfs[0] != '\0', false, text);
	probe_kvm(p, has_kvm);
}

int smol_probe(struct backend_check checks[BACKEND_CHECKS_MAX], size_t *n, struct err *e)
{
	struct probe p = {.checks = checks, .n = n};
	int ret = walled_probe(checks, n, true, e);

	probe_tool(&p);
	if (*n < BACKEND_CHECKS_MAX)
		walled_probe_docker(&checks[(*n)++]);
	backend_check_add(
		checks, n, "proof", true, false,
		"each start: a canary in the guest reaches the bundle, and neither this host, "
		"1.1.1.1, egress nor the registry; else no agent begins");
	return ret == 0 ? backend_checks_judge(checks, *n, e) : ret;
}
