/*
 * Debian, on which all stands: pulled where a registry answers, else made here with mmdebstrap, out
 * of Debian's archive as apt on this host reaches it, and imported while it is being written.
 */
#include "image/image_int.h"

#include "base/io.h"
#include "base/mem.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define BASE_SAID_MAX (1u << 20) /* of what mmdebstrap writes on standard error */
#define BASE_TAIL_MAX 512
#define BASE_STEP     "image base"
#define BASE_PULL_MS  20000

struct bootstrap {
	pid_t pid;
	int out_fd;  /* the tar, from its standard output */
	int said_fd; /* a file of fixed size; its offset is how much was written */
};

/* Past its size a write fails, and mmdebstrap with it. */
static int said_open(struct err *e)
{
	_cleanup_close_ int fd = memfd_create("said", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0 || ftruncate(fd, BASE_SAID_MAX) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
		return err_errno(e, "make a file for what mmdebstrap says");
	return take_fd(&fd);
}

/* What mmdebstrap and apt go by. The rest, in which a user's keys may be, is no business of the
 * scripts of packages. */
static char **bootstrap_env(void)
{
	static const char *const names[] = {"PATH",	   "HOME",	  "USER",      "TMPDIR",
					    "http_proxy",  "https_proxy", "no_proxy",  "HTTP_PROXY",
					    "HTTPS_PROXY", "NO_PROXY",	  "APT_CONFIG"};
	char **env = mem_zalloc_array(ARRAY_LEN(names) + 1, sizeof(*env));
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		const char *value = getenv(names[i]);

		if (value)
			env[n++] = mem_printf("%s=%s", names[i], value);
	}
	return env;
}

_Noreturn static void become(int out_fd, int said_fd, pid_t parent)
{
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	(void)prctl(PR_SET_PDEATHSIG, SIGTERM);
	/* When it is ended, it hangs up its whole process group: not ours, nor our caller's. */
	(void)setsid();
	if (getppid() == parent && null >= 0 && dup2(null, 0) == 0 && dup2(out_fd, 1) == 1 &&
	    dup2(said_fd, 2) == 2)
		(void)execvpe(image_base_recipe[0], (char *const *)image_base_recipe,
			      bootstrap_env());
	_exit(127);
}

static int bootstrap_start(struct bootstrap *b, struct err *e)
{
	_cleanup_close_ int said = -1, in = -1, out = -1;
	pid_t parent = getpid();
	int fds[2];

	said = said_open(e);
	if (said < 0)
		return said;
	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_errno(e, "make a pipe for mmdebstrap");
	in = fds[0];
	out = fds[1];
	b->pid = fork();
	if (b->pid < 0)
		return err_errno(e, "start mmdebstrap");
	if (b->pid == 0)
		become(out, said, parent);
	b->out_fd = take_fd(&in);
	b->said_fd = take_fd(&said);
	return 0;
}

/* Its last line that complains, or else its last one. */
static void bootstrap_why(const struct bootstrap *b, char *out, size_t size)
{
	off_t n = lseek(b->said_fd, 0, SEEK_CUR), from;
	char tail[4096];
	struct str rest, line, best = STR_NULL;
	bool found = true, is_error = false;
	ssize_t got;

	from = n > (off_t)sizeof(tail) ? n - (off_t)sizeof(tail) : 0;
	got = n > 0 ? pread(b->said_fd, tail, (size_t)(n - from), from) : 0;
	rest = str_slice(tail, got > 0 ? (size_t)got : 0);
	while (found) {
		bool complains;

		rest = str_cut(rest, '\n', &line, &found);
		line = str_trim(line);
		complains = str_starts(line, STR_LIT("E: "));
		/* mmdebstrap's own, which come last, tell less than apt's. */
		if (line.n == 0 ||
		    (is_error && (!complains || str_find(line, STR_LIT(" failed")) < line.n)))
			continue;
		best = line;
		is_error |= complains;
	}
	text_visible_cstr(out, size, best);
}

/* 0 if it has ended well. */
static int bootstrap_end(struct bootstrap *b, bool must_die, struct err *e)
{
	char why[BASE_TAIL_MAX];
	int status = 0;

	close_fd(&b->out_fd);
	if (must_die)
		(void)kill(b->pid, SIGTERM);
	while (waitpid(b->pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	bootstrap_why(b, why, sizeof(why));
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127 && !why[0])
		return err_set(e, -ENOENT, "mmdebstrap is not installed (package mmdebstrap)");
	return err_set(e, -EIO, "mmdebstrap: %s", why[0] ? why : "it was killed");
}

struct import {
	char id[IMAGE_ID_MAX];
};

static int on_import(void *ctx, const json_t *event)
{
	const char *status = json_string_value(json_object_get(event, "status"));
	struct import *i = ctx;

	if (status && strncmp(status, "sha256:", 7) == 0 && strlen(status) < sizeof(i->id))
		memcpy(i->id, status, strlen(status) + 1);
	return 0;
}

static int import_path(struct buf *path)
{
	int r = buf_printf(path, "/images/create?fromSrc=-&changes=");

	if (r == 0)
		r = engine_escape(path,
				  STR_LIT("LABEL " IMAGE_LABEL
					  "=base claude-bottle.version=" CLAUDE_BOTTLE_VERSION));
	if (r == 0)
		r = buf_printf(path, "&changes=");
	if (r == 0)
		r = engine_escape(path, STR_LIT("CMD [\"/bin/bash\"]"));
	return r == 0 ? buf_append(path, "", 1) : r;
}

static int make_here(const struct image_job *job, char id[IMAGE_ID_MAX], struct err *e)
{
	_cleanup_(buf_free) struct buf path;
	struct bootstrap b = {.pid = -1, .out_fd = -1, .said_fd = -1};
	struct import import = {.id = ""};
	struct err of_engine = ERR_INIT;
	int ret, ended;

	buf_init(&path, 1024);
	if (import_path(&path) < 0)
		return err_set(e, -ENOBUFS, "no room for the import's arguments");
	ret = bootstrap_start(&b, e);
	if (ret < 0)
		return ret;
	progress_tell(job->progress, BASE_STEP, "from Debian's archive with mmdebstrap", 0, 0);
	ret = engine_stream(job->en, "POST", buf_str(&path).p, b.out_fd, "application/x-tar", NULL,
			    "import image base", on_import, &import, &of_engine);
	ended = bootstrap_end(&b, ret < 0, e);
	close_fd(&b.said_fd);
	/* Of a tar that was cut short the engine makes an image, or an error that says less than
	 * who wrote it. */
	if (ended < 0 && import.id[0])
		image_drop(job->en, import.id);
	if (ret < 0 && (ended == 0 || of_engine.code == -ENOSPC)) {
		if (e)
			*e = of_engine;
		return of_engine.code;
	}
	if (ended < 0)
		return ended;
	if (!import.id[0])
		return err_set(e, -EPROTO,
			       "the Docker engine: import image base: it did not say what it made");
	memcpy(id, import.id, IMAGE_ID_MAX);
	return 0;
}

int image_base_make(const struct image_job *job, char id[IMAGE_ID_MAX], struct err *e)
{
	struct str name = STR_LIT(IMAGE_BASE_PULLED_NAME), tag = STR_LIT(IMAGE_BASE_PULLED_TAG);
	struct err of_pull = ERR_INIT, own = ERR_INIT;
	struct engine en = *job->en;
	struct image_info pulled;
	int ret;

	/* The engine itself would try for minutes. */
	en.silence_ms = BASE_PULL_MS;
	ret = image_pull(&en, name, tag, job->progress, &of_pull);
	if (ret == 0)
		ret = image_inspect(job->en, IMAGE_BASE_PULLED_NAME ":" IMAGE_BASE_PULLED_TAG,
				    &pulled, NULL, &of_pull);
	if (ret == 0)
		return image_build_one(job, IMAGE_BASE, pulled.id, id, e);
	/* The engine is gone, or full: what comes next would only say it again. */
	if (ret == -ECONNREFUSED || ret == -EPIPE || ret == -ENOSPC) {
		if (e)
			*e = of_pull;
		return ret;
	}
	ret = make_here(job, id, &own);
	if (ret == -ENOENT)
		return err_set(e, ret, "no Debian to build on: %.300s; and %.200s", of_pull.text,
			       own.text);
	if (ret < 0 && e)
		*e = own;
	return ret;
}
