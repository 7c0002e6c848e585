/* What every role and init read of the bottle's configuration. */
#include "bundle/bundle.h"

#include "base/clean.h"
#include "base/mem.h"
#include "base/text.h"

#include <arpa/inet.h>
#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

void bundle_config_free(struct bundle_config *c)
{
	if (c->policy) {
		policy_free(c->policy);
		free(c->policy);
	}
	if (c->git) {
		git_policy_free(c->git);
		free(c->git);
	}
	free(c->git_folder);
	free(c->inside);
	c->policy = NULL;
	c->git = NULL;
	c->git_folder = NULL;
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

static bool is_folder(struct str path)
{
	return path.n > 1 && path.n < PATH_MAX && path.p[0] == '/' && !memchr(path.p, '\0', path.n);
}

static int bundle_config_git(struct bundle_config *out, const json_t *git, const json_t *folder,
			     struct err *e)
{
	struct str path = str_slice(json_string_value(folder), json_string_length(folder));
	_cleanup_free_ char *text = NULL;
	int ret;

	if (!git && !folder)
		return 0;
	if (!json_is_object(git) || !json_is_string(folder) || !is_folder(path))
		return err_set(e, -EINVAL,
			       "bundle config: git is an object, beside an absolute git_folder");
	text = json_dumps(git, JSON_COMPACT);
	if (!text || strlen(text) > GIT_JSON_MAX_BYTES)
		return err_set(e, -EFBIG, "bundle config: git is too large");
	out->git_folder = mem_strdup(path.p);
	out->git = mem_zalloc(sizeof(*out->git));
	ret = git_policy_from_json(out->git, str_of(text), e);
	return ret < 0 ? err_prefix(e, "bundle config: git"), ret : 0;
}

unsigned bundle_config_roles(const struct bundle_config *c)
{
	unsigned roles = 1u << BUNDLE_ROLE_RECORD | 1u << BUNDLE_ROLE_KEYD |
			 1u << BUNDLE_ROLE_EGRESS | 1u << BUNDLE_ROLE_PIPELOCK;

	if (c->git)
		roles |= 1u << BUNDLE_ROLE_GITGATE;
	if (c->is_supervised)
		roles |= 1u << BUNDLE_ROLE_SUPERVISE;
	for (size_t i = 0; c->git && i < c->git->n_remotes; i++) {
		if (c->git->remotes[i].transport == GIT_TRANSPORT_SSH)
			roles |= 1u << BUNDLE_ROLE_GITSSH;
	}
	return roles;
}

static int bundle_config_parse(struct bundle_config *out, json_t *root, struct err *e)
{
	static const char *const keys[] = {"version", "slug",	"pinned", "supervised", "uid_base",
					   "policy",  "inside", "git",	  "git_folder", "paused"};
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
	out->is_supervised = json_is_true(json_object_get(root, "supervised"));
	out->is_paused = json_is_true(json_object_get(root, "paused"));
	ret = bundle_config_inside(out, json_object_get(root, "inside"), e);
	if (ret < 0)
		return ret;
	policy_text = json_dumps(policy, JSON_COMPACT);
	out->policy = mem_zalloc(sizeof(*out->policy));
	ret = policy_from_json(out->policy, str_of(policy_text), e);
	if (ret < 0)
		return err_prefix(e, "bundle config: policy"), ret;
	return bundle_config_git(out, json_object_get(root, "git"),
				 json_object_get(root, "git_folder"), e);
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

/* --- one after another --- */

static bool is_same_text(const char *a, const char *b)
{
	return (!a && !b) || (a && b && strcmp(a, b) == 0);
}

static bool is_same_inside(const struct bundle_config *a, const struct bundle_config *b)
{
	if (a->is_apart != b->is_apart || a->n_inside != b->n_inside)
		return false;
	for (size_t i = 0; i < a->n_inside; i++) {
		if (strcmp(a->inside[i], b->inside[i]) != 0)
			return false;
	}
	return true;
}

/* In the one form that each has as JSON. */
static bool is_same_git(const struct git_policy *a, const struct git_policy *b)
{
	_cleanup_(buf_free) struct buf of_a = BUF_INIT(GIT_JSON_MAX_BYTES);
	_cleanup_(buf_free) struct buf of_b = BUF_INIT(GIT_JSON_MAX_BYTES);

	if (!a || !b)
		return !a && !b;
	return git_policy_to_json(a, &of_a, NULL) == 0 && git_policy_to_json(b, &of_b, NULL) == 0 &&
	       str_eq(buf_str(&of_a), buf_str(&of_b));
}

int bundle_config_check_next(const struct bundle_config *now, const struct bundle_config *next,
			     struct err *e)
{
	if (strcmp(now->slug, next->slug) != 0 || strcmp(now->pinned, next->pinned) != 0 ||
	    now->uid_base != next->uid_base || now->is_supervised != next->is_supervised ||
	    !is_same_inside(now, next) || !is_same_text(now->git_folder, next->git_folder))
		return err_set(e, -EINVAL, "it is of another bottle");
	if (!policy_differs_only_in_grants(now->policy, next->policy) ||
	    !is_same_git(now->git, next->git))
		return err_set(e, -EINVAL, "it differs in more than grants");
	return 0;
}
