/*
 * From manifests to a plan. Everything random about a bottle is made here (slug, placeholders,
 * canary), so that the plan that was shown is the plan that is carried out.
 */
#include "conf/plan_build.h"

#include "base/clean.h"
#include "base/mem.h"
#include "base/text.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/random.h>

#define AGENT_UID	   1000
#define SLUG_RANDOM	   6
#define PLACEHOLDER_PREFIX "cbph-"
#define PLACEHOLDER_RANDOM 32
/* Shaped like what a thief looks for; it is worth nothing, and nobody else has one. */
#define CANARY_PREFIX "dpl_"
#define CANARY_RANDOM 40

static const char base32[] = "abcdefghijklmnopqrstuvwxyz234567";
static const char base62[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

static const char *const backend_names[] = {
	[PLAN_BACKEND_UNSET] = "unset",	  [PLAN_BACKEND_NATIVE] = "native",
	[PLAN_BACKEND_DOCKER] = "docker", [PLAN_BACKEND_SMOLMACHINES] = "smolmachines",
	[PLAN_BACKEND_QEMU] = "qemu",
};
static_assert(ARRAY_LEN(backend_names) == PLAN_BACKEND_COUNT, "one name for each backend");

const char *plan_backend_name(enum plan_backend b)
{
	return b < PLAN_BACKEND_COUNT ? backend_names[b] : "unknown";
}

int plan_backend_parse(struct str name, enum plan_backend *out, struct err *e)
{
	const char *near;
	char shown[64];

	for (size_t i = PLAN_BACKEND_UNSET + 1; i < PLAN_BACKEND_COUNT; i++) {
		if (!str_eq(name, str_of(backend_names[i])))
			continue;
		*out = (enum plan_backend)i;
		return 0;
	}
	*out = PLAN_BACKEND_UNSET;
	near = text_nearest(name, backend_names + 1, PLAN_BACKEND_COUNT - 1);
	text_visible_cstr(shown, sizeof(shown), name);
	if (near)
		return err_set(e, -EINVAL, "unknown backend \"%s\"; did you mean \"%s\"?", shown,
			       near);
	return err_set(e, -EINVAL,
		       "unknown backend \"%s\"; known are native, docker, smolmachines, qemu",
		       shown);
}

int plan_random_text(char *out, size_t n, const char *alphabet, struct err *e)
{
	size_t size = strlen(alphabet), at = 0;
	unsigned char bytes[64];

	while (at < n) {
		if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
			return err_errno(e, "no random bytes");
		/* Bytes past the last multiple of size would make some characters likelier. */
		for (size_t i = 0; i < sizeof(bytes) && at < n; i++)
			if (bytes[i] < 256 / size * size)
				out[at++] = alphabet[bytes[i] % size];
	}
	out[n] = '\0';
	return 0;
}

void plan_add_env(struct plan *p, const char *name, const char *value)
{
	/* Grown by one: a plan has a few dozen at most. */
	p->env = reallocarray(p->env, p->n_env + 1, sizeof(*p->env));
	if (!p->env)
		abort();
	p->env[p->n_env++] = (struct plan_env){mem_strdup(name), mem_strdup(value)};
}

const char *plan_get_env(const struct plan *p, const char *name)
{
	for (size_t i = 0; i < p->n_env; i++)
		if (strcmp(p->env[i].name, name) == 0)
			return p->env[i].value;
	return NULL;
}

void plan_warn(struct plan *p, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	p->warnings = reallocarray(p->warnings, p->n_warnings + 1, sizeof(*p->warnings));
	if (!p->warnings)
		abort();
	p->warnings[p->n_warnings++] = mem_strdup(text);
}

static void strings_free(char **list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(list[i]);
	free(list);
}

void plan_secret_free(struct plan_secret *s)
{
	free(s->env);
	free(s->file);
	free(s->command);
	free(s->origin_file);
	*s = (struct plan_secret){0};
}

void plan_free(struct plan *p)
{
	for (size_t i = 0; i < p->n_env; i++) {
		free(p->env[i].name);
		free(p->env[i].value);
	}
	for (size_t i = 0; i < p->n_secrets; i++)
		plan_secret_free(&p->secrets[i]);
	strings_free(p->command, p->n_command);
	strings_free(p->expose, p->n_expose);
	strings_free(p->sources, p->n_sources);
	strings_free(p->warnings, p->n_warnings);
	policy_free(&p->policy);
	git_policy_free(&p->git);
	free(p->workspace_path);
	free(p->slug);
	free(p->agent);
	free(p->bottle);
	free(p->agent_file);
	free(p->provider);
	free(p->image);
	free(p->prompt);
	free(p->env);
	free(p->secrets);
	free(p->canary);
	free(p->manifest_file);
	free(p->notify);
	free(p->pinned);
	*p = (struct plan){0};
}

/* --- credentials --- */

static bool same_text(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

int plan_add_secret(struct plan *p, struct plan_secret *s, unsigned line, unsigned column,
		    unsigned *credential, struct err *e)
{
	for (size_t i = 0; i < p->n_secrets; i++) {
		if (!same_text(p->secrets[i].env, s->env) ||
		    !same_text(p->secrets[i].file, s->file) ||
		    !same_text(p->secrets[i].command, s->command) ||
		    p->secrets[i].is_key != s->is_key)
			continue;
		*credential = (unsigned)i;
		return 0;
	}
	if (p->n_secrets == POLICY_CREDENTIALS_MAX)
		return err_at(e, s->origin_file, line, column,
			      "more than %d credentials in one bottle", POLICY_CREDENTIALS_MAX);
	if (!p->secrets)
		p->secrets = mem_zalloc_array(POLICY_CREDENTIALS_MAX, sizeof(*p->secrets));
	*credential = (unsigned)p->n_secrets;
	p->secrets[p->n_secrets++] = *s;
	*s = (struct plan_secret){0};
	return 0;
}

int plan_make_placeholder(char **out, struct err *e)
{
	char text[sizeof(PLACEHOLDER_PREFIX) + PLACEHOLDER_RANDOM] = PLACEHOLDER_PREFIX;
	int ret = plan_random_text(text + sizeof(PLACEHOLDER_PREFIX) - 1, PLACEHOLDER_RANDOM,
				   base32, e);

	*out = ret == 0 ? mem_strdup(text) : NULL;
	return ret;
}

static const char *provider_key(const struct plan_provider *provider, const struct policy_route *r)
{
	for (const struct plan_key_default *k = provider->keys; k->host; k++)
		if (strcmp(k->host, r->host) == 0 && k->scheme == r->auth.scheme)
			return k->env;
	return NULL;
}

/* Routes that put the same secret into the same variable share its placeholder: a variable can hold
 * only one. Any other pair of routes has placeholders of its own. */
static int add_placeholder(struct plan *p, struct manifest_route *r, const char *env,
			   const struct manifest_bottle *b, struct err *e)
{
	int ret;

	for (const struct manifest_route *other = b->routes; other < r; other++) {
		if (!same_text(other->env, env))
			continue;
		if (other->route.auth.credential != r->route.auth.credential)
			return err_at(e, r->route.origin_file, r->line, r->column,
				      "variable %s already holds the placeholder of another "
				      "token_ref (%s:%u); give this one another \"env\"",
				      env, other->route.origin_file, other->line);
		r->route.auth.placeholder = mem_strdup(other->route.auth.placeholder);
		return 0;
	}
	if (plan_get_env(p, env))
		return err_at(e, r->route.origin_file, r->line, r->column,
			      "variable %s is also set under \"env\"; the agent finds the "
			      "credential's placeholder there",
			      env);
	ret = plan_make_placeholder(&r->route.auth.placeholder, e);
	if (ret == 0)
		plan_add_env(p, env, r->route.auth.placeholder);
	return ret;
}

static int add_credential(struct plan *p, struct manifest_route *r,
			  const struct plan_provider *provider, const struct manifest_bottle *b,
			  struct err *e)
{
	int ret;

	if (r->route.auth.scheme == POLICY_AUTH_NONE)
		return 0;
	if (!r->env) {
		const char *key = provider_key(provider, &r->route);

		if (!key)
			return err_at(e, r->route.origin_file, r->line, r->column,
				      "auth needs \"env\": the environment variable in which the "
				      "agent's program expects this credential");
		r->env = mem_strdup(key);
	}
	ret = plan_add_secret(p, &r->secret, r->line, r->column, &r->route.auth.credential, e);
	return ret < 0 ? ret : add_placeholder(p, r, r->env, b, e);
}

/* --- policy --- */

static bool shares_authority(const struct policy_route *a, const struct policy_route *b)
{
	if (strcmp(a->host, b->host) != 0)
		return false;
	for (size_t i = 0; i < a->n_ports; i++)
		for (size_t k = 0; k < b->n_ports; k++)
			if (a->ports[i] == b->ports[k])
				return true;
	return false;
}

/* Beside a route with a credential, one of the same host without: an attacker's own key works
 * there, and with it the attacker's account at an allowed host. */
static void warn_about_bypass(struct plan *p, const struct policy_route *open_route)
{
	if (open_route->auth.scheme != POLICY_AUTH_NONE)
		return;
	for (size_t i = 0; i < p->policy.n_routes; i++) {
		const struct policy_route *bound = &p->policy.routes[i];

		if (bound->auth.scheme == POLICY_AUTH_NONE || !shares_authority(open_route, bound))
			continue;
		plan_warn(p,
			  "%s:%u allows %s without the credential of line %u: there a key that is "
			  "not "
			  "yours could carry data out",
			  open_route->origin_file, open_route->origin_line, open_route->host,
			  bound->origin_line);
		return;
	}
}

static bool is_upstream(const struct plan *p, const char *host)
{
	for (size_t i = 0; i < p->git.n_remotes; i++)
		if (strcmp(p->git.remotes[i].host, host) == 0)
			return true;
	return false;
}

static void warn_about_policy(struct plan *p)
{
	const struct policy *y = &p->policy;

	if (y->n_routes == 0)
		plan_warn(p,
			  "the allowlist is empty: this bottle can reach nothing%s "
			  "(egress.routes in its manifest)",
			  p->git.n_remotes ? " but its git remotes" : "");
	for (size_t i = 0; i < y->n_routes; i++)
		warn_about_bypass(p, &y->routes[i]);
	for (size_t i = 0; i < y->n_resolve; i++)
		if (policy_decide_authority(y, str_of(y->resolve[i].host), 443).reason ==
			    POLICY_DENY_HOST &&
		    !is_upstream(p, y->resolve[i].host))
			plan_warn(p, "egress.resolve names %s, which no route allows",
				  y->resolve[i].host);
}

static int fill_policy(struct plan *p, struct manifest_bottle *b,
		       const struct plan_provider *provider, struct err *e)
{
	for (size_t i = 0; i < b->n_routes; i++) {
		int ret = add_credential(p, &b->routes[i], provider, b, e);

		if (ret < 0)
			return ret;
	}
	p->policy.routes = mem_zalloc_array(b->n_routes, sizeof(*p->policy.routes));
	for (; p->policy.n_routes < b->n_routes; p->policy.n_routes++) {
		struct policy_route *r = &b->routes[p->policy.n_routes].route;

		p->policy.routes[p->policy.n_routes] = *r;
		*r = (struct policy_route){0};
	}
	p->policy.resolve = take_ptr(&b->resolve);
	p->policy.n_resolve = b->n_resolve;
	b->n_resolve = 0;
	p->policy.dns = mem_zalloc_array(b->n_dns, sizeof(*p->policy.dns));
	p->policy.n_dns = b->n_dns;
	memcpy(p->policy.dns, b->dns, b->n_dns * sizeof(*b->dns));
	p->policy.ca_pem = take_ptr(&b->ca_pem);
	return 0;
}

/* --- the rest --- */

static int fill_slug(struct plan *p, const struct plan_options *opt, struct err *e)
{
	char random[SLUG_RANDOM + 1];
	int ret;

	if (opt->slug) {
		size_t n = strlen(opt->slug);

		/* It becomes a folder's and a host's name. */
		if (n == 0 || n > PLAN_SLUG_MAX || opt->slug[0] == '-' || opt->slug[n - 1] == '-' ||
		    strspn(opt->slug, "abcdefghijklmnopqrstuvwxyz0123456789-") != n)
			return err_set(
				e, -EINVAL,
				"a slug has 1 to %d lower-case letters, digits and inner \"-\"",
				PLAN_SLUG_MAX);
		p->slug = mem_strdup(opt->slug);
		return 0;
	}
	ret = plan_random_text(random, SLUG_RANDOM, base32, e);
	if (ret == 0)
		p->slug = mem_printf("%s-%s", p->agent, random);
	return ret;
}

static int fill_canary(struct plan *p, const struct manifest_bottle *b, struct err *e)
{
	char text[sizeof(CANARY_PREFIX) + CANARY_RANDOM] = CANARY_PREFIX;
	int ret;

	if (!b->wants_canary)
		return 0;
	ret = plan_random_text(text + sizeof(CANARY_PREFIX) - 1, CANARY_RANDOM, base62, e);
	if (ret == 0)
		p->canary = mem_strdup(text);
	return ret;
}

/* Where a grant for always would be written: the file itself, not a link to it. */
static int fill_supervise(struct plan *p, struct manifest_bottle *b, struct err *e)
{
	const char *own = p->sources[p->n_sources - 1]; /* its bases stand before it */

	p->manifest_file = realpath(own, NULL);
	if (!p->manifest_file)
		return err_errno(e, "find \"%s\"", own);
	p->is_supervised = b->supervise.is_on;
	p->on_canary = b->supervise.on_canary;
	p->notify = take_ptr(&b->supervise.notify);
	return 0;
}

static int fill_prompt(struct plan *p, const struct manifest_agent *a,
		       const struct plan_options *opt, struct err *e)
{
	const char *prompt = opt->prompt ? opt->prompt : a->prompt;

	/* An argument of a process has a limit of its own (128 KiB on Linux). */
	if ((prompt && strlen(prompt) > PLAN_PROMPT_MAX) ||
	    (a->prompt && strlen(a->prompt) > PLAN_PROMPT_MAX))
		return err_set(e, -E2BIG, "the prompt is longer than %u bytes", PLAN_PROMPT_MAX);
	p->prompt = prompt && *prompt ? mem_strdup(prompt) : NULL;
	return 0;
}

static void take_list(char ***to, size_t *n_to, char ***from, size_t *n_from)
{
	*to = take_ptr(from);
	*n_to = *n_from;
	*n_from = 0;
}

static void fill_from_bottle(struct plan *p, struct manifest_bottle *b,
			     const struct plan_provider *provider)
{
	p->provider = mem_strdup(provider->name);
	p->image = take_ptr(&b->image);
	p->backend = b->backend;
	p->limits = b->limits;
	p->has_writable_root = b->has_writable_root;
	take_list(&p->expose, &p->n_expose, &b->expose, &b->n_expose);
	take_list(&p->sources, &p->n_sources, &b->sources, &b->n_sources);
	for (size_t i = 0; i < b->n_env; i++)
		plan_add_env(p, b->env[i].name, b->env[i].value);
	for (const struct plan_env_default *v = provider->env; v->name; v++)
		if (!plan_get_env(p, v->name))
			plan_add_env(p, v->name, v->value);
}

static void add_source(struct plan *p, const char *file)
{
	p->sources = reallocarray(p->sources, p->n_sources + 1, sizeof(*p->sources));
	if (!p->sources)
		abort();
	p->sources[p->n_sources++] = mem_strdup(file);
}

static int fill_plan(struct plan *p, const struct plan_options *opt, struct manifest_agent *a,
		     struct manifest_bottle *b, struct err *e)
{
	const struct plan_provider *provider =
		plan_provider_find(b->provider ? b->provider : "claude");
	int ret;

	if (!provider)
		return err_set(e, -EINVAL, "unknown provider");
	p->pinned = mem_strdup(PLAN_PINNED);
	p->agent_uid = AGENT_UID;
	fill_from_bottle(p, b, provider);
	ret = fill_supervise(p, b, e);
	if (ret < 0)
		return ret;
	if (a->file) {
		add_source(p, a->file);
		p->agent_file = mem_strdup(a->file);
	}
	if (a->note)
		plan_warn(p, "%s", a->note);
	ret = fill_slug(p, opt, e);
	if (ret == 0)
		ret = fill_policy(p, b, provider, e);
	if (ret == 0)
		ret = plan_fill_workspace(p, b, opt, e);
	if (ret == 0)
		ret = plan_fill_git(p, b, e);
	if (ret == 0)
		warn_about_policy(p);
	if (ret == 0)
		ret = fill_canary(p, b, e);
	if (ret == 0)
		ret = fill_prompt(p, a, opt, e);
	if (ret == 0)
		plan_provider_command(p, a, opt);
	return ret;
}

int plan_make(struct plan *out, const struct plan_options *opt, struct err *e)
{
	_cleanup_(manifest_agent_free) struct manifest_agent agent = {0};
	_cleanup_(manifest_bottle_free) struct manifest_bottle bottle = {0};
	const char *name = opt->bottle;
	int ret = 0;

	*out = (struct plan){0};
	if (!opt->agent && !opt->bottle)
		return err_set(e, -EINVAL, "neither an agent nor a bottle was named");
	if (opt->command && !opt->command[0])
		return err_set(e, -EINVAL, "the command is empty");
	if (opt->agent)
		ret = manifest_load_agent(&agent, opt->home, opt->cwd, opt->agent, e);
	if (ret < 0)
		return ret;
	if (!name)
		name = agent.bottle;
	if (!name)
		return err_at(
			e, agent.file, 1, 1,
			"the agent names no bottle: add \"bottle: NAME\", or give --bottle NAME");
	ret = manifest_load_bottle(&bottle, opt->home, name, e);
	if (ret < 0)
		return ret;
	out->bottle = mem_strdup(name);
	out->agent = mem_strdup(opt->agent ? opt->agent : name);
	ret = fill_plan(out, opt, &agent, &bottle, e);
	if (ret < 0)
		plan_free(out);
	return ret;
}
