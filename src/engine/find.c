/*
 * Where the engine is, as the docker command would find it: DOCKER_HOST, then a context, then the
 * usual sockets. An address that cannot be used is refused rather than passed over: the operator
 * meant that engine, and no other.
 */
#include "engine/engine_int.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/text.h"
#include "base/json.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>

#define FIND_DEFAULT	 "/var/run/docker.sock"
#define FIND_SHOWN_MAX	 160
#define FIND_CONTEXT_MAX 64

static const char *get(const char *name)
{
	const char *value = getenv(name);

	return value && *value ? value : NULL;
}

static void free_str(struct str *s)
{
	free((void *)(uintptr_t)s->p);
}

/* It is shown in error lines as it is. */
static bool is_plain(struct str path)
{
	for (size_t i = 0; i < path.n; i++) {
		if ((unsigned char)path.p[i] < 0x20 || path.p[i] == 0x7f)
			return false;
	}
	return true;
}

/* from: what named the address. */
static int take_address(struct engine *out, const char *from, struct str address, struct err *e)
{
	struct str path = str_sub(address, strlen("unix://"), address.n);
	char shown[FIND_SHOWN_MAX];

	text_visible_cstr(shown, sizeof(shown), address);
	if (!str_starts(address, STR_LIT("unix://")))
		return err_set(
			e, -ENOTSUP,
			"the Docker engine: %s names %s; bottles need files and sockets of this "
			"host, so only an engine on it (unix://…) can be used",
			from, shown);
	if (path.n == 0 || path.p[0] != '/')
		return err_set(e, -EINVAL,
			       "the Docker engine: %s names %s; unix:// needs an "
			       "absolute path behind it",
			       from, shown);
	if (!is_plain(path))
		return err_set(e, -EINVAL,
			       "the Docker engine: %s names %s; a socket's path has no control "
			       "characters",
			       from, shown);
	if (!str_to_cstr(out->socket, sizeof(out->socket), path))
		return err_set(e, -ENAMETOOLONG,
			       "the Docker engine: %s names %s; a socket's path has at most %zu "
			       "bytes",
			       from, shown, sizeof(out->socket) - 1);
	(void)snprintf(out->from, sizeof(out->from), "%s", from);
	return 0;
}

static int take_default(struct engine *out)
{
	const char *run = get("XDG_RUNTIME_DIR");
	_cleanup_free_ char *own = run ? mem_printf("%s/docker.sock", run) : NULL;

	(void)snprintf(out->socket, sizeof(out->socket), "%s", FIND_DEFAULT);
	(void)snprintf(out->from, sizeof(out->from), "the default");
	if (!own || own[0] != '/' || strlen(own) >= sizeof(out->socket) ||
	    access(FIND_DEFAULT, F_OK) == 0 || access(own, F_OK) < 0)
		return 0;
	(void)snprintf(out->socket, sizeof(out->socket), "%s", own);
	(void)snprintf(out->from, sizeof(out->from), "XDG_RUNTIME_DIR");
	return 0;
}

/* *out NULL if there is no such file. As the docker command reads it: of two equal keys the last.
 */
static int read_json(const char *path, json_t **out, struct err *e)
{
	_cleanup_(free_str) struct str text = STR_NULL;
	json_error_t why;
	int ret;

	*out = NULL;
	ret = io_read_file(AT_FDCWD, path, ENGINE_CONFIG_MAX, &text, e);
	if (ret == -ENOENT || ret == -ENOTDIR)
		return 0;
	if (ret < 0)
		return err_prefix(e, "the Docker engine");
	*out = json_loadb(text.p, text.n, 0, &why);
	if (!*out)
		return err_set(e, -EINVAL, "the Docker engine: \"%s\":%d is not JSON", path,
			       why.line);
	return 0;
}

/* A context is in a folder named by the SHA-256 of its name. */
static int take_context(struct engine *out, const char *dir, const char *by, const char *name,
			struct err *e)
{
	_cleanup_json_ json_t *meta = NULL;
	_cleanup_free_ char *path = NULL;
	unsigned char hash[EVP_MAX_MD_SIZE];
	char hex[2 * EVP_MAX_MD_SIZE + 1], shown[FIND_CONTEXT_MAX], from[96];
	unsigned n_hash = 0;
	json_t *host;
	int ret;

	text_visible_cstr(shown, sizeof(shown), str_of(name));
	if (EVP_Digest(name, strlen(name), hash, &n_hash, EVP_sha256(), NULL) != 1)
		return err_set(e, -EIO, "the Docker engine: no SHA-256");
	text_hex(hex, hash, n_hash);
	path = mem_printf("%s/contexts/meta/%s/meta.json", dir, hex);
	ret = read_json(path, &meta, e);
	if (ret < 0)
		return ret;
	if (!meta)
		return err_set(e, -ENOENT,
			       "the Docker engine: %s names the context \"%s\", which does not "
			       "exist",
			       by, shown);
	(void)snprintf(from, sizeof(from), "context \"%s\"", shown);
	host = json_object_get(json_object_get(json_object_get(meta, "Endpoints"), "docker"),
			       "Host");
	if (!json_is_string(host) || json_string_length(host) == 0)
		return err_set(e, -EINVAL, "the Docker engine: %s has no address of an engine",
			       from);
	return take_address(out, from, str_slice(json_string_value(host), json_string_length(host)),
			    e);
}

static bool is_default_name(const char *name)
{
	return !name || !*name || strcmp(name, "default") == 0;
}

int engine_find(struct engine *out, struct err *e)
{
	const char *host = get("DOCKER_HOST"), *context = get("DOCKER_CONTEXT");
	const char *config_dir = get("DOCKER_CONFIG"), *home = get("HOME");
	_cleanup_json_ json_t *config = NULL;
	_cleanup_free_ char *dir = NULL, *path = NULL;
	const json_t *current;
	int ret;

	*out = (struct engine){0};
	if (host)
		return take_address(out, "DOCKER_HOST", str_of(host), e);
	dir = config_dir ? mem_strdup(config_dir) : mem_printf("%s/.docker", home ? home : "");
	if (context)
		return is_default_name(context)
			       ? take_default(out)
			       : take_context(out, dir, "DOCKER_CONTEXT", context, e);
	path = mem_printf("%s/config.json", dir);
	ret = read_json(path, &config, e);
	if (ret < 0)
		return ret;
	current = json_object_get(config, "currentContext");
	/* What cannot be read may have named another engine. */
	if (config && (!json_is_object(config) ||
		       (current && !json_is_string(current) && !json_is_null(current))))
		return err_set(e, -EINVAL,
			       "the Docker engine: \"%s\": \"currentContext\" is not the name of a "
			       "context",
			       path);
	context = json_string_value(current);
	if (is_default_name(context))
		return take_default(out);
	return take_context(out, dir, path, context, e);
}
