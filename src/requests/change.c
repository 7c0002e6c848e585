/*
 * One way in: whatever a change is made of becomes a struct ask first, also its own JSON
 * (change_json.c), so that there is one set of checks, and one spelling.
 *
 * Texts that only people read are made visible here, once: doing it again changes nothing.
 */
#include "requests/change.h"

#include "base/clean.h"
#include "base/mem.h"
#include "base/text.h"
#include "conf/git_policy.h"

#include <assert.h>
#include <errno.h>
#include <idn2.h>

#define PORT_DEFAULT	443
#define PORT_PLAIN_HTTP 80
#define METHODS_DEFAULT (1u << POLICY_METHOD_GET | 1u << POLICY_METHOD_HEAD)
#define METHODS_ALL	((1u << POLICY_METHOD_COUNT) - 1)
#define OID_HEX		40

static_assert(sizeof(((struct ask *)0)->hash) == CHANGE_HASH_BYTES, "a hash is one size");
static_assert(ASK_PORTS_MAX <= POLICY_PORTS_MAX, "a route has room");

static const struct {
	enum ask_kind kind;
	const char *name;
} kinds[] = {
	{ASK_EGRESS, "egress"},
	{ASK_RELEASE, "release"},
	{ASK_PUSH, "push"},
	{ASK_CAPABILITY, "capability"},
};

const char *change_kind_name(enum ask_kind k)
{
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
		if (kinds[i].kind == k)
			return kinds[i].name;
	return "unknown";
}

/* --- hosts --- */

static int refuse_address(struct str host, struct err *e)
{
	char shown[128];

	text_visible_cstr(shown, sizeof(shown), host);
	return err_set(e, -EINVAL,
		       "host: \"%s\" is an address; only names can be asked for, like "
		       "\"api.example.com\"",
		       shown);
}

static bool needs_idna(struct str name)
{
	bool more = true;

	for (size_t i = 0; i < name.n; i++)
		if ((unsigned char)name.p[i] >= 0x80)
			return true;
	while (more) {
		struct str label;

		name = str_cut(name, '.', &label, &more);
		if (str_istarts(label, STR_LIT("xn--")))
			return true;
	}
	return false;
}

/* IDNA2008: U-labels become A-labels, A-labels must be ones. Names in plain ASCII are left as they
 * are: there are such with hyphens where IDNA wants none. */
static int host_to_ascii(struct str name, char **out, struct err *e)
{
	_cleanup_free_ char *plain = str_dup(name);
	char *ascii = NULL;
	char shown[128];
	int ret;

	if (!needs_idna(name)) {
		*out = take_ptr(&plain);
		return 0;
	}
	ret = idn2_to_ascii_8z(plain, &ascii, IDN2_NONTRANSITIONAL | IDN2_NFC_INPUT);
	if (ret == IDN2_OK) {
		*out = mem_strdup(ascii);
		idn2_free(ascii);
		return 0;
	}
	text_visible_cstr(shown, sizeof(shown), name);
	return err_set(e, -EINVAL, "host: \"%s\" is not an internationalised name (IDNA2008): %s",
		       shown, idn2_strerror(ret));
}

int change_host_canonical(struct str given, char out[CHANGE_HOST_SIZE], struct err *e)
{
	bool is_wildcard = str_starts(given, STR_LIT("*."));
	_cleanup_free_ char *ascii = NULL, *pattern = NULL;
	char canonical[POLICY_HOST_MAX + 1];
	enum policy_reason why;
	int ret;

	out[0] = '\0';
	if (given.n == 0)
		return err_set(e, -EINVAL, "host: a name was expected, like \"api.example.com\"");
	ret = host_to_ascii(is_wildcard ? str_sub(given, 2, given.n) : given, &ascii, e);
	if (ret < 0)
		return ret;
	why = policy_host_canonical(str_of(ascii), canonical);
	if (why == POLICY_DENY_IP_LITERAL)
		return refuse_address(given, e);
	pattern = mem_printf("%s%s", is_wildcard ? "*." : "", why == POLICY_OK ? canonical : ascii);
	ret = policy_host_pattern_check(str_of(pattern), e);
	if (ret < 0)
		return ret;
	if (strlen(pattern) >= CHANGE_HOST_SIZE)
		return err_set(e, -EINVAL, "host: longer than %d bytes", CHANGE_HOST_SIZE - 1);
	memcpy(out, pattern, strlen(pattern) + 1);
	return 0;
}

/* --- from what was asked --- */

static int take_field(const char *field, size_t size, const char *what, struct str *out,
		      struct err *e)
{
	size_t n = strnlen(field, size);

	*out = str_slice(field, n);
	if (n == size)
		return err_set(e, -EINVAL, "%s: longer than %zu bytes", what, size - 1);
	return 0;
}

/* A text for people, visible in out. */
static int take_shown(const char *field, size_t size, const char *what, char *out, struct err *e)
{
	struct str s;
	int ret = take_field(field, size, what, &s, e);

	if (ret == 0)
		text_visible_once_cstr(out, size, s);
	return ret;
}

static int compare_ports(const void *a, const void *b)
{
	return *(const uint16_t *)a - *(const uint16_t *)b;
}

static int take_ports(struct policy_route *r, const struct ask *a, struct err *e)
{
	if (a->n_ports > ASK_PORTS_MAX)
		return err_set(e, -EINVAL, "ports: at most %d, not %u", ASK_PORTS_MAX, a->n_ports);
	for (size_t i = 0; i < a->n_ports; i++) {
		if (a->ports[i] == 0)
			return err_set(e, -EINVAL, "ports: from 1 to 65535, not 0");
		r->ports[r->n_ports++] = a->ports[i];
	}
	if (r->n_ports == 0)
		r->ports[r->n_ports++] = PORT_DEFAULT;
	qsort(r->ports, r->n_ports, sizeof(r->ports[0]), compare_ports);
	for (size_t i = 1; i < r->n_ports;) {
		if (r->ports[i] != r->ports[i - 1]) {
			i++;
			continue;
		}
		memmove(&r->ports[i], &r->ports[i + 1], (r->n_ports - i - 1) * sizeof(r->ports[0]));
		r->n_ports--;
	}
	return 0;
}

static int take_methods(struct policy_route *r, const struct ask *a, struct err *e)
{
	if (a->methods & ~METHODS_ALL)
		return err_set(e, -EINVAL,
			       "methods: of GET, HEAD, POST, PUT, PATCH, DELETE and OPTIONS, no "
			       "others");
	r->methods = a->methods ? a->methods : METHODS_DEFAULT;
	return 0;
}

static int compare_paths(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Sorted and each once; where everything is asked for, nothing else need be said. */
static void paths_settle(struct policy_route *r)
{
	size_t kept = 1;

	qsort(r->paths, r->n_paths, sizeof(*r->paths), compare_paths);
	for (size_t i = 0; i < r->n_paths; i++) {
		if (strcmp(r->paths[i], CHANGE_PATH_ALL) != 0)
			continue;
		char *all = r->paths[i];

		r->paths[i] = r->paths[0];
		r->paths[0] = all;
		for (size_t k = 1; k < r->n_paths; k++)
			free(r->paths[k]);
		r->n_paths = 1;
	}
	for (size_t i = 1; i < r->n_paths; i++) {
		if (strcmp(r->paths[i], r->paths[kept - 1]) == 0)
			free(r->paths[i]);
		else
			r->paths[kept++] = r->paths[i];
	}
	r->n_paths = kept;
}

/* is_pattern: as in a manifest; else the one path that a request had, for people. */
static int take_paths(struct policy_route *r, const struct ask *a, bool is_pattern, struct err *e)
{
	if (a->n_paths > ASK_PATHS_MAX)
		return err_set(e, -EINVAL, "paths: at most %d, not %u", ASK_PATHS_MAX, a->n_paths);
	r->paths = mem_zalloc_array(ASK_PATHS_MAX, sizeof(*r->paths));
	for (size_t i = 0; i < a->n_paths; i++) {
		char shown[ASK_PATH_SIZE];
		struct str path;
		int ret = take_field(a->paths[i], ASK_PATH_SIZE, "paths", &path, e);

		if (ret == 0 && is_pattern)
			ret = policy_path_pattern_check(path, e);
		if (ret < 0)
			return ret;
		if (!is_pattern)
			text_visible_once_cstr(shown, sizeof(shown), path);
		r->paths[r->n_paths++] = is_pattern ? str_dup(path) : mem_strdup(shown);
	}
	if (r->n_paths == 0)
		r->paths[r->n_paths++] = mem_strdup(CHANGE_PATH_ALL);
	paths_settle(r);
	return 0;
}

static int take_host(struct policy_route *r, const struct ask *a, struct err *e)
{
	char host[CHANGE_HOST_SIZE];
	struct str given;
	int ret = take_field(a->host, sizeof(a->host), "host", &given, e);

	if (ret == 0)
		ret = change_host_canonical(given, host, e);
	if (ret == 0)
		r->host = mem_strdup(host);
	return ret;
}

static int take_route(struct change *c, const struct ask *a, bool is_pattern, struct err *e)
{
	int ret = take_host(&c->route, a, e);

	if (ret == 0)
		ret = take_ports(&c->route, a, e);
	if (ret == 0)
		ret = take_methods(&c->route, a, e);
	if (ret == 0)
		ret = take_paths(&c->route, a, is_pattern, e);
	c->route.on_match = POLICY_MATCH_BLOCK;
	return ret;
}

static bool is_zero(const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p[i])
			return false;
	return true;
}

static int take_hash(struct change *c, const struct ask *a, struct err *e)
{
	if (is_zero(a->hash, sizeof(a->hash)))
		return err_set(e, -EINVAL,
			       "record: nothing is known by it that could be asked for");
	memcpy(c->hash, a->hash, sizeof(c->hash));
	return 0;
}

static int take_release(struct change *c, const struct ask *a, struct err *e)
{
	int ret = take_hash(c, a, e);

	if (ret == 0)
		ret = take_route(c, a, false, e);
	if (ret == 0 && str_starts(str_of(c->route.host), STR_LIT("*.")))
		ret = err_set(e, -EINVAL, "host: one request has one host, not \"%s\"",
			      c->route.host);
	if (ret == 0)
		ret = take_shown(a->rule, sizeof(a->rule), "rule", c->rule, e);
	if (ret == 0)
		ret = take_shown(a->where, sizeof(a->where), "where", c->where, e);
	if (ret == 0)
		ret = take_shown(a->shown, sizeof(a->shown), "shown", c->shown, e);
	memcpy(c->record, a->record, sizeof(c->record));
	return ret;
}

/* A commit in hex; nothing, or zeroes: none. */
static int take_oid(const char *field, const char *what, bool is_needed, char out[ASK_OID_SIZE],
		    struct err *e)
{
	struct str oid;
	bool is_none = true;
	int ret = take_field(field, ASK_OID_SIZE, what, &oid, e);

	if (ret < 0)
		return ret;
	for (size_t i = 0; i < oid.n; i++) {
		if (ascii_hex_value(oid.p[i]) < 0)
			ret = -EINVAL;
		is_none &= oid.p[i] == '0';
	}
	if (ret < 0 || (oid.n != 0 && oid.n != OID_HEX) || (is_needed && oid.n == 0))
		return err_set(e, -EINVAL, "%s: a commit in %d hex digits was expected", what,
			       OID_HEX);
	str_lower_into(out, oid);
	out[is_none && !is_needed ? 0 : oid.n] = '\0';
	return 0;
}

static int take_push(struct change *c, const struct ask *a, struct err *e)
{
	struct str remote = STR_NULL, ref = STR_NULL;
	char shown[ASK_REF_SIZE];
	int ret = take_hash(c, a, e);

	if (ret == 0)
		ret = take_field(a->remote, sizeof(a->remote), "remote", &remote, e);
	if (ret == 0)
		ret = take_field(a->ref, sizeof(a->ref), "ref", &ref, e);
	if (ret == 0 && !str_eq(remote, STR_LIT("workspace")))
		ret = git_remote_name_check(remote, e);
	if (ret < 0)
		return ret;
	if (!git_ref_is_valid(ref)) {
		text_visible_cstr(shown, sizeof(shown), ref);
		return err_set(e, -EINVAL,
			       "ref: a whole name was expected, like \"refs/heads/fix\", not "
			       "\"%s\"",
			       shown);
	}
	(void)!str_to_cstr(c->remote, sizeof(c->remote), remote);
	(void)!str_to_cstr(c->ref, sizeof(c->ref), ref);
	ret = take_oid(a->old_oid, "old", false, c->old_oid, e);
	/* Zeroes here are a deletion. */
	if (ret == 0)
		ret = take_oid(a->new_oid, "commit", true, c->new_oid, e);
	if (ret == 0)
		ret = take_shown(a->shown, sizeof(a->shown), "shown", c->shown, e);
	return ret < 0 || a->host[0] == '\0' ? ret : take_host(&c->route, a, e);
}

static int take_capability(struct change *c, const struct ask *a, struct err *e)
{
	int ret = take_shown(a->reason, sizeof(a->reason), "what", c->words, e);

	if (ret == 0 && c->words[0] == '\0')
		ret = err_set(e, -EINVAL, "what: a sentence was expected");
	return ret;
}

int change_from_ask(struct change *out, const struct ask *a, struct err *e)
{
	_cleanup_(change_free) struct change c = {.kind = (enum ask_kind)a->kind};
	int ret;

	*out = (struct change){0};
	switch (c.kind) {
	case ASK_EGRESS:
		ret = take_route(&c, a, true, e);
		break;
	case ASK_RELEASE:
		ret = take_release(&c, a, e);
		break;
	case ASK_PUSH:
		ret = take_push(&c, a, e);
		break;
	case ASK_CAPABILITY:
		ret = take_capability(&c, a, e);
		break;
	default:
		ret = err_set(e, -EINVAL, "there is no such kind of request: %u",
			      (unsigned)a->kind);
	}
	if (ret < 0)
		return ret;
	*out = c;
	c = (struct change){0};
	return 0;
}

void change_free(struct change *c)
{
	for (size_t i = 0; i < c->route.n_paths; i++)
		free(c->route.paths[i]);
	free(c->route.paths);
	free(c->route.host);
	*c = (struct change){0};
}

/* --- for people --- */

static int summary_route(struct buf *out, const struct policy_route *r)
{
	const char *comma = "";
	bool is_plain = r->n_ports == 1 && r->ports[0] == PORT_PLAIN_HTTP;
	bool is_usual = is_plain || (r->n_ports == 1 && r->ports[0] == PORT_DEFAULT);
	int ret = 0;

	for (unsigned m = 0; ret == 0 && m < POLICY_METHOD_COUNT; m++) {
		if (!(r->methods & 1u << m))
			continue;
		ret = buf_printf(out, "%s%s", comma, policy_method_name((enum policy_method)m));
		comma = ", ";
	}
	if (ret == 0)
		ret = buf_printf(out, " %s://%s", is_plain ? "http" : "https", r->host);
	for (size_t i = 0; ret == 0 && !is_usual && i < r->n_ports; i++)
		ret = buf_printf(out, "%s%u", i ? "," : ":", r->ports[i]);
	for (size_t i = 0; ret == 0 && i < r->n_paths; i++)
		ret = buf_printf(out, "%s%s", i ? ", " : "", r->paths[i]);
	return ret;
}

static int summary_of(struct buf *out, const struct change *c)
{
	int ret;

	switch (c->kind) {
	case ASK_EGRESS:
		return summary_route(out, &c->route);
	case ASK_RELEASE:
		ret = summary_route(out, &c->route);
		return ret < 0 ? ret : buf_printf(out, " (%s in %s)", c->rule, c->where);
	case ASK_PUSH:
		return buf_printf(out, "push %.12s to %s of %s", c->new_oid, c->ref, c->remote);
	case ASK_CAPABILITY:
		return buf_printf(out, "%s", c->words);
	default:
		return -EINVAL;
	}
}

void change_summary(const struct change *c, char *out, size_t size)
{
	_cleanup_(buf_free) struct buf line = BUF_INIT(CHANGE_JSON_MAX_BYTES);

	out[0] = '\0';
	if (summary_of(&line, c) == 0)
		text_visible_once_cstr(out, size, buf_str(&line));
}
