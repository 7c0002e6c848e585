#include "supervise/look.h"

#include "base/clean.h"
#include "base/json.h"

static json_t *look_route(const struct policy_route *r)
{
	json_t *ports = json_array(), *methods = json_array(), *paths = json_array();
	json_t *j;

	for (size_t i = 0; i < r->n_ports; i++)
		(void)json_array_append_new(ports, json_integer(r->ports[i]));
	for (int m = 0; m < POLICY_METHOD_COUNT; m++) {
		if (r->methods & 1u << m)
			(void)json_array_append_new(
				methods, json_string(policy_method_name((enum policy_method)m)));
	}
	for (size_t i = 0; i < r->n_paths; i++)
		(void)json_array_append_new(paths, json_string(r->paths[i]));
	if (r->n_paths == 0)
		(void)json_array_append_new(paths, json_string("/**"));
	j = json_pack("{s:s, s:o, s:o, s:o, s:b}", "host", r->host, "ports", ports, "methods",
		      methods, "paths", paths, "credential_is_added",
		      r->auth.scheme != POLICY_AUTH_NONE);
	if (r->may_websocket)
		(void)json_object_set_new(j, "websocket", json_true());
	if (r->grant > 0 && r->grant <= INT64_MAX) {
		(void)json_object_set_new(j, "granted_by", json_integer((json_int_t)r->grant));
		(void)json_object_set_new(j, "once", json_boolean(r->is_once));
	}
	return j;
}

/* Grants first: there are few, and they are what an agent looks for. */
static size_t look_routes(const struct policy *p, bool are_grants, size_t *used, json_t *out)
{
	size_t left_out = 0;

	for (size_t i = 0; i < p->n_routes; i++) {
		_cleanup_json_ json_t *route = NULL;
		size_t n;

		if ((p->routes[i].grant > 0) != are_grants)
			continue;
		route = look_route(&p->routes[i]);
		n = json_dumpb(route, NULL, 0, JSON_COMPACT | JSON_ENSURE_ASCII);
		if (*used + n > LOOK_POLICY_MAX) {
			left_out++;
			continue;
		}
		*used += n;
		(void)json_array_append(out, route);
	}
	return left_out;
}

json_t *look_policy(const struct policy *p, bool is_paused)
{
	json_t *routes = json_array();
	size_t left_out = 0, used = 0;
	json_t *j;

	if (p) {
		left_out = look_routes(p, true, &used, routes);
		left_out += look_routes(p, false, &used, routes);
	}
	j = json_pack("{s:b, s:o}", "paused", is_paused, "routes", routes);
	if (left_out > 0)
		(void)json_object_set_new(j, "left_out", json_integer((json_int_t)left_out));
	return j;
}
