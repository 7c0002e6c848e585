#include "workspace/workspace_int.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/text.h"
#include "workspace/inventory.h"
#include "workspace/report.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>

#define WORKSPACE_JSON_MAX    (64u << 20)
#define WORKSPACE_BOTTLES_MAX 4096
#define GIVE_DEPTH_MAX	      16

/* --- which folder --- */

/* True if path is dir or lies within it. */
static bool is_within(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	if (n > 0 && dir[n - 1] == '/')
		n--;
	return strncmp(path, dir, n) == 0 && (path[n] == '\0' || path[n] == '/');
}

static int refuse(const char *path, const char *why, const char *what, struct err *e)
{
	return err_set(e, -EPERM, "\"%s\" cannot be a bottle's workspace: it %s %s", path, why,
		       what);
}

/* dir: neither it nor what holds it nor what it holds. */
static int check_apart(const char *path, const char *dir, struct err *e)
{
	_cleanup_free_ char *real = realpath(dir, NULL);
	const char *it = real ? real : dir;

	if (is_within(it, path))
		return refuse(path, strcmp(it, path) == 0 ? "is" : "holds", it, e);
	return is_within(path, it) ? refuse(path, "lies within", it, e) : 0;
}

static int check_home(const char *path, const char *home, struct err *e)
{
	static const char *const private[] = {".claude-bottle", ".ssh",		  ".gnupg",
					      ".aws",		".azure",	  ".kube",
					      ".docker",	".password-store"};
	_cleanup_free_ char *real = realpath(home, NULL);
	const char *it = real ? real : home;
	int ret = 0;

	if (it[0] != '/' || it[1] == '\0')
		return 0;
	if (is_within(it, path))
		return refuse(path, strcmp(it, path) == 0 ? "is" : "holds", "your home", e);
	for (size_t i = 0; ret == 0 && i < ARRAY_LEN(private); i++) {
		_cleanup_free_ char *dir = mem_printf("%s/%s", it, private[i]);

		ret = check_apart(path, dir, e);
	}
	return ret;
}

int workspace_check(const char *path, const char *home, const char *state_dir, struct err *e)
{
	static const char *const system[] = {"/usr",	 "/etc",     "/proc",	       "/sys",
					     "/dev",	 "/run",     "/boot",	       "/bin",
					     "/sbin",	 "/lib",     "/lib32",	       "/lib64",
					     "/var/run", "/var/lib", "/.claude-bottle"};
	static const char *const tops[] = {"/",	   "/home",    "/root",	     "/tmp",
					   "/var", "/var/tmp", "/opt",	     "/srv",
					   "/mnt", "/media",   "/home/agent"};
	_cleanup_free_ char *root = str_dup(str_sub(
		str_of(state_dir), 0,
		strrchr(state_dir, '/') ? (size_t)(strrchr(state_dir, '/') - state_dir) : 0));
	int ret = 0;

	if (path[0] != '/')
		return err_set(e, -EINVAL, "the workspace's path is not absolute");
	for (size_t i = 0; i < ARRAY_LEN(tops); i++)
		if (strcmp(path, tops[i]) == 0)
			return err_set(e, -EPERM, "\"%s\" cannot be a bottle's workspace", path);
	for (size_t i = 0; ret == 0 && i < ARRAY_LEN(system); i++)
		if (is_within(path, system[i]))
			ret = refuse(path, "lies within", system[i], e);
	if (ret == 0 && home)
		ret = check_home(path, home, e);
	return ret == 0 && root[0] ? check_apart(path, root, e) : ret;
}

static int check_homes(const char *path, const char *state_dir, struct err *e)
{
	const struct passwd *pw = getpwuid(geteuid());
	const char *home = getenv("HOME");
	int ret = workspace_check(path, home, state_dir, e);

	/* HOME may say anything. */
	return ret == 0 && pw ? workspace_check(path, pw->pw_dir, state_dir, e) : ret;
}

/* --- one bottle for a folder --- */

/* The workspace of a bottle that lives, or NULL; the caller frees. */
static char *workspace_of(int bottles, const char *slug)
{
	_cleanup_close_ int state =
		openat(bottles, slug, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	_cleanup_close_ int lock = -1, dir = -1;
	struct workspace_journal j;
	char *path = NULL;

	if (state < 0)
		return NULL;
	lock = openat(state, "lock", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (lock < 0 || flock(lock, LOCK_SH | LOCK_NB) == 0)
		return NULL;
	dir = openat(state, WORKSPACE_STATE, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir >= 0 && journal_load(dir, &j, NULL) == 0) {
		path = take_ptr(&j.path);
		journal_free(&j);
	}
	return path;
}

/* Attack: an agent in this folder could put a link to elsewhere into the way of another bottle's
 * mounts while that bottle is made. Each writes its own path before it looks for others', so of two
 * at least one sees the other. */
static int check_alone(const char *path, const char *state_dir, struct err *e)
{
	_cleanup_free_ char *up = mem_printf("%s/..", state_dir);
	_cleanup_closedir_ DIR *dir = opendir(up);
	const char *own = strrchr(state_dir, '/');
	struct dirent *entry;
	size_t n = 0;

	if (!dir)
		return err_errno(e, "look for other bottles in \"%s\"", up);
	while ((entry = readdir(dir))) {
		_cleanup_free_ char *its = NULL;

		if (n++ == WORKSPACE_BOTTLES_MAX)
			return err_set(e, -E2BIG,
				       "more than %d bottles: claude-bottle cleanup removes those "
				       "that have ended",
				       WORKSPACE_BOTTLES_MAX);
		if (entry->d_name[0] == '.' ||
		    strcmp(entry->d_name, own ? own + 1 : state_dir) == 0)
			continue;
		its = workspace_of(dirfd(dir), entry->d_name);
		if (its && (is_within(its, path) || is_within(path, its)))
			return err_set(e, -EBUSY,
				       "the bottle %s has \"%s\" as its workspace: one at a time",
				       entry->d_name, its);
	}
	return 0;
}

/* --- the start --- */

static int store_inventory(int dir, const struct inventory *v, struct err *e)
{
	_cleanup_(buf_free) struct buf out;
	int ret;

	buf_init(&out, WORKSPACE_JSON_MAX);
	ret = inventory_to_json(v, &out);
	return ret < 0 ? err_set(e, ret, "the workspace's inventory is too long")
		       : io_write_file_atomic(dir, "before.json", buf_str(&out), 0600, e);
}

/* `.git`: private whatever is there. */
static int plan_git(int root, struct workspace_journal *j, bool *is_missing, bool *is_file,
		    struct err *e)
{
	struct stat st;

	*is_missing = *is_file = false;
	if (fstatat(root, ".git", &st, AT_SYMLINK_NOFOLLOW) < 0) {
		if (errno != ENOENT)
			return err_errno(e, "look at the workspace's .git");
		*is_missing = true;
		j->made = mem_grow_array(j->made, &j->cap, j->n + 1, sizeof(*j->made));
		j->made[j->n++] = (struct workspace_made){.path = mem_strdup(".git")};
		return 0;
	}
	if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode))
		return err_set(e, -EINVAL,
			       "the workspace's .git is neither a folder nor a file, and cannot be "
			       "protected");
	*is_file = S_ISREG(st.st_mode);
	return 0;
}

static int write_git_file(const struct workspace *w, struct err *e)
{
	static const char text[] = "gitdir: " WORKSPACE_GITDIR "\n";
	_cleanup_close_ int fd = -1;

	if (!w->git_file)
		return 0;
	fd = open(w->git_file, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (fd < 0 || fchmod(fd, 0644) < 0 || io_write_all(fd, text, sizeof(text) - 1) < 0)
		return err_errno(e, "make \"%s\"", w->git_file);
	return 0;
}

struct making {
	struct workspace *w;
	const char *dir_path;
	int dir, root;
	struct workspace_journal journal;
	struct inventory before;
};

static int make_all(struct making *m, struct err *e)
{
	bool is_missing = false, is_file = false;
	int ret = inventory_take(&m->before, m->root, m->w->path, 0, WORKSPACE_INVENTORY_MS, e);

	if (ret == 0)
		ret = store_inventory(m->dir, &m->before, e);
	if (ret == 0)
		ret = mounts_plan(m->w, m->root, &m->before, &m->journal, e);
	if (ret == 0)
		ret = plan_git(m->root, &m->journal, &is_missing, &is_file, e);
	/* The host's git is asked before there is an empty `.git` to wonder about. */
	if (ret == 0)
		ret = gitdir_make(m->w, m->dir_path, is_file, e);
	if (ret == 0 && !m->w->objects && !is_missing)
		log_warn(
			"git cannot read the workspace's repository: the bottle gets an empty one");
	if (ret == 0)
		ret = write_git_file(m->w, e);
	/* First noted, then made, then noted as made. */
	if (ret == 0)
		ret = journal_store(m->dir, &m->journal, e);
	if (ret == 0)
		ret = mounts_make(m->w, m->root, &m->journal, e);
	if (ret == 0)
		ret = mounts_guard(m->w, m->root, &m->journal, e);
	return ret == 0 ? journal_store(m->dir, &m->journal, e) : ret;
}

static int open_root(struct making *m, const char *path, const char *state_dir, struct err *e)
{
	struct workspace *w = m->w;
	struct stat st;
	int ret;

	w->path = path ? realpath(path, NULL) : NULL;
	if (!w->path)
		return err_errno(e, "the workspace \"%s\"", path ? path : "");
	ret = check_homes(w->path, state_dir, e);
	if (ret < 0)
		return ret;
	m->root = open(w->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (m->root < 0 || fstat(m->root, &st) < 0)
		return err_errno(e, "open the workspace \"%s\"", w->path);
	if (geteuid() != 0 && st.st_uid != geteuid())
		return err_set(e, -EPERM,
			       "the workspace \"%s\" belongs to uid %u, not to us (uid %u)",
			       w->path, (unsigned)st.st_uid, (unsigned)geteuid());
	w->uid = st.st_uid;
	w->gid = st.st_gid;
	return 0;
}

int workspace_prepare(struct workspace *out, const struct plan *p, const char *state_dir,
		      struct err *e)
{
	_cleanup_close_ int state = -1, dir = -1, root = -1;
	_cleanup_free_ char *dir_path = mem_printf("%s/" WORKSPACE_STATE, state_dir);
	struct making m = {.w = out, .dir_path = dir_path, .root = -1};
	int ret;

	*out = (struct workspace){0};
	if (p->workspace != PLAN_WORKSPACE_MOUNT)
		return 0;
	state = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (state < 0 || (mkdirat(state, WORKSPACE_STATE, 0700) < 0 && errno != EEXIST))
		return err_errno(e, "make the workspace's state");
	dir = openat(state, WORKSPACE_STATE, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0)
		return err_errno(e, "open the workspace's state");
	ret = workspace_end(state, e);
	if (ret < 0)
		return ret;
	(void)unlinkat(dir, "report.json", 0);
	ret = open_root(&m, p->workspace_path, state_dir, e);
	root = m.root;
	m.dir = dir;
	if (ret < 0)
		return ret;
	m.journal.path = mem_strdup(out->path);
	ret = journal_store(dir, &m.journal, e);
	if (ret == 0)
		ret = check_alone(out->path, state_dir, e);
	/* Nothing of it was touched, and the other bottle is at work in it. */
	if (ret < 0)
		(void)unlinkat(dir, "journal.json", 0);
	if (ret == 0)
		ret = make_all(&m, e);
	journal_free(&m.journal);
	inventory_free(&m.before);
	return ret;
}

void workspace_free(struct workspace *w)
{
	for (size_t i = 0; i < w->n_mounts; i++)
		free(w->mounts[i].path);
	for (size_t i = 0; i < w->n_alternates; i++)
		free(w->alternates[i]);
	free(w->mounts);
	free(w->alternates);
	free(w->path);
	free(w->git_dir);
	free(w->git_file);
	free(w->objects);
	*w = (struct workspace){0};
}

/* As it was made it is shallow. An agent may have nested more into it than there is stack, in a
 * bottle whose home, and with it its ids, somebody has taken away. */
static int give_folder(int at, const char *name, uid_t uid, gid_t gid, unsigned depth,
		       struct err *e)
{
	int fd = depth > GIVE_DEPTH_MAX
			 ? -1
			 : openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	_cleanup_closedir_ DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *entry;
	int ret = 0;

	if (!dir) {
		close_fd(&fd);
		return depth > GIVE_DEPTH_MAX
			       ? err_set(e, -ELOOP, "the bottle's repository is too deep")
			       : err_errno(e, "open the bottle's repository");
	}
	while (ret == 0 && (entry = readdir(dir))) {
		struct stat st;

		if (strcmp(entry->d_name, "..") == 0)
			continue;
		if (fchownat(fd, entry->d_name, uid, gid, AT_SYMLINK_NOFOLLOW) < 0 ||
		    fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			return err_errno(e, "give the bottle's repository to the agent");
		if (S_ISDIR(st.st_mode) && strcmp(entry->d_name, ".") != 0)
			ret = give_folder(fd, entry->d_name, uid, gid, depth + 1, e);
	}
	return ret;
}

int workspace_give(const struct workspace *w, uid_t uid, gid_t gid, struct err *e)
{
	struct stat st;

	if (!w->path || geteuid() != 0)
		return 0;
	/* git believes a file only that is the work tree's owner's. */
	if (w->git_file && lchown(w->git_file, uid, gid) < 0)
		return err_errno(e, "give \"%s\" to the agent", w->git_file);
	if (lstat(w->git_dir, &st) < 0)
		return err_errno(e, "look at the bottle's repository");
	return st.st_uid == uid && st.st_gid == gid
		       ? 0
		       : give_folder(AT_FDCWD, w->git_dir, uid, gid, 0, e);
}

/* --- the end --- */

/* What is known of a workspace whose bottle has not been ended. */
struct before {
	int dir; /* the workspace's folder in the state folder */
	struct workspace_journal journal;
	struct inventory inventory;
	bool has_inventory; /* the start came that far */
};

static void before_free(struct before *b)
{
	close_fd(&b->dir);
	journal_free(&b->journal);
	inventory_free(&b->inventory);
}

/* -ENOENT without an error: nothing is known. Where the inventory is damaged the journal is there
 * all the same. */
static int before_load(struct before *b, int state_fd, struct err *e)
{
	_cleanup_free_ char *text = NULL;
	struct str s = STR_NULL;
	int ret;

	*b = (struct before){.dir = openat(state_fd, WORKSPACE_STATE,
					   O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)};
	if (b->dir < 0)
		return errno == ENOENT ? -ENOENT : err_errno(e, "open the workspace's state");
	ret = journal_load(b->dir, &b->journal, e);
	if (ret < 0)
		return ret;
	ret = io_read_file(b->dir, "before.json", WORKSPACE_JSON_MAX, &s, NULL);
	text = (char *)(uintptr_t)s.p;
	if (ret == -ENOENT)
		return 0;
	ret = ret < 0 ? err_set(e, ret, "the workspace's inventory cannot be read")
		      : inventory_from_json(&b->inventory, s, e);
	b->has_inventory = ret == 0;
	return ret;
}

static int before_report(const struct before *b, struct buf *out, struct err *e)
{
	const char *path = b->journal.path;
	_cleanup_close_ int root = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	_cleanup_(inventory_free) struct inventory after = {0};
	int ret;

	if (root < 0)
		return err_errno(e, "open the workspace \"%s\"", path);
	ret = inventory_take(&after, root, path, b->inventory.taken_ns, WORKSPACE_END_MS, e);
	if (ret < 0)
		return ret;
	ret = report_to_json(path, &b->inventory, &after, out);
	return ret < 0 ? err_set(e, ret, "the workspace's report is too long") : 0;
}

int workspace_look(int state_fd, struct str *json, struct err *e)
{
	_cleanup_(before_free) struct before b;
	_cleanup_(buf_free) struct buf out;
	int ret = before_load(&b, state_fd, e);

	*json = STR_NULL;
	buf_init(&out, WORKSPACE_JSON_MAX);
	if (ret == 0 && !b.has_inventory)
		return -ENOENT;
	if (ret == 0)
		ret = before_report(&b, &out, e);
	if (ret == 0)
		*json = str_slice(str_dup(buf_str(&out)), buf_len(&out));
	return ret;
}

int workspace_end(int state_fd, struct err *e)
{
	_cleanup_(before_free) struct before b;
	_cleanup_(buf_free) struct buf out;
	int ret = before_load(&b, state_fd, e);

	buf_init(&out, WORKSPACE_JSON_MAX);
	if (!b.journal.path)
		return ret == -ENOENT ? 0 : ret;
	journal_undo(&b.journal);
	if (ret == 0 && b.has_inventory)
		ret = before_report(&b, &out, e);
	if (ret == 0 && b.has_inventory)
		ret = io_write_file_atomic(b.dir, "report.json", buf_str(&out), 0600, e);
	/* What cannot be looked at is not looked at again: the folder is gone, or the state is
	 * damaged. What was made to mount on is taken away in any case. */
	(void)unlinkat(b.dir, "before.json", 0);
	(void)unlinkat(b.dir, "journal.json", 0);
	return ret;
}
