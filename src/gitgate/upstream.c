/*
 * Theory of operation: git fetches from "ssh://gate/<remote>", by a program of ours instead of ssh
 * (connect_main.c), whose stream leads to the connector (connect.h). So no address, credential or
 * configuration of an upstream is in git's hands; what it is told of refs was made by us, and what
 * it writes is below refs/heads and refs/tags of the mirror.
 */
#include "gitgate/upstream.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/text.h"
#include "base/timeutil.h"
#include "gitgate/connect.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/stat.h>

#define SAID_MAX     16384 /* of git's standard error; the end is what counts */
#define HEAD_FILE    512
#define SHORT_RUN_MS 20000

/* --- git fetch --- */

static const char *const fetch_argv_raw[] = {"-c", "protocol.version=0", NULL};
static const char *const fetch_argv_https[] = {"-c", "protocol.version=2", NULL};
/* No --atomic: one transaction cannot take "a" away and make "a/b". */
static const char *const fetch_argv[] = {
	"fetch",
	"--quiet",
	"--force",
	"--prune",
	"--no-tags",
	"--no-write-fetch-head",
	"--no-auto-maintenance",
	"--no-recurse-submodules",
	"--no-show-forced-updates",
	"--update-head-ok",
	"--refmap=",
	"--",
	NULL, /* the URL */
	"+refs/heads/*:refs/heads/*",
	"+refs/tags/*:refs/tags/*",
};

static size_t fetch_args(const struct git_remote *r, const char *url, const char **out)
{
	const char *const *version =
		r->transport == GIT_TRANSPORT_HTTPS ? fetch_argv_https : fetch_argv_raw;
	size_t n = 0;

	while (*version)
		out[n++] = *version++;
	for (size_t i = 0; i < ARRAY_LEN(fetch_argv); i++)
		out[n++] = fetch_argv[i] ? fetch_argv[i] : url;
	out[n] = NULL;
	return n;
}

/* Keeps the end of what is said. */
static void keep_tail(struct buf *said, int *fd)
{
	char piece[4096];
	ssize_t n = read(*fd, piece, sizeof(piece));

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		close_fd(fd);
		return;
	}
	if (buf_room(said) < (size_t)n)
		buf_consume(said, (size_t)n - buf_room(said));
	if (buf_append(said, piece, (size_t)n) < 0)
		buf_reset(said);
}

static int drain(struct git_child *c, struct buf *said, uint64_t deadline_ns)
{
	struct buf unused;

	buf_init(&unused, 8192);
	close_fd(&c->in_fd);
	while (c->out_fd >= 0 || c->err_fd >= 0) {
		struct pollfd p[] = {{c->out_fd, POLLIN, 0}, {c->err_fd, POLLIN, 0}};
		uint64_t now = time_monotonic_ns();
		int n;

		if (now >= deadline_ns)
			break;
		n = poll(p, 2, (int)((deadline_ns - now) / TIME_NS_PER_MS + 1));
		if (n < 0 && errno != EINTR)
			break;
		if (n > 0 && p[0].revents)
			keep_tail(&unused, &c->out_fd);
		if (n > 0 && p[1].revents)
			keep_tail(said, &c->err_fd);
	}
	buf_free(&unused);
	return 0;
}

/* The last "fatal: …" or "error: …" of git's, or its last line. */
static void last_words(const struct buf *said, char *out, size_t size)
{
	struct str rest = buf_str(said), line, best = STR_NULL;
	bool found = true, is_fatal = false;

	while (found) {
		bool is_telling;

		rest = str_cut(rest, '\n', &line, &found);
		line = str_trim(line);
		is_telling = str_starts(line, STR_LIT("fatal: ")) ||
			     str_starts(line, STR_LIT("error: "));
		if (line.n > 0 && (is_telling || !is_fatal))
			best = line;
		is_fatal |= is_telling;
	}
	text_visible_cstr(out, size, best);
}

static int fetch_failed(const struct git_remote *r, const struct connect_report *report,
			const struct buf *said, int status, struct err *e)
{
	char words[400];

	/* What the connector knows is why git failed. */
	if (report->code < 0)
		return err_set(e, report->code, "upstream \"%s\": %s", r->name, report->text);
	if (status < 0)
		return err_prefix(e, "upstream \"%s\"", r->name);
	last_words(said, words, sizeof(words));
	return err_set(e, -EREMOTEIO, "upstream \"%s\": %s", r->name,
		       words[0] ? words : "git failed without a word");
}

/* The exit status of git fetch; the report of the connector. */
static int fetch_run(const struct git_remote *r, const struct git_run_env *git,
		     struct connection *c, const char *tool_path, uint64_t deadline_ns,
		     struct buf *said, struct err *e)
{
	char url[GIT_NAME_MAX + 16], ssh[4096], stream[32];
	const char *extra[16], *args[GIT_RUN_ARGS_MAX + 1];
	struct git_run_env env = *git;
	struct git_child child;
	size_t n = 0;
	int ret;

	for (; git->extra && git->extra[n]; n++) {
		if (n + 4 > ARRAY_LEN(extra) - 1)
			return err_set(e, -E2BIG, "too much environment for git");
		extra[n] = git->extra[n];
	}
	(void)snprintf(url, sizeof(url), "ssh://gate/%s", r->name);
	if ((size_t)snprintf(ssh, sizeof(ssh), "GIT_SSH=%s/git-connect", tool_path) >= sizeof(ssh))
		return err_set(e, -ENAMETOOLONG, "the folder's name is too long");
	(void)snprintf(stream, sizeof(stream), "CB_STREAM=%d", c->fd);
	extra[n++] = ssh;
	/* It takes no options, so that none is passed. */
	extra[n++] = "GIT_SSH_VARIANT=simple";
	extra[n++] = stream;
	extra[n] = NULL;
	env.extra = extra;
	env.quarantine = NULL;
	(void)fetch_args(r, url, args);
	ret = git_run_start(&env, args, (int[]){-1, -1, -1}, c->fd, &child, e);
	close_fd(&c->fd);
	if (ret < 0)
		return ret;
	(void)drain(&child, said, deadline_ns);
	return git_run_wait(&child, deadline_ns, e);
}

/* --- the mirror --- */

/* What an index-pack that failed or was killed has left: a hostile upstream could fill the disk
 * with it. Pushes write into folders of their own, and other fetches are kept out by the lock. */
static void sweep(const struct git_run_env *git)
{
	_cleanup_free_ char *path = mem_printf("%s/objects/pack", git->repo);
	_cleanup_closedir_ DIR *d = opendir(path);
	struct dirent *entry;

	while (d && (entry = readdir(d))) {
		if (strncmp(entry->d_name, "tmp_", 4) == 0)
			(void)unlinkat(dirfd(d), entry->d_name, 0);
	}
}

static bool mirror_head_is(const struct git_run_env *git, const char *head)
{
	_cleanup_close_ int fd = open(git->repo, O_PATH | O_DIRECTORY | O_CLOEXEC);
	_cleanup_free_ char *wanted = mem_printf("ref: %s\n", head);
	struct str text = STR_NULL;
	bool is;

	if (fd < 0 || io_read_file(fd, "HEAD", HEAD_FILE, &text, NULL) < 0)
		return false;
	is = str_eq(text, str_of(wanted));
	free((void *)(uintptr_t)text.p);
	return is;
}

static int mirror_set_head(const struct git_run_env *git, const char *head, uint64_t deadline_ns,
			   struct err *e)
{
	const char *const argv[] = {"symbolic-ref", "HEAD", head, NULL};
	struct buf out, said;
	char words[300];
	int ret;

	/* The connector's report has passed through a process that an upstream talks to. */
	if (!head[0] || !str_starts(str_of(head), STR_LIT("refs/heads/")) ||
	    !git_ref_is_valid(str_of(head)) || mirror_head_is(git, head))
		return 0;
	buf_init(&out, 4096);
	buf_init(&said, 4096);
	ret = git_run(git, argv, STR_NULL, &out, &said, deadline_ns, e);
	last_words(&said, words, sizeof(words));
	buf_free(&out);
	buf_free(&said);
	return ret > 0 ? err_set(e, -EIO, "the mirror's HEAD cannot be set: %s", words) : ret;
}

int upstream_fetch(const struct upstream_place *p, const struct git_remote *r,
		   const struct git_run_env *git, struct err *e)
{
	uint64_t deadline_ns = time_monotonic_ns() + UPSTREAM_FETCH_MS * TIME_NS_PER_MS;
	struct connect_report report;
	struct connection c;
	struct buf said;
	int ret, status;

	ret = connect_open(&c, p, r, GIT_UPLOAD_PACK, deadline_ns, e);
	if (ret < 0)
		return err_prefix(e, "upstream \"%s\"", r->name);
	buf_init(&said, SAID_MAX);
	status = fetch_run(r, git, &c, p->tool_path, deadline_ns, &said, e);
	connect_close(&c, &report);
	if (status != 0) {
		ret = fetch_failed(r, &report, &said, status, e);
		sweep(git);
	} else {
		ret = mirror_set_head(git, report.head,
				      time_monotonic_ns() + SHORT_RUN_MS * TIME_NS_PER_MS, e);
	}
	buf_free(&said);
	return ret;
}
