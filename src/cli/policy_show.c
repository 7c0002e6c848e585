#include "cli/policy_show.h"

#include "base/io.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>

const char *policy_show_hint(enum policy_reason reason)
{
	switch (reason) {
	case POLICY_DENY_HOST_SYNTAX:
		return "a host name has letters, digits, hyphens and dots only";
	case POLICY_DENY_IP_LITERAL:
		return "addresses can never be allowed; name the host";
	case POLICY_DENY_HOST:
		return "no route names this host: add one to egress.routes";
	case POLICY_DENY_PORT:
		return "add the port to the route's ports";
	case POLICY_DENY_METHOD:
		return "add the method to the route's methods";
	case POLICY_DENY_PATH_SYNTAX:
		return "the path could be read in two ways; write it without dot segments, empty "
		       "segments, \";\" and escaped slashes, dots and percent signs";
	case POLICY_DENY_PATH:
		return "add the path to the route's paths";
	case POLICY_OK:
	case POLICY_REASON_COUNT:
	default:
		return NULL;
	}
}

/* "did you mean" over the hosts of the routes. */
static const char *nearest_host(const struct policy *p, struct str host)
{
	const char *best = NULL;

	for (size_t i = 0; i < p->n_routes && !best; i++) {
		const char *one = p->routes[i].host;

		best = text_nearest(host, &one, 1);
	}
	return best;
}

static int show_credential(struct buf *out, const struct plan *plan, const struct policy_auth *a)
{
	_cleanup_free_ char *ref = NULL;

	if (a->scheme == POLICY_AUTH_NONE)
		return buf_printf(out, "  no credential is added\n");
	if (plan && a->credential < plan->n_secrets)
		ref = plan_secret_describe(&plan->secrets[a->credential]);
	return buf_printf(out, "  the placeholder in \"%s\" is replaced by the credential%s%s\n",
			  a->header, ref ? " " : "", ref ? ref : "");
}

/* What a route can allow, as against what no route can. */
static bool may_ask(const struct plan *plan, enum policy_reason reason)
{
	return plan && plan->is_supervised &&
	       (reason == POLICY_DENY_HOST || reason == POLICY_DENY_PORT ||
		reason == POLICY_DENY_METHOD || reason == POLICY_DENY_PATH);
}

int policy_show_text(struct buf *out, const struct policy *p, const struct plan *plan,
		     const struct policy_question *q)
{
	const struct policy_route *r = q->decision.route;
	bool is_allowed = q->decision.reason == POLICY_OK;
	const char *hint = policy_show_hint(q->decision.reason), *near = NULL;
	int bad = 0;

	bad |= buf_printf(out, "%s: %s ", is_allowed ? "allowed" : "refused", q->method);
	bad |= text_visible(out, q->host, 300);
	bad |= buf_printf(out, ":%u", (unsigned)q->port);
	bad |= text_visible(out, q->path, 300);
	bad |= is_allowed
		       ? buf_printf(out, "\n")
		       : buf_printf(out, "\n  reason %s\n", policy_reason_name(q->decision.reason));
	if (r && r->origin_file)
		bad |= buf_printf(out, "  by the route of %s:%u (%s)\n", r->origin_file,
				  r->origin_line, r->host);
	if (is_allowed && r)
		bad |= show_credential(out, plan, &r->auth);
	if (q->decision.reason == POLICY_DENY_HOST)
		near = nearest_host(p, q->host);
	if (may_ask(plan, q->decision.reason))
		bad |= buf_printf(out, "  the bottle is supervised: its agent may ask for this\n");
	if (near)
		bad |= buf_printf(out, "  did you mean %s?\n", near);
	else if (hint)
		bad |= buf_printf(out, "  %s\n", hint);
	return bad ? -ENOBUFS : 0;
}

static int json_member(struct buf *out, const char *key, struct str value)
{
	int bad = buf_printf(out, ",\"%s\":", key);

	bad |= text_json(out, value);
	return bad;
}

int policy_show_json(struct buf *out, const struct plan *plan, const struct policy_question *q)
{
	const struct policy_route *r = q->decision.route;
	const char *hint = policy_show_hint(q->decision.reason);
	int bad = 0;

	bad |= buf_printf(out, "\"allowed\":%s,\"reason\":\"%s\"",
			  q->decision.reason == POLICY_OK ? "true" : "false",
			  policy_reason_name(q->decision.reason));
	bad |= json_member(out, "method", str_of(q->method));
	bad |= json_member(out, "host", q->host);
	bad |= buf_printf(out, ",\"port\":%u", (unsigned)q->port);
	bad |= json_member(out, "path", q->path);
	bad |= buf_printf(out, ",\"may_ask\":%s",
			  may_ask(plan, q->decision.reason) ? "true" : "false");
	if (hint)
		bad |= json_member(out, "hint", str_of(hint));
	if (!r)
		return bad | buf_printf(out, ",\"route\":null") ? -ENOBUFS : 0;
	bad |= buf_printf(out, ",\"route\":{\"line\":%u", r->origin_line);
	bad |= json_member(out, "file", str_of(r->origin_file ? r->origin_file : ""));
	bad |= json_member(out, "host", str_of(r->host));
	if (r->grant)
		bad |= buf_printf(out, ",\"grant\":%llu", (unsigned long long)r->grant);
	if (r->auth.scheme != POLICY_AUTH_NONE && plan && r->auth.credential < plan->n_secrets) {
		_cleanup_free_ char *ref = plan_secret_describe(&plan->secrets[r->auth.credential]);

		bad |= json_member(out, "token_ref", str_of(ref));
	}
	bad |= json_member(out, "scheme", str_of(policy_scheme_name(r->auth.scheme)));
	return bad | buf_append(out, "}", 1) ? -ENOBUFS : 0;
}

/* A file of a bottle's state folder; -ENOENT without an error when there is no such bottle. */
static int read_state(int bottles_dir, const char *slug, const char *name, size_t max,
		      struct str *out, struct err *e)
{
	_cleanup_close_ int dir = -1;

	*out = STR_NULL;
	if (!places_slug_is_valid(slug))
		return -ENOENT;
	dir = openat(bottles_dir, slug, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (dir < 0)
		return errno == ENOENT ? -ENOENT : err_errno(e, "open the state of %s", slug);
	if (faccessat(dir, name, F_OK, 0) < 0 && errno == ENOENT)
		return err_set(e, -EIO, "bottle %s has no %s", slug, name);
	return io_read_file(dir, name, max, out, e);
}

int policy_load_slug(int bottles_dir, const char *slug, struct policy *out, struct err *e)
{
	_cleanup_free_ char *text_p = NULL;
	struct str text;
	int r;

	*out = (struct policy){0};
	r = read_state(bottles_dir, slug, "policy.json", POLICY_JSON_MAX_BYTES, &text, e);
	text_p = (char *)text.p;
	return r < 0 ? r : policy_from_json(out, text, e);
}

int policy_load_git(int bottles_dir, const char *slug, struct git_policy *out, struct err *e)
{
	_cleanup_free_ char *text_p = NULL;
	struct str text;
	int r;

	*out = (struct git_policy){0};
	r = read_state(bottles_dir, slug, "git.json", GIT_JSON_MAX_BYTES, &text, NULL);
	text_p = (char *)text.p;
	if (r == -EIO)
		return 0;
	if (r < 0)
		return err_set(e, r, "read git.json of bottle %s", slug);
	return git_policy_from_json(out, text, e);
}

int policy_show_both(struct buf *out, const struct policy *p, const struct git_policy *g,
		     struct err *e)
{
	_cleanup_(buf_free) struct buf all;
	int r;

	buf_init(&all, out->cap);
	r = policy_to_json(p, &all, e);
	if (r < 0)
		return r;
	if (g->n_remotes == 0)
		return buf_append_str(out, buf_str(&all));
	r = buf_append_str(out, str_sub(buf_str(&all), 0, buf_len(&all) - 1));
	if (r == 0)
		r = buf_append_str(out, STR_LIT(",\"git\":"));
	if (r == 0)
		r = git_policy_to_json(g, out, e);
	return r < 0 ? r : buf_append(out, "}", 1);
}
