/*
 * The policy as JSON, on its way from the host to the bundle and in the bottle's policy.json. It is
 * parsed as if an enemy had written it: each level knows its keys and refuses the rest, every count
 * and length has its cap, and an error at any place leaves a policy that allows nothing.
 */
#include "conf/policy_index.h"

#include "base/clean.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/text.h"
#include "conf/policy_read.h"

#include <errno.h>

#define JSON_VERSION   1
#define JSON_DEPTH_MAX 8

/* --- out --- */

static int put_string(struct buf *out, const char *key, const char *value)
{
	int ret = buf_printf(out, "\"%s\":", key);

	return ret < 0 ? ret : text_json(out, str_of(value));
}

static int put_literal(struct buf *out, const char *text)
{
	return buf_append_str(out, str_of(text));
}

/* Without printf where it can be: the store of requests writes ten thousand of these at a time. */
int policy_destination_to_json(const struct policy_route *r, struct buf *out)
{
	const char *comma = "";
	int ret = put_literal(out, "\"host\":");

	if (ret == 0)
		ret = text_json(out, str_of(r->host));
	if (ret == 0)
		ret = put_literal(out, ",\"ports\":[");
	for (size_t i = 0; ret == 0 && i < r->n_ports; i++)
		ret = buf_printf(out, "%s%u", i ? "," : "", (unsigned)r->ports[i]);
	if (ret == 0)
		ret = put_literal(out, "],\"methods\":[");
	for (unsigned m = 0; ret == 0 && m < POLICY_METHOD_COUNT; m++) {
		if (!(r->methods & 1u << m))
			continue;
		ret = put_literal(out, comma);
		if (ret == 0)
			ret = text_json(out, str_of(policy_method_name((enum policy_method)m)));
		comma = ",";
	}
	if (ret == 0)
		ret = put_literal(out, "],\"paths\":[");
	for (size_t i = 0; ret == 0 && i < r->n_paths; i++) {
		if (i > 0)
			ret = put_literal(out, ",");
		if (ret == 0)
			ret = text_json(out, str_of(r->paths[i]));
	}
	return ret < 0 ? ret : put_literal(out, "]");
}

static int put_auth(struct buf *out, const struct policy_auth *a)
{
	int ret;

	if (a->scheme == POLICY_AUTH_NONE)
		return 0;
	ret = buf_printf(out, ",\"auth\":{\"scheme\":\"%s\",\"credential\":%u,",
			 policy_scheme_name(a->scheme), a->credential);
	if (ret == 0)
		ret = put_string(out, "header", a->header);
	if (ret == 0 && a->user) {
		ret = buf_append(out, ",", 1);
		if (ret == 0)
			ret = put_string(out, "user", a->user);
	}
	if (ret == 0)
		ret = buf_append(out, ",", 1);
	if (ret == 0)
		ret = put_string(out, "placeholder", a->placeholder);
	return ret < 0 ? ret : buf_append(out, "}", 1);
}

static int put_route(struct buf *out, const struct policy_route *r)
{
	int ret = buf_append(out, "{", 1);

	if (ret == 0)
		ret = policy_destination_to_json(r, out);
	if (ret == 0)
		ret = put_auth(out, &r->auth);
	if (ret == 0)
		ret = buf_printf(out, ",\"on_match\":\"%s\",\"websocket\":%s",
				 policy_on_match_name(r->on_match),
				 r->may_websocket ? "true" : "false");
	if (ret == 0 && r->grant > 0)
		ret = buf_printf(out, ",\"grant\":%llu,\"once\":%s", (unsigned long long)r->grant,
				 r->is_once ? "true" : "false");
	if (ret == 0 && r->origin_file) {
		ret = buf_printf(out, ",\"origin_line\":%u,", r->origin_line);
		if (ret == 0)
			ret = put_string(out, "origin_file", r->origin_file);
	}
	return ret < 0 ? ret : buf_append(out, "}", 1);
}

static int put_resolve(struct buf *out, const struct policy_resolve *v)
{
	char address[POLICY_ADDRESS_SIZE];
	int ret = buf_append(out, "{", 1);

	policy_address_format(&v->address, address);
	if (ret == 0)
		ret = put_string(out, "host", v->host);
	if (ret == 0)
		ret = buf_append(out, ",", 1);
	if (ret == 0)
		ret = put_string(out, "address", address);
	return ret < 0 ? ret : buf_append(out, "}", 1);
}

int policy_to_json(const struct policy *p, struct buf *out, struct err *e)
{
	int ret = buf_printf(out, "{\"version\":%d,\"routes\":[", JSON_VERSION);

	for (size_t i = 0; ret == 0 && i < p->n_routes; i++) {
		if (i > 0)
			ret = buf_append(out, ",", 1);
		if (ret == 0)
			ret = put_route(out, &p->routes[i]);
	}
	if (ret == 0)
		ret = buf_append(out, "],\"resolve\":[", 13);
	for (size_t i = 0; ret == 0 && i < p->n_resolve; i++) {
		if (i > 0)
			ret = buf_append(out, ",", 1);
		if (ret == 0)
			ret = put_resolve(out, &p->resolve[i]);
	}
	if (ret == 0)
		ret = buf_append(out, "],\"dns\":[", 9);
	for (size_t i = 0; ret == 0 && i < p->n_dns; i++) {
		char address[POLICY_ADDRESS_SIZE];

		policy_address_format(&p->dns[i], address);
		ret = buf_printf(out, "%s\"%s\"", i ? "," : "", address);
	}
	if (ret == 0)
		ret = buf_append(out, "]", 1);
	if (ret == 0 && p->ca_pem) {
		ret = buf_append(out, ",", 1);
		if (ret == 0)
			ret = put_string(out, "ca_pem", p->ca_pem);
	}
	if (ret == 0)
		ret = buf_append(out, "}", 1);
	return ret < 0 ? err_set(e, ret, "policy does not fit into %zu bytes", out->cap) : 0;
}

/* --- in --- */

static int read_ports(struct policy_route *r, const json_t *object, struct err *e)
{
	const json_t *list;
	int ret = policy_read_list(object, "ports", POLICY_PORTS_MAX, &list, e);

	if (ret < 0)
		return ret;
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *v = json_array_get(list, i);
		json_int_t port = json_integer_value(v);

		if (!json_is_integer(v) || port < 1 || port > 65535)
			return err_set(e, -EINVAL,
				       "policy: a port must be a number from 1 to 65535");
		r->ports[r->n_ports++] = (uint16_t)port;
	}
	return r->n_ports > 0 ? 0 : err_set(e, -EINVAL, "policy: route without a port");
}

static int read_methods(struct policy_route *r, const json_t *object, struct err *e)
{
	const json_t *list;
	int ret = policy_read_list(object, "methods", POLICY_METHOD_COUNT, &list, e);

	if (ret < 0)
		return ret;
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *v = json_array_get(list, i);
		enum policy_method m;

		if (!json_is_string(v) ||
		    !policy_method_parse(str_slice(json_string_value(v), json_string_length(v)),
					 &m))
			return err_set(e, -EINVAL, "policy: unknown method");
		r->methods |= 1u << m;
	}
	return r->methods ? 0 : err_set(e, -EINVAL, "policy: route without a method");
}

static int read_paths(struct policy_route *r, const json_t *object, struct err *e)
{
	const json_t *list;
	int ret = policy_read_list(object, "paths", POLICY_PATHS_MAX, &list, e);

	if (ret < 0)
		return ret;
	r->paths = mem_zalloc_array(json_array_size(list), sizeof(*r->paths));
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *v = json_array_get(list, i);
		struct str path = str_slice(json_string_value(v), json_string_length(v));

		if (!json_is_string(v))
			return err_set(e, -EINVAL, "policy: a path must be a string");
		ret = policy_path_pattern_check(path, e);
		if (ret < 0)
			return ret;
		r->paths[r->n_paths++] = str_dup(path);
	}
	return 0;
}

static int read_auth_user(struct policy_auth *a, const json_t *object, struct err *e)
{
	struct str text;
	int ret;

	if (a->scheme != POLICY_AUTH_BASIC)
		return json_object_get(object, "user")
			       ? err_set(e, -EINVAL, "policy: \"user\" belongs to scheme basic")
			       : 0;
	ret = policy_read_string(object, "user", POLICY_USER_MAX, &text, e);
	if (ret == 0)
		ret = policy_user_check(text, e);
	if (ret == 0)
		a->user = str_dup(text);
	return ret;
}

static int read_auth(struct policy_route *r, const json_t *object, struct err *e)
{
	static const char *const keys[] = {"scheme", "credential",  "header",
					   "user",   "placeholder", NULL};
	struct policy_auth *a = &r->auth;
	struct str text;
	int ret = policy_read_keys(object, "auth", keys, e);

	if (ret == 0)
		ret = policy_read_string(object, "scheme", 16, &text, e);
	if (ret < 0)
		return ret;
	if (!policy_scheme_parse(text, &a->scheme) || a->scheme == POLICY_AUTH_NONE)
		return err_set(e, -EINVAL, "policy: unknown auth scheme");
	if (r->host[0] == '*')
		return err_set(e, -EINVAL, "policy: a credential needs one exact host");
	ret = policy_read_unsigned(object, "credential", POLICY_CREDENTIALS_MAX - 1, &a->credential,
				   e);
	if (ret == 0)
		ret = policy_read_string(object, "header", POLICY_HEADER_MAX, &text, e);
	if (ret == 0)
		ret = policy_header_check(text, e);
	if (ret < 0)
		return ret;
	a->header = str_dup(text);
	if (a->scheme != POLICY_AUTH_HEADER && strcmp(a->header, "authorization") != 0)
		return err_set(e, -EINVAL, "policy: this scheme goes into \"authorization\"");
	ret = read_auth_user(a, object, e);
	if (ret == 0)
		ret = policy_read_string(object, "placeholder", POLICY_PLACEHOLDER_MAX, &text, e);
	if (ret == 0)
		ret = policy_placeholder_check(text, e);
	if (ret == 0)
		a->placeholder = str_dup(text);
	return ret;
}

/* A host pattern that is canonical already: what is compared later is exactly what stands here. */
static int read_host(char **out, const json_t *object, bool may_wildcard, struct err *e)
{
	char canonical[POLICY_HOST_MAX + 1];
	struct str text, name;
	int ret = policy_read_string(object, "host", POLICY_HOST_MAX + 2, &text, e);

	if (ret == 0)
		ret = policy_host_pattern_check(text, e);
	if (ret < 0)
		return ret;
	name = str_starts(text, STR_LIT("*.")) ? str_sub(text, 2, text.n) : text;
	if (name.n != text.n && !may_wildcard)
		return err_set(e, -EINVAL, "policy: this host must be one exact name");
	if (policy_host_canonical(name, canonical) != POLICY_OK || !str_eq(name, str_of(canonical)))
		return err_set(e, -EINVAL, "policy: host is not in canonical form");
	*out = str_dup(text);
	return 0;
}

/* What was granted is a route of its own and carries nothing: so that the routes with credentials
 * are always the manifest's. */
static int read_grant(struct policy_route *r, const json_t *object, struct err *e)
{
	int ret;

	if (!json_object_get(object, "grant"))
		return json_object_get(object, "once")
			       ? err_set(e, -EINVAL, "policy: \"once\" belongs to a grant")
			       : 0;
	ret = policy_read_u64(object, "grant", POLICY_GRANT_MAX, &r->grant, e);
	if (ret == 0)
		ret = policy_read_bool(object, "once", &r->is_once, e);
	if (ret == 0 && r->grant == 0)
		ret = err_set(e, -EINVAL, "policy: a grant's number is from 1");
	if (ret == 0 && r->auth.scheme != POLICY_AUTH_NONE)
		ret = err_set(e, -EINVAL, "policy: a grant has no credential");
	return ret;
}

static int read_route_rest(struct policy_route *r, const json_t *object, struct err *e)
{
	const json_t *auth = json_object_get(object, "auth");
	struct str text;
	int ret = auth ? read_auth(r, auth, e) : 0;

	if (ret == 0)
		ret = policy_read_string(object, "on_match", 16, &text, e);
	if (ret < 0)
		return ret;
	if (!policy_on_match_parse(text, &r->on_match))
		return err_set(e, -EINVAL, "policy: unknown on_match");
	ret = policy_read_bool(object, "websocket", &r->may_websocket, e);
	if (ret == 0)
		ret = read_grant(r, object, e);
	if (ret < 0 || !json_object_get(object, "origin_file"))
		return ret;
	ret = policy_read_string(object, "origin_file", 4096, &text, e);
	if (ret == 0)
		ret = policy_read_unsigned(object, "origin_line", 1u << 24, &r->origin_line, e);
	if (ret == 0)
		r->origin_file = str_dup(text);
	return ret;
}

static int read_route(struct policy_route *r, const json_t *object, struct err *e)
{
	static const char *const keys[] = {"host",	  "ports",    "methods",   "paths",
					   "auth",	  "on_match", "websocket", "origin_file",
					   "origin_line", "grant",    "once",	   NULL};
	int ret = policy_read_keys(object, "a route", keys, e);

	if (ret == 0)
		ret = read_host(&r->host, object, true, e);
	if (ret == 0)
		ret = read_ports(r, object, e);
	if (ret == 0)
		ret = read_methods(r, object, e);
	if (ret == 0)
		ret = read_paths(r, object, e);
	return ret < 0 ? ret : read_route_rest(r, object, e);
}

static int read_resolve(struct policy_resolve *v, const json_t *object, struct err *e)
{
	static const char *const keys[] = {"host", "address", NULL};
	struct str text;
	int ret = policy_read_keys(object, "resolve", keys, e);

	if (ret == 0)
		ret = read_host(&v->host, object, false, e);
	if (ret == 0)
		ret = policy_read_string(object, "address", POLICY_ADDRESS_SIZE, &text, e);
	return ret < 0 ? ret : policy_address_parse(text, &v->address, e);
}

static int read_dns(struct policy *p, const json_t *root, struct err *e)
{
	const json_t *list;
	int ret;

	if (!json_object_get(root, "dns"))
		return 0;
	ret = policy_read_list(root, "dns", POLICY_DNS_MAX, &list, e);
	if (ret < 0)
		return ret;
	p->dns = mem_zalloc_array(json_array_size(list), sizeof(*p->dns));
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *item = json_array_get(list, i);
		struct str text = str_slice(json_string_value(item), json_string_length(item));

		if (!json_is_string(item))
			return err_set(e, -EINVAL, "policy: \"dns\" must be a list of addresses");
		ret = policy_address_parse(text, &p->dns[p->n_dns], e);
		if (ret < 0)
			return ret;
		p->n_dns++;
	}
	return 0;
}

static int read_lists(struct policy *p, const json_t *root, struct err *e)
{
	const json_t *list;
	int ret = policy_read_list(root, "routes", POLICY_ROUTES_MAX, &list, e);

	if (ret < 0)
		return ret;
	p->routes = mem_zalloc_array(json_array_size(list), sizeof(*p->routes));
	for (size_t i = 0; i < json_array_size(list); i++) {
		p->n_routes++;
		ret = read_route(&p->routes[i], json_array_get(list, i), e);
		if (ret < 0)
			return ret;
		if (i > 0 && p->routes[i - 1].grant > 0 && p->routes[i].grant == 0)
			return err_set(e, -EINVAL, "policy: a route stands behind a grant");
	}
	ret = policy_read_list(root, "resolve", POLICY_RESOLVE_MAX, &list, e);
	if (ret < 0)
		return ret;
	p->resolve = mem_zalloc_array(json_array_size(list), sizeof(*p->resolve));
	for (size_t i = 0; i < json_array_size(list); i++) {
		p->n_resolve++;
		ret = read_resolve(&p->resolve[i], json_array_get(list, i), e);
		if (ret < 0)
			return ret;
	}
	return read_dns(p, root, e);
}

static int read_policy(struct policy *p, const json_t *root, struct err *e)
{
	static const char *const keys[] = {"version", "routes", "resolve", "dns", "ca_pem", NULL};
	unsigned version;
	struct str text;
	int ret = policy_read_keys(root, "the policy", keys, e);

	if (ret == 0)
		ret = policy_read_unsigned(root, "version", 1u << 16, &version, e);
	if (ret < 0)
		return ret;
	if (version != JSON_VERSION)
		return err_set(e, -EINVAL, "policy: version %u, expected %d", version,
			       JSON_VERSION);
	ret = read_lists(p, root, e);
	if (ret < 0 || !json_object_get(root, "ca_pem"))
		return ret;
	ret = policy_read_string(root, "ca_pem", POLICY_CA_MAX_BYTES, &text, e);
	if (ret == 0)
		p->ca_pem = str_dup(text);
	return ret;
}

int policy_from_json(struct policy *out, struct str json, struct err *e)
{
	_cleanup_json_ json_t *root = NULL;
	int ret;

	*out = (struct policy){0};
	ret = policy_read_root(json, POLICY_JSON_MAX_BYTES, JSON_DEPTH_MAX, &root, e);
	if (ret == 0)
		ret = read_policy(out, root, e);
	if (ret < 0)
		policy_free(out);
	else
		policy_index_make(out);
	return ret;
}

/* Their JSON holds all that there is of them, so that nothing is forgotten here. */
static int put_without_grants(const struct policy *p, struct buf *out)
{
	struct policy rest = *p;

	rest.n_routes = 0;
	while (rest.n_routes < p->n_routes && p->routes[rest.n_routes].grant == 0)
		rest.n_routes++;
	for (size_t i = rest.n_routes; i < p->n_routes; i++)
		if (p->routes[i].grant == 0)
			return -EINVAL;
	return policy_to_json(&rest, out, NULL);
}

bool policy_differs_only_in_grants(const struct policy *a, const struct policy *b)
{
	struct buf of_a, of_b;
	bool is_same;

	buf_init(&of_a, POLICY_JSON_MAX_BYTES);
	buf_init(&of_b, POLICY_JSON_MAX_BYTES);
	is_same = put_without_grants(a, &of_a) == 0 && put_without_grants(b, &of_b) == 0 &&
		  str_eq(buf_str(&of_a), buf_str(&of_b));
	buf_free(&of_a);
	buf_free(&of_b);
	return is_same;
}
