/*
 * Debian, on which all stands: pulled where a registry answers, else made here with mmdebstrap, out
 * of Debian's archive as apt on this host reaches it, and imported while it is being written.
 */
#include "image/image_int.h"

#include "image/bootstrap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#define BASE_STEP    "image base"
#define BASE_PULL_MS 20000

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
	_cleanup_close_ int in = -1, out = -1;
	_cleanup_(buf_free) struct buf path;
	struct import import = {.id = ""};
	struct err of_engine = ERR_INIT;
	struct tool_run run;
	int ret, ended, fds[2];

	buf_init(&path, 1024);
	if (import_path(&path) < 0)
		return err_set(e, -ENOBUFS, "no room for the import's arguments");
	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_errno(e, "make a pipe for mmdebstrap");
	in = fds[0];
	out = fds[1];
	ret = bootstrap_start(&run, NULL, NULL, out, e);
	if (ret < 0)
		return ret;
	close_fd(&out);
	progress_tell(job->progress, BASE_STEP, "from Debian's archive with mmdebstrap", 0, 0);
	ret = engine_stream(job->en, "POST", buf_str(&path).p, in, "application/x-tar", NULL,
			    "import image base", on_import, &import, &of_engine);
	close_fd(&in);
	ended = bootstrap_end(&run, ret < 0, e);
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
