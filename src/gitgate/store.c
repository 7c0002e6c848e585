#include "gitgate/store.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/timeutil.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#define STORE_LOCK_POLL_NS (20 * TIME_NS_PER_MS)
#define STORE_WALK_FDS	   16
#define STORE_PIECE	   (1u << 20)

struct store {
	const struct git_policy *policy;
	char folder[STORE_FOLDER_MAX];
	char repos[STORE_PATH_MAX], hooks[STORE_PATH_MAX], tools[STORE_PATH_MAX];
};

const char *store_repos(const struct store *s)
{
	return s->repos;
}

const char *store_hooks(const struct store *s)
{
	return s->hooks;
}

const char *store_tools(const struct store *s)
{
	return s->tools;
}

/* Both are short enough: store_open() and the policy have seen to it. */
static void store_path(const struct store *s, const char *kind, const char *name,
		       const char *suffix, char out[STORE_PATH_MAX])
{
	(void)snprintf(out, STORE_PATH_MAX, "%s/%s/%s%s", s->folder, kind, name, suffix);
}

void store_mirror(const struct store *s, const struct git_remote *r, char out[STORE_PATH_MAX])
{
	store_path(s, "repos", r->name, ".git", out);
}

/* --- size --- */

/* nftw() has no place for a context. */
static uint64_t walk_bytes;

static int walk_add(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)path;
	(void)type;
	(void)at;
	walk_bytes += (uint64_t)st->st_blocks * 512;
	return 0;
}

uint64_t store_bytes(const struct store *s)
{
	walk_bytes = 0;
	(void)nftw(s->folder, walk_add, STORE_WALK_FDS, FTW_PHYS | FTW_MOUNT);
	return walk_bytes;
}

/* --- what a killed life leaves --- */

static size_t walk_root; /* length of the mirror's path */

/* In the mirror's folder of objects our names are not anybody's; a branch may be called like one of
 * them, but for ".lock". */
static bool is_leftover(const char *path, struct str name)
{
	if (str_ends(name, STR_LIT(".lock")))
		return true;
	if (!str_starts(str_of(path + walk_root), STR_LIT("/objects/")))
		return false;
	return str_ends(name, STR_LIT(".keep")) || str_starts(name, STR_LIT("tmp_")) ||
	       str_starts(name, STR_LIT("incoming-"));
}

static int walk_clean(const char *path, const struct stat *st, int type, struct FTW *at)
{
	struct err e = ERR_INIT;

	(void)st;
	if (!is_leftover(path, str_of(path + at->base)))
		return 0;
	if (type == FTW_DP || type == FTW_D) {
		if (io_remove_tree(AT_FDCWD, path, &e) < 0)
			log_warn("%s", e.text);
		return 0;
	}
	if (unlink(path) < 0 && errno != ENOENT)
		log_warn("a temporary file in git-gate's folder cannot be removed");
	return 0;
}

/* --- mirrors --- */

static int mirror_file(const char *mirror, const char *name, const char *text, struct err *e)
{
	char path[STORE_PATH_MAX + 32];
	_cleanup_close_ int fd = -1;

	(void)snprintf(path, sizeof(path), "%s/%s", mirror, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 || io_write_all(fd, text, strlen(text)) < 0)
		return err_errno(e, "write %s of a mirror", name);
	return 0;
}

/* What the mirror is of; another upstream's objects must not be served under this name. */
static void mirror_identity(const struct git_remote *r, char *out, size_t size)
{
	(void)snprintf(out, size, "%s %s %u %s\n", git_transport_name(r->transport),
		       r->host ? r->host : "", r->port, r->path ? r->path : "");
}

static bool mirror_is_ours(const char *mirror, const char *identity)
{
	char path[STORE_PATH_MAX + 32];
	_cleanup_free_ char *text = NULL;
	struct str got = STR_NULL;
	struct err e = ERR_INIT;

	(void)snprintf(path, sizeof(path), "%s/gate-upstream", mirror);
	if (io_read_file(AT_FDCWD, path, 4096, &got, &e) < 0)
		return false;
	text = (char *)(uintptr_t)got.p;
	return str_eq(got, str_of(identity));
}

/* By hand: no template, no default of anybody's; the last file makes it valid. */
static int mirror_make(const char *mirror, const char *identity, struct err *e)
{
	static const char *const folders[] = {"objects/info", "objects/pack", "refs/heads",
					      "refs/tags", "info"};
	char path[STORE_PATH_MAX + 32];
	int ret = io_remove_tree(AT_FDCWD, mirror, e);

	for (size_t i = 0; ret == 0 && i < ARRAY_LEN(folders); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", mirror, folders[i]);
		ret = io_mkdir_p(path, 0700, e);
	}
	if (ret == 0)
		ret = mirror_file(
			mirror, "config",
			"[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n",
			e);
	if (ret == 0)
		ret = mirror_file(mirror, "HEAD", "ref: refs/heads/main\n", e);
	return ret < 0 ? ret : mirror_file(mirror, "gate-upstream", identity, e);
}

static int store_mirror_open(struct store *s, const struct git_remote *r, struct err *e)
{
	char mirror[STORE_PATH_MAX], identity[GIT_PATH_MAX + POLICY_HOST_MAX + 64];
	struct store_stamp stamp;

	store_mirror(s, r, mirror);
	mirror_identity(r, identity, sizeof(identity));
	store_stamp_read(s, r, &stamp);
	if (!mirror_is_ours(mirror, identity)) {
		int ret = mirror_make(mirror, identity, e);

		if (ret < 0)
			return ret;
		memset(&stamp, 0, sizeof(stamp));
	}
	walk_root = strlen(mirror);
	if (nftw(mirror, walk_clean, STORE_WALK_FDS, FTW_PHYS | FTW_MOUNT | FTW_DEPTH) < 0)
		return err_errno(e, "clean a mirror");
	/* Times are of this life alone. */
	stamp.started_ns = stamp.ended_ns = 0;
	return store_stamp_write(s, r, &stamp, e);
}

/* --- our own file --- */

static int store_copy(int from, const char *path, struct err *e)
{
	_cleanup_free_ char *piece = mem_zalloc(STORE_PIECE);
	_cleanup_close_ int to = -1;
	off_t at = 0;
	ssize_t n;

	(void)unlink(path);
	to = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0700);
	if (to < 0)
		return err_errno(e, "make %s", path);
	while ((n = pread(from, piece, STORE_PIECE, at)) > 0) {
		if (io_write_all(to, piece, (size_t)n) < 0)
			return err_errno(e, "write %s", path);
		at += n;
	}
	if (n < 0 || at == 0)
		return err_set(e, -EIO, "read our own executable");
	return fchmod(to, 0500) < 0 ? err_errno(e, "%s", path) : 0;
}

static int store_install(struct store *s, int program_fd, struct err *e)
{
	_cleanup_close_ int own = -1;
	char hook[STORE_PATH_MAX + 32], connect[STORE_PATH_MAX + 32];
	int ret;

	if (program_fd < 0) {
		own = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
		if (own < 0)
			return err_errno(e, "open /proc/self/exe");
		program_fd = own;
	}
	(void)snprintf(connect, sizeof(connect), "%s/git-connect", s->tools);
	ret = store_copy(program_fd, connect, e);
	if (ret < 0)
		return ret;
	(void)snprintf(hook, sizeof(hook), "%s/pre-receive", s->hooks);
	(void)unlink(hook);
	/* Landlock or a file system may be against links between folders. */
	return link(connect, hook) == 0 ? 0 : store_copy(program_fd, hook, e);
}

/* --- the whole --- */

static int store_folders(struct store *s, struct err *e)
{
	static const char *const names[] = {"repos", "hooks", "tools", "locks", "stamps"};
	char path[STORE_PATH_MAX];
	int ret = 0;

	for (size_t i = 0; ret == 0 && i < ARRAY_LEN(names); i++) {
		store_path(s, names[i], "", "", path);
		path[strlen(path) - 1] = '\0';
		ret = io_mkdir_p(path, 0700, e);
	}
	(void)snprintf(s->repos, sizeof(s->repos), "%s/repos", s->folder);
	(void)snprintf(s->hooks, sizeof(s->hooks), "%s/hooks", s->folder);
	(void)snprintf(s->tools, sizeof(s->tools), "%s/tools", s->folder);
	return ret;
}

int store_open(struct store **out, const char *folder, const struct git_policy *policy,
	       int program_fd, struct err *e)
{
	_cleanup_free_ struct store *s = mem_zalloc(sizeof(*s));
	_cleanup_free_ char *real = NULL;
	int ret;

	*out = NULL;
	if (folder[0] != '/')
		return err_set(e, -EINVAL, "git-gate's folder is not absolute");
	/* As git will see it, to compare with what its hook says. */
	real = io_mkdir_p(folder, 0700, e) < 0 ? NULL : realpath(folder, NULL);
	if (!real || !str_to_cstr(s->folder, sizeof(s->folder), str_of(real)))
		return err_set(e, -EINVAL,
			       "git-gate's folder cannot be used, or its path is too long");
	s->policy = policy;
	ret = store_folders(s, e);
	if (ret == 0)
		ret = store_install(s, program_fd, e);
	for (size_t i = 0; ret == 0 && i < policy->n_remotes; i++)
		ret = store_mirror_open(s, &policy->remotes[i], e);
	if (ret < 0)
		return err_prefix(e, "git-gate's folder");
	*out = take_ptr(&s);
	return 0;
}

void store_free(struct store *s)
{
	free(s);
}

void store_head(const struct store *s, const struct git_remote *r, struct refs_facts *facts)
{
	char path[STORE_PATH_MAX + 8], mirror[STORE_PATH_MAX];
	_cleanup_free_ char *text = NULL;
	struct str got = STR_NULL, prefix = STR_LIT("ref: ");
	struct err e = ERR_INIT;

	facts->head[0] = '\0';
	store_mirror(s, r, mirror);
	(void)snprintf(path, sizeof(path), "%s/HEAD", mirror);
	if (io_read_file(AT_FDCWD, path, 4096, &got, &e) < 0)
		return;
	text = (char *)(uintptr_t)got.p;
	if (!str_starts(got, prefix) || !str_ends(got, STR_LIT("\n")))
		return;
	got = str_sub(got, prefix.n, got.n - 1);
	if (!str_starts(got, STR_LIT("refs/heads/")) ||
	    !str_to_cstr(facts->head, sizeof(facts->head), got))
		facts->head[0] = '\0';
}

size_t store_packs(const struct store *s, const struct git_remote *r)
{
	char path[STORE_PATH_MAX + 16], mirror[STORE_PATH_MAX];
	_cleanup_closedir_ DIR *d = NULL;
	const struct dirent *entry;
	size_t n = 0;

	store_mirror(s, r, mirror);
	(void)snprintf(path, sizeof(path), "%s/objects/pack", mirror);
	d = opendir(path);
	while (d && (entry = readdir(d)))
		n += str_ends(str_of(entry->d_name), STR_LIT(".pack"));
	return n;
}

/* --- locks --- */

int store_lock_open(const struct store *s, const struct git_remote *r, struct err *e)
{
	char path[STORE_PATH_MAX];
	int fd;

	store_path(s, "locks", r->name, "", path);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	return fd < 0 ? err_errno(e, "open a mirror's lock") : fd;
}

int store_lock_take(int lock_fd, uint64_t deadline_ns, struct err *e)
{
	const struct timespec pause = {.tv_nsec = STORE_LOCK_POLL_NS};

	while (flock(lock_fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return err_errno(e, "lock a mirror");
		if (time_monotonic_ns() >= deadline_ns)
			return err_set(e, -ETIMEDOUT, "another request keeps this repository busy");
		(void)nanosleep(&pause, NULL);
	}
	return 0;
}

static int store_pushes_open(const struct store *s, const struct git_remote *r, struct err *e)
{
	char path[STORE_PATH_MAX];
	int fd;

	store_path(s, "locks", r->name, ".pushes", path);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	return fd < 0 ? err_errno(e, "open a mirror's lock") : fd;
}

static bool is_quarantine(struct str name)
{
	return str_starts(name, STR_LIT("tmp_objdir-incoming-")) ||
	       str_starts(name, STR_LIT("incoming-"));
}

static void store_remove_quarantines(const struct store *s, const struct git_remote *r)
{
	char path[STORE_PATH_MAX + 16], mirror[STORE_PATH_MAX];
	_cleanup_closedir_ DIR *d = NULL;
	const struct dirent *entry;
	struct err e = ERR_INIT;

	store_mirror(s, r, mirror);
	(void)snprintf(path, sizeof(path), "%s/objects", mirror);
	d = opendir(path);
	while (d && (entry = readdir(d))) {
		if (is_quarantine(str_of(entry->d_name)) &&
		    io_remove_tree(dirfd(d), entry->d_name, &e) < 0)
			log_warn("%s", e.text);
	}
}

int store_push_begin(const struct store *s, const struct git_remote *r, struct err *e)
{
	_cleanup_close_ int fd = store_pushes_open(s, r, e);

	if (fd < 0)
		return fd;
	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		store_remove_quarantines(s, r);
	/* Only a clean-up is waited for. */
	while (flock(fd, LOCK_SH) < 0) {
		if (errno != EINTR)
			return err_errno(e, "lock a mirror");
	}
	return take_fd(&fd);
}

void store_sweep(const struct store *s, const struct git_remote *r)
{
	struct err e = ERR_INIT;
	_cleanup_close_ int fd = store_pushes_open(s, r, &e);
	char mirror[STORE_PATH_MAX];

	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
		return;
	store_mirror(s, r, mirror);
	walk_root = strlen(mirror);
	(void)nftw(mirror, walk_clean, STORE_WALK_FDS, FTW_PHYS | FTW_MOUNT | FTW_DEPTH);
}

/* --- stamps --- */

/* "fetched failed started ended fresh text\n": ours alone, so whatever does not parse is none. */
void store_stamp_read(const struct store *s, const struct git_remote *r, struct store_stamp *out)
{
	char path[STORE_PATH_MAX];
	_cleanup_free_ char *text = NULL;
	struct str got = STR_NULL, word;
	struct err e = ERR_INIT;
	uint64_t v[5];
	bool found;

	memset(out, 0, sizeof(*out));
	store_path(s, "stamps", r->name, "", path);
	if (io_read_file(AT_FDCWD, path, STORE_TEXT_MAX + 256, &got, &e) < 0)
		return;
	text = (char *)(uintptr_t)got.p;
	if (!str_ends(got, STR_LIT("\n")))
		return;
	got.n--;
	for (size_t i = 0; i < ARRAY_LEN(v); i++) {
		got = str_cut(got, ' ', &word, &found);
		if (!found || str_to_u64(word, UINT64_MAX, &v[i]) < 0)
			return;
	}
	if (!str_to_cstr(out->text, sizeof(out->text), got))
		return;
	out->has_fetched = v[0];
	out->has_failed = v[1];
	out->started_ns = v[2];
	out->ended_ns = v[3];
	out->fresh_at_ns = v[4];
}

int store_stamp_write(const struct store *s, const struct git_remote *r,
		      const struct store_stamp *stamp, struct err *e)
{
	char path[STORE_PATH_MAX], text[STORE_TEXT_MAX + 256];
	int n = snprintf(text, sizeof(text), "%d %d %" PRIu64 " %" PRIu64 " %" PRIu64 " %s\n",
			 stamp->has_fetched, stamp->has_failed, stamp->started_ns, stamp->ended_ns,
			 stamp->fresh_at_ns, stamp->text);

	store_path(s, "stamps", r->name, "", path);
	return io_write_file_atomic(AT_FDCWD, path, str_slice(text, (size_t)n), 0600, e);
}
