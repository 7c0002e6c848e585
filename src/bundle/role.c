#include "bundle/role.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/log.h"
#include "priv/priv.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>

#define BUNDLE_LOG_MAX_BYTES (16u << 20)

static const char *const role_names[] = {
	[BUNDLE_ROLE_RECORD] = "record",       [BUNDLE_ROLE_KEYD] = "keyd",
	[BUNDLE_ROLE_EGRESS] = "egress",       [BUNDLE_ROLE_PIPELOCK] = "pipelock",
	[BUNDLE_ROLE_GITSSH] = "gitssh",       [BUNDLE_ROLE_GITGATE] = "gitgate",
	[BUNDLE_ROLE_SUPERVISE] = "supervise",
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
		{"reach", &env->reach_fd},     {"git_egress", &env->git_egress_fd},
		{"dial", &env->dial_fd},       {"ssh", &env->ssh_fd},
		{"door", &env->door_fd},       {"stream", &env->stream_fd},
		{"desk", &env->desk_fd},       {"news", &env->news_fd},
		{"refused", &env->refused_fd},
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
	return bundle_role_seal_paths(env, limits, NULL, 0, may_dial, sets, e);
}

int bundle_role_seal_paths(const struct bundle_role_env *env, const struct priv_limits *limits,
			   const struct priv_path *paths, size_t n_paths, bool may_dial,
			   unsigned sets, struct err *e)
{
	struct priv_limits capped = *limits;
	int ret = priv_basics(e);

	/* Standard error may be a file, and a full one must not kill; a closed peer neither. */
	if (capped.file_size_bytes < BUNDLE_LOG_MAX_BYTES)
		capped.file_size_bytes = BUNDLE_LOG_MAX_BYTES;
	if (capped.processes > 0 && env->uid == 0)
		capped.processes = SIZE_MAX;
	(void)signal(SIGXFSZ, SIG_IGN);
	(void)signal(SIGPIPE, SIG_IGN);
	if (ret == 0)
		ret = priv_limit(&capped, e);
	if (ret == 0)
		ret = priv_landlock(paths, n_paths, may_dial, e);
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
