/*
 * What is found about a change: pure, from the change and from what is in force, in one order. Each
 * rule speaks once. Texts name hosts in their canonical form and nothing that the agent said.
 */
#include "requests/danger_int.h"

#include "base/clean.h"
#include "base/text.h"
#include "conf/risky_path.h"
#include "requests/canon.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#define PORT_PLAIN_HTTP 80
#define PORT_HTTPS	443
#define METHODS_WRITING                                                                            \
	(1u << POLICY_METHOD_POST | 1u << POLICY_METHOD_PUT | 1u << POLICY_METHOD_PATCH |          \
	 1u << POLICY_METHOD_DELETE)

static const struct {
	const char *name;
	enum danger_level level;
} rules[] = {
#define X(constant, name, level) [DANGER_##constant##_RULE] = {name, DANGER_##level},
	DANGER_RULES(X)
#undef X
};
static_assert(ARRAY_LEN(rules) == DANGER_RULE_COUNT, "one name for each rule");

static const char *const level_names[] = {
	[DANGER_NOTE] = "note",
	[DANGER_WARN] = "warning",
	[DANGER_NEVER] = "never",
};

const char *danger_rule_name(enum danger_rule r)
{
	return r < DANGER_RULE_COUNT ? rules[r].name : "unknown";
}

const char *danger_level_name(enum danger_level l)
{
	return l >= DANGER_NOTE && l <= DANGER_NEVER ? level_names[l] : "unknown";
}

/* --- findings --- */

/* One of each rule: the first that is found says it. */
__attribute__((format(printf, 3, 4))) static void find(struct danger *d, enum danger_rule rule,
						       const char *fmt, ...)
{
	char text[1024];
	struct danger_finding *f;
	va_list ap;

	for (size_t i = 0; i < d->n; i++)
		if (d->findings[i].rule == rule)
			return;
	if (d->n == DANGER_FINDINGS_MAX)
		return;
	f = &d->findings[d->n++];
	f->rule = rule;
	f->level = rules[rule].level;
	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	text_visible_once_cstr(f->text, sizeof(f->text), str_of(text));
}

static int compare_findings(const void *a, const void *b)
{
	const struct danger_finding *x = a, *y = b;

	return x->level != y->level ? (int)y->level - (int)x->level : (int)x->rule - (int)y->rule;
}

static bool is_wildcard(const char *host)
{
	return host[0] == '*';
}

/* What stands behind "*.", or all of it. */
static struct str name_of(const char *host)
{
	return str_of(is_wildcard(host) ? host + 2 : host);
}

static bool has_port(const struct policy_route *r, uint16_t port)
{
	for (size_t i = 0; i < r->n_ports; i++)
		if (r->ports[i] == port)
			return true;
	return false;
}

static bool shares_port(const struct policy_route *a, const struct policy_route *b)
{
	for (size_t i = 0; i < b->n_ports; i++)
		if (has_port(a, b->ports[i]))
			return true;
	return false;
}

/* --- where to --- */

static void judge_place(struct danger *d, const struct policy_route *r)
{
	struct str name = name_of(r->host);
	const char *inside = danger_inside(name);

	if (inside)
		find(d, DANGER_INSIDE_RULE, "\"%s\" %s.", r->host, inside);
	if (!is_wildcard(r->host))
		return;
	find(d, DANGER_WILDCARD_RULE,
	     "\"%s\" is every name below \"" STR_FMT "\", also those that do not exist yet.",
	     r->host, STR_ARG(name));
	if (!danger_suffixes_known())
		find(d, DANGER_PUBLIC_SUFFIX_RULE,
		     "There is no public suffix list on this host, so nobody can say who may have "
		     "a "
		     "name below \"" STR_FMT "\".",
		     STR_ARG(name));
	else if (danger_is_public_suffix(name) || danger_is_shared_zone(name))
		find(d, DANGER_PUBLIC_SUFFIX_RULE, "Anybody can have a name below \"" STR_FMT "\".",
		     STR_ARG(name));
}

static void judge_ports(struct danger *d, const struct policy_route *r)
{
	for (size_t i = 0; i < r->n_ports; i++) {
		if (r->ports[i] == PORT_PLAIN_HTTP)
			find(d, DANGER_PLAIN_HTTP_RULE,
			     "Port 80 is plain HTTP: whoever is on the way reads and changes it.");
		else if (r->ports[i] != PORT_HTTPS)
			find(d, DANGER_ODD_PORT_RULE,
			     "Port %u is not the usual one for HTTPS, 443.", r->ports[i]);
	}
}

static void judge_methods(struct danger *d, const struct policy_route *r)
{
	char list[96] = "";
	size_t n = 0;

	for (unsigned m = 0; m < POLICY_METHOD_COUNT; m++)
		if (METHODS_WRITING & r->methods & 1u << m)
			n += (size_t)snprintf(list + n, sizeof(list) - n, "%s%s", n ? ", " : "",
					      policy_method_name((enum policy_method)m));
	if (n > 0)
		find(d, DANGER_WRITES_RULE,
		     "%s can send what the bottle has read, and change things there.", list);
}

/* Names of a resolver's path, whatever its host is called. */
static bool asks_a_resolver(const struct policy_route *r)
{
	for (size_t i = 0; i < r->n_paths; i++)
		if (str_starts(str_of(r->paths[i]), STR_LIT("/dns-query")))
			return true;
	return false;
}

static void judge_uploads(struct danger *d, const struct policy_route *r)
{
	const char *what = danger_uploads(name_of(r->host), r->methods, is_wildcard(r->host));

	if (what)
		find(d, DANGER_UPLOAD_RULE, "\"%s\" %s.", r->host, what);
	else if (asks_a_resolver(r))
		find(d, DANGER_UPLOAD_RULE,
		     "\"/dns-query\" resolves names, and a name can carry data to whoever answers "
		     "for it.");
}

/* --- what it looks like --- */

static bool has_a_label(struct str host)
{
	bool more = true;

	while (more) {
		struct str label;

		host = str_cut(host, '.', &label, &more);
		if (str_starts(label, STR_LIT("xn--")))
			return true;
	}
	return false;
}

static void judge_letters(struct danger *d, const struct policy_route *r)
{
	struct str name = name_of(r->host);
	const char *scripts;

	if (!has_a_label(name))
		return;
	scripts = danger_scripts(name);
	if (scripts)
		find(d, DANGER_PUNYCODE_RULE,
		     "\"%s\" has letters past ASCII, and %s: it may be read as another name.",
		     r->host, scripts);
	else
		find(d, DANGER_PUNYCODE_RULE,
		     "\"%s\" has letters past ASCII: it may be read as another name.", r->host);
}

static bool judge_alike_to(struct danger *d, const char *host, struct str known)
{
	const char *how = danger_alike(name_of(host), known);

	if (how)
		find(d, DANGER_LOOKALIKE_RULE,
		     "\"%s\" looks like \"" STR_FMT "\", which this bottle knows, and is not: %s.",
		     host, STR_ARG(known), how);
	return how != NULL;
}

/* One that the bottle has already is itself. */
static bool is_known(const struct danger_context *ctx, struct str name)
{
	struct str own = danger_registrable(name);

	for (size_t i = 0; ctx->policy && i < ctx->policy->n_routes; i++)
		if (str_eq(own, danger_registrable(name_of(ctx->policy->routes[i].host))))
			return true;
	for (size_t i = 0; ctx->git && i < ctx->git->n_remotes; i++)
		if (str_eq(own, danger_registrable(str_of(ctx->git->remotes[i].host))))
			return true;
	return false;
}

static void judge_alike(struct danger *d, const struct policy_route *r,
			const struct danger_context *ctx)
{
	char known[POLICY_HOST_MAX + 1];
	const char *how;

	if (is_known(ctx, name_of(r->host)))
		return;
	for (size_t i = 0; ctx->policy && i < ctx->policy->n_routes; i++)
		if (judge_alike_to(d, r->host, name_of(ctx->policy->routes[i].host)))
			return;
	for (size_t i = 0; ctx->git && i < ctx->git->n_remotes; i++)
		if (judge_alike_to(d, r->host, str_of(ctx->git->remotes[i].host)))
			return;
	how = danger_alike_known(name_of(r->host), known);
	if (how)
		find(d, DANGER_LOOKALIKE_RULE, "\"%s\" looks like \"%s\", and is not: %s.", r->host,
		     known, how);
}

/* --- credentials --- */

/* Would a request to host by r be one to that name? */
static bool covers(const struct policy_route *r, struct str host)
{
	struct str name = name_of(r->host);

	return is_wildcard(r->host) ? host.n > name.n && danger_is_below(host, name)
				    : str_eq(host, name);
}

/* The same owner, or a wildcard above both. */
static bool is_near(const struct policy_route *r, struct str host)
{
	return danger_is_below(host, name_of(r->host)) ||
	       str_eq(danger_registrable(name_of(r->host)), danger_registrable(host));
}

static void judge_route_credential(struct danger *d, const struct policy_route *r,
				   const struct policy_route *bound)
{
	struct str host = str_of(bound->host);

	if (bound->auth.scheme == POLICY_AUTH_NONE)
		return;
	if (covers(r, host) && shares_port(r, bound))
		find(d, DANGER_CREDENTIAL_REACH_RULE,
		     "This bottle has a credential for \"%s\", for what its manifest names; this "
		     "would let it do more there.",
		     bound->host);
	else if (is_near(r, host))
		find(d, DANGER_CREDENTIAL_NEAR_RULE,
		     "This bottle has a credential for \"%s\", which belongs to the same domain.",
		     bound->host);
	else if (r->methods & METHODS_WRITING)
		find(d, DANGER_CREDENTIAL_NEAR_RULE,
		     "This bottle has a credential for \"%s\": what it reads with it could be sent "
		     "to \"%s\".",
		     bound->host, r->host);
}

/* Around git-gate, whatever the port: an upstream by ssh has a web server too. */
static void judge_remote_credential(struct danger *d, const struct policy_route *r,
				    const struct git_remote *g)
{
	struct str host = str_of(g->host);

	if (g->transport == GIT_TRANSPORT_WORKSPACE)
		return;
	if (covers(r, host))
		find(d, DANGER_CREDENTIAL_REACH_RULE,
		     "\"%s\" is where the git remote \"%s\" lives: this would lead around "
		     "git-gate.",
		     g->host, g->name);
	else if (g->has_credential && is_near(r, host))
		find(d, DANGER_CREDENTIAL_NEAR_RULE,
		     "This bottle has a credential for the git remote \"%s\" at \"%s\", which "
		     "belongs to the same domain.",
		     g->name, g->host);
	else if (g->has_credential && r->methods & METHODS_WRITING)
		find(d, DANGER_CREDENTIAL_NEAR_RULE,
		     "This bottle has a credential for the git remote \"%s\": what it reads with "
		     "it "
		     "could be sent to \"%s\".",
		     g->name, r->host);
}

/* Nearest first, since only one finding of a rule is kept. */
static void judge_credentials(struct danger *d, const struct policy_route *r,
			      const struct danger_context *ctx)
{
	struct policy_route reading = *r;
	const struct policy_route *passes[] = {&reading, r};

	reading.methods = 0;
	for (size_t pass = 0; pass < ARRAY_LEN(passes); pass++) {
		for (size_t i = 0; ctx->policy && i < ctx->policy->n_routes; i++)
			judge_route_credential(d, passes[pass], &ctx->policy->routes[i]);
		for (size_t i = 0; ctx->git && i < ctx->git->n_remotes; i++)
			judge_remote_credential(d, passes[pass], &ctx->git->remotes[i]);
	}
}

/* --- one kind each --- */

static void judge_egress(struct danger *d, const struct change *c, const struct danger_context *ctx)
{
	judge_place(d, &c->route);
	judge_credentials(d, &c->route, ctx);
	judge_uploads(d, &c->route);
	judge_methods(d, &c->route);
	judge_alike(d, &c->route, ctx);
	judge_letters(d, &c->route);
	judge_ports(d, &c->route);
}

/* The host was allowed before; what is new is what is sent. */
static void judge_release(struct danger *d, const struct change *c)
{
	find(d, DANGER_DLP_RULE, "The scanner found %s in the %s of what would be sent.",
	     c->rule[0] ? c->rule : "something", c->where[0] ? c->where : "content");
	if (strcmp(c->rule, "canary") == 0)
		find(d, DANGER_CANARY_RULE,
		     "What it found is this bottle's canary, which nothing honest ever sends.");
	judge_uploads(d, &c->route);
	judge_letters(d, &c->route);
	judge_ports(d, &c->route);
}

/* The next of the lines, which have become visible: "\n" stands between them. */
static struct str take_line(struct str *rest)
{
	struct str line = *rest;

	for (size_t i = 0; i + 1 < rest->n; i++) {
		if (rest->p[i] != '\\')
			continue;
		if (rest->p[i + 1] != 'n') {
			i++;
			continue;
		}
		line = str_sub(*rest, 0, i);
		*rest = str_sub(*rest, i + 2, rest->n);
		return line;
	}
	*rest = STR_NULL;
	return line;
}

static void judge_push(struct danger *d, const struct change *c)
{
	struct str rest = str_of(c->shown), first = STR_NULL;
	const char *what = NULL;
	size_t n = 0;

	while (rest.n > 0) {
		const char *is = NULL;
		struct str line = take_line(&rest);

		if (line.n == 0)
			continue;
		n++;
		if (first.n == 0 || (!what && risky_path_find(line, &is) != 0)) {
			first = line;
			(void)risky_path_find(line, &what);
		}
	}
	if (n == 1)
		find(d, DANGER_RUNS_ON_HOST_RULE, "It changes \"" STR_FMT "\"%s%s.", STR_ARG(first),
		     what ? ": " : "", what ? what : "");
	else if (n > 1)
		find(d, DANGER_RUNS_ON_HOST_RULE, "It changes \"" STR_FMT "\"%s%s, and %zu more.",
		     STR_ARG(first), what ? ": " : "", what ? what : "", n - 1);
	if (strspn(c->new_oid, "0") == strlen(c->new_oid))
		find(d, DANGER_WRITES_RULE, "It deletes \"%s\" of \"%s\".", c->ref, c->remote);
}

void danger_judge(struct danger *out, const struct change *c, const struct danger_context *ctx)
{
	*out = (struct danger){0};
	switch (c->kind) {
	case ASK_EGRESS:
		judge_egress(out, c, ctx);
		break;
	case ASK_RELEASE:
		judge_release(out, c);
		break;
	case ASK_PUSH:
		judge_push(out, c);
		break;
	case ASK_CAPABILITY:
	default:
		break;
	}
	if (ctx->canary_seen)
		find(out, DANGER_CANARY_RULE, "This bottle's canary has tried to leave before.");
	if (out->n > 1)
		qsort(out->findings, out->n, sizeof(out->findings[0]), compare_findings);
}

const struct danger_finding *danger_forbids(const struct danger *d)
{
	for (size_t i = 0; i < d->n; i++)
		if (d->findings[i].level == DANGER_NEVER)
			return &d->findings[i];
	return NULL;
}

int danger_to_json(const struct danger *d, struct buf *out)
{
	int ret = buf_append(out, "[", 1);

	for (size_t i = 0; ret == 0 && i < d->n; i++) {
		const struct danger_finding *f = &d->findings[i];

		ret = buf_printf(out, "%s{\"rule\":\"%s\",\"level\":\"%s\",\"text\":", i ? "," : "",
				 danger_rule_name(f->rule), danger_level_name(f->level));
		if (ret == 0)
			ret = text_json(out, str_of(f->text));
		if (ret == 0)
			ret = buf_append(out, "}", 1);
	}
	return ret < 0 ? ret : buf_append(out, "]", 1);
}

/* The level as it was found, whatever the rule has by now. */
static bool get_finding(struct canon *c, struct danger_finding *f)
{
	char name[32], level[16];

	canon_expect(c, "{\"rule\":");
	canon_string(c, name, sizeof(name));
	canon_expect(c, ",\"level\":");
	canon_string(c, level, sizeof(level));
	canon_expect(c, ",\"text\":");
	canon_string(c, f->text, sizeof(f->text));
	canon_expect(c, "}");
	f->rule = DANGER_RULE_COUNT;
	f->level = 0;
	for (size_t i = 0; i < DANGER_RULE_COUNT; i++)
		if (strcmp(rules[i].name, name) == 0)
			f->rule = (enum danger_rule)i;
	for (size_t i = DANGER_NOTE; i < ARRAY_LEN(level_names); i++)
		if (strcmp(level_names[i], level) == 0)
			f->level = (enum danger_level)i;
	return f->rule != DANGER_RULE_COUNT && f->level != 0;
}

static bool get_findings(struct canon *c, struct danger *out)
{
	canon_expect(c, "[");
	if (canon_next_is(c, "]"))
		return true;
	do
		if (!get_finding(c, &out->findings[out->n++]))
			return false;
	while (out->n < DANGER_FINDINGS_MAX && canon_next_is(c, ","));
	canon_expect(c, "]");
	return !c->is_bad;
}

int danger_from_json(struct danger *out, struct str json, struct err *e)
{
	_cleanup_(buf_free) struct buf again = BUF_INIT(CHANGE_JSON_MAX_BYTES);
	struct canon c = {.rest = json};

	out->n = 0;
	if (get_findings(&c, out) && c.rest.n == 0 && danger_to_json(out, &again) == 0 &&
	    str_eq(buf_str(&again), json))
		return 0;
	out->n = 0;
	return err_set(e, -EINVAL, "danger: not in canonical form");
}
