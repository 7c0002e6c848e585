/* A manifest's text, through the tree and through both tables of keys. Whatever it says: a tree
 * within its caps, or an error with a place; and what was accepted can be sent to the bundle. */
#include "fuzz.h"

#include "conf/manifest.h"

#include <stdlib.h>

static size_t count_nodes(const struct yaml_node *n, unsigned depth)
{
	size_t sum = 1;

	if (depth > YAML_DEPTH_MAX || !n->line || !n->column)
		abort();
	if (n->kind == YAML_KIND_SCALAR && (n->n_children || n->text.p[n->text.n] != '\0'))
		abort();
	for (size_t i = 0; i < n->n_children; i++)
		sum += count_nodes(n->children[i], depth + 1);
	return sum;
}

/* Routes that the manifest accepts are routes that the bundle accepts. */
static void check_routes(struct manifest_bottle *b)
{
	static char placeholder[] = "cbph-abcdefghijklmnopqrstuvwxyz234567";
	struct policy p = {0}, again;
	struct err e = ERR_INIT;
	struct buf out;

	buf_init(&out, POLICY_JSON_MAX_BYTES);
	p.routes = calloc(b->n_routes + 1, sizeof(*p.routes));
	if (!p.routes)
		abort();
	for (; p.n_routes < b->n_routes; p.n_routes++) {
		p.routes[p.n_routes] = b->routes[p.n_routes].route;
		if (p.routes[p.n_routes].auth.scheme != POLICY_AUTH_NONE)
			p.routes[p.n_routes].auth.placeholder = placeholder;
	}
	p.resolve = b->resolve;
	p.n_resolve = b->n_resolve;
	if (policy_to_json(&p, &out, &e) < 0 || policy_from_json(&again, buf_str(&out), &e) < 0)
		abort();
	if (again.n_routes != p.n_routes || again.n_resolve != p.n_resolve)
		abort();
	policy_free(&again);
	buf_free(&out);
	free(p.routes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct manifest_bottle bottle = {0};
	struct manifest_agent agent = {0};
	struct err e = ERR_INIT;
	/* No home: what names files of the host finds none. */
	struct schema_ctx c = {.file = "f.md", .home = "/nonexistent", .e = &e};
	struct yaml_doc d;

	if (yaml_doc_parse(&d, "f.md", str_slice(data, n), &e) < 0) {
		if (!e.line || d.root)
			abort();
		return 0;
	}
	if (d.root && count_nodes(d.root, 1) > YAML_NODES_MAX)
		abort();
	if (manifest_read_bottle(&c, d.root, &bottle) == 0)
		check_routes(&bottle);
	else if (!e.line)
		abort();
	e = ERR_INIT;
	if (manifest_read_agent(&c, d.root, &agent) < 0 && !e.line)
		abort();
	manifest_bottle_free(&bottle);
	manifest_agent_free(&agent);
	yaml_doc_free(&d);
	return 0;
}
