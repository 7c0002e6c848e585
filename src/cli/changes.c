#include "cli/changes.h"

#include "base/text.h"
#include "cli/preflight.h"

#include <stdio.h>

#define PATHS_SHOWN  2
#define ITEM_BYTES   120
#define REMOTE_BYTES (64u << 10)

/* A route with where its credential comes from. */
struct entry {
	const struct policy_route *route;
	const char *token_ref; /* NULL: none */
};

static bool same_text(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

static bool has_port(const struct policy_route *r, uint16_t port)
{
	for (size_t i = 0; i < r->n_ports; i++)
		if (r->ports[i] == port)
			return true;
	return false;
}

static bool has_text(char *const *list, size_t n, const char *text)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(list[i], text) == 0)
			return true;
	return false;
}

static bool has_all(char *const *list, size_t n, char *const *wanted, size_t n_wanted)
{
	for (size_t i = 0; i < n_wanted; i++)
		if (!has_text(list, n, wanted[i]))
			return false;
	return true;
}

/* All of it but the placeholder, which is another one in each run, and the place in the manifest.
 * No paths means every path, so that a list is never equal to none. */
static bool same_route(const struct entry *x, const struct entry *y)
{
	const struct policy_route *a = x->route, *b = y->route;

	if (strcmp(a->host, b->host) != 0 || a->methods != b->methods ||
	    a->on_match != b->on_match || a->may_websocket != b->may_websocket ||
	    a->n_ports != b->n_ports || !a->n_paths != !b->n_paths)
		return false;
	for (size_t i = 0; i < a->n_ports; i++)
		if (!has_port(b, a->ports[i]))
			return false;
	return has_all(a->paths, a->n_paths, b->paths, b->n_paths) &&
	       has_all(b->paths, b->n_paths, a->paths, a->n_paths) &&
	       a->auth.scheme == b->auth.scheme && same_text(a->auth.header, b->auth.header) &&
	       same_text(a->auth.user, b->auth.user) && same_text(x->token_ref, y->token_ref);
}

static struct entry entry_of(const struct policy *p, size_t i, char *const *token_refs, size_t n)
{
	const struct policy_route *r = &p->routes[i];
	bool has_ref = r->auth.scheme != POLICY_AUTH_NONE && r->auth.credential < n;

	return (struct entry){r, has_ref ? token_refs[r->auth.credential] : NULL};
}

/* --- the line --- */

struct line {
	struct buf *out;
	size_t n; /* items, those that are not shown included */
	int ret;
};

/* Cut where it is long: what a list of paths comes to can be read in the plan. */
static void add_item(struct line *l, const char *sign, struct str text)
{
	if (l->n++ >= CHANGES_SHOWN || l->ret < 0)
		return;
	l->ret = buf_printf(l->out, "%s%s", l->n > 1 ? "; " : "", sign);
	if (l->ret == 0)
		l->ret = text_visible(l->out, text, ITEM_BYTES);
}

static void add_route(struct line *l, const char *sign, const struct entry *x)
{
	const struct policy_route *r = x->route;
	_cleanup_(buf_free) struct buf b;
	int ret;

	buf_init(&b, 256u << 10);
	ret = buf_append_str(&b, str_of(r->host));
	for (size_t i = 0; ret == 0 && i < r->n_ports; i++)
		if (r->n_ports > 1 || r->ports[i] != 443)
			ret = buf_printf(&b, "%c%u", i ? ',' : ':', r->ports[i]);
	if (ret == 0)
		ret = buf_append(&b, " ", 1);
	if (ret == 0)
		ret = preflight_methods(r, &b);
	for (size_t i = 0; ret == 0 && i < r->n_paths && i < PATHS_SHOWN; i++)
		ret = buf_printf(&b, " %s", r->paths[i]);
	if (ret == 0 && r->n_paths > PATHS_SHOWN)
		ret = buf_printf(&b, " and %zu more", r->n_paths - PATHS_SHOWN);
	if (ret == 0 && r->auth.scheme != POLICY_AUTH_NONE)
		ret = buf_printf(&b, " with %s", x->token_ref ? x->token_ref : "a credential");
	if (ret == 0 && r->on_match != POLICY_MATCH_BLOCK)
		ret = buf_printf(&b, " (%s)", policy_on_match_name(r->on_match));
	if (ret == 0)
		add_item(l, sign, buf_str(&b));
	else
		l->ret = ret;
}

struct side {
	const struct policy *policy;
	const struct git_policy *git;
	char *const *token_refs;
	size_t n_token_refs;
};

/* Of the manifest's, which alone are compared, those of a that b has not. What was granted stands
 * in the store, and outlives what the manifest says. */
static void add_routes(struct line *l, const char *sign, const struct side *a, const struct side *b)
{
	for (size_t i = 0; i < a->policy->n_routes; i++) {
		struct entry x = entry_of(a->policy, i, a->token_refs, a->n_token_refs);
		bool is_there = x.route->grant > 0;

		for (size_t k = 0; k < b->policy->n_routes && !is_there; k++) {
			struct entry y = entry_of(b->policy, k, b->token_refs, b->n_token_refs);

			is_there = y.route->grant == 0 && same_route(&x, &y);
		}
		if (!is_there)
			add_route(l, sign, &x);
	}
}

static void add_folders(struct line *l, const char *sign, char *const *a, size_t n_a,
			char *const *b, size_t n_b)
{
	for (size_t i = 0; i < n_a; i++) {
		char text[ITEM_BYTES + 16];

		if (has_text(b, n_b, a[i]))
			continue;
		(void)snprintf(text, sizeof(text), "reads %s", a[i]);
		add_item(l, sign, str_of(text));
	}
}

/* --- git --- */

static const char *remote_ref(const struct side *s, const struct git_remote *r)
{
	return r->has_credential && r->credential < s->n_token_refs ? s->token_refs[r->credential]
								    : NULL;
}

static bool same_list(char *const *a, size_t n_a, char *const *b, size_t n_b)
{
	return has_all(a, n_a, b, n_b) && has_all(b, n_b, a, n_a);
}

static bool has_all_findings(const struct git_remote *a, const struct git_remote *b)
{
	for (size_t i = 0; i < b->n_allow; i++) {
		bool is_there = false;

		for (size_t k = 0; k < a->n_allow && !is_there; k++)
			is_there = strcmp(a->allow[k], b->allow[i]) == 0;
		if (!is_there)
			return false;
	}
	return true;
}

/* All of it but the placeholder and the place in the manifest. */
static bool same_remote(const struct git_remote *a, const struct git_remote *b)
{
	return strcmp(a->name, b->name) == 0 && a->transport == b->transport &&
	       strcmp(a->host, b->host) == 0 && a->port == b->port &&
	       strcmp(a->path, b->path) == 0 && same_text(a->user, b->user) &&
	       same_text(a->host_key, b->host_key) && a->has_credential == b->has_credential &&
	       same_list(a->branches, a->n_branches, b->branches, b->n_branches) &&
	       same_list(a->protected_branches, a->n_protected_branches, b->protected_branches,
			 b->n_protected_branches) &&
	       same_list(a->tags, a->n_tags, b->tags, b->n_tags) &&
	       a->is_head_protected == b->is_head_protected && a->may_force == b->may_force &&
	       a->may_delete == b->may_delete && a->may_serve_stale == b->may_serve_stale &&
	       a->may_oversize == b->may_oversize && a->object_max_bytes == b->object_max_bytes &&
	       a->pack_max_bytes == b->pack_max_bytes && has_all_findings(a, b) &&
	       has_all_findings(b, a);
}

static int put_patterns(struct buf *b, const char *before, char *const *list, size_t n)
{
	int ret = n ? buf_printf(b, " %s", before) : 0;

	for (size_t i = 0; ret == 0 && i < n && i < PATHS_SHOWN; i++)
		ret = buf_printf(b, " %s", list[i]);
	if (ret == 0 && n > PATHS_SHOWN)
		ret = buf_printf(b, " and %zu more", n - PATHS_SHOWN);
	return ret;
}

/* What widens it comes first: an item is cut where it is long. */
static int put_remote(struct buf *b, const struct git_remote *r, const char *token_ref)
{
	int ret = buf_printf(b, "git %s", r->name);

	if (ret == 0 && r->transport != GIT_TRANSPORT_WORKSPACE)
		ret = buf_printf(b, " %s %s%s%s", git_transport_name(r->transport), r->host,
				 r->path[0] == '/' ? "" : ":", r->path);
	if (ret == 0 && !git_remote_may_push(r))
		ret = buf_printf(b, " fetch only");
	if (ret == 0)
		ret = put_patterns(b, "push", r->branches, r->n_branches);
	if (ret == 0)
		ret = put_patterns(b, "tags", r->tags, r->n_tags);
	if (ret == 0)
		ret = buf_printf(b, "%s%s%s%s", r->may_force ? " (force)" : "",
				 r->may_delete ? " (delete)" : "",
				 r->may_oversize ? " (oversize)" : "",
				 r->is_head_protected || r->transport == GIT_TRANSPORT_WORKSPACE
					 ? ""
					 : " (default branch)");
	if (ret == 0)
		ret = put_patterns(b, "never", r->protected_branches, r->n_protected_branches);
	if (ret == 0 && r->has_credential)
		ret = buf_printf(b, " with %s", token_ref ? token_ref : "a credential");
	return ret;
}

/* A remote that is on both sides: there twice, or, where it would read the same, what it does not
 * show. */
static int add_changed(struct line *l, const struct side *then, const struct side *next,
		       const struct git_remote *was, const struct git_remote *now)
{
	_cleanup_(buf_free) struct buf before;
	_cleanup_(buf_free) struct buf after;
	char text[ITEM_BYTES];
	int ret;

	buf_init(&before, REMOTE_BYTES);
	buf_init(&after, REMOTE_BYTES);
	if (same_remote(was, now) && same_text(remote_ref(then, was), remote_ref(next, now)))
		return 0;
	ret = put_remote(&before, was, remote_ref(then, was));
	if (ret == 0)
		ret = put_remote(&after, now, remote_ref(next, now));
	if (ret < 0)
		return ret;
	if (str_eq(buf_str(&before), buf_str(&after))) {
		(void)snprintf(text, sizeof(text),
			       "git %s differs in a port, limit, finding or key", now->name);
		add_item(l, "", str_of(text));
		return 0;
	}
	add_item(l, "+ ", buf_str(&after));
	add_item(l, "- ", buf_str(&before));
	return 0;
}

static int add_one_side(struct line *l, const char *sign, const struct side *s,
			const struct git_remote *r)
{
	_cleanup_(buf_free) struct buf b;
	int ret;

	buf_init(&b, REMOTE_BYTES);
	ret = put_remote(&b, r, remote_ref(s, r));
	if (ret == 0)
		add_item(l, sign, buf_str(&b));
	return ret;
}

static void add_remotes(struct line *l, const struct side *then, const struct side *next)
{
	for (size_t i = 0; l->ret == 0 && i < next->git->n_remotes; i++) {
		const struct git_remote *now = &next->git->remotes[i];
		const struct git_remote *was = git_remote_named(then->git, str_of(now->name));
		int ret = was ? add_changed(l, then, next, was, now)
			      : add_one_side(l, "+ ", next, now);

		if (ret < 0)
			l->ret = ret;
	}
	for (size_t i = 0; l->ret == 0 && i < then->git->n_remotes; i++) {
		const struct git_remote *was = &then->git->remotes[i];
		int ret = git_remote_named(next->git, str_of(was->name))
				  ? 0
				  : add_one_side(l, "- ", then, was);

		if (ret < 0)
			l->ret = ret;
	}
}

/* --- what else the policy holds --- */

static bool same_identity(const struct git_policy *a, const struct git_policy *b)
{
	return same_text(a->user_name, b->user_name) && same_text(a->user_email, b->user_email) &&
	       a->enforces_identity == b->enforces_identity;
}

static void add_workspace(struct line *l, enum plan_workspace was, enum plan_workspace now)
{
	char text[ITEM_BYTES];

	if (was == now)
		return;
	(void)snprintf(text, sizeof(text), "workspace: %s, was %s", plan_workspace_name(now),
		       plan_workspace_name(was));
	add_item(l, "", str_of(text));
}

static bool same_address(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
	char x[POLICY_ADDRESS_SIZE], y[POLICY_ADDRESS_SIZE];

	policy_address_format(a, x);
	policy_address_format(b, y);
	return strcmp(x, y) == 0;
}

static bool same_resolve(const struct policy *a, const struct policy *b)
{
	if (a->n_resolve != b->n_resolve)
		return false;
	for (size_t i = 0; i < a->n_resolve; i++)
		if (strcmp(a->resolve[i].host, b->resolve[i].host) != 0 ||
		    !same_address(&a->resolve[i].address, &b->resolve[i].address))
			return false;
	return true;
}

static bool same_dns(const struct policy *a, const struct policy *b)
{
	if (a->n_dns != b->n_dns)
		return false;
	for (size_t i = 0; i < a->n_dns; i++)
		if (!same_address(&a->dns[i], &b->dns[i]))
			return false;
	return true;
}

int changes_print(const struct resume_was *was, const struct plan *now, struct buf *out)
{
	char *refs[POLICY_CREDENTIALS_MAX] = {NULL};
	const struct policy *before = &was->policy, *after = &now->policy;
	struct side then = {before, &was->git, was->token_refs, was->n_token_refs};
	struct side next = {after, &now->git, refs, now->n_secrets};
	struct line l = {.out = out};

	for (size_t i = 0; i < now->n_secrets; i++)
		refs[i] = plan_secret_describe(&now->secrets[i]);
	add_routes(&l, "+ ", &next, &then);
	add_routes(&l, "- ", &then, &next);
	add_remotes(&l, &then, &next);
	add_workspace(&l, was->workspace, now->workspace);
	add_folders(&l, "+ ", now->expose, now->n_expose, was->expose, was->n_expose);
	add_folders(&l, "- ", was->expose, was->n_expose, now->expose, now->n_expose);
	if (!same_resolve(before, after))
		add_item(&l, "", STR_LIT("egress.resolve differs"));
	if (!same_dns(before, after))
		add_item(&l, "", STR_LIT("egress.dns differs"));
	if (!same_text(before->ca_pem, after->ca_pem))
		add_item(&l, "", STR_LIT("egress.ca differs"));
	if (!same_identity(&was->git, &now->git))
		add_item(&l, "", STR_LIT("git.user differs"));
	if (l.ret == 0 && l.n > CHANGES_SHOWN)
		l.ret = buf_printf(out, "; and %zu more", l.n - CHANGES_SHOWN);
	for (size_t i = 0; i < now->n_secrets; i++)
		free(refs[i]);
	return l.ret;
}
