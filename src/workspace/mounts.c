/*
 * Theory of operation. For each path that must not be written: walk down to it without following a
 * link. Where a segment is missing, that is what has to be made; where it is a link, the bottle is
 * refused, since a link cannot be mounted on and could be replaced. What is found becomes a
 * read-only mount of itself, each folder on the way a writable one.
 *
 * What is made is a folder even where a file is meant: git shows an empty folder to nobody, so that
 * it neither turns up in the human's `git status` nor in the agent's commits; a reader that wants a
 * file finds none; and rmdir() takes it away only while it is empty, in one step.
 */
#include "workspace/workspace_int.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/text.h"
#include "conf/risky_path.h"
#include "workspace/inventory.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#define JOURNAL_FILE "journal.json"
#define JOURNAL_MAX  (1u << 20)

/* --- the journal --- */

void journal_free(struct workspace_journal *j)
{
	for (size_t i = 0; i < j->n; i++)
		free(j->made[i].path);
	for (size_t i = 0; i < j->n_guarded; i++)
		free(j->guarded[i].path);
	free(j->made);
	free(j->guarded);
	free(j->path);
	*j = (struct workspace_journal){0};
}

static void made_add(struct workspace_made **list, size_t *n, size_t *cap, const char *path,
		     uint64_t dev, uint64_t ino)
{
	for (size_t i = 0; i < *n; i++)
		if (strcmp((*list)[i].path, path) == 0)
			return;
	*list = mem_grow_array(*list, cap, *n + 1, sizeof(**list));
	(*list)[(*n)++] = (struct workspace_made){mem_strdup(path), dev, ino};
}

static void journal_add(struct workspace_journal *j, const char *path)
{
	made_add(&j->made, &j->n, &j->cap, path, 0, 0);
}

static void made_load(const json_t *from, struct workspace_made **list, size_t *n, size_t *cap)
{
	json_t *item;
	size_t i;

	json_array_foreach(from, i, item)
	{
		const char *path = json_string_value(json_object_get(item, "path"));

		if (path)
			made_add(list, n, cap, path,
				 (uint64_t)json_integer_value(json_object_get(item, "dev")),
				 (uint64_t)json_integer_value(json_object_get(item, "ino")));
	}
}

static int made_store(struct buf *out, const char *key, const struct workspace_made *list, size_t n)
{
	int ret = buf_printf(out, ",\"%s\":[", key);

	for (size_t i = 0; ret == 0 && i < n; i++) {
		ret = buf_printf(out, "%s{\"path\":", i ? "," : "");
		if (ret == 0)
			ret = text_json(out, str_of(list[i].path));
		if (ret == 0)
			ret = buf_printf(out, ",\"dev\":%llu,\"ino\":%llu}",
					 (unsigned long long)list[i].dev,
					 (unsigned long long)list[i].ino);
	}
	return ret == 0 ? buf_printf(out, "]") : ret;
}

int journal_load(int dir, struct workspace_journal *out, struct err *e)
{
	_cleanup_json_ json_t *root = NULL;
	_cleanup_close_ int fd =
		openat(dir, JOURNAL_FILE, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	_cleanup_free_ char *text = NULL;
	const json_t *made;
	struct str s;
	int ret;

	*out = (struct workspace_journal){0};
	if (fd < 0)
		return errno == ENOENT ? -ENOENT : err_errno(e, "open the workspace's journal");
	ret = io_read_all(fd, JOURNAL_MAX, &s, e);
	if (ret < 0)
		return ret;
	text = (char *)(uintptr_t)s.p;
	root = json_loadb(s.p, s.n, JSON_REJECT_DUPLICATES, NULL);
	made = json_object_get(root, "made");
	if (!json_is_string(json_object_get(root, "path")) || !json_is_array(made))
		return err_set(e, -EBADMSG, "the workspace's journal is damaged");
	out->path = mem_strdup(json_string_value(json_object_get(root, "path")));
	made_load(made, &out->made, &out->n, &out->cap);
	made_load(json_object_get(root, "guarded"), &out->guarded, &out->n_guarded,
		  &out->cap_guarded);
	return 0;
}

int journal_store(int dir, const struct workspace_journal *j, struct err *e)
{
	_cleanup_(buf_free) struct buf out;
	int ret;

	buf_init(&out, JOURNAL_MAX);
	ret = buf_printf(&out, "{\"version\":1,\"path\":");
	if (ret == 0)
		ret = text_json(&out, str_of(j->path));
	if (ret == 0)
		ret = made_store(&out, "made", j->made, j->n);
	if (ret == 0)
		ret = made_store(&out, "guarded", j->guarded, j->n_guarded);
	if (ret == 0)
		ret = buf_printf(&out, "}\n");
	return ret < 0 ? err_set(e, ret, "the workspace's journal is too long")
		       : io_write_file_atomic(dir, JOURNAL_FILE, buf_str(&out), 0600, e);
}

int workspace_open_parent(int root, const char *path, const char **name)
{
	int at = openat(root, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	const char *slash;

	*name = path;
	while (at >= 0 && (slash = strchr(*name, '/'))) {
		_cleanup_free_ char *segment = str_dup(str_slice(*name, (size_t)(slash - *name)));
		int next = openat(at, segment, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

		(void)close(at);
		at = next;
		*name = slash + 1;
	}
	return at;
}

/* Backwards: what was made last may lie in what was made first. */
void journal_undo(const struct workspace_journal *j)
{
	_cleanup_close_ int root = open(j->path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	for (size_t i = j->n; root >= 0 && i-- > 0;) {
		const struct workspace_made *m = &j->made[i];
		const char *name;
		_cleanup_close_ int at = workspace_open_parent(root, m->path, &name);
		struct stat st;

		if (at < 0 || fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
		    !S_ISDIR(st.st_mode))
			continue;
		/* Somebody else's folder of that name is not ours to take away. One without a
		 * number was noted and may have been made: if it is empty it is as good as gone. */
		if (m->ino == 0 || (m->ino == st.st_ino && m->dev == st.st_dev))
			(void)unlinkat(at, name, AT_REMOVEDIR);
	}
}

/* --- the mounts --- */

static int mounts_add(struct workspace *w, const char *path, bool is_read_only, struct err *e)
{
	for (size_t i = 0; i < w->n_mounts; i++) {
		struct workspace_mount *m = &w->mounts[i];
		size_t n = strlen(m->path);

		if (strcmp(m->path, path) == 0) {
			m->is_read_only |= is_read_only;
			return 0;
		}
		if (m->is_read_only && strncmp(m->path, path, n) == 0 && path[n] == '/')
			return 0;
	}
	if (w->n_mounts == WORKSPACE_MOUNTS_MAX)
		return err_set(e, -E2BIG,
			       "the workspace holds too many repositories to protect all of them "
			       "(more than %d mounts)",
			       WORKSPACE_MOUNTS_MAX);
	w->mounts[w->n_mounts++] = (struct workspace_mount){mem_strdup(path), is_read_only};
	return 0;
}

static int refuse_link(const char *path, struct err *e)
{
	char shown[256];

	text_visible_cstr(shown, sizeof(shown), str_of(path));
	return err_set(e, -ELOOP,
		       "\"%s\" in the workspace is a symbolic link, which cannot be protected: "
		       "put what it names there, or use workspace: clone",
		       shown);
}

/* Every folder above path, within the workspace. */
static int protect_parents(struct workspace *w, const char *path, struct err *e)
{
	int ret = 0;

	for (const char *slash = strchr(path, '/'); ret == 0 && slash;
	     slash = strchr(slash + 1, '/')) {
		_cleanup_free_ char *above = str_dup(str_slice(path, (size_t)(slash - path)));

		ret = mounts_add(w, above, false, e);
	}
	return ret;
}

static int protect_found(struct workspace *w, const char *path, struct err *e)
{
	int ret = protect_parents(w, path, e);

	return ret < 0 ? ret : mounts_add(w, path, true, e);
}

/* path: without a "/" at its end. */
static int protect(struct workspace *w, int root, const char *path, struct workspace_journal *j,
		   struct err *e)
{
	_cleanup_close_ int at = openat(root, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	size_t n = strlen(path), end = 0;

	while (at >= 0 && end < n) {
		const char *slash = strchr(path + end, '/');
		size_t stop = slash ? (size_t)(slash - path) : n;
		_cleanup_free_ char *name = str_dup(str_slice(path + end, stop - end));
		_cleanup_free_ char *upto = str_dup(str_slice(path, stop));
		struct stat st;
		int next;

		if (fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
			if (errno != ENOENT)
				return err_errno(e, "look at \"%s\" in the workspace", upto);
			journal_add(j, upto);
			return protect_found(w, upto, e);
		}
		if (S_ISLNK(st.st_mode))
			return refuse_link(upto, e);
		/* A file where a folder is meant is as good as the folder. */
		if (stop == n || !S_ISDIR(st.st_mode))
			return protect_found(w, upto, e);
		next = openat(at, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (next < 0)
			return err_errno(e, "open \"%s\" in the workspace", upto);
		(void)close(at);
		at = next;
		end = stop + 1;
	}
	return at < 0 ? err_errno(e, "open the workspace") : 0;
}

/* Other repositories: their `.git`, file or folder; of bare ones, whose folder would be HEAD's, the
 * whole. */
static int protect_repository(struct workspace *w, const struct inventory_item *i, struct err *e)
{
	const char *slash = strrchr(i->path, '/');
	struct str name = str_of(slash ? slash + 1 : i->path);
	_cleanup_free_ char *folder = NULL;

	if (!(i->kinds & INVENTORY_REPOSITORY))
		return 0;
	if (S_ISLNK(i->mode))
		return refuse_link(i->path, e);
	if (str_ieq(name, STR_LIT(".git")))
		return protect_found(w, i->path, e);
	/* The top itself is a bare repository: not a place to work in. */
	if (!slash)
		return err_set(e, -EINVAL, "the workspace is a bare repository");
	folder = str_dup(str_slice(i->path, (size_t)(slash - i->path)));
	return protect_found(w, folder, e);
}

/* Below the top, what is there of the same kinds; what is not cannot be foreseen, and is reported.
 * A link is passed over: it may point where it always did. */
static int protect_nested(struct workspace *w, const struct inventory_item *i, struct err *e)
{
	if (!(i->risk & RISKY_MOUNT) || S_ISLNK(i->mode) || w->n_mounts > WORKSPACE_MOUNTS_MAX / 2)
		return 0;
	/* The first segment at which it is one: `.vscode` of `a/.vscode/tasks.json`. */
	for (const char *slash = strchr(i->path, '/'); slash; slash = strchr(slash + 1, '/')) {
		struct str upto = str_slice(i->path, (size_t)(slash - i->path));

		if (risky_path_find(upto, NULL) & RISKY_MOUNT) {
			_cleanup_free_ char *path = str_dup(upto);

			return protect_found(w, path, e);
		}
	}
	return protect_found(w, i->path, e);
}

static int compare_mounts(const void *a, const void *b)
{
	return strcmp(((const struct workspace_mount *)a)->path,
		      ((const struct workspace_mount *)b)->path);
}

/* What lies within something read-only needs no mount. */
static void mounts_prune(struct workspace *w)
{
	size_t n = 0;

	for (size_t i = 0; i < w->n_mounts; i++) {
		bool is_covered = false;

		for (size_t k = 0; k < n && !is_covered; k++) {
			size_t length = strlen(w->mounts[k].path);

			is_covered = w->mounts[k].is_read_only &&
				     strncmp(w->mounts[k].path, w->mounts[i].path, length) == 0 &&
				     w->mounts[i].path[length] == '/';
		}
		if (is_covered)
			free(w->mounts[i].path);
		else
			w->mounts[n++] = w->mounts[i];
	}
	w->n_mounts = n;
}

int mounts_plan(struct workspace *w, int root, const struct inventory *found,
		struct workspace_journal *j, struct err *e)
{
	const char *path;
	int ret = 0;

	w->mounts = mem_zalloc_array(WORKSPACE_MOUNTS_MAX, sizeof(*w->mounts));
	for (size_t i = 0; ret == 0 && (path = risky_path_mount(i)); i++) {
		_cleanup_free_ char *plain = mem_strdup(path);
		size_t n = strlen(plain);

		if (n > 0 && plain[n - 1] == '/')
			plain[n - 1] = '\0';
		/* The top's repository is not there at all (gitdir.c). */
		if (strcmp(plain, ".git") == 0 || str_starts(str_of(plain), STR_LIT(".git/")))
			continue;
		ret = protect(w, root, plain, j, e);
	}
	for (size_t i = 0; ret == 0 && i < found->n; i++)
		ret = protect_repository(w, &found->items[i], e);
	for (size_t i = 0; ret == 0 && i < found->n; i++)
		ret = protect_nested(w, &found->items[i], e);
	if (ret < 0)
		return ret;
	/* Sorted, an outer path comes before what lies within it. */
	qsort(w->mounts, w->n_mounts, sizeof(*w->mounts), compare_mounts);
	mounts_prune(w);
	return 0;
}

int mounts_make(const struct workspace *w, int root, struct workspace_journal *j, struct err *e)
{
	for (size_t i = 0; i < j->n; i++) {
		const char *name;
		_cleanup_close_ int at = workspace_open_parent(root, j->made[i].path, &name);
		_cleanup_close_ int made = -1;
		struct stat st;

		if (at < 0)
			return err_errno(e, "open what holds \"%s\" in the workspace",
					 j->made[i].path);
		if (mkdirat(at, name, 0755) < 0)
			return err_errno(e, "make \"%s\" in the workspace, to protect it",
					 j->made[i].path);
		made = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (made < 0 || fstat(made, &st) < 0 || fchmod(made, 0755) < 0 ||
		    (geteuid() == 0 && fchown(made, w->uid, w->gid) < 0))
			return err_errno(e, "open \"%s\" in the workspace", j->made[i].path);
		j->made[i].dev = st.st_dev;
		j->made[i].ino = st.st_ino;
	}
	return 0;
}

static int guard(const char *path, int root, struct workspace_journal *j, struct err *e)
{
	const char *name;
	_cleanup_close_ int at = workspace_open_parent(root, path, &name);
	struct stat st;

	if (at < 0 || fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_errno(e, "look at \"%s\" in the workspace", path);
	made_add(&j->guarded, &j->n_guarded, &j->cap_guarded, path, st.st_dev, st.st_ino);
	return 0;
}

int mounts_guard(const struct workspace *w, int root, struct workspace_journal *j, struct err *e)
{
	int ret = guard(".git", root, j, e);

	for (size_t i = 0; ret == 0 && i < w->n_mounts; i++)
		ret = guard(w->mounts[i].path, root, j, e);
	return ret;
}
