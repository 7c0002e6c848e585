#include "bundle/role.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "priv/priv.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>

#define BUNDLE_LOG_MAX_BYTES (16u << 20)

static const char *const role_names[] = {
	[BUNDLE_ROLE_RECORD] = "record",
	[BUNDLE_ROLE_KEYD] = "keyd",
	[BUNDLE_ROLE_EGRESS] = "egress",
	[BUNDLE_ROLE_PIPELOCK] = "pipelock",
};
_Static_assert(ARRAY_LEN(role_names) == BUNDLE_ROLE_COUNT, "one name per role");

const char *bundle_role_name(enum bundle_role r)
{
	return r < BUNDLE_ROLE_COUNT ? role_names[r] : "?";
}

bool role_by_name(struct str name, enum bundle_role *out)
{
	for (int r = 0; r < BUNDLE_ROLE_COUNT; r++) {
		if (str_eq(name, str_of(role_names[r]))) {
			*out = (enum bundle_role)r;
			return true;
		}
	}
	return false;
}

const char *role_argument(char *const *argv, const char *name)
{
	size_t n = strlen(name);

	for (size_t i = 0; argv[i]; i++) {
		if (strncmp(argv[i], name, n) == 0 && argv[i][n] == '=')
			return argv[i] + n + 1;
	}
	return NULL;
}

int role_fd_argument(char *const *argv, const char *name, int *fd, struct err *e)
{
	const char *text = role_argument(argv, name);
	uint64_t v;

	*fd = -1;
	if (!text)
		return err_set(e, -ENOENT, "no descriptor named %s=", name);
	if (str_to_u64(str_of(text), 65535, &v) < 0 || fcntl((int)v, F_GETFD) < 0)
		return err_set(e, -EINVAL, "%s=%s is not an open descriptor", name, text);
	*fd = (int)v;
	return io_set_cloexec(*fd, true);
}

int role_env_parse(struct bundle_role_env *env, char *const *argv, struct err *e)
{
	const struct {
		const char *name;
		int *fd;
	} wanted[] = {
		{"config", &env->config_fd},   {"ready", &env->ready_fd},
		{"record", &env->record_fd},   {"keyd", &env->keyd_fd},
		{"egress", &env->egress_fd},   {"file", &env->records_file_fd},
		{"secrets", &env->secrets_fd}, {"state", &env->state_fd},
		{"listen", &env->listen_fd},   {"dns_udp", &env->dns_udp_fd},
		{"dns_tcp", &env->dns_tcp_fd}, {"rules", &env->rules_fd},
		{"reach", &env->reach_fd},
	};
	const char *uid_text = role_argument(argv, "uid");
	const char *life_text = role_argument(argv, "life");
	uint64_t uid, life;
	int ret;

	if (!uid_text || str_to_u64(str_of(uid_text), UINT32_MAX - 1, &uid) < 0)
		return err_set(e, -EINVAL, "uid= is missing");
	env->uid = (unsigned)uid;
	if (!life_text || str_to_u64(str_of(life_text), UINT32_MAX, &life) < 0)
		return err_set(e, -EINVAL, "life= is missing");
	env->life = (unsigned)life;
	for (size_t i = 0; i < ARRAY_LEN(wanted); i++) {
		ret = role_fd_argument(argv, wanted[i].name, wanted[i].fd, e);
		if (ret < 0 && ret != -ENOENT)
			return ret;
	}
	for (unsigned r = 0; r <= BUNDLE_ROLE_COUNT; r++) {
		char name[32];

		(void)snprintf(name, sizeof(name), "from%u", r);
		ret = role_fd_argument(argv, name, &env->record_in_fds[r], e);
		if (ret < 0 && ret != -ENOENT)
			return ret;
		(void)snprintf(name, sizeof(name), "ask%u", r);
		ret = role_fd_argument(argv, name, &env->asker_fds[r], e);
		if (ret < 0 && ret != -ENOENT)
			return ret;
	}
	if (env->config_fd < 0 || env->ready_fd < 0)
		return err_set(e, -EINVAL, "config= and ready= are needed");
	return 0;
}

int bundle_role_seal(const struct bundle_role_env *env, const struct priv_limits *limits,
		     bool may_dial, unsigned sets, struct err *e)
{
	struct priv_limits capped = *limits;
	int ret = priv_basics(e);

	/* Standard error may be a file, and a full one must not kill; a closed peer neither. */
	if (capped.file_size_bytes < BUNDLE_LOG_MAX_BYTES)
		capped.file_size_bytes = BUNDLE_LOG_MAX_BYTES;
	(void)signal(SIGXFSZ, SIG_IGN);
	(void)signal(SIGPIPE, SIG_IGN);
	if (ret == 0)
		ret = priv_limit(&capped, e);
	if (ret == 0)
		ret = priv_landlock(NULL, 0, may_dial, e);
	if (ret == 1) {
		log_warn(
			"this kernel has no Landlock; seccomp and the missing uid's rights remain");
		ret = 0;
	}
	if (ret == 0)
		ret = priv_drop_uid(env->uid, e);
	if (ret == 0)
		ret = priv_seccomp(sets, e);
	return ret;
}

void bundle_role_ready(const struct bundle_role_env *env)
{
	if (write(env->ready_fd, "1", 1) != 1)
		die("init is gone");
	(void)close(env->ready_fd);
}

void bundle_config_free(struct bundle_config *c)
{
	if (c->policy) {
		policy_free(c->policy);
		free(c->policy);
	}
	free(c->inside);
	c->policy = NULL;
	c->inside = NULL;
	c->n_inside = 0;
}

static inline void json_decref_p(json_t **j)
{
	json_decref(*j);
}

static int bundle_config_inside(struct bundle_config *out, const json_t *inside, struct err *e)
{
	uint8_t ignored[16];

	out->is_apart = inside != NULL;
	if (!inside)
		return 0;
	if (!json_is_array(inside) || json_array_size(inside) == 0 ||
	    json_array_size(inside) > BUNDLE_INSIDE_MAX)
		return err_set(e, -EINVAL, "bundle config: inside is not 1 to %d addresses",
			       BUNDLE_INSIDE_MAX);
	out->inside = mem_zalloc_array(json_array_size(inside), sizeof(*out->inside));
	for (size_t i = 0; i < json_array_size(inside); i++) {
		const json_t *item = json_array_get(inside, i);
		struct str text = str_slice(json_string_value(item), json_string_length(item));
		char *address = out->inside[out->n_inside++];

		if (!str_to_cstr(address, sizeof(*out->inside), text) ||
		    (inet_pton(AF_INET, address, ignored) != 1 &&
		     inet_pton(AF_INET6, address, ignored) != 1))
			return err_set(e, -EINVAL, "bundle config: inside[%zu] is not an address",
				       i);
	}
	return 0;
}

static int bundle_config_parse(struct bundle_config *out, json_t *root, struct err *e)
{
	static const char *const keys[] = {"version",  "slug",	 "pinned", "supervised",
					   "uid_base", "policy", "inside"};
	json_t *slug = json_object_get(root, "slug"), *pinned = json_object_get(root, "pinned");
	json_t *uid_base = json_object_get(root, "uid_base"),
	       *policy = json_object_get(root, "policy");
	_cleanup_free_ char *policy_text = NULL;
	const char *key;
	json_t *value;
	int ret;

	json_object_foreach(root, key, value)
	{
		bool is_known = false;

		for (size_t i = 0; i < ARRAY_LEN(keys); i++)
			is_known |= strcmp(key, keys[i]) == 0;
		if (!is_known)
			return err_set(e, -EINVAL, "bundle config: unknown key");
	}
	if (json_integer_value(json_object_get(root, "version")) != 1)
		return err_set(e, -EINVAL, "bundle config: version 1 was expected");
	if (!str_to_cstr(out->slug, sizeof(out->slug), str_of(json_string_value(slug))) ||
	    !str_to_cstr(out->pinned, sizeof(out->pinned), str_of(json_string_value(pinned))) ||
	    !out->slug[0] || !out->pinned[0])
		return err_set(e, -EINVAL, "bundle config: slug or pinned is missing or too long");
	if (!json_is_integer(uid_base) || json_integer_value(uid_base) < 0 ||
	    json_integer_value(uid_base) > INT32_MAX || !json_is_object(policy))
		return err_set(e, -EINVAL, "bundle config: uid_base or policy is missing");
	out->uid_base = (unsigned)json_integer_value(uid_base);
	ret = bundle_config_inside(out, json_object_get(root, "inside"), e);
	if (ret < 0)
		return ret;
	policy_text = json_dumps(policy, JSON_COMPACT);
	out->policy = mem_zalloc(sizeof(*out->policy));
	ret = policy_from_json(out->policy, str_of(policy_text), e);
	return ret < 0 ? err_prefix(e, "bundle config: policy"), ret : 0;
}

/* Roles that start at the same time share the open file, and so its offset: it is not used. */
static int config_read(int fd, char **out, size_t *n, struct err *e)
{
	_cleanup_free_ char *text = NULL;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_errno(e, "bundle config");
	if (st.st_size <= 0 || st.st_size > BUNDLE_CONFIG_MAX)
		return err_set(e, -EFBIG, "bundle config: size");
	text = mem_zalloc((size_t)st.st_size);
	for (off_t at = 0; at < st.st_size;) {
		ssize_t got = pread(fd, text + at, (size_t)(st.st_size - at), at);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return err_set(e, -EIO, "bundle config: cannot be read");
		at += got;
	}
	*n = (size_t)st.st_size;
	*out = take_ptr(&text);
	return 0;
}

int bundle_config_load(struct bundle_config *out, int config_fd, struct err *e)
{
	_cleanup_(json_decref_p) json_t *root = NULL;
	_cleanup_free_ char *text = NULL;
	json_error_t where;
	size_t n;
	int ret;

	memset(out, 0, sizeof(*out));
	ret = config_read(config_fd, &text, &n, e);
	if (ret < 0)
		return ret;
	root = json_loadb(text, n, JSON_REJECT_DUPLICATES, &where);
	if (!json_is_object(root))
		return err_set(e, -EINVAL, "bundle config is not JSON: line %d: %s", where.line,
			       root ? "not an object" : where.text);
	ret = bundle_config_parse(out, root, e);
	if (ret < 0)
		bundle_config_free(out);
	return ret;
}
