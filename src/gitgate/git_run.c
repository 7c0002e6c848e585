/*
 * Theory of operation: a repository, and what is pushed into it, may ask git for many things: to
 * run hooks, filters, helpers and transports, to read other repositories, to fetch missing objects.
 * All of it is asked for through configuration, environment or files of the repository folder. The
 * environment is made here from nothing. The configuration below is given through it, so that it
 * wins over the mirror's own `config`, which nobody but us writes anyway; system and user
 * configuration are not read. What remains is objects and refs, which git parses.
 *
 * Not in the list because an empty value would not unset them: core.alternateRefsCommand,
 * uploadpack.packObjectsHook, core.sshCommand, core.gitProxy, receive.procReceiveRefs,
 * receive.certNonceSeed. No file that git reads here sets them.
 */
#include "gitgate/git_run.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/signals.h"
#include "base/timeutil.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define GIT_RUN_PROGRAM	    "/usr/bin/git"
#define GIT_RUN_EXTRA_MAX   32
#define GIT_RUN_EXEC_FAILED 127
#define GIT_RUN_GRACE_MS                                                                           \
	2000 /* from SIGTERM, on which git removes its temporary files, to SIGKILL */
#define GIT_RUN_POLL_MAX_MS 1000
#define GIT_RUN_PIECE	    65536

static const char *const run_environment[] = {
	"PATH=/usr/bin:/bin",
	"HOME=/nonexistent",
	"LC_ALL=C",
	"GIT_CONFIG_NOSYSTEM=1",
	"GIT_CONFIG_GLOBAL=/dev/null",
	"GIT_ATTR_NOSYSTEM=1",
	"GIT_NO_REPLACE_OBJECTS=1",
	"GIT_NO_LAZY_FETCH=1",
	"GIT_TERMINAL_PROMPT=0",
	"GIT_OPTIONAL_LOCKS=0",
	"GIT_CEILING_DIRECTORIES=/",
	/* Over the configuration's protocol.*, whoever asks for the transport. */
	"GIT_ALLOW_PROTOCOL=ssh",
	"GIT_PROTOCOL_FROM_USER=0",
	"GIT_DEFAULT_HASH=sha1",
};

static const struct {
	const char *key, *value;
} run_config[] = {
	/* Nothing runs. A worker that wants our own hook says so with -c. */
	{"core.hooksPath", "/dev/null"},
	{"core.fsmonitor", "false"},
	{"core.pager", "cat"},
	{"gc.auto", "0"},
	{"maintenance.auto", "false"},
	{"receive.autogc", "false"},
	{"submodule.recurse", "false"},
	{"fetch.recurseSubmodules", "false"},
	{"push.recurseSubmodules", "no"},
	{"push.gpgSign", "false"},
	{"protocol.allow", "never"},
	{"protocol.ssh.allow", "always"},
	{"safe.directory", "*"},
	{"init.templateDir", ""},
	/* What is taken in. Under strict checking every warning of fsck is an error already; these
	 * it would only mention. */
	{"transfer.fsckObjects", "true"},
	{"fetch.fsckObjects", "true"},
	{"receive.fsckObjects", "true"},
	{"receive.fsck.badFilemode", "error"},
	{"receive.fsck.gitmodulesParse", "error"},
	{"receive.fsck.gitignoreSymlink", "error"},
	{"receive.fsck.gitattributesSymlink", "error"},
	{"receive.fsck.mailmapSymlink", "error"},
	{"receive.fsck.badTagName", "error"},
	/* Histories of the past have them, and an upstream has taken them long ago. What would hurt
	 * whoever checks a tree out (.git, "..", look-alikes, URLs of submodules) stays an error.
	 */
	{"fetch.fsck.badFilemode", "ignore"},
	{"fetch.fsck.zeroPaddedFilemode", "ignore"},
	{"fetch.fsck.missingSpaceBeforeDate", "ignore"},
	{"fetch.fsck.missingSpaceBeforeEmail", "ignore"},
	{"fetch.fsck.missingNameBeforeEmail", "ignore"},
	{"fetch.fsck.missingEmail", "ignore"},
	{"fetch.fsck.badEmail", "ignore"},
	{"fetch.fsck.badName", "ignore"},
	{"fetch.fsck.badDate", "ignore"},
	{"fetch.fsck.badDateOverflow", "ignore"},
	{"fetch.fsck.zeroPaddedDate", "ignore"},
	{"fetch.fsck.badTimezone", "ignore"},
	{"fetch.fsck.multipleAuthors", "ignore"},
	{"fetch.fsck.missingTaggerEntry", "ignore"},
	{"fetch.fsck.badTagName", "ignore"},
	{"fetch.fsck.extraHeaderEntry", "ignore"},
	{"fetch.fsck.nullSha1", "ignore"},
	{"fetch.fsck.treeNotSorted", "ignore"},
	{"fetch.fsck.gitmodulesParse", "ignore"},
	{"fetch.fsck.gitignoreSymlink", "ignore"},
	{"fetch.fsck.gitattributesSymlink", "ignore"},
	{"fetch.fsck.mailmapSymlink", "ignore"},
	/* Every push and fetch is one indexed pack, never loose objects. */
	{"transfer.unpackLimit", "1"},
	{"receive.unpackLimit", "1"},
	{"fetch.unpackLimit", "1"},
	{"receive.shallowUpdate", "false"},
	{"receive.advertisePushOptions", "false"},
	{"receive.advertiseAtomic", "true"},
	{"receive.updateServerInfo", "false"},
	{"receive.denyCurrentBranch", "ignore"}, /* bare: there is no work tree to protect */
	{"receive.denyDeleteCurrent", "refuse"},
	/* What is given out: heads and tags. The last matching entry counts. */
	{"transfer.hideRefs", "refs/"},
	{"transfer.hideRefs", "!refs/heads/"},
	{"transfer.hideRefs", "!refs/tags/"},
	{"transfer.advertiseSID", "false"},
	{"uploadpack.allowFilter", "true"},
	{"uploadpackfilter.sparse:oid.allow", "false"},
	{"uploadpack.allowAnySHA1InWant", "false"},
	{"uploadpack.allowTipSHA1InWant", "false"},
	{"uploadpack.allowReachableSHA1InWant", "false"},
	{"uploadpack.allowRefInWant", "false"},
	{"http.receivepack", "true"}, /* nobody authenticates; the port is the bottle's own */
	{"http.uploadpack", "true"},
	{"http.getanyfile", "false"},
	/* Memory and processors. */
	{"core.bigFileThreshold", "16m"},
	{"core.deltaBaseCacheLimit", "64m"},
	{"core.packedGitLimit", "512m"},
	{"pack.threads", "2"},
	{"pack.windowMemory", "64m"},
	{"pack.deltaCacheSize", "64m"},
	{"pack.writeReverseIndex", "true"},
	{"core.logAllRefUpdates", "false"},
	{"core.protectHFS", "true"},
	{"core.protectNTFS", "true"},
	{"core.precomposeUnicode", "false"},
	{"core.multiPackIndex", "false"},
	{"protocol.version", "2"},
	{"advice.detachedHead", "false"},
};

struct run_environ {
	char **list;
	size_t n, cap;
};

static void run_environ_free(struct run_environ *v)
{
	for (size_t i = 0; i < v->n; i++)
		free(v->list[i]);
	free(v->list);
}

static void run_environ_add(struct run_environ *v, char *text)
{
	v->list = mem_grow_array(v->list, &v->cap, v->n + 2, sizeof(*v->list));
	v->list[v->n++] = text;
}

/* git splits lists of object folders at ":" and unquotes what begins with a quotation mark. */
static bool run_is_plain_path(const char *path)
{
	if (path[0] != '/')
		return false;
	for (const char *p = path; *p; p++) {
		if (*p == ':' || *p == '"' || *p == '\\' || (unsigned char)*p < 0x20)
			return false;
	}
	return !strstr(path, "/../");
}

static int run_environ_make(struct run_environ *v, const struct git_run_env *env, struct err *e)
{
	size_t n_extra = 0;

	if (!run_is_plain_path(env->repo) ||
	    (env->quarantine && !run_is_plain_path(env->quarantine)))
		return err_set(e, -EINVAL, "a repository's path cannot be given to git");
	for (size_t i = 0; i < ARRAY_LEN(run_environment); i++)
		run_environ_add(v, mem_strdup(run_environment[i]));
	run_environ_add(v, mem_printf("GIT_DIR=%s", env->repo));
	if (env->quarantine) {
		run_environ_add(v, mem_printf("GIT_QUARANTINE_PATH=%s", env->quarantine));
		run_environ_add(v, mem_printf("GIT_OBJECT_DIRECTORY=%s", env->quarantine));
		run_environ_add(
			v, mem_printf("GIT_ALTERNATE_OBJECT_DIRECTORIES=%s/objects", env->repo));
	}
	run_environ_add(v, mem_printf("GIT_CONFIG_COUNT=%zu", ARRAY_LEN(run_config)));
	for (size_t i = 0; i < ARRAY_LEN(run_config); i++) {
		run_environ_add(v, mem_printf("GIT_CONFIG_KEY_%zu=%s", i, run_config[i].key));
		run_environ_add(v, mem_printf("GIT_CONFIG_VALUE_%zu=%s", i, run_config[i].value));
	}
	for (; env->extra && env->extra[n_extra]; n_extra++) {
		if (n_extra == GIT_RUN_EXTRA_MAX)
			return err_set(e, -E2BIG, "too much environment for git");
		run_environ_add(v, mem_strdup(env->extra[n_extra]));
	}
	return 0;
}

/* --- start --- */

/* Pairs: the child's end is close-on-exec, too; dup2() gives it its place. */
struct run_pipes {
	int ours[3], theirs[3];
};

static void run_pipes_close(struct run_pipes *p)
{
	for (int i = 0; i < 3; i++) {
		close_fd(&p->ours[i]);
		close_fd(&p->theirs[i]);
	}
}

static int run_pipes_make(struct run_pipes *p, const int fds[3], struct err *e)
{
	for (int i = 0; i < 3; i++) {
		int pair[2];

		if (fds[i] >= 0)
			continue;
		if (pipe2(pair, O_CLOEXEC) < 0)
			return err_errno(e, "pipe");
		p->ours[i] = pair[i == 0 ? 1 : 0];
		p->theirs[i] = pair[i == 0 ? 0 : 1];
	}
	return 0;
}

static void run_close_on_exec(void)
{
	if (close_range(3, ~0u, CLOSE_RANGE_CLOEXEC) == 0)
		return;
	for (int fd = 3; fd < 4096; fd++)
		(void)io_set_cloexec(fd, true);
}

/* After fork(): only what is safe there. The descriptors are first moved out of the way of 0 to 2,
 * which may be among them. */
_Noreturn static void run_child(const struct git_run_env *env, char *const *argv,
				char *const *environ_list, const int from[3], int keep_fd)
{
	int high[3];

	signals_reset();
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	for (int i = 0; i < 3; i++) {
		high[i] = fcntl(from[i], F_DUPFD_CLOEXEC, 3);
		if (high[i] < 0)
			_exit(GIT_RUN_EXEC_FAILED);
	}
	for (int i = 0; i < 3; i++) {
		if (dup2(high[i], i) < 0)
			_exit(GIT_RUN_EXEC_FAILED);
	}
	run_close_on_exec();
	if (keep_fd >= 3)
		(void)io_set_cloexec(keep_fd, false);
	(void)umask(077);
	(void)execve(env->program ? env->program : GIT_RUN_PROGRAM, argv, environ_list);
	_exit(GIT_RUN_EXEC_FAILED);
}

static int run_argv(const char *const *argv, const char **out, struct err *e)
{
	size_t n = 0;

	out[n++] = "git";
	for (; *argv; argv++) {
		if (n > GIT_RUN_ARGS_MAX)
			return err_set(e, -E2BIG, "too many arguments for git");
		out[n++] = *argv;
	}
	out[n] = NULL;
	return 0;
}

int git_run_start(const struct git_run_env *env, const char *const *argv, const int fds[3],
		  int keep_fd, struct git_child *out, struct err *e)
{
	_cleanup_(run_environ_free) struct run_environ v = {0};
	_cleanup_(run_pipes_close) struct run_pipes pipes = {{-1, -1, -1}, {-1, -1, -1}};
	const char *args[GIT_RUN_ARGS_MAX + 2];
	int from[3], ret;
	pid_t pid;

	*out = (struct git_child){-1, -1, -1, -1, -1};
	ret = run_argv(argv, args, e);
	if (ret == 0)
		ret = run_environ_make(&v, env, e);
	if (ret == 0)
		ret = run_pipes_make(&pipes, fds, e);
	if (ret < 0)
		return ret;
	for (int i = 0; i < 3; i++)
		from[i] = fds[i] >= 0 ? fds[i] : pipes.theirs[i];
	pid = fork();
	if (pid < 0)
		return err_errno(e, "fork for git");
	if (pid == 0)
		run_child(env, (char *const *)(uintptr_t)args, v.list, from, keep_fd);
	out->pid = pid;
	out->pid_fd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (out->pid_fd < 0) {
		ret = err_errno(e, "pidfd_open");
		(void)kill(pid, SIGKILL);
		(void)waitpid(pid, NULL, 0);
		out->pid = -1;
		return ret;
	}
	out->in_fd = take_fd(&pipes.ours[0]);
	out->out_fd = take_fd(&pipes.ours[1]);
	out->err_fd = take_fd(&pipes.ours[2]);
	return 0;
}

/* --- wait --- */

static int run_left_ms(uint64_t deadline_ns)
{
	uint64_t now = time_monotonic_ns(), left;

	if (now >= deadline_ns)
		return 0;
	left = (deadline_ns - now + TIME_NS_PER_MS - 1) / TIME_NS_PER_MS;
	return left > GIT_RUN_POLL_MAX_MS ? GIT_RUN_POLL_MAX_MS : (int)left;
}

static bool run_ends_by(const struct git_child *c, uint64_t deadline_ns)
{
	for (;;) {
		int left = run_left_ms(deadline_ns), ret = io_wait(c->pid_fd, POLLIN, left);

		if (ret == 1)
			return true;
		if (left == 0 || (ret < 0 && ret != -EINTR))
			return false;
	}
}

static void run_child_close(struct git_child *c)
{
	close_fd(&c->in_fd);
	close_fd(&c->out_fd);
	close_fd(&c->err_fd);
	close_fd(&c->pid_fd);
	c->pid = -1;
}

int git_run_wait(struct git_child *c, uint64_t deadline_ns, struct err *e)
{
	bool is_late = false;
	int status;

	/* A child that still reads or writes sees the end now, instead of waiting for ever. */
	close_fd(&c->in_fd);
	if (!run_ends_by(c, deadline_ns)) {
		is_late = true;
		(void)kill(c->pid, SIGTERM);
		if (!run_ends_by(c, time_monotonic_ns() + GIT_RUN_GRACE_MS * TIME_NS_PER_MS))
			(void)kill(c->pid, SIGKILL);
	}
	while (waitpid(c->pid, &status, 0) < 0) {
		if (errno != EINTR) {
			run_child_close(c);
			return err_errno(e, "wait for git");
		}
	}
	run_child_close(c);
	if (is_late)
		return err_set(e, -ETIMEDOUT, "git took too long");
	return signals_exit_status(status);
}

/* --- the whole of a small command --- */

struct run_flow {
	struct git_child *child;
	struct str in;
	struct buf *out, *err_text; /* err_text may be NULL */
};

/* Writes what the pipe takes. */
static void run_feed(struct run_flow *f)
{
	ssize_t n;

	n = f->in.n ? write(f->child->in_fd, f->in.p, f->in.n) : 0;
	if (n > 0)
		f->in = str_sub(f->in, (size_t)n, f->in.n);
	if (f->in.n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		close_fd(&f->child->in_fd);
}

static int run_take_out(struct run_flow *f, struct err *e)
{
	char piece[GIT_RUN_PIECE];
	ssize_t n = read(f->child->out_fd, piece, sizeof(piece));

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return 0;
	if (n <= 0)
		close_fd(&f->child->out_fd);
	else if (buf_append(f->out, piece, (size_t)n) < 0)
		return err_set(e, -EFBIG, "git said more than was expected");
	return 0;
}

static void run_take_err(struct run_flow *f)
{
	char piece[1024];
	ssize_t n = read(f->child->err_fd, piece, sizeof(piece));
	size_t room, keep;

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0) {
		close_fd(&f->child->err_fd);
		return;
	}
	if (!f->err_text)
		return;
	room = buf_room(f->err_text);
	keep = (size_t)n < room ? (size_t)n : room;
	if (buf_append(f->err_text, piece, keep) < 0)
		return; /* cut */
}

static int run_flow(struct run_flow *f, uint64_t deadline_ns, struct err *e)
{
	struct git_child *c = f->child;

	while (c->out_fd >= 0 || c->err_fd >= 0) {
		struct pollfd p[] = {
			{c->in_fd, POLLOUT, 0}, {c->out_fd, POLLIN, 0}, {c->err_fd, POLLIN, 0}};
		int left = run_left_ms(deadline_ns), n = poll(p, ARRAY_LEN(p), left), ret = 0;

		if (n < 0 && errno != EINTR)
			return err_errno(e, "poll");
		if (n <= 0 && left == 0)
			return 0; /* git_run_wait() says so */
		if (n <= 0)
			continue;
		if (p[0].revents)
			run_feed(f);
		if (p[1].revents)
			ret = run_take_out(f, e);
		if (p[2].revents)
			run_take_err(f);
		if (ret < 0)
			return ret;
	}
	return 0;
}

int git_run(const struct git_run_env *env, const char *const *argv, struct str in, struct buf *out,
	    struct buf *err_text, uint64_t deadline_ns, struct err *e)
{
	struct git_child c;
	struct run_flow f = {&c, in, out, err_text};
	struct sigaction old, ignore = {.sa_handler = SIG_IGN};
	int ret, status;

	/* A child that ends without reading its input is no reason to end. */
	(void)sigaction(SIGPIPE, &ignore, &old);
	ret = git_run_start(env, argv, (int[]){-1, -1, -1}, -1, &c, e);
	if (ret == 0) {
		(void)io_set_nonblock(c.in_fd, true);
		ret = run_flow(&f, deadline_ns, e);
		/* What says too much is ended at once. */
		status = git_run_wait(&c, ret < 0 ? 0 : deadline_ns, ret < 0 ? NULL : e);
		ret = ret < 0 ? ret : status;
	}
	(void)sigaction(SIGPIPE, &old, NULL);
	return ret;
}
