#include "workspace/user_git.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/signals.h"
#include "base/text.h"
#include "base/timeutil.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <linux/close_range.h>

#define GIT_ARGS_MAX   256
#define GIT_SAID_MAX   480
#define GIT_PIECE_SIZE 32768

/* Before the caller's own. A command line's -c is stronger than any file. What is said here of
 * filters: their programs are named in the user's configuration alone, since no file of the work
 * tree can define one; .gitattributes can only choose among them. */
static const char *const git_options[] = {
	"git",
	"--no-pager",
	"--no-optional-locks",
	"-c",
	"core.hooksPath=/dev/null",
	"-c",
	"core.fsmonitor=false",
	"-c",
	"core.pager=cat",
	"-c",
	"core.askPass=",
	"-c",
	"core.editor=false",
	"-c",
	"sequence.editor=false",
	"-c",
	"diff.external=",
	"-c",
	"diff.trustExitCode=false",
	"-c",
	"gc.auto=0",
	"-c",
	"maintenance.auto=false",
	"-c",
	"submodule.recurse=false",
	"-c",
	"fetch.recurseSubmodules=false",
	"-c",
	"diff.ignoreSubmodules=all",
	"-c",
	"status.submoduleSummary=false",
	"-c",
	"log.showSignature=false",
	"-c",
	"merge.verifySignatures=false",
	"-c",
	"protocol.allow=never",
	"-c",
	"color.ui=false",
	"-c",
	"core.quotePath=true",
};

/* The repository is the one of the folder, whatever the caller's shell says. */
static const char *const git_unset[] = {
	"GIT_DIR",
	"GIT_WORK_TREE",
	"GIT_INDEX_FILE",
	"GIT_COMMON_DIR",
	"GIT_OBJECT_DIRECTORY",
	"GIT_ALTERNATE_OBJECT_DIRECTORIES",
	"GIT_NAMESPACE",
	"GIT_EXTERNAL_DIFF",
	"GIT_DIFF_OPTS",
	"GIT_PAGER",
	"GIT_EDITOR",
	"GIT_SEQUENCE_EDITOR",
	"GIT_SSH",
	"GIT_SSH_COMMAND",
	"GIT_ASKPASS",
	"GIT_PROXY_COMMAND",
	"GIT_TRACE",
	"GIT_TRACE2",
	"GIT_TRACE2_EVENT",
	"GIT_EXEC_PATH",
	"GIT_TEMPLATE_DIR",
	"GIT_CONFIG",
	"GIT_CONFIG_PARAMETERS",
	"GIT_CONFIG_COUNT",
	"GIT_REPLACE_REF_BASE",
	"GIT_GRAFT_FILE",
	"GIT_SHALLOW_FILE",
	"GIT_MERGE_AUTOEDIT",
};

struct git_child {
	const struct user_git *g;
	const char *const *args;
	int out, err;
};

static int git_become(const struct user_git *g, struct err *e)
{
	if (geteuid() != 0 || g->uid == 0)
		return 0;
	if (setgroups(0, NULL) < 0 || setresgid(g->gid, g->gid, g->gid) < 0 ||
	    setresuid(g->uid, g->uid, g->uid) < 0)
		return err_errno(e, "become uid %u", (unsigned)g->uid);
	/* The home is root's, and what its configuration says is for root. */
	(void)setenv("HOME", "/nonexistent", 1);
	(void)unsetenv("XDG_CONFIG_HOME");
	return 0;
}

/* Whoever becomes another user is not told any more when its parent dies: first the one, then the
 * other. */
static _Noreturn void git_exec(const struct git_child *c)
{
	const char *argv[ARRAY_LEN(git_options) + GIT_ARGS_MAX + 1];
	_cleanup_close_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	struct err e = ERR_INIT;
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_LEN(git_options); i++)
		argv[n++] = git_options[i];
	for (size_t i = 0; c->args[i] && i < GIT_ARGS_MAX; i++)
		argv[n++] = c->args[i];
	argv[n] = NULL;
	for (size_t i = 0; i < ARRAY_LEN(git_unset); i++)
		(void)unsetenv(git_unset[i]);
	(void)setenv("GIT_TERMINAL_PROMPT", "0", 1);
	(void)setenv("GIT_NO_REPLACE_OBJECTS", "1", 1);
	(void)setenv("LC_ALL", "C", 1);
	signals_reset();
	if (null < 0 || dup2(null, 0) < 0 || dup2(c->out, 1) < 0 || dup2(c->err, 2) < 0 ||
	    git_become(c->g, &e) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 ||
	    chdir(c->g->folder) < 0 || close_range(3, ~0u, CLOSE_RANGE_CLOEXEC) < 0)
		_exit(126);
	(void)execvp("git", (char *const *)(uintptr_t)argv);
	_exit(127);
}

struct git_run {
	pid_t pid;
	int out, err;
	char said[GIT_SAID_MAX]; /* the first of standard error */
	size_t n_said;
};

static int git_start(struct git_run *r, const struct user_git *g, const char *const *args,
		     struct err *e)
{
	_cleanup_close_ int out_w = -1, err_w = -1;
	int out[2], err[2];

	*r = (struct git_run){.out = -1, .err = -1};
	if (pipe2(out, O_CLOEXEC) < 0)
		return err_errno(e, "pipe");
	r->out = out[0];
	out_w = out[1];
	if (pipe2(err, O_CLOEXEC) < 0)
		return err_errno(e, "pipe");
	r->err = err[0];
	err_w = err[1];
	r->pid = fork();
	if (r->pid < 0)
		return err_errno(e, "fork");
	if (r->pid == 0)
		git_exec(&(struct git_child){g, args, out_w, g->is_terminal ? 2 : err_w});
	return 0;
}

static void git_listen(struct git_run *r)
{
	char piece[1024];
	ssize_t got = read(r->err, piece, sizeof(piece));
	size_t room = sizeof(r->said) - r->n_said;

	if (got <= 0) {
		close_fd(&r->err);
		return;
	}
	if ((size_t)got < room)
		room = (size_t)got;
	memcpy(r->said + r->n_said, piece, room);
	r->n_said += room;
}

/* 1: more may come. */
static int git_read(struct git_run *r, int (*fn)(void *ctx, struct str piece), void *ctx,
		    struct err *e)
{
	char piece[GIT_PIECE_SIZE];
	ssize_t got = read(r->out, piece, sizeof(piece));

	if (got < 0 && errno == EINTR)
		return 1;
	if (got < 0)
		return err_errno(e, "read from git");
	if (got == 0) {
		close_fd(&r->out);
		return 0;
	}
	return fn(ctx, str_slice(piece, (size_t)got));
}

static int git_pump(struct git_run *r, int (*fn)(void *ctx, struct str piece), void *ctx,
		    struct err *e)
{
	uint64_t end = time_monotonic_ns() + USER_GIT_TIMEOUT_MS * TIME_NS_PER_MS;

	while (r->out >= 0 || r->err >= 0) {
		struct pollfd fds[] = {{.fd = r->out, .events = POLLIN},
				       {.fd = r->err, .events = POLLIN}};
		int ret = poll(fds, 2, 1000);

		if (ret < 0 && errno != EINTR)
			return err_errno(e, "poll");
		if (time_monotonic_ns() > end)
			return err_set(e, -ETIMEDOUT, "git does not end");
		if (ret <= 0)
			continue;
		if (fds[1].revents)
			git_listen(r);
		if (fds[0].revents) {
			ret = git_read(r, fn, ctx, e);
			if (ret < 0)
				return ret;
			end = time_monotonic_ns() + USER_GIT_TIMEOUT_MS * TIME_NS_PER_MS;
		}
	}
	return 0;
}

static const char *git_verb(const char *const *args)
{
	while (args[0] && strcmp(args[0], "-c") == 0 && args[1])
		args += 2;
	return args[0] ? args[0] : "";
}

/* One line of what git said, in words that cannot be mistaken for ours. */
static int git_failed(const struct git_run *r, const char *verb, int status, struct err *e)
{
	struct str said = str_trim(str_slice(r->said, r->n_said)), line;
	char shown[GIT_SAID_MAX];
	bool found;

	if (status == 127)
		return err_set(e, -ENOENT, "git is not installed");
	(void)str_cut(said, '\n', &line, &found);
	text_visible_cstr(shown, sizeof(shown), line);
	return err_set(e, -EIO, "git %s: %s", verb, shown[0] ? shown : "failed without a word");
}

int user_git_stream(const struct user_git *g, const char *const *args,
		    int (*fn)(void *ctx, struct str piece), void *ctx, int *status, struct err *e)
{
	struct git_run r;
	int ret = git_start(&r, g, args, e), how = 0;

	if (ret == 0)
		ret = git_pump(&r, fn, ctx, e);
	close_fd(&r.out);
	close_fd(&r.err);
	if (r.pid > 0) {
		if (ret < 0)
			(void)kill(r.pid, SIGKILL);
		while (waitpid(r.pid, &how, 0) < 0 && errno == EINTR)
			;
	}
	if (ret < 0)
		return ret;
	how = signals_exit_status(how);
	if (status && how != 127)
		*status = how;
	else if (how != 0)
		return git_failed(&r, git_verb(args), how, e);
	return 0;
}

static int git_collect(void *ctx, struct str piece)
{
	return buf_append_str(ctx, piece) < 0 ? -EFBIG : 0;
}

int user_git_run(const struct user_git *g, const char *const *args, struct buf *out, int *status,
		 struct err *e)
{
	struct buf none = {0};
	int ret = user_git_stream(g, args, git_collect, out ? out : &none, status, e);

	if (ret == -EFBIG)
		return err_set(e, ret, "git %s says more than can be read", git_verb(args));
	buf_free(&none);
	return ret;
}

char *user_git_line(const struct user_git *g, const char *const *args)
{
	_cleanup_(buf_free) struct buf out;
	struct str line;
	int status = 0;
	bool found;

	buf_init(&out, 65536);
	if (user_git_run(g, args, &out, &status, NULL) < 0 || status != 0)
		return NULL;
	(void)str_cut(buf_str(&out), '\n', &line, &found);
	return line.n ? str_dup(line) : NULL;
}
