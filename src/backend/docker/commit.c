/*
 * A bottle's root file system as an image. The agent's home and whatever else is mounted is not in
 * it: nothing that the bottle was given (certificate, canary, placeholders) lies in the root.
 */
#include "backend/docker/docker_int.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define COMMIT_TARGET_MAX   2048
#define COMMIT_LABEL_IMAGE  "claude-bottle.image"
#define COMMIT_LABEL_POLICY "claude-bottle.policy"
#define COMMIT_MS	    600000

static int find_agent(const struct engine *en, const char *slug, const char *state_dir,
		      char id[DOCKER_ID_SIZE], struct err *e)
{
	_cleanup_free_ char *name = docker_name(slug, "");
	_cleanup_free_ char *path = mem_printf("/containers/%s/json", name);
	_cleanup_json_ json_t *answer = NULL;
	const json_t *labels;
	const char *state, *text;
	int ret = engine_do(en, "GET", path, NULL, "look at the agent's container", &answer, e);

	if (ret == -ENOENT)
		return err_set(e, ret,
			       "%s has no container any more: only a running bottle can be kept as "
			       "an image (claude-bottle resume %s)",
			       slug, slug);
	if (ret < 0)
		return ret;
	labels = json_object_get(json_object_get(answer, "Config"), "Labels");
	state = json_string_value(json_object_get(labels, DOCKER_LABEL_STATE));
	text = json_string_value(json_object_get(answer, "Id"));
	if (!state || strcmp(state, state_dir) != 0 || !text || strlen(text) >= DOCKER_ID_SIZE)
		return err_set(e, -EPERM, "the container %s is not this bottle's", name);
	(void)snprintf(id, DOCKER_ID_SIZE, "%s", text);
	return 0;
}

/* What a stranger who has the image need not know: placeholders, and where the host's files lie. */
static void forget_local(json_t *policy)
{
	static const char *const local[] = {"origin_file", "origin_line"};
	const json_t *routes = json_object_get(policy, "routes");

	(void)json_object_del(policy, "ca_pem");
	for (size_t i = 0; i < json_array_size(routes); i++) {
		json_t *route = json_array_get(routes, i);

		(void)json_object_del(json_object_get(route, "auth"), "placeholder");
		for (size_t k = 0; k < ARRAY_LEN(local); k++)
			(void)json_object_del(route, local[k]);
	}
}

/* The policy goes with the image as a label, so that whoever starts it can see under which one what
 * is in it has come about. */
static int commit_spec(const char *state_dir, json_t **out, struct err *e)
{
	_cleanup_free_ char *path = mem_printf("%s/policy.json", state_dir);
	_cleanup_json_ json_t *policy = NULL;
	_cleanup_free_ char *label = NULL;
	struct str text;
	int ret = io_read_file(AT_FDCWD, path, POLICY_JSON_MAX_BYTES, &text, e);

	if (ret < 0)
		return ret;
	policy = json_loadb(text.p, text.n, JSON_REJECT_DUPLICATES, NULL);
	free((void *)(uintptr_t)text.p);
	if (!policy)
		return err_set(e, -EINVAL, "\"%s\" is not JSON", path);
	forget_local(policy);
	label = json_dumps(policy, JSON_COMPACT);
	if (!label)
		return err_set(e, -ENOMEM, "no memory");
	*out = json_pack("{s:{s:s, s:s, s:s, s:s, s:s}}", "Labels", COMMIT_LABEL_IMAGE, "snapshot",
			 COMMIT_LABEL_POLICY, label, DOCKER_LABEL_ROLE, "snapshot",
			 DOCKER_LABEL_STATE, "", DOCKER_LABEL_SLUG, "");
	return *out ? 0 : err_set(e, -ENOMEM, "no memory");
}

/* "registry:5000/a/b:tag" apart; without a tag "latest". */
static int commit_target(struct buf *target, const char *id, const char *name, struct err *e)
{
	const char *slash = strrchr(name, '/'), *colon = strrchr(name, ':');
	size_t n = colon && (!slash || colon > slash) ? (size_t)(colon - name) : strlen(name);
	int ret = buf_printf(target, "/commit?container=%s&pause=1&repo=", id);

	if (ret == 0)
		ret = engine_escape(target, str_slice(name, n));
	if (ret == 0)
		ret = buf_append_str(target, STR_LIT("&tag="));
	if (ret == 0)
		ret = engine_escape(target, str_of(name[n] ? name + n + 1 : "latest"));
	if (ret == 0)
		ret = buf_append(target, "", 1);
	return ret < 0 ? err_set(e, ret, "the image's name is too long") : 0;
}

int docker_commit(const char *slug, const char *state_dir, const char *name,
		  char reference[BACKEND_REFERENCE_MAX], struct err *e)
{
	_cleanup_(buf_free) struct buf target;
	_cleanup_json_ json_t *spec = NULL;
	char id[DOCKER_ID_SIZE];
	struct engine_call c;
	struct engine en;
	int ret = docker_engine_of(&en, state_dir, e);

	buf_init(&target, COMMIT_TARGET_MAX);
	if (ret == -ENOENT)
		return err_set(e, ret,
			       "%s is not running: only a running bottle can be kept as an image "
			       "(claude-bottle resume %s)",
			       slug, slug);
	if (ret == 0)
		ret = engine_connect(&en, ENGINE_PING_MS, e);
	if (ret == 0)
		ret = find_agent(&en, slug, state_dir, id, e);
	if (ret == 0)
		ret = commit_spec(state_dir, &spec, e);
	if (ret == 0)
		ret = commit_target(&target, id, name, e);
	if (ret == 0)
		ret = engine_begin(&c, &en, "POST", buf_str(&target).p, spec, "keep the container",
				   e);
	if (ret < 0)
		return ret;
	c.timeout_ms = COMMIT_MS;
	ret = engine_end(&c, NULL, e);
	if (ret == 0)
		(void)snprintf(reference, BACKEND_REFERENCE_MAX, "%s", name);
	return ret;
}
