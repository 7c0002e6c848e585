/*
 * Theory of operation. What upload-pack and receive-pack are given looks like a bare repository:
 *
 *   config       ours; the real one, with whatever it would execute, is not read
 *   HEAD         as it is now
 *   packed-refs  the refs that may be seen, as they are now
 *   objects      a link to the real ones
 *   refs/heads/bottle/SLUG, and the same below logs
 *                to receive: links to the real folders, so that git's own locks hold against
 *                whatever the human does there meanwhile
 *
 * It lives for one request. So the agent's side sees no stash, no other bottle's work, no remote's
 * branch, and cannot name them either: receive-pack tells which objects are there by the refs that
 * it knows, and a branch could be made of each of these. The heads and tags are shown to a push as
 * well, so that it brings what is new alone; receive-pack would hand all but the bottle's own to a
 * hook that is not there, which refuses them, and where it writes they are not the repository's.
 */
#include "backend/host_git.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#define MAKE_REFS_MAX	 (64u << 20)
#define MAKE_CONFIG_MAX	 (1u << 20)
#define MAKE_SHALLOW_MAX (16u << 20)
#define MAKE_OID	 40
#define MAKE_REF_MAX	 4096

struct making {
	const struct host_git *g;
	struct host_git look; /* at all refs */
	char *own;	      /* refs/heads/bottle/SLUG */
	struct buf
		packed; /* packed-refs; without its first line, which would say that it is sorted */
	struct buf config;
};

static bool is_oid(struct str s)
{
	for (size_t i = 0; i < s.n; i++) {
		if (ascii_hex_value(s.p[i]) < 0)
			return false;
	}
	return s.n == MAKE_OID;
}

/* --- what is made --- */

static int put(const struct making *m, const char *name, struct str text, struct err *e)
{
	_cleanup_free_ char *path = mem_printf("%s/%s", m->g->made, name);
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	int ret;

	if (fd < 0)
		return err_errno(e, "make \"%s\"", path);
	ret = io_write_all(fd, text.p, text.n);
	return ret < 0 ? err_set(e, ret, "write \"%s\": %s", path, strerror(-ret)) : 0;
}

static int put_link(const struct making *m, const char *name, const char *target, struct err *e)
{
	_cleanup_free_ char *path = mem_printf("%s/%s", m->g->made, name);

	return symlink(target, path) < 0 ? err_errno(e, "make \"%s\"", path) : 0;
}

static int put_folder(const struct making *m, const char *name, struct err *e)
{
	_cleanup_free_ char *path = mem_printf("%s/%s", m->g->made, name);

	return io_mkdir_p(path, 0700, e);
}

/* HEAD of a work tree: "ref: refs/…", or what is checked out. Plain text since there are refs. */
static int put_head(const struct making *m, const char *folder, const char *of, struct err *e)
{
	_cleanup_free_ char *path = mem_printf("%s/HEAD", of), *text = NULL;
	_cleanup_free_ char *name = mem_printf("%s/HEAD", folder), *whole = NULL;
	struct str line, s;
	bool found;
	int ret = io_read_file(AT_FDCWD, path, MAKE_REF_MAX, &s, e);

	if (ret < 0)
		return ret;
	text = (char *)(uintptr_t)s.p;
	(void)str_cut(s, '\n', &line, &found);
	if (!is_oid(line) && !str_starts(line, STR_LIT("ref: refs/")))
		return err_set(e, -EPROTO, "\"%s\" makes no sense", path);
	whole = mem_printf(STR_FMT "\n", STR_ARG(line));
	return put(m, name, str_of(whole), e);
}

/* All refs, for whoever chooses among them: a repository like the real one but its configuration.
 */
static int put_look(const struct making *m, const char *folder, struct err *e)
{
	static const char config[] = "[core]\n\trepositoryformatversion = 0\n\tbare = false\n";
	static const char *const links[] = {"refs", "packed-refs", "worktrees"};
	_cleanup_free_ char *config_name = mem_printf("%s/config", folder);
	_cleanup_free_ char *objects = mem_printf("%s/objects", folder);
	const struct host_repo *r = m->g->repo;
	int ret = put_folder(m, folder, e);

	if (ret == 0)
		ret = put(m, config_name, STR_LIT(config), e);
	if (ret == 0)
		ret = put_link(m, objects, r->objects, e);
	for (size_t i = 0; i < ARRAY_LEN(links) && ret == 0; i++) {
		_cleanup_free_ char *name = mem_printf("%s/%s", folder, links[i]);
		_cleanup_free_ char *target = mem_printf("%s/%s", r->common_dir, links[i]);

		ret = put_link(m, name, target, e);
	}
	return ret == 0 ? put_head(m, folder, r->common_dir, e) : ret;
}

/* --- what there is --- */

static bool is_shown(const struct making *m, struct str ref)
{
	_cleanup_free_ char *below = mem_printf("%s/", m->own);

	return !str_starts(ref, STR_LIT(HOST_GIT_BRANCHES)) || str_starts(ref, str_of(below));
}

/* A ref's name may hold a quote; never a backslash or a control character. */
static int hide(struct making *m, struct str ref)
{
	int ret = buf_append_str(&m->config, STR_LIT("\thideRefs = \""));

	for (size_t i = 0; i < ref.n && ret == 0; i++) {
		if (ref.p[i] == '"')
			ret = buf_append(&m->config, "\\", 1);
		if (ret == 0)
			ret = buf_append(&m->config, ref.p + i, 1);
	}
	return ret == 0 ? buf_append_str(&m->config, STR_LIT("\"\n")) : ret;
}

/* One ref: "OID NAME", and where it is checked out. */
static int take_ref(struct making *m, struct str line, struct str checked_out, struct err *e)
{
	struct str oid, ref;
	bool found;
	int ret = 0;

	ref = str_cut(line, ' ', &oid, &found);
	if (!found || !is_oid(oid) || ref.n == 0 || ref.n > MAKE_REF_MAX)
		return err_set(e, -EPROTO, "git's list of refs makes no sense");
	if (!is_shown(m, ref))
		return 0;
	if (checked_out.n > 0 && m->g->power == HOST_GIT_RECEIVE &&
	    str_starts(ref, STR_LIT(HOST_GIT_BRANCHES)))
		ret = hide(m, ref);
	if (ret == 0)
		ret = buf_printf(&m->packed, "%.*s ", (int)oid.n, oid.p);
	if (ret == 0)
		ret = buf_append_str(&m->packed, ref);
	if (ret == 0)
		ret = buf_append(&m->packed, "\n", 1);
	return ret < 0 ? err_set(e, ret, "the repository has too many refs") : 0;
}

static int take_refs(struct making *m, struct err *e)
{
	static const char *const argv[] = {"for-each-ref",
					   "--format=%(objectname) %(refname)%00%(worktreepath)%00",
					   "refs/heads", "refs/tags", NULL};
	_cleanup_(buf_free) struct buf out;
	struct str rest;
	int ret;

	buf_init(&out, MAKE_REFS_MAX);
	ret = host_git_look(&m->look, argv, &out, e);
	rest = buf_str(&out);
	while (ret == 0 && rest.n > 0) {
		struct str line, path;
		bool found, has_end;

		rest = str_cut(rest, '\0', &line, &found);
		rest = str_cut(rest, '\0', &path, &has_end);
		if (!found || !has_end || rest.n == 0 || rest.p[0] != '\n')
			return err_set(e, -EPROTO, "git's list of refs makes no sense");
		rest = str_sub(rest, 1, rest.n);
		ret = take_ref(m, line, path, e);
	}
	return ret;
}

/* Of a shallow repository, where its history ends. */
static int put_shallow(const struct making *m, struct err *e)
{
	_cleanup_free_ char *path = mem_printf("%s/shallow", m->g->repo->common_dir), *text = NULL;
	struct err own = ERR_INIT;
	struct str s;
	int ret = io_read_file(AT_FDCWD, path, MAKE_SHALLOW_MAX, &s, &own);

	if (ret == -ENOENT)
		return 0;
	if (ret < 0)
		return err_set(e, ret, "%s", own.text);
	text = (char *)(uintptr_t)s.p;
	return put(m, "shallow", s, e);
}

/* The bottle's own folders, there and in the repository itself. A repository without logs gets
 * none.
 */
static int put_own(const struct making *m, struct err *e)
{
	const char *common = m->g->repo->common_dir;
	_cleanup_free_ char *refs = mem_printf("%s/%s", common, m->own);
	_cleanup_free_ char *logs = mem_printf("%s/logs", common);
	_cleanup_free_ char *own_logs = mem_printf("%s/%s", logs, m->own);
	_cleanup_free_ char *log_link = mem_printf("logs/%s", m->own);
	mode_t mode = 0777 & ~m->g->repo->mask;
	int ret = io_mkdir_p(refs, mode, e);

	if (ret == 0)
		ret = put_folder(m, HOST_GIT_BRANCHES, e);
	if (ret == 0)
		ret = put_link(m, m->own, refs, e);
	if (ret < 0 || access(logs, F_OK) < 0)
		return ret;
	ret = io_mkdir_p(own_logs, mode, e);
	if (ret == 0)
		ret = put_folder(m, "logs/" HOST_GIT_BRANCHES, e);
	return ret == 0 ? put_link(m, log_link, own_logs, e) : ret;
}

/* Before the refs, which may add to its last section. */
static int config_begin(struct making *m)
{
	static const char head[] = "[core]\n"
				   "\trepositoryformatversion = 0\n"
				   "\tbare = false\n"
				   "\thooksPath = /dev/null\n"
				   "\tfsmonitor = false\n"
				   /* Asked in a quarantine for the refs of what lies behind it,
				    * the real repository, which it cannot read. Says nothing. */
				   "\talternateRefsCommand = git-check-ref-format\n"
				   "[gc]\n\tauto = 0\n"
				   "[maintenance]\n\tauto = false\n"
				   "[pack]\n\tthreads = 2\n"
				   "[transfer]\n"
				   "\tfsckObjects = true\n"
				   "[uploadpack]\n"
				   "\tallowFilter = false\n"
				   "\tallowAnySHA1InWant = false\n";
	const struct host_git *g = m->g;
	_cleanup_free_ char *logs = mem_printf("%s/logs", g->repo->common_dir);
	int ret = buf_append_str(&m->config, STR_LIT(head));

	if (ret == 0)
		ret = buf_printf(&m->config, "[core]\n\tlogAllRefUpdates = %s\n",
				 access(logs, F_OK) == 0 ? "true" : "false");
	if (ret == 0)
		ret = buf_printf(&m->config,
				 "[receive]\n"
				 "\tautogc = false\n"
				 "\tupdateServerInfo = false\n"
				 "\tadvertisePushOptions = false\n"
				 "\tdenyCurrentBranch = refuse\n"
				 "\tdenyDeletes = true\n"
				 "\tdenyNonFastForwards = %s\n"
				 "\tmaxInputSize = %llu\n"
				 "\tprocReceiveRefs = adm!:%s\n",
				 g->may_force ? "false" : "true",
				 (unsigned long long)g->file_max_bytes, m->own);
	return ret;
}

static int make_all(struct making *m, struct err *e)
{
	int ret = config_begin(m);

	if (ret < 0)
		return err_set(e, ret, "git's configuration");
	ret = put_look(m, "look", e);
	if (ret == 0)
		ret = put_folder(m, "refs/heads", e);
	if (ret == 0)
		ret = put_folder(m, "refs/tags", e);
	if (ret == 0)
		ret = take_refs(m, e);
	if (ret == 0)
		ret = put(m, "config", buf_str(&m->config), e);
	if (ret == 0)
		ret = put(m, "packed-refs", buf_str(&m->packed), e);
	if (ret == 0)
		ret = put_link(m, "objects", m->g->repo->objects, e);
	if (ret == 0)
		ret = put_head(m, ".", m->g->repo->git_dir, e);
	if (ret == 0)
		ret = put_shallow(m, e);
	return ret == 0 && m->g->power == HOST_GIT_RECEIVE ? put_own(m, e) : ret;
}

int host_git_make(const struct host_git *g, struct err *e)
{
	struct making m = {.g = g, .look = *g};
	_cleanup_free_ char *look = mem_printf("%s/look", g->made);
	int ret;

	m.look.power = HOST_GIT_LOOK;
	m.look.made = look;
	m.own = mem_printf(HOST_GIT_BRANCHES "%s", g->slug);
	buf_init(&m.packed, MAKE_REFS_MAX);
	buf_init(&m.config, MAKE_CONFIG_MAX);
	ret = mkdir(g->made, 0700) < 0 ? err_errno(e, "make \"%s\"", g->made) : 0;
	if (ret == 0)
		ret = g->power == HOST_GIT_LOOK ? put_look(&m, ".", e) : make_all(&m, e);
	buf_free(&m.packed);
	buf_free(&m.config);
	free(m.own);
	return ret;
}
