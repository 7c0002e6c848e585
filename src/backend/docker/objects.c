/*
 * Making and removing what a bottle has in the engine. What belongs to whom is said by labels,
 * since anybody may give a container such a name.
 */
#include "backend/docker/objects.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#define OBJECTS_PATH_MAX  512
#define OBJECTS_REMOVE_MS 15000
#define OBJECTS_START_MS  60000 /* of a container on a busy machine */

void docker_advise(struct err *e, const char *advice)
{
	size_t n = e ? strlen(e->text) : 0;

	if (e)
		(void)snprintf(e->text + n, sizeof(e->text) - n, " (%s)", advice);
}

/* The Id of an answer. */
int docker_take_id(const json_t *answer, const char *what, char id[DOCKER_ID_SIZE], struct err *e)
{
	const char *text = json_string_value(json_object_get(answer, "Id"));
	size_t n = text ? strlen(text) : 0;

	if (n == 0 || n >= DOCKER_ID_SIZE || strspn(text, "0123456789abcdef") != n)
		return err_set(e, -EPROTO, "the Docker engine: %s: its answer has no id", what);
	(void)snprintf(id, DOCKER_ID_SIZE, "%s", text);
	return 0;
}

/* --- containers --- */

int docker_begin_container(const struct docker_owner *o, struct engine_call *c, json_t *spec,
			   const char *suffix, const char *what, struct err *e)
{
	_cleanup_free_ char *name = docker_name(o->slug, suffix);
	_cleanup_json_ json_t *owned = spec;
	char path[OBJECTS_PATH_MAX];

	c->fd = -1;
	if (!owned)
		return err_set(e, -EILSEQ, "a path or a value of the bottle's is not UTF-8");
	(void)snprintf(path, sizeof(path), "/containers/create?name=%s", name);
	return engine_begin(c, &o->engine, "POST", path, owned, what, e);
}

int docker_end_container(struct engine_call *c, char id[DOCKER_ID_SIZE], struct err *e)
{
	_cleanup_json_ json_t *answer = NULL;
	const json_t *warnings;
	int ret = engine_end(c, &answer, e);

	if (ret == -EEXIST)
		docker_advise(e, "it is no bottle's: docker rm");
	else if (ret == -ENOENT)
		docker_advise(e, "it was removed meanwhile: start again");
	if (ret < 0)
		return ret;
	warnings = json_object_get(answer, "Warnings");
	for (size_t i = 0; i < json_array_size(warnings); i++) {
		const char *text = json_string_value(json_array_get(warnings, i));
		char shown[256];

		text_visible_cstr(shown, sizeof(shown), str_of(text ? text : ""));
		log_warn("the Docker engine: %s: %s", c->what, shown);
	}
	return docker_take_id(answer, c->what, id, e);
}

int docker_begin_start(const struct docker_owner *o, struct engine_call *c, const char *id,
		       const char *what, struct err *e)
{
	char path[OBJECTS_PATH_MAX];
	int ret;

	(void)snprintf(path, sizeof(path), "/containers/%s/start", id);
	ret = engine_begin(c, &o->engine, "POST", path, NULL, what, e);
	if (ret == 0)
		c->timeout_ms = OBJECTS_START_MS;
	return ret;
}

/* --- removing --- */

static int remove_begin(struct engine_call *c, const struct engine *en, bool is_network,
			const char *id, struct err *e)
{
	char path[OBJECTS_PATH_MAX];
	int ret;

	(void)snprintf(path, sizeof(path),
		       is_network ? "/networks/%s" : "/containers/%s?force=1&v=1", id);
	ret = engine_begin(c, en, "DELETE", path, NULL,
			   is_network ? "remove a network" : "remove a container", e);
	if (ret == 0)
		c->timeout_ms = OBJECTS_REMOVE_MS;
	return ret;
}

/* Gone already, or going ("removal … is already in progress" is a 409), is as good. */
static int remove_end(struct engine_call *c, struct err *e)
{
	struct err own = ERR_INIT;
	int ret = engine_end(c, NULL, &own);

	if (ret == 0 || ret == -ENOENT ||
	    (ret == -EEXIST &&
	     str_find(str_of(own.text), STR_LIT("in progress")) < str_of(own.text).n))
		return 0;
	if (e)
		*e = own;
	return ret;
}

/* Both at once. */
static int remove_pair(const struct engine *en, bool is_network, char *const ids[2], struct err *e)
{
	struct engine_call calls[2] = {{.fd = -1}, {.fd = -1}};
	int first = 0;

	for (size_t i = 0; i < 2; i++) {
		struct err own = ERR_INIT;
		int ret = ids[i] && ids[i][0]
				  ? remove_begin(&calls[i], en, is_network, ids[i], &own)
				  : 0;

		if (ret < 0 && first == 0) {
			first = ret;
			*e = own;
		}
	}
	for (size_t i = 0; i < 2; i++) {
		struct err own = ERR_INIT;
		int ret = calls[i].fd >= 0 ? remove_end(&calls[i], &own) : 0;

		if (ret < 0 && first == 0) {
			first = ret;
			*e = own;
		} else if (ret == 0 && ids[i] && first == 0) {
			ids[i][0] = '\0';
		}
	}
	return first;
}

static int remove_own(const struct docker_owner *o, const struct docker_known *known, bool is_all,
		      struct err *e)
{
	struct docker_which all = {.slug = o->slug, .state = o->state_dir};
	struct err own = ERR_INIT;
	size_t n;

	/* By what we know, since that is quick. By label when that was not all, or may not be: of a
	 * start that failed the engine may have made what it could not tell us any more. */
	if (remove_pair(&o->engine, false, known->containers, &own) == 0 &&
	    remove_pair(&o->engine, true, known->networks, &own) == 0 && is_all)
		return 0;
	return docker_remove(&o->engine, &all, &n, e);
}

bool docker_owner_release(struct docker_owner *o, const struct docker_known *known, bool is_all)
{
	struct err e = ERR_INIT;
	bool is_gone = !o->engine.api[0] || remove_own(o, known, is_all, &e) == 0;

	if (is_gone)
		docker_owner_end(o);
	else
		log_error("%s: what is left is removed by \"claude-bottle cleanup\"", e.text);
	docker_owner_free(o);
	return is_gone;
}

/* --- by label --- */

static int list_labelled(const struct engine *en, const char *path, const struct docker_which *w,
			 const char *what, json_t **out, struct err *e)
{
	_cleanup_free_ char *label = w->slug ? mem_printf(DOCKER_LABEL_SLUG "=%s", w->slug)
					     : mem_strdup(DOCKER_LABEL_STATE);
	_cleanup_json_ json_t *filter = json_pack("{s:[s]}", "label", label);
	_cleanup_free_ char *text = filter ? json_dumps(filter, JSON_COMPACT) : NULL;
	_cleanup_(buf_free) struct buf target;
	const json_t *volumes;
	int ret;

	buf_init(&target, 4096);
	ret = buf_append_str(&target, str_of(path));
	if (ret == 0)
		ret = engine_escape(&target, str_of(text ? text : ""));
	if (ret == 0)
		ret = buf_append(&target, "", 1);
	if (ret < 0)
		return err_set(e, ret, "the Docker engine: %s: too long", what);
	ret = engine_do(en, "GET", buf_str(&target).p, NULL, what, out, e);
	/* Volumes come as a member of an object, null for none. */
	volumes = ret == 0 ? json_object_get(*out, "Volumes") : NULL;
	if (ret == 0 && !json_is_array(*out) && !json_is_array(volumes) && !json_is_null(volumes))
		return err_set(e, -EPROTO, "the Docker engine: %s: its answer is no list", what);
	return ret;
}

static bool is_wanted(const json_t *object, const struct docker_which *w)
{
	const json_t *labels = json_object_get(object, "Labels");
	const char *state = json_string_value(json_object_get(labels, DOCKER_LABEL_STATE));
	struct stat st;

	if (!state)
		return false;
	if (w->state && strcmp(state, w->state) != 0)
		return false;
	if (!w->below)
		return true;
	/* Only what is ours, and whose folder is gone; a folder that cannot be looked at is not. */
	return str_starts(str_of(state), str_of(w->below)) && state[strlen(w->below)] == '/' &&
	       lstat(state, &st) < 0 && errno == ENOENT;
}

static int remove_listed(const struct engine *en, const struct docker_which *w, bool is_network,
			 size_t *n, struct err *e)
{
	_cleanup_json_ json_t *list = NULL;
	int first = list_labelled(
		en, is_network ? "/networks?filters=" : "/containers/json?all=1&filters=", w,
		is_network ? "list networks" : "list containers", &list, e);

	for (size_t i = 0; first != -ECONNREFUSED && i < json_array_size(list); i++) {
		const json_t *object = json_array_get(list, i);
		struct engine_call c;
		char id[DOCKER_ID_SIZE];
		struct err own = ERR_INIT;
		int ret;

		if (!is_wanted(object, w) || docker_take_id(object, "list", id, NULL) < 0)
			continue;
		(*n)++;
		if (w->is_dry)
			continue;
		ret = remove_begin(&c, en, is_network, id, &own);
		if (ret == 0)
			ret = remove_end(&c, &own);
		if (ret < 0 && first == 0) {
			first = ret;
			if (e)
				*e = own;
		}
	}
	return first;
}

static int remove_networks(const struct engine *en, const struct docker_which *w, size_t *n,
			   struct err *e)
{
	return remove_listed(en, w, true, n, e);
}

/* As the engine names those that were given no name: it goes into a path. */
static bool volume_is_ours(const char *name)
{
	size_t n = strlen(name);

	return n > 0 && n < DOCKER_ID_SIZE && strspn(name, "0123456789abcdef") == n;
}

/* Of containers that somebody has removed without what was theirs. */
static int remove_volumes(const struct engine *en, const struct docker_which *w, size_t *n,
			  struct err *e)
{
	_cleanup_json_ json_t *answer = NULL;
	int first = list_labelled(en, "/volumes?filters=", w, "list volumes", &answer, e);
	const json_t *list = json_object_get(answer, "Volumes");

	for (size_t i = 0; first != -ECONNREFUSED && i < json_array_size(list); i++) {
		const json_t *object = json_array_get(list, i);
		const char *name = json_string_value(json_object_get(object, "Name"));
		char path[OBJECTS_PATH_MAX];
		struct err own = ERR_INIT;
		int ret;

		if (!is_wanted(object, w) || !name || !volume_is_ours(name))
			continue;
		(*n)++;
		if (w->is_dry)
			continue;
		(void)snprintf(path, sizeof(path), "/volumes/%s?force=1", name);
		ret = engine_do(en, "DELETE", path, NULL, "remove a volume", NULL, &own);
		if (ret < 0 && ret != -ENOENT && first == 0) {
			first = ret;
			if (e)
				*e = own;
		}
	}
	return first;
}

int docker_remove(const struct engine *en, const struct docker_which *w, size_t *n, struct err *e)
{
	int (*const others[])(const struct engine *, const struct docker_which *, size_t *,
			      struct err *) = {remove_networks, remove_volumes};
	int first;

	*n = 0;
	first = remove_listed(en, w, false, n, e);
	for (size_t i = 0; i < ARRAY_LEN(others); i++) {
		struct err own = ERR_INIT;
		int ret = others[i](en, w, n, &own);

		if (first == 0 && ret < 0) {
			first = ret;
			if (e)
				*e = own;
		}
	}
	return first;
}
