/*
 * Theory of operation. What upload-pack and receive-pack are given looks like a bare repository:
 *
 *   config       ours; the real one, with whatever it would execute, is not read
 *   HEAD         as it is now
 *   packed-refs  the refs that may be seen, as they are now
 *   objects      a link to the real ones
 *   refs/heads/bottle/SLUG, logs/refs/heads/bottle/SLUG
 *                to receive: links to the real folders, so that git's own locks hold against
 *                whatever the human does there meanwhile
 *
 * It lives for one request. So the agent's side sees no stash, no other bottle's work, no remote's
 * branch, and cannot name them either: receive-pack tells which objects are there by the refs that it
 * knows, and a branch could be made of each of these.
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
	struct host_git look;
	char *own;	   /* refs/heads/bottle/SLUG */
	struct buf packed; /* packed-refs */
	struct buf config;
};

/* --- what there is --- */

static bool is_oid(struct str s)
{
	for (size_t i = 0; i < s.n; i++) {
		if (ascii_hex_value(s.p[i]) < 0)
			return false;
	}
	return s.n == MAKE_OID;
}

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
	if (!is_oid(oid) && oid.n == 64)
		return err_set(e, -ENOTSUP,
			       "the repository \"%s\" has SHA-256 objects, which git-gate does not "
			       "know",
			       m->g->repo->top);
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
	static const char *const argv[] = {
		"for-each-ref", "--format=%(objectname) %(refname)%00%(worktreepath)%00",
		"refs/heads",	"refs/tags",
		NULL};
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

static int put_head(const struct making *m, struct err *e)
{
	static const char *const symbolic[] = {"symbolic-ref", "-q", "HEAD", NULL};
	static const char *const detached[] = {"rev-parse", "-q", "--verify", "HEAD^{commit}", NULL};
	_cleanup_(buf_free) struct buf out, text;
	struct err none = ERR_INIT;
	int ret;

	buf_init(&out, MAKE_REF_MAX);
	buf_init(&text, MAKE_REF_MAX + 16);
	if (host_git_look(&m->look, symbolic, &out, &none) == 0) {
		ret = buf_append_str(&text, STR_LIT("ref: "));
	} else {
		buf_reset(&out);
		ret = host_git_look(&m->look, detached, &out, e);
	}
	if (ret == 0)
		ret = buf_append_str(&text, buf_str(&out));
	return ret < 0 ? ret : put(m, "HEAD", buf_str(&text), e);
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

/* The bottle's own folders, there and in the repository itself. A repository without logs gets none.
 */
static int put_own(const struct making *m, struct err *e)
{
	const char *common = m->g->repo->common_dir;
	_cleanup_free_ char *refs = mem_printf("%s/%s", common, m->own);
	_cleanup_free_ char *logs = mem_printf("%s/logs", common);
	_cleanup_free_ char *own_logs = mem_printf("%s/%s", logs, m->own);
	_cleanup_free_ char *link = mem_printf("logs/%s", m->own);
	mode_t mode = 0777 & ~m->g->repo->mask;
	int ret = io_mkdir_p(refs, mode, e);

	if (ret == 0)
		ret = put_folder(m, "refs/heads/bottle", e);
	if (ret == 0)
		ret = put_link(m, m->own, refs, e);
	if (ret < 0 || access(logs, F_OK) < 0)
		return ret;
	ret = io_mkdir_p(own_logs, mode, e);
	if (ret == 0)
		ret = put_folder(m, "logs/refs/heads/bottle", e);
	return ret == 0 ? put_link(m, link, own_logs, e) : ret;
}

/* Before the refs, which may add to its last section. */
static int config_begin(struct making *m)
{
	static const char head[] = "[core]\n"
				   "\trepositoryformatversion = 0\n"
				   "\tbare = false\n"
				   "\thooksPath = /dev/null\n"
				   "\tfsmonitor = false\n"
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
				 "\thideRefs = refs\n"
				 "\thideRefs = !%s\n",
				 g->may_force ? "false" : "true",
				 (unsigned long long)g->file_max_bytes, m->own);
	return ret;
}

static int make_all(struct making *m, struct err *e)
{
	int ret = config_begin(m);

	if (ret == 0)
		ret = buf_append_str(&m->packed, STR_LIT("# pack-refs with: sorted \n"));
	if (ret < 0)
		return err_set(e, ret, "git's configuration");
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
		ret = put_head(m, e);
	if (ret == 0)
		ret = put_shallow(m, e);
	return ret == 0 && m->g->power == HOST_GIT_RECEIVE ? put_own(m, e) : ret;
}

int host_git_make(const struct host_git *g, struct err *e)
{
	struct making m = {.g = g, .look = *g};
	int ret;

	m.look.power = HOST_GIT_LOOK;
	m.look.made = NULL;
	m.own = mem_printf(HOST_GIT_BRANCHES "%s", g->slug);
	buf_init(&m.packed, MAKE_REFS_MAX);
	buf_init(&m.config, MAKE_CONFIG_MAX);
	ret = mkdir(g->made, 0700) < 0 ? err_errno(e, "make \"%s\"", g->made) : make_all(&m, e);
	buf_free(&m.packed);
	buf_free(&m.config);
	free(m.own);
	return ret;
}
