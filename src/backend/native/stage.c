#include "backend/native/stage.h"

#include "base/clean.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>

/* There on every Linux, and never a thing that somebody exposes. */
#define STAGE_DIR "/dev/shm"

void stage_plan(struct stage *s, size_t n_expose)
{
	s->home = mem_strdup(STAGE_DIR "/home");
	s->ca = mem_strdup(STAGE_DIR "/ca.pem");
	s->expose = mem_zalloc_array(n_expose + 1, sizeof(*s->expose));
	s->n = n_expose;
	for (size_t i = 0; i < n_expose; i++)
		s->expose[i] = mem_printf(STAGE_DIR "/%zu", i);
}

void stage_free(struct stage *s)
{
	for (size_t i = 0; i < s->n; i++)
		free(s->expose[i]);
	free(s->expose);
	free(s->home);
	free(s->ca);
	*s = (struct stage){0};
}

/* from is opened before the stage hides STAGE_DIR, and bound through its descriptor: what was
 * checked is what is bound. */
static int stage_bind(int from, const char *name, const char *to, struct err *e)
{
	_cleanup_free_ char *source = mem_printf("/proc/self/fd/%d", from);
	_cleanup_close_ int file = -1;
	struct stat st;

	if (fstat(from, &st) < 0)
		return err_errno(e, "stat \"%s\"", name);
	if (S_ISDIR(st.st_mode)) {
		if (mkdir(to, 0755) < 0)
			return err_errno(e, "make \"%s\"", to);
	} else {
		file = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
		if (file < 0)
			return err_errno(e, "make \"%s\"", to);
	}
	if (mount(source, to, NULL, MS_BIND | MS_REC, NULL) < 0)
		return err_errno(e, "bind \"%s\"", name);
	return 0;
}

/* Number i of what is bound: what the plan exposes, then the home and the CA file. */
struct stage_item {
	const char *from, *to;
	int fd;
};

int stage_make(const struct stage *s, const char *home, const char *ca, char *const *expose,
	       struct err *e)
{
	size_t n = s->n + 2;
	_cleanup_free_ struct stage_item *items = mem_zalloc_array(n, sizeof(*items));
	int ret = 0;

	for (size_t i = 0; i < s->n; i++)
		items[i] = (struct stage_item){expose[i], s->expose[i], -1};
	items[s->n] = (struct stage_item){home, s->home, -1};
	items[s->n + 1] = (struct stage_item){ca, s->ca, -1};
	if (unshare(CLONE_NEWNS) < 0)
		return err_errno(e, "make a mount namespace");
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return err_errno(e, "make the mounts private");
	for (size_t i = 0; i < n; i++) {
		items[i].fd = open(items[i].from, O_PATH | O_CLOEXEC);
		if (items[i].fd < 0)
			return err_errno(e, "open \"%s\"", items[i].from);
	}
	if (mount("stage", STAGE_DIR, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=1m") < 0)
		return err_errno(e, "mount a stage on " STAGE_DIR);
	for (size_t i = 0; i < n && ret == 0; i++)
		ret = stage_bind(items[i].fd, items[i].from, items[i].to, e);
	for (size_t i = 0; i < n; i++)
		(void)close(items[i].fd);
	return ret;
}
