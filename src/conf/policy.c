/*
 * The decision. It is on the path of every request, so it allocates nothing and looks only at
 * the routes of the host; and it is the one place that says yes, so whatever is not understood is a
 * no.
 *
 * A path can be spelled in many ways that one server folds and another does not. Where no route of
 * a host restricts paths, the spelling cannot change the verdict, and only what no honest client
 * sends is refused. Where one does, the path must be in the one form that cannot be read in two
 * ways, and its escapes are compared by what they stand for.
 */
#include "conf/policy_index.h"

#include "base/clean.h"

#include <assert.h>

static const char *const reason_names[] = {
	[POLICY_OK] = "ok",
	[POLICY_DENY_HOST_SYNTAX] = "host-syntax",
	[POLICY_DENY_IP_LITERAL] = "ip-literal",
	[POLICY_DENY_HOST] = "host-not-allowed",
	[POLICY_DENY_PORT] = "port-not-allowed",
	[POLICY_DENY_METHOD] = "method-not-allowed",
	[POLICY_DENY_PATH_SYNTAX] = "path-syntax",
	[POLICY_DENY_PATH] = "path-not-allowed",
};
static_assert(ARRAY_LEN(reason_names) == POLICY_REASON_COUNT, "one name for each reason");

static const char *const method_names[] = {
	[POLICY_METHOD_GET] = "GET",	     [POLICY_METHOD_HEAD] = "HEAD",
	[POLICY_METHOD_POST] = "POST",	     [POLICY_METHOD_PUT] = "PUT",
	[POLICY_METHOD_PATCH] = "PATCH",     [POLICY_METHOD_DELETE] = "DELETE",
	[POLICY_METHOD_OPTIONS] = "OPTIONS",
};
static_assert(ARRAY_LEN(method_names) == POLICY_METHOD_COUNT, "one name for each method");

const char *policy_reason_name(enum policy_reason r)
{
	return r < POLICY_REASON_COUNT ? reason_names[r] : "unknown";
}

const char *policy_method_name(enum policy_method m)
{
	return m < POLICY_METHOD_COUNT ? method_names[m] : "unknown";
}

bool policy_method_parse(struct str name, enum policy_method *out)
{
	for (size_t i = 0; i < POLICY_METHOD_COUNT; i++) {
		if (!str_eq(name, str_of(method_names[i])))
			continue;
		*out = (enum policy_method)i;
		return true;
	}
	return false;
}

/* --- paths --- */

enum path_form {
	PATH_CANONICAL,
	PATH_AMBIGUOUS, /* one server reads it differently from another */
	PATH_REFUSED	/* no honest client sends it */
};

enum path_byte { BYTE_REFUSED, BYTE_PLAIN, BYTE_SLASH, BYTE_DOT, BYTE_PERCENT, BYTE_SEMICOLON };

/* RFC 3986 pchar, and the few others that clients send unescaped (RFC 3986 would escape them).
 * Controls, space, "#", "?" (cut before), backslash, DEL and bytes past ASCII stay refused. */
static const unsigned char path_bytes[256] = {
	['a' ... 'z'] = BYTE_PLAIN, ['A' ... 'Z'] = BYTE_PLAIN, ['0' ... '9'] = BYTE_PLAIN,
	['-'] = BYTE_PLAIN,	    ['_'] = BYTE_PLAIN,		['~'] = BYTE_PLAIN,
	['!'] = BYTE_PLAIN,	    ['$'] = BYTE_PLAIN,		['&'] = BYTE_PLAIN,
	['\''] = BYTE_PLAIN,	    ['('] = BYTE_PLAIN,		[')'] = BYTE_PLAIN,
	['*'] = BYTE_PLAIN,	    ['+'] = BYTE_PLAIN,		[','] = BYTE_PLAIN,
	['='] = BYTE_PLAIN,	    [':'] = BYTE_PLAIN,		['@'] = BYTE_PLAIN,
	['['] = BYTE_PLAIN,	    [']'] = BYTE_PLAIN,		['|'] = BYTE_PLAIN,
	['^'] = BYTE_PLAIN,	    ['{'] = BYTE_PLAIN,		['}'] = BYTE_PLAIN,
	['"'] = BYTE_PLAIN,	    ['/'] = BYTE_SLASH,		['.'] = BYTE_DOT,
	['%'] = BYTE_PERCENT,	    [';'] = BYTE_SEMICOLON,
};

/* The byte that "%XY" at p stands for, or -1. */
static int escape_value(const char *p, size_t n)
{
	int hi, lo;

	if (n < 3)
		return -1;
	hi = ascii_hex_value(p[1]);
	lo = ascii_hex_value(p[2]);
	return hi < 0 || lo < 0 ? -1 : hi << 4 | lo;
}

/* What an escape does to the form of its path. Escaped dots are handled with the plain ones. */
static enum path_form escape_form(int value)
{
	if (value < 0x20 || value == 0x7f)
		return PATH_REFUSED;
	/* "%252e" and "%25%32%65": a server that decodes twice sees another path. */
	if (value == '/' || value == '\\' || value == ';' || value == '.' || value == '%')
		return PATH_AMBIGUOUS;
	return PATH_CANONICAL;
}

/* Two escapes in a row that stand in no UTF-8, but are the beginning of an overlong "." or "/" to a
 * decoder that does not mind. */
static bool is_overlong(int before, int value)
{
	return value == 0xc0 || value == 0xc1 || value >= 0xf5 ||
	       (before == 0xe0 && value >= 0x80 && value < 0xa0) ||
	       (before == 0xf0 && value >= 0x80 && value < 0x90);
}

struct segment {
	size_t dots; /* seen from its start on, plain or escaped */
	bool is_dots_only;
	bool is_empty;
};

/* "." and ".." are never meant; "..;x" is ".." to servers that cut parameters off. */
static bool segment_is_dots(const struct segment *s)
{
	return s->is_dots_only && (s->dots == 1 || s->dots == 2);
}

static enum path_form path_form(struct str path)
{
	struct segment seg = {.is_dots_only = true, .is_empty = true};
	enum path_form form = PATH_CANONICAL;
	size_t before_at = 0;
	int before = -1;

	if (path.n == 0 || path.p[0] != '/')
		return PATH_REFUSED;
	for (size_t i = 1; i < path.n; i++) {
		enum path_byte kind = path_bytes[(unsigned char)path.p[i]];

		if (kind == BYTE_PLAIN) {
			seg.is_dots_only = false;
			seg.is_empty = false;
			continue;
		}
		if (kind == BYTE_REFUSED)
			return PATH_REFUSED;
		if (kind == BYTE_SLASH || kind == BYTE_SEMICOLON) {
			if (segment_is_dots(&seg))
				return PATH_REFUSED;
			if (seg.is_empty || kind == BYTE_SEMICOLON)
				form = PATH_AMBIGUOUS;
			seg = (struct segment){.is_dots_only = kind == BYTE_SLASH,
					       .is_empty = kind == BYTE_SLASH};
			continue;
		}
		seg.is_empty = false;
		if (kind == BYTE_PERCENT) {
			int value = escape_value(path.p + i, path.n - i);
			enum path_form one = value < 0 ? PATH_REFUSED : escape_form(value);

			if (one == PATH_REFUSED)
				return PATH_REFUSED;
			if (is_overlong(before_at + 3 == i ? before : -1, value))
				one = PATH_AMBIGUOUS;
			if (one > form)
				form = one;
			before = value;
			before_at = i;
			i += 2;
			if (value == '.')
				seg.dots++;
			else if ((value == '/' || value == '\\' || value == ';') &&
				 segment_is_dots(&seg))
				return PATH_REFUSED;
			else if (value == '/' || value == '\\')
				seg = (struct segment){.is_dots_only = true};
			else
				seg.is_dots_only = false;
			continue;
		}
		seg.dots++;
	}
	return segment_is_dots(&seg) ? PATH_REFUSED : form;
}

static struct str path_without_query(struct str path)
{
	const char *q = path.n ? memchr(path.p, '?', path.n) : NULL;

	return q ? str_slice(path.p, (size_t)(q - path.p)) : path;
}

bool policy_path_is_canonical(struct str path)
{
	return path_form(path) == PATH_CANONICAL;
}

/* The byte at *at of a canonical path, its escape undone; *at moves past it. */
static unsigned char path_next(struct str path, size_t *at)
{
	unsigned char c = (unsigned char)path.p[*at];

	if (c == '%') {
		c = (unsigned char)escape_value(path.p + *at, path.n - *at);
		*at += 2;
	}
	*at += 1;
	return c;
}

/* One segment against one pattern segment, "*" being any run of bytes. Linear but for one step
 * back per byte to the last star: at most pattern times segment, both capped. */
static bool segment_match(struct str pattern, struct str seg)
{
	size_t pi = 0, si = 0, star = SIZE_MAX, star_si = 0;

	/* A whole "*" stands for a name; an empty segment has none. */
	if (seg.n == 0 && pattern.n > 0)
		return false;
	while (si < seg.n) {
		size_t next = si;
		unsigned char c = path_next(seg, &next);

		if (pi < pattern.n && pattern.p[pi] == '*') {
			star = pi++;
			star_si = si;
		} else if (pi < pattern.n && (unsigned char)pattern.p[pi] == c) {
			pi++;
			si = next;
		} else if (star != SIZE_MAX) {
			pi = star + 1;
			(void)path_next(seg, &star_si);
			si = star_si;
		} else {
			return false;
		}
	}
	while (pi < pattern.n && pattern.p[pi] == '*')
		pi++;
	return pi == pattern.n;
}

static struct str take_segment(struct str *rest)
{
	const char *slash = rest->n ? memchr(rest->p, '/', rest->n) : NULL;
	struct str seg = slash ? str_slice(rest->p, (size_t)(slash - rest->p)) : *rest;

	*rest = str_sub(*rest, seg.n, rest->n);
	return seg;
}

static bool path_match(const char *pattern_cstr, struct str path)
{
	struct str pattern = str_of(pattern_cstr);

	while (pattern.n > 0 && path.n > 0) {
		struct str want, have;

		/* Both stand at a slash. */
		pattern = str_sub(pattern, 1, pattern.n);
		path = str_sub(path, 1, path.n);
		want = take_segment(&pattern);
		if (str_eq(want, STR_LIT("**")) && pattern.n == 0)
			return true;
		have = take_segment(&path);
		if (!segment_match(want, have))
			return false;
	}
	return pattern.n == 0 && path.n == 0;
}

static bool route_allows_path(const struct policy_route *r, struct str path)
{
	if (r->n_paths == 0)
		return true;
	for (size_t i = 0; i < r->n_paths; i++)
		if (path_match(r->paths[i], path))
			return true;
	return false;
}

/* --- routes --- */

static bool route_has_port(const struct policy_route *r, uint16_t port)
{
	for (size_t i = 0; i < r->n_ports; i++)
		if (r->ports[i] == port)
			return true;
	return false;
}

/* Keeps the route that came furthest. */
static void decision_deny(struct policy_decision *d, enum policy_reason reason,
			  const struct policy_route *r)
{
	if (reason <= d->reason)
		return;
	d->reason = reason;
	d->route = r;
}

struct policy_decision policy_decide_authority(const struct policy *p, struct str host,
					       uint16_t port)
{
	struct policy_decision d = {.reason = POLICY_DENY_HOST};
	const struct policy_route *r;
	struct policy_cursor cursor;

	if (!p || host.n == 0)
		return d;
	policy_cursor_start(&cursor, p, host);
	while ((r = policy_cursor_next(&cursor))) {
		if (route_has_port(r, port))
			return (struct policy_decision){.reason = POLICY_OK, .route = r};
		decision_deny(&d, POLICY_DENY_PORT, r);
	}
	return d;
}

/* Which of two routes that allow a request is taken; of equals the first is. */
static unsigned route_rank(const struct policy_route *r)
{
	if (r->auth.scheme != POLICY_AUTH_NONE)
		return 2;
	return r->is_once ? 0 : 1;
}

struct policy_decision policy_decide(const struct policy *p, struct str host, uint16_t port,
				     enum policy_method method, struct str path)
{
	struct policy_decision d = {.reason = POLICY_DENY_HOST};
	const struct policy_route *best = NULL, *r;
	struct policy_cursor cursor;
	enum path_form form = PATH_REFUSED, worst_allowed = PATH_AMBIGUOUS;
	bool is_form_known = false;

	if (!p || host.n == 0 || method >= POLICY_METHOD_COUNT)
		return d;
	path = path_without_query(path);
	policy_cursor_start(&cursor, p, host);
	while ((r = policy_cursor_next(&cursor))) {
		decision_deny(&d, POLICY_DENY_PORT, r);
		if (!route_has_port(r, port))
			continue;
		/* A restriction in any route of this authority binds all of them: otherwise the
		 * spelling of a path would choose between two routes, say one with a credential and
		 * one without. */
		if (r->n_paths > 0)
			worst_allowed = PATH_CANONICAL;
		decision_deny(&d, POLICY_DENY_METHOD, r);
		if (!(r->methods & 1u << method))
			continue;
		decision_deny(&d, POLICY_DENY_PATH_SYNTAX, r);
		if (!is_form_known)
			form = path_form(path);
		is_form_known = true;
		if (form == PATH_REFUSED)
			continue;
		if ((!best || route_rank(r) > route_rank(best)) && route_allows_path(r, path))
			best = r;
	}
	if (d.reason != POLICY_DENY_PATH_SYNTAX || form > worst_allowed)
		return d;
	if (!best)
		return (struct policy_decision){.reason = POLICY_DENY_PATH, .route = d.route};
	return (struct policy_decision){.reason = POLICY_OK, .route = best};
}

static void auth_free(struct policy_auth *a)
{
	free(a->header);
	free(a->user);
	free(a->placeholder);
}

void policy_free(struct policy *p)
{
	for (size_t i = 0; i < p->n_routes; i++) {
		struct policy_route *r = &p->routes[i];

		for (size_t k = 0; k < r->n_paths; k++)
			free(r->paths[k]);
		free(r->paths);
		free(r->host);
		free(r->origin_file);
		auth_free(&r->auth);
	}
	for (size_t i = 0; i < p->n_resolve; i++)
		free(p->resolve[i].host);
	policy_index_free(p);
	free(p->routes);
	free(p->resolve);
	free(p->dns);
	free(p->ca_pem);
	*p = (struct policy){0};
}
