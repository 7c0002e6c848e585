/* The plan, shown. A failed append means that the caller's cap was reached; it is noted and
 * reported once at the end, so that the layout can be read here. */
#include "conf/plan_build.h"

#include "base/clean.h"
#include "base/mem.h"
#include "base/text.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#define SHOWN_MAX 200

struct printer {
	struct buf *out;
	int ret;
};

static void put(struct printer *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void put(struct printer *p, const char *fmt, ...)
{
	char *text = NULL;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (n < 0)
		abort();
	if (p->ret == 0)
		p->ret = buf_append(p->out, text, (size_t)n);
	free(text);
}

/* What may hold another's text: a repository's agent, its prompt. */
static void put_visible(struct printer *p, const char *s, size_t max)
{
	if (p->ret == 0)
		p->ret = text_visible(p->out, str_of(s), max);
}

static void put_json(struct printer *p, const char *s)
{
	if (p->ret < 0)
		return;
	p->ret = s ? text_json(p->out, str_of(s)) : buf_append(p->out, "null", 4);
}

/* --- text --- */

static void put_ports(struct printer *p, const struct policy_route *r)
{
	for (size_t i = 0; i < r->n_ports; i++)
		put(p, "%s%u", i ? "," : ":", (unsigned)r->ports[i]);
}

static void put_methods(struct printer *p, const struct policy_route *r)
{
	bool is_first = true;

	if (r->methods == (1u << POLICY_METHOD_COUNT) - 1) {
		put(p, "  every method");
		return;
	}
	for (unsigned m = 0; m < POLICY_METHOD_COUNT; m++) {
		if (!(r->methods & 1u << m))
			continue;
		put(p, "%s%s", is_first ? "  " : " ", policy_method_name((enum policy_method)m));
		is_first = false;
	}
}

static void put_route(struct printer *p, const struct plan *plan, const struct policy_route *r)
{
	const struct policy_auth *a = &r->auth;

	put(p, "  %s", r->host);
	put_ports(p, r);
	put_methods(p, r);
	if (r->n_paths == 0)
		put(p, "  every path");
	for (size_t i = 0; i < r->n_paths; i++)
		put(p, "%s%s", i ? " " : "  ", r->paths[i]);
	put(p, "\n      on a match in the scan: %s; ", policy_on_match_name(r->on_match));
	if (r->grant)
		put(p, "granted%s: request %llu\n", r->is_once ? " once" : "",
		    (unsigned long long)r->grant);
	else
		put(p, "%s:%u\n", r->origin_file ? r->origin_file : "?", r->origin_line);
	if (a->scheme == POLICY_AUTH_NONE)
		return;
	put(p, "      credential%s", a->credential < plan->n_secrets ? " " : "");
	if (a->credential < plan->n_secrets) {
		_cleanup_free_ char *ref = plan_secret_describe(&plan->secrets[a->credential]);

		put_visible(p, ref, SHOWN_MAX);
	}
	put(p, " as \"%s\" (%s); the agent holds only a placeholder", a->header,
	    policy_scheme_name(a->scheme));
	for (size_t i = 0; i < plan->n_env; i++)
		if (a->placeholder && strcmp(plan->env[i].value, a->placeholder) == 0)
			put(p, ", in %s", plan->env[i].name);
	put(p, "\n");
}

static void put_size(struct printer *p, const char *name, uint64_t bytes)
{
	if (bytes == 0)
		put(p, "  %-10s no limit\n", name);
	else
		put(p, "  %-10s %llu MiB\n", name, (unsigned long long)(bytes >> 20));
}

static void put_limits(struct printer *p, const struct plan_limits *l)
{
	put(p, "Limits\n");
	put_size(p, "memory", l->memory_bytes);
	put_size(p, "file_size", l->file_size_bytes);
	put(p, "  %-10s %llu\n", "processes", (unsigned long long)l->processes);
	put(p, "  %-10s %llu\n", "files", (unsigned long long)l->files);
	if (l->cpu_milli == 0)
		put(p, "  %-10s no limit\n", "cpu");
	else
		put(p, "  %-10s %llu.%03llu cores\n", "cpu",
		    (unsigned long long)(l->cpu_milli / 1000),
		    (unsigned long long)(l->cpu_milli % 1000));
}

static void put_head(struct printer *p, const struct plan *plan)
{
	put(p, "Bottle %s (%s, provider %s, backend %s)\n", plan->slug, plan->bottle,
	    plan->provider,
	    plan->backend == PLAN_BACKEND_UNSET ? "chosen at start"
						: plan_backend_name(plan->backend));
	for (size_t i = 0; i < plan->n_sources; i++) {
		put(p, "  from ");
		put_visible(p, plan->sources[i], 1024);
		put(p, "\n");
	}
	put(p, "Agent %s, uid %u, sees the bundle at %s and nothing else\n  runs", plan->agent,
	    plan->agent_uid, plan->pinned);
	for (size_t i = 0; i < plan->n_command; i++) {
		put(p, " ");
		put_visible(p, plan->command[i], SHOWN_MAX);
	}
	put(p, "\n");
}

static void put_network(struct printer *p, const struct plan *plan)
{
	const struct policy *y = &plan->policy;

	put(p, "May reach%s\n", y->n_routes == 0 ? ": nothing" : "");
	for (size_t i = 0; i < y->n_routes; i++)
		put_route(p, plan, &y->routes[i]);
	if (y->n_resolve > 0)
		put(p, "Addresses given by you\n");
	for (size_t i = 0; i < y->n_resolve; i++) {
		char address[POLICY_ADDRESS_SIZE];

		policy_address_format(&y->resolve[i].address, address);
		put(p, "  %s is %s\n", y->resolve[i].host, address);
	}
	for (size_t i = 0; i < y->n_dns; i++) {
		char address[POLICY_ADDRESS_SIZE];

		policy_address_format(&y->dns[i], address);
		put(p, "%s%s", i ? ", " : "Names asked of ", address);
	}
	if (y->n_dns > 0)
		put(p, "\n");
	if (y->ca_pem)
		put(p, "Certificates: your own roots beside the system's\n");
}

static void put_supervise(struct printer *p, const struct plan *plan)
{
	static const char *const besides[] = {
		[PLAN_CANARY_RECORD] = "",
		[PLAN_CANARY_PAUSE] = ", and the bottle's network is paused",
		[PLAN_CANARY_STOP] = ", and the bottle is stopped",
	};
	static_assert(ARRAY_LEN(besides) == PLAN_CANARY_COUNT, "one text for each");

	if (plan->canary)
		put(p, "A canary is planted: whatever carries it out is stopped%s\n",
		    besides[plan->on_canary]);
	if (plan->is_supervised)
		put(p, "Supervised: the agent may ask for more, and you decide\n");
	if (plan->notify && strcmp(plan->notify, PLAN_NOTIFY_DESKTOP) == 0) {
		put(p, "  each new request is told by this host's notify-send\n");
	} else if (plan->notify) {
		put(p, "  each new request runs on this host: ");
		put_visible(p, plan->notify, SHOWN_MAX);
		put(p, "\n");
	}
}

int plan_print_network(const struct plan *plan, struct buf *out)
{
	struct printer p = {.out = out};

	put_network(&p, plan);
	return p.ret < 0 ? p.ret : plan_print_git(plan, out);
}

int plan_print_text(const struct plan *plan, struct buf *out)
{
	struct printer p = {.out = out};

	put_head(&p, plan);
	put_network(&p, plan);
	if (p.ret == 0)
		p.ret = plan_print_git(plan, out);
	if (plan->n_expose > 0)
		put(&p, "May read these folders of this host\n");
	for (size_t i = 0; i < plan->n_expose; i++) {
		put(&p, "  ");
		put_visible(&p, plan->expose[i], 1024);
		put(&p, "\n");
	}
	if (plan->n_env > 0)
		put(&p, "Environment\n");
	for (size_t i = 0; i < plan->n_env; i++) {
		put(&p, "  %s=", plan->env[i].name);
		put_visible(&p, plan->env[i].value, SHOWN_MAX);
		put(&p, "\n");
	}
	put_supervise(&p, plan);
	if (plan->image) {
		put(&p, "Image: ");
		put_visible(&p, plan->image, 1024);
		put(&p, "\n");
	}
	put(&p, "Root file system: %s\n",
	    plan->has_writable_root ? "writable, kept with the bottle" : "read-only");
	put_limits(&p, &plan->limits);
	for (size_t i = 0; i < plan->n_warnings; i++) {
		put(&p, "Note: ");
		put_visible(&p, plan->warnings[i], 1024);
		put(&p, "\n");
	}
	return p.ret;
}

/* --- JSON --- */

static void json_string(struct printer *p, const char *key, const char *value)
{
	put(p, "\"%s\":", key);
	put_json(p, value);
	put(p, ",");
}

static void json_list(struct printer *p, const char *key, char *const *list, size_t n)
{
	put(p, "\"%s\":[", key);
	for (size_t i = 0; i < n; i++) {
		put(p, "%s", i ? "," : "");
		put_json(p, list[i]);
	}
	put(p, "],");
}

static void json_env(struct printer *p, const struct plan *plan)
{
	put(p, "\"env\":{");
	for (size_t i = 0; i < plan->n_env; i++) {
		put(p, "%s", i ? "," : "");
		put_json(p, plan->env[i].name);
		put(p, ":");
		put_json(p, plan->env[i].value);
	}
	put(p, "},");
}

static void json_limits(struct printer *p, const struct plan_limits *l)
{
	put(p,
	    "\"limits\":{\"memory_bytes\":%llu,\"processes\":%llu,\"files\":%llu,\"cpu_milli\":%"
	    "llu,"
	    "\"file_size_bytes\":%llu},",
	    (unsigned long long)l->memory_bytes, (unsigned long long)l->processes,
	    (unsigned long long)l->files, (unsigned long long)l->cpu_milli,
	    (unsigned long long)l->file_size_bytes);
}

static void json_secrets(struct printer *p, const struct plan *plan)
{
	put(p, "\"secrets\":[");
	for (size_t i = 0; i < plan->n_secrets; i++) {
		const struct plan_secret *s = &plan->secrets[i];
		_cleanup_free_ char *ref = plan_secret_describe(s);

		put(p, "%s{\"credential\":%zu,\"key\":%s,", i ? "," : "", i,
		    s->is_key ? "true" : "false");
		json_string(p, "token_ref", ref);
		json_string(p, "origin_file", s->origin_file);
		put(p, "\"origin_line\":%u}", s->origin_line);
	}
	put(p, "],");
}

int plan_print_json(const struct plan *plan, struct buf *out)
{
	struct printer p = {.out = out};

	put(&p, "{\"version\":1,");
	json_string(&p, "slug", plan->slug);
	json_string(&p, "agent", plan->agent);
	json_string(&p, "agent_file", plan->agent_file);
	json_string(&p, "bottle", plan->bottle);
	json_string(&p, "provider", plan->provider);
	json_string(&p, "image", plan->image);
	json_string(&p, "backend",
		    plan->backend == PLAN_BACKEND_UNSET ? NULL : plan_backend_name(plan->backend));
	json_string(&p, "pinned", plan->pinned);
	put(&p, "\"agent_uid\":%u,\"supervised\":%s,\"canary\":%s,", plan->agent_uid,
	    plan->is_supervised ? "true" : "false", plan->canary ? "true" : "false");
	put(&p, "\"on_canary\":\"%s\",", plan_on_canary_name(plan->on_canary));
	json_string(&p, "notify", plan->notify);
	json_string(&p, "manifest_file", plan->manifest_file);
	json_list(&p, "command", plan->command, plan->n_command);
	json_string(&p, "prompt", plan->prompt);
	json_env(&p, plan);
	json_list(&p, "expose", plan->expose, plan->n_expose);
	json_string(&p, "root", plan->has_writable_root ? "writable" : "read-only");
	json_limits(&p, &plan->limits);
	json_secrets(&p, plan);
	json_list(&p, "sources", plan->sources, plan->n_sources);
	json_list(&p, "warnings", plan->warnings, plan->n_warnings);
	json_string(&p, "workspace", plan_workspace_name(plan->workspace));
	json_string(&p, "workspace_path", plan->workspace_path);
	put(&p, "\"git\":");
	if (p.ret == 0)
		p.ret = git_policy_to_json(&plan->git, out, NULL);
	put(&p, ",\"policy\":");
	if (p.ret == 0)
		p.ret = policy_to_json(&plan->policy, out, NULL);
	put(&p, "}");
	return p.ret;
}
