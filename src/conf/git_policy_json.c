/*
 * The git policy as JSON, inside the bundle's configuration. Parsed as if an enemy had written it:
 * every object knows its keys, every value its cap, and what cannot belong together (a token for
 * ssh, two remotes in one place) leaves a policy without git.
 */
#include "conf/git_policy.h"

#include "base/clean.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/text.h"
#include "conf/policy_read.h"

#include <errno.h>

#define JSON_VERSION   1
#define JSON_DEPTH_MAX 6
#define ORIGIN_MAX     4096

/* --- out --- */

struct out {
	struct buf *b;
	int ret;
};

static void put(struct out *o, const char *text)
{
	if (o->ret == 0)
		o->ret = buf_append_str(o->b, str_of(text));
}

static void put_string(struct out *o, const char *key, const char *value)
{
	if (!value)
		return;
	if (o->ret == 0)
		o->ret = buf_printf(o->b, ",\"%s\":", key);
	if (o->ret == 0)
		o->ret = text_json(o->b, str_of(value));
}

static void put_bool(struct out *o, const char *key, bool value)
{
	if (o->ret == 0)
		o->ret = buf_printf(o->b, ",\"%s\":%s", key, value ? "true" : "false");
}

static void put_number(struct out *o, const char *key, uint64_t value)
{
	if (o->ret == 0)
		o->ret = buf_printf(o->b, ",\"%s\":%llu", key, (unsigned long long)value);
}

static void put_list(struct out *o, const char *key, char *const *list, size_t n)
{
	if (o->ret == 0)
		o->ret = buf_printf(o->b, ",\"%s\":[", key);
	for (size_t i = 0; i < n; i++) {
		put(o, i ? "," : "");
		if (o->ret == 0)
			o->ret = text_json(o->b, str_of(list[i]));
	}
	put(o, "]");
}

static void put_allow(struct out *o, const struct git_remote *r)
{
	put(o, ",\"allow\":[");
	for (size_t i = 0; o->ret == 0 && i < r->n_allow; i++)
		o->ret = buf_printf(o->b, "%s\"%s\"", i ? "," : "", r->allow[i]);
	put(o, "]");
}

static void put_remote(struct out *o, const struct git_remote *r)
{
	if (o->ret == 0)
		o->ret =
			buf_printf(o->b, "{\"transport\":\"%s\"", git_transport_name(r->transport));
	put_string(o, "name", r->name);
	if (r->transport != GIT_TRANSPORT_WORKSPACE) {
		put_string(o, "host", r->host);
		put_number(o, "port", r->port);
		put_string(o, "path", r->path);
	}
	put_string(o, "user", r->user);
	put_string(o, "host_key", r->host_key);
	if (r->has_credential)
		put_number(o, "credential", r->credential);
	put_string(o, "placeholder", r->placeholder);
	put_list(o, "branches", r->branches, r->n_branches);
	put_list(o, "protected", r->protected_branches, r->n_protected_branches);
	put_list(o, "tags", r->tags, r->n_tags);
	put_bool(o, "protect_head", r->is_head_protected);
	put_bool(o, "force", r->may_force);
	put_bool(o, "delete", r->may_delete);
	put_bool(o, "stale", r->may_serve_stale);
	put_bool(o, "oversize", r->may_oversize);
	put_number(o, "max_object", r->object_max_bytes);
	put_number(o, "max_pack", r->pack_max_bytes);
	put_allow(o, r);
	if (r->origin_file)
		put_number(o, "origin_line", r->origin_line);
	put_string(o, "origin_file", r->origin_file);
	put(o, "}");
}

int git_policy_to_json(const struct git_policy *g, struct buf *out, struct err *e)
{
	struct out o = {.b = out};

	o.ret = buf_printf(out, "{\"version\":%d,\"remotes\":[", JSON_VERSION);
	for (size_t i = 0; i < g->n_remotes; i++) {
		put(&o, i ? "," : "");
		put_remote(&o, &g->remotes[i]);
	}
	put(&o, "]");
	put_string(&o, "user_name", g->user_name);
	put_string(&o, "user_email", g->user_email);
	put_bool(&o, "enforce_identity", g->enforces_identity);
	put(&o, "}");
	return o.ret < 0 ? err_set(e, o.ret, "the git policy does not fit into %zu bytes", out->cap)
			 : 0;
}

/* --- in --- */

typedef int check_fn(struct str text, struct err *e);

/* A string that passes check (NULL: none); *out is a copy. */
static int read_text(const json_t *object, const char *key, size_t max, check_fn *check, char **out,
		     struct err *e)
{
	struct str text;
	int ret = policy_read_string(object, key, max, &text, e);

	if (ret == 0 && check)
		ret = check(text, e);
	if (ret == 0)
		*out = str_dup(text);
	return ret < 0 ? err_prefix(e, "\"%s\"", key) : 0;
}

static int read_optional(const json_t *object, const char *key, size_t max, check_fn *check,
			 char **out, struct err *e)
{
	return json_object_get(object, key) ? read_text(object, key, max, check, out, e) : 0;
}

static int read_patterns(const json_t *object, const char *key, char ***out, size_t *n,
			 struct err *e)
{
	const json_t *list;
	int ret = policy_read_list(object, key, GIT_PATTERNS_MAX, &list, e);

	if (ret < 0)
		return ret;
	*out = mem_zalloc_array(json_array_size(list), sizeof(**out));
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *v = json_array_get(list, i);
		struct str text = str_slice(json_string_value(v), json_string_length(v));

		if (!json_is_string(v))
			return err_set(e, -EINVAL, "\"%s\": a pattern must be a string", key);
		ret = git_ref_pattern_check(text, e);
		if (ret < 0)
			return ret;
		(*out)[(*n)++] = str_dup(text);
	}
	return 0;
}

static int read_allow(struct git_remote *r, const json_t *object, struct err *e)
{
	const json_t *list;
	int ret = policy_read_list(object, "allow", GIT_ALLOW_MAX, &list, e);

	if (ret < 0)
		return ret;
	r->allow = mem_zalloc_array(json_array_size(list), sizeof(*r->allow));
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *v = json_array_get(list, i);
		struct str text = str_slice(json_string_value(v), json_string_length(v));

		if (!json_is_string(v))
			return err_set(e, -EINVAL, "\"allow\": a fingerprint must be a string");
		ret = git_fingerprint_check(text, e);
		if (ret < 0)
			return ret;
		memcpy(r->allow[r->n_allow++], text.p, GIT_FINGERPRINT_SIZE - 1);
	}
	return 0;
}

/* Through the operator's own parser: what it would not take cannot come in here either. */
static int read_place(struct git_remote *r, const json_t *object, struct err *e)
{
	bool is_ssh = r->transport == GIT_TRANSPORT_SSH;
	_cleanup_free_ char *host = NULL, *path = NULL, *text = NULL;
	unsigned port;
	int ret = read_text(object, "host", POLICY_HOST_MAX, NULL, &host, e);

	if (ret == 0)
		ret = read_text(object, "path", GIT_PATH_MAX, NULL, &path, e);
	if (ret == 0)
		ret = policy_read_unsigned(object, "port", UINT16_MAX, &port, e);
	if (ret < 0)
		return ret;
	if (strpbrk(host, "/@:"))
		return err_set(e, -EINVAL, "\"host\" is not a host name");
	if (is_ssh && path[0] != '/')
		text = mem_printf("%s:%s", host, path);
	else
		text = mem_printf("%s://%s:%u%s", is_ssh ? "ssh" : "https", host, port, path);
	ret = git_upstream_parse(str_of(text), r, e);
	if (ret < 0)
		return ret;
	r->port = (uint16_t)port;
	free(r->user);
	r->user = NULL;
	if (port == 0 || strcmp(r->host, host) != 0 || strcmp(r->path, path) != 0 ||
	    (r->transport == GIT_TRANSPORT_SSH) != is_ssh)
		return err_set(e, -EINVAL, "\"host\", \"port\" and \"path\" are not in their form");
	return 0;
}

static int read_credential(struct git_remote *r, const json_t *object, struct err *e)
{
	bool is_ssh = r->transport == GIT_TRANSPORT_SSH;
	int ret = 0;

	r->has_credential = json_object_get(object, "credential");
	if (r->has_credential)
		ret = policy_read_unsigned(object, "credential", POLICY_CREDENTIALS_MAX - 1,
					   &r->credential, e);
	if (ret == 0)
		ret = read_optional(object, "user", POLICY_USER_MAX,
				    is_ssh ? git_ssh_user_check : policy_user_check, &r->user, e);
	if (ret == 0)
		ret = read_optional(object, "host_key", GIT_HOST_KEY_MAX, git_host_key_check,
				    &r->host_key, e);
	if (ret == 0)
		ret = read_optional(object, "placeholder", POLICY_PLACEHOLDER_MAX,
				    policy_placeholder_check, &r->placeholder, e);
	if (ret < 0)
		return ret;
	if (r->transport == GIT_TRANSPORT_WORKSPACE &&
	    (r->has_credential || r->user || r->host_key || r->placeholder))
		return err_set(e, -EINVAL, "the workspace has neither user nor credential");
	if (is_ssh && (!r->has_credential || !r->user || !r->host_key || r->placeholder))
		return err_set(e, -EINVAL,
			       "an ssh remote has \"credential\", \"user\" and \"host_key\" alone");
	if (r->transport == GIT_TRANSPORT_HTTPS &&
	    (r->host_key || r->has_credential != !!r->placeholder ||
	     r->has_credential != !!r->user))
		return err_set(
			e, -EINVAL,
			"an https remote has \"credential\", \"user\" and \"placeholder\", or "
			"none of them");
	return 0;
}

static int read_size(const json_t *object, const char *key, uint64_t *out, struct err *e)
{
	int ret = policy_read_u64(object, key, GIT_SIZE_MAX, out, e);

	return ret < 0 || *out > 0 ? ret : err_set(e, -EINVAL, "\"%s\" must not be 0", key);
}

static int read_refs(struct git_remote *r, const json_t *object, struct err *e)
{
	int ret = read_patterns(object, "branches", &r->branches, &r->n_branches, e);

	if (ret == 0)
		ret = read_patterns(object, "protected", &r->protected_branches,
				    &r->n_protected_branches, e);
	if (ret == 0)
		ret = read_patterns(object, "tags", &r->tags, &r->n_tags, e);
	if (ret == 0)
		ret = policy_read_bool(object, "protect_head", &r->is_head_protected, e);
	if (ret == 0)
		ret = policy_read_bool(object, "force", &r->may_force, e);
	if (ret == 0)
		ret = policy_read_bool(object, "delete", &r->may_delete, e);
	if (ret == 0)
		ret = policy_read_bool(object, "stale", &r->may_serve_stale, e);
	if (ret == 0)
		ret = policy_read_bool(object, "oversize", &r->may_oversize, e);
	if (ret == 0)
		ret = read_size(object, "max_object", &r->object_max_bytes, e);
	if (ret == 0)
		ret = read_size(object, "max_pack", &r->pack_max_bytes, e);
	return ret < 0 ? ret : read_allow(r, object, e);
}

static int read_transport(struct git_remote *r, const json_t *object, struct err *e)
{
	struct str text;
	int ret = policy_read_string(object, "transport", 16, &text, e);

	if (ret < 0)
		return ret;
	for (unsigned t = GIT_TRANSPORT_HTTPS; t <= GIT_TRANSPORT_WORKSPACE; t++) {
		r->transport = (enum git_transport)t;
		if (str_eq(text, str_of(git_transport_name(r->transport))))
			return 0;
	}
	return err_set(e, -EINVAL, "unknown transport");
}

static int read_remote(struct git_remote *r, const json_t *object, struct err *e)
{
	static const char *const far[] = {"transport",	  "name",	 "host",      "port",
					  "path",	  "user",	 "host_key",  "credential",
					  "placeholder",  "branches",	 "protected", "tags",
					  "protect_head", "force",	 "delete",    "stale",
					  "oversize",	  "max_object",	 "max_pack",  "allow",
					  "origin_line",  "origin_file", NULL};
	static const char *const near[] = {"transport", "name",		"branches",    "protected",
					   "tags",	"protect_head", "force",       "delete",
					   "stale",	"oversize",	"max_object",  "max_pack",
					   "allow",	"origin_line",	"origin_file", NULL};
	int ret = json_is_object(object) ? read_transport(r, object, e) : 0;
	bool is_near = r->transport == GIT_TRANSPORT_WORKSPACE;

	if (ret == 0)
		ret = policy_read_keys(object, "a remote", is_near ? near : far, e);
	if (ret == 0)
		ret = read_text(object, "name", GIT_NAME_MAX, git_remote_name_check, &r->name, e);
	if (ret < 0)
		return ret;
	if ((strcmp(r->name, "workspace") == 0) != is_near)
		return err_set(e, -EINVAL, "the name \"workspace\" is of the workspace alone");
	if (is_near) {
		r->host = mem_strdup("workspace");
		r->path = mem_strdup("");
	} else {
		ret = read_place(r, object, e);
	}
	if (ret == 0)
		ret = read_credential(r, object, e);
	if (ret == 0)
		ret = read_refs(r, object, e);
	if (ret < 0 || !json_object_get(object, "origin_file"))
		return ret;
	ret = read_text(object, "origin_file", ORIGIN_MAX, NULL, &r->origin_file, e);
	return ret < 0 ? ret
		       : policy_read_unsigned(object, "origin_line", 1u << 24, &r->origin_line, e);
}

/* Each has a name and a place at the gate of its own. */
static int check_remotes(const struct git_policy *g, struct err *e)
{
	char a[GIT_GATE_PATH_SIZE], b[GIT_GATE_PATH_SIZE];

	for (size_t i = 0; i < g->n_remotes; i++) {
		git_gate_path(&g->remotes[i], a);
		for (size_t k = 0; k < i; k++) {
			git_gate_path(&g->remotes[k], b);
			if (strcmp(g->remotes[i].name, g->remotes[k].name) == 0 ||
			    strcmp(a, b) == 0)
				return err_set(e, -EINVAL, "two remotes have one name or path");
		}
	}
	return 0;
}

static int read_identity(struct git_policy *g, const json_t *root, struct err *e)
{
	int ret = read_optional(root, "user_name", GIT_IDENTITY_MAX, git_identity_check,
				&g->user_name, e);

	if (ret == 0)
		ret = read_optional(root, "user_email", GIT_IDENTITY_MAX, git_identity_check,
				    &g->user_email, e);
	if (ret == 0)
		ret = policy_read_bool(root, "enforce_identity", &g->enforces_identity, e);
	if (ret == 0 && g->enforces_identity && (!g->user_name || !g->user_email))
		return err_set(e, -EINVAL, "an identity that is enforced needs name and email");
	return ret;
}

static int read_policy(struct git_policy *g, const json_t *root, struct err *e)
{
	static const char *const keys[] = {"version",	 "remotes",	     "user_name",
					   "user_email", "enforce_identity", NULL};
	const json_t *list;
	unsigned version;
	int ret = policy_read_keys(root, "the git policy", keys, e);

	if (ret == 0)
		ret = policy_read_unsigned(root, "version", 1u << 16, &version, e);
	if (ret == 0 && version != JSON_VERSION)
		ret = err_set(e, -EINVAL, "version %u, expected %d", version, JSON_VERSION);
	if (ret == 0)
		ret = policy_read_list(root, "remotes", GIT_REMOTES_MAX, &list, e);
	if (ret < 0)
		return ret;
	g->remotes = mem_zalloc_array(json_array_size(list), sizeof(*g->remotes));
	for (size_t i = 0; i < json_array_size(list); i++) {
		g->n_remotes++;
		ret = read_remote(&g->remotes[i], json_array_get(list, i), e);
		if (ret < 0)
			return ret;
	}
	ret = check_remotes(g, e);
	return ret < 0 ? ret : read_identity(g, root, e);
}

int git_policy_from_json(struct git_policy *out, struct str json, struct err *e)
{
	_cleanup_json_ json_t *root = NULL;
	int ret;

	*out = (struct git_policy){0};
	ret = policy_read_root(json, GIT_JSON_MAX_BYTES, JSON_DEPTH_MAX, &root, e);
	if (ret == 0)
		ret = read_policy(out, root, e);
	if (ret == 0)
		return 0;
	git_policy_free(out);
	(void)err_prefix(e, "git");
	return ret;
}
