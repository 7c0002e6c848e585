#include "workspace/watch.h"

#include "base/clean.h"
#include "base/mem.h"
#include "base/str.h"
#include "workspace/workspace_int.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#define WATCH_EVENTS                                                                               \
	(IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_ONLYDIR | IN_DONT_FOLLOW |       \
	 IN_EXCL_UNLINK)

struct watch_item {
	char *path;
	const char *name; /* its last segment */
	int wd;		  /* of the folder that it lies in */
	uint64_t dev, ino;
};

struct workspace_watch {
	int fd, root;
	struct watch_item *items;
	size_t n;
};

void workspace_watch_free(struct workspace_watch *w)
{
	if (!w)
		return;
	for (size_t i = 0; i < w->n; i++)
		free(w->items[i].path);
	free(w->items);
	close_fd(&w->fd);
	close_fd(&w->root);
	free(w);
}

int workspace_watch_fd(const struct workspace_watch *w)
{
	return w->fd;
}

static int watch_add(struct workspace_watch *w, const struct workspace_made *m, struct err *e)
{
	struct watch_item *i = &w->items[w->n];
	_cleanup_close_ int parent = -1;
	const char *name;
	char path[64];

	i->path = mem_strdup(m->path);
	i->dev = m->dev;
	i->ino = m->ino;
	w->n++;
	parent = workspace_open_parent(w->root, i->path, &name);
	if (parent < 0)
		return err_errno(e, "watch \"%s\" in the workspace", i->path);
	i->name = i->path + (name - i->path);
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d/.", parent);
	i->wd = inotify_add_watch(w->fd, path, WATCH_EVENTS);
	return i->wd < 0 ? err_errno(e, "watch \"%s\" in the workspace", i->path) : 0;
}

int workspace_watch_open(struct workspace_watch **out, int state_fd, struct err *e)
{
	_cleanup_close_ int dir =
		openat(state_fd, WORKSPACE_STATE, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	_cleanup_(journal_free) struct workspace_journal j = {0};
	struct workspace_watch *w;
	int ret;

	*out = NULL;
	if (dir < 0)
		return errno == ENOENT ? 0 : err_errno(e, "open the workspace's state");
	ret = journal_load(dir, &j, e);
	if (ret < 0)
		return ret == -ENOENT ? 0 : ret;
	w = mem_zalloc(sizeof(*w));
	w->items = mem_zalloc_array(j.n_guarded + 1, sizeof(*w->items));
	w->root = open(j.path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	w->fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (w->root < 0 || w->fd < 0)
		ret = err_errno(e, "watch the workspace");
	for (size_t i = 0; ret == 0 && i < j.n_guarded; i++)
		ret = watch_add(w, &j.guarded[i], e);
	if (ret < 0)
		workspace_watch_free(w);
	else
		*out = w;
	return ret;
}

static bool is_still(const struct workspace_watch *w, const struct watch_item *i)
{
	const char *name;
	_cleanup_close_ int parent = workspace_open_parent(w->root, i->path, &name);
	struct stat st;

	return parent >= 0 && fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       st.st_dev == i->dev && st.st_ino == i->ino;
}

static const char *watch_event(const struct workspace_watch *w, const struct inotify_event *event)
{
	for (size_t i = 0; i < w->n; i++) {
		const struct watch_item *item = &w->items[i];

		/* An agent can fill the queue; then all are looked at. */
		if (event->mask & IN_Q_OVERFLOW ? !is_still(w, item)
						: event->wd == item->wd && event->len > 0 &&
							  strcmp(event->name, item->name) == 0)
			return item->path;
	}
	return NULL;
}

const char *workspace_watch_read(struct workspace_watch *w)
{
	char events[16384] __attribute__((aligned(__alignof__(struct inotify_event))));
	const char *lost = NULL;
	ssize_t got;

	/* What remains keeps the descriptor readable. */
	do {
		got = read(w->fd, events, sizeof(events));
	} while (got < 0 && errno == EINTR);
	for (ssize_t at = 0; at < got && !lost;) {
		const struct inotify_event *event = (const void *)(events + at);

		lost = watch_event(w, event);
		at += (ssize_t)(sizeof(*event) + event->len);
	}
	return lost;
}
