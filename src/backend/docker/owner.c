#include "backend/docker/objects.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define OWNER_ENGINE_MAX 4096

void docker_owner_init(struct docker_owner *o, const char *slug, const char *state_dir)
{
	*o = (struct docker_owner){.slug = slug,
				   .state_dir = mem_strdup(state_dir),
				   .dir = mem_printf("%s/" DOCKER_STATE, state_dir)};
}

void docker_owner_free(struct docker_owner *o)
{
	free(o->state_dir);
	free(o->dir);
	*o = (struct docker_owner){.slug = NULL};
}

char *docker_name(const char *slug, const char *suffix)
{
	return mem_printf(DOCKER_PREFIX "%s%s", slug, suffix);
}

json_t *docker_labels(const struct docker_owner *o, const char *role)
{
	return json_pack("{s:s, s:s, s:s}", DOCKER_LABEL_SLUG, o->slug, DOCKER_LABEL_STATE,
			 o->state_dir, DOCKER_LABEL_ROLE, role);
}

/* --- the folder --- */

int docker_write_file(const char *path, struct str text, struct err *e)
{
	_cleanup_close_ int fd =
		open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
	int ret;

	if (fd < 0 || fchmod(fd, 0644) < 0)
		return err_errno(e, "make \"%s\"", path);
	ret = io_write_all(fd, text.p, text.n);
	return ret < 0 ? err_set(e, ret, "write \"%s\": %s", path, strerror(-ret)) : 0;
}

static int owner_mark(const struct docker_owner *o, struct err *e)
{
	_cleanup_free_ char *path = mem_printf("%s/engine", o->dir);

	if (mkdir(o->dir, 0711) < 0 && errno != EEXIST)
		return err_errno(e, "make \"%s\"", o->dir);
	return docker_write_file(path, str_of(o->engine.socket), e);
}

int docker_owner_begin(struct docker_owner *o, struct err *e)
{
	int ret = docker_engine(&o->engine, e);

	if (ret == 0)
		ret = docker_cleanup(o->slug, o->state_dir, e);
	return ret == 0 ? owner_mark(o, e) : ret;
}

void docker_owner_end(const struct docker_owner *o)
{
	_cleanup_close_ int state = open(o->state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (state >= 0)
		(void)!io_remove_tree(state, DOCKER_STATE, NULL);
}

int docker_engine_of(struct engine *out, const char *state_dir, struct err *e)
{
	_cleanup_free_ char *path = mem_printf("%s/" DOCKER_STATE "/engine", state_dir);
	struct str text;
	int ret = io_read_file(AT_FDCWD, path, OWNER_ENGINE_MAX, &text, e);
	bool fits;

	if (ret == -ENOENT && e)
		*e = ERR_INIT;
	if (ret < 0)
		return ret;
	*out = (struct engine){0};
	fits = str_to_cstr(out->socket, sizeof(out->socket), text);
	free((void *)(uintptr_t)text.p);
	(void)snprintf(out->from, sizeof(out->from), "the bottle's own");
	return fits ? 0 : err_set(e, -EINVAL, "\"%s\" names no socket", path);
}

int docker_cleanup(const char *slug, const char *state_dir, struct err *e)
{
	struct docker_which w = {.slug = slug, .state = state_dir};
	struct engine en;
	size_t n;
	int ret = docker_engine_of(&en, state_dir, e);

	/* Without that folder nothing was made, or all was removed. */
	if (ret == -ENOENT)
		return 0;
	if (ret == 0)
		ret = engine_connect(&en, ENGINE_PING_MS, e);
	return ret == 0 ? docker_remove(&en, &w, &n, e) : ret;
}
