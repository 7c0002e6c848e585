/*
 * The git policy as a value: its parts, its paths at git-gate, and what it lets egress dial. The
 * parser of upstreams is git_upstream.c, refs are git_ref.c, the JSON form is git_policy_json.c.
 */
#include "conf/git_policy.h"

#include "base/clean.h"
#include "base/mem.h"
#include "base/text.h"
#include "conf/policy_index.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>

static const char *const transport_names[] = {
	[GIT_TRANSPORT_HTTPS] = "https",
	[GIT_TRANSPORT_SSH] = "ssh",
	[GIT_TRANSPORT_WORKSPACE] = "workspace",
};
static_assert(ARRAY_LEN(transport_names) == GIT_TRANSPORT_WORKSPACE + 1, "one name for each");

const char *git_transport_name(enum git_transport t)
{
	return t < ARRAY_LEN(transport_names) ? transport_names[t] : "unknown";
}

const struct git_remote *git_remote_named(const struct git_policy *g, struct str name)
{
	for (size_t i = 0; i < g->n_remotes; i++)
		if (str_eq(name, str_of(g->remotes[i].name)))
			return &g->remotes[i];
	return NULL;
}

bool git_remote_may_push(const struct git_remote *r)
{
	return r->n_branches > 0 || r->n_tags > 0;
}

static void strings_free(char **list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(list[i]);
	free(list);
}

void git_remote_free(struct git_remote *r)
{
	strings_free(r->branches, r->n_branches);
	strings_free(r->protected_branches, r->n_protected_branches);
	strings_free(r->tags, r->n_tags);
	free(r->name);
	free(r->host);
	free(r->user);
	free(r->path);
	free(r->host_key);
	free(r->placeholder);
	free(r->allow);
	free(r->origin_file);
	*r = (struct git_remote){0};
}

void git_policy_free(struct git_policy *g)
{
	for (size_t i = 0; i < g->n_remotes; i++)
		git_remote_free(&g->remotes[i]);
	free(g->remotes);
	free(g->user_name);
	free(g->user_email);
	*g = (struct git_policy){0};
}

/* --- what its parts may look like --- */

int git_remote_name_check(struct str name, struct err *e)
{
	bool is_ok = name.n > 0 && name.n <= GIT_NAME_MAX && name.p[0] >= 'a' && name.p[0] <= 'z';

	for (size_t i = 0; is_ok && i < name.n; i++)
		is_ok = ascii_is_digit(name.p[i]) || name.p[i] == '-' ||
			(name.p[i] >= 'a' && name.p[i] <= 'z');
	return is_ok ? 0
		     : err_set(e, -EINVAL,
			       "a remote's name is a lower-case letter, then letters, digits and "
			       "\"-\", at most %d",
			       GIT_NAME_MAX);
}

int git_fingerprint_check(struct str text, struct err *e)
{
	bool is_ok = text.n == GIT_FINGERPRINT_SIZE - 1;

	for (size_t i = 0; is_ok && i < text.n; i++)
		is_ok = ascii_hex_value(text.p[i]) >= 0 && ascii_lower(text.p[i]) == text.p[i];
	return is_ok ? 0
		     : err_set(e, -EINVAL,
			       "a finding is named by its fingerprint: %d lower-case hex digits, "
			       "as "
			       "git-gate's refusal shows them",
			       GIT_FINGERPRINT_SIZE - 1);
}

/* What git cuts off at both ends of a name (ident.c, "crud"). */
static bool is_crud(char c)
{
	return (unsigned char)c <= 0x20 || strchr(".,:;<>\"\\'", c);
}

int git_identity_check(struct str text, struct err *e)
{
	if (text.n == 0 || text.n > GIT_IDENTITY_MAX)
		return err_set(e, -EINVAL, "must have 1 to %d bytes", GIT_IDENTITY_MAX);
	if (is_crud(text.p[0]) || is_crud(text.p[text.n - 1]))
		return err_set(e, -EINVAL,
			       "must not begin or end with a space or one of .,:;<>\"\\' which git "
			       "would cut off");
	for (struct str rest = text; rest.n > 0;) {
		uint32_t cp;
		size_t n = text_utf8_next(rest, &cp);

		if (n == 0 || text_is_deceptive(cp) || cp == '<' || cp == '>')
			return err_set(e, -EINVAL,
				       "must be UTF-8 without \"<\", \">\", control and invisible "
				       "characters");
		rest = str_sub(rest, n, rest.n);
	}
	return 0;
}

/* --- paths at the gate --- */

void git_gate_path(const struct git_remote *r, char out[GIT_GATE_PATH_SIZE])
{
	struct str path = str_of(r->path);

	if (r->transport == GIT_TRANSPORT_WORKSPACE) {
		(void)snprintf(out, GIT_GATE_PATH_SIZE, "/workspace");
		return;
	}
	if (str_ends(path, STR_LIT(".git")))
		path.n -= 4;
	if (str_starts(path, STR_LIT("/")))
		path = str_sub(path, 1, path.n);
	(void)snprintf(out, GIT_GATE_PATH_SIZE, "/%s/" STR_FMT, r->host, STR_ARG(path));
}

/* What is left of path behind the remote's own, with or without ".git"; false: another's. */
static bool path_rest(const struct git_remote *r, struct str path, struct str *rest)
{
	char own[GIT_GATE_PATH_SIZE];

	git_gate_path(r, own);
	if (!str_starts(path, str_of(own)))
		return false;
	*rest = str_sub(path, strlen(own), path.n);
	if (str_starts(*rest, STR_LIT(".git")))
		*rest = str_sub(*rest, 4, rest->n);
	return rest->n == 0 || rest->p[0] == '/';
}

static bool is_git_rest(struct str rest)
{
	return str_eq(rest, STR_LIT("/info/refs")) || str_eq(rest, STR_LIT("/git-upload-pack")) ||
	       str_eq(rest, STR_LIT("/git-receive-pack"));
}

/* "/h/a" and "/h/a/info" may both be remotes: "/h/a/info/refs" is the first's. Of two that leave
 * one of git's rests there can be only one, since no two have the same path. */
const struct git_remote *git_gate_find(const struct git_policy *g, struct str path,
				       struct str *rest)
{
	const struct git_remote *best = NULL;

	*rest = STR_NULL;
	for (size_t i = 0; i < g->n_remotes; i++) {
		struct str one;

		if (!path_rest(&g->remotes[i], path, &one))
			continue;
		if (is_git_rest(one)) {
			*rest = one;
			return &g->remotes[i];
		}
		if (best && one.n >= rest->n)
			continue;
		best = &g->remotes[i];
		*rest = one;
	}
	return best;
}

/* --- what egress may dial --- */

static void route_add_path(struct policy_route *r, const char *path, const char *rest)
{
	r->paths[r->n_paths++] = mem_printf("%s%s%s", path[0] == '/' ? "" : "/", path, rest);
}

static void route_fill(struct policy_route *to, const struct git_remote *r)
{
	*to = (struct policy_route){
		.host = mem_strdup(r->host),
		.ports = {r->port},
		.n_ports = 1,
		.on_match = POLICY_MATCH_BLOCK,
		.origin_file = mem_strdup(r->origin_file),
		.origin_line = r->origin_line,
	};
	/* Without a method no request meets it: only the connection itself is allowed. */
	if (r->transport == GIT_TRANSPORT_SSH)
		return;
	to->methods = 1u << POLICY_METHOD_GET | 1u << POLICY_METHOD_POST;
	to->paths = mem_zalloc_array(3, sizeof(*to->paths));
	route_add_path(to, r->path, "/info/refs");
	route_add_path(to, r->path, "/git-upload-pack");
	if (git_remote_may_push(r))
		route_add_path(to, r->path, "/git-receive-pack");
	if (!r->has_credential)
		return;
	to->auth = (struct policy_auth){
		.scheme = POLICY_AUTH_BASIC,
		.header = mem_strdup("authorization"),
		.user = mem_strdup(r->user),
		.placeholder = mem_strdup(r->placeholder),
		.credential = r->credential,
	};
}

int git_policy_routes(const struct git_policy *g, const struct policy *base, struct policy *out,
		      struct err *e)
{
	*out = (struct policy){0};
	if (g->n_remotes > GIT_REMOTES_MAX)
		return err_set(e, -EINVAL, "more than %d remotes", GIT_REMOTES_MAX);
	out->routes = mem_zalloc_array(g->n_remotes, sizeof(*out->routes));
	for (size_t i = 0; i < g->n_remotes; i++)
		if (g->remotes[i].transport != GIT_TRANSPORT_WORKSPACE)
			route_fill(&out->routes[out->n_routes++], &g->remotes[i]);
	out->resolve = mem_zalloc_array(base->n_resolve, sizeof(*out->resolve));
	for (; out->n_resolve < base->n_resolve; out->n_resolve++) {
		const struct policy_resolve *v = &base->resolve[out->n_resolve];

		out->resolve[out->n_resolve] = (struct policy_resolve){
			.host = mem_strdup(v->host),
			.address = v->address,
		};
	}
	out->dns = mem_zalloc_array(base->n_dns, sizeof(*out->dns));
	out->n_dns = base->n_dns;
	for (size_t i = 0; i < base->n_dns; i++)
		out->dns[i] = base->dns[i];
	out->ca_pem = mem_strdup(base->ca_pem);
	policy_index_make(out);
	return 0;
}
