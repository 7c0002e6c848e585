#include "cli/leftovers.h"

#include "backend/backend.h"
#include "base/io.h"
#include "cli/workspace_report.h"
#include "workspace/workspace.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>

#define ENVIRON_MAX_BYTES (4u << 20)
/* A process may fork while we look: look again until a round finds none. */
#define ROUNDS_MAX	50
#define ROUND_PERIOD_MS 20

/* An entry of its own, not a part of one: "X=CLAUDE_BOTTLE_SLUG=a" is another variable. */
static bool carries_label(pid_t pid, const char *slug)
{
	_cleanup_free_ char *text = NULL;
	char path[64], label[PLACES_SLUG_MAX + 32];
	struct str all = STR_NULL, entry;
	bool found = true;

	(void)snprintf(path, sizeof(path), "/proc/%d/environ", (int)pid);
	(void)snprintf(label, sizeof(label), "CLAUDE_BOTTLE_SLUG=%s", slug);
	if (io_read_file(AT_FDCWD, path, ENVIRON_MAX_BYTES, &all, NULL) < 0)
		return false;
	text = (char *)all.p;
	while (found) {
		all = str_cut(all, '\0', &entry, &found);
		if (str_eq(entry, str_of(label)))
			return true;
	}
	return false;
}

static bool end_process(pid_t pid, const char *slug, bool is_dry)
{
	/* The pidfd first: what is checked is then what is signalled, whatever becomes of the pid.
	 */
	_cleanup_close_ int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);

	if (pidfd < 0 || !carries_label(pid, slug))
		return false;
	return is_dry || syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0) == 0;
}

static size_t end_round(const char *slug, bool is_dry)
{
	_cleanup_closedir_ DIR *proc = opendir("/proc");
	struct dirent *entry;
	size_t n = 0;

	while (proc && (entry = readdir(proc))) {
		uint64_t pid;

		if (str_to_u64(str_of(entry->d_name), INT32_MAX, &pid) < 0 || pid <= 1 ||
		    (pid_t)pid == getpid())
			continue;
		n += end_process((pid_t)pid, slug, is_dry);
	}
	return n;
}

size_t leftovers_kill(const char *slug, bool is_dry)
{
	size_t total = end_round(slug, is_dry);

	if (is_dry || total == 0)
		return total;
	for (unsigned i = 0; i < ROUNDS_MAX; i++) {
		(void)poll(NULL, 0, ROUND_PERIOD_MS);
		if (end_round(slug, false) == 0)
			break;
	}
	return total;
}

/* It has not been said which backend made it: each is asked to look. One that this host does not
 * offer, an engine that is not there for one, cannot look; what it may have made carries the state
 * folder's path, and is found by leftovers_sweep() once it is there. */
static int clean_by_all(const char *slug, const char *path, struct err *e)
{
	for (unsigned id = PLAN_BACKEND_UNSET + 1; id < PLAN_BACKEND_COUNT; id++) {
		const struct backend *b = backend_find((enum plan_backend)id);
		char why[BACKEND_WHY_MAX];
		struct err own = ERR_INIT;
		int r = b && b->cleanup ? b->cleanup(slug, path, &own) : 0;

		if (r == 0 || (b->sweep && b->offer(why, NULL) < 0))
			continue;
		if (e)
			*e = own;
		return err_prefix(e, "%s", slug);
	}
	return 0;
}

static int clean_by_backend(const struct bottles_entry *b, const char *path, struct err *e)
{
	const struct backend *backend;
	enum plan_backend id;
	int r;

	if (!b->backend[0])
		return clean_by_all(b->slug, path, e);
	r = plan_backend_parse(str_of(b->backend), &id, e);
	if (r < 0)
		return err_prefix(e, "%s", b->slug);
	backend = backend_find(id);
	if (!backend)
		return err_set(e, -ENOSYS, "%s was made by backend %s, which is not in this build",
			       b->slug, b->backend);
	r = backend->cleanup ? backend->cleanup(b->slug, path, e) : 0;
	return r < 0 ? err_prefix(e, "%s is kept until %s can be asked", b->slug, b->backend) : 0;
}

/* Of a killed bottle whose workspace nobody has looked at yet. */
static void leftovers_report(int bottles_dir, const char *slug)
{
	_cleanup_close_ int dir =
		openat(bottles_dir, slug, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct err e = ERR_INIT;

	if (dir < 0 || faccessat(dir, WORKSPACE_STATE "/journal.json", F_OK, 0) < 0)
		return;
	if (workspace_end(dir, &e) < 0)
		cli_note("%s: %s", slug, e.text);
	workspace_report_show(dir, NULL);
}

int leftovers_remove(int bottles_dir, const struct bottles_entry *b, size_t *n_processes,
		     struct err *e)
{
	_cleanup_close_ int lock = -1;
	char path[PLACES_PATH_MAX];
	int r;

	*n_processes = 0;
	r = bottles_lock_dead(bottles_dir, b->slug, &lock, e);
	if (r < 0)
		return r;
	r = bottles_path(b->slug, path, e);
	if (r < 0)
		return r;
	*n_processes = leftovers_kill(b->slug, false);
	r = clean_by_backend(b, path, e);
	if (r < 0)
		return r;
	leftovers_report(bottles_dir, b->slug);
	return io_remove_tree(bottles_dir, b->slug, e);
}

int leftovers_sweep(const struct backend *b, bool is_dry, size_t *n, struct err *e)
{
	char root[PLACES_PATH_MAX], why[BACKEND_WHY_MAX];
	int r;

	*n = 0;
	if (!b->sweep || b->offer(why, NULL) < 0)
		return 0;
	r = places_bottles_path(root, e);
	if (r == 0)
		r = b->sweep(root, is_dry, n, e);
	return r < 0 ? err_prefix(e, "backend %s", b->name) : 0;
}
