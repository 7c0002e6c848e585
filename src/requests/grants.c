#include "requests/grants.h"

#include "base/clean.h"
#include "base/mem.h"

#include <errno.h>

static bool is_route(const struct grant *g)
{
	return g->state == GRANT_ACTIVE && g->change.kind == ASK_EGRESS;
}

/* Through the form in which a policy travels: the copy is checked as the bundle will check it, and
 * what it would refuse is found out here. */
static int copy_policy(struct policy *out, const struct policy *p, struct err *e)
{
	_cleanup_(buf_free) struct buf json = BUF_INIT(POLICY_JSON_MAX_BYTES);
	int ret = policy_to_json(p, &json, e);

	return ret < 0 ? ret : policy_from_json(out, buf_str(&json), e);
}

static struct policy_route route_of(const struct grant *g)
{
	struct policy_route r = g->change.route;

	/* Every path: said so, it would also bind the host's other routes to canonical paths. */
	if (r.n_paths == 1 && strcmp(r.paths[0], CHANGE_PATH_ALL) == 0)
		r.n_paths = 0;
	r.grant = g->id;
	r.is_once = g->scope == ASK_ONCE;
	return r;
}

int grants_policy(struct policy *out, const struct policy *base, const struct grant *grants,
		  size_t n, struct err *e)
{
	_cleanup_free_ struct policy_route *routes =
		mem_zalloc_array(base->n_routes + n, sizeof(*routes));
	struct policy all = *base;
	int ret;

	*out = (struct policy){0};
	if (base->n_routes > 0)
		memcpy(routes, base->routes, base->n_routes * sizeof(*routes));
	/* Borrowed, all of it, until it is copied. */
	all.routes = routes;
	all.index = NULL;
	for (size_t i = 0; i < n; i++)
		if (is_route(&grants[i]))
			routes[all.n_routes++] = route_of(&grants[i]);
	if (all.n_routes > POLICY_ROUTES_MAX)
		return err_set(e, -ENOSPC,
			       "%zu routes and grants; at most %d can be in force: revoke some",
			       all.n_routes, POLICY_ROUTES_MAX);
	ret = copy_policy(out, &all, e);
	for (size_t i = base->n_routes; ret == 0 && i < all.n_routes; i++) {
		out->routes[i].grant = routes[i].grant;
		out->routes[i].is_once = routes[i].is_once;
	}
	return ret;
}
