/* egress.routes: one item, and how it stands beside the ones before it. */
#include "conf/manifest.h"

#include "base/clean.h"
#include "base/mem.h"
#include "base/text.h"

#include <errno.h>

/* What people expect of an allowed host: all that RFC 9110 defines but CONNECT and TRACE. */
#define METHODS_DEFAULT ((1u << POLICY_METHOD_COUNT) - 1)
#define PORT_DEFAULT	443
#define PORT_PLAIN_HTTP 80

void manifest_route_free(struct manifest_route *r)
{
	struct policy p = {.routes = mem_zalloc(sizeof(r->route)), .n_routes = 1};

	p.routes[0] = r->route;
	policy_free(&p);
	plan_secret_free(&r->secret);
	free(r->env);
	*r = (struct manifest_route){0};
}

static int read_host(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	struct manifest_route *r = out;
	char canonical[POLICY_HOST_MAX + 1];
	struct str text;
	bool is_wildcard;
	int ret = schema_text(c, n, "host", &text);

	if (ret < 0)
		return ret;
	ret = schema_place(c, n, policy_host_pattern_check(text, c->e));
	if (ret < 0)
		return ret;
	is_wildcard = str_starts(text, STR_LIT("*."));
	if (policy_host_canonical(is_wildcard ? str_sub(text, 2, text.n) : text, canonical) !=
	    POLICY_OK)
		return schema_refuse(c, n, "host is not a host name");
	r->route.host = mem_printf("%s%s", is_wildcard ? "*." : "", canonical);
	return 0;
}

static int read_port(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	struct manifest_route *r = out;
	uint64_t port;
	int ret = schema_number(c, n, "a port", 1, 65535, &port);

	if (ret < 0)
		return ret;
	for (size_t i = 0; i < r->route.n_ports; i++)
		if (r->route.ports[i] == port)
			return schema_refuse(c, n, "port %u stands twice", (unsigned)port);
	r->route.ports[r->route.n_ports++] = (uint16_t)port;
	return 0;
}

static int read_method(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	struct manifest_route *r = out;
	const char *names[POLICY_METHOD_COUNT];
	size_t m;
	int ret;

	for (unsigned i = 0; i < POLICY_METHOD_COUNT; i++)
		names[i] = policy_method_name((enum policy_method)i);
	if (n->kind == YAML_KIND_SCALAR &&
	    (str_ieq(n->text, STR_LIT("CONNECT")) || str_ieq(n->text, STR_LIT("TRACE"))))
		return schema_refuse(c, n, "method " STR_FMT " can never be allowed",
				     STR_ARG(n->text));
	for (unsigned i = 0; i < POLICY_METHOD_COUNT; i++)
		if (n->kind == YAML_KIND_SCALAR && str_ieq(n->text, str_of(names[i])) &&
		    !str_eq(n->text, str_of(names[i])))
			return schema_refuse(
				c, n, "methods are in upper case; did you mean \"%s\"?", names[i]);
	ret = schema_choice(c, n, "a method", names, POLICY_METHOD_COUNT, &m);
	if (ret == 0)
		r->route.methods |= 1u << m;
	return ret;
}

static int read_path(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	struct manifest_route *r = out;
	struct str text;
	int ret = schema_text(c, n, "a path", &text);

	if (ret == 0)
		ret = schema_place(c, n, policy_path_pattern_check(text, c->e));
	if (ret < 0)
		return ret;
	if (!r->route.paths)
		r->route.paths = mem_zalloc_array(POLICY_PATHS_MAX, sizeof(*r->route.paths));
	r->route.paths[r->route.n_paths++] = str_dup(text);
	return 0;
}

static int refuse_empty(struct schema_ctx *c, const struct yaml_node *n, const char *what,
			const char *otherwise)
{
	return schema_refuse(c, n,
			     "\"%s\" is empty, which would allow nothing; leave the key away %s",
			     what, otherwise);
}

static int read_ports(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	if (n->kind == YAML_KIND_SEQUENCE && n->n_children == 0)
		return refuse_empty(c, n, "ports", "for port 443");
	return schema_list(c, n, "ports", POLICY_PORTS_MAX, read_port, out);
}

static int read_methods(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	if (n->kind == YAML_KIND_SEQUENCE && n->n_children == 0)
		return refuse_empty(c, n, "methods", "for all of them");
	return schema_list(c, n, "methods", POLICY_METHOD_COUNT, read_method, out);
}

static int read_paths(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	if (n->kind == YAML_KIND_SEQUENCE && n->n_children == 0)
		return refuse_empty(c, n, "paths", "for every path");
	return schema_list(c, n, "paths", POLICY_PATHS_MAX, read_path, out);
}

/* --- auth --- */

static int read_scheme(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	static const char *const names[] = {"bearer", "basic", "header"};
	struct manifest_route *r = out;
	size_t i;
	int ret = schema_choice(c, n, "scheme", names, ARRAY_LEN(names), &i);

	if (ret == 0)
		r->route.auth.scheme = (enum policy_auth_scheme)(POLICY_AUTH_BEARER + i);
	return ret;
}

static int read_header(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	struct manifest_route *r = out;
	struct str text;
	int ret = schema_text(c, n, "header", &text);

	if (ret < 0)
		return ret;
	r->route.auth.header = str_dup(text);
	str_lower_into(r->route.auth.header, text);
	return schema_place(c, n, policy_header_check(str_of(r->route.auth.header), c->e));
}

static int read_user(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	struct manifest_route *r = out;
	struct str text;
	int ret = schema_text(c, n, "user", &text);

	if (ret == 0)
		ret = schema_place(c, n, policy_user_check(text, c->e));
	if (ret == 0)
		r->route.auth.user = str_dup(text);
	return ret;
}

static int read_auth_env(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	struct manifest_route *r = out;
	struct str text;
	int ret = schema_text(c, n, "env", &text);

	if (ret < 0)
		return ret;
	if (!schema_is_variable(text))
		return schema_refuse(c, n, "env must be the name of an environment variable");
	r->env = str_dup(text);
	return 0;
}

static int read_token_ref(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	struct manifest_route *r = out;

	return manifest_read_reference(c, n, "token_ref", &r->secret);
}

static int check_auth(struct schema_ctx *c, const struct yaml_node *n, struct manifest_route *r)
{
	struct policy_auth *a = &r->route.auth;

	if (a->scheme == POLICY_AUTH_NONE)
		return schema_refuse(c, n, "auth needs \"scheme\": bearer, basic or header");
	if (!r->secret.env && !r->secret.file && !r->secret.command)
		return schema_refuse(c, n,
				     "auth needs \"token_ref\": env:NAME, file:PATH or "
				     "command:LINE");
	if (a->scheme == POLICY_AUTH_HEADER && !a->header)
		return schema_refuse(c, n, "scheme header needs \"header\", like \"x-api-key\"");
	if (a->scheme != POLICY_AUTH_HEADER && a->header)
		return schema_refuse(c, n,
				     "\"header\" belongs to scheme header; scheme %s uses "
				     "\"authorization\"",
				     policy_scheme_name(a->scheme));
	if (a->scheme == POLICY_AUTH_BASIC && !a->user)
		return schema_refuse(c, n, "scheme basic needs \"user\"");
	if (a->scheme != POLICY_AUTH_BASIC && a->user)
		return schema_refuse(c, n, "\"user\" belongs to scheme basic");
	if (!a->header)
		a->header = mem_strdup("authorization");
	return 0;
}

static int read_auth(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	static const struct schema_field fields[] = {
		{"scheme", read_scheme}, {"header", read_header},	{"user", read_user},
		{"env", read_auth_env},	 {"token_ref", read_token_ref},
	};
	struct manifest_route *r = out;
	int ret = schema_mapping(c, n, "auth", fields, ARRAY_LEN(fields), out);

	r->line = n->line;
	r->column = n->column;
	return ret < 0 ? ret : check_auth(c, n, r);
}

static int read_on_match(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	static const char *const names[] = {"block", "redact", "supervise"};
	struct manifest_route *r = out;
	size_t i;
	int ret = schema_choice(c, n, "on_match", names, ARRAY_LEN(names), &i);

	r->route.on_match = (enum policy_on_match)i;
	return ret;
}

static int read_dlp(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	static const struct schema_field fields[] = {{"on_match", read_on_match}};

	return schema_mapping(c, n, "dlp", fields, ARRAY_LEN(fields), out);
}

/* --- beside the others --- */

static bool same_ports(const struct policy_route *a, const struct policy_route *b, bool any)
{
	size_t shared = 0;

	for (size_t i = 0; i < a->n_ports; i++)
		for (size_t k = 0; k < b->n_ports; k++)
			shared += a->ports[i] == b->ports[k];
	return any ? shared > 0 : shared == a->n_ports && shared == b->n_ports;
}

static bool same_paths(const struct policy_route *a, const struct policy_route *b)
{
	if (a->n_paths != b->n_paths)
		return false;
	for (size_t i = 0; i < a->n_paths; i++) {
		size_t k = 0;

		while (k < b->n_paths && strcmp(a->paths[i], b->paths[k]) != 0)
			k++;
		if (k == b->n_paths)
			return false;
	}
	return true;
}

static bool same_destination(const struct policy_route *a, const struct policy_route *b)
{
	return strcmp(a->host, b->host) == 0 && a->methods == b->methods &&
	       same_ports(a, b, false) && same_paths(a, b);
}

/* Could one segment match both? Their fixed beginnings and ends must agree; a middle that cannot
 * match both is taken for an overlap, which at worst refuses a manifest. */
static bool segments_overlap(struct str a, struct str b)
{
	size_t sa = str_chr(a, '*'), sb = str_chr(b, '*');
	size_t head = sa < sb ? sa : sb, ta = 0, tb = 0, tail;

	if (sa == a.n && sb == b.n)
		return str_eq(a, b);
	while (ta < a.n && a.p[a.n - 1 - ta] != '*')
		ta++;
	while (tb < b.n && b.p[b.n - 1 - tb] != '*')
		tb++;
	tail = ta < tb ? ta : tb;
	return str_eq(str_sub(a, 0, head), str_sub(b, 0, head)) &&
	       str_eq(str_sub(a, a.n - tail, a.n), str_sub(b, b.n - tail, b.n));
}

static bool patterns_overlap(struct str a, struct str b)
{
	bool more_a = true, more_b = true;

	while (more_a && more_b) {
		struct str sa, sb;

		a = str_cut(a, '/', &sa, &more_a);
		b = str_cut(b, '/', &sb, &more_b);
		if (str_eq(sa, STR_LIT("**")) || str_eq(sb, STR_LIT("**")))
			return true;
		if (!segments_overlap(sa, sb))
			return false;
	}
	return more_a == more_b;
}

static bool paths_overlap(const struct policy_route *a, const struct policy_route *b)
{
	if (a->n_paths == 0 || b->n_paths == 0)
		return true;
	for (size_t i = 0; i < a->n_paths; i++)
		for (size_t k = 0; k < b->n_paths; k++)
			if (patterns_overlap(str_of(a->paths[i]), str_of(b->paths[k])))
				return true;
	return false;
}

static bool same_text(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

static bool same_auth(const struct manifest_route *a, const struct manifest_route *b)
{
	return a->route.auth.scheme == b->route.auth.scheme &&
	       same_text(a->route.auth.header, b->route.auth.header) &&
	       same_text(a->route.auth.user, b->route.auth.user) && same_text(a->env, b->env) &&
	       same_text(a->secret.env, b->secret.env) &&
	       same_text(a->secret.file, b->secret.file) &&
	       same_text(a->secret.command, b->secret.command);
}

/* Two credentials for what could be one request: which one goes out must not depend on luck. */
static bool has_conflict(const struct manifest_route *a, const struct manifest_route *b)
{
	return a->route.auth.scheme != POLICY_AUTH_NONE &&
	       b->route.auth.scheme != POLICY_AUTH_NONE &&
	       strcmp(a->route.host, b->route.host) == 0 && (a->route.methods & b->route.methods) &&
	       same_ports(&a->route, &b->route, true) && paths_overlap(&a->route, &b->route) &&
	       !same_auth(a, b);
}

/* Appends, or, where a bottle repeats a route of one that it extends, replaces. */
static int add_route(struct schema_ctx *c, const struct yaml_node *n, struct manifest_bottle *b,
		     struct manifest_route *r)
{
	size_t at = b->n_routes;

	for (size_t i = 0; i < b->n_routes; i++) {
		const struct policy_route *other = &b->routes[i].route;

		if (same_destination(other, &r->route)) {
			if (strcmp(other->origin_file, c->file) == 0)
				return schema_refuse(c, n, "the same route as in line %u",
						     other->origin_line);
			at = i;
		} else if (has_conflict(&b->routes[i], r)) {
			return schema_refuse(
				c, n,
				"another credential than the route of %s:%u for requests "
				"that both allow; make their paths or methods distinct",
				other->origin_file, other->origin_line);
		}
	}
	if (at == b->n_routes && b->n_routes == POLICY_ROUTES_MAX)
		return schema_refuse(c, n, "more than %d routes", POLICY_ROUTES_MAX);
	b->routes = mem_grow_array(b->routes, &b->cap_routes, at + 1, sizeof(*b->routes));
	if (at < b->n_routes)
		manifest_route_free(&b->routes[at]);
	else
		b->n_routes++;
	b->routes[at] = *r;
	*r = (struct manifest_route){0};
	return 0;
}

static int check_route(struct schema_ctx *c, const struct yaml_node *n, struct manifest_route *r)
{
	if (!r->route.host)
		return schema_refuse(c, n, "a route needs \"host\"");
	if (r->route.n_ports == 0)
		r->route.ports[r->route.n_ports++] = PORT_DEFAULT;
	if (r->route.methods == 0)
		r->route.methods = METHODS_DEFAULT;
	if (r->route.auth.scheme == POLICY_AUTH_NONE)
		return 0;
	if (r->route.host[0] == '*')
		return schema_refuse(c, yaml_get(n, "auth"),
				     "a credential needs one exact host: whoever has a name under "
				     "\"%s\" would receive it",
				     r->route.host + 2);
	for (size_t i = 0; i < r->route.n_ports; i++)
		if (r->route.ports[i] == PORT_PLAIN_HTTP)
			return schema_refuse(c, yaml_get(n, "auth"),
					     "a credential is never sent to port 80, in clear");
	return 0;
}

static void route_free_p(struct manifest_route *r)
{
	manifest_route_free(r);
}

int manifest_read_route(struct schema_ctx *c, const struct yaml_node *n, void *bottle)
{
	static const struct schema_field fields[] = {
		{"host", read_host},
		{"ports", read_ports},
		{"methods", read_methods},
		{"paths", read_paths},
		{"auth", read_auth},
		{"dlp", read_dlp},
		{"websocket", schema_unsupported_unless_false},
	};
	_cleanup_(route_free_p) struct manifest_route r = {.line = n->line, .column = n->column};
	int ret = schema_mapping(c, n, "a route", fields, ARRAY_LEN(fields), &r);

	if (ret == 0)
		ret = check_route(c, n, &r);
	if (ret < 0)
		return ret;
	r.route.origin_file = mem_strdup(c->file);
	r.route.origin_line = n->line;
	return add_route(c, n, bottle, &r);
}
